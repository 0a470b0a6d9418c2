"""What lets a training stop at any step and resume exactly: checkpoints, and a guard that never cuts a step."""

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from stvsr.errors import InputError
from stvsr.models.generators import Generator, save_generator
from stvsr.runs.deadline import deadline
from stvsr.runs.files import as_json, load_tensors, save_tensors, write_json
from stvsr.runs.signals import Launchers, handled
from stvsr.runs.stamp import differences, make_stamp
from stvsr.training import distributed
from stvsr.training.launch import CHECKPOINT, CHECKPOINT_BEFORE, CHECKPOINT_NEW, GENERATOR, IDENTITY, identity


class Checkpoint:
    """Everything a training needs to resume exactly: weights, optimiser states, step; the last few are kept.

    It belongs to one identity (`launch.identity`); start weights may be moved meanwhile. `carried` names modules whose
    gradients are not zeroed between steps, so that they are a part of the state.
    """

    def __init__(
        self,
        folder: Path,
        config: Any,
        modules: dict[str, nn.Module],
        optimizers: dict,
        rank: distributed.Rank,
        carried: tuple[str, ...] = (),
    ):
        self.config, self.identity, self.carried = config, identity(config), carried
        self.folder, self.path = Path(folder), Path(folder) / CHECKPOINT
        self.new, self.kept = Path(folder) / CHECKPOINT_NEW, getattr(config, "optim", config).keep_checkpoints
        self.modules, self.optimizers, self.rank = modules, optimizers, rank

    def save(self, step: int) -> None:
        """Write the state after a step; rank 0 writes for all."""
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
        if self.new.exists():  # killed while the others were renamed
            self._shift()
        save_tensors(self.new, tensors, {"step": step, "identity": self.identity})
        self._shift()

    def _shift(self) -> None:
        """Make the new checkpoint the first of those that are kept."""
        names = [self._name(age) for age in range(self.kept)]
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            if newer.exists():
                os.replace(newer, older)
        os.replace(self.new, self.path)
        for path in self._there():
            if path not in names:  # more were kept before
                path.unlink()

    def _name(self, age: int) -> Path:
        """Return where a checkpoint is after `age` newer ones."""
        name = (CHECKPOINT, CHECKPOINT_BEFORE)[age] if age < 2 else CHECKPOINT_BEFORE.replace(".", f"-{age}.")
        return self.folder / name

    def _there(self) -> list[Path]:
        """Return the checkpoints that are there, newest first."""
        older = list(self.folder.glob(CHECKPOINT_BEFORE.replace(".", "-[0-9]*.")))
        older.sort(key=lambda path: int(path.stem.rpartition("-")[2]))
        return [path for path in (self._name(0), self._name(1), *older) if path.is_file()]

    def load(self) -> int:
        """Restore the last state and return its step, 0 when there is none.

        A damaged checkpoint is moved aside and the one before is used; a line says so.

        Raises:
            InputError: the checkpoint is of another configuration.
        """
        tensors, step = self._read()
        if not tensors:
            return 0
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
        return step

    def _read(self) -> tuple[dict[str, Tensor], int]:
        """Return the newest checkpoint that is whole, as tensors and step; nothing and 0 when there is none."""
        damaged: dict[Path, str] = {}
        found: tuple[dict[str, Tensor], int] = {}, 0
        for path in (self.new, *self._there()):  # `new`: killed between the renames of `save`
            if path.is_file():
                try:
                    tensors, meta = load_tensors(path)
                    found = tensors, self._check(path, meta)
                    break
                except OtherConfiguration:
                    raise
                except InputError as error:
                    damaged[path] = str(error)
        if damaged and self.rank.index == 0:
            remedy = f"resuming from the one before, step {found[1]}" if found[0] else "starting from the beginning"
            print(f"note: {'; '.join(damaged.values())}: {remedy}", flush=True)
            for path in damaged:
                path.replace(path.with_name(f"{path.name}.damaged"))
        return found

    def _check(self, path: Path, meta: dict) -> int:
        """Return the step of a checkpoint; InputError when it is not one of this training."""
        if changes := ", ".join(differences(meta.get("identity"), self.identity)):
            raise OtherConfiguration(
                f"{path} was made with another configuration: choose another folder or delete it ({changes})"
            )
        step, steps = meta.get("step"), getattr(self.config, "optim", self.config).steps
        if type(step) is not int or not 0 <= step <= steps:
            raise InputError(f"checkpoint {path} is of step {step!r}, the training has {steps}")
        return step


class OtherConfiguration(InputError):
    """A checkpoint of a training with another identity."""


def _optimizer_state(optimizer: torch.optim.Optimizer, name: str, tensors: dict[str, Tensor]) -> dict:
    state: dict[int, dict] = {}
    for key, value in tensors.items():
        kind, owner, *rest = key.split("/")
        if (kind, owner) == ("optimizer", name):
            state.setdefault(int(rest[0]), {})[rest[1]] = value
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}


class Guard:
    """Turn Ctrl-C, SIGTERM, SIGHUP, the end of the allotted time or of the launching process into one flag.

    A step is never cut. The time is `runs.deadline.deadline`, which `stvsr reproduce --minutes` sets for all its
    trainings.
    """

    def __init__(self, rank: distributed.Rank):
        self.rank = rank
        self.deadline = deadline()
        self.launchers = Launchers()
        self.interrupted = False

    def __enter__(self) -> "Guard":
        self.handlers = handled(self._note, even_ignored=True)
        self.handlers.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.handlers.__exit__(kind, error, trace)

    def _note(self, *_: object) -> None:
        self.interrupted = True

    def stop(self) -> bool:
        """Return whether to stop after this step; every process asks once per step, and all get the same answer."""
        return self.rank.any(self.interrupted or time.time() > self.deadline or self.launchers.gone())


def finish(checkpoint: Checkpoint, generator: Generator, meta: dict) -> None:
    """Write the trained generator with its stamp and delete the larger training state."""
    if checkpoint.rank.index:
        return
    folder = checkpoint.folder
    save_generator(folder / GENERATOR, generator, **meta, training=as_json(checkpoint.config))
    write_json(folder / IDENTITY, make_stamp(checkpoint.identity, folder, [GENERATOR]))
    for path in folder.glob("checkpoint*.safetensors*"):
        path.unlink()
