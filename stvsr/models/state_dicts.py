"""Tensors from checkpoints that others wrote, without running code from them, and strict loading of them."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TypeGuard

import torch
from torch import Tensor, nn

from stvsr.errors import InputError, first_line
from stvsr.runs.files import load_tensors

# keys under which publishers put the tensors; averaged weights come first, as their publishers evaluate them
NESTS = ("params_ema", "model_ema", "ema", "state_dict", "model_state_dict", "params", "model", "generator", "net_g",
         "netG")  # fmt: skip
MOST_NESTED = 8  # dictionaries in each other; a dictionary can contain itself
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
    for _ in range(MOST_NESTED):
        if not isinstance(state, Mapping):
            break
        state = next((state[key] for key in NESTS if isinstance(state.get(key), Mapping)), state)
    if not _is_named_tensors(state):
        raise InputError(f"checkpoint {path} holds no dictionary of named tensors: give the network's state_dict")
    odd = next((name for name, tensor in state.items() if not _is_plain(tensor)), None)
    if odd is not None:
        raise InputError(f"checkpoint {path}: {odd} is sparse, quantised, nested or without values: save plain tensors")
    _refuse_broken(state, f"checkpoint {path}")
    return without_prefix(state)


def _is_named_tensors(state: object) -> TypeGuard[Mapping[str, Tensor]]:
    return (
        isinstance(state, Mapping)
        and len(state) > 0
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items())
    )


def _is_plain(tensor: Tensor) -> bool:
    special = tensor.is_meta or tensor.is_quantized or tensor.is_nested
    return tensor.layout is torch.strided and not special


def refuse_text(path: Path) -> None:
    """Raise InputError when a file is empty, or a web page or a Git LFS pointer in a checkpoint's place."""
    with path.open("rb") as file:
        head = file.read(512).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not path.stat().st_size:
        raise InputError(f"{path} is not a checkpoint, it is empty: fetch or copy it again")
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
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:] == b"{":
        raise InputError(f"checkpoint {path} is a safetensors file: end its name in .safetensors")
    if not head.startswith((b"PK", b"\x80")):  # a ZIP archive, or a pickle
        raise InputError(f"{path} is not a checkpoint: neither PyTorch nor safetensors writes such files")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"checkpoint {path} cannot be read as plain tensors, it is damaged or holds objects that could run code: "
            "save its state_dict alone"
        ) from None
    except Exception as error:
        raise InputError(
            f"checkpoint {path} cannot be read as plain tensors, save its state_dict again: {first_line(error)}"
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
        "without floating-point values": [
            name
            for name in own
            if name in state and own[name].is_floating_point() and not state[name].is_floating_point()
        ],
    }
    said = "; ".join(f"{len(names)} {kind} ({names[0]}, ...)" for kind, names in problems.items() if names)
    if said:
        raise InputError(
            f"{source} does not fit {type(module).__name__}: {said}: give a checkpoint of this network and size"
        )
    _refuse_broken(state, source)
    module.load_state_dict(state)


def _refuse_broken(state: Mapping[str, Tensor], source: str) -> None:
    broken = [name for name, tensor in state.items() if not torch.isfinite(_comparable(tensor)).all()]
    if broken:
        raise InputError(
            f"{source} has NaN or infinite values in {len(broken)} tensors ({broken[0]}, ...): the training diverged, "
            "take an earlier checkpoint"
        )


def _comparable(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype.itemsize == 1 else tensor  # PyTorch does not compare numbers of 8 bits
