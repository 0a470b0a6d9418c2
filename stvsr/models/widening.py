"""A larger RBPN from a smaller one, so that training goes on where the smaller one ended instead of from nothing.

Net2Net (Chen, Goodfellow and Shlens, ICLR 2016) with new channels that nobody reads yet instead of copied ones: what
the small network computes stays, and new channels, drawn at random, are let in by training.
"""

from collections.abc import Sequence

import torch
from torch import nn

from stvsr.errors import InputError
from stvsr.models.rbpn import RBPN, RBPNConfig, ResidualBlock

# of Kaiming's draw in new residual branches (Wang et al., ESRGAN, 2018): with the whole of it, new channels of the
# published size are a
# thousand times as large as the small network's after six neighbours, and one step of Adam destroys what was kept
RESIDUAL_SCALE = 0.1


def grow(small: RBPN, config: RBPNConfig) -> RBPN:
    """Return an RBPN of `config`'s size that begins with what `small` can do; whether it adds bicubic is `small`'s.

    With as many frames and residual blocks as before it computes the same. New residual blocks add nothing, but their
    PReLU dampens what is negative; new outer neighbours are passed through and not yet read.

    Raises:
        InputError: the scale is another or something would shrink.
    """
    for name in ("base_filter", "feat", "num_stages", "n_resblock", "num_frames"):
        if getattr(config, name) < getattr(small.config, name):
            raise InputError(f"an RBPN of {name} {getattr(small.config, name)} cannot grow to {getattr(config, name)}")
    if config.scale != small.config.scale:
        raise InputError(f"an RBPN of scale {small.config.scale} cannot grow to scale {config.scale}")
    large = RBPN(RBPNConfig(**vars(config) | {"residual": small.config.residual}))
    with torch.no_grad():
        for block in large.modules():
            if isinstance(block, ResidualBlock):
                block.conv1.weight *= RESIDUAL_SCALE
                block.conv2.weight *= RESIDUAL_SCALE
        for name, layer in small.named_modules():
            target = large.get_submodule(_place(name, small.config, config))
            if isinstance(layer, nn.PReLU):
                target.weight.copy_(layer.weight)
            elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                _embed(layer, target, _columns(name, layer.in_channels, small.config, config))
        for branch, channels in (("res_feat1", "base_filter"), ("res_feat2", "feat"), ("res_feat3", "feat")):
            for block in large.get_submodule(branch)[small.config.n_resblock : config.n_resblock]:
                block.conv2.weight[: getattr(small.config, channels)] = 0
    return large


def _place(name: str, small: RBPNConfig, large: RBPNConfig) -> str:
    """Return the larger network's name of a layer: the last one of a branch comes after more blocks."""
    branch, _, rest = name.partition(".")
    index, _, inner = rest.partition(".")
    last = branch.startswith("res_feat") and index == str(small.n_resblock)
    return ".".join(filter(None, (branch, str(large.n_resblock), inner))) if last else name


def _columns(name: str, inputs: int, small: RBPNConfig, large: RBPNConfig) -> Sequence[int]:
    """Return where a layer's input channels are among the larger one's, whose concatenations are longer."""
    ahead = {
        "DBPN.output.conv": large.num_stages - small.num_stages,
        "output.conv": (large.num_frames - small.num_frames) // 2,
    }
    if name not in ahead:
        return range(inputs)
    return [(i // small.feat + ahead[name]) * large.feat + i % small.feat for i in range(inputs)]


def _embed(old: nn.Module, new: nn.Module, columns: Sequence[int]) -> None:
    """Give the first output channels of `new` the weights of `old`, and nothing from channels that `old` did not have."""
    weights = [
        layer.weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else layer.weight for layer in (old, new)
    ]
    rows = old.out_channels
    weights[1][:rows] = 0
    weights[1][:rows, columns] = weights[0]
    new.bias[:rows] = old.bias
