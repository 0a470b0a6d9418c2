"""Pictures and films as bytes: embedded in the page up to its budget, the rest in a folder next to it."""

import base64
import functools
import hashlib
import io
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from stvsr.runs.files import write_atomic
from stvsr.video.writer import write_video

SUFFIXES = {"image/webp": ".webp", "video/mp4": ".mp4", "text/html": ".html"}
OWN_FILE = re.compile(r"[0-9a-f]{16}\.(webp|mp4|html)")
CRF = 20
# The same bytes each time: one thread, and no B-frames or macroblock tree, whose lookahead in x264 reads past the end
# of small frames.
REPEATABLE = {"threads": "1", "g": "12", "bf": "0", "x264-params": "mbtree=0"}


@dataclass(frozen=True, kw_only=True)
class Item:
    """One picture, film or notebook. The lower its rank, the sooner it is embedded."""

    data: bytes
    mime: str
    rank: float

    @property
    def name(self) -> str:
        """A file name made from the content."""
        return hashlib.sha256(self.data).hexdigest()[:16] + SUFFIXES[self.mime]

    @property
    def uri(self) -> str:
        """The content as a data URI."""
        return f"data:{self.mime};base64,{base64.b64encode(self.data).decode()}"


def webp(frame: np.ndarray, *, lossless: bool = False, quality: int = 82) -> bytes:
    """Encode a frame, uint8 (H, W, 3), as WebP."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "webp", lossless=lossless, quality=100 if lossless else quality, method=2)
    return file.getvalue()


def h264(frames: np.ndarray, rate: int) -> bytes:
    """Encode frames, uint8 (T, H, W, 3), as an H.264 film in MP4, yuv420p, its index first so that it starts at once.

    An odd last row or column is repeated, because yuv420p, which every browser plays, needs even sides.
    """
    height, width = frames.shape[1:3]
    padded = np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    with tempfile.TemporaryDirectory() as folder:
        return write_video(Path(folder) / "film.mp4", padded, rate, crf=CRF, options=REPEATABLE).read_bytes()


def _write(data: bytes, file: IO[bytes]) -> None:
    file.write(data)


def placed(items: Iterable[Item], room: float) -> dict[str, str]:
    """Return {item name: where the page finds it}: a data URI while `room` bytes last, by rank; else `media/<name>`."""
    where: dict[str, str] = {}
    full = False
    for item in sorted(items, key=lambda item: (item.rank, item.name)):
        if item.name in where:
            continue
        size = len(item.data) * 4 / 3
        full = full or size > room  # nothing after the first that does not fit, so that what is embedded is a clean cut
        where[item.name] = f"media/{item.name}" if full else item.uri
        room -= 0 if full else size
    return where


def write_beside(items: Iterable[Item], where: dict[str, str], folder: Path) -> int:
    """Write the items that are not embedded into `folder`, remove those of earlier reports, and return their count."""
    wanted = {item.name: item for item in items if where[item.name].startswith("media/")}
    if folder.is_dir():
        for path in folder.iterdir():
            if OWN_FILE.fullmatch(path.name) and path.name not in wanted:
                path.unlink()
    for name, item in wanted.items():
        if not (folder / name).is_file():
            write_atomic(folder / name, functools.partial(_write, item.data))
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    return len(wanted)
