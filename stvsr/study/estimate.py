"""Cost of a study before it runs: a few steps of each kind are measured in a temporary folder and multiplied."""

import contextlib
import dataclasses
import itertools
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from stvsr.data.clips import select_clips
from stvsr.evaluation.held_out import BICUBIC, EvaluationConfig, prepare_clips, score, upscale_clips
from stvsr.models.generators import build_generator, save_generator
from stvsr.runs.device import pick_device
from stvsr.runs.files import as_json, read_log
from stvsr.study.check import GIGABYTE, Checks, Machine
from stvsr.study.configurations import configurations
from stvsr.study.study_file import Study
from stvsr.training.finetuning import FinetuningConfig
from stvsr.training.launch import LOG, launch
from stvsr.training.pretraining import PretrainingConfig

STEPS = 20  # of a training that are measured
WARM = 3  # first steps, which are slower: they count as the start
FRAMES = 3  # of an evaluation that are measured, where its protocols need no more
EVERY = 0.2  # seconds between looks at the memory
MODULES = {PretrainingConfig: "stvsr.training.pretraining", FinetuningConfig: "stvsr.training.finetuning"}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a step takes. gpus: in use meanwhile. memory, gpu_memory: bytes at most, of one GPU. disk: bytes."""

    seconds: float
    gpus: int = 0
    memory: float = 0.0
    gpu_memory: float = 0.0
    disk: float = 0.0

    @property
    def gpu_hours(self) -> float:
        """Hours times GPUs."""
        return self.seconds * self.gpus / 3600


def estimate(study: Study, steps: Iterable[str]) -> dict[str, Cost | None]:
    """Measure a few updates of each kind of training and a few frames of each evaluation; return every step's cost.

    Trainings of one kind differ in seed, length and initial weights only. Nothing is written to the run folder. The
    figures of the notebooks are not measured, nor are steps that neither train nor evaluate: their cost is None.

    Raises:
        InputError: something cannot be measured, with the line of the training or evaluation.
    """
    configs = {name: configurations(step)[0] for name, step in study.steps.items()}
    checks = Checks(study, configs, Machine())
    measured: dict[str, tuple[Timing, Memory]] = {}
    costs: dict[str, Cost | None] = {}
    for name in steps:
        costs[name] = None
        for config in configs[name]:
            if isinstance(config, PretrainingConfig | FinetuningConfig):
                parameters = study.steps[name].parameters
                processes, nodes = (int(parameters.get(each, 1)) for each in ("processes", "nodes"))
                short = shortened(config)
                kind = json.dumps([type(config).__name__, as_json(short), processes, nodes], sort_keys=True)
                if kind not in measured:
                    print(f"measuring {STEPS} updates of {name}", flush=True)
                    measured[kind] = _train(short, processes, nodes)
                timing, memory = measured[kind]
                gpus = processes * nodes if pick_device(config.optim.device).type == "cuda" else 0
                costs[name] = Cost(
                    seconds=timing.of(config), gpus=gpus, disk=checks.left_by(config), **dataclasses.asdict(memory)
                )
            elif isinstance(config, EvaluationConfig):
                print(f"measuring a few frames of {name}", flush=True)
                costs[name] = _evaluate(config, checks)
    return costs


def table(costs: dict[str, Cost | None], jobs: int = 1) -> str:
    """Return the costs of steps and their sum as text; `jobs` steps at once divide the time at best."""
    rows: list[tuple[str, ...]] = [("step", "time", "GPU hours", "memory", "GPU memory", "disk")]
    known = [cost for cost in costs.values() if cost]
    for name, cost in costs.items():
        rows.append((name, *_words(cost)) if cost else (name, "not measured", "", "", "", ""))
    total = Cost(
        seconds=sum(cost.seconds for cost in known),
        memory=max((cost.memory for cost in known), default=0.0),
        gpu_memory=max((cost.gpu_memory for cost in known), default=0.0),
        disk=sum(cost.disk for cost in known),
    )
    hours = f"{sum(cost.gpu_hours for cost in known):.2f}"
    time_, _, *rest = _words(total)
    rows.append(("in all", time_, hours, *rest))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if jobs > 1:
        lines.append(f"{jobs} steps at once: {_time(total.seconds / jobs)} at best")
    return "\n".join(lines)


def _words(cost: Cost) -> tuple[str, ...]:
    sizes = (f"{value / GIGABYTE:.2f} GB" for value in (cost.memory, cost.gpu_memory, cost.disk))
    return (_time(cost.seconds), f"{cost.gpu_hours:.2f}", *sizes)


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


# Trainings


def shortened(config: PretrainingConfig | FinetuningConfig) -> PretrainingConfig | FinetuningConfig:
    """Return a training of `STEPS` updates that cost as much as the given one's, from random weights."""
    optim = replace(config.optim, seed=0, steps=STEPS, log_every=1, save_every=STEPS, keep_best=False)
    checked = min(config.validate_every, STEPS // 2)
    if isinstance(config, FinetuningConfig):
        return replace(config, initial_weights="", optim=optim, validate_every=checked, crops_every=0)
    return replace(config, initial_weights="", widen=False, optim=optim, validate_every=checked)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of a training: to start, for an update, for a validation."""

    start: float
    update: float
    validation: float

    def of(self, config: PretrainingConfig | FinetuningConfig) -> float:
        """Return the seconds of a whole training."""
        validations = config.optim.steps // config.validate_every if config.validate_every else 0
        return self.start + config.optim.steps * self.update + validations * self.validation


def timing(seconds: list[float], wall: float, validated: int) -> Timing:
    """Return the timing of a short training from the times at which its updates ended, and its own duration.

    Args:
        seconds: after each update.
        wall: of the whole training, with its start.
        validated: updates between validations, 0 for none.
    """
    took = [after - before for before, after in itertools.pairwise(seconds)]  # of updates 2, 3, ...
    checked = [value for number, value in enumerate(took, 2) if validated and number % validated == 0]
    plain = [value for number, value in enumerate(took, 2) if not validated or number % validated]
    update = statistics.median(plain[WARM:] or plain)
    validation = max(0.0, statistics.median(checked) - update) if checked else 0.0
    start = max(0.0, wall - len(seconds) * update - len(checked) * validation)
    return Timing(start=start, update=update, validation=validation)


def _train(config: PretrainingConfig | FinetuningConfig, processes: int, nodes: int) -> tuple[Timing, "Memory"]:
    with tempfile.TemporaryDirectory(prefix="stvsr-estimate-") as name, _watched() as memory:
        folder, began = Path(name) / "run", time.monotonic()
        launch(MODULES[type(config)], config, folder, processes=processes, nodes=nodes)
        wall = time.monotonic() - began
        seconds = [float(entry["seconds"]) for entry in read_log(folder / LOG)]
    return timing(seconds, wall, config.validate_every), memory


# Evaluations


def _evaluate(config: EvaluationConfig, checks: Checks) -> Cost:
    """Upscale and score some frames of the first clip by one generator of each size, and multiply."""
    clips = checks.clips(config.data, config.split)
    chosen = select_clips(clips, config.clips) if config.clips else clips
    count = min(max(FRAMES, config.least_frames), len(chosen[0]))
    pixels = [min(len(c), config.frames or len(c)) * c.height * c.width for c in chosen]
    share = sum(pixels) / (count * chosen[0].height * chosen[0].width)
    first = [chosen[0].name.replace("/", "-")]  # as `prepare_clips` names it
    with tempfile.TemporaryDirectory(prefix="stvsr-estimate-") as name, _watched() as memory:
        folder = Path(name)
        kinds = _kinds(config, checks, folder)
        few = replace(config, clips=(chosen[0].name,), frames=count, generators=(), demonstrations=())
        seconds = 0.0
        for index, (weights, methods) in enumerate(kinds.items()):
            one = replace(few, generators=(f"kind={weights}",)) if weights != BICUBIC else few
            place = folder / f"kind-{index}"
            seconds += _timed(prepare_clips, one, place) * share / len(kinds)
            seconds += _timed(upscale_clips, one, place, first) * share * methods
        seconds += _timed(score, one, place, first) * share * sum(kinds.values()) / 2
    gpus = int(pick_device(config.device).type == "cuda")
    return Cost(seconds=seconds, gpus=gpus, disk=checks.left_by(config), **dataclasses.asdict(memory))


def _kinds(config: EvaluationConfig, checks: Checks, folder: Path) -> dict[str, int]:
    """Return weights of each size of generator, and how many methods have it; random ones for those to be trained."""
    kinds: dict[str, int] = {}
    for weights in config.methods.values():
        place = checks.place(weights)
        if place:
            trained = next(c for c in checks.configs[place[0]] if isinstance(c, PretrainingConfig | FinetuningConfig))
            weights = str(folder / f"{trained.generator}.safetensors")
            if weights not in kinds:
                save_generator(Path(weights), build_generator(trained.generator))
        kinds[weights] = kinds.get(weights, 0) + 1
    return kinds


def _timed(function: Callable, *arguments: Any) -> float:
    began = time.monotonic()
    function(*arguments)
    return time.monotonic() - began


# Memory


@dataclass
class Memory:
    """The most that was in use, bytes: by this process's children or itself, and on one GPU."""

    memory: float = 0.0
    gpu_memory: float = 0.0


@contextlib.contextmanager
def _watched() -> Iterator[Memory]:
    """Watch the memory of this process and its children while the block runs; the GPUs' as what becomes less free."""
    found, ended, before = Memory(), threading.Event(), _gpus_used()

    def watch() -> None:
        while not ended.wait(EVERY):
            found.memory = max(found.memory, _memory_used())
            used = [now - then for now, then in zip(_gpus_used(), before, strict=True)]
            found.gpu_memory = max(found.gpu_memory, *used, 0)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        ended.set()
        watcher.join()


def _memory_used() -> float:
    """Return the memory of the child processes, what they share divided among them; this process's without children."""
    own = psutil.Process()
    used = 0.0
    for process in own.children(recursive=True) or [own]:
        with contextlib.suppress(psutil.Error, OSError):
            info = process.memory_full_info()
            used += getattr(info, "pss", info.rss)
    return used


def _gpus_used() -> list[int]:
    gpus = range(torch.cuda.device_count())
    return [total - free for free, total in map(torch.cuda.mem_get_info, gpus)]
