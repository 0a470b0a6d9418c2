"""Stamps: up to date or not, and why, for every kind of result."""

import os

import pytest

from stvsr.runs import stamp as stamps
from stvsr.runs.files import write_json
from stvsr.runs.stamp import damage, differences, make_stamp, products, read_stamp, why_stale


@pytest.fixture
def result(tmp_path):
    (tmp_path / "weights").write_text("w")
    (tmp_path / "frames" / "deep").mkdir(parents=True)
    (tmp_path / "frames" / "0.png").write_text("0")
    (tmp_path / "frames" / "deep" / "1.png").write_text("1")
    return tmp_path


def test_a_result_is_up_to_date_until_its_origin_or_its_files_change(result):
    made_from = {"code": "k", "optim": {"steps": 4}}
    stamp = make_stamp(made_from, result, ["weights", "frames"])
    write_json(result / "stamp.json", stamp)
    assert read_stamp(result / "stamp.json") == stamp
    assert why_stale(stamp, made_from, result) == ""
    assert why_stale(stamp, {"code": "k", "optim": {"steps": 5}}, result) == "optim.steps 4 -> 5"
    (result / "frames" / "deep" / "1.png").write_text("2")
    assert why_stale(stamp, made_from, result) == "frames is not as it was made"
    (result / "weights").unlink()
    assert why_stale(stamp, made_from, result) == "weights is missing, frames is not as it was made"
    assert why_stale({}, made_from, result) == "no record of what it was made from"


@pytest.mark.parametrize("content", [None, b"", b"[]", b"3", b"\xff", b"null", b"{"])
def test_a_stamp_that_cannot_be_read_is_no_stamp(tmp_path, content):
    if content is not None:
        (tmp_path / "stamp.json").write_bytes(content)
    assert read_stamp(tmp_path / "stamp.json") == {}


def test_large_folders_are_identified_by_names_sizes_and_times(result, monkeypatch):
    monkeypatch.setattr(stamps, "LARGE", 1)
    stamp = make_stamp(None, result, ["weights", "frames"])
    assert stamp["made"]["frames"].startswith("times:")
    assert not stamp["made"]["weights"].startswith("times:")
    monkeypatch.setattr(stamps, "LARGE", 1000)  # as it was identified, so it is checked
    assert damage(stamp, result) == ""
    os.utime(result / "frames" / "0.png", (1, 1))
    assert damage(stamp, result) == "frames is not as it was made"


def test_hidden_files_the_record_and_tensorboard_are_no_products(result):
    for name in (".lock", "step.json", "tensorboard"):
        (result / name).write_text("")
    assert products(result) == ["frames", "weights"]


def test_differences_name_each_part_and_show_short_values():
    before = {"a": 1, "b": {"c": [1], "d": "x" * 50}, "gone": None}
    assert list(differences(before, before)) == []
    assert list(differences(before, {"a": 2, "b": {"c": [2], "d": "y"}, "new": True})) == [
        "a 1 -> 2", "b.c [1] -> [2]", "b.d changed", "new None -> True",
    ]  # fmt: skip
