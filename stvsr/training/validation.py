"""Validation patches: scores, images, and the one-sample overfitting check."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from stvsr import losses
from stvsr.data.clips import Clip, load_validation
from stvsr.data.seen import require_unseen
from stvsr.data.septuplets import SampleConfig, SeptupletDataset
from stvsr.degradation import bicubic_up, quantise, to_uint8
from stvsr.errors import InputError
from stvsr.models.generators import generate, load_generator
from stvsr.runs.device import pick_device
from stvsr.runs.files import write_atomic
from stvsr.training.batches import Batch, DataConfig, sample_config
from stvsr.training.optimisation import OptimConfig


def save_crop(path: Path, generator: nn.Module, batch: Batch, device: torch.device) -> None:
    """Save bicubic, output and truth of the first two fixed patches side by side, as PNG."""
    images = compare_images(generator, {name: tensor.to(device) for name, tensor in batch.items()}, count=2)
    picture = Image.fromarray(np.concatenate(list(images.values()), axis=1))
    write_atomic(path, lambda file: picture.save(file, "PNG"))


def overfit(
    generator: nn.Module, sample: dict[str, Tensor], optim: OptimConfig
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Train on one sample only; return the log (`step`, `pixel`) and bicubic, output and truth as 8-bit images.

    A network that cannot learn one example by heart cannot learn many: the first thing to check on a new machine.
    """
    device = pick_device(optim.device)
    generator = generator.to(device)
    batch = {name: tensor[None].to(device) for name, tensor in sample.items()}
    optimizer = torch.optim.Adam(generator.parameters(), lr=optim.learning_rate)
    entries = []
    for step in tqdm(range(optim.steps), unit="step", mininterval=5):
        output = generate(generator, batch["lr"], batch.get("flows"))
        loss = losses.pixel_loss(output, batch["hr"])
        entries.append({"step": step + 1, "pixel": loss.item()})
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return pd.DataFrame(entries), compare_images(generator, batch)


def require_progress(first: float, last: float, *, at_least: float) -> None:
    """Raise InputError unless the loss fell by the fraction `at_least`."""
    if not last < (1 - at_least) * first:
        raise InputError(
            f"the loss went from {first:.4f} to {last:.4f}, not down by {at_least:.0%}: something does not work here"
        )


def validation_batch(data: DataConfig, sample: SampleConfig, count: int = 8, training: Sequence[Clip] = ()) -> Batch:
    """Return a fixed batch of patches, not augmented, from the validation split of the same data.

    Raises:
        InputError: nothing validates the data, or a validation clip is one of the `training` clips.
    """
    clips = load_validation(data.data, data.split, data.validation)
    require_unseen(clips, training)
    side = sample.patch * sample.scale
    clips = [clip for clip in clips if min(clip.height, clip.width) >= side and len(clip) >= sample.num_frames] or clips
    still = dataclasses.replace(sample, targets=1, augment=False, hr_flow=False)
    fixed = SeptupletDataset(clips, still, seed=1, length=count, skip_damaged=data.skip_damaged)
    return torch.utils.data.default_collate([fixed[i] for i in range(count)])


@torch.no_grad()
def validate(generator: nn.Module, batch: Batch, device: torch.device) -> dict[str, float]:
    """Return the RGB PSNR (dB, 8-bit outputs) of generator and bicubic on the validation patches."""
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    truth, middle = batch["hr"][:, 0], batch["lr"].shape[1] // 2
    output = generate(generator, batch["lr"], batch.get("flows"))[:, 0]
    bicubic = bicubic_up(batch["lr"][:, middle], truth.shape[-1] // batch["lr"].shape[-1])
    decibel = [-10 * torch.log10(((quantise(image.float()) - truth) ** 2).mean()) for image in (output, bicubic)]
    return {"validation_psnr": decibel[0].item(), "validation_psnr_bicubic": decibel[1].item()}


@torch.no_grad()
def compare_images(generator: nn.Module, batch: Batch, count: int = 1) -> dict[str, np.ndarray]:
    """Return bicubic, output and truth of the first `count` samples, stacked: uint8 (count*H, W, 3) by name."""
    batch = {name: tensor[:count] for name, tensor in batch.items()}
    truth, lr = batch["hr"][:, 0], batch["lr"][:, batch["lr"].shape[1] // 2]
    output = generate(generator, batch["lr"], batch.get("flows"))[:, 0]
    images = {"bicubic": bicubic_up(lr, truth.shape[-1] // lr.shape[-1]), "output": output, "truth": truth}
    return {name: np.concatenate(list(to_uint8(image))) for name, image in images.items()}


def validation_images(checkpoint: Path, data: DataConfig, count: int = 2) -> dict[str, np.ndarray]:
    """Return bicubic, output and truth of the first validation patches for a trained generator, as `compare_images`."""
    generator, _ = load_generator(checkpoint)
    return compare_images(generator, validation_batch(data, sample_config(generator, data), count), count)
