"""What the report calls things: arms, metrics and protocols, in words for somebody who has never seen the project."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from stvsr.arms import ARMS
from stvsr.metrics.protocols import METRICS

CONTROL = "pixel-control"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """How an arm (one way of training) or a peer (a method that is only measured) is presented."""

    name: str
    label: str
    kind: str  # a key of stvsr.figure_style.MARKERS
    what: str


_PRESENTED_ARMS = {  # name: (label, kind, what), in the order of the tables
    "bicubic": ("bicubic", "peer", "plain interpolation, no network: the floor"),
    "rbpn": ("RBPN", "start", "the pretrained generator every arm starts from, not trained further"),
    "pixel-control": (
        "pixel control",
        "control",
        "the same extra steps with the pixel loss only: what every arm is compared with",
    ),
    "perceptual": ("perceptual", "arm", "pixel and perceptual loss, no discriminator"),
    "seed-faithful": ("seed-faithful", "arm", "what the 2019 code did: no adversarial gradient arrives"),
    "recurrent-d": ("recurrent D", "adversarial", "the recurrent discriminator as the 2019 report means it"),
    "recurrent-d-flow": ("recurrent D + flow D", "adversarial", "recurrent discriminators of frames and of motion"),
    "triplet-d": ("triplet D", "adversarial", "a discriminator that sees three generated frames in a row"),
    "triplet-d-pingpong": (
        "triplet D + ping-pong",
        "adversarial",
        "triplet discriminator; forward and backward passes must agree",
    ),
    "modern": (
        "modern",
        "adversarial",
        "triplet discriminator with the stabilisers of later years",
    ),
    "modern-lpips": (
        "modern, LPIPS loss",
        "adversarial",
        "the same trained on LPIPS by VGG16: LPIPS flatters it, DISTS does not",
    ),
    "perceptual-lpips": (
        "LPIPS loss",
        "arm",
        "pixel and LPIPS loss, no discriminator: what modern with LPIPS loss adds to",
    ),
    "perceptual-temporal": (
        "LPIPS + temporal LPIPS loss",
        "arm",
        "a loss that sees time instead of a discriminator that does",
    ),
    "modern-lpips-refine": ("modern, LPIPS loss, less D", "adversarial", "a second training: more of LPIPS, less of D"),
    "iseebetter": (
        "iSeeBetter",
        "adversarial",
        "a discriminator of single frames; the 2020 follow-up's losses",
    ),
    "basicvsr-triplet": ("BasicVSR + triplet D", "adversarial", "the triplet discriminator on a stronger generator"),
    "basicvsr-lpips": ("BasicVSR + triplet D, LPIPS loss", "adversarial", "the same on a stronger generator"),
    "basicvsr-lpips-more": (
        "BasicVSR, more LPIPS loss, less D",
        "adversarial",
        "a second training: more of LPIPS, less of D",
    ),
    "basicvsr-lpips-refine": (
        "BasicVSR, most LPIPS loss, less D",
        "adversarial",
        "a third training: ten times the LPIPS loss",
    ),
    "rbpn-small-adversarial": (
        "RBPN, tuned for longer",
        "peer",
        "shipped weights: modern, LPIPS loss (flattering it), more clips",
    ),
    "basicvsr-adversarial": (
        "BasicVSR, tuned",
        "peer",
        "shipped weights: the same losses on the stronger network; LPIPS flatters it too",
    ),
    "basicvsr-bi": ("BasicVSR", "peer", "published weights of a stronger network, for scale"),
    "basicvsr-bd": ("BasicVSR (BD)", "peer", "published weights of a stronger network for blurred input"),
    "truth": (
        "truth",
        "peer",
        "what the true frames themselves score, where a metric does not need them: the reference",
    ),
}


_ARMS = [Arm(name=name, label=label, kind=kind, what=what) for name, (label, kind, what) in _PRESENTED_ARMS.items()]
_BY_NAME = {arm.name: arm for arm in _ARMS}
_ORDER = {arm.name: place for place, arm in enumerate(_ARMS)}
TIME_AWARE = tuple(
    name
    for name, said in ARMS.items()
    if said.sees_time and said.kind != "ladder"
)


def arm(name: str) -> Arm:
    """Return how `name` is presented; one that has no entry here is its own label and described by the study's list of arms."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    says = ARMS[name].description if name in ARMS else ""
    if name.startswith("ladder-"):
        rung = re.match(r"ladder-(\d*)", name)[0].replace("-", " ").strip()
        what = says.removeprefix("... and ") or "one more fault of the 2019 code mended"
        return Arm(name=name, label=rung, kind="ladder", what=what)
    known = name in ARMS and ARMS[name].discriminator != "none"
    return Arm(name=name, label=name, kind="adversarial" if known else "arm", what=says)


