"""Temporal metrics: how a result changes from frame to frame, compared with the truth.

A metric of this family takes two clips and returns one value per pair of successive frames. Its core, `pair_*`, takes
two pairs whose flows and features are computed once (`stvsr.metrics.views`). No single one is enough; `README.md`
explains why.
"""

from collections.abc import Callable, Iterable

import cv2
import numpy as np
import torch
from torch import Tensor

from stvsr.errors import InputError
from stvsr.metrics.fidelity import check_pair
from stvsr.metrics.views import Pair, View, lockstep
from stvsr.warp import warp

STATIC_LEVELS = 2.0  # luma levels by which sensor noise or a codec may change a pixel that stands still
STATIC_SHARE = 0.01  # of the frame; below it, the static region is too small to measure

Clip = Iterable[np.ndarray]


def tof(results: Clip, targets: Clip, *, estimator: str = "farneback") -> np.ndarray:
    """Return tOF in pixels: mean end-point distance between the flows of a result's pair and of the truth's.

    Source: Chu et al. 2020 (TecoGAN), section 5.2; its flow is OpenCV's Farneback on 8-bit grey.

    Args:
        results: uint8 (H, W, 3) RGB frames.
        targets: as many, as large.
        estimator: a name of `stvsr.flow.estimator`; "spynet" is the learned second opinion.

    Returns:
        (T-1,) float, 0 where motion is the same, lower is better.

    Raises:
        InputError: frames are not 8-bit RGB, sizes or lengths differ, or there are fewer than two frames.
    """
    return _over_pairs(results, targets, lambda result, target: pair_tof(result, target, estimator))


def tlp(results: Clip, targets: Clip, *, net: str = "alex", device: str = "cpu", signed: bool = False) -> np.ndarray:
    """Return tLP100: 100 |LPIPS(truth_{t-1}, truth_t) - LPIPS(result_{t-1}, result_t)|.

    Source: Chu et al. 2020 (TecoGAN), section 5.2, in the unit of its tables.

    Args:
        results: uint8 (H, W, 3) RGB frames.
        targets: as many, as large.
        net: "alex" (as published) or "vgg".
        device: where the network runs.
        signed: return 100 (LPIPS(result_{t-1}, result_t) - LPIPS(truth_{t-1}, truth_t)) instead: below 0 the result
            changes less than the truth (too smooth), above 0 more (flicker).

    Returns:
        (T-1,) float, 0 where appearance changes as much as the truth's; without `signed`, lower is better.

    Raises:
        InputError: as for `tof`.
    """
    name = "lpips" if net == "alex" else f"lpips_{net}"
    measure = pair_tlp_signed if signed else pair_tlp
    return _over_pairs(results, targets, lambda result, target: measure(result, target, name), device=device)


def warping_error(results: Clip, targets: Clip, *, estimator: str = "dis") -> np.ndarray:
    """Return the occlusion-masked warping error x1000: what moves along the truth's flow should not change.

    The previous result is warped onto the current one by the truth's flow; the error is the mean squared RGB difference
    in [0, 1] over the pixels that are visible in both frames according to the truth's flows (Lai et al. 2018, section
    4.2; masks of Ruder et al. 2016). The truth's own value is the floor: pass the truth as `results` to measure it. A
    blurred result falls below the floor without being better.

    Args:
        results: uint8 (H, W, 3) RGB frames.
        targets: as many, as large.
        estimator: a name of `stvsr.flow.estimator`.

    Returns:
        (T-1,) float, NaN where nothing is visible.

    Raises:
        InputError: as for `tof`.
    """
    return _over_pairs(results, targets, lambda result, target: pair_warping_error(result, target, estimator))


