"""Functions that return a Figure, each with alt text, in the study's one style.

Used by the notebooks and by the report. Nothing is shown or saved here on the side: `show` displays a figure in a notebook
with its alt text, `save` writes a file.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from stvsr import pictures
from stvsr.figure_style import (
    INK,
    MARKERS,
    MUTED,
    PANEL,
    PAPER,
    RULE,
    VERDICT_LOOK,
    WIDE,
    alt,
    describe,
    line_look,
    name_ends,
    name_row,
    number,
    one_axes,
    place_labels,
    save,
    show,
    styled,
)

__all__ = [
    "alt", "contact_sheets", "crops_grid", "defect_ladder", "describe", "differences", "discriminator_scores",
    "error_maps",
    "flow_images", "gradient_norms", "image_row", "learning_curves", "loss_terms", "per_frame", "perception_distortion", "save", "show",
    "temporal_profiles",
]  # fmt: skip

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
        points: one row per method: `label` (empty for none), `kind` (a key of MARKERS), `fidelity`, `perception` and optionally
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
            group["fidelity"], group["perception"], c=shades[group.index], cmap="viridis_r", s=22 if kind == "ladder" else 62, zorder=3,
            vmin=shades.min(), vmax=shades.max(), marker=MARKERS[kind], edgecolors=INK, linewidths=0.9,
        )  # fmt: skip
    axes.set(xlabel=f"{fidelity}  (better \u2192)", ylabel=f"{perception}  (better \u2191)")
    axes.set_xlim(*_reach(points, "fidelity"))
    axes.set_ylim(*_reach(points, "perception")[::-1])
    if has_time:
        bar = figure.colorbar(drawn, ax=axes, location="bottom", aspect=50, pad=0.02, label=f"colour: {temporal}  (\u2190 better)")
        bar.outline.set_visible(False)
        bar.solids.set_rasterized(True)  # 256 vector slivers otherwise
    labels = [
        f"{r.label} ({number(r.temporal, 2)})" if r.label and has_time and pd.notna(r.temporal) else r.label for r in points.itertuples()
    ]
    place_labels(figure, axes, points, labels)
    best_time = f" The lowest temporal error is {points.loc[points['temporal'].idxmin(), 'label']}'s." if has_time else ""
    return describe(
        figure,
        f"Scatter plot of {len(points)} methods: {fidelity} across, {perception} upwards with lower values on top."
        f" Highest fidelity: {points.loc[points['fidelity'].idxmax(), 'label']}."
        f" Lowest {perception}: {points.loc[points['perception'].idxmin(), 'label']}.{best_time}",
    )


def _reach(points: pd.DataFrame, name: str) -> tuple[float, float]:
    """Return the limits of an axis: around the points, and around their intervals as far as those leave the points apart.

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
def differences(table: pd.DataFrame, *, metric: str, control: str, better: str | None, size: tuple[float, float] | None = None) -> Figure:
    """Draw a forest plot: each arm's difference from the control with its interval; zero is "no difference".

    Args:
        table: rows in drawing order, columns `label`, `difference`, `low`, `high`, `verdict`.
        metric: the metric's name and unit, for the axis. `control`: the control's label.
        better: "higher", "lower" or None when the metric has no good direction.
        size: inches; by default one panel wide and as high as the rows need.
    """
    figure, axes = one_axes(size or (PANEL[0], 0.75 + 0.5 * len(table)), metric)
    axes.axvline(0, color=INK, linewidth=1)
    for place, row in enumerate(table.itertuples()):
        colour, marker = VERDICT_LOOK.get(row.verdict, VERDICT_LOOK["not told apart"])
        axes.hlines(place, row.low, row.high, colors=colour, linewidth=2.2)
        axes.plot(row.difference, place, marker=marker, color=colour, markersize=6.5, markeredgecolor=PAPER)
        name_row(axes, place, row.label, f"{number(row.difference)} ({number(row.low)} to {number(row.high)})")
    arrow = {"higher": "  (better \u2192)", "lower": "  (\u2190 better)", None: ""}[better]
    axes.set(xlabel=f"difference from {control}{arrow}", yticks=[], ylim=(len(table) - 0.6, -0.8))
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", visible=False)
    words = "; ".join(f"{r.label} {number(r.difference)} ({number(r.low)} to {number(r.high)}, {r.verdict})" for r in table.itertuples())
    return describe(figure, f"{metric}, differences from {control} with intervals: {words}.")


