"""Folders of frames and folders of clips: which entries count, in which order, and what is left out.

Every command uses these rules, so that a folder means the same to all of them.
"""

import functools
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stvsr.errors import InputError

LOSSLESS_SUFFIXES = (".png", ".webp")
IMAGE_SUFFIXES = (*LOSSLESS_SUFFIXES, ".jpg", ".jpeg")
VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".mj2", ".insv", ".lrv", ".mkv", ".mk3d", ".webm", ".avi",
    ".divx", ".wmv", ".asf", ".flv", ".ts", ".m2ts", ".mts", ".m2t", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".mpv",
    ".vob", ".evo", ".mod", ".tod", ".mxf", ".gxf", ".ogv", ".ogm", ".ogx", ".rm", ".rmvb", ".dv", ".dif", ".y4m",
    ".gif", ".apng", ".nut", ".ivf", ".amv", ".h264", ".264", ".avc", ".h265", ".265", ".hevc", ".vvc", ".266", ".av1",
    ".obu", ".vc1", ".mjpeg", ".mjpg", ".wtv", ".swf", ".bik", ".smk", ".roq", ".nsv", ".dav",
)  # fmt: skip
SYSTEM_NAMES = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found",
                "system volume information", "__pycache__"}  # fmt: skip
NAMED = 8  # entries named in a note
OWN_STAMP = ".made-from"  # what an evaluation writes next to its frames: not worth a note


@dataclass(frozen=True, kw_only=True)
class ClipPaths:
    """The clips behind one path.

    paths: name (without suffix) -> video file or frame folder, in natural order. lone: the path itself is the clip.
    notes: sentences about what was left out.
    """

    paths: dict[str, Path]
    lone: bool
    notes: tuple[str, ...] = ()


def find_clips(path: Path, owner: str = "folder") -> ClipPaths:
    """Return the clips of a video file, a frame folder, or a folder of either; `owner` names the path in errors.

    A folder with clips and no more pictures than clips is a folder of clips: a stray cover or contact sheet is not a
    clip. A clip's folder that holds nothing but one folder of frames stands for that folder (Vid4/calendar/original).

    Raises:
        InputError: the path is missing or holds nothing usable, a clip's folder holds several folders of frames, or two
            clips have one name.
    """
    require_clip(path, owner)
    if path.is_file():
        return ClipPaths(paths={path.stem: path}, lone=True)
    entries, hidden = _visible(path)
    pictures = [entry for entry in entries if is_picture(entry)]
    clips = {entry: found for entry in entries if (found := _clip(entry, strict=not pictures))}
    if pictures and len(pictures) > len(clips):
        return ClipPaths(paths={path.name or path.resolve().name: path}, lone=True)
    if not clips:
        raise InputError(
            f"{owner} {path} has neither frames nor clips: give a video, a folder of PNG, WebP or JPEG frames, or a "
            "folder of those"
        )
    paths = {entry.name if entry.is_dir() else entry.stem: found for entry, found in clips.items()}
    if len(paths) < len(clips):
        raise InputError(f"{owner} {path} has a video and a folder, or two videos, of one name: keep one of each")
    others = left_out([*hidden, *(entry for entry in entries if entry not in clips)])
    nested = [f"clip {entry.name} is read from {found}" for entry, found in clips.items() if entry != found]
    return ClipPaths(paths=paths, lone=False, notes=(*(f"{path}: {note}" for note in others), *nested))


def require_clip(path: Path, owner: str = "") -> None:
    """Raise InputError unless a path is a file or a folder: reading from a pipe could wait for ever."""
    name = f"{owner} {path}".strip()
    try:
        there, usable = path.exists(), path.is_file() or path.is_dir()
    except (OSError, ValueError) as error:  # a name that is too long or holds a NUL
        raise InputError(f"{name!r} cannot be read: {error}") from None
    if not there:
        raise InputError(f"{name} does not exist")
    if not usable:
        raise InputError(f"{name} is neither a file nor a folder: give a video, a picture or a folder of them")


def is_picture(path: Path) -> bool:
    """Return whether a file is a frame by its suffix."""
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def image_files(folder: Path) -> list[Path]:
    """Return a folder's PNG, WebP and JPEG files in natural order; InputError when there is none."""
    return frame_files(folder)[0]


def frame_files(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Return a folder's frames in natural order, and notes about entries that were left out."""
    entries, hidden = _visible(folder)
    files = [entry for entry in entries if is_picture(entry)]
    if not files:
        raise InputError(f"folder {folder} has no {', '.join(IMAGE_SUFFIXES)} frames")
    return in_order(files), left_out([*hidden, *(entry for entry in entries if entry not in set(files))])


def in_order(files: Iterable[Path]) -> list[Path]:
    """Return files in natural order: 2 before 10, and 0.25 before 0.5 where every name is a decimal number."""
    files = list(files)
    parts = [re.fullmatch(r"(\D*)(\d+(?:\.\d+)?)", file.stem) for file in files]
    if all(parts) and any("." in part[2] for part in parts if part):
        values = [(part[1], float(part[2])) for part in parts if part]
        if len(set(values)) == len(files) and len({prefix for prefix, _ in values}) == 1:
            return [file for _, file in sorted(zip(values, files, strict=True))]
    return sorted(files, key=natural)


def natural(path: Path) -> list[tuple[int, int | str]]:
    """Return a sorting key under which frame2 comes before frame10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", path.name) if part]


def left_out(entries: Sequence[Path]) -> tuple[str, ...]:
    """Return a note that names the entries of a folder that are not used, none when there are none."""
    if not entries:
        return ()
    names = [entry.name for entry in entries[:NAMED]]
    more = f" and {len(entries) - NAMED} more" if len(entries) > NAMED else ""
    return (f"left out {', '.join(names)}{more}",)


@functools.cache
def print_note(line: str) -> None:
    """Print a note to stderr, each once per process."""
    print(f"note: {line}", file=sys.stderr, flush=True)


def _visible(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return a folder's entries in natural order, and those that the operating system or an editor left there."""
    entries = sorted((entry for entry in folder.iterdir() if entry.name != OWN_STAMP), key=natural)
    hidden = [entry for entry in entries if entry.name.startswith(".") or entry.name.lower() in SYSTEM_NAMES]
    return [entry for entry in entries if entry not in set(hidden)], hidden


def _clip(entry: Path, *, strict: bool) -> Path | None:
    """Return the video or frame folder that an entry stands for; `strict` refuses several inner folders of frames."""
    if not entry.is_dir():
        return entry if entry.suffix.lower() in VIDEO_SUFFIXES and entry.is_file() else None
    if _has_frames(entry):
        return entry
    inner = [folder for folder in _visible(entry)[0] if folder.is_dir() and _has_frames(folder)]
    if len(inner) > 1 and strict:
        names = ", ".join(folder.name for folder in inner[:NAMED])
        raise InputError(
            f"{entry} holds no frames but the folders {names}{', ...' if len(inner) > NAMED else ''}: give "
            f"{entry} itself if those are the clips, or leave one folder of frames in each clip's folder"
        )
    return inner[0] if len(inner) == 1 else None


def _has_frames(folder: Path) -> bool:
    return any(is_picture(entry) for entry in _visible(folder)[0])
