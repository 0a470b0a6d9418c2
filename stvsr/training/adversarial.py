"""One adversarial training step: discriminator inputs, discriminator update, generator update."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stvsr import losses
from stvsr.arms import Arm
from stvsr.runs.device import Precision
from stvsr.training import distributed
from stvsr.training.batches import Batch
from stvsr.training.optimisation import clip_and_step
from stvsr.warp import warp

WRONG_ORDERS = ((1, 0, 2), (0, 2, 1), (2, 1, 0))  # of the frames t-1, t, t+1


class Networks(nn.Module):
    """The networks of one arm; those that it does not use are None. `vgg` measures the perceptual loss."""

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module | None = None,
        flow: nn.Module | None = None,
        vgg: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.generator, self.discriminator, self.flow, self.vgg = generator, discriminator, flow, vgg


@dataclass(frozen=True, kw_only=True)
class AdversarialState:
    """An arm, its networks and their optimisers.

    ddp_discriminator: `networks.discriminator`, averaging gradients over processes; None for an arm without.
    clip, discriminator_clip: norms at which gradients of G and of D are clipped, 0 for no limit.
    flow_shrink: frames are divided by this before the flow network.
    processes: over which the batch is shared.
    """

    arm: Arm
    networks: Networks
    ddp_discriminator: nn.Module | None
    optimizers: dict[str, torch.optim.Optimizer]
    precision: Precision
    clip: float = 0.0
    discriminator_clip: float = 0.0
    flow_shrink: int = 1
    processes: int = 1

    @property
    def labels(self) -> losses.Labels:
        """Labels of the arm's cross-entropy."""
        return losses.SOFT_LABELS if self.arm.soft_labels else losses.HARD_LABELS


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """One of `count` equal parts of a batch: the first zeroes the gradients, the last makes the update."""

    index: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether the update begins here."""
        return self.index == 0

    @property
    def last(self) -> bool:
        """Whether the update ends here."""
        return self.index == self.count - 1


WHOLE = MicroBatch()  # the batch in one


@dataclass(frozen=True, kw_only=True)
class Term:
    """One term of the generator's loss. `adversarial`: it depends on a discriminator's score, and is faded in."""

    weight: float
    value: Tensor
    adversarial: bool = False


# What the discriminator sees


def discriminator_inputs(frames: Tensor, batch: Batch, arm: Arm) -> tuple[Tensor, ...]:
    """Return the arguments with which the arm's discriminator judges `frames` (B, 1 or 3, 3, H, W).

    single-frame: the middle frame (B, 3, H, W). recurrent: the middle frame, the TRUE neighbours (B, 2, 3, H, W) and
    the true flows (B, 2, 2, H, W), as in equation (3). triplet: three frames, the same warped onto the middle one, and
    the enlarged LR frames, (B, 3, 3, H, W) each. blind: each of the three frames repeated, (3B, 3, 3, H, W).
    """
    middle = frames[:, frames.shape[1] // 2]
    if arm.discriminator == "single-frame":
        return (middle,)
    if arm.blind:
        repeated, conditions = (
            part.flatten(0, 1)[:, None].expand(-1, 3, -1, -1, -1) for part in (frames, batch["conditions"])
        )
        return repeated, repeated, conditions
    flows = batch["hr_flows"]  # (B, 2, 2, H, W)
    if arm.discriminator == "recurrent":
        return middle, batch["truth"][:, [0, 2]], flows
    warped = torch.stack([warp(frames[:, 0], flows[:, 0]), frames[:, 1], warp(frames[:, 2], flows[:, 1])], dim=1)
    return frames, warped, batch["conditions"]


def shuffled_inputs(batch: Batch, arm: Arm, noise: torch.Generator) -> tuple[Tensor, ...]:
    """Return true triplets and their LR frames in a wrong order, warped by the flows of the right order."""
    drawn = losses.draw_share(
        lambda rows: torch.randint(len(WRONG_ORDERS), (rows,), generator=noise), len(batch["truth"]), noise
    )
    order = torch.tensor(WRONG_ORDERS)[drawn].to(batch["truth"].device)  # (B, 3)
    rows = torch.arange(len(order), device=order.device)[:, None]
    return discriminator_inputs(
        batch["truth"][rows, order], batch | {"conditions": batch["conditions"][rows, order]}, arm
    )


def estimate_flows(network: nn.Module, frames: Tensor, shrink: int) -> Tensor:
    """Return differentiable flows from the middle frame to its neighbours, pixels.

    Frames (B, 3, 3, H, W) -> flows (B, 2, 2, H, W), estimated at 1 / `shrink` of the size.
    """
    estimate = getattr(network, "pixels", network)  # PWC-Net's own output is at quarter size, in units of 20 px
    small = F.avg_pool2d(frames.flatten(0, 1), shrink).unflatten(0, frames.shape[:2])
    flows = [estimate(small[:, 1], small[:, k]) for k in (0, 2)]
    large = [F.interpolate(flow, size=frames.shape[-2:], mode="bilinear", align_corners=False) for flow in flows]
    return torch.stack([flow * shrink for flow in large], dim=1)


# The discriminator's update


def discriminator_step(
    state: AdversarialState, outputs: list[Tensor], batch: Batch, noise: torch.Generator, micro: MicroBatch = WHOLE
) -> dict[str, Tensor]:
    """Train D on detached outputs, equations (3) and (4); return its named losses and mean probabilities."""
    arm, discriminator = state.arm, state.ddp_discriminator
    assert discriminator is not None
    optimizer = state.optimizers["discriminator"]
    if micro.first and not arm.accumulating:
        optimizer.zero_grad(set_to_none=True)
    truth, generated = batch["truth"], outputs[0].detach()
    discriminator_loss = losses.DISCRIMINATOR_LOSSES[arm.adversarial_loss]
    # detached, so that the gradient penalty's request does not mark the batch itself
    real = [part.detach().requires_grad_(arm.r1 > 0) for part in discriminator_inputs(truth, batch, arm)]
    with state.precision.autocast():
        real_scores = discriminator(*real)
        fake_scores = discriminator(*discriminator_inputs(generated, batch, arm))
        loss = discriminator_loss(real_scores, fake_scores, state.labels, noise)
        terms = {
            "discriminator": loss,
            "score_real": real_scores.sigmoid().mean(),
            "score_fake": fake_scores.sigmoid().mean(),
        }
        if arm.shuffled:  # half of the fakes are true frames in a wrong order
            shuffled_scores = discriminator(*shuffled_inputs(batch, arm, noise))
            loss = (loss + discriminator_loss(real_scores, shuffled_scores, state.labels, noise)) / 2
            terms |= {"discriminator": loss, "score_shuffled": shuffled_scores.sigmoid().mean()}
        if arm.flow_adversarial:
            flow_terms = flow_discriminator_terms(state, truth, generated, noise)
            terms |= flow_terms
            loss = loss + flow_terms["flow_discriminator"]
    if arm.r1:
        terms["r1"] = losses.r1_penalty(real_scores, real)
        loss = loss + arm.r1 / 2 * terms["r1"]
    (loss / micro.count).backward()
    if micro.last:
        terms["gradient_discriminator"] = clip_and_step(optimizer, state.discriminator_clip)
    return {name: value.detach() for name, value in terms.items()}


def flow_discriminator_terms(
    state: AdversarialState, truth: Tensor, generated: Tensor, noise: torch.Generator
) -> dict[str, Tensor]:
    """Return D's loss on flows, equation (4), and its mean probabilities; frames (B, 3, 3, H, W)."""
    discriminator, flow = state.ddp_discriminator, state.networks.flow
    assert discriminator is not None and flow is not None
    neighbours = truth[:, [0, 2]]
    with torch.no_grad():
        flows = [estimate_flows(flow, frames, state.flow_shrink) for frames in (truth, generated)]
    real_scores, fake_scores = (discriminator(None, neighbours, each) for each in flows)
    loss = losses.DISCRIMINATOR_LOSSES[state.arm.adversarial_loss](real_scores, fake_scores, state.labels, noise)
    return {
        "flow_discriminator": loss,
        "score_real_flow": real_scores.sigmoid().mean(),
        "score_fake_flow": fake_scores.sigmoid().mean(),
    }


