"""Discriminators: networks that distinguish generated frames, or their motion, from true ones.

`RecurrentDiscriminator` is that of the 2019 study, `TripletDiscriminator` judges three generated frames at once (after
TecoGAN), and `SingleFrameDiscriminator` is that of SRGAN, also used in iSeeBetter. All take images of at least 16x16,
RGB in [0, 1], and flows in pixels; all return one score per sample, higher for real.

Training uses raw scores (`score="raw"`, or the `logits` methods), because the losses combine sigmoid and logarithm in a
numerically stable way. `RecurrentDiscriminator.forward` also accepts flows alone, because DistributedDataParallel only
supports calls of `forward`.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

from stvsr.errors import InputError, unknown
from stvsr.models.state_dicts import read_state

NORMS = ("batch", "spectral", "none")
SCORES = ("sigmoid", "raw")


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Options of all discriminators; the defaults are the published networks.

    norm: batch normalisation after the convolutions, spectral normalisation of their weights, or none. Batch statistics
    of one or two samples are noisy, and a gradient penalty does not allow batch normalisation. score: `forward` returns
    the probability of being real (sigmoid) or the raw score. width: channels of the first layer; the others scale with
    it.
    """

    norm: str = "batch"
    score: str = "sigmoid"
    width: int = 64

    def __post_init__(self) -> None:
        for name, allowed in (("norm", NORMS), ("score", SCORES)):
            if getattr(self, name) not in allowed:
                raise unknown(f"discriminator {name}", getattr(self, name), allowed)
        if self.width < 1:
            raise InputError(f"discriminator width is {self.width}: it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class RecurrentDiscriminatorConfig(DiscriminatorConfig):
    """Size of a recurrent discriminator; width 64 is the published one (2.63 million parameters).

    flow_branch: include the two blocks that judge flows alone. A discriminator that only judges frames leaves them out,
    because DistributedDataParallel requires every parameter to be used.
    """

    flow_branch: bool = True


def _conv(inputs: int, outputs: int, norm: str, *, kernel: int = 3, stride: int = 1, padding: int = 1) -> nn.Module:
    """Return a convolution initialised to preserve the signal's variance.

    Without batch norm, PyTorch's default initialisation shrinks the signal layer by layer.
    """
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding)
    if norm == "none":
        nn.init.kaiming_normal_(conv.weight, a=0.2)
    elif norm == "spectral":
        nn.init.orthogonal_(conv.weight)
        spectral_norm(conv)
    return conv


def _norm(channels: int, norm: str) -> nn.Module:
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.Identity()


def _score(logits: Tensor, config: DiscriminatorConfig) -> Tensor:
    return torch.sigmoid(logits) if config.score == "sigmoid" else logits


