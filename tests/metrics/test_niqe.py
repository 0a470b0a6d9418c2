"""NIQE: against the published implementation's scores and known distributions."""

import numpy as np
import pytest
from metric_clips import blurred
from skimage import data

from stvsr.errors import InputError
from stvsr.metrics.niqe import _fit, niqe


# recorded by running MMagic 1.2.0's `niqe_core` (checked by its authors against the MATLAB release) on the same rounded
# luma.
# Tolerance: flat regions hold values of the order of rounding errors, whose sign differs between implementations.
@pytest.mark.parametrize(("name", "score"), [("astronaut", 3.10045), ("coffee", 4.11533)])
def test_recorded_scores_are_reproduced(name, score):
    assert niqe(getattr(data, name)()) == pytest.approx(score, abs=0.01)


def test_blur_is_less_natural():
    frame = data.astronaut()[:288, :288]
    assert niqe(blurred(frame[None])[0]) > niqe(frame) + 1


@pytest.mark.parametrize(("shape", "draw"), [(2.0, "normal"), (1.0, "laplace")])
def test_the_fit_finds_the_shape_of_known_noise(shape, draw):
    values = getattr(np.random.default_rng(0), draw)(size=(1, 300, 300))
    found, left, right = _fit(values)
    assert found == pytest.approx(shape, abs=0.05)
    assert left == pytest.approx(right, rel=0.03)


def test_flat_frames_have_no_score_and_small_ones_are_refused():
    assert np.isnan(niqe(np.full((192, 192, 3), 128, np.uint8)))
    with pytest.raises(InputError, match="two whole 96x96 blocks"):
        niqe(np.zeros((191, 191, 3), np.uint8))
