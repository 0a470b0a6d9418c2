"""Find the cuts of a stream of frames while it passes, with a few frames of foresight."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

CONTEXT = 4  # changes on either side that `find_cuts` weighs a change against
THUMBNAIL = (64, 36)  # its working size; a smaller copy is all that is kept of a frame


def by_shot(frames: Iterable[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (number of the shot, frame) for uint8 (H, W, 3) frames; at most five frames are held.

    The cuts are those that `shots.find_cuts` finds in the whole clip: it looks at four changes around each.
    """
    thumbnails: deque[np.ndarray] = deque(maxlen=2 * CONTEXT + 2)
    waiting: deque[np.ndarray] = deque()
    shot = 0
    end: list[np.ndarray | None] = [None] * (CONTEXT + 1)
    for frame in itertools.chain(frames, end):
        if frame is not None:
            waiting.append(frame)
            thumbnails.append(cv2.resize(frame, THUMBNAIL, interpolation=cv2.INTER_AREA))
        if waiting and (frame is None or len(waiting) > CONTEXT + 1):
            yield shot, waiting.popleft()
            if waiting and _is_cut(thumbnails, len(thumbnails) - len(waiting)):
                shot += 1


def _is_cut(thumbnails: deque[np.ndarray], index: int) -> bool:
    """Tell whether a shot starts at `index`; most frames change too little to look any closer."""
    change = np.abs(thumbnails[index].astype(np.int16) - thumbnails[index - 1]).mean() / 255
    return change > LEAST_CHANGE and index in find_cuts(np.stack(thumbnails))


LEAST_CHANGE = 0.08  # of the range, mean over a frame: less is no cut


def find_cuts(frames: np.ndarray) -> list[int]:
    """Return the indices at which a new shot starts, in 8-bit frames (T, H, W, 3).

    A cut is a change that is large (8% of the range), three times the usual one around it, that also moves 15% of the
    colour histogram, and that stays: fast motion fails the second and third, a flash of one frame the last.
    """
    small = [cv2.resize(frame, (64, 36), interpolation=cv2.INTER_AREA) for frame in frames]
    change = np.array([_distance(a, b) for a, b in itertools.pairwise(small)])
    histogram = [np.stack([np.histogram(f[..., c], 16, (0, 256))[0] for c in range(3)]) / f[..., 0].size for f in small]
    moved = np.array([np.abs(a - b).sum() / 6 for a, b in itertools.pairwise(histogram)])
    cuts = []
    for i in range(len(change)):
        around = np.delete(change[max(0, i - 4) : i + 5], min(i, 4))
        usual = np.median(around) if len(around) else 0.0
        across = [(a, b) for a, b in ((i - 1, i + 1), (i, i + 2)) if a >= 0 and b < len(small)]
        stays = all(_distance(small[a], small[b]) > change[i] / 2 for a, b in across)
        if change[i] > max(LEAST_CHANGE, 3 * usual) and moved[i] > 0.15 and stays:
            cuts.append(i + 1)
    return cuts


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    return np.abs(first.astype(float) - second).mean() / 255