class _Block(nn.Module):
    """Convolution, norm, PReLU."""

    def __init__(self, inputs: int, outputs: int, norm: str, stride: int = 1):
        super().__init__()
        self.conv = _conv(inputs, outputs, norm, stride=stride)
        self.bn = _norm(outputs, norm)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class RecurrentDiscriminator(nn.Module):
    """Score a frame, or two flows, from its two neighbours, read one after the other (2019 report, section 4).

    The state is initialised from the frame or the flows, at a quarter of their size. Each neighbour k, with the flow to
    it, passes six convolutions of the SRGAN discriminator and one that merges it into the state. Parameter names and
    order are those of the published code, and so are two oddities: `bnmerge` exists but is not used, and the final 1x1
    convolution is padded, so that the mean after it includes a border of zeros around the state.
    """

    def __init__(self, config: RecurrentDiscriminatorConfig | None = None):
        super().__init__()
        self.config = config = config or RecurrentDiscriminatorConfig()
        norm, width = config.norm, config.width
        if config.flow_branch:
            self.feat0_flow = _Block(4, 2 * width, norm, stride=2)
        self.feat0 = _Block(3, 2 * width, norm, stride=2)
        self.feat01 = _Block(2 * width, 4 * width, norm, stride=2)
        # 5 and 3 do not scale with the width: SRGAN's first convolution reads three channels
        self.feat1 = _Block(8, 5, norm)
        if config.flow_branch:
            self.feat1_flow = _Block(5, 5, norm)
        self.feat2 = _Block(5, 3, norm)
        self.conv1 = _conv(3, width, norm)
        for index, (inputs, outputs, stride) in enumerate(
            [(1, 1, 2), (1, 2, 1), (2, 2, 2), (2, 4, 1), (4, 4, 1)], start=2
        ):
            setattr(self, f"conv{index}", _conv(inputs * width, outputs * width, norm, stride=stride))
            setattr(self, f"bn{index}", _norm(outputs * width, norm))
        self.convmerge = _conv(8 * width, 4 * width, norm)
        self.bnmerge = _norm(4 * width, norm).requires_grad_(False)
        self.conv_nin = _conv(4 * width, 1, norm, kernel=1)

    def forward(self, frame: Tensor | None, neighbours: Tensor, flows: Tensor) -> Tensor:
        """Return scores (B, 1): the probability that the frame is real, or the logit if the configuration is raw.

        Args:
            frame: the image to score (B, 3, H, W); None scores the flows alone, like `forward_flow`.
            neighbours: images t-1 and t+1 (B, 2, 3, H, W).
            flows: from the frame to each neighbour, pixels (B, 2, 2, H, W).
        """
        logits = self.flow_logits(flows, neighbours) if frame is None else self.logits(frame, neighbours, flows)
        return _score(logits, self.config)

    def forward_flow(self, flows: Tensor, neighbours: Tensor) -> Tensor:
        """Return scores (B, 1) of two flows (B, 2, 2, H, W), pixels, given the images t-1 and t+1 (B, 2, 3, H, W).

        Raises:
            InputError: the configuration has no flow branch.
        """
        return _score(self.flow_logits(flows, neighbours), self.config)

    def logits(self, frame: Tensor, neighbours: Tensor, flows: Tensor) -> Tensor:
        """Return raw scores (B, 1) of the frame for any configuration; arguments as in `forward`."""
        state = self.feat01(self.feat0(frame))  # (B, 4 width, H/4, W/4)
        for k in range(neighbours.shape[1]):
            x = self.feat1(torch.cat([frame, neighbours[:, k], flows[:, k]], dim=1))
            state = self._merge(state, x)
        return self._judge(state)

    def flow_logits(self, flows: Tensor, neighbours: Tensor) -> Tensor:
        """Return raw scores (B, 1) of the flows; arguments and errors as in `forward_flow`."""
        if not self.config.flow_branch:
            raise InputError("this discriminator judges frames only: build it with flow_branch=True to judge flows")
        state = self.feat01(self.feat0_flow(flows.flatten(1, 2)))
        for k in range(neighbours.shape[1]):
            x = self.feat1_flow(torch.cat([flows[:, k], neighbours[:, k]], dim=1))
            state = self._merge(state, x)
        return self._judge(state)

    def _merge(self, state: Tensor, x: Tensor) -> Tensor:
        x = F.silu(self.conv1(self.feat2(x)))
        for index in range(2, 7):
            x = F.silu(getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(x)))
        return F.silu(self.convmerge(torch.cat([state, x], dim=1)))

    def _judge(self, state: Tensor) -> Tensor:
        return self.conv_nin(state).mean((2, 3))


