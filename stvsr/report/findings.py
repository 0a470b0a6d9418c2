"""Findings of a run: one answer per arm with a discriminator's effect kept apart, and the points of the plane."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stvsr.evaluation.comparison import BETTER, NO_DIFFERENCE, WORSE, has_discriminator, twin_of
from stvsr.report import labels
from stvsr.report.labels import interval_digits, plain, signed
from stvsr.report.run import LEARNT, Run

ROLES = ("perception", "fidelity", "time")
TOPICS = {"perception": "looks", "fidelity": "pixel fidelity", "time": "motion"}
WORDS = {
    ("perception", BETTER): "looks closer to the truth",
    ("perception", WORSE): "looks further from the truth",
    ("fidelity", BETTER): "gains {amount}",
    ("fidelity", WORSE): "loses {amount}",
    ("time", BETTER): "moves more like the truth",
    ("time", WORSE): "moves less like the truth",
}
DEMONSTRATION = "A demonstration: trained for a few steps in this run to show the study at work, not to be judged."


@dataclass(frozen=True, kw_only=True)
class Clause:
    """A part of an arm's sentence: a verdict in words and the numbers behind it."""

    verdict: str
    words: str
    numbers: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """One sentence: what the arm is compared with, and the clauses."""

    lead: str
    clauses: tuple[Clause, ...]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One arm's sentences, notes on its discriminator, or why there is nothing to report."""

    arm: labels.ArmLabel
    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()
    failure: str = ""


def headline_metrics(metrics: pd.DataFrame) -> tuple[str, dict[str, str]]:
    """Return the protocol of the first screen and its metric per role: the one protocol that covers most roles.

    One protocol, because numbers of different protocols are never mixed; `literature-y` wins a tie.
    """
    best: tuple[str, dict[str, str]] = ("", {})
    for protocol in sorted(metrics["protocol"].dropna().unique(), key=lambda name: (name != "literature-y", name)):
        names = sorted(metrics.loc[metrics["protocol"] == protocol, "metric"].unique(), key=labels.metric_order)
        roles = {
            role: name
            for name in reversed(names)
            if labels.metric(name).direction and (role := labels.metric(name).role)
        }
        if len(roles) > len(best[1]):
            best = (protocol, roles)
    return best


def plane(run: Run) -> pd.DataFrame:
    """Return the points of the perception-distortion plane, empty when fidelity or perception was not measured.

    Bars of trained arms are the intervals of their paired differences from the control, drawn around the arm and cut at
    the ends of the metric's range: clips and frames differ far more than arms do, so an interval of the plain mean
    would not show how arms compare.
    """
    protocol, roles = headline_metrics(run.metrics)
    if not {"fidelity", "perception"} <= set(roles):
        return pd.DataFrame()
    summary = run.summary[run.summary["protocol"] == protocol]
    means = dict(zip(zip(summary["arm"], summary["metric"], strict=True), summary["mean"], strict=True))
    rows_of_control = run.compared(protocol, twins=False)
    columns = [rows_of_control[name] for name in ("arm", "metric", "difference", "low", "high")]
    paired = {(arm, metric): ends for arm, metric, *ends in zip(*columns, strict=True)}
    rows = []
    for name in run.arms:
        shown = labels.arm(name)
        # rungs of the ladder have a figure of their own
        point: dict = {"label": "" if shown.kind == "ladder" else shown.label, "kind": shown.kind}
        for role, column in (("fidelity", "fidelity"), ("perception", "perception"), ("time", "temporal")):
            metric = roles.get(role, "")
            value = means.get((name, metric), math.nan)
            low = high = math.nan
            if (name, metric) in paired and shown.kind != "peer":
                difference, low, high = paired[name, metric]
                known = labels.metric(metric)
                low, high = max(value + low - difference, known.low), min(value + high - difference, known.high)
            point |= {column: value, f"{column}_low": low, f"{column}_high": high}
        rows.append(point)
    return pd.DataFrame([row for row in rows if math.isfinite(row["fidelity"]) and math.isfinite(row["perception"])])


def failed_arms(run: Run) -> dict[str, str]:
    """Return {arm: reason} of the trainings that failed."""
    failed = {}
    for step in run.steps:
        if step["status"] == "failed":
            arm = step["name"].rpartition("-s")[0]
            if arm:
                failed[arm] = step["why"]
    return failed


