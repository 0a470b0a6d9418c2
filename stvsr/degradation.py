"""Degradation from HR to LR: BI (MATLAB's antialiased bicubic) or BD (Gaussian blur, every s-th pixel); bicubic up."""

import functools
import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stvsr.errors import InputError, unknown

BD_SIGMA = 1.6  # BasicVSR's BD; DUF's and TecoGAN's is 1.5
BD_TAPS = 12


def bicubic_down(image: Tensor, scale: int) -> Tensor:
    """Shrink by an integer factor like MATLAB's `imresize`: a = -0.5, antialiased, mirrored borders (BI).

    Args:
        image: (B, 3, H, W) float, H and W multiples of `scale`.

    Returns:
        (B, 3, H/scale, W/scale), not clamped and not rounded to 8 bits.

    Raises:
        InputError: a size is not a multiple of `scale`.
    """
    height, width = _divided(image, scale)
    return resize(image, height, width)


def bicubic_up(image: Tensor, scale: int) -> Tensor:
    """Enlarge by an integer factor like MATLAB's `imresize`: (B, 3, h, w) -> (B, 3, scale*h, scale*w), not clamped."""
    return resize(image, image.shape[-2] * scale, image.shape[-1] * scale)


def blur_down(image: Tensor, scale: int, sigma: float = BD_SIGMA) -> Tensor:
    """Blur with a 12x12 Gaussian and keep the centre of each `scale` x `scale` block (BD, BasicVSR's convention).

    The even kernel is centred between pixels, so rows and columns scale/2-1, scale/2-1+scale, ... (1, 5, 9, ... for x4)
    sample block centres without a phase slip. Borders are replicated.

    Args:
        image: (B, 3, H, W) float, H and W multiples of `scale`; `scale` even.
        sigma: standard deviation of the Gaussian in HR pixels.

    Returns:
        (B, 3, H/scale, W/scale), not rounded to 8 bits.

    Raises:
        InputError: a size is not a multiple of `scale`, or `scale` is odd.
    """
    height, width = _divided(image, scale)
    if scale % 2:
        raise InputError(f"BD scale is {scale}: block centres lie between pixels only for an even scale")
    taps = torch.arange(BD_TAPS, dtype=torch.float64) - (BD_TAPS - 1) / 2
    window = torch.exp(-(taps**2) / (2 * sigma**2))
    window = (window / window.sum()).to(image)
    before = (BD_TAPS - 1) // 2 - (scale // 2 - 1)  # padding that puts the first window on the first block centre
    padded = F.pad(image.flatten(0, 1).unsqueeze(1), (before, BD_TAPS, before, BD_TAPS), mode="replicate")
    blurred = F.conv2d(
        F.conv2d(padded, window.view(1, 1, 1, -1), stride=(1, scale)), window.view(1, 1, -1, 1), stride=(scale, 1)
    )
    return blurred[..., :height, :width].reshape(*image.shape[:2], height, width)


DEGRADATIONS = {"bi": bicubic_down, "bd": blur_down}


def degrade(frames: np.ndarray, mode: str, scale: int) -> np.ndarray:
    """Shrink 8-bit frames (T, H, W, 3) to 8-bit (T, H/scale, W/scale, 3) by BI or BD.

    Raises:
        InputError: the mode is unknown, or a size is not a multiple of `scale`.
    """
    if mode not in DEGRADATIONS:
        raise unknown("degradation", mode, DEGRADATIONS)
    return to_uint8(DEGRADATIONS[mode](to_float(frames), scale))


def crop_to_multiple(frames: np.ndarray, scale: int) -> np.ndarray:
    """Cut the last rows and columns of (..., H, W, 3) so that H and W are multiples of `scale`.

    Raises:
        InputError: no row or no column is left.
    """
    height, width = frames.shape[-3] // scale * scale, frames.shape[-2] // scale * scale
    if not (height and width):
        raise InputError(f"frames are {frames.shape[-2]}x{frames.shape[-3]}: too small to be divided by {scale}")
    return frames[..., :height, :width, :]


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """Resize (B, C, H, W) to (B, C, height, width) by MATLAB's bicubic: one weight matrix per axis."""
    rows = _weights(image.shape[-2], height).to(image)
    columns = _weights(image.shape[-1], width).to(image)
    with torch.autocast(image.device.type, enabled=False):  # half precision loses more than BI gains over plain bicubic
        return rows @ image @ columns.T


def quantise(image: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to the nearest of the 256 levels, as writing an 8-bit file does."""
    return (image.clamp(0, 1) * 255).round() / 255


def to_float(frames: np.ndarray) -> Tensor:
    """Convert 8-bit (T, H, W, 3) to float32 (T, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.require(frames, requirements=["C", "W"])).movedim(-1, -3).contiguous().float() / 255


def to_uint8(video: Tensor) -> np.ndarray:
    """Convert float (T, 3, H, W) to 8-bit (T, H, W, 3), clamped to [0, 1] and rounded."""
    levels = (video.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return levels.movedim(-3, -1).contiguous().cpu().numpy()


def _divided(image: Tensor, scale: int) -> tuple[int, int]:
    height, width = image.shape[-2:]
    if height % scale or width % scale:
        raise InputError(f"image is {width}x{height}: both must be multiples of {scale}, crop it first")
    return height // scale, width // scale


@functools.lru_cache(maxsize=64)
def _weights(size_in: int, size_out: int) -> Tensor:
    """Return the matrix (size_out, size_in) that resamples one axis; shrinking widens the kernel (antialiasing)."""
    scale = size_out / size_in
    shrink = min(scale, 1.0)
    support = 4 / shrink
    centre = (torch.arange(size_out, dtype=torch.float64) + 0.5) / scale - 0.5
    first = torch.floor(centre - support / 2)
    taps = first[:, None] + torch.arange(math.ceil(support) + 2, dtype=torch.float64)
    weight = _cubic((centre[:, None] - taps) * shrink)
    weight = weight / weight.sum(dim=1, keepdim=True)
    mirrored = torch.remainder(taps, 2 * size_in)
    index = torch.where(mirrored < size_in, mirrored, 2 * size_in - 1 - mirrored).long()
    return torch.zeros(size_out, size_in, dtype=torch.float64).scatter_add_(1, index, weight)


def _cubic(x: Tensor) -> Tensor:
    """Return Keys' cubic convolution kernel with a = -0.5 (IEEE TASSP 1981)."""
    x = x.abs()
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, near, torch.where(x <= 2, far, torch.zeros_like(x)))
