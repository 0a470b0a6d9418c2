"""The figures of a run, as SVG with a title."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.figure import Figure

from stvsr.evaluation import dose
from stvsr.figures import doses as draw_doses
from stvsr.figures import scores, style, training
from stvsr.figures.style import PANEL, WIDE, line_look
from stvsr.report import findings, labels
from stvsr.report.run import Run
from stvsr.report.scenes import Picture, training_crops
from stvsr.video.reader import natural

NARROW = (PANEL[0], 4.3)


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One figure: its SVG for wide pages, another for narrow ones where it differs, and a title."""

    title: str
    svg: Markup
    narrow: Markup | None = None


@dataclass(frozen=True, kw_only=True)
class Training:
    """The charts of one training."""

    arm: labels.ArmLabel
    seed: str
    charts: tuple[Chart, ...]
    crops: tuple[Picture, ...]


def plane(run: Run) -> Chart | None:
    """Return the perception-distortion plane, None when nothing fits on it."""
    points = findings.plane(run)
    if points.empty:
        return None
    _, roles = findings.headline_metrics(run.metrics)
    titles = {
        "fidelity": labels.metric(roles["fidelity"]).title,
        "perception": labels.metric(roles["perception"]).title,
        "temporal": labels.metric(roles["time"]).title if "time" in roles else "",
    }
    wide = scores.perception_distortion(points, **titles, size=WIDE)
    return Chart(
        title="The perception\u2013distortion plane",
        svg=to_svg(wide, "plane"),
        narrow=to_svg(scores.perception_distortion(points, **titles, size=NARROW), "plane-narrow"),
    )


def forests(run: Run, *, twins: bool) -> list[tuple[str, list[Chart]]]:
    """Return per protocol one forest plot per metric: differences from twins, or from the control."""
    groups: list[tuple[str, list[Chart]]] = []
    reference, key = ("the twin", "twins") if twins else (labels.arm(run.control).label, "forest")
    for protocol in sorted(run.comparisons["protocol"].unique()):
        charts: list[Chart] = []
        rows = run.compared(protocol, twins=twins)
        rows = rows[rows["is_twin"].astype(bool) == twins]  # a control that is a twin is drawn once, as the twin
        for name in sorted(rows["metric"].unique(), key=labels.metric_order):
            title, better = labels.metric(name).compared
            # peers are so far away that arms would look alike
            trained = rows["arm"].map(lambda arm: labels.arm(arm).kind != "peer").astype(bool)
            table = rows[(rows["metric"] == name) & trained & rows[["difference", "low", "high"]].notna().all(axis=1)]
            table = table.sort_values("arm", key=lambda arms: arms.map(labels.arm_order))
            if len(table):
                table = table.assign(label=[labels.arm(arm).label for arm in table["arm"]])
                figure = scores.differences(table, metric=title, control=reference, better=better)
                charts.append(Chart(title=title, svg=to_svg(figure, f"{key}-{len(groups)}-{len(charts)}")))
        if charts:
            groups.append((str(protocol), charts))
    return groups


def doses(run: Run) -> list[Chart]:
    """Return the dose-response of the study of time, one chart per primary endpoint; empty in other studies."""
    charts: list[Chart] = []
    for (protocol, name), rows in dose.responses(run.metrics).groupby(["protocol", "metric"], sort=False):
        points = rows.groupby(["kind", "dose"], sort=False, as_index=False)[["perception", "motion"]].mean()
        points = points.assign(label=points["kind"].map(dose.KINDS))
        shown, title = labels.metric(str(name)), labels.metric(dose.PERCEPTION).title
        figure = draw_doses.dose_response(points, rows, perception=title, motion=shown.title, size=NARROW)
        charts.append(Chart(title=f"{shown.title} ({protocol})", svg=to_svg(figure, f"dose-{len(charts)}")))
    return charts


def ladder(run: Run) -> list[Chart]:
    """Return the defect ladder for the metrics of the first screen, empty when the run has no rungs."""
    rungs = [name for name in run.arms if labels.arm(name).kind == "ladder"]
    if not rungs:
        return []
    starts = ("original-faithful", "seed-faithful")
    protocol, roles = findings.headline_metrics(run.metrics)
    means = run.summary[run.summary["protocol"] == protocol].set_index(["arm", "metric"])["mean"]
    order = [name for name in (*starts, *rungs, "recurrent-d") if name in run.arms]
    charts = []
    for place, role in enumerate(role for role in findings.ROLES if role in roles):
        shown = labels.metric(roles[role])
        table = pd.DataFrame(
            [
                {"label": _rung(run, name), "value": means[name, shown.name]}
                for name in order
                if (name, shown.name) in means
            ]
        )
        figure = scores.defect_ladder(table, metric=shown.title, better=shown.direction or "lower")
        charts.append(Chart(title=shown.title, svg=to_svg(figure, f"ladder-{place}")))
    return charts


def _rung(run: Run, name: str) -> str:
    shown = labels.arm(name)
    return f"+ {shown.what}" if shown.kind == "ladder" and shown.what else shown.label


