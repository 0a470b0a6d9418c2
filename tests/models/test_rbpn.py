"""RBPN against recorded outputs of the published code, by size, scale, option and gradient."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from procedural_weights import fill

from stvsr.degradation import bicubic_up
from stvsr.errors import InputError
from stvsr.models.generators import generate
from stvsr.models.rbpn import RBPN, RBPNConfig

DATA = Path(__file__).parents[1] / "recorded"
TINY = {"base_filter": 4, "feat": 2, "num_stages": 2, "n_resblock": 1}


def inputs(batch=2, neighbours=4, height=6, width=9, seed=0):
    """Return target, neighbours, flows."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.rand(batch, neighbours + 1, 3, height, width, generator=generator)
    flows = 2 * torch.rand(batch, neighbours, 2, height, width, generator=generator) - 1
    return frames[:, 0], frames[:, 1:], flows


def build(**changes) -> RBPN:
    torch.manual_seed(0)
    return RBPN(RBPNConfig(**{**TINY, "num_frames": 5, **changes}))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rbpn_x4_small", "rbpn_x8_small"])
def test_parity_with_the_published_code(name):
    with np.load(DATA / f"{name}.npz") as file:
        recorded = {key: file[key] for key in file.files}
    sizes = dict(
        zip(
            ("base_filter", "feat", "num_stages", "n_resblock", "num_frames", "scale"),
            recorded["config"].tolist(),
            strict=True,
        )
    )
    network = fill(RBPN(RBPNConfig(**sizes))).eval()
    names = [(key, list(value.shape)) for key, value in network.state_dict().items()]
    assert names == list(json.loads(str(recorded["state_keys"])).items())
    with torch.inference_mode():
        output = network(*(torch.from_numpy(recorded[key]) for key in ("target", "neighbours", "flows"))).numpy()
    difference = np.abs(output - recorded["output"]).max()
    assert difference < 1e-4
    assert difference < 1e-4 * recorded["output"].std()


def test_the_published_size_has_the_published_names_shapes_and_count():
    network = RBPN()
    published = json.loads((DATA / "rbpn_x4_published_keys.json").read_text())
    assert {name: list(value.shape) for name, value in network.state_dict().items()} == published
    assert sum(parameter.numel() for parameter in network.parameters()) == 12_771_943


@pytest.mark.slow
@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("num_frames", [3, 5, 7])
def test_scales_windows_and_odd_sizes(scale, num_frames):
    target, neighbours, flows = inputs(neighbours=num_frames - 1, height=5, width=7)
    output = build(scale=scale, num_frames=num_frames)(target, neighbours, flows)
    assert output.shape == (2, 3, 5 * scale, 7 * scale)
    assert output.isfinite().all()


def test_residual_starts_at_bicubic_and_keeps_adding_it():
    network, sample = build(residual=True), inputs()
    bicubic = bicubic_up(sample[0], 4)
    assert torch.allclose(network(*sample), bicubic, atol=1e-6)
    plain = build()
    plain.load_state_dict(network.state_dict())
    for module in (network, plain):
        fill(module)
    assert torch.allclose(network(*sample) - bicubic, plain(*sample), atol=1e-5)


def test_the_batch_does_not_mix_its_samples():
    """Neighbours are batched with samples inside: each sample alone gives the same."""
    network, (target, neighbours, flows) = build(), inputs(batch=3)
    together = network(target, neighbours, flows)
    for index in range(3):
        alone = network(*(part[index : index + 1] for part in (target, neighbours, flows)))
        assert torch.allclose(together[index : index + 1], alone, atol=1e-5)


def test_batching_over_neighbours_equals_the_loop_of_the_paper():
    """H_k = H_sisr + res(e), L_k = down(H_k), one neighbour after the other (section 3 of the paper)."""
    network, (target, neighbours, flows) = fill(build()), inputs()
    low, highs = network.feat0(target), []
    for k in range(4):
        pair = torch.cat([target, neighbours[:, k], flows[:, k]], dim=1)
        multi = network.res_feat1(network.feat1(pair))
        single = network.DBPN(low)
        highs.append(single + network.res_feat2(single - multi))
        low = network.res_feat3(highs[-1])
    expected = network.output(torch.cat(highs, dim=1))
    assert torch.allclose(network(target, neighbours, flows), expected, atol=1e-5)


def test_every_parameter_and_every_input_gets_a_gradient():
    network, sample = fill(build()), [part.requires_grad_() for part in inputs()]
    network(*sample).square().mean().backward()
    silent = [
        name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert silent == []
    assert all(part.grad.flatten(1).abs().sum(1).min() > 0 for part in sample)


def test_initial_weights_are_kaiming_with_zero_biases():
    network = build(base_filter=64, feat=32)
    convolution = network.res_feat1[0].conv1
    assert convolution.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
    assert all(not value.any() for name, value in network.named_parameters() if name.endswith("bias"))


def test_a_window_of_another_length_is_refused():
    target, neighbours, flows = inputs(neighbours=6)
    with pytest.raises(InputError, match=r"built for 4 neighbours and flows, got 6 and 6"):
        build()(target, neighbours, flows)
    with pytest.raises(InputError, match=r"got 4 and 3"):
        build()(target, neighbours[:, :4], flows[:, :3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_filter": 0}, "base_filter is 0"),
        ({"n_resblock": 0}, "n_resblock is 0"),
        ({"num_frames": 6}, "num_frames is 6: it must be odd"),
        ({"num_frames": 1}, "num_frames is 1"),
        ({"scale": 3}, "scale is 3: choose from 2, 4, 8"),
    ],
)
def test_a_config_names_what_is_wrong(changes, message):
    with pytest.raises(InputError, match=message):
        RBPNConfig(**changes)


@pytest.mark.slow
def test_generate_makes_each_target_from_its_own_window():
    """Three targets of a run of seven frames are what three single calls give."""
    network = fill(build())
    generator = torch.Generator().manual_seed(1)
    lr = torch.rand(2, 7, 3, 6, 6, generator=generator)
    flows = torch.rand(2, 3, 4, 2, 6, 6, generator=generator)
    outputs = generate(network, lr, flows, 3)
    assert outputs.shape == (2, 3, 3, 24, 24)
    for k in range(3):
        window = lr[:, k : k + 5]
        expected = network(window[:, 2], window[:, [0, 1, 3, 4]], flows[:, k])
        assert torch.allclose(outputs[:, k], expected, atol=1e-5)
