"""The one style of the study's figures, their alt text, and where labels go.

Kept apart from `figures`, which says what is drawn.
"""

import functools
import io
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import BboxBase

INK, MUTED, RULE, PAPER = "#1d2026", "#5c626c", "#c9ccd2", "#fefefe"


# Okabe and Ito's colours without yellow and black (poor contrast on paper), then two more of the same family.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7a5195", "#8c6d31")
DASHES = ("solid", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))
VERDICT_LOOK = {"better": (PALETTE[0], "^"), "worse": (PALETTE[1], "v"), "no difference detected": (MUTED, "o")}
MARKERS = {"peer": "s", "start": "D", "control": "X", "arm": "o", "adversarial": "^", "ladder": "v"}
PANEL = (3.4, 2.3)  # inches: one column of a page, or a telephone
WIDE = (6.0, 4.3)
STYLE = {
    **sns.axes_style("ticks"),
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.6,
    "text.color": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "image.interpolation": "nearest",
    "text.parse_math": False,  # names of clips and arms are data, a dollar sign in them is no formula
}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw under the one style of the study, whatever the caller's rcParams are."""

    @functools.wraps(draw)
    def wrapper(*args: Any, **kwargs: Any) -> Figure:
        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapper


def with_alt_text(figure: Figure, text: str) -> Figure:
    """Give the figure its alt text: one paragraph that says what the picture shows."""
    figure.set_label(" ".join(text.split()))
    return figure


def alt(figure: Figure) -> str:
    """Return the figure's alt text."""
    return str(figure.get_label())


def show(figure: Figure, path: Path | None = None) -> Any:
    """Return the figure as an image that a notebook displays with its alt text; also save it when `path` is given."""
    from IPython.display import Image

    if path is not None:
        save(figure, path)
    return Image(_png(figure, dpi=200), width=round(figure.get_figwidth() * 100), alt=alt(figure))


def save(figure: Figure, path: Path, dpi: int = 200) -> Path:
    """Write the figure as PNG, its alt text in the file's description; the folder is made when needed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_png(figure, dpi))
    return path


def _png(figure: Figure, dpi: int) -> bytes:
    file = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(file, format="png", dpi=dpi, metadata={"Description": alt(figure), "Software": None})
    return file.getvalue()


def one_axes(size: tuple[float, float], title: str = "") -> tuple[Figure, Axes]:
    """Return a figure with one axes of `size` inches."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    return figure, axes


def number(value: float, digits: int = 3) -> str:
    """Return a number with a true minus sign."""
    return f"{value:.{digits}f}".replace("-", "\u2212")


def line_look(place: int) -> tuple[str, object]:
    """Return (colour, dash) of the n-th line of a plot: 32 pairs that differ, dashes first differing after 8."""
    return PALETTE[place % len(PALETTE)], DASHES[(place // len(PALETTE) + place) % len(DASHES)]


def name_row(axes: Axes, place: int, label: str, note: str = "") -> None:
    """Write a row's name and, below it, a note above the row's mark, at the left edge; lines do not show through."""
    behind = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.6}
    for text, rise, size, colour in (
        (textwrap.shorten(label, 52, placeholder=" \u2026"), 18, 8, INK),
        (note, 8.5, 7.5, MUTED),
    ):
        axes.annotate(
            text, (0, place), xycoords=("axes fraction", "data"), xytext=(0, rise), textcoords="offset points",
            fontsize=size, va="center", color=colour, bbox=behind if text else None,
        )  # fmt: skip


def name_ends(axes: Axes, ends: Mapping[str, float]) -> None:
    """Name lines at the right edge where each ends (label -> value), moved apart where names would overlap."""
    assert isinstance(axes.figure, Figure)  # not a SubFigure, which has no height in inches
    least = 10 / (axes.figure.get_figheight() * 72 * 0.7)  # a line of text as a share of the axes' height
    heights = {
        label: axes.transAxes.inverted().transform(axes.transData.transform((0, value)))[1]
        for label, value in ends.items()
    }
    lowest = -1.0
    for label, height in sorted(heights.items(), key=lambda item: item[1]):
        lowest = max(height, lowest + least)
        axes.annotate(label, (1.01, lowest), xycoords="axes fraction", fontsize=7.5, va="center")


def place_labels(figure: Figure, axes: Axes, points: pd.DataFrame, texts: Sequence[str]) -> None:
    """Put each label at the free place nearest to its point, greedily; far ones get a thin leader.

    `points` has the columns `fidelity` and `perception`, and the intervals to keep clear of (`..._low`, `..._high`).
    """
    figure.draw_without_rendering()
    where = list(zip(points["fidelity"], points["perception"], strict=True))
    pixels = axes.transData.transform(where)
    frame = axes.get_window_extent()
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in pixels] + list(_interval_boxes(axes, points))
    scale = 72 / figure.dpi  # pixels to points
    for (x, y), at, text in zip(pixels, where, texts, strict=True):
        if not text:
            continue
        label = axes.annotate(text, at, fontsize=8, xytext=(0, 0), textcoords="offset points", va="center", zorder=4)
        width, height = label.get_window_extent().size
        _, dx, dy, box = min(_places(x, y, width, height, taken, frame))
        taken.append(box)
        label.set_position((dx * scale, dy * scale))
        if max(dx, -dx - width, abs(dy) - height / 2) > 15:  # pixels between point and label
            near = min(max(0.0, dx), dx + width) if dx + width > 0 else dx + width
            leader = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 5}
            axes.annotate("", at, xytext=(near * scale, dy * scale), textcoords="offset points", arrowprops=leader)
    figure.set_layout_engine("none")  # labels were placed for this layout


def _interval_boxes(axes: Axes, points: pd.DataFrame) -> Iterator[tuple]:
    """Yield the error bars as thin boxes in pixels."""
    row: Any  # a named tuple of the columns
    for row in points.itertuples():
        for name in ("fidelity", "perception"):
            ends = [getattr(row, f"{name}_{end}", np.nan) for end in ("low", "high")]
            at = [(end, row.perception) if name == "fidelity" else (row.fidelity, end) for end in ends]
            if np.isfinite(ends).all():
                corners = axes.transData.transform(at)
                yield (*(corners.min(axis=0) - 1), *(corners.max(axis=0) + 1))


def _places(x: float, y: float, width: float, height: float, taken: list, frame: BboxBase) -> list[tuple]:
    """Return candidate places as (badness, dx, dy, box): overlap with what is taken, then distance from the point."""
    candidates = []
    for ring in (0, 14, 28, 44):
        for side, rise in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            dx = {1: 9.0 + ring, 0: -width / 2, -1: -9.0 - ring - width}[side]
            dy = rise * ((ring if side else ring + 4) + height / 2 + (0 if side else 5))
            box = (x + dx, y + dy - height / 2, x + dx + width, y + dy + height / 2)
            overlap = sum(_overlap(box, other) for other in taken)
            outside = max(0.0, frame.x0 - box[0], box[2] - frame.x1) + max(0.0, frame.y0 - box[1], box[3] - frame.y1)
            candidates.append((overlap + 40 * outside + ring + 2 * abs(rise) * abs(side), dx, dy, box))
    return candidates


def _overlap(a: tuple, b: tuple) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
