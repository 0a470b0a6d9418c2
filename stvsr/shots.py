"""Find the cuts of a stream of frames while it passes, with a few frames of foresight."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from stvsr.datasets import LEAST_CHANGE, find_cuts

CONTEXT = 4  # changes on either side that `find_cuts` weighs a change against
THUMBNAIL = (64, 36)  # its working size; a smaller copy is all that is kept of a frame


def by_shot(frames: Iterable[np.ndarray]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (number of the shot, frame) for uint8 (H, W, 3) frames; at most five frames are held.

    The cuts are those that `datasets.find_cuts` finds in the whole clip: it looks at four changes around each.
    """
    thumbnails: deque[np.ndarray] = deque(maxlen=2 * CONTEXT + 2)
    waiting: deque[np.ndarray] = deque()
    shot, end = 0, object()
    for frame in itertools.chain(frames, [end] * (CONTEXT + 1)):
        if frame is not end:
            waiting.append(frame)
            thumbnails.append(cv2.resize(frame, THUMBNAIL, interpolation=cv2.INTER_AREA))
        if waiting and (frame is end or len(waiting) > CONTEXT + 1):
            yield shot, waiting.popleft()
            if waiting and _is_cut(thumbnails, len(thumbnails) - len(waiting)):
                shot += 1


def _is_cut(thumbnails: deque[np.ndarray], index: int) -> bool:
    """Tell whether a shot starts at `index`; most frames change too little to look any closer."""
    change = np.abs(thumbnails[index].astype(np.int16) - thumbnails[index - 1]).mean() / 255
    return change > LEAST_CHANGE and index in find_cuts(np.stack(thumbnails))
