"""Build a report: read the run, prepare tables, figures and media, render one HTML file, list all reports."""

import base64
import hashlib
import itertools
import os
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from stvsr.errors import InputError
from stvsr.evaluation.comparison import clip_means
from stvsr.metrics.protocols import PROTOCOLS
from stvsr.report import appendix, charts, findings, labels, limitations, media, provenance, published, tables
from stvsr.report.headline import headline
from stvsr.report.run import Run, load_run
from stvsr.report.scenes import read_scenes
from stvsr.report.tables import Table
from stvsr.runs.files import write_text

BUDGET_MB = 15.0
STATIC = Path(__file__).parent / "static"


def build_report(run_folder: Path, budget_mb: float = BUDGET_MB) -> Path:
    """Write `report.html` and `tables/*.csv` into a run folder and refresh `index.html` next to it.

    Args:
        run_folder: holds `run.json` and `steps/`, as the pipeline wrote them; missing parts are named as missing.
        budget_mb: largest size of `report.html` in 10^6 bytes. Media that do not fit go to `media/` next to it.

    Returns:
        The path of `report.html`.

    Raises:
        InputError: there is no run in the folder, a table of it lacks a column, or the budget is not positive.
    """
    if not budget_mb > 0:
        raise InputError(f"report budget is {budget_mb} MB: give a positive number")
    folder = Path(run_folder)
    run = load_run(folder)
    content = _content(run)
    items = [item for scene in content["scenes"] for item in scene.items()] + [
        found.item for found in content["appendices"]
    ]
    items += [crop.item for training in content["trainings"] for crop in training.crops]
    environment = _environment()
    page, where = _fitted(environment, content, items, budget_mb * 1e6)
    for table in content["tables"].values():
        write_text(folder / "tables" / f"{table.key}.csv", table.csv())
    media.write_beside(items, where, folder / "media")
    write_text(folder / "report.html", page)
    write_index(folder.parent)
    return folder / "report.html"


def _fitted(
    environment: Environment, content: dict, items: list[media.Item], budget: float
) -> tuple[str, dict[str, str]]:
    """Return the page with as many media in it as the budget holds (bytes), and where each item is."""
    where = media.placed(items, 0)
    page = _render(environment, content, where)
    room = budget - len(page.encode())
    while room > 0:
        placed = media.placed(items, room)
        fuller = _render(environment, content, placed)
        excess = len(fuller.encode()) - budget  # an item that is shown twice is in the page twice
        if excess <= 0:
            return fuller, placed
        room -= max(excess, 1)
    return page, where


def write_index(folder: Path) -> Path:
    """Write `index.html`, the list of the reports found one level below `folder`, newest first."""
    entries = []
    for path in sorted(folder.glob("*/report.html")):
        try:
            run = load_run(path.parent)
            answer = headline(run)
        except InputError:  # a run that is gone, unreadable or of another version is left out of the list
            continue
        entries.append({
            "link": f"{quote(path.parent.name)}/report.html", "manifest": run.manifest, "headline": answer,
            "failed": sum(step["status"] == "failed" for step in run.steps), "arms": run.arms,
        })  # fmt: skip
    entries.sort(key=lambda entry: str(entry["manifest"].get("finished") or ""), reverse=True)
    page = (
        _environment()
        .get_template("index.html.j2")
        .render(entries=entries, built=built_date(), css=_static("report.css"))
    )
    write_text(folder / "index.html", page)
    return folder / "index.html"


