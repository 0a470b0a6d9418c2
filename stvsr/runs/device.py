"""Device, seeds and numeric precision: autocast in training, full float32 in measurements."""

import contextlib
import os
import random
import shutil

import numpy as np
import torch

from stvsr.errors import InputError, unknown

PRECISIONS = ("auto", "full", "bfloat16")
BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16")
COMPILE_SECONDS = 40  # to compile forward and backward pass of a generator
COMPILE_GAIN = 0.35  # share of a step's time that compiling saves
STEP_SECONDS = 0.15  # of a small RBPN, batch 4 of 24x24 LR patches, on two cores
COMPILERS = ("c++", "g++", "clang++")


class Precision:
    """Automatic mixed precision of a training; weights and optimiser states stay in 32 bits.

    `auto` is what `choose_precision` returns. Never float16: it needs a loss scaler, which the several losses of an
    adversarial step make hard to reason about.

    Raises:
        InputError: another name.
    """

    def __init__(self, precision: str, device: torch.device):
        if precision not in PRECISIONS:
            raise unknown("precision", precision, PRECISIONS)
        chosen = choose_precision(device) if precision == "auto" else precision
        self.device, self.enabled = device, chosen == "bfloat16"

    def autocast(self) -> contextlib.AbstractContextManager:
        """Return the context in which networks compute in this precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.enabled)


def has_bfloat16(device: torch.device) -> bool:
    """Return whether the processor has instructions for bfloat16: without them it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # absent before PyTorch 2.8
    return any(capabilities.get(name, False) for name in BFLOAT16_FLAGS)


def choose_precision(device: torch.device) -> str:
    """Return the precision of a training on this device: `bfloat16` where it has instructions for it, else `full`."""
    return "bfloat16" if has_bfloat16(device) else "full"


def choose_compile(device: torch.device, steps: int, *, step_seconds: float = STEP_SECONDS) -> bool:
    """Return whether compiling the generator pays: the time saved in the steps to come against the time to compile.

    The saving must be twice the cost, because it differs between networks and machines.

    Args:
        device: where the training runs.
        steps: optimiser steps still to come, counted after resuming.
        step_seconds: time of one step without compilation.
    """
    if device.type not in ("cpu", "cuda") or not has_compiler():
        return False
    return steps * step_seconds * COMPILE_GAIN >= 2 * COMPILE_SECONDS


def has_compiler() -> bool:
    """Return whether there is a C++ compiler, which `torch.compile` needs on CPUs and GPUs."""
    named = os.environ.get("CXX")
    return any(shutil.which(name) for name in ([named] if named else COMPILERS))


def exact() -> contextlib.AbstractContextManager:
    """Compute a GPU's convolutions in full float32, in a fixed order; the default, TF32, changes LPIPS visibly."""
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch (CPU and GPU), and ask cuDNN for repeatable algorithms."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def pick_device(name: str = "auto") -> torch.device:
    """Return the named device; `auto` is the GPU when there is one.

    Raises:
        InputError: CUDA is asked for but not available, or the name is unknown.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"device {name!r} is unknown or not supported: choose auto, cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {name} is not there: choose auto or cpu, or install a CUDA build of PyTorch")
    return device
