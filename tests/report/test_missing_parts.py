"""Runs of which parts are missing or broken: named in the report, or refused in one line."""

import json
import re
import shutil
import warnings

import pandas as pd
import pytest
from report_fixture import small_run, soup_of

from stvsr.errors import InputError
from stvsr.evaluation.results import load_results
from stvsr.report import __main__ as command
from stvsr.report import appendix
from stvsr.report.build import build_report
from stvsr.report.run import load_run


@pytest.mark.slow
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


@pytest.mark.slow
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


ROW = "one cell"
TABLES = {  # damage to a table of the report, from its header and rows
    "empty": lambda head, rows: b"",
    "not UTF-8": lambda head, rows: b"\xff\xfe" + head.encode("utf-16-le"),
    "ragged": lambda head, rows: "\n".join([head, rows[0], rows[1] + ",more,cells", *rows[2:]]).encode(),
    "cut in a row": lambda head, rows: "\n".join([head, *rows[:-1], ROW]).encode(),
    "text among numbers": lambda head, rows: "\n".join([head, *rows]).replace("0.", "zero.").encode(),
    "a web page": lambda head, rows: b"<!DOCTYPE html>",
    "an open quote": lambda head, rows: "\n".join([head, '"' + rows[0], *rows[1:]]).encode(),
    "semicolons": lambda head, rows: "\n".join([head, *rows]).replace(",", ";").encode(),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", list(TABLES))
@pytest.mark.parametrize("name", ["metrics.csv", "summary.csv", "comparisons.csv"])
def test_a_damaged_table_is_one_line_that_names_it(small, tmp_path, name, damage):
    copy = shutil.copytree(small, tmp_path / "copy")
    table = copy / "steps" / "evaluate" / name
    head, *rows = table.read_text().splitlines()
    table.write_bytes(TABLES[damage](head, rows))
    with pytest.raises(InputError, match=name) as raised:
        load_run(copy)
    assert "evaluate again" in str(raised.value) and "\n" not in str(raised.value)


MANIFESTS = ['{"steps": 3}', '{"steps": [3]}', '{"steps": [{}]}', '{"steps": [{"name": 3}]}', "[1]", "3", "{", "\ufeff"]


@pytest.mark.parametrize("content", MANIFESTS)
def test_a_manifest_of_another_type_is_one_line(small, tmp_path, content):
    copy = shutil.copytree(small, tmp_path / "copy")
    (copy / "run.json").write_text(content)
    for read in (load_run, load_results):
        with pytest.raises(InputError, match=r"run\.json") as raised:
            read(copy)
        assert "\n" not in str(raised.value)
    (copy / "run.json").write_bytes(b'{"study": "caf\xe9"}')
    with pytest.raises(InputError, match=r"run\.json is not UTF-8"):
        load_run(copy)


@pytest.mark.parametrize("content", ["[1]", "[{}]", "{}", "", "[null]"])
def test_a_list_of_clips_of_another_type_is_one_line(small, tmp_path, content):
    copy = shutil.copytree(small, tmp_path / "copy")
    (copy / "steps" / "evaluate" / "data.json").write_text(content)
    with pytest.raises(InputError, match=r"data\.json"):
        load_results(copy)


def test_what_is_not_a_number_in_a_log_is_left_out_of_the_report(small, tmp_path):
    copy = shutil.copytree(small, tmp_path / "copy")
    log = copy / "steps" / "recurrent-d-s0" / "log.jsonl"
    entries = [
        {"pixel": 1},
        {"step": "2", "pixel": 1},
        {"step": 3, "pixel": "x", "score_real": [1], "score_fake": None},
        {"step": 4, "pixel": 0.5, "score_real": 0.7, "score_fake": 0.2},
        {"step": 10**400, "pixel": 0.5},
        5,
        None,
    ]
    log.write_text("\n".join(map(json.dumps, entries)) + '\n{"step": 5, "pix')
    run = load_run(copy)
    assert run.logs["recurrent-d@0"]["step"].tolist() == [3, 4]
    assert run.score_gaps["recurrent-d"] == pytest.approx([0.5])
    log.write_bytes(b'{"step": 1, "pixel": 0.1, "\xff": 1}\n')
    with pytest.raises(InputError, match=r"log\.jsonl is not UTF-8"):
        load_run(copy)


@pytest.mark.slow
def test_command_prints_where_the_report_is(small, capsys):
    assert command.main([str(small), "--budget-mb", "20"]) == 0
    assert capsys.readouterr().out.strip() == str(small / "report.html")


@pytest.mark.slow
def test_a_broken_notebook_is_left_out(small, tmp_path):
    copy = shutil.copytree(small, tmp_path / "copy")
    (copy / "steps" / "evaluate" / "notebook.ipynb").write_text("no notebook")
    assert [found.step for found in appendix.appendices(load_run(copy))] == ["pixel-control-s0", "recurrent-d-s0"]
