"""Activation checkpointing: parts of a generator are computed again in the backward pass instead of being stored."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from stvsr.models.basicvsr import BasicVSR
from stvsr.models.generators import Generator
from stvsr.models.rbpn import RBPN

SEGMENTS = {  # submodules and methods of which only inputs and outputs are stored
    RBPN: ("feat1", "DBPN", "res_feat1", "res_feat2", "res_feat3"),
    BasicVSR: ("spynet", "backward_trunk", "forward_trunk", "_reconstruct"),
}


def recompute_activations(generator: Generator) -> None:
    """Make a generator store only the inputs and outputs of its `SEGMENTS` for the backward pass.

    Gradients stay the same up to float error; a step computes the forward pass twice. The state dict does not change.
    Copy the generator before, not after: a copy would compute with the original's weights.
    """
    for name in SEGMENTS[type(generator)]:
        part = getattr(generator, name)
        if isinstance(part, nn.Module):
            part.forward = _recomputed(part.forward)
        else:
            setattr(generator, name, _recomputed(part))


def _recomputed(function: Callable) -> Callable:
    def call(*inputs: Any) -> Any:
        if not torch.is_grad_enabled():
            return function(*inputs)
        return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)  # nothing is random

    return call
