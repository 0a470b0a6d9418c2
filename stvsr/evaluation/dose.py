"""Dose-response of the discriminators in the study of time: contrasts at equal dose, and slopes over the dose.

The arms are named KIND-DOSE, such as `triplet-0.032`; the dose is the weight of the adversarial term and dose 0 is the
twin. All share one set of losses, so a contrast between two kinds at equal dose is the effect of what one discriminator
sees and the other does not. tOF and the temporal profile are the primary endpoints, fixed before any run.
"""

import math
import re
from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy import stats

from stvsr.evaluation.bootstrap import CONFIDENCE, DRAWS, estimate
from stvsr.evaluation.comparison import (
    FAMILY,
    PAIR,
    add_verdicts,
    by_arm,
    difference,
    distances,
    paired_differences,
    prepared,
)
from stvsr.metrics.protocols import TRUTH

TWIN = "temporal-twin"
KINDS = {  # kind of discriminator -> what it sees
    "blind": "blind to time",
    "triplet": "sees time",
    "shuffled": "sees time, shuffled fakes",
    "recurrent": "recurrent D",
}
CONTRASTS = (("triplet", "blind"), ("shuffled", "triplet"))  # questions 1 and 3 of the study
PRIMARY = ("tof", "profile")
PERCEPTION = "lpips"
SLOPE_UNIT = 0.01  # of LPIPS
NAME = re.compile(rf"({'|'.join(KINDS)})-(\d+(?:\.\d+)?)")
CONTRAST_COLUMNS = [
    "contrast", "dose", "metric", "protocol", "primary", "difference", "low", "high", "p", "p_holm", "verdict",
    "clips", "frames", "doses",
]  # fmt: skip
SLOPE_COLUMNS = ["kind", "metric", "protocol", "slope", "low", "high", "perception_range", "dose_count", "seeds"]


def dose_arms(arms: Iterable[str]) -> dict[str, dict[float, str]]:
    """Return kind -> dose -> arm of those arms that are named KIND-DOSE, in the order of KINDS, doses ascending."""
    found = {match[0]: (match[1], float(match[2])) for arm in arms if (match := NAME.fullmatch(arm))}
    grouped = {
        kind: {dose: arm for arm, (of_kind, dose) in sorted(found.items(), key=lambda item: item[1]) if of_kind == kind}
        for kind in KINDS
    }
    return {kind: doses for kind, doses in grouped.items() if doses}


def contrasts(
    metrics: pd.DataFrame, *, confidence: float = CONFIDENCE, draws: int = DRAWS, seed: int = 0
) -> pd.DataFrame:
    """Return paired differences between kinds of discriminator at equal dose: triplet - blind, shuffled - triplet.

    Args:
        metrics: rows of `metrics.csv`.
        confidence: of the intervals; 1 - confidence is also the error rate of the verdicts.
        draws: bootstrap draws.
        seed: of the draws.

    Returns:
        One row per contrast, metric and protocol for the mean over all shared `doses` (`dose` NaN), and one per dose
        where there are several. Means over doses of the primary endpoints are one family of Holm's correction; the
        other rows of a contrast and metric are another. `verdict` is about the first kind of the contrast. Empty where
        no two kinds share a dose.
    """
    metrics = prepared(metrics)
    arms = dose_arms(metrics["arm"].unique())
    rows = []
    for (protocol, metric), group in metrics.groupby(FAMILY, sort=False):
        values = by_arm(group)
        truth = values.pop(TRUTH, None)
        judged = {arm: distances(own, truth) for arm, own in values.items()}
        for first, second in CONTRASTS:
            pairs = _shared(arms.get(first, {}), arms.get(second, {}), judged)
            pooled = list(pairs)
            for doses in [pooled, *([dose] for dose in pooled if len(pooled) > 1)] if pooled else []:
                one, other = (_over_doses([judged[pairs[dose][side]] for dose in doses]) for side in (0, 1))
                paired = paired_differences(one, other, first, second)
                if paired:
                    found = estimate(paired, confidence=confidence, draws=draws, seed=seed)
                    rows.append({
                        "contrast": f"{first} - {second}", "dose": math.nan if doses is pooled else doses[0],
                        "doses": ", ".join(f"{dose:g}" for dose in doses), "metric": metric, "protocol": protocol,
                        "primary": doses is pooled and metric in PRIMARY, **difference(found, paired, str(metric)),
                    })  # fmt: skip
    add_verdicts(
        rows, lambda row: None if row["primary"] else (row["contrast"], row["protocol"], row["metric"]), confidence
    )
    return pd.DataFrame(rows, columns=CONTRAST_COLUMNS)


