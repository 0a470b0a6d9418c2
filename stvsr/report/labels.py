"""Names and formats of the report: peers, arms and metrics in words, numbers, durations."""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from stvsr.arms import ALIASES, ARMS
from stvsr.metrics.protocols import METRICS, Metric


@dataclass(frozen=True, kw_only=True)
class ArmLabel:
    """How an arm (one way of training) or a peer (a method that is only measured) is presented."""

    name: str
    label: str
    kind: str  # a key of stvsr.figures.style.MARKERS
    what: str


_FIRST = {  # peers above the arms: (label, kind, what)
    "bicubic": ("bicubic", "peer", "plain interpolation, no network: the floor"),
    "rbpn": ("RBPN", "start", "the pretrained generator that every arm starts from, not trained further"),
}
_LAST = {  # peers below the arms
    "rbpn-small-adversarial": (
        "RBPN, tuned for longer", "peer", "shipped weights: modern, LPIPS loss (which LPIPS favours), more clips",
    ),
    "basicvsr-adversarial": (
        "BasicVSR, tuned", "peer", "shipped weights: the same losses on the stronger network; LPIPS favours it too",
    ),
    "basicvsr-bi": ("BasicVSR", "peer", "published weights of a stronger network, for scale"),
    "basicvsr-bd": ("BasicVSR (BD)", "peer", "published weights of a stronger network for blurred input"),
    "truth": ("truth", "peer", "scores of the true frames, for metrics that judge without them: the reference"),
}  # fmt: skip


def arm(name: str) -> ArmLabel:
    """Return how `name` is presented; a method that is unknown here is its own label, without a description."""
    if name in _FIRST | _LAST:
        label, kind, what = (_FIRST | _LAST)[name]
        return ArmLabel(name=name, label=label, kind=kind, what=what)
    if known := ARMS.get(ALIASES.get(name, name)):
        return ArmLabel(name=name, label=known.label or name, kind=known.kind, what=known.description)
    if name.startswith("ladder-"):
        rung = name.partition("-")[2].partition("-")[0]
        return ArmLabel(name=name, label=f"ladder {rung}", kind="ladder", what="one more fault corrected")
    return ArmLabel(name=name, label=name, kind="arm", what="")


def arm_order(name: str) -> tuple[int, int, int, str]:
    """Return a sort key: peers, arms in the order of their table (the ladder after its start), peers, unknown ones."""
    order = list(ARMS)
    if name in _FIRST:
        return 0, list(_FIRST).index(name), 0, name
    if name.startswith("ladder-"):
        digits = re.search(r"\d+", name)
        return 1, order.index("original-faithful"), int(digits[0]) + 1 if digits else 1, name
    if (known := ALIASES.get(name, name)) in ARMS:
        return 1, order.index(known), 0, name
    return (2, list(_LAST).index(name), 0, name) if name in _LAST else (3, 0, 0, name)


def sees_time(name: str) -> bool:
    """Return whether an arm's discriminator sees time; rungs of the ladder have their own figure and do not count."""
    known = ARMS.get(ALIASES.get(name, name))
    return known is not None and known.kind != "ladder" and known.sees_time


def metric(name: str) -> Metric:
    """Return a metric of the package; one that it does not know is its own label and has no good direction."""
    return METRICS.get(name) or Metric(name=name, label=name, low=-math.inf)


def metric_order(name: str) -> tuple[int, str]:
    """Return a sort key: the order of `METRICS`, then unknown ones."""
    return list(METRICS).index(name) if name in METRICS else len(METRICS), name


def listed(names: list[str]) -> str:
    """Return names as "a", "a and b" or "a, b and c"."""
    return " and ".join([part for part in (", ".join(names[:-1]), names[-1]) if part]) if names else ""


def signed(value: float, digits: int) -> str:
    """Return a difference with its sign, a real minus, and no sign on what rounds to zero."""
    text = f"{value:+.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "\u2212")


def interval_digits(low: float, high: float, digits: int) -> int:
    """Return the digits (up to three more) at which an interval without zero is not rounded to one that touches it."""
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
