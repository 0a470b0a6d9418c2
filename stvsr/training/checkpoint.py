"""What lets a training be stopped at any step and go on: checkpoint, log, and a guard that never cuts a step."""

import signal
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from stvsr.errors import InputError
from stvsr.models.generators import save_generator
from stvsr.runs.deadline import deadline
from stvsr.runs.files import as_json, load_tensors, save_tensors
from stvsr.training import distributed
from stvsr.training.launch import identity


class Checkpoint:
    """Everything a training needs to go on exactly: weights, optimiser states, step; one atomic file.

    It is of one configuration and of one start, which may be moved meanwhile (`launch.identity`). `carried` names
    modules whose gradients are not zeroed between steps, so that they are a part of the state.
    """

    def __init__(
        self,
        folder: Path,
        config: object,
        modules: dict[str, nn.Module],
        optimizers: dict,
        rank: distributed.Rank,
        carried: tuple[str, ...] = (),
    ):
        self.config, self.identity, self.carried = config, identity(config), carried
        self.folder, self.path = Path(folder), Path(folder) / "checkpoint.safetensors"
        self.modules, self.optimizers, self.rank = modules, optimizers, rank

    def save(self, step: int) -> None:
        if self.rank.index:
            return
        tensors = {
            f"module/{name}/{key}": value
            for name, module in self.modules.items()
            for key, value in module.state_dict().items()
        }
        for name, optimizer in self.optimizers.items():
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer/{name}/{index}/{key}": torch.as_tensor(value) for key, value in state.items()}
        for name in self.carried:
            learned = self.modules[name].named_parameters()
            tensors |= {f"gradient/{name}/{key}": value.grad for key, value in learned if value.grad is not None}
        save_tensors(self.path, tensors, {"step": step, "identity": self.identity})

    def load(self) -> int:
        """Restore the last state and return its step, 0 when there is none; InputError when it is of another config."""
        if not self.path.is_file():
            return 0
        tensors, meta = load_tensors(self.path)
        if meta.get("identity") != self.identity:
            raise InputError(f"{self.path} was made with another configuration: choose another folder or delete it")
        for name, module in self.modules.items():
            prefix = f"module/{name}/"
            module.load_state_dict(
                {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            )
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(_optimizer_state(optimizer, name, tensors))
        for name in self.carried:
            for key, value in self.modules[name].named_parameters():
                stored = tensors.get(f"gradient/{name}/{key}")
                value.grad = None if stored is None else stored.to(value)
        return meta["step"]


def _optimizer_state(optimizer: torch.optim.Optimizer, name: str, tensors: dict[str, Tensor]) -> dict:
    state: dict[int, dict] = {}
    for key, value in tensors.items():
        kind, owner, *rest = key.split("/")
        if (kind, owner) == ("optimizer", name):
            state.setdefault(int(rest[0]), {})[rest[1]] = value
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}


class Guard:
    """Turn Ctrl-C, a termination signal or the end of the allotted time into one flag, so that a step is never cut.

    The time is `runs.deadline.deadline`, which `stvsr reproduce --minutes` sets for all its trainings.
    """

    def __init__(self, rank: distributed.Rank):
        self.rank = rank
        self.deadline = deadline()
        self.interrupted = False

    def __enter__(self) -> "Guard":
        self.handlers = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _note(self, *_: object) -> None:
        self.interrupted = True

    def stop(self) -> bool:
        """Return whether to stop after this step; every process asks once per step, and all get the same answer."""
        return self.rank.any(self.interrupted or time.time() > self.deadline)


def finish(checkpoint: Checkpoint, generator: nn.Module, meta: dict) -> None:
    """Write the trained generator and take the larger training state away."""
    if checkpoint.rank.index == 0:
        save_generator(
            checkpoint.folder / "generator.safetensors", generator, **meta, training=as_json(checkpoint.config)
        )
        checkpoint.path.unlink(missing_ok=True)
