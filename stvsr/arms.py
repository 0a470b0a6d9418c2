"""The arms of the study: each a row of parameters of the one loop in `training.finetuning`, never a copied file.

Results of experiments behind the numbers are in reports/experiments.md.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stvsr import losses
from stvsr.errors import InputError, unknown

DISCRIMINATORS = ("none", "recurrent", "triplet", "single-frame")
PERCEPTUAL_LOSSES = ("vgg", "lpips")
PROSE = ("label", "kind", "description", "twin")  # fields that change no result
VGG_INPUTS = ("imagenet", "maximum")
WEIGHTS = ("pixel", "perceptual", "temporal_perceptual", "total_variation", "adversarial", "flow_adversarial",
           "feature_matching", "ping_pong", "r1")  # fmt: skip
KINDS = ("control", "arm", "adversarial", "ladder")
DOSES = (0.008, 0.032, 0.128)  # adversarial weights of the study of time, each four times the one before
ALIASES = {"seed-faithful": "original-faithful"}  # earlier names that study files may still use


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What one arm minimises, what its discriminator sees, and how the report presents it.

    Weights of the generator's terms:
        pixel, perceptual, temporal_perceptual, total_variation, adversarial, flow_adversarial, feature_matching,
        ping_pong. `adversarial` is the dose of the discriminator.

    Losses:
        pixel_loss: l1, charbonnier or squared.
        perceptual_loss: vgg (squared difference of features) or lpips (that distance, by VGG16).
        vgg_layer: layer of the VGG loss. vgg_input: `imagenet`, or `maximum` (divided by the batch's maximum, 2019).
        adversarial_loss: bce or hinge. soft_labels: labels from U(0.7, 1) and U(0, 0.3), for bce.

    Discriminator:
        discriminator: none, recurrent, triplet or single-frame. norm: batch, spectral or none.
        discriminator_betas: of its Adam. r1: weight of its gradient penalty.
        blind: the triplet discriminator sees each frame three times, so that it cannot see time.
        shuffled: true triplets in a wrong order are additional fakes for the triplet discriminator.

    Faults of the 2019 code:
        detached: the adversarial terms see a detached output, so that none of their gradient reaches G.
        accumulating: D's gradients are never zeroed, and G's loss adds its own to them, with the wrong labels.
        four_states: augmentation reaches 4 of the 8 dihedral states and never reverses time.

    Study:
        twin: the arm with the same losses and dose 0, against which a discriminator's effect is measured.
        num_targets: consecutive frames that G makes per sample, 1 or 3; 0 for as many as the losses need.
        generator: preset that must be fine-tuned; empty for the study's.
        name: the arm's key in ARMS; empty for an edited arm that is not in the table.
        label, kind, description: for tables and figures; `kind` is one of KINDS.

    Raises:
        InputError: parameters contradict each other.
    """

    pixel: float = 1.0
    perceptual: float = 0.0
    temporal_perceptual: float = 0.0
    total_variation: float = 0.0
    adversarial: float = 0.0
    flow_adversarial: float = 0.0
    feature_matching: float = 0.0
    ping_pong: float = 0.0
    pixel_loss: str = "l1"
    perceptual_loss: str = "vgg"
    vgg_layer: str = "relu3_1"
    vgg_input: str = "imagenet"
    adversarial_loss: str = "bce"
    soft_labels: bool = True
    discriminator: str = "none"
    norm: str = "batch"
    discriminator_betas: tuple[float, float] = (0.9, 0.999)
    r1: float = 0.0
    blind: bool = False
    shuffled: bool = False
    detached: bool = False
    accumulating: bool = False
    four_states: bool = False
    twin: str = ""
    num_targets: int = 0
    generator: str = ""
    name: str = ""
    label: str = ""
    kind: str = "adversarial"
    description: str = ""

    def __post_init__(self) -> None:
        choices = {
            "discriminator": DISCRIMINATORS,
            "pixel_loss": tuple(losses.PIXEL_LOSSES),
            "perceptual_loss": PERCEPTUAL_LOSSES,
            "vgg_input": VGG_INPUTS,
            "adversarial_loss": tuple(losses.DISCRIMINATOR_LOSSES),
            "kind": KINDS,
        }
        for field, known in choices.items():
            if getattr(self, field) not in known:
                raise unknown(field, getattr(self, field), known)
        self._check_numbers()
        if self.flow_adversarial and self.discriminator != "recurrent":
            raise InputError(
                "the flow discriminator is the recurrent one's second head: choose discriminator recurrent"
            )
        if self.adversarial and self.discriminator == "none":
            raise InputError("an adversarial weight needs a discriminator: choose one, or weight 0")
        if self.ping_pong and self.discriminator != "triplet":
            raise InputError("the ping-pong loss goes with the triplet discriminator's three frames: choose triplet")
        if (self.blind or self.shuffled) and self.discriminator != "triplet":
            raise InputError("blind and shuffled describe what the triplet discriminator sees: choose triplet")
        if self.blind and self.shuffled:
            raise InputError("a discriminator that is blind to time cannot see a wrong order: choose one of the two")
        if self.num_targets not in (0, 1, 3) or 0 < self.num_targets < self._needed_targets:
            raise InputError(f"num_targets is {self.num_targets}: 3, or 0 for as many as the losses need")
        if self.temporal_perceptual and self.perceptual_loss != "lpips":
            raise InputError("the temporal perceptual loss measures change by LPIPS: set perceptual_loss to lpips")
        if self.adversarial_loss == "hinge" and self.soft_labels:
            raise InputError("hinge losses have no labels: set soft_labels to false")

    def _check_numbers(self) -> None:
        for field in WEIGHTS:
            if not 0 <= getattr(self, field) < math.inf:
                raise InputError(f"{field} is {getattr(self, field)}: a weight of 0 or more")
        if not all(0 <= beta < 1 for beta in self.discriminator_betas):
            raise InputError(f"discriminator_betas is {self.discriminator_betas}: two numbers in [0, 1)")

    @property
    def targets(self) -> int:
        """Frames that G makes per sample: three where a loss looks at several of them."""
        return self.num_targets or self._needed_targets

    @property
    def _needed_targets(self) -> int:
        return 3 if self.flow_adversarial or self.temporal_perceptual or self.discriminator == "triplet" else 1

    @property
    def sees_time(self) -> bool:
        """Whether its discriminator gets several frames and an adversarial gradient reaches G."""
        return self.discriminator in ("recurrent", "triplet") and not self.blind and not self.detached


