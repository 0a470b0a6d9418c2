"""Frames and pairs of frames with cached luma, features and flows, each computed on first use.

All methods of an evaluation share the truth's views and pairs, so that its values are computed once.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import torch

from stvsr import flow
from stvsr.degradation import to_float
from stvsr.errors import InputError
from stvsr.metrics import perceptual
from stvsr.metrics.fidelity import COLOURS, check_frame
from stvsr.models import lpips
from stvsr.warp import inside, occlusion

Crop = Callable[[np.ndarray], np.ndarray]


def whole(frame: np.ndarray) -> np.ndarray:
    """Return the frame (H, W, ...) as it is: no border is cut."""
    return frame


class View:
    """One 8-bit frame, cropped and converted as a protocol demands.

    Args:
        frame: uint8 (H, W, 3) RGB.
        crop: cuts the border; flows are computed on the full frame and cropped afterwards.
        colour: "y" or "rgb", for fidelity.
        device: where networks run.

    Raises:
        InputError: the frame is not 8-bit RGB.
    """

    def __init__(self, frame: np.ndarray, *, crop: Crop = whole, colour: str = "y", device: str = "cpu"):
        self.full = check_frame(frame)
        self.frame = crop(frame)
        self.crop, self.colour, self.device = crop, colour, device
        self._features: dict[str, lpips.Features] = {}

    @functools.cached_property
    def plane(self) -> np.ndarray:
        """The cropped frame in the protocol's colour space, 8-bit levels: (H, W) or (H, W, 3)."""
        return COLOURS[self.colour](self.frame)

    @functools.cached_property
    def luma(self) -> np.ndarray:
        """The cropped frame's luma, (H, W) in [16, 235]."""
        return self.plane if self.colour == "y" else COLOURS["y"](self.frame)

    def features(self, name: str) -> lpips.Features:
        """Features of the cropped frame by the named network."""
        if name not in self._features:
            fill_features([self], name)
        return self._features[name]

    def forget(self, keep: Iterable[str] = ()) -> None:
        """Drop the features of every network but those in `keep`: VGG16's take hundreds of megabytes."""
        self._features = {name: value for name, value in self._features.items() if name in set(keep)}


def fill_features(views: Iterable[View], name: str) -> None:
    """Compute the features of several views by the named network as one batch.

    Raises:
        InputError: the frames are too small for the network.
    """
    views = list(views)
    perceptual.check_size(name, views[0].frame)
    features = perceptual.network(name, views[0].device).features([view.frame for view in views])
    for view, value in zip(views, features, strict=True):
        view._features[name] = value


class Pair:
    """A frame and the one before it."""

    def __init__(self, previous: View, current: View):
        self.previous, self.current = previous, current
        self._flows: dict[str, np.ndarray] = {}
        self._correspondences: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def flow(self, estimator: str) -> np.ndarray:
        """Flow from the previous frame to this one, on full frames: (2, H, W) pixels."""
        if estimator not in self._flows:
            self._flows[estimator] = flow.estimator(estimator)(self.previous.full, self.current.full)
        return self._flows[estimator]

    def correspondence(self, estimator: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Flow from this frame to the previous one (1, 2, H, W), and which pixels both show: (1, 1, H, W) bool."""
        if estimator not in self._correspondences:
            forward = torch.from_numpy(self.flow(estimator))[None]
            backward = torch.from_numpy(flow.estimator(estimator)(self.current.full, self.previous.full))[None]
            self._correspondences[estimator] = backward, occlusion(forward, backward) & inside(backward)
        return self._correspondences[estimator]

    def distance(self, name: str) -> float:
        """Perceptual distance between the two frames by the named network."""
        measuring = perceptual.network(name, self.current.device)
        return measuring.distance(self.previous.features(name), self.current.features(name))

    def floats(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Previous and current full frame as (1, 3, H, W) in [0, 1]."""
        return to_float(self.previous.full[None]), to_float(self.current.full[None])


def lockstep(clips: Mapping[str, Iterable[np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    """Yield the clips' frames side by side, one step at a time.

    Raises:
        InputError: one clip ends before another; the line says which and after how many frames.
    """
    ended = object()
    for count, frames in enumerate(itertools.zip_longest(*clips.values(), fillvalue=ended)):
        short = [name for name, frame in zip(clips, frames, strict=True) if frame is ended]
        if short:
            longer = next(name for name in clips if name not in short)
            raise InputError(f"{short[0]} ends after {count} frames, {longer} has more: give both the same frames")
        yield dict(zip(clips, frames, strict=True))
