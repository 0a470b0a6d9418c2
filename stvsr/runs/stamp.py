"""Stamps: what a result was made from and what it consists of, to decide whether it is up to date.

A stamp is {"made_from": any JSON value, "made": {file or folder: hash}}. Step records, trainings and evaluation notes
all use `make_stamp` to compute one and `why_stale` to check one. docs/what-is-redone.md says what goes into each.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from stvsr.errors import InputError
from stvsr.runs.files import read_json
from stvsr.runs.hashes import digest

LARGE = 256 * 2**20  # bytes: larger folders are identified by names, sizes and times instead of content
SHORT = 40  # characters: longer values are not repeated in a reason


def make_stamp(made_from: object, folder: Path | None = None, names: Iterable[str] = ()) -> dict:
    """Return the stamp of a result that was made from a JSON value and consists of entries `names` of `folder`."""
    return {"made_from": made_from, "made": {name: contents(folder / name) for name in names} if folder else {}}


def read_stamp(path: Path) -> dict:
    """Return a stored stamp; empty when the file is missing or holds something else."""
    try:
        return read_json(path)
    except InputError:
        return {}


def why_stale(stamp: dict, made_from: object, folder: Path) -> str:
    """Return in words why a result must be made again; empty when it is up to date.

    Args:
        stamp: from `read_stamp` or `make_stamp`.
        made_from: what the result would be made from now.
        folder: where the result's files are.
    """
    if "made_from" not in stamp:
        return "no record of what it was made from"
    if changes := list(differences(stamp["made_from"], made_from)):
        return ", ".join(changes)
    return damage(stamp, folder)


def damage(stamp: dict, folder: Path) -> str:
    """Return which of a result's files are missing or changed, in words; empty when all are as they were made."""
    found = []
    for name, expected in stamp.get("made", {}).items():
        path = folder / name
        if not path.exists():
            found.append(f"{name} is missing")
        elif contents(path, by_times=expected.startswith("times:")) != expected:
            found.append(f"{name} is not as it was made")
    return ", ".join(found)


def differences(before: object, now: object, name: str = "") -> Iterator[str]:
    """Yield one phrase for each part in which two JSON values differ: `optim.steps 4 -> 5`."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            yield from differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif before != now:
        words = f"{before!r} -> {now!r}"
        yield f"{name or 'the input'} {words if len(words) <= SHORT else 'changed'}"


def products(folder: Path) -> list[str]:
    """Return the entries of a step's folder that count as its result, sorted.

    Hidden entries, the record itself and TensorBoard's events (a copy of the log) do not.
    """
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if not entry.name.startswith(".") and entry.name not in ("step.json", "tensorboard")
    )


def contents(path: Path, *, by_times: bool = False) -> str:
    """Return the SHA-256 of a file, or of a folder's files; of names, sizes and times where the folder is large."""
    if path.is_file():
        return digest(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    stats = [file.stat() for file in files]
    if by_times or sum(stat.st_size for stat in stats) > LARGE:
        lines = [f"{file.relative_to(path)} {s.st_size} {s.st_mtime_ns}" for file, s in zip(files, stats, strict=True)]
        return "times:" + hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
    lines = [f"{file.relative_to(path)} {digest(file)}" for file in files]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()
