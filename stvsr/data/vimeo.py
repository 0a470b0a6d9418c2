"""Vimeo-90k septuplets, unpacked or in the published zip archive: index, splits and frames.

Xue et al., "Video Enhancement with Task-Oriented Flow", IJCV 2019. A root holds `sequences/00001/0001/im1.png` to
`im7.png` (91,701 septuplets of 448x256), `sep_trainlist.txt` (64,612 of them) and `sep_testlist.txt` (7,824).
"""

import codecs
import functools
import hashlib
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from stvsr.errors import InputError
from stvsr.runs.files import write_atomic

FRAMES, HEIGHT, WIDTH = 7, 256, 448
LISTS = {"train": "sep_trainlist.txt", "test": "sep_testlist.txt"}
UNLISTED = "unlisted"
HELD_OUT = 0.05  # share of the official training list that `validation` holds out of `train`
SPLITS = {"train": ("train",), "validation": ("train",), "test": ("test",), "official-train": ("train",),
          "official-test": ("test",), "all": ("train", "test")}  # the lists that each split reads  # fmt: skip


@dataclass(frozen=True, slots=True)
class FrameFiles(Sequence[Path]):
    """The paths of a septuplet's frames, made on demand: 91,701 septuplets of seven paths take 0.2 GB."""

    folder: str

    def __len__(self) -> int:
        return FRAMES

    def __getitem__(self, index: int) -> Path:  # type: ignore[override]  # no slices
        if not 0 <= index < FRAMES:
            raise IndexError(index)
        return Path(self.folder, f"im{index + 1}.png")


class ZippedImage(io.BytesIO):
    """An image file's bytes, read from an archive; `str` names the archive and the member."""

    def __init__(self, content: bytes, name: str):
        super().__init__(content)
        self.name = name

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, eq=False)
class ZippedFiles(Sequence[ZippedImage]):
    """A septuplet's frames in an archive, each read when it is asked for.

    places: (FRAMES, 3) offset of the member's header, compressed size in bytes, compression method.
    """

    archive: str
    name: str
    places: np.ndarray

    def __len__(self) -> int:
        return FRAMES

    def __getitem__(self, index: int) -> ZippedImage:  # type: ignore[override]
        if not 0 <= index < FRAMES:
            raise IndexError(index)
        member = f"{self.archive}: {self.name}/im{index + 1}.png"
        offset, size, method = self.places[index].tolist()
        if not size:
            raise InputError(f"{member} is missing or empty: download the archive again")
        with open(self.archive, "rb") as file:
            file.seek(offset)
            header = file.read(30)  # the local header repeats the name, with an extra field of another length
            file.seek(sum(struct.unpack("<HH", header[26:])), os.SEEK_CUR)
            content = file.read(size)
        try:
            return ZippedImage(zlib.decompress(content, -15) if method == zipfile.ZIP_DEFLATED else content, member)
        except zlib.error as error:
            raise InputError(f"{member} cannot be unpacked: {error}") from None


@dataclass(frozen=True, slots=True)
class Septuplet:
    """One septuplet. part: the official list it is in, train or test, or unlisted."""

    name: str
    part: str
    files: FrameFiles | ZippedFiles


def is_root(path: Path) -> bool:
    """Return whether a path is a Vimeo-90k root or an archive of one."""
    return path.suffix.lower() == ".zip" if path.is_file() else (path / "sequences").is_dir()


def septuplets(root: Path, split: str, cache: Path) -> list[Septuplet]:
    """Return the septuplets of a split, in the order of their list.

    Args:
        root: the unpacked folder or the zip archive.
        split: `train` and `validation` divide the official training list 95 to 5 by a hash of the name, `test` is the
            official test list; `official-train`, `official-test` and `all` are the lists as published;
            `report-train`, `report-validation`, `report-test` divide every septuplet, listed or not, 70-15-15 by the
            same hash, as the 2019 report does: 71% of the official test list is then in `report-train`.
        cache: where the index of an archive is kept.

    Raises:
        InputError: a list is missing, or names something outside `sequences`, or the archive is not of Vimeo-90k.
    """
    if split.startswith("report-"):
        names: Iterable[str] = every_name(root, cache)
        shares = {"report-train": (0.0, 0.70), "report-validation": (0.70, 0.85), "report-test": (0.85, 1.0)}
        low, high = shares[split]
    else:
        names = [name for part in SPLITS[split] for name in read_list(root, part, cache)]
        low, high = {"train": (0.0, 1 - HELD_OUT), "validation": (1 - HELD_OUT, 1.0)}.get(split, (0.0, 1.0))
    if (low, high) != (0.0, 1.0):
        names = [name for name in names if low <= fraction(name) < high]
    index = index_of(root, cache)
    return [index[name] if name in index else _unpacked(root, name, UNLISTED) for name in names]


def fraction(name: str) -> float:
    """Return a clip's place in [0, 1), from the SHA-256 of its name: adding clips never moves another."""
    return int(hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:12], 16) / 16**12


