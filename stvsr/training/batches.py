"""What a training reads: data configuration, data set, batches."""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from stvsr.data.clips import ALL_SPLITS, load_clips, select_clips, shrink_clip
from stvsr.data.loader import load_batches
from stvsr.data.septuplets import SampleConfig, SeptupletDataset
from stvsr.errors import InputError, unknown
from stvsr.runs.files import write_json
from stvsr.training import distributed
from stvsr.training.optimisation import OptimConfig

Batch = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which clips a training sees, and how.

    data: sources as `data.clips.load_clips` takes them. split: of these. clips: names to keep, empty for all.
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
        SampleConfig(
            patch=self.patch, degradation=self.degradation, flow=self.flow
        )  # names what is wrong before any work
        if self.split not in ALL_SPLITS:
            raise unknown("split", self.split, ALL_SPLITS)
        if not self.data:
            raise InputError("data is empty: name at least one source of clips")
        if not self.shrink or not all(1 <= factor < math.inf for factor in self.shrink):
            raise InputError(f"shrink is {list(self.shrink)}: factors of at least 1, 1 for the clips as they are")
        if self.workers < 0:
            raise InputError(f"workers is {self.workers}: 0 or more")


def sample_config(generator: Any, data: DataConfig, targets: int = 1) -> SampleConfig:
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
    """Write `data.json`: the clips that a training sees, with their hashes (above 200 clips, only their names)."""
    largest_last = sorted(dataset.clips, key=lambda clip: -clip.shrink)
    whole = sorted(
        {clip.name.rpartition("/")[0] if clip.shrink != 1 else clip.name: clip for clip in largest_last}.items()
    )
    few = len(whole) <= 200
    entries = [
        {
            "clip": name,
            "sha256": clip.fingerprint() if few else None,
            "frames": len(clip),
            "height": clip.height,
            "width": clip.width,
        }
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
) -> Iterator[tuple[int, Batch]]:
    """Yield (step, batch on the device) from `start` on, this process's share of each."""
    share = optim.share(rank.world)
    plan = [
        list(range(step * optim.batch + rank.index * share, step * optim.batch + (rank.index + 1) * share))
        for step in range(start, optim.steps)
    ]
    loader = load_batches(dataset, plan, workers=workers, pin=rank.device.type == "cuda")
    piped = not sys.stderr.isatty()  # then `launch` draws the bar from the progress lines
    progress = tqdm(
        loader, total=optim.steps, initial=start, unit="step", disable=piped or rank.index > 0, mininterval=1
    )
    for step, batch in enumerate(progress, start):
        yield step, {name: tensor.to(rank.device, non_blocking=True) for name, tensor in batch.items()}


def micro_batches(batch: Batch, count: int) -> list[Batch]:
    """Return a batch in `count` equal parts, views of it."""
    parts = {name: tensor.chunk(count) for name, tensor in batch.items()}
    return [{name: tensors[index] for name, tensors in parts.items()} for index in range(count)]
