"""Each defect is what its name says, and the table's blind spots are where the lesson finds them."""

import numpy as np
import pytest
from metric_clips import texture

from stvsr.evaluation import sensitivity


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    wide = texture(96, 192 + 12)
    return np.stack([wide[:, 2 * t : 2 * t + 192] for t in range(4)])


def test_defects_keep_shape_and_change_what_they_name(truth):
    versions = sensitivity.defects(truth)
    assert len(versions) == 9
    assert all(clip.shape == truth.shape and clip.dtype == np.uint8 for clip in versions.values())
    assert np.array_equal(versions["shuffled"], truth[[1, 0, 3, 2]])
    assert np.array_equal(versions["one frame late"][1:], truth[:-1])
    assert np.array_equal(versions["shifted"][:, :, 1:], truth[:, :, :-1])
    assert len({frame.tobytes() for frame in versions["frozen"]}) == 1
    frozen = versions["frozen noise"].astype(int) - truth
    inside = (truth > 60) & (truth < 200)
    assert np.array_equal((frozen[1] - frozen[0])[inside[0] & inside[1]], np.zeros((inside[0] & inside[1]).sum(), int))
    odd = sensitivity.defects(truth[:3])["shuffled"]
    assert np.array_equal(odd, truth[[1, 0, 2]])


@pytest.mark.slow
def test_flicker_is_invisible_to_tof_and_blur_to_the_warping_error(truth):
    versions = sensitivity.defects(truth[:3])
    chosen = {name: versions[name] for name in ("blur", "noise", "frozen noise", "flicker", "shuffled")}
    table = sensitivity.score_defects(chosen, truth[:3])
    assert table.loc["flicker", "tOF"] < 0.01 < 0.1 < table.loc["shuffled", "tOF"]
    assert table.loc["flicker", "temporal profile"] > 5
    assert table.loc["frozen noise", "temporal profile"] < 0.1 < table.loc["noise", "temporal profile"]
    assert table.loc["blur", "warping error x1000"] < 0.1 < table.loc["noise", "warping error x1000"]
    effect = sensitivity.strength_of_effect(table)
    assert list(effect.index) == list(chosen)
    assert effect.max().max() <= 1 and effect.min().min() >= 0


def test_psnr_variants_differ_by_what_separates_them(truth):
    noisy = np.clip(truth.astype(int) + np.random.default_rng(0).integers(-9, 10, (*truth.shape[:3], 1)), 0, 255)
    values = sensitivity.psnr_variants(noisy.astype(float), truth)
    assert len(values) == 7
    assert values["Y, not rounded to 8 bits"] == values["Y, all pixels"]  # whole levels already
    near = sensitivity.psnr_variants(truth + 0.4, truth)  # which rounding hides
    assert np.isinf(near["Y, all pixels"]) and near["Y, not rounded to 8 bits"] < 60
    # Y has 219 levels where the full range has 255
    assert values["Y, all pixels"] - values["grey, full range"] == pytest.approx(20 * np.log10(255 / 219), abs=0.02)
    assert values["Y, shifted by one pixel"] < values["Y, all pixels"]
