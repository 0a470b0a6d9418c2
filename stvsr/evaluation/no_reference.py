"""Scores of an upscaled clip without a ground truth: naturalness, steadiness, consistency with the recording."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from stvsr import assets
from stvsr.degradation import degrade
from stvsr.errors import InputError
from stvsr.inference.upscale_file import UpscaleConfig
from stvsr.inference.upscaler import bicubic_upscaler
from stvsr.metrics.fidelity import psnr
from stvsr.metrics.niqe import niqe
from stvsr.metrics.temporal import warping_error
from stvsr.video.reader import open_clip

METRICS = {  # how to read each, in a table's cell
    "NIQE": "unnatural statistics; lower is better",
    "warping error x1000": "unexplained by motion; lower is steadier",
    "consistency, dB": "shrunk again, against the recorded; higher",
}


def find_clip(name: str) -> Path:
    """Return the path of a sample clip, or the name itself as a path.

    Raises:
        InputError: it is neither a sample clip nor a file or folder.
    """
    if name in assets.ASSETS:
        return assets.locate(name)
    if not Path(name).exists():
        raise InputError(f"clip {name} does not exist: give a video, a frame folder, or carphone, bikes, bigbuckbunny")
    return Path(name)


def recorded_part(config: UpscaleConfig) -> np.ndarray:
    """Return the input frames that `upscale(config)` reads: uint8 (T, h, w, 3)."""
    with open_clip(config.input) as clip:
        return np.stack([frame for _, frame in clip.timed(*config.span)])


def halves(both: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the halves of side-by-side frames (T, H, 2W, 3) that `compare` writes: bicubic, then the model."""
    bicubic, model = np.split(both, 2, axis=2)
    return bicubic, model


def judge(results: Mapping[str, np.ndarray], recorded: np.ndarray, scale: int = 4) -> pd.DataFrame:
    """Return the no-reference scores of several results of one clip, one row per method, frame and metric.

    NIQE: how far a frame's statistics are from those of natural pictures. Warping error: change from frame to frame
    that the motion of the bicubic clip does not explain (blur lowers it as well). Consistency: Y-PSNR of the result,
    shrunk again by BI, against what was recorded: an invention that contradicts the recording costs, any other is free.

    Args:
        results: method -> uint8 (T, scale*h, scale*w, 3) RGB.
        recorded: uint8 (T, h, w, 3) RGB, the clip they were made from; its enlargement gives the flow of the warping
        error.

    Returns:
        Columns `method`, `frame` (0-based), `metric` (a key of METRICS), `value`.

    Raises:
        InputError: a result is not `scale` times as large as the clip, or has not its length.
    """
    shape = (len(recorded), scale * recorded.shape[1], scale * recorded.shape[2], 3)
    for method, frames in results.items():
        if frames.shape != shape:
            raise InputError(f"{method} has shape {frames.shape}: {shape} is {scale} times the clip")
    rows = [row for method, frames in results.items() for row in _scores(method, frames, recorded, scale)]
    return pd.DataFrame(rows, columns=["method", "frame", "metric", "value"])


def _scores(method: str, frames: np.ndarray, recorded: np.ndarray, scale: int) -> Iterator[tuple[str, int, str, float]]:
    naturalness, steadiness, agreement = METRICS
    for index, (frame, small) in enumerate(zip(frames, recorded, strict=True)):
        yield method, index, naturalness, niqe(frame)
        yield method, index, agreement, psnr(degrade(frame[None], "bi", scale)[0], small)
    if len(frames) > 1:
        reference = bicubic_upscaler(scale)(recorded)
        for index, value in enumerate(warping_error(frames, list(reference)), start=1):
            yield method, index, steadiness, float(value)


def summary(scores: pd.DataFrame, order: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the means over frames: a row per metric with its meaning, a column per method."""
    table = scores.pivot_table(index="metric", columns="method", values="value", sort=False)
    return table[list(order or scores["method"].unique())].round(3).assign(meaning=table.index.map(METRICS))
