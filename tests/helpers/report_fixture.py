"""A small run folder for tests of the report: real frames and real metrics of stand-in methods, invented training logs.

No network is trained here. Blurred, sharpened and noisy variants of a known clip stand in for what arms would produce,
so that every part of the report has something to show. The numbers say nothing about the study.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
from bs4 import BeautifulSoup
from PIL import Image

from stvsr.evaluation.comparison import compare, summarise
from stvsr.metrics.scoring import evaluate

CLIP = Path(__file__).parents[1] / "recorded" / "procedural_clip.npz"
ARMS = ("rbpn", "pixel-control", "perceptual", "seed-faithful", "recurrent-d", "recurrent-d-flow")
LADDER = ("ladder-1-weights", "ladder-2-vgg", "ladder-3-gradient")
# arm: share of the missing detail that is recovered, noise that stays, noise that flickers (8-bit steps)
STAND_INS = {
    "bicubic": (0.0, 0, 0), "basicvsr-bi": (0.8, 0, 0), "rbpn": (0.45, 0, 0), "pixel-control": (0.5, 0, 0),
    "perceptual": (0.56, 2, 0), "seed-faithful": (0.5, 1, 0), "recurrent-d": (0.66, 3, 1),
    "recurrent-d-flow": (0.68, 5, 0), "ladder-1-weights": (0.51, 1, 0), "ladder-2-vgg": (0.57, 1, 1),
    "ladder-3-gradient": (0.62, 3, 1),
}  # fmt: skip
QUESTION = "Does a discriminator that sees time make upscaled video sharper and keep it steady?"


def make_run(
    folder: Path,
    *,
    arms: Sequence[str] = ARMS,
    peers: Sequence[str] = ("bicubic", "basicvsr-bi"),
    clips: Sequence[str] = ("waves", "waves-mirrored"),
    seeds: Sequence[int] = (0,),
    failed: str = "",
    unlearnt: Sequence[str] = (),
    measures: Sequence[str] = ("literature-y", "tecogan"),
    frames: int = 12,
    large: int = 1,
) -> Path:
    """Write a run folder in the layout of the pipeline and return it.

    Args:
        arms: trained arms, each with every seed; `peers` are only measured; without both there is no evaluation at all.
        clips: names of the held-out clips; the second is the first one mirrored, and so on.
        failed: an arm whose training failed: it has no output and its step carries an error.
        unlearnt: arms whose discriminator scores true and generated frames alike.
        measures: protocols to score with.
        frames: length of the clips. large: factor by which frames are enlarged, for tests of size.
    """
    outputs = folder / "steps" / "evaluate" / "outputs"
    trained = [(arm, seed) for arm in arms for seed in seeds if arm != failed]
    methods = [
        *peers,
        *(arm if arm == "rbpn" else f"{arm}@{seed}" for arm, seed in trained if arm != "rbpn" or seed == seeds[0]),
    ]
    for number, clip in enumerate(clips if methods else ()):
        _write_clip(outputs, clip, number, methods, frames, large)
    if methods:
        _evaluate(folder / "steps" / "evaluate", outputs, methods, measures)
    for place, (arm, seed) in enumerate(trained):
        _write_training(
            folder / "steps" / ("pretrain" if arm == "rbpn" else f"{arm}-s{seed}"), arm, place, arm not in unlearnt
        )
    _write_manifest(folder, trained, clips, seeds, failed, (frames, 96 * large, 128 * large))
    return folder


def small_run(folder: Path, **changes: object) -> Path:
    """Write a run of one clip with three methods and one protocol: quick to make."""
    settings = {
        "arms": ("pixel-control", "recurrent-d"),
        "peers": ("bicubic",),
        "clips": ("waves",),
        "frames": 6,
        "measures": ("literature-y",),
    }
    return make_run(folder, **(settings | changes))


def soup_of(report: Path) -> BeautifulSoup:
    """Parse a page."""
    return BeautifulSoup(report.read_text(encoding="utf-8"), "html.parser")


def _write_clip(outputs: Path, clip: str, number: int, methods: Sequence[str], frames: int, large: int) -> None:
    stored = np.load(CLIP)
    order = [k % 14 if k % 14 < 8 else 14 - k % 14 for k in range(frames)]  # to and fro: eight frames are stored
    turn = (lambda clip: clip[:, :, ::-1]) if number % 2 else (lambda clip: clip)
    truth, low = (turn(stored[name][order]).astype(np.float32) for name in ("truth", "bicubic"))
    _write_frames(outputs / "truth" / clip, truth, large)
    random = np.random.default_rng(7)
    for method in methods:
        share, steady, flicker = STAND_INS.get(method.partition("@")[0], (0.6, 2, 1))
        noise = random.normal(0, 1, truth.shape[1:]) * steady + random.normal(0, 1, truth.shape) * flicker
        seed_offset = 0.01 * int(method.partition("@")[2] or 0)
        _write_frames(outputs / method / clip, low + (share + seed_offset) * (truth - low) + noise, large)


def _write_frames(folder: Path, frames: np.ndarray, large: int) -> None:
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames.clip(0, 255).round().astype(np.uint8)):
        Image.fromarray(frame).resize((frame.shape[1] * large, frame.shape[0] * large)).save(
            folder / f"{index:03d}.png", compress_level=1
        )


def _evaluate(folder: Path, outputs: Path, methods: Sequence[str], measures: Sequence[str]) -> None:
    paths = {method: outputs / method for method in methods}
    scored = [evaluate(paths, outputs / "truth", name, degradation="bi", progress=False) for name in measures]
    metrics = pd.concat(scored, ignore_index=True)
    metrics.to_csv(folder / "metrics.csv", index=False)
    summarise(metrics).to_csv(folder / "summary.csv", index=False)
    if "pixel-control" in set(metrics["arm"]):
        compare(metrics).to_csv(folder / "comparisons.csv", index=False)


def _write_training(folder: Path, arm: str, place: int, learns: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(place)
    lines = []
    for step in range(10, 401, 10):
        noise = random.normal(0, 0.03)
        line = {
            "step": step,
            "seconds": step / 4,
            "learning_rate": 1e-4,
            "pixel": 0.02 + 0.02 * np.exp(-step / 150) * (1 + noise),
            "gradient_pixel": 0.5 * (1 + noise),
        }
        if arm not in ("rbpn", "pixel-control"):
            line |= {"perceptual": 0.3 * np.exp(-step / 500) * (1 + noise)}
        if arm.startswith(("recurrent", "seed", "ladder")):
            gap = 0.3 * (1 - np.exp(-step / 90)) if learns else -0.025 - noise
            detached = arm in ("seed-faithful", *LADDER[:1])
            line |= {
                "adversarial": 0.8 * (1 + noise), "score_real": 0.55 + gap + noise, "score_fake": 0.5 - gap - noise,
                "gradient_discriminator": 1 + noise, "gradient_adversarial": 0.0 if detached else 0.05 * (1 + noise),
            }  # fmt: skip
        if arm == "recurrent-d-flow":
            line |= {"flow_adversarial": 0.7 * (1 - noise)}
        lines.append(json.dumps(line))
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "crops").mkdir(exist_ok=True)
    for step in (1, 200, 400):
        Image.fromarray(random.integers(0, 255, (24, 72, 3), dtype=np.uint8)).save(
            folder / "crops" / f"step-{step:06d}.png"
        )


def write_notebook(folder: Path, html: str = "<b>bold</b>") -> None:
    """Write an executed notebook with text, a picture with alt text, HTML and an error in its outputs."""
    png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    outputs = [
        nbformat.v4.new_output("stream", name="stdout", text="400 steps in 100 s\n"),
        nbformat.v4.new_output("display_data", data={"image/png": png}, metadata={"image/png": {"alt": "A dot"}}),
        nbformat.v4.new_output("display_data", data={"text/html": html}),
        nbformat.v4.new_output("error", ename="ValueError", evalue="odd", traceback=["\x1b[31mValueError\x1b[0m: odd"]),
    ]
    code = nbformat.v4.new_code_cell("train(config)", execution_count=1, outputs=outputs, id="code")
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# One arm\nWhat it *does*.", id="words"), code]
    )
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / "notebook.ipynb")


def _write_manifest(
    folder: Path, trained: list, clips: Sequence[str], seeds: Sequence[int], failed: str, size: tuple[int, int, int]
) -> None:
    steps = [
        _step("pretrain" if arm == "rbpn" else f"{arm}-s{seed}", 60.0 + 9 * place, arm=arm, seed=seed)
        for place, (arm, seed) in enumerate(trained)
        if arm != "rbpn" or seed == seeds[0]
    ]
    steps.append(_step("evaluate", 41.5, protocols=["literature-y", "tecogan"]))
    if failed:
        broken = _step(f"{failed}-s{seeds[0]}", 7.2, arm=failed, seed=seeds[0])
        steps.append(
            broken | {"status": "failed", "error": "InputError: loss is NaN at step 40: lower the learning rate"}
        )
    for step in steps:
        write_notebook(folder / "steps" / step["name"])
        (folder / "steps" / step["name"] / "step.json").write_text(json.dumps(step | {"step": step["name"]}))
    frames, height, width = size
    shape = {"frames": frames, "height": height, "width": width}
    data = [
        {"clip": clip, "source": "procedural", "sha256": "0" * 64, "split": "test", "degradation": "bi", **shape}
        for clip in clips
    ]
    manifest = {
        "study": folder.name, "title": "Fixture of the report's tests", "question": QUESTION,
        "command": f"stvsr reproduce {folder.name}",
        "started": 1767603600.0, "finished": 1767604320.0, "seconds": 720.0,
        "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False}, "python": "3.11.2",
        "platform": "Linux",
        "packages": {"torch": "2.6.0", "numpy": "2.1.0"},
        "hardware": {"cpu": "a processor", "cores": 2, "memory_gb": 8.0, "gpu": None}, "seeds": list(seeds),
        "data": [{"clip": "film/01", "sha256": "2" * 64, **shape}, *data],
        "weights": [{"name": "alexnet", "file": "alexnet.ckpt", "sha256": "1" * 64, "licence": "BSD-3-Clause"}],
        "steps": steps,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(manifest))


def _step(name: str, seconds: float, **parameters: object) -> dict:
    numbers = {"pretrain": "02_rbpn_pretraining", "evaluate": "04_ablation_evaluation"}
    return {
        "name": name, "notebook": f"{numbers.get(name, '03_adversarial_finetuning')}.ipynb",
        "seconds": seconds, "status": "done",
        "parameters": parameters | {"folder": "steps"}, "key": hashlib.sha256(name.encode()).hexdigest(), "error": "",
        "reason": "never run",
    }  # fmt: skip
