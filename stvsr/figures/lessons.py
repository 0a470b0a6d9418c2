"""Figures of the notebooks: signed maps, feature maps, masks, lines, bars, heat maps, sampling positions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stvsr.figures import pixels
from stvsr.figures.images import _image_grid, _in_rows
from stvsr.figures.style import INK, MUTED, PALETTE, PANEL, PAPER, line_look, number, one_axes, styled, with_alt_text

MARKS = "osD^vPX*"


@styled
def captioned_rows(rows: Sequence[Mapping[str, np.ndarray]], text: str, *, cell: float = 1.45) -> Figure:
    """Show several rows of pictures (H, W, 3), the keys as titles; `text` begins the alt text."""
    figure = _image_grid(rows, cell=cell)
    words = "; ".join(f"row {index}: {', '.join(row)}" for index, row in enumerate(rows, start=1))
    return with_alt_text(figure, f"{text} {words}.")


@styled
def signed_maps(
    maps: Mapping[str, np.ndarray],
    text: str,
    *,
    limit: float | None = None,
    columns: int = 3,
    cell: float | None = None,
) -> Figure:
    """Show maps (H, W) that have a sign on one scale: blue is negative, white 0, red positive."""
    limit = limit or pixels.shared_limit({label: np.abs(values) for label, values in maps.items()})
    pictures = {label: pixels.heat(values + limit, 2 * limit, "RdBu_r") for label, values in maps.items()}
    figure = _image_grid(_in_rows(pictures, columns), cell=cell or 6.8 / columns)
    words = "; ".join(f"{label} {number(np.abs(values).mean(), 3)}" for label, values in maps.items())
    return with_alt_text(
        figure, f"{text} Blue is negative, red positive, full colour {number(limit, 3)}. Mean size: {words}."
    )


@styled
def feature_maps(maps: Mapping[str, np.ndarray], text: str, *, channels: int = 6) -> Figure:
    """Show the first channels of feature maps (C, H, W), a row per key, each row on its own scale."""
    rows = []
    for label, values in maps.items():
        chosen = values[:channels]
        low, high = np.quantile(chosen, (0.005, 0.995))
        rows.append(
            {
                label if not channel else f"channel {channel}": pixels.heat(
                    plane - low, max(high - low, 1e-9), "viridis"
                )
                for channel, plane in enumerate(chosen)
            }
        )
    figure = _image_grid(rows, cell=7.0 / channels)
    words = "; ".join(f"{label} of {len(values)} channels" for label, values in maps.items())
    return with_alt_text(figure, f"{text} First {channels} channels, dark is low, light is high: {words}.")


@styled
def masked_frames(frames: Mapping[str, tuple[np.ndarray, np.ndarray]], text: str) -> Figure:
    """Show frames (H, W, 3) with the places where a mask (H, W) is false painted orange."""
    pictures, shares = {}, []
    for label, (frame, mask) in frames.items():
        picture = (0.55 * frame + 0.45 * 255).astype(np.uint8)
        picture[~mask] = (213, 94, 0)
        pictures[label] = picture
        shares.append(f"{label} {100 * (1 - mask.mean()):.1f}%")
    figure = _image_grid(_in_rows(pictures, 3), cell=6.8 / min(3, len(pictures)))
    return with_alt_text(figure, f"{text} Orange covers: {'; '.join(shares)}.")


@styled
def lines(
    table: pd.DataFrame,
    *,
    x: str,
    y: str,
    label: str,
    title: str = "",
    size: tuple[float, float] = PANEL,
) -> Figure:
    """Draw column `y` over column `x`, one line per value of column `label`, with markers at the measured places."""
    figure, axes = one_axes(size, title or y)
    words = []
    for place, (name, rows) in enumerate(table.groupby(label, sort=False)):
        colour, dash = line_look(place)
        axes.plot(
            rows[x],
            rows[y],
            color=colour,
            linestyle=dash,
            marker="o" if len(rows) < 20 else None,
            markersize=3.5,
            label=name,
        )
        words.append(f"{name} from {number(rows[y].iloc[0], 3)} to {number(rows[y].iloc[-1], 3)}")
    axes.set(xlabel=x, ylabel=y)
    dtype: Any = table[x].dtype  # NumPy's own: these tables hold no pandas extension types
    if np.issubdtype(dtype, np.integer):
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if table[label].nunique() > 1:
        axes.legend(fontsize=7.5)
    return with_alt_text(figure, f"{title or y} over {x}: {'; '.join(words)}.")


@styled
def bars(values: Mapping[str, float], *, title: str, unit: str, size: tuple[float, float] | None = None) -> Figure:
    """Draw one horizontal bar per value, labelled with the value; infinite values are drawn to the edge."""
    figure, axes = one_axes(size or (PANEL[0] * 1.6, 0.6 + 0.32 * len(values)), title)
    finite = [value for value in values.values() if np.isfinite(value)]
    top = max(finite, default=1.0)
    for place, value in enumerate(values.values()):
        axes.barh(place, min(value, 1.15 * top), color=PALETTE[0], height=0.6)
        axes.annotate(f" {number(value)}", (min(value, 1.15 * top), place), va="center", fontsize=8)
    axes.set(xlabel=unit, yticks=range(len(values)), yticklabels=list(values), ylim=(len(values) - 0.5, -0.5))
    axes.set_xlim(min(0.0, *finite, 0.0), 1.25 * top)
    axes.grid(axis="y", visible=False)
    return with_alt_text(
        figure, f"{title}, {unit}: {'; '.join(f'{label} {number(value)}' for label, value in values.items())}."
    )


@styled
def dots(table: pd.DataFrame, *, title: str, unit: str) -> Figure:
    """Draw one row per index entry and one mark per column; the axis fits the values.

    For quantities without a natural zero, such as PSNR: bars from zero would hide the differences. A single column is
    labelled with its values.
    """
    figure, axes = one_axes((PANEL[0] * 1.6, 0.8 + 0.26 * len(table) + 0.2 * (table.shape[1] > 1)), title)
    places = range(len(table))
    for place, name in enumerate(table):
        axes.plot(
            table[name], places, MARKS[place % len(MARKS)], color=line_look(place)[0], markersize=6,
            markeredgecolor=PAPER, label=name,
        )  # fmt: skip
    if table.shape[1] == 1:
        for place, value in enumerate(table.iloc[:, 0]):
            axes.annotate(f"  {number(value, 2)}", (value, place), va="center", fontsize=8)
    else:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=7.5)
    axes.set(xlabel=unit, yticks=places, yticklabels=list(table.index), ylim=(len(table) - 0.5, -0.5))
    axes.margins(x=0.15)
    words = "; ".join(
        f"{row}: {', '.join(f'{name} {number(value, 2)}' for name, value in values.items())}"
        for row, values in table.iterrows()
    )
    return with_alt_text(figure, f"{title}, {unit}. {words}.")


@styled
def gradient_bars(norms: Mapping[str, Mapping[str, float]], *, title: str) -> Figure:
    """Draw the gradient norm of every loss term of several arms, logarithmic; an exact zero is written out."""
    terms = list(dict.fromkeys(term for row in norms.values() for term in row))
    positive = [value for row in norms.values() for value in row.values() if value > 0]
    floor, top = min(positive) / 10, max(positive) * 8
    figure, axes = one_axes((6.4, 0.9 + 0.24 * (len(norms) + 1) * len(terms)), title)
    for place, (arm, row) in enumerate(norms.items()):
        at = [index * (len(norms) + 1) + place for index in range(len(terms))]
        values = [row.get(term, float("nan")) for term in terms]
        axes.barh(at, [max(value, floor) for value in values], color=PALETTE[place], height=0.85, label=arm, left=0)
        for y, value in zip(at, values, strict=True):
            text = "not in this arm" if np.isnan(value) else "exactly 0" if value == 0 else f"{value:.2g}"
            axes.annotate(
                f" {text}", (max(value, floor) if value > 0 else floor, y), va="center", fontsize=8, color=INK
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:.0e}")  # matplotlib's own writes powers as formulas
    axes.xaxis.set_minor_formatter("")
    centres = [index * (len(norms) + 1) + (len(norms) - 1) / 2 for index in range(len(terms))]
    axes.set(xlim=(floor, top), yticks=centres, yticklabels=[term.replace("_", " ") for term in terms],
             xlabel="norm of the gradient where it enters the generator")  # fmt: skip
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.legend(fontsize=7.5, loc="lower right")
    words = []
    for arm, row in norms.items():
        sizes = [
            f"{term.replace('_', ' ')} {'exactly 0' if value == 0 else f'{value:.2g}'}" for term, value in row.items()
        ]
        words.append(f"{arm}: {', '.join(sizes)}")
    return with_alt_text(figure, f"{title}, logarithmic. {'; '.join(words)}.")


@styled
def sensitivity_map(values: pd.DataFrame, shades: pd.DataFrame, *, title: str) -> Figure:
    """Draw a heat map of numbers: a row per defect, a column per metric; the shade is what the metric makes of it.

    Args:
        values: numbers written into the cells.
        shades: of the same shape, in [0, 1]: 0 means the metric sees nothing, 1 that it sees most in this row.
    """
    figure, axes = one_axes((0.72 * values.shape[1] + 1.4, 0.36 * values.shape[0] + 1.2), title)
    shown = np.ma.masked_invalid(shades.to_numpy(float))
    axes.imshow(shown, cmap="Oranges", vmin=0, vmax=1.15, aspect="auto")
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            value: Any = values.iloc[row, column]
            text = "–" if pd.isna(value) else "0" if abs(value) < 5e-4 else f"{value:.3g}"
            dark = bool(shown[row, column] > 0.8)
            axes.annotate(text, (column, row), ha="center", va="center", fontsize=7.5, color=PAPER if dark else INK)
    axes.set(xticks=range(values.shape[1]), yticks=range(values.shape[0]))
    axes.set_xticklabels(values.columns, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticklabels(values.index)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    words = "; ".join(
        f"{defect}: " + ", ".join(f"{metric} {values.loc[defect, metric]:.3g}" for metric in values.columns)
        for defect in values.index
    )
    return with_alt_text(figure, f"{title}. A dark cell is a large effect. {words}.")


@styled
def sampling_positions(positions: Mapping[str, np.ndarray], *, scale: int, title: str) -> Figure:
    """Draw where the samples of several LR frames fall within one LR pixel of the target: (N, 2) fractions (x, y)."""
    figure, axes = one_axes((3.6, 3.4), title)
    for edge in range(scale + 1):
        axes.axhline(edge / scale, color=MUTED, linewidth=0.4)
        axes.axvline(edge / scale, color=MUTED, linewidth=0.4)
    for place, (label, points) in enumerate(positions.items()):
        axes.plot(*points.T, MARKS[place % len(MARKS)], color=line_look(place)[0], markersize=6, label=label,
                  markeredgecolor=PAPER)  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(1, 0), aspect="equal", xlabel="fraction of an LR pixel, x", ylabel="fraction, y")
    axes.grid(visible=False)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    words = "; ".join(f"{label} at ({points[0][0]:.2f}, {points[0][1]:.2f})" for label, points in positions.items())
    return with_alt_text(figure, f"{title}. Positions within one LR pixel: {words}.")
