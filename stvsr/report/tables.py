"""Tables of the report: cells with their sort keys, the best of each column, and the data as CSV."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from stvsr.evaluation import dose
from stvsr.evaluation.bootstrap import FEWEST_CLIPS
from stvsr.metrics.protocols import PROTOCOLS, Metric
from stvsr.report import labels
from stvsr.report.labels import interval_digits, plain, signed


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell: text, a smaller second line, its sort key, whether it is its column's best, its verdict."""

    text: str
    note: str = ""
    sort: str = ""
    best: bool = False
    verdict: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A captioned table; the first cell of a row is its header. `data` goes to `tables/<key>.csv`."""

    key: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    data: pd.DataFrame
    notes: dict[str, str] = field(default_factory=dict)  # column -> a smaller line below its heading

    def csv(self) -> str:
        """Return the table's data as CSV."""
        return self.data.to_csv(index=False, lineterminator="\n")


def number_cell(
    value: float, digits: int, low: float = math.nan, high: float = math.nan, *, best: bool = False
) -> Cell:
    """Return a cell with a value and, when there is one, its interval below."""
    interval = "" if math.isnan(low) or math.isnan(high) else f"{plain(low, digits)} to {plain(high, digits)}"
    return Cell(text=plain(value, digits), note=interval, sort=_sortable(value), best=best)


def difference_cell(row: Any, digits: int) -> Cell:
    """Return a cell with a difference, its interval and its verdict, from a row of `comparisons`."""
    digits = interval_digits(row.low, row.high, digits)
    interval = "no interval" if math.isnan(row.low) else f"{signed(row.low, digits)} to {signed(row.high, digits)}"
    return Cell(text=signed(row.difference, digits), note=interval, sort=_sortable(row.difference), verdict=row.verdict)


def text_cell(text: object, note: str = "") -> Cell:
    """Return a cell of words, sorted as words."""
    return Cell(text=str(text), note=note, sort=str(text).lower())


EMPTY = Cell(text="\u2013", sort="")


def _sortable(value: float) -> str:
    return "" if math.isnan(value) else repr(float(value))


def protocol_words(metrics: pd.DataFrame, protocol: str) -> str:
    """Return a protocol's settings: version, colour, border, frames dropped, degradation, measuring weights."""
    rows = metrics[metrics["protocol"] == protocol]

    def values(column: str) -> str:
        return ", ".join(
            sorted({part for value in rows[column].dropna() for part in str(value).split(",")} - {"", "nan"})
        )

    known = PROTOCOLS.get(protocol)
    if known and values("version") == str(known.version):
        parts = [f"Protocol {known.caption()}"]
    else:  # scored by another version of the code: use what the rows record
        parts = [
            f"Protocol {protocol} v{values('version')}: {values('colour')}, border {values('border')},"
            f" dropped {values('dropped')}"
        ]
    parts += [f"degradation {values('degradation').upper()}"] if values("degradation") else []
    parts += [f"measured with {values('weights')}"] if values("weights") else []
    return "; ".join(parts) + "."


def best_of(means: pd.Series, better: str | None) -> set:
    """Return the index labels with the best mean; none for one method or a metric without a good direction."""
    known = means.dropna()
    if better is None or len(known) < 2:
        return set()
    return set(known.index[known == (known.max() if better == "higher" else known.min())])


