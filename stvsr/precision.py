"""Mixed precision: in which numbers a training computes, and how small gradients survive the shorter ones."""

import contextlib
import math

import torch
from torch import Tensor, nn

from stvsr.errors import InputError

PRECISIONS = ("auto", "full", "bfloat16")


class Precision:
    """Automatic mixed precision of one optimiser's network; weights and optimiser states stay in 32 bits.

    `auto` is full on a CPU and, on CUDA, bfloat16 where the GPU has it and float16 with a loss scaler elsewhere. `bfloat16`
    halves the time of a step on CPUs with instructions for it and is slower on others, so that it must be asked for.

    Raises:
        InputError: another name.
    """

    def __init__(self, precision: str, device: torch.device):
        if precision not in PRECISIONS:
            raise InputError(f"precision {precision!r} is unknown: choose from {', '.join(PRECISIONS)}")
        cuda = device.type == "cuda"
        half = precision == "auto" and cuda and not torch.cuda.is_bf16_supported()
        self.device, self.enabled = device, precision == "bfloat16" or (precision == "auto" and cuda)
        self.dtype = torch.float16 if half else torch.bfloat16
        self.scaler = torch.amp.GradScaler(device.type, enabled=half)

    def autocast(self) -> contextlib.AbstractContextManager:
        return torch.autocast(self.device.type, self.dtype, enabled=self.enabled)

    def update(self, loss: Tensor, optimizer: torch.optim.Optimizer, clip: float) -> Tensor:
        """Zero, back-propagate, clip and step; return the gradient's norm as `step` does."""
        optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        return self.step(optimizer, clip)

    def step(self, optimizer: torch.optim.Optimizer, clip: float) -> Tensor:
        """Clip the gradients that are there, and step; return their norm before clipping, 0 where the scaler skips the step."""
        self.scaler.unscale_(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(parameters, clip or math.inf)
        self.scaler.step(optimizer)
        self.scaler.update()
        return self.applied(norm)

    def applied(self, norm: Tensor) -> Tensor:
        """Return a gradient's norm; the scaler finds its scale by overflowing, and skips such a step: 0 then."""
        return norm.nan_to_num(0.0, 0.0, 0.0) if self.scaler.is_enabled() else norm
