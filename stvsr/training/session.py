"""What both training loops share: resume, batches, averaging, validation, log, checkpoint, interruption."""

import contextlib
import copy
import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from stvsr.data.seen import trained_on
from stvsr.data.septuplets import SampleConfig
from stvsr.errors import InputError
from stvsr.models.generators import Generator, save_generator
from stvsr.runs.files import as_json, load_tensors
from stvsr.training.batches import Batch, DataConfig, batches, open_dataset, sample_config, write_data
from stvsr.training.checkpoint import Checkpoint, Guard, finish
from stvsr.training.distributed import Rank
from stvsr.training.launch import BEST
from stvsr.training.left_out import LeftOut
from stvsr.training.log import Log
from stvsr.training.optimisation import (
    OptimConfig,
    average_decay,
    learning_rate,
    set_learning_rate,
    update_average,
)
from stvsr.training.recompute import recompute_activations
from stvsr.training.validation import save_crop, validate, validation_batch


class TrainingConfig(Protocol):
    """What a session reads of a configuration."""

    @property
    def data(self) -> DataConfig:
        """Clips, and what is cut from them."""

    @property
    def optim(self) -> OptimConfig:
        """Optimiser settings."""

    @property
    def validate_every(self) -> int:
        """Steps between validations, 0 for none."""


class Session:
    """One training in one folder, as a context manager around the loop.

        with Session(config, folder, ...) as session:
            for step, batch in session.batches():
                terms = ...  # the method
                if session.end_step(step, terms):
                    return False
        session.finish()

    Args:
        config: of the training.
        folder: where log, checkpoint and generator go.
        rank: this process among others.
        generator: what is trained, averaged, validated and saved.
        modules: other modules whose state is part of the checkpoint, by name.
        optimizers: by name; `generator` follows the learning rate's schedule.
        sample: what one training sample holds.
        meta: what is written with the weights, `start` (the initial weights) among it.
        keep_gradients_of: names of modules whose gradients are not zeroed between steps, so part of the state.
        crops_every: steps between saved validation crops, 0 for none.
    """

    def __init__(
        self,
        config: TrainingConfig,
        folder: Path,
        *,
        rank: Rank,
        generator: Generator,
        modules: dict[str, nn.Module],
        optimizers: dict[str, torch.optim.Optimizer],
        sample: SampleConfig,
        meta: dict[str, str],
        keep_gradients_of: tuple[str, ...] = (),
        crops_every: int = 0,
    ) -> None:
        self.config, self.folder, self.rank = config, Path(folder), rank
        self.generator, self.optimizers, self.crops_every = generator, optimizers, crops_every
        self.meta = meta
        self.averaged = copy.deepcopy(generator).requires_grad_(False) if config.optim.ema else None
        if config.optim.recompute:
            recompute_activations(generator)  # after the copy for the average
        modules = modules | {"generator": generator} | ({"ema": self.averaged} if self.averaged else {})
        self.checkpoint = Checkpoint(folder, config, modules, optimizers, rank, keep_gradients_of)
        self.first_step = self.checkpoint.load()
        self.dataset = open_dataset(config.data, sample, config.optim)
        self.left_out = LeftOut(folder, self.first_step, rank)
        if rank.index == 0:
            write_data(self.folder, self.dataset)
        validated = config.validate_every or crops_every
        shown = sample_config(generator, config.data)  # as it is used, whatever the training's own samples hold
        self.validation = validation_batch(config.data, shown, training=self.dataset.clips) if validated else None
        self.highest = highest_so_far(self.folder, self.first_step) if config.optim.keep_best else math.inf
        self.open_files = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.log = self.open_files.enter_context(Log(self.folder, self.first_step, self.rank))
        self.guard = self.open_files.enter_context(Guard(self.rank))
        return self

    def __exit__(self, *raised: object) -> None:
        self.open_files.close()

    @property
    def best(self) -> Generator:
        """The generator that is validated and saved: the averaged one, if weights are averaged."""
        return self.averaged or self.generator

    def batches(self) -> Iterator[tuple[int, Batch]]:
        """Yield (step, this process's share of the batch) with the step's learning rate set."""
        optim = self.config.optim
        given = self.dataset, optim, self.first_step, self.rank, self.config.data.workers
        for step, batch in batches(*given, left_out=self.left_out.add):
            set_learning_rate(self.optimizers["generator"], learning_rate(step, optim))
            yield step, batch

    def end_step(self, step: int, terms: dict[str, Tensor | float]) -> bool:
        """Average, validate, log and save after a step (0-based); return whether to stop here."""
        optim, number = self.config.optim, step + 1
        update_average(self.averaged, self.generator, average_decay(step, optim.ema))
        terms = {"learning_rate": learning_rate(step, optim), **terms}
        if self.validation and self.config.validate_every and number % self.config.validate_every == 0:
            terms |= (scores := validate(self.best, self.validation, self.rank.device))
            self._keep_best(number, scores)
        crop_due = self.crops_every and (number % self.crops_every == 0 or step == 0)
        if self.validation and crop_due and self.rank.index == 0:
            save_crop(self.folder / "crops" / f"step-{number:06d}.png", self.best, self.validation, self.rank.device)
        stop = self.guard.stop()
        saving = stop or number % optim.save_every == 0
        self.log.write(number, optim, terms, saving=saving)
        if self.config.data.skip_damaged and (saving or number % optim.log_every == 0 or number == optim.steps):
            self.left_out.write()
        if saving:
            self.checkpoint.save(number)
        return stop

    def finish(self) -> None:
        """Write the trained generator with `meta` and the clips it was trained on; delete the checkpoints."""
        self.left_out.summarise()
        finish(self.checkpoint, self.best, self.described)

    @functools.cached_property
    def described(self) -> dict[str, Any]:
        """What is written with the weights."""
        clips = trained_on(self.dataset.clips, self.meta.get("start", ""))
        return {**self.meta, "trained_on": clips}

    def _keep_best(self, number: int, scores: dict[str, float]) -> None:
        """Write the weights after step `number` when their PSNR on the validation patches is the highest so far."""
        if self.rank.index or not scores["validation_psnr"] > self.highest:
            return
        self.highest = scores["validation_psnr"]
        meta: dict[str, Any] = {**self.described, "step": number, **scores, "training": as_json(self.config)}
        save_generator(self.folder / BEST, self.best, **meta)


def highest_so_far(folder: Path, step: int) -> float:
    """Return the validation PSNR of a folder's best weights, -inf for none; a start from scratch forgets them.

    They may be of a later step than the checkpoint: the resumed training then comes by that step again.
    """
    path = folder / BEST
    if step == 0:
        path.unlink(missing_ok=True)
    with contextlib.suppress(InputError):
        return float(load_tensors(path)[1].get("validation_psnr", -math.inf))
    return -math.inf