def scores(
    summary: pd.DataFrame,
    clip_means: pd.DataFrame,
    metrics: pd.DataFrame,
    protocol: str,
    failed: dict[str, str],
    demonstrations: Collection[str] = (),
) -> Table:
    """Return the table of means per method and metric of one protocol; failed arms are marked as failed.

    Below a mean stands its interval, or with fewer than five clips the value of each clip.
    """
    rows = summary[summary["protocol"] == protocol]
    clips = sorted(clip_means["clip"].unique())
    few = 1 < len(clips) < FEWEST_CLIPS
    of_clip = clip_means.set_index(["arm", "metric", "clip"])["mean"]
    names = sorted(rows["metric"].unique(), key=labels.metric_order)
    shown = {name: labels.metric(name) for name in names}
    cells = {}
    for name in names:
        of_metric = rows[rows["metric"] == name].set_index("arm")
        winners = best_of(of_metric["mean"].drop("truth", errors="ignore"), shown[name].direction)
        for arm, row in of_metric.iterrows():
            cell = number_cell(row["mean"], shown[name].digits, row["low"], row["high"], best=arm in winners)
            if few:
                values = (plain(of_clip.get((arm, name, clip), math.nan), shown[name].digits) for clip in clips)
                cell = replace(cell, note=" \u00b7 ".join(values))
            cells[arm, name] = cell
    arms = sorted({arm for arm, _ in cells}, key=labels.arm_order)
    body = [
        [
            text_cell(
                labels.arm(arm).label, ("demonstration: " if arm in demonstrations else "") + labels.arm(arm).what
            ),
            *(cells.get((arm, name), EMPTY) for name in names),
        ]
        for arm in arms
    ]
    body += [
        [text_cell(labels.arm(arm).label, reason), *(Cell(text="failed", verdict="failed") for _ in names)]
        for arm, reason in failed.items()
        if arm not in arms
    ]
    size = rows[["clips", "frames", "seeds"]].max().fillna(0).astype(int)
    return Table(
        key=f"scores-{protocol}",
        caption=f"Scores under {protocol}. {protocol_words(metrics, protocol)}"
        f" Mean over {_count(size['clips'], 'clip')} ({_count(size['frames'], 'frame')},"
        f" up to {_count(size['seeds'], 'seed')} per arm){_below(clips)}.",
        columns=["Method", *(shown[name].title for name in names)],
        rows=body,
        data=rows.sort_values(["arm", "metric"]),
        notes=directions(shown.values()),
    )


def _below(clips: list[str]) -> str:
    """Return what stands below the means of a table of scores."""
    if len(clips) >= FEWEST_CLIPS:
        return ", with its 95% interval"
    return f"; below it the clips' own values: {', '.join(map(str, clips))}" if len(clips) > 1 else ""


def differences(rows: pd.DataFrame, metrics: pd.DataFrame, protocol: str, control: str) -> Table:
    """Return the table of differences from the control with intervals and verdicts, one protocol."""
    names = sorted(rows["metric"].unique(), key=labels.metric_order)
    shown = {name: labels.metric(name) for name in names}
    cells = {(row.arm, row.metric): difference_cell(row, shown[row.metric].digits) for row in rows.itertuples()}
    arms = sorted(rows["arm"].unique(), key=labels.arm_order)
    return Table(
        key=f"differences-{protocol}",
        caption=f"Difference from {control} under {protocol}, with its 95% interval."
        f" {protocol_words(metrics, protocol)} Better and worse need p below 5% after Holm's correction for the number"
        " of arms, which is stricter than one interval without zero.",
        columns=["Method", *(shown[name].title for name in names)],
        rows=[[text_cell(labels.arm(arm).label), *(cells.get((arm, name), EMPTY) for name in names)] for arm in arms],
        data=rows.sort_values(["arm", "metric"]),
        notes=directions(shown.values()),
    )


def attributions(rows: pd.DataFrame, metrics: pd.DataFrame, protocol: str) -> Table:
    """Return the table of differences from twins, the effect of each discriminator, one protocol."""
    table = differences(rows, metrics, protocol, "the twin")
    twins = rows.drop_duplicates("arm").set_index("arm")["reference"]
    names = sorted(twins.index, key=labels.arm_order)
    against = [f"twin: {twins[name]}" for name in names]
    body = [[replace(row[0], note=note), *row[1:]] for row, note in zip(table.rows, against, strict=True)]
    caption = (
        f"What each discriminator adds under {protocol}: difference from its twin, the same losses and steps without"
        f" the discriminator, with its 95% interval. {protocol_words(metrics, protocol)} Better and worse need p below"
        " 5% after Holm's correction for all arms, twins and metrics of this table."
    )
    return replace(table, key=f"attribution-{protocol}", caption=caption, rows=body)


