"""Helpers that let one loop run in a single process or under torchrun."""

import contextlib
import gc
import os
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from stvsr.errors import InputError
from stvsr.runs.device import pick_device


@dataclass(frozen=True, kw_only=True)
class Rank:
    """This process among `world`: its index and its device."""

    index: int
    world: int
    device: torch.device

    def any(self, flag: bool) -> bool:
        """Return whether the flag is up in any process, so that all of them stop after the same step."""
        return flag if self.world == 1 else bool(self._reduce([float(flag)], torch.distributed.ReduceOp.MAX)[0])

    def mean(self, value: float) -> float:
        """Return the mean of a number over the processes, so that all of them decide alike."""
        return self.means({"": value})[""]

    def means(self, values: dict[str, float]) -> dict[str, float]:
        """Return the means of named numbers over the processes, which all give the same names."""
        if self.world == 1:
            return values
        summed = self._reduce(list(values.values()), torch.distributed.ReduceOp.SUM)
        return {name: value / self.world for name, value in zip(values, summed, strict=True)}

    def gather(self, items: list) -> list:
        """Return the items of all processes, in their order; every process calls this."""
        if self.world == 1:
            return items
        found: list = [None] * self.world
        torch.distributed.all_gather_object(found, items)
        return [item for part in found for item in part]

    def _reduce(self, values: list[float], operation: torch.distributed.ReduceOp.RedOpType) -> list[float]:
        shared = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(shared, operation)
        return shared.tolist()

    def synchronise(self, module: nn.Module) -> None:
        """Make the batch norm in a module take its statistics from the batches of all processes, in training."""
        if self.world == 1:
            return
        for part in module.modules():
            if type(part) is nn.BatchNorm2d:
                part.__class__ = SharedBatchNorm

    def wrap(self, module: nn.Module, *, compile: bool = False) -> nn.Module:
        """Return the module, compiled if asked, averaging gradients over processes when there are several.

        Buffers are not broadcast: a discriminator with batch norm is called twice per step, and a broadcast between the
        calls would overwrite what the first backward still needs. `synchronise` makes its statistics those of all.
        """
        if compile:
            module = cast(nn.Module, torch.compile(module))
        if self.world == 1:
            return module
        devices = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=devices, broadcast_buffers=False)


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm with the statistics of the batches of all processes, which are of one size, on CPUs too.

    `nn.SyncBatchNorm` does the same on GPUs only.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        shape, dims = (1, -1, 1, 1), (0, 2, 3)
        mean = _mean_of_all(x.float().mean(dims))
        centred = x - mean.view(shape)
        variance = _mean_of_all(centred.float().square().mean(dims))  # biased, as the normalisation takes it
        count = x.numel() // x.shape[1] * torch.distributed.get_world_size()
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / max(count - 1, 1), self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale.view(shape) + self.bias.view(shape)).to(x.dtype)


def _mean_of_all(value: Tensor) -> Tensor:
    """Return the mean of a tensor over the processes, through which gradients pass to all of them."""
    summed: Tensor = _SumOfAll.apply(value)
    return summed / torch.distributed.get_world_size()


class _SumOfAll(torch.autograd.Function):
    """Sum over the processes; a gradient of the sum reaches every process's part, summed likewise."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        """Return the sum over the processes."""
        summed = value.clone()
        torch.distributed.all_reduce(summed)
        return summed

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        """Return the sum of the processes' gradients."""
        return _SumOfAll.forward(context, gradient.contiguous())


def maximum(value: Tensor) -> Tensor:
    """Return the largest value of all processes, without a gradient; with one process, the value."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        value = value.detach().clone()
        torch.distributed.all_reduce(value, torch.distributed.ReduceOp.MAX)
    return value


def current(device: str = "auto") -> Rank:
    """Return this process's rank from torchrun's environment, joining the group on the first call; alone without it.

    Raises:
        InputError: there are fewer GPUs than processes.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Rank(index=0, world=1, device=pick_device(device))
    picked = pick_device(device)
    if picked.type == "cuda":
        picked = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        if picked.index >= (count := torch.cuda.device_count()):
            raise InputError(f"{world} processes have {count} GPUs to share: set processes to {count} or fewer")
        torch.cuda.set_device(picked)
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if picked.type == "cuda" else "gloo")
    return Rank(index=torch.distributed.get_rank(), world=world, device=picked)


def average_gradients(module: nn.Module) -> None:
    """Average the gradients of a module that DistributedDataParallel does not wrap; with one process, do nothing."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    for parameter in module.parameters():
        if parameter.grad is not None:
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= torch.distributed.get_world_size()


def leave() -> None:
    """Leave the process group, if any."""
    with contextlib.suppress(ValueError, AssertionError):
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            # DistributedDataParallel sits in reference cycles: what it holds of the group would end with the
            # interpreter
            gc.collect()
            torch.distributed.destroy_process_group()
