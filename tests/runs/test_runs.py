"""Atomic files, logs, tensors with their description, seeds, the environment."""

import json
import os
import random
import stat
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from stvsr.errors import InputError
from stvsr.runs import device, environment
from stvsr.runs.files import load_tensors, read_json, read_log, save_tensors, write_atomic, write_json, write_text

# ---- files


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "deep" / "file.json"
    write_text(path, "old")

    def fail(file):
        file.write(b"half of the new")
        file.flush()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, fail)
    assert path.read_text() == "old"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.json"]


def test_a_reader_never_sees_a_half_written_file(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")

    def look(file):
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"

    write_atomic(path, look)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_json_goes_there_and_back_and_refuses_what_json_has_not(tmp_path):
    value = {"a": [1, 2.5, None, True], "ä": "ü"}
    write_json(tmp_path / "v.json", value)
    assert read_json(tmp_path / "v.json") == value
    with pytest.raises(ValueError, match=r"Out of range"):
        write_json(tmp_path / "v.json", {"a": float("nan")})
    assert read_json(tmp_path / "v.json") == value


def test_missing_and_broken_json_are_named(tmp_path):
    with pytest.raises(InputError, match=r"v.json does not exist"):
        read_json(tmp_path / "v.json")
    wrong = {b"{": "is not valid JSON", b"\xff\xfe": "is not UTF-8 text", b"[1]": "holds list, it must hold an object",
             b"[" * 100_000: "is not valid JSON"}  # fmt: skip
    for content, message in wrong.items():
        (tmp_path / "v.json").write_bytes(content)
        with pytest.raises(InputError, match=f"v.json {message}"):
            read_json(tmp_path / "v.json")


def test_a_log_that_a_crash_cut_short_is_read_up_to_there(tmp_path):
    lines = [json.dumps({"step": step, "pixel": 0.1}) for step in (1, 2, 3)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines)[:-7])
    assert [entry["step"] for entry in read_log(tmp_path / "log.jsonl")] == [1, 2]


# ---- tensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_tensors_go_there_and_back_with_their_description(tmp_path, dtype):
    tensors = {
        "a": torch.arange(6).view(2, 3).to(dtype),
        "b/c": torch.ones((), dtype=dtype),
        "empty": torch.zeros(0, dtype=dtype),
    }
    save_tensors(tmp_path / "t.safetensors", tensors, {"step": 3, "name": "ä"})
    read, meta = load_tensors(tmp_path / "t.safetensors")
    assert meta == {"step": 3, "name": "ä"}
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) and read[name].dtype == dtype for name in tensors)


def test_views_and_parameters_that_need_gradients_are_saved_as_they_look(tmp_path):
    whole = torch.arange(12.0).view(3, 4)
    tensors = {"transposed": whole.T, "part": whole[1:, ::2], "parameter": torch.nn.Parameter(whole)}
    save_tensors(tmp_path / "t.safetensors", tensors, {})
    read, _ = load_tensors(tmp_path / "t.safetensors")
    assert all(torch.equal(read[name], tensors[name].detach()) for name in tensors)


def test_a_foreign_safetensors_file_has_an_empty_description(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "t.safetensors")
    assert load_tensors(tmp_path / "t.safetensors")[1] == {}


def test_unreadable_checkpoints_are_named(tmp_path):
    with pytest.raises(InputError, match=r"t.safetensors does not exist"):
        load_tensors(tmp_path / "t.safetensors")
    save_tensors(tmp_path / "t.safetensors", {"a": torch.ones(100)}, {})
    data = (tmp_path / "t.safetensors").read_bytes()
    for content in (b"", data[:50], data[:-10], b"\xff" * 200, torch.ones(3).numpy().tobytes()):
        (tmp_path / "t.safetensors").write_bytes(content)
        with pytest.raises(InputError, match=r"t.safetensors cannot be read as safetensors"):
            load_tensors(tmp_path / "t.safetensors")


# ---- seeds and devices


def drawn():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_one_seed_sets_python_numpy_and_torch():
    device.seed_everything(7)
    first = drawn()
    device.seed_everything(7)
    assert drawn() == first
    device.seed_everything(8)
    assert all(a != b for a, b in zip(drawn(), first, strict=True))
    device.seed_everything(2**40)  # larger than NumPy's own


def test_devices_by_name():
    assert device.pick_device("cpu").type == "cpu"
    assert device.pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("gpu", "mps", "meta"):
        with pytest.raises(InputError, match=rf"device '{name}' is unknown or not supported: choose auto, cpu or cuda"):
            device.pick_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_cuda_without_a_gpu_says_so():
    with pytest.raises(InputError, match=r"is not there: choose auto or cpu"):
        device.pick_device("cuda")


# ---- environment


def test_the_environment_is_json_and_names_what_a_reader_asks(tmp_path):
    said = environment.environment()
    write_json(tmp_path / "environment.json", said)
    assert said["python"] == ".".join(map(str, sys.version_info[:3]))
    assert said["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert said["hardware"]["cores"] >= 1
    assert said["hardware"]["memory_gb"] > 0.1
    assert set(said["git"]) == {"commit", "dirty"}


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(
        ["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_git_state_is_that_of_the_package_and_not_of_a_repository_around_it(tmp_path, monkeypatch):
    package = tmp_path / "repository" / "stvsr"
    package.mkdir(parents=True)
    monkeypatch.setattr(environment, "__file__", str(package / "runs" / "environment.py"))
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    assert environment.git_state() == {"commit": None, "dirty": None}
    git(package.parent, "init", "-q")
    (package / "runs.py").write_text("")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "-q", "-m", "start")
    assert environment.git_state() == {"commit": git(package.parent, "rev-parse", "HEAD"), "dirty": False}
    (package / "runs.py").write_text("changed")
    assert environment.git_state()["dirty"] is True
    inner = package.parent / "venv" / "stvsr"  # installed below somebody else's checkout
    inner.mkdir(parents=True)
    monkeypatch.setattr(environment, "__file__", str(inner / "runs" / "environment.py"))
    assert environment.git_state() == {"commit": None, "dirty": None}
