"""Export trained weights into the package in 8 or 16 bits, with a model card whose scores can be reproduced.

`python -m stvsr.evaluation.model_card CHECKPOINT NAME --recipe TEXT --data TEXT` scores a generator and writes it to
`stvsr/weights/`.
"""

import argparse
import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from stvsr.errors import InputError
from stvsr.evaluation.held_out import EvaluationConfig, prepare_clips, score, summarise, table_of, upscale_clips
from stvsr.models.generators import WEIGHTS, known_weights, load_generator, save_generator
from stvsr.models.quantised import ZERO
from stvsr.runs.files import write_json, write_text
from stvsr.runs.hashes import digest

LICENCE = "Apache-2.0"
CARD_PROTOCOLS = ("literature-y", "tecogan")


@dataclass(frozen=True, kw_only=True)
class ScoredClips:
    """Clips that a card's scores are measured on; `what` describes them, the rest is as in `EvaluationConfig`."""

    what: str
    data: str = "samples"
    split: str = "test"
    clips: tuple[str, ...] = ()
    frames: int = 0


# held out from every training and available to everyone: tests/evaluation/test_model_card.py measures them again
SAMPLE_CLIPS = ScoredClips(
    what="the first 9 frames of the held-out sample clips bikes-02 and bikes-03",
    clips=("bikes-02", "bikes-03"),
    frames=9,
)
BRIEF_SAMPLE_CLIPS = ScoredClips(
    what="the first 7 frames of the held-out sample clip bikes-02", clips=("bikes-02",), frames=7
)


def measure(methods: Sequence[str], data: str, split: str, clips: Sequence[str] = (), frames: int = 0) -> dict:
    """Return the scores of bicubic and of the generators that `methods` names: protocol -> method -> metric -> mean."""
    config = EvaluationConfig(
        generators=tuple(f"{name}={name}" if name in known_weights() else name for name in methods),
        data=(data,),
        split=split,
        clips=tuple(clips),
        frames=frames,
        protocols=CARD_PROTOCOLS,
    )
    with tempfile.TemporaryDirectory() as folder:
        names = prepare_clips(config, Path(folder))
        upscale_clips(config, Path(folder), names)
        summary, _ = summarise(config, Path(folder), score(config, Path(folder), names))
    tables = {protocol: table_of(summary, protocol).drop(index="truth", errors="ignore") for protocol in CARD_PROTOCOLS}
    return {
        protocol: {arm: row.round(4).to_dict() for arm, row in table.iterrows()} for protocol, table in tables.items()
    }


def export_weights(
    checkpoint: str,
    name: str,
    *,
    recipe: str,
    data: str,
    base: str = "",
    start: str = "",
    window: int = 0,
    brief: bool = False,
    also: Mapping[str, Path] | None = None,
) -> Path:
    """Write NAME.safetensors, NAME.json (scores, hash) and NAME.md (the model card) into the package.

    Args:
        checkpoint: what `load_generator` accepts.
        name: under which the weights are shipped.
        recipe: how they were trained, for the card.
        data: what they were trained on, for the card.
        base: published or shipped weights, to write 8-bit differences from them; `zero`, to write the weights
            themselves in 8 bits; by default they are written in 16 bits.
        start: shipped or published weights that the training began with, if not those that the checkpoint names.
        window: frames that a recurrent generator should see together, written into the checkpoint; 0 for the default.
        brief: score fewer sample frames.
        also: further clips to score: their description -> their folder.

    Raises:
        InputError: the checkpoint cannot be read, or clips cannot be read or are too short; nothing is written then.
    """
    generator, meta = load_generator(checkpoint)
    path = WEIGHTS / f"{name}.safetensors"
    described: dict[str, str | int] = {
        "licence": LICENCE,
        "recipe": recipe,
        "data": data,
        "task": meta.get("task", ""),
        "arm": meta.get("arm", ""),
    }
    start = start or meta.get("start", "")
    if start in known_weights():
        described["start"] = start
    if window:
        described["window"] = window
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / path.name
        save_generator(written, generator, dtype=None if base else torch.float16, base=base, **described)
        methods = [start, str(written)] if "start" in described else [str(written)]
        samples = BRIEF_SAMPLE_CLIPS if brief else SAMPLE_CLIPS
        found = measure(methods, samples.data, samples.split, samples.clips, samples.frames)
        scores: list[dict] = [dataclasses.asdict(samples) | {"scores": found}]
        for what, clips in (also or {}).items():
            scores.append({"what": what, "data": "", "scores": measure(methods, str(clips), "all")})
        shutil.copyfile(written, path)
    card = {
        "name": name,
        "sha256": digest(path),
        "parameters": sum(parameter.numel() for parameter in generator.parameters()),
        "config": meta.get("config", {}),
        "base": base,
        **described,
        "degradation": "bi",
        "scores": scores,
    }
    write_card(path, card)
    return path


