"""Finished runs as text, JSON, CSV and one HTML page: `stvsr results`, `stvsr compare`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment

from stvsr.errors import InputError
from stvsr.evaluation.comparison import compare, summarise
from stvsr.evaluation.held_out import read_csv
from stvsr.metrics.protocols import METRICS, TRUTH
from stvsr.metrics.tables import named
from stvsr.runs.files import read_json, write_text

PAGE = Environment(autoescape=True).from_string("""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0 2rem; } caption { text-align: left; font-weight: bold; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #ccc; text-align: right; } th[scope=row] { text-align: left; }
</style></head><body><main><h1>{{ title }}</h1>
{% for run in runs %}<p>{{ run.name }}: {{ run.title }} ({{ run.command }})</p>{% endfor %}
{% for caption, heads, rows in tables %}<table><caption>{{ caption }}</caption>
<tr><th scope="col">arm</th>{% for head in heads %}<th scope="col">{{ head }}</th>{% endfor %}</tr>
{% for row in rows %}<tr><th scope="row">{{ row[0] }}</th>{% for cell in row[1:] %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>{% endfor %}
<p>Mean over clips with its 95% interval; runs are compared only where protocol, clips and frames are the same.</p>
</main></body></html>
""")


def load_results(run: Path) -> dict:
    """Return a finished run's manifest, means (`summary`) and differences (`comparisons`) of each evaluation step.

    Raises:
        InputError: the folder holds no finished run.
    """
    if not (run / "run.json").is_file():
        raise InputError(f"{run} is not a finished run: it has no run.json, give the folder that --out named")
    content = read_manifest(run)
    tables = {}
    for step in content["steps"]:
        folder = run / "steps" / step["name"]
        if (folder / "summary.csv").is_file():
            tables[step["name"]] = {
                name: read_csv(folder / f"{name}.csv")
                for name in ("summary", "comparisons")
                if (folder / f"{name}.csv").is_file()
            } | {"clips": _clips(folder / "data.json")}
    if not tables:
        raise InputError(f"{run} has no evaluated step: run the study to its end")
    return {"manifest": content, "steps": tables}


def read_manifest(run: Path) -> dict:
    """Return the content of a run's `run.json`; its `steps` are objects with a name.

    Raises:
        InputError: the file is missing or holds something else.
    """
    path = run / "run.json"
    content = read_json(path)
    steps = content.get("steps") or []
    if not isinstance(steps, list) or not all(isinstance(s, dict) and isinstance(s.get("name"), str) for s in steps):
        raise InputError(f"{path}: steps must be a list of objects with a name: run the study again")
    return {**content, "steps": steps}


def _clips(path: Path) -> list[tuple[str, int]]:
    """Return (name, frames) of the clips that `data.json` lists."""
    try:
        return [(entry["clip"], entry["frames"]) for entry in read_json(path, list)]
    except (TypeError, KeyError):
        raise InputError(f"{path} does not list clips and their frames: evaluate again") from None


def results_json(run: Path) -> str:
    """Return a finished run's results as JSON; what could not be measured is null."""
    loaded = load_results(run)
    manifest = {key: loaded["manifest"].get(key) for key in ("study", "title", "question", "command", "seeds", "git")}
    steps = {
        name: {key: json.loads(table.to_json(orient="records", double_precision=15)) for key, table in found.items()
               if isinstance(table, pd.DataFrame)}
        for name, found in loaded["steps"].items()
    }  # fmt: skip
    return json.dumps(manifest | {"steps": steps}, indent=1, ensure_ascii=False, allow_nan=False)


def results_text(run: Path) -> str:
    """Return a finished run's means as tables, then the sentences of its comparisons."""
    lines = []
    for name, found in load_results(run)["steps"].items():
        summary = found["summary"]
        for protocol, rows in summary.groupby("protocol", sort=False):
            wide = rows.pivot_table(index="arm", columns="metric", values="mean", sort=False)
            lines += [f"{name}, {protocol}", wide.to_string(float_format="{:.4f}".format), ""]
        if "comparisons" in found:
            lines += [*found["comparisons"]["sentence"], ""]
    return "\n".join(lines).rstrip()


def seeds_text(rows: pd.DataFrame) -> str:
    """Return the means of arms over their seeds, with intervals and comparisons; empty when no arm has several seeds.

    The first arm is the control: `stvsr evaluate --results theirs@s0=DIR theirs@s1=DIR mine@s0=DIR mine@s1=DIR`.
    """
    seeds = rows.groupby("arm", sort=False)["seed"].nunique()
    if (seeds < 2).all():
        return ""
    lines = ["means over seeds and clips, with 95% intervals"]
    for _, row in summarise(rows).iterrows():
        interval = "" if pd.isna(row["low"]) else f" [{row['low']:.4f}, {row['high']:.4f}]"
        label = METRICS[row["metric"]].label
        lines.append(f"{row['arm']}, {label}: {row['mean']:.4f}{interval}, {row['seeds']} seeds, {row['clips']} clips")
    arms = [arm for arm in seeds.index if arm != TRUTH]
    if len(arms) > 1:
        lines += ["", *compare(rows, arms[0])["sentence"]]
    return "\n".join(lines)


def compare_runs(runs: Sequence[str], *, html: Path | None = None, csv: Path | None = None) -> str:
    """Return the means of several finished runs as one table per protocol; write it as HTML or CSV where asked.

    Args:
        runs: run folders, `FOLDER` or `NAME=FOLDER`.
        html: file for a self-contained page.
        csv: file for the means with all digits, one row per run, arm and metric.

    Raises:
        InputError: a folder holds no finished run, or runs were measured on other clips or frames.
    """
    loaded = {name: load_results(path) for name, path in named(runs).items()}
    _require_same_clips(loaded)
    table = pd.concat(
        [found["summary"].assign(run=run) for run, results in loaded.items() for found in results["steps"].values()],
        ignore_index=True,
    )
    if csv:
        write_text(Path(csv), table[["run", *table.columns.drop("run")]].to_csv(index=False))
    tables = [_table(protocol, rows, list(loaded)) for protocol, rows in table.groupby("protocol", sort=False)]
    if html:
        described = [
            {"name": run, "title": found["manifest"].get("title", ""), "command": found["manifest"].get("command", "")}
            for run, found in loaded.items()
        ]
        write_text(Path(html), PAGE.render(title=f"Comparison of {', '.join(loaded)}", runs=described, tables=tables))
    return "\n\n".join(_text(*each) for each in tables)


def _require_same_clips(loaded: dict[str, dict]) -> None:
    """Refuse runs of different clips: their means do not compare."""
    measured = {
        run: sorted({clip for found in results["steps"].values() for clip in found["clips"]})
        for run, results in loaded.items()
    }
    (first, clips), *others = measured.items()
    for run, found in others:
        if found != clips:
            odd = min(set(found) ^ set(clips))
            raise InputError(
                f"runs {first} and {run} were not measured on the same clips and frames "
                f"({odd[0]}, {odd[1]} frames): their means do not compare"
            )


def _table(protocol: str, rows: pd.DataFrame, runs: list[str]) -> tuple[str, list[str], list[list[str]]]:
    """Return caption, column heads and rows of one protocol's table: a row per arm, a column per metric and run."""
    metrics = list(dict.fromkeys(rows["metric"]))
    columns = [(metric, run) for metric in metrics for run in runs]
    cells = rows.set_index(["arm", "metric", "run"])
    content = []
    for arm in dict.fromkeys(rows["arm"]):
        row = [arm]
        for metric, run in columns:
            key: Any = (arm, metric, run)  # pandas-stubs do not accept the key of a three-level index in `loc`
            if key in cells.index:
                found = cells.loc[key]
                interval = "" if pd.isna(found["low"]) else f" [{found['low']:.4g}, {found['high']:.4g}]"
                row.append(f"{found['mean']:.4f}{interval}")
            else:
                row.append("")
        content.append(row)
    heads = [f"{METRICS[metric].label}, {run}" for metric, run in columns]
    return protocol, heads, content


def _text(caption: str, heads: list[str], rows: list[list[str]]) -> str:
    cells = [["arm", *heads], *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join([caption, *("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)])
