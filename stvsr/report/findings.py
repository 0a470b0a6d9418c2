"""What the run says: the headline, one sentence per arm, and the points of the plane."""

import math
from dataclasses import dataclass

import pandas as pd

from stvsr.report import labels
from stvsr.report.labels import interval_digits, plain, signed
from stvsr.report.run import Run

ROLES = ("perception", "fidelity", "time")
TOPICS = {"perception": "looks", "fidelity": "pixel fidelity", "time": "motion"}
WORDS = {
    ("perception", "better"): "looks closer to the truth",
    ("perception", "worse"): "looks further from the truth",
    ("fidelity", "better"): "is closer in its pixels",
    ("fidelity", "worse"): "pays in pixel fidelity",
    ("time", "better"): "moves more like the truth",
    ("time", "worse"): "moves less like the truth",
}


@dataclass(frozen=True, kw_only=True)
class Clause:
    """A part of an arm's sentence: a verdict in words and the numbers behind it."""

    verdict: str
    words: str
    numbers: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One arm's sentence: its clauses, or why there is none."""

    arm: labels.Arm
    clauses: tuple[Clause, ...]
    failure: str = ""


def headline_metrics(metrics: pd.DataFrame) -> tuple[str, dict[str, str]]:
    """Return the protocol of the first screen and its metric per role: the one protocol that covers most roles.

    One protocol, because numbers of different protocols must not meet; `literature-y` wins a tie.
    """
    best: tuple[str, dict[str, str]] = ("", {})
    for protocol in sorted(metrics["protocol"].dropna().unique(), key=lambda name: (name != "literature-y", name)):
        names = sorted(metrics.loc[metrics["protocol"] == protocol, "metric"].unique(), key=labels.metric_order)
        roles = {
            role: name for name in reversed(names) if labels.metric(name).better and (role := labels.metric(name).role)
        }
        if len(roles) > len(best[1]):
            best = (protocol, roles)
    return best


def plane(run: Run) -> pd.DataFrame:
    """Return the points of the perception-distortion plane, empty when fidelity or perception was not measured.

    Bars of trained arms are the intervals of their paired differences from the control, drawn around the arm: clips and
    frames differ far more than arms do, so an interval of the plain mean would say nothing of how arms compare.
    """
    protocol, roles = headline_metrics(run.metrics)
    if not {"fidelity", "perception"} <= set(roles):
        return pd.DataFrame()
    means = run.summary[run.summary["protocol"] == protocol].set_index(["arm", "metric"])
    paired = run.comparisons
    paired = paired[paired["protocol"] == protocol].set_index(["arm", "metric"]) if len(paired) else pd.DataFrame()
    rows = []
    for name in run.arms:
        shown = labels.arm(name)
        row: dict = {
            "label": "" if shown.kind == "ladder" else shown.label,
            "kind": shown.kind,
        }  # rungs have a figure of their own
        for role, column in (("fidelity", "fidelity"), ("perception", "perception"), ("time", "temporal")):
            key = (name, roles.get(role))
            row[column] = float(means.loc[key]["mean"]) if key in means.index else math.nan
            spread = paired.loc[key] if key in paired.index and shown.kind != "peer" else None
            for end in ("low", "high"):
                row[f"{column}_{end}"] = (
                    math.nan if spread is None else row[column] + float(spread[end] - spread["difference"])
                )
        rows.append(row)
    points = pd.DataFrame(rows)
    finite = points[["fidelity", "perception"]].map(math.isfinite).all(axis=1) if len(points) else []
    return points[finite].reset_index(drop=True) if len(points) else points


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
    """Return one answer per arm of the study that was compared with the control or failed; ladder rungs have their own figure."""
    protocol, roles = headline_metrics(run.metrics)
    rows = run.comparisons[run.comparisons["protocol"] == protocol]
    failed = failed_arms(run)
    names = {name for name in rows["arm"] if labels.arm(name).kind in ("arm", "adversarial")} | set(failed)
    result = []
    for name in sorted(names, key=labels.arm_order):
        by_metric = {row.metric: row for row in rows[rows["arm"] == name].itertuples()}
        clauses: list[Clause] = []
        for role in (role for role in ROLES if roles.get(role) in by_metric):
            clauses.append(
                _clause(role, by_metric[roles[role]], again=bool(clauses) and clauses[-1].verdict == "not told apart")
            )
        failure = "" if clauses else failed.get(name, "")  # another seed of the arm may have been measured
        result.append(Answer(arm=labels.arm(name), clauses=tuple(clauses), failure=failure))
    return result


