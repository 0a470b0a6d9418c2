"""What the numbers allow one to say: paired comparisons with intervals, Holm's correction and a plain sentence.

Values are paired by clip and frame, and by seed where both arms have seeds; `stvsr.bootstrap` turns the differences
into an interval and says for what it speaks: for clips like these, or with four clips or fewer for more frames of these
clips only.
"""

import numpy as np
import pandas as pd

from stvsr.errors import InputError
from stvsr.evaluation.bootstrap import CONFIDENCE, DRAWS, FEWEST_CLIPS, FEWEST_FRAMES, estimate, holm
from stvsr.metrics.protocols import METRICS, TRUTH
from stvsr.metrics.tables import PSNR_CAP

NO_SEED = -1  # of a method that was not trained, such as bicubic
PAIR = ["clip", "frame"]
FAMILY = ["protocol", "metric"]  # rows of different protocols are never pooled
COLUMNS = [
    "arm", "metric", "protocol", "difference", "low", "high", "p", "p_holm",
    "verdict", "sentence", "clips", "frames", "seeds",
]  # fmt: skip


def compare(
    metrics: pd.DataFrame,
    control: str = "pixel-control",
    *,
    confidence: float = CONFIDENCE,
    draws: int = DRAWS,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare every arm with the control, on every metric of every protocol.

    Args:
        metrics: rows of `metrics.csv`; rows of method `truth` are references and not compared.
        control: the arm all others are compared with.
        confidence: of the intervals; 1 - confidence is also the error rate of the verdicts.
        draws: bootstrap draws.
        seed: of the draws.

    Returns:
        One row per protocol, metric and arm: `arm, metric, protocol, difference` (arm - control), `low, high, p,
        p_holm` (corrected over the arms of one metric), `verdict` ("better", "worse" or "not told apart"), `sentence`,
        `clips`, `frames`, `seeds`. Where the truth has a value of its own (warping error, flicker, NIQE), what is
        compared is the distance from it, frame by frame: blur alone brings such a metric below the truth, which is no
        merit.

    Raises:
        InputError: the control is absent, or an arm was not measured on the control's clips, frames and seeds.
    """
    metrics = _prepared(metrics)
    if control not in set(metrics["arm"]):
        raise InputError(
            f"control {control!r} is not in the metrics: choose from {', '.join(sorted(set(metrics['arm'])))}"
        )
    tables = []
    for (protocol, metric), rows in metrics.groupby(FAMILY, sort=False):
        arms = dict(list(rows.groupby("arm", sort=False)))
        reference, truth = arms.pop(control, None), arms.pop(TRUTH, None)
        if reference is None:
            continue
        control_values = _distances(reference, truth)
        paired = {arm: _differences(_distances(own, truth), control_values, arm, control) for arm, own in arms.items()}
        found = {
            arm: estimate(values, confidence=confidence, draws=draws, seed=seed)
            for arm, values in paired.items()
            if values
        }
        adjusted = holm([each.p for each in found.values()])
        for (arm, each), p_holm in zip(found.items(), adjusted, strict=True):
            better = each.mean < 0 if truth is not None else (each.mean > 0) == METRICS[metric].higher_is_better
            row = {
                "arm": arm, "metric": metric, "protocol": protocol, "difference": each.mean, "low": each.low, "high": each.high,
                "p": each.p, "p_holm": p_holm, "clips": len(paired[arm]), "frames": sum(clip.shape[1] for clip in paired[arm]),
                "seeds": _shared_seeds(arms[arm], reference),
                # a NaN p-value, of too few frames, compares as not told apart
                "verdict": ("better" if better else "worse") if p_holm < 1 - confidence else "not told apart",
            }  # fmt: skip
            shortest = min(clip.shape[1] for clip in paired[arm])
            tables.append(row | {"sentence": _sentence(row, control, truth, shortest)})
    return pd.DataFrame(tables, columns=COLUMNS)


def summarise(
    metrics: pd.DataFrame, *, confidence: float = CONFIDENCE, draws: int = DRAWS, seed: int = 0
) -> pd.DataFrame:
    """Average every arm (and peer, and the truth) on every metric of every protocol.

    Args:
        metrics: rows of `metrics.csv`.
        confidence: of the intervals.
        draws: bootstrap draws.
        seed: of the draws.

    Returns:
        One row per arm, protocol and metric: `mean` (over seeds and frames, then over clips, as the tables of the
        field), `low`, `high`, `frame_mean` (over all frames), `clips`, `frames`, `seeds` (0 for a method without
        seeds).
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


def _prepared(metrics: pd.DataFrame) -> pd.DataFrame:
    """Cap infinite PSNR; refuse unknown metrics, and two settings under one protocol's name."""
    unknown = set(metrics["metric"]) - METRICS.keys()
    if unknown:
        raise InputError(f"metric {', '.join(sorted(unknown))} is unknown: choose from {', '.join(METRICS)}")
    for protocol, rows in metrics.groupby("protocol", sort=False):
        for name in rows.columns.intersection(["version", "border", "dropped", "degradation"]):
            if rows[name].nunique() > 1:
                found = ", ".join(map(str, rows[name].unique()))
                raise InputError(
                    f"protocol {protocol} has rows of {name} {found}: such numbers do not compare, pass one at a time"
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
        raise InputError(
            f"{arm} has seeds {list(first.columns)}, {control} has {list(second.columns)}: train both on the same"
        )
    return _stacked(first[seeds] - second[seeds])


def _mean(rows: pd.DataFrame) -> float:
    """Return the mean over frames and seeds, then over clips."""
    return rows.groupby("clip")["value"].mean().mean()


def _distances(rows: pd.DataFrame, truth: pd.DataFrame | None) -> pd.DataFrame:
    """Return rows with, for their values, the distances from the truth's own in the same frame; as they are without a truth."""
    if truth is None:
        return rows
    wanted = truth.set_index(PAIR)["value"].reindex(pd.MultiIndex.from_frame(rows[PAIR]))
    return rows.assign(value=(rows["value"] - wanted.to_numpy()).abs())


def _sentence(row: dict, control: str, truth: pd.DataFrame | None, shortest: int) -> str:
    """Say what was found, what it rests on, and what it therefore cannot say."""
    metric = METRICS[row["metric"]]
    verdict = f"{row['verdict']} from" if row["verdict"] == "not told apart" else f"{row['verdict']} than"
    unit = f" {metric.unit}" if metric.unit else ""
    numbers = f"difference {row['difference']:+.4g}{unit}"
    if np.isnan(row["low"]):
        numbers += (
            f", too few frames for an interval: the shortest clip has {shortest} values, {FEWEST_FRAMES} are needed"
        )
    else:
        numbers += f" [{row['low']:+.4g}, {row['high']:+.4g}], adjusted p = {row['p_holm']:.2g}"
    own = "" if truth is None else f", as distance from the truth's own {_mean(truth):.4g}"
    found = f"{row['arm']} is {verdict} {control} in {metric.label}{own} ({row['protocol']}): {numbers}."
    return f"{found} {_limits(row['clips'], row['frames'], row['seeds'])}"


def _limits(clips: int, frames: int, seeds: int) -> str:
    """Say what the comparison rests on, and what it therefore cannot say."""
    if clips >= FEWEST_CLIPS:
        scope = f"On {clips} clips"
    else:
        scope = f"On the {frames} frames of {'this clip' if clips == 1 else f'these {clips} clips'} only: other clips may differ"
    if seeds == 1:
        return f"{scope}; one training seed: another training may differ."
    return f"{scope}; {seeds} training seeds." if seeds else f"{scope}."
