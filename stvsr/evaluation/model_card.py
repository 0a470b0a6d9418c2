"""Weights that come with the package: few bits, and a model card with scores that anybody can reproduce.

`python -m stvsr.shipping CHECKPOINT NAME --recipe TEXT --data TEXT` measures a generator and puts it into
`stvsr/weights/`.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from stvsr.errors import InputError
from stvsr.evaluation.held_out import EvaluationConfig, prepare_clips, score, summarise, table_of, upscale_clips
from stvsr.models.basicvsr import PUBLISHED
from stvsr.models.generators import WEIGHTS, load_generator, save_generator, shipped_weights
from stvsr.models.quantised import ZERO
from stvsr.runs.files import write_json, write_text
from stvsr.runs.hashes import digest
from stvsr.training.optimisation import update_average

LICENCE = "Apache-2.0"
PROTOCOLS = ("literature-y", "tecogan")
SAMPLES = {  # never trained on, and everybody has them: `tests/evaluation/test_model_card.py` measures them again
    "what": "the first 9 frames of the held-out sample clips bikes-02 and bikes-03",
    "data": "samples", "split": "test", "clips": ["bikes-02", "bikes-03"], "frames": 9,
}  # fmt: skip


BRIEF = SAMPLES | {
    "what": "the first 7 frames of the held-out sample clip bikes-02",
    "clips": ["bikes-02"],
    "frames": 7,
}


def measure(methods: Sequence[str], data: str, split: str, clips: Sequence[str] = (), frames: int = 0) -> dict:
    """Return the scores of bicubic and of generators, by the names that load them: protocol -> method -> metric -> mean."""
    config = EvaluationConfig(
        generators=tuple(methods), data=(data,), split=split, clips=tuple(clips), frames=frames, protocols=PROTOCOLS
    )
    with tempfile.TemporaryDirectory() as folder:
        names = prepare_clips(config, Path(folder))
        upscale_clips(config, Path(folder), names)
        summary, _ = summarise(config, Path(folder), score(config, Path(folder), names))
    tables = {protocol: table_of(summary, protocol).drop(index="truth", errors="ignore") for protocol in PROTOCOLS}
    return {
        protocol: {arm: row.round(4).to_dict() for arm, row in table.iterrows()} for protocol, table in tables.items()
    }


def blend(generator: nn.Module, start: nn.Module, share: float) -> None:
    """Move every weight of a fine-tuned generator back towards its start, of which 1 - `share` remains.

    Network interpolation (Wang et al., ESRGAN, 2018): it takes away more of the artefacts than of the detail that
    adversarial training brought.
    """
    tuned, before = (
        {name: value.shape for name, value in network.named_parameters()} for network in (generator, start)
    )
    if tuned != before:
        raise InputError("the start and the generator differ in their weights: blend networks of one kind and size")
    update_average(generator, start, share)


def ship(
    checkpoint: str,
    name: str,
    *,
    recipe: str,
    data: str,
    base: str = "",
    start: str = "",
    share: float = 1.0,
    brief: bool = False,
    also: dict[str, Path] | None = None,
) -> Path:
    """Write NAME.safetensors, NAME.json (scores, hash) and NAME.md (the model card) into the package.

    Args:
        checkpoint: what `load_generator` takes. recipe, data: for the card. base: published weights from which 8-bit
            differences are written, or `zero`; without, weights are written in 16 bits. start: shipped or published
            weights that the training began with, if not those that the checkpoint names. share: below 1, blend with the
            start. brief: score fewer sample frames. also: further clips to score, what they are -> their folder.

    Raises:
        InputError: the checkpoint is none, has no known start to blend with, or clips cannot be read or are too short;
            nothing has been written then.
    """
    generator, meta = load_generator(checkpoint)
    path = WEIGHTS / f"{name}.safetensors"
    described = {
        "licence": LICENCE,
        "recipe": recipe,
        "data": data,
        "task": meta.get("task", ""),
        "arm": meta.get("arm", ""),
    }
    start = start or meta.get("start", "")
    if start in (*shipped_weights(), *PUBLISHED):
        described["start"] = start
    if share != 1:
        if not (0 < share < 1 and start):
            raise InputError(
                f"share is {share} and the start {start!r}: blending needs a share in (0, 1] and a known start"
            )
        blend(generator, load_generator(start)[0], share)
        described["share"] = share
    with tempfile.TemporaryDirectory() as room:
        made = Path(room) / path.name
        save_generator(made, generator, dtype=None if base else torch.float16, base=base, **described)
        methods = [described["start"], str(made)] if "start" in described else [str(made)]
        samples = BRIEF if brief else SAMPLES
        scores = [
            samples
            | {"scores": measure(methods, samples["data"], samples["split"], samples["clips"], samples["frames"])}
        ]
        for what, folder in (also or {}).items():
            scores.append({"what": what, "data": "", "scores": measure(methods, str(folder), "all")})
        shutil.copyfile(made, path)
    card = {"name": name, "sha256": digest(path), "parameters": sum(parameter.numel() for parameter in generator.parameters()),
            "config": meta.get("config", {}), "base": base, **described, "degradation": "bi", "scores": scores}  # fmt: skip
    write_json(path.with_suffix(".json"), card)
    write_text(path.with_suffix(".md"), render_card(card))
    return path


def render_card(card: dict) -> str:
    """Return the model card as Markdown."""
    config = ", ".join(f"{key} {value}" for key, value in card["config"].items())
    lines = [f"# {card['name']}", "", f"- **Network**: {card['parameters']:,} parameters, {config or 'as published'}"]
    lines += [f"- **Start**: `{card['start']}`"] if card.get("start") else []
    lines += (
        [f"- **Blend**: {card['share']:g} of the fine-tuned weights, the rest of the start"] if "share" in card else []
    )
    lines += [f"- **Recipe**: {card['recipe']}", f"- **Data**: {card['data']}"]
    if card["base"]:
        lines += [
            "- **File**: weights in 8 bits"
            if card["base"] == ZERO
            else f"- **File**: 8-bit differences from `{card['base']}`"
        ]
    lines += [f"- **Licence**: {card['licence']}", f"- **SHA-256**: `{card['sha256']}`", ""]
    for measured in card["scores"]:
        lines += [f"Scores on {measured['what']}, degradation BI, x4:", ""]
        for protocol, methods in measured["scores"].items():
            metrics = list(next(iter(methods.values())))
            lines += [
                f"Protocol `{protocol}`",
                "",
                f"| method | {' | '.join(metrics)} |",
                "| --- |" + " ---: |" * len(metrics),
            ]
            lines += [
                f"| {name} | " + " | ".join(f"{found[metric]:.4f}" for metric in metrics) + " |"
                for name, found in methods.items()
            ]
            lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="put a trained generator into the package, with its model card")
    parser.add_argument("checkpoint")
    parser.add_argument("name")
    parser.add_argument("--recipe", required=True, help="how it was trained")
    parser.add_argument("--data", required=True, help="on what")
    parser.add_argument(
        "--base", default="", choices=(*shipped_weights(), *PUBLISHED, ZERO), help="write 8-bit differences from these weights"
    )
    parser.add_argument(
        "--start", default="", choices=(*shipped_weights(), *PUBLISHED), help="where a training of several steps began"
    )
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the fine-tuned weights, the rest being the start's (default: 1)"
    )
    parser.add_argument(
        "--brief", action="store_true", help="score 7 sample frames: for a generator that takes many seconds for each"
    )
    parser.add_argument("--also", action="append", default=[], metavar="WHAT=FOLDER", help="further clips to score")
    parsed = parser.parse_args()
    given = vars(parsed) | {
        "also": {what: Path(folder) for what, _, folder in (entry.rpartition("=") for entry in parsed.also)}
    }
    try:
        print(ship(given.pop("checkpoint"), given.pop("name"), **given))
    except InputError as error:
        sys.exit(f"stvsr: {error}")


if __name__ == "__main__":
    main()
