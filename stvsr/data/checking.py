"""Check a data set completely: structure, counts, sizes, unreadable frames, duplicates (`stvsr data check`)."""

import concurrent.futures
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from stvsr.data import vimeo
from stvsr.data.clips import Clip, load_clips
from stvsr.data.decoded import cache_folder
from stvsr.data.vimeo import ZippedImage
from stvsr.errors import InputError
from stvsr.video.reader import read_image

IEND = b"\0\0\0\0IEND\xaeB`\x82"  # the chunk that ends every complete PNG file
SHOWN = 10  # faults of one kind that are printed; the report has all
COUNTS = {"train": 64612, "test": 7824}  # septuplets in Vimeo-90k's lists


@dataclass
class Report:
    """What a check found. facts: one line each. faults: kind -> lines."""

    facts: list[str] = field(default_factory=list)
    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def lines(self, shown: int | None = None) -> list[str]:
        """Return the report as text, at most `shown` faults of each kind."""
        text = list(self.facts)
        for kind, found in self.faults.items():
            text.append(f"{kind}: {len(found)}")
            text += [f"  {line}" for line in found[:shown]]
            if shown is not None and len(found) > shown:
                text.append(f"  ... and {len(found) - shown} more")
        return [*text, "nothing is wrong" if not self.faults else f"{sum(map(len, self.faults.values()))} faults"]


def is_whole(file: Path) -> bool:
    """Return whether a file is there and not empty, and if it is a PNG also ends as one: cheap, nothing is decoded."""
    try:
        with file.open("rb") as content:
            size = content.seek(0, os.SEEK_END)
            content.seek(max(0, size - len(IEND)))
            return size > 0 and (file.suffix.lower() != ".png" or content.read() == IEND)
    except OSError:
        return False


def check_data(source: str, *, workers: int = 0, progress: bool = True) -> Report:
    """Read every frame of a data set and report what is wrong with it.

    Args:
        source: as `data.clips.load_clips` takes it.
        workers: threads that decode frames; 0 for one per processor.
        progress: show a bar, where there is a terminal.

    Raises:
        InputError: nothing of it can be read.
    """
    report, root = Report(), Path(source).expanduser()
    clips = _structure(root, report) if vimeo.is_root(root) else load_clips(source)
    sizes: Counter[str] = Counter()
    first: dict[str, str] = {}
    with (
        concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count()) as pool,
        tqdm(total=len(clips), unit="clip", desc=root.name, disable=None if progress else True) as bar,
    ):
        for clip, (faults, content) in zip(clips, pool.map(_check_clip, clips), strict=True):
            for fault in faults:
                report.faults["unreadable frames"].append(fault)
            if content and (other := first.setdefault(content, clip.name)) != clip.name:
                report.faults["duplicates"].append(f"{clip.name} has the same frames as {other}")
            sizes[f"{clip.width}x{clip.height}"] += 1
            bar.update()
    _summary(clips, sizes, report)
    return report


def _structure(root: Path, report: Report) -> list[Clip]:
    """Report what Vimeo-90k's lists and folders disagree on; return the septuplets that are there."""
    cache = cache_folder()
    there = set(vimeo.every_name(root, cache))
    listed: dict[str, str] = {}
    for part, expected in COUNTS.items():
        try:
            names = vimeo.read_list(root, part, cache)
        except InputError as error:
            report.faults["lists"].append(str(error))
            continue
        report.facts.append(f"{vimeo.LISTS[part]}: {len(names)} septuplets, {expected} as published")
        for name in names:
            if name in listed:
                both = "listed twice" if listed[name] == part else "in both lists"
                report.faults["list entries"].append(f"{name} is {both}")
            elif name not in there:
                report.faults["list entries without a folder"].append(name)
            listed[name] = part
    report.facts.append(f"sequences: {len(there)} septuplets, {len(there - listed.keys())} in no list")
    return load_clips([f"{root}@report-{part}" for part in ("train", "validation", "test")]) if there else []


def _summary(clips: Sequence[Clip], sizes: Counter, report: Report) -> None:
    lengths = Counter(len(clip) for clip in clips)
    report.facts.append(f"{len(clips)} clips, {sum(len(clip) for clip in clips)} frames")
    report.facts.append("frames per clip: " + ", ".join(f"{n} ({count} clips)" for n, count in sorted(lengths.items())))
    report.facts.append("sizes: " + ", ".join(f"{size} ({count} clips)" for size, count in sizes.most_common()))


def _check_clip(clip: Clip) -> tuple[list[str], str]:
    """Return a clip's faults, one per frame, and the hash of its pixels; empty for a damaged clip or one of a video."""
    faults: list[str] = []
    if not clip.files:
        try:
            clip.frames()
        except (InputError, OSError) as error:
            faults.append(str(error))
        return faults, ""
    pixels = hashlib.sha256()
    for index in range(clip.start, clip.stop):
        try:
            frame = _read(clip.files[index])
            if frame.shape[:2] != (clip.height, clip.width):
                height, width = frame.shape[:2]
                faults.append(f"{clip.files[index]} is {width}x{height}, its clip is {clip.width}x{clip.height}")
            pixels.update(frame.data)
        except (InputError, OSError) as error:
            faults.append(str(error))
    return faults, "" if faults else pixels.hexdigest()


def _read(file: Path | ZippedImage) -> np.ndarray:
    return read_image(file)
