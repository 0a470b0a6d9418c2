"""Provenance of the numbers: command, code, machine, packages, data, weights, and the cost of each step."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from stvsr.report import tables
from stvsr.report.labels import duration, moment
from stvsr.report.run import Run
from stvsr.report.tables import Cell, Table, text_cell


@dataclass(frozen=True, kw_only=True)
class StepBar:
    """One step of the chain: how long it took and its share of the whole, in percent, for a bar."""

    name: str
    status: str
    seconds: float
    share: float
    words: str


def facts(run: Run) -> list[tuple[str, str]]:
    """Return (term, value) pairs of the run as a whole; what the manifest lacks is left out."""
    manifest = run.manifest
    git, machine = manifest["git"] or {}, manifest["hardware"] or {}
    commit = git.get("commit")
    pairs = [
        ("Study", manifest["study"]),
        ("Started", moment(manifest["started"])),
        ("Finished", moment(manifest["finished"])),
        ("Wall time", duration(float(manifest["seconds"])) if manifest["seconds"] else None),
        (
            "Commit",
            f"{commit}{' with uncommitted changes' if git.get('dirty') else ''}"
            if commit
            else "not run from a checkout",
        ),
        ("Python", manifest["python"]),
        ("Processor", machine.get("cpu")),
        ("Cores", machine.get("cores")),
        ("Memory", f"{machine['memory_gb']} GB" if machine.get("memory_gb") else None),
        ("GPU", machine.get("gpu") or "none"),
        ("Device used", "GPU" if on_gpu(run) else "CPU"),
        ("Seeds", ", ".join(str(seed) for seed in manifest["seeds"] or [])),
    ]
    return [(term, str(value)) for term, value in pairs if value not in (None, "")]


def on_gpu(run: Run) -> bool:
    """Return whether the run used a GPU: it does when there is one, unless its manifest names another device."""
    named = str(run.manifest["device"] or "auto")
    return named.startswith("cuda") or (named == "auto" and bool((run.manifest["hardware"] or {}).get("gpu")))


def steps(run: Run) -> list[StepBar]:
    """Return every step with its wall time, for a bar chart in plain HTML."""
    longest = max((float(step.get("seconds") or 0) for step in run.steps), default=0) or 1
    return [
        StepBar(
            name=step["name"], status=step["status"], seconds=(seconds := float(step.get("seconds") or 0)),
            share=round(100 * seconds / longest, 1), words=duration(seconds),
        )
        for step in run.steps
    ]  # fmt: skip


def step_table(run: Run) -> Table:
    """Return the steps with wall time and cost in hours of cores (or of the GPU)."""
    gpu, cores = on_gpu(run), float((run.manifest["hardware"] or {}).get("cores") or 1)
    unit, factor = ("GPU hours", 1.0) if gpu else ("core hours", cores)
    rows = []
    for step in run.steps:
        seconds = float(step.get("seconds") or 0)
        rows.append({
            "step": step["name"], "notebook": step.get("notebook"), "status": step["status"],
            "seconds": round(seconds, 1), unit: round(seconds * factor / 3600, 3), "key": step.get("key"),
            "reason": step["why"] or step.get("reason") or "",
        })  # fmt: skip
    data = pd.DataFrame(rows, columns=["step", "notebook", "status", "seconds", unit, "key", "reason"])
    body = [
        [
            text_cell(row["step"]), text_cell(row["notebook"] or "\u2013"), _status_cell(row["status"], row["reason"]),
            tables.number_cell(row["seconds"], 1), tables.number_cell(row[unit], 3),
            text_cell(str(row["key"] or "\u2013")[:12]),
        ]
        for row in rows
    ]  # fmt: skip
    caption = (
        f"Time and cost of each step. Cost is wall time times {'one GPU' if gpu else f'{cores:g} cores'};"
        " the key changes when anything the step depends on does."
    )
    return Table(
        key="steps",
        caption=caption,
        columns=["Step", "Notebook", "Status", "Wall time, s", unit.capitalize(), "Key"],
        rows=body,
        data=data,
    )


def _status_cell(status: str, reason: str) -> Cell:
    return Cell(
        text=str(status),
        note=str(reason) if status == "failed" else "",
        sort=str(status),
        verdict="failed" if status == "failed" else "",
    )


def data_table(run: Run) -> Table | None:
    """Return the clips with source, split, size and hash."""
    data = pd.DataFrame(run.manifest["data"] or [])
    if data.empty:
        return None
    if "split" in data:  # the clips of a training have no split of their own
        data["split"] = data["split"].fillna("train")
    columns = {
        "clip": "Clip", "split": "Split", "frames": "Frames", "width": "Width", "height": "Height",
        "degradation": "Degradation", "source": "Source", "sha256": "SHA-256",
    }  # fmt: skip
    shown = {name: title for name, title in columns.items() if name in data}
    return tables.simple(
        "data",
        "Clips of this run: where they come from and their hashes.",
        data,
        shown,
        dict.fromkeys(("frames", "width", "height"), 0),
    )


def weights_table(run: Run) -> Table | None:
    """Return the weights with window, licence and hash."""
    weights = pd.DataFrame(run.manifest["weights"] or [])
    if weights.empty:
        return None
    columns = {"name": "Weights", "window": "Frames seen together", "licence": "Licence", "sha256": "SHA-256"}
    shown = {name: title for name, title in columns.items() if name in weights}
    caption = "Weights that this run used: how many frames each sees together, their licences and hashes."
    return tables.simple("weights", caption, weights, shown, {"window": 0})


def packages_table(run: Run) -> Table | None:
    """Return the versions of the packages."""
    packages = run.manifest["packages"] or {}
    if not packages:
        return None
    data = pd.DataFrame(sorted(packages.items()), columns=["package", "version"])
    return tables.simple(
        "packages",
        "Versions of the packages that the numbers depend on.",
        data,
        {"package": "Package", "version": "Version"},
    )


def parameters_table(run: Run) -> Table | None:
    """Return every step's parameters, nested ones with dotted names."""
    given = {"study": run.manifest["parameters"] or {}} | {
        step["name"]: step.get("parameters") or {} for step in run.steps
    }
    rows = [
        (name, key, run.local(value))
        for name, parameters in given.items()
        for key, value in _flat(parameters)
        if key != "folder"
    ]
    if not rows:
        return None
    data = pd.DataFrame(rows, columns=["step", "parameter", "value"])
    return tables.simple(
        "parameters", "Parameters of every step.", data, {"step": "Step", "parameter": "Parameter", "value": "Value"}
    )


def _flat(value: dict, prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", ", ".join(map(str, item)) if isinstance(item, list) else str(item)
