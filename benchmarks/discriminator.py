"""How fast a discriminator learns to see what it must, against plain RGB as its input in the same run.

python benchmarks/discriminator.py [--steps 120] [--seeds 3]

The generator stands still (the shipped `rbpn-small`), so that only what the triplet discriminator reads makes a
difference. Printed: the gap of its mean probabilities, true minus generated, over the last 20 steps before each mark.
In a game the generator learns from what the discriminator can tell apart: as long as the gap is nothing, it learns
nothing from it.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from stvsr import losses
from stvsr.arms import ARMS
from stvsr.models.discriminators import DiscriminatorConfig, TripletDiscriminator
from stvsr.models.generators import load_generator
from stvsr.runs.device import Precision
from stvsr.training import distributed
from stvsr.training.adversarial import discriminator_inputs
from stvsr.training.batches import DataConfig, batches, open_dataset, sample_config
from stvsr.training.finetuning import forward_generator, prepare
from stvsr.training.optimisation import OptimConfig

ARM = ARMS["modern"]
MARKS = (20, 40, 80, 120, 240)


class Plain(TripletDiscriminator):
    """The same network on RGB as it is."""

    def read(self, frames: Tensor, warped: Tensor, conditions: Tensor) -> Tensor:
        return torch.cat([frames, warped, conditions], dim=1).flatten(1, 2)


def samples(steps: int, seed: int) -> Iterator[tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]:
    """Yield what the discriminator is given of the truth and of the generator's frames, batch after batch."""
    generator, _ = load_generator("rbpn-small")
    data, optim = DataConfig(patch=24), OptimConfig(steps=steps, batch=4, seed=seed)
    dataset = open_dataset(data, replace(sample_config(generator, data, targets=3), hr_flow=True), optim)
    alone = distributed.Rank(index=0, world=1, device=torch.device("cpu"))
    for _, batch in batches(dataset, optim, 0, alone, 0):
        batch = prepare(batch, ARM)
        with torch.no_grad():
            outputs = forward_generator(generator, batch, ARM, Precision("full", alone.device))
        yield discriminator_inputs(batch["truth"], batch, ARM), discriminator_inputs(outputs[0], batch, ARM)


def learn(discriminator: TripletDiscriminator, pairs: Iterator) -> list[float]:
    """Train on pairs of true and generated samples; return the gap of each step, before it learnt from it."""
    optimizer, gaps = torch.optim.Adam(discriminator.parameters(), lr=4e-4), []
    for real, fake in pairs:
        real_scores, fake_scores = discriminator(*real), discriminator(*fake)
        optimizer.zero_grad()
        losses.discriminator_loss(real_scores, fake_scores, kind=ARM.kind).backward()
        optimizer.step()
        gaps.append((real_scores.sigmoid().mean() - fake_scores.sigmoid().mean()).item())
    return gaps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=3)
    parsed = parser.parse_args()
    gaps = {Plain: [], TripletDiscriminator: []}
    for seed in range(parsed.seeds):
        pairs = list(samples(parsed.steps, seed))
        for kind, found in gaps.items():
            torch.manual_seed(seed)
            found.append(learn(kind(DiscriminatorConfig(norm=ARM.norm, score="raw", width=32)), pairs))
    plain, differences = (np.mean(found, axis=0) for found in gaps.values())
    print(f"{'steps':>6s} {'plain RGB':>10s} {'differences':>12s}")
    for mark in (mark for mark in MARKS if mark <= parsed.steps):
        before, after = (gap[mark - 20 : mark].mean() for gap in (plain, differences))
        print(f"{mark:6d} {before:10.4f} {after:12.4f}")


if __name__ == "__main__":
    main()
