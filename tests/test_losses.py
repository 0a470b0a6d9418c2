"""Each loss against its closed form or a formula written out anew."""

import itertools
import math
import re

import pytest
import torch

from stvsr import losses
from stvsr.errors import InputError
from stvsr.metrics import perceptual
from stvsr.models.lpips import LPIPS

SCORES = torch.tensor([[2.0], [-1.0], [0.5]])
OTHERS = torch.tensor([[-0.5], [1.5], [0.0]])


def test_fidelity_losses_have_their_closed_forms():
    output, target = torch.tensor([0.0, 0.5, 1.0]).view(1, 3, 1, 1), torch.tensor([0.3, 0.5, 0.6]).view(1, 3, 1, 1)
    assert losses.pixel_loss(output, target).item() == pytest.approx(0.7 / 3, abs=1e-6)
    assert losses.squared_loss(output, target).item() == pytest.approx(0.25 / 3, abs=1e-6)
    charbonnier = sum(math.sqrt(d * d + 0.01) for d in (0.3, 0.0, 0.4)) / 3
    assert losses.charbonnier_loss(output, target, epsilon=0.1).item() == pytest.approx(charbonnier, abs=1e-6)


def test_charbonnier_has_a_gradient_where_both_agree():
    output = torch.zeros(4, requires_grad=True)
    losses.charbonnier_loss(output, torch.zeros(4)).backward()
    assert output.grad.isfinite().all()


def test_perceptual_loss_is_the_squared_feature_difference_and_moves_only_the_output():
    output, target = (
        torch.full((1, 3, 2, 2), 0.5, requires_grad=True),
        torch.full((1, 3, 2, 2), 0.25, requires_grad=True),
    )
    loss = losses.perceptual_loss(output, target, lambda image: 4 * image.mean(1, keepdim=True))
    assert loss.item() == pytest.approx(1.0, abs=1e-6)
    loss.backward()
    assert output.grad.abs().sum() > 0
    assert target.grad is None


def test_total_variation_of_a_ramp():
    ramp = torch.arange(5.0).view(1, 1, 1, 5).expand(2, 3, 4, 5) / 10
    assert losses.total_variation(ramp).item() == pytest.approx(2 * 0.01, abs=1e-7)
    assert losses.total_variation(torch.full((1, 3, 4, 4), 0.7)).item() == 0


def test_bce_discriminator_loss_is_the_papers_equation():
    expected = -torch.sigmoid(SCORES).log().mean() - (1 - torch.sigmoid(OTHERS)).log().mean()
    torch.testing.assert_close(losses.bce_discriminator_loss(SCORES, OTHERS), expected, atol=1e-6, rtol=0)


def test_bce_generator_loss_is_the_papers_equation():
    torch.testing.assert_close(
        losses.bce_generator_loss(OTHERS), -torch.sigmoid(OTHERS).log().mean(), atol=1e-6, rtol=0
    )


def test_hinge_losses_have_their_closed_forms():
    # real: max(0, 1 - (2, -1, .5)) = 0, 2, .5; fake: max(0, 1 + (-.5, 1.5, 0)) = .5, 2.5, 1
    assert losses.DISCRIMINATOR_LOSSES["hinge"](SCORES, OTHERS).item() == pytest.approx(2.5 / 3 + 4 / 3, abs=1e-6)
    assert losses.GENERATOR_LOSSES["hinge"](OTHERS).item() == pytest.approx(-1 / 3, abs=1e-6)


@pytest.mark.parametrize("kind", losses.DISCRIMINATOR_LOSSES)
def test_adversarial_losses_pull_scores_apart_and_stay_finite_when_d_is_sure(kind):
    real, fake = torch.full((2, 1), 300.0, requires_grad=True), torch.full((2, 1), -300.0, requires_grad=True)
    loss = losses.GENERATOR_LOSSES[kind](fake)
    loss.backward()
    assert loss.isfinite()
    assert (fake.grad < 0).all(), "a fake that D rejects must be pulled up, also where the sigmoid is flat"
    wrong = losses.DISCRIMINATOR_LOSSES[kind](fake.detach(), real.detach())
    right = losses.DISCRIMINATOR_LOSSES[kind](real.detach(), fake.detach())
    assert wrong.isfinite()
    assert right.item() == pytest.approx(0, abs=1e-6)
    assert wrong > right


@pytest.mark.parametrize("kind", losses.DISCRIMINATOR_LOSSES)
def test_half_precision_scores_give_single_precision_losses(kind):
    real, fake = SCORES.bfloat16(), OTHERS.bfloat16()
    assert losses.DISCRIMINATOR_LOSSES[kind](real, fake).dtype == torch.float32
    assert losses.GENERATOR_LOSSES[kind](fake).dtype == torch.float32


def test_soft_labels_stay_in_their_ranges_and_follow_the_seed():
    scores = torch.zeros(1000, 1)
    real, again = (
        losses.draw_labels(scores, losses.SOFT_LABELS.real, torch.Generator().manual_seed(5)) for _ in range(2)
    )
    other = losses.draw_labels(scores, losses.SOFT_LABELS.real, torch.Generator().manual_seed(6))
    fake = losses.draw_labels(scores, losses.SOFT_LABELS.fake, torch.Generator().manual_seed(5))
    assert torch.equal(real, again)
    assert not torch.equal(real, other)
    assert 0.7 <= real.min() < 0.71 and 0.99 < real.max() <= 1.0
    assert 0.0 <= fake.min() < 0.01 and 0.29 < fake.max() <= 0.3


