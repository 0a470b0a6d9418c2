"""Fine-tuned weights as differences from published ones, in 8 bits: a quarter of the size, and what is built on stays plain.

Fine-tuning moves every weight a little, so that rounding the way it moved loses far less than rounding where it stands.
Differences from zero are the weights themselves: for a network too large to ship in 16 bits.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from stvsr.errors import InputError

ZERO = "zero"  # the base of weights that are written themselves
LEVELS = 127  # of a signed byte
SCALE = "/scale"  # what a tensor of bytes is multiplied by, one value per row


def pack(state: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what `unpack` needs to turn `base` into `state`: bytes and scales; tensors that did not change are left out.

    The largest difference of a row (an output channel's weights) gets the largest byte: no value errs by more than
    1/254 of it.
    """
    packed = {}
    for name, tensor in state.items():
        difference = (tensor - base[name]).float()
        if not difference.any():
            continue
        rows = difference.reshape(len(difference), -1) if difference.dim() > 1 else difference.reshape(1, -1)
        scale = rows.abs().amax(1, keepdim=True) / LEVELS
        packed[name] = (
            (rows / scale.clamp(min=torch.finfo(torch.float32).tiny)).round().to(torch.int8).view(difference.shape)
        )
        packed[name + SCALE] = scale.flatten()
    return packed


def unpack(packed: Mapping[str, Tensor], base: Mapping[str, Tensor], source: object) -> dict[str, Tensor]:
    """Return the state that `pack` was given, but for rounding.

    Raises:
        InputError: `source`'s tensors do not fit those of `base`.
    """
    state = dict(base)
    for name, levels in packed.items():
        if name.endswith(SCALE):
            continue
        scale = packed.get(name + SCALE)
        if (
            name not in base
            or scale is None
            or levels.shape != base[name].shape
            or scale.numel() not in (1, len(levels))
        ):
            raise InputError(f"checkpoint {source}: {name} does not fit the weights that it says it changes")
        state[name] = base[name] + levels * scale.view(-1, *[1] * (levels.dim() - 1))
    return state
