"""Pictures as arrays: boxes to look at, error maps, temporal profiles, flow colours.

Frames are uint8 (H, W, 3) RGB, clips uint8 (T, H, W, 3). NumPy arrays in and out, no drawing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import matplotlib
import numpy as np

from stvsr.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle of pixels: first row and column, height and width."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, frames: np.ndarray) -> np.ndarray:
        """Return the rectangle of (..., H, W, C) frames."""
        return frames[..., self.top : self.top + self.height, self.left : self.left + self.width, :]


def disagreement(results: Sequence[np.ndarray]) -> np.ndarray:
    """Return where results differ: (H, W) float, standard deviation of the luma over results, in 8-bit levels.

    Args:
        results: the same frame of two or more methods, uint8 (H, W, 3).
    """
    grey = np.stack([cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in results])
    return grey.astype(np.float32).std(axis=0)


def busiest_boxes(importance: np.ndarray, size: tuple[int, int], count: int = 2) -> list[Box]:
    """Return up to `count` separate boxes of `size` (height, width) with the largest mean of `importance` (H, W).

    Boxes larger than the picture are cut to it. Ties go to the topmost, then leftmost place, so that the choice is
    repeatable.
    """
    height, width = (min(wanted, there) for wanted, there in zip(size, importance.shape, strict=True))
    table = np.pad(importance.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    sums = table[height:, width:] - table[:-height, width:] - table[height:, :-width] + table[:-height, :-width]
    boxes: list[Box] = []
    while len(boxes) < count and np.isfinite(sums).any():
        top, left = (int(i) for i in np.unravel_index(np.argmax(np.round(sums, 6)), sums.shape))
        boxes.append(Box(top=top, left=left, height=height, width=width))
        sums[max(0, top - height + 1) : top + height, max(0, left - width + 1) : left + width] = -np.inf
    return boxes


def temporal_profile(clip: np.ndarray, *, row: int | None = None, column: int | None = None) -> np.ndarray:
    """Stack one row (or one column) of every frame: (T, W, 3) uint8, or (H, T, 3) for a column.

    Smooth motion draws straight, even stripes; flicker draws ragged ones (report, figure 7).

    Raises:
        InputError: neither or both of `row` and `column` are given.
    """
    if (row is None) == (column is None):
        raise InputError("a temporal profile follows either one row or one column: give one of them")
    return clip[:, row] if row is not None else np.swapaxes(clip[:, :, column], 0, 1)


def liveliest_row(clips: Iterable[np.ndarray]) -> int:
    """Return the row that changes most over time: mean over clips (T, H, W, 3) of one scene, borders left out."""
    # green stands for luma; 16 bits hold the difference of two 8-bit values
    change = [np.abs(np.diff(clip[..., 1].astype(np.int16), axis=0)).mean(axis=(0, 2)) for clip in clips]
    profile = np.mean(change, axis=0)
    margin = len(profile) // 10  # borders suffer from what lies outside the frame: not representative
    return margin + int(np.argmax(profile[margin : len(profile) - margin]))


def absolute_error(result: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return |result - truth| averaged over channels: (H, W) float, in 8-bit steps."""
    return np.abs(result.astype(np.float32) - truth.astype(np.float32)).mean(axis=-1)


def heat(values: np.ndarray, limit: float, name: str = "magma") -> np.ndarray:
    """Colour (H, W) values from 0 (dark) to `limit` (light) with a perceptually even map: uint8 (H, W, 3)."""
    share = np.clip(values / max(limit, 1e-9), 0, 1)
    return (matplotlib.colormaps[name](share)[..., :3] * 255).round().astype(np.uint8)


def flow_colours(flow: np.ndarray, limit: float) -> np.ndarray:
    """Colour a flow (2, H, W) in pixels: hue is the direction, saturation the speed up to `limit`; uint8 (H, W, 3)."""
    dx, dy = flow.astype(np.float32)
    hue = (np.degrees(np.arctan2(dy, dx)) % 360) / 2  # OpenCV keeps hues in 0..180
    speed = np.clip(np.hypot(dx, dy) / max(limit, 1e-9), 0, 1)
    hsv = np.stack([hue, speed * 255, np.full_like(hue, 255)], axis=-1)
    return cv2.cvtColor(hsv.round().astype(np.uint8), cv2.COLOR_HSV2RGB)


def flow_wheel(size: int) -> np.ndarray:
    """Return the legend of `flow_colours`: a uint8 (size, size, 3) disc, white at rest, full colour at the rim."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    flow = np.stack(np.meshgrid(axis, axis))
    wheel = flow_colours(flow, 1.0)
    wheel[np.hypot(*flow) > 1] = 255
    return wheel


def shared_limit(maps: Mapping[str, np.ndarray], share: float = 0.995) -> float:
    """Return one upper limit for several maps: the `share` quantile of all values, so that they compare by eye."""
    return float(np.quantile(np.concatenate([values.ravel() for values in maps.values()]), share))
