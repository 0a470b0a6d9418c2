"""Clips of every kind, shots, splits and windows, on tiny trees that the tests write."""

import cv2
import numpy as np
import pytest
import torch
from metric_clips import texture
from PIL import Image
from tiny import panning, write_clips, write_folder, write_video

from stvsr.data import decoded as decoding
from stvsr.data.clips import clips_table, load_clips, select_clips, shrink_clip, split_of
from stvsr.data.septuplets import SampleConfig, SeptupletDataset, require_window
from stvsr.data.shots import find_cuts
from stvsr.data.windows import reflect, window_indices
from stvsr.errors import InputError

SMALL = SampleConfig(num_frames=5, patch=8, flow="none")
PINNED = ["train", "train", "validation", "train", "train", "train", "train", "test", "train"]  # of clip0 to clip8


def vimeo(root, train=("00001/0001", "00001/0002"), test=("00002/0007",)):
    """Write septuplets of 448x256 whose frames have one colour each: 10 x their number."""
    for name in (*train, *test):
        flat = [np.full((256, 448, 3), 10 * index, np.uint8) for index in range(1, 8)]
        write_folder(root / "sequences" / name, np.stack(flat), names=[f"im{index}" for index in range(1, 8)])
    (root / "sep_trainlist.txt").write_text("\n".join(train) + "\n")
    (root / "sep_testlist.txt").write_text("\n".join(test) + "\n\n")
    return root


def shots(*lengths, size=(48, 64)):
    """Return frames of several unlike scenes, and where each begins."""
    scenes = []
    for seed, length in enumerate(lengths):
        scene = panning(length, *size, seed=seed).astype(int)
        scene[..., seed % 3] = scene[..., seed % 3] // 4  # another palette, as scenes have
        scenes.append(scene.astype(np.uint8))
    return np.concatenate(scenes), list(np.cumsum(lengths)[:-1])


# ---- kinds of clips


def test_vimeo_lists_choose_the_septuplets(tmp_path):
    root = str(vimeo(tmp_path / "vimeo"))
    assert [clip.name for clip in load_clips(root)] == ["00001/0001", "00001/0002", "00002/0007"]
    assert [clip.name for clip in load_clips(root, "official-train")] == ["00001/0001", "00001/0002"]
    assert [clip.name for clip in load_clips(root, "official-test")] == ["00002/0007"]
    clip = load_clips(root, "official-test")[0]
    assert (len(clip), clip.height, clip.width) == (7, 256, 448)
    assert clip.frames()[:, 5, 5, 0].tolist() == [10, 20, 30, 40, 50, 60, 70]
    assert clip.frames([6, 0])[:, 5, 5, 0].tolist() == [70, 10]


def test_vimeo_septuplets_make_samples_of_the_right_frame(tmp_path):
    clips = load_clips(str(vimeo(tmp_path / "vimeo")))
    dataset = SeptupletDataset(clips, SampleConfig(patch=8, augment=False, flow="none"), seed=0, length=4)
    for index in range(4):
        sample = dataset[index]
        assert sample["lr"].shape == (7, 3, 8, 8)
        assert torch.allclose(sample["hr"][0] * 255, torch.tensor(40.0))
        assert torch.allclose(sample["lr"][:, 0, 0, 0] * 255, torch.arange(10.0, 80, 10))


def test_an_incomplete_vimeo_tree_is_named(tmp_path):
    root = vimeo(tmp_path / "vimeo")
    (root / "sep_testlist.txt").unlink()
    with pytest.raises(InputError, match=r"has no sep_testlist.txt"):
        load_clips(str(root))
    assert len(load_clips(str(root), "official-train")) == 2
    (root / "sequences/00001/0001/im4.png").unlink()
    with pytest.raises(InputError, match=r"im4.png"):
        load_clips(str(root), "official-train")[0].frames()


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_of_editors_on_windows_are_read(tmp_path, encoding):
    root = vimeo(tmp_path / "vimeo")
    for name in ("sep_trainlist.txt", "sep_testlist.txt"):
        text = (root / name).read_text().replace("\n", "\r\n")
        (root / name).write_bytes(text.encode(encoding))
    assert [clip.name for clip in load_clips(str(root))] == ["00001/0001", "00001/0002", "00002/0007"]
    (root / "sep_trainlist.txt").write_bytes(b"\xe9\xff\n")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        load_clips(str(root))