def _clause(role: str, row, again: bool) -> Clause:
    """Return one part of the sentence; `again` when the part before was not told apart either, which need not be said twice."""
    shown = labels.metric(row.metric)
    unit = f"\u00a0{shown.unit}" if shown.unit else ""
    digits = interval_digits(row.low, row.high, shown.digits)
    interval = "no interval" if math.isnan(row.low) else f"{signed(row.low, digits)} to {signed(row.high, digits)}"
    numbers = f"{shown.short} {signed(row.difference, digits)}{unit}, {interval}"
    return Clause(
        verdict=row.verdict,
        words=WORDS.get((role, row.verdict), f"{'' if again else 'is not told from the control '}in {TOPICS[role]}"),
        numbers=numbers,
    )


def headline(run: Run) -> str:
    """Return the answer to the study's question in two sentences, by counting verdicts of the arms that see time."""
    protocol, roles = headline_metrics(run.metrics)
    rows = run.comparisons[(run.comparisons["protocol"] == protocol) & run.comparisons["arm"].isin(labels.TIME_AWARE)]
    arms = rows["arm"].nunique()
    if not arms:
        return _headline_without_arms(run, protocol, roles)
    verdicts = {
        role: rows.loc[rows["metric"] == roles.get(role), "verdict"].value_counts()
        for role in ("perception", "time", "fidelity")
    }
    if all(found.get("not told apart", 0) == arms for found in verdicts.values() if len(found)):
        who = "It is" if arms == 1 else "Neither is" if arms == 2 else "None of them is"
        return f"{_start(arms)} {who} told from the control in this run."
    parts = [_counted(role, found, arms) for role, found in verdicts.items() if len(found)]
    answer = ", ".join(parts[:-1]) + (", and " if len(parts) > 1 else "") + parts[-1]
    return f"{_start(arms)} {answer[0].upper()}{answer[1:]}.{_caveat(run, protocol, roles)}"


def _caveat(run: Run, protocol: str, roles: dict[str, str]) -> str:
    """Return a sentence when the perceptual loss alone, without a discriminator, may look as much closer to the truth."""
    rows = run.comparisons
    rows = rows[
        (rows["protocol"] == protocol) & (rows["metric"] == roles.get("perception")) & (rows["verdict"] == "better")
    ]
    alone, judged = rows[rows["arm"] == "perceptual"], rows[rows["arm"].isin(labels.TIME_AWARE)]
    if alone.empty or judged.empty:
        return ""
    overlap = (judged["low"] <= alone["high"].item()) & (judged["high"] >= alone["low"].item())
    if not overlap.all():
        return ""
    gains = "Its gain in looks overlaps" if len(judged) == 1 else "Their gains in looks overlap"
    return f" {gains} with that of the perceptual loss alone: the discriminator need not be the reason."


# role: the verdict that is counted, then one, many and none of them
VERBS = {
    "perception": ("better", "looks closer to the truth than the control", "look closer to the truth than the control"),
    "time": ("better", "moves more like the truth", "move more like the truth"),
    "fidelity": ("worse", "pays in pixel fidelity", "pay in pixel fidelity"),
}


def _counted(role: str, verdicts: pd.Series, arms: int) -> str:
    """Return, say, "2 of 3 move more like the truth (1 not told apart)"."""
    counted, one, many = VERBS[role]
    count = int(verdicts.get(counted, 0))
    rest = ", ".join(
        f"{verdicts[word]} {word}"
        for word in ("better", "worse", "not told apart")
        if word != counted and word in verdicts
    )
    if arms == 1:
        return f"it {one}" if count else f"it does not {many} ({rest.partition(' ')[2]})"
    if count in (0, arms):
        who = {(0, 2): "neither", (2, 2): "both"}.get((count, arms), f"all {arms}" if count else "none")
        return f"{who} {many if count else one}" + (f" ({rest})" if not count else "")
    return f"{count} of {arms} {one if count == 1 else many} ({rest})"


def _start(arms: int) -> str:
    number = (
        ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")[arms] if arms < 10 else str(arms)
    )
    return f"{number} arm{' has' if arms == 1 else 's have'} a discriminator that sees time."


def _headline_without_arms(run: Run, protocol: str, roles: dict[str, str]) -> str:
    means = run.summary
    if means.empty:
        return "Nothing was measured in this run."
    name = roles.get("fidelity")
    values = means[(means["protocol"] == protocol) & (means["metric"] == name)].set_index("arm")["mean"]
    trained = next((arm for arm in ("pixel-control", "rbpn") if arm in values), None)
    if trained and "bicubic" in values:
        shown = labels.metric(name)
        gap = signed(values[trained] - values["bicubic"], shown.digits)
        return (
            f"This run does not reach the question: no arm with a discriminator was compared. {labels.arm(trained).label} scores"
            f" {plain(values[trained], shown.digits)} {shown.unit}, {gap} {shown.unit} against bicubic."
        )
    return "This run does not reach the question: no arm with a discriminator was compared."