class TripletDiscriminator(nn.Module):
    """Score three consecutive frames at once, given the LR frames they were made from.

    After TecoGAN's spatio-temporal discriminator (Chu et al., SIGGRAPH 2020): the frames themselves show detail, the
    frames warped to the middle one show coherence, and the enlarged LR frames condition both. The network reads
    magnified differences: detail added to the LR frames, and change along the motion. This is the same information as
    RGB, where the difference between true and generated frames is too faint to learn from in a hundred steps
    (benchmarks/discriminator.py). A mean over the logits of all positions replaces TecoGAN's dense layer, so that
    images of any size are accepted.
    """

    CONTRAST = 4.0  # brings differences of natural frames to the magnitude of the frames themselves

    def __init__(self, config: DiscriminatorConfig | None = None):
        super().__init__()
        self.config = config = config or DiscriminatorConfig()
        norm, width = config.norm, config.width
        self.first = _conv(27, width, norm)
        channels = [width, width, width, 2 * width, 4 * width]
        self.blocks = nn.ModuleList(
            nn.Sequential(_conv(inputs, outputs, norm, kernel=4, stride=2), _norm(outputs, norm), nn.LeakyReLU(0.2))
            for inputs, outputs in itertools.pairwise(channels)
        )
        self.last = nn.Conv2d(4 * width, 1, 1)  # no normalisation: it sets the scale of the scores

    def forward(self, frames: Tensor, warped: Tensor, conditions: Tensor) -> Tensor:
        """Return scores (B, 1), probabilities or logits according to the configuration.

        Args:
            frames: images t-1, t, t+1 (B, 3, 3, H, W).
            warped: the same frames warped to frame t; the middle one is unchanged (B, 3, 3, H, W).
            conditions: LR images t-1, t, t+1 enlarged to (B, 3, 3, H, W).
        """
        return _score(self.logits(frames, warped, conditions), self.config)

    def logits(self, frames: Tensor, warped: Tensor, conditions: Tensor) -> Tensor:
        """Return raw scores (B, 1); arguments as in `forward`."""
        return self.judge(self.features(frames, warped, conditions))

    def features(self, frames: Tensor, warped: Tensor, conditions: Tensor) -> list[Tensor]:
        """Return the activations of the five layers, (B, C, h, w) from full size to H/16, for feature matching."""
        activations = [F.leaky_relu(self.first(self.read(frames, warped, conditions)), 0.2)]
        for block in self.blocks:
            activations.append(block(activations[-1]))
        return activations

    def read(self, frames: Tensor, warped: Tensor, conditions: Tensor) -> Tensor:
        """Return the input of the first layer (B, 27, H, W): detail added to LR, change along the motion, LR frames."""
        detail, motion = self.CONTRAST * (frames - conditions), self.CONTRAST * (warped - frames[:, 1:2])
        return torch.cat([detail, motion, conditions - 0.5], dim=1).flatten(1, 2)

    def judge(self, features: list[Tensor]) -> Tensor:
        """Return the raw scores (B, 1) for `features`, for steps that need both from one pass."""
        return self.last(features[-1]).mean((2, 3))


class SingleFrameDiscriminator(nn.Module):
    """Score one frame without its neighbours: SRGAN's discriminator (Ledig et al., CVPR 2017), as in iSeeBetter.

    A mean over positions precedes the two dense layers, so that images of any size are accepted (SRGAN: 96x96 only).
    """

    def __init__(self, config: DiscriminatorConfig | None = None):
        super().__init__()
        self.config = config = config or DiscriminatorConfig()
        norm, width = config.norm, config.width
        self.conv1 = _conv(3, width, norm)
        channels = [width, width, 2 * width, 2 * width, 4 * width, 4 * width, 8 * width, 8 * width]
        for index in range(2, 9):
            stride = 2 if index % 2 == 0 else 1
            setattr(self, f"conv{index}", _conv(channels[index - 2], channels[index - 1], norm, stride=stride))
            setattr(self, f"bn{index}", _norm(channels[index - 1], norm))
        self.dense1 = _conv(8 * width, 16 * width, norm, kernel=1, padding=0)
        self.dense2 = _conv(16 * width, 1, norm, kernel=1, padding=0)

    def forward(self, frame: Tensor) -> Tensor:
        """Return scores (B, 1) of images (B, 3, H, W), probabilities or logits according to the configuration."""
        return _score(self.logits(frame), self.config)

    def logits(self, frame: Tensor) -> Tensor:
        """Return raw scores (B, 1) of images (B, 3, H, W)."""
        return self.judge(self.features(frame))

    def features(self, frame: Tensor) -> list[Tensor]:
        """Return the activations of the eight convolutions, (B, C, h, w), full size to H/16, for feature matching."""
        activations = [F.leaky_relu(self.conv1(frame), 0.2)]
        for index in range(2, 9):
            x = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(activations[-1]))
            activations.append(F.leaky_relu(x, 0.2))
        return activations

    def judge(self, features: list[Tensor]) -> Tensor:
        """Return the raw scores (B, 1) for `features`, for steps that need both from one pass."""
        pooled = features[-1].mean((2, 3), keepdim=True)
        return self.dense2(F.leaky_relu(self.dense1(pooled), 0.2)).flatten(1)


