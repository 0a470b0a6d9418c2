"""Cost of a study: what is measured once, how it is multiplied, and that nothing is left behind."""

import dataclasses

import pytest
import tiny
from studies import rewrite

from stvsr import cli
from stvsr.study import estimate as estimates
from stvsr.study.estimate import Cost, Timing, shortened, table, timing
from stvsr.training.finetuning import FinetuningConfig, finetune
from stvsr.training.pretraining import pretrain

STUDY = """
title = "Small"
question = "What does it cost?"
[[steps]]
id = "pretrain"
notebook = "02_rbpn_pretraining"
[steps.parameters]
data = ["DATA"]
validation = ["DATA-held-out"]
split = "all"
generator = "rbpn-tiny"
initial_weights = ""
patch = 8
steps = 1000
batch = 2
validate_every = 100
[[steps]]
id = "finetune"
name = "{arm}-s{seed}"
notebook = "03_adversarial_finetuning"
[steps.matrix]
arm = ["pixel-control"]
seed = [0, 1, 2]
[steps.parameters]
data = ["DATA"]
split = "all"
generator = "rbpn-tiny"
initial_weights = "step:pretrain/generator.safetensors"
patch = 8
steps = 500
batch = 2
validate_every = 0
crops_every = 0
[[steps]]
id = "evaluate"
notebook = "04_ablation_evaluation"
[steps.parameters]
generators = ["rbpn=step:pretrain/generator.safetensors", "steps:finetune"]
data = ["DATA-held-out"]
split = "all"
clips = []
frames = 0
protocols = ["original-rgb"]
"""


def test_start_update_and_validation_are_told_from_each_other():
    """Ten updates of 2 s after a start of 7 s, of which the first takes 5 s more, with a validation of 3 s after each
    fifth."""
    ends = [7.0 + 2 * number + 3 * (number >= 5) for number in range(1, 10)] + [7.0 + 20 + 6]
    found = timing(ends, wall=11 + 20 + 6, validated=5)
    assert found == Timing(start=11.0, update=2.0, validation=3.0)
    config = tiny.pretraining(tiny.Path("data"), steps=100)
    assert found.of(config) == 11 + 200
    assert found.of(dataclasses.replace(config, validate_every=30)) == 11 + 200 + 9


def test_seed_length_and_start_make_no_other_kind():
    config = FinetuningConfig(optim=tiny.optim(steps=1000))
    other = dataclasses.replace(config, initial_weights="", optim=tiny.optim(steps=77, seed=5, save_every=3))
    assert shortened(config) == shortened(other)
    assert shortened(config).optim.steps == estimates.STEPS
    assert shortened(config) != shortened(dataclasses.replace(config, optim=tiny.optim(steps=1000, batch=8)))


def test_the_table_adds_what_adds_and_takes_the_largest_of_the_rest():
    costs = {
        "a": Cost(seconds=7200, gpus=2, memory=3e9, gpu_memory=5e9, disk=1e9),
        "b": Cost(seconds=1800, gpus=1, memory=4e9, gpu_memory=2e9, disk=1e9),
        "c": None,
    }
    lines = [line.split() for line in table(costs, jobs=2).splitlines()]
    assert lines[1] == ["a", "2.0", "h", "4.00", "3.00", "GB", "5.00", "GB", "1.00", "GB"]
    assert lines[3] == ["c", "not", "measured"]
    assert lines[4] == ["in", "all", "2.5", "h", "4.50", "4.00", "GB", "5.00", "GB", "2.00", "GB"]
    assert lines[5][-4:] == ["75", "min", "at", "best"]


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A small study whose trainings are measured in this process."""
    data = tiny.write_clips(tmp_path / "data")
    tiny.held_out(data)
    path = tmp_path / "small.toml"
    path.write_text(STUDY.replace("DATA", str(data)))
    asked = []

    def launched(module, config, folder, *, processes=1, nodes=1):
        asked.append((module.rpartition(".")[2], config.optim.steps, folder))
        assert (finetune if isinstance(config, FinetuningConfig) else pretrain)(config, folder)

    monkeypatch.setattr(estimates, "launch", launched)
    monkeypatch.setattr(estimates, "STEPS", 6)
    return path, asked


@pytest.mark.slow
def test_each_kind_is_measured_once_and_nothing_is_left(study, tmp_path, capsys):
    path, asked = study
    assert cli.main(["reproduce", str(path), "--out", str(tmp_path / "out"), "--estimate"]) == 0
    assert [(module, steps) for module, steps, _ in asked] == [("pretraining", 6), ("finetuning", 6)]
    assert not (tmp_path / "out").exists()
    assert not any(folder.parent.exists() for *_, folder in asked)
    rows = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert {"pretrain", "pixel-control-s0", "pixel-control-s1", "pixel-control-s2", "evaluate", "in all"} <= set(rows)
    assert rows["pixel-control-s1"].split("  ")[1:] == rows["pixel-control-s2"].split("  ")[1:]
    assert "not measured" not in "".join(rows.values())


@pytest.mark.slow
def test_without_data_its_faults_are_printed_and_nothing_is_measured(study, tmp_path, capsys):
    path, asked = study
    rewrite(path, f'data = ["{tmp_path / "data"}"]\nsplit', 'data = ["nowhere"]\nsplit')
    assert cli.main(["reproduce", str(path), "--out", str(tmp_path / "out"), "--estimate"]) == 2
    assert "data nowhere does not exist" in capsys.readouterr().err
    assert asked == []
