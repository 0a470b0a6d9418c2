"""Optical flow estimators by name.

Flow is (B, 2, H, W) in pixels, (dx, dy): point x of the first frame appears at x + flow(x) in the second.
"""

import functools
from collections.abc import Callable

import cv2
import numpy as np
import torch
from skimage.registration import optical_flow_tvl1
from torch import Tensor

from stvsr.degradation import to_float
from stvsr.errors import unknown
from stvsr.models.spynet import SPyNet, load_spynet

Estimator = Callable[[np.ndarray, np.ndarray], np.ndarray]


def estimator(name: str) -> Estimator:
    """Return a function (first, second: uint8 (H, W, 3) RGB) -> float32 (2, H, W), flow in pixels from first to second.

    Names: `dis` (OpenCV, Kroeger et al. 2016), `farneback` (OpenCV, Farneback 2003), `tvl1` (scikit-image, Zach et al.
    2007), `spynet` (Ranjan and Black 2017, weights from the BasicVSR asset).

    Raises:
        InputError: the name is unknown.
    """
    if name not in ESTIMATORS:
        raise unknown("flow estimator", name, ESTIMATORS)
    return ESTIMATORS[name]


def window_flows(window: np.ndarray, estimate: Estimator) -> Tensor:
    """Return the flows from the middle frame of an 8-bit window (T, h, w, 3) to its neighbours: (T-1, 2, h, w)."""
    middle = len(window) // 2
    flows = [estimate(window[middle], frame) for k, frame in enumerate(window) if k != middle]
    return torch.from_numpy(np.stack(flows))


def _grey(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


DIS_SMALLEST = 16  # pixels; DIS fails on frames smaller than about two of its 8x8 patches


def _dis(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    height, width = first.shape[:2]
    missing = (0, max(0, DIS_SMALLEST - height)), (0, max(0, DIS_SMALLEST - width))
    one, other = (np.pad(_grey(frame), missing, mode="edge") for frame in (first, second))
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = dis.calc(one, other, None)  # type: ignore[call-overload]  # OpenCV's stubs omit None: no initial flow
    return np.ascontiguousarray(flow[:height, :width].transpose(2, 0, 1))


def _farneback(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    # after the output: pyramid scale, levels, window, iterations, neighbourhood, its sigma, flags, as in TecoGAN's tOF
    output = np.empty((*first.shape[:2], 2), np.float32)
    flow = cv2.calcOpticalFlowFarneback(_grey(first), _grey(second), output, 0.5, 3, 15, 3, 5, 1.2, 0)
    return np.ascontiguousarray(flow.transpose(2, 0, 1))


def _tvl1(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    rows, columns = optical_flow_tvl1(_grey(first), _grey(second))
    return np.stack([columns, rows]).astype(np.float32)


def _spynet(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return _loaded_spynet()(to_float(first[None]), to_float(second[None]))[0].numpy()


@functools.cache
def _loaded_spynet() -> SPyNet:
    return load_spynet("cpu")


ESTIMATORS: dict[str, Estimator] = {"dis": _dis, "farneback": _farneback, "tvl1": _tvl1, "spynet": _spynet}