# Weights of the published code with flow. Without flow it used 0.001, 0.006 and 0.05: its two runs do not isolate flow.
PUBLISHED: dict[str, Any] = {"pixel": 1.0, "perceptual": 0.006, "adversarial": 1e-3}
_FAULTS: dict[str, Any] = {"vgg_input": "maximum", "detached": True, "accumulating": True, "four_states": True}
# Spectral norm: batch norm sees true and generated batches apart and removes what distinguishes them.
# Betas: with Adam's usual momentum, G and D oscillate around each other.
_HINGE: dict[str, Any] = {
    "discriminator": "triplet",
    "norm": "spectral",
    "adversarial_loss": "hinge",
    "soft_labels": False,
    "discriminator_betas": (0.5, 0.99),
    "r1": 0.1,
}
_MODERN: dict[str, Any] = {"pixel": 1.0, "perceptual": 0.006, "adversarial": 0.008, "feature_matching": 0.1, **_HINGE}
_LPIPS: dict[str, Any] = {**_MODERN, "perceptual": 0.1, "perceptual_loss": "lpips"}
_BASICVSR: dict[str, Any] = {**_LPIPS, "adversarial": 0.012, "generator": "basicvsr"}


def _rung(label: str, description: str, **changes: Any) -> Arm:
    """Return one rung of the ladder from the 2019 code to `recurrent-d`: its faults that are left."""
    fields: dict[str, Any] = {**PUBLISHED, "discriminator": "recurrent", **_FAULTS, **changes}
    return Arm(**fields, label=label, kind="ladder", description=description)


