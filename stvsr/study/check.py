"""Check a study before its first step: configurations, data, weights, earlier steps' files and this machine.

Nothing is trained and no folder is read whole (`stvsr data check` does that), so that the answer takes seconds.
"""

import contextlib
import functools
import itertools
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import torch

from stvsr import assets
from stvsr.data.checking import is_whole
from stvsr.data.clips import Clip, load_clips, load_validation, select_clips
from stvsr.data.loader import PREFETCH
from stvsr.data.seen import require_unseen
from stvsr.data.septuplets import SampleConfig, SeptupletDataset
from stvsr.degradation import crop_to_multiple
from stvsr.errors import InputError
from stvsr.evaluation.held_out import SCALE, EvaluationConfig
from stvsr.inference.upscale_file import UpscaleConfig
from stvsr.metrics.fidelity import SSIM_WINDOW
from stvsr.metrics.protocols import METRICS, find_protocol, weights_of
from stvsr.models.discriminators import RecurrentDiscriminator, RecurrentDiscriminatorConfig, load_srgan_start
from stvsr.models.generators import PRESETS, Generator, build_generator, load_generator, same_size
from stvsr.models.pwcnet import load_pwcnet
from stvsr.models.rbpn import RBPN, RBPNConfig
from stvsr.models.vgg import VGGFeatures
from stvsr.models.widening import widen as widened
from stvsr.runs.device import pick_device
from stvsr.study.configurations import configurations
from stvsr.study.study_file import Step, Study
from stvsr.training.batches import DataConfig, open_dataset, sample_config
from stvsr.training.finetuning import FinetuningConfig
from stvsr.training.launch import BEST, CONFIG, GENERATOR, LOG, node_command
from stvsr.training.optimisation import OptimConfig
from stvsr.training.pretraining import PretrainingConfig

OF_TRAINING = (GENERATOR, LOG, "data.json", CONFIG)
PRODUCTS = {
    PretrainingConfig: OF_TRAINING,
    FinetuningConfig: OF_TRAINING,
    EvaluationConfig: ("metrics.csv", "summary.csv", "comparisons.csv", "data.json", "weights.json"),
}  # what each kind of step leaves for later ones
LOOKED_AT = 64  # clips whose files are looked at
GIGABYTE = 1e9
PROCESS = 1.2e9  # bytes of memory of a training process on a CPU before its network: Python, PyTorch, the data's index
WORKER = 0.3e9  # bytes of memory that a loader process adds to what it shares
PNG = 0.6  # bytes of a PNG file per byte of its pixels, about
COMPILERS = ("g++", "c++", "clang++", "cl")


@dataclass(frozen=True)
class Machine:
    """What the steps will run on. jobs: steps at once. local: whether that is this machine."""

    jobs: int = 1
    local: bool = True


@contextlib.contextmanager
def noted(faults: list[str]) -> Iterator[None]:
    """Append the line of an error instead of raising it, so that the checks after it still run."""
    try:
        yield
    except (InputError, OSError) as error:
        faults.append(str(error).partition("\n")[0])


def check_study(study: Study, steps: Iterable[str] | None = None, machine: Machine = Machine()) -> list[str]:
    """Return everything that would stop a study later, one line per fault; empty when nothing is wrong.

    Args:
        study: parsed, so that names and types of its parameters are right.
        steps: names of those that will run; None for all.
        machine: where.
    """
    built = {name: configurations(step) for name, step in study.steps.items()}
    wanted = list(study.steps if steps is None else steps)
    checks = Checks(study, {name: configs for name, (configs, _) in built.items()}, machine)
    lines = []
    for name in wanted:
        faults = [*built[name][1], *checks.files(study.steps[name])]
        for config in built[name][0]:
            faults += checks.of(config, study.steps[name])
        lines += [f"step {name}: {fault}" for fault in dict.fromkeys(faults)]
    if machine.local:
        lines += checks.room(wanted)
    return _grouped(lines)


def print_faults(study: Study, steps: Iterable[str], machine: Machine) -> list[str]:
    """Print what `check_study` finds to the standard error stream, and return it."""
    faults = check_study(study, steps, machine)
    for fault in faults:
        print(f"stvsr: {fault}", file=sys.stderr)
    return faults


def _grouped(lines: list[str]) -> list[str]:
    """Join equal faults of several steps into one line."""
    steps: dict[str, list[str]] = {}
    for line in lines:
        head, mark, fault = line.partition(": ")
        steps.setdefault(fault if mark and head.startswith("step ") else line, []).append(head.removeprefix("step "))
    return [
        fault if fault in lines else f"step{'s' * (len(names) > 1)} {_listed(names)}: {fault}"
        for fault, names in steps.items()
    ]


def _listed(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} more"


