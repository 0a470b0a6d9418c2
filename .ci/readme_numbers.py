"""The README's numbers, from a run and from the model cards: `python .ci/readme_numbers.py RUN_FOLDER README.md`.

Each block stands between `<!-- NAME: ... -->` and `<!-- /NAME -->`: that of the run folder's name, and `weights`.
"""

import sys
from pathlib import Path

import pandas as pd

from stvsr.errors import InputError
from stvsr.evaluation import comparison
from stvsr.evaluation.bootstrap import FEWEST_CLIPS
from stvsr.evaluation.comparison import has_discriminator
from stvsr.evaluation.held_out import read_csv
from stvsr.metrics.protocols import METRICS
from stvsr.models.generators import WEIGHTS, shipped_weights
from stvsr.runs.files import read_json, write_text

COLUMNS = {
    ("literature-y", "psnr"): "PSNR-Y, dB ↑",
    ("literature-y", "ssim"): "SSIM-Y ↑",
    ("tecogan", "lpips"): "LPIPS ↓",
    ("tecogan", "tof"): "tOF, px ↓",
    ("tecogan", "tlp100"): "tLP100 ↓",
}
FINER = ("lpips", "tof")  # one digit more than in the report


def table(run_folder: Path) -> str:
    """Return the run's means as a Markdown table, below it what was run and what its discriminators add."""
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
    seeds = int(summary["seeds"].max())
    return "\n".join([
        *lines, "",
        f"`{run['command']}`: held-out clips {clips}; {seeds} seed{'s' * (seeds > 1)} of an arm;"
        f" {run['seconds'] / 60:.1f} minutes on {hardware}.",
        "PSNR and SSIM by protocol `literature-y`, the rest by `tecogan`; degradation BI, x4.", "",
        *attributions(run_folder),
    ])  # fmt: skip


def attributions(run_folder: Path) -> list[str]:
    """Return one line per arm with a discriminator: its difference from its twin, the only effect attributed to it."""
    path = run_folder / "steps" / "evaluate" / "comparisons.csv"
    rows = read_csv(path) if path.is_file() else pd.DataFrame(columns=comparison.COLUMNS)
    judged = [arm for arm in rows["arm"].unique() if has_discriminator(arm)]
    rows = rows[rows["is_twin"].astype(bool)]
    if rows.empty:
        return [
            "No twin (the same losses without the discriminator) is in this run:"
            " nothing is attributed to a discriminator."
        ]
    lines = ["What each discriminator adds: the difference from its twin, the same losses and steps without it.", ""]
    for arm in judged:
        found = rows[rows["arm"] == arm].set_index(["protocol", "metric"])
        parts = [_difference(found.loc[column], column[1]) for column in COLUMNS if column in found.index]
        twin = f" (twin `{found['reference'].iloc[0]}`)" if parts else ""
        lines.append(f"- `{arm}`{twin}: {'; '.join(parts) or 'its twin is not in this run: nothing is attributed'}.")
    scope = "these clips only" if rows["clips"].max() < FEWEST_CLIPS else "clips like these"
    single = rows.loc[rows["seeds"] < 2, "arm"].unique()
    of_which = f" ({', '.join(f'`{arm}`' for arm in single)})" if len(single) < rows["arm"].nunique() else ""
    seeds = f", with one seed{of_which} without the spread between trainings" if len(single) else ""
    corrected = (
        "The words after them are corrected for the number of comparisons of a protocol (Holm), so that an interval"
        ' without 0 is not enough for "better" or "worse".'
    )
    return [*lines, "", f"In brackets 95% intervals; they are about {scope}{seeds}. {corrected}"]


def _difference(row: pd.Series, metric: str) -> str:
    digits = _digits(metric)
    ends = "no interval" if pd.isna(row["low"]) else f"{row['low']:+.{digits}f} to {row['high']:+.{digits}f}"
    return f"{METRICS[metric].short} {row['difference']:+.{digits}f} ({ends}), {row['verdict']}"


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
    rows = _over_seeds(rows)
    return "\n".join([
        *_rows(rows), "",
        f"On {claims[0]['what']}; protocols and degradation as above."
        " Each file has a model card: recipe, data, licence, scores.",
    ])  # fmt: skip


def _over_seeds(rows: dict[str, dict]) -> dict[str, dict]:
    """Return one row for all seeds of an arm, NAME-s0, NAME-s1 and so on: their mean."""
    table = pd.DataFrame.from_dict(rows, orient="index")
    arms = table.index.str.replace(r"-s\d+$", "", regex=True)
    counts = arms.value_counts()
    means = table.groupby(arms, sort=False).mean()
    means.index = [arm if counts[arm] == 1 else f"{arm}, mean of {counts[arm]} seeds" for arm in means.index]
    return {name: dict(row) for name, row in means.iterrows()}


def _rows(rows: dict[str, dict[tuple[str, str], float]]) -> list[str]:
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "| --- |" + " ---: |" * len(COLUMNS)]
    for name, values in rows.items():
        lines.append(
            f"| {name} | " + " | ".join(f"{values[column]:.{_digits(column[1])}f}" for column in COLUMNS) + " |"
        )
    return lines


def _digits(metric: str) -> int:
    return METRICS[metric].digits + (metric in FINER)


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