def _study_of_time(dose: float) -> dict[str, Arm]:
    """Return the arms of one dose: one architecture that is shown different things, and the 2019 discriminator.

    No feature matching: the discriminator acts on the generator through one term only.
    """
    shared: dict[str, Any] = {
        "perceptual": 0.006,
        **_HINGE,
        "adversarial": dose,
        "num_targets": 3,
        "twin": "temporal-twin",
    }
    recurrent: dict[str, Any] = {"discriminator": "recurrent", "r1": 0.0}
    rows: dict[str, tuple[str, dict[str, Any], str]] = {
        "blind": ("blind to time", {"blind": True}, "triplet discriminator that sees each frame three times"),
        "triplet": ("sees time", {}, "triplet discriminator that sees three frames, raw and warped"),
        "shuffled": ("sees time, shuffled fakes", {"shuffled": True}, "true frames in a wrong order are also fakes"),
        "recurrent": (
            "recurrent D",
            recurrent,
            "the recurrent discriminator of 2019 with spectral norm and hinge loss",
        ),
    }
    return {
        f"{name}-{dose:g}": Arm(
            **{**shared, **changes}, label=f"{label}, {dose:g}", description=f"{what}; dose {dose:g}"
        )
        for name, (label, changes, what) in rows.items()
    }


ARMS: dict[str, Arm] = {
    "pixel-control": Arm(
        label="pixel control",
        kind="control",
        description="the same extra steps with the pixel loss only",
    ),
    "perceptual": Arm(
        perceptual=0.006,
        label="perceptual",
        kind="arm",
        description="pixel and VGG loss, no discriminator",
    ),
    "original-twin": Arm(
        pixel=0.001,
        perceptual=0.006,
        vgg_input="maximum",
        four_states=True,
        label="2019 code, no D",
        kind="arm",
        description="the losses of the 2019 code without its adversarial term",
    ),
    "original-faithful": Arm(
        pixel=0.001,
        perceptual=0.006,
        adversarial=0.05,
        discriminator="recurrent",
        **_FAULTS,
        twin="original-twin",
        label="2019 code",
        description="what the 2019 code did: no adversarial gradient reaches the generator",
    ),
    "ladder-1-weights": _rung("ladder 1", "faithful, with the weights of the code's run with flow"),
    "ladder-2-vgg": _rung("ladder 2", "and VGG inputs normalised as it was trained", vgg_input="imagenet"),
    "ladder-3-gradient": _rung(
        "ladder 3",
        "and the adversarial gradient reaching the generator",
        vgg_input="imagenet",
        detached=False,
    ),
    "ladder-4-discriminator": _rung(
        "ladder 4",
        "and the discriminator's gradients its own and zeroed",
        vgg_input="imagenet",
        detached=False,
        accumulating=False,
    ),
    "recurrent-d": Arm(  # also the ladder's last rung: all eight dihedral states and time reversal
        **PUBLISHED,
        discriminator="recurrent",
        twin="perceptual",
        label="recurrent D",
        description="recurrent discriminator, gradients reaching the generator",
    ),
    "recurrent-d-flow": Arm(
        **PUBLISHED,
        discriminator="recurrent",
        flow_adversarial=1e-3,
        twin="temporal-twin",
        label="recurrent D + flow D",
        description="recurrent discriminator on frames and on flows, flow network trained along",
    ),
    "triplet-d": Arm(
        **PUBLISHED,
        discriminator="triplet",
        norm="spectral",
        twin="temporal-twin",
        label="triplet D",
        description="discriminator sees three generated frames, raw and warped, with their input",
    ),
    "triplet-d-pingpong": Arm(
        **PUBLISHED,
        discriminator="triplet",
        norm="spectral",
        ping_pong=0.5,
        twin="temporal-twin",
        label="triplet D + ping-pong",
        description="triplet discriminator, and windows read backwards must agree",
    ),
    "modern": Arm(
        **_MODERN,
        twin="temporal-twin",
        label="modern",
        description="triplet with spectral norm, hinge loss, gradient penalty and feature matching",
    ),
    "iseebetter": Arm(
        pixel_loss="squared",
        perceptual=0.006,
        vgg_layer="pool5",
        total_variation=2e-8,
        adversarial=1e-3,
        discriminator="single-frame",
        twin="iseebetter-twin",
        label="iSeeBetter",
        description="single-frame discriminator and four-fold loss of iSeeBetter (2020)",
    ),
    "modern-lpips": Arm(
        **_LPIPS,
        twin="perceptual-lpips",
        label="modern, LPIPS loss",
        description="modern, with LPIPS (VGG16) for the VGG loss: LPIPS (AlexNet) flatters it, DISTS does not",
    ),
    "perceptual-lpips": Arm(
        perceptual=0.1,
        perceptual_loss="lpips",
        num_targets=3,
        label="LPIPS loss",
        kind="arm",
        description="modern-lpips without its discriminator",
    ),
    "perceptual-temporal": Arm(
        perceptual=0.1,
        perceptual_loss="lpips",
        temporal_perceptual=0.1,
        label="LPIPS + temporal LPIPS loss",
        kind="arm",
        description="a loss that sees time, no discriminator: frames must change as much as the true ones",
    ),
    "modern-lpips-refine": Arm(
        **{**_LPIPS, "adversarial": 0.003, "perceptual": 1.0},
        twin="modern-lpips-refine-twin",
        label="modern, LPIPS loss, less D",
        description="second training after modern-lpips: more of LPIPS, less of D",
    ),
    "basicvsr-triplet": Arm(
        **{**_MODERN, "adversarial": 0.05, "generator": "basicvsr"},
        twin="basicvsr-triplet-twin",
        label="BasicVSR + triplet D",
        description="the modern arm, adversarially stronger, on BasicVSR",
    ),
    "basicvsr-lpips": Arm(
        **_BASICVSR,
        twin="basicvsr-lpips-twin",
        label="BasicVSR + triplet D, LPIPS loss",
        description="LPIPS as a loss, on BasicVSR",
    ),
    "basicvsr-lpips-more": Arm(
        **{**_BASICVSR, "adversarial": 0.003, "perceptual": 0.3},
        twin="basicvsr-lpips-more-twin",
        label="BasicVSR, more LPIPS loss, less D",
        description="second training after basicvsr-lpips: three times the LPIPS loss, a quarter of D",
    ),
    "basicvsr-lpips-refine": Arm(
        **{**_BASICVSR, "adversarial": 0.003, "perceptual": 1.0},
        twin="basicvsr-lpips-refine-twin",
        label="BasicVSR, most LPIPS loss, less D",
        description="third training after basicvsr-lpips-more: ten times the LPIPS loss",
    ),
    "temporal-twin": Arm(
        perceptual=0.006,
        num_targets=3,
        label="twin, dose 0",
        kind="arm",
        description="the losses of the study of time without an adversarial term",
    ),
    **{name: arm for dose in DOSES for name, arm in _study_of_time(dose).items()},
}


