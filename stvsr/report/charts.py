"""Which figures a run gets, as SVG with a title and a caption."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from stvsr import figures
from stvsr.figure_style import PANEL, WIDE, line_look
from stvsr.report import answers, load, vocabulary
from stvsr.report.load import Run
from stvsr.report.looks import Picture, training_crops
from stvsr.report.vector import THEME, to_svg

NARROW = (PANEL[0], 4.3)


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One figure: its SVG for wide pages and, where it differs, for narrow ones; a title for the arm or metric it shows."""

    title: str
    svg: Markup
    narrow: Markup | None = None


@dataclass(frozen=True, kw_only=True)
class Training:
    """The charts of one training."""

    arm: vocabulary.Arm
    seed: str
    charts: tuple[Chart, ...]
    crops: tuple[Picture, ...]


def plane(run: Run) -> Chart | None:
    """Return the perception-distortion plane, None when nothing fits on it."""
    points = answers.plane(run)
    if points.empty:
        return None
    _, roles = answers.headline_metrics(run.metrics)
    titles = {
        "fidelity": vocabulary.metric(roles["fidelity"]).title,
        "perception": vocabulary.metric(roles["perception"]).title,
        "temporal": vocabulary.metric(roles["time"]).title if "time" in roles else "",
    }
    wide = figures.perception_distortion(points, **titles, size=WIDE)
    return Chart(
        title="The perception\u2013distortion plane",
        svg=to_svg(wide, "plane"),
        narrow=to_svg(figures.perception_distortion(points, **titles, size=NARROW), "plane-narrow"),
    )


def forests(run: Run, control: str) -> list[tuple[str, list[Chart]]]:
    """Return per protocol one forest plot per metric."""
    groups = []
    for protocol, rows in run.comparisons.groupby("protocol", sort=True):
        charts = []
        for name in sorted(rows["metric"].unique(), key=vocabulary.metric_order):
            title, better = vocabulary.metric(name).compared
            trained = rows["arm"].map(lambda arm: vocabulary.arm(arm).kind != "peer")  # peers are so far away that arms would look alike
            table = rows[(rows["metric"] == name) & trained & rows[["difference", "low", "high"]].notna().all(axis=1)]
            table = table.sort_values("arm", key=lambda arms: arms.map(vocabulary.arm_order))
            if len(table):
                table = table.assign(label=[vocabulary.arm(arm).label for arm in table["arm"]])
                figure = figures.differences(table, metric=title, control=control, better=better)
                charts.append(Chart(title=title, svg=to_svg(figure, f"forest-{len(groups)}-{len(charts)}")))
        if charts:
            groups.append((str(protocol), charts))
    return groups


def ladder(run: Run) -> list[Chart]:
    """Return the defect ladder for the metrics of the first screen, empty when the run has no rungs."""
    rungs = [name for name in run.arms if vocabulary.arm(name).kind == "ladder"]
    if not rungs:
        return []
    ends = [name for name in ("seed-faithful", "recurrent-d") if name in run.arms]
    protocol, roles = answers.headline_metrics(run.metrics)
    means = run.summary[run.summary["protocol"] == protocol].set_index(["arm", "metric"])["mean"]
    order = [*ends[:1], *rungs, *ends[1:]]
    charts = []
    for place, role in enumerate(role for role in answers.ROLES if role in roles):
        shown = vocabulary.metric(roles[role])
        table = pd.DataFrame(
            [{"label": _rung(run, name), "value": means[name, shown.name]} for name in order if (name, shown.name) in means]
        )
        figure = figures.defect_ladder(table, metric=shown.title, better=shown.better)
        charts.append(Chart(title=shown.title, svg=to_svg(figure, f"ladder-{place}")))
    return charts


def _rung(run: Run, name: str) -> str:
    shown = vocabulary.arm(name)
    return f"+ {shown.what}" if shown.kind == "ladder" and shown.what else shown.label


def trainings(run: Run) -> list[Training]:
    """Return the charts of every arm's training in the study's order; of several seeds the first stands for the arm."""
    first: dict[str, str] = {}
    for name in sorted(run.logs, key=lambda name: (vocabulary.arm_order(name.partition("@")[0]), load.natural(name))):
        first.setdefault(name.partition("@")[0], name)
    return [
        Training(
            arm=vocabulary.arm(arm),
            seed=name.partition("@")[2],
            charts=tuple(_training(run.logs[name], f"log-{place}")),
            crops=tuple(training_crops(run.crops.get(name, []))),
        )
        for place, (arm, name) in enumerate(first.items())
    ]


def _training(log: pd.DataFrame, name: str) -> Iterator[Chart]:
    drawn = (
        ("Loss terms", figures.loss_terms, figures.terms_of(log)),
        ("Discriminator scores", figures.discriminator_scores, ("score_real", "score_fake")),
        ("Gradient into the generator", figures.gradient_norms, figures.terms_of(log, "gradient_")),
    )
    for place, (title, draw, columns) in enumerate(drawn):
        if any(column in log and log[column].notna().any() for column in columns):
            yield Chart(title=title, svg=to_svg(draw(log, title=title), f"{name}-{place}"))


def per_frame(run: Run) -> list[tuple[str, list[Chart]]]:
    """Return per clip the curves of the first screen's metrics over the frames, one line per arm."""
    protocol, roles = answers.headline_metrics(run.metrics)
    rows = run.metrics[(run.metrics["protocol"] == protocol) & run.metrics["arm"].isin(run.arms) & run.metrics["frame"].notna()]
    order = [vocabulary.arm(name).label for name in run.arms]
    groups = []
    for clip, of_clip in rows.groupby("clip", sort=True):
        charts = []
        for role in (role for role in answers.ROLES if role in roles):
            shown = vocabulary.metric(roles[role])
            lines = of_clip[of_clip["metric"] == shown.name].groupby(["arm", "frame"], as_index=False)["value"].mean()
            if lines["frame"].nunique() > 1:
                lines = lines.assign(label=[vocabulary.arm(arm).label for arm in lines["arm"]])
                figure = figures.per_frame(lines, metric=shown.title, order=order)
                charts.append(Chart(title=shown.title, svg=to_svg(figure, f"frames-{len(groups)}-{len(charts)}")))
        if charts:
            groups.append((str(clip), charts))
    return groups


def legend(run: Run) -> list[tuple[str, str, str]]:
    """Return (label, colour variable, dashes) of the lines of `per_frame`, for a legend in HTML."""
    looks = []
    for place, name in enumerate(run.arms):
        colour, dash = line_look(place)
        looks.append((vocabulary.arm(name).label, THEME[colour], "" if dash == "solid" else " ".join(str(2 * part) for part in dash[1])))
    return looks
