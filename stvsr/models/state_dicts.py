"""Tensors from checkpoints that others wrote, without running code from them, and strict loading of them."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from stvsr.errors import InputError
from stvsr.runs.files import load_tensors

# keys under which publishers put the tensors; averaged weights come first, as their publishers evaluate them
NESTS = ("params_ema", "state_dict", "model_state_dict", "params", "model")
PREFIXES = ("module.", "_orig_mod.", "generator.")  # of DataParallel, torch.compile and MMagic's models
AVERAGED = "generator_ema."  # MMagic's averaged weights, next to those under "generator."
TEXTS = {
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself with git lfs pull",
    b"<!doctype": "an HTML page: download the file itself, not the page about it",
    b"<html": "an HTML page: download the file itself, not the page about it",
    b"<?xml": "an XML document, perhaps a server's error message: download the file again",
}


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file or a PyTorch checkpoint by name, on the CPU.

    Undoes nesting under one of `NESTS` and the `PREFIXES` that training wrappers leave on every name.

    Raises:
        InputError: the file is absent, holds no named tensors or values that are not finite, or would run code when
            read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist: check the path")
    refuse_text(path)
    state = load_tensors(path)[0] if path.suffix == ".safetensors" else _read_pickle(path)
    while isinstance(state, Mapping) and (
        nest := next((key for key in NESTS if isinstance(state.get(key), Mapping)), "")
    ):
        state = state[nest]
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"checkpoint {path} holds no dictionary of named tensors: give the network's state_dict")
    _refuse_broken(state, f"checkpoint {path}")
    return without_prefix(state)


def refuse_text(path: Path) -> None:
    """Raise InputError when a file is a web page or a Git LFS pointer that was saved in a checkpoint's place."""
    with path.open("rb") as file:
        head = file.read(512).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for start, what in TEXTS.items():
        if head.startswith(start):
            raise InputError(f"{path} is not a checkpoint but {what}")


def without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without the prefixes of training wrappers; of a whole GAN, the (averaged) generator only."""
    state = dict(state)
    for prefix in (AVERAGED, "generator."):
        own = {name: tensor for name, tensor in state.items() if name.startswith(prefix)}
        if own:
            state = own
            break
    while prefix := next((p for p in (*PREFIXES, AVERAGED) if state and all(n.startswith(p) for n in state)), ""):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _read_pickle(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"checkpoint {path} cannot be read as plain tensors, save its state_dict again: {reason}"
        ) from None


def load_state(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load `state` into `module`; every name and shape must fit. `source` names it in the error.

    Raises:
        InputError: names are missing, unknown or of another shape, or values are NaN or infinite.
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
    _refuse_broken(state, source)
    module.load_state_dict(state)


def _refuse_broken(state: Mapping[str, Tensor], source: str) -> None:
    broken = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise InputError(
            f"{source} has NaN or infinite values in {len(broken)} tensors ({broken[0]}, ...): the training diverged, "
            "take an earlier checkpoint"
        )
