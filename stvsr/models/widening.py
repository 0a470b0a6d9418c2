"""Start a larger RBPN from a smaller one, so that training does not start from scratch.

As in Net2Net (Chen, Goodfellow and Shlens, ICLR 2016), the larger network computes what the smaller one does. Its new
channels are random instead of copied, and their outgoing weights are zero until training changes them.
"""

from collections.abc import Sequence

import torch
from torch import nn

from stvsr.errors import InputError
from stvsr.models.rbpn import RBPN, RBPNConfig, ResidualBlock

# of Kaiming's initialisation in new residual branches (as in ESRGAN, Wang et al. 2018): at full scale, activations of
# new channels grow with every neighbour and one step of Adam destroys the pretrained function
RESIDUAL_SCALE = 0.1
# residual branches and the setting that gives the number of their channels
BRANCHES = {"res_feat1": "base_filter", "res_feat2": "feat", "res_feat3": "feat"}


def widen(small: RBPN, config: RBPNConfig) -> RBPN:
    """Return an RBPN of `config`'s size, initialised from `small`; `residual` is taken from `small`.

    With the same number of frames and residual blocks, both networks compute the same function. New residual blocks add
    nothing, but their PReLU scales negative values; new outer neighbours pass through the network with zero output
    weights.

    Raises:
        InputError: the scale differs, or a size would shrink.
    """
    _check_larger(small.config, config)
    large = RBPN(RBPNConfig(**vars(config) | {"residual": small.config.residual}))
    with torch.no_grad():
        _shrink_residual_branches(large)
        for name, layer in small.named_modules():
            copy = large.get_submodule(_name_in_large(name, small.config, config))
            if isinstance(layer, nn.PReLU) and isinstance(copy, nn.PReLU):
                copy.weight.copy_(layer.weight)
            elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and isinstance(copy, nn.Conv2d | nn.ConvTranspose2d):
                _embed(layer, copy, _input_channels(name, layer.in_channels, small.config, config))
        for branch, channels in BRANCHES.items():
            for block in list(large.get_submodule(branch).children())[small.config.n_resblock : config.n_resblock]:
                assert isinstance(block, ResidualBlock)
                block.conv2.weight[: getattr(small.config, channels)] = 0
    return large


def _check_larger(small: RBPNConfig, large: RBPNConfig) -> None:
    for name in ("base_filter", "feat", "num_stages", "n_resblock", "num_frames"):
        if getattr(large, name) < getattr(small, name):
            raise InputError(
                f"an RBPN of {name} {getattr(small, name)} cannot be widened to {getattr(large, name)}: "
                "choose a larger preset"
            )
    if large.scale != small.scale:
        raise InputError(f"an RBPN of scale {small.scale} cannot be widened to scale {large.scale}: keep the scale")


def _shrink_residual_branches(network: RBPN) -> None:
    for block in network.modules():
        if isinstance(block, ResidualBlock):
            block.conv1.weight *= RESIDUAL_SCALE
            block.conv2.weight *= RESIDUAL_SCALE


def _name_in_large(name: str, small: RBPNConfig, large: RBPNConfig) -> str:
    """Return the name of a layer in the larger network, where the last layer of a branch follows more blocks."""
    branch, _, rest = name.partition(".")
    index, _, inner = rest.partition(".")
    last = branch in BRANCHES and index == str(small.n_resblock)
    return ".".join(filter(None, (branch, str(large.n_resblock), inner))) if last else name


def _input_channels(name: str, inputs: int, small: RBPNConfig, large: RBPNConfig) -> Sequence[int]:
    """Return which input channels of the larger layer the smaller one has; concatenations have new ones in front."""
    ahead = {
        "DBPN.output.conv": large.num_stages - small.num_stages,
        "output.conv": (large.num_frames - small.num_frames) // 2,
    }
    if name not in ahead:
        return range(inputs)
    return [(i // small.feat + ahead[name]) * large.feat + i % small.feat for i in range(inputs)]


def _embed(old: nn.Conv2d | nn.ConvTranspose2d, new: nn.Conv2d | nn.ConvTranspose2d, columns: Sequence[int]) -> None:
    """Copy the weights of `old` into the first output channels of `new`; weights from other input channels are zero."""
    before, after = (
        layer.weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else layer.weight for layer in (old, new)
    )  # both (outputs, inputs, h, w)
    rows = old.out_channels
    after[:rows] = 0
    after[:rows, columns] = before
    assert old.bias is not None and new.bias is not None
    new.bias[:rows] = old.bias
