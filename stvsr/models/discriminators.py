"""Discriminators: networks that learn to tell generated frames, or their motion, from true ones.

`RecurrentDiscriminator` is the 2019 study's, `TripletDiscriminator` judges three generated frames at once (after
TecoGAN) and `SingleFrameDiscriminator` is SRGAN's, which iSeeBetter uses. All take images of any size from 16x16 on,
RGB in [0, 1], and flows in pixels; all return one score per sample, higher meaning more real.

Training reads raw scores (`score="raw"`, or the `logits` methods): the losses join sigmoid and logarithm safely.
DistributedDataParallel only follows calls of `forward`: that is why `RecurrentDiscriminator.forward` also takes flows
alone.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

from stvsr.errors import InputError
from stvsr.models.state_dicts import read_state

NORMS = ("batch", "spectral", "none")
SCORES = ("sigmoid", "raw")


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """What all discriminators can choose; the defaults are the published networks.

    norm: batch normalisation after the convolutions, spectral normalisation of their weights, or none. Batch statistics
    of one or two samples are noisy, and a gradient penalty needs one of the others. score: what `forward` returns,
    the probability of being real (sigmoid) or the raw score. width: channels of the first layer, the others follow.
    """

    norm: str = "batch"
    score: str = "sigmoid"
    width: int = 64

    def __post_init__(self):
        for name, allowed in (("norm", NORMS), ("score", SCORES)):
            if getattr(self, name) not in allowed:
                raise InputError(f"discriminator {name} is {getattr(self, name)!r}: choose from {', '.join(allowed)}")
        if self.width < 1:
            raise InputError(f"discriminator width is {self.width}: it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class RecurrentDiscriminatorConfig(DiscriminatorConfig):
    """Size of a recurrent discriminator; width 64 is the published one (2.63 million parameters).

    flow_branch: with the two blocks that judge flows alone. Without them no parameter is left unused when only frames
    are judged, as DistributedDataParallel wants it.
    """

    flow_branch: bool = True


def _conv(inputs: int, outputs: int, norm: str, *, kernel: int = 3, stride: int = 1, padding: int = 1) -> nn.Module:
    """Return a convolution whose start lets the signal through: without batch norm PyTorch's own fades it layer by layer."""
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
    """Judge a frame, or two flows, while reading its two neighbours one after the other (study, section 4).

    The state starts from what is judged, at a quarter of its size. Each neighbour k, with the flow to it, passes six
    convolutions of the SRGAN discriminator and one that merges it into the state. Parameter names and order are those
    of the published code, hence also its oddities: `bnmerge` exists but is not used, and the 1x1 convolution that ends
    the network is padded, so the mean behind it counts a frame of zeros around the state.
    """

    def __init__(self, config: RecurrentDiscriminatorConfig | None = None):
        super().__init__()
        self.config = config = config or RecurrentDiscriminatorConfig()
        norm, width = config.norm, config.width
        if config.flow_branch:
            self.feat0_flow = _Block(4, 2 * width, norm, stride=2)
        self.feat0 = _Block(3, 2 * width, norm, stride=2)
        self.feat01 = _Block(2 * width, 4 * width, norm, stride=2)
        # 5 and 3 do not follow the width: SRGAN's first convolution reads three channels
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
        """Return scores (B, 1): the probability that the frame is real, or the logit if the config says raw.

        Args:
            frame: the judged image (B, 3, H, W); None judges the flows alone, as `forward_flow` does.
            neighbours: images t-1 and t+1 (B, 2, 3, H, W).
            flows: from the frame to each neighbour, pixels (B, 2, 2, H, W).
        """
        logits = self.flow_logits(flows, neighbours) if frame is None else self.logits(frame, neighbours, flows)
        return _score(logits, self.config)

    def forward_flow(self, flows: Tensor, neighbours: Tensor) -> Tensor:
        """Return scores (B, 1) of two flows (B, 2, 2, H, W), pixels, beside the images t-1 and t+1 (B, 2, 3, H, W).

        Raises:
            InputError: the config left the flow branch out.
        """
        return _score(self.flow_logits(flows, neighbours), self.config)

    def logits(self, frame: Tensor, neighbours: Tensor, flows: Tensor) -> Tensor:
        """Return raw scores (B, 1) of the frame, whatever the config says; arguments as in `forward`."""
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
    """Judge three consecutive generated frames at once, given the input they were made from.

    After TecoGAN's spatio-temporal discriminator (Chu et al., SIGGRAPH 2020): the frames as they are show their detail,
    the frames warped to the middle one show how they cohere, and the enlarged LR frames say what both should depict.
    It reads them as differences, enlarged: what was added to the LR frames, and what changes along the motion. That is
    the
    same information, but true and generated frames differ in nothing else, and in plain RGB the difference is faint:
    within a hundred steps the network learns next to nothing from that (benchmarks/discriminator.py). A mean over the
    logits of all places stands in for TecoGAN's dense layer, so that any size of image is taken.
    """

    CONTRAST = 4.0  # differences of natural frames, times this, are of the size of the frames themselves

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
        self.last = nn.Conv2d(4 * width, 1, 1)  # not normalised: it sets the scale of the scores

    def forward(self, frames: Tensor, warped: Tensor, conditions: Tensor) -> Tensor:
        """Return scores (B, 1), probability or logit as the config says.

        Args:
            frames: images t-1, t, t+1 (B, 3, 3, H, W).
            warped: the same brought onto frame t by flow; the middle one unchanged (B, 3, 3, H, W).
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
        """Return what the first layer sees (B, 27, H, W): detail added to the LR frames, change along the motion, LR frames."""
        detail, motion = self.CONTRAST * (frames - conditions), self.CONTRAST * (warped - frames[:, 1:2])
        return torch.cat([detail, motion, conditions - 0.5], dim=1).flatten(1, 2)

    def judge(self, features: list[Tensor]) -> Tensor:
        """Return the raw scores (B, 1) that belong to `features`, when a step needs both from one pass."""
        return self.last(features[-1]).mean((2, 3))


class SingleFrameDiscriminator(nn.Module):
    """Judge one frame, blind to time: SRGAN's discriminator (Ledig et al., CVPR 2017), as in iSeeBetter.

    A mean over places precedes the two dense layers, so that any size of image is taken (SRGAN fixes 96x96).
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
        """Return scores (B, 1) of images (B, 3, H, W), probability or logit as the config says."""
        return _score(self.logits(frame), self.config)

    def logits(self, frame: Tensor) -> Tensor:
        """Return raw scores (B, 1) of images (B, 3, H, W)."""
        return self.judge(self.features(frame))

    def features(self, frame: Tensor) -> list[Tensor]:
        """Return the activations of the eight convolutions, (B, C, h, w) from full size to H/16, for feature matching."""
        activations = [F.leaky_relu(self.conv1(frame), 0.2)]
        for index in range(2, 9):
            x = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(activations[-1]))
            activations.append(F.leaky_relu(x, 0.2))
        return activations

    def judge(self, features: list[Tensor]) -> Tensor:
        """Return the raw scores (B, 1) that belong to `features`, when a step needs both from one pass."""
        pooled = features[-1].mean((2, 3), keepdim=True)
        return self.dense2(F.leaky_relu(self.dense1(pooled), 0.2)).flatten(1)