@pytest.mark.parametrize("line", ["../../secret", "/etc"])
def test_a_list_that_points_out_of_the_tree_is_refused(tmp_path, line):
    root = vimeo(tmp_path / "vimeo")
    (root / "sep_trainlist.txt").write_text(line)
    with pytest.raises(InputError, match=r"only folders below sequences"):
        load_clips(str(root))


@pytest.mark.parametrize(("suffix", "tolerance"), [(".png", 0), (".webp", 0), (".jpg", 2), (".jpeg", 2), (".PNG", 0)])
def test_frame_folders_in_natural_order(tmp_path, suffix, tolerance):
    frames = panning(11)
    write_folder(tmp_path / "city", frames, suffix, names=[f"frame{index}" for index in range(11)])
    (clip,) = load_clips(str(tmp_path / "city"))
    assert (clip.name, len(clip), clip.height, clip.width) == ("city", 11, 48, 56)
    read = clip.frames()
    assert read.dtype == np.uint8
    assert np.abs(read.astype(int) - frames).mean(axis=(1, 2, 3)).max() <= tolerance


def test_a_folder_of_folders_and_videos_gives_clips_sorted_by_name(tmp_path):
    write_clips(tmp_path, 2)
    write_video(tmp_path / "aaa.mp4", panning(8))
    (tmp_path / "notes.txt").write_text("not a clip")
    (tmp_path / "empty").mkdir()
    clips = load_clips(str(tmp_path))
    assert [(clip.name, len(clip)) for clip in clips] == [("aaa", 8), ("clip0", 9), ("clip1", 9)]
    assert [len(clip) for clip in load_clips([str(tmp_path / "clip1"), str(tmp_path / "aaa.mp4")])] == [8, 9]


def test_video_frames_are_those_that_were_written(tmp_path):
    frames = panning(10)
    (clip,) = load_clips(str(write_video(tmp_path / "street.mp4", frames)))
    assert (clip.name, len(clip), clip.height, clip.width) == ("street", 10, 48, 56)
    assert np.abs(clip.frames().astype(int) - frames).mean() < 2
    assert np.array_equal(clip.frames([9, 3]), clip.frames()[[9, 3]])


def test_decoded_videos_are_cached_by_content(tmp_path, monkeypatch):
    path = write_video(tmp_path / "street.mp4", panning(8))
    expected = load_clips(str(path))[0].frames()
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(path.read_bytes())

    def refuse(path):
        raise AssertionError("decoded again")

    monkeypatch.setattr(decoding, "open_clip", refuse)
    assert np.array_equal(load_clips(str(copy))[0].frames(), expected)


def test_the_cache_goes_where_it_is_told_and_can_be_deleted(tmp_path, monkeypatch):
    monkeypatch.setenv("STVSR_CACHE", str(tmp_path / "cache"))
    path = write_video(tmp_path / "street.mp4", panning(8, seed=9))
    load_clips(str(path))
    stored, note = sorted((tmp_path / "cache").iterdir(), reverse=True)
    assert (stored.suffix, note.suffix) == (".npy", ".json")
    stored.unlink()
    decoding.decoded.cache_clear()
    assert len(load_clips(str(path))[0].frames()) == 8


def test_frames_of_unlike_sizes_are_one_clear_line(tmp_path):
    folder = write_folder(tmp_path / "mixed", panning(8))
    Image.fromarray(texture(40, 56)).save(folder / "003.png")
    with pytest.raises(InputError, match=r"003.png.*56x40"):
        load_clips(str(folder))[0].frames()


def test_a_photo_that_is_rotated_by_its_tag_has_the_size_it_shows(tmp_path):
    folder = tmp_path / "phone"
    folder.mkdir()
    for index in range(7):
        image = Image.fromarray(texture(48, 64))
        exif = image.getexif()
        exif[0x0112] = 6  # turned by 90 degrees
        image.save(folder / f"{index}.jpg", exif=exif)
    (clip,) = load_clips(str(folder))
    assert clip.frames().shape == (7, clip.height, clip.width, 3) == (7, 64, 48, 3)


