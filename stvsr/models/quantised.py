"""Fine-tuned weights as 8-bit differences from published ones, a quarter of the size of 32 bits.

Fine-tuning moves every weight a little: 8-bit differences lose far less precision than 8-bit weights, and the file
states which weights it starts from. Differences from zero are the weights themselves, for networks that are too large
to ship in 16 bits.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from stvsr.errors import InputError

ZERO = "zero"  # the base of weights that are stored themselves
LEVELS = 127  # largest value of a signed byte that has a negative counterpart
SCALE = "/scale"  # suffix of the factors of a tensor of bytes, one per row


def pack(state: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the bytes and scales from which `unpack` rebuilds `state`; unchanged tensors are left out.

    The largest difference in a row (the weights of one output channel) maps to the largest byte, so that the error of a
    value is at most 1/254 of that difference.
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
    """Return the state that was given to `pack`, up to rounding.

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
            raise InputError(f"checkpoint {source}: {name} does not fit the weights that it is a difference from")
        state[name] = base[name] + levels * scale.view(-1, *[1] * (levels.dim() - 1))
    return state