def built_date() -> str:
    """Return the date that goes into the page: today, or SOURCE_DATE_EPOCH where it is set."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _content(run: Run) -> dict:
    """Return everything the template shows."""
    control = labels.arm(run.control).label
    scenes = read_scenes(run)
    of_scores = _score_tables(run, control)
    origin = [
        provenance.data_table(run),
        provenance.weights_table(run),
        provenance.packages_table(run),
        provenance.parameters_table(run),
    ]
    tables_of_origin = [provenance.step_table(run), *(table for table in origin if table)]
    beside = published.comparison(run)
    protocol, roles = findings.headline_metrics(run.metrics)
    return {
        "run": run,
        "manifest": run.manifest,
        "built": built_date(),
        "headline": headline(run),
        "answers": findings.answers(run),
        "control": control,
        "plane": charts.plane(run),
        "protocol": protocol,
        "plane_caption": tables.protocol_words(run.metrics, protocol) if protocol else "",
        "has_time": "time" in roles,
        "on_gpu": provenance.on_gpu(run),
        "failures": [step for step in run.steps if step["status"] == "failed"],
        "facts": provenance.facts(run),
        "steps": provenance.steps(run),
        **of_scores,
        "published": beside,
        "origin": tables_of_origin,
        "tables": {table.key: table for table in [*itertools.chain(*of_scores.values()), *beside, *tables_of_origin]},
        "forests": charts.forests(run, twins=False),
        "twin_forests": charts.forests(run, twins=True),
        "dose_charts": charts.doses(run),
        "ladder": charts.ladder(run),
        "trainings": charts.trainings(run),
        "per_frame": charts.per_frame(run),
        "legend": charts.legend(run),
        "limits": limitations.cannot_say(run),
        "scenes": scenes,
        "pair": _first_pair(run),
        "clips": sorted(run.metrics["clip"].unique()),
        "protocol_names": sorted(run.metrics["protocol"].unique()),
        "arms": [labels.arm(name) for name in run.arms],
        "metrics": [labels.metric(name) for name in sorted(run.metrics["metric"].unique(), key=labels.metric_order)],
        "appendices": appendix.appendices(run),
    }


def _score_tables(run: Run, control: str) -> dict[str, list[Table]]:
    """Return the tables of scores, differences from twins and from the control, doses and clips, one per protocol."""
    found: dict[str, list[Table]] = {
        name: [] for name in ("scores", "attributions", "differences", "doses", "per_clip")
    }
    known, failed = list(PROTOCOLS), findings.failed_arms(run)
    means = clip_means(run.metrics) if len(run.metrics) else run.metrics
    order = {name: known.index(name) if name in known else len(known) for name in run.metrics["protocol"].unique()}
    for protocol in sorted(order, key=lambda name: (order[name], name)):
        of_protocol = means[means["protocol"] == protocol]
        found["scores"].append(
            tables.scores(run.summary, of_protocol, run.metrics, protocol, failed, run.demonstrations)
        )
        if len(rows := run.compared(protocol, twins=True)):
            found["attributions"].append(tables.attributions(rows, run.metrics, protocol))
        if len(rows := run.compared(protocol, twins=False)):
            found["differences"].append(tables.differences(rows, run.metrics, protocol, control))
        if len(rows := run.contrasts[run.contrasts["protocol"] == protocol]):
            slopes = run.slopes[run.slopes["protocol"] == protocol]
            found["doses"].append(tables.doses(rows, slopes, run.metrics, protocol))
        if run.metrics["clip"].nunique() > 1:
            found["per_clip"].append(tables.per_clip(of_protocol, run.metrics, protocol))
    return found


def _first_pair(run: Run) -> tuple[str, str]:
    """Return the two methods that the comparison starts with: bicubic and the arm that looks closest to the truth."""
    protocol, roles = findings.headline_metrics(run.metrics)
    shown = {name for methods in run.frames.values() for name in methods if labels.arm(name).kind != "peer"}
    means = run.summary[(run.summary["protocol"] == protocol) & (run.summary["metric"] == roles.get("perception"))]
    means = means[means["arm"].isin(shown)]
    ranked = list(means.sort_values("mean")["arm"]) or sorted(shown, key=labels.arm_order) or ["truth"]
    return "bicubic", str(ranked[0])


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("stvsr.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    environment.filters["csv_uri"] = lambda table: (
        f"data:text/csv;base64,{base64.b64encode(table.csv().encode()).decode()}"
    )
    environment.filters["srcdoc"] = lambda text: Markup(
        text.replace("&", "&amp;").replace('"', "&#34;")
    )  # all that ends an attribute
    environment.filters["duration"] = labels.duration
    environment.filters["moment"] = labels.moment
    environment.globals["protocols"] = PROTOCOLS
    return environment


def _render(environment: Environment, content: dict, where: dict[str, str]) -> str:
    script = _static("report.js")
    template = environment.get_template("report.html.j2")
    return template.render(
        **content, where=where, comparison=_comparison_data(content, where), css=_static("report.css"), script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        beside=sum(url.startswith("media/") for url in where.values()),
    )  # fmt: skip


def _static(name: str) -> Markup:
    return Markup((STATIC / name).read_text(encoding="utf-8"))


def _comparison_data(content: dict, where: dict[str, str]) -> dict:
    """Return what the comparison's script needs: per clip the methods, their frames' addresses and scores."""
    scenes = content["scenes"]
    names = sorted({item.name for scene in scenes for items in scene.frames.values() for item in items})
    index = {name: place for place, name in enumerate(names)}
    return {
        "protocol": content["protocol"],
        "media": [where[name] for name in names],
        "clips": [
            {
                "name": scene.name, "count": scene.count, "shown": scene.shown,
                "start": scene.shown.index(scene.middle), "width": scene.width, "height": scene.height,
                "methods": [
                    {"name": name, "label": label, "scores": scene.scores[name],
                     "frames": [index[item.name] for item in scene.frames[name]]}
                    for name, label in scene.methods.items()
                ],
            }
            for scene in scenes
        ],
    }  # fmt: skip
