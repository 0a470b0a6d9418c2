"""Vimeo-90k in its published layout: splits, the zip archive, damaged septuplets, one index per process."""

import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tiny
from vimeo_tree import names, write_vimeo, zip_of

from stvsr.data import clips, vimeo
from stvsr.data.clips import load_clips, load_validation, split_of
from stvsr.errors import InputError


def found(root: Path | str, split: str) -> list[str]:
    return [clip.name for clip in load_clips(str(root), split)]


@pytest.fixture(scope="module")
def listed(tmp_path_factory) -> Path:
    """A root of 4,000 listed septuplets without frames: 3,500 for training, 500 for testing."""
    root = tmp_path_factory.mktemp("listed")
    (root / "sequences").mkdir()
    every = names(4000)
    (root / "sep_trainlist.txt").write_text("\n".join(every[:3500]) + "\n")
    (root / "sep_testlist.txt").write_text("\n".join(every[3500:]) + "\n")
    return root


# ---- splits


def test_training_and_validation_divide_the_official_training_list(listed):
    train, validation = found(listed, "train"), found(listed, "validation")
    assert sorted(train + validation) == found(listed, "official-train")
    assert len(validation) / 3500 == pytest.approx(0.05, abs=0.01)
    assert not set(train) & set(validation)


def test_the_test_split_is_the_official_test_list(listed):
    assert found(listed, "test") == found(listed, "official-test") == names(4000)[3500:]


def test_the_split_of_the_report_ignores_the_lists_and_keeps_its_name(tmp_path):
    root = write_vimeo(tmp_path, train=names(30)[:20], test=names(30)[20:24], unlisted=names(30)[24:], frames=False)
    parts = {split: found(root, f"report-{split}") for split in ("train", "validation", "test")}
    assert sorted(name for members in parts.values() for name in members) == names(30)
    assert all(split_of(name) == split for split, members in parts.items() for name in members)


def test_the_report_trains_on_most_of_the_official_test_list(listed):
    """The reason for another default: such scores on the official list do not compare with the literature."""
    test = found(listed, "official-test")
    share = sum(split_of(name) == "train" for name in test) / len(test)
    assert share == pytest.approx(0.7, abs=0.05)


@pytest.mark.parametrize("split", ["train", "report-train"])
def test_no_training_validates_on_its_own_septuplets(listed, tmp_path, split):
    root = listed if split == "train" else write_vimeo(tmp_path, train=names(40), frames=False)
    validation = {clip.name for clip in load_validation([str(root)], split)}
    assert validation
    assert not validation & set(found(root, split))


@pytest.mark.parametrize("split", ["official-train", "all", "validation", "test"])
def test_a_split_without_a_counterpart_needs_clips_to_validate_on(listed, split):
    with pytest.raises(InputError, match=rf"split {split} leaves nothing of .* to validate on: name sources"):
        load_validation([str(listed)], split)
    given = load_validation([str(listed)], split, [f"{listed}@official-test"])
    assert [clip.name for clip in given] == names(4000)[3500:]


def test_each_source_is_validated_by_the_counterpart_of_its_own_split(listed, tmp_path):
    other = tiny.write_clips(tmp_path / "clips", 3)
    assert [split_of(f"clip{index}") for index in range(3)] == ["train", "train", "validation"]
    mixed = load_validation([f"{listed}@train", f"{other}@report-train"], "all")
    assert [clip.name for clip in mixed] == [*found(listed, "validation"), "clip2"]


def test_official_lists_of_other_folders_are_refused(tmp_path):
    (tmp_path / "clips").mkdir()
    with pytest.raises(InputError, match=r"split official-test is one of Vimeo-90k's lists"):
        load_clips(str(tmp_path / "clips"), "official-test")


# ---- one index


def test_the_index_is_made_once_per_process_and_follows_the_lists(listed, monkeypatch):
    load_clips(str(listed))
    monkeypatch.setattr(vimeo, "_parsed", lambda text: pytest.fail("read again"))
    started = time.perf_counter()
    assert len(load_clips(str(listed))) == 4000
    assert time.perf_counter() - started < 1


def test_a_changed_list_is_read_again(tmp_path):
    root = write_vimeo(tmp_path, train=names(3), frames=False)
    assert len(found(root, "official-train")) == 3
    (root / "sep_trainlist.txt").write_text("\n".join(names(2)) + "\n")
    assert len(found(root, "official-train")) == 2


# ---- the zip archive


@pytest.mark.slow
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_archive_gives_the_same_clips_as_the_folder(tmp_path, method):
    root = write_vimeo(tmp_path / "folder", train=names(4), test=names(6)[4:])
    archive = zip_of(root, tmp_path / "vimeo_septuplet.zip", method)
    for split in ("train", "test", "official-train", "all", "report-train"):
        folder, zipped = load_clips(str(root), split), load_clips(str(archive), split)
        assert [clip.name for clip in zipped] == [clip.name for clip in folder]
        assert [clip.part for clip in zipped] == [clip.part for clip in folder]
    assert np.array_equal(zipped[0].frames([6, 0, 3]), folder[0].frames([6, 0, 3]))
    assert zipped[0].fingerprint() == folder[0].fingerprint()
    assert zipped[0].identity() == folder[0].identity()


def test_the_archives_directory_is_read_once_and_kept(tmp_path, monkeypatch):
    root = write_vimeo(tmp_path / "folder", train=names(3))
    archive = zip_of(root, tmp_path / "vimeo.zip")
    expected = found(archive, "official-train")
    vimeo._opened.cache_clear()  # as in another process
    monkeypatch.setattr(vimeo, "_directory", lambda path: pytest.fail("read again"))
    assert found(archive, "official-train") == expected


def test_a_frame_that_the_archive_lacks_or_that_is_damaged_is_named(tmp_path):
    root = write_vimeo(tmp_path / "folder", train=names(2))
    (root / "sequences" / names(2)[0] / "im4.png").unlink()
    damaged = root / "sequences" / names(2)[1] / "im2.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    first, second = load_clips(str(zip_of(root, tmp_path / "v.zip")), "official-train")
    with pytest.raises(InputError, match=r"v.zip: 00001/0001/im4.png is missing or empty"):
        first.frames()
    with pytest.raises(InputError, match=r"v.zip: 00001/0002/im2.png cannot be read as an image"):
        second.frames()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no archive", "cannot be read as a zip archive"), (None, "holds no Vimeo-90k septuplets")],
)
def test_another_archive_is_one_clear_line(tmp_path, content, message):
    path = tmp_path / "other.zip"
    if content is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("notes.txt", "hello")
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_clips(str(path))


def test_an_archive_without_a_list_is_named(tmp_path):
    root = write_vimeo(tmp_path / "folder", train=names(2))
    (root / "sep_testlist.txt").unlink()
    with pytest.raises(InputError, match=r"has no sep_testlist.txt"):
        load_clips(str(zip_of(root, tmp_path / "v.zip")), "test")


# ---- identity


def test_a_septuplet_is_known_by_its_official_name_wherever_it_lies(tmp_path):
    here = load_clips(str(write_vimeo(tmp_path / "a", train=names(2), frames=False)))
    there = load_clips(str(write_vimeo(tmp_path / "b", train=names(2), frames=False)))
    assert [clip.identity() for clip in here] == [clip.identity() for clip in there]
    assert here[0].identity() != here[1].identity()
    assert clips.shrink_clip(here[0], 1.5).identity() == here[0].identity()
