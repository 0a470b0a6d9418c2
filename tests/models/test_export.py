"""Export of BasicVSR to ONNX."""

import numpy as np
import pytest
import torch

from stvsr.cli import main
from stvsr.errors import InputError
from stvsr.models import export
from stvsr.models.basicvsr import BasicVSR, BasicVSRConfig
from stvsr.models.export import export_onnx
from stvsr.models.generators import build_generator, load_generator, save_generator
from stvsr.models.spynet import load_spynet

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    network = BasicVSR(BasicVSRConfig(features=4, blocks=1))
    network.spynet.load_state_dict(load_spynet().state_dict())
    path = tmp_path_factory.mktemp("export") / "tiny.safetensors"
    save_generator(path, network)
    return path


@pytest.mark.slow
def test_exported_file_takes_other_sizes_than_the_traced_one(checkpoint, tmp_path, capsys):
    assert main(["export", str(checkpoint), str(tmp_path / "tiny.onnx"), "--frames", "3"]) == 0
    assert "differs from PyTorch by at most" in capsys.readouterr().out
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(tmp_path / "tiny.onnx"), options, providers=["CPUExecutionProvider"])
    network, meta = load_generator(checkpoint)
    for batch, height, width in ((1, 32, 32), (2, 45, 70), (1, 96, 31)):
        clip = export._moving_clip((batch, height, width), 3).flip(-1)  # flow estimation is chaotic on white noise
        (found,) = session.run(None, {"clip": clip.numpy()})
        with torch.inference_mode():
            assert np.abs(found - network(clip).numpy()).max() < 1e-3
    described = session.get_modelmeta().custom_metadata_map
    assert described == {"name": "tiny", "sha256": meta["sha256"], "scale": "4", "frames": "3"}
    with pytest.raises(InputError, match=r"tiny.onnx exists: give another name or --overwrite"):
        export_onnx(checkpoint, tmp_path / "tiny.onnx")


@pytest.mark.slow
def test_a_file_that_disagrees_gets_no_name(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_difference", lambda *_: 0.1)
    with pytest.raises(InputError, match=r"differs from PyTorch by 1.0e-01"):
        export_onnx(checkpoint, tmp_path / "tiny.onnx", frames=1)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_named(checkpoint, tmp_path, monkeypatch):
    save_generator(tmp_path / "rbpn.safetensors", build_generator("rbpn-tiny"))
    for arguments, words in (
        ((tmp_path / "rbpn.safetensors", tmp_path / "a.onnx"), "is not a BasicVSR"),
        ((checkpoint, tmp_path / "a.pt"), "is not named .onnx"),
        ((checkpoint, tmp_path / "no" / "a.onnx"), "does not exist: create it"),
        (("nothing", tmp_path / "a.onnx"), "neither a file nor a known name"),
    ):
        with pytest.raises(InputError, match=words):
            export_onnx(*arguments)
    with pytest.raises(InputError, match="frames is 0"):
        export_onnx(checkpoint, tmp_path / "a.onnx", frames=0)
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"export needs onnx and onnxruntime: pip install stvsr\[export\]"):
        export_onnx(checkpoint, tmp_path / "a.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["rbpn.safetensors"]
