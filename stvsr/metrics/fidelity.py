"""Fidelity to the truth, pixel by pixel: PSNR and SSIM of 8-bit frames, on luma or on RGB."""

from collections.abc import Callable

import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from stvsr.errors import InputError, unknown

PEAK = 255  # 8-bit levels
SSIM_WINDOW = 11
LUMA_WEIGHTS = np.array([65.481, 128.553, 24.966]) / 255


def luma(frame: np.ndarray) -> np.ndarray:
    """Return Y of an 8-bit RGB frame (H, W, 3): float64 (H, W) in [16, 235], not rounded (BT.601, studio range)."""
    return frame @ LUMA_WEIGHTS + 16


COLOURS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"y": luma, "rgb": lambda frame: frame}


def check_frame(frame: np.ndarray, name: str = "frame") -> np.ndarray:
    """Return the frame if it is what every metric takes: uint8 (H, W, 3), RGB.

    Float frames are refused, because their range is ambiguous and they can hold NaN. Grey, alpha and 16-bit frames are
    refused too: `stvsr.video` converts them.

    Raises:
        InputError: another type or shape.
    """
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        found = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise InputError(f"{name} is {found}: metrics take 8-bit RGB frames, uint8 (H, W, 3); convert it first")
    return frame


def check_pair(result: np.ndarray, target: np.ndarray, smallest: int = 1) -> None:
    """Check that two frames are 8-bit RGB, equally large and at least `smallest` pixels high and wide.

    Raises:
        InputError: one of them is not.
    """
    check_frame(result, "result")
    check_frame(target, "target")
    if result.shape != target.shape:
        raise InputError(f"result is {size(result)}, target is {size(target)}: crop or upscale one so that both agree")
    if min(target.shape[:2]) < smallest:
        raise InputError(f"frame is {size(target)}: this metric needs at least {smallest}x{smallest} pixels")


def size(frame: np.ndarray) -> str:
    """Return `WIDTHxHEIGHT` of a frame (H, W, ...)."""
    return f"{frame.shape[1]}x{frame.shape[0]}"


def psnr(result: np.ndarray, target: np.ndarray, *, colour: str = "y") -> float:
    """Return the peak signal-to-noise ratio in dB, peak 255, by scikit-image; infinite when the frames are equal.

    Args:
        result: uint8 (H, W, 3) RGB.
        target: uint8 (H, W, 3) RGB.
        colour: "y" (unrounded luma) or "rgb" (error averaged over the channels).

    Raises:
        InputError: a frame is not 8-bit RGB, sizes differ, or the colour is unknown.
    """
    check_pair(result, target)
    return plane_psnr(_plane(result, colour), _plane(target, colour))


def ssim(result: np.ndarray, target: np.ndarray, *, colour: str = "y") -> float:
    """Return the structural similarity in [-1, 1], by scikit-image with the settings of Wang et al. 2004.

    11x11 Gaussian window of sigma 1.5, population covariance, K1 = 0.01, K2 = 0.03, range 255, mean over the region
    where the window fits; on RGB the mean over channels.

    Args:
        result: uint8 (H, W, 3) RGB.
        target: uint8 (H, W, 3) RGB.
        colour: "y" (unrounded luma) or "rgb".

    Raises:
        InputError: a frame is not 8-bit RGB or smaller than the window, sizes differ, or the colour is unknown.
    """
    check_pair(result, target, SSIM_WINDOW)
    return plane_ssim(_plane(result, colour), _plane(target, colour))


def plane_psnr(result: np.ndarray, target: np.ndarray) -> float:
    """Return the PSNR of two arrays of equal shape in 8-bit levels, dB."""
    with np.errstate(divide="ignore"):  # equal frames: infinite, by definition
        return float(peak_signal_noise_ratio(target, result, data_range=PEAK))


def plane_ssim(result: np.ndarray, target: np.ndarray) -> float:
    """Return the SSIM of two arrays (H, W) or (H, W, 3) in 8-bit levels."""
    channel = 2 if target.ndim == 3 else None
    return float(
        structural_similarity(
            target,
            result,
            data_range=PEAK,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            channel_axis=channel,
        )
    )


def _plane(frame: np.ndarray, colour: str) -> np.ndarray:
    if colour not in COLOURS:
        raise unknown("colour", colour, COLOURS)
    return COLOURS[colour](frame)
