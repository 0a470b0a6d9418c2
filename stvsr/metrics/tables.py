"""Scores as text, JSON and CSV; one protocol per table, its settings next to it."""

import math
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from stvsr.errors import InputError
from stvsr.metrics.protocols import METRICS, TRUTH, find_protocol, weights_of
from stvsr.metrics.scoring import evaluate
from stvsr.runs.files import write_json, write_text

PSNR_CAP = 100.0  # dB; stands in for the infinite PSNR of equal frames in averages with other frames


def run(
    results: Sequence[str],
    targets: str,
    protocol: str,
    *,
    json: str | None = None,
    csv: str | None = None,
    degradation: str = "other",
    device: str = "cpu",
    strict: bool = False,
    more: Callable[[pd.DataFrame], str] | None = None,
) -> str:
    """Do what `stvsr evaluate` does: score, write the files that are asked for, return the table to print.

    Args:
        results: `DIR` or `NAME=DIR`, one per method.
        targets: a clip or a folder of clips.
        protocol: a name in `PROTOCOLS`.
        json: file for averages and clip means with the protocol's settings and the weights' hashes.
        csv: file for one row per value, columns of `metrics.csv`.
        degradation: "bi", "bd" or "other".
        device: where measuring networks run.
        strict: refuse videos with damaged or missing frames.
        more: text to print below the table, from its rows.

    Raises:
        InputError: names clash, or as for `evaluate`.
    """
    rows = evaluate(named(results), targets, protocol, degradation=degradation, device=device, strict=strict)
    if csv:
        write_text(Path(csv), rows.to_csv(index=False, lineterminator="\n"))
    if json:
        write_json(Path(json), record(rows))
    below = more(rows) if more else ""
    return f"{text(rows)}\n\n{below}" if below else text(rows)


def named(results: Sequence[str]) -> dict[str, Path]:
    """Return name -> path of `DIR` and `NAME=DIR` arguments; `DIR` alone is named after itself.

    Raises:
        InputError: a name is empty or given twice.
    """
    methods: dict[str, Path] = {}
    for argument in results:
        name, equals, path = argument.partition("=")
        if not equals or Path(argument).exists():
            whole = Path(argument).absolute()
            name, path = whole.stem if whole.is_file() else whole.name, argument
        if not name or not path:
            raise InputError(f"results {argument!r} lack a name or a path: write NAME=DIR")
        if name in methods:
            raise InputError(f"two results are called {name!r}: tell them apart by NAME=DIR")
        methods[name] = Path(path)
    return methods


def averages(rows: pd.DataFrame) -> pd.DataFrame:
    """Return per method and metric: `clip_average` (of the clips' means), `frame_average`, `clips`, `frames`.

    Values that could not be measured (NaN) are left out of both. PSNR counts as at most `PSNR_CAP` where not every
    frame of a method equals the truth.
    """
    measured = _capped(rows).dropna(subset="value")
    by_clip = measured.groupby(["method", "metric", "clip"], sort=False)["value"].agg(["mean", "size"])
    grouped = measured.groupby(["method", "metric"], sort=False)["value"]
    clips = by_clip.groupby(["method", "metric"], sort=False)["mean"]
    table = pd.DataFrame(
        {"clip_average": clips.mean(), "frame_average": grouped.mean(), "clips": clips.size(), "frames": grouped.size()}
    )
    return table.reset_index()


def text(rows: pd.DataFrame) -> str:
    """Return the averages as a table of methods by metrics, under the protocol's caption.

    Raises:
        InputError: rows of several protocols, which never share a table.
    """
    names = rows["protocol"].unique()
    if len(names) != 1:
        raise InputError(f"rows of protocols {', '.join(names)} never share a table: print one at a time")
    protocol, table = find_protocol(names[0]), averages(rows)
    methods = list(rows["method"].unique())
    shown = [("clip average", "clip_average")]
    if rows["clip"].nunique() > 1:
        shown.append(("frame average", "frame_average"))
    lines = [f"{protocol.caption()}; degradation {rows['degradation'].iloc[0]}"]
    for title, column in shown:
        wide = table.pivot(index="method", columns="metric", values=column)
        wide = wide.reindex(index=sorted(methods, key=lambda name: name == TRUTH), columns=list(protocol.metrics))
        heads = [_head(name) for name in protocol.metrics]
        cells = [[title, *heads], *([method, *map(_cell, wide.loc[method])] for method in wide.index)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines += ["", *("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells)]
    better = (f"{METRICS[name].label} {METRICS[name].better}" for name in protocol.metrics)
    equal = int((np.isinf(rows["value"]) & np.isfinite(_capped(rows)["value"])).sum())
    capped = [f"PSNR of {equal} frames equal to the truth counts as {PSNR_CAP:g} dB."] if equal else []
    return "\n".join([*lines, "", f"Better: {', '.join(better)}.", *capped])


def _capped(rows: pd.DataFrame) -> pd.DataFrame:
    """Cap PSNR, except of a method whose every frame equals the truth: that mean is infinite by definition."""
    psnr = rows["metric"] == "psnr"
    equal = np.isinf(rows["value"].where(psnr, np.inf)).groupby(rows["method"]).transform("all")
    return rows.assign(value=rows["value"].where(~psnr | equal, rows["value"].clip(upper=PSNR_CAP)))


def record(rows: pd.DataFrame) -> dict:
    """Return what the JSON file holds: protocol, hashes of the weights, and every method's averages and clip means.

    A value that could not be measured is null, an infinite one (PSNR of equal clips) the string "inf".
    """
    protocol = find_protocol(rows["protocol"].iloc[0])
    weights: dict[str, str] = {}
    for name in protocol.metrics:
        weights |= weights_of(name)
    return {
        "protocol": {
            "name": protocol.name, "version": protocol.version, "colour": protocol.colour, "border": protocol.border,
            "dropped": protocol.dropped, "source": protocol.source, "psnr_cap": PSNR_CAP,
        },
        "degradation": rows["degradation"].iloc[0],
        "weights": weights,
        "metrics": {name: _described(name, protocol.colour) for name in protocol.metrics},
        "methods": {method: _method(group) for method, group in rows.groupby("method", sort=False)},
    }  # fmt: skip


def _described(name: str, colour: str) -> dict:
    metric = METRICS[name]
    return {
        "label": metric.label, "unit": metric.unit, "better": metric.better, "colour": metric.colour or colour,
        "flow": metric.flow,
    }  # fmt: skip


def _method(rows: pd.DataFrame) -> dict:
    table = averages(rows).set_index("metric")
    means = _capped(rows).groupby(["clip", "metric"], sort=False)["value"].mean()
    return {
        **{column: _values(table[column]) for column in ("clip_average", "frame_average")},
        "frames": {metric: int(count) for metric, count in table["frames"].items()},
        "clips": {clip: _values(means[clip]) for clip in means.index.unique("clip")},
    }


def _values(series: pd.Series) -> dict[Hashable, float | str | None]:
    return {
        name: None if math.isnan(value) else "inf" if math.isinf(value) else float(value)
        for name, value in series.items()
    }


def _head(name: str) -> str:
    metric = METRICS[name]
    return f"{metric.label}{f' [{metric.unit}]' if metric.unit else ''}"


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"
