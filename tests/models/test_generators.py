"""Generators in and out of files: names, sizes, published checkpoints, and every way in which a file can be wrong."""

import os

import pytest
import torch
from procedural_weights import fill
from safetensors.torch import save_file

from stvsr.errors import InputError
from stvsr.models import generators, quantised
from stvsr.models.basicvsr import BasicVSR, BasicVSRConfig, load_basicvsr
from stvsr.models.generators import (
    PRESETS,
    build_generator,
    infer_config,
    load_generator,
    same_size,
    save_generator,
    shipped_weights,
    start_generator,
)
from stvsr.models.rbpn import RBPN, RBPNConfig
from stvsr.models.state_dicts import load_state, read_state
from stvsr.runs.files import load_tensors, save_tensors

SIZE = {"base_filter": 6, "feat": 3, "num_stages": 2, "n_resblock": 2, "num_frames": 5}


def rbpn(**changes) -> RBPN:
    return fill(RBPN(RBPNConfig(**{**SIZE, **changes})))


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


# ---- our own checkpoints


@pytest.mark.parametrize(
    "network", [rbpn(residual=True), rbpn(scale=8), fill(BasicVSR(BasicVSRConfig(features=4, blocks=1)))]
)
def test_save_and_load_give_the_same_network_in_eval_mode(tmp_path, network):
    save_generator(tmp_path / "g.safetensors", network, task="pretraining", note="ä")
    loaded, meta = load_generator(tmp_path / "g.safetensors")
    assert same(network, loaded)
    assert loaded.config == network.config
    assert not loaded.training
    assert (meta["task"], meta["note"], meta["name"]) == ("pretraining", "ä", "g")
    assert len(meta["sha256"]) == 64


