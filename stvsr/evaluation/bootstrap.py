"""Intervals for a mean over seeds, clips and frames: studentised cluster bootstrap, block bootstrap, Holm's correction.

The number of clips decides which bootstrap is used:

- Five clips or more: whole clips are drawn, and seeds as a second, crossed level. The interval is about clips like
  these. A drawn clip keeps its frames' noise, so frames are not drawn again inside it, which would count their noise
  twice. The bootstrap is studentised, because percentile intervals of so few clips are too narrow.
- Four clips or fewer: they cannot represent other clips, and a bootstrap over so few clips is too narrow. Blocks of
  frames are drawn within each clip, and the interval is about more frames of these clips only.

References:
    Cameron, Gelbach and Miller 2011, Robust inference with multiway clustering (variance over clips and seeds).
    Davison and Hinkley 1997, Bootstrap methods and their application, section 3.8 (nested data) and 5.2 (studentised).
    Holm 1979, A simple sequentially rejective multiple test procedure.
    Politis and Romano 1992, A circular block-resampling procedure for stationary data.
    Satterthwaite 1946, An approximate distribution of estimates of variance components (degrees of freedom).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

FEWEST_CLIPS = 5  # for an interval about other clips
FEWEST_FRAMES = 4  # of a clip, to estimate how much its frames vary
CONFIDENCE = 0.95
DRAWS = 2000
LARGEST = 4_000_000  # draws x clips held at once; thousands of clips need fewer draws
MARGIN = 1.5  # standard errors of the estimated autocorrelation
HIGHEST = 0.95  # largest autocorrelation that is assumed


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds, clips and frames with its interval; `low`, `high` and `p` are NaN for too few frames."""

    mean: float
    low: float
    high: float
    p: float


def within(found: Estimate, low: float, high: float) -> tuple[float, float]:
    """Return an estimate's interval cut at the ends of the range of what it estimates; NaN stays NaN.

    The true value lies in that range, so the part cut off never covers it and the coverage stays the same.
    """
    if np.isnan(found.low):
        return found.low, found.high
    return max(found.low, low), min(found.high, high)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return p-values adjusted for their number by Holm's step-down method (1979); NaN stays NaN and is not counted."""
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * factors))
    return adjusted


def estimate(
    values: Sequence[np.ndarray], *, confidence: float = CONFIDENCE, draws: int = DRAWS, seed: int = 0
) -> Estimate:
    """Estimate the mean over clips of paired differences (or plain values), with an interval and a p-value against 0.

    Args:
        values: per clip an array (seeds, frames), in frame order; every clip has the same seeds.
        confidence: of the interval.
        draws: bootstrap draws.
        seed: of the draws.
    """
    cells = np.stack([clip.mean(axis=1) for clip in values], axis=1)  # (seeds, clips)
    mean = float(cells.mean())
    if len(values) >= FEWEST_CLIPS:
        error, freedom, extremes = _by_clips(cells, draws, np.random.default_rng(seed))
    elif min(clip.shape[1] for clip in values) >= FEWEST_FRAMES:
        error, freedom, extremes = _by_frames(values, cells)
    else:
        return Estimate(mean=mean, low=np.nan, high=np.nan, p=np.nan)
    if error <= 1e-12 * max(1.0, abs(mean)):  # the same value everywhere: no uncertainty
        return Estimate(mean=mean, low=mean, high=mean, p=float(abs(mean) <= 1e-12))
    # with few seeds the draws are too coarse, with skewed clips Student's t is too narrow: take the wider of the two
    quantile = max(
        stats.t.ppf((1 + confidence) / 2, freedom), np.quantile(extremes, confidence) if len(extremes) else 0.0
    )
    score = abs(mean) / error
    p = max(
        2 * stats.t.sf(score, freedom), (1 + (extremes >= score).sum()) / (1 + len(extremes)) if len(extremes) else 0.0
    )
    return Estimate(
        mean=mean, low=float(mean - quantile * error), high=float(mean + quantile * error), p=float(min(1.0, p))
    )


