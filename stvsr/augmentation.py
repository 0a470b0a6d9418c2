"""One draw per septuplet: where it is cut from the clip, which of the 8 dihedral states, which direction of time.

Every frame of the septuplet gets the same draw; flow is estimated afterwards. The 2019 code drew flip, mirror and a
rotation by 180 degrees, which reach 4 of the 8 states, and never reversed time.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from stvsr.datasets import Clip, SampleConfig

MARGIN = 4  # LR pixels around a patch, so that its degradation equals that of the whole frame


@dataclass(frozen=True, kw_only=True)
class Draw:
    """start: first frame. top, left: LR pixels. transpose, flip_rows, flip_columns: dihedral state. reverse: of time."""

    start: int
    top: int
    left: int
    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False
    reverse: bool = False


def draw(rng: np.random.Generator, clip: "Clip", config: "SampleConfig") -> Draw:
    """Draw one augmentation. A clip shorter than the sample is read from its start, mirrored at its end."""
    spare = len(clip) - config.length
    start = int(rng.integers(0, spare + 1)) if spare >= 0 else spare // 2
    top = int(rng.integers(0, clip.height // config.scale - config.patch + 1))
    left = int(rng.integers(0, clip.width // config.scale - config.patch + 1))
    states = [bool(state) for state in rng.integers(0, 2, 4) * config.augment]
    if config.four_states:  # flip, mirror, and their product, the rotation by 180 degrees
        states[0] = states[3] = False
    return Draw(
        start=start, top=top, left=left, transpose=states[0], flip_rows=states[1], flip_columns=states[2], reverse=states[3]
    )


def apply(drawn: Draw, frames: np.ndarray, config: "SampleConfig") -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Cut the patch with a margin out of 8-bit frames (T, H, W, 3) and bring it into the drawn state.

    The margin lets a patch be degraded as the whole frame would be; at the frame's border there is none to have.

    Returns:
        Frames (T, H', W', 3) and the margins (top, bottom, left, right) in LR pixels.
    """
    scale, patch = config.scale, config.patch
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
