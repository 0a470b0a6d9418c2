"""Windows of frames around a target, mirrored at a shot's ends, and overlapping windows of a stream of frames."""

import itertools
from collections.abc import Iterator

import numpy as np


def reflect(index: int, length: int) -> int:
    """Return the frame that replaces `index` beyond a clip's ends: mirrored, without repeating the end frame."""
    period = max(2 * (length - 1), 1)
    index = abs(index) % period
    return period - index if index >= length else index


def window_indices(centre: int, num_frames: int, length: int) -> list[int]:
    """Return the frames of the window around `centre`, mirrored at the clip's ends."""
    half = num_frames // 2
    return [reflect(centre + k, length) for k in range(-half, half + 1)]


def centred(shot: Iterator[np.ndarray], num_frames: int) -> Iterator[tuple[list[np.ndarray], list[int]]]:
    """Yield the window of `num_frames` around every frame, and its frames' indices in the shot; holds one window."""
    reach = num_frames // 2
    source = enumerate(shot)
    held: dict[int, np.ndarray] = {}
    length: int | None = None  # known when the stream ends
    for centre in itertools.count():
        while length is None and centre + reach not in held:
            following = next(source, None)
            if following is None:
                length = max(held, default=-1) + 1
            else:
                held[following[0]] = following[1]
        if centre == length:
            return
        indices = window_indices(centre, num_frames, length or centre + reach + 1)
        yield [held[index] for index in indices], indices
        held.pop(centre - reach, None)


def overlapping(shot: Iterator[np.ndarray], window: int, overlap: int) -> Iterator[tuple[list[np.ndarray], bool]]:
    """Yield windows of frames and whether more follow; each begins with the last `overlap` frames of the previous."""
    frames = list(itertools.islice(shot, window))
    while frames:
        following = list(itertools.islice(shot, window - overlap))
        yield frames, bool(following)
        frames = frames[len(frames) - overlap :] + following if following else []