def _by_clips(cells: np.ndarray, draws: int, random: np.random.Generator) -> tuple[float, float, np.ndarray]:
    """Draw clips and seeds (crossed); return standard error, degrees of freedom and the draws' |t|."""
    seeds, clips = cells.shape
    draws = min(draws, max(199, LARGEST // clips))
    mean, variance, freedom = _crossed(cells, np.full((1, seeds), 1 / seeds), np.full((1, clips), 1 / clips))
    of_seeds = random.multinomial(seeds, np.full(seeds, 1 / seeds), draws) / seeds
    of_clips = random.multinomial(clips, np.full(clips, 1 / clips), draws) / clips
    drawn, spread, _ = _crossed(cells, of_seeds, of_clips)
    floor = (
        1e-12 * variance[0] + np.finfo(float).tiny
    )  # a draw of a single clip has no spread: its |t| becomes very large
    return float(np.sqrt(variance[0])), float(freedom[0]), np.abs(drawn - mean) / np.sqrt(np.maximum(spread, floor))


def _crossed(
    cells: np.ndarray, of_seeds: np.ndarray, of_clips: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, variance and Satterthwaite's degrees of freedom of (seeds, clips) cells under each row of weights.

    Two-way clustered (Cameron, Gelbach and Miller 2011): variance between clips, plus between seeds, minus what both
    count.
    """
    seeds, clips = cells.shape
    by_seed, by_clip = cells @ of_clips.T, of_seeds @ cells  # (seeds, draws), (draws, clips)
    mean = (of_seeds * by_seed.T).sum(1)
    of_all = np.einsum("bs,sc,bc->b", of_seeds, cells**2, of_clips) - mean**2
    clip_spread = np.maximum((of_clips * (by_clip - mean[:, None]) ** 2).sum(1), 0)
    between_clips = clip_spread / (clips - 1)
    if seeds == 1:
        return mean, between_clips, np.full_like(mean, clips - 1)
    seed_spread = np.maximum((of_seeds * (by_seed.T - mean[:, None]) ** 2).sum(1), 0)
    between_seeds = seed_spread / (seeds - 1)
    both = np.maximum(of_all - clip_spread - seed_spread, 0) / ((seeds - 1) * (clips - 1))
    variance = np.maximum(between_clips + between_seeds - both, np.maximum(between_clips, between_seeds))
    return mean, variance, _satterthwaite([between_clips, between_seeds], [clips - 1, seeds - 1])


def _satterthwaite(variances: Sequence[Any], freedoms: Sequence[float]) -> Any:
    """Return the degrees of freedom of a sum of independent variance estimates (Satterthwaite 1946)."""
    parts = sum(variance**2 / freedom for variance, freedom in zip(variances, freedoms, strict=True))
    return sum(variances) ** 2 / np.maximum(parts, np.finfo(float).tiny)


def _by_frames(values: Sequence[np.ndarray], cells: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Draw blocks of frames within each clip, add the seeds' variance; return standard error and degrees of freedom.

    The block bootstrap's variance is computed exactly, which is what infinitely many draws would give, and divided by
    the share of the true variance that blocks of this length contain under the clips' common autocorrelation. The
    autocorrelation is taken above its estimate, so that false alarms stay below their rate where few frames change
    slowly (simulated up to 0.8).
    """
    series = [clip.mean(axis=0) for clip in values]
    correlation = autocorrelation(series)
    correlation = min(HIGHEST, correlation + MARGIN * np.sqrt((1 - correlation**2) / sum(map(len, series))))
    variance, freedom = 0.0, 0.0
    for frames in series:
        length, count = block_length(len(frames)), len(frames)
        true = mean_variance(correlation, count)
        variance += (
            block_variance(frames, length) * true / _seen_variance(correlation, count, length) / len(series) ** 2
        )
        freedom += min(count / length, 1 / true) - 1
    freedom, none = max(1.0, freedom), np.empty(0)
    seeds = cells.shape[0]
    if seeds == 1:
        return float(np.sqrt(variance)), freedom, none
    between = cells.mean(axis=1).var(ddof=1) / seeds
    # Satterthwaite's degrees of freedom promise too much when few seeds vary as much as frames do: 10% false verdicts
    # instead of 5% with three seeds and two clips. The seeds' own are the safe choice.
    return float(np.sqrt(variance + between)), float(min(freedom, seeds - 1)), none


def block_length(count: int) -> int:
    """Return the frames per block: a quarter of the clip or its square root, whichever is longer."""
    return int(np.ceil(max(count / 4, np.sqrt(count))))


def block_variance(frames: np.ndarray, length: int) -> float:
    """Return the exact variance of the mean of (T,) values under the circular block bootstrap of Politis and Romano."""
    around = np.concatenate([frames, frames[: length - 1]])
    means = np.convolve(around, np.full(length, 1 / length), mode="valid")
    return float(((means - frames.mean()) ** 2).mean() * length / len(frames))


def mean_variance(correlation: Any, count: Any) -> Any:
    """Return var(mean of n) / var(one) of a first-order autoregression with this correlation between neighbours."""
    rest = 1 - correlation
    return ((1 + correlation) / rest - 2 * correlation * (1 - correlation**count) / (count * rest**2)) / count


def _seen_variance(correlation: float, count: int, length: int) -> float:
    """Return the expected `block_variance` of unit-variance autoregressive frames; blocks wrap around the end."""
    tail = np.arange(1, length)
    head, rest = length - tail, 1 - correlation
    between = correlation ** (count - length + 1) * (1 - correlation**tail) * (1 - correlation**head) / rest**2
    around = tail**2 * mean_variance(correlation, tail) + head**2 * mean_variance(correlation, head) + 2 * between
    blocks = ((count - length + 1) * mean_variance(correlation, length) + around.sum() / length**2) / count
    return (blocks - mean_variance(correlation, count)) * length / count


def autocorrelation(series: Iterable[np.ndarray]) -> float:
    """Estimate the correlation between successive frames, common to all clips, free of short clips' bias; in [0, 0.95].

    The sample value is too low because each clip's mean is estimated too: the correlation returned is the one under
    which the sample value is expected.
    """
    centred = [frames - frames.mean() for frames in series]
    total = sum((frames**2).sum() for frames in centred)
    if total == 0:
        return 0.0
    sample = sum((frames[1:] * frames[:-1]).sum() for frames in centred) / total
    grid = np.linspace(0, HIGHEST, 96)
    counts = np.array([len(frames) for frames in centred])[:, None]
    variance = mean_variance(grid, counts)
    edge = (1 - grid**counts) / (counts * (1 - grid))
    expected = ((counts - 1) * grid - (counts + 1) * variance + 2 * edge).sum(0) / (counts * (1 - variance)).sum(0)
    return float(np.interp(sample, expected, grid))
