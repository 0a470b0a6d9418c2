"""Perceptual distances by trained networks: LPIPS (AlexNet, VGG16) and DISTS.

A network computes the features of a frame once; distances between features are cheap. The truth's features serve every
method, and a method's features serve both LPIPS and tLP.
"""

import functools
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stvsr import assets
from stvsr.errors import InputError, unknown
from stvsr.metrics.fidelity import check_pair, size
from stvsr.models.lpips import ASSET_OF, LPIPS, Features, to_batch
from stvsr.models.vgg import IMAGENET_MEAN, IMAGENET_STD, read_convolutions
from stvsr.runs.device import exact
from stvsr.runs.hashes import digest

SMALLEST = {"lpips": 32, "lpips_vgg": 16, "dists": 16}  # pixels: below, the last layers would be empty


class DISTS:
    """Deep image structure and texture similarity (Ding et al. 2020), on frames as they are, not resized.

    Own code, about thirty lines: the published package downloads a VGG16 and looks for its weights in the interpreter's
    prefix; piq and pyiqa download both. Here VGG16 and the published channel weights come from assets.

    Args:
        device: where the network runs.
    """

    stages = (2, 2, 3, 3, 3)  # convolutions of VGG16 between poolings

    def __init__(self, device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        self.convolutions = [
            (weight.to(self.device), bias.to(self.device)) for weight, bias in read_convolutions("vgg16")
        ]
        channel = torch.load(assets.locate("dists"), map_location=self.device, weights_only=True)
        total = (channel["alpha"] + channel["beta"]).sum()
        self.alpha, self.beta = ((channel[name] / total).flatten() for name in ("alpha", "beta"))

    @torch.inference_mode()
    def features(self, frames: Sequence[np.ndarray]) -> list[Features]:
        """Return the frames themselves and the last rectified map of each VGG16 stage, computed as one batch."""
        with exact():
            image = to_batch(frames, self.device)
            mean, std = (image.new_tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
            layers, maps, rest = [image], (image - mean) / std, iter(self.convolutions)
            for stage, count in enumerate(self.stages):
                maps = _l2_pool(maps) if stage else maps
                for weight, bias in (next(rest) for _ in range(count)):
                    maps = F.relu(F.conv2d(maps, weight, bias, padding=1))
                layers.append(maps)
        return [[layer[i] for layer in layers] for i in range(len(frames))]

    @torch.inference_mode()
    def distance(self, first: Features, second: Features) -> float:
        """Return DISTS, 0 for equal frames: one minus the weighted similarities of texture and structure."""
        texture, structure = zip(*(_similarities(a, b) for a, b in zip(first, second, strict=True)), strict=True)
        return 1 - (self.alpha @ torch.cat(texture) + self.beta @ torch.cat(structure)).item()


Network = LPIPS | DISTS


@functools.lru_cache(maxsize=8)
def network(name: str, device: str = "cpu") -> Network:
    """Return the measuring network `lpips`, `lpips_vgg` or `dists`, loaded once per process and device.

    Raises:
        InputError: the name is unknown, or an asset is missing.
    """
    if name not in SMALLEST:
        raise unknown("measuring network", name, SMALLEST)
    if name == "dists":
        return DISTS(device)
    return LPIPS("vgg" if name == "lpips_vgg" else "alex", device)


@functools.cache
def weights(name: str) -> dict[str, str]:
    """Return name -> SHA-256 of the weights of a measuring network, without loading it."""
    if name == "dists":
        return {asset: assets.ASSETS[asset].sha256 for asset in ("vgg16", "dists")}
    net = "vgg" if name == "lpips_vgg" else "alex"
    package = find_spec("lpips")  # not imported: that takes seconds
    assert package is not None and package.origin is not None
    linear = Path(package.origin).parent / "weights" / "v0.1" / f"{net}.pth"
    return {ASSET_OF[net]: assets.ASSETS[ASSET_OF[net]].sha256, f"lpips-{net}-0.1": digest(linear)}


def lpips(result: np.ndarray, target: np.ndarray, *, net: str = "alex", device: str = "cpu") -> float:
    """Return LPIPS v0.1 of two frames, 0 for equal ones, lower is better.

    Args:
        result: uint8 (H, W, 3) RGB, at least 32 pixels high and wide (16 for VGG).
        target: uint8 (H, W, 3) RGB.
        net: "alex" or "vgg".
        device: where the network runs.

    Raises:
        InputError: a frame is not 8-bit RGB or too small, sizes differ, the net is unknown, or an asset is missing.
    """
    if net not in ASSET_OF:
        raise unknown("LPIPS net", net, ASSET_OF)
    return _distance("lpips" if net == "alex" else "lpips_vgg", result, target, device)


def dists(result: np.ndarray, target: np.ndarray, *, device: str = "cpu") -> float:
    """Return DISTS of two frames, 0 for equal ones, lower is better.

    Args:
        result: uint8 (H, W, 3) RGB, at least 16 pixels high and wide.
        target: uint8 (H, W, 3) RGB.
        device: where the network runs.

    Raises:
        InputError: a frame is not 8-bit RGB or too small, sizes differ, or an asset is missing.
    """
    return _distance("dists", result, target, device)


def check_size(name: str, frame: np.ndarray) -> None:
    """Check that a frame is large enough for the named network.

    Raises:
        InputError: it is not.
    """
    if min(frame.shape[:2]) < SMALLEST[name]:
        raise InputError(f"frame is {size(frame)}: {name} needs at least {SMALLEST[name]}x{SMALLEST[name]} pixels")


def _distance(name: str, result: np.ndarray, target: np.ndarray, device: str) -> float:
    check_pair(result, target)
    check_size(name, target)
    measuring = network(name, str(device))
    return measuring.distance(*measuring.features([result, target]))


def _l2_pool(maps: Tensor) -> Tensor:
    """Halve (B, C, h, w): root of a Hann-weighted mean of squares, which avoids aliasing (DISTS, section III.A)."""
    hann = torch.hann_window(5, periodic=False, device=maps.device)[1:-1]
    window = (hann[:, None] * hann / hann.sum() ** 2).expand(maps.shape[1], 1, 3, 3)
    return (F.conv2d(maps.square(), window, stride=2, padding=1, groups=maps.shape[1]) + 1e-12).sqrt()


def _similarities(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return texture and structure similarity of each channel of (C, h, w) maps (DISTS, equations 5 and 6)."""
    first, second = first.flatten(1), second.flatten(1)
    mean_a, mean_b = first.mean(1), second.mean(1)
    covariance = (first * second).mean(1) - mean_a * mean_b
    variances = first.var(1, correction=0) + second.var(1, correction=0)
    small = 1e-6
    texture = (2 * mean_a * mean_b + small) / (mean_a.square() + mean_b.square() + small)
    return texture, (2 * covariance + small) / (variances + small)
