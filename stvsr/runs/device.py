"""Device, seeds and numeric precision: autocast in training, full float32 in measurements."""

import contextlib
import random

import numpy as np
import torch

from stvsr.errors import InputError

PRECISIONS = ("auto", "full", "bfloat16")


class Precision:
    """Automatic mixed precision of a training; weights and optimiser states stay in 32 bits.

    `auto` is bfloat16 on a GPU with instructions for it, else full: float16 would need a loss scaler, which an
    adversarial game's several losses make hard to reason about. `bfloat16` halves the time of a step on CPUs with
    instructions for it and is slower on others, so that it must be asked for.

    Raises:
        InputError: another name.
    """

    def __init__(self, precision: str, device: torch.device):
        if precision not in PRECISIONS:
            raise InputError(f"precision {precision!r} is unknown: choose from {', '.join(PRECISIONS)}")
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        self.device, self.enabled = device, precision == "bfloat16" or (precision == "auto" and native)

    def autocast(self) -> contextlib.AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.enabled)


def exact() -> contextlib.AbstractContextManager:
    """Keep a GPU's convolutions in full float32 and their sums in one order; its default, TF32, moves LPIPS in the fourth digit."""
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
        InputError: CUDA is asked for and there is none, or the name is unknown.
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
