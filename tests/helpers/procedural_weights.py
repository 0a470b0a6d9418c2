"""Deterministic weights, so that a network's numbers can be compared without shipping its weights.

`fill(module)` walks `module.state_dict()` in order, skips non-floating entries, and for the i-th
floating tensor (i from 0) and flat index j (from 0), in float64:

    u = frac(sin(12.9898 (j + 1) + 78.233 (i + 1)) * 43758.5453)      in [0, 1)
    z = (u - 0.5) * sqrt(12)                                          zero mean, unit variance

    name ends in 'act.weight'                      0.25          (PReLU slopes)
    name ends in 'running_var'                     0.5 + u
    name ends in 'running_mean' or 'bias'          0.05 z
    any other one-dimensional tensor               1 + 0.1 z     (batch-norm scales)
    weight of a ConvTranspose2d, stride s          z / sqrt(shape[0] * kh * kw / s^2)
    any other weight                               z / sqrt(numel / shape[0])

then casts to the tensor's dtype. The order of the state dict is part of the contract: each .npz here
lists it (`state_keys`, a JSON object name -> shape, in order).
"""

import math

import torch


def fill(module: torch.nn.Module) -> torch.nn.Module:
    state = module.state_dict()
    strides = {
        f"{name}.weight": m.stride[0] for name, m in module.named_modules() if isinstance(m, torch.nn.ConvTranspose2d)
    }
    index = 0
    for name, tensor in state.items():
        if not tensor.dtype.is_floating_point:
            continue
        j = torch.arange(tensor.numel(), dtype=torch.float64)
        u = torch.sin(12.9898 * (j + 1) + 78.233 * (index + 1)) * 43758.5453
        u = u - torch.floor(u)
        z = (u - 0.5) * math.sqrt(12)
        if name.endswith("act.weight"):
            value = torch.full_like(z, 0.25)
        elif name.endswith("running_var"):
            value = 0.5 + u
        elif name.endswith(("running_mean", "bias")):
            value = 0.05 * z
        elif tensor.dim() == 1:
            value = 1 + 0.1 * z
        elif name in strides:
            value = z / math.sqrt(tensor.shape[0] * tensor[0, 0].numel() / strides[name] ** 2)
        else:
            value = z / math.sqrt(tensor[0].numel())
        state[name] = value.reshape(tensor.shape).to(tensor.dtype)
        index += 1
    module.load_state_dict(state)
    return module
