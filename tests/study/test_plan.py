"""Plans: which steps run, and why."""

from pathlib import Path

import pytest
from studies import ONE, PARAMETERS, READ, READ_PARAMETERS, TWO, notebook, reasons, rewrite, study, two

from stvsr.errors import InputError
from stvsr.runs.files import read_json, write_json
from stvsr.runs.stamp import make_stamp, products
from stvsr.study.keys import files_read
from stvsr.study.pipeline import reproduce
from stvsr.study.plan import make_plans
from stvsr.study.study_file import load_study


def done(room: Path, **changes: object) -> None:
    """Note in step.json that both steps were done, without running them."""
    for name, plan in make_plans(load_study("s")).items():
        record = {
            "key": plan.key,
            "parts": plan.parts,
            "status": "done",
            "parameters": plan.step.parameters,
            "notebook": "n.ipynb",
            "seconds": 1.0,
            "error": "",
        }
        write_json(load_study("s").out / "steps" / name / "step.json", record | changes)


def test_reasons_to_run_and_to_skip(room):
    two(room)
    assert reasons() == {"first": (True, "never run"), "second": (True, "never run")}
    done(room)
    assert reasons() == {"first": (False, "unchanged"), "second": (False, "unchanged")}
    study(room, TWO.replace("times = 3", "times = 4"))
    assert reasons() == {"first": (True, "parameter times changed"), "second": (True, "an input changed")}
    study(room, TWO)
    notebook(room / "notebooks" / "read.ipynb", READ_PARAMETERS, READ + "\nprint(1)")
    assert reasons() == {"first": (False, "unchanged"), "second": (True, "notebook code changed")}
    notebook(room / "notebooks" / "read.ipynb", READ_PARAMETERS, READ, prose="New prose.")
    assert reasons() == {"first": (False, "unchanged"), "second": (False, "unchanged")}


@pytest.mark.parametrize("status", ["failed", "stopped", "interrupted", "running"])
def test_a_step_that_did_not_finish_runs_again_and_what_needs_it_too(room, status):
    two(room)
    done(room)
    path = load_study("s").out / "steps" / "first" / "step.json"
    write_json(path, read_json(path) | {"status": status})
    assert reasons() == {"first": (True, f"{status} last time"), "second": (True, "a step it needs runs again")}


def test_code_of_a_module_is_named_as_the_reason(room, package):
    notebook(room / "notebooks" / "work.ipynb", PARAMETERS, "from stvsr import a")
    study(room, ONE)
    done(room)
    rewrite(package / "b.py", "return x", "return 2 * x")
    assert reasons() == {"a": (True, "code of stvsr.b changed")}


def test_only_takes_a_step_and_what_it_needs(room):
    two(room)
    assert list(reasons("first")) == ["first"]
    assert list(reasons("second")) == ["first", "second"]
    with pytest.raises(InputError, match=r"step 'secnd' is unknown: did you mean second\?"):
        reasons("secnd")


def test_a_forced_step_runs_and_so_does_what_needs_it(room, capsys):
    two(room)
    assert make_plans(load_study("s"), force=["first"])["first"].reason == "never run"
    done(room)
    assert reproduce("s", force=["first"], dry_run=True) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=2) for line in lines] == [
        ["run", "first", "forced"],
        ["run", "second", "a step it needs runs again"],
    ]
    plans = make_plans(load_study("s"), force=["second", "first"])
    assert [(plan.reason, plan.forced) for plan in plans.values()] == [("forced", True)] * 2
    assert [plan.run for plan in make_plans(load_study("s"), force=["second"]).values()] == [False, True]


def test_a_forced_step_must_exist_and_be_among_those_of_only(room):
    two(room)
    with pytest.raises(InputError, match=r"^step 'secnd' is unknown: did you mean second\?$"):
        make_plans(load_study("s"), force=["first", "secnd"])
    with pytest.raises(
        InputError, match=r"^step second is forced, but first does not need it: drop --only or --force$"
    ):
        make_plans(load_study("s"), "first", ["second"])
    assert make_plans(load_study("s"), "second", ["first"])["first"].forced


def test_a_file_that_was_replaced_after_a_step_read_it_makes_the_step_run_again(room):
    two(room)
    folder = load_study("s").out / "steps" / "first"
    folder.mkdir(parents=True)
    weights = folder / "generator.safetensors"
    weights.write_text("weights")
    done(room, read=files_read(load_study("s").steps["second"], load_study("s").out))
    write_json(folder / "step.json", read_json(folder / "step.json") | {"read": {}})
    assert reasons()["second"] == (False, "unchanged")
    weights.write_text("weights of a forced run that ended before the second step")
    assert reasons() == {"first": (False, "unchanged"), "second": (True, "first/generator.safetensors changed")}


def test_a_dry_run_says_what_would_run_and_does_nothing(room, capsys, built):
    two(room)
    assert reproduce("s", dry_run=True) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=2) for line in lines] == [["run", "first", "never run"], ["run", "second", "never run"]]
    assert not (room / "reports").exists()
    assert built == []


def test_a_result_that_is_missing_or_changed_is_made_again(room):
    two(room)
    folder = load_study("s").out / "steps" / "first"
    folder.mkdir(parents=True)
    weights, table = folder / "generator.safetensors", folder / "outputs"
    weights.write_text("weights")
    table.mkdir()
    (table / "000.png").write_text("frame")
    done(room, made=make_stamp(None, folder, products(folder))["made"])
    write_json(folder.parent / "second" / "step.json", read_json(folder.parent / "second" / "step.json") | {"made": {}})
    assert reasons()["first"] == (False, "unchanged")
    weights.write_text("Weights")
    assert reasons()["first"] == (True, "generator.safetensors is not as it was made")
    assert reasons()["second"] == (True, "a step it needs runs again")
    weights.unlink()
    assert reasons()["first"] == (True, "generator.safetensors is missing")
    weights.write_text("weights")
    (table / "000.png").write_text("another frame")
    assert reasons()["first"] == (True, "outputs is not as it was made")
    (table / "000.png").write_text("frame")
    assert reasons()["first"] == (False, "unchanged")
