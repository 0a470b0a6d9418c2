"""A run folder, read: manifest, steps, scores, logs and frames. Missing parts are empty, never an error."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stvsr.errors import InputError
from stvsr.evaluation.comparison import summarise
from stvsr.report import labels
from stvsr.runs.files import read_json, read_log

METRIC_COLUMNS = (
    "method", "arm", "seed", "clip", "frame", "metric", "value", "protocol", "version", "colour", "border", "dropped",
    "degradation", "weights",
)  # fmt: skip


COMPARISON_COLUMNS = ("arm", "metric", "protocol", "difference", "low", "high", "p", "p_holm", "verdict", "sentence")
SUMMARY_COLUMNS = ("arm", "protocol", "metric", "mean", "low", "high", "clips", "frames", "seeds")
MANIFEST_KEYS = (
    "study", "title", "question", "parameters", "command", "started", "finished", "seconds", "git", "python", "packages", "hardware",
    "device", "seeds", "data", "weights", "steps",
)  # fmt: skip


WORDS = (
    "method",
    "arm",
    "clip",
    "protocol",
    "metric",
    "verdict",
    "sentence",
    "colour",
    "border",
    "degradation",
    "weights",
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the report is made of.

    `metrics`, `comparisons` and `summary` have the columns above, `logs` maps `arm@seed` to its training log, `crops`
    to pictures taken during it, `frames` maps a clip to {method: paths of its frames in order}; `truth` is one of the
    methods.
    """

    folder: Path
    manifest: dict
    steps: list[dict]
    metrics: pd.DataFrame
    comparisons: pd.DataFrame
    summary: pd.DataFrame
    logs: dict[str, pd.DataFrame]
    crops: dict[str, list[Path]]
    frames: dict[str, dict[str, list[Path]]]

    @property
    def home(self) -> str:
        """Where the run was made, as its steps' parameters say: paths below it are shown without it. Empty when unknown."""
        folders = [str((step.get("parameters") or {}).get("folder", "")) for step in self.steps]
        return next((folder.partition("/steps/")[0] for folder in folders if "/steps/" in folder), "")

    def local(self, text: str) -> str:
        """Return text without the places of this machine: the run's folder and the source tree."""
        tree = str(Path(__file__).resolve().parents[2])
        text = text.replace(self.home, str(self.manifest["study"])) if self.home else text
        return text.replace(tree + "/", "")

    @property
    def arms(self) -> list[str]:
        """Methods and arms that were measured, in the study's order, without seeds and without the truth."""
        return sorted({str(name) for name in self.metrics["arm"].dropna()} - {"truth"}, key=labels.arm_order)


def load_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        InputError: there is no `run.json`, or a table lacks a column.
    """
    folder = Path(folder)
    manifest = {**dict.fromkeys(MANIFEST_KEYS), **read_json(folder / "run.json")}
    steps = folder / "steps"
    metrics = _table(steps / "evaluate" / "metrics.csv", METRIC_COLUMNS)
    summary = _table(steps / "evaluate" / "summary.csv", SUMMARY_COLUMNS)
    trained = {name: path for path in _folders(steps) if (name := _arm_and_seed(path.name))}
    return Run(
        folder=folder,
        manifest=manifest,
        steps=_steps(manifest, steps),
        metrics=metrics,
        comparisons=_table(steps / "evaluate" / "comparisons.csv", COMPARISON_COLUMNS),
        summary=summarise(metrics) if summary.empty and not metrics.empty else summary,
        logs={name: log for name, path in trained.items() if not (log := _log(path / "log.jsonl")).empty},
        crops={
            name: sorted((path / "crops").glob("*.png"), key=lambda crop: natural(crop.name))
            for name, path in trained.items()
        },
        frames=_frames(steps / "evaluate" / "outputs"),
    )


def _folders(folder: Path) -> list[Path]:
    return (
        sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: natural(path.name))
        if folder.is_dir()
        else []
    )


def natural(name: str) -> list:
    """Return a sort key under which 2 comes before 10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def _arm_and_seed(step: str) -> str | None:
    """Return `arm@seed` of a training step's folder (`recurrent-d-s0`), None for other steps."""
    if step == "pretrain":
        return "rbpn@pretrain"
    match = re.fullmatch(r"(.+)-s(\d+)", step)
    return f"{match[1]}@{match[2]}" if match else None


def _table(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    if not path.is_file():
        return pd.DataFrame(columns=list(columns))
    header = pd.read_csv(path, nrows=0).columns
    missing = [column for column in columns if column not in header]
    if missing:
        raise InputError(f"{path} lacks the column {', '.join(missing)}: evaluate again")
    numbers = {
        column: ["", "nan", "NaN", "NA"] for column in header if column not in WORDS
    }  # a clip may be called "NA"
    return pd.read_csv(path, dtype=dict.fromkeys(WORDS, str), keep_default_na=False, na_values=numbers)


def _log(path: Path) -> pd.DataFrame:
    entries = read_log(path) if path.is_file() else []
    return pd.DataFrame([entry for entry in entries if isinstance(entry, dict) and "step" in entry])


def _steps(manifest: dict, folder: Path) -> list[dict]:
    """Return the manifest's steps, each with what its own `step.json` adds, and `why` it failed (empty when it did not)."""
    steps = []
    for step in manifest["steps"] or []:
        name = str(step.get("name"))
        own = folder / name / "step.json"
        more = read_json(own) if own.is_file() else {}
        merged = {**more, **{key: value for key, value in step.items() if value is not None}, "name": name}
        why = merged.get("error") or merged.get("reason") or "no reason was recorded"
        steps.append(
            {
                **merged,
                "status": str(merged.get("status") or "unknown"),
                "why": str(why) if merged.get("status") == "failed" else "",
            }
        )
    return steps


def _frames(outputs: Path) -> dict[str, dict[str, list[Path]]]:
    """Return {clip: {method: frame paths}}; of several seeds of an arm the first stands for it."""
    found: dict[str, dict[str, list[Path]]] = {}
    for method in sorted(_folders(outputs), key=lambda path: labels.arm_order(path.name.partition("@")[0])):
        arm = method.name.partition("@")[0]
        for clip in _folders(method):
            paths = sorted(
                (p for p in clip.iterdir() if p.suffix.lower() in (".png", ".webp", ".jpg")),
                key=lambda p: natural(p.name),
            )
            if paths:
                found.setdefault(clip.name, {}).setdefault(arm, paths)
    return {clip: _truth_first(methods) for clip, methods in found.items() if "truth" in methods}


def _truth_first(methods: dict[str, list[Path]]) -> dict[str, list[Path]]:
    count = min(len(paths) for paths in methods.values())
    return {
        name: methods[name][:count]
        for name in sorted(methods, key=lambda name: (name != "truth", *labels.arm_order(name)))
    }


def read_frame(path: Path) -> np.ndarray:
    """Return a frame as uint8 (H, W, 3) RGB."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def read_frames(paths: Iterable[Path]) -> np.ndarray:
    """Return frames as uint8 (T, H, W, 3) RGB."""
    return np.stack([read_frame(path) for path in paths])
