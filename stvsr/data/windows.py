"""Windows of frames around a target, mirrored at a shot's ends, and overlapping windows of a stream."""

import itertools
from collections.abc import Iterator

import numpy as np


def reflect(index: int, length: int) -> int:
    """Return the frame that stands for `index` beyond a clip's ends: mirrored, the end frame not repeated."""
    period = max(2 * (length - 1), 1)
    index = abs(index) % period
    return period - index if index >= length else index


def window_indices(centre: int, num_frames: int, length: int) -> list[int]:
    """Return the frames of the window around `centre`, mirrored at the clip's ends."""
    half = num_frames // 2
    return [reflect(centre + k, length) for k in range(-half, half + 1)]


def centred(shot: Iterator[np.ndarray], num_frames: int) -> Iterator[tuple[list[np.ndarray], list[int]]]:
    """Yield every frame's window of `num_frames` and the frames' indices in the shot, holding one window at a time."""
    reach = num_frames // 2
    source, held, length = enumerate(shot), {}, None
    for centre in itertools.count():
        while length is None and centre + reach not in held:
            index, frame = next(source, (max(held, default=-1) + 1, None))
            if frame is None:
                length = index
            else:
                held[index] = frame
        if centre == length:
            return
        indices = window_indices(centre, num_frames, length or centre + reach + 1)
        yield [held[index] for index in indices], indices
        held.pop(centre - reach, None)


def overlapping(shot: Iterator[np.ndarray], window: int, overlap: int) -> Iterator[tuple[list[np.ndarray], bool]]:
    """Yield windows of frames, each beginning with the last `overlap` frames of the one before, and whether more follow."""
    frames = list(itertools.islice(shot, window))
    while frames:
        following = list(itertools.islice(shot, window - overlap))
        yield frames, bool(following)
        frames = frames[len(frames) - overlap :] + following if following else []
