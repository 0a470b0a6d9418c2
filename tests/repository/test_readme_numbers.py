"""The README's numbers are written from a run, into their own block, and nowhere else."""

import re
from pathlib import Path

import pandas as pd
import pytest
import readme_numbers as readme

from stvsr.errors import InputError
from stvsr.evaluation import comparison
from stvsr.evaluation.held_out import write_csv
from stvsr.models.generators import shipped_weights
from stvsr.runs.files import write_json

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run_folder(tmp_path):
    folder = tmp_path / "quick"
    (folder / "steps" / "evaluate").mkdir(parents=True)
    rows = [
        {"arm": arm, "protocol": protocol, "metric": metric, "mean": 0.5 + place, "seeds": place}
        for place, arm in enumerate(["truth", "bicubic", "rbpn"])
        for protocol, metric in readme.COLUMNS
    ]
    pd.DataFrame(rows).to_csv(folder / "steps" / "evaluate" / "summary.csv", index=False)
    held_out = [{"clip": "c", "frames": 9, "degradation": "bi"}, {"clip": "trained", "frames": 3}]
    hardware = {"gpu": None, "cores": 2, "cpu": "a processor"}
    write_json(
        folder / "run.json",
        {"command": "stvsr reproduce quick", "data": held_out, "hardware": hardware, "seeds": [0], "seconds": 600},
    )
    return folder


def test_block_is_rewritten_and_the_rest_kept(run_folder, tmp_path):
    path = tmp_path / "README.md"
    path.write_text("before\n<!-- quick: by a command -->\nold\n<!-- /quick -->\nafter\n")
    readme.update({"quick": readme.table(run_folder)}, path)
    text = path.read_text()
    assert text.startswith("before\n<!-- quick: by a command -->\n|") and text.endswith("<!-- /quick -->\nafter\n")
    assert "| bicubic | 1.50 | 1.5000 | 1.5000 | 1.5000 | 1.500 |" in text
    assert (
        "c (9 frames)" in text
        and "trained" not in text
        and "truth" not in text
        and "2 seeds of an arm; 10.0 minutes on 2 CPU cores" in text
    )
    readme.update({"quick": readme.table(run_folder)}, path)
    assert path.read_text() == text


def test_only_differences_from_twins_are_attributed(run_folder):
    assert "nothing is attributed to a discriminator" in readme.table(run_folder)
    rows = [
        {"arm": arm, "reference": reference, "is_twin": is_twin, "metric": "lpips", "protocol": "tecogan",
         "difference": size, "low": size - 0.001, "high": size + 0.001, "verdict": verdict, "clips": 2, "seeds": 1}
        for arm, reference, is_twin, size, verdict in [
            ("recurrent-d", "pixel-control", False, -0.0085, "better"),
            ("recurrent-d", "perceptual", True, 0.0, "no difference detected"),
            ("modern", "pixel-control", False, -0.0152, "better"),
            ("perceptual", "pixel-control", False, -0.0085, "better"),
        ]
    ]  # fmt: skip
    write_csv(run_folder / "steps" / "evaluate" / "comparisons.csv", pd.DataFrame(rows, columns=comparison.COLUMNS))
    made = readme.table(run_folder)
    assert "- `recurrent-d` (twin `perceptual`): LPIPS +0.0000 (-0.0010 to +0.0010), no difference detected." in made
    assert "- `modern`: its twin is not in this run: nothing is attributed." in made
    assert "-0.0085" not in made and "-0.0152" not in made and "- `perceptual`" not in made
    assert "they are about these clips only, with one seed" in made


def test_missing_block_and_missing_run_are_named(run_folder, tmp_path):
    path = tmp_path / "README.md"
    path.write_text("nothing here\n")
    with pytest.raises(InputError, match="no block for quick"):
        readme.update({"quick": readme.table(run_folder)}, path)
    assert path.read_text() == "nothing here\n"
    with pytest.raises(InputError, match=r"summary\.csv does not exist"):
        readme.table(tmp_path / "absent")


def test_the_weights_block_is_what_the_cards_say():
    made, text = readme.weights_table(), (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"-->\n{made}\n<!-- /weights -->" in text
    for name in {"bicubic", *(re.sub(r"-s\d+$", "", name) for name in shipped_weights())}:
        assert f"| {name} |" in made or f"| {name}, mean of " in made


def test_seeds_of_an_arm_share_a_row_of_their_mean():
    rows = {"rbpn": {("a", "psnr"): 1.0}, "arm-s0": {("a", "psnr"): 2.0}, "arm-s1": {("a", "psnr"): 4.0}}
    made = readme._over_seeds(rows)
    assert made == {"rbpn": {("a", "psnr"): 1.0}, "arm, mean of 2 seeds": {("a", "psnr"): 3.0}}


def test_cards_of_different_clips_make_no_table(tmp_path, monkeypatch):
    monkeypatch.setattr(readme, "WEIGHTS", tmp_path)
    monkeypatch.setattr(readme, "shipped_weights", lambda: ["a", "b"])
    for name in ("a", "b"):
        write_json(tmp_path / f"{name}.json", {"parameters": 1, "scores": [{"what": f"clip {name}", "scores": {}}]})
    with pytest.raises(InputError, match="different clips: clip a, clip b"):
        readme.weights_table()
