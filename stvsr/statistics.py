"""What the numbers allow one to say: paired comparisons with intervals, Holm's correction and a plain sentence.

Values are paired by clip and frame, and by seed where both arms have seeds. Which bootstrap follows from how many clips there are:

- five clips or more: whole clips are drawn, and seeds as a second, crossed level. The statement is about clips like these. A
  drawn clip brings its frames' noise along, so frames are not drawn again inside it (that would count their noise twice;
  Davison and Hinkley 1997, section 3.8). The bootstrap is studentised: percentiles of so few clips are too narrow.
- four clips or fewer cannot speak for other clips, and a bootstrap over so few is known to be too narrow. Frames are drawn in
  blocks within each clip, and the statement is about more frames of these clips only.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from stvsr.errors import InputError
from stvsr.metrics.catalogue import METRICS

TRUTH = "truth"
FEWEST_CLIPS = 5  # to speak for clips that were not seen
FEWEST_FRAMES = 4  # of a clip, to see how much its frames vary
CONFIDENCE = 0.95
DRAWS = 2000
LARGEST = 4_000_000  # draws x clips held at once; thousands of clips need fewer draws
MARGIN = 1.5  # standard errors of the estimated autocorrelation
HIGHEST = 0.95  # autocorrelation beyond which a short clip cannot tell anything
PSNR_CAP = 100.0  # dB; stands in for the infinite PSNR of equal frames, which has no mean
NO_SEED = -1  # of a method that was not trained, such as bicubic
PAIR = ["clip", "frame"]
FAMILY = ["protocol", "metric"]  # rows of different protocols are never pooled


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over seeds, clips and frames with its interval; `low`, `high` and `p` are NaN where nothing varies visibly."""

    mean: float
    low: float
    high: float
    p: float


def compare(
    metrics: pd.DataFrame, control: str = "pixel-control", *, confidence: float = CONFIDENCE, draws: int = DRAWS, seed: int = 0
) -> pd.DataFrame:
    """Compare every arm with the control, on every metric of every protocol.

    Args:
        metrics: rows of `metrics.csv`; rows of method `truth` are references and not compared.
        control: the arm all others are compared with.
        confidence: of the intervals; 1 - confidence is also the error rate of the verdicts.
        draws: bootstrap draws.
        seed: of the draws.

    Returns:
        One row per protocol, metric and arm: `arm, metric, protocol, difference` (arm - control), `low, high, p, p_holm`
        (corrected over the arms of one metric), `verdict` ("better", "worse" or "not told apart"), `sentence`, `clips`,
        `frames`, `seeds`.

    Raises:
        InputError: the control is absent, or an arm was not measured on the control's clips, frames and seeds.
    """
    metrics = _prepared(metrics)
    if control not in set(metrics["arm"]):
        raise InputError(f"control {control!r} is not in the metrics: choose from {', '.join(sorted(set(metrics['arm'])))}")
    tables = []
    for (protocol, metric), rows in metrics[metrics["arm"] != TRUTH].groupby(FAMILY, sort=False):
        reference = rows[rows["arm"] == control]
        others = [arm for arm in rows["arm"].unique() if arm != control]
        if reference.empty or not others:
            continue
        paired = {arm: _differences(rows[rows["arm"] == arm], reference, arm, control) for arm in others}
        paired = {arm: values for arm, values in paired.items() if values}
        estimates = [estimate(values, confidence=confidence, draws=draws, seed=seed) for values in paired.values()]
        adjusted = holm([found.p for found in estimates])
        tables += [
            _verdict(arm, control, metric, protocol, paired[arm], found, p_holm, _seeds(rows, arm, control), 1 - confidence)
            for arm, found, p_holm in zip(paired, estimates, adjusted, strict=True)
        ]
    columns = [
        "arm",
        "metric",
        "protocol",
        "difference",
        "low",
        "high",
        "p",
        "p_holm",
        "verdict",
        "sentence",
        "clips",
        "frames",
        "seeds",
    ]
    return pd.DataFrame(tables, columns=columns)


