"""A training without work that only ends by a signal: `python -m endless FOLDER`, or through `launch`."""

import time
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from stvsr.training import distributed
from stvsr.training.checkpoint import Checkpoint, Guard
from stvsr.training.launch import main
from stvsr.training.optimisation import OptimConfig


@dataclass(frozen=True, kw_only=True)
class EndlessConfig:
    """Steps of 20 ms."""

    optim: OptimConfig = OptimConfig(steps=100_000, device="cpu")


def train(config: EndlessConfig, folder: Path) -> bool:
    """Count steps until something stops it; return whether it is complete."""
    rank = distributed.current("cpu")
    checkpoint = Checkpoint(folder, config, {"g": nn.Linear(1, 1)}, {}, rank)
    step = checkpoint.load()
    with Guard(rank) as guard:
        (folder / f"ready-{rank.index}").touch()
        while step < config.optim.steps:
            time.sleep(0.02)
            step += 1
            print(f"progress {step} x=1", flush=True)
            if guard.stop():
                checkpoint.save(step)
                return False
    return True


if __name__ == "__main__":
    main(EndlessConfig, train)
