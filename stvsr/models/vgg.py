"""Frozen features of VGG networks trained on ImageNet (Simonyan and Zisserman, ICLR 2015), for the perceptual loss."""

from pathlib import Path

import torch
from torch import Tensor, nn

from stvsr import assets
from stvsr.errors import InputError, unknown
from stvsr.models.state_dicts import read_state

CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # per block
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in [0, 1]


def layer_names(network: str) -> list[str]:
    """Return the names of a network's layers in order: conv1_1, relu1_1, conv1_2, ..., pool1, conv2_1, ..., pool5.

    The index of a name in the list is its number in torchvision's `features`.

    Raises:
        InputError: `network` is neither vgg16 nor vgg19.
    """
    if network not in CONVOLUTIONS:
        raise unknown("VGG network", network, CONVOLUTIONS)
    names = []
    for block, count in enumerate(CONVOLUTIONS[network], start=1):
        for index in range(1, count + 1):
            names += [f"conv{block}_{index}", f"relu{block}_{index}"]
        names.append(f"pool{block}")
    return names


class VGGFeatures(nn.Module):
    """Activations of one layer of VGG16 or VGG19, with frozen weights.

    Args:
        layer: a name of `layer_names`. The 2019 report uses relu3_1, iSeeBetter pool5.
        network: vgg16 (weights from the asset of that name) or vgg19 (`weights` needed).
        weights: a checkpoint in torchvision's format (`features.0.weight`, ...; .pth or .safetensors).

    Raises:
        InputError: the network or layer is unknown, or the weights are missing or those of another network.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layer: str = "relu3_1", network: str = "vgg16", weights: str | Path | None = None):
        super().__init__()
        names = layer_names(network)
        if layer not in names:
            raise unknown(f"{network} layer", layer, names)
        self.layers = nn.Sequential()
        inputs = 3
        for name in names[: names.index(layer) + 1]:
            outputs = CHANNELS[int(name[4]) - 1]
            self.layers.add_module(name, _layer(name, inputs, outputs))
            inputs = outputs
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self._load(network, weights)
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """Return activations (B, C, h, w) of images (B, 3, H, W), RGB in [0, 1]; gradients reach the images."""
        return self.layers((image - self.mean) / self.std)

    @torch.no_grad()
    def _load(self, network: str, weights: str | Path | None) -> None:
        source = weights or f"asset {network}"
        state = _shipped(network) if weights is None else _torchvision(network, weights)
        for name, conv in self.layers.named_children():
            for part, parameter in conv.named_parameters():
                given = state.get(f"{name}.{part}")
                if given is None or given.shape != parameter.shape:
                    found = "missing" if given is None else f"of shape {tuple(given.shape)}"
                    raise InputError(f"{source}: {part} of {name} is {found}, {network} needs {tuple(parameter.shape)}")
                parameter.copy_(given)


def _layer(name: str, inputs: int, outputs: int) -> nn.Module:
    if name.startswith("conv"):
        return nn.Conv2d(inputs, outputs, 3, padding=1)
    return nn.ReLU() if name.startswith("relu") else nn.MaxPool2d(2)


def _shipped(network: str) -> dict[str, Tensor]:
    """Return the convolutions of the asset by layer name, weights (O, I, h, w)."""
    if network != "vgg16":
        raise InputError(
            f"weights of {network} do not come with the package: "
            f"give weights=PATH of torchvision's {network} checkpoint, or use network='vgg16'"
        )
    names = [name for name in layer_names(network) if name.startswith("conv")]
    state: dict[str, Tensor] = {}
    for name, (weight, bias) in zip(names, read_convolutions("vgg16"), strict=True):
        state |= {f"{name}.weight": weight, f"{name}.bias": bias}
    return state


def _torchvision(network: str, path: str | Path) -> dict[str, Tensor]:
    numbers = {f"features.{index}": name for index, name in enumerate(layer_names(network))}
    state = {}
    for key, tensor in read_state(path).items():
        place, _, part = key.rpartition(".")
        if place in numbers:
            state[f"{numbers[place]}.{part}"] = tensor
    return state


def read_convolutions(asset: str) -> list[tuple[Tensor, Tensor]]:
    """Return weight (O, I, h, w) and bias (O,) of each convolution of a backbone asset, in order."""
    arrays = assets.load_arrays(assets.locate(asset))
    backbone = next(value for key, value in arrays.items() if not key.startswith("NetLin"))
    layers = [backbone[f"Conv_{i}"] for i in range(len(backbone))]
    return [  # kernels of the asset are (h, w, I, O)
        (torch.tensor(layer["kernel"].transpose(3, 2, 0, 1)), torch.tensor(layer["bias"])) for layer in layers
    ]
