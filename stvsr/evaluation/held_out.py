"""Held-out clips through every method and every protocol: the files behind the study's tables.

In the step's folder: `outputs/METHOD/CLIP/000.png` (with `truth` and `bicubic`), `lr/CLIP/000.png`,
`scores/PROTOCOL/CLIP.csv`, `metrics.csv`, `summary.csv`, `comparisons.csv`, `data.json`, `weights.json`. Files that are
complete and current are kept, so that an interrupted evaluation continues where it stopped.
"""

import functools
import itertools
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from stvsr.data.clips import ALL_SPLITS, Clip, load_clips, select_clips
from stvsr.data.seen import seen
from stvsr.degradation import DEGRADATIONS, crop_to_multiple, degrade
from stvsr.errors import InputError, first_line, unknown
from stvsr.evaluation import comparison
from stvsr.evaluation.parallel import count_workers, run_jobs
from stvsr.inference.upscaler import InferenceConfig, load_upscaler
from stvsr.metrics.protocols import TRUTH, find_protocol
from stvsr.metrics.scoring import evaluate
from stvsr.models.generators import known_weights, load_generator
from stvsr.runs.deadline import STOPPED, deadline
from stvsr.runs.device import pick_device
from stvsr.runs.files import read_json, write_json, write_text
from stvsr.runs.hashes import code_of, hash_of
from stvsr.runs.stamp import make_stamp, read_stamp, why_stale
from stvsr.video.reader import image_files, read_clip
from stvsr.video.writer import write_frames

