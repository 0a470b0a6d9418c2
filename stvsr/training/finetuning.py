"""Adversarial fine-tuning: one loop whose arms (`stvsr.arms`) choose losses, discriminator and 2019's faults.

`python -m stvsr.training.finetuning FOLDER` trains by FOLDER/config.json and resumes from the folder's last checkpoint.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from stvsr import losses
from stvsr.arms import ARMS, Arm, find_arm
from stvsr.degradation import bicubic_up
from stvsr.errors import InputError, unknown
from stvsr.models import lpips
from stvsr.models.discriminators import (
    DiscriminatorConfig,
    RecurrentDiscriminator,
    RecurrentDiscriminatorConfig,
    SingleFrameDiscriminator,
    TripletDiscriminator,
    load_srgan_start,
)
from stvsr.models.generators import PRESETS, Generator, generate, start_generator
from stvsr.models.pwcnet import load_pwcnet
from stvsr.models.spynet import load_spynet
from stvsr.models.vgg import VGGFeatures
from stvsr.runs.device import Precision, seed_everything
from stvsr.training import distributed
from stvsr.training.adversarial import AdversarialState, MicroBatch, Networks, discriminator_step, generator_step
from stvsr.training.batches import Batch, DataConfig, micro_batches, sample_config
from stvsr.training.from_parameters import build_config
from stvsr.training.launch import main
from stvsr.training.optimisation import OptimConfig
from stvsr.training.session import Session


@dataclass(frozen=True, kw_only=True)
class FinetuningConfig:
    """One arm, one seed.

    arm: of `stvsr.arms.ARMS`, or an edited copy. generator, initial_weights: preset and weights that are fine-tuned.
    discriminator_width: channels of D's first layer (64 as published). discriminator_learning_rate: its learning rate.
    discriminator_clip: norm its gradients are clipped at, 0 for none. flow_learning_rate: of the flow network.
    flow_shrink: frames are divided by this before the flow network (PWC-Net's own output is a quarter of the size).
    fade: steps over which adversarial weights rise to their value. skip_above: D is not trained while the running gap
    of its probabilities (real minus fake) is larger. patience: steps with a gap above 0.995 after which the run stops.
    vgg, pwcnet, srgan: the user's own checkpoints (VGG19, PWC-Net, SRGAN discriminator); empty: VGG16, SPyNet, random.
    crops_every: steps between saved sample crops, 0 for none.
    """

    arm: Arm = ARMS["recurrent-d"]
    generator: str = "rbpn-small"
    initial_weights: str = "rbpn-small"
    data: DataConfig = DataConfig(patch=24)
    optim: OptimConfig = OptimConfig(steps=100, ema=0.99)
    discriminator_width: int = 64
    discriminator_learning_rate: float = 1e-4
    discriminator_clip: float = 5.0
    flow_learning_rate: float = 1e-6
    flow_shrink: int = 2
    fade: int = 10
    skip_above: float = 0.9
    patience: int = 1000
    vgg: str = ""
    pwcnet: str = ""
    srgan: str = ""
    validate_every: int = 50
    crops_every: int = 50

    def __post_init__(self):
        for name in ("discriminator_learning_rate", "flow_learning_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}: it must be 0 or more")
        for name in ("discriminator_clip", "fade", "patience", "validate_every", "crops_every"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} is {getattr(self, name)}: it cannot be negative")
        self.optim.require_validation(self.validate_every)
        if not self.skip_above >= -1:
            raise InputError(f"skip_above is {self.skip_above}: a difference of probabilities, at least -1")
        if self.discriminator_width < 1:
            raise InputError(f"discriminator_width is {self.discriminator_width}: it must be at least 1")
        if self.generator not in PRESETS:
            raise unknown("generator", self.generator, PRESETS)
        if self.flow_shrink not in (1, 2, 4):
            raise InputError(f"flow_shrink is {self.flow_shrink}: choose 1, 2 or 4")
        needed = self.arm.generator
        if needed and self.generator != needed:
            raise InputError(
                f"arm {self.arm.name} fine-tunes {needed}, not {self.generator}: set generator to {needed}"
            )


def finetuning_config(parameters: Mapping[str, object]) -> FinetuningConfig:
    """Return the configuration of notebook 03 from its variables, `globals()`; other names are ignored.

    Raises:
        InputError: a value is not allowed.
    """
    named = {"arm": find_arm(str(parameters["arm"]))} if "arm" in parameters else {}
    config: FinetuningConfig = build_config(FinetuningConfig, {**parameters, **named})
    return config


def finetune(config: FinetuningConfig, folder: Path) -> bool:
    """Fine-tune a generator by one arm; return whether it is complete.

    Writes `log.jsonl` (every term, both scores, gradient norms), TensorBoard events, `crops/`, `checkpoint.safetensors`
    and at the end `generator.safetensors`. A second call resumes from the checkpoint, on a CPU as if uninterrupted.
    """
    arm, optim = config.arm, config.optim
    rank = distributed.current(optim.device)
    seed_everything(optim.seed)
    networks = build_networks(arm, config).to(rank.device)
    rank.synchronise(networks)
    optimizers = build_optimizers(networks, config, arm)
    precision = Precision(optim.precision, rank.device)
    state = AdversarialState(
        arm=arm,
        networks=networks,
        ddp_discriminator=rank.wrap(networks.discriminator) if networks.discriminator else None,
        optimizers=optimizers,
        precision=precision,
        clip=optim.clip_gradient,
        discriminator_clip=config.discriminator_clip,
        flow_shrink=config.flow_shrink,
        processes=rank.world,
    )
    gap = ScoreGap(config, rank)
    sample = sample_config(networks.generator, config.data, targets=3)
    session = Session(
        config,
        folder,
        rank=rank,
        generator=cast(Generator, networks.generator),  # `build_networks` made it
        modules={"gap": gap} | {name: module for name, module in networks.named_children() if name != "vgg"},
        optimizers=optimizers,
        sample=replace(sample, hr_flow=True, four_states=arm.four_states),
        meta={"task": "fine-tuning", "arm": arm.name, "start": config.initial_weights},
        keep_gradients_of=("discriminator",) if arm.accumulating else (),
        crops_every=config.crops_every,
    )
    generator = rank.wrap(networks.generator, compile=optim.compile)

    with session:
        for step, batch in session.batches():
            noise = losses.SharedDraws()  # of labels: the same after a resume, and for any number of processes
            noise.index, noise.processes = rank.index, rank.world
            noise.manual_seed(optim.seed * 1_000_003 + step)
            fade = min(1.0, (step + 1) / config.fade) if config.fade else 1.0
            parts = micro_batches(prepare(batch, arm), optim.accumulate)
            train_d = bool(networks.discriminator) and not gap.skip()
            terms: dict[str, Tensor | float] = {**update(state, generator, parts, noise, fade, discriminator=train_d)}
            terms |= gap.update(terms, step + 1)
            if session.end_step(step, terms):
                return False
    session.finish()
    return True


def update(
    state: AdversarialState,
    generator: nn.Module,
    parts: list[Batch],
    noise: torch.Generator,
    fade: float,
    *,
    discriminator: bool,
) -> dict[str, Tensor]:
    """Update D (if `discriminator`), then G; return the mean of each term over the micro-batches.

    Several micro-batches are generated once for D, without a graph, and again for G: their graphs together would take
    the memory that dividing the batch saves.
    """
    arm, precision, logged = state.arm, state.precision, []
    micros = [MicroBatch(index=index, count=len(parts)) for index in range(len(parts))]
    with torch.set_grad_enabled(len(parts) == 1):
        outputs = [
            forward_generator(generator, part, arm, precision) for part in parts if discriminator or len(parts) == 1
        ]
    if discriminator:
        for micro, part, output in zip(micros, parts, outputs, strict=True):
            logged.append(discriminator_step(state, output, part, noise, micro))
    for micro, part in zip(micros, parts, strict=True):
        output = outputs[0] if len(parts) == 1 else forward_generator(generator, part, arm, precision)
        logged.append(generator_step(state, output, part, noise, fade, micro))
    return means(logged)


def means(logged: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of each name over the entries that have it."""
    names = dict.fromkeys(name for entry in logged for name in entry)
    return {name: torch.stack([entry[name] for entry in logged if name in entry]).mean() for name in names}


def build_networks(arm: Arm, config: FinetuningConfig) -> Networks:
    """Return the arm's networks: the generator with its weights, a new discriminator, pretrained flow network, VGG."""
    # what is drawn comes first: one seed then gives every arm with such a discriminator the same one
    generator, discriminator = (
        start_generator(config.generator, config.initial_weights),
        build_discriminator(arm, config),
    )
    flow = None
    if arm.flow_adversarial:
        flow = load_pwcnet(config.pwcnet) if config.pwcnet else load_spynet("cpu")
        flow.requires_grad_(True)
    perceptual = build_perceptual(arm, config) if arm.perceptual or arm.temporal_perceptual else None
    return Networks(generator, discriminator, flow, perceptual)


def build_perceptual(arm: Arm, config: FinetuningConfig) -> nn.Module:
    """Return the network of the arm's perceptual loss: LPIPS by VGG16, or features of VGG16 or the user's VGG19."""
    if arm.perceptual_loss == "lpips":
        return lpips.LPIPS("vgg").network
    return VGGFeatures(arm.vgg_layer, "vgg19" if config.vgg else "vgg16", config.vgg or None).eval()


def build_discriminator(arm: Arm, config: FinetuningConfig) -> nn.Module | None:
    """Return the arm's discriminator, giving raw scores; None for an arm without."""
    norm, width = arm.norm, config.discriminator_width
    if arm.discriminator == "recurrent":
        network = RecurrentDiscriminator(
            RecurrentDiscriminatorConfig(norm=norm, score="raw", width=width, flow_branch=arm.flow_adversarial > 0)
        )
        if config.srgan:
            load_srgan_start(network, config.srgan)
        return network
    kinds = {"triplet": TripletDiscriminator, "single-frame": SingleFrameDiscriminator}
    if arm.discriminator not in kinds:
        return None
    return kinds[arm.discriminator](DiscriminatorConfig(norm=norm, score="raw", width=width))


def build_optimizers(networks: Networks, config: FinetuningConfig, arm: Arm) -> dict[str, torch.optim.Optimizer]:
    """Return one Adam per network that learns."""
    settings: dict[str, dict] = {
        "generator": {"lr": config.optim.learning_rate},
        "discriminator": {"lr": config.discriminator_learning_rate, "betas": arm.discriminator_betas},
        "flow": {"lr": config.flow_learning_rate},
    }
    return {
        name: torch.optim.Adam([p for p in network.parameters() if p.requires_grad], foreach=True, **given)
        for name, given in settings.items()
        if (network := getattr(networks, name)) is not None
    }


def prepare(batch: Batch, arm: Arm) -> Batch:
    """Cut the batch to the frames that the arm generates, and enlarge its LR triplet for the triplet discriminator."""
    lr, truth = batch["lr"], batch["hr"]
    first = (lr.shape[1] - 3) // 2
    batch = batch | {"truth": truth}
    if arm.discriminator == "triplet":
        triplet = lr[:, first : first + 3]
        scale = truth.shape[-1] // lr.shape[-1]
        batch["conditions"] = bicubic_up(triplet.flatten(0, 1), scale).unflatten(0, triplet.shape[:2])
    if arm.targets == 1:
        batch["hr"] = truth[:, 1:2]
        if "flows" in batch:  # a windowed generator: drop the outer frames, which only the outer targets need
            batch["lr"], batch["flows"] = lr[:, 1:-1], batch["flows"][:, 1:2]
    return batch


def forward_generator(generator: nn.Module, batch: Batch, arm: Arm, precision: Precision) -> list[Tensor]:
    """Return G's frames (B, targets, 3, H, W), and for ping-pong the same frames with windows read backwards."""
    flows = batch.get("flows")
    with precision.autocast():
        outputs = [generate(generator, batch["lr"], flows, arm.targets)]
        if arm.ping_pong:
            backwards = None if flows is None else flows.flip(1, 2)
            outputs.append(generate(generator, batch["lr"].flip(1), backwards, arm.targets).flip(1))
    return [output.float() for output in outputs]


class ScoreGap(nn.Module):
    """Moving average of D(real) - D(fake), used to skip D's updates and to stop a run whose D has saturated.

    Its state lives in buffers, so that it is part of the checkpoint. All processes see the same value.
    """

    value: Tensor
    certain: Tensor
    skipped: Tensor

    def __init__(self, config: FinetuningConfig, rank: distributed.Rank):
        super().__init__()
        self.config, self.rank = config, rank
        self.register_buffer("value", torch.zeros((), dtype=torch.float64))
        self.register_buffer("certain", torch.zeros((), dtype=torch.int64))
        self.register_buffer("skipped", torch.zeros((), dtype=torch.bool))

    def skip(self) -> bool:
        """Return whether to skip D's update: the gap is large, and D was updated in the step before."""
        self.skipped.fill_(bool(self.value > self.config.skip_above and not self.skipped))
        return bool(self.skipped)

    def update(self, terms: dict, step: int) -> dict[str, float]:
        """Update from D's scores and return the gap; InputError when it has been almost 1 for `patience` steps."""
        if "score_real" not in terms:
            return {}
        now = self.rank.mean(float(terms["score_real"] - terms["score_fake"]))
        self.value.lerp_(torch.full_like(self.value, now), 0.1)
        self.certain.copy_(self.certain + 1 if self.value > 0.995 else torch.zeros_like(self.certain))
        if self.certain > self.config.patience:
            raise InputError(
                f"step {step}: the discriminator has been certain for {int(self.certain)} steps "
                f"(gap {float(self.value):.3f}): "
                "lower discriminator_learning_rate, or choose spectral norm"
            )
        return {"score_gap": float(self.value)}


if __name__ == "__main__":
    main(FinetuningConfig, finetune)
