"""A training step of the main arms: eager float32 against what `runs.device` chooses for this machine."""

import itertools
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.harness import Result, Settings
from stvsr.arms import find_arm
from stvsr.runs.device import choose_compile, choose_precision
from stvsr.runs.files import read_log
from stvsr.training.batches import DataConfig
from stvsr.training.finetuning import FinetuningConfig, finetune
from stvsr.training.optimisation import OptimConfig

ARMS = ("pixel-control", "recurrent-d", "modern")
LONG = 100_000  # steps to come, for the choice whether to compile


def measure(settings: Settings) -> Iterator[Result]:
    device = torch.device(settings.device)
    steps = 4 if settings.quick else 12
    optim = OptimConfig(steps=steps, batch=2 if settings.quick else 4, log_every=1, device=settings.device)
    plain = replace(optim, precision="full", compile=False)
    chosen = replace(
        optim, precision=choose_precision(device), compile=not settings.quick and choose_compile(device, LONG)
    )
    for arm in ARMS[:1] if settings.quick else ARMS:
        if plain == chosen:
            times = {"plain": [_step_seconds(arm, plain)]}
            times["ours"] = times["plain"]
        else:
            times = {"plain": [], "ours": []}
            for _ in range(max(1, settings.repeats // 2)):
                times["plain"].append(_step_seconds(arm, plain))
                times["ours"].append(_step_seconds(arm, chosen))
        seconds, plain_seconds = (statistics.median(times[name]) for name in ("ours", "plain"))
        yield Result(
            case="training", what=f"training step, arm {arm}, rbpn-small, batch {optim.batch} of 24x24 LR", unit="step",
            plain="eager float32", seconds=seconds, plain_seconds=plain_seconds, processor=0.0,
            plain_processor=0.0, repeats=len(times["plain"]),
            note=f"chosen here: {chosen.precision} precision, {'compiled' if chosen.compile else 'eager'}",
        )  # fmt: skip


def _step_seconds(arm: str, optim: OptimConfig) -> float:
    """Train a few steps; return the median time between two of them, the first ones left out."""
    with tempfile.TemporaryDirectory() as folder:
        config = FinetuningConfig(
            arm=find_arm(arm),
            data=DataConfig(patch=24),
            optim=optim,
            discriminator_width=16,
            validate_every=0,
            crops_every=0,
        )
        finetune(config, Path(folder))
        seconds = [entry["seconds"] for entry in read_log(Path(folder) / "log.jsonl")]
    return statistics.median(b - a for a, b in itertools.pairwise(seconds[1:]))
