"""One draw per septuplet: every frame alike, every state reached, a patch degraded as its whole frame is."""

import collections
from pathlib import Path

import numpy as np
import pytest
from tiny import coordinates, panning

from stvsr.data import augmentation
from stvsr.data.augmentation import Draw
from stvsr.data.clips import Clip
from stvsr.data.septuplets import SampleConfig, draw_sample, make_sample
from stvsr.degradation import degrade, to_uint8

HEIGHT, WIDTH, FRAMES = 64, 80, 9
CONFIG = SampleConfig(num_frames=5, patch=8, flow="none")


class Memory(Clip):
    """A clip whose frames are given, not read."""

    def frames(self, indices=None):
        return MEMORY[self.name][list(range(len(self)) if indices is None else indices)]


MEMORY = {"grid": coordinates(FRAMES, HEIGHT, WIDTH), "pan": panning(FRAMES, HEIGHT, WIDTH)}


def clip(name: str) -> Memory:
    return Memory(name=name, source=Path(name), height=HEIGHT, width=WIDTH, start=0, stop=FRAMES)


def draws(config: SampleConfig, count: int) -> list[Draw]:
    return [draw_sample(np.random.default_rng([0, i]), clip("grid"), config) for i in range(count)]


def state(drawn: Draw) -> tuple[bool, bool, bool]:
    return drawn.transpose, drawn.flip_rows, drawn.flip_columns


def test_all_8_dihedral_states_and_both_directions_occur_about_equally_often():
    counted = collections.Counter((state(drawn), drawn.reverse) for drawn in draws(CONFIG, 1600))
    assert len(counted) == 16
    assert 60 < min(counted.values()) <= max(counted.values()) < 150  # 100 expected, standard deviation 10


def test_the_8_states_are_8_different_images():
    square = np.arange(3 * 16 * 16, dtype=np.uint16).reshape(1, 16, 16, 3)
    config = SampleConfig(num_frames=3, patch=8, scale=2, flow="none")
    flags = [(bool(i & 4), bool(i & 2), bool(i & 1)) for i in range(8)]
    drawn = [Draw(start=0, top=0, left=0, transpose=t, flip_rows=r, flip_columns=c) for t, r, c in flags]
    images = {augmentation.apply(one, square, patch=config.patch, scale=config.scale)[0].tobytes() for one in drawn}
    assert len(images) == 8


def test_four_states_is_the_subgroup_of_2019_and_never_reverses():
    drawn = draws(SampleConfig(num_frames=5, patch=8, flow="none", four_states=True), 400)
    assert {state(one) for one in drawn} == {(False, r, c) for r in (False, True) for c in (False, True)}
    assert not any(one.reverse for one in drawn)


