"""Clips of every kind behind one notion, their shots and splits, and the septuplets drawn from them.

A clip is a run of frames with no cut in it: a Vimeo-90k septuplet, a folder of frames (Vid4), one shot of a video file.
"""

import codecs
import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stvsr import assets
from stvsr.data.decoded import decoded, shrunk
from stvsr.errors import InputError
from stvsr.runs.hashes import digest
from stvsr.video.folders import IMAGE_SUFFIXES, find_clips, image_files, print_note
from stvsr.video.reader import read_image

SAMPLES = ("bikes", "bigbuckbunny", "carphone", "night-city")
HELD_OUT = ("night-city",)  # samples that are only for evaluation: all of their shots belong to the test split
SPLITS = {"train": 0.70, "validation": 0.85, "test": 1.0}  # the report's 70-15-15, as where each part ends
ALL_SPLITS = (*SPLITS, "official-train", "official-test", "all")
SHORTEST_SHOT = 7


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A run of frames without a cut.

    name: identifier, unique in a data set. height, width: HR size in pixels. `files` for a folder of frames, one path
    each; otherwise `source` is a video file and the clip is its frames start..stop-1. `shrink` divides the HR size
    first (more texture per clip in training).
    """

    name: str
    source: Path
    height: int
    width: int
    start: int
    stop: int
    files: tuple[Path, ...] = ()
    shrink: float = 1.0

    def __len__(self) -> int:
        return self.stop - self.start

    def frames(self, indices: Sequence[int] | None = None) -> np.ndarray:
        """Return 8-bit RGB frames (T, H, W, 3), all of them or those at `indices` (0-based in the clip)."""
        indices = range(len(self)) if indices is None else indices
        if not self.files:
            return decoded(self.source, self.shrink).frames[[self.start + i for i in indices]]
        files = [self.files[self.start + i] for i in indices]
        frames = [read_image(file) for file in files]
        height, width = (self.height, self.width) if self.shrink == 1 else frames[0].shape[:2]
        for file, frame in zip(files, frames, strict=True):
            if frame.shape[:2] != (height, width):
                tall, wide = frame.shape[:2]
                raise InputError(f"{file} is {wide}x{tall}, its clip is {width}x{height}: make all frames of one size")
        return shrunk(np.stack(frames), self.shrink)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the file, or of the frames' files in order."""
        if not self.files:
            return digest(self.source)
        return hashlib.sha256("".join(digest(file) for file in self.files).encode()).hexdigest()


def load_clips(data: str | Sequence[str], split: str = "all") -> list[Clip]:
    """Return the clips of one or more data sets, sorted by name, cut at shots.

    Args:
        data: `samples`, `samples:NAME`, a video file, a folder of frames, a folder of either, or a Vimeo-90k root;
            or several of them. `SOURCE@SPLIT` gives one source a split of its own.
        split: `train`, `validation` or `test` (70-15-15, see `split_of`), `official-train` or `official-test`
            (Vimeo-90k's lists), or `all`.

    Raises:
        InputError: something is missing, empty, or the split leaves no clip.
    """
    clips = []
    for source in [data] if isinstance(data, str) else data:
        path, own = split_source(source)
        part = own or split
        if part not in ALL_SPLITS:
            raise InputError(f"split {part!r} is unknown: choose from {', '.join(ALL_SPLITS)}")
        clips += [clip for clip in _find(path, part) if part not in SPLITS or split_of(clip.name) == part]
    if not clips:
        raise InputError(f"no clip is left of {data} in split {split}: add clips or use split all")
    return sorted(clips, key=lambda clip: clip.name)


def split_source(source: str) -> tuple[str, str]:
    """Divide `SOURCE@SPLIT` into both; the second is empty where none is named (a path may hold an @ of its own)."""
    path, _, own = source.rpartition("@")
    return (path, own) if path and own in ALL_SPLITS else (source, "")


def split_of(name: str) -> str:
    """Return `train`, `validation` or `test` for a clip: its name's SHA-256 as a fraction, cut at 0.70 and 0.85.

    The split of a clip depends on nothing but its name, so that adding clips never moves one from test to train.
    Shots of the samples in `HELD_OUT` always belong to `test`.
    """
    if name.rpartition("-")[0] in HELD_OUT:
        return "test"
    fraction = int(hashlib.sha256(name.encode()).hexdigest()[:12], 16) / 16**12
    return next(split for split, end in SPLITS.items() if fraction < end)