# ---- mistakes


def test_missing_and_empty_sources_are_one_clear_line(tmp_path):
    with pytest.raises(InputError, match=r"does not exist: give a video, a folder"):
        load_clips(str(tmp_path / "nothing"))
    with pytest.raises(InputError, match=r"has neither frames nor clips"):
        load_clips(str(tmp_path))
    with pytest.raises(InputError, match=r"'bykes' is unknown: choose from bikes"):
        load_clips("samples:bykes")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match=r"broken.mp4 cannot be read as video"):
        load_clips(str(tmp_path / "broken.mp4"))


def test_an_unknown_split_and_an_empty_one_are_named(tmp_path):
    write_clips(tmp_path, 1)
    with pytest.raises(InputError, match=r"split 'training' is unknown: choose from train, validation, test"):
        load_clips(str(tmp_path), "training")
    empty = next(split for split in ("train", "test") if split != split_of("clip0"))
    with pytest.raises(InputError, match=f"no clip is left of .* in split {empty}"):
        load_clips(str(tmp_path), empty)


def test_a_clip_of_five_frames_is_refused_for_a_window_of_seven(tmp_path):
    write_folder(tmp_path / "short", panning(5))
    clips = load_clips(str(tmp_path / "short"))
    message = "clip short has 5 frames, the window needs 7: lower num_frames or drop the clip"
    with pytest.raises(InputError, match=message):
        require_window(clips, 7)
    with pytest.raises(InputError, match=message):
        SeptupletDataset(clips, SampleConfig(patch=8), seed=0, length=1)
    require_window(clips, 5)


def test_a_patch_larger_than_the_clip_is_refused(tmp_path):
    clips = load_clips(str(write_folder(tmp_path / "small", panning(7))))
    with pytest.raises(InputError, match=r"clip small is 56x48, a patch needs 64: lower the patch size"):
        SeptupletDataset(clips, SampleConfig(patch=16), seed=0, length=1)


def test_select_clips_names_the_missing_one_and_keeps_the_order(tmp_path):
    clips = load_clips(str(write_clips(tmp_path, 3)))
    assert [clip.name for clip in select_clips(clips, ["clip2", "clip0"])] == ["clip2", "clip0"]
    with pytest.raises(InputError, match=r"clip clip9 is missing: there are clip0, clip1, clip2"):
        select_clips(clips, ["clip9"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_frames": 4}, "num_frames is 4: it must be odd"),
        ({"num_frames": 1}, "num_frames is 1"),
        ({"targets": 2}, "targets is 2"),
        ({"patch": 4}, "patch is 4 LR pixels"),
        ({"degradation": "bj"}, "degradation 'bj' is unknown: choose from bi, bd"),
        ({"flow": "diss"}, "flow estimator 'diss' is unknown"),
    ],
)
def test_a_sample_config_names_what_is_wrong(changes, message):
    with pytest.raises(InputError, match=message):
        SampleConfig(**changes)


# ---- shots


@pytest.mark.slow
def test_the_cuts_of_bikes_are_found():
    clips = load_clips("samples:bikes")
    assert [clip.start for clip in clips] == [0, 30, 76, 137, 187, 242]
    assert [clip.stop for clip in clips] == [30, 76, 137, 187, 242, 250]
    assert [clip.name for clip in clips] == [f"bikes-{index:02d}" for index in range(6)]


def test_a_clip_of_one_shot_keeps_its_name():
    (clip,) = load_clips("samples:carphone")
    assert (clip.name, len(clip), clip.height, clip.width) == ("carphone", 120, 144, 176)


def test_one_shot_of_a_sample_is_named_as_its_clip():
    (clip,) = load_clips("samples:bikes-03", "test")
    assert clip.name == "bikes-03" and len(clip) == 50
    with pytest.raises(InputError, match=r"sample 'bikes-09' is unknown: choose from bikes-00, bikes-01"):
        load_clips("samples:bikes-09")


