"""The log of a training: JSON lines and TensorBoard, and functions that read it back."""

import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from stvsr.errors import InputError
from stvsr.runs.files import read_log, write_text
from stvsr.training import distributed
from stvsr.training.optimisation import OptimConfig
from stvsr.video.reader import image_files, read_image


class Log:
    """JSON lines and TensorBoard, one entry every `log_every` steps; what came after the checkpoint is cut off."""

    def __init__(self, folder: Path, start: int, rank: distributed.Rank):
        self.path, self.rank, self.active = Path(folder) / "log.jsonl", rank, rank.index == 0
        self.before, self.began = 0.0, time.monotonic()
        if self.active:
            kept = [entry for entry in read_log(self.path) if entry["step"] <= start] if self.path.exists() else []
            write_text(self.path, "".join(json.dumps(entry) + "\n" for entry in kept))
            self.before = kept[-1]["seconds"] if kept else 0.0
            self.board = SummaryWriter(Path(folder) / "tensorboard", purge_step=start + 1)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        if self.active:
            self.board.close()

    def write(self, step: int, optim: OptimConfig, terms: dict[str, Tensor | float], *, saving: bool) -> None:
        """Log named terms, their means over the processes; every process calls this.

        Raises:
            InputError: a term is not finite. It stops the training before a checkpoint could keep that.
        """
        due = step % optim.log_every == 0 or step in (1, optim.steps) or "validation_psnr" in terms
        if not (due or saving):
            return
        values = self.rank.means({name: float(value) for name, value in terms.items()})
        broken = [name for name, value in values.items() if not math.isfinite(value)]
        if broken:
            raise InputError(
                f"step {step}: {broken[0]} is {values[broken[0]]}: lower the learning rate, or clip the gradient"
            )
        if not (due and self.active):
            return
        entry = {"step": step, "seconds": round(self.before + time.monotonic() - self.began, 3), **values}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        for name, value in values.items():
            self.board.add_scalar(name, value, step)
        if not sys.stderr.isatty():
            print(
                f"progress {step} " + " ".join(f"{name}={value:.4g}" for name, value in list(values.items())[:4]),
                flush=True,
            )


def logged(folder: Path) -> pd.DataFrame:
    """Return what a training wrote to `log.jsonl`: a row per logged step, a column per term."""
    return pd.DataFrame(read_log(Path(folder) / "log.jsonl"))


def validation_log(log: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the validation PSNR (dB) of generator and bicubic over the steps: a table (`step`, `psnr`) each."""
    there = (
        log.dropna(subset=["validation_psnr"]) if "validation_psnr" in log else log.iloc[:0].assign(validation_psnr=[])
    )
    columns = {"generator": "validation_psnr", "bicubic": "validation_psnr_bicubic"}
    return {name: pd.DataFrame({"step": there["step"], "psnr": there.get(column)}) for name, column in columns.items()}


def saved_crops(folder: Path, most: int = 4) -> dict[str, np.ndarray]:
    """Return the sample crops that a fine-tuning saved, uint8 (H, W, 3) by step; evenly spaced when there are many."""
    files = image_files(Path(folder)) if Path(folder).is_dir() else []  # none are saved with crops_every = 0
    chosen = sorted({round(i * (len(files) - 1) / max(most - 1, 1)) for i in range(most)}) if files else []
    return {f"step {int(files[i].stem.rpartition('-')[2])}": read_image(files[i]) for i in chosen}