def profile(results: Clip, targets: Clip) -> np.ndarray:
    """Return the temporal-profile difference, mean |change of a result's luma - change of the truth's|, 8-bit levels.

    A temporal profile is one image row drawn over time; this compares the slopes along time of every row's profile, so
    a constant offset costs nothing and jitter costs all of itself.

    Args:
        results: uint8 (H, W, 3) RGB frames.
        targets: as many, as large.

    Returns:
        (T-1,) float, 0 where both change alike, lower is better.

    Raises:
        InputError: as for `tof`.
    """
    return _over_pairs(results, targets, pair_profile)


def flicker(results: Clip, targets: Clip) -> np.ndarray:
    """Return mean |change of a result's luma| in 8-bit levels where the truth stands still.

    Static is where the truth's luma changes by at most 2 levels in a whole 3x3 neighbourhood. The truth's own value is
    the floor (its noise).

    Args:
        results: uint8 (H, W, 3) RGB frames.
        targets: as many, as large.

    Returns:
        (T-1,) float, lower is better; NaN where less than 1% of the frame is static.

    Raises:
        InputError: as for `tof`.
    """
    return _over_pairs(results, targets, pair_flicker)


def pair_tof(result: Pair, target: Pair, estimator: str = "farneback") -> float:
    """tOF of one pair; the protocol's crop is applied to the flows."""
    crop = target.current.crop
    difference = (crop(pair.flow(estimator).transpose(1, 2, 0)) for pair in (result, target))
    return float(np.linalg.norm(np.subtract(*difference), axis=2).mean(dtype=np.float64))


def pair_tlp(result: Pair, target: Pair, name: str = "lpips") -> float:
    """tLP100 of one pair by the named network, on cropped frames."""
    return abs(pair_tlp_signed(result, target, name))


def pair_tlp_signed(result: Pair, target: Pair, name: str = "lpips") -> float:
    """Signed tLP100 of one pair: how much more the result's appearance changes than the truth's."""
    return 100 * (result.distance(name) - target.distance(name))


def pair_warping_error(result: Pair, target: Pair, estimator: str = "dis") -> float:
    """Warping error x1000 of one pair, flow and mask from the truth."""
    return 1000 * warped_difference(*result.floats(), *target.correspondence(estimator))


def pair_profile(result: Pair, target: Pair) -> float:
    """Temporal-profile difference of one pair."""
    return float(np.abs(_change(result) - _change(target)).mean())


def pair_flicker(result: Pair, target: Pair) -> float:
    """Flicker of one pair over the truth's static region."""
    static = cv2.erode((np.abs(_change(target)) <= STATIC_LEVELS).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    if static.mean() < STATIC_SHARE:
        return float("nan")
    return float(np.abs(_change(result))[static].mean())


def warped_difference(previous: Tensor, current: Tensor, flow: Tensor, visible: Tensor) -> float:
    """Return the mean squared difference between `current` and `previous` brought onto it, over visible pixels.

    Args:
        previous: (1, 3, H, W) in [0, 1].
        current: (1, 3, H, W) in [0, 1].
        flow: (1, 2, H, W) pixels, from current to previous.
        visible: (1, 1, H, W) bool.

    Returns:
        The mean over visible pixels and channels, or NaN where none is visible.
    """
    squared = (warp(previous, flow) - current).square().mean(1, keepdim=True)
    return squared[visible].double().mean().item() if visible.any() else float("nan")


def _change(pair: Pair) -> np.ndarray:
    return pair.current.luma - pair.previous.luma


def _over_pairs(
    results: Clip, targets: Clip, measure: Callable[[Pair, Pair], float], *, device: str = "cpu"
) -> np.ndarray:
    values, before = [], None
    with torch.inference_mode():
        for frames in lockstep({"results": results, "targets": targets}):
            check_pair(frames["results"], frames["targets"])
            now = [View(frame, device=device) for frame in frames.values()]
            if before is not None:
                values.append(measure(Pair(before[0], now[0]), Pair(before[1], now[1])))
            before = now
    if not values:
        raise InputError(f"clip has {int(before is not None)} frames: a temporal metric needs at least 2")
    return np.array(values)
