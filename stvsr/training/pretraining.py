"""RBPN pretraining on the pixel loss.

`python -m stvsr.training.pretraining FOLDER` trains as FOLDER/config.json says and goes on from the folder's last
checkpoint.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch

from stvsr import losses
from stvsr.errors import InputError
from stvsr.models.generators import PRESETS, generate, start_generator
from stvsr.runs.device import Precision, seed_everything
from stvsr.training import distributed
from stvsr.training.batches import DataConfig, batches, open_dataset, sample_config, write_data
from stvsr.training.checkpoint import Checkpoint, Guard, finish
from stvsr.training.launch import main
from stvsr.training.log import Log
from stvsr.training.optimisation import (
    OptimConfig,
    average_decay,
    descend,
    learning_rate,
    set_learning_rate,
    update_average,
)
from stvsr.training.validation import validate, validation_batch

PIXEL_LOSSES = {"l1": losses.pixel_loss, "charbonnier": losses.charbonnier_loss}


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig:
    """One pretraining: `generator` is a preset, `start` a checkpoint or shipped weights' name (empty: from scratch).

    widen: the start is a smaller RBPN, which grows to the preset's size (`models.widening`).
    """

    generator: str = "rbpn-small"
    start: str = ""
    widen: bool = False
    loss: str = "l1"
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    validate_every: int = 250

    def __post_init__(self):
        if self.generator not in PRESETS:
            raise InputError(f"generator {self.generator!r} is unknown: choose from {', '.join(PRESETS)}")
        if self.loss not in PIXEL_LOSSES:
            raise InputError(f"loss {self.loss!r} is unknown: choose from {', '.join(PIXEL_LOSSES)}")


def pretrain(config: PretrainingConfig, folder: Path) -> bool:
    """Train a generator on the pixel loss (equation (1)); return whether it is complete.

    Writes `log.jsonl`, TensorBoard events, `checkpoint.safetensors` and at the end `generator.safetensors`. A second
    call goes on from the checkpoint and gives the same weights as one uninterrupted run.
    """
    optim = config.optim
    rank = distributed.current(optim.device)
    seed_everything(optim.seed)
    generator = start_generator(config.generator, config.start, widen=config.widen).to(rank.device)
    averaged = copy.deepcopy(generator).requires_grad_(False) if optim.ema else None
    optimizer = torch.optim.Adam(generator.parameters(), lr=optim.learning_rate, foreach=True)
    modules = {"generator": generator} | ({"ema": averaged} if averaged else {})
    precision = Precision(optim.precision, rank.device)
    checkpoint = Checkpoint(folder, config, modules, {"generator": optimizer}, rank)
    start = checkpoint.load()
    sample = sample_config(generator, config.data)
    dataset = open_dataset(config.data, sample, optim)
    if rank.index == 0:
        write_data(folder, dataset)
    validation = validation_batch(config.data, sample) if config.validate_every else None
    network = rank.wrap(torch.compile(generator) if optim.compile else generator)
    pixel_loss = PIXEL_LOSSES[config.loss]

    with Log(folder, start, rank) as log, Guard(rank) as guard:
        for step, batch in batches(dataset, optim, start, rank, config.data.workers):
            set_learning_rate(optimizer, rate := learning_rate(step, optim))
            with precision.autocast():
                output = generate(network, batch["lr"], batch.get("flows"))
                loss = pixel_loss(output.float(), batch["hr"])
            norm = descend(loss, optimizer, optim.clip_gradient)
            update_average(averaged, generator, average_decay(step, optim.ema))
            terms = {"pixel": loss.detach(), "gradient_pixel": norm, "learning_rate": rate}
            if validation and (step + 1) % config.validate_every == 0:
                terms |= validate(averaged or generator, validation, rank.device)
            stop = guard.stop()
            saving = stop or (step + 1) % optim.save_every == 0
            log.write(step + 1, optim, terms, saving=saving)
            if saving:
                checkpoint.save(step + 1)
            if stop:
                return False
    finish(checkpoint, averaged or generator, {"task": "pretraining", "start": config.start})
    return True


if __name__ == "__main__":
    main(PretrainingConfig, pretrain)
