"""A run folder as the report reads it: manifest, steps, scores, logs and frames; missing parts are empty."""

import contextlib
import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stvsr.errors import InputError
from stvsr.evaluation import comparison, dose
from stvsr.evaluation.held_out import CONTROL, read_csv
from stvsr.evaluation.results import read_manifest
from stvsr.metrics.scoring import COLUMNS as METRIC_COLUMNS
from stvsr.report import labels
from stvsr.runs.files import read_json, read_log
from stvsr.video.reader import image_files, natural, read_image

SUMMARY_COLUMNS = ("arm", "protocol", "metric", "mean", "low", "high", "clips", "frames", "seeds")
MANIFEST_KEYS = (
    "study", "title", "question", "parameters", "command", "started", "finished", "seconds", "git", "python",
    "packages", "hardware", "device", "seeds", "data", "weights", "steps",
)  # fmt: skip
LAST_STEP = 2**62  # a larger one is damage
LEARNT = 0.05  # least mean gap of a discriminator's probabilities (true minus generated) that counts as having learnt


@dataclass(frozen=True, kw_only=True)
class Run:
    """The content of a run folder.

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
        """The run's folder on the machine that made it, from its steps' parameters; empty when unknown."""
        folders = [str((step.get("parameters") or {}).get("folder", "")) for step in self.steps]
        return next((folder.partition("/steps/")[0] for folder in folders if "/steps/" in folder), "")

    def local(self, text: str) -> str:
        """Return text without paths of the machine: the run's folder and the source tree."""
        tree = str(Path(__file__).resolve().parents[2])
        text = text.replace(self.home, str(self.manifest["study"])) if self.home else text
        return text.replace(tree + "/", "")

    @property
    def arms(self) -> list[str]:
        """Methods and arms that were measured, in the study's order, without seeds and without the truth."""
        return sorted({str(name) for name in self.metrics["arm"].dropna()} - {"truth"}, key=labels.arm_order)

    def compared(self, protocol: str, *, twins: bool) -> pd.DataFrame:
        """Rows of `comparisons` under one protocol: differences from twins, or from the control."""
        rows = self.comparisons[self.comparisons["protocol"] == protocol]
        return rows[rows["is_twin"].astype(bool)] if twins else rows[rows["reference"] == self.control]

    @property
    def control(self) -> str:
        """The arm that all others were compared with."""
        rows = self.comparisons
        references = rows.loc[~rows["is_twin"].astype(bool), "reference"]
        return str(references.iloc[0]) if len(references) else CONTROL

    @property
    def demonstrations(self) -> list[str]:
        """Arms that were trained for a few steps to show the study at work, not to be judged."""
        found = (step.get("parameters") or {} for step in self.steps if step["name"] == "evaluate")
        return [str(name) for parameters in found for name in parameters.get("demonstrations") or []]

    @property
    def seeds(self) -> int:
        """Largest number of seeds of an arm: of those measured, also where they were trained before this run."""
        return int(self.summary["seeds"].max()) if len(self.summary) else len(self.manifest["seeds"] or [])

    @functools.cached_property
    def contrasts(self) -> pd.DataFrame:
        """Differences between kinds of discriminator at equal dose; empty in other studies."""
        return dose.contrasts(self.metrics)

    @functools.cached_property
    def slopes(self) -> pd.DataFrame:
        """How motion changes with LPIPS over the dose, per kind of discriminator; empty in other studies."""
        return dose.slopes(self.metrics)

    @property
    def score_gaps(self) -> dict[str, list[float]]:
        """Per arm and training, the gap of mean scores (true minus generated) over the last quarter of the log."""
        gaps: dict[str, list[float]] = {}
        for name, log in self.logs.items():
            if {"score_real", "score_fake"} <= set(log):
                gap = log["score_real"] - log["score_fake"]
            else:
                gap = log.get("score_gap", pd.Series(dtype=float))
            if len(gap := gap.dropna()):
                gaps.setdefault(name.partition("@")[0], []).append(float(gap.tail(-(-len(gap) // 4)).mean()))
        return gaps


def load_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        InputError: there is no `run.json`, or a table lacks a column.
    """
    folder = Path(folder)
    manifest = {**dict.fromkeys(MANIFEST_KEYS), **read_manifest(folder)}
    steps = folder / "steps"
    metrics = _table(steps / "evaluate" / "metrics.csv", METRIC_COLUMNS)
    summary = _table(steps / "evaluate" / "summary.csv", SUMMARY_COLUMNS)
    trained = {name: path for path in _folders(steps) if (name := _arm_and_seed(path.name))}
    return Run(
        folder=folder,
        manifest=manifest,
        steps=_steps(manifest, steps),
        metrics=metrics,
        comparisons=_table(steps / "evaluate" / "comparisons.csv", comparison.COLUMNS),
        summary=comparison.summarise(metrics) if summary.empty and not metrics.empty else summary,
        logs={name: log for name, path in trained.items() if not (log := _log(path / "log.jsonl")).empty},
        crops={name: _images(path / "crops") for name, path in trained.items()},
        frames=_frames(steps / "evaluate" / "outputs"),
    )


def _folders(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if path.is_dir()), key=natural) if folder.is_dir() else []


def _images(folder: Path) -> list[Path]:
    with contextlib.suppress(InputError, FileNotFoundError):  # no frames in it, or no folder
        return image_files(folder)
    return []


def _arm_and_seed(step: str) -> str | None:
    """Return `arm@seed` of a training step's folder (`recurrent-d-s0`), None for other steps."""
    if step == "pretrain":
        return "rbpn@pretrain"
    match = re.fullmatch(r"(.+)-s(\d+)", step)
    return f"{match[1]}@{match[2]}" if match else None


def _table(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    if not path.is_file():
        return pd.DataFrame(columns=list(columns))
    table = read_csv(path)
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(f"{path} lacks the column {', '.join(missing)}: evaluate again")
    return table


def _log(path: Path) -> pd.DataFrame:
    """Return the numbers of a training's log, one row per entry."""
    entries = read_log(path) if path.is_file() else []
    return pd.DataFrame(
        [
            {name: value for name, value in entry.items() if isinstance(value, int | float)}
            for entry in entries
            if entry["step"] < LAST_STEP
        ]
    )


def _steps(manifest: dict, folder: Path) -> list[dict]:
    """Return the manifest's steps, completed by their own `step.json`; `why` is the reason of a failure."""
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
            if paths := _images(clip):
                found.setdefault(clip.name, {}).setdefault(arm, paths)
    return {clip: _truth_first(methods) for clip, methods in found.items() if "truth" in methods}


def _truth_first(methods: dict[str, list[Path]]) -> dict[str, list[Path]]:
    count = min(len(paths) for paths in methods.values())
    return {
        name: methods[name][:count]
        for name in sorted(methods, key=lambda name: (name != "truth", *labels.arm_order(name)))
    }


def read_frames(paths: Iterable[Path]) -> np.ndarray:
    """Return frames as uint8 (T, H, W, 3) RGB."""
    return np.stack([read_image(path) for path in paths])
