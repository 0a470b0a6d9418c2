"""Figures of scores: perception-distortion plane, differences from the control, defect ladder, scores per frame."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stvsr.figures.style import (
    INK,
    MARKERS,
    MUTED,
    PANEL,
    PAPER,
    RULE,
    VERDICT_LOOK,
    WIDE,
    line_look,
    name_row,
    number,
    one_axes,
    place_labels,
    styled,
    with_alt_text,
)

# Scores ---------------------------------------------------------------------------------------------------------------


@styled
def perception_distortion(
    points: pd.DataFrame,
    *,
    fidelity: str = "PSNR-Y, dB",
    perception: str = "LPIPS",
    temporal: str = "tOF, px",
    size: tuple[float, float] = WIDE,
) -> Figure:
    """Draw every method between fidelity and perception, coloured by temporal error (Blau and Michaeli, CVPR 2018).

    Args:
        points: one row per method: `label` (empty for none), `kind` (a key of MARKERS), `fidelity`, `perception` and
        optionally
            `temporal`, `fidelity_low`, `fidelity_high`, `perception_low`, `perception_high`.
        fidelity, perception, temporal: axis labels with units. The best corner is the upper right: PSNR grows to the
            right, LPIPS falls upwards.
        size: inches.
    """
    figure, axes = one_axes(size)
    has_time = "temporal" in points and points["temporal"].notna().any()
    shades = points["temporal"] if has_time else pd.Series(0.5, index=points.index)
    for name, line in (("fidelity", axes.hlines), ("perception", axes.vlines)):
        if f"{name}_low" in points:
            other = points["perception" if name == "fidelity" else "fidelity"]
            line(other, points[f"{name}_low"], points[f"{name}_high"], colors=MUTED, linewidth=0.9, alpha=0.7, zorder=2)
    for kind, group in points.groupby("kind", sort=True):
        drawn = axes.scatter(
            group["fidelity"], group["perception"], c=shades[group.index], cmap="viridis_r", zorder=3,
            s=22 if kind == "ladder" else 62,
            vmin=shades.min(), vmax=shades.max(), marker=MARKERS[str(kind)], edgecolors=INK, linewidths=0.9,
        )  # fmt: skip
    axes.set(xlabel=f"{fidelity}  (better \u2192)", ylabel=f"{perception}  (better \u2191)")
    axes.set_xlim(*_reach(points, "fidelity"))
    axes.set_ylim(*_reach(points, "perception")[::-1])
    if has_time:
        bar = figure.colorbar(
            drawn, ax=axes, location="bottom", aspect=50, pad=0.02, label=f"colour: {temporal}  (\u2190 better)"
        )
        bar.outline.set_visible(False)
        assert bar.solids is not None  # drawn with the bar
        bar.solids.set_rasterized(True)  # 256 vector slivers otherwise
    rows: list[Any] = list(points.itertuples())  # named tuples of the columns
    labels = [
        f"{r.label} ({number(r.temporal, 2)})" if r.label and has_time and pd.notna(r.temporal) else r.label
        for r in rows
    ]
    place_labels(figure, axes, points, labels)
    labelled = points.set_index("label")
    best_time = f" The lowest temporal error is {labelled['temporal'].idxmin()}'s." if has_time else ""
    return with_alt_text(
        figure,
        f"Scatter plot of {len(points)} methods: {fidelity} across, {perception} upwards with lower values on top."
        f" Highest fidelity: {labelled['fidelity'].idxmax()}."
        f" Lowest {perception}: {labelled['perception'].idxmin()}.{best_time}",
    )


def _reach(points: pd.DataFrame, name: str) -> tuple[float, float]:
    """Return the limits of an axis: around the points, and around intervals that do not press the points together.

    An interval much wider than all points together would press them into one; it leaves the frame instead.
    """
    low, high = points[name].min(), points[name].max()
    spread = (high - low) or abs(high) * 0.05 or 1.0
    ends = (
        points[f"{name}_low"].min() if f"{name}_low" in points else low,
        points[f"{name}_high"].max() if f"{name}_high" in points else high,
    )
    low = np.fmax(np.fmin(low, ends[0]), low - 0.3 * spread)
    high = np.fmin(np.fmax(high, ends[1]), high + 0.3 * spread)
    return low - 0.14 * spread, high + 0.14 * spread


@styled
def differences(
    table: pd.DataFrame, *, metric: str, control: str, better: str | None, size: tuple[float, float] | None = None
) -> Figure:
    """Draw a forest plot: each arm's difference from the control with its interval; zero is "no difference".

    Args:
        table: rows in drawing order, columns `label`, `difference`, `low`, `high`, `verdict`.
        metric: the metric's name and unit, for the axis. `control`: the control's label.
        better: "higher", "lower" or None when the metric has no good direction.
        size: inches; by default one panel wide and as high as the rows need.
    """
    figure, axes = one_axes(size or (PANEL[0], 0.75 + 0.5 * len(table)), metric)
    axes.axvline(0, color=INK, linewidth=1)
    rows: list[Any] = list(table.itertuples())  # named tuples of the columns
    for place, row in enumerate(rows):
        colour, marker = VERDICT_LOOK.get(row.verdict, VERDICT_LOOK["no difference detected"])
        axes.hlines(place, row.low, row.high, colors=colour, linewidth=2.2)
        axes.plot(row.difference, place, marker=marker, color=colour, markersize=6.5, markeredgecolor=PAPER)
        name_row(axes, place, row.label, f"{number(row.difference)} ({_interval(row)})")
    arrow = {"higher": "  (better \u2192)", "lower": "  (\u2190 better)", None: ""}[better]
    axes.set(xlabel=f"difference from {control}{arrow}", yticks=[], ylim=(len(table) - 0.6, -0.8))
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", visible=False)
    words = "; ".join(f"{r.label} {number(r.difference)} ({_interval(r)}, {r.verdict})" for r in rows)
    return with_alt_text(figure, f"{metric}, differences from {control} with intervals: {words}.")


def _interval(row: Any) -> str:
    return f"{number(row.low)} to {number(row.high)}" if np.isfinite(row.low) else "too few frames for an interval"


@styled
def defect_ladder(rungs: pd.DataFrame, *, metric: str, better: str, size: tuple[float, float] | None = None) -> Figure:
    """Draw a waterfall: the score at the first rung, what each corrected fault adds or takes, the score at the last.

    Args:
        rungs: rows from the faulty start to the corrected end, columns `label` and `value`.
        metric: name and unit. `better`: "higher" or "lower".
    """
    figure, axes = one_axes(size or (PANEL[0], 0.8 + 0.5 * len(rungs)), metric)
    values = rungs["value"].to_numpy(float)
    spread = max(np.ptp(values), 1e-9)
    for place, (label, value) in enumerate(zip(rungs["label"], values, strict=True)):
        before = values[place - 1] if place else value
        good = (value > before) == (better == "higher")
        colour, marker = (MUTED, "o") if value == before else VERDICT_LOOK["better" if good else "worse"]
        axes.hlines(place, before, value, colors=colour, linewidth=7, alpha=0.85)
        axes.plot(value, place, marker=marker, color=colour, markersize=6, markeredgecolor=PAPER, zorder=3)
        if place:
            axes.vlines(before, place - 1, place, colors=RULE, linewidth=1)
        note = (
            number(value)
            if not place
            else f"{number(value)} ({'+' if value >= before else ''}{number(value - before)})"
        )
        name_row(axes, place, label, note)
    arrow = {"higher": "(better \u2192)", "lower": "(\u2190 better)"}[better]
    axes.set(xlabel=f"{metric}  {arrow}", yticks=[], ylim=(len(rungs) - 0.6, -0.8))
    axes.set_xlim(values.min() - 0.12 * spread, values.max() + 0.12 * spread)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    words = "; ".join(f"{label} {number(value)}" for label, value in zip(rungs["label"], values, strict=True))
    return with_alt_text(
        figure, f"Waterfall of {metric} while the faults of the 2019 code are corrected one by one: {words}."
    )


@styled
def per_frame(
    scores: pd.DataFrame, *, metric: str, order: Sequence[str] | None = None, size: tuple[float, float] = PANEL
) -> Figure:
    """Draw one metric over the frames of one clip.

    Args:
        scores: columns `label`, `frame` (index in the clip), `value`; one line per label.
        metric: name and unit.
        order: labels whose places choose the lines' looks, by default in order of appearance.
        size: inches; a legend is drawn where it is wider than a panel.
    """
    figure, axes = one_axes(size, metric)
    places = {label: place for place, label in enumerate(order or scores["label"].unique())}
    for label, line in scores.groupby("label", sort=False):
        colour, dash = line_look(places[label])
        axes.plot(line["frame"], line["value"], color=colour, linestyle=dash, label=label)
    axes.set(xlabel="frame")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if size[0] > PANEL[0]:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=7.5)
    means = scores.groupby("label", sort=False)["value"].mean()
    words = "; ".join(f"{label} {number(value)}" for label, value in means.items())
    return with_alt_text(figure, f"{metric} for each frame. Means: {words}.")
