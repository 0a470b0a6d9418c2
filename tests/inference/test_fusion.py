"""Classical fusion: averages, visibility and back projection against closed forms."""

import pytest
import torch
from metric_clips import texture

from stvsr.degradation import bicubic_up, to_float
from stvsr.inference import fusion


def psnr(image: torch.Tensor, truth: torch.Tensor) -> float:
    return float(-10 * torch.log10(((image - truth)[..., 8:-8, 8:-8] ** 2).mean()))


def test_average_of_noisy_copies_gains_ten_log_n():
    generator = torch.Generator().manual_seed(0)
    clean = torch.full((3, 64, 64), 0.5)
    noisy = clean + 0.1 * torch.randn((7, 3, 64, 64), generator=generator)
    gain = psnr(fusion.average(noisy[0], noisy[1:]), clean) - psnr(noisy[0], clean)
    assert abs(gain - 8.45) < 0.2  # 10 log10(7)


def test_masked_places_do_not_count():
    target, others = torch.zeros(3, 4, 4), torch.ones(2, 3, 4, 4)
    mask = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    mask[0, :, :2] = True
    fused = fusion.average(target, others, mask)
    assert torch.equal(fused[:, :2], torch.full((3, 2, 4), 0.5))
    assert torch.equal(fused[:, 2:], torch.zeros(3, 2, 4))


def test_everything_is_visible_without_motion_and_what_leaves_the_picture_is_not():
    still = torch.zeros(1, 2, 16, 16)
    assert fusion.visible(still, still).all()
    right = still.clone()
    right[:, 0] = 4
    seen = fusion.visible(right, -right)
    assert seen[0, 0, :, :11].all() and not seen[0, 0, :, 12:].any()


@pytest.mark.slow
def test_shifted_frames_add_resolution_and_agree_with_the_estimate():
    truth = to_float(texture(64, 64, 1)[None])
    shifts = [(0, 0), (2, 2), (0, 2), (2, 0)]
    frames = fusion.shifted_frames(truth, shifts, 4)
    assert frames.shape == (4, 3, 16, 16)
    scores = [psnr(fusion.back_project(frames[:n], shifts[:n], 4), truth) for n in (1, 2, 4)]
    assert psnr(bicubic_up(frames[:1], 4), truth) < scores[0] < scores[1] < scores[2]
    rebuilt = fusion.back_project(frames, shifts, 4)
    assert (fusion.shifted_frames(rebuilt, shifts, 4) - frames).abs().mean() < 0.01


def test_first_shift_need_not_be_zero():
    truth = to_float(texture(64, 64, 1)[None])
    frames = fusion.shifted_frames(truth, [(2, 1)], 4)
    assert psnr(fusion.back_project(frames, [(2, 1)], 4), truth) > psnr(bicubic_up(frames, 4), truth) + 1
