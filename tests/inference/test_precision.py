"""Precision of upscaling: when 16 bits are used, and that they must agree with float32."""

import numpy as np
import pytest
import torch

from stvsr.assets import locate
from stvsr.cli import main
from stvsr.errors import InputError
from stvsr.inference import precision
from stvsr.inference.precision import agrees, reduced_type
from stvsr.inference.upscaler import InferenceConfig, load_upscaler
from stvsr.models.generators import save_generator
from stvsr.models.rbpn import RBPN, RBPNConfig
from stvsr.video.reader import read_clip
from stvsr.video.writer import write_frames

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def native(monkeypatch):
    """A CPU with instructions for bfloat16."""
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)


@pytest.fixture(scope="module")
def frames():
    """Small: a processor without instructions for bfloat16 takes a hundred times as long."""
    return read_clip(locate("carphone"), 0, 2)[:, 40:104, 56:120]


def test_auto_needs_instructions(monkeypatch):
    for has, expected in ((True, torch.bfloat16), (False, None)):
        monkeypatch.setattr(precision, "has_bfloat16", lambda device, has=has: has)
        assert reduced_type("auto", CPU) is expected
        assert reduced_type("bfloat16", CPU) is torch.bfloat16
        assert reduced_type("full", CPU) is None
    assert reduced_type("auto", GPU) is torch.float16
    with pytest.raises(InputError, match="float16 needs a GPU"):
        reduced_type("float16", CPU)


def test_agreement_is_measured_against_the_frames_themselves(frames):
    near = [frames[0]]
    exact = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)

    def result(offset):
        return lambda small: (np.stack(near).astype(int) + offset).clip(0, 255).astype(np.uint8)

    assert agrees(near, 4, result(9), result(9))
    assert not agrees(near, 4, result(9), result(10))  # 0.9 dB
    assert not agrees(near, 4, result(10), result(9))  # better than float32 is a difference too
    assert not agrees([frames[0][:40]], 4, result(0), result(0))  # too small to tell
    assert not agrees(list(exact), 4, lambda small: exact, lambda small: 255 - exact)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Bicubic plus something small."""
    torch.manual_seed(0)
    network = RBPN(RBPNConfig(base_filter=4, feat=4, num_stages=1, n_resblock=1, num_frames=3, residual=True))
    torch.nn.init.normal_(network.output.conv.weight, std=0.0002)
    path = tmp_path_factory.mktemp("precision") / "small.safetensors"
    save_generator(path, network)
    return path


def upscaled(checkpoint, frames, name):
    upscaler = load_upscaler(checkpoint, config=InferenceConfig(tile=0, precision=name))
    return np.stack(list(upscaler(frames))).astype(int), upscaler.precision


@pytest.mark.slow
def test_auto_uses_bfloat16_where_it_agrees(native, frames, checkpoint):
    assert load_upscaler(checkpoint).precision == "auto"  # not settled yet
    chosen, used = upscaled(checkpoint, frames, "auto")
    assert used == "bfloat16"
    assert np.array_equal(chosen, upscaled(checkpoint, frames, "bfloat16")[0])
    assert 0 < np.abs(chosen - upscaled(checkpoint, frames, "full")[0]).max() <= 8


@pytest.mark.slow
def test_auto_stays_in_float32_where_bfloat16_disagrees(native, frames, checkpoint, monkeypatch):
    monkeypatch.setattr(precision, "TOLERANCE", 0.0)
    chosen, used = upscaled(checkpoint, frames, "auto")
    assert used == "full"
    assert np.array_equal(chosen, upscaled(checkpoint, frames, "full")[0])


def test_the_command_takes_a_precision_and_prints_it_beforehand(frames, tmp_path, capsys):
    write_frames(tmp_path / "in", frames[:1])
    assert main(["upscale", str(tmp_path / "in"), str(tmp_path / "out"), "--model", "bicubic"]) == 0
    assert "bicubic, whole frames, full precision" in capsys.readouterr().out
    arguments = ["upscale", str(tmp_path / "in"), str(tmp_path / "other"), "--precision", "half"]
    assert main(arguments) == 2
    assert "precision 'half' is unknown: choose from auto, full, bfloat16, float16" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_without_instructions_no_frame_is_read_for_a_check(monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: False)
    upscaler = load_upscaler("rbpn-small")
    upscaler.settle_precision(pytest.fail(frame) for frame in range(3))
    assert upscaler.precision == "full"
    assert load_upscaler("bicubic").precision == "full"
