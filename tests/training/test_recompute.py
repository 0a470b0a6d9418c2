"""Activation checkpointing: the same training, with a fraction of the stored activations."""

import copy
import dataclasses

import pytest
import tiny
import torch

from stvsr.errors import InputError
from stvsr.models import generators
from stvsr.models.basicvsr import BasicVSRConfig
from stvsr.models.generators import build_generator, generate, load_generator
from stvsr.training.finetuning import finetune
from stvsr.training.launch import identity
from stvsr.training.pretraining import pretrain
from stvsr.training.recompute import recompute_activations


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(autouse=True)
def _small_basicvsr(monkeypatch):
    monkeypatch.setitem(generators.PRESETS, "basicvsr", BasicVSRConfig(features=8, blocks=3))


def largest_difference(first, second) -> float:
    ours, theirs = (load_generator(folder / "generator.safetensors")[0].state_dict() for folder in (first, second))
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)


def loss_and_stored(generator, preset: str) -> tuple[torch.Tensor, int]:
    """Return a loss with its graph, and how many bytes the graph holds besides weights."""
    torch.manual_seed(1)
    lr = torch.rand(2, 7 if preset == "basicvsr" else 5, 3, 16, 16)
    flows = None if preset == "basicvsr" else torch.randn(2, 1, 4, 2, 16, 16)
    weights = {value.untyped_storage().data_ptr() for value in generator.parameters()}
    stored: dict[int, int] = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            stored[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = generate(generator, lr, flows).square().mean()
    return loss, sum(stored.values())


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["rbpn-tiny", "basicvsr"])
def test_gradients_are_the_same_and_a_fraction_is_stored(preset):
    """Tolerance 1e-6 relative to the largest gradient: the same operations in the same order."""
    torch.manual_seed(0)
    plain = build_generator(preset).train()
    again = copy.deepcopy(plain)
    recompute_activations(again)
    assert again.state_dict().keys() == plain.state_dict().keys()
    losses, stored = zip(*(loss_and_stored(generator, preset) for generator in (plain, again)), strict=True)
    assert torch.equal(losses[0], losses[1])
    for loss in losses:
        loss.backward()
    pairs = [(a.grad, b.grad) for a, b in zip(plain.parameters(), again.parameters(), strict=True)]
    largest = max(a.abs().max().item() for a, _ in pairs)
    assert max((a - b).abs().max().item() for a, b in pairs) < 1e-6 * largest
    assert stored[1] < 0.5 * stored[0], stored


@pytest.mark.slow
def test_the_same_training_with_averages_and_validation(data, tmp_path):
    """Tolerance 1e-6 on weights that moved by up to 2 steps of 1e-3."""
    for name, recompute in (("plain", False), ("again", True)):
        config = tiny.pretraining(data, steps=2, ema=0.5, validate_every=1, recompute=recompute)
        assert pretrain(config, tmp_path / name)
    assert largest_difference(tmp_path / "plain", tmp_path / "again") < 1e-6
    assert identity(config) == identity(
        dataclasses.replace(config, optim=dataclasses.replace(config.optim, recompute=False))
    )


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["recurrent-d-flow", "triplet-d-pingpong"])
def test_the_same_fine_tuning(data, tmp_path, arm):
    """Tolerance 1e-6 on weights that moved by up to 2 steps of 1e-3."""
    for name, changes in (("plain", {}), ("again", {"recompute": True})):
        assert finetune(tiny.finetuning(data, arm, steps=2, **changes), tmp_path / name)
    assert largest_difference(tmp_path / "plain", tmp_path / "again") < 1e-6


def test_it_excludes_compiling():
    with pytest.raises(InputError, match="recompute and compile are both true"):
        tiny.optim(recompute=True, compile=True)