def arm_order(name: str) -> tuple[int, int, str]:
    """Return a sort key: the study's order of arms, the ladder between its two ends, unknown ones last."""
    if name.startswith("ladder-"):
        digits = re.search(r"\d+", name)
        return _ORDER["seed-faithful"], int(digits[0]) + 1 if digits else 1, name
    return _ORDER.get(name, len(_ORDER)), 0, name


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How a metric is presented: label, unit, good direction, digits, what it measures, and for which of the three questions."""

    name: str
    label: str
    unit: str = ""
    better: str | None = (
        None  # "higher", "lower"; None when unknown, or when the truth has a value of its own: closer to it then
    )
    digits: int = 3
    role: str = ""  # "fidelity", "perception" or "time"
    what: str = ""

    @property
    def short(self) -> str:
        """Label without what stands in brackets."""
        return self.label.partition(" (")[0]

    @property
    def title(self) -> str:
        """Label and unit, as on an axis."""
        return f"{self.label}, {self.unit}" if self.unit else self.label

    @property
    def compared(self) -> tuple[str, str | None]:
        """What a comparison of two methods is about, and its good direction: the distance from the truth's own value if it has one."""
        if self.better or self.name not in METRICS:
            return self.title, self.better
        return f"{self.title}, distance from the truth's", "lower"


_PRESENTED = {  # name: (digits, role, what); label, unit and direction are the catalogue's
    "psnr": (2, "fidelity", "pixel error on a logarithmic scale; rewards blur where detail is uncertain"),
    "ssim": (4, "fidelity", "similarity of local structure, 1 is identical"),
    "lpips": (
        3,
        "perception",
        "distance between images as a network trained on human judgements sees it, 0 is identical",
    ),
    "lpips_vgg": (3, "perception", "the same by another network"),
    "dists": (3, "perception", "distance in structure and texture; tolerates resampled texture"),
    "niqe": (2, "perception", "how unnatural a frame looks, judged without the truth"),
    "tof": (3, "time", "how far the motion between output frames is from the true motion"),
    "tof_spynet": (3, "time", "the same with another flow estimator"),
    "tlp100": (3, "time", "whether the change from frame to frame looks as large as in the truth"),
    "warping_error": (
        3,
        "time",
        "what remains after following the true motion from frame to frame; the truth has a floor of its own",
    ),
    "profile": (3, "time", "difference of temporal profiles"),
    "flicker": (3, "time", "change over time where the truth stands still"),
}


_METRIC_ORDER = {name: place for place, name in enumerate(_PRESENTED)}


def metric(name: str) -> Metric:
    """Return how a metric is presented; an unknown one is its own label and has no good direction."""
    if name not in METRICS or name not in _PRESENTED:
        return Metric(name=name, label=name)
    known = METRICS[name]
    digits, role, what = _PRESENTED[name]
    better = None if known.own else "higher" if known.higher_is_better else "lower"
    return Metric(name=name, label=known.label, unit=known.unit, better=better, digits=digits, role=role, what=what)


def metric_order(name: str) -> tuple[int, str]:
    """Return a sort key: fidelity, perception, time, then unknown ones."""
    return _METRIC_ORDER.get(name, len(_METRIC_ORDER)), name


def signed(value: float, digits: int) -> str:
    """Return a difference with its sign, a real minus, and no sign on what rounds to zero."""
    text = f"{value:+.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "\u2212")


def interval_digits(low: float, high: float, digits: int) -> int:
    """Return as many digits as are needed (up to three more) that an interval without zero does not seem to touch it."""
    if low <= 0 <= high or low != low:
        return digits
    return next((more for more in range(digits, digits + 3) if round(min(abs(low), abs(high)), more)), digits + 3)


def plain(value: float, digits: int) -> str:
    """Return a number with a real minus; a dash when there is none, the sign of infinity for identical frames."""
    if value != value:  # NaN
        return "\u2013"
    return ("\u2212" if value < 0 else "") + ("\u221e" if abs(value) == float("inf") else f"{abs(value):.{digits}f}")


def duration(seconds: float) -> str:
    """Return a duration in words, rounded to what matters."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.{1 if seconds < 600 else 0}f} min"
    return f"{seconds / 3600:.1f} h"


def moment(stamp: float | str | None) -> str:
    """Return seconds since 1970, or an ISO time, as date, hours and minutes in UTC; nothing for nothing."""
    if stamp in (None, ""):
        return ""
    time = datetime.fromisoformat(stamp) if isinstance(stamp, str) else datetime.fromtimestamp(stamp, UTC)
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
