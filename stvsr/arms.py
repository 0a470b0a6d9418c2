"""The arms of the study: each a set of parameters of the one loop in `finetuning`, never a copied file."""

import dataclasses
from dataclasses import dataclass

import pandas as pd

from stvsr.errors import InputError
from stvsr.runs.files import as_json

LPIPS = "lpips"
DISCRIMINATORS = ("none", "recurrent", "triplet", "single-frame")
DOSES = (0.008, 0.032, 0.128)  # adversarial weights of the study of time, each four times the one before


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What one arm minimises and what its discriminator sees.

    pixel, perceptual, temporal_perceptual, total_variation, adversarial, flow_adversarial, feature_matching, ping_pong:
    weights of G's terms. r1: weight of D's gradient penalty. betas: of D's Adam. fidelity: l1, charbonnier or squared.
    vgg_layer: of the perceptual term, or `lpips`, that distance by VGG16. vgg_input: `imagenet`, or `maximum` (divided
    by the batch's maximum, as coded in 2019). discriminator: its kind. norm: batch, spectral or none. kind: bce, hinge
    or relativistic. soft_labels: U(0.7, 1), U(0, 0.3). detached: the adversarial terms see a detached output, so that
    no gradient of theirs reaches G (the 2019 code). accumulating: D's gradients are never zeroed and G's loss adds its
    own to them (the 2019 code). four_states: augmentation reaches 4 of the 8 dihedral states and never reverses time
    (the 2019 code). blind: the triplet discriminator sees each frame repeated three times, so that it cannot see time.
    shuffled: true triplets in a wrong order are additional fakes for the triplet discriminator. num_targets:
    consecutive frames that G makes per sample, 1 or 3; 0: as many as the losses need. twin: name of the arm with the
    same losses and no adversarial term, which a discriminator's effect is measured against. generator: preset that must
    be fine-tuned, empty for the study's.
    """

    pixel: float = 1.0
    perceptual: float = 0.0
    temporal_perceptual: float = 0.0
    total_variation: float = 0.0
    adversarial: float = 0.0
    flow_adversarial: float = 0.0
    feature_matching: float = 0.0
    ping_pong: float = 0.0
    r1: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    fidelity: str = "l1"
    vgg_layer: str = "relu3_1"
    vgg_input: str = "imagenet"
    discriminator: str = "none"
    norm: str = "batch"
    kind: str = "bce"
    soft_labels: bool = True
    detached: bool = False
    accumulating: bool = False
    four_states: bool = False
    blind: bool = False
    shuffled: bool = False
    num_targets: int = 0
    twin: str = ""
    generator: str = ""
    says: str = ""

    def __post_init__(self):
        if self.discriminator not in DISCRIMINATORS:
            raise InputError(
                f"discriminator {self.discriminator!r} is unknown: choose from {', '.join(DISCRIMINATORS)}"
            )
        if self.flow_adversarial and self.discriminator != "recurrent":
            raise InputError(
                "the flow discriminator is the recurrent one's second head: choose discriminator recurrent"
            )
        if self.adversarial and self.discriminator == "none":
            raise InputError("an adversarial weight needs a discriminator: choose one, or weight 0")
        if self.ping_pong and self.discriminator != "triplet":
            raise InputError("the ping-pong loss goes with the triplet discriminator's three frames: choose triplet")
        if (self.blind or self.shuffled) and self.discriminator != "triplet":
            raise InputError(
                "blind and shuffled describe what the triplet discriminator sees: choose discriminator triplet"
            )
        if self.blind and self.shuffled:
            raise InputError("a discriminator that is blind to time cannot see a wrong order: choose blind or shuffled")
        if self.num_targets not in (0, 1, 3) or 0 < self.num_targets < self._needed_targets:
            raise InputError(f"num_targets is {self.num_targets}: 3, or 0 for as many as the losses need")
        if self.temporal_perceptual and self.vgg_layer != LPIPS:
            raise InputError("the temporal perceptual loss measures change by LPIPS: set vgg_layer to lpips")
        if self.kind == "hinge" and self.soft_labels:
            raise InputError("hinge losses have no labels: set soft_labels to false")

    @property
    def targets(self) -> int:
        """Frames that G makes per sample: three where a loss looks at several of them."""
        return self.num_targets or self._needed_targets

    @property
    def _needed_targets(self) -> int:
        return 3 if self.flow_adversarial or self.temporal_perceptual or self.discriminator == "triplet" else 1


# weights of the published code with flow; without flow it used 0.001, 0.006 and 0.05, so its two runs are no ablation
# of flow
PUBLISHED = {"pixel": 1.0, "perceptual": 0.006, "adversarial": 1e-3}


_recurrent = Arm(
    **PUBLISHED, discriminator="recurrent", says="recurrent discriminator, gradients reaching the generator"
)


_faithful = Arm(
    pixel=0.001, perceptual=0.006, adversarial=0.05, discriminator="recurrent", vgg_input="maximum", detached=True,
    accumulating=True, four_states=True, says="what the 2019 code did: no adversarial gradient reaches the generator",
)  # fmt: skip


_weights = dataclasses.replace(_faithful, **PUBLISHED, says="faithful, with the weights of the code's run with flow")


_vgg = dataclasses.replace(_weights, vgg_input="imagenet", says="... and VGG inputs normalised as it was trained")


_gradient = dataclasses.replace(_vgg, detached=False, says="... and the adversarial gradient reaching the generator")


_zeroed = dataclasses.replace(
    _gradient, accumulating=False, says="... and the discriminator's gradients its own and zeroed"
)


# spectral: batch norm, which sees true and generated batches apart, takes away what tells them apart; on a toy clip
# this
# discriminator learnt nothing with it in 60 steps (gap of its probabilities 0.00) and with spectral norm it did (0.6)
_triplet = Arm(
    **PUBLISHED,
    discriminator="triplet",
    norm="spectral",
    says="discriminator sees three generated frames, raw and warped, beside their input",
)


# The adversarial weight keeps that gradient below the perceptual one where it enters G (notebook 03 shows both); four
# times
# as much made rbpn-small's LPIPS worse again. betas: with Adam's usual momentum the two players circle each other, and
# after a
# hundred steps D no longer told true from generated (gap 0.00 to 0.02, fine-tuning rbpn-small); with less it did (0.15)
_modern = dataclasses.replace(
    _triplet, adversarial=0.008, kind="hinge", soft_labels=False, feature_matching=0.1, r1=0.1, betas=(0.5, 0.99),
    says="triplet with spectral norm, hinge loss, gradient penalty and feature matching",
)  # fmt: skip


_lpips = dataclasses.replace(
    _modern,
    perceptual=0.1,
    vgg_layer=LPIPS,
    says="modern, with LPIPS (VGG16) for the VGG loss: LPIPS (AlexNet) flatters it",
)


_basicvsr = dataclasses.replace(_lpips, adversarial=0.012, generator="basicvsr", says="LPIPS as a loss, on BasicVSR")


_more = dataclasses.replace(
    _basicvsr,
    adversarial=0.003,
    perceptual=0.3,
    says="basicvsr-lpips with thrice the LPIPS loss, a quarter of D, from its weights",
)


# The study of time: one triplet network, one set of losses, three frames per sample; the adversarial weight is the dose.
# No feature matching, so that the discriminator acts on the generator through one term only.
_twin = Arm(perceptual=0.006, num_targets=3, says="the losses of the study of time without an adversarial term: dose 0")
_seeing = dataclasses.replace(
    _twin,
    discriminator="triplet",
    norm="spectral",
    kind="hinge",
    soft_labels=False,
    r1=0.1,
    betas=(0.5, 0.99),
    twin="temporal-twin",
)
_SIGHTS = {
    "blind": (_seeing, {"blind": True}, "triplet discriminator that sees each frame three times, so no time"),
    "triplet": (_seeing, {}, "triplet discriminator that sees three frames, raw and warped"),
    "shuffled": (_seeing, {"shuffled": True}, "triplet discriminator, true triplets in a wrong order as additional fakes"),
    "recurrent": (_seeing, {"discriminator": "recurrent", "r1": 0.0}, "the recurrent discriminator of 2019, hinge loss"),
}


def _dosed(dose: float) -> dict[str, Arm]:
    return {
        f"{name}-{dose:g}": dataclasses.replace(base, **changes, adversarial=dose, says=f"{what}; dose {dose:g}")
        for name, (base, changes, what) in _SIGHTS.items()
    }


ARMS: dict[str, Arm] = {
    "temporal-twin": _twin,
    **{name: arm for dose in DOSES for name, arm in _dosed(dose).items()},
    "pixel-control": Arm(says="the same extra steps on the pixel loss only: what every arm is compared with"),
    "perceptual": Arm(pixel=1.0, perceptual=0.006, says="pixel and VGG loss, no discriminator"),
    "seed-faithful": _faithful,
    "ladder-1-weights": _weights,
    "ladder-2-vgg": _vgg,
    "ladder-3-gradient": _gradient,
    "ladder-4-discriminator": _zeroed,
    "recurrent-d": _recurrent,  # also the ladder's last rung: all eight dihedral states and time reversal
    "recurrent-d-flow": dataclasses.replace(
        _recurrent, flow_adversarial=1e-3, says="recurrent discriminator on frames and on flows, flow network trained along"
    ),
    "triplet-d": _triplet,
    "triplet-d-pingpong": dataclasses.replace(_triplet, ping_pong=0.5, says="triplet, and windows read backwards must agree"),
    "modern": _modern,
    "iseebetter": Arm(
        pixel=1.0, fidelity="squared", perceptual=0.006, vgg_layer="pool5", total_variation=2e-8, adversarial=1e-3,
        discriminator="single-frame", says="single-frame discriminator and four-fold loss of iSeeBetter (2020)",
    ),
    "modern-lpips": _lpips,
    # what a discriminator has to beat: the loss that people's judgement was fitted to, and the same with an eye on time
    "perceptual-lpips": Arm(perceptual=0.1, vgg_layer=LPIPS, says="modern-lpips without its discriminator"),
    "perceptual-temporal": Arm(
        perceptual=0.1, temporal_perceptual=0.1, vgg_layer=LPIPS,
        says="... and as much perceived change from frame to frame as the truth has: a loss that sees time, no discriminator",
    ),
    "basicvsr-triplet": dataclasses.replace(
        _modern, adversarial=0.05, generator="basicvsr", says="the modern arm, adversarially stronger, on BasicVSR"
    ),
    # 0.05 here: D's gradient grew to twice the LPIPS gradient in 300 steps, and held-out clips got worse by LPIPS (.062
    # to .086)
    "basicvsr-lpips": _basicvsr,
    # for a second training, from the first one's weights. rbpn-small, ten times the LPIPS loss and less of D: held-out
    # LPIPS .123 to
    # .100, DISTS .108 to .091 (a quarter of D alone: .106, .096; no D at all: .094, .089, but on Vid4 LPIPS .212
    # against .206). It ends there: 1,400 steps more, with three times modern-lpips's LPIPS loss and more of D (.009 or
    # .02), made
    # Vid4's LPIPS .208 and .207 and motion off Vid4 worse.
    # BasicVSR, a quarter of D: LPIPS .071 to .052, DISTS .077 to .054; three, then ten times the LPIPS loss: .045,
    # .049, and on Vid4
    # LPIPS .168 to .149 (with a temporal LPIPS loss of 0.3 beside three times: .158 to .161 there, and tLP100 no
    # better)
    "modern-lpips-refine": dataclasses.replace(
        _lpips, adversarial=0.003, perceptual=1.0, says="modern-lpips with more of LPIPS and less of D, to go on from its weights"
    ),
    "basicvsr-lpips-more": _more,
    "basicvsr-lpips-refine": dataclasses.replace(_more, perceptual=1.0, says="... and with ten times, to go on once more"),
}  # fmt: skip


def find_arm(name: str) -> Arm:
    """Return an arm by name; InputError lists the names."""
    if name not in ARMS:
        raise InputError(f"arm {name!r} is unknown: choose from {', '.join(ARMS)}")
    return ARMS[name]


def definition(name: str) -> dict:
    """Return an arm's parameters without its prose: what a result made with it depends on; InputError as `find_arm`."""
    return as_json(dataclasses.replace(find_arm(name), says=""))


def describe() -> pd.DataFrame:
    """Return the table of arms: what each minimises, with which discriminator, and what it is."""
    shown = ["pixel", "perceptual", "vgg_layer", "temporal_perceptual", "adversarial", "flow_adversarial", "feature_matching", "r1",
             "discriminator", "norm", "kind"]  # fmt: skip
    rows = [
        {"arm": name, **{field: getattr(arm, field) for field in shown}, "says": arm.says} for name, arm in ARMS.items()
    ]
    return pd.DataFrame(rows).set_index("arm")
