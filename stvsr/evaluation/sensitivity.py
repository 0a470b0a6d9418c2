"""Sensitivity of metrics: clips with one known defect each, every metric on them, one PSNR under several protocols."""

from collections.abc import Mapping

import cv2
import numpy as np
import pandas as pd

from stvsr.metrics.fidelity import luma, plane_psnr
from stvsr.metrics.protocols import METRICS, TRUTH, Protocol
from stvsr.metrics.scoring import score_methods

EVERYTHING = Protocol(
    name="sensitivity",
    version=1,
    colour="y",
    metrics=tuple(METRICS),
    source="notebook on metrics: every metric, full frames",
)


def defects(truth: np.ndarray, *, strength: float = 1.0, seed: int = 0) -> dict[str, np.ndarray]:
    """Return copies of a clip, uint8 (T, H, W, 3), with one known defect each.

    blur: Gaussian, sigma 1.5 px. noise: sd 8 of 255, new in every frame. frozen noise: the same in every frame.
    flicker: brightness alternates by 6 levels. brightness: 6 levels everywhere. shifted: one pixel to the right.
    one frame late: frame t shows frame t-1. shuffled: neighbouring frames change places. frozen: all frames show the
    middle one. `strength` scales blur, noise, flicker and brightness.
    """
    rng = np.random.default_rng(seed)
    clean = truth.astype(np.float64)
    noise = rng.normal(0, 8 * strength, clean.shape)
    sign = np.where(np.arange(len(truth)) % 2, 1, -1)[:, None, None, None]
    order = np.arange(len(truth)) ^ 1  # 1 0 3 2 5 4 ...
    order[order >= len(truth)] = len(truth) - 1
    sigma = max(1.5 * strength, 0.1)
    return {
        "blur": np.stack([cv2.GaussianBlur(frame, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) for frame in truth]),
        "noise": _to_8_bits(clean + noise),
        "frozen noise": _to_8_bits(clean + noise[:1]),
        "flicker": _to_8_bits(clean + 6 * strength * sign),
        "brightness": _to_8_bits(clean + 6 * strength),
        "shifted": np.concatenate([truth[:, :, :1], truth[:, :, :-1]], axis=2),
        "one frame late": truth[[0, *range(len(truth) - 1)]],
        "shuffled": truth[order],
        "frozen": np.repeat(truth[len(truth) // 2][None], len(truth), axis=0),
    }


def score_defects(versions: Mapping[str, np.ndarray], truth: np.ndarray) -> pd.DataFrame:
    """Return the mean of every metric for every version of a clip: a row per version, the truth's own values first.

    Clips are uint8 (T, H, W, 3), at least 96x192 for NIQE. Columns are the metrics' labels; NaN where the truth has no
    value of its own, infinite PSNR of equal frames counts as 100 dB.
    """
    scores = score_methods(versions, truth, EVERYTHING)
    scores["value"] = scores["value"].clip(upper=100.0)
    table = scores.pivot_table(index="method", columns="metric", values="value", sort=False)
    table = table.reindex(index=[TRUTH, *versions], columns=list(METRICS))
    return table.rename(columns={name: metric.label for name, metric in METRICS.items()})


def strength_of_effect(table: pd.DataFrame) -> pd.DataFrame:
    """Return how strongly each metric reacts to each defect: 0 nothing, 1 its strongest reaction in the table.

    A reaction is the distance from the value of a perfect result: 0 for distances, 1 for SSIM, 60 dB for PSNR (above
    that, errors are invisible), and the truth's own value where it has one.
    """
    ideal = pd.Series(0.0, index=table.columns)
    ideal["PSNR"], ideal["SSIM"] = 60.0, 1.0
    perfect = table.loc[TRUTH].fillna(ideal)
    reaction = (table.drop(index=TRUTH) - perfect).abs()
    reaction["PSNR"] = (60.0 - table.drop(index=TRUTH)["PSNR"]).clip(lower=0)
    return reaction / reaction.max()


def psnr_variants(unrounded: np.ndarray, truth: np.ndarray, border: int = 8) -> dict[str, float]:
    """Return one PSNR (dB) of a clip under protocols that papers use without saying so.

    Y of all pixels in 8 bits (`literature-y`), before rounding to 8 bits, RGB, Y without a border, Y with a grey
    formula of full range, error averaged over the clip before the logarithm, and Y after a shift by one pixel, as a
    degradation with another phase causes it.

    Args:
        unrounded: a generator's output, float (T, H, W, 3), levels of 255.
        truth: uint8 (T, H, W, 3).
        border: pixels that are cut on each side.
    """
    pairs = list(zip(_to_8_bits(unrounded), truth, strict=True))
    exact = [plane_psnr(luma(a), luma(b)) for a, b in zip(unrounded, truth, strict=True)]
    grey = np.array([0.299, 0.587, 0.114])
    inner = (slice(border, -border), slice(border, -border))
    mean_error = np.mean([(luma(a) - luma(b)) ** 2 for a, b in pairs])
    return {
        "Y, all pixels": _mean([plane_psnr(luma(a), luma(b)) for a, b in pairs]),
        "Y, not rounded to 8 bits": _mean(exact),
        "RGB": _mean([plane_psnr(a, b) for a, b in pairs]),
        f"Y, {border} px border cut": _mean([plane_psnr(luma(a)[inner], luma(b)[inner]) for a, b in pairs]),
        "grey, full range": _mean([plane_psnr(a @ grey, b @ grey) for a, b in pairs]),
        "Y, error averaged over the clip": float(10 * np.log10(255**2 / mean_error)),
        "Y, shifted by one pixel": _mean([plane_psnr(luma(a)[:, 1:], luma(b)[:, :-1]) for a, b in pairs]),
    }


def _mean(values: list[float]) -> float:
    return float(np.mean(values))


def _to_8_bits(clip: np.ndarray) -> np.ndarray:
    return np.clip(np.round(clip), 0, 255).astype(np.uint8)
