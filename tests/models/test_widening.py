"""A widened RBPN computes what the smaller one does, and all its new weights can learn."""

import dataclasses

import pytest
import tiny
import torch
from procedural_weights import fill

from stvsr.errors import InputError
from stvsr.models.generators import PRESETS, load_generator, save_generator, start_generator
from stvsr.models.rbpn import RBPN, RBPNConfig
from stvsr.models.widening import widen
from stvsr.training.log import logged
from stvsr.training.pretraining import pretrain

SMALL = RBPNConfig(base_filter=6, feat=3, num_stages=1, n_resblock=1, num_frames=3, residual=True)


def window(frames: int = 3) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    sizes = (1, 3, 8, 10), (1, frames - 1, 3, 8, 10), (1, frames - 1, 2, 8, 10)
    return tuple(torch.rand(size, generator=generator) for size in sizes)


def larger(small: RBPN, **changes) -> RBPN:
    torch.manual_seed(0)
    return widen(small, dataclasses.replace(small.config, **changes))


@pytest.mark.slow
@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize(
    "changes", [{}, {"base_filter": 9}, {"feat": 5}, {"num_stages": 3}, {"base_filter": 16, "feat": 8, "num_stages": 2}]
)
def test_a_wider_network_of_more_stages_computes_the_same(scale, changes):
    small = fill(RBPN(dataclasses.replace(SMALL, scale=scale)))
    large = larger(small, **changes)
    with torch.no_grad():
        assert torch.allclose(small(*window()), large(*window()), atol=1e-5)


def test_several_stages_keep_their_places():
    small = fill(RBPN(dataclasses.replace(SMALL, num_stages=2)))
    with torch.no_grad():
        assert torch.allclose(small(*window()), larger(small, num_stages=3, feat=4)(*window()), atol=1e-5)


def test_new_blocks_add_nothing_to_positive_values():
    """With PReLU slopes of 1, negative values pass too, and the function is the same."""
    small = fill(RBPN(SMALL))
    large = larger(small, n_resblock=3, base_filter=8, feat=4)
    for branch in (large.res_feat1, large.res_feat2, large.res_feat3):
        for block in branch[1:3]:
            torch.nn.init.ones_(block.act.weight)
    with torch.no_grad():
        assert torch.allclose(small(*window()), large(*window()), atol=1e-5)


def test_new_outer_neighbours_have_zero_output_weights():
    """The output layer reads the inner neighbours only; the recurrence passes through the outer ones."""
    small = fill(RBPN(SMALL))
    weight = larger(small, num_frames=7, feat=4).output.conv.weight.unflatten(
        1, (6, 4)
    )  # (3, neighbour, channel, 3, 3)
    assert torch.equal(weight[:, 2:4, :3], small.output.conv.weight.unflatten(1, (2, 3)))
    assert not weight[:, [0, 1, 4, 5]].any()
    assert not weight[:, :, 3:].any()


@pytest.mark.slow
def test_every_weight_has_a_gradient_from_the_second_step_on():
    """Weights that read new channels learn in the first step, the new channels themselves in the second."""
    large = larger(fill(RBPN(SMALL)), base_filter=8, feat=4, num_stages=2, n_resblock=2, num_frames=5)
    optimizer = torch.optim.SGD(large.parameters(), lr=1e-3)
    still = []
    for _ in range(2):
        optimizer.zero_grad()
        (large(*window(5)) ** 2).mean().backward()
        still.append([name for name, value in large.named_parameters() if not value.grad.any()])
        optimizer.step()
    assert still[0] and not still[1]


@pytest.mark.slow
def test_new_channels_are_as_large_as_the_old_ones():
    """After all six neighbours of the published size; Kaiming's full initialisation makes them 1000 times larger."""
    torch.manual_seed(0)
    small, _ = load_generator("rbpn-small")
    large, seen = widen(small, PRESETS["rbpn"]), []
    large.res_feat3.register_forward_hook(lambda module, inputs, output: seen.append(output))  # L_k
    with torch.no_grad():
        large(*window(7))
    old, new = seen[-1][:, : small.config.base_filter].std(), seen[-1][:, small.config.base_filter :].std()
    assert 0.1 < new / old < 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feat": 2}, "feat 3 cannot be widened to 2"),
        ({"num_frames": 5}, "num_frames 7 cannot be widened to 5"),
        ({"scale": 2}, "scale 4 cannot be widened to scale 2"),
    ],
)
def test_a_size_that_would_shrink_is_named(changes, message):
    with pytest.raises(InputError, match=message):
        larger(RBPN(dataclasses.replace(SMALL, num_frames=7)), **changes)


def test_the_small_preset_widens_to_the_published_size():
    config = widen(RBPN(PRESETS["rbpn-small"]), PRESETS["rbpn"]).config
    assert config == dataclasses.replace(PRESETS["rbpn"], residual=True)


@pytest.mark.slow
def test_a_training_widens_its_start(tmp_path):
    """Its first loss equals that of the smaller network, and its checkpoint has the larger size."""
    data = tiny.write_clips(tmp_path / "clips", 1)
    tiny_config = tiny.pretraining(data, steps=1, learning_rate=1e-6)
    pretrain(tiny_config, tmp_path / "tiny")
    config = dataclasses.replace(
        tiny_config,
        generator="rbpn-small",
        initial_weights=str(tmp_path / "tiny" / "generator.safetensors"),
        widen=True,
    )
    assert pretrain(config, tmp_path / "small")
    first, second = (logged(tmp_path / name)["pixel"].iloc[0] for name in ("tiny", "small"))
    assert second == pytest.approx(first, rel=1e-3)
    assert load_generator(tmp_path / "small" / "generator.safetensors")[0].config == PRESETS["rbpn-small"]


def test_what_cannot_be_widened_is_named(tmp_path):
    save_generator(tmp_path / "tiny.safetensors", fill(RBPN(PRESETS["rbpn-tiny"])))
    start = str(tmp_path / "tiny.safetensors")
    assert start_generator("rbpn-small", start, widen=True).config == PRESETS["rbpn-small"]
    with pytest.raises(InputError, match="widen needs weights to start from"):
        start_generator("rbpn-small", "", widen=True)
    with pytest.raises(InputError, match="cannot be widened to basicvsr: only an RBPN can"):
        start_generator("basicvsr", start, widen=True)


def test_residual_does_not_count_as_size(tmp_path):
    for residual in (False, True):
        save_generator(
            tmp_path / "g.safetensors", fill(RBPN(dataclasses.replace(PRESETS["rbpn-tiny"], residual=residual)))
        )
        assert start_generator("rbpn-tiny", str(tmp_path / "g.safetensors")).config.residual is residual
