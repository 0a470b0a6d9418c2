"""One adversarial step outside the training loop: the networks, one batch and the generator's output, to look at."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import default_collate

from stvsr.runs.device import Precision, pick_device, seed_everything
from stvsr.training.adversarial import (
    AdversarialState,
    discriminator_inputs,
    discriminator_step,
    generator_terms,
    gradients_of,
)
from stvsr.training.batches import Batch, open_dataset, sample_config
from stvsr.training.finetuning import FinetuningConfig, build_networks, build_optimizers, forward_generator, prepare


@dataclass(frozen=True, kw_only=True)
class FirstStep:
    """What `finetuning.finetune` holds before its first update, for one arm.

    batch: of the first step, prepared for the arm. outputs: the generator's frames (B, targets, 3, H, W), with their
    graph. noise: seeds the labels.
    """

    state: AdversarialState
    batch: Batch
    outputs: list[Tensor]
    noise: torch.Generator


def prepare_first_step(config: FinetuningConfig) -> FirstStep:
    """Build an arm's networks, draw its first batch and generate; arms of one seed get the same weights and batch."""
    arm, device = config.arm, pick_device(config.optim.device)
    seed_everything(config.optim.seed)
    networks = build_networks(arm, config).to(device)
    state = AdversarialState(
        arm=arm,
        networks=networks,
        ddp_discriminator=networks.discriminator,
        optimizers=build_optimizers(networks, config, arm),
        precision=Precision("full", device),
        clip=config.optim.clip_gradient,
        discriminator_clip=config.discriminator_clip,
        flow_shrink=config.flow_shrink,
    )
    sample = replace(sample_config(networks.generator, config.data, targets=3), hr_flow=True)
    dataset = open_dataset(config.data, sample, config.optim)
    drawn = default_collate([dataset[i] for i in range(config.optim.batch)])
    batch = prepare({name: tensor.to(device) for name, tensor in drawn.items()}, arm)
    outputs = forward_generator(networks.generator, batch, arm, state.precision)
    return FirstStep(state=state, batch=batch, outputs=outputs, noise=torch.Generator().manual_seed(config.optim.seed))


def gradient_maps(step: FirstStep) -> dict[str, Tensor]:
    """Return each weighted term's gradient at the generator's output: (B, targets, 3, H, W), zeros for none."""
    outputs = [output.detach().requires_grad_() for output in step.outputs]
    maps = {}
    for name, term in generator_terms(step.state, outputs, step.batch, step.noise).items():
        found = gradients_of(term.weight * term.value, outputs)[0]  # terms share D's features: the graph is kept
        maps[name] = torch.zeros_like(outputs[0]) if found is None else found
    return maps


def parameter_gradient(step: FirstStep, name: str) -> float:
    """Return the norm of one weighted term's gradient over all weights of the generator, 0 where none arrives."""
    term = generator_terms(step.state, step.outputs, step.batch, step.noise)[name]
    loss = term.weight * term.value
    if not loss.requires_grad:
        return 0.0
    weights = list(step.state.networks.generator.parameters())
    found = torch.autograd.grad(loss, weights, allow_unused=True, retain_graph=True)
    return float(torch.stack([part.norm() for part in found if part is not None] or [torch.zeros(())]).norm())


def train_discriminator_only(config: FinetuningConfig, steps: int) -> pd.DataFrame:
    """Train an arm's discriminator against a generator that stays as it is; return `step`, `score_real`, `score_fake`.

    A discriminator that learns gives the generator a direction; one that cannot tell the two apart gives it noise.
    """
    config = replace(config, optim=replace(config.optim, steps=max(steps, config.optim.steps)))
    first = prepare_first_step(config)
    sample = replace(sample_config(first.state.networks.generator, config.data, targets=3), hr_flow=True)
    dataset, size, rows = open_dataset(config.data, sample, config.optim), config.optim.batch, []
    for step in range(steps):
        batch = prepare(default_collate([dataset[step * size + i] for i in range(size)]), first.state.arm)
        batch = {name: tensor.to(first.outputs[0].device) for name, tensor in batch.items()}
        with torch.no_grad():
            outputs = forward_generator(first.state.networks.generator, batch, first.state.arm, first.state.precision)
        scores = discriminator_step(first.state, outputs, batch, first.noise)
        rows.append({"step": step + 1} | {name: float(scores[name]) for name in ("score_real", "score_fake")})
    return pd.DataFrame(rows)


def judged_scores(step: FirstStep) -> dict[str, float]:
    """Return D's mean probability for the true and for the generated frames of the batch, D in evaluation mode."""
    network: Any = copy.deepcopy(step.state.networks.discriminator)  # classes that share `logits`, not a base
    network.eval()
    frames = {"true": step.batch["truth"], "generated": step.outputs[0].detach()}
    with torch.no_grad():
        return {
            name: float(network.logits(*discriminator_inputs(value, step.batch, step.state.arm)).sigmoid().mean())
            for name, value in frames.items()
        }
