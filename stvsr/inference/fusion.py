"""Classical multi-frame super-resolution: align neighbours by flow, average them, or back-project several frames.

These methods have no learnt weights. They show what neighbours contribute before any network is involved.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from stvsr.degradation import bicubic_up, blur_down
from stvsr.warp import inside, occlusion, warp


def align(neighbours: Tensor, flows: Tensor) -> Tensor:
    """Bring neighbours (N, 3, H, W) onto the target by the flows from the target to each, (N, 2, H, W), pixels."""
    return warp(neighbours, flows)


def visible(flows: Tensor, flows_back: Tensor) -> Tensor:
    """Return where each neighbour shows what the target shows: (N, 1, H, W) bool, on the target's grid.

    `flows` (N, 2, H, W) lead from the target to each neighbour, `flows_back` back, pixels. Tests of Ruder et al. 2016
    (`warp.occlusion`), and the point must lie inside the neighbour.
    """
    return occlusion(flows_back, flows) & inside(flows)


def average(target: Tensor, aligned: Tensor, mask: Tensor | None = None) -> Tensor:
    """Average the target (3, H, W) with aligned neighbours (N, 3, H, W), those where `mask` (N, 1, H, W) is true."""
    weights = torch.ones_like(aligned[:, :1]) if mask is None else mask.to(aligned)
    return (target + (weights * aligned).sum(0)) / (1 + weights.sum(0))


def shifted_frames(image: Tensor, shifts: Sequence[tuple[int, int]], scale: int) -> Tensor:
    """Photograph one HR image (1, 3, H, W) several times, each after a camera shift: (N, 3, H/scale, W/scale).

    `shifts` are (down, right) in HR pixels, so fractions of an LR pixel. The camera is BD (`degradation.blur_down`).
    """
    return torch.cat([blur_down(_shift(image, shift), scale) for shift in shifts])


def back_project(frames: Tensor, shifts: Sequence[tuple[int, int]], scale: int, *, rounds: int = 30) -> Tensor:
    """Return the HR image (1, 3, H, W) whose LR versions agree with all frames (N, 3, h, w), shifts known.

    Iterative back projection (Irani and Peleg, 1991): start at bicubic, simulate every LR frame, enlarge what is
    missing, undo the shift and add the mean of these corrections. RBPN replaces the fixed operators by learnt ones.
    """
    down, right = shifts[0]
    image = _shift(bicubic_up(frames[:1], scale), (-down, -right))
    for _ in range(rounds):
        missing = [
            frame[None] - blur_down(_shift(image, shift), scale) for frame, shift in zip(frames, shifts, strict=True)
        ]
        corrections = [
            _shift(bicubic_up(error, scale), (-down, -right))
            for error, (down, right) in zip(missing, shifts, strict=True)
        ]
        image = image + torch.cat(corrections).mean(0, keepdim=True)
    return image


def _shift(image: Tensor, shift: tuple[int, int]) -> Tensor:
    return torch.roll(image, shift, dims=(-2, -1))
