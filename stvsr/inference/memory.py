"""Memory of upscaling: the largest tile and window whose estimated need fits into the free memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil
import torch

from stvsr.errors import InputError

TILES = (0, 768, 512, 384, 256, 192, 128, 96, 64)  # input pixels a side, tried in this order; 0 is the whole frame
SHARE = 0.6  # of the free memory: the estimate is rough, and other programs need memory too
FLOAT = 4  # bytes
GIGABYTE = 1e9


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Tile, window and, at most, bytes of working memory for frames of one size.

    tile: side in input pixels, 0 for the whole frame. window: frames that are propagated together.
    device_bytes: on the device of the network. host_bytes: for frames in flight, in main memory; the same memory on a
    CPU.
    """

    tile: int
    window: int = 1
    device_bytes: int
    host_bytes: int

    def needs(self, device: torch.device) -> tuple[int, int]:
        """Return the bytes needed on the device and in main memory; both are the sum on a CPU."""
        total = self.device_bytes + self.host_bytes
        return (total, total) if device.type == "cpu" else (self.device_bytes, self.host_bytes)


def largest_plan(
    estimate: Callable[[int, int], MemoryPlan],
    tiles: Sequence[int],
    windows: Sequence[int],
    device: torch.device,
    name: str,
) -> MemoryPlan:
    """Return the plan that fits into the free memory, with the largest tile first and then the longest window.

    Args:
        estimate: maps (tile, window) to a plan.
        tiles: sides to try, best first. windows: lengths to try, best first.
        device: where the network runs.
        name: of the model, for the error.

    Raises:
        InputError: the plan that needs least does not fit.
    """
    free = free_memory(device)
    plans = [estimate(tile, window) for tile in tiles for window in windows]
    least = min(plans, key=lambda plan: max(plan.needs(device)))
    for plan, share in [*((plan, SHARE) for plan in plans), (least, 1.0)]:
        if all(need <= share * available for need, available in zip(plan.needs(device), free, strict=True)):
            return plan
    need = max(least.needs(device)) / GIGABYTE
    raise InputError(
        f"{name} needs about {need:.1f} GB, {min(free) / GIGABYTE:.1f} GB are free: "
        "lower the window, or set a smaller tile"
    )


def free_memory(device: torch.device) -> tuple[int, int]:
    """Return the bytes that are free on the device and in main memory."""
    host = psutil.virtual_memory().available
    return (torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else host), host


def tile_fits(tile: int, overlap: int) -> bool:
    """Return whether tiles of this side can share `overlap` pixels with both neighbours; 0 is the whole frame."""
    return tile == 0 or tile >= 2 * overlap


def tile_area(size: tuple[int, int], tile: int) -> int:
    """Return the input pixels that one tile covers in a frame of `size` (H, W)."""
    return min(size[0], tile or size[0]) * min(size[1], tile or size[1])