def test_cuts_of_a_video_become_clips_and_no_window_crosses_one(tmp_path):
    frames, starts = shots(12, 9, 15)
    assert find_cuts(frames) == starts
    clips = load_clips(str(write_video(tmp_path / "film.mp4", frames)))
    assert [(clip.name, clip.start, clip.stop) for clip in clips] == [
        ("film-00", 0, 12),
        ("film-01", 12, 21),
        ("film-02", 21, 36),
    ]
    dominant = [int(clip.frames([0]).mean((0, 1, 2)).argmin()) for clip in clips]
    assert dominant == [0, 1, 2]  # each scene lacks a colour of its own
    dataset = SeptupletDataset(clips, SampleConfig(num_frames=7, patch=8, targets=3, flow="none"), seed=0, length=60)
    for index in range(len(dataset)):
        darkest = dataset[index]["lr"].mean((2, 3)).argmin(dim=1)
        assert len(set(darkest.tolist())) == 1


def test_shots_shorter_than_a_septuplet_are_left_out_unless_it_is_the_whole_file(tmp_path):
    frames, _ = shots(10, 6, 9)
    names = [(clip.name, clip.start, clip.stop) for clip in load_clips(str(write_video(tmp_path / "film.mp4", frames)))]
    assert names == [("film-00", 0, 10), ("film-01", 16, 25)]
    (only,) = load_clips(str(write_video(tmp_path / "brief.mp4", panning(5))))
    assert len(only) == 5


def test_motion_light_and_a_flash_are_no_cuts():
    pan = panning(20)
    fast = np.stack([texture(48, 400, seed=4)[:, 12 * t : 12 * t + 64] for t in range(20)])
    fading = (pan * np.linspace(1, 0.2, 20)[:, None, None, None]).astype(np.uint8)
    flash = pan.copy()
    flash[9] = 255 - (255 - flash[9]) // 3
    for frames in (pan, fast, fading, flash):
        assert find_cuts(frames) == []
    assert find_cuts(pan[:1]) == []


# ---- splits


def test_the_split_of_a_clip_depends_on_its_name_only(tmp_path):
    write_clips(tmp_path / "few", 2)
    write_clips(tmp_path / "many", 9)
    few = {clip.name: split_of(clip.name) for clip in load_clips(str(tmp_path / "few"))}
    for split in ("train", "validation", "test"):
        names = {clip.name for clip in load_clips(str(tmp_path / "many"), split)}
        assert names == {name for name, own in zip(_names(9), PINNED, strict=True) if own == split}
        assert all((name in names) == (own == split) for name, own in few.items())


def _names(count):
    return [f"clip{index}" for index in range(count)]


def test_splits_are_pinned():
    """Known answers: another hash, or one that Python salts anew in every process, would move clips between splits."""
    assert [split_of(name) for name in _names(9)] == PINNED
    assert [split_of(name) for name in ("calendar", "city", "foliage", "walk")] == ["train"] * 4


def test_splits_hold_70_15_15_of_many_names_and_overlap_nowhere():
    found = [split_of(f"{index:05d}/0001") for index in range(4000)]
    shares = [found.count(split) / len(found) for split in ("train", "validation", "test")]
    assert shares == pytest.approx([0.70, 0.15, 0.15], abs=0.02)


def test_a_source_may_have_a_split_of_its_own(tmp_path):
    names = _names(12)
    write_clips(tmp_path / "a@home", 12)
    chosen = [clip.name for clip in load_clips([f"{tmp_path / 'a@home'}@test"], "train")]
    assert chosen == sorted(name for name in names if split_of(name) == "test")
    assert len(load_clips([str(tmp_path / "a@home")], "all")) == 12


# ---- windows and samples


def test_windows_are_mirrored_at_the_ends_of_a_clip():
    assert window_indices(0, 7, 10) == [3, 2, 1, 0, 1, 2, 3]
    assert window_indices(9, 7, 10) == [6, 7, 8, 9, 8, 7, 6]
    assert window_indices(5, 5, 10) == [3, 4, 5, 6, 7]
    assert window_indices(1, 7, 3) == [2, 1, 0, 1, 2, 1, 0]
    assert [reflect(index, 1) for index in (-3, 0, 4)] == [0, 0, 0]
    assert [reflect(index, 4) for index in range(-6, 9)] == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2]


