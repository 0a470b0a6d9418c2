"""BasicVSR (Chan et al., CVPR 2021): features propagated over the whole clip in both directions, x4.

Parameter names are those of the published weights (BI and BD, 64 features, 30 blocks per direction).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stvsr.assets import locate
from stvsr.errors import InputError, unknown
from stvsr.models.spynet import SPyNet
from stvsr.warp import warp

SCALE = 4
PUBLISHED = ("basicvsr-bi", "basicvsr-bd")


@dataclass(frozen=True, kw_only=True)
class BasicVSRConfig:
    """Size of a BasicVSR; the defaults are the published network.

    features: channels at the input's size. blocks: residual blocks per direction. upsampled: channels at the output's
    size. flow_shrink: frames are divided by this before the flow network.
    """

    features: int = 64
    blocks: int = 30
    upsampled: int = 64
    flow_shrink: int = 1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise InputError(f"{name} of BasicVSR is {value}: it must be at least 1")


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return features + self.conv2(F.relu(self.conv1(features)))


class _Trunk(nn.Module):
    """R of equation 2: a convolution over the frame and the propagated features, then residual blocks."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(3 + channels, channels, 3, padding=1),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Sequential(*[_ResidualBlock(channels) for _ in range(blocks)]),
        )

    def forward(self, frame: Tensor, propagated: Tensor) -> Tensor:
        return self.main(torch.cat([frame, propagated], dim=1))


class BasicVSR(nn.Module):
    """Recurrent x4 super-resolution; every output frame depends on the whole clip."""

    def __init__(self, config: BasicVSRConfig | None = None) -> None:
        super().__init__()
        config = config or BasicVSRConfig()
        self.config = config
        self.spynet = SPyNet()
        self.backward_trunk = _Trunk(config.features, config.blocks)
        self.forward_trunk = _Trunk(config.features, config.blocks)
        self.fusion = nn.Conv2d(2 * config.features, config.features, 1)
        self.upconv1 = nn.Conv2d(config.features, 4 * config.features, 3, padding=1)
        self.upconv2 = nn.Conv2d(config.features, 4 * config.upsampled, 3, padding=1)
        self.conv_hr = nn.Conv2d(config.upsampled, config.upsampled, 3, padding=1)
        self.conv_last = nn.Conv2d(config.upsampled, 3, 3, padding=1)

    def forward(self, clip: Tensor) -> Tensor:
        """Upscale every frame of a clip: (B, T, 3, h, w) in [0, 1] -> (B, T, 3, 4h, 4w), not clamped. T may be 1."""
        return torch.stack(list(self.frames(clip, *self.flows(clip))), dim=1)

    def flows(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """Return the flows between adjacent frames, in pixels: t -> t+1 and t+1 -> t, each (B, T-1, 2, h, w)."""
        earlier, later = clip[:, :-1].flatten(0, 1), clip[:, 1:].flatten(0, 1)
        shape = (clip.shape[0], clip.shape[1] - 1, 2, *clip.shape[-2:])
        if clip.shape[1] == 1:
            return clip.new_zeros(shape), clip.new_zeros(shape)
        return self._flow(earlier, later).view(shape), self._flow(later, earlier).view(shape)

    def _flow(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the flow between frames (N, 3, h, w), estimated at 1 / flow_shrink of the size: (N, 2, h, w)."""
        shrink = self.config.flow_shrink
        if shrink == 1:
            return self.spynet(first, second)
        small = (F.interpolate(frame, scale_factor=1 / shrink, mode="area") for frame in (first, second))
        flow = F.interpolate(self.spynet(*small), size=first.shape[-2:], mode="bilinear", align_corners=False)
        return shrink * flow

    def frames(self, clip: Tensor, to_next: Tensor, to_previous: Tensor) -> Iterator[Tensor]:
        """Yield the HR frames (B, 3, 4h, 4w) one by one, so that the output of a long clip never has to fit in memory.

        `clip` is (B, T, 3, h, w); both flows (B, T-1, 2, h, w) come from `flows`. Section 3 of the paper.
        """
        length = clip.shape[1]
        future = dict(self._propagate(self.backward_trunk, clip, to_next, range(length - 1, -1, -1)))
        for t, past in self._propagate(self.forward_trunk, clip, to_previous, range(length)):
            yield self._reconstruct(clip[:, t], future.pop(t), past)

    def _propagate(self, trunk: _Trunk, clip: Tensor, flows: Tensor, order: range) -> Iterator[tuple[int, Tensor]]:
        """Yield (t, features) in the given order; the trunk also reads the previous features, warped (equation 2)."""
        batch, _, _, height, width = clip.shape
        features = clip.new_zeros(batch, self.config.features, height, width)
        for t in order:
            if t != order.start:
                flow = flows[:, min(t, t - order.step)]  # a pair of frames is stored under the index of the earlier one
                # warp in full precision: half precision rounds sub-pixel positions
                features = warp(features.float(), flow.float(), padding="zeros")
            features = trunk(clip[:, t], features)
            yield t, features

    def _reconstruct(self, frame: Tensor, future: Tensor, past: Tensor) -> Tensor:
        """Return U of equation 3: both directions fused, two pixel shuffles, plus the frame enlarged bilinearly."""
        fused = _rectify(self.fusion(torch.cat([future, past], dim=1)))
        doubled = _rectify(F.pixel_shuffle(self.upconv1(fused), 2))
        enlarged = _rectify(F.pixel_shuffle(self.upconv2(doubled), 2))
        detail = self.conv_last(_rectify(self.conv_hr(enlarged)))
        return detail + F.interpolate(frame, scale_factor=SCALE, mode="bilinear", align_corners=False)


def _rectify(features: Tensor) -> Tensor:
    return F.leaky_relu(features, 0.1, inplace=True)


def load_basicvsr(name: str = "basicvsr-bi", device: torch.device | str = "cpu") -> BasicVSR:
    """Return BasicVSR with the published weights for BI or BD degradation, in evaluation mode.

    Raises:
        InputError: the name is neither `basicvsr-bi` nor `basicvsr-bd`, or the asset is not installed.
    """
    if name not in PUBLISHED:
        raise unknown("published BasicVSR", name, PUBLISHED)
    network = BasicVSR()
    network.load_state_dict(torch.load(locate(name), map_location="cpu", weights_only=True)["params"])
    return network.to(device).eval()
