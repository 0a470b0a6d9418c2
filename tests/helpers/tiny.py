"""Tiny clips and configurations, so that everything runs within a second on a CPU."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from metric_clips import texture
from PIL import Image

from stvsr.arms import find_arm
from stvsr.training.batches import DataConfig
from stvsr.training.finetuning import FinetuningConfig
from stvsr.training.optimisation import OptimConfig
from stvsr.training.pretraining import PretrainingConfig


def panning(frames: int, height: int = 48, width: int = 56, seed: int = 0) -> np.ndarray:
    """Return uint8 (T, H, W, 3): a texture under a camera that moves by (1, 2) pixels a frame."""
    wide = texture(height + frames, width + 2 * frames, seed)
    return np.stack([wide[t : t + height, 2 * t : 2 * t + width] for t in range(frames)])


def coordinates(frames: int, height: int, width: int) -> np.ndarray:
    """Return uint8 (T, H, W, 3) whose every pixel says where it is: row, column, and 10 times its frame."""
    t, y, x = np.mgrid[:frames, :height, :width]
    return np.stack([y, x, 10 * t], axis=-1).astype(np.uint8)


def write_folder(path: Path, frames: np.ndarray, suffix: str = ".png", names: list[str] | None = None) -> Path:
    """Write frames as images; WebP without loss, JPEG with little."""
    path.mkdir(parents=True)
    options = {".webp": {"lossless": True}, ".png": {}}.get(suffix.lower(), {"quality": 95, "subsampling": 0})
    for index, frame in enumerate(frames):
        name = names[index] if names else f"{index:03d}"
        Image.fromarray(frame).save(path / f"{name}{suffix}", **options)
    return path


def write_video(path: Path, frames: np.ndarray) -> Path:
    """Write frames as H.264, visually lossless."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"crf": "1"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv444p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
        container.mux(stream.encode())
    return path


def write_clips(root: Path, count: int = 2, frames: int = 9) -> Path:
    """Write a folder of frame folders, as Vid4 comes."""
    for index in range(count):
        write_folder(root / f"clip{index}", panning(frames, seed=index))
    return root


def held_out(data: Path) -> tuple[str, ...]:
    """Return a source of validation clips for the clips of a folder: other textures, written beside it once."""
    folder = data.parent / f"{data.name}-held-out"
    if not folder.exists():
        write_folder(folder / "held-out", panning(9, seed=99))
    return (str(folder),)


def optim(**changes: object) -> OptimConfig:
    return OptimConfig(**{"steps": 4, "batch": 2, "learning_rate": 1e-3, "log_every": 1, "device": "cpu"} | changes)


def pretraining(
    data: Path, *, loss: str = "l1", validate_every: int = 0, start: str = "", **changes: object
) -> PretrainingConfig:
    """Return the smallest pretraining on the clips of a folder."""
    return PretrainingConfig(
        generator="rbpn-tiny",
        initial_weights=start,
        loss=loss,
        data=DataConfig(data=(str(data),), split="all", validation=held_out(data) if validate_every else (), patch=8),
        optim=optim(**changes),
        validate_every=validate_every,
    )


def finetuning(
    data: Path, arm: str, *, start: str = "", more: dict | None = None, **changes: object
) -> FinetuningConfig:
    """Return the smallest fine-tuning of an arm on the clips of a folder; `more` is for the arm, `changes` for Adam."""
    settings = {"discriminator_width": 2, "validate_every": 0, "crops_every": 0, "fade": 0} | (more or {})
    validated = settings["validate_every"] or settings["crops_every"]
    return FinetuningConfig(
        arm=find_arm(arm),
        generator="rbpn-tiny",
        initial_weights=start,
        data=DataConfig(data=(str(data),), split="all", validation=held_out(data) if validated else (), patch=8),
        optim=optim(**{"schedule": "constant"} | changes),
        **settings,
    )
