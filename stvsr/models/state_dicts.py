"""Tensors from checkpoints that others wrote, without running code from them, and strict loading of them."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from stvsr.errors import InputError
from stvsr.runs.files import load_tensors

NESTS = ("state_dict", "model_state_dict", "params", "model")  # keys under which publishers put the tensors


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file or a PyTorch checkpoint by name, on the CPU.

    Undoes nesting under one of `NESTS` and the `module.` prefix that DataParallel leaves on every name.

    Raises:
        InputError: the file is absent, holds no named tensors, or would run code when read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist: check the path")
    state = load_tensors(path)[0] if path.suffix == ".safetensors" else _read_pickle(path)
    while isinstance(state, Mapping) and (
        nest := next((key for key in NESTS if isinstance(state.get(key), Mapping)), "")
    ):
        state = state[nest]
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"checkpoint {path} holds no dictionary of named tensors: give the network's state_dict")
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _read_pickle(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"checkpoint {path} cannot be read as plain tensors, save its state_dict anew: {reason}"
        ) from None


def load_state(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load `state` into `module`; every name and shape must fit. `source` names it in the error.

    Raises:
        InputError: names are missing, unknown or of another shape.
    """
    own = module.state_dict()
    problems = {
        "missing": [name for name in own if name not in state],
        "unknown": [name for name in state if name not in own],
        "of another shape": [name for name in own if name in state and own[name].shape != state[name].shape],
    }
    said = "; ".join(f"{len(names)} {kind} ({names[0]}, ...)" for kind, names in problems.items() if names)
    if said:
        raise InputError(
            f"{source} does not fit {type(module).__name__}: {said}: give a checkpoint of this network and size"
        )
    module.load_state_dict(state)
