"""One step of the adversarial game: what the discriminator sees, how it learns, and what it teaches the generator."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stvsr import losses
from stvsr.arms import LPIPS, Arm
from stvsr.runs.device import Precision
from stvsr.training import distributed
from stvsr.training.optimisation import clip_and_step
from stvsr.warp import warp

FIDELITY = {"l1": losses.pixel_loss, "charbonnier": losses.charbonnier_loss, "squared": losses.squared_loss}


Batch = dict[str, Tensor]


class Players(nn.Module):
    """The networks of one arm; those that it does not use are None."""

    def __init__(
        self, generator: nn.Module, discriminator: nn.Module | None, flow: nn.Module | None, vgg: nn.Module | None
    ):
        super().__init__()
        self.generator, self.discriminator, self.flow, self.vgg = generator, discriminator, flow, vgg


@dataclass(frozen=True, kw_only=True)
class Game:
    """An arm, its networks and their optimisers.

    discriminator: `players.discriminator`, averaging gradients over processes. clip, discriminator_clip: gradient
    norms. flow_shrink: frames are divided by this before the flow network.
    """

    arm: Arm
    players: Players
    discriminator: nn.Module | None
    optimizers: dict[str, torch.optim.Optimizer]
    precision: Precision
    clip: float = 0.0
    discriminator_clip: float = 0.0
    flow_shrink: int = 1


def view(frames: Tensor, batch: Batch, arm: Arm) -> tuple[Tensor, ...]:
    """Return what the arm's discriminator is given to judge `frames` (B, 1 or 3, 3, H, W), in the order of its arguments.

    The recurrent discriminator gets the middle frame beside true neighbours and true flows, as in equation (3).
    """
    middle = frames[:, frames.shape[1] // 2]
    if arm.discriminator == "single-frame":
        return (middle,)
    if arm.blind:  # each frame three times: (3B, 3, 3, H, W), nothing moves
        repeated, conditions = (
            part.flatten(0, 1)[:, None].expand(-1, 3, -1, -1, -1) for part in (frames, batch["conditions"])
        )
        return repeated, repeated, conditions
    flows = batch["hr_flows"]
    if arm.discriminator == "recurrent":
        return middle, batch["truth"][:, [0, 2]], flows
    warped = torch.stack([warp(frames[:, 0], flows[:, 0]), frames[:, 1], warp(frames[:, 2], flows[:, 1])], dim=1)
    return frames, warped, batch["conditions"]


WRONG_ORDERS = ((1, 0, 2), (0, 2, 1), (2, 1, 0))  # of the frames t-1, t, t+1


def shuffled_view(batch: Batch, arm: Arm, noise: torch.Generator) -> tuple[Tensor, ...]:
    """Return the true triplets and their LR frames in a wrong order, warped by the flows of the right one: incoherent motion."""
    drawn = torch.randint(len(WRONG_ORDERS), (len(batch["truth"]),), generator=noise)
    order = torch.tensor(WRONG_ORDERS)[drawn].to(batch["truth"].device)  # (B, 3)
    rows = torch.arange(len(order), device=order.device)[:, None]
    return view(batch["truth"][rows, order], batch | {"conditions": batch["conditions"][rows, order]}, arm)


def estimate_flows(network: nn.Module, frames: Tensor, shrink: int) -> Tensor:
    """Return differentiable flows from the middle frame to its neighbours, pixels: (B, 3, 3, H, W) -> (B, 2, 2, H, W)."""
    estimate = getattr(network, "pixels", network)  # PWC-Net's own output is at quarter size, in units of 20 px
    small = F.avg_pool2d(frames.flatten(0, 1), shrink).unflatten(0, frames.shape[:2])
    flows = [estimate(small[:, 1], small[:, k]) for k in (0, 2)]
    large = [
        F.interpolate(flow, size=frames.shape[-2:], mode="bilinear", align_corners=False) * shrink for flow in flows
    ]
    return torch.stack(large, dim=1)


def discriminator_step(game: Game, outputs: list[Tensor], batch: Batch, noise: torch.Generator) -> dict[str, Tensor]:
    """Train D on detached outputs, equations (3) and (4); return its named losses and mean probabilities."""
    arm, discriminator = game.arm, game.discriminator
    optimizer = game.optimizers["discriminator"]
    if not arm.accumulating:
        optimizer.zero_grad(set_to_none=True)
    truth, fake = batch["truth"], outputs[0].detach()
    real_view = [
        part.detach().requires_grad_(arm.r1 > 0) for part in view(truth, batch, arm)
    ]  # the batch itself stays as it is
    labels = losses.SOFT_LABELS if arm.soft_labels else losses.HARD_LABELS
    with game.precision.autocast():
        real_scores = discriminator(*real_view)
        fake_scores = discriminator(*view(fake, batch, arm))
        loss = losses.frame_discrimination_loss(real_scores, fake_scores, kind=arm.kind, labels=labels, generator=noise)
        if arm.shuffled:  # half of the fakes are true frames in a wrong order
            wrong_scores = discriminator(*shuffled_view(batch, arm, noise))
            wrong = losses.frame_discrimination_loss(
                real_scores, wrong_scores, kind=arm.kind, labels=labels, generator=noise
            )
            loss = (loss + wrong) / 2
        terms = {
            "discriminator": loss,
            "score_real": real_scores.sigmoid().mean(),
            "score_fake": fake_scores.sigmoid().mean(),
        }
        terms |= {"score_shuffled": wrong_scores.sigmoid().mean()} if arm.shuffled else {}
        if arm.flow_adversarial:
            around = batch["truth"][:, [0, 2]]
            with torch.no_grad():
                flows = [estimate_flows(game.players.flow, frames, game.flow_shrink) for frames in (truth, fake)]
            real_flow, fake_flow = (discriminator(None, around, flow) for flow in flows)
            terms["flow_discriminator"] = losses.flow_discrimination_loss(
                real_flow, fake_flow, kind=arm.kind, labels=labels, generator=noise
            )
            terms |= {"score_real_flow": real_flow.sigmoid().mean(), "score_fake_flow": fake_flow.sigmoid().mean()}
            loss = loss + terms["flow_discriminator"]
    if arm.r1:
        terms["r1"] = losses.r1_penalty(real_scores, real_view)
        loss = loss + arm.r1 / 2 * terms["r1"]
    loss.backward()
    terms["gradient_discriminator"] = clip_and_step(optimizer, game.discriminator_clip)
    return {name: value.detach() for name, value in terms.items()}


def generator_step(
    game: Game, outputs: list[Tensor], batch: Batch, noise: torch.Generator, fade: float = 1.0
) -> dict[str, Tensor]:
    """Train G (and the flow network) with D frozen; return its named losses and each term's gradient norm into G.

    Every term is differentiated up to G's output; the sum then passes G once. So each term's pull is known at no cost.
    """
    arm, players, optimizers = game.arm, game.players, game.optimizers
    leaves = [output.detach().requires_grad_() for output in outputs]
    if players.discriminator:
        players.discriminator.requires_grad_(arm.accumulating)
    with game.precision.autocast():
        terms = generator_terms(game, leaves, batch, noise)
    said, gradients = {}, [torch.zeros_like(leaf) for leaf in leaves]
    optimizers["generator"].zero_grad(set_to_none=True)
    if players.flow:
        optimizers["flow"].zero_grad(set_to_none=True)
    learned = [*leaves, *(players.flow.parameters() if players.flow else [])]
    for name, (weight, term) in terms.items():
        weight = weight * (fade if "adversarial" in name else 1.0)
        weighted = weight * term.float()
        if "adversarial" in name and arm.accumulating:  # the 2019 code: G's loss teaches D that fakes are real
            weighted.backward(inputs=list(players.discriminator.parameters()), retain_graph=True)
        pulls = (
            torch.autograd.grad(weighted, learned, allow_unused=True, retain_graph=True)
            if weighted.requires_grad
            else []
        )
        into = [pull if pull is not None else torch.zeros_like(leaf) for pull, leaf in zip(pulls, leaves, strict=False)]
        gradients = [total + pull for total, pull in zip(gradients, into, strict=False)] if into else gradients
        said |= {name: term.detach(), f"gradient_{name}": norm(into)}
        for parameter, pull in zip(learned[len(leaves) :], pulls[len(leaves) :], strict=False):
            if pull is not None:
                parameter.grad = pull if parameter.grad is None else parameter.grad + pull
    torch.autograd.backward(outputs, gradients)
    said["gradient_generator"] = clip_and_step(optimizers["generator"], game.clip)
    if players.flow:
        distributed.average_gradients(players.flow)
        clip_and_step(optimizers["flow"], 0.0)
    if players.discriminator:
        players.discriminator.requires_grad_(True)
    return said


def generator_terms(
    game: Game, leaves: list[Tensor], batch: Batch, noise: torch.Generator
) -> dict[str, tuple[float, Tensor]]:
    """Return G's weighted terms by name, (weight, value): equations (1) to (4) and those of the stronger arms."""
    arm = game.arm
    output, truth = leaves[0], batch["hr"]
    terms = {"pixel": (arm.pixel, FIDELITY[arm.fidelity](output, truth))}
    images, wanted = output.flatten(0, 1), truth.flatten(0, 1)
    if arm.perceptual:
        inputs = [image / image.detach().amax() if arm.vgg_input == "maximum" else image for image in (images, wanted)]
        distance = losses.lpips_loss if arm.vgg_layer == LPIPS else losses.perceptual_loss
        terms["perceptual"] = arm.perceptual, distance(*inputs, game.players.vgg)
    if arm.temporal_perceptual:
        terms["temporal_perceptual"] = (
            arm.temporal_perceptual,
            losses.temporal_lpips_loss(output, truth, game.players.vgg),
        )
    if arm.total_variation:
        terms["total_variation"] = arm.total_variation, losses.total_variation(images)
    if arm.ping_pong:
        terms["ping_pong"] = arm.ping_pong, losses.ping_pong_loss(*leaves)
    if arm.discriminator != "none":
        terms |= adversarial_terms(game, output.detach() if arm.detached else output, batch, noise)
    return terms


