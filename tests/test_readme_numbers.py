"""The README's numbers are written from a run, into their own block, and nowhere else."""

import pandas as pd
import pytest

from stvsr.errors import InputError
from stvsr.report import readme
from stvsr.runs import write_json


@pytest.fixture
def run_folder(tmp_path):
    folder = tmp_path / "quick"
    (folder / "steps" / "evaluate").mkdir(parents=True)
    rows = [
        {"arm": arm, "protocol": protocol, "metric": metric, "mean": 0.5 + place}
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
    readme.update(run_folder, path)
    text = path.read_text()
    assert text.startswith("before\n<!-- quick: by a command -->\n|") and text.endswith("<!-- /quick -->\nafter\n")
    assert "| bicubic | 1.50 | 1.5000 | 1.5000 | 1.5000 | 1.500 |" in text
    assert "c (9 frames)" in text and "trained" not in text and "truth" not in text and "10.0 minutes on 2 CPU cores" in text
    readme.update(run_folder, path)
    assert path.read_text() == text


def test_missing_block_and_missing_run_are_named(run_folder, tmp_path):
    path = tmp_path / "README.md"
    path.write_text("nothing here\n")
    with pytest.raises(InputError, match="no block for quick"):
        readme.update(run_folder, path)
    with pytest.raises(InputError, match=r"summary\.csv does not exist"):
        readme.update(tmp_path / "absent", path)
