"""Checkpoints: the last two are kept, damage is noticed, a kill at any moment loses at most one save."""

import os

import pytest
import tiny
import torch
from torch import nn

from stvsr.errors import InputError
from stvsr.models.generators import build_generator
from stvsr.runs.files import load_tensors, read_json, save_tensors
from stvsr.runs.stamp import why_stale
from stvsr.training import checkpoint as checkpoints
from stvsr.training import distributed
from stvsr.training.checkpoint import Checkpoint, finish

ALONE = distributed.Rank(index=0, world=1, device=torch.device("cpu"))


def make(folder, value=0.0, **changes):
    """Return a checkpoint of one weight and the module that has it."""
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, value)
    return Checkpoint(folder, tiny.optim(steps=10, **changes), {"g": module}, {}, ALONE), module


def save(folder, *steps):
    for step in steps:
        make(folder, float(step))[0].save(step)


def load(folder):
    """Return the step and the weight that a new process would resume with."""
    checkpoint, module = make(folder)
    return checkpoint.load(), module.weight.item()


def kill_at_rename(monkeypatch, killed_at):
    """Kill the process instead of its `killed_at`-th rename of a checkpoint."""
    calls, replace = [], os.replace

    def killed(source, target):
        if "checkpoint-new" not in str(target):  # that one belongs to the atomic write
            calls.append(source)
            if len(calls) == killed_at:
                raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(checkpoints.os, "replace", killed)


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 4
    path.write_bytes(content)


def header_step(path):
    """Change the step in the header, of the same length, as a bit flip could."""
    path.write_bytes(path.read_bytes().replace(b'\\"step\\": 4', b'\\"step\\": 5'))


DAMAGES = {
    "bit": flip,
    "step": header_step,
    "truncated": lambda path: os.truncate(path, 40),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_bytes(b"no checkpoint" * 10),
    "beyond the end": lambda path: save_tensors(path, *with_meta(path, step=11)),
    "negative": lambda path: save_tensors(path, *with_meta(path, step=-1)),
    "no step": lambda path: save_tensors(path, *with_meta(path, step=None)),
    "another type": lambda path: save_tensors(path, load_tensors(path)[0], None),
}


def with_meta(path, **changes):
    tensors, meta = load_tensors(path)
    return tensors, meta | changes


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_is_used(tmp_path, capsys, damage):
    save(tmp_path, 2, 4)
    assert load(tmp_path) == (4, 4.0)
    damage(tmp_path / "checkpoint.safetensors")
    assert load(tmp_path) == (2, 2.0)
    said = capsys.readouterr().out
    assert said.startswith(f"note: checkpoint {tmp_path / 'checkpoint.safetensors'} ")
    assert said.endswith("resuming from the one before, step 2\n")
    save(tmp_path, 3)  # does not replace the good one by the damaged one
    (tmp_path / "checkpoint.safetensors").write_bytes(b"")
    assert load(tmp_path) == (2, 2.0)


def test_without_a_whole_checkpoint_training_starts_from_the_beginning(tmp_path, capsys):
    save(tmp_path, 2, 4)
    for path in tmp_path.glob("checkpoint*.safetensors"):
        flip(path)
    assert load(tmp_path)[0] == 0
    assert "starting from the beginning" in capsys.readouterr().out


@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_kill_between_the_renames_loses_nothing(tmp_path, monkeypatch, killed_at):
    save(tmp_path, 2, 4)
    kill_at_rename(monkeypatch, killed_at)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 6)
    monkeypatch.undo()
    assert load(tmp_path) == (6, 6.0)


def test_the_last_three_are_kept_and_the_newest_valid_one_is_used(tmp_path, capsys):
    for step in (2, 4, 6, 8):
        make(tmp_path, float(step), keep_checkpoints=3)[0].save(step)
    names = ["checkpoint", "checkpoint-before", "checkpoint-before-2"]
    paths = [tmp_path / f"{name}.safetensors" for name in names]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert [load_tensors(path)[1]["step"] for path in paths] == [8, 6, 4]
    flip(paths[0])
    flip(paths[1])
    assert load(tmp_path) == (4, 4.0)  # although it would keep only two
    save(tmp_path, 5, 6)
    assert [load_tensors(path)[1]["step"] for path in paths[:2]] == [6, 5]
    assert not paths[2].exists()
    make(tmp_path, 7.0, keep_checkpoints=1)[0].save(7)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["checkpoint.safetensors"]
    with pytest.raises(InputError, match="keep_checkpoints is 0: it must be at least 1"):
        make(tmp_path, keep_checkpoints=0)


@pytest.mark.parametrize("killed_at", [1, 2, 3])
def test_a_kill_between_the_renames_of_three_loses_nothing(tmp_path, monkeypatch, killed_at):
    for step in (2, 4, 6):
        make(tmp_path, float(step), keep_checkpoints=3)[0].save(step)
    kill_at_rename(monkeypatch, killed_at)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, 8.0, keep_checkpoints=3)[0].save(8)
    monkeypatch.undo()
    assert load(tmp_path) == (8, 8.0)
    make(tmp_path, 10.0, keep_checkpoints=3)[0].save(10)
    steps = {load_tensors(path)[1]["step"] for path in tmp_path.glob("checkpoint*.safetensors")}
    assert steps == {10, 8, 6}


def test_another_configuration_is_refused_with_what_differs(tmp_path):
    make(tmp_path, learning_rate=0.5)[0].save(3)
    with pytest.raises(InputError, match=r"another configuration: choose .*\(learning_rate 0.5 -> 0.001\)"):
        load(tmp_path)


def test_finished_weights_have_a_stamp_and_no_checkpoint_is_left(tmp_path):
    save(tmp_path, 2, 4)
    (tmp_path / "checkpoint.safetensors.damaged").write_bytes(b"")
    checkpoint, _ = make(tmp_path)
    finish(checkpoint, build_generator("rbpn-tiny"), {"task": "test"})
    assert {path.name for path in tmp_path.iterdir()} == {"generator.safetensors", "identity.json"}
    stamp = read_json(tmp_path / "identity.json")
    assert why_stale(stamp, checkpoint.identity, tmp_path) == ""
    flip(tmp_path / "generator.safetensors")
    assert why_stale(stamp, checkpoint.identity, tmp_path) == "generator.safetensors is not as it was made"
