"""Coherence in time: closed forms, and what each metric punishes and what it does not."""

import itertools

import cv2
import numpy as np
import pytest
import torch
from metric_clips import blurred, recorded, shuffled, stop_motion, texture

from stvsr.errors import InputError
from stvsr.flow import estimator
from stvsr.metrics import perceptual, temporal
from stvsr.metrics.temporal import warped_difference
from stvsr.warp import inside, occlusion, warp

TEMPORAL = [temporal.tof, temporal.tlp, temporal.warping_error, temporal.profile, temporal.flicker]


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return stop_motion()


@pytest.mark.slow
@pytest.mark.parametrize("metric", TEMPORAL)
def test_a_frame_shuffled_clip_is_punished(metric, clip):
    assert np.nanmean(metric(shuffled(clip), clip)) > 1.5 * np.nanmean(metric(clip, clip)) + 0.1


@pytest.mark.parametrize("metric", [temporal.tof, temporal.tlp, temporal.profile])
def test_the_truth_is_at_distance_zero_from_itself(metric, clip):
    assert metric(clip, clip) == pytest.approx(np.zeros(len(clip) - 1), abs=1e-6)


@pytest.mark.slow
def test_signed_tlp_tells_too_smooth_from_flickering(clip):
    smooth = temporal.tlp(np.repeat(clip[:1], len(clip), axis=0), clip, signed=True)
    shaking = temporal.tlp(shuffled(clip), clip, signed=True)
    assert smooth.min() < 0 < shaking.max()
    assert smooth.max() <= 0  # 0 where the true frames stand still
    assert np.abs(shaking) == pytest.approx(temporal.tlp(shuffled(clip), clip))
    assert smooth == pytest.approx(
        -100 * np.array([perceptual.lpips(*pair) for pair in itertools.pairwise(clip)]), rel=1e-4
    )


def grainy(clip: np.ndarray) -> np.ndarray:
    return (clip + np.random.default_rng(0).integers(-6, 7, clip.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.slow
def test_blur_is_seen_by_lpips_and_not_by_tof_alone(clip):
    soft, noisy = blurred(clip, 1.0), grainy(clip)
    lpips = [np.mean([perceptual.lpips(*pair) for pair in zip(video, clip, strict=True)]) for video in (soft, noisy)]
    assert lpips[0] > 2 * lpips[1]
    assert temporal.tof(soft, clip).mean() < temporal.tof(noisy, clip).mean()


def test_blur_beats_a_grainy_truth_by_warping_error(clip):
    truth = grainy(clip)
    assert temporal.warping_error(blurred(truth), truth).mean() < 0.5 * temporal.warping_error(truth, truth).mean()


def test_tof_is_the_end_point_distance_of_farneback_flows(clip):
    results = shuffled(clip)
    grey = [[cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames[:2]] for frames in (results, clip)]
    flows = [cv2.calcOpticalFlowFarneback(*pair, None, 0.5, 3, 15, 3, 5, 1.2, 0) for pair in grey]
    distance = np.sqrt(((flows[0] - flows[1]) ** 2).sum(2)).mean()
    assert temporal.tof(results[:2], clip[:2]) == pytest.approx([distance], rel=1e-5)


def test_tlp_is_the_difference_of_the_changes_in_appearance(clip):
    results = shuffled(clip)
    change = [perceptual.lpips(frames[0], frames[1]) for frames in (results, clip)]
    assert temporal.tlp(results[:2], clip[:2]) == pytest.approx([100 * abs(change[0] - change[1])], abs=1e-3)


@pytest.mark.slow
def test_a_learned_flow_gives_a_second_opinion(clip):
    wrong, right = (temporal.tof(video[:4], clip[:4], estimator="spynet").mean() for video in (shuffled(clip), clip))
    assert wrong > 1 > right


def test_pure_translation_with_its_own_flow_has_no_warping_error():
    wide = torch.from_numpy(texture(48, 70)).movedim(-1, 0)[None].float() / 255
    previous, current = wide[..., 6:], wide[..., :-6]  # the scene moves 6 pixels to the right
    forward = torch.zeros(1, 2, 48, 64)
    forward[:, 0] = 6
    visible = occlusion(forward, -forward) & inside(-forward)
    assert visible.float().mean() == pytest.approx((64 - 6) / 64)  # what came in from the left was nowhere before
    assert warped_difference(previous, current, -forward, visible) == pytest.approx(0, abs=1e-10)
    assert warped_difference(previous, current, 0 * forward, visible) > 1e-3


def test_warping_error_sees_visible_pixels_only():
    previous, current = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    current[..., :4] = 0.5
    flow, visible = torch.zeros(1, 2, 8, 8), torch.ones(1, 1, 8, 8, dtype=torch.bool)
    assert warped_difference(previous, current, flow, visible) == pytest.approx(0.125)
    visible[..., :4] = False
    assert warped_difference(previous, current, flow, visible) == 0
    assert np.isnan(warped_difference(previous, current, flow, torch.zeros_like(visible)))


def test_warping_error_is_that_of_its_parts(clip):
    result, target = shuffled(clip)[1:3], clip[1:3]
    forward, backward = (torch.from_numpy(estimator("dis")(*pair))[None] for pair in (target, target[::-1]))
    tensors = [torch.from_numpy(frame).movedim(-1, 0)[None].float() / 255 for frame in result]
    mask = (occlusion(forward, backward) & inside(backward)).expand(1, 3, -1, -1)
    error = ((warp(tensors[0], backward) - tensors[1]) ** 2)[mask].mean().item()
    assert temporal.warping_error(result, target) == pytest.approx([1000 * error], rel=1e-4)


def test_profile_forgives_an_offset_and_counts_jitter():
    still = np.repeat(texture(32, 32)[None] // 2, 4, axis=0)
    shaking = still.copy()
    shaking[1::2] += 10
    assert temporal.profile(still + np.uint8(20), still) == pytest.approx(np.zeros(3), abs=1e-9)
    assert temporal.profile(shaking, still) == pytest.approx(np.full(3, 10 * 219 / 255))


def test_flicker_is_the_change_where_the_truth_stands_still():
    still = np.repeat(texture(32, 64)[None] // 2, 4, axis=0)
    moving = still.copy()
    moving[1::2, :, 32:] += 100  # the truth changes on the right, so only the left half counts
    shaking = moving.copy()
    shaking[1::2, :, :32] += 10
    assert temporal.flicker(moving, moving) == pytest.approx(np.zeros(3))
    assert temporal.flicker(shaking, moving) == pytest.approx(np.full(3, 10 * 219 / 255))


def test_flicker_is_undefined_where_everything_moves():
    truth, bicubic, _ = recorded()
    assert np.isnan(temporal.flicker(bicubic, truth)).all()


@pytest.mark.slow
@pytest.mark.parametrize("metric", TEMPORAL)
def test_lengths_and_sizes_that_differ_are_refused(metric, clip):
    with pytest.raises(InputError, match="results ends after 7 frames, targets has more"):
        metric(clip[:-1], clip)
    with pytest.raises(InputError, match="targets ends after 7 frames, results has more"):
        metric(clip, clip[:-1])
    with pytest.raises(InputError, match="96x95, target is 96x96"):
        metric(clip[:, 1:], clip)
    with pytest.raises(InputError, match="clip has 1 frames: a temporal metric needs at least 2"):
        metric(clip[:1], clip[:1])
    with pytest.raises(InputError, match="float64"):
        metric(clip / 255, clip)
