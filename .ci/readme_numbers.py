"""The README's numbers, from a run and from the model cards: `python .ci/readme_numbers.py RUN_FOLDER README.md`.

Each block stands between `<!-- NAME: ... -->` and `<!-- /NAME -->`: that of the run folder's name, and `weights`.
"""

import sys
from pathlib import Path

import pandas as pd

from stvsr.errors import InputError
from stvsr.models.generators import WEIGHTS, shipped_weights
from stvsr.runs.files import read_json, write_text

COLUMNS = {
    ("literature-y", "psnr"): "PSNR-Y, dB ↑",
    ("literature-y", "ssim"): "SSIM-Y ↑",
    ("tecogan", "lpips"): "LPIPS ↓",
    ("tecogan", "tof"): "tOF, px ↓",
    ("tecogan", "tlp100"): "tLP100 ↓",
}


DIGITS = {"psnr": 2, "ssim": 4, "lpips": 4, "tof": 4, "tlp100": 3}


def table(run_folder: Path) -> str:
    """Return the run's means as a Markdown table with what was run below it."""
    path = run_folder / "steps" / "evaluate" / "summary.csv"
    if not path.is_file():
        raise InputError(f"{path} does not exist: run the study first")
    summary, run = pd.read_csv(path), read_json(run_folder / "run.json")
    means = summary.set_index(["protocol", "metric", "arm"])["mean"]
    arms = [arm for arm in summary["arm"].unique() if arm != "truth"]
    lines = _rows({arm: {column: means[(*column, arm)] for column in COLUMNS} for arm in arms})
    held_out = [entry for entry in run["data"] if entry.get("degradation")]
    clips = ", ".join(f"{entry['clip']} ({entry['frames']} frames)" for entry in held_out)
    hardware = run["hardware"]["gpu"] or f"{run['hardware']['cores']} CPU cores ({run['hardware']['cpu']})"
    seeds = len(run["seeds"])
    return "\n".join([
        *lines, "",
        f"`{run['command']}`: held-out clips {clips}; {seeds} seed{'s' * (seeds > 1)}; {run['seconds'] / 60:.1f} minutes on {hardware}.",
        "PSNR and SSIM by protocol `literature-y`, the rest by `tecogan`; degradation BI, x4. The report has the intervals:",
        "with so few clips they speak of these clips only.",
    ])  # fmt: skip


def weights_table() -> str:
    """Return what the model cards claim on the last clips that they name, bicubic and the weights' starts included."""
    cards = [read_json(WEIGHTS / f"{name}.json") for name in shipped_weights()]
    cards.sort(key=lambda card: (card["parameters"], card.get("start", "")))
    claims = [card["scores"][-1] for card in cards]
    if len({claim["what"] for claim in claims}) > 1:
        raise InputError(
            f"model cards were scored on different clips: {', '.join(sorted({claim['what'] for claim in claims}))}"
        )
    rows: dict[str, dict] = {}
    for scores in (claim["scores"] for claim in claims):
        for method in scores["tecogan"]:
            rows.setdefault(
                method, {(protocol, metric): scores[protocol][method][metric] for protocol, metric in COLUMNS}
            )
    return "\n".join([
        *_rows(rows), "",
        f"On {claims[0]['what']}; protocols and degradation as above. Each file has a card beside it: recipe, data, licence, scores.",
    ])  # fmt: skip


def _rows(rows: dict[str, dict[tuple[str, str], float]]) -> list[str]:
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "| --- |" + " ---: |" * len(COLUMNS)]
    for name, values in rows.items():
        lines.append(
            f"| {name} | " + " | ".join(f"{values[column]:.{DIGITS[column[1]]}f}" for column in COLUMNS) + " |"
        )
    return lines


def update(blocks: dict[str, str], readme: Path) -> None:
    """Rewrite the named blocks of `readme`.

    Raises:
        InputError: the README has no such block; nothing has been written then.
    """
    text = readme.read_text(encoding="utf-8")
    for name, made in blocks.items():
        head, start, rest = text.partition(f"<!-- {name}:")
        comment, _, body = rest.partition("-->")
        _, end, tail = body.partition(f"<!-- /{name} -->")
        if not (start and end):
            raise InputError(f"{readme} has no block for {name}: add <!-- {name}: --> and <!-- /{name} -->")
        text = f"{head}{start}{comment}-->\n{made}\n{end}{tail}"
    write_text(readme, text)


if __name__ == "__main__":
    try:
        run_folder, readme = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
        update({run_folder.name: table(run_folder), "weights": weights_table()}, readme)
    except InputError as error:
        sys.exit(f"stvsr: {error}")
