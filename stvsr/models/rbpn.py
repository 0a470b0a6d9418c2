"""RBPN, the recurrent back-projection network (Haris, Shakhnarovich and Ukita, CVPR 2019).

Module and parameter names follow the published checkpoints, so that those load strictly.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stvsr.degradation import bicubic_up
from stvsr.errors import InputError

# scale: (kernel, stride, padding) of every up- and down-projection
PROJECTION = {2: (6, 2, 2), 4: (8, 4, 2), 8: (12, 8, 2)}


@dataclass(frozen=True, kw_only=True)
class RBPNConfig:
    """Size of an RBPN; the defaults are the published x4 network (12,771,943 parameters).

    base_filter: LR channels. feat: HR channels. num_stages: up-projections of the DBPN.
    n_resblock: residual blocks per branch. num_frames: window length T, odd. scale: 2, 4 or 8.
    residual: add the bicubic upscaling of the target to the output.
    """

    base_filter: int = 256
    feat: int = 64
    num_stages: int = 3
    n_resblock: int = 5
    num_frames: int = 7
    scale: int = 4
    residual: bool = False

    def __post_init__(self) -> None:
        for name in ("base_filter", "feat", "num_stages", "n_resblock"):
            if getattr(self, name) < 1:
                raise InputError(f"RBPN {name} is {getattr(self, name)}: it must be at least 1")
        if self.num_frames < 3 or self.num_frames % 2 == 0:
            raise InputError(f"RBPN num_frames is {self.num_frames}: it must be odd and at least 3")
        if self.scale not in PROJECTION:
            raise InputError(f"RBPN scale is {self.scale}: choose from {', '.join(map(str, PROJECTION))}")


class ConvBlock(nn.Module):
    """Convolution, then PReLU unless it is an output."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int, *, activate: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding)
        self.act = nn.PReLU() if activate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H', W')."""
        return self.act(self.conv(x))


class DeconvBlock(nn.Module):
    """Transposed convolution and PReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int):
        super().__init__()
        self.deconv = nn.ConvTranspose2d(inputs, outputs, kernel, stride, padding)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, s*h, s*w)."""
        return self.act(self.deconv(x))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a skip connection; the same PReLU is applied twice."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return self.act(x + self.conv2(self.act(self.conv1(x))))


class UpProjection(nn.Module):
    """Projection from LR to HR, corrected by the error of its first guess, measured at LR."""

    def __init__(self, channels: int, projection: tuple[int, int, int]):
        super().__init__()
        self.up_conv1 = DeconvBlock(channels, channels, *projection)
        self.up_conv2 = ConvBlock(channels, channels, *projection)
        self.up_conv3 = DeconvBlock(channels, channels, *projection)

    def forward(self, low: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C, s*h, s*w)."""
        high = self.up_conv1(low)
        return high + self.up_conv3(self.up_conv2(high) - low)


class DownProjection(nn.Module):
    """Projection from HR to LR, corrected by the error of its first guess, measured at HR."""

    def __init__(self, channels: int, projection: tuple[int, int, int]):
        super().__init__()
        self.down_conv1 = ConvBlock(channels, channels, *projection)
        self.down_conv2 = DeconvBlock(channels, channels, *projection)
        self.down_conv3 = ConvBlock(channels, channels, *projection)

    def forward(self, high: Tensor) -> Tensor:
        """Map (B, C, s*h, s*w) to (B, C, h, w)."""
        low = self.down_conv1(high)
        return low + self.down_conv3(self.down_conv2(low) - high)


