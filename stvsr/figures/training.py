"""Figures of trainings: learning curves, loss terms, gradient norms, discriminator scores."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from stvsr.figures.style import INK, PANEL, RULE, alt, line_look, name_ends, number, one_axes, styled, with_alt_text

# Training -------------------------------------------------------------------------------------------------------------


def _thin(log: pd.DataFrame, column: str, count: int = 160) -> pd.DataFrame:
    """Keep at most `count` rows that have the column: running means over equal stretches."""
    kept = (
        log.loc[log[column].notna(), ["step", column]]
        if column in log
        else log.iloc[:0].reindex(columns=["step", column])
    )
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
    return with_alt_text(
        figure, f"{title or f'{term} loss'} over the steps: {'; '.join(ends) or 'nothing was logged'}."
    )


TERMS = (
    "pixel",
    "perceptual",
    "temporal_perceptual",
    "total_variation",
    "ping_pong",
    "feature_matching",
    "adversarial",
    "flow_adversarial",
)


def terms_of(log: pd.DataFrame, prefix: str = "") -> list[str]:
    """Return the generator's loss terms of which a log has the values or, with prefix `gradient_`, the gradients."""
    return [term for term in TERMS if prefix + term in log and log[prefix + term].notna().any()]


@styled
def loss_terms(log: pd.DataFrame, *, title: str = "Loss terms", size: tuple[float, float] = PANEL) -> Figure:
    """Draw the generator's loss terms of one training on a logarithmic axis, named at the end of their lines."""
    shown = {term: line for term in terms_of(log) if (line := _thin(log, term))[term].gt(0).any()}
    return _log_lines(shown, title, "loss", size)


@styled
def gradient_norms(
    log: pd.DataFrame, *, title: str = "Gradient into the generator", size: tuple[float, float] = PANEL
) -> Figure:
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
        with_alt_text(figure, f"{alt(figure)} The {note}.")
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
        axes.yaxis.set_major_locator(
            LogLocator(subs=(1,) if high > 100 * low else (1, 2, 5) if high > 10 * low else range(1, 10))
        )
        axes.yaxis.set_major_formatter("{x:.3g}")  # matplotlib's own writes powers as formulas
        axes.yaxis.set_minor_formatter("")
    axes.margins(x=0.02)
    last = {label.replace("_", " "): values[values > 0] for label, line in lines.items() if len(values := line[label])}
    name_ends(axes, {label: values.iloc[-1] for label, values in last.items() if len(values)})
    ends = "; ".join(
        f"{label.replace('_', ' ')} ends at {line[label].iloc[-1]:.2g}" for label, line in lines.items() if len(line)
    )
    return with_alt_text(figure, f"{title}, logarithmic: {ends or 'nothing was logged'}.")


@styled
def discriminator_scores(
    log: pd.DataFrame, *, title: str = "Discriminator scores", size: tuple[float, float] = PANEL
) -> Figure:
    """Draw D's mean score of true and of generated frames over the steps; equal lines: no difference detected."""
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
    return with_alt_text(figure, f"Discriminator scores during training: {words or 'nothing was logged'}.")
