"""What every training shares: configuration, data, batches, schedule, validation.

The trainings themselves are `pretraining` (pixel loss) and `finetuning` (adversarial).
"""

import dataclasses
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from stvsr import distributed
from stvsr.datasets import ALL_SPLITS, SampleConfig, SeptupletDataset, load_clips, select_clips, shrink_clip, split_source
from stvsr.degradation import bicubic_up, quantise, to_uint8
from stvsr.errors import InputError
from stvsr.models import PRESETS, build_generator, generate, load_generator, same_size
from stvsr.models.growth import grow
from stvsr.models.rbpn import RBPN, RBPNConfig
from stvsr.precision import PRECISIONS
from stvsr.runs import read_log, write_json
from stvsr.video import image_files, read_image

SCHEDULES = ("constant", "cosine", "step")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which clips a training sees, and how.

    data: sources as `datasets.load_clips` takes them. split: of these. clips: names to keep, empty for all.
    validation: sources of the validation patches; empty: the validation split of `data`.
    shrink: factors by which the HR size is divided first, each adding a copy of every clip.
    patch: LR patch side, pixels. degradation: bi or bd. flow: estimator of the LR flow. workers: loader processes.
    """

    data: tuple[str, ...] = ("samples",)
    split: str = "train"
    validation: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()
    shrink: tuple[float, ...] = (1.0,)
    patch: int = 64
    degradation: str = "bi"
    flow: str = "dis"
    augment: bool = True
    workers: int = 0

    def __post_init__(self):
        SampleConfig(patch=self.patch, degradation=self.degradation, flow=self.flow)  # names what is wrong before any work
        if self.split not in ALL_SPLITS:
            raise InputError(f"split {self.split!r} is unknown: choose from {', '.join(ALL_SPLITS)}")
        if not self.shrink or min(self.shrink) < 1:
            raise InputError(f"shrink is {list(self.shrink)}: factors of at least 1, 1 for the clips as they are")
        if self.workers < 0:
            raise InputError(f"workers is {self.workers}: 0 or more")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How weights move.

    steps, batch: of updates and of samples in each (over all processes). learning_rate: of Adam at its highest. schedule:
    constant, cosine (to 1% at the end) or step (a tenth after `decay_at` of the steps). warmup: steps. clip_gradient: norm, 0 for none.
    ema: decay of the averaged weights that are saved (`average_decay`), 0 for none. precision: auto, full or bfloat16
    (`precision.Precision`). compile: torch.compile.
    log_every, save_every: steps. seed: of everything.
    """

    steps: int = 1000
    batch: int = 4
    learning_rate: float = 1e-4
    schedule: str = "cosine"
    decay_at: float = 0.5
    warmup: int = 0
    clip_gradient: float = 0.0
    ema: float = 0.0
    precision: str = "auto"
    compile: bool = False
    log_every: int = 10
    save_every: int = 500
    seed: int = 0
    device: str = "auto"

    def __post_init__(self):
        if self.steps < 1 or self.batch < 1:
            raise InputError(f"steps is {self.steps} and batch {self.batch}: both must be at least 1")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"learning_rate is {self.learning_rate}: it must be positive")
        if self.schedule not in SCHEDULES:
            raise InputError(f"schedule {self.schedule!r} is unknown: choose from {', '.join(SCHEDULES)}")
        if self.precision not in PRECISIONS:
            raise InputError(f"precision {self.precision!r} is unknown: choose from {', '.join(PRECISIONS)}")
        if not 0 <= self.ema < 1:
            raise InputError(f"ema is {self.ema}: a decay in [0, 1), 0 for none")
        if self.log_every < 1 or self.save_every < 1:
            raise InputError(f"log_every is {self.log_every} and save_every {self.save_every}: both must be at least 1")
        if self.warmup < 0 or self.clip_gradient < 0:
            raise InputError(f"warmup is {self.warmup} and clip_gradient {self.clip_gradient}: neither may be negative")