def adversarial_terms(
    game: Game, judged: Tensor, batch: Batch, noise: torch.Generator
) -> dict[str, tuple[float, Tensor]]:
    """Return what D's opinion of G's frames adds: equations (3) and (4), and feature matching."""
    arm, network, labels = (
        game.arm,
        game.players.discriminator,
        losses.SOFT_LABELS if game.arm.soft_labels else losses.HARD_LABELS,
    )
    chosen = {"kind": arm.kind, "labels": labels, "generator": noise}
    fake_view, terms = view(judged, batch, arm), {}
    if arm.feature_matching:
        with torch.no_grad():
            real_features = network.features(*view(batch["truth"], batch, arm))
        fake_features = network.features(*fake_view)
        fake_scores, real_scores = network.judge(fake_features), network.judge(real_features)
        terms["feature_matching"] = arm.feature_matching, losses.feature_matching_loss(fake_features, real_features)
    else:
        fake_scores, real_scores = network.logits(*fake_view), None
        if arm.kind == "relativistic":
            with torch.no_grad():
                real_scores = network.logits(*view(batch["truth"], batch, arm))
    terms["adversarial"] = arm.adversarial, losses.frame_adversarial_loss(fake_scores, real_scores, **chosen)
    if arm.flow_adversarial:
        flows = estimate_flows(game.players.flow, judged, game.flow_shrink)
        scores = network.flow_logits(flows, batch["truth"][:, [0, 2]])
        terms["flow_adversarial"] = arm.flow_adversarial, losses.flow_adversarial_loss(scores, **chosen)
    return terms


def norm(tensors: list[Tensor]) -> Tensor:
    """Return the Euclidean norm of several tensors together, 0 for none."""
    return torch.stack([tensor.float().norm() for tensor in tensors]).norm() if tensors else torch.zeros(())
