"""Decoded videos, kept on disk: written frame by frame, mapped into memory when read, with a checksum.

For each file content and size the cache holds `KEY.npy` (uint8 frames, T x H x W x 3) and `KEY.json` (checksum, cuts).
The checksum is compared once per process; what is damaged is decoded again. The cache may be deleted at any time.
"""

import functools
import io
import os
import shutil
import sys
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from stvsr.data.shots import by_shot
from stvsr.degradation import resize, to_float, to_uint8
from stvsr.errors import InputError
from stvsr.runs.files import read_json, write_atomic, write_json
from stvsr.runs.hashes import digest
from stvsr.video.folders import print_note
from stvsr.video.reader import FrameReader, open_clip

ANNOUNCED = 500_000_000  # bytes: larger files are announced before they are decoded
BLOCK = 2**20  # bytes read at a time for the checksum


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """frames: uint8 (T, H, W, 3), memory-mapped. cuts: indices of frames at which a new shot starts."""

    frames: np.ndarray
    cuts: tuple[int, ...]


def cache_folder() -> Path:
    """Return where decoded clips are kept: $STVSR_CACHE, or `stvsr` in the user's cache folder. Safe to delete.

    Raises:
        InputError: the folder cannot be made or written.
    """
    folder = Path(os.environ.get("STVSR_CACHE") or "~/.cache/stvsr")
    try:
        if not os.environ.get("STVSR_CACHE"):
            folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stvsr"
        folder.mkdir(parents=True, exist_ok=True)
    except RuntimeError as error:  # the user has no home
        raise _unwritable(folder, str(error)) from None
    except OSError as error:
        raise _unwritable(folder, str(error.strerror)) from None
    return folder


@functools.lru_cache(maxsize=256)
def decoded(path: Path, shrink: float) -> Decoded:
    """Return the frames of a video from the cache, which is filled once per file content and size.

    Args:
        path: video file.
        shrink: factor by which height and width are divided (bicubic, antialiased), 1.0 for none; only then are there
            cuts.

    Raises:
        InputError: the video cannot be read, or the cache cannot be written or has no space.
    """
    stored = cache_folder() / f"{digest(path)[:32]}-{shrink:g}.npy"
    if (found := _read(stored)) is not None:
        return found
    try:
        if shrink == 1:
            with open_clip(path) as clip:
                _announce(clip, stored.parent)
                before = len(clip.notes)
                _write(stored, by_shot(clip))
                for note in clip.notes[before:]:
                    print_note(f"{path}: {note}")
        else:
            whole = decoded(path, 1.0)
            _write(stored, ((0, shrunk(frame[None], shrink)[0]) for frame in whole.frames))
    except OSError as error:
        raise _unwritable(stored.parent, error.strerror or str(error)) from None
    except InputError as error:
        if isinstance(error.__cause__, OSError) and str(stored) in str(error):
            raise _unwritable(stored.parent, str(error.__cause__.strerror)) from None
        raise
    if (found := _read(stored)) is None:
        raise _unwritable(stored.parent, "what was written cannot be read back")
    return found


def shrunk(frames: np.ndarray, factor: float) -> np.ndarray:
    """Return 8-bit frames (T, H, W, 3) with height and width divided by `factor` (bicubic, antialiased)."""
    if factor == 1:
        return frames
    height, width = int(frames.shape[1] / factor), int(frames.shape[2] / factor)
    return np.concatenate([to_uint8(resize(to_float(frame[None]), height, width)) for frame in frames])


def _read(stored: Path) -> Decoded | None:
    """Return what is in the cache; None when it is missing or damaged."""
    note = stored.with_suffix(".json")
    if not (stored.is_file() and note.is_file()):
        return None
    try:
        said = read_json(note)
        if said["crc32"] != _checksum(stored):
            raise InputError(f"{stored} differs from its checksum")
        frames = np.load(stored, mmap_mode="r", allow_pickle=False)
        return Decoded(frames=frames, cuts=tuple(said["cuts"]))
    except (InputError, KeyError, OSError, TypeError, ValueError):
        print(f"note: {stored} is damaged: decoding again", file=sys.stderr)
        return None


def _write(stored: Path, frames: Iterable[tuple[int, np.ndarray]]) -> None:
    """Write (number of the shot, frame) pairs one by one, then the note with checksum and cuts."""
    cuts: list[int] = []

    def write(file: IO[bytes]) -> None:
        count, before, shape = 0, 0, (0, 0, 0)
        for shot, frame in frames:
            if not count:
                shape = frame.shape
                file.write(_header(0, shape))
            if shot != before:
                cuts.append(count)
                before = shot
            file.write(np.ascontiguousarray(frame).data)
            count += 1
        file.seek(0)
        file.write(_header(count, shape))  # of the same length as the first: NumPy leaves room for a growing axis

    note = stored.with_suffix(".json")
    note.unlink(missing_ok=True)
    write_atomic(stored, write, durable=False)
    write_json(note, {"crc32": _checksum(stored), "cuts": cuts})


def _header(count: int, shape: tuple[int, ...]) -> bytes:
    written = io.BytesIO()
    np.lib.format.write_array_header_1_0(written, {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)})
    return written.getvalue()


def _checksum(path: Path) -> int:
    """Return the CRC-32 of a file: enough against damage, and about as fast as the disk."""
    found = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            found = zlib.crc32(block, found)
    return found


def _announce(clip: FrameReader, folder: Path) -> None:
    """Print how much disk a large video takes; refuse one that does not fit."""
    count = clip.length or (clip.seconds and clip.rate and round(clip.seconds * clip.rate)) or 0
    height, width = clip.size
    size, free = count * height * width * 3, shutil.disk_usage(folder).free
    if size > free:
        raise _unwritable(folder, f"{clip.path.name} takes {size / 1e9:.1f} GB decoded, {free / 1e9:.1f} GB are free")
    if size > ANNOUNCED:
        print(f"decoding {clip.path.name} into {folder}: about {size / 1e9:.1f} GB of disk", file=sys.stderr)


def _unwritable(folder: Path, why: str) -> InputError:
    return InputError(f"the cache of decoded clips {folder} cannot be used ({why}): set STVSR_CACHE to another folder")