def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path):
    network = rbpn(base_filter=16)
    save_generator(tmp_path / "full.safetensors", network)
    save_generator(tmp_path / "half.safetensors", network, dtype=torch.float16)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.7 * sizes[1]
    loaded, _ = load_generator(tmp_path / "half.safetensors")
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32}
    for name, tensor in network.state_dict().items():
        assert torch.allclose(tensor, loaded.state_dict()[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("preset", list(PRESETS))
def test_presets_build_by_name(preset):
    assert build_generator(preset).config == PRESETS[preset]


def test_unknown_names_list_the_known_ones():
    with pytest.raises(InputError, match=r"'rbpn-large' is unknown: choose from rbpn, rbpn-small, rbpn-tiny"):
        build_generator("rbpn-large")
    with pytest.raises(InputError, match=r"neither a file nor a known name: choose from .*basicvsr-bi, basicvsr-bd"):
        load_generator("rbpn-huge")


@pytest.mark.slow
def test_shipped_weights_load_at_the_size_of_their_preset():
    for name in shipped_weights():
        network, meta = load_generator(name)
        preset = name.removesuffix("-adversarial")
        assert same_size(network, preset if preset in PRESETS else "rbpn-small")  # the study of time has one generator
        assert meta["sha256"]


def test_a_name_in_the_weights_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(generators, "WEIGHTS", tmp_path)
    save_generator(tmp_path / "mine.safetensors", rbpn())
    assert shipped_weights() == ["mine"]
    assert load_generator("mine")[1]["name"] == "mine"


# ---- published checkpoints


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["basicvsr", "basicvsr-fast"])
def test_tensors_alone_keep_the_size_at_which_a_preset_estimates_flow(tmp_path, preset):
    torch.save(build_generator(preset).state_dict(), tmp_path / "mine.pth")
    assert load_generator(tmp_path / "mine.pth")[0].config == generators.PRESETS[preset]


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("nest", ["", "state_dict", "params"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_published_checkpoint_loads_with_and_without_module(tmp_path, prefix, nest, suffix):
    network = rbpn(num_frames=7)
    state = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    path = tmp_path / f"published{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({nest: state} if nest else state, path)
    loaded, _ = load_generator(path)
    assert same(network, loaded)
    assert loaded.config == network.config


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scale": 2},
        {"scale": 8},
        {"num_stages": 1},
        {"n_resblock": 1},
        {"num_frames": 3},
        {"base_filter": 9, "feat": 4},
    ],
)
def test_the_size_is_read_off_the_tensors(changes):
    network = rbpn(**changes)
    assert infer_config(network.state_dict(), "here") == network.config


@pytest.mark.slow
def test_the_published_size_loads_strictly(tmp_path):
    """All 12.8 million parameters, under the names that DataParallel left."""
    state = {f"module.{name}": torch.zeros(1).expand(value.shape) for name, value in RBPN().state_dict().items()}
    torch.save(state, tmp_path / "RBPN_4x.pth")
    loaded, _ = load_generator(tmp_path / "RBPN_4x.pth")
    assert loaded.config == RBPNConfig()
    assert not loaded.output.conv.weight.any()  # not the random start


# ---- wrong files: one clear line each, never a silent start from random weights


def without(name):
    return lambda state: {key: value for key, value in state.items() if key != name}


WRONG = {
    "first layer missing": (without("feat0.conv.weight"), "feat0.conv.weight"),
    "inner layer missing": (without("DBPN.up1.up_conv2.conv.bias"), r"1 missing \(DBPN.up1.up_conv2.conv.bias"),
    "unknown key": (lambda state: state | {"head.weight": torch.zeros(2)}, r"1 unknown \(head.weight"),
    "another shape": (
        lambda state: state | {"feat1.conv.weight": torch.zeros(6, 7, 3, 3)},
        r"1 of another shape \(feat1.conv.weight",
    ),
    "another kernel": (
        lambda state: state | {"DBPN.up1.up_conv1.deconv.weight": torch.zeros(3, 3, 5, 5)},
        "no generator known here",
    ),
    "even window": (lambda state: state | {"output.conv.weight": torch.zeros(3, 9, 3, 3)}, "num_frames is 4"),
    "scalars": (lambda state: {key: torch.zeros(()) for key in state}, "no generator known here"),
    "another network": (lambda state: {"layers.0.weight": torch.zeros(3)}, "no generator known here"),
    "empty": (lambda state: {}, "holds no dictionary of named tensors"),
    "an optimiser": (lambda state: {"state": {}, "step": 3}, "holds no dictionary of named tensors"),
    "a list": (lambda state: [1, 2], "holds no dictionary of named tensors"),
}


def refused_in_one_line(path, change, message):
    """Save an RBPN's changed tensors; loading them must give one line that names the file."""
    torch.save(change(rbpn().state_dict()), path)
    with pytest.raises(InputError, match=message) as caught:
        load_generator(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(WRONG))
def test_a_wrong_checkpoint_is_one_clear_line(tmp_path, kind):
    refused_in_one_line(tmp_path / "wrong.pth", *WRONG[kind])


def test_our_own_checkpoint_with_a_wrong_description_is_refused(tmp_path):
    state = rbpn().state_dict()
    path = tmp_path / "g.safetensors"
    for kind, *config in [("rbpn2", {}), ("rbpn", {"feat": 0}), ("rbpn", {"f": 3}), ("rbpn",)]:
        save_tensors(path, state, {"model": kind} | ({"config": config[0]} if config else {}))
        with pytest.raises(InputError, match=r"describes no generator known here"):
            load_generator(path)
    save_tensors(path, state, {"model": "rbpn", "config": {**SIZE, "feat": 4}})
    with pytest.raises(InputError, match=r"of another shape.*give a checkpoint of this network and size"):
        load_generator(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x04broken"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ""])
def test_garbage_is_refused(tmp_path, content, suffix):
    (tmp_path / f"garbage{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=r"garbage") as caught:
        load_generator(tmp_path / f"garbage{suffix}")
    assert "\n" not in str(caught.value)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(tmp_path):
    victim = tmp_path / "made-by-the-pickle"
    torch.save(rbpn().state_dict() | {"extra": Malicious(victim)}, tmp_path / "evil.pth")
    torch.load(tmp_path / "evil.pth", weights_only=False)  # the weapon works
    victim.rmdir()
    with pytest.raises(InputError, match=r"evil.pth cannot be read as plain tensors"):
        load_generator(tmp_path / "evil.pth")
    assert not victim.exists()


def nested(state: dict) -> dict:
    """Return a dictionary that contains itself."""
    state["state_dict"] = state
    return state


ODD = {  # what is saved as .pth, from a state dict; what the line says
    "sparse": (lambda state: {n: t.to_sparse() for n, t in state.items()}, "sparse, quantised"),
    "meta": (lambda state: {n: t.to("meta") for n, t in state.items()}, "without values"),
    "quantised": (
        lambda state: {n: torch.quantize_per_tensor(t, 1, 0, torch.qint8) for n, t in state.items()},
        "quant",
    ),
    "integers": (lambda state: {n: t.int() for n, t in state.items()}, "without floating-point values"),
    "complex": (lambda state: {n: t.to(torch.complex64) for n, t in state.items()}, "without floating-point values"),
    "numbers as names": (lambda state: dict(enumerate(state.values())), "no dictionary of named tensors"),
    "itself": (lambda state: nested({}), "no dictionary of named tensors"),
    "a list": (lambda state: list(state.values()), "no dictionary of named tensors"),
    "nothing": (lambda state: {}, "no dictionary of named tensors"),
    "a module": (lambda state: rbpn(), "objects that could run code"),
    "an optimiser": (lambda state: {"optimizer": {"state": {}}}, "no dictionary of named tensors"),
    "one name too many": (lambda state: state | {"extra": torch.zeros(1)}, "1 unknown"),
    "one name too few": (lambda state: dict(list(state.items())[:-1]), "1 missing"),
    "no shape": (lambda state: state | {"feat1.conv.weight": torch.tensor(1.0)}, "1 of another shape"),
}


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", list(ODD))
def test_odd_checkpoints_are_one_line(tmp_path, kind):
    refused_in_one_line(tmp_path / "odd.pth", *ODD[kind])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_weights_of_every_floating_point_type_load(tmp_path, dtype):
    network = rbpn()
    torch.save({name: tensor.to(dtype) for name, tensor in network.state_dict().items()}, tmp_path / "net.pth")
    loaded = load_generator(tmp_path / "net.pth")[0].state_dict()
    assert all(torch.equal(loaded[name], t.to(dtype).float()) for name, t in network.state_dict().items())


CONTENTS = {"JSON": b'{"a": 1}', "prose": b"hello", "gzip": b"\x1f\x8b\x08" + bytes(20), "nothing": b"",
            "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(20)}  # fmt: skip


@pytest.mark.parametrize("content", list(CONTENTS))
def test_other_files_are_not_checkpoints(tmp_path, content):
    (tmp_path / "net.pth").write_bytes(CONTENTS[content])
    with pytest.raises(InputError, match=r"net.pth is not a checkpoint"):
        load_generator(tmp_path / "net.pth")


def test_a_safetensors_file_of_another_name_says_so(tmp_path):
    save_generator(tmp_path / "net.safetensors", rbpn())
    (tmp_path / "net.safetensors").rename(tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"net.pth is a safetensors file: end its name in .safetensors"):
        load_generator(tmp_path / "net.pth")


def test_a_checkpoint_of_another_size_than_the_preset_is_refused_before_training(tmp_path):
    save_generator(tmp_path / "g.safetensors", rbpn())
    with pytest.raises(InputError, match=r"the preset rbpn-tiny is .*choose its preset"):
        start_generator("rbpn-tiny", str(tmp_path / "g.safetensors"))
    save_generator(tmp_path / "tiny.safetensors", fill(build_generator("rbpn-tiny")))
    assert start_generator("rbpn-tiny", str(tmp_path / "tiny.safetensors")).training


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(InputError, match=r"neither a file"):
        load_generator(tmp_path / "none.pth")
    with pytest.raises(InputError, match=r"none.pth does not exist"):
        read_state(tmp_path / "none.pth")


def test_load_state_leaves_the_network_alone_when_something_does_not_fit():
    network = rbpn()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = {name: tensor + 1 for name, tensor in before.items() if name != "output.conv.bias"}
    with pytest.raises(InputError, match=r"here does not fit RBPN: 1 missing"):
        load_state(network, state, "here")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_the_description_is_inside_the_file(tmp_path):
    save_generator(tmp_path / "g.safetensors", rbpn(), licence="Apache-2.0")
    _, meta = load_tensors(tmp_path / "g.safetensors")
    assert meta["model"] == "rbpn"
    assert meta["config"]["base_filter"] == 6
    assert meta["licence"] == "Apache-2.0"


# ---- checkpoints of other projects


def to_mmagic(state: dict) -> dict:
    """Rename a BasicVSR's tensors as MMagic does."""
    renamed = {}
    for name, tensor in state.items():
        name = name.replace("backward_trunk", "backward_resblocks").replace("forward_trunk", "forward_resblocks")
        name = name.replace("upconv1.", "upsample1.upsample_conv.").replace("upconv2.", "upsample2.upsample_conv.")
        parts = name.split(".")
        if name.startswith("spynet.basic_module"):
            parts[4:5] = [str(int(parts[4]) // 2), "conv"]
        renamed[".".join(parts)] = tensor
    return renamed


LAYOUTS = {
    "plain": lambda state: state,
    "BasicSR": lambda state: {"params": state},
    "BasicSR averaged": lambda state: {"params": {n: t + 1 for n, t in state.items()}, "params_ema": state},
    "compiled and parallel": lambda state: {"state_dict": {f"module._orig_mod.{n}": t for n, t in state.items()}},
    "MMagic": lambda state: {"state_dict": to_mmagic(state) | {"step_counter": torch.zeros(1)}},
    "MMagic GAN": lambda state: {
        "meta": {"epoch": 1},
        "state_dict": {f"generator.{n}": t + 1 for n, t in to_mmagic(state).items()}
        | {f"generator_ema.{n}": t for n, t in to_mmagic(state).items()}
        | {"discriminator.conv1.weight": torch.zeros(3), "data_preprocessor.mean": torch.zeros(3)},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_a_basicvsr_of_other_projects_loads_by_path(tmp_path, layout, suffix):
    network = fill(BasicVSR(BasicVSRConfig(features=6, blocks=2)))
    torch.save(LAYOUTS[layout](network.state_dict()), tmp_path / f"net{suffix}")
    loaded, _ = load_generator(tmp_path / f"net{suffix}")
    assert isinstance(loaded, BasicVSR) and loaded.config == network.config
    assert same(network, loaded)


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["module.", "generator.", "_orig_mod.", "module.generator._orig_mod."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_prefixes_of_training_wrappers_are_undone(tmp_path, prefix, suffix):
    network = rbpn()
    state = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    save_file(state, tmp_path / "net.safetensors") if suffix == ".safetensors" else torch.save(
        state, tmp_path / "net.pth"
    )
    assert same(network, load_generator(tmp_path / f"net{suffix}")[0])


@pytest.mark.slow
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_values_that_are_not_finite_are_refused(tmp_path, value, suffix):
    network = rbpn()
    with torch.no_grad():
        network.feat0.conv.weight[0, 0, 0, 0] = value
    if suffix == ".pth":
        torch.save(network.state_dict(), tmp_path / "net.pth")
    else:
        save_generator(tmp_path / "net.safetensors", network)
    with pytest.raises(InputError, match=r"NaN or infinite values in 1 tensors \(feat0.conv.weight"):
        load_generator(tmp_path / f"net{suffix}")


def test_the_tensors_of_a_preset_keep_its_residual_and_others_are_noted(tmp_path, capsys):
    for preset in ("rbpn-small", "rbpn-tiny"):
        torch.save(fill(build_generator(preset)).state_dict(), tmp_path / f"{preset}.pth")
        assert load_generator(tmp_path / f"{preset}.pth")[0].config == PRESETS[preset]
    assert capsys.readouterr().err == ""
    torch.save(rbpn().state_dict(), tmp_path / "other.pth")
    load_generator(tmp_path / "other.pth")
    assert "adds no bicubic to its output" in capsys.readouterr().err


TEXTS = {
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer"),
    "HTML": (b"\n<!DOCTYPE html>\n<html><body>Not found</body></html>", "an HTML page"),
    "HTML with a mark": (b"\xef\xbb\xbf<html>", "an HTML page"),
    "XML": (b'<?xml version="1.0"?><Error/>', "an XML document"),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", list(TEXTS))
def test_text_in_place_of_a_checkpoint_is_named(tmp_path, kind, suffix):
    content, words = TEXTS[kind]
    (tmp_path / f"net{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=f"net{suffix} is not a checkpoint but {words}"):
        load_generator(tmp_path / f"net{suffix}")


# ---- differences from published weights


def moved(network: torch.nn.Module, by: float) -> torch.nn.Module:
    """Move every weight of some layers by up to `by` of its layer's spread, as a fine-tuning does."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if not name.startswith("spynet"):
                parameter.add_(by * parameter.std().nan_to_num(1.0) * torch.randn_like(parameter))
    return network


@pytest.mark.slow
def test_differences_from_published_weights_are_small_and_nearly_exact(tmp_path):
    published, tuned = load_basicvsr("basicvsr-bi"), moved(load_basicvsr("basicvsr-bi"), 0.02)
    save_generator(tmp_path / "whole.safetensors", tuned, dtype=torch.float16)
    save_generator(tmp_path / "tuned.safetensors", tuned, base="basicvsr-bi", arm="modern")
    assert (tmp_path / "tuned.safetensors").stat().st_size < 0.45 * (tmp_path / "whole.safetensors").stat().st_size
    loaded, meta = load_generator(tmp_path / "tuned.safetensors")
    assert (meta["base"], meta["arm"]) == ("basicvsr-bi", "modern")
    assert torch.equal(loaded.spynet.state_dict()["mean"], published.spynet.state_dict()["mean"])
    clip = torch.rand(1, 2, 3, 64, 64)
    with torch.no_grad():
        expected, found, before = (network(clip) for network in (tuned, loaded, published))
    assert (expected - before).abs().mean() > 20 * (expected - found).abs().mean()
    assert (expected - found).abs().max() < 1 / 255


@pytest.mark.slow
def test_differences_from_zero_are_the_weights_in_8_bits(tmp_path):
    network = rbpn(base_filter=24, feat=12, num_stages=3)
    save_generator(tmp_path / "half.safetensors", network, dtype=torch.float16)
    save_generator(tmp_path / "byte.safetensors", network, base="zero")
    assert (tmp_path / "byte.safetensors").stat().st_size < 0.7 * (tmp_path / "half.safetensors").stat().st_size
    loaded, meta = load_generator(tmp_path / "byte.safetensors")
    assert (loaded.config, meta["base"]) == (network.config, "zero")
    for name, tensor in network.state_dict().items():
        assert (loaded.state_dict()[name] - tensor).abs().max() <= tensor.abs().max() / 253


def test_rounding_of_a_difference_is_at_most_half_a_level_of_its_row():
    base = {"w": torch.zeros(2, 3), "b": torch.zeros(3), "same": torch.ones(2)}
    state = {
        "w": torch.tensor([[1.0, -0.5, 0.3], [0.0, 0.0, 0.0]]),
        "b": torch.tensor([0.1, 0.2, -0.4]),
        "same": torch.ones(2),
    }
    packed = quantised.pack(state, base)
    assert set(packed) == {"w", "w/scale", "b", "b/scale"}
    assert packed["w"].dtype == torch.int8
    again = quantised.unpack(packed, base, "x")
    assert torch.equal(again["same"], state["same"])
    assert torch.equal(again["w"][1], state["w"][1])
    assert (again["w"] - state["w"]).abs().max() <= 1 / 254 + 1e-6
    assert (again["b"] - state["b"]).abs().max() <= 0.4 / 254 + 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("change", ["shape", "name", "scale", "base"])
def test_differences_that_fit_nothing_are_refused(tmp_path, change):
    tuned = moved(load_basicvsr("basicvsr-bi"), 0.02)
    save_generator(tmp_path / "tuned.safetensors", tuned, base="basicvsr-bi")
    tensors, meta = load_tensors(tmp_path / "tuned.safetensors")
    if change == "shape":
        tensors["conv_last.weight"] = tensors["conv_last.weight"][:, :1]
    elif change == "name":
        tensors["conv_first.weight"] = tensors["conv_last.weight"].clone()
    elif change == "scale":
        del tensors["conv_last.weight/scale"]
    else:
        meta["base"] = "../elsewhere"
    save_tensors(tmp_path / "tuned.safetensors", tensors, meta)
    with pytest.raises(InputError, match="unknown" if change == "base" else "does not fit the weights"):
        load_generator(tmp_path / "tuned.safetensors")
