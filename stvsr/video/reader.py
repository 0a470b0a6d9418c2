"""Open any clip: a video file, an animation, a frame folder or a single picture.

Frames are uint8 (H, W, 3) RGB everywhere. Reading: bit depths above 8 are reduced to 8 (16-bit pictures by rounding,
video by the decoder's library), grey is repeated over R, G and B, transparency is shown on black, EXIF and container
rotation are applied, YUV is converted by the matrix and range the file declares (undeclared: BT.709 from 720 lines or
1280 columns on, BT.601 below; limited range). Chroma is interpolated bicubically, bit-exactly on every machine.
"""

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np

from stvsr.errors import InputError
from stvsr.video.decoder import VideoReader
from stvsr.video.folders import IMAGE_SUFFIXES, VIDEO_SUFFIXES, image_files, natural, print_note, require_clip
from stvsr.video.frames import BrokenClip, FrameReader
from stvsr.video.pictures import find_animation, read_image
from stvsr.video.stills import FOLDER_RATE, AnimationReader, FolderReader

__all__ = ["FOLDER_RATE", "IMAGE_SUFFIXES", "VIDEO_SUFFIXES", "BrokenClip", "FrameReader", "image_files", "natural",
           "open_clip", "read_clip", "read_image"]  # fmt: skip


def open_clip(path: Path | str, *, rate: Fraction | None = None, strict: bool = False) -> FrameReader:
    """Open a video file, an animated WebP or PNG, a folder of PNG, WebP or JPEG frames in natural order, or one image.

    Args:
        rate: frames per second of a folder; a video file knows its own.
        strict: refuse a video with damaged or missing frames, after its last frame, instead of noting them.

    Raises:
        InputError: nothing is there, it holds no frames or cannot be decoded.
        BrokenClip: while iterating: a file that ends too early, or a frame of another size than the first.
    """
    path = Path(path)
    require_clip(path)
    if path.is_dir():
        return FolderReader(path, rate)
    if path.suffix.lower() not in (*IMAGE_SUFFIXES, ".apng"):
        return VideoReader(path, strict=strict)
    animation = find_animation(path)
    return FolderReader(path, rate) if animation is None else AnimationReader(path, animation)


def read_clip(path: Path | str, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Return frames start..stop-1 of a clip at once: uint8 (T, H, W, 3). Damage is noted on stderr.

    Raises:
        InputError: the clip cannot be read, or has no frame in the range.
    """
    with open_clip(path) as clip:
        before = len(clip.notes)
        frames = list(itertools.islice(clip, start, stop))
        for note in clip.notes[before:]:
            print_note(f"{path}: {note}")
    if not frames:
        raise InputError(f"{path} has no frames {start} to {stop}")
    return np.stack(frames)