def test_samples_are_the_same_in_every_run_and_differ_by_seed_and_index(tmp_path):
    clips = load_clips(str(write_clips(tmp_path, 2)))
    make = lambda seed: SeptupletDataset(clips, SampleConfig(num_frames=5, patch=8), seed=seed, length=6)  # noqa: E731
    first, again, other = make(0), make(0), make(1)
    assert len(first) == 6
    for index in (5, 0, 3):  # in any order: a resumed run begins in the middle
        assert all(torch.equal(first[index][name], again[index][name]) for name in ("lr", "hr", "flows"))
    assert not torch.equal(first[0]["hr"], first[1]["hr"])
    assert not torch.equal(first[0]["hr"], other[0]["hr"])


@pytest.mark.parametrize("targets", [1, 3])
def test_a_sample_has_the_stated_shapes_and_ranges(tmp_path, targets):
    clips = load_clips(str(write_clips(tmp_path, 1)))
    config = SampleConfig(num_frames=5, patch=8, targets=targets, hr_flow=targets == 3)
    sample = SeptupletDataset(clips, config, seed=0, length=1)[0]
    shapes = {name: tuple(value.shape) for name, value in sample.items()}
    expected = {"lr": (4 + targets, 3, 8, 8), "hr": (targets, 3, 32, 32), "flows": (targets, 4, 2, 8, 8)}
    assert shapes == expected | ({"hr_flows": (2, 2, 32, 32)} if targets == 3 else {})
    assert all(value.dtype == torch.float32 for value in sample.values())
    assert sample["hr"].min() >= 0 and sample["hr"].max() <= 1
    assert torch.equal((sample["lr"] * 255).round() / 255, sample["lr"])  # 8-bit input, as a file would be


@pytest.mark.slow
def test_longer_clips_are_drawn_more_often(tmp_path):
    write_folder(tmp_path / "long", np.full((30, 32, 32, 3), 200, np.uint8))
    write_folder(tmp_path / "short", np.full((10, 32, 32, 3), 20, np.uint8))
    dataset = SeptupletDataset(load_clips(str(tmp_path)), SMALL, seed=0, length=200)
    bright = sum(dataset[index]["hr"].mean() > 0.5 for index in range(200))
    assert 125 < bright < 175  # 150 expected, standard deviation 6


@pytest.mark.parametrize("kind", ["folder", "video"])
def test_shrunk_copies_have_the_stated_size_and_content(tmp_path, kind):
    frames = panning(7, 96, 120)
    source = write_folder(tmp_path / "clip", frames) if kind == "folder" else write_video(tmp_path / "clip.mp4", frames)
    (clip,) = load_clips(str(source))
    assert shrink_clip(clip, 1) is clip
    small = shrink_clip(clip, 1.5)
    assert (small.name, small.height, small.width, len(small)) == ("clip/1.5", 64, 80, 7)
    read = small.frames([2, 3])
    expected = np.stack([cv2.resize(frame, (80, 64), interpolation=cv2.INTER_AREA) for frame in frames[2:4]])
    assert read.shape == (2, 64, 80, 3)
    assert np.abs(read.astype(int) - expected).mean() < 3


def test_fingerprints_follow_the_content(tmp_path):
    first = load_clips(str(write_folder(tmp_path / "a", panning(7))))[0]
    same = load_clips(str(write_folder(tmp_path / "b", panning(7))))[0]
    other = load_clips(str(write_folder(tmp_path / "c", panning(7, seed=1))))[0]
    assert first.fingerprint() == same.fingerprint() != other.fingerprint()
    video = load_clips(str(write_video(tmp_path / "d.mp4", panning(7))))[0]
    assert len(video.fingerprint()) == 64


def test_the_table_of_clips_says_what_there_is(tmp_path):
    table = clips_table(load_clips(str(write_clips(tmp_path, 2))))
    assert table["clip"].tolist() == ["clip0", "clip1"]
    assert table["frames"].tolist() == [9, 9]
    assert table["size"].tolist() == ["56x48", "56x48"]
    assert table["split"].tolist() == [split_of("clip0"), split_of("clip1")]
