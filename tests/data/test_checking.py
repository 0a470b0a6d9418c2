"""`stvsr data check`: what is wrong with a data set, each kind of fault, its report and exit status."""

import numpy as np
import pytest
from PIL import Image
from tiny import panning, write_clips, write_video
from vimeo_tree import names, write_vimeo, zip_of

from stvsr import cli
from stvsr.data.checking import check_data, is_whole


@pytest.fixture
def root(tmp_path):
    return write_vimeo(tmp_path / "vimeo", train=names(5)[:4], test=names(5)[4:])


def frame(root, name, index):
    return root / "sequences" / name / f"im{index}.png"


@pytest.mark.slow
def test_a_good_folder_has_facts_and_no_faults(root):
    report = check_data(str(root))
    assert not report.faults
    assert "sep_trainlist.txt: 4 septuplets, 64612 as published" in report.facts
    assert "5 clips, 35 frames" in report.facts
    assert "sizes: 448x256 (5 clips)" in report.facts


def damage(root):
    frame(root, names(1)[0], 3).write_bytes(frame(root, names(1)[0], 3).read_bytes()[:300])
    frame(root, names(2)[1], 1).write_bytes(b"")
    frame(root, names(3)[2], 7).unlink()
    Image.fromarray(np.zeros((128, 448, 3), np.uint8)).save(frame(root, names(4)[3], 2))


def test_every_damaged_frame_is_reported_at_once(root):
    damage(root)
    found = check_data(str(root)).faults["unreadable frames"]
    assert [line.partition(".png")[0].rpartition("sequences/")[2] for line in found] == [
        "00001/0001/im3", "00001/0002/im1", "00001/0003/im7", "00001/0004/im2",
    ]  # fmt: skip
    assert "448x128, its clip is 448x256" in found[3]


def test_the_archive_is_checked_without_unpacking(root, tmp_path):
    damage(root)
    found = check_data(str(zip_of(root, tmp_path / "v.zip"))).faults["unreadable frames"]
    assert [line.partition(".png")[0].rpartition(": ")[2] for line in found] == [
        "00001/0001/im3", "00001/0002/im1", "00001/0003/im7", "00001/0004/im2",
    ]  # fmt: skip


@pytest.mark.slow
def test_lists_that_do_not_fit_the_folders_are_reported(root):
    with (root / "sep_testlist.txt").open("a") as file:
        file.write("00001/0001\n00009/0001\n00001/0005\n")
    faults = check_data(str(root)).faults
    assert faults["list entries without a folder"] == ["00009/0001"]
    assert faults["list entries"] == ["00001/0001 is in both lists", "00001/0005 is listed twice"]
    (root / "sep_testlist.txt").unlink()
    assert "has no sep_testlist.txt" in check_data(str(root)).faults["lists"][0]


def test_unlisted_septuplets_are_counted_and_checked(tmp_path):
    root = write_vimeo(tmp_path, train=names(2), unlisted=names(3)[2:])
    frame(root, names(3)[2], 4).write_bytes(b"no image")
    report = check_data(str(root))
    assert "sequences: 3 septuplets, 1 in no list" in report.facts
    assert len(report.faults["unreadable frames"]) == 1


def test_duplicates_are_found_by_their_pixels(tmp_path):
    write_clips(tmp_path, 2)
    copy = tmp_path / "other"
    copy.mkdir()
    for index, content in enumerate(panning(9, seed=1)):
        Image.fromarray(content).save(copy / f"{index}.png", compress_level=0)
    assert check_data(str(tmp_path)).faults["duplicates"] == ["other has the same frames as clip1"]


def test_a_video_is_read_to_its_end(tmp_path):
    assert not check_data(str(write_video(tmp_path / "a.mp4", panning(8)))).faults


@pytest.mark.parametrize(("content", "whole"), [(lambda b: b, True), (lambda b: b[:-1], False), (lambda b: b"", False)])
def test_a_png_that_does_not_end_as_one_is_not_whole(root, content, whole):
    path = frame(root, names(1)[0], 1)
    path.write_bytes(content(path.read_bytes()))
    assert is_whole(path) == whole
    assert not is_whole(root / "nothing.png")


@pytest.mark.slow
def test_the_command_prints_ten_faults_of_a_kind_writes_all_and_returns_2(root, tmp_path, capsys):
    assert cli.main(["data", "check", str(root)]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    for name in names(5)[:3]:
        for index in range(1, 8):
            frame(root, name, index).write_bytes(b"")
    assert cli.main(["data", "check", str(root), "--report", str(tmp_path / "report.txt")]) == 2
    printed = capsys.readouterr().out
    assert "unreadable frames: 21" in printed
    assert printed.count("cannot be read") == 10
    assert "... and 11 more" in printed
    assert (tmp_path / "report.txt").read_text().count("cannot be read") == 21


def test_a_missing_folder_is_one_line(tmp_path, capsys):
    assert cli.main(["data", "check", str(tmp_path / "none")]) == 2
    assert "does not exist" in capsys.readouterr().err
