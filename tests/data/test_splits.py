"""The held-out sample clip stays out of training whatever its shots are called."""

import pytest

from stvsr.data.clips import HELD_OUT, SAMPLES, load_clips, split_of


def test_held_out_samples_are_never_trained_or_validated_on():
    assert set(HELD_OUT) < set(SAMPLES)
    assert [split_of(f"{name}-{shot:02d}") for name in HELD_OUT for shot in range(20)] == ["test"] * 20 * len(HELD_OUT)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_the_shots_of_the_held_out_sample(split):
    names = [clip.name for clip in load_clips("samples:night-city", "all")]
    assert names == ["night-city-00", "night-city-01"]
    assert {split_of(name) == split for name in names} == {split == "test"}
