"""Optical flow: estimators by name, backward warping, occlusion.

Flow is (B, 2, H, W) in pixels, (dx, dy): the point x of the first frame is found at x + flow(x) in the second.
"""

import functools
from collections.abc import Callable

import cv2
import numpy as np
import torch
from skimage.registration import optical_flow_tvl1
from torch import Tensor
from torch.nn import functional as F

from stvsr.errors import InputError

Estimator = Callable[[np.ndarray, np.ndarray], np.ndarray]


def estimator(name: str) -> Estimator:
    """Return a function (first, second: uint8 (H, W, 3) RGB) -> float32 (2, H, W), flow in pixels from first to second.

    Names: `dis` (OpenCV, Kroeger et al. 2016), `farneback` (OpenCV, Farneback 2003), `tvl1` (scikit-image, Zach et al. 2007),
    `spynet` (Ranjan and Black 2017, weights from the BasicVSR asset).

    Raises:
        InputError: the name is unknown.
    """
    if name not in ESTIMATORS:
        raise InputError(f"flow estimator {name!r} is unknown: choose from {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name]


def warp(image: Tensor, flow: Tensor, *, padding: str = "border") -> Tensor:
    """Sample `image` (B, C, H, W) at x + flow(x), bilinearly; `flow` (B, 2, H, W) in pixels.

    With the flow from t to k this brings frame k onto frame t. `padding` says what lies outside the image: "border"
    repeats its edge, "zeros" is black.
    """
    height, width = image.shape[-2:]
    y = torch.arange(height, device=flow.device, dtype=flow.dtype).view(-1, 1)
    x = torch.arange(width, device=flow.device, dtype=flow.dtype)
    grid_x = (x + flow[:, 0]) * (2 / max(width - 1, 1)) - 1
    grid_y = (y + flow[:, 1]) * (2 / max(height - 1, 1)) - 1
    grid = torch.stack([grid_x, grid_y], dim=-1)
    return F.grid_sample(image, grid.to(image.dtype), mode="bilinear", padding_mode=padding, align_corners=True)


def occlusion(forward: Tensor, backward: Tensor) -> Tensor:
    """Return where the second frame of a pair is visible in the first and off motion boundaries: (B, 1, H, W) bool.

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


def window_flows(window: np.ndarray, estimate: Estimator) -> Tensor:
    """Return the flows from the middle frame of an 8-bit window (T, h, w, 3) to its neighbours: (T-1, 2, h, w)."""
    middle = len(window) // 2
    flows = [estimate(window[middle], frame) for k, frame in enumerate(window) if k != middle]
    return torch.from_numpy(np.stack(flows))


def _grey(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


DIS_SMALLEST = 16  # the patch pyramid of DIS fails on frames smaller than about two patches


def _dis(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    height, width = first.shape[:2]
    bottom, right = max(0, DIS_SMALLEST - height), max(0, DIS_SMALLEST - width)
    pad = functools.partial(cv2.copyMakeBorder, top=0, bottom=bottom, left=0, right=right, borderType=cv2.BORDER_REPLICATE)
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(pad(_grey(first)), pad(_grey(second)), None)
    return np.ascontiguousarray(flow[:height, :width].transpose(2, 0, 1))


def _farneback(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    # pyramid scale, levels, window, iterations, neighbourhood, its sigma, flags: TecoGAN's tOF
    flow = cv2.calcOpticalFlowFarneback(_grey(first), _grey(second), None, 0.5, 3, 15, 3, 5, 1.2, 0)
    return np.ascontiguousarray(flow.transpose(2, 0, 1))


def _tvl1(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    rows, columns = optical_flow_tvl1(_grey(first), _grey(second))
    return np.stack([columns, rows]).astype(np.float32)


def _spynet(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    from stvsr.degradation import to_float
    from stvsr.models.spynet import load_spynet

    with torch.inference_mode():
        network = _cached_spynet(load_spynet)
        return network(to_float(first[None]), to_float(second[None]))[0].numpy()


@functools.cache
def _cached_spynet(load: Callable) -> torch.nn.Module:
    return load("cpu")


ESTIMATORS: dict[str, Estimator] = {"dis": _dis, "farneback": _farneback, "tvl1": _tvl1, "spynet": _spynet}
