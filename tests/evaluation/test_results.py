"""`stvsr results` and `stvsr compare` on run folders as a study leaves them."""

import json

import numpy as np
import pandas as pd
import pytest
import tiny

from stvsr import cli
from stvsr.evaluation.results import compare_runs
from stvsr.runs.files import write_json


def run_folder(root, name, psnr, frames=20):
    folder = root / name
    step = folder / "steps" / "evaluate"
    step.mkdir(parents=True)
    manifest = {"study": name, "title": f"Study {name}", "question": "?", "command": "stvsr reproduce", "seeds": [0],
                "git": {"commit": None}, "steps": [{"name": "pretrain"}, {"name": "evaluate"}]}  # fmt: skip
    write_json(folder / "run.json", manifest)
    write_json(step / "data.json", [{"clip": "city", "frames": frames}])
    rows = [("bicubic", 24.0, 23.5, 24.5), ("<b>arm</b>", psnr, None, None)]
    pd.DataFrame(
        [(arm, "literature-y", "psnr", mean, low, high, 1, frames, 1) for arm, mean, low, high in rows],
        columns=["arm", "protocol", "metric", "mean", "low", "high", "clips", "frames", "seeds"],
    ).to_csv(step / "summary.csv", index=False)
    pd.DataFrame({"arm": ["a"], "sentence": ["a is better than b."]}).to_csv(step / "comparisons.csv", index=False)
    return folder


def test_results_are_printed_as_text_and_as_json(tmp_path, capsys):
    folder = run_folder(tmp_path, "first", 25.123456789)
    assert cli.main(["results", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "25.1235" in text and "a is better than b." in text
    assert cli.main(["results", str(folder), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    arm = content["steps"]["evaluate"]["summary"][1]
    assert (arm["mean"], arm["low"]) == (25.123456789, None)
    assert content["steps"]["evaluate"]["comparisons"][0]["sentence"] == "a is better than b."


def test_runs_stand_side_by_side_in_text_csv_and_html(tmp_path, capsys):
    first, second = run_folder(tmp_path, "first", 25.0), run_folder(tmp_path, "second", 26.5)
    page, table = tmp_path / "out.html", tmp_path / "out.csv"
    words = ["compare", str(first), f"mine={second}", "--html", str(page), "--csv", str(table)]
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    assert "PSNR, first" in text and "PSNR, mine" in text
    assert "24.0000 [23.5, 24.5]" in text and "26.5000" in text
    assert pd.read_csv(table)["run"].tolist() == ["first", "first", "mine", "mine"]
    html = page.read_text()
    assert "&lt;b&gt;arm&lt;/b&gt;" in html and "<b>arm" not in html
    assert "http" not in html  # self-contained


def test_runs_on_other_frames_are_refused(tmp_path):
    first, second = run_folder(tmp_path, "first", 25.0), run_folder(tmp_path, "second", 26.5, frames=19)
    with pytest.raises(Exception, match=r"not measured on the same clips and frames \(city, 19 frames\)"):
        compare_runs([str(first), str(second)])


def test_a_folder_without_a_run_is_one_line(tmp_path, capsys):
    assert cli.main(["results", str(tmp_path)]) == 2
    assert "is not a finished run: it has no run.json" in capsys.readouterr().err


@pytest.mark.slow
def test_evaluate_aggregates_the_seeds_of_other_peoples_models(tmp_path, capsys):
    truth = tiny.panning(16, 48, 56).astype(int)
    tiny.write_folder(tmp_path / "truth" / "city", truth.astype(np.uint8))
    for name, noise in (("theirs-0", 6), ("theirs-1", 6), ("mine-0", 2), ("mine-1", 2)):
        added = np.random.default_rng(len(name) + noise).normal(0, noise, truth.shape)
        tiny.write_folder(tmp_path / name / "city", (truth + added).clip(0, 255).astype(np.uint8))
    results = [f"{name[:-2]}@s{name[-1]}={tmp_path / name}" for name in ("theirs-0", "theirs-1", "mine-0", "mine-1")]
    words = ["evaluate", "--results", *results, "--targets", str(tmp_path / "truth"), "--protocol", "literature-y"]
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    assert "mine, PSNR:" in text and "2 seeds, 1 clips" in text
    assert "mine is better than theirs in PSNR" in text
    assert "2 training seeds" in text
