"""LPIPS, as a loss and as a metric: the authors' network, with its backbone from the assets."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from stvsr.models.vgg import read_convolutions
from stvsr.runs.device import exact

Features = list[Tensor]  # per layer, (C, h, w)
ASSET_OF = {"alex": "alexnet", "vgg": "vgg16"}


class LPIPS:
    """Learned perceptual image patch similarity, version 0.1 (Zhang et al. 2018), by the authors' package.

    The package builds the network and contains its linear layers; the backbone comes from an asset, so that nothing is
    downloaded.

    Args:
        net: "alex" or "vgg".
        device: where the network runs.
    """

    def __init__(self, net: str = "alex", device: torch.device | str = "cpu"):
        import lpips as package  # takes seconds (it imports torchvision), and most commands need no LPIPS

        self.device = torch.device(device)
        # the package first draws a random backbone: keep the caller's random state
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            network = package.LPIPS(net=net, pretrained=True, pnet_rand=True, verbose=False)
        _fill(network.net, ASSET_OF[net])
        self.network = network.to(self.device, memory_format=torch.channels_last).eval().requires_grad_(False)
        self.normalise = package.normalize_tensor

    @torch.inference_mode()
    def features(self, frames: Sequence[np.ndarray]) -> list[Features]:
        """Return the normalised features of equally large uint8 (H, W, 3) frames, computed as one batch."""
        with exact():
            image = 2 * to_batch(frames, self.device) - 1
            layers = [self.normalise(layer) for layer in self.network.net(self.network.scaling_layer(image))]
        return [[layer[i] for layer in layers] for i in range(len(frames))]

    @torch.inference_mode()
    def distance(self, first: Features, second: Features) -> float:
        """Return LPIPS, 0 for equal frames: weighted squared feature differences, mean over space, sum over layers."""
        with exact():
            layers = zip(self.network.lins, first, second, strict=True)
            return sum(linear((a - b)[None].square()).mean() for linear, a, b in layers).item()


def to_batch(frames: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """Convert uint8 (H, W, 3) frames to float32 (B, 3, H, W) in [0, 1] on the device."""
    stacked = torch.from_numpy(np.stack(frames)).to(device)
    return stacked.movedim(-1, 1).contiguous().float() / 255


def _fill(backbone: nn.Module, asset: str) -> None:
    """Copy the asset's convolutions into a backbone of the lpips package, strictly one to one."""
    targets = [module for module in backbone.modules() if isinstance(module, nn.Conv2d)]
    for module, (weight, bias) in zip(targets, read_convolutions(asset), strict=True):
        module.load_state_dict({"weight": weight, "bias": bias})
