"""Clips of every kind behind one notion, their shots and splits, and the septuplets drawn from them.

A clip is a run of frames with no cut in it: a Vimeo-90k septuplet, a folder of frames (Vid4), one shot of a video file.
"""

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
from stvsr.data import vimeo
from stvsr.data.decoded import cache_folder, decoded, shrunk
from stvsr.data.vimeo import ZippedImage
from stvsr.errors import InputError, unknown
from stvsr.runs.hashes import digest
from stvsr.video.folders import IMAGE_SUFFIXES, find_clips, image_files, print_note
from stvsr.video.pictures import find_animation, read_picture
from stvsr.video.reader import read_image

SAMPLES = ("bikes", "bigbuckbunny", "carphone", "night-city")
HELD_OUT = ("night-city",)  # samples that are only for evaluation: all of their shots belong to the test split
SPLITS = {"train": 0.70, "validation": 0.85, "test": 1.0}  # the report's 70-15-15, as where each part ends
ALL_SPLITS = (*SPLITS, *(f"report-{split}" for split in SPLITS), "official-train", "official-test", "all")
VALIDATED_BY = {"train": "validation", "report-train": "report-validation"}  # the others leave no clip for it
SHORTEST_SHOT = 7


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A run of frames without a cut.

    name: identifier, unique in a data set. height, width: HR size in pixels. `files` for a folder of frames, one path
    each; otherwise `source` is a video file and the clip is its frames start..stop-1. `shrink` divides the HR size
    first (more texture per clip in training). `part`: of a Vimeo-90k septuplet, its list: train, test or unlisted.
    """

    name: str
    source: Path
    height: int
    width: int
    start: int
    stop: int
    files: Sequence[Path] | Sequence[ZippedImage] = ()
    shrink: float = 1.0
    part: str = ""

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
        return hashlib.sha256("".join(_digest(file) for file in self.files).encode()).hexdigest()

    def identity(self) -> str:
        """Return what tells a generator's training clips from others, cheaply: 12 hexadecimal digits.

        The hash of a Vimeo-90k septuplet's official name, else of the video's content and the first frame's index, or
        of the first frame's file. Renaming or moving a clip changes nothing, nor does shrinking it; encoding it again
        does.
        """
        if self.part:
            known = f"vimeo-90k {self.name if self.shrink == 1 else self.name.rpartition('/')[0]}"
        elif self.files:
            known = _digest(self.files[self.start])
        else:
            known = f"{_digest(self.source)} {self.start}"
        return hashlib.sha256(known.encode()).hexdigest()[:12]


def _digest(file: Path | ZippedImage) -> str:
    if isinstance(file, ZippedImage):
        return hashlib.sha256(file.getvalue()).hexdigest()
    state = file.stat()
    return _digest_of(file, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=64)  # the shots of a video share its file
def _digest_of(file: Path, _size: int, _changed: int) -> str:
    return digest(file)


def load_clips(data: str | Sequence[str], split: str = "all") -> list[Clip]:
    """Return the clips of one or more data sets, sorted by name, cut at shots.

    Args:
        data: `samples`, `samples:bikes` (one of them), `samples:bikes-03` (a shot), a video file, a folder of frames, a
            folder of either, a Vimeo-90k root or its zip archive; or several of them. `SOURCE@SPLIT` sets the split of
            one source.
        split: `train`, `validation` or `test`: 70-15-15 by name (`split_of`), but of Vimeo-90k the official training
            list, 95 to 5, and the official test list; `report-train`, `report-validation` or `report-test`: 70-15-15
            of Vimeo-90k too, as in the 2019 report; `official-train` or `official-test`: Vimeo-90k's lists; or `all`.

    Raises:
        InputError: something is missing, empty, or the split leaves no clip.
    """
    clips = []
    for source in [data] if isinstance(data, str) else data:
        path, own = split_source(source)
        part = own or split
        if part not in ALL_SPLITS:
            raise unknown("split", part, ALL_SPLITS)
        root = Path(path).expanduser()
        if vimeo.is_root(root):
            clips += [_septuplet(root, found) for found in vimeo.septuplets(root, part, cache_folder())]
            continue
        if part.startswith("official-"):
            raise InputError(f"split {part} is one of Vimeo-90k's lists, {path} has none: use train, test or all")
        wanted = part.removeprefix("report-")
        clips += [clip for clip in _find(path) if wanted == "all" or split_of(clip.name) == wanted]
    if not clips:
        raise InputError(f"no clip is left of {data} in split {split}: add clips or use split all")
    return sorted(clips, key=lambda clip: clip.name)


def load_validation(data: Sequence[str], split: str, validation: Sequence[str] = ()) -> list[Clip]:
    """Return the clips that validate a training on `split` of `data`: those of `validation` where it is given.

    Otherwise `train` and `report-train` are validated by the split of that name; other splits leave nothing.

    Raises:
        InputError: as `load_clips`; or nothing validates a source, because its split has no counterpart.
    """
    if validation:
        return load_clips(validation)
    clips = []
    for source in data:
        path, own = split_source(source)
        if (own or split) not in VALIDATED_BY:
            raise InputError(
                f"split {own or split} leaves nothing of {path} to validate on: "
                "name sources in validation, or use split train"
            )
        clips += load_clips(f"{path}@{VALIDATED_BY[own or split]}")
    return sorted(clips, key=lambda clip: clip.name)


def split_source(source: str) -> tuple[str, str]:
    """Divide `SOURCE@SPLIT` into both; the second is empty where none is named (a path may itself hold an @)."""
    path, _, own = source.rpartition("@")
    return (path, own) if path and own in ALL_SPLITS else (source, "")


def split_of(name: str) -> str:
    """Return `train`, `validation` or `test` for a clip: its name's SHA-256 as a fraction, cut at 0.70 and 0.85.

    The split of a clip depends on nothing but its name, so that adding clips never moves one from test to train.
    Shots of the samples in `HELD_OUT` always belong to `test`.
    """
    if name.rpartition("-")[0] in HELD_OUT:
        return "test"
    place = vimeo.fraction(name)
    return next(split for split, end in SPLITS.items() if place < end)


def clips_table(clips: Sequence[Clip]) -> pd.DataFrame:
    """Return a table of clips: name, frames, size, split by name, source file or folder."""
    rows = [
        (c.name, len(c), f"{c.width}x{c.height}", c.part or split_of(c.name), c.source.name, c.start) for c in clips
    ]
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


def _find(source: str) -> list[Clip]:
    if source == "samples" or source.startswith("samples:"):
        return _samples(source.removeprefix("samples").removeprefix(":"))
    path = Path(source).expanduser()
    if not _exists(path):
        raise InputError(f"data {source} does not exist: give a video, a folder of frames or clips, or samples")
    if not (path.is_file() or path.is_dir()):
        raise InputError(f"data {source} is neither a file nor a folder: give a video, or a folder of frames or clips")
    found = find_clips(path, "data")
    for note in found.notes:
        print_note(note)
    return [clip for name, entry in found.paths.items() for clip in _entry(entry, name)]


def _samples(named: str) -> list[Clip]:
    """Return the shots of all samples, of one (`bikes`), or one shot (`bikes-03`)."""
    film = named.rpartition("-")[0]
    one_shot = named not in SAMPLES and film in SAMPLES
    names = SAMPLES if not named else (film if one_shot else named,)
    clips = [clip for name in names for clip in _shots(assets.locate(name), name)]
    if not one_shot:
        return clips
    if not (found := [clip for clip in clips if clip.name == named]):
        raise unknown("sample", named, [clip.name for clip in clips])
    return found


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long or holds a NUL
        return False


def _entry(entry: Path, name: str) -> list[Clip]:
    still = entry.suffix.lower() in IMAGE_SUFFIXES and not find_animation(entry)
    return [_folder(entry, name)] if still or entry.is_dir() else _shots(entry, name)


def _folder(path: Path, name: str) -> Clip:
    files = tuple(image_files(path)) if path.is_dir() else (path,)
    height, width = _size(path, files)
    return Clip(name=name, source=path, height=height, width=width, start=0, stop=len(files), files=files)


def _size(path: Path, files: Sequence[Path]) -> tuple[int, int]:
    """Return the height and width of the first frame that can be read; the error of the first where none can."""
    failed: InputError | None = None
    for file in files:
        try:
            first = read_picture(file)
        except InputError as error:
            failed = failed or error
            continue
        for note in first.notes:
            print_note(f"{path}: {note}")
        height, width, _ = first.pixels.shape
        return height, width
    raise failed or InputError(f"{path} has no frames")


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


def _septuplet(root: Path, found: vimeo.Septuplet) -> Clip:
    return Clip(
        name=found.name,
        source=root,
        height=vimeo.HEIGHT,
        width=vimeo.WIDTH,
        start=0,
        stop=vimeo.FRAMES,
        files=found.files,
        part=found.part,
    )
