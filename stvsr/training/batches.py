"""What a training reads: data configuration, data set, batches."""

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from stvsr.data.clips import ALL_SPLITS, Clip, load_clips, select_clips, shrink_clip
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
    skip_damaged: draw another sample in place of one with a frame that cannot be read, and count it, instead of
    stopping with the frame's path.
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
    skip_damaged: bool = False

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
            "sha256": _fingerprint(clip, dataset.skip_damaged) if few else None,
            "frames": len(clip),
            "height": clip.height,
            "width": clip.width,
        }
        for name, clip in whole
    ]
    write_json(folder / "data.json", entries)


def _fingerprint(clip: Clip, skip_damaged: bool) -> str | None:
    try:
        return clip.fingerprint()
    except (InputError, OSError):
        if skip_damaged:
            return None
        raise


def open_dataset(data: DataConfig, sample: SampleConfig, optim: OptimConfig) -> SeptupletDataset:
    """Return the endless data set of a training: exactly `steps * batch` samples."""
    clips = load_clips(data.data, data.split)
    clips = select_clips(clips, data.clips) if data.clips else clips
    side = sample.patch * sample.scale
    copies = [shrink_clip(clip, factor) for clip in clips for factor in data.shrink]
    fitting = [clip for clip in copies if clip.shrink == 1 or min(clip.height, clip.width) >= side]
    length, skip = optim.steps * optim.batch, data.skip_damaged
    return SeptupletDataset(fitting, sample, seed=optim.seed, length=length, skip_damaged=skip)


class _Reporting(Dataset):
    """The samples of a data set, with what was left out for each as `damage`: text, one line per draw."""

    def __init__(self, dataset: SeptupletDataset):
        self.dataset = dataset

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample, damage = self.dataset.whole_sample(index)
        return sample | {"damage": "\n".join(damage)}


def batches(
    dataset: SeptupletDataset,
    optim: OptimConfig,
    start: int,
    rank: distributed.Rank,
    workers: int,
    left_out: Callable[[int, list[str]], object] = lambda step, damage: None,
) -> Iterator[tuple[int, Batch]]:
    """Yield (step, batch on the device) from `start` on, this process's share of each.

    `left_out` is called with a step (0-based) and the lines of `SeptupletDataset.whole_sample` about its batch.
    """
    share = optim.share(rank.world)
    plan = [
        list(range(step * optim.batch + rank.index * share, step * optim.batch + (rank.index + 1) * share))
        for step in range(start, optim.steps)
    ]
    loader = load_batches(_Reporting(dataset), plan, workers=workers, pin=rank.device.type == "cuda")
    piped = not sys.stderr.isatty()  # then `launch` draws the bar from the progress lines
    progress = tqdm(
        loader, total=optim.steps, initial=start, unit="step", disable=piped or rank.index > 0, mininterval=1
    )
    for step, batch in enumerate(progress, start):
        if damage := [line for text in batch.pop("damage") for line in text.splitlines()]:
            left_out(step, damage)
        yield step, {name: tensor.to(rank.device, non_blocking=True) for name, tensor in batch.items()}


def micro_batches(batch: Batch, count: int) -> list[Batch]:
    """Return a batch in `count` equal parts, views of it."""
    parts = {name: tensor.chunk(count) for name, tensor in batch.items()}
    return [{name: tensors[index] for name, tensors in parts.items()} for index in range(count)]