def test_without_augmentation_only_the_place_varies():
    drawn = draws(SampleConfig(num_frames=5, patch=8, flow="none", augment=False), 200)
    assert {(*state(one), one.reverse) for one in drawn} == {(False, False, False, False)}
    assert {one.start for one in drawn} == set(range(FRAMES - 5 + 1))
    assert {one.top for one in drawn} == set(range(HEIGHT // 4 - 8 + 1))
    assert {one.left for one in drawn} == set(range(WIDTH // 4 - 8 + 1))


@pytest.mark.parametrize("index", range(24))
def test_all_frames_of_a_septuplet_got_the_same_draw(index):
    """Every pixel of this clip says where it was: rows and columns must agree over time, and time be in order."""
    config = SampleConfig(num_frames=5, patch=8, targets=3, flow="none")
    drawn = draw_sample(np.random.default_rng([1, index]), clip("grid"), config)
    sample = make_sample(clip("grid"), drawn, config)
    place = np.round(sample["hr"].numpy() * 255).astype(int)  # (3, 3, 32, 32): row, column, 10 x frame
    assert all(np.array_equal(place[0, :2], frame[:2]) for frame in place)
    rows, columns = place[0, :2].swapaxes(1, 2) if drawn.transpose else place[0, :2]
    assert sorted(rows[:, 0]) == list(range(4 * drawn.top, 4 * drawn.top + 32))
    assert sorted(columns[0]) == list(range(4 * drawn.left, 4 * drawn.left + 32))
    times = [frame[2].flat[0] // 10 for frame in place]
    middle = [drawn.start + 2 + k for k in range(3)]  # of 7 frames read, the targets are the middle three
    mirrored = [drawn.start + 4 - k for k in range(3)]
    assert times == (mirrored if drawn.reverse else middle)
    lr_times = np.round(sample["lr"][:, 2, 4, 4].numpy() * 25.5).astype(int).tolist()
    whole = list(range(drawn.start, drawn.start + 7))
    assert lr_times == (whole[::-1] if drawn.reverse else whole)


def oriented(frames: np.ndarray, drawn: Draw) -> np.ndarray:
    """Bring frames (T, H, W, 3) into the drawn state, written anew with NumPy's own operations."""
    frames = np.swapaxes(frames, 1, 2) if drawn.transpose else frames
    frames = np.flip(frames, 1) if drawn.flip_rows else frames
    frames = np.flip(frames, 2) if drawn.flip_columns else frames
    return np.flip(frames, 0) if drawn.reverse else frames


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["bi", "bd"])
@pytest.mark.parametrize("corner", [(0, 0), (0, 12), (8, 0), (8, 12), (3, 5), (1, 11)])
def test_a_degraded_patch_is_the_patch_of_the_degraded_frame(mode, corner):
    """In every state, at the frame's borders and inside it: within one level, where a half rounds either way."""
    config = SampleConfig(num_frames=5, patch=8, degradation=mode, flow="none")
    whole = degrade(MEMORY["pan"], mode, 4)
    for number in range(16):
        flags = [bool(number & bit) for bit in (1, 2, 4, 8)]
        drawn = Draw(
            start=1,
            top=corner[0],
            left=corner[1],
            transpose=flags[0],
            flip_rows=flags[1],
            flip_columns=flags[2],
            reverse=flags[3],
        )
        sample = make_sample(clip("pan"), drawn, config)
        top, left = corner
        expected = oriented(whole[1:6, top : top + 8, left : left + 8], drawn).astype(int)
        difference = np.abs(to_uint8(sample["lr"]) - expected)
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.01
        truth = oriented(MEMORY["pan"][1:6, 4 * top : 4 * top + 32, 4 * left : 4 * left + 32], drawn)
        assert np.array_equal(to_uint8(sample["hr"])[0], truth[2])


def test_flow_is_that_of_the_augmented_frames():
    """The camera pans by (2, 1) pixels, so things move by (-2, -1): turned and reversed with the frames."""
    config = SampleConfig(num_frames=3, patch=32, scale=2, flow="dis")
    for flags in [
        (False, False, False, False),
        (True, False, False, False),
        (False, True, False, True),
        (True, True, True, False),
    ]:
        drawn = Draw(
            start=2, top=0, left=0, transpose=flags[0], flip_rows=flags[1], flip_columns=flags[2], reverse=flags[3]
        )
        flow = make_sample(clip("pan"), drawn, config)["flows"][0, 1, :, 8:-8, 8:-8].mean((1, 2)).numpy()
        dx, dy = -2 / 2, -1 / 2  # LR pixels, to the next frame
        dx, dy = (dy, dx) if drawn.transpose else (dx, dy)
        dx, dy = (-dx if drawn.flip_columns else dx), (-dy if drawn.flip_rows else dy)
        sign = -1 if drawn.reverse else 1
        assert flow == pytest.approx([sign * dx, sign * dy], abs=0.15)


def test_a_short_clip_is_centred_and_mirrored():
    config = SampleConfig(num_frames=7, patch=8, targets=3, flow="none")
    short = Memory(name="grid", source=Path("grid"), height=HEIGHT, width=WIDTH, start=0, stop=7)
    drawn = draw_sample(np.random.default_rng(0), short, config)
    assert drawn.start == -1
    still = Draw(start=-1, top=0, left=0)
    times = np.round(make_sample(short, still, config)["lr"][:, 2, 4, 4].numpy() * 25.5).astype(int).tolist()
    assert times == [1, 0, 1, 2, 3, 4, 5, 6, 5]
