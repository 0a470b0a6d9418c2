"""Launched trainings: what identifies one, what is moved aside, locks, and every way to end one."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import tiny
from endless import EndlessConfig

from stvsr.errors import InputError
from stvsr.models.generators import build_generator, save_generator
from stvsr.runs.files import as_json, load_tensors, write_json, write_text
from stvsr.runs.lock import locked
from stvsr.runs.stamp import make_stamp
from stvsr.training import launch as launching
from stvsr.training.launch import identity, is_finished, launch

GENERATOR = "generator.safetensors"
PATIENCE = 60  # seconds for what takes one or two on an idle machine


def finished(folder, config):
    """Leave what a finished training leaves."""
    folder.mkdir(exist_ok=True)
    (folder / GENERATOR).write_text("trained for days")
    write_text(folder / "log.jsonl", '{"step": 1}\n')
    write_json(folder / "config.json", as_json(config))
    write_json(folder / "identity.json", make_stamp(identity(config), folder, [GENERATOR]))


def changed(config, **changes):
    """Change settings of a configuration, its data or its optimiser, by name."""
    for name, value in changes.items():
        for part in ("optim", "data"):
            if hasattr(getattr(config, part), name):
                config = dataclasses.replace(
                    config, **{part: dataclasses.replace(getattr(config, part), **{name: value})}
                )
        if hasattr(config, name):
            config = dataclasses.replace(config, **{name: value})
    return config


@pytest.mark.parametrize(
    "change",
    [{"workers": 3}, {"accumulate": 2}, {"log_every": 7}, {"save_every": 7}, {"device": "auto"}, {"validate_every": 9}],
    ids=lambda change: next(iter(change)),
)
def test_what_cannot_change_the_result_repeats_and_discards_nothing(tmp_path, change):
    config = tiny.pretraining(tmp_path / "data")
    other = changed(config, **change)
    assert other != config
    finished(tmp_path / "run", config)
    assert is_finished(other, tmp_path / "run")
    assert not list((tmp_path / "run").glob(".superseded-*"))


def test_another_configuration_is_moved_aside_with_a_line_that_names_the_difference(tmp_path, capsys):
    config, run = tiny.pretraining(tmp_path / "data", steps=4), tmp_path / "run"
    finished(run, config)
    assert not is_finished(changed(config, steps=5, learning_rate=0.5), run)
    assert (run / ".superseded-1" / GENERATOR).read_text() == "trained for days"
    assert not (run / GENERATOR).exists()
    why = "optim.learning_rate 0.001 -> 0.5, optim.steps 4 -> 5"
    assert capsys.readouterr().out == f"note: what was trained in {run} is now in .superseded-1: {why}\n"
    assert why in (run / ".superseded-1" / "why.txt").read_text()
    finished(run, config)
    assert not is_finished(changed(config, steps=6), run)
    assert (run / ".superseded-2" / GENERATOR).exists()


def test_weights_that_are_not_those_that_were_trained_are_trained_again(tmp_path, capsys):
    config, run = tiny.pretraining(tmp_path / "data"), tmp_path / "run"
    finished(run, config)
    (run / GENERATOR).write_text("Trained for days")
    assert not is_finished(config, run)
    assert "generator.safetensors is not as it was made" in capsys.readouterr().out
    assert (run / ".superseded-1" / GENERATOR).read_text() == "Trained for days"


def test_an_unfinished_training_of_the_same_identity_stays(tmp_path):
    config, run = tiny.pretraining(tmp_path / "data"), tmp_path / "run"
    run.mkdir()
    write_json(run / "identity.json", make_stamp(identity(config)))
    (run / "checkpoint.safetensors").write_text("state")
    assert not is_finished(changed(config, workers=2), run)
    assert (run / "checkpoint.safetensors").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"made_from": 3}', b'{"made": {}}', b"null"])
def test_a_damaged_identity_loses_nothing(tmp_path, content):
    config, run = tiny.pretraining(tmp_path / "data"), tmp_path / "run"
    finished(run, config)
    (run / "identity.json").write_bytes(content)
    assert not is_finished(config, run)
    assert (run / ".superseded-1" / GENERATOR).exists()


def test_weights_are_identified_by_content_and_not_by_place(tmp_path):
    start = tmp_path / "start.safetensors"
    save_generator(start, build_generator("rbpn-tiny"))
    before = identity(tiny.pretraining(tmp_path, start=str(start)))
    start.rename(moved := tmp_path / "moved.safetensors")
    assert identity(tiny.pretraining(tmp_path, start=str(moved))) == before
    save_generator(moved, build_generator("rbpn-tiny"))
    assert identity(tiny.pretraining(tmp_path, start=str(moved))) != before


@pytest.mark.slow
def test_a_second_launch_into_a_folder_names_the_first(tmp_path):
    with locked(tmp_path / ".launch.lock", "this"), pytest.raises(InputError) as caught:
        launch("endless", EndlessConfig(), tmp_path)
    assert str(caught.value).startswith(f"training folder {tmp_path} is in use by process {os.getpid()} on ")
    assert str(caught.value).endswith(": wait until it has ended, or end it")


@pytest.mark.parametrize(
    ("status", "line"),
    [(-9, "process 12 was killed by SIGKILL (perhaps out of memory): run it again to resume"), (1, "")],
)
def test_a_killed_process_of_several_is_named(status, line):
    assert launching._death(status, "12") == line


# ---- real processes


def start(tmp_path, *command, **options):
    write_json(tmp_path / "config.json", as_json(EndlessConfig()))
    return subprocess.Popen([sys.executable, *command], cwd=tmp_path, start_new_session=True, **options)


def wait_for(condition, seconds, what):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, what
        time.sleep(0.05)


def step_of(folder):
    return load_tensors(folder / "checkpoint.safetensors")[1]["step"]


def children(process):
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_signal_ends_a_training_with_a_checkpoint_and_a_second_one_is_refused(tmp_path, number):
    process = start(tmp_path, "-m", "endless", str(tmp_path), stdout=subprocess.PIPE, text=True)
    wait_for((tmp_path / "ready-0").exists, 120, "did not start")
    if number == signal.SIGTERM:
        second = start(tmp_path, "-c", second_training(tmp_path), stderr=subprocess.PIPE, text=True)
        assert f"is in use by process {process.pid} on " in second.communicate(timeout=120)[1]
        assert second.returncode == 1
    process.send_signal(number)
    out = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 75
    assert out.endswith("stvsr: was stopped before its end and saved a checkpoint\n")
    assert step_of(tmp_path) >= 1


def second_training(folder):
    """Code of a second training in a folder that does not wait."""
    return (
        "import sys; from stvsr.training import launch; launch.INTERRUPTED = 0.2; import endless; "
        f"sys.argv = ['endless', {str(folder)!r}]; launch.main(endless.EndlessConfig, endless.train)"
    )


LAUNCH = """
import endless
from stvsr.training.launch import launch
launch("endless", endless.EndlessConfig(), {}, processes={})
"""


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_training_ends_with_the_process_that_launched_it(tmp_path, processes):
    process = start(tmp_path, "-c", LAUNCH.format(repr(str(tmp_path)), processes))
    wait_for((tmp_path / f"ready-{processes - 1}").exists, 240, "did not start")
    trainings = children(process)
    assert len(trainings) >= processes
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(trainings, timeout=PATIENCE)
    if processes == 1:
        assert not alive
    else:  # torchrun itself ends a little after its trainings
        assert not [child for child in alive if "endless" in child.cmdline()[-2:]]
    assert step_of(tmp_path) >= 1


@pytest.mark.slow
def test_trainings_end_with_the_torchrun_that_started_them(tmp_path):
    process = start(tmp_path, "-c", LAUNCH.format(repr(str(tmp_path)), 2), stderr=subprocess.PIPE, text=True)
    wait_for((tmp_path / "ready-1").exists, 240, "did not start")
    (agent,) = [child for child in children(process) if "torch.distributed.run" in child.cmdline()]
    trainings = agent.children()
    assert len(trainings) == 2
    agent.kill()
    _, alive = psutil.wait_procs(trainings, timeout=PATIENCE)
    assert not alive
    assert "was stopped before its end and saved a checkpoint: run it again" in process.communicate(timeout=PATIENCE)[1]
    assert step_of(tmp_path) >= 1
    assert json.loads((tmp_path / "identity.json").read_text())["made"] == {}
