"""Damaged training data: what is left out is counted and depends on the seed only; the default stops with the path."""

import dataclasses
import itertools

import pytest
import tiny
import torch
from vimeo_tree import names, write_vimeo

from stvsr.data.clips import load_clips
from stvsr.data.septuplets import DRAWS, SampleConfig, SeptupletDataset
from stvsr.errors import InputError
from stvsr.models.generators import load_generator
from stvsr.runs.files import load_tensors
from stvsr.training import distributed, left_out
from stvsr.training.batches import DataConfig
from stvsr.training.launch import identity, is_finished
from stvsr.training.pretraining import pretrain
from stvsr.training.validation import validation_batch

SMALL = SampleConfig(num_frames=5, patch=8, flow="none")


@pytest.fixture
def damaged(tmp_path):
    """Two clips; the second frame of the first is truncated."""
    root = tiny.write_clips(tmp_path / "clips")
    path = root / "clip0" / "001.png"
    path.write_bytes(path.read_bytes()[:200])
    return root


def config(data, *, skip=True, workers=0, **changes):
    plain = tiny.pretraining(data, **changes)
    return dataclasses.replace(plain, data=dataclasses.replace(plain.data, skip_damaged=skip, workers=workers))


def weights(folder):
    return load_generator(folder / "generator.safetensors")[0].state_dict()


def equal(first, second) -> bool:
    return all(torch.equal(value, weights(second)[name]) for name, value in weights(first).items())


@pytest.mark.slow
def test_another_draw_takes_the_place_of_a_damaged_one_and_the_others_stay(damaged, tmp_path):
    whole = SeptupletDataset(load_clips(str(tiny.write_clips(tmp_path / "whole"))), SMALL, seed=0, length=30)
    left = SeptupletDataset(load_clips(str(damaged)), SMALL, seed=0, length=30, skip_damaged=True)
    differing = [index for index in range(30) if not torch.equal(whole[index]["lr"], left[index]["lr"])]
    found = [index for index in range(30) if left.whole_sample(index)[1]]
    assert found == differing
    assert 0 < len(found) < 15
    for line in left.whole_sample(found[0])[1]:
        assert line.startswith(f"{damaged / 'clip0' / '001.png'} cannot be read as an image")
    again = SeptupletDataset(load_clips(str(damaged)), SMALL, seed=0, length=30, skip_damaged=True)
    assert torch.equal(left[found[0]]["lr"], again[found[0]]["lr"])


@pytest.mark.slow
def test_a_missing_frame_and_one_of_another_size_are_damage_too(damaged):
    (damaged / "clip0" / "000.png").write_bytes(b"")
    clips = load_clips(str(damaged))
    (damaged / "clip0" / "002.png").unlink()
    tiny.Image.fromarray(tiny.panning(1, 40, 56)[0]).save(damaged / "clip0" / "008.png")
    data = SeptupletDataset(clips, SMALL, seed=0, length=60, skip_damaged=True)
    lines = set(itertools.chain(*(data.whole_sample(index)[1] for index in range(60))))
    assert {line.partition(".png")[0][-3:] for line in lines} == {"000", "001", "002", "008"}


@pytest.mark.slow
def test_data_without_a_whole_sample_ends_with_the_path(tmp_path):
    root = write_vimeo(tmp_path / "vimeo", train=names(2))
    for path in root.rglob("im3.png"):
        path.write_bytes(b"")
    data = SeptupletDataset(load_clips(str(root), "all"), SMALL, seed=0, length=1, skip_damaged=True)
    with pytest.raises(InputError, match=rf"^{DRAWS} draws of one sample met damaged frames, the last \S+/im3.png"):
        data[0]


@pytest.mark.slow
def test_the_same_training_with_and_without_workers_and_resumed(damaged, tmp_path, monkeypatch, capsys):
    asked = config(damaged, steps=5)
    assert pretrain(asked, tmp_path / "one")
    assert pretrain(config(damaged, steps=5, workers=2), tmp_path / "two")
    monkeypatch.setenv("STVSR_DEADLINE", "1")
    while not pretrain(asked, tmp_path / "pieces"):
        pass
    assert equal(tmp_path / "one", tmp_path / "two")
    assert equal(tmp_path / "one", tmp_path / "pieces")
    entries = left_out.left_out(tmp_path / "one")
    assert entries and all(1 <= entry["step"] <= 5 for entry in entries)
    for name in ("two", "pieces"):
        assert left_out.left_out(tmp_path / name) == entries
    said = capsys.readouterr().out.splitlines()
    assert any(line.startswith("note: left out: ") and "clip0/001.png" in line for line in said)
    total = f"note: {len(entries)} samples were left out for 1 damaged frames: {tmp_path / 'one' / 'left_out.jsonl'}"
    assert total in said


@pytest.mark.slow
def test_without_the_option_training_stops_with_the_path_and_resumes_with_it(damaged, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(InputError, match=r"clip0/001.png cannot be read as an image"):
        pretrain(config(damaged, skip=False, steps=5, save_every=1), run)
    stopped_at = load_tensors(run / "checkpoint.safetensors")[1]["step"]
    assert stopped_at > 0
    assert pretrain(config(damaged, steps=5, save_every=1), run)
    assert min(entry["step"] for entry in left_out.left_out(run)) == stopped_at + 1
    assert pretrain(config(damaged, steps=5), tmp_path / "whole")
    assert equal(run, tmp_path / "whole")


def test_a_training_that_left_nothing_out_is_that_of_the_default(tmp_path):
    data, run = tiny.write_clips(tmp_path / "clips"), tmp_path / "run"
    pretrain(config(data, steps=1), run)
    assert not (run / "left_out.jsonl").exists()
    assert identity(config(data, steps=1)) == identity(config(data, steps=1, skip=False))
    assert is_finished(config(data, steps=1, skip=False), run)


@pytest.mark.slow
def test_what_was_left_out_is_not_accepted_by_a_training_that_refuses_damage(damaged, tmp_path, capsys):
    run = tmp_path / "run"
    pretrain(config(damaged, steps=5), run)
    assert is_finished(config(damaged, steps=5), run)
    assert not is_finished(config(damaged, steps=5, skip=False), run)
    assert {path.name for path in run.iterdir() if not path.name.startswith(".")} == {"data.json"}
    assert "samples with damaged frames were left out" in (run / ".superseded-1" / "why.txt").read_text()
    assert (run / ".superseded-1" / "generator.safetensors").is_file()


def test_validation_patches_avoid_damaged_frames(damaged):
    data = DataConfig(data=("nothing",), validation=(str(damaged),), patch=8)
    with pytest.raises(InputError, match=r"clip0/001.png"):
        validation_batch(data, SMALL, count=20)
    batch = validation_batch(dataclasses.replace(data, skip_damaged=True), SMALL, count=20)
    assert len(batch["lr"]) == 20


def test_what_all_processes_left_out_is_one_record(tmp_path):
    class Two(distributed.Rank):
        def gather(self, items):
            return [*items, {"step": 2, "damage": "b.png is empty"}, {"step": 1, "damage": "a.png is empty"}]

    record = left_out.LeftOut(tmp_path, 0, Two(index=0, world=2, device=torch.device("cpu")))
    record.add(1, ["a.png is empty"])
    record.write()
    assert [(entry["step"], entry["damage"][0]) for entry in left_out.left_out(tmp_path)] == [
        (1, "a"),
        (2, "a"),
        (2, "b"),
    ]
