"""Evaluation by protocol against scoring one method at a time, and a whole evaluation against one process."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch

from benchmarks import metrics
from benchmarks.harness import Result, Settings, compare
from stvsr.evaluation import held_out
from stvsr.evaluation.held_out import EvaluationConfig, prepare_clips, score, upscale_clips
from stvsr.metrics.protocols import PROTOCOLS
from stvsr.metrics.scoring import score_methods
from stvsr.video.writer import write_frames


def measure(settings: Settings) -> Iterator[Result]:
    size, frames, methods = ((144, 176), 6, 2) if settings.quick else ((576, 720), 8, 4)
    truth = list(metrics.clip(frames, size))
    results = {f"blur {blur}": list(metrics.clip(frames, size, 0.5 * blur)) for blur in range(1, methods + 1)}
    for name in ("literature-y", "tecogan", "study"):
        protocol = PROTOCOLS[name]

        def plain(protocol=protocol) -> pd.DataFrame:
            return pd.concat([score_methods({key: value}, truth, protocol) for key, value in results.items()])

        def ours(protocol=protocol) -> pd.DataFrame:
            return score_methods(results, truth, protocol)

        yield compare(
            "evaluation", f"protocol {name}, {methods} methods, {size[1]}x{size[0]}", plain=plain, ours=ours,
            unit="frame and method", per=frames * methods, plain_name="one method at a time", settings=settings,
            difference=_difference, tolerance="largest difference",
        )  # fmt: skip
    yield _processes(settings, size, frames)


def _processes(settings: Settings, size: tuple[int, int], frames: int) -> Result:
    """Score bicubic on several clips in one process, then in as many as there are threads."""
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index in range(4):
            (folder / "clips").mkdir(exist_ok=True)
            write_frames(folder / "clips" / f"clip{index}", metrics.clip(frames, size))
        config = EvaluationConfig(
            data=(str(folder / "clips"),), split="all", protocols=("literature-y", "tecogan", "study"), device="cpu"
        )
        clips = prepare_clips(config, folder / "run")
        upscale_clips(config, folder / "run", clips)

        def scored(pixels: float) -> str:
            for path in (folder / "run" / "scores").glob("*/*"):
                path.unlink()
            held_out.PARALLEL_PIXELS = pixels
            score(config, folder / "run", clips)
            return (folder / "run" / "metrics.csv").read_text()

        usual = held_out.PARALLEL_PIXELS
        try:
            return compare(
                "evaluation", f"4 clips, 3 protocols, {size[1]}x{size[0]}", plain=lambda: scored(float("inf")),
                ours=lambda: scored(0), unit="frame", per=4 * frames, plain_name="one process", settings=settings,
                difference=lambda a, b: float(a != b), tolerance="tables that differ",
                note=f"{threads} processes; their processor time is not counted, only the wall clock compares",
            )  # fmt: skip
        finally:
            held_out.PARALLEL_PIXELS = usual


def _difference(expected: pd.DataFrame, found: pd.DataFrame) -> float:
    keys = ["method", "frame", "metric"]
    both = expected.drop_duplicates(keys).merge(found, on=keys, suffixes=("_plain", "_ours"))
    return float((both["value_plain"] - both["value_ours"]).abs().max())
