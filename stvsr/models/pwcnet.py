"""PWC-Net, differentiable optical flow (Sun, Yang, Liu and Kautz, CVPR 2018), in plain PyTorch.

This is the densely connected variant with a context network ("PWC-DC"). Module names follow the publisher's
checkpoint, so that it loads strictly. That checkpoint was trained on BGR images: `PWCNet.forward` expects the channel
order of its weights, `PWCNet.pixels` takes RGB images like the rest of the project and swaps the channels.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stvsr.models.state_dicts import load_state, read_state
from stvsr.warp import warp

UNIT = 20  # pixels per unit of the network's flow
STRIDE = 64  # the coarsest of the six levels
REACH = 4  # largest displacement of the cost volume, in pixels of its level
PYRAMID = (3, 16, 32, 64, 96, 128, 196)  # channels of the images and of levels 1 to 6
DENSE = (128, 128, 96, 64, 32)  # channels that each dense block adds
CONTEXT = ((128, 1), (128, 2), (128, 4), (96, 8), (64, 16), (32, 1))  # (channels, dilation)


def cost_volume(first: Tensor, second: Tensor) -> Tensor:
    """Correlate each position of `first` with its neighbourhood in `second`, both (B, C, H, W): (B, 81, H, W).

    Channel 9 (dy + 4) + dx + 4 is the mean over C of first(x) second(x + (dx, dy)); outside the image `second` is zero.
    """
    height, width = first.shape[-2:]
    padded = F.pad(second, (REACH,) * 4)
    side = range(2 * REACH + 1)
    return torch.stack(
        [(first * padded[..., y : y + height, x : x + width]).mean(1) for y in side for x in side], dim=1
    )


def warp_features(features: Tensor, flow: Tensor) -> Tensor:
    """Sample `features` (B, C, H, W) at x + flow(x), flow in pixels of this level; zero where that leaves the image."""
    inside = warp(torch.ones_like(features[:, :1]), flow, padding="zeros") >= 0.9999
    return warp(features, flow, padding="zeros") * inside


def _conv(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation), nn.LeakyReLU(0.1))


class PWCNet(nn.Module):
    """Optical flow from the first image to the second."""

    def __init__(self):
        super().__init__()
        for level in range(1, 7):
            before, channels = PYRAMID[level - 1 : level + 1]
            # the publisher names the strided convolution of the coarsest level 6aa and the next one 6a
            names = ("aa", "a", "b") if level == 6 else ("a", "aa", "b")
            for name, inputs, stride in zip(names, (before, channels, channels), (2, 1, 1), strict=True):
                setattr(self, f"conv{level}{name}", _conv(inputs, channels, stride))
        for level in range(6, 1, -1):
            channels = (2 * REACH + 1) ** 2 + (0 if level == 6 else PYRAMID[level] + 2 + 2)
            for index, outputs in enumerate(DENSE):
                setattr(self, f"conv{level}_{index}", _conv(channels, outputs))
                channels += outputs
            setattr(self, f"predict_flow{level}", nn.Conv2d(channels, 2, 3, 1, 1))
            setattr(self, f"deconv{level}", nn.ConvTranspose2d(2, 2, 4, 2, 1))
            if level > 2:
                setattr(self, f"upfeat{level}", nn.ConvTranspose2d(channels, 2, 4, 2, 1))
        self.get_submodule("deconv2").requires_grad_(
            False
        )  # in the checkpoint but unused: DistributedDataParallel would wait for its gradient
        for index, (outputs, dilation) in enumerate(CONTEXT, start=1):
            setattr(self, f"dc_conv{index}", _conv(channels, outputs, dilation=dilation))
            channels = outputs
        self.dc_conv7 = nn.Conv2d(channels, 2, 3, 1, 1)

    def _pyramid(self, image: Tensor) -> list[Tensor]:
        levels = [image]
        for level in range(1, 7):
            x = levels[-1]
            for name in ("aa", "a", "b") if level == 6 else ("a", "aa", "b"):
                x = getattr(self, f"conv{level}{name}")(x)
            levels.append(x)
        return levels

    def _decode(self, level: int, x: Tensor) -> Tensor:
        for index in range(len(DENSE)):
            x = torch.cat([getattr(self, f"conv{level}_{index}")(x), x], dim=1)
        return x

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the flow (B, 2, H/4, W/4) from first to second, in units of 20 px of the full image.

        Images (B, 3, H, W) in [0, 1], H and W multiples of 64; channel order that of the weights (publisher's: BGR).
        """
        ones, twos = self._pyramid(first), self._pyramid(second)
        x = self._decode(6, F.leaky_relu(cost_volume(ones[6], twos[6]), 0.1))
        for level in range(5, 1, -1):
            flow = getattr(self, f"deconv{level + 1}")(getattr(self, f"predict_flow{level + 1}")(x))
            features = getattr(self, f"upfeat{level + 1}")(x)
            warped = warp_features(twos[level], flow * (UNIT / 2**level))
            cost = F.leaky_relu(cost_volume(ones[level], warped), 0.1)
            x = self._decode(level, torch.cat([cost, ones[level], flow, features], dim=1))
        flow = self.get_submodule("predict_flow2")(x)
        for index in range(1, len(CONTEXT) + 1):
            x = getattr(self, f"dc_conv{index}")(x)
        return flow + self.dc_conv7(x)

    def pixels(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the flow (B, 2, H, W) in pixels, (dx, dy): `warp(second, flow)` resembles first.

        Images (B, 3, H, W), RGB in [0, 1], any size: the border is repeated up to a multiple of 64. The
        quarter-resolution flow is enlarged bilinearly and multiplied by 20 px, as in the 2019 study. Gradients reach
        images and weights. Computed in single precision even under autocast: in half precision, positions are wrong
        by whole pixels.
        """
        height, width = first.shape[-2:]
        margin = (0, -width % STRIDE, 0, -height % STRIDE)
        pair = [F.pad(image.float().flip(1), margin, mode="replicate") for image in (first, second)]
        with torch.autocast(first.device.type, enabled=False):
            flow = F.interpolate(self(*pair), scale_factor=4, mode="bilinear", align_corners=False)
        return UNIT * flow[..., :height, :width]


def load_pwcnet(path: str | Path) -> PWCNet:
    """Read the publisher's checkpoint (.pth, .pth.tar), or a safetensors file of the same names, into a PWCNet.

    Nesting under `state_dict` and the prefix `module.` are removed. The weights expect BGR: see `PWCNet.pixels`.

    Raises:
        InputError: the file is missing, is not a checkpoint, or is not one of PWC-Net.
    """
    network = PWCNet()
    load_state(network, read_state(path), f"checkpoint {path}")
    return network