# The generator's update


def generator_step(
    state: AdversarialState,
    outputs: list[Tensor],
    batch: Batch,
    noise: torch.Generator,
    fade: float = 1.0,
    micro: MicroBatch = WHOLE,
) -> dict[str, Tensor]:
    """Train G (and the flow network) with D frozen; return its losses and each term's gradient norm at G's output.

    Each term is back-propagated to G's output only, which yields its gradient norm; the summed gradient is then
    back-propagated through G once.

    Args:
        state: the arm and its networks.
        outputs: what G made, (B, targets, 3, H, W), for ping-pong twice.
        batch: `truth`, `hr` and what the discriminator needs (`finetuning.prepare`).
        noise: seeds the labels.
        fade: factor of the adversarial terms, from 0 to 1 in the first steps.
        micro: which share of the update's batch this is.
    """
    arm, networks, optimizers = state.arm, state.networks, state.optimizers
    generated = [output.detach().requires_grad_() for output in outputs]
    flow_parameters = list(networks.flow.parameters()) if networks.flow else []
    if networks.discriminator:
        networks.discriminator.requires_grad_(arm.accumulating)
    with state.precision.autocast():
        terms = generator_terms(state, generated, batch, noise)
    if micro.first:
        optimizers["generator"].zero_grad(set_to_none=True)
    if micro.first and networks.flow:
        optimizers["flow"].zero_grad(set_to_none=True)

    logged: dict[str, Tensor] = {}
    gradients_at_output = [torch.zeros_like(output) for output in generated]
    for name, term in terms.items():
        loss = term.weight * (fade if term.adversarial else 1.0) * term.value.float() / micro.count
        if term.adversarial and arm.accumulating and networks.discriminator:
            # the 2019 code: G's loss also adds to D's gradients, with the wrong labels
            loss.backward(inputs=list(networks.discriminator.parameters()), retain_graph=True)
        gradients = gradients_of(loss, [*generated, *flow_parameters])
        at_output = [
            torch.zeros_like(output) if gradient is None else gradient
            for output, gradient in zip(generated, gradients, strict=False)
        ]
        gradients_at_output = [total + own for total, own in zip(gradients_at_output, at_output, strict=True)]
        accumulate(flow_parameters, gradients[len(generated) :])
        # a loss is the mean over this process's share: the root makes the norm that of the whole batch, on average
        logged |= {
            name: term.value.detach(),
            f"gradient_{name}": norm(at_output) / (state.processes / micro.count) ** 0.5,
        }

    torch.autograd.backward(outputs, gradients_at_output)
    if micro.last:
        logged["gradient_generator"] = clip_and_step(optimizers["generator"], state.clip)
    if micro.last and networks.flow:
        distributed.average_gradients(networks.flow)
        clip_and_step(optimizers["flow"], 0.0)
    if networks.discriminator:
        networks.discriminator.requires_grad_(True)
    return logged