def read_list(root: Path, part: str, cache: Path) -> tuple[str, ...]:
    """Return the names in an official list, `train` or `test`."""
    if root.is_file():
        archive = _archive(root, cache)
        if not archive.lists[part]:
            raise InputError(f"{root} has no {LISTS[part]}: it is not the complete archive of Vimeo-90k septuplets")
        return archive.lists[part]
    path = root / LISTS[part]
    if not path.is_file():
        raise InputError(f"Vimeo-90k root {root} has no {path.name}: unpack the septuplet archive completely")
    return _read_list(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _read_list(path: Path, _changed: int) -> tuple[str, ...]:
    return _parsed(_decoded(path.read_bytes(), path))


def _decoded(data: bytes, source: Path) -> str:
    """Return a list's text: UTF-8 or UTF-16, with or without a byte order mark, as editors on Windows write it."""
    try:
        return data.decode("utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"Vimeo-90k list {source} is not UTF-8 text: save it as UTF-8") from None


def _parsed(text: str) -> tuple[str, ...]:
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    for name in names:
        if name[0] == "/" or ".." in name.split("/"):
            raise InputError(f"Vimeo-90k list names {name}: only folders below sequences are read")
    return names


def index_of(root: Path, cache: Path) -> dict[str, Septuplet]:
    """Return the listed septuplets by name; made once per process and root."""
    if root.is_file():
        return _zipped_index(_archive(root, cache))
    known = {part: read_list(root, part, cache) for part in LISTS if (root / LISTS[part]).is_file()}
    return _index(root, tuple(known.items()))


@functools.lru_cache(maxsize=4)
def _index(root: Path, lists: tuple[tuple[str, tuple[str, ...]], ...]) -> dict[str, Septuplet]:
    return {name: _unpacked(root, name, part) for part, names in lists for name in names}


def _unpacked(root: Path, name: str, part: str) -> Septuplet:
    return Septuplet(name, part, FrameFiles(f"{root}/sequences/{name}"))


def every_name(root: Path, cache: Path) -> list[str]:
    """Return the names of all septuplets that are there, listed or not, sorted."""
    if root.is_file():
        return sorted(_archive(root, cache).rows)
    return sorted(_folders(root))


def _folders(root: Path) -> Iterator[str]:
    """Yield the name of every septuplet folder below `sequences`."""
    for outer in sorted(os.scandir(root / "sequences"), key=lambda entry: entry.name):
        if outer.is_dir():
            yield from (f"{outer.name}/{inner.name}" for inner in os.scandir(outer) if inner.is_dir())


@dataclass(frozen=True, kw_only=True, eq=False)
class Archive:
    """Contents of a zip archive. rows: name -> row of `places`, (N, FRAMES, 3) as `ZippedFiles` takes them."""

    path: Path
    lists: dict[str, tuple[str, ...]]
    rows: dict[str, int]
    places: np.ndarray


@functools.lru_cache(maxsize=4)
def _zipped_index(archive: Archive) -> dict[str, Septuplet]:
    part = {name: part for part, names in archive.lists.items() for name in names}
    nowhere = np.zeros((FRAMES, 3), np.int64)
    rows = dict.fromkeys(part) | archive.rows
    return {
        name: Septuplet(
            name,
            part.get(name, UNLISTED),
            ZippedFiles(str(archive.path), name, nowhere if row is None else archive.places[row]),
        )
        for name, row in rows.items()
    }


def _archive(path: Path, cache: Path) -> Archive:
    state = path.stat()
    return _opened(path.resolve(), state.st_size, state.st_mtime_ns, cache)


@functools.lru_cache(maxsize=4)
def _opened(path: Path, size: int, changed: int, cache: Path) -> Archive:
    """Read an archive's directory, 642,000 members long, once; later processes read its digest from the cache."""
    key = hashlib.sha256(os.fsencode(f"{path} {size} {changed}")).hexdigest()[:32]
    stored = cache / f"{key}-vimeo.npz"
    if not stored.is_file():
        content: dict[str, Any] = _directory(path)  # Any: `savez` also has parameters that are not arrays
        write_atomic(stored, lambda file: np.savez(file, **content))
    with np.load(stored, allow_pickle=False) as file:
        lists = {part: tuple(file[part].tolist()) for part in LISTS}
        return Archive(
            path=path,
            lists=lists,
            rows={name: row for row, name in enumerate(file["names"].tolist())},
            places=file["places"],
        )


def _directory(path: Path) -> dict[str, np.ndarray]:
    """Return names, places and lists of an archive of septuplets."""
    lists: dict[str, tuple[str, ...]] = dict.fromkeys(LISTS, ())
    places: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                *_, outer, inner, frame = ("", "", "", *PurePosixPath(member.filename).parts)
                if frame[:2] == "im" and frame[3:] == ".png" and "1" <= frame[2] <= str(FRAMES):
                    place = places.setdefault(f"{outer}/{inner}", np.zeros((FRAMES, 3), np.int64))
                    place[int(frame[2]) - 1] = member.header_offset, member.compress_size, member.compress_type
                for part, name in LISTS.items():
                    if frame == name:
                        lists[part] = _parsed(archive.read(member).decode())
    except (zipfile.BadZipFile, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a zip archive: {error}") from None
    if not places:
        raise InputError(f"{path} holds no Vimeo-90k septuplets: sequences/00001/0001/im1.png and so on")
    names = sorted(places)
    return {"names": np.array(names), "places": np.stack([places[name] for name in names])} | {
        part: np.array(found, dtype=np.str_) for part, found in lists.items()
    }
