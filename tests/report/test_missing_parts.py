"""Runs of which parts are missing or broken: named in the report, or refused in one line."""

import re
import shutil
import warnings

import pandas as pd
import pytest
from report_fixture import small_run, soup_of

from stvsr.errors import InputError
from stvsr.report import __main__ as command
from stvsr.report import appendix
from stvsr.report.build import build_report
from stvsr.report.run import load_run


@pytest.mark.parametrize(
    "changes",
    [
        {"arms": (), "peers": ()},
        {"arms": ("rbpn",), "peers": ("bicubic",)},
        {"arms": ("pixel-control", "recurrent-d"), "peers": ()},
        {"frames": 1},
        {"arms": ("pixel-control", "recurrent-d"), "failed": "pixel-control"},
    ],
    ids=["nothing measured", "no arms", "no peers", "one frame", "the control failed"],
)
def test_missing_parts_are_said_and_do_not_break(tmp_path, changes):
    folder = small_run(tmp_path / "run", **changes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = soup_of(build_report(folder))
    assert page.h1
    assert page.select_one("#limits dt")
    text = page.select_one("main").text
    if not changes.get("arms", True):
        assert "Nothing was measured in this run." in text
    if changes.get("arms") == ("rbpn",):
        assert "This run does not answer the question" in text
        assert re.search(r"RBPN scores \d\d\.\d\d dB, \+\d\.\d\d dB against bicubic", text)


def test_a_manifest_alone_makes_a_report(tmp_path):
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "run.json").write_text('{"study": "bare"}')
    page = soup_of(build_report(folder))
    assert "Nothing was measured" in page.text
    assert not page.select("#look, #notebooks")


def test_missing_summary_is_computed(small, tmp_path):
    copy = shutil.copytree(small, tmp_path / "copy")
    before = load_run(copy).summary
    (copy / "steps" / "evaluate" / "summary.csv").unlink()
    after = load_run(copy).summary
    columns = ["arm", "protocol", "metric", "mean"]
    pd.testing.assert_frame_equal(
        before[columns].sort_values(columns[:3], ignore_index=True),
        after[columns].sort_values(columns[:3], ignore_index=True),
    )


def test_what_cannot_be_read_is_one_clear_line(small, tmp_path, capsys):
    with pytest.raises(InputError, match=r"run\.json does not exist"):
        build_report(tmp_path)
    with pytest.raises(InputError, match="budget is 0 MB"):
        build_report(small, budget_mb=0)
    copy = shutil.copytree(small, tmp_path / "copy")
    table = copy / "steps" / "evaluate" / "metrics.csv"
    pd.read_csv(table).drop(columns="protocol").to_csv(table, index=False)
    assert command.main([str(copy)]) == 2
    assert re.fullmatch(r"stvsr: .*metrics\.csv lacks the column protocol: evaluate again\n", capsys.readouterr().err)


def test_command_prints_where_the_report_is(small, capsys):
    assert command.main([str(small), "--budget-mb", "20"]) == 0
    assert capsys.readouterr().out.strip() == str(small / "report.html")


def test_a_broken_notebook_is_left_out(small, tmp_path):
    copy = shutil.copytree(small, tmp_path / "copy")
    (copy / "steps" / "evaluate" / "notebook.ipynb").write_text("no notebook")
    assert [found.step for found in appendix.appendices(load_run(copy))] == ["pixel-control-s0", "recurrent-d-s0"]
