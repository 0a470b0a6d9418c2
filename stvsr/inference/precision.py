"""Numeric precision of upscaling: 16 bits where the processor is fast at them and the output agrees with float32."""

from collections.abc import Callable

import numpy as np
import torch

from stvsr.degradation import crop_to_multiple, degrade
from stvsr.errors import InputError, unknown
from stvsr.runs.device import has_bfloat16

PRECISIONS = ("auto", "full", "bfloat16", "float16")
TOLERANCE = 0.02  # dB of PSNR that `auto` may lose
CHECKED_FRAMES = 5
CHECKED_SIDE, SMALLEST_SIDE = 256, 64  # pixels of a clip's frames that serve as truth: at most, at least


def check_precision_name(precision: str) -> None:
    """Raise InputError for an unknown name."""
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)


def reduced_type(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the 16-bit type that a precision asks for, None for float32.

    `auto` is float16 on a GPU (more digits than bfloat16, and the networks stay far from its limits), bfloat16 on a CPU
    with instructions for it, and float32 elsewhere.

    Raises:
        InputError: float16 on a CPU, which computes it more slowly than float32.
    """
    check_precision_name(precision)
    if precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.bfloat16 if has_bfloat16(device) else None
    if precision == "float16" and device.type == "cpu":
        raise InputError("precision float16 needs a GPU: choose bfloat16 or full on a CPU")
    return {"full": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]


def agrees(
    frames: list[np.ndarray], scale: int, full: Callable[[np.ndarray], np.ndarray],
    reduced: Callable[[np.ndarray], np.ndarray],
) -> bool:  # fmt: skip
    """Return whether reduced precision loses at most 0.02 dB of PSNR on these frames.

    The frames are the truth: their centre, at most 256 pixels a side, is shrunk by `scale` and upscaled both ways.

    Args:
        frames: the first uint8 (H, W, 3) frames of a clip.
        full, reduced: upscale uint8 (T, h, w, 3) frames in float32 and in 16 bits.

    Returns:
        Also False where the frames are too small to tell: such clips are upscaled quickly in float32.
    """
    height, width = (min(side, CHECKED_SIDE) for side in frames[0].shape[:2])
    if min(height, width) < SMALLEST_SIDE:
        return False
    top, left = (frames[0].shape[0] - height) // 2, (frames[0].shape[1] - width) // 2
    truth = crop_to_multiple(np.stack(frames)[:, top : top + height, left : left + width], scale)
    small = np.concatenate([degrade(frame[None], "bi", scale) for frame in truth])
    expected, found = (_psnr(upscale(small), truth) for upscale in (full, reduced))
    return bool(np.isfinite(found) and abs(expected - found) <= TOLERANCE)


def _psnr(result: np.ndarray, truth: np.ndarray) -> float:
    """PSNR over all values of uint8 frames; a small constant keeps equal frames finite."""
    error = np.square(result.astype(np.float64) - truth).mean()
    return float(10 * np.log10(255**2 / (error + 1e-6)))
