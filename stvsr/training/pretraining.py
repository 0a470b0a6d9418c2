"""Pretraining of a generator on the pixel loss.

`python -m stvsr.training.pretraining FOLDER` trains by FOLDER/config.json and resumes from the folder's last
checkpoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from stvsr import losses
from stvsr.errors import InputError, unknown
from stvsr.models.basicvsr import BasicVSR
from stvsr.models.generators import PRESETS, generate, start_generator
from stvsr.runs.device import Precision, seed_everything
from stvsr.training import distributed
from stvsr.training.batches import DataConfig, micro_batches, sample_config
from stvsr.training.from_parameters import build_config
from stvsr.training.launch import main
from stvsr.training.optimisation import OptimConfig, clip_and_step
from stvsr.training.session import Session


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig:
    """One pretraining of a preset, `generator`.

    initial_weights: a checkpoint or the name of shipped weights; empty: random.
    widen: the initial weights are a smaller RBPN's, widened to the preset's size (`models.widening`).
    """

    generator: str = "rbpn-small"
    initial_weights: str = ""
    widen: bool = False
    loss: str = "l1"
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    validate_every: int = 250

    def __post_init__(self):
        if self.generator not in PRESETS:
            raise unknown("generator", self.generator, PRESETS)
        if self.loss not in losses.PIXEL_LOSSES:
            raise unknown("loss", self.loss, losses.PIXEL_LOSSES)
        if self.validate_every < 0:
            raise InputError(f"validate_every is {self.validate_every}: it cannot be negative")
        self.optim.require_validation(self.validate_every)


def pretraining_config(parameters: Mapping[str, object]) -> PretrainingConfig:
    """Return the configuration of notebook 02 from its variables, `globals()`; other names are ignored.

    Raises:
        InputError: a value is not allowed.
    """
    config: PretrainingConfig = build_config(PretrainingConfig, parameters)
    return config


def pretrain(config: PretrainingConfig, folder: Path) -> bool:
    """Train a generator on the pixel loss (equation (1)); return whether it is complete.

    Writes `log.jsonl`, TensorBoard events, `checkpoint.safetensors` and at the end `generator.safetensors`. A second
    call resumes from the checkpoint and gives the same weights as one uninterrupted run.
    """
    optim = config.optim
    rank = distributed.current(optim.device)
    seed_everything(optim.seed)
    generator = start_generator(config.generator, config.initial_weights, widen=config.widen).to(rank.device)
    optimizer = torch.optim.Adam(generator.parameters(), lr=optim.learning_rate, foreach=True)
    precision = Precision(optim.precision, rank.device)
    pixel_loss = losses.PIXEL_LOSSES[config.loss]
    sample = sample_config(generator, config.data)
    if isinstance(generator, BasicVSR):  # the loss is on all frames of seven but the ends, which have one neighbour
        sample = replace(sample, num_frames=3, targets=5)
    session = Session(
        config,
        folder,
        rank=rank,
        generator=generator,
        modules={},
        optimizers={"generator": optimizer},
        sample=sample,
        meta={"task": "pretraining", "start": config.initial_weights},
    )
    network = rank.wrap(generator, compile=optim.compile)

    with session:
        for step, batch in session.batches():
            values = []
            optimizer.zero_grad(set_to_none=True)
            for part in micro_batches(batch, optim.accumulate):
                with precision.autocast():
                    # (B / accumulate, targets, 3, H, W)
                    output = generate(network, part["lr"], part.get("flows"), targets=part["hr"].shape[1])
                    loss = pixel_loss(output.float(), part["hr"])
                (loss / optim.accumulate).backward()
                values.append(loss.detach())
            norm = clip_and_step(optimizer, optim.clip_gradient)
            if session.end_step(step, {"pixel": torch.stack(values).mean(), "gradient_pixel": norm}):
                return False
    session.finish()
    return True


if __name__ == "__main__":
    main(PretrainingConfig, pretrain)
