"""SPyNet (Ranjan and Black, CVPR 2017): differentiable optical flow by a spatial pyramid, as trained in BasicVSR.

Parameter names are those of the published BasicVSR weights, so that its `spynet.*` entries load strictly.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stvsr.assets import locate
from stvsr.warp import warp

LEVELS = 6
MULTIPLE = 2 ** (LEVELS - 1)  # every level halves the size of the one below
CHANNELS = (8, 32, 64, 32, 16, 2)  # in: first image 3, warped second image 3, flow so far 2; out: flow residual 2


class _Level(nn.Module):
    """G_k of the paper: five 7x7 convolutions that estimate the residual of the upsampled flow."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for wide, narrow in itertools.pairwise(CHANNELS):
            layers += [nn.Conv2d(wide, narrow, 7, padding=3), nn.ReLU()]
        self.basic_module = nn.Sequential(*layers[:-1])  # no ReLU after the last: flow has either sign

    def forward(self, stacked: Tensor) -> Tensor:
        return self.basic_module(stacked)


class SPyNet(nn.Module):
    """Optical flow, coarse to fine over six levels."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.basic_module = nn.ModuleList(_Level() for _ in range(LEVELS))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the flow from `first` to `second`: `warp(second, flow)` resembles `first`.

        Sizes that are not multiples of 32 are stretched to the next multiple, and the flow is scaled back. Always
        computed in full precision: half precision cannot represent the position of a pixel in a wide frame.

        Args:
            first, second: (B, 3, H, W) RGB in [0, 1].

        Returns:
            (B, 2, H, W) flow in pixels, (dx, dy).
        """
        height, width = first.shape[-2:]
        tall, wide = ((side + MULTIPLE - 1) // MULTIPLE * MULTIPLE for side in (height, width))
        with torch.autocast(first.device.type, enabled=False):
            pyramids = (self._pyramid(_stretch(image.float(), tall, wide)) for image in (first, second))
            flow = self._refine(*pyramids)
        flow = _stretch(flow, height, width)
        return torch.cat([flow[:, :1] * (width / wide), flow[:, 1:] * (height / tall)], dim=1)

    def _pyramid(self, image: Tensor) -> list[Tensor]:
        """Return the normalised image at all levels, coarsest first."""
        levels = [(image - self.mean) / self.std]
        for _ in range(LEVELS - 1):
            levels.append(F.avg_pool2d(levels[-1], 2))
        return levels[::-1]

    def _refine(self, firsts: list[Tensor], seconds: list[Tensor]) -> Tensor:
        """Return the finest V_k = u(V_{k-1}) + G_k(I_k, w(J_k, u(V_{k-1})), u(V_{k-1})), equations 3 and 4."""
        batch, _, height, width = firsts[0].shape
        flow = firsts[0].new_zeros(batch, 2, height, width)
        for level, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
            if level:
                flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=True)
            flow = flow + self.basic_module[level](torch.cat([first, warp(second, flow), flow], dim=1))
        return flow


def load_spynet(device: torch.device | str = "cpu") -> SPyNet:
    """Return the SPyNet inside the BasicVSR-BI weights, frozen and in evaluation mode.

    Raises:
        InputError: the asset is not installed.
    """
    weights = torch.load(locate("basicvsr-bi"), map_location="cpu", weights_only=True)["params"]
    prefix = "spynet."
    network = SPyNet()
    network.load_state_dict(
        {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    )
    return network.to(device).eval().requires_grad_(False)


def _stretch(image: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(image, size=(height, width), mode="bilinear", align_corners=False)