@styled
def defect_ladder(rungs: pd.DataFrame, *, metric: str, better: str, size: tuple[float, float] | None = None) -> Figure:
    """Draw a waterfall: the score at the first rung, what each mended fault adds or takes, the score at the last.

    Args:
        rungs: rows from the faulty start to the mended end, columns `label` and `value`.
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
        note = number(value) if not place else f"{number(value)} ({'+' if value >= before else ''}{number(value - before)})"
        name_row(axes, place, label, note)
    arrow = {"higher": "(better \u2192)", "lower": "(\u2190 better)"}[better]
    axes.set(xlabel=f"{metric}  {arrow}", yticks=[], ylim=(len(rungs) - 0.6, -0.8))
    axes.set_xlim(values.min() - 0.12 * spread, values.max() + 0.12 * spread)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    words = "; ".join(f"{label} {number(value)}" for label, value in zip(rungs["label"], values, strict=True))
    return describe(figure, f"Waterfall of {metric} while the faults of the 2019 code are mended one by one: {words}.")


@styled
def per_frame(scores: pd.DataFrame, *, metric: str, order: Sequence[str] | None = None, size: tuple[float, float] = PANEL) -> Figure:
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
    return describe(figure, f"{metric} for each frame. Means: {words}.")


# Training -------------------------------------------------------------------------------------------------------------


def _thin(log: pd.DataFrame, column: str, count: int = 160) -> pd.DataFrame:
    """Keep at most `count` rows that have the column: running means over equal stretches."""
    kept = log.loc[log[column].notna(), ["step", column]] if column in log else log.iloc[:0].reindex(columns=["step", column])
    if len(kept) <= count:
        return kept
    stretch = np.arange(len(kept)) * count // len(kept)
    return kept.groupby(stretch).mean()


@styled
def learning_curves(
    logs: Mapping[str, pd.DataFrame],
    *,
    term: str = "pixel",
    title: str = "",
    highlight: str | None = None,
    size: tuple[float, float] = PANEL,
) -> Figure:
    """Draw one logged term over the steps of several trainings (one line per key of `logs`).

    Args:
        logs: tables read from `log.jsonl`: column `step` and the term.
        highlight: the one line drawn in colour, the others behind it in grey; None colours all and adds a legend.
    """
    figure, axes = one_axes(size, title or f"{term} loss")
    ends = []
    for place, (label, log) in enumerate(logs.items()):
        line = _thin(log, term)
        if line.empty:
            continue
        behind = highlight is not None and label != highlight
        colour, dash = (RULE, "solid") if behind else line_look(0 if highlight else place)
        axes.plot(
            line["step"],
            line[term],
            color=colour,
            linestyle=dash,
            zorder=1 if behind else 2,
            label=label,
            linewidth=1 if behind else 1.6,
        )
        ends.append(f"{label} from {number(line[term].iloc[0], 4)} to {number(line[term].iloc[-1], 4)}")
    axes.set(xlabel="step")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if highlight is None and len(ends) > 1:
        axes.legend(fontsize=7.5)
    return describe(figure, f"Learning curves of the {term} loss: {'; '.join(ends) or 'nothing was logged'}.")


TERMS = (
    "pixel", "perceptual", "temporal_perceptual", "total_variation", "ping_pong", "feature_matching", "adversarial", "flow_adversarial",
)  # fmt: skip


def terms_of(log: pd.DataFrame, prefix: str = "") -> list[str]:
    """Return the generator's loss terms of which a log has the values or, with prefix `gradient_`, the gradients."""
    return [term for term in TERMS if prefix + term in log and log[prefix + term].notna().any()]


@styled
def loss_terms(log: pd.DataFrame, *, title: str = "Loss terms", size: tuple[float, float] = PANEL) -> Figure:
    """Draw the generator's loss terms of one training on a logarithmic axis, named at the end of their lines."""
    shown = {term: line for term in terms_of(log) if (line := _thin(log, term))[term].gt(0).any()}
    return _log_lines(shown, title, "loss", size)


