"""Augmentation: one random crop, dihedral state and direction of time per septuplet.

Every frame of a septuplet gets the same draw; flow is estimated afterwards. The 2019 code drew flip, mirror and a
rotation by 180 degrees, which reach 4 of the 8 dihedral states, and never reversed time.
"""

from dataclasses import dataclass

import numpy as np

MARGIN = 4  # LR pixels around a patch, so that its degradation equals that of the whole frame


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One augmentation.

    start: first frame. top, left: corner of the patch, LR pixels. transpose, flip_rows, flip_columns: dihedral state.
    reverse: play the frames backwards.
    """

    start: int
    top: int
    left: int
    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False
    reverse: bool = False


def draw(
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    *,
    length: int,
    patch: int,
    augment: bool = True,
    four_states: bool = False,
) -> Draw:
    """Draw one augmentation; a clip shorter than the sample is centred in it and mirrored at both ends.

    Args:
        rng: random number generator.
        shape: of the clip: frames, then LR height and width in pixels.
        length: frames per sample.
        patch: side of the LR patch, pixels.
        augment: draw a dihedral state and a direction of time; otherwise only crop.
        four_states: draw only the four states of the 2019 code, without reversing time.
    """
    frames, height, width = shape
    spare = frames - length
    start = int(rng.integers(0, spare + 1)) if spare >= 0 else spare // 2
    top = int(rng.integers(0, height - patch + 1))
    left = int(rng.integers(0, width - patch + 1))
    states = [bool(state) for state in rng.integers(0, 2, 4) * augment]
    if four_states:  # flip, mirror, and their product, the rotation by 180 degrees
        states[0] = states[3] = False
    return Draw(
        start=start,
        top=top,
        left=left,
        transpose=states[0],
        flip_rows=states[1],
        flip_columns=states[2],
        reverse=states[3],
    )


def apply(drawn: Draw, frames: np.ndarray, *, patch: int, scale: int) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Crop the patch with a margin from 8-bit frames (T, H, W, 3) and apply the dihedral state and direction of time.

    With the margin, degrading the patch gives the same pixels as degrading the whole frame; it ends at the border.

    Args:
        drawn: from `draw`.
        frames: uint8 (T, H, W, 3).
        patch: side of the LR patch, pixels.
        scale: HR over LR size.

    Returns:
        Frames (T, H', W', 3) and the margins (top, bottom, left, right) in LR pixels.
    """
    height, width = frames.shape[1] // scale, frames.shape[2] // scale
    top, left = min(MARGIN, drawn.top), min(MARGIN, drawn.left)
    bottom, right = min(MARGIN, height - drawn.top - patch), min(MARGIN, width - drawn.left - patch)
    rows = slice((drawn.top - top) * scale, (drawn.top + patch + bottom) * scale)
    columns = slice((drawn.left - left) * scale, (drawn.left + patch + right) * scale)
    frames = frames[:, rows, columns]
    if drawn.transpose:
        frames, (top, bottom, left, right) = frames.swapaxes(1, 2), (left, right, top, bottom)
    if drawn.flip_rows:
        frames, (top, bottom) = frames[:, ::-1], (bottom, top)
    if drawn.flip_columns:
        frames, (left, right) = frames[:, :, ::-1], (right, left)
    if drawn.reverse:
        frames = frames[::-1]
    return np.ascontiguousarray(frames), (top, bottom, left, right)