def summarise(metrics: pd.DataFrame, *, confidence: float = CONFIDENCE, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """Average every arm (and peer, and the truth) on every metric of every protocol.

    Args:
        metrics: rows of `metrics.csv`.
        confidence: of the intervals.
        draws: bootstrap draws.
        seed: of the draws.

    Returns:
        One row per arm, protocol and metric: `mean` (over seeds and frames, then over clips, as the tables of the field),
        `low`, `high`, `frame_mean` (over all frames), `clips`, `frames`, `seeds` (0 for a method without seeds).
    """
    rows = []
    for (arm, protocol, metric), group in _prepared(metrics).groupby(["arm", *FAMILY], sort=False):
        values = _stacked(_table(group, arm))
        if not values:
            continue
        found = estimate(values, confidence=confidence, draws=draws, seed=seed)
        rows.append(
            {
                "arm": arm, "protocol": protocol, "metric": metric, "mean": found.mean, "low": found.low, "high": found.high,
                "frame_mean": float(np.concatenate([clip.mean(0) for clip in values]).mean()),
                "clips": len(values), "frames": sum(clip.shape[1] for clip in values), "seeds": len(_trained(group)),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def clip_means(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return `arm, protocol, metric, clip, mean`: the average over a clip's frames, and over seeds."""
    means = _prepared(metrics).groupby(["arm", *FAMILY, "clip"], sort=False)["value"].mean()
    return means.rename("mean").reset_index()


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return p-values adjusted for their number by Holm's step-down method (1979); NaN stays NaN and is not counted."""
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * factors))
    return adjusted


def estimate(values: Sequence[np.ndarray], *, confidence: float = CONFIDENCE, draws: int = DRAWS, seed: int = 0) -> Estimate:
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
    if error <= 1e-12 * max(1.0, abs(mean)):  # the same difference everywhere: nothing is left to chance
        return Estimate(mean=mean, low=mean, high=mean, p=float(abs(mean) <= 1e-12))
    # with few seeds the draws are too coarse, with skewed clips Student's t is too narrow: take the wider of the two
    quantile = max(stats.t.ppf((1 + confidence) / 2, freedom), np.quantile(extremes, confidence) if len(extremes) else 0.0)
    score = abs(mean) / error
    p = max(2 * stats.t.sf(score, freedom), (1 + (extremes >= score).sum()) / (1 + len(extremes)) if len(extremes) else 0.0)
    return Estimate(mean=mean, low=float(mean - quantile * error), high=float(mean + quantile * error), p=float(min(1.0, p)))


def _by_clips(cells: np.ndarray, draws: int, random: np.random.Generator) -> tuple[float, float, np.ndarray]:
    """Draw clips and seeds (crossed); return standard error, degrees of freedom and the draws' |t|, which studentises them."""
    seeds, clips = cells.shape
    draws = min(draws, max(199, LARGEST // clips))
    mean, variance, freedom = _crossed(cells, np.full((1, seeds), 1 / seeds), np.full((1, clips), 1 / clips))
    of_seeds = random.multinomial(seeds, np.full(seeds, 1 / seeds), draws) / seeds
    of_clips = random.multinomial(clips, np.full(clips, 1 / clips), draws) / clips
    drawn, spread, _ = _crossed(cells, of_seeds, of_clips)
    floor = 1e-12 * variance[0] + np.finfo(float).tiny  # a draw of one clip only has no spread: its |t| is as large as can be
    return float(np.sqrt(variance[0])), float(freedom[0]), np.abs(drawn - mean) / np.sqrt(np.maximum(spread, floor))


def _crossed(cells: np.ndarray, of_seeds: np.ndarray, of_clips: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, its variance and Satterthwaite's degrees of freedom of (seeds, clips) cells under each row of weights.

    Two-way clustered (Cameron, Gelbach and Miller 2011): variance between clips, plus between seeds, minus what both count.
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


def _satterthwaite(variances: Sequence[np.ndarray], freedoms: Sequence[float]) -> np.ndarray:
    """Return the degrees of freedom of a sum of independent variance estimates (Satterthwaite 1946)."""
    parts = sum(variance**2 / freedom for variance, freedom in zip(variances, freedoms, strict=True))
    return sum(variances) ** 2 / np.maximum(parts, np.finfo(float).tiny)


def _by_frames(values: Sequence[np.ndarray], cells: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Draw blocks of frames within each clip, and add the seeds' variance; return standard error and degrees of freedom.

    The block bootstrap's variance is computed exactly, which is what infinitely many draws would give, and divided by the share
    of the true variance that blocks of this length see under the clips' common autocorrelation. That one is taken
    above its estimate, so that false alarms stay below their rate where few frames change slowly (simulated up to 0.8).
    """
    series = [clip.mean(axis=0) for clip in values]
    correlation = autocorrelation(series)
    correlation = min(HIGHEST, correlation + MARGIN * np.sqrt((1 - correlation**2) / sum(map(len, series))))
    variance, freedom = 0.0, 0.0
    for frames in series:
        length, count = block_length(len(frames)), len(frames)
        true = mean_variance(correlation, count)
        variance += block_variance(frames, length) * true / _seen_variance(correlation, count, length) / len(series) ** 2
        freedom += min(count / length, 1 / true) - 1
    freedom, none = max(1.0, freedom), np.empty(0)
    seeds = cells.shape[0]
    if seeds == 1:
        return float(np.sqrt(variance)), freedom, none
    between = cells.mean(axis=1).var(ddof=1) / seeds
    return float(np.sqrt(variance + between)), float(_satterthwaite([variance, between], [freedom, seeds - 1])), none


def block_length(count: int) -> int:
    """Return the frames per block: a quarter of the clip, or its root where that is longer, so that dependence fits inside."""
    return int(np.ceil(max(count / 4, np.sqrt(count))))


def block_variance(frames: np.ndarray, length: int) -> float:
    """Return the variance of the mean of (T,) values under a circular block bootstrap (Politis and Romano 1992), exactly."""
    around = np.concatenate([frames, frames[: length - 1]])
    means = np.convolve(around, np.full(length, 1 / length), mode="valid")
    return float(((means - frames.mean()) ** 2).mean() * length / len(frames))


def mean_variance(correlation: float, count: int | np.ndarray) -> float | np.ndarray:
    """Return var(mean of n) / var(one) of a first-order autoregression with this correlation between neighbours."""
    rest = 1 - correlation
    return ((1 + correlation) / rest - 2 * correlation * (1 - correlation**count) / (count * rest**2)) / count


def _seen_variance(correlation: float, count: int, length: int) -> float:
    """Return the expected `block_variance` of unit-variance autoregressive frames; a block around the end is two pieces."""
    tail = np.arange(1, length)
    head, rest = length - tail, 1 - correlation
    between = correlation ** (count - length + 1) * (1 - correlation**tail) * (1 - correlation**head) / rest**2
    around = tail**2 * mean_variance(correlation, tail) + head**2 * mean_variance(correlation, head) + 2 * between
    blocks = ((count - length + 1) * mean_variance(correlation, length) + around.sum() / length**2) / count
    return (blocks - mean_variance(correlation, count)) * length / count


def autocorrelation(series: Iterable[np.ndarray]) -> float:
    """Estimate the correlation between successive frames, common to all clips, without the bias of short clips; in [0, 0.95].

    The sample value is too low because each clip's mean is estimated too: the correlation returned is the one under which
    the sample value is expected.
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


def _prepared(metrics: pd.DataFrame) -> pd.DataFrame:
    """Cap infinite PSNR; refuse unknown metrics, and two settings under one protocol's name."""
    unknown = set(metrics["metric"]) - METRICS.keys()
    if unknown:
        raise InputError(f"metric {', '.join(sorted(unknown))} is unknown: choose from {', '.join(METRICS)}")
    for protocol, rows in metrics.groupby("protocol", sort=False):
        for name in rows.columns.intersection(["version", "border", "dropped", "degradation"]):
            if rows[name].nunique() > 1:
                found = ", ".join(map(str, rows[name].unique()))
                raise InputError(f"protocol {protocol} has rows of {name} {found}: such numbers do not compare, pass one at a time")
    capped = metrics["value"].where(metrics["metric"] != "psnr", metrics["value"].clip(upper=PSNR_CAP))
    return metrics.assign(value=capped, seed=pd.to_numeric(metrics["seed"]).fillna(NO_SEED).astype(int))


def _table(rows: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Return one arm's values of one metric, (clip, frame) by seed; every seed must have every frame."""
    keys = rows.set_index([*PAIR, "seed"])["value"]
    metric = rows["metric"].iloc[0]
    if not keys.index.is_unique:
        raise InputError(
            f"{arm} has two values of {metric} for {keys.index[keys.index.duplicated()][0]}: evaluate each method once"
        )
    table = keys.unstack("seed")
    if len(rows) != table.size:
        raise InputError(f"{arm} has {len(rows)} values of {metric}, {table.size} are needed: evaluate every seed on every frame")
    return table


def _trained(rows: pd.DataFrame) -> set[int]:
    return set(rows["seed"]) - {NO_SEED}


def _seeds(rows: pd.DataFrame, arm: str, control: str) -> int:
    """Return over how many seeds two arms are compared; 0 when neither was trained."""
    first, second = (_trained(rows[rows["arm"] == name]) for name in (arm, control))
    return len(first & second if first and second else first | second)


def _stacked(table: pd.DataFrame) -> list[np.ndarray]:
    """Return per clip an array (seeds, frames), frames in order; frames that could not be measured (NaN) are left out."""
    return [clip.to_numpy().T for _, clip in table.dropna().groupby("clip", sort=True)]


def _differences(rows: pd.DataFrame, reference: pd.DataFrame, arm: str, control: str) -> list[np.ndarray]:
    """Return per clip (seeds, frames) of arm - control; seeds pair up, and a method without seeds meets each of the other's."""
    first, second = _table(rows, arm), _table(reference, control)
    odd = first.index.symmetric_difference(second.index)
    if len(odd):
        clip, frame = odd[0]
        raise InputError(
            f"{arm} and {control} were not measured on the same frames (clip {clip}, frame {frame}): evaluate both on all"
        )
    seeds = first.columns.intersection(second.columns)
    if NO_SEED in first.columns or NO_SEED in second.columns:
        alone, seeded = (first, second) if NO_SEED in first.columns else (second, first)
        spread = pd.DataFrame({seed: alone[NO_SEED] for seed in seeded.columns})
        return _stacked(spread - second if alone is first else first - spread)
    if seeds.empty:
        raise InputError(f"{arm} has seeds {list(first.columns)}, {control} has {list(second.columns)}: train both on the same")
    return _stacked(first[seeds] - second[seeds])


def _verdict(
    arm: str,
    control: str,
    metric: str,
    protocol: str,
    values: list[np.ndarray],
    found: Estimate,
    p_holm: float,
    seeds: int,
    error_rate: float,
) -> dict:
    """Return the row of one comparison, in numbers and in a sentence."""
    told = p_holm < error_rate  # NaN compares as not told apart
    better = (found.mean > 0) == METRICS[metric].higher_is_better
    verdict = ("better" if better else "worse") if told else "not told apart"
    frames = sum(clip.shape[1] for clip in values)
    phrase = f"{verdict} than" if told else "not told apart from"
    result = f"{arm} is {phrase} {control} in {METRICS[metric].label} ({protocol}): {_numbers(found, p_holm, METRICS[metric].unit)}"
    return {
        "arm": arm, "metric": metric, "protocol": protocol, "difference": found.mean, "low": found.low, "high": found.high,
        "p": found.p, "p_holm": p_holm, "verdict": verdict, "sentence": f"{result}. {_limits(len(values), frames, seeds)}",
        "clips": len(values), "frames": frames, "seeds": seeds,
    }  # fmt: skip


def _numbers(found: Estimate, p_holm: float, unit: str) -> str:
    unit = f" {unit}" if unit else ""
    if np.isnan(found.low):
        return f"difference {found.mean:+.4g}{unit}, too few frames for an interval"
    return f"difference {found.mean:+.4g}{unit} [{found.low:+.4g}, {found.high:+.4g}], adjusted p = {p_holm:.2g}"


def _limits(clips: int, frames: int, seeds: int) -> str:
    """Say what the comparison rests on, and what it therefore cannot say."""
    if clips >= FEWEST_CLIPS:
        scope = f"On {clips} clips"
    else:
        scope = f"On the {frames} frames of {'this clip' if clips == 1 else f'these {clips} clips'} only: other clips may differ"
    if seeds == 1:
        return f"{scope}; one training seed: another training may differ."
    return f"{scope}; {seeds} training seeds." if seeds else f"{scope}."