@styled
def gradient_norms(log: pd.DataFrame, *, title: str = "Gradient into the generator", size: tuple[float, float] = PANEL) -> Figure:
    """Draw the norm of each loss term's gradient that reaches the generator, on a logarithmic axis.

    A gradient that is zero at every step has no place on that axis: the figure says so in words.
    """
    names = {f"gradient_{term}": term for term in terms_of(log, "gradient_")}
    lines = {term: _thin(log, name).rename(columns={name: term}) for name, term in names.items()}
    zero = [label for label, line in lines.items() if (line[label] == 0).all()]
    figure = _log_lines({label: line for label, line in lines.items() if label not in zero}, title, "norm", size)
    if zero:
        note = f"{' and '.join(zero).replace('_', ' ')} gradient: exactly 0 at every step"
        figure.axes[0].set_xlabel(f"step\n{note}", color=INK)
        describe(figure, f"{alt(figure)} The {note}.")
    return figure


def _log_lines(lines: Mapping[str, pd.DataFrame], title: str, what: str, size: tuple[float, float]) -> Figure:
    figure, axes = one_axes(size, title)
    for place, (label, line) in enumerate(lines.items()):
        colour, dash = line_look(place)
        positive = line[line[label] > 0]
        axes.plot(positive["step"], positive[label], color=colour, linestyle=dash)
    axes.set(xlabel="step", ylabel=what)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if lines:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        if high < 3 * low:  # an almost constant line: give the axis a factor of 3, or its ticks are noise
            low, high = np.sqrt(low * high) / np.sqrt(3), np.sqrt(low * high) * np.sqrt(3)
            axes.set_ylim(low, high)
        axes.yaxis.set_major_locator(LogLocator(subs=(1,) if high > 100 * low else (1, 2, 5) if high > 10 * low else range(1, 10)))
        axes.yaxis.set_major_formatter("{x:.3g}")  # matplotlib's own writes powers as formulas
        axes.yaxis.set_minor_formatter("")
    axes.margins(x=0.02)
    last = {label.replace("_", " "): values[values > 0] for label, line in lines.items() if len(values := line[label])}
    name_ends(axes, {label: values.iloc[-1] for label, values in last.items() if len(values)})
    ends = "; ".join(f"{label.replace('_', ' ')} ends at {line[label].iloc[-1]:.2g}" for label, line in lines.items() if len(line))
    return describe(figure, f"{title}, logarithmic: {ends or 'nothing was logged'}.")


@styled
def discriminator_scores(log: pd.DataFrame, *, title: str = "Discriminator scores", size: tuple[float, float] = PANEL) -> Figure:
    """Draw the discriminator's mean score of true and of generated frames over the steps; equal lines mean it cannot tell."""
    figure, axes = one_axes(size, title)
    ends = {}
    for place, (name, label) in enumerate({"score_real": "true", "score_fake": "generated"}.items()):
        line = _thin(log, name)
        if line.empty:
            continue
        colour, dash = line_look(place)
        axes.plot(line["step"], line[name], color=colour, linestyle=dash)
        ends[label] = line[name].iloc[-1]
    axes.set(xlabel="step", ylabel="mean score")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    name_ends(axes, ends)
    words = ", ".join(f"{label} frames end at {number(value, 2)}" for label, value in ends.items())
    return describe(figure, f"Discriminator scores during training: {words or 'nothing was logged'}.")


# Pixels ---------------------------------------------------------------------------------------------------------------