# names of the six convolutions, and of the batch norms after the last five, in published SRGAN discriminators: layers
# with a name each (as in SingleFrameDiscriminator), or numbered in a sequence called net
SRGAN_LAYOUTS = (
    ([f"conv{index}" for index in range(1, 7)], [f"bn{index}" for index in range(2, 7)]),
    ([f"net.{index}" for index in (0, 2, 5, 8, 11, 14)], [f"net.{index}" for index in (3, 6, 9, 12, 15)]),
)


def load_srgan_start(discriminator: RecurrentDiscriminator, path: str | Path) -> None:
    """Initialise the six convolutions, and their batch norms if present, from an SRGAN discriminator, in place.

    The checkpoint is a .safetensors file or a .pth of tensors, in one of `SRGAN_LAYOUTS`; its later layers are ignored.

    Raises:
        InputError: the file is missing, has no such layers, or has layers of another width.
    """
    state = read_state(path)
    layouts = [layout for layout in SRGAN_LAYOUTS if f"{layout[0][-1]}.weight" in state]
    if not layouts:
        raise InputError(
            f"checkpoint {path} is not an SRGAN discriminator: it needs weights of conv1 to conv6 or of net.0 to net.14"
        )
    convs, norms = layouts[0]
    pairs = [(f"conv{index}", name) for index, name in enumerate(convs, start=1)]
    if discriminator.config.norm == "batch":
        pairs += [(f"bn{index}", name) for index, name in enumerate(norms, start=2)]
    layers = [(discriminator.get_submodule(own), name) for own, name in pairs]
    for layer, name in layers:
        _check_layer(layer, name, state, path)
    for layer, name in layers:
        _copy_layer(layer, name, state)


def _names(layer: nn.Module) -> tuple[str, ...]:
    statistics = ("running_mean", "running_var") if isinstance(layer, nn.BatchNorm2d) else ()
    return "weight", "bias", *statistics


def _check_layer(layer: nn.Module, name: str, state: dict[str, Tensor], path: str | Path) -> None:
    for part in _names(layer):
        given, needed = state.get(f"{name}.{part}"), getattr(layer, part)
        if given is None:
            raise InputError(f"checkpoint {path} has no {name}.{part}: give that of an SRGAN discriminator")
        if given.shape != needed.shape:
            raise InputError(
                f"checkpoint {path}: {name}.{part} is {tuple(given.shape)}, the discriminator needs "
                f"{tuple(needed.shape)}: give one of the same width"
            )


@torch.no_grad()
def _copy_layer(layer: nn.Module, name: str, state: dict[str, Tensor]) -> None:
    for part in _names(layer):
        given = state[f"{name}.{part}"].to(getattr(layer, part))
        if part == "weight" and is_parametrized(layer, "weight"):
            layer.weight = given  # sets the parameter below the spectral norm
        else:
            getattr(layer, part).copy_(given)
