"""The metrics and the named protocols: exactly what is measured, on which pixels and frames, frozen and versioned.

A number means nothing without its protocol, so every row carries the protocol's name and version, the colour space, the
border, the frames dropped, the degradation and the hashes of the measuring networks. Rows of different protocols never
meet in one table.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stvsr import assets
from stvsr.errors import InputError, unknown
from stvsr.metrics import perceptual, temporal
from stvsr.metrics.fidelity import SSIM_WINDOW, plane_psnr, plane_ssim, size
from stvsr.metrics.niqe import BLOCK, niqe
from stvsr.metrics.views import Crop, Pair, View, whole

TRUTH = "truth"  # the method under which the truth's own values are listed
CROP_MULTIPLE, CROP_MARGIN = 32, 16


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric: how it is computed, and everything a reader is told about it.

    Attributes:
        name: as in every table's column `metric`.
        label: for readers.
        unit: of the values, empty for a plain number.
        what: what the metric measures, in words.
        role: the question that it answers: "fidelity", "perception" or "time".
        digits: decimals of its values in tables.
        low, high: the range of its values; no interval leaves it.
        higher_is_better: ignored where `own` is set.
        frame: measures a result's view against the truth's; given for a metric of single frames.
        pair: measures a pair of frames against the truth's pair; given for a metric of change over time.
        own: the truth has its own value, the reference (or floor) for everyone else's.
        network: the measuring network.
        flow: the optical flow estimator.
        colour: given where it differs from the protocol's.
    """

    name: str
    label: str
    unit: str = ""
    what: str = ""
    role: str = ""
    digits: int = 3
    low: float = 0.0
    high: float = math.inf
    higher_is_better: bool = False
    frame: Callable[[View, View], float] | None = None
    pair: Callable[[Pair, Pair], float] | None = None
    own: bool = False
    network: str | None = None
    flow: str | None = None
    colour: str | None = None

    @property
    def better(self) -> str:
        """Return which values are better, in words."""
        return "closer to the truth's own" if self.own else "higher" if self.higher_is_better else "lower"

    @property
    def direction(self) -> str | None:
        """Return "higher" or "lower"; None where the truth has its own value, or the definition is unknown."""
        known = self.frame is not None or self.pair is not None
        return self.better if known and not self.own else None

    @property
    def short(self) -> str:
        """Return the label without what stands in brackets."""
        return self.label.partition(" (")[0]

    @property
    def title(self) -> str:
        """Return label and unit, as on an axis."""
        return f"{self.label}, {self.unit}" if self.unit else self.label

    @property
    def compared(self) -> tuple[str, str | None]:
        """Return what a comparison of two methods is about, and its good direction.

        Where the truth has its own value, methods are compared by their distance from it.
        """
        return (f"{self.title}, distance from the truth's", "lower") if self.own else (self.title, self.direction)


def _network_metric(name: str, label: str, what: str) -> Metric:
    def measure(result: View, target: View) -> float:
        return perceptual.network(name, target.device).distance(result.features(name), target.features(name))

    return Metric(name=name, label=label, what=what, role="perception", frame=measure, network=name, colour="rgb")


def _psnr(result: View, target: View) -> float:
    return plane_psnr(result.plane, target.plane)


def _ssim(result: View, target: View) -> float:
    if min(target.frame.shape[:2]) < SSIM_WINDOW:
        raise InputError(f"frame is {size(target.frame)}: SSIM needs at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels")
    return plane_ssim(result.plane, target.plane)