def test_soft_labels_enter_the_cross_entropy():
    generator, twin = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    loss = losses.bce_discriminator_loss(SCORES, OTHERS, labels=losses.SOFT_LABELS, generator=generator)
    expected = 0
    for scores, (low, high) in ((SCORES, (0.7, 1.0)), (OTHERS, (0.0, 0.3))):
        label, probability = low + (high - low) * torch.rand(3, 1, generator=twin), torch.sigmoid(scores)
        expected -= (label * probability.log() + (1 - label) * (1 - probability).log()).mean()
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("ranges", [{"real": (0.7, 1.2)}, {"fake": (-0.1, 0.3)}, {"real": (0.9, 0.8)}])
def test_labels_that_are_no_probabilities_are_refused(ranges):
    with pytest.raises(InputError, match="labels range from"):
        losses.Labels(**ranges)


def test_hinge_refuses_soft_labels():
    with pytest.raises(InputError, match="no labels to soften"):
        losses.DISCRIMINATOR_LOSSES["hinge"](SCORES, OTHERS, labels=losses.SOFT_LABELS)
    with pytest.raises(InputError, match="no labels to soften"):
        losses.GENERATOR_LOSSES["hinge"](OTHERS, labels=losses.SOFT_LABELS)


def test_r1_penalty_of_a_quadratic_score_and_its_gradient():
    a, b = torch.tensor([[1.0, 2.0], [0.0, 3.0]], requires_grad=True), torch.tensor([[1.0], [1.0]], requires_grad=True)
    weight = torch.tensor(2.0, requires_grad=True)
    scores = weight * (a**2).sum(1, keepdim=True) / 2 + 3 * b  # gradients: weight a, and 3
    penalty = losses.r1_penalty(scores, [a, b])
    assert penalty.item() == pytest.approx((4 * 5 + 9 + 4 * 9 + 9) / 2, abs=1e-5)
    penalty.backward()
    assert weight.grad.item() == pytest.approx(2 * 2 * (5 + 9) / 2, abs=1e-5)


def test_feature_matching_averages_layers_and_leaves_the_real_side_alone():
    fake = [torch.ones(1, 2, 4, 4, requires_grad=True), torch.zeros(1, 8, 2, 2, requires_grad=True)]
    real = [torch.zeros(1, 2, 4, 4, requires_grad=True), torch.full((1, 8, 2, 2), 3.0, requires_grad=True)]
    loss = losses.feature_matching_loss(fake, real)
    assert loss.item() == pytest.approx((1 + 3) / 2)
    loss.backward()
    assert all(layer.grad is None for layer in real)
    assert all(layer.grad.abs().sum() > 0 for layer in fake)


def test_ping_pong_is_zero_only_where_both_directions_agree():
    outputs = torch.rand(2, 3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert losses.ping_pong_loss(outputs, outputs.clone()) == 0
    assert losses.ping_pong_loss(outputs, outputs + 0.1).item() == pytest.approx(0.01, abs=1e-6)


def test_every_equation_of_the_study_has_its_functions():
    named = {
        name: re.findall(r"Equation \((\d)\)", value.__doc__ or "")
        for name, value in vars(losses).items()
        if callable(value) and getattr(value, "__module__", "") == losses.__name__
    }
    assert {name: found for name, found in named.items() if found} == {
        "pixel_loss": ["1"],
        "perceptual_loss": ["2"],
        "bce_discriminator_loss": ["3", "4"],
        "bce_generator_loss": ["3", "4"],
    }


@pytest.mark.slow
def test_lpips_as_a_loss_is_the_metric_and_its_gradient_reaches_the_output_only():
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (2, 2, 32, 32, 3), generator=generator, dtype=torch.uint8).numpy()
    output, target = (torch.from_numpy(part).movedim(-1, 1).float() / 255 for part in frames)
    network = LPIPS("vgg").network
    loss = losses.lpips_loss(output.requires_grad_(), target, network)
    wanted = sum(perceptual.lpips(*pair, net="vgg") for pair in zip(*frames, strict=True)) / 2
    assert loss.item() == pytest.approx(wanted, rel=1e-4)  # batched and in another order
    loss.backward()
    assert output.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())
    assert losses.lpips_loss(target, target, network).item() == 0


@pytest.mark.slow
def test_temporal_lpips_of_a_still_video_is_the_truths_own_change_and_otherwise_tlp_bounds_it_from_below():
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (2, 3, 32, 32, 3), generator=generator, dtype=torch.uint8)
    frames[0] = frames[0] // 4 + 96  # of less contrast than the truth
    output, target = (part.movedim(-1, 1)[None].float() / 255 for part in frames)
    network = LPIPS("vgg").network

    def change(video: torch.Tensor) -> float:
        return sum(perceptual.lpips(*pair, net="vgg") for pair in itertools.pairwise(video.numpy())) / 2

    loss = losses.temporal_lpips_loss(output.requires_grad_(), target, network)
    loss.backward()
    assert output.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in network.parameters())
    changes = [change(video) for video in frames]
    assert loss.item() > abs(changes[0] - changes[1]) > 0
    still = target[:, :1].expand_as(target)
    assert losses.temporal_lpips_loss(still, target, network).item() == pytest.approx(changes[1], rel=1e-4)
    backwards = target.flip(1)[:, :2], target[:, 1:]  # one pair, which is no less changed when it is seen backwards
    assert losses.temporal_lpips_loss(*backwards, network).item() == pytest.approx(0, abs=1e-6)