def responses(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the points of the dose-response: `kind, dose, seed, protocol, perception, metric, motion`.

    `perception` is LPIPS and `motion` the primary endpoint `metric`, both of one protocol, means over frames and then
    clips. The twin is dose 0 of every kind. Empty without the twin.
    """
    metrics = prepared(metrics)
    arms = dose_arms(metrics["arm"].unique())
    means = metrics.groupby([*FAMILY, "arm", "seed", "clip"])["value"].mean().groupby([*FAMILY, "arm", "seed"]).mean()
    rows = [
        {"kind": kind, "dose": dose, "seed": point.seed, "protocol": point.protocol, "metric": point.metric,
         "perception": means.get((point.protocol, PERCEPTION, arm, point.seed), math.nan), "motion": point.value}
        for kind, doses in arms.items()
        for dose, arm in {0.0: TWIN, **doses}.items()
        for point in means.reset_index().itertuples()
        if point.arm == arm and point.metric in PRIMARY
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["kind", "dose", "seed", "protocol", "metric", "perception", "motion"])
    table = table.sort_values("metric", key=lambda names: names.map(PRIMARY.index), kind="stable")
    return table.dropna().reset_index(drop=True) if (table["dose"] == 0).any() else table.iloc[:0]


def slopes(metrics: pd.DataFrame, *, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """Return, per kind of discriminator, how tOF and the temporal profile change with LPIPS over the doses.

    The slope is a least-squares line through the doses of one seed, the twin as dose 0; its mean over seeds has
    Student's interval, NaN with one seed. A positive slope: motion improves or degrades together with LPIPS. A negative
    one: motion is the price of LPIPS. It means little where LPIPS hardly changes over the doses (`perception_range`).

    Returns:
        One row per kind, metric and protocol: `kind, metric, protocol, slope` (per .01 of LPIPS), `low, high,
        perception_range` (largest minus smallest mean LPIPS), `dose_count` (without the twin), `seeds`.
    """
    rows = []
    for (protocol, metric, kind), points in responses(metrics).groupby(["protocol", "metric", "kind"], sort=False):
        lines = [
            SLOPE_UNIT * np.polyfit(line["perception"], line["motion"], 1)[0]
            for _, line in points.groupby("seed")
            if np.ptp(line["perception"]) > 0
        ]
        if lines:
            low, high = _student(lines, confidence)
            of_dose = points.groupby("dose")["perception"].mean()
            rows.append(
                {"kind": kind, "metric": metric, "protocol": protocol, "slope": float(np.mean(lines)),
                 "low": low, "high": high, "perception_range": float(np.ptp(of_dose)),
                 "dose_count": len(of_dose) - 1, "seeds": len(lines)}
            )  # fmt: skip
    return pd.DataFrame(rows, columns=SLOPE_COLUMNS)


def _shared(
    first: dict[float, str], second: dict[float, str], measured: dict[str, pd.DataFrame]
) -> dict[float, tuple[str, str]]:
    """Return dose -> (arm of the first kind, arm of the second) where both were measured."""
    pairs = {dose: (first[dose], second[dose]) for dose in first if dose in second}
    return {dose: pair for dose, pair in pairs.items() if measured.keys() >= set(pair)}


def _over_doses(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return rows whose values are means over doses; a frame that could not be measured at one of them is NaN."""
    grouped = pd.concat(tables).groupby([*PAIR, "seed"], sort=False)["value"]
    merged = grouped.sum(min_count=len(tables)) / len(tables)
    return merged.reset_index().assign(metric=tables[0]["metric"].iloc[0])


def _student(values: list[float], confidence: float) -> tuple[float, float]:
    if len(values) < 2:
        return math.nan, math.nan
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values)
    return float(np.mean(values) - half), float(np.mean(values) + half)
