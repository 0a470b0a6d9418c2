"""BasicVSR and its SPyNet: strict names, known motion, and the symmetries of two-way propagation."""

import numpy as np
import pytest
import torch
from media import moving
from torch.nn import functional as F

from stvsr.assets import locate
from stvsr.degradation import bicubic_up, degrade, quantise, to_float
from stvsr.errors import InputError
from stvsr.models.basicvsr import BasicVSR, BasicVSRConfig, load_basicvsr
from stvsr.models.spynet import SPyNet, load_spynet
from stvsr.video.reader import read_clip
from stvsr.warp import warp


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    network = BasicVSR(BasicVSRConfig(features=6, blocks=1)).eval()
    network.spynet.load_state_dict(load_spynet().state_dict())
    return network


def textured(height, width):
    torch.manual_seed(0)
    return F.interpolate(torch.rand(1, 3, height // 4, width // 4), size=(height, width), mode="bicubic").clamp(0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("shift", [(3, 0), (0, -2), (-4, 5)])
def test_spynet_finds_a_known_shift(shift):
    first = textured(64, 96)
    second = first.roll((shift[1], shift[0]), dims=(2, 3))
    with torch.inference_mode():
        flow = load_spynet()(first, second)
    inside = flow[0, :, 12:-12, 12:-12]
    assert inside.mean((1, 2)).tolist() == pytest.approx(shift, abs=0.25)
    assert (warp(second, flow) - first)[..., 12:-12, 12:-12].abs().mean() < 0.25 * (second - first).abs().mean()


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (17, 33), (32, 32), (40, 90)])
def test_spynet_takes_any_size(size):
    image = torch.rand(2, 3, *size)
    flow = SPyNet()(image, image.flip(0))
    assert flow.shape == (2, 2, *size) and flow.isfinite().all()


def test_spynet_scales_its_flow_with_the_stretch():
    first = textured(60, 84)  # stretched to 64x96 inside
    with torch.inference_mode():
        flow = load_spynet()(first, first.roll(3, dims=3))
    assert flow[0, 0, 12:-12, 12:-12].mean() == pytest.approx(3, abs=0.25)


def test_spynet_is_differentiable_and_keeps_full_precision():
    first, second = textured(32, 32).requires_grad_(), textured(32, 32).roll(1, dims=3)
    network = load_spynet()
    flow = network(first, second)
    flow.sum().backward()
    assert first.grad.abs().sum() > 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(network(first, second), flow)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["basicvsr-bi", "basicvsr-bd"])
def test_published_weights_load_strictly(name):
    published = torch.load(locate(name), weights_only=True)["params"]
    state = load_basicvsr(name).state_dict()
    assert list(state) == list(published)
    assert all(torch.equal(state[key], published[key]) for key in published)


def test_unknown_names_and_sizes_are_named():
    with pytest.raises(InputError, match="'basicvsr-bx' is unknown"):
        load_basicvsr("basicvsr-bx")
    with pytest.raises(InputError, match="features of BasicVSR is 0"):
        BasicVSRConfig(features=0)


@pytest.mark.slow
def test_published_weights_sharpen_a_real_clip():
    hr = read_clip(locate("carphone"), 0, 5)[:, :96, :128]
    lr = to_float(degrade(hr, "bi", 4))
    with torch.inference_mode():
        upscaled = quantise(load_basicvsr("basicvsr-bi")(lr[None])[0])
    error = ((upscaled - to_float(hr)) ** 2).mean()
    bicubic = ((quantise(bicubic_up(lr, 4)) - to_float(hr)) ** 2).mean()
    assert 10 * torch.log10(bicubic / error) > 1.5  # dB over bicubic


@pytest.mark.slow
@pytest.mark.parametrize("length", [1, 2, 4])
def test_every_frame_comes_out_four_times_as_large(tiny, length):
    with torch.inference_mode():
        assert tiny(torch.rand(2, length, 3, 9, 11)).shape == (2, length, 3, 36, 44)


def test_zero_detail_is_the_bilinear_enlargement(tiny):
    network = BasicVSR(BasicVSRConfig(features=6, blocks=1))
    torch.nn.init.zeros_(network.conv_last.weight)
    torch.nn.init.zeros_(network.conv_last.bias)
    clip = torch.rand(1, 2, 3, 8, 8)
    expected = F.interpolate(clip[0], scale_factor=4, mode="bilinear", align_corners=False)
    assert torch.allclose(network(clip)[0], expected, atol=1e-6)


@pytest.mark.slow
def test_time_reversal_swaps_the_directions(tiny):
    """A reversed clip through exchanged trunks, their halves of the fusion exchanged too, is the reversed result."""
    mirrored = BasicVSR(tiny.config).eval()
    other = {"backward_trunk": "forward_trunk", "forward_trunk": "backward_trunk"}
    names = {key: ".".join(other.get(part, part) for part in key.split(".")) for key in tiny.state_dict()}
    state = {names[key]: value for key, value in tiny.state_dict().items()}
    half = tiny.config.features
    state["fusion.weight"] = torch.cat([state["fusion.weight"][:, half:], state["fusion.weight"][:, :half]], dim=1)
    mirrored.load_state_dict(state)
    clip = to_float(moving(4, 16, 24))[None]
    with torch.inference_mode():
        assert torch.allclose(mirrored(clip.flip(1)).flip(1), tiny(clip), atol=1e-5)


@pytest.mark.slow
def test_every_output_depends_on_every_frame(tiny):
    clip = to_float(moving(4, 12, 12))[None].requires_grad_()
    for t in range(4):
        gradient = torch.autograd.grad(tiny(clip)[:, t].square().sum(), clip)[0]
        assert (gradient.abs().sum((0, 2, 3, 4)) > 0).all()


@pytest.mark.slow
def test_clips_of_a_batch_do_not_mix(tiny):
    clips = torch.from_numpy(np.stack([moving(3, 12, 12, seed=seed) for seed in (1, 2)])).movedim(-1, 2).float() / 255
    with torch.inference_mode():
        together = tiny(clips)
        apart = torch.cat([tiny(clip[None]) for clip in clips])
    assert torch.allclose(together, apart, atol=1e-5)


@pytest.mark.slow
def test_flow_at_half_the_size_is_that_of_frames_averaged_in_blocks_of_four():
    torch.manual_seed(0)
    network = BasicVSR(BasicVSRConfig(features=4, blocks=1, upsampled=2, flow_shrink=2))
    network.spynet.load_state_dict(load_spynet().state_dict())
    frames = to_float(moving(2, 64, 128))[None]  # (1, 2, 3, h, w)
    with torch.no_grad():
        to_next, to_previous = network.flows(frames)
        small = F.avg_pool2d(frames[0], 2)
        expected = 2 * network.spynet(small[:1], small[1:])  # at half the size, in pixels of the whole
    assert to_next.shape == to_previous.shape == (1, 1, 2, 64, 128)
    assert torch.allclose(F.avg_pool2d(to_next[0], 2), expected, atol=0.1)
    assert network(frames).shape == (1, 2, 3, 256, 512)
