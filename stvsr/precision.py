"""In which numbers a training computes, and what is measured."""

import contextlib
import math

import torch
from torch import Tensor, nn

from stvsr.errors import InputError

PRECISIONS = ("auto", "full", "bfloat16")


class Precision:
    """Automatic mixed precision of a training; weights and optimiser states stay in 32 bits.

    `auto` is bfloat16 on a GPU with instructions for it, else full: float16 would need a loss scaler, which an adversarial
    game's several losses make hard to reason about. `bfloat16` halves the time of a step on CPUs with instructions for
    it and is slower on others, so that it must be asked for.

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


def descend(loss: Tensor, optimizer: torch.optim.Optimizer, clip: float) -> Tensor:
    """Zero, back-propagate, clip and step; return the gradient's norm as `clip_and_step` does."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    return clip_and_step(optimizer, clip)


def clip_and_step(optimizer: torch.optim.Optimizer, clip: float) -> Tensor:
    """Clip the gradients that are there, 0 for no limit, and step; return their norm before clipping."""
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = nn.utils.clip_grad_norm_(parameters, clip or math.inf)
    optimizer.step()
    return norm
