"""The README's numbers, from a run: `python -m stvsr.report.readme RUN_FOLDER README.md` rewrites the block between its marks."""

import sys
from pathlib import Path

import pandas as pd

from stvsr.errors import InputError
from stvsr.runs import read_json, write_text

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
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "| --- |" + " ---: |" * len(COLUMNS)]
    for arm in arms:
        cells = [f"{means[protocol, metric, arm]:.{DIGITS[metric]}f}" for protocol, metric in COLUMNS]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
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


def update(run_folder: Path, readme: Path) -> None:
    """Rewrite the block of `readme` between `<!-- NAME: ... -->` and `<!-- /NAME -->`, NAME being the run folder's.

    Raises:
        InputError: the run has no scores, or the README has no such block.
    """
    made, text, name = table(run_folder), readme.read_text(encoding="utf-8"), run_folder.name
    head, start, rest = text.partition(f"<!-- {name}:")
    comment, _, body = rest.partition("-->")
    _, end, tail = body.partition(f"<!-- /{name} -->")
    if not (start and end):
        raise InputError(f"{readme} has no block for {name}: add <!-- {name}: --> and <!-- /{name} -->")
    write_text(readme, f"{head}{start}{comment}-->\n{made}\n{end}{tail}")


if __name__ == "__main__":
    try:
        update(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
    except InputError as error:
        sys.exit(f"stvsr: {error}")
