"""Backward warping, occlusion, and which points stay inside the image. Flow is (B, 2, H, W) in pixels, (dx, dy)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def warp(image: Tensor, flow: Tensor, *, padding: str = "border") -> Tensor:
    """Sample `image` (B, C, H, W) at x + flow(x), bilinearly; `flow` (B, 2, H, W) in pixels.

    With the flow from t to k this aligns frame k with frame t. Points outside the image take the colour of its edge
    (`padding="border"`) or are black (`"zeros"`).
    """
    height, width = image.shape[-2:]
    y = torch.arange(height, device=flow.device, dtype=flow.dtype).view(-1, 1)
    x = torch.arange(width, device=flow.device, dtype=flow.dtype)
    grid_x = (x + flow[:, 0]) * (2 / max(width - 1, 1)) - 1
    grid_y = (y + flow[:, 1]) * (2 / max(height - 1, 1)) - 1
    grid = torch.stack([grid_x, grid_y], dim=-1)
    return F.grid_sample(image, grid.to(image.dtype), mode="bilinear", padding_mode=padding, align_corners=True)


def occlusion(forward: Tensor, backward: Tensor) -> Tensor:
    """Return where the second frame is visible in the first and not at a motion boundary: (B, 1, H, W) bool.

    `forward` and `backward` are (B, 2, H, W) flows of the pair, pixels. Both tests are those of Ruder et al. 2016
    (Artistic style transfer for videos, section 5), on the grid of the second frame:
    |w_f(x + w_b) + w_b|^2 > 0.01 (|w_f|^2 + |w_b|^2) + 0.5 is occluded, |grad w_b|^2 > 0.01 |w_b|^2 + 0.002 a boundary.
    """
    forward_there = warp(forward, backward)
    magnitude = (backward**2).sum(1, keepdim=True)
    mismatch = ((forward_there + backward) ** 2).sum(1, keepdim=True)
    occluded = mismatch > 0.01 * ((forward_there**2).sum(1, keepdim=True) + magnitude) + 0.5
    down = F.pad(backward[..., 1:, :] - backward[..., :-1, :], (0, 0, 0, 1))
    right = F.pad(backward[..., :, 1:] - backward[..., :, :-1], (0, 1, 0, 0))
    boundary = (down**2 + right**2).sum(1, keepdim=True) > 0.01 * magnitude + 0.002
    return ~(occluded | boundary)


def inside(displacement: Tensor) -> Tensor:
    """Return where x + flow(x) lies within the image: (B, 2, H, W) pixels -> (B, 1, H, W) bool."""
    height, width = displacement.shape[-2:]
    x = torch.arange(width) + displacement[:, :1]
    y = torch.arange(height)[:, None] + displacement[:, 1:]
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