def write_card(weights: Path, card: dict) -> None:
    """Write the card beside its weights, as JSON and as Markdown."""
    write_json(weights.with_suffix(".json"), card)
    write_text(weights.with_suffix(".md"), render_card(card))


def render_card(card: dict) -> str:
    """Return the model card as Markdown."""
    config = ", ".join(f"{key} {value}" for key, value in card["config"].items())
    lines = [f"# {card['name']}", "", f"- **Network**: {card['parameters']:,} parameters, {config or 'as published'}"]
    if card.get("start"):
        lines.append(f"- **Start**: `{card['start']}`")
    if card.get("window"):
        lines.append(f"- **Window**: {card['window']} frames seen together")
    lines += [f"- **Recipe**: {card['recipe']}", f"- **Data**: {card['data']}"]
    if card["base"] == ZERO:
        lines.append("- **File**: weights in 8 bits")
    elif card["base"]:
        lines.append(f"- **File**: 8-bit differences from `{card['base']}`")
    lines += [f"- **Licence**: {card['licence']}", f"- **SHA-256**: `{card['sha256']}`", ""]
    if "windows" in card:
        lines += _window_rows(card["windows"])
    for measured in card["scores"]:
        lines += [f"Scores on {measured['what']}, degradation BI, x4:", ""]
        for protocol, methods in measured["scores"].items():
            lines += [f"Protocol `{protocol}`", "", *_score_rows(methods), ""]
    return "\n".join(lines)


def _window_rows(windows: dict) -> list[str]:
    """Return the scores by the frames that a recurrent generator sees together, as `benchmarks/upscale.py` measures."""
    head = f"Scores on {windows['what']}, degradation BI, x4, by the number of frames seen together:"
    return [head, "", *_score_rows(windows["scores"], "frames"), ""]


def _score_rows(methods: dict[str, dict[str, float]], kind: str = "method") -> list[str]:
    metrics = list(next(iter(methods.values())))
    head = [f"| {kind} | {' | '.join(metrics)} |", "| --- |" + " ---: |" * len(metrics)]
    return head + [
        f"| {name} | " + " | ".join(f"{values[metric]:.4f}" for metric in metrics) + " |"
        for name, values in methods.items()
    ]


def main() -> None:
    """Run the command line of this module."""
    parser = argparse.ArgumentParser(description="export a trained generator into the package, with its model card")
    known = known_weights()
    parser.add_argument("checkpoint")
    parser.add_argument("name")
    parser.add_argument("--recipe", required=True, help="how it was trained")
    parser.add_argument("--data", required=True, help="what it was trained on")
    parser.add_argument("--base", default="", choices=(*known, ZERO), help="write 8-bit differences from these weights")
    parser.add_argument("--start", default="", choices=known, help="weights that its first training began with")
    parser.add_argument("--window", type=int, default=0, help="frames that a recurrent generator should see together")
    parser.add_argument(
        "--brief", action="store_true", help="score 7 sample frames: for generators that need many seconds each"
    )
    parser.add_argument("--also", action="append", default=[], metavar="WHAT=FOLDER", help="further clips to score")
    parsed = parser.parse_args()
    also = {what: Path(folder) for what, _, folder in (entry.rpartition("=") for entry in parsed.also)}
    try:
        path = export_weights(
            parsed.checkpoint,
            parsed.name,
            recipe=parsed.recipe,
            data=parsed.data,
            base=parsed.base,
            start=parsed.start,
            window=parsed.window,
            brief=parsed.brief,
            also=also,
        )
    except InputError as error:
        sys.exit(f"stvsr: {error}")
    print(path)


if __name__ == "__main__":
    main()