def generator_terms(
    state: AdversarialState, generated: list[Tensor], batch: Batch, noise: torch.Generator
) -> dict[str, Term]:
    """Return G's terms by name: equations (1) to (4) and those of the stronger arms."""
    arm = state.arm
    vgg: Any = state.networks.vgg
    output, truth = generated[0], batch["hr"]  # (B, targets, 3, H, W)
    terms = {"pixel": Term(weight=arm.pixel, value=losses.PIXEL_LOSSES[arm.pixel_loss](output, truth))}
    images, true_images = output.flatten(0, 1), truth.flatten(0, 1)  # (B targets, 3, H, W)
    if arm.perceptual:
        if arm.vgg_input == "maximum":
            images = images / distributed.maximum(images.detach().amax())
            true_images = true_images / distributed.maximum(true_images.amax())
        distance = losses.lpips_loss if arm.perceptual_loss == "lpips" else losses.perceptual_loss
        terms["perceptual"] = Term(weight=arm.perceptual, value=distance(images, true_images, vgg))
    if arm.temporal_perceptual:
        value = losses.temporal_lpips_loss(output, truth, vgg)
        terms["temporal_perceptual"] = Term(weight=arm.temporal_perceptual, value=value)
    if arm.total_variation:
        terms["total_variation"] = Term(weight=arm.total_variation, value=losses.total_variation(output.flatten(0, 1)))
    if arm.ping_pong:
        terms["ping_pong"] = Term(weight=arm.ping_pong, value=losses.ping_pong_loss(*generated))
    if arm.discriminator != "none":
        terms |= adversarial_terms(state, output.detach() if arm.detached else output, batch, noise)
    return terms


def adversarial_terms(state: AdversarialState, frames: Tensor, batch: Batch, noise: torch.Generator) -> dict[str, Term]:
    """Return the terms that depend on D's score of G's frames: equations (3) and (4), and feature matching."""
    arm = state.arm
    network: Any = state.networks.discriminator
    generator_loss = losses.GENERATOR_LOSSES[arm.adversarial_loss]
    fake, terms = discriminator_inputs(frames, batch, arm), {}
    if arm.feature_matching:
        with torch.no_grad():
            real_features = network.features(*discriminator_inputs(batch["truth"], batch, arm))
        fake_features = network.features(*fake)
        fake_scores = network.judge(fake_features)
        value = losses.feature_matching_loss(fake_features, real_features)
        terms["feature_matching"] = Term(weight=arm.feature_matching, value=value)
    else:
        fake_scores = network.logits(*fake)
    value = generator_loss(fake_scores, state.labels, noise)
    terms["adversarial"] = Term(weight=arm.adversarial, value=value, adversarial=True)
    if arm.flow_adversarial:
        assert state.networks.flow is not None
        flows = estimate_flows(state.networks.flow, frames, state.flow_shrink)
        value = generator_loss(network.flow_logits(flows, batch["truth"][:, [0, 2]]), state.labels, noise)
        terms["flow_adversarial"] = Term(weight=arm.flow_adversarial, value=value, adversarial=True)
    return terms


def gradients_of(loss: Tensor, inputs: list[Tensor]) -> tuple[Tensor | None, ...]:
    """Return d loss / d input for each input, None where the loss does not depend on it; the graph is kept."""
    if not loss.requires_grad:
        return (None,) * len(inputs)
    return torch.autograd.grad(loss, inputs, allow_unused=True, retain_graph=True)


def accumulate(parameters: list[nn.Parameter], gradients: tuple[Tensor | None, ...]) -> None:
    """Add gradients to those that the parameters have."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def norm(tensors: list[Tensor]) -> Tensor:
    """Return the Euclidean norm of several tensors together."""
    return torch.stack([tensor.float().norm() for tensor in tensors]).norm()