def trainings(run: Run) -> list[Training]:
    """Return the charts of every arm's training in the study's order; of several seeds the first stands for the arm."""
    first: dict[str, str] = {}
    for name in sorted(run.logs, key=lambda name: (labels.arm_order(name.partition("@")[0]), natural(Path(name)))):
        first.setdefault(name.partition("@")[0], name)
    return [
        Training(
            arm=labels.arm(arm),
            seed=name.partition("@")[2],
            charts=tuple(_training(run.logs[name], f"log-{place}")),
            crops=tuple(training_crops(run.crops.get(name, []))),
        )
        for place, (arm, name) in enumerate(first.items())
    ]


def _training(log: pd.DataFrame, name: str) -> Iterator[Chart]:
    drawn = (
        ("Loss terms", training.loss_terms, training.terms_of(log)),
        ("Discriminator scores", training.discriminator_scores, ("score_real", "score_fake")),
        ("Gradient into the generator", training.gradient_norms, training.terms_of(log, "gradient_")),
    )
    for place, (title, draw, columns) in enumerate(drawn):
        if any(column in log and log[column].notna().any() for column in columns):
            yield Chart(title=title, svg=to_svg(draw(log, title=title), f"{name}-{place}"))


def per_frame(run: Run) -> list[tuple[str, list[Chart]]]:
    """Return per clip the curves of the first screen's metrics over the frames, one line per arm."""
    protocol, roles = findings.headline_metrics(run.metrics)
    rows = run.metrics[
        (run.metrics["protocol"] == protocol) & run.metrics["arm"].isin(run.arms) & run.metrics["frame"].notna()
    ]
    order = [labels.arm(name).label for name in run.arms]
    groups: list[tuple[str, list[Chart]]] = []
    for clip, of_clip in rows.groupby("clip", sort=True):
        charts: list[Chart] = []
        for role in (role for role in findings.ROLES if role in roles):
            shown = labels.metric(roles[role])
            lines = of_clip[of_clip["metric"] == shown.name].groupby(["arm", "frame"], as_index=False)["value"].mean()
            if lines["frame"].nunique() > 1:
                lines = lines.assign(label=[labels.arm(arm).label for arm in lines["arm"]])
                figure = scores.per_frame(lines, metric=shown.title, order=order)
                charts.append(Chart(title=shown.title, svg=to_svg(figure, f"frames-{len(groups)}-{len(charts)}")))
        if charts:
            groups.append((str(clip), charts))
    return groups


def legend(run: Run) -> list[tuple[str, str, str]]:
    """Return (label, colour variable, dashes) of the lines of `per_frame`, for a legend in HTML."""
    looks = []
    for place, name in enumerate(run.arms):
        colour, dash = line_look(place)
        dashes = " ".join(str(2 * part) for part in dash[1]) if isinstance(dash, tuple) else ""
        looks.append((labels.arm(name).label, THEME[colour], dashes))
    return looks


# Names of the page's CSS variables, so that a figure follows the reader's light or dark theme.
THEME = {style.INK: "ink", style.MUTED: "muted", style.RULE: "rule", style.PAPER: "paper"} | {
    colour: f"c{place}" for place, colour in enumerate(style.PALETTE, start=1)
}


NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def to_svg(figure: Figure, name: str) -> Markup:
    """Return the figure as an SVG element with its alt text; `name` keeps its ids apart from those of other figures.

    Text stays text (in the page's font), colours become the page's variables, numbers lose digits nobody sees. The same
    figure and name give the same bytes.
    """
    file = io.BytesIO()
    with rc_context({**style.STYLE, "svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata=NO_METADATA)
    text = file.getvalue().decode()
    body = re.sub(r"<style.*?</style>", "", text[text.index("<defs") : text.rindex("</svg>")], flags=re.DOTALL)
    body = re.sub(r"<[^>]+>", lambda tag: _slim(tag[0], name), body)
    body = re.sub(r">\s+<", "><", body)
    width, height = (inches * 72 for inches in figure.get_size_inches())
    # 72 points of the drawing are shown as 96 CSS pixels, the size its letters were chosen for
    return Markup(
        f'<svg class="chart" viewBox="0 0 {width:.5g} {height:.5g}" style="--width: {width * 4 / 3:.0f}px" role="img"'
        f' aria-label="{escape(style.alt(figure))}">{body}</svg>'
    )


def _slim(tag: str, name: str) -> str:
    """Rewrite one tag: ids and references get the figure's name, colours the page's variables, numbers two decimals."""
    if tag.startswith("<g "):
        tag = re.sub(r' id="[^"]*"', "", tag)
    tag = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', tag)
    tag = re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", tag)
    tag = re.sub(r'xlink:href="#', f'href="#{name}-', tag).replace("xlink:href", "href")
    tag = re.sub(r'font-family: [^;"]*;? ?', "", tag)
    tag = re.sub(r' transform="rotate\(-0 [^"]*"', "", tag)
    tag = re.sub(
        r"#[0-9a-f]{6}\b", lambda colour: f"var(--{THEME[colour[0]]})" if colour[0] in THEME else colour[0], tag
    )
    if "base64" in tag:
        return re.sub(r"\s*\n\s*", "", tag)
    return re.sub(r"(\d\.\d\d)\d+", r"\1", re.sub(r"\s+", " ", tag))