def start_generator(preset: str, start: str, *, widen: bool = False) -> nn.Module:
    """Return a generator of the preset's size in train mode, from `start` when given; `widen`: a smaller RBPN's `growth.grow`.

    Raises:
        InputError: the checkpoint is of another size than the preset, or nothing that grows to it.
    """
    if widen and not start:
        raise InputError("widen needs weights to start from: name a smaller RBPN as start")
    if not start:
        return build_generator(preset).train()
    generator, _ = load_generator(start)
    if widen:
        if not (isinstance(generator, RBPN) and isinstance(PRESETS[preset], RBPNConfig)):
            raise InputError(f"checkpoint {start} cannot be widened to {preset}: only an RBPN can, to an RBPN")
        return grow(generator, PRESETS[preset]).train()
    if not same_size(generator, preset):
        raise InputError(f"checkpoint {start} is {generator.config}, the preset {preset} is {PRESETS[preset]}: choose its preset")
    return generator.train()


def sample_config(generator: nn.Module, data: DataConfig, targets: int = 1) -> SampleConfig:
    """Return what a generator needs in a sample; one without a window (BasicVSR) reads seven frames and no flow."""
    windowed = hasattr(generator.config, "num_frames")
    return SampleConfig(
        num_frames=generator.config.num_frames if windowed else 7,
        scale=getattr(generator.config, "scale", 4),
        flow=data.flow if windowed else "none",
        targets=targets,
        patch=data.patch,
        degradation=data.degradation,
        augment=data.augment,
    )


def write_data(folder: Path, dataset: SeptupletDataset) -> None:
    """Write `data.json`: the clips that a training sees, with their hashes (for more than 200 clips, their names' only)."""
    largest_last = sorted(dataset.clips, key=lambda clip: -clip.shrink)
    whole = sorted({clip.name.rpartition("/")[0] if clip.shrink != 1 else clip.name: clip for clip in largest_last}.items())
    few = len(whole) <= 200
    entries = [
        {"clip": name, "sha256": clip.fingerprint() if few else None, "frames": len(clip), "height": clip.height, "width": clip.width}
        for name, clip in whole
    ]
    write_json(folder / "data.json", entries)


def open_dataset(data: DataConfig, sample: SampleConfig, optim: OptimConfig) -> SeptupletDataset:
    """Return the endless data set of a training: exactly `steps * batch` samples."""
    clips = load_clips(data.data, data.split)
    clips = select_clips(clips, data.clips) if data.clips else clips
    side = sample.patch * sample.scale
    copies = [shrink_clip(clip, factor) for clip in clips for factor in data.shrink]
    fitting = [clip for clip in copies if clip.shrink == 1 or min(clip.height, clip.width) >= side]
    return SeptupletDataset(fitting, sample, seed=optim.seed, length=optim.steps * optim.batch)


