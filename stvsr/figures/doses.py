"""Figure of the study of time: motion against perception over the dose of each discriminator."""

import pandas as pd
from matplotlib.figure import Figure

from stvsr.figures.style import INK, MUTED, PANEL, line_look, number, one_axes, styled, with_alt_text


@styled
def dose_response(
    means: pd.DataFrame, seeds: pd.DataFrame, *, perception: str, motion: str, size: tuple[float, float] = PANEL
) -> Figure:
    """Draw one line per kind of discriminator from the twin (dose 0) through its doses, and a dot per seed.

    Args:
        means: columns `label`, `kind`, `dose`, `perception`, `motion`: means over seeds, doses ascending per kind.
        seeds: the same values per seed; `label` is not needed.
        perception: name of the metric across.
        motion: name and unit of the metric upwards. Lower is better on both axes, so the best corner is lower left.
        size: inches.
    """
    figure, axes = one_axes(size, motion)
    words = []
    for place, (kind, line) in enumerate(means.groupby("kind", sort=False)):
        colour, dash = line_look(place)
        label = line["label"].iloc[0]
        axes.plot(
            line["perception"], line["motion"], color=colour, linestyle=dash, marker="o", markersize=4, label=label
        )
        dots = seeds[(seeds["kind"] == kind) & (seeds["dose"] > 0)]
        axes.scatter(dots["perception"], dots["motion"], color=colour, s=7, alpha=0.5, linewidths=0)
        end = line.iloc[-1]
        words.append(f"{label} reaches {number(end['motion'])} at {number(end['perception'])}, dose {end['dose']:g}")
    start = means[means["dose"] == 0].iloc[0]
    axes.plot(
        start["perception"],
        start["motion"],
        marker="X",
        color=INK,
        markersize=8,
        linestyle="none",
        label="twin, dose 0",
    )
    twins = seeds[seeds["dose"] == 0]
    axes.scatter(twins["perception"], twins["motion"], color=MUTED, s=7, alpha=0.5, linewidths=0)
    axes.set(xlabel=f"{perception}  (\u2190 better)", ylabel=f"{motion}  (better \u2193)")
    axes.margins(0.12)
    figure.legend(loc="outside lower center", ncols=2, fontsize=7.5)
    return with_alt_text(
        figure,
        f"{motion} against {perception} over the dose. The twin, dose 0: {number(start['motion'])} at"
        f" {number(start['perception'])}. {'; '.join(words)}.",
    )
