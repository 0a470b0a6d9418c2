"""One step: its record, and results of other code or inputs moved aside."""

import dataclasses

import pytest
from studies import two

from stvsr.runs.files import read_json, write_json
from stvsr.runs.lock import locked
from stvsr.study import execution
from stvsr.study.execution import run_step
from stvsr.study.plan import make_plans
from stvsr.study.study_file import load_study

TRAINED = ("checkpoint.safetensors", "config.json", "generator.safetensors", "log.jsonl")


@pytest.fixture
def step(room, monkeypatch):
    """A step's plan, the run folder and the step's folder; its notebook is not executed."""
    two(room)
    monkeypatch.setattr(execution.papermill, "execute_notebook", lambda *given, **named: None)
    out = load_study("s").out
    return make_plans(load_study("s"))["first"], out, out / "steps" / "first"


def fill(plan, folder, **change):
    write_json(folder / "step.json", {"key": "", "parts": plan.parts | change, "status": "stopped"})
    for name in (*TRAINED, "outputs"):
        (folder / name).write_text(name)


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ({}, ()),
        ({"cells": "other figures"}, ()),
        ({"modules": {"stvsr.figures.style": "other"}}, ()),
        ({"parameters": {"steps": 1}}, ()),  # the training compares those that matter to it
        ({"inputs": {"clip.mp4": "other"}}, TRAINED),
        ({"upstream": {"pretrain": "other"}}, TRAINED),
        ({"modules": {"stvsr.losses": "other"}}, (*TRAINED, "outputs")),
    ],
)
def test_results_of_other_code_or_inputs_are_moved_aside_and_never_deleted(step, change, moved):
    plan, out, folder = step
    fill(plan, folder, **change)
    assert run_step(plan, out)[0] == "done"
    aside = folder / ".superseded-1"
    assert [(folder / name).exists() for name in (*TRAINED, "outputs")] == [
        n not in moved for n in (*TRAINED, "outputs")
    ]
    assert all((aside / name).read_text() == name for name in moved)
    if moved:
        assert next(iter(change)) in str(read_json(aside / "step.json")["parts"].keys())
        assert next(iter(next(iter(change.values())))) in (aside / "why.txt").read_text() or "upstream" in change


def test_an_earlier_step_that_made_the_same_files_again_supersedes_nothing(step):
    plan, out, folder = step
    fill(plan, folder, upstream={"pretrain": "other key"})
    write_json(folder / "step.json", read_json(folder / "step.json") | {"read": {"pretrain/x": "hash"}})
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(execution, "files_read", lambda step, out: {"pretrain/x": "hash"})
        run_step(plan, out)
        assert (folder / "generator.safetensors").exists()
        fill(plan, folder, upstream={"pretrain": "other key"})
        write_json(folder / "step.json", read_json(folder / "step.json") | {"read": {"pretrain/x": "old hash"}})
        run_step(plan, out)
        assert not (folder / "generator.safetensors").exists()


def test_a_second_supersession_keeps_the_first(step):
    plan, out, folder = step
    for number in (1, 2):
        fill(plan, folder, modules={"stvsr.losses": f"version {number}"})
        run_step(plan, out)
    assert sorted(path.name for path in folder.glob(".superseded-*")) == [".superseded-1", ".superseded-2"]


@pytest.mark.parametrize("damaged", [False, True])
def test_a_forced_step_starts_from_an_empty_folder(step, damaged):
    plan, out, folder = step
    fill(plan, folder)
    if damaged:
        (folder / "step.json").write_bytes(b"\xff{")
    run_step(dataclasses.replace(plan, forced=True), out)
    aside = folder / ".superseded-1"
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == ["step.json"]
    assert all((aside / name).read_text() == name for name in (*TRAINED, "outputs"))
    assert (aside / "why.txt").read_text().endswith(": forced\n")
    assert read_json(aside / "step.json").get("status") == (None if damaged else "stopped")


def test_a_record_that_is_damaged_is_replaced(step):
    plan, out, folder = step
    folder.mkdir(parents=True)
    (folder / "step.json").write_bytes(b"\xff{")
    assert make_plans(load_study("s"))["first"].reason == "step.json is damaged"
    assert run_step(plan, out)[0] == "done"
    assert read_json(folder / "step.json")["status"] == "done"


def test_a_step_that_another_process_runs_fails_with_its_name(step, monkeypatch):
    plan, out, folder = step
    monkeypatch.setattr(execution, "WAIT", 0.1)
    with locked(folder / ".step.lock", "this"):
        state, _, line = run_step(plan, out)
    assert state == "failed"
    assert f"step folder {folder} is in use by process" in line