def _niqe(result: View, _target: View) -> float:
    """NIQE, or NaN on frames too small for it, so that a study of small frames keeps its other metrics."""
    rows, columns = (length // BLOCK for length in result.frame.shape[:2])
    return niqe(result.frame) if rows * columns > 1 else float("nan")


METRICS = {  # in the order of the tables
    metric.name: metric
    for metric in (
        Metric(
            name="psnr", label="PSNR", unit="dB", role="fidelity", digits=2, higher_is_better=True, frame=_psnr,
            what="pixel error on a logarithmic scale; rewards blur where detail is uncertain",
        ),
        Metric(
            name="ssim", label="SSIM", role="fidelity", digits=4, low=-1.0, high=1.0, higher_is_better=True,
            frame=_ssim, what="similarity of local structure, 1 is identical",
        ),
        _network_metric(
            "lpips", "LPIPS (AlexNet)",
            "distance between images by a network trained on human judgements, 0 is identical",
        ),
        _network_metric("lpips_vgg", "LPIPS (VGG16)", "the same distance by another network"),
        _network_metric("dists", "DISTS", "distance in structure and texture; tolerates resampled texture"),
        Metric(
            name="niqe", label="NIQE", role="perception", digits=2, frame=_niqe, own=True, colour="y",
            what="how unnatural a frame looks, judged without the truth",
        ),
        Metric(
            name="tof", label="tOF", unit="px", role="time", pair=temporal.pair_tof, flow="farneback", colour="grey",
            what="distance between the motion of the output and the true motion",
        ),
        Metric(
            name="tof_spynet", label="tOF (SPyNet)", unit="px", role="time", flow="spynet", colour="rgb",
            pair=lambda result, target: temporal.pair_tof(result, target, "spynet"),
            what="the same distance with another flow estimator",
        ),
        Metric(
            name="tlp100", label="tLP x100", role="time", pair=temporal.pair_tlp, network="lpips", colour="rgb",
            what="how far the amount of change from frame to frame is from the truth's, by LPIPS",
        ),
        Metric(
            name="tlp100_signed", label="signed tLP x100", role="time", low=-math.inf, own=True, network="lpips",
            pair=temporal.pair_tlp_signed, colour="rgb",
            what="the same with its sign: below 0 the output changes less from frame to frame than the truth",
        ),
        Metric(
            name="warping_error", label="warping error x1000", role="time", pair=temporal.pair_warping_error, own=True,
            flow="dis", colour="rgb",
            what="what remains after following the true motion from frame to frame; the truth has its own floor",
        ),
        Metric(
            name="profile", label="temporal profile", unit="levels", role="time", pair=temporal.pair_profile,
            colour="y", what="difference between the output's change over time and the truth's, pixel by pixel",
        ),
        Metric(
            name="flicker", label="static flicker", unit="levels", role="time", pair=temporal.pair_flicker,
            own=True, colour="y", what="change over time where the truth stands still",
        ),
    )
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is measured, on which pixels and frames.

    Attributes:
        name: as in `--protocol` and in every table.
        version: raised whenever a number could change.
        colour: "y" or "rgb", of PSNR and SSIM.
        border: what is cut, in words; `crop` cuts it.
        dropped: frames left out at either end of a clip.
        metrics: names in `METRICS`.
        source: whose definition it is.
    """

    name: str
    version: int
    colour: str
    metrics: tuple[str, ...]
    source: str
    border: str = "0"
    crop: Crop = whole
    dropped: int = 0

    @property
    def least_frames(self) -> int:
        """Frames a clip must have: one kept, or two where change over time is measured."""
        return 2 * self.dropped + (2 if any(METRICS[name].pair for name in self.metrics) else 1)

    def caption(self) -> str:
        """Return the line that stands with every table of this protocol."""
        ends = f", first and last {self.dropped} frames dropped" if self.dropped else ", all frames"
        border = "no border cut" if self.border == "0" else self.border
        return f"{self.name} v{self.version}: {self.colour.upper()}, {border}{ends}"


def centre_crop(frame: np.ndarray) -> np.ndarray:
    """Cut (H, W, ...) to the centred multiple of 32 that removes at least 16 pixels per axis (TecoGAN's evaluation).

    Raises:
        InputError: nothing would be left: an axis has fewer than 48 pixels.
    """
    kept = [(length - CROP_MARGIN) // CROP_MULTIPLE * CROP_MULTIPLE for length in frame.shape[:2]]
    if min(kept) < CROP_MULTIPLE:
        least = CROP_MARGIN + CROP_MULTIPLE
        raise InputError(
            f"frame is {size(frame)}: protocol tecogan crops it, and needs at least {least}x{least} pixels"
        )
    top, left = ((length - keep) // 2 for length, keep in zip(frame.shape, kept, strict=False))
    return frame[top : top + kept[0], left : left + kept[1]]


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="literature-y", version=1, colour="y", metrics=("psnr", "ssim"),
            source="Vid4 tables from TOFlow to RVRT: MATLAB's Y, Wang's SSIM",
        ),
        Protocol(
            name="original-rgb", version=1, colour="rgb", metrics=("psnr", "ssim"),
            source="Chadha and Masoud 2019, section 5; as literature-y on RGB",
        ),
        Protocol(
            name="tecogan", version=1, colour="y", metrics=("psnr", "lpips", "tof", "tlp100"), dropped=2,
            border="centre crop to multiples of 32, 16 px or more removed", crop=centre_crop,
            source="Chu et al. 2020, section 5.2, and its published evaluation",
        ),
        Protocol(
            name="study", version=2, colour="rgb",
            metrics=("lpips", "niqe", "tlp100_signed", "warping_error", "profile", "flicker"),
            source="this study: full frames, coherence measured without a network",
        ),
        Protocol(
            name="second-opinion", version=1, colour="rgb", metrics=("lpips_vgg", "dists", "tof_spynet"),
            source="this study: other networks on full frames; about 15 processor seconds per 720x576 frame",
        ),
    )
}  # fmt: skip


ALIASES = {"seed-rgb": "original-rgb"}  # earlier names that study files may still use


def find_protocol(name: str) -> Protocol:
    """Return a protocol by name or earlier name; InputError lists the names."""
    name = ALIASES.get(name, name)
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def weights_of(name: str) -> dict[str, str]:
    """Return name -> SHA-256 of the trained weights behind a metric; empty for a metric without any."""
    metric = METRICS[name]
    if metric.network:
        return perceptual.weights(metric.network)
    asset = {"spynet": "basicvsr-bi"}.get(metric.flow or "", "niqe" if name == "niqe" else None)
    return {asset: assets.ASSETS[asset].sha256} if asset else {}