def batches(
    dataset: SeptupletDataset, optim: OptimConfig, start: int, rank: distributed.Rank, workers: int
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Yield (step, batch on the device) from `start` on, this process's share of each."""
    if optim.batch % rank.world:
        raise InputError(f"batch is {optim.batch}: it must be a multiple of the {rank.world} processes")
    share = optim.batch // rank.world
    plan = [
        list(range(step * optim.batch + rank.index * share, step * optim.batch + (rank.index + 1) * share))
        for step in range(start, optim.steps)
    ]
    loader = DataLoader(
        dataset,
        batch_sampler=plan,
        num_workers=workers,
        pin_memory=rank.device.type == "cuda",
        persistent_workers=False,
        prefetch_factor=4 if workers else None,
    )
    piped = not sys.stderr.isatty()  # then `launch` draws the bar from the progress lines
    progress = tqdm(loader, total=optim.steps, initial=start, unit="step", disable=piped or rank.index > 0, mininterval=1)
    for step, batch in enumerate(progress, start):
        yield step, {name: tensor.to(rank.device, non_blocking=True) for name, tensor in batch.items()}


def learning_rate(step: int, optim: OptimConfig) -> float:
    """Return the learning rate of a step (0-based): linear warm-up, then the schedule."""
    if step < optim.warmup:
        return optim.learning_rate * (step + 1) / optim.warmup
    done = (step - optim.warmup) / max(optim.steps - optim.warmup, 1)
    factors = {
        "constant": 1.0,
        "cosine": 0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2,
        "step": 1.0 if done < optim.decay_at else 0.1,
    }
    return optim.learning_rate * factors[optim.schedule]


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def average_decay(step: int, decay: float) -> float:
    """Return the decay of the averaged weights after a step (0-based): it rises to `decay`, so that short runs forget their start.

    The rise, (1 + step) / (10 + step), is that of TensorFlow's `ExponentialMovingAverage`. With a constant 0.99, 55% of the
    average would be the start after 60 steps.
    """
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(averaged: nn.Module | None, network: nn.Module, decay: float) -> None:
    """Move the exponential moving average of the weights one step towards the network's."""
    if averaged is not None:
        torch._foreach_lerp_(list(averaged.parameters()), list(network.parameters()), 1 - decay)


def validation_batch(data: DataConfig, sample: SampleConfig, count: int = 8) -> dict[str, Tensor]:
    """Return a fixed batch of patches, not augmented, from the validation split of the same data."""
    if data.validation:
        clips = load_clips(data.validation)
    else:
        sources = [split_source(source)[0] for source in data.data]
        clips = load_clips(sources, "validation" if data.split == "train" else data.split)
    side = sample.patch * sample.scale
    clips = [clip for clip in clips if min(clip.height, clip.width) >= side and len(clip) >= sample.num_frames] or clips
    still = dataclasses.replace(sample, targets=1, augment=False, hr_flow=False)
    fixed = SeptupletDataset(clips, still, seed=1, length=count)
    return torch.utils.data.default_collate([fixed[i] for i in range(count)])


@torch.no_grad()
def validate(generator: nn.Module, batch: dict[str, Tensor], device: torch.device) -> dict[str, float]:
    """Return the RGB PSNR (dB, 8-bit outputs) of generator and bicubic on the validation patches."""
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    truth, middle = batch["hr"][:, 0], batch["lr"].shape[1] // 2
    output = generate(generator, batch["lr"], batch.get("flows"))[:, 0]
    bicubic = bicubic_up(batch["lr"][:, middle], truth.shape[-1] // batch["lr"].shape[-1])
    decibel = [-10 * torch.log10(((quantise(image.float()) - truth) ** 2).mean()) for image in (output, bicubic)]
    return {"validation_psnr": decibel[0].item(), "validation_psnr_bicubic": decibel[1].item()}


@torch.no_grad()
def compare_images(generator: nn.Module, batch: dict[str, Tensor], count: int = 1) -> dict[str, np.ndarray]:
    """Return bicubic, output and truth of the first `count` samples of a batch, stacked: uint8 (count*H, W, 3) by name."""
    batch = {name: tensor[:count] for name, tensor in batch.items()}
    truth, lr = batch["hr"][:, 0], batch["lr"][:, batch["lr"].shape[1] // 2]
    output = generate(generator, batch["lr"], batch.get("flows"))[:, 0]
    images = {"bicubic": bicubic_up(lr, truth.shape[-1] // lr.shape[-1]), "output": output, "truth": truth}
    return {name: np.concatenate(list(to_uint8(image))) for name, image in images.items()}


def validation_images(checkpoint: Path, data: DataConfig, count: int = 2) -> dict[str, np.ndarray]:
    """Return bicubic, output and truth of the first validation patches for a trained generator, as `compare_images`."""
    generator, _ = load_generator(checkpoint)
    return compare_images(generator, validation_batch(data, sample_config(generator, data), count), count)


def logged(folder: Path) -> pd.DataFrame:
    """Return what a training wrote to `log.jsonl`: a row per logged step, a column per term."""
    return pd.DataFrame(read_log(Path(folder) / "log.jsonl"))


def validation_log(log: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the validation PSNR (dB) of generator and bicubic over the steps: a table (`step`, `psnr`) each."""
    there = log.dropna(subset=["validation_psnr"]) if "validation_psnr" in log else log.iloc[:0].assign(validation_psnr=[])
    columns = {"generator": "validation_psnr", "bicubic": "validation_psnr_bicubic"}
    return {name: pd.DataFrame({"step": there["step"], "psnr": there.get(column)}) for name, column in columns.items()}


def saved_crops(folder: Path, most: int = 4) -> dict[str, np.ndarray]:
    """Return the sample crops that a fine-tuning saved, uint8 (H, W, 3) by step; evenly spaced when there are many."""
    files = image_files(Path(folder))
    chosen = sorted({round(i * (len(files) - 1) / max(most - 1, 1)) for i in range(most)})
    return {f"step {int(files[i].stem.rpartition('-')[2])}": read_image(files[i]) for i in chosen}