def _image_grid(rows: Sequence[Mapping[str, np.ndarray]], *, cell: float, stretch: float | None = None) -> Figure:
    """Lay pictures out in a grid, the keys as titles of the cells; `cell` is a cell's width in inches."""
    columns = max(len(row) for row in rows)
    shape = next(iter(rows[0].values())).shape
    height = cell * (stretch or shape[0] / shape[1]) + 0.28
    figure = Figure(figsize=(cell * columns, height * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for row, pictures_of_row in zip(grid, rows, strict=True):
        for axes, (label, picture) in zip(row, pictures_of_row.items(), strict=False):
            axes.imshow(picture, aspect="auto" if stretch else "equal")
            axes.set_title(label, fontsize=8, weight="normal")
    return figure


def _in_rows(items: Mapping[str, np.ndarray], columns: int) -> list[dict[str, np.ndarray]]:
    pairs = list(items.items())
    return [dict(pairs[start : start + columns]) for start in range(0, len(pairs), columns)]


@styled
def crops_grid(frames: Mapping[str, np.ndarray], boxes: Sequence[pictures.Box], *, cell: float = 1.5) -> Figure:
    """Show the same boxes of one frame for several methods: a row per box, a column per key of `frames` (H, W, 3)."""
    figure = _image_grid([{label: box.cut(frame) for label, frame in frames.items()} for box in boxes], cell=cell)
    places = "; ".join(f"row {b.top}, column {b.left}, {b.height} by {b.width} px" for b in boxes)
    return describe(figure, f"Enlarged crops ({places}) of {', '.join(frames)}, side by side.")


@styled
def temporal_profiles(clips: Mapping[str, np.ndarray], *, row: int | None = None, column: int | None = None, columns: int = 2) -> Figure:
    """Show one row (or column) over time for several methods: clips (T, H, W, 3), time runs down (or across)."""
    profiles = {label: pictures.temporal_profile(clip, row=row, column=column) for label, clip in clips.items()}
    figure = _image_grid(_in_rows(profiles, columns), cell=6.8 / columns, stretch=0.3 if row is not None else 1.0)
    line = f"row {row}" if row is not None else f"column {column}"
    return describe(
        figure, f"Temporal profile: {line} of every frame stacked over time, for {', '.join(clips)}. Ragged stripes are flicker."
    )


@styled
def error_maps(results: Mapping[str, np.ndarray], truth: np.ndarray, *, columns: int = 3) -> Figure:
    """Show |result - truth| of one frame for several methods (H, W, 3), on one scale."""
    errors = {label: pictures.absolute_error(frame, truth) for label, frame in results.items()}
    limit = pictures.shared_limit(errors)
    figure = _image_grid(_in_rows({label: pictures.heat(error, limit) for label, error in errors.items()}, columns), cell=6.8 / columns)
    words = "; ".join(f"{label} {number(error.mean(), 2)}" for label, error in errors.items())
    return describe(figure, f"Error maps, black is 0 and light is {limit:.0f} of 255 steps or more. Mean errors: {words}.")


@styled
def flow_images(flows: Mapping[str, np.ndarray], *, limit: float | None = None, columns: int = 3) -> Figure:
    """Show flows (2, H, W), pixels: hue is the direction, saturation the speed up to `limit`; the last cell is the legend."""
    speeds = {label: np.hypot(*flow) for label, flow in flows.items()}
    limit = limit or pictures.shared_limit(speeds)
    cells = {label: pictures.flow_colours(flow, limit) for label, flow in flows.items()}
    cells[f"legend: rim is {limit:.1f} px"] = pictures.flow_wheel(min(next(iter(cells.values())).shape[:2]))
    words = "; ".join(f"{label} {number(speed.mean(), 2)} px" for label, speed in speeds.items())
    return describe(_image_grid(_in_rows(cells, columns), cell=6.8 / columns), f"Optical flow as colours. Mean speeds: {words}.")


@styled
def image_row(images: Mapping[str, np.ndarray]) -> Figure:
    """Show pictures (H, W, 3) of one content side by side, each at its own size, the keys as titles."""
    figure = _image_grid([images], cell=min(2.6, 8.0 / len(images)))
    return describe(figure, f"Side by side: {', '.join(images)}.")


@styled
def contact_sheets(windows: Sequence[np.ndarray]) -> Figure:
    """Show several windows (T, H, W, 3), one per row, the target in the middle."""
    rows = [dict(zip(_places(len(window)), window, strict=True)) for window in windows]
    figure = _image_grid(rows, cell=max(7.0 / len(rows[0]), 1.0))
    return describe(figure, f"{len(rows)} windows of {len(rows[0])} consecutive frames, one per row.")


def _places(length: int) -> list[str]:
    middle = length // 2
    return ["target t" if k == middle else f"t{k - middle:+d}".replace("-", "\u2212") for k in range(length)]
