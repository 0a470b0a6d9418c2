"""PWC-Net against recorded outputs of the publisher's; its parts against loops written out."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from procedural_weights import fill
from safetensors.torch import save_file
from torch.nn import functional as F

from stvsr import losses
from stvsr.errors import InputError
from stvsr.models.discriminators import RecurrentDiscriminator, RecurrentDiscriminatorConfig
from stvsr.models.pwcnet import PWCNet, cost_volume, load_pwcnet, warp_features

PARITY = Path(__file__).parents[1] / "recorded" / "pwcnet_64x128.npz"


@pytest.fixture(scope="module")
def recorded():
    with np.load(PARITY) as file:
        return {name: file[name] if name == "state_keys" else torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def network():
    return fill(PWCNet()).eval()


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.slow
def test_state_has_the_published_names_shapes_and_order(recorded, network):
    state = network.state_dict()
    assert [(name, list(value.shape)) for name, value in state.items()] == list(
        json.loads(str(recorded["state_keys"])).items()
    )


@pytest.mark.slow
def test_flow_equals_the_publishers(recorded, network):
    with torch.no_grad():
        flow = network(recorded["first"], recorded["second"])
    expected = recorded["flow_quarter"]
    torch.testing.assert_close(flow, expected, atol=1e-4 * expected.std().item(), rtol=0)


def test_cost_volume_is_the_mean_product_at_each_displacement():
    first, second = noise(2, 5, 6, 7, seed=1), noise(2, 5, 6, 7, seed=2)
    volume = cost_volume(first, second)
    assert volume.shape == (2, 81, 6, 7)
    for dx, dy, x, y in [(0, 0, 3, 3), (4, -2, 1, 3), (-3, 1, 5, 2), (2, 4, 6, 5)]:
        inside = 0 <= x + dx < 7 and 0 <= y + dy < 6
        expected = (first[:, :, y, x] * second[:, :, y + dy, x + dx]).mean(1) if inside else torch.zeros(2)
        torch.testing.assert_close(volume[:, 9 * (dy + 4) + dx + 4, y, x], expected, atol=1e-6, rtol=0)


def test_warp_features_shifts_by_whole_pixels_and_is_zero_outside():
    features = noise(1, 2, 5, 6) + 1
    flow = torch.zeros(1, 2, 5, 6)
    flow[:, 0], flow[:, 1] = 2, -1
    expected = torch.zeros_like(features)
    expected[..., 1:, :-2] = features[..., :-1, 2:]
    torch.testing.assert_close(warp_features(features, flow), expected, atol=1e-5, rtol=0)
    assert warp_features(features, torch.full((1, 2, 5, 6), 0.5))[..., -1, :].abs().sum() == 0, (
        "half outside counts as outside"
    )


@pytest.mark.slow
def test_pixels_swaps_to_bgr_enlarges_and_scales(network):
    first, second = noise(1, 3, 64, 64, seed=1), noise(1, 3, 64, 64, seed=2)
    with torch.no_grad():
        quarter = network(first[:, [2, 1, 0]], second[:, [2, 1, 0]])
        flow = network.pixels(first, second)
        plain = network(first, second)
    expected = 20 * F.interpolate(quarter, scale_factor=4, mode="bilinear", align_corners=False)
    torch.testing.assert_close(flow, expected, atol=1e-6, rtol=0)
    assert (plain - quarter).abs().max() > 1e-5, "the order of the channels must matter"


@pytest.mark.slow
def test_pixels_takes_any_size(network):
    with torch.no_grad():
        flow = network.pixels(noise(2, 3, 50, 70, seed=1), noise(2, 3, 50, 70, seed=2))
    assert flow.shape == (2, 2, 50, 70)
    assert flow.isfinite().all()


def test_pixels_keeps_single_precision_under_autocast(network):
    first, second = noise(1, 3, 64, 64, seed=1), noise(1, 3, 64, 64, seed=2)
    with torch.no_grad():
        flow = network.pixels(first, second)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = network.pixels(first, second)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, flow, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_flow_discriminators_gradient_reaches_flow_network_and_frames():
    flow_net = fill(PWCNet())
    discriminator = RecurrentDiscriminator(
        RecurrentDiscriminatorConfig(norm="none", score="raw", width=4)
    ).requires_grad_(False)
    frame, neighbours = noise(1, 3, 64, 64, seed=1).requires_grad_(), noise(1, 2, 3, 64, 64, seed=2)
    flows = torch.stack([flow_net.pixels(neighbours[:, k], frame) for k in range(2)], dim=1)
    losses.bce_generator_loss(discriminator.forward_flow(flows, neighbours)).backward()
    assert frame.grad.abs().sum() > 0
    without = [
        name for name, p in flow_net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    assert without == []
    assert all(p.grad is None for p in discriminator.parameters())


@pytest.mark.slow
def test_checkpoint_loads_with_and_without_the_publishers_wrapping(tmp_path, network):
    state = network.state_dict()
    torch.save(state, tmp_path / "plain.pth")
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}},
        tmp_path / "nested.pth.tar",
    )
    save_file(state, tmp_path / "flow.safetensors")
    for name in ("plain.pth", "nested.pth.tar", "flow.safetensors"):
        loaded = load_pwcnet(tmp_path / name).state_dict()
        assert all(torch.equal(loaded[key], state[key]) for key in state)


@pytest.mark.slow
def test_wrong_checkpoints_are_named(tmp_path, network):
    with pytest.raises(InputError, match="does not exist"):
        load_pwcnet(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("no tensors here")
    with pytest.raises(InputError, match="is not a checkpoint"):
        load_pwcnet(tmp_path / "text.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(InputError, match="no dictionary of named tensors"):
        load_pwcnet(tmp_path / "empty.pth")
    state = network.state_dict()
    del state["dc_conv7.bias"]
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(InputError, match=r"1 missing \(dc_conv7.bias"):
        load_pwcnet(tmp_path / "cut.pth")


def test_checkpoints_cannot_run_code(tmp_path):
    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"state_dict": Payload()}, tmp_path / "hostile.pth")
    with pytest.raises(InputError, match="cannot be read"):
        load_pwcnet(tmp_path / "hostile.pth")
    assert not (tmp_path / "executed").exists()
