"""Start-up: importing the package, --help and a dry run, against an empty Python process."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil

from benchmarks.harness import Result, Settings

COMMAND = "from stvsr.cli import main; main({})"
CASES = {
    "import stvsr": ("import stvsr", 0.1),
    "stvsr --help": (COMMAND.format(["--help"]), 0.5),
    "stvsr reproduce quick --dry-run": (COMMAND.format(["reproduce", "quick", "--dry-run"]), 5.0),
}


def measure(settings: Settings) -> Iterator[Result]:
    for what, (code, target) in CASES.items():
        runs: dict[str, list[tuple[float, float]]] = {"pass": [], code: []}
        for _ in range(2 if settings.quick else settings.repeats):
            for source, entries in runs.items():
                entries.append(_run(source))
        (plain, plain_processor), (ours, processor) = (
            tuple(statistics.median(entry[k] for entry in entries) for k in (0, 1)) for entries in runs.values()
        )
        yield Result(
            case="startup", what=what, unit="call", plain="python -c pass", seconds=ours, plain_seconds=plain,
            processor=processor, plain_processor=plain_processor, repeats=len(runs[code]),
            note=f"target: below {target} s",
        )  # fmt: skip


def _run(code: str) -> tuple[float, float]:
    """Return seconds by wall clock and by processor of one process."""
    before, started = psutil.Process().cpu_times(), time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    after = psutil.Process().cpu_times()
    processor = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    return time.perf_counter() - started, processor
