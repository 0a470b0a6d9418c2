"""The cache of decoded videos: streamed, checked once per process, made again when damaged."""

import os
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from tiny import panning, write_video

from stvsr.data import decoded as decoding
from stvsr.data.clips import load_clips
from stvsr.data.decoded import decoded
from stvsr.data.shots import find_cuts
from stvsr.errors import InputError
from stvsr.video.reader import read_clip


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("STVSR_CACHE", str(folder))
    decoding.decoded.cache_clear()
    yield folder
    decoding.decoded.cache_clear()


def film(tmp_path, length=12):
    """A video of two scenes that differ in texture and colour."""
    scenes = [panning(length, seed=0), panning(length, seed=1)]
    scenes[1] = np.stack([scenes[1][..., 0] // 4, scenes[1][..., 1], 255 - scenes[1][..., 2] // 2], axis=-1)
    return write_video(tmp_path / "film.mp4", np.concatenate(scenes).astype(np.uint8))


def test_frames_and_cuts_are_those_of_the_whole_clip(tmp_path, cache):
    path = film(tmp_path)
    whole, found = read_clip(path), decoded(path, 1.0)
    assert np.array_equal(found.frames, whole)
    assert list(found.cuts) == find_cuts(whole) == [12]
    again = np.load(next(cache.glob("*.npy")), allow_pickle=False)
    assert np.array_equal(again, whole)


def damage_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "one bit": damage_bit,
    "inverted": lambda path: path.write_bytes(bytes(255 - byte for byte in path.read_bytes())),
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: path.write_bytes(b""),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_damaged_cache_is_made_again_with_a_line(tmp_path, cache, capfd, damage, suffix):
    path = film(tmp_path)
    expected = np.array(decoded(path, 1.0).frames)
    damage(next(cache.glob(f"*{suffix}")))
    decoding.decoded.cache_clear()
    assert np.array_equal(decoded(path, 1.0).frames, expected)
    assert (
        "is damaged: decoding again" in capfd.readouterr().err or suffix == ".json"
    )  # a longer number may be the same


def test_the_checksum_is_compared_once_per_process(tmp_path, cache, monkeypatch):
    path = film(tmp_path)
    clip = load_clips(str(path))[0]
    calls = []
    monkeypatch.setattr(decoding, "_checksum", lambda stored: calls.append(stored) or 0)
    clip.frames([0])
    clip.frames([1])
    assert calls == []


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path, cache):
    """Traced allocations of Python and NumPy while decoding 20 and 160 frames of 83 kB; the file itself is mapped."""
    peaks = []
    for length in (20, 160):
        path = write_video(tmp_path / f"{length}.mp4", panning(length, 144, 192))
        decoded(write_video(tmp_path / "warm.mp4", panning(8, 144, 192)), 1.0)
        tracemalloc.start()
        decoded(path, 1.0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 10 * 144 * 192 * 3
    assert peaks[1] < 160 * 144 * 192 * 3 / 2


def test_a_cache_that_cannot_be_used_names_the_variable(tmp_path, cache, monkeypatch):
    path = film(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STVSR_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"file cannot be used \(.*\): set STVSR_CACHE to another folder"):
        decoded(path, 1.0)


def test_a_full_disk_is_named_before_and_while_decoding(tmp_path, cache, monkeypatch):
    path = film(tmp_path)
    usage = decoding.shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(decoding.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
        with pytest.raises(InputError, match=r"film.mp4 takes 0.0 GB decoded, 0.0 GB are free\): set STVSR_CACHE"):
            decoded(path, 1.0)

    def full(count, shape):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(decoding, "_header", full)
    with pytest.raises(InputError, match=r"No space left on device\): set STVSR_CACHE to another folder"):
        decoded(path, 1.0)
    assert list(cache.iterdir()) == []


def test_a_pipe_among_the_videos_is_left_out(tmp_path, cache):
    folder = tmp_path / "videos"
    folder.mkdir()
    film(tmp_path).rename(folder / "film.mp4")
    os.mkfifo(folder / "pipe.mp4")
    assert {clip.source.name for clip in load_clips(str(folder))} == {"film.mp4"}
    with pytest.raises(InputError, match=r"is neither a file nor a folder"):
        load_clips(str(folder / "pipe.mp4"))


@pytest.mark.parametrize("suffix", [".webp", ".png", ".gif"])
def test_an_animation_is_a_clip_of_all_its_pictures(tmp_path, cache, suffix):
    frames = [Image.fromarray(frame) for frame in panning(9)]
    lossless = {"lossless": True} if suffix == ".webp" else {}
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:], duration=40, **lossless)
    (clip,) = load_clips(str(tmp_path / f"a{suffix}"))
    assert len(clip) == 9
    assert np.array_equal(clip.frames(), read_clip(tmp_path / f"a{suffix}"))


def test_a_home_that_cannot_be_written_names_the_variable(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("not a folder")
    for name in ("STVSR_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(InputError) as caught:
        decoding.cache_folder()
    assert str(tmp_path / "home") in str(caught.value)
    assert "set STVSR_CACHE to another folder" in str(caught.value)