SCALE = 4
PARALLEL_PIXELS = 50_000_000  # about half a minute of scoring: below, starting processes costs more than it saves
CONTROL = "pixel-control"
BICUBIC = "bicubic"
WINDOW = "window"  # frames that a method saw together: a column of `metrics.csv`, after those of `scoring.COLUMNS`
TRAINED = " (trained on these clips)"  # after an arm's name in tables
SEED = re.compile(r"-s(\d+)$")  # at the end of the name of shipped weights that are one seed of an arm
WORDS = (  # columns of text
    "method", "arm", "reference", "clip", "protocol", "metric", "verdict", "sentence", "colour", "border",
    "degradation", "weights",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Which methods are scored, on what, by which protocols.

    generators: `name=weights` each; the name is `arm@seed` for a trained arm, weights what `load_generator` takes.
    Weights alone name their method; a shipped seed of an arm (`blind-0.032-s0`) is named `blind-0.032@0`.
    Bicubic is always in the table. data, split, clips: the held-out clips; `clips` empty for all of the split.
    frames: of each clip, from its start, 0 for all. degradation: bi or bd. protocols: of `metrics.protocols`.
    control: the arm that the others are compared with; without it, arms are compared with their twins only.
    demonstrations: arms whose training was shorter than the control's; they are compared with their twins only.
    """

    generators: tuple[str, ...] = ()
    data: tuple[str, ...] = ("samples",)
    split: str = "test"
    clips: tuple[str, ...] = ()
    frames: int = 0
    degradation: str = "bi"
    protocols: tuple[str, ...] = ("literature-y", "tecogan")
    control: str = CONTROL
    demonstrations: tuple[str, ...] = ()
    device: str = "auto"

    def __post_init__(self):
        for protocol in self.protocols:
            find_protocol(protocol)
        if not (self.protocols and self.data):
            raise InputError("protocols or data is empty: name at least one of each")
        if self.split not in ALL_SPLITS:
            raise unknown("split", self.split, ALL_SPLITS)
        if self.degradation not in DEGRADATIONS:
            raise unknown("degradation", self.degradation, DEGRADATIONS)
        if self.frames and self.frames < self.least_frames:
            raise InputError(
                f"frames is {self.frames}: these protocols need at least {self.least_frames}, or 0 for all"
            )
        _ = self.methods

    @property
    def least_frames(self) -> int:
        """Frames that a clip needs for all of the protocols."""
        return max(find_protocol(protocol).least_frames for protocol in self.protocols)

    @property
    def methods(self) -> dict[str, str]:
        """Name -> weights, in the order of the tables, bicubic first."""
        methods, known = {"bicubic": "bicubic"}, known_weights()
        for entry in self.generators:
            name, equals, weights = entry.partition("=")
            if not equals:  # a known name, which may have a dot in it (blind-0.032-s0: seed 0 of an arm), or a file
                name, weights = SEED.sub(r"@\1", entry) if entry in known else Path(entry).stem, entry
            if name in (*methods, TRUTH, "") or "/" in name or name.startswith("."):
                raise InputError(
                    f"method {name} is named twice or cannot name a folder: write name=weights, each name once"
                )
            methods[name] = weights
        return methods


def prepare_clips(config: EvaluationConfig, folder: Path) -> list[str]:
    """Write truth and degraded frames of every clip, 8-bit PNG; return the clips' names.

    Raises:
        InputError: no clip is left, or one is shorter than the protocols need, or weights cannot be read.
    """
    for weights in config.methods.values():
        if weights != BICUBIC:
            load_generator(weights)
    clips = load_clips(config.data, config.split)
    clips = select_clips(clips, config.clips) if config.clips else clips
    least = config.least_frames
    named: dict[str, Clip] = {}
    for clip in clips:
        if len(clip) < least:
            raise InputError(f"clip {clip.name} has {len(clip)} frames, the protocols need {least}: drop the clip")
        if (other := named.setdefault(clip.name.replace("/", "-"), clip)) is not clip:
            raise InputError(
                f"{other.source} and {clip.source} are both named {clip.name}: give each clip a different name"
            )
    scored = list(named.values())
    trained = {name: set(seen(weights, scored)) for name, weights in config.methods.items() if weights != BICUBIC}
    entries = []
    for name, clip in tqdm(named.items(), desc="clips", unit="clip", mininterval=5):
        count = min(len(clip), config.frames or len(clip))
        frames = crop_to_multiple(clip.frames(range(count)), SCALE)
        entry = {
            "clip": name, "source": clip.source.name, "sha256": clip.fingerprint(), "frames": count,
            "split": config.split, "height": frames.shape[1], "width": frames.shape[2],
            "degradation": config.degradation,
        }  # fmt: skip
        entries.append(entry | {"trained_on_by": [method for method, clips in trained.items() if clip.name in clips]})
        _rewrite(folder / "outputs" / TRUTH / name, frames, entry)
        lr = (degrade(frame[None], config.degradation, SCALE)[0] for frame in frames)
        _rewrite(folder / "lr" / name, lr, entry)
    write_json(folder / "data.json", entries)
    return [entry["clip"] for entry in entries]


def upscale_clips(config: EvaluationConfig, folder: Path, clips: list[str]) -> None:
    """Run every method over every degraded clip and write its frames; current frames of the same weights are kept."""
    device, weights = pick_device(config.device), []
    sizes = {clip: read_clip(folder / "lr" / clip, 0, 1).shape[1:3] for clip in clips}
    for name, source in tqdm(config.methods.items(), desc="methods", unit="method", mininterval=5):
        upscaler = load_upscaler(source, device, InferenceConfig(precision="full"))  # GPU and CPU scores compare
        sha256, windows = upscaler.meta["sha256"], []
        for clip in clips:
            lr = folder / "lr" / clip
            windows.append(upscaler.plan(sizes[clip]).window)
            made_from = {"weights": sha256, "lr": read_stamp(lr / STAMP), WINDOW: windows[-1]}
            target = folder / "outputs" / name / clip
            if why_stale(read_stamp(target / STAMP), made_from, target):
                _stop_at_deadline(folder)
                _rewrite(target, upscaler(read_clip(lr)), made_from)
        if sha256:
            described = {"name": name, "file": Path(source).name, "sha256": sha256}
            weights.append(described | {"licence": upscaler.meta.get("licence", ""), WINDOW: max(windows)})
    write_json(folder / "weights.json", weights)


def score(config: EvaluationConfig, folder: Path, clips: list[str]) -> pd.DataFrame:
    """Measure all outputs under every protocol; write and return `metrics.csv`, one row per value.

    On a CPU, protocols and clips are scored in parallel processes where there is enough to do; the values are the same.

    Raises:
        InputError: time ran out (`runs.deadline.deadline`); what was measured by then is kept.
    """
    outputs, device = folder / "outputs", str(pick_device(config.device))
    _keep_only(outputs, (*config.methods, TRUTH))  # an earlier run of this folder had other methods or clips
    for part in (*outputs.iterdir(), folder / "lr"):
        _keep_only(part, clips)
    code, paths, jobs = code_of(["import stvsr.metrics.protocols"]), [], []
    for protocol, clip in itertools.product(config.protocols, clips):
        outputs_of = {name: read_stamp(outputs / name / clip / STAMP) for name in config.methods}
        made_from = {"code": code, "device": device, "degradation": config.degradation, "outputs": hash_of(outputs_of)}
        path = folder / "scores" / protocol / f"{clip}.csv"
        paths.append(path)
        if why_stale(read_stamp(path.with_suffix(STAMP)), made_from, path.parent):
            jobs.append((path, made_from, protocol, clip))
    workers = count_workers(len(jobs)) if device == "cpu" and _pixels(config, folder, jobs) >= PARALLEL_PIXELS else 1
    work = functools.partial(_score_clip, config, outputs, device, workers == 1)
    done = run_jobs(work, jobs, workers=workers, before=functools.partial(_stop_at_deadline, folder))
    for _ in tqdm(done, desc="scores", unit="clip", total=len(jobs), mininterval=5, disable=workers == 1 or None):
        pass
    metrics = pd.concat([read_csv(path) for path in paths], ignore_index=True)
    write_csv(folder / "metrics.csv", metrics)
    return metrics


def _score_clip(
    config: EvaluationConfig,
    outputs: Path,
    device: str,
    progress: bool,
    path: Path,
    made_from: dict,
    protocol: str,
    clip: str,
) -> None:
    """Score all methods on one clip by one protocol; write the table, then the note that marks it as complete."""
    methods = {name: outputs / name / clip for name in config.methods}
    degradation = config.degradation
    table = evaluate(
        methods, outputs / TRUTH / clip, protocol, degradation=degradation, device=device, progress=progress
    )
    windows = {name: _window_of(frames) for name, frames in methods.items()}
    write_csv(path, table.assign(window=table["method"].map(windows).astype("Int64")))
    write_json(path.with_suffix(STAMP), make_stamp(made_from, path.parent, [path.name]))


def _window_of(frames: Path) -> int | None:
    """Return how many frames a method saw together when it made these; None when it is not recorded."""
    made_from = read_stamp(frames / STAMP).get("made_from")
    return made_from.get(WINDOW) if isinstance(made_from, dict) else None


def _pixels(config: EvaluationConfig, folder: Path, jobs: list[tuple]) -> int:
    """Return how many pixels the jobs score, over all methods."""
    frames = {
        entry["clip"]: entry["frames"] * entry["height"] * entry["width"]
        for entry in read_json(folder / "data.json", list)
    }
    return len(config.methods) * sum(frames[clip] for *_, clip in jobs)


def _stop_at_deadline(folder: Path) -> None:
    if time.time() > deadline():
        raise InputError(f"evaluation in {folder} {STOPPED}: run it again to continue")


def _keep_only(folder: Path, names: Iterable[str]) -> None:
    for name in set(os.listdir(folder)) - set(names):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def summarise(config: EvaluationConfig, folder: Path, metrics: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write and return the means, and the differences from the control and from twins (empty where neither exists)."""
    summary = mark_trained(comparison.summarise(metrics), folder)
    control = config.control if config.control in set(metrics["arm"]) else None
    comparisons = comparison.compare(metrics, control, demonstrations=config.demonstrations)
    write_csv(folder / "summary.csv", summary)
    if len(comparisons):
        write_csv(folder / "comparisons.csv", comparisons)
    else:
        (folder / "comparisons.csv").unlink(missing_ok=True)
    return summary, comparisons


def mark_trained(summary: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Add column `trained_on`: on how many of the clips the arm was trained, so that its scores are not held out."""
    arms = [
        {method.rpartition("@")[0] or method for method in entry["trained_on_by"]}
        for entry in read_json(folder / "data.json", list)
    ]
    return summary.assign(trained_on=[sum(arm in found for found in arms) for arm in summary["arm"]])


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table atomically; numbers keep all their digits."""
    write_text(path, table.to_csv(index=False))


def read_csv(path: Path) -> pd.DataFrame:
    """Read a table of scores or comparisons; only numbers can be missing, because a clip may be named NA.

    Raises:
        InputError: the file is not such a table: not UTF-8, ragged, or with text among numbers.
    """
    types = dict.fromkeys(WORDS, str) | {"seed": "Int64", WINDOW: "Int64"}
    try:
        header = pd.read_csv(path, nrows=0).columns
        missing = {name: ["", "nan", "NaN", "NA"] for name in header if name not in WORDS}
        table = pd.read_csv(path, dtype=types, keep_default_na=False, na_values=missing)
    except (ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read as a table ({first_line(error)}): evaluate again") from None
    for name, column in table.items():
        if name in WORDS:  # the cells that a cut row lacks are empty texts, which no row has in these columns
            whole = name not in ("arm", "protocol", "metric") or not column.fillna("").eq("").any()
        else:
            whole = pd.api.types.is_numeric_dtype(column) or set(column.dropna()) <= {True, False}
        if not whole:
            raise InputError(f"{path}: column {name} is cut off or holds text among numbers: evaluate again")
    return table


def table_of(summary: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Return one protocol's means as a table, a row per arm and a column per metric; its caption names the protocol."""
    rows = summary[summary["protocol"] == find_protocol(protocol).name]
    if "trained_on" in rows:
        rows = rows.assign(arm=rows["arm"].where(rows["trained_on"] == 0, rows["arm"] + TRAINED))
    return rows.pivot_table(index="arm", columns="metric", values="mean", sort=False)


STAMP = ".made-from"


def _rewrite(folder: Path, frames: Iterable[np.ndarray], made_from: dict) -> None:
    """Write frames with a stamp unless they are up to date; a folder that was interrupted has none."""
    if not why_stale(read_stamp(folder / STAMP), made_from, folder):
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_frames(folder, frames)
    write_json(folder / STAMP, make_stamp(made_from, folder, sorted(file.name for file in image_files(folder))))


def frames_of(folder: Path, clip: str, index: int, methods: Mapping[str, str] | tuple[str, ...]) -> dict:
    """Return one frame of several methods (and `truth`) by name, uint8 (H, W, 3), for figures."""
    return {name: read_clip(folder / "outputs" / name / clip, index, index + 1)[0] for name in methods}


def count_frames(folder: Path, clip: str) -> int:
    """Return how many frames of a clip were scored."""
    return len(image_files(folder / "outputs" / TRUTH / clip))
