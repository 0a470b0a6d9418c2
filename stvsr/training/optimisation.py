"""Learning rate, weight averaging, gradient clipping."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stvsr.errors import InputError, unknown
from stvsr.runs.device import PRECISIONS


def clip_and_step(optimizer: torch.optim.Optimizer, clip: float) -> Tensor:
    """Clip the gradients that are there, 0 for no limit, and step; return their norm before clipping."""
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = nn.utils.clip_grad_norm_(parameters, clip or math.inf)
    optimizer.step()
    return norm


SCHEDULES = ("constant", "cosine", "step")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimiser settings.

    steps, batch: of updates and of samples in each (over all processes). accumulate: micro-batches that each process
    computes one after the other, to save memory; an update takes the mean of their gradients. recompute: the
    generator's activations are computed again in the backward pass instead of stored (activation checkpointing), which
    saves more memory and costs about a forward pass. learning_rate: of Adam at its highest. schedule: constant, cosine
    (to 1% at the end) or step (a tenth after `decay_at` of the steps). warmup: steps. clip_gradient: norm, 0 for none.
    ema: decay of the averaged weights that are saved (`average_decay`), 0 for none. precision: auto, full or bfloat16
    (`precision.Precision`). compile: torch.compile. log_every, save_every: steps. keep_checkpoints: of the last ones,
    while the training is unfinished. keep_best: also write the weights with the highest validation PSNR so far
    (`best.safetensors`). seed: of everything.
    """

    steps: int = 1000
    batch: int = 4
    accumulate: int = 1
    recompute: bool = False
    learning_rate: float = 1e-4
    schedule: str = "cosine"
    decay_at: float = 0.5
    warmup: int = 0
    clip_gradient: float = 0.0
    ema: float = 0.0
    precision: str = "auto"
    compile: bool = False
    log_every: int = 10
    save_every: int = 500
    keep_checkpoints: int = 2
    keep_best: bool = False
    seed: int = 0
    device: str = "auto"

    def __post_init__(self):
        if self.steps < 1 or self.batch < 1:
            raise InputError(f"steps is {self.steps} and batch {self.batch}: both must be at least 1")
        self._check_memory()
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"learning_rate is {self.learning_rate}: it must be positive")
        for name, allowed in (("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if getattr(self, name) not in allowed:
                raise unknown(name, getattr(self, name), allowed)
        if not 0 <= self.ema < 1:
            raise InputError(f"ema is {self.ema}: a decay in [0, 1), 0 for none")
        if self.log_every < 1 or self.save_every < 1:
            raise InputError(f"log_every is {self.log_every} and save_every {self.save_every}: both must be at least 1")
        if self.warmup < 0 or not self.clip_gradient >= 0:
            raise InputError(f"warmup is {self.warmup} and clip_gradient {self.clip_gradient}: neither may be negative")
        if not 0 < self.decay_at <= 1:
            raise InputError(f"decay_at is {self.decay_at}: a share of the steps, above 0 and at most 1")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed is {self.seed}: an integer from 0 to {2**32 - 1}")

    def _check_memory(self) -> None:
        for name in ("accumulate", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: it must be at least 1")
        self.share(1)
        if self.recompute and self.compile:
            raise InputError("recompute and compile are both true: choose one")

    def require_validation(self, validate_every: int) -> None:
        """Raise InputError when the best weights are asked for without validation."""
        if self.keep_best and not validate_every:
            raise InputError("keep_best needs validation: set validate_every, or keep_best to false")

    def share(self, processes: int) -> int:
        """Return how many samples of each batch one of the processes gets.

        Raises:
            InputError: the batch cannot be divided into equal micro-batches.
        """
        if self.batch % (processes * self.accumulate):
            factors = {f"{processes} processes": processes, f"accumulate of {self.accumulate}": self.accumulate}
            named = " times the ".join(name for name, factor in factors.items() if factor > 1)
            raise InputError(f"batch is {self.batch}: it must be a multiple of the {named}")
        return self.batch // processes


def learning_rate(step: int, optim: OptimConfig) -> float:
    """Return the learning rate of a step (0-based): linear warm-up, then the schedule."""
    if step < optim.warmup:
        return optim.learning_rate * (step + 1) / optim.warmup
    done = (step - optim.warmup) / max(optim.steps - optim.warmup, 1)
    factors = {
        "constant": 1.0,
        "cosine": 0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2,
        "step": 1.0 if done < optim.decay_at else 0.1,
    }
    return optim.learning_rate * factors[optim.schedule]


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def average_decay(step: int, decay: float) -> float:
    """Return the decay of the averaged weights after a step (0-based), rising to `decay`.

    The rise, (1 + step) / (10 + step), is that of TensorFlow's `ExponentialMovingAverage`. With a constant 0.99, 55% of
    the average would be the start after 60 steps.
    """
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(averaged: nn.Module | None, network: nn.Module, decay: float) -> None:
    """Move the exponential moving average of the weights one step towards the network's."""
    if averaged is not None:
        torch._foreach_lerp_(list(averaged.parameters()), list(network.parameters()), 1 - decay)
