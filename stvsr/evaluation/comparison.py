"""Paired comparisons between arms: differences with intervals, Holm-corrected p-values, a verdict and a sentence.

An arm with a discriminator has two references. Its difference from the control is the effect of all its losses. Its
difference from its twin, which has the same losses and steps without the discriminator, is the effect of the
discriminator; nothing else is attributed to it.

Values are paired by clip and frame, and by seed where both arms have seeds; `stvsr.evaluation.bootstrap` turns the
differences into an interval. With five clips or more it is about clips like these, with fewer about more frames of
these clips only.
"""

import math
from collections.abc import Callable, Collection, Hashable, Mapping

import numpy as np
import pandas as pd

from stvsr.arms import ALIASES, ARMS
from stvsr.errors import InputError
from stvsr.evaluation.bootstrap import (
    CONFIDENCE,
    DRAWS,
    FEWEST_CLIPS,
    FEWEST_FRAMES,
    Estimate,
    estimate,
    holm,
    within,
)
from stvsr.metrics.protocols import METRICS, TRUTH
from stvsr.metrics.tables import PSNR_CAP

BETTER, WORSE, NO_DIFFERENCE = "better", "worse", "no difference detected"
NO_SEED = -1  # of a method that was not trained, such as bicubic
PAIR = ["clip", "frame"]
FAMILY = ["protocol", "metric"]  # rows of different protocols are never pooled
COLUMNS = [
    "arm", "reference", "is_twin", "metric", "protocol", "difference", "low", "high", "p", "p_holm",
    "verdict", "sentence", "clips", "frames", "seeds",
]  # fmt: skip


