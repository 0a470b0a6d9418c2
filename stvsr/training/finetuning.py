"""Adversarial fine-tuning: one loop, whose arms (`stvsr.arms`) choose losses, discriminator and, for 2019's code, its faults.

`python -m stvsr.training.finetuning FOLDER` trains as FOLDER/config.json says and goes on from the folder's last
checkpoint.
"""

import copy
import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from stvsr.arms import LPIPS, Arm, definition, find_arm
from stvsr.degradation import bicubic_up
from stvsr.errors import InputError
from stvsr.models import lpips
from stvsr.models.discriminators import (
    DiscriminatorConfig,
    RecurrentDiscriminator,
    RecurrentDiscriminatorConfig,
    SingleFrameDiscriminator,
    TripletDiscriminator,
    load_srgan_start,
)
from stvsr.models.generators import PRESETS, generate, start_generator
from stvsr.models.pwcnet import load_pwcnet
from stvsr.models.spynet import load_spynet
from stvsr.models.vgg import VGGFeatures
from stvsr.runs.device import Precision, seed_everything
from stvsr.training import distributed
from stvsr.training.adversarial import Batch, Game, Players, discriminator_step, generator_step
from stvsr.training.batches import DataConfig, batches, open_dataset, sample_config, write_data
from stvsr.training.checkpoint import Checkpoint, Guard, finish
from stvsr.training.launch import main
from stvsr.training.log import Log
from stvsr.training.optimisation import OptimConfig, average_decay, learning_rate, set_learning_rate, update_average
from stvsr.training.validation import save_crop, validate, validation_batch


@dataclass(frozen=True, kw_only=True)
class FinetuningConfig:
    """One arm, one seed.

    arm: name in `stvsr.arms.ARMS`. generator, start: preset and weights that are fine-tuned.
    discriminator_width: channels of D's first layer (64 as published). discriminator_rate: its learning rate.
    discriminator_clip: norm its gradients are clipped at, 0 for none. flow_rate: learning rate of the flow network.
    flow_shrink: frames are divided by this before the flow network (PWC-Net's own output is a quarter of the size).
    fade: steps over which adversarial weights rise to their value. skip_above: D is not trained while the running gap
    of its probabilities (real minus fake) is larger. patience: steps with a gap above 0.995 after which the run stops.
    vgg, pwcnet, srgan: the user's own checkpoints (VGG19, PWC-Net, SRGAN discriminator); empty: VGG16, SPyNet, random.
    crops_every: steps between saved sample crops, 0 for none.
    """

    arm: str = "recurrent-d"
    generator: str = "rbpn-small"
    start: str = "rbpn-small"
    data: DataConfig = DataConfig(patch=24)
    optim: OptimConfig = OptimConfig(steps=100, ema=0.99)
    discriminator_width: int = 64
    discriminator_rate: float = 1e-4
    discriminator_clip: float = 5.0
    flow_rate: float = 1e-6
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
        find_arm(self.arm)
        for name in ("discriminator_rate", "flow_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}: it must be 0 or more")
        for name in ("discriminator_clip", "fade", "patience", "validate_every", "crops_every"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} is {getattr(self, name)}: it cannot be negative")
        if self.generator not in PRESETS:
            raise InputError(f"generator {self.generator!r} is unknown: choose from {', '.join(PRESETS)}")
        if self.flow_shrink not in (1, 2, 4):
            raise InputError(f"flow_shrink is {self.flow_shrink}: choose 1, 2 or 4")
        needed = find_arm(self.arm).generator
        if needed and self.generator != needed:
            raise InputError(f"arm {self.arm} fine-tunes {needed}, not {self.generator}: set generator to {needed}")

    @property
    def definition(self) -> dict:
        """What the arm's name stands for at present."""
        return definition(self.arm)


def finetune(config: FinetuningConfig, folder: Path) -> bool:
    """Fine-tune a generator as one arm says; return whether it is complete.

    Writes `log.jsonl` (every term, both scores, gradient norms), TensorBoard events, `crops/`, `checkpoint.safetensors`
    and at the end `generator.safetensors`. A second call goes on from the checkpoint, on a CPU as if uninterrupted.
    """
    arm, optim = find_arm(config.arm), config.optim
    rank = distributed.current(optim.device)
    seed_everything(optim.seed)
    players = build_players(arm, config).to(rank.device)
    averaged = copy.deepcopy(players.generator).requires_grad_(False) if optim.ema else None
    game = Game(
        arm=arm,
        players=players,
        discriminator=rank.wrap(players.discriminator) if players.discriminator else None,
        optimizers=(optimizers := build_optimizers(players, config, arm)),
        precision=Precision(optim.precision, rank.device),
        clip=optim.clip_gradient,
        discriminator_clip=config.discriminator_clip,
        flow_shrink=config.flow_shrink,
    )
    gap = Gap(config, rank)
    modules = {"gap": gap} | {name: module for name, module in players.named_children() if name != "vgg"}
    modules |= {"ema": averaged} if averaged else {}
    checkpoint = Checkpoint(folder, config, modules, optimizers, rank, ("discriminator",) if arm.accumulating else ())
    start = checkpoint.load()
    sample = replace(
        sample_config(players.generator, config.data, targets=3), hr_flow=True, four_states=arm.four_states
    )
    dataset = open_dataset(config.data, sample, optim)
    if rank.index == 0:
        write_data(folder, dataset)
    fixed = validation_batch(config.data, sample)
    generator = rank.wrap(torch.compile(players.generator) if optim.compile else players.generator)

    with Log(folder, start, rank) as log, Guard(rank) as guard:
        for step, batch in batches(dataset, optim, start, rank, config.data.workers):
            set_learning_rate(optimizers["generator"], rate := learning_rate(step, optim))
            noise = torch.Generator().manual_seed(
                optim.seed * 1_000_003 + step
            )  # of soft labels: the same after a resume
            batch = prepare(batch, arm)
            outputs = forward_generator(generator, batch, arm, game.precision)
            terms = {"learning_rate": rate}
            if players.discriminator and not gap.skip():
                terms |= discriminator_step(game, outputs, batch, noise)
            fade = min(1.0, (step + 1) / config.fade) if config.fade else 1.0
            terms |= generator_step(game, outputs, batch, noise, fade)
            update_average(averaged, players.generator, average_decay(step, optim.ema))
            terms |= gap.update(terms, step + 1)
            final = averaged or players.generator
            if config.validate_every and (step + 1) % config.validate_every == 0:
                terms |= validate(final, fixed, rank.device)
            if config.crops_every and rank.index == 0 and ((step + 1) % config.crops_every == 0 or step == 0):
                save_crop(folder / "crops" / f"step-{step + 1:06d}.png", final, fixed, rank.device)
            stop = guard.stop()
            saving = stop or (step + 1) % optim.save_every == 0
            log.write(step + 1, optim, terms, saving=saving)
            if saving:
                checkpoint.save(step + 1)
            if stop:
                return False
    finish(checkpoint, averaged or players.generator, {"task": "fine-tuning", "arm": config.arm, "start": config.start})
    return True


