"""The headline: the answer to the study's question, attributing to a discriminator only its difference from a twin."""

from typing import Any

import pandas as pd

from stvsr.evaluation.comparison import BETTER, NO_DIFFERENCE, WORSE
from stvsr.evaluation.dose import NAME
from stvsr.report import labels
from stvsr.report.findings import amount, headline_metrics, not_learnt, with_interval
from stvsr.report.labels import listed, plain, signed
from stvsr.report.run import Run

NUMBERS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
# role: the verdict that is counted, then in words for one arm and for several
VERBS = {
    "perception": (BETTER, "looks closer to the truth", "look closer to the truth"),
    "time": (BETTER, "moves more like the truth", "move more like the truth"),
    "fidelity": (WORSE, "loses {amount}", "lose {amount}"),
}


def headline(run: Run) -> str:
    """Return the answer to the study's question in a few sentences."""
    if run.contrasts["primary"].any():
        return _of_doses(run)
    arms = [name for name in run.arms if labels.sees_time(name)]
    protocol, roles = headline_metrics(run.metrics)
    if not arms:
        return _without_arms(run, protocol, roles)
    rows = run.compared(protocol, twins=True)
    rows = rows[rows["arm"].isin(arms) & rows["metric"].isin(roles.values())]
    count = NUMBERS[len(arms)] if len(arms) < len(NUMBERS) else str(len(arms))
    sentences = [f"{count} arm{' has' if len(arms) == 1 else 's have'} a discriminator that sees time."]
    if rows.empty:
        twin = "twin (the same losses without the discriminator)"
        absent = f"Its {twin} is not" if len(arms) == 1 else f"No {twin} of them is"
        sentences.append(f"{absent} in this run, so nothing can be attributed to a discriminator.")
    else:
        sentences += [_counted(rows, roles), *_untwinned(sorted(set(arms) - set(rows["arm"]), key=labels.arm_order))]
    return " ".join([*sentences, *_did_not_learn(run, arms)])


def _counted(rows: pd.DataFrame, roles: dict[str, str]) -> str:
    """Return how many arms differ from their twins, and how."""
    arms = rows["arm"].nunique()
    start = f"Compared with the same losses without {'it' if arms == 1 else 'them'},"
    if (rows["verdict"] == NO_DIFFERENCE).all():
        topics = [TOPIC for role, TOPIC in TOPICS.items() if roles.get(role) in set(rows["metric"])]
        return f"{start} no difference was detected in {listed(topics)}: nothing is attributed to a discriminator."
    of_role = {role: rows[rows["metric"] == roles.get(role)] for role in VERBS}
    return f"{start} {listed([_count(role, found, arms) for role, found in of_role.items() if len(found)])}."


TOPICS = {"perception": "looks", "time": "motion", "fidelity": "pixel fidelity"}


def _count(role: str, rows: pd.DataFrame, arms: int) -> str:
    """Return, say, "2 of 3 move more like the truth (1 no difference detected)"."""
    counted, one, many = VERBS[role]
    hits, metric = rows[rows["verdict"] == counted], rows["metric"].iloc[0]
    lost = amount(metric, *hits["difference"]) if len(hits) else labels.metric(metric).short
    one, many, count = one.format(amount=lost), many.format(amount=lost), len(hits)
    rest = rows.loc[rows["verdict"] != counted, "verdict"].value_counts()
    others = ", ".join(f"{rest[word]} {word}" for word in (BETTER, WORSE, NO_DIFFERENCE) if word in rest)
    if arms == 1:
        return f"it {one}" if count else f"it does not {many} ({others.partition(' ')[2]})"
    if count in (0, arms):
        who = {(0, 2): "neither", (2, 2): "both"}.get((count, arms), f"all {arms}" if count else "none")
        return f"{who} {many if count else one}" + (f" ({others})" if not count else "")
    return f"{count} of {arms} {one if count == 1 else many} ({others})"


def _untwinned(arms: list[str]) -> list[str]:
    if not arms:
        return []
    names = listed([labels.arm(name).label for name in arms])
    return [f"The twin of {names} is not in this run: nothing is attributed to {'it' if len(arms) == 1 else 'them'}."]


def _did_not_learn(run: Run, arms: list[str]) -> list[str]:
    found = [labels.arm(name).label for name in arms if name in not_learnt(run)]
    return [f"The discriminator{'' if len(found) == 1 else 's'} of {listed(found)} did not learn."] if found else []


def _of_doses(run: Run) -> str:
    """Return the answer of the study of time: contrasts at equal dose, then what no dose could reach."""
    sentences = []
    for contrast, rows in run.contrasts[run.contrasts["primary"]].groupby("contrast", sort=False):
        first, second = DISCRIMINATORS[str(contrast)]
        clauses = [
            f"{words} ({', '.join(_numbers(row) for row in of_verdict.itertuples())})"
            for verdict, words in CLAUSES.items()
            if len(of_verdict := rows[rows["verdict"] == verdict])
        ]
        sentences.append(f"At equal dose, {first}, compared with {second}, {listed(clauses)}.")
    dosed = {name for name in run.arms if NAME.fullmatch(name)}
    for verdict, words in ((BETTER, "below"), (WORSE, "above")):
        rows = run.comparisons
        rows = rows[rows["is_twin"].astype(bool) & (rows["metric"] == "lpips") & rows["arm"].isin(dosed)]
        rows = rows[(rows["protocol"] == headline_metrics(run.metrics)[0]) & (rows["verdict"] == verdict)]
        if len(rows) or verdict == BETTER:
            sentences.append(f"LPIPS is {words} the twin's in {len(rows) or 'none'} of {len(dosed)} arms.")
    return " ".join([*sentences, *_did_not_learn(run, sorted(dosed, key=labels.arm_order))])


CLAUSES = {
    BETTER: "moves more like the truth",
    WORSE: "moves less like the truth",
    NO_DIFFERENCE: "shows no detectable difference in motion",
}
DISCRIMINATORS = {
    "triplet - blind": ("a discriminator that sees time", "the same one blind to time"),
    "shuffled - triplet": ("one that also learns from shuffled true frames", "the one that does not"),
}


def _numbers(row: Any) -> str:
    return f"{labels.metric(row.metric).short} {with_interval(row)}"


def _without_arms(run: Run, protocol: str, roles: dict[str, str]) -> str:
    means = run.summary
    if means.empty:
        return "Nothing was measured in this run."
    name = roles.get("fidelity")
    values = means[(means["protocol"] == protocol) & (means["metric"] == name)].set_index("arm")["mean"]
    trained = next((arm for arm in (run.control, "rbpn") if arm in values), None)
    answer = "This run does not answer the question: no arm with a discriminator that sees time was measured."
    if name and trained and "bicubic" in values:
        shown = labels.metric(name)
        gap = signed(values[trained] - values["bicubic"], shown.digits)
        value = plain(values[trained], shown.digits)
        answer += f" {labels.arm(trained).label} scores {value} {shown.unit}, {gap} {shown.unit} against bicubic."
    return answer