def answers(run: Run) -> list[Answer]:
    """Return one answer per arm of the study that was compared or failed; rungs of the ladder have their own figure.

    An arm with a discriminator is compared with its twin first, the only comparison that says what the discriminator
    does; its difference from the control is the effect of all its losses.
    """
    protocol, roles = headline_metrics(run.metrics)
    failed = failed_arms(run)
    compared = {name: run.compared(protocol, twins=twins) for twins, name in ((True, "twin"), (False, "control"))}
    names = {name for rows in compared.values() for name in rows["arm"] if _in_study(name)} | set(failed)
    result = []
    for name in sorted(names, key=labels.arm_order):
        found = {kind: rows[rows["arm"] == name] for kind, rows in compared.items()}
        parts = []
        if len(found["twin"]):
            lead = f"Effect of the discriminator: compared with its twin ({found['twin']['reference'].iloc[0]}), it"
            parts.append(Part(lead=lead, clauses=_clauses(found["twin"], roles)))
        if len(found["control"]) and set(found["control"]["reference"]) != set(found["twin"]["reference"]):
            lead = f"ompared with {labels.arm(run.control).label}, it"
            lead = f"Effect of all its losses: c{lead}" if has_discriminator(name) else f"C{lead}"
            parts.append(Part(lead=lead, clauses=_clauses(found["control"], roles)))
        parts = [part for part in parts if part.clauses]
        failure = "" if parts else failed.get(name, "")  # another seed of the arm may have been measured
        notes = () if failure else tuple(_notes(run, name, has_twin=len(found["twin"]) > 0))
        result.append(Answer(arm=labels.arm(name), parts=tuple(parts), notes=notes, failure=failure))
    return result


def not_learnt(run: Run) -> dict[str, str]:
    """Return {arm: how far apart its scores end} of discriminators that did not learn in at least one training."""
    found = {}
    for name, gaps in run.score_gaps.items():
        few = [gap for gap in gaps if gap < LEARNT]
        if few:
            apart = f"its mean scores of true and generated frames end {plain(abs(min(few, key=abs)), 4)} apart"
            found[name] = apart if len(gaps) == 1 else f"{apart} in {len(few)} of {len(gaps)} trainings"
    return found


def _in_study(name: str) -> bool:
    return labels.arm(name).kind in ("arm", "adversarial")


def _notes(run: Run, name: str, *, has_twin: bool) -> list[str]:
    notes = []
    if name in run.demonstrations:
        notes.append(DEMONSTRATION)
    if has_discriminator(name) and not has_twin:
        twin = f" ({twin_of(name)})" if twin_of(name) else ""
        notes.append(
            f"Its twin{twin}, the same losses without the discriminator, is not in this run:"
            " nothing can be attributed to its discriminator."
        )
    if name in (found := not_learnt(run)):
        notes.append(f"Its discriminator did not learn: {found[name]}.")
    return notes


def _clauses(rows: pd.DataFrame, roles: dict[str, str]) -> tuple[Clause, ...]:
    by_metric = {row.metric: row for row in rows.itertuples()}
    clauses: list[Clause] = []
    for role in (role for role in ROLES if roles.get(role) in by_metric):
        again = bool(clauses) and clauses[-1].verdict == NO_DIFFERENCE
        clauses.append(_clause(role, by_metric[roles[role]], again=again))
    return tuple(clauses)


def _clause(role: str, row: Any, *, again: bool) -> Clause:
    """Return one part of the sentence; `again` when no difference was detected in the part before either."""
    shown = labels.metric(row.metric)
    if row.verdict == NO_DIFFERENCE:
        words = f"{'' if again else 'shows no detectable difference '}in {TOPICS[role]}"
    else:
        words = WORDS[role, row.verdict].format(amount=amount(row.metric, row.difference))
    return Clause(verdict=row.verdict, words=words, numbers=f"{shown.short} {with_interval(row)}")


def amount(metric: str, *differences: float) -> str:
    """Return the size of differences in words: "0.12 dB of PSNR", "0.10 to 0.12 dB of PSNR"."""
    shown = labels.metric(metric)
    ends = [plain(end, shown.digits) for end in (min(map(abs, differences)), max(map(abs, differences)))]
    unit = f"\u00a0{shown.unit}" if shown.unit else ""
    return f"{' to '.join(dict.fromkeys(ends))}{unit} of {shown.short}"


def with_interval(row: Any) -> str:
    """Return a difference with unit and interval, from a row of differences."""
    shown = labels.metric(row.metric)
    unit = f"\u00a0{shown.unit}" if shown.unit else ""
    digits = interval_digits(row.low, row.high, shown.digits)
    interval = "no interval" if math.isnan(row.low) else f"{signed(row.low, digits)} to {signed(row.high, digits)}"
    return f"{signed(row.difference, digits)}{unit}, {interval}"