def build_players(arm: Arm, config: FinetuningConfig) -> Players:
    """Return the arm's networks: the generator from its start, a new discriminator, pretrained flow network and VGG."""
    # what is drawn comes first: one seed then gives every arm with such a discriminator the same one
    generator, discriminator = start_generator(config.generator, config.start), build_discriminator(arm, config)
    if hasattr(generator, "spynet"):  # BasicVSR aligns by it: what makes frames look sharp must not bend its motion
        generator.spynet.requires_grad_(False)
    flow = None
    if arm.flow_adversarial:
        flow = load_pwcnet(config.pwcnet) if config.pwcnet else load_spynet("cpu")
        flow.requires_grad_(True)
    vgg = None
    if arm.perceptual or arm.temporal_perceptual:
        network = "vgg19" if config.vgg else "vgg16"
        measured = arm.vgg_layer == LPIPS
        vgg = lpips.LPIPS("vgg").network if measured else VGGFeatures(arm.vgg_layer, network, config.vgg or None).eval()
    return Players(generator, discriminator, flow, vgg)


def build_discriminator(arm: Arm, config: FinetuningConfig) -> nn.Module | None:
    """Return the arm's discriminator, giving raw scores; None for an arm without."""
    size = {"norm": arm.norm, "score": "raw", "width": config.discriminator_width}
    if arm.discriminator == "recurrent":
        network = RecurrentDiscriminator(RecurrentDiscriminatorConfig(**size, flow_branch=arm.flow_adversarial > 0))
        if config.srgan:
            load_srgan_start(network, config.srgan)
        return network
    kinds = {"triplet": TripletDiscriminator, "single-frame": SingleFrameDiscriminator}
    return kinds[arm.discriminator](DiscriminatorConfig(**size)) if arm.discriminator in kinds else None


def build_optimizers(players: Players, config: FinetuningConfig, arm: Arm) -> dict[str, torch.optim.Optimizer]:
    """Return one Adam per network that learns."""
    settings = {
        "generator": {"lr": config.optim.learning_rate},
        "discriminator": {"lr": config.discriminator_rate, "betas": arm.betas},
        "flow": {"lr": config.flow_rate},
    }
    return {
        name: torch.optim.Adam([p for p in network.parameters() if p.requires_grad], foreach=True, **given)
        for name, given in settings.items()
        if (network := getattr(players, name)) is not None
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


class Gap(nn.Module):
    """Running gap between D's mean probabilities of truth and of fakes: who is winning, and whether it is over.

    Its state lives in buffers, so that it is part of the checkpoint. All processes see the same gap and decide alike.
    """

    def __init__(self, config: FinetuningConfig, rank: distributed.Rank):
        super().__init__()
        self.config, self.rank = config, rank
        self.register_buffer("value", torch.zeros((), dtype=torch.float64))
        self.register_buffer("certain", torch.zeros((), dtype=torch.int64))
        self.register_buffer("skipped", torch.zeros((), dtype=torch.bool))

    def skip(self) -> bool:
        """Return whether D sits this step out: it is far ahead, and was trained in the step before (so the gap stays known)."""
        self.skipped.fill_(bool(self.value > self.config.skip_above and not self.skipped))
        return bool(self.skipped)

    def update(self, terms: dict, step: int) -> dict[str, float]:
        """Follow D's scores; InputError when the gap has been almost one for too long: D has collapsed to a certainty."""
        if "score_real" not in terms:
            return {}
        now = self.rank.mean(float(terms["score_real"] - terms["score_fake"]))
        self.value.lerp_(torch.full_like(self.value, now), 0.1)
        self.certain.copy_(self.certain + 1 if self.value > 0.995 else torch.zeros_like(self.certain))
        if self.certain > self.config.patience:
            raise InputError(
                f"step {step}: the discriminator has been certain for {int(self.certain)} steps (gap {float(self.value):.3f}): "
                "lower discriminator_rate, or choose spectral norm"
            )
        return {"score_gap": float(self.value)}


if __name__ == "__main__":
    main(FinetuningConfig, finetune)