class Checks:
    """The checks of one study. What several steps share, an index or a checkpoint, is read once."""

    def __init__(self, study: Study, configs: dict[str, list], machine: Machine):
        self.study, self.configs, self.machine = study, configs, machine
        self.loaded = functools.cache(load_generator)
        self.vgg, self.pwcnet = functools.cache(VGGFeatures), functools.cache(load_pwcnet)
        self.clips = functools.cache(load_clips)
        self.validation = functools.cache(load_validation)
        self.dataset = functools.cache(self._dataset)
        self.frames = functools.cache(self._frames)

    def of(self, config: object, step: Step) -> list[str]:
        """Return the faults of one configuration."""
        if isinstance(config, PretrainingConfig | FinetuningConfig):
            return [*self.training(config, step), *self.processes(config, step)]
        if isinstance(config, EvaluationConfig):
            return self.evaluation(config)
        faults: list[str] = []
        with noted(faults):
            if isinstance(config, UpscaleConfig) and config.model != "bicubic":
                self.generator(config.model)
            elif isinstance(config, SampleConfig):
                data, split = step.parameters.get("data", ["samples"]), step.parameters.get("split", "all")
                clips = self.clips(data if isinstance(data, str) else tuple(data), split)
                SeptupletDataset(clips, config, seed=0, length=1)
        return faults

    # ---- files of earlier steps

    def files(self, step: Step) -> list[str]:
        """Return the faults of a step's references to earlier steps' files."""
        faults = []
        for name, file in self.references(step.parameters.values()):
            known = [product for config in self.configs.get(name, ()) for product in products(config)]
            if known and file not in known:
                faults.append(f"step {name} will make no {file}: choose from {', '.join(known)}")
        return faults

    def references(self, values: Iterable) -> Iterator[tuple[str, str]]:
        """Yield (step, file) of the values that are files of earlier steps."""
        for value in values:
            if isinstance(value, list):
                yield from self.references(value)
            elif isinstance(value, str) and (place := self.place(value)):
                yield place

    def place(self, value: str) -> tuple[str, str] | None:
        """Return (step, file) of a path into the run folder, with or without `name=` before it."""
        root = f"{self.study.out}/steps/"
        name, _, file = value[value.find(root) + len(root) :].partition("/") if root in value else ("", "", "")
        return (name, file) if file and name in self.study.steps else None

    # ---- weights

    def generator(self, weights: str) -> Generator:
        """Return a generator of the size that is there, or that an earlier step will make."""
        place = self.place(weights)
        if not place:
            return self.loaded(weights)[0]
        for config in self.configs[place[0]]:
            if isinstance(config, PretrainingConfig | FinetuningConfig):
                return _empty(config.generator)
        raise InputError(f"step {place[0]} trains no generator: name a step that does")

    def start(self, config: PretrainingConfig | FinetuningConfig) -> None:
        """Raise InputError when a training cannot start from its weights."""
        widen = getattr(config, "widen", False)
        if not config.initial_weights:
            if widen:
                raise InputError("widen needs weights to start from: name a smaller RBPN as initial_weights")
            return
        generator, preset = self.generator(config.initial_weights), PRESETS[config.generator]
        if not widen and not same_size(generator, config.generator):
            raise InputError(
                f"initial weights {config.initial_weights} are {generator.config}, the preset {config.generator} is "
                f"{preset}: choose their preset"
            )
        if widen:
            if not isinstance(generator, RBPN) or not isinstance(preset, RBPNConfig):
                raise InputError(
                    f"initial weights {config.initial_weights} cannot be widened to {config.generator}: "
                    "only an RBPN can"
                )
            with torch.device("meta"):
                widened(generator, preset)

    def networks(self, config: FinetuningConfig) -> Iterator[functools.partial]:
        """Yield the calls that load an arm's other networks."""
        arm = config.arm
        if config.srgan:
            size = RecurrentDiscriminatorConfig(norm=arm.norm, score="raw", width=config.discriminator_width)
            yield functools.partial(load_srgan_start, RecurrentDiscriminator(size), config.srgan)
        if config.vgg:
            yield functools.partial(self.vgg, "relu3_1", "vgg19", config.vgg)
        elif arm.perceptual or arm.temporal_perceptual:
            yield functools.partial(assets.locate, "vgg16")
        if config.pwcnet:
            yield functools.partial(self.pwcnet, config.pwcnet)
        elif arm.flow_adversarial:
            yield functools.partial(assets.locate, "basicvsr-bi")

    # ---- training

    def training(self, config: PretrainingConfig | FinetuningConfig, step: Step) -> list[str]:
        """Return what is wrong with a training's weights and data."""
        faults: list[str] = []
        with noted(faults):
            self.start(config)
        tuned = isinstance(config, FinetuningConfig)
        if isinstance(config, FinetuningConfig):
            for load in self.networks(config):
                with noted(faults):
                    load()
        stub = SimpleNamespace(config=PRESETS[config.generator])
        sample = replace(sample_config(stub, config.data, targets=3 if tuned else 1), hr_flow=tuned)
        data = replace(config.data, workers=0)
        clips: list[Clip] = []
        with noted(faults):
            clips = self.dataset(data, sample).clips
            looked_at = () if data.skip_damaged else tuple(clips[:: max(1, len(clips) // LOOKED_AT)])
            faults += self.frames(looked_at)
        # notebook 02 also shows validation patches of a pretraining that is not validated
        if config.validate_every or getattr(config, "crops_every", True):
            with noted(faults):
                require_unseen(self.validation(data.data, data.split, data.validation), clips)
        if self.machine.local and config.data.workers:
            faults += _shared_memory(sample, config.optim.batch, config.data.workers)
        return faults

    def _dataset(self, data: DataConfig, sample: SampleConfig) -> SeptupletDataset:
        return open_dataset(data, sample, OptimConfig(seed=0, steps=1, batch=1))

    def _frames(self, clips: tuple[Clip, ...]) -> list[str]:
        """Return one line about frame files that are missing or empty, and one about a first frame of another size."""
        lacking, faults = [], []
        for clip in clips:
            files = [clip.files[index] for index in range(len(clip.files))] if clip.files else [clip.source]
            lacking += [file for file in files if isinstance(file, Path) and not is_whole(file)]
        if lacking:
            faults.append(
                f"{lacking[0]} is missing or incomplete, as are {len(lacking) - 1} more files of {len(clips)} clips: "
                "run `stvsr data check` on the folder"
            )
        for clip in (*clips[:1], *clips[-1:]):
            if clip.files and not lacking:
                with noted(faults):
                    clip.frames([0])
        return list(dict.fromkeys(faults))

    def processes(self, config: PretrainingConfig | FinetuningConfig, step: Step) -> list[str]:
        """Return what is wrong with the device, the number of processes, and the compiler."""
        faults: list[str] = []
        processes, nodes = (int(step.parameters.get(name, 1)) for name in ("processes", "nodes"))
        few = {name: value for name, value in (("processes", processes), ("nodes", nodes)) if value < 1}
        faults += [f"{name} is {value}: at least 1" for name, value in few.items()]
        if not few:
            with noted(faults):
                config.optim.share(processes * nodes)
        if nodes > 1 and self.machine.local and not shutil.which(starter := node_command(nodes)[0]):
            faults.append(f"nodes is {nodes}, {starter} is not there to start them: use Slurm or STVSR_NODE_COMMAND")
        if not self.machine.local:
            return faults
        with noted(faults):
            device, gpus = pick_device(config.optim.device), torch.cuda.device_count()
            share = max(1, gpus // self.machine.jobs)
            if device.type == "cuda" and processes > share:
                faults.append(
                    f"processes is {processes}, each of {self.machine.jobs} jobs has {share} of {gpus} GPUs: "
                    "lower processes or --jobs"
                )
        if config.optim.compile and not (os.environ.get("CXX") or any(map(shutil.which, COMPILERS))):
            faults.append(f"compile needs a C++ compiler ({', '.join(COMPILERS[:3])}): install one or set it to false")
        return faults

    # ---- evaluation

    def evaluation(self, config: EvaluationConfig) -> list[str]:
        """Return what is wrong with an evaluation's methods, clips, frames and measuring networks."""
        faults: list[str] = []
        for weights in config.methods.values():
            if weights != "bicubic":
                with noted(faults):
                    self.generator(weights)
        for metric in dict.fromkeys(itertools.chain(*(find_protocol(name).metrics for name in config.protocols))):
            for asset in weights_of(metric):
                if asset in assets.ASSETS:
                    with noted(faults):
                        assets.locate(asset)
        clips: list[Clip] = []
        with noted(faults):
            clips = self.clips(config.data, config.split)
        chosen = clips
        if config.clips and clips:
            chosen = []
            for name in config.clips:
                with noted(faults):
                    chosen += select_clips(clips, [name])
        for clip in chosen:
            faults += _measurable(clip, config)
        names = [clip.name.replace("/", "-") for clip in chosen]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            faults.append(f"two clips are named {twice[0]}: give each clip a different name")
        return faults + (self.frames(tuple(chosen[:LOOKED_AT])) if chosen else [])

    # ---- disk and memory

    def room(self, steps: list[str]) -> list[str]:
        """Return what is wrong with the run folder, its disk and the memory."""
        faults, folder = [], self.study.out
        while not folder.exists():
            folder = folder.parent
        if not os.access(folder, os.W_OK):
            faults.append(f"run folder {self.study.out} cannot be written: choose another --out")
        needed, free = self.disk(steps), shutil.disk_usage(folder).free
        if needed > free:
            faults.append(
                f"run folder {self.study.out} will hold about {needed / GIGABYTE:.1f} GB, its disk has "
                f"{free / GIGABYTE:.1f} GB free: choose another --out or free space"
            )
        memory = max(map(self.memory, steps), default=0) * min(self.machine.jobs, len(steps))
        if memory > psutil.virtual_memory().total:
            faults.append(
                f"{self.machine.jobs} jobs need about {memory / GIGABYTE:.0f} GB of memory, there are "
                f"{psutil.virtual_memory().total / GIGABYTE:.0f}: lower --jobs, processes or workers"
            )
        return faults

    def disk(self, steps: Iterable[str]) -> float:
        """Return about how many bytes the steps leave: weights, and the frames of evaluations."""
        return sum(self.left_by(config) for name in steps for config in self.configs[name])

    def left_by(self, config: object) -> float:
        """Return about how many bytes one step leaves, with the checkpoints that a training holds while it runs."""
        if isinstance(config, PretrainingConfig | FinetuningConfig):
            kept = 4 * config.optim.keep_checkpoints  # each with weights, their average, Adam's two moments
            return 4 * (kept + 1 + config.optim.keep_best) * _parameters(config.generator)
        if not isinstance(config, EvaluationConfig):
            return 0
        with contextlib.suppress(InputError, OSError):
            clips = self.clips(config.data, config.split)
            chosen = [clip for clip in clips if not config.clips or clip.name in config.clips]
            pixels = sum(min(len(c), config.frames or len(c)) * c.height * c.width for c in chosen)
            return PNG * 3 * pixels * (len(config.methods) + 1 + 1 / SCALE**2)
        return 0

    def memory(self, name: str) -> float:
        """Return about how many bytes of memory a training needs besides its GPU's."""
        processes = int(self.study.steps[name].parameters.get("processes", 1))
        return max(
            (
                max(1, processes) * (PROCESS + config.data.workers * WORKER)
                for config in self.configs[name]
                if isinstance(config, PretrainingConfig | FinetuningConfig)
            ),
            default=0.0,
        )


def products(config: object) -> tuple[str, ...]:
    """Return the files that a step with this configuration leaves for later ones."""
    best = isinstance(config, PretrainingConfig | FinetuningConfig) and config.optim.keep_best
    return (*PRODUCTS.get(type(config), ()), *([BEST] if best else []))


@functools.cache
def _empty(preset: str) -> Generator:
    """Return a generator of a preset's size without memory for its weights."""
    with torch.device("meta"):
        return build_generator(preset)


@functools.cache
def _parameters(preset: str) -> int:
    return sum(parameter.numel() for parameter in _empty(preset).parameters())


def _measurable(clip: Clip, config: EvaluationConfig) -> list[str]:
    """Return why a clip cannot be measured by an evaluation's protocols."""
    faults = []
    for protocol in map(find_protocol, config.protocols):
        if len(clip) < protocol.least_frames:
            faults.append(
                f"clip {clip.name} has {len(clip)} frames, protocol {protocol.name} needs {protocol.least_frames}: "
                "drop the clip"
            )
        with noted(faults):
            frame = protocol.crop(crop_to_multiple(np.zeros((1, clip.height, clip.width, 3), np.uint8), SCALE)[0])
            if METRICS["ssim"].name in protocol.metrics and min(frame.shape[:2]) < SSIM_WINDOW:
                raise InputError(f"clip {clip.name} is {clip.width}x{clip.height}, SSIM needs {SSIM_WINDOW} pixels")
    return faults


def _shared_memory(sample: SampleConfig, batch: int, workers: int) -> list[str]:
    """Return a fault when the loader's batches do not fit into /dev/shm, through which its processes hand them over."""
    store = Path("/dev/shm")
    if not store.is_dir():
        return []
    lr, hr, neighbours = sample.patch**2, (sample.patch * sample.scale) ** 2, sample.num_frames - 1
    numbers = 3 * sample.length * lr + 3 * sample.targets * hr
    numbers += (sample.flow != "none") * 2 * neighbours * sample.targets * lr + sample.hr_flow * 4 * hr
    needed, free = 4 * numbers * batch * workers * PREFETCH, shutil.disk_usage(store).free
    if needed <= free:
        return []
    return [
        f"{workers} workers hold batches of {needed / GIGABYTE:.2f} GB in /dev/shm, which has {free / GIGABYTE:.2f} GB "
        "free: lower workers, or enlarge it (docker run --shm-size=8g)"
    ]
