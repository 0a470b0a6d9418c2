"""The recurrent discriminator against recorded outputs of the published one; all by shape, gradient and learning."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from procedural_weights import fill
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from stvsr import losses
from stvsr.errors import InputError
from stvsr.models.discriminators import (
    NORMS,
    DiscriminatorConfig,
    RecurrentDiscriminator,
    RecurrentDiscriminatorConfig,
    SingleFrameDiscriminator,
    TripletDiscriminator,
    load_srgan_start,
)

PARITY = Path(__file__).parents[1] / "recorded" / "recurrent_discriminator_64.npz"


@pytest.fixture(scope="module")
def recorded():
    with np.load(PARITY) as file:
        return {name: file[name] if name == "state_keys" else torch.from_numpy(file[name]) for name in file.files}


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def sample(batch=2, height=32, width=32):
    """Return frame, neighbours, flows."""
    return (
        noise(batch, 3, height, width, seed=1),
        noise(batch, 2, 3, height, width, seed=2),
        4 * noise(batch, 2, 2, height, width, seed=3) - 2,
    )


def triplet(batch=2, height=32, width=32):
    """Return frames, warped, conditions."""
    return tuple(noise(batch, 3, 3, height, width, seed=seed) for seed in (1, 2, 3))


def small(norm="none", score="raw", width=4):
    """Return every discriminator, small, with inputs that fit it."""
    torch.manual_seed(0)
    config = DiscriminatorConfig(norm=norm, score=score, width=width)
    return [
        (RecurrentDiscriminator(RecurrentDiscriminatorConfig(norm=norm, score=score, width=width)), sample),
        (TripletDiscriminator(config), triplet),
        (SingleFrameDiscriminator(config), lambda *size: sample(*size)[:1]),
    ]


def test_state_has_the_published_names_shapes_and_order(recorded):
    state = RecurrentDiscriminator().state_dict()
    assert [(name, list(value.shape)) for name, value in state.items()] == list(
        json.loads(str(recorded["state_keys"])).items()
    )


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("judged", ["frame", "flow"])
def test_scores_equal_the_published_networks(recorded, judged, mode):
    network = fill(RecurrentDiscriminator()).train(mode == "train")
    with torch.no_grad():
        if judged == "frame":
            scores = network(recorded["target"], recorded["neighbours"], recorded["flows"])
        else:
            scores = network.forward_flow(recorded["flows"], recorded["neighbours"])
    # rounding differs between processors; neighbours or flows in another order are off by 5e-6 and more
    torch.testing.assert_close(scores, recorded[f"{judged}_{mode}"], atol=2e-6, rtol=0)


def test_flows_can_be_judged_through_forward():
    network = RecurrentDiscriminator(RecurrentDiscriminatorConfig(width=4)).eval()
    _, neighbours, flows = sample()
    assert torch.equal(network(None, neighbours, flows), network.forward_flow(flows, neighbours))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(16, 16), (50, 37), (33, 64)])
@pytest.mark.parametrize("norm", NORMS)
def test_any_size_gives_one_score_per_sample(norm, size):
    for network, inputs in small(norm):
        assert network(*inputs(2, *size)).shape == (2, 1)
    recurrent, inputs = small(norm)[0]
    _, neighbours, flows = inputs(2, *size)
    assert recurrent.forward_flow(flows, neighbours).shape == (2, 1)


def test_scores_are_the_sigmoid_of_raw_scores():
    for (raw, inputs), (probability, _) in zip(small(score="raw"), small(score="sigmoid"), strict=True):
        values = inputs()
        torch.testing.assert_close(torch.sigmoid(raw(*values)), probability(*values))
        assert torch.equal(raw(*values), probability.logits(*values))


def test_width_scales_every_network():
    counts = [
        sum(p.numel() for p in RecurrentDiscriminator(RecurrentDiscriminatorConfig(width=w)).parameters())
        for w in (64, 16)
    ]
    assert 2.62e6 < counts[0] < 2.65e6
    assert counts[0] / counts[1] == pytest.approx(16, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
def test_gradients_reach_every_input_and_every_parameter_in_use(norm):
    for network, inputs in small(norm):
        values = [value.requires_grad_() for value in inputs()]
        loss = losses.bce_generator_loss(network(*values))
        if isinstance(network, RecurrentDiscriminator):
            loss = loss + losses.bce_generator_loss(network.forward_flow(values[2], values[1]))
        loss.backward()
        assert all(value.grad.abs().sum() > 0 for value in values)
        idle = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
        assert idle == [], "DistributedDataParallel would wait for these"


def test_a_frames_only_discriminator_has_no_unused_parameters_and_refuses_flows():
    network = RecurrentDiscriminator(RecurrentDiscriminatorConfig(width=4, flow_branch=False))
    frame, neighbours, flows = sample()
    network(frame, neighbours, flows).sum().backward()
    assert [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None] == []
    with pytest.raises(InputError, match="flow_branch=True"):
        network.forward_flow(flows, neighbours)


def test_frozen_discriminators_pass_gradients_on_but_keep_none():
    for network, inputs in small("batch"):
        network.requires_grad_(False)
        values = [value.requires_grad_() for value in inputs()]
        losses.bce_generator_loss(network(*values)).backward()
        assert values[0].grad.abs().sum() > 0
        assert all(p.grad is None for p in network.parameters())


@pytest.mark.slow
def test_one_backward_pass_after_several_forward_passes():
    """A step scores truth and output, frames and flows, before one backward pass: no buffer may change in between."""
    for norm in NORMS:
        network, inputs = small(norm)[0]
        frame, neighbours, flows = inputs()
        real, fake = network(frame, neighbours, flows), network(frame.flip(3), neighbours, flows)
        flow_real, flow_fake = network(None, neighbours, flows), network(None, neighbours, -flows)
        (losses.bce_discriminator_loss(real, fake) + losses.bce_discriminator_loss(flow_real, flow_fake)).backward()


def test_r1_penalty_can_be_trained_through_every_discriminator():
    for network, inputs in small("spectral"):
        values = [value.requires_grad_() for value in inputs()]
        losses.r1_penalty(network(*values), values[0]).backward()
        first = network.first if isinstance(network, TripletDiscriminator) else network.conv1
        gradient = first.parametrizations.weight.original.grad
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0


def test_spectral_norm_bounds_the_weights():
    network = SingleFrameDiscriminator(DiscriminatorConfig(norm="spectral", width=4))
    for _ in range(30):  # each pass is one power iteration
        network(noise(1, 3, 16, 16))
    for index in range(1, 9):
        weight = network.get_submodule(f"conv{index}").weight
        assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1, abs=0.05)


def test_order_and_time_matter():
    recurrent, _ = small()[0]
    frame, neighbours, flows = sample()
    assert not torch.allclose(
        recurrent(frame, neighbours, flows), recurrent(frame, neighbours.flip(1), flows.flip(1)), atol=1e-7
    )
    judge, _ = small()[1]
    frames, warped, conditions = triplet()
    assert not torch.allclose(judge(frames, warped, conditions), judge(frames, frames, conditions), atol=1e-7)


def test_judging_the_features_gives_the_score():
    for network, inputs in small()[1:]:
        values = inputs()
        features = network.features(*values)
        assert torch.equal(network.judge(features), network.logits(*values))
        assert features[0].shape[-2:] == (32, 32)
        assert features[-1].shape[-2:] == (2, 2)
    assert [len(network.features(*inputs())) for network, inputs in small()[1:]] == [5, 8]


@pytest.mark.parametrize("options", [{"norm": "layer"}, {"score": "probability"}, {"width": 0}])
def test_the_configuration_refuses_unknown_options(options):
    with pytest.raises(InputError, match=next(iter(options))):
        RecurrentDiscriminatorConfig(**options)


@pytest.mark.slow
@pytest.mark.parametrize("norm", NORMS)
def test_each_learns_to_distinguish_blurred_from_sharp(norm):
    for network, _ in small(norm, width=8):
        sharp = noise(4, 3, 3, 32, 32, seed=7)
        blurred = F.avg_pool2d(sharp.flatten(0, 1), 3, 1, 1).unflatten(0, (4, 3))
        if isinstance(network, RecurrentDiscriminator):
            flows = torch.zeros(4, 2, 2, 32, 32)
            real, fake = ((clip[:, 1], sharp[:, ::2], flows) for clip in (sharp, blurred))
        elif isinstance(network, TripletDiscriminator):
            real, fake = ((clip, clip, blurred) for clip in (sharp, blurred))
        else:
            real, fake = (sharp[:, 1],), (blurred[:, 1],)
        optimiser = torch.optim.Adam(network.parameters(), 1e-3)
        for _ in range(40):
            optimiser.zero_grad()
            losses.bce_discriminator_loss(network(*real), network(*fake)).backward()
            optimiser.step()
        assert network(*real).min() > network(*fake).max() + 0.4, type(network).__name__


class SequenceSRGAN(nn.Module):
    """The first layers of an SRGAN discriminator written as one sequence, with the modules numbered."""

    def __init__(self):
        super().__init__()
        layers = [nn.Conv2d(3, 64, 3, 1, 1), nn.LeakyReLU(0.2)]
        for inputs, outputs, stride in [(64, 64, 2), (64, 128, 1), (128, 128, 2), (128, 256, 1), (256, 256, 2)]:
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)]
        self.net = nn.Sequential(*layers)


@pytest.mark.slow
def test_srgan_start_takes_the_six_convolutions_and_their_norms(tmp_path):
    srgan = fill(SingleFrameDiscriminator())
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in srgan.state_dict().items()}}, tmp_path / "srgan.pth"
    )
    save_file(srgan.state_dict(), tmp_path / "srgan.safetensors")
    for name in ("srgan.pth", "srgan.safetensors"):
        network = RecurrentDiscriminator()
        before = network.convmerge.weight.clone()
        load_srgan_start(network, tmp_path / name)
        for index in range(1, 7):
            assert torch.equal(network.get_submodule(f"conv{index}").weight, srgan.get_submodule(f"conv{index}").weight)
        assert torch.equal(network.bn4.running_var, srgan.bn4.running_var)
        assert torch.equal(network.convmerge.weight, before)
        assert all(p.requires_grad for name, p in network.named_parameters() if not name.startswith("bnmerge"))


def test_srgan_start_reads_the_numbered_layout(tmp_path):
    source = fill(SequenceSRGAN())
    torch.save(source.state_dict(), tmp_path / "netD.pth")
    network = RecurrentDiscriminator()
    load_srgan_start(network, tmp_path / "netD.pth")
    assert torch.equal(network.conv1.weight, source.net[0].weight)
    assert torch.equal(network.conv6.weight, source.net[14].weight)
    assert torch.equal(network.bn6.running_mean, source.net[15].running_mean)


@pytest.mark.slow
def test_srgan_start_goes_below_the_spectral_norm(tmp_path):
    srgan = fill(SingleFrameDiscriminator())
    torch.save(srgan.state_dict(), tmp_path / "srgan.pth")
    network = RecurrentDiscriminator(RecurrentDiscriminatorConfig(norm="spectral"))
    load_srgan_start(network, tmp_path / "srgan.pth")
    assert torch.equal(network.conv3.parametrizations.weight.original, srgan.conv3.weight)


def test_srgan_start_names_what_does_not_fit(tmp_path):
    network = RecurrentDiscriminator(RecurrentDiscriminatorConfig(width=8))
    with pytest.raises(InputError, match="does not exist"):
        load_srgan_start(network, tmp_path / "none.pth")
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="not an SRGAN discriminator"):
        load_srgan_start(network, tmp_path / "other.pth")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.save(SingleFrameDiscriminator(DiscriminatorConfig(width=16)).state_dict(), tmp_path / "wide.pth")
    with pytest.raises(InputError, match="same width"):
        load_srgan_start(network, tmp_path / "wide.pth")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
