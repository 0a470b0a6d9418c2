"""Figures of frames: crops, temporal profiles, error maps, flow, windows. Each has alt text.

Nothing is shown or saved here: `style.show` displays a figure in a notebook, `style.save` writes a file.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from stvsr.figures import pixels
from stvsr.figures.style import (
    number,
    styled,
    with_alt_text,
)

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
def crops_grid(frames: Mapping[str, np.ndarray], boxes: Sequence[pixels.Box], *, cell: float = 1.5) -> Figure:
    """Show the same boxes of one frame for several methods: a row per box, a column per key of `frames` (H, W, 3)."""
    figure = _image_grid([{label: box.cut(frame) for label, frame in frames.items()} for box in boxes], cell=cell)
    places = "; ".join(f"row {b.top}, column {b.left}, {b.height} by {b.width} px" for b in boxes)
    return with_alt_text(figure, f"Enlarged crops ({places}) of {', '.join(frames)}, side by side.")


@styled
def temporal_profiles(
    clips: Mapping[str, np.ndarray], *, row: int | None = None, column: int | None = None, columns: int = 2
) -> Figure:
    """Show one row (or column) over time for several methods: clips (T, H, W, 3), time runs down (or across)."""
    profiles = {label: pixels.temporal_profile(clip, row=row, column=column) for label, clip in clips.items()}
    figure = _image_grid(_in_rows(profiles, columns), cell=6.8 / columns, stretch=0.3 if row is not None else 1.0)
    line = f"row {row}" if row is not None else f"column {column}"
    return with_alt_text(
        figure,
        f"Temporal profile: {line} of every frame stacked over time, for {', '.join(clips)}."
        " Ragged stripes are flicker.",
    )


@styled
def error_maps(results: Mapping[str, np.ndarray], truth: np.ndarray, *, columns: int = 3) -> Figure:
    """Show |result - truth| of one frame for several methods (H, W, 3), on one scale."""
    errors = {label: pixels.absolute_error(frame, truth) for label, frame in results.items()}
    limit = pixels.shared_limit(errors)
    figure = _image_grid(
        _in_rows({label: pixels.heat(error, limit) for label, error in errors.items()}, columns), cell=6.8 / columns
    )
    words = "; ".join(f"{label} {number(error.mean(), 2)}" for label, error in errors.items())
    return with_alt_text(
        figure, f"Error maps, black is 0 and light is {limit:.0f} of 255 steps or more. Mean errors: {words}."
    )


@styled
def flow_images(flows: Mapping[str, np.ndarray], *, limit: float | None = None, columns: int = 3) -> Figure:
    """Show flows (2, H, W), pixels: hue is direction, saturation speed up to `limit`; the last cell is the legend."""
    speeds = {label: np.hypot(*flow) for label, flow in flows.items()}
    limit = limit or pixels.shared_limit(speeds)
    cells = {label: pixels.flow_colours(flow, limit) for label, flow in flows.items()}
    cells[f"legend: rim is {limit:.1f} px"] = pixels.flow_wheel(min(next(iter(cells.values())).shape[:2]))
    words = "; ".join(f"{label} {number(speed.mean(), 2)} px" for label, speed in speeds.items())
    return with_alt_text(
        _image_grid(_in_rows(cells, columns), cell=6.8 / columns), f"Optical flow as colours. Mean speeds: {words}."
    )


@styled
def image_row(images: Mapping[str, np.ndarray]) -> Figure:
    """Show pictures (H, W, 3) of one content side by side, each at its own size, the keys as titles; none is stated."""
    if not images:  # as with crops_every = 0
        figure = Figure(figsize=(2.6, 0.4))
        figure.text(0.5, 0.5, "no pictures", ha="center", va="center")
        return with_alt_text(figure, "There are no pictures to show.")
    figure = _image_grid([images], cell=min(2.6, 8.0 / len(images)))
    return with_alt_text(figure, f"Side by side: {', '.join(images)}.")


@styled
def contact_sheets(windows: Sequence[np.ndarray]) -> Figure:
    """Show several windows (T, H, W, 3), one per row, the target in the middle."""
    rows = [dict(zip(_places(len(window)), window, strict=True)) for window in windows]
    figure = _image_grid(rows, cell=max(7.0 / len(rows[0]), 1.0))
    many = f"{len(rows)} windows" if len(rows) > 1 else "One window"
    return with_alt_text(
        figure,
        f"{many} of {len(rows[0])} consecutive frames{', one per row' * (len(rows) > 1)}, the target in the middle.",
    )


def _places(length: int) -> list[str]:
    middle = length // 2
    return ["target t" if k == middle else f"t{k - middle:+d}".replace("-", "\u2212") for k in range(length)]
