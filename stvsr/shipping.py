"""Weights that come with the package: half precision, a model card with scores that anybody can reproduce.

`python -m stvsr.shipping CHECKPOINT NAME --recipe TEXT --data TEXT` measures a generator and puts it into `stvsr/weights/`.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from stvsr.assets import digest
from stvsr.errors import InputError
from stvsr.evaluation import EvaluationConfig, prepare_clips, score, summarise, table_of, upscale_clips
from stvsr.models import WEIGHTS, load_generator, save_generator
from stvsr.runs import write_json, write_text

LICENCE = "Apache-2.0"
CLIPS, FRAMES = ("bikes-02", "bikes-03"), 9  # sample clips of the test split: never trained on
PROTOCOLS = ("literature-y", "tecogan")


def measure(weights: str, clips: tuple[str, ...] = CLIPS, frames: int = FRAMES) -> dict:
    """Return the scores of weights and of bicubic on held-out sample clips: protocol -> method -> metric -> mean."""
    with tempfile.TemporaryDirectory() as folder:
        config = EvaluationConfig(generators=(f"weights={weights}",), clips=clips, frames=frames, protocols=PROTOCOLS)
        names = prepare_clips(config, Path(folder))
        upscale_clips(config, Path(folder), names)
        summary, _ = summarise(config, Path(folder), score(config, Path(folder), names))
    tables = {protocol: table_of(summary, protocol).drop(index="truth", errors="ignore") for protocol in PROTOCOLS}
    return {protocol: {arm: row.round(4).to_dict() for arm, row in table.iterrows()} for protocol, table in tables.items()}


def ship(checkpoint: str, name: str, *, recipe: str, data: str) -> Path:
    """Write NAME.safetensors (16-bit), NAME.json (scores, hash) and NAME.md (the model card) into the package."""
    generator, meta = load_generator(checkpoint)
    path = WEIGHTS / f"{name}.safetensors"
    described = {"licence": LICENCE, "recipe": recipe, "data": data, "task": meta.get("task", ""), "arm": meta.get("arm", "")}
    save_generator(path, generator, dtype=torch.float16, **described)
    parameters = sum(parameter.numel() for parameter in generator.parameters())
    card = {"name": name, "sha256": digest(path), "parameters": parameters, "config": meta.get("config", {}), **described,
            "clips": list(CLIPS), "frames": FRAMES, "degradation": "bi", "scores": measure(name)}  # fmt: skip
    write_json(path.with_suffix(".json"), card)
    write_text(path.with_suffix(".md"), render_card(card))
    return path


def render_card(card: dict) -> str:
    """Return the model card as Markdown."""
    lines = [
        f"# {card['name']}",
        "",
        f"- **Network**: {card['parameters']:,} parameters, {', '.join(f'{key} {value}' for key, value in card['config'].items())}",
        f"- **Recipe**: {card['recipe']}",
        f"- **Data**: {card['data']}",
        f"- **Licence**: {card['licence']}",
        f"- **SHA-256**: `{card['sha256']}`",
        "",
        f"Scores on the first {card['frames']} frames of the held-out sample clips {', '.join(card['clips'])}, degradation BI, x4:",
        "",
    ]
    for protocol, methods in card["scores"].items():
        metrics = list(next(iter(methods.values())))
        lines += [f"Protocol `{protocol}`", "", f"| method | {' | '.join(metrics)} |", "| --- |" + " ---: |" * len(metrics)]
        for method, scores in methods.items():
            shown = card["name"] if method == "weights" else method
            lines.append(f"| {shown} | " + " | ".join(f"{scores[metric]:.4f}" for metric in metrics) + " |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="put a trained generator into the package, with its model card")
    parser.add_argument("checkpoint")
    parser.add_argument("name")
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--data", required=True)
    parsed = parser.parse_args()
    try:
        print(ship(parsed.checkpoint, parsed.name, recipe=parsed.recipe, data=parsed.data))
    except InputError as error:
        sys.exit(f"stvsr: {error}")


if __name__ == "__main__":
    main()
