"""Results that no longer fit are moved aside with a note; nothing that was trained is deleted."""

import fnmatch
import time
from collections.abc import Iterable
from pathlib import Path

from stvsr.runs.files import write_text

PREFIX = ".superseded-"


def set_aside(folder: Path, why: str, names: Iterable[str] | None = None) -> Path | None:
    """Move a folder's results to `FOLDER/.superseded-N` with a note of the reason; return that folder.

    Args:
        folder: where the results are.
        why: what differs, in words.
        names: entries to move, or patterns such as `checkpoint*`, where they are there; None for all but hidden ones.

    Returns:
        The new folder, or None when there was nothing to move.
    """
    there = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    wanted = set(there if names is None else names)
    moved = [name for name in there if name in wanted or any(fnmatch.fnmatchcase(name, each) for each in wanted)]
    if not moved:
        return None
    numbers = [path.name.removeprefix(PREFIX) for path in folder.glob(f"{PREFIX}*")]
    aside = folder / f"{PREFIX}{max((int(number) for number in numbers if number.isdecimal()), default=0) + 1}"
    aside.mkdir()
    write_text(aside / "why.txt", f"{time.strftime('%Y-%m-%d %H:%M:%S')}: {why}\n")
    for name in moved:
        (folder / name).rename(aside / name)
    return aside
