"""The chain as a whole: what runs, what is skipped, failures, time limits, the manifest."""

import json
import re
import sys
import time
from pathlib import Path

import nbformat
import pytest
from studies import ONE, PARAMETERS, READ, READ_PARAMETERS, TWO, WORK, notebook, reasons, study, two

from stvsr.runs import deadline
from stvsr.runs.files import read_json, write_json
from stvsr.study import execution, pipeline
from stvsr.study.pipeline import reproduce
from stvsr.study.plan import make_plans
from stvsr.study.study_file import load_study


@pytest.mark.slow
def test_the_chain_runs_once_and_then_only_what_changed(room, capsys, built):
    two(room)
    assert reproduce("s") == 0
    out = room / "reports" / "s"
    assert (out / "steps/second/result.txt").read_text() == "xxx"
    executed = nbformat.read(out / "steps/first/notebook.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text == "3\n"
    assert built == [out]
    run = read_json(out / "run.json")
    assert (run["study"], run["title"], run["question"]) == ("s", "Two", "Do they follow each other?")
    assert [(step["name"], step["status"], step["reason"]) for step in run["steps"]] == [
        ("first", "done", "never run"), ("second", "done", "never run"),
    ]  # fmt: skip
    assert run["steps"][0]["parameters"] == {"folder": str(out / "steps/first"), "times": 3}
    assert "[2/2] second: done after" in capsys.readouterr().out

    stamps = [path.stat().st_mtime_ns for path in sorted(out.glob("steps/*/*"))]
    assert reproduce("s") == 0
    assert [path.stat().st_mtime_ns for path in sorted(out.glob("steps/*/*"))] == stamps
    assert capsys.readouterr().out.count("unchanged") == 2

    study(room, TWO.replace("times = 3", "times = 5"))
    assert reproduce("s", only="first") == 0
    assert (out / "steps/first/generator.safetensors").read_text() == "xxxxx"
    assert (out / "steps/second/result.txt").read_text() == "xxx"
    assert [step["reason"] for step in read_json(out / "run.json")["steps"]] == [
        "parameter times changed",
        "not asked for",
    ]


@pytest.mark.slow
def test_a_forced_step_is_made_again_and_its_old_result_kept(room):
    two(room)
    out = room / "reports" / "s"
    assert reproduce("s") == 0
    assert reproduce("s", force=["first"]) == 0
    assert (out / "steps/first/.superseded-1/generator.safetensors").read_text() == "xxx"
    assert (out / "steps/first/generator.safetensors").read_text() == "xxx"
    assert [step["reason"] for step in read_json(out / "run.json")["steps"]] == ["forced", "a step it needs runs again"]
    assert not (out / "steps/second/.superseded-1").exists()
    assert {reason for _, reason in reasons().values()} == {"unchanged"}


def test_only_forced_steps_that_have_begun_are_not_to_be_forced_again(room, monkeypatch, capsys):
    two(room)
    monkeypatch.setattr(execution.papermill, "execute_notebook", lambda *given, **named: None)
    assert reproduce("s") == 0

    def first_until_the_time_is_over(*given, **named):
        monkeypatch.setenv("STVSR_DEADLINE", "0")

    monkeypatch.setattr(execution.papermill, "execute_notebook", first_until_the_time_is_over)
    assert reproduce("s", force=["first", "second"]) == 75
    out = room / "reports" / "s"
    assert f"run the same command to continue, without --force first ({out})" in capsys.readouterr().out
    assert reproduce("s", force=["second"]) == 75
    assert f"run the same command to continue ({out})" in capsys.readouterr().out


def test_a_forced_step_that_can_do_without_a_failed_arm_stays_forced(room):
    arms_and_table(room, failing="none")
    plans = make_plans(load_study("s"), force=["evaluate"])
    states = {"single": "done", "a-s0": "done", "b-s0": "failed", "c-s0": "done"}
    assert pipeline._settle("evaluate", plans, states, room / "reports/s") == ""
    assert plans["evaluate"].step.needs == ("a-s0", "c-s0")
    assert plans["evaluate"].forced


@pytest.mark.slow
def test_a_failure_keeps_the_traceback_blocks_what_needs_it_and_lets_the_rest_go_on(room, capsys, built):
    two(room)
    notebook(
        room / "notebooks" / "bad.ipynb",
        PARAMETERS,
        "before = 1\nprint('got here')",
        "1 / (times - 3)",
        "print('never')",
    )
    study(room, TWO.replace('notebook = "work"', 'notebook = "bad"') + '[[steps]]\nid = "third"\nnotebook = "work"\n')
    assert reproduce("s") == 1
    out = room / "reports" / "s"
    states = {path.parent.name: read_json(path)["status"] for path in out.glob("steps/*/step.json")}
    assert states == {"first": "failed", "third": "done"}
    executed = nbformat.read(out / "steps/first/notebook.ipynb", as_version=4)
    outputs = [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any(output.get("text") == "got here\n" for output in outputs)
    assert [output.ename for output in outputs if output.output_type == "error"] == ["ZeroDivisionError"]
    said = capsys.readouterr().out
    assert re.search(r"first: failed after \d+ s: ZeroDivisionError: division by zero", said)
    assert "never" not in str(outputs)
    assert built == [out]  # a report of what there is
    assert read_json(out / "run.json")["steps"][0]["error"] == "ZeroDivisionError: division by zero"
    assert reasons()["first"] == (True, "failed last time")


ARMS = """
[[steps]]
id = "arms"
name = "{arm}-s0"
notebook = "arm"
matrix = {arm = ["a", "b", "c"]}
[[steps]]
id = "evaluate"
notebook = "table"
parameters = {generators = ["own=elsewhere", "steps:arms"]}
[[steps]]
id = "strict"
notebook = "table"
parameters = {generators = ["d=step:single/generator.safetensors", "steps:arms"]}
"""
SINGLE = '[[steps]]\nid = "single"\nnotebook = "arm"\nparameters = {arm = "d"}\n'


def arms_and_table(room: Path, failing: str) -> None:
    """Three arms and a fourth, some of which fail, a table of what is left, and one that insists on the fourth."""
    work = (
        f'from pathlib import Path\nassert arm not in "{failing}"\n'
        'Path(folder, "generator.safetensors").write_text(arm)'
    )
    notebook(room / "notebooks" / "arm.ipynb", 'folder: str = "."  # where\narm: str = "a"  # which\n', work)
    table = (
        "from pathlib import Path\n"
        'Path(folder, "names.txt").write_text(" ".join(g.partition("=")[0] for g in generators))'
    )
    notebook(
        room / "notebooks" / "table.ipynb",
        'folder: str = "."  # where\ngenerators: list[str] = []  # of a table\n',
        table,
    )
    study(room, SINGLE + ARMS)


@pytest.mark.slow
def test_an_arm_that_fails_is_left_out_and_the_others_are_scored(room, capsys):
    names, strict = (room / "reports/s/steps" / step / "names.txt" for step in ("evaluate", "strict"))
    arms_and_table(room, failing="b")
    assert reproduce("s") == 1
    assert names.read_text() == "own a@0 c@0"
    assert strict.read_text() == "d a@0 c@0"
    assert reproduce("s") == 1  # fails again: what is left is scored already
    reasons = {step["name"]: step["reason"] for step in read_json(room / "reports/s/run.json")["steps"]}
    assert reasons["b-s0"] == "failed last time"
    assert reasons["evaluate"] == "unchanged"
    arms_and_table(room, failing="none")  # corrected
    assert reproduce("s") == 0
    assert names.read_text() == "own a@0 b@0 c@0"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failing", "said"), [("abc", {"evaluate": False, "strict": False}), ("d", {"evaluate": True, "strict": False})]
)
def test_nothing_is_scored_without_any_arm_or_without_a_single_step_that_is_named(room, failing, said):
    arms_and_table(room, failing)
    assert reproduce("s") == 1
    assert {step: (room / "reports/s/steps" / step / "names.txt").exists() for step in said} == said


def test_an_arm_that_only_stopped_is_waited_for(room):
    arms_and_table(room, failing="none")
    plans = make_plans(load_study("s"))
    states = {"single": "done", "a-s0": "done", "b-s0": "stopped", "c-s0": "failed"}
    assert pipeline._settle("evaluate", plans, states, room / "reports/s") == "blocked"
    states["b-s0"] = "done"
    assert pipeline._settle("evaluate", plans, states, room / "reports/s") == ""
    assert plans["evaluate"].step.needs == ("a-s0", "b-s0")


@pytest.mark.slow
def test_a_kernel_is_of_this_environment_encrypted_and_quiet(room, monkeypatch, capfd):
    """Whatever $JUPYTER_PATH holds, and although the cell is interrupted."""
    listed = room / "jupyter" / "kernels" / "python3"
    listed.mkdir(parents=True)
    argv = ["/bin/false", "{connection_file}"]
    (listed / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(room / "jupyter"))
    cell = (
        "import os, signal, sys, ipykernel\n"
        "print(sys.executable)\n"
        "assert get_ipython().kernel.session.key\n"
        "assert ipykernel.get_connection_info(unpack=True).get('curve_publickey')\n"
        "os.kill(os.getpid(), signal.SIGINT)"
    )
    notebook(room / "notebooks" / "work.ipynb", PARAMETERS, cell)
    study(room, ONE)
    assert reproduce("s") == 1
    folder = room / "reports" / "s" / "steps" / "a"
    assert read_json(folder / "step.json")["error"] == "KeyboardInterrupt: "
    assert sys.executable in (folder / "notebook.ipynb").read_text()
    assert "IPKernelApp" not in "".join(capfd.readouterr())


@pytest.mark.slow
def test_a_kernel_that_dies_fails_its_step_only(room):
    notebook(room / "notebooks" / "dies.ipynb", PARAMETERS, "import os\nos._exit(9)")
    notebook(room / "notebooks" / "work.ipynb", PARAMETERS, WORK)
    study(room, '[[steps]]\nid = "one"\nnotebook = "dies"\n[[steps]]\nid = "two"\nnotebook = "work"\n')
    assert reproduce("s") == 1
    out = room / "reports" / "s" / "steps"
    assert read_json(out / "one/step.json")["status"] == "failed"
    assert "DeadKernelError" in read_json(out / "one/step.json")["error"]
    assert read_json(out / "two/step.json")["status"] == "done"


@pytest.mark.slow
def test_time_that_runs_out_is_no_failure_and_the_command_goes_on_later(room, monkeypatch, capsys, built):
    """The notebook sees the deadline; its training says that it was stopped."""
    cell = (
        "import os, time\n"
        "assert time.time() + 80 < float(os.environ['STVSR_DEADLINE']) < time.time() + 130\n"
        f"raise ValueError('training {deadline.STOPPED}: again')"
    )
    notebook(room / "notebooks" / "work.ipynb", PARAMETERS, cell)
    notebook(room / "notebooks" / "read.ipynb", READ_PARAMETERS, READ)
    study(room, TWO)
    monkeypatch.setenv("STVSR_DEADLINE", "inf")
    assert reproduce("s", minutes=2) == 75
    assert read_json(room / "reports/s/steps/first/step.json")["status"] == "stopped"
    assert "run the same command to continue" in capsys.readouterr().out
    assert built == []
    assert reasons()["first"] == (True, "stopped last time")


@pytest.mark.slow
def test_no_step_begins_after_the_time_is_over(room, monkeypatch, built):
    two(room)
    monkeypatch.setenv("STVSR_DEADLINE", "inf")
    assert reproduce("s", minutes=1e-9) == 75
    assert built == []
    assert not (room / "reports/s/steps").exists()
    monkeypatch.setenv("STVSR_DEADLINE", "inf")
    assert reproduce("s") == 0


@pytest.mark.slow
def test_a_run_folder_that_was_moved_is_not_run_again(room, monkeypatch):
    two(room)
    assert reproduce("s") == 0
    (room / "reports/s").rename(room / "reports/moved")
    plans = make_plans(load_study("s", room / "reports/moved"))
    assert [(plan.run, plan.reason) for plan in plans.values()] == [(False, "unchanged")] * len(plans)


def test_report_only_runs_nothing(room, built):
    two(room)
    assert reproduce("s", report_only=True) == 0
    assert built == [(room / "reports" / "s").resolve()]
    assert not (room / "reports" / "s" / "steps").exists()


def test_data_and_weights_of_all_steps_are_in_the_manifest_once(room, monkeypatch):
    two(room)
    monkeypatch.setattr(execution.papermill, "execute_notebook", lambda *given, **named: None)
    out = load_study("s").out
    for name in ("first", "second"):
        write_json(out / "steps" / name / "data.json", [{"clip": "one"}, {"clip": name}])
    write_json(out / "steps" / "second" / "weights.json", [{"name": "w"}])
    assert reproduce("s") == 0
    run = json.loads((out / "run.json").read_text())
    assert run["data"] == [{"clip": "one"}, {"clip": "first"}, {"clip": "second"}]
    assert run["weights"] == [{"name": "w"}]
    assert run["command"].startswith("stvsr")
    assert run["finished"] >= run["started"] > time.time() - 600