def describe(clips: Sequence[Clip]) -> pd.DataFrame:
    """Return a table of clips: name, frames, size, split by name, source file or folder."""
    rows = [(c.name, len(c), f"{c.width}x{c.height}", split_of(c.name), c.source.name, c.start) for c in clips]
    return pd.DataFrame(rows, columns=["clip", "frames", "size", "split", "source", "first frame"])


def select_clips(clips: Sequence[Clip], names: Sequence[str]) -> list[Clip]:
    """Return the clips of these names; InputError names a missing one and lists what there is."""
    known = {clip.name: clip for clip in clips}
    for name in names:
        if name not in known:
            raise InputError(f"clip {name} is missing: there are {', '.join(known)}")
    return [known[name] for name in names]


def shrink_clip(clip: Clip, factor: float) -> Clip:
    """Return the clip with its HR size divided by `factor` (bicubic, antialiased)."""
    if factor == 1:
        return clip
    height, width = int(clip.height / factor), int(clip.width / factor)
    return dataclasses.replace(clip, name=f"{clip.name}/{factor:g}", height=height, width=width, shrink=factor)


def _find(source: str, split: str) -> list[Clip]:
    if source == "samples" or source.startswith("samples:"):
        names = SAMPLES if source == "samples" else (source.removeprefix("samples:"),)
        return [clip for name in names for clip in _shots(assets.locate(name), name)]
    path = Path(source).expanduser()
    if not _exists(path):
        raise InputError(f"data {source} does not exist: give a video, a folder of frames or clips, or samples")
    if not (path.is_file() or path.is_dir()):
        raise InputError(f"data {source} is neither a file nor a folder: give a video, or a folder of frames or clips")
    if (path / "sequences").is_dir():
        return _vimeo(path, split)
    found = find_clips(path, "data")
    for note in found.notes:
        print_note(note)
    return [clip for name, entry in found.paths.items() for clip in _entry(entry, name)]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long or holds a NUL
        return False


def _entry(entry: Path, name: str) -> list[Clip]:
    return [_folder(entry, name)] if entry.is_dir() or entry.suffix.lower() in IMAGE_SUFFIXES else _shots(entry, name)


def _folder(path: Path, name: str) -> Clip:
    files = tuple(image_files(path)) if path.is_dir() else (path,)
    height, width, _ = read_image(files[0]).shape
    return Clip(name=name, source=path, height=height, width=width, start=0, stop=len(files), files=files)


def _shots(path: Path, name: str) -> list[Clip]:
    """Cut a video into shots, without those of fewer than seven frames (a septuplet) unless one is the whole file."""
    video = decoded(path, 1.0)
    length, height, width, _ = video.frames.shape
    clip = functools.partial(Clip, source=path, height=height, width=width)
    if not video.cuts:
        return [clip(name=name, start=0, stop=length)]
    edges = itertools.pairwise([0, *video.cuts, length])
    spans = [(start, stop) for start, stop in edges if stop - start >= SHORTEST_SHOT]
    return [clip(name=f"{name}-{i:02d}", start=start, stop=stop) for i, (start, stop) in enumerate(spans)]


def _vimeo(root: Path, split: str) -> list[Clip]:
    lists = {"official-train": ["sep_trainlist.txt"], "official-test": ["sep_testlist.txt"]}
    names = lists.get(split, ["sep_trainlist.txt", "sep_testlist.txt"])
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise InputError(f"Vimeo-90k root {root} has no {missing[0]}: unpack the septuplet archive completely")
    lines = [line.strip() for name in names for line in _read_list(root / name).splitlines() if line.strip()]
    return [_septuplet(root, line) for line in lines]


def _read_list(path: Path) -> str:
    """Return a list's text: UTF-8 or UTF-16, with or without a byte order mark, as editors on Windows write it."""
    data = path.read_bytes()
    try:
        return data.decode("utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"Vimeo-90k list {path} is not UTF-8 text: save it as UTF-8") from None


def _septuplet(root: Path, line: str) -> Clip:
    folder = root / "sequences" / line
    if ".." in Path(line).parts or Path(line).is_absolute():
        raise InputError(f"Vimeo-90k list names {line}: only folders below sequences are read")
    files = tuple(folder / f"im{i}.png" for i in range(1, 8))
    height, width = 256, 448
    return Clip(name=line, source=folder, height=height, width=width, start=0, stop=7, files=files)
