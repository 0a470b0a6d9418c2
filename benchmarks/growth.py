"""Growth of time with frames, width and the number of clips: slopes of log time over log size; 1 is proportional."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from benchmarks import metrics
from benchmarks.harness import Result, Settings, timed
from stvsr.inference.upscaler import InferenceConfig, load_upscaler
from stvsr.metrics.protocols import PROTOCOLS
from stvsr.metrics.scoring import score_methods


def measure(settings: Settings) -> Iterator[Result]:
    side = 24 if settings.quick else 48
    frames = (8, 16, 32) if settings.quick else (10, 20, 40, 80)
    upscaler = load_upscaler("rbpn-small", config=InferenceConfig(tile=0, precision="full"))

    def upscale(count: int, height: int, width: int) -> Callable[[], object]:
        lr = list(metrics.clip(count, (height, width)))
        return lambda: sum(1 for _ in upscaler(lr))

    yield _slope("upscaling, rbpn-small, with frames", frames, lambda n: upscale(n, side, side), settings)
    widths = [side, 2 * side, 4 * side]
    yield _slope("upscaling, rbpn-small, with width", widths, lambda n: upscale(4, side, n), settings)

    def scored(clips: int, count: int) -> Callable[[], object]:
        truth, result = (list(metrics.clip(count, (4 * side, 4 * side), blur)) for blur in (0, 1))
        return lambda: [score_methods({"one": result}, truth, PROTOCOLS["tecogan"]) for _ in range(clips)]

    yield _slope("scoring, tecogan, with frames", frames[:3], lambda n: scored(1, n + 4), settings)
    yield _slope("scoring, tecogan, with clips", (1, 2, 4), lambda n: scored(n, 8), settings)


def _slope(what: str, sizes: Sequence[int], make: Callable[[int], Callable[[], object]], settings: Settings) -> Result:
    """Fit the slope over processor times, which other programs disturb least; best of the repetitions."""
    times = []
    for size in sizes:
        work = make(size)
        times.append(min(timed(work)[2] for _ in range(max(2, settings.repeats // 2))))
    slope = float(np.polyfit(np.log(sizes), np.log(times), 1)[0])
    return Result(
        case="growth", what=what, unit="run", plain=f"{sizes[0]}", seconds=times[-1], plain_seconds=times[0],
        processor=times[-1], plain_processor=times[0], repeats=settings.repeats,
        note=f"slope {slope:.2f} over {', '.join(map(str, sizes))}; processor time of the first and last size",
    )  # fmt: skip
