"""A clip from file to file, streamed, against reading it whole; one process per run, whose peak memory is its own."""

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Result, Settings
from benchmarks.upscale import make_clip
from benchmarks.upscale import measure as measure_process


def measure(settings: Settings) -> Iterator[Result]:
    lengths = (12, 48) if settings.quick else (50, 200)
    cases = (
        [("bicubic", 72, 88)]
        if settings.quick
        else [("bicubic", 144, 176), ("rbpn-small", 36, 44), ("basicvsr-bi", 36, 44)]
    )
    with tempfile.TemporaryDirectory() as folder:
        for model, height, width in cases:
            peaks = {}
            for count in lengths:
                source = make_clip(Path(folder) / f"{model}-{count}.mp4", count, height, width)
                runs: dict[str, list[tuple[float, float]]] = {"whole": [], "streamed": []}
                for _ in range(1 if settings.quick else max(1, settings.repeats // 2)):
                    for way, entries in runs.items():
                        entries.append(measure_process(way, source, model))
                (plain_memory, plain), (memory, ours) = (
                    tuple(statistics.median(entry[k] for entry in runs[way]) for k in (0, 1)) for way in runs
                )
                peaks[count] = memory
                growth = 100 * (memory / peaks[lengths[0]] - 1)
                yield Result(
                    case="upscaling", what=f"{model}, file to file, {count} frames of {width}x{height}", unit="frame",
                    plain="all frames in memory", seconds=ours / count, plain_seconds=plain / count,
                    processor=0.0, plain_processor=0.0, repeats=len(runs["whole"]), memory=memory,
                    plain_memory=plain_memory, note=f"peak memory {growth:+.1f}% from {lengths[0]} frames",
                )  # fmt: skip
