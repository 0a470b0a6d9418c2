"""PSNR and SSIM: against recorded scores, an independent library and closed forms."""

import numpy as np
import pytest
import torch
from metric_clips import recorded, texture
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from stvsr.errors import InputError
from stvsr.metrics.fidelity import luma, psnr, ssim


@pytest.mark.parametrize("colour", ["y", "rgb"])
def test_recorded_scores_are_reproduced(colour):
    truth, bicubic, scores = recorded()
    pairs = list(zip(bicubic, truth, strict=True))
    assert np.mean([psnr(*pair, colour=colour) for pair in pairs]) == pytest.approx(scores[f"psnr_{colour}"], abs=5e-6)
    assert np.mean([ssim(*pair, colour=colour) for pair in pairs]) == pytest.approx(scores[f"ssim_{colour}"], abs=5e-7)


@pytest.mark.parametrize("shape", [(64, 80), (37, 53)])
def test_torchmetrics_agrees_on_luma(shape):
    first, second = texture(*shape, seed=1), texture(*shape, seed=2)
    planes = [torch.from_numpy(luma(frame))[None, None] for frame in (first, second)]
    # torchmetrics averages over its padded border too; the published definition only where the 11x11 window fits
    _, similarity = structural_similarity_index_measure(*planes, data_range=255.0, sigma=1.5, return_full_image=True)
    assert ssim(first, second) == pytest.approx(similarity[..., 5:-5, 5:-5].mean().item(), abs=1e-6)
    assert psnr(first, second) == pytest.approx(peak_signal_noise_ratio(*planes, data_range=255.0).item(), abs=1e-4)


def test_luma_spans_the_studio_range():
    frame = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0]]], np.uint8)
    assert luma(frame) == pytest.approx(np.array([[16, 235, 81.481]]))


def test_a_constant_offset_has_the_psnr_of_its_size():
    frame = np.full((16, 16, 3), 100, np.uint8)
    assert psnr(frame + np.uint8(5), frame, colour="rgb") == pytest.approx(20 * np.log10(255 / 5))
    assert psnr(frame + np.uint8(5), frame) == pytest.approx(20 * np.log10(255 / (5 * 219 / 255)))


def test_equal_frames_have_infinite_psnr_and_ssim_one():
    frame = texture(32, 32)
    assert psnr(frame, frame) == float("inf")
    assert ssim(frame, frame) == 1.0


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (np.zeros((32, 32, 3)), "float64"),
        (np.full((32, 32, 3), np.nan), "float64"),
        (np.zeros((32, 32, 3), np.uint16), "uint16"),
        (np.zeros((32, 32), np.uint8), r"\(32, 32\)"),
        (np.zeros((32, 32, 4), np.uint8), r"\(32, 32, 4\)"),
        (np.zeros((32, 34, 3), np.uint8), "34x32, target is 32x32"),
        ([[1, 2, 3]], "list"),
    ],
)
@pytest.mark.parametrize("metric", [psnr, ssim])
def test_what_is_no_8_bit_rgb_pair_is_refused(metric, frame, words):
    with pytest.raises(InputError, match=words):
        metric(frame, np.zeros((32, 32, 3), np.uint8))


def test_a_frame_below_the_window_and_an_unknown_colour_are_refused():
    small = np.zeros((10, 64, 3), np.uint8)
    with pytest.raises(InputError, match="at least 11x11"):
        ssim(small, small)
    with pytest.raises(InputError, match="colour 'lab' is unknown"):
        psnr(small, small, colour="lab")