def doses(contrasts: pd.DataFrame, slopes: pd.DataFrame, metrics: pd.DataFrame, protocol: str) -> Table:
    """Return the dose-response table of one protocol: contrasts at equal dose, then slopes over the dose."""
    names = sorted(contrasts["metric"].unique(), key=labels.metric_order)
    shown = {name: labels.metric(name) for name in names}
    body = []
    for (contrast, dosage), rows in contrasts.groupby(["contrast", "doses"], sort=False):
        cells = {row.metric: difference_cell(row, shown[row.metric].digits) for row in rows.itertuples()}
        at = f"mean of doses {dosage}" if rows["dose"].isna().any() else f"dose {dosage}"
        body.append([text_cell(str(contrast).replace("-", "\u2212"), at), *(cells.get(name, EMPTY) for name in names)])
    for kind, rows in slopes.groupby("kind", sort=False):
        cells = {row.metric: _slope_cell(row, shown[row.metric]) for row in rows.itertuples() if row.metric in shown}
        reach = (
            f"{plain(rows['perception_range'].iloc[0], 3)} of LPIPS over {_count(rows['dose_count'].iloc[0], 'dose')}"
        )
        body.append([text_cell(f"slope, {dose.KINDS[str(kind)]}", reach), *(cells.get(name, EMPTY) for name in names)])
    data = pd.concat([part.dropna(axis=1, how="all") for part in (contrasts, slopes) if len(part)])
    return Table(
        key=f"doses-{protocol}",
        caption=f"Discriminators at equal dose under {protocol}: paired differences with 95% intervals, then slopes:"
        " how motion changes per 0.01 of LPIPS over the dose, twin included, with Student's interval over seeds; a"
        f" slope means little where LPIPS hardly changes. {protocol_words(metrics, protocol)} tOF and temporal profile"
        " are the primary endpoints: their means over doses are corrected by Holm's method as one family.",
        columns=["Contrast", *(shown[name].title for name in names)],
        rows=body,
        data=data,
        notes=directions(shown.values()),
    )


def _slope_cell(row: Any, metric: Metric) -> Cell:
    interval = "one seed, no interval" if math.isnan(row.low) else f"{signed(row.low, 4)} to {signed(row.high, 4)}"
    return Cell(text=signed(row.slope, metric.digits + 1), note=interval, sort=_sortable(row.slope))


def per_clip(clip_means: pd.DataFrame, metrics: pd.DataFrame, protocol: str) -> Table:
    """Return the table of means per clip and method; `clip_means` is that of `evaluation.comparison`, one protocol."""
    names = sorted(clip_means["metric"].unique(), key=labels.metric_order)
    shown = {name: labels.metric(name) for name in names}
    body = []
    for clip, rows in clip_means.groupby("clip", sort=True):
        wide = rows.pivot(index="arm", columns="metric", values="mean")
        contest = wide.drop(index="truth", errors="ignore")
        winners = {name: best_of(contest[name], shown[name].direction) for name in names if name in wide}
        for arm in sorted(wide.index, key=labels.arm_order):
            values = [
                number_cell(float(wide.loc[arm, n]), shown[n].digits, best=arm in winners[n]) if n in wide else EMPTY
                for n in names
            ]
            body.append([text_cell(clip), text_cell(labels.arm(arm).label), *values])
    return Table(
        key=f"clips-{protocol}",
        caption=f"Scores of each clip under {protocol}; the best of each clip is marked."
        f" {protocol_words(metrics, protocol)}",
        columns=["Clip", "Method", *(shown[name].title for name in names)],
        rows=body,
        data=clip_means,
        notes=directions(shown.values()),
    )


def simple(
    key: str, caption: str, data: pd.DataFrame, columns: dict[str, str], digits: dict[str, int] | None = None
) -> Table:
    """Return a table that shows a DataFrame's columns under new headings, numbers with the digits given."""
    digits = digits or {}

    def cell(name: str, value: Any) -> Cell:
        if value is None or value != value or value == "":
            return EMPTY
        return number_cell(float(value), digits[name]) if name in digits else text_cell(value)

    rows = [
        [cell(name, value) for name, value in zip(columns, row, strict=True)]
        for row in data[list(columns)].itertuples(index=False)
    ]
    return Table(key=key, caption=caption, columns=list(columns.values()), rows=rows, data=data)


def directions(metrics: Iterable[Metric]) -> dict[str, str]:
    """Return, for each metric's column, which way is better."""
    return {metric.title: f"{metric.direction} is better" for metric in metrics if metric.direction}


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
