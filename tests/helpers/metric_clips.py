"""Small clips for the tests of metrics: recorded, moving, shuffled, blurred."""

import json
from pathlib import Path

import cv2
import numpy as np

DATA = Path(__file__).parents[1] / "recorded"


def recorded() -> tuple[np.ndarray, np.ndarray, dict]:
    """Return truth and bicubic (8, 96, 128, 3) and their published scores."""
    with np.load(DATA / "procedural_clip.npz") as clip:
        return clip["truth"], clip["bicubic"], json.loads((DATA / "procedural_clip.json").read_text())


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return a smooth colourful texture, uint8 (H, W, 3), with detail at several sizes."""
    random = np.random.default_rng(seed)
    image = np.zeros((height, width, 3))
    for cell in (4, 8, 16):
        coarse = random.random((height // cell + 2, width // cell + 2, 3))
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    image = (image - image.min()) / (image.max() - image.min())
    return (image * 255).astype(np.uint8)


def stop_motion(frames: int = 8, size: int = 96, step: int = 3) -> np.ndarray:
    """Return (T, size, size, 3): a texture that moves `step` pixels right at every second frame and rests between."""
    wide = texture(size, size + step * frames)
    return np.stack([wide[:, step * (frames - index // 2) :][:, :size] for index in range(frames)])


def shuffled(clip: np.ndarray) -> np.ndarray:
    """Return the same frames in an order in which no two successive frames stay together."""
    half = len(clip) // 2
    return clip[[half * (index % 2) + index // 2 for index in range(2 * half)]]


def blurred(clip: np.ndarray, sigma: float = 2.0) -> np.ndarray:
    """Return every frame under the same Gaussian blur."""
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in clip])