def without_discriminator(arm: Arm) -> Arm:
    """Return the parameters of an arm's twin: its losses and number of targets, dose 0 and no discriminator."""
    kept = (
        "pixel", "perceptual", "temporal_perceptual", "total_variation",
        "pixel_loss", "perceptual_loss", "vgg_layer", "vgg_input", "four_states", "generator",
    )  # fmt: skip
    return Arm(
        **{name: getattr(arm, name) for name in kept},
        num_targets=arm.targets,
        label=f"{arm.label}, no D",
        kind="arm",
        description="the same losses and steps without the discriminator",
    )


# Twins that are no arm of their own are made from the arm.
ARMS |= {arm.twin: without_discriminator(arm) for arm in list(ARMS.values()) if arm.twin and arm.twin not in ARMS}
ARMS |= {name: dataclasses.replace(arm, name=name) for name, arm in ARMS.items()}


def find_arm(name: str) -> Arm:
    """Return an arm by name or earlier name; InputError lists the names."""
    name = ALIASES.get(name, name)
    if name not in ARMS:
        raise unknown("arm", name, ARMS)
    return ARMS[name]


def parameters_of(arm: Arm) -> dict[str, Any]:
    """Return an arm without its prose: what a result made with it depends on."""
    return {name: value for name, value in dataclasses.asdict(arm).items() if name not in PROSE}


def arms_table() -> pd.DataFrame:
    """Return the table of arms: what each minimises, with which discriminator, against which twin, and what it is."""
    shown = [
        "pixel", "perceptual", "perceptual_loss", "temporal_perceptual", "adversarial", "flow_adversarial",
        "feature_matching", "r1", "discriminator", "norm", "adversarial_loss", "twin", "description",
    ]  # fmt: skip
    rows = [{"arm": name, **{field: getattr(arm, field) for field in shown}} for name, arm in ARMS.items()]
    return pd.DataFrame(rows).set_index("arm")
