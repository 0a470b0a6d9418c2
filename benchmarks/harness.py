"""Measurement: interleaved repetitions, medians, peak memory, and the machine's own peak."""

import dataclasses
import gc
import os
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch
from torch.utils.flop_counter import FlopCounterMode

from stvsr.runs.environment import environment

MATRIX = 1536  # side of the matrix product that measures the peak of arithmetic
COPY = 64_000_000  # floats of the copy that measures the peak of memory traffic
SAMPLED = 0.01  # seconds between two looks at the resident memory


@dataclass(frozen=True, kw_only=True)
class Result:
    """One comparison; times are medians in seconds.

    case, what: file and subject. unit: what one time is for. seconds, plain_seconds: wall clock. processor,
    plain_processor: processor time of this process, which other programs disturb less. difference: largest difference
    of the two results, in the words of `tolerance`. memory, plain_memory: MB above the start, at most.
    share: of the machine's peak of arithmetic. note: what a reader must know.
    """

    case: str
    what: str
    plain: str
    unit: str
    seconds: float
    plain_seconds: float
    processor: float
    plain_processor: float
    repeats: int
    difference: float | None = None
    tolerance: str = ""
    memory: float | None = None
    plain_memory: float | None = None
    share: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float:
        """How many times as fast, by wall clock."""
        return self.plain_seconds / self.seconds

    @property
    def processor_ratio(self) -> float | None:
        """How many times less processor time; None where it was not measured (0)."""
        return self.plain_processor / self.processor if self.processor else None

    def as_dict(self) -> dict:
        return dataclasses.asdict(self) | {"ratio": self.ratio, "processor_ratio": self.processor_ratio}


@dataclass(frozen=True, kw_only=True)
class Peak:
    """What the machine reaches in this run, with the threads of this process: float32 GFLOP/s and GB/s.

    Of a CPU by processor time, so that other programs on the machine do not lower it.
    """

    gflops: float
    gigabytes: float
    threads: int


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much a run measures: `quick` takes small inputs, `repeats` is per side of a comparison."""

    quick: bool = False
    repeats: int = 5
    device: str = "cpu"
    peak: Peak = Peak(gflops=1.0, gigabytes=1.0, threads=1)


def measure_peak(device: str = "cpu") -> Peak:
    """Time a float32 matrix product and a copy, best of five."""
    first, second = torch.rand(2, MATRIX, MATRIX, device=device)
    source = torch.rand(COPY, device=device)
    target = torch.empty_like(source)
    threads = torch.get_num_threads()

    def seconds(work: Callable[[], object]) -> float:
        _, wall, processor = timed(work, device)
        return processor / threads if device == "cpu" else wall

    product = min(seconds(lambda: first @ second) for _ in range(5))
    copy = min(seconds(lambda: target.copy_(source)) for _ in range(5))
    return Peak(gflops=2 * MATRIX**3 / product / 1e9, gigabytes=8 * COPY / copy / 1e9, threads=threads)


def timed(work: Callable[[], object], device: str = "cpu") -> tuple[object, float, float]:
    """Return what `work` returns, and its seconds by wall clock and by processor."""
    _wait(device)
    wall, processor = time.perf_counter(), time.process_time()
    done = work()
    _wait(device)
    return done, time.perf_counter() - wall, time.process_time() - processor


def compare(
    case: str, what: str, *, plain: Callable[[], object], ours: Callable[[], object], plain_name: str, unit: str,
    settings: Settings, per: float = 1.0, difference: Callable[[object, object], float] | None = None,
    tolerance: str = "", flops: float = 0.0, note: str = "", plain_per: float | None = None,
) -> Result:  # fmt: skip
    """Run both ways once for their results and memory, then alternately for their times.

    Args:
        plain, ours: do the same work. per: units of work in one call; the times are divided by it.
        plain_per: units in one call of `plain`, where it does less.
        difference: compares their results. flops: of one call of `ours`, for the share of the peak.
    """
    expected, plain_memory = with_memory(plain)
    found, memory = with_memory(ours)
    sides: dict[str, list[tuple[float, float]]] = {"plain": [], "ours": []}
    for _ in range(settings.repeats):
        for name, work in (("plain", plain), ("ours", ours)):
            sides[name].append(timed(work, settings.device)[1:])
    divisors = {"plain": plain_per or per, "ours": per}
    wall, processor = (
        {name: statistics.median(entry[k] for entry in entries) / divisors[name] for name, entries in sides.items()}
        for k in (0, 1)
    )
    busy = processor["ours"] * per if settings.device == "cpu" else wall["ours"] * per
    return Result(
        case=case, what=what, plain=plain_name, unit=unit, repeats=settings.repeats, tolerance=tolerance, note=note,
        seconds=wall["ours"], plain_seconds=wall["plain"],
        processor=processor["ours"], plain_processor=processor["plain"],
        difference=None if difference is None else difference(expected, found),
        memory=memory, plain_memory=plain_memory,
        share=flops / busy / 1e9 / (settings.peak.gflops / settings.peak.threads) if flops and busy else None,
    )  # fmt: skip


def with_memory(work: Callable[[], object]) -> tuple[object, float]:
    """Return what `work` returns, and by how many MB the resident memory rose, at most."""
    gc.collect()
    process, stop = psutil.Process(), threading.Event()
    start = most = process.memory_info().rss

    def watch() -> None:
        nonlocal most
        while not stop.wait(SAMPLED):
            most = max(most, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        done = work()
        most = max(most, process.memory_info().rss)
    finally:
        stop.set()
        watcher.join()
    return done, (most - start) / 2**20


def count_flops(work: Callable[[], object]) -> float:
    """Return the floating-point operations of the convolutions and products in `work`."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def largest_difference(expected: torch.Tensor, found: torch.Tensor) -> float:
    """Return the largest difference, relative to the largest value: random weights give values of any size."""
    return ((expected.float() - found.float()).abs().max() / expected.abs().max()).item()


def describe_machine(peak: Peak) -> dict:
    """Return hardware, software, measured peak and load, for the JSON."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return environment() | {"peak": dataclasses.asdict(peak), "load": load}


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
