"""NIQE, a measure of naturalness without a reference.

Own code, because no maintained library computes it with the published parameters: torchmetrics and piq lack it, pyiqa
downloads its model, and scikit-video (which does not run on NumPy 2) uses another model, which scores pristine
photographs near 10 instead of 4. The published model comes from an asset.
"""

import functools

import numpy as np
import torch
from scipy.ndimage import correlate1d
from scipy.special import gamma

from stvsr import assets
from stvsr.degradation import bicubic_down
from stvsr.errors import InputError
from stvsr.metrics.fidelity import check_frame, luma, size

BLOCK = 96  # pixels; the model was fitted on blocks of this size
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))  # neighbours of section II.B: right, below, both diagonals


def niqe(frame: np.ndarray) -> float:
    """Return the Natural Image Quality Evaluator of one frame: 0 is a perfectly natural image, lower is better.

    Distance between two 36-dimensional Gaussians, of 96x96 blocks of this frame and of pristine images (Mittal,
    Soundararajan and Bovik 2013, equation 10), on rounded luma at two scales. Rows and columns beyond the last whole
    block are left out.

    Args:
        frame: uint8 (H, W, 3) RGB, H and W at least 96 with two whole blocks.

    Returns:
        The distance, or NaN where fewer than two blocks have any texture.

    Raises:
        InputError: the frame is not 8-bit RGB, or holds fewer than two blocks.
    """
    check_frame(frame)
    rows, columns = frame.shape[0] // BLOCK, frame.shape[1] // BLOCK
    if rows * columns < 2:
        raise InputError(f"frame is {size(frame)}: NIQE needs two whole {BLOCK}x{BLOCK} blocks")
    plane = luma(frame)[: rows * BLOCK, : columns * BLOCK].round()
    half = bicubic_down(torch.from_numpy(plane)[None, None], 2)[0, 0].numpy()
    features = np.hstack([_features(plane, BLOCK), _features(half, BLOCK // 2)])
    complete = features[~np.isnan(features).any(axis=1)]  # a perfectly flat block has no statistics
    if len(complete) < 2:
        return float("nan")
    mean, covariance = _pristine()
    difference = mean - np.nanmean(features, axis=0)
    spread = np.linalg.pinv((covariance + np.cov(complete, rowvar=False)) / 2)
    return float(np.sqrt(difference @ spread @ difference))


@functools.cache
def _pristine() -> tuple[np.ndarray, np.ndarray]:
    """Return mean (36,) and covariance (36, 36) of the published model."""
    with np.load(assets.locate("niqe")) as model:
        return model["mu_pris_param"].ravel(), model["cov_pris_param"]


def _features(plane: np.ndarray, block: int) -> np.ndarray:
    """Return (blocks, 18): shape and scale of the normalised luma, and of its products with four neighbours."""
    rows, columns = plane.shape[0] // block, plane.shape[1] // block
    blocks = _normalised(plane).reshape(rows, block, columns, block).swapaxes(1, 2).reshape(-1, block, block)
    shape, left, right = _fit(blocks)
    features = [shape, (left + right) / 2]
    for shift in SHIFTS:
        shape, left, right = _fit(blocks * np.roll(blocks, shift, axis=(1, 2)))
        features += [shape, (right - left) * gamma(2 / shape) / gamma(1 / shape), left, right]
    return np.stack(features, axis=1)


def _normalised(plane: np.ndarray) -> np.ndarray:
    """Subtract the local mean, divide by the local deviation plus one (equations 1 to 3; 7x7 Gaussian, sigma 7/6)."""
    taps = np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))
    mean = _smooth(plane, taps / taps.sum())
    deviation = np.sqrt(np.abs(_smooth(plane**2, taps / taps.sum()) - mean**2))
    return (plane - mean) / (deviation + 1)


def _smooth(plane: np.ndarray, taps: np.ndarray) -> np.ndarray:
    return correlate1d(correlate1d(plane, taps, axis=0, mode="nearest"), taps, axis=1, mode="nearest")


@functools.cache
def _shapes() -> tuple[np.ndarray, np.ndarray]:
    """Return candidate shapes of a generalised Gaussian and the moment ratio that each implies."""
    shape = np.arange(0.2, 10.001, 0.001)
    return shape, gamma(2 / shape) ** 2 / (gamma(1 / shape) * gamma(3 / shape))


def _fit(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit an asymmetric generalised Gaussian to each block: shape, left and right scale, each (blocks,)."""
    values = blocks.reshape(len(blocks), -1)
    with np.errstate(invalid="ignore", divide="ignore"):  # a side without values gives NaN, and the block is left out
        left = np.sqrt((values**2 * (values < 0)).sum(1) / (values < 0).sum(1))
        right = np.sqrt((values**2 * (values > 0)).sum(1) / (values > 0).sum(1))
        ratio = np.abs(values).mean(1) ** 2 / (values**2).mean(1)
        side = left / right
        ratio = ratio * (side**3 + 1) * (side + 1) / (side**2 + 1) ** 2
    shapes, ratios = _shapes()
    # the ratio grows with the shape: the nearest candidate is one of the two around the insertion point
    after = np.clip(np.searchsorted(ratios, ratio), 1, len(ratios) - 1)
    nearest = np.where(ratio - ratios[after - 1] < ratios[after] - ratio, after - 1, after)
    shape = np.where(np.isnan(ratio), np.nan, shapes[nearest])
    scale = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * scale, right * scale