# Where the six convolutions, and the batch norms behind the last five, stand in SRGAN discriminators that people
# publish:
# layers named one by one (also SingleFrameDiscriminator's own), or numbered in one sequence called net
SRGAN_LAYOUTS = (
    ([f"conv{index}" for index in range(1, 7)], [f"bn{index}" for index in range(2, 7)]),
    ([f"net.{index}" for index in (0, 2, 5, 8, 11, 14)], [f"net.{index}" for index in (3, 6, 9, 12, 15)]),
)


def load_srgan_start(discriminator: RecurrentDiscriminator, path: str | Path) -> None:
    """Initialise the six convolutions, and their batch norms if it has them, from an SRGAN discriminator, in place.

    The checkpoint is .safetensors or a .pth of tensors, in one of `SRGAN_LAYOUTS`; its later layers are not read.

    Raises:
        InputError: the file is absent, holds no such layers, or layers of another width.
    """
    state = read_state(path)
    convs, norms = next((layout for layout in SRGAN_LAYOUTS if f"{layout[0][-1]}.weight" in state), (None, None))
    if convs is None:
        raise InputError(
            f"checkpoint {path} is no SRGAN discriminator known here: it needs conv1 to conv6, or net.0 to net.14, with weights"
        )
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
        given, wanted = state.get(f"{name}.{part}"), getattr(layer, part)
        if given is None:
            raise InputError(f"checkpoint {path} lacks {name}.{part}: give an SRGAN discriminator's")
        if given.shape != wanted.shape:
            raise InputError(
                f"checkpoint {path}: {name}.{part} is {tuple(given.shape)}, the discriminator wants {tuple(wanted.shape)}: "
                "give one of the same width"
            )


@torch.no_grad()
def _copy_layer(layer: nn.Module, name: str, state: dict[str, Tensor]) -> None:
    for part in _names(layer):
        given = state[f"{name}.{part}"].to(getattr(layer, part))
        if part == "weight" and is_parametrized(layer, "weight"):
            layer.weight = given  # goes to the parameter below the spectral norm
        else:
            getattr(layer, part).copy_(given)