def compare(
    metrics: pd.DataFrame,
    control: str | None = "pixel-control",
    *,
    demonstrations: Collection[str] = (),
    twins: Mapping[str, str] | None = None,
    confidence: float = CONFIDENCE,
    draws: int = DRAWS,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare every arm with the control, and with its twin, on every metric of every protocol.

    Where the truth has its own value (warping error, flicker, NIQE, signed tLP), the distance from it is compared,
    frame by frame: blur alone brings such a metric below the truth, which is not an improvement.

    P-values of differences from the control are corrected over the arms of one metric. P-values of differences from
    twins are corrected over all arms, twins and metrics of a protocol: over all that a protocol says about
    discriminators, the chance of attributing anything to one without an effect is at most 1 - confidence.

    Args:
        metrics: rows of `metrics.csv`; rows of method `truth` are references and not compared.
        control: the arm that all others are compared with; None for twins only.
        demonstrations: arms whose training was not as long as the control's: compared with their twins only.
        twins: arm -> its twin; by default as `stvsr.arms` declares them. A twin that was not measured is ignored.
        confidence: of the intervals; 1 - confidence is also the error rate of the verdicts.
        draws: bootstrap draws.
        seed: of the draws.

    Returns:
        One row per protocol, metric, arm and reference: `arm, reference, is_twin, metric, protocol, difference` (arm -
        reference), `low, high, p, p_holm, verdict` ("better", "worse" or "no difference detected"), `sentence, clips,
        frames, seeds`. Intervals are not corrected; they end at the largest difference that the metric's range allows.

    Raises:
        InputError: the control is absent, or an arm was not measured on its reference's clips, frames and seeds.
    """
    metrics = prepared(metrics)
    measured = set(metrics["arm"])
    if control is not None and control not in measured:
        raise InputError(f"control {control!r} is not in the metrics: choose from {', '.join(sorted(measured))}")
    twins = {arm: twin for arm in measured if (twin := twin_of(arm))} if twins is None else dict(twins)
    rows: list[dict] = []
    for (protocol, metric), group in metrics.groupby(FAMILY, sort=False):
        arms = by_arm(group)
        truth = arms.pop(TRUTH, None)
        judged = {arm: distances(own, truth) for arm, own in arms.items()}
        for arm, reference in _pairs(judged, control, twins, demonstrations):
            paired = paired_differences(judged[arm], judged[reference], arm, reference)
            if paired:
                found = estimate(paired, confidence=confidence, draws=draws, seed=seed)
                rows.append({
                    "arm": arm, "reference": reference, "is_twin": twins.get(arm) == reference,
                    "metric": metric, "protocol": protocol, **difference(found, paired, str(metric)),
                    "seeds": _shared_seeds(arms[arm], arms[reference]),
                    "floor": mean(truth), "shortest": min(clip.shape[1] for clip in paired),
                })  # fmt: skip
    add_verdicts(rows, lambda row: (row["protocol"], None if row["is_twin"] else row["metric"]), confidence)
    for row in rows:
        row["sentence"] = _sentence(row, twins, measured)
    return pd.DataFrame(rows, columns=COLUMNS)


def twin_of(arm: str) -> str:
    """Return the name of the arm with the same losses and no discriminator; empty where `stvsr.arms` declares none."""
    known = ARMS.get(ALIASES.get(arm, arm))
    return known.twin if known else ""


def has_discriminator(arm: str) -> bool:
    """Return whether an arm of the study is trained with a discriminator."""
    known = ARMS.get(ALIASES.get(arm, arm))
    return known is not None and known.discriminator != "none"


def difference(found: Estimate, paired: list[np.ndarray], metric: str) -> dict:
    """Return an estimated difference as columns of a table, its interval within what the metric's range allows."""
    known = METRICS[metric]
    reach = math.inf if known.own else known.high - known.low
    low, high = within(found, -reach, reach)
    return {
        "difference": found.mean, "low": low, "high": high, "p": found.p,
        "clips": len(paired), "frames": sum(clip.shape[1] for clip in paired),
    }  # fmt: skip


def verdict(metric: str, difference: float, p: float, confidence: float = CONFIDENCE) -> str:
    """Return what a difference (arm - reference) means; a NaN p-value, of too few frames, is no difference detected."""
    if not p < 1 - confidence:
        return NO_DIFFERENCE
    return BETTER if (difference < 0) == (METRICS[metric].compared[1] == "lower") else WORSE


def _pairs(
    judged: Mapping[str, pd.DataFrame], control: str | None, twins: Mapping[str, str], demonstrations: Collection[str]
) -> list[tuple[str, str]]:
    """Return (arm, reference): each arm's control, then its twin; demonstrations meet only each other."""
    pairs = ((arm, name) for arm in judged for name in dict.fromkeys([control, twins.get(arm)]) if name)
    return [
        (arm, name)
        for arm, name in pairs
        if name in judged and name != arm and (arm in demonstrations) == (name in demonstrations)
    ]


def add_verdicts(rows: list[dict], family: Callable[[dict], Hashable], confidence: float = CONFIDENCE) -> None:
    """Add `p_holm`, corrected within each family, and `verdict` to rows of differences."""
    families: dict[Hashable, list[dict]] = {}
    for row in rows:
        families.setdefault(family(row), []).append(row)
    for members in families.values():
        for row, p_holm in zip(members, holm([row["p"] for row in members]), strict=True):
            row |= {"p_holm": p_holm, "verdict": verdict(row["metric"], row["difference"], p_holm, confidence)}


def by_arm(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of each arm, in order of appearance."""
    return {str(arm): own for arm, own in rows.groupby("arm", sort=False)}


def summarise(
    metrics: pd.DataFrame, *, confidence: float = CONFIDENCE, draws: int = DRAWS, seed: int = 0
) -> pd.DataFrame:
    """Average every arm (and peer, and the truth) on every metric of every protocol.

    Fewer than five clips have no interval: their scores differ too much for one, and the clips' own values
    (`clip_means`) say more. An interval of five clips or more is cut at the ends of the metric's range (no SSIM above
    1, no negative distance); the true mean lies in that range, so the coverage stays the same.

    Args:
        metrics: rows of `metrics.csv`.
        confidence: of the intervals.
        draws: bootstrap draws.
        seed: of the draws.

    Returns:
        One row per arm, protocol and metric: `mean` (over seeds and frames, then over clips, as the tables of the
        field), `low`, `high` (NaN below five clips), `frame_mean` (over all frames), `clips`, `frames`, `seeds` (0 for
        a method without seeds).
    """
    rows = []
    for (arm, protocol, metric), group in prepared(metrics).groupby(["arm", *FAMILY], sort=False):
        values = _stacked(_table(group, str(arm)))
        if not values:
            continue
        low = high = math.nan
        if len(values) >= FEWEST_CLIPS:
            found = estimate(values, confidence=confidence, draws=draws, seed=seed)
            low, high = within(found, METRICS[str(metric)].low, METRICS[str(metric)].high)
        rows.append(
            {
                "arm": arm, "protocol": protocol, "metric": metric,
                "mean": float(np.mean([clip.mean() for clip in values])), "low": low, "high": high,
                "frame_mean": float(np.concatenate([clip.mean(0) for clip in values]).mean()),
                "clips": len(values), "frames": sum(clip.shape[1] for clip in values), "seeds": len(_trained(group)),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def clip_means(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return `arm, protocol, metric, clip, mean`: the average over a clip's frames, and over seeds."""
    means = prepared(metrics).groupby(["arm", *FAMILY, "clip"], sort=False)["value"].mean()
    return means.rename("mean").reset_index()


def prepared(metrics: pd.DataFrame) -> pd.DataFrame:
    """Cap infinite PSNR; refuse unknown metrics, and different settings under one protocol's name."""
    unknown = set(metrics["metric"]) - METRICS.keys()
    if unknown:
        raise InputError(f"metric {', '.join(sorted(unknown))} is unknown: choose from {', '.join(METRICS)}")
    for protocol, rows in metrics.groupby("protocol", sort=False):
        for name in rows.columns.intersection(["version", "border", "dropped", "degradation"]):
            if rows[name].nunique() > 1:
                found = ", ".join(map(str, rows[name].unique()))
                raise InputError(
                    f"protocol {protocol} has rows of {name} {found}, which cannot be compared: pass one at a time"
                )
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
        raise InputError(
            f"{arm} has {len(rows)} values of {metric}, {table.size} are needed: evaluate every seed on every frame"
        )
    return table


def _trained(rows: pd.DataFrame) -> set[int]:
    return set(rows["seed"]) - {NO_SEED}


def _shared_seeds(first: pd.DataFrame, second: pd.DataFrame) -> int:
    """Return over how many seeds two arms are compared; 0 when neither was trained."""
    trained = _trained(first), _trained(second)
    return len(trained[0] & trained[1] if all(trained) else trained[0] | trained[1])


def _stacked(table: pd.DataFrame) -> list[np.ndarray]:
    """Return per clip an array (seeds, frames), frames in order, without frames that could not be measured (NaN)."""
    return [clip.to_numpy().T for _, clip in table.dropna().groupby("clip", sort=True)]


def paired_differences(rows: pd.DataFrame, reference: pd.DataFrame, arm: str, name: str) -> list[np.ndarray]:
    """Return per clip (seeds, frames) of arm - reference, values of one metric.

    Equal seeds are paired; a method without seeds is paired with every seed of the other.

    Args:
        rows: the arm's rows.
        reference: the reference's rows.
        arm: the arm's name, for errors.
        name: the reference's name, for errors.

    Raises:
        InputError: the two were not measured on the same frames, or share no seed.
    """
    first, second = _table(rows, arm), _table(reference, name)
    odd = first.index.symmetric_difference(second.index)
    if len(odd):
        clip, frame = odd[0]
        raise InputError(
            f"{arm} and {name} were not measured on the same frames (clip {clip}, frame {frame}): evaluate both on all"
        )
    seeds = first.columns.intersection(second.columns)
    if NO_SEED in first.columns or NO_SEED in second.columns:
        alone, seeded = (first, second) if NO_SEED in first.columns else (second, first)
        spread = pd.DataFrame(dict.fromkeys(seeded.columns, alone[NO_SEED]))
        return _stacked(spread - second if alone is first else first - spread)
    if seeds.empty:
        raise InputError(
            f"{arm} has seeds {list(first.columns)}, {name} has {list(second.columns)}: train both on the same"
        )
    return _stacked(first[seeds] - second[seeds])


def mean(rows: pd.DataFrame | None) -> float:
    """Return the mean over frames and seeds, then over clips; NaN without rows."""
    return math.nan if rows is None else float(rows.groupby("clip")["value"].mean().mean())


def distances(rows: pd.DataFrame, truth: pd.DataFrame | None) -> pd.DataFrame:
    """Return rows whose values are distances from the truth's own in the same frame; unchanged without a truth."""
    if truth is None:
        return rows
    own = truth.set_index(PAIR)["value"].reindex(pd.MultiIndex.from_frame(rows[PAIR]))
    return rows.assign(value=(rows["value"] - own.to_numpy()).abs())


def _sentence(row: dict, twins: Mapping[str, str], measured: set[str]) -> str:
    """Return the finding in words, what it means for the discriminator, and the data it rests on."""
    metric, arm, reference = METRICS[row["metric"]], row["arm"], row["reference"]
    unit = f" {metric.unit}" if metric.unit else ""
    numbers = f"difference {row['difference']:+.4g}{unit}"
    if np.isnan(row["low"]):
        numbers += ", too few frames for an interval:"
        numbers += f" the shortest clip has {row['shortest']} values, {FEWEST_FRAMES} are needed"
    else:
        numbers += f" [{row['low']:+.4g}, {row['high']:+.4g}], adjusted p = {row['p_holm']:.2g}"
    own = "" if np.isnan(row["floor"]) else f", as distance from the truth's own {row['floor']:.4g}"
    if row["verdict"] == NO_DIFFERENCE:
        found = f"No difference detected between {arm} and {reference}"
    else:
        found = f"{arm} is {row['verdict']} than {reference}"
    parts = [
        f"{found} in {metric.label}{own} ({row['protocol']}): {numbers}.",
        _attribution(row, twins, measured),
        _limits(row["clips"], row["frames"], row["seeds"]),
    ]
    return " ".join(part for part in parts if part)


def _attribution(row: dict, twins: Mapping[str, str], measured: set[str]) -> str:
    """Return what a difference says about the arm's discriminator; empty for an arm without one."""
    twin = twins.get(row["arm"], "")
    if row["is_twin"]:
        same = f"{row['reference']} has the same losses without the discriminator"
        nothing = row["verdict"] == NO_DIFFERENCE
        return f"{same}: {'nothing is' if nothing else 'the difference is'} attributed to the discriminator."
    if twin and twin == twins.get(row["reference"]):
        return f"Both have the twin {twin}: this is the difference between what each adds to it."
    if twin in measured:
        return f"This is the effect of all its losses; that of the discriminator is the difference from {twin}."
    if twin or has_discriminator(row["arm"]):
        named = f"Its twin {twin}" if twin else "A twin"
        return f"{named}, the same losses without the discriminator, is not in this run: nothing is attributed to it."
    return ""


def _limits(clips: int, frames: int, seeds: int) -> str:
    """Return what the comparison rests on, and what it therefore does not cover."""
    if clips >= FEWEST_CLIPS:
        scope = f"On {clips} clips"
    else:
        these = "this clip" if clips == 1 else f"these {clips} clips"
        scope = f"On the {frames} frames of {these} only: other clips may differ"
    if seeds == 1:
        return f"{scope}; one training seed: another training may differ."
    return f"{scope}; {seeds} training seeds." if seeds else f"{scope}."