class DBPN(nn.Module):
    """Single-image back projection: up-projections with down-projections between them (Haris et al., CVPR 2018)."""

    def __init__(self, base_filter: int, feat: int, stages: int, projection: tuple[int, int, int]):
        super().__init__()
        self.stages = stages
        self.feat1 = ConvBlock(base_filter, feat, 1, 1, 0)
        for stage in range(1, stages + 1):  # registered in the order of the published state dict
            self.add_module(f"up{stage}", UpProjection(feat, projection))
            if stage < stages:
                self.add_module(f"down{stage}", DownProjection(feat, projection))
        self.output = ConvBlock(stages * feat, feat, 1, 1, 0, activate=False)

    def forward(self, low: Tensor) -> Tensor:
        """Map (B, base_filter, h, w) to (B, feat, s*h, s*w)."""
        low = self.feat1(low)
        highs: list[Tensor] = []
        for stage in range(1, self.stages + 1):
            highs.insert(0, self.get_submodule(f"up{stage}")(low))
            if stage < self.stages:
                low = self.get_submodule(f"down{stage}")(highs[0])
        return self.output(torch.cat(highs, dim=1))


class RBPN(nn.Module):
    """Recurrent back projection over the neighbours of one target frame.

    Source: Haris et al. 2019, section 3; the 2019 study's generator G.
    """

    def __init__(self, config: RBPNConfig | None = None):
        super().__init__()
        self.config = config = config or RBPNConfig()
        base, feat, blocks = config.base_filter, config.feat, config.n_resblock
        projection = PROJECTION[config.scale]
        self.feat0 = ConvBlock(3, base, 3, 1, 1)
        self.feat1 = ConvBlock(8, base, 3, 1, 1)  # [target, neighbour, flow]
        self.DBPN = DBPN(base, feat, config.num_stages, projection)
        self.res_feat1 = nn.Sequential(
            *(ResidualBlock(base) for _ in range(blocks)), DeconvBlock(base, feat, *projection)
        )
        self.res_feat2 = nn.Sequential(*(ResidualBlock(feat) for _ in range(blocks)), ConvBlock(feat, feat, 3, 1, 1))
        self.res_feat3 = nn.Sequential(
            *(ResidualBlock(feat) for _ in range(blocks)), ConvBlock(feat, base, *projection)
        )
        self.output = ConvBlock((config.num_frames - 1) * feat, 3, 3, 1, 1, activate=False)
        self.apply(_initialise)
        if config.residual:  # the untrained network returns the bicubic enlargement
            nn.init.zeros_(self.output.conv.weight)

    def forward(self, target: Tensor, neighbours: Tensor, flows: Tensor) -> Tensor:
        """Return the HR target frame, (B, 3, s*h, s*w), in [0, 1] up to overshoot: not clamped.

        Args:
            target: LR frame t, (B, 3, h, w), RGB in [0, 1].
            neighbours: LR frames of the window without t, in time order, (B, T-1, 3, h, w).
            flows: LR flow from the target to each neighbour, (B, T-1, 2, h, w), LR pixels.

        Raises:
            InputError: the window length differs from the configured one.
        """
        expected = self.config.num_frames - 1
        if neighbours.shape[1] != expected or flows.shape[1] != expected:
            raise InputError(
                f"RBPN was built for {expected} neighbours and flows, got {neighbours.shape[1]} and {flows.shape[1]}"
            )
        # M_k and H_misr do not depend on the recurrence: compute all neighbours in one batch
        pairs = torch.cat([target.unsqueeze(1).expand_as(neighbours), neighbours, flows], dim=2)  # (B, T-1, 8, h, w)
        multi = self.res_feat1(self.feat1(pairs.flatten(0, 1))).unflatten(0, pairs.shape[:2])  # H_misr
        low, highs = self.feat0(target), []  # L_0
        for k in range(expected):
            single = self.DBPN(low)  # H_sisr
            highs.append(single + self.res_feat2(single - multi[:, k]))  # H_k
            if k < expected - 1:  # the last L_k is not used
                low = self.res_feat3(highs[-1])  # L_k
        output = self.output(torch.cat(highs, dim=1))
        return output + bicubic_up(target, self.config.scale) if self.config.residual else output


def _initialise(module: nn.Module) -> None:
    """Draw Kaiming-normal weights and set biases to zero, as in the published code."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        assert module.bias is not None
        nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(module.bias)
