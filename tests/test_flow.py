"""Warping against loops, estimators against a known motion, occlusion against a known scene."""

import numpy as np
import pytest
import torch
from metric_clips import texture

from stvsr.errors import InputError
from stvsr.flow import ESTIMATORS, estimator, window_flows
from stvsr.warp import occlusion, warp

# mean end-point error in pixels that each estimator must reach on a shift by (3, -2)
ACCURACY = {"dis": 0.15, "farneback": 0.3, "tvl1": 0.3, "spynet": 0.3}


def shifted(dx: int, dy: int, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Return two views of one texture; what is at x in the first is at x + (dx, dy) in the second."""
    wide, edge = texture(size + 20, size + 20, seed=3), 10
    first = wide[edge : edge + size, edge : edge + size]
    second = wide[edge - dy : edge - dy + size, edge - dx : edge - dx + size]
    return first, second


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_estimators_find_a_shift_with_its_sign_and_axes(name):
    first, second = shifted(3, -2)
    flow = estimator(name)(first, second)
    assert flow.shape == (2, 64, 64)
    assert flow.dtype == np.float32
    error = np.linalg.norm(flow - np.array([3, -2], np.float32)[:, None, None], axis=0)[8:-8, 8:-8]
    assert error.mean() < ACCURACY[name]


@pytest.mark.parametrize("name", ["dis", "farneback", "tvl1"])
@pytest.mark.parametrize("size", [(8, 8), (12, 40)])
def test_frames_smaller_than_the_patches_of_dis_have_a_flow(name, size):
    frames = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    flow = estimator(name)(*frames)
    assert flow.shape == (2, *size)
    assert np.isfinite(flow).all()


def test_an_unknown_estimator_is_refused_with_the_names():
    with pytest.raises(InputError, match=r"'diss' is unknown: choose from dis, farneback, tvl1"):
        estimator("diss")


def test_warping_by_the_estimated_flow_brings_the_second_frame_onto_the_first():
    first, second = (torch.from_numpy(view.copy()).movedim(-1, 0)[None].float() for view in shifted(3, -2))
    flow = torch.from_numpy(estimator("dis")(*shifted(3, -2)))[None]
    inner = (..., slice(8, -8), slice(8, -8))
    before, after = ((image - first)[inner].abs().mean() for image in (second, warp(second, flow)))
    assert after < before / 10


def test_warp_equals_bilinear_sampling_written_out():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 2, 6, 7, generator=generator)
    flow = 4 * torch.rand(1, 2, 6, 7, generator=generator) - 2
    result = warp(image, flow)
    for y in range(6):
        for x in range(7):
            px, py = min(max(x + flow[0, 0, y, x].item(), 0), 6), min(max(y + flow[0, 1, y, x].item(), 0), 5)
            x0, y0 = min(int(px), 5), min(int(py), 4)
            fx, fy = px - x0, py - y0
            top = (1 - fx) * image[0, :, y0, x0] + fx * image[0, :, y0, x0 + 1]
            low = (1 - fx) * image[0, :, y0 + 1, x0] + fx * image[0, :, y0 + 1, x0 + 1]
            assert torch.allclose(result[0, :, y, x], (1 - fy) * top + fy * low, atol=1e-5)


def test_warp_without_motion_changes_nothing_and_padding_is_as_asked():
    image = torch.rand(2, 3, 5, 9)
    assert torch.allclose(warp(image, torch.zeros(2, 2, 5, 9)), image, atol=1e-6)
    far = torch.full((2, 2, 5, 9), 100.0)
    assert torch.allclose(warp(image, far), image[..., -1:, -1:].expand_as(image), atol=1e-6)
    assert torch.equal(warp(image, far, padding="zeros"), torch.zeros_like(image))


def test_gradients_reach_image_and_flow():
    image = torch.rand(1, 3, 8, 8, requires_grad=True)
    flow = torch.full((1, 2, 8, 8), 0.3, requires_grad=True)
    gradients = torch.autograd.grad((warp(image, flow) ** 2).sum(), [image, flow])
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_occlusion_accepts_a_steady_pan_and_finds_what_disagrees():
    forward = torch.tensor([2.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 16, 16).clone()
    visible = occlusion(forward, -forward)
    assert visible.shape == (1, 1, 16, 16)
    assert visible.dtype == torch.bool
    assert visible.all()
    backward = -forward
    backward[..., 4:8, 4:8] = 5.0  # a patch whose backward flow contradicts the forward flow
    visible = occlusion(forward, backward)
    assert not visible[..., 4:8, 4:8].any()
    assert visible[..., 10:, 10:].all()


def test_occlusion_leaves_out_motion_boundaries():
    """Both flows agree everywhere; only the jump between the halves is excluded, on its left side."""
    motion = torch.zeros(1, 2, 8, 16)
    motion[:, 1, :, 8:] = 0.3
    visible = occlusion(motion, -motion)[0, 0]
    assert [bool(column) for column in visible.all(0)] == [index != 7 for index in range(16)]


def test_window_flows_go_from_the_middle_to_each_neighbour_in_order():
    wide = texture(64, 100, seed=5)
    window = np.stack([wide[:, 10 + 2 * t : 74 + 2 * t] for t in range(5)])  # the camera moves right, the scene left
    flows = window_flows(window, estimator("dis"))
    assert flows.shape == (4, 2, 64, 64)
    assert flows.dtype == torch.float32
    inner = flows[:, 0, 12:-12, 12:-12].mean((1, 2))
    assert inner.tolist() == pytest.approx([4, 2, -2, -4], abs=0.3)
