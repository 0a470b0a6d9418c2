"""The chain: strict parameters, keys that prose does not change, reasons, failures, all on throw-away notebooks."""

import dataclasses
import json
import re
import shutil
import time
from pathlib import Path

import nbformat
import pytest
import tiny

from stvsr import arms
from stvsr.errors import InputError
from stvsr.models import generators
from stvsr.runs import deadline, hashes
from stvsr.runs.files import read_json, write_json
from stvsr.study import manifest, pipeline, study_file
from stvsr.study.keys import key_parts
from stvsr.study.pipeline import reproduce, run_step
from stvsr.study.plan import make_plans
from stvsr.study.study_file import Step, check_parameters, inspect_parameters, load_study

PARAMETERS = 'folder: str = "."  # where\ntimes: int = 2  # how often\n'
WORK = 'from pathlib import Path\nPath(folder, "generator.safetensors").write_text("x" * times)\nprint(times)'


def notebook(path: Path, parameters: str = PARAMETERS, *cells: str, prose: str = "Why.") -> Path:
    """Write a notebook: prose, parameters, then the cells."""
    new = nbformat.v4
    tagged = new.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    content = [new.new_markdown_cell(prose), tagged, *(new.new_code_cell(cell) for cell in cells)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new.new_notebook(cells=content, metadata=kernel), path)
    return path


@pytest.fixture
def built() -> list[Path]:
    """The run folders for which a report was asked."""
    return []


@pytest.fixture
def room(tmp_path, monkeypatch, built):
    """A folder of notebooks and studies of its own, and a report that is only noted."""
    monkeypatch.setattr(study_file, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(pipeline, "build_report", lambda folder: built.append(folder) or folder / "report.html")
    monkeypatch.setattr(manifest, "environment", lambda: {"python": "3"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def study(room: Path, text: str, name: str = "s") -> Path:
    path = room / "notebooks" / "studies" / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


TWO = """
title = "Two"
question = "Do they follow each other?"
[[steps]]
id = "first"
notebook = "work"
parameters = {times = 3}
[[steps]]
id = "second"
notebook = "read"
parameters = {source = "step:first/generator.safetensors"}
"""
READ = 'from pathlib import Path\nPath(folder, "result.txt").write_text(Path(source).read_text())'
READ_PARAMETERS = 'folder: str = "."  # where\nsource: str = ""  # what is read\n'


def two(room: Path) -> None:
    notebook(room / "notebooks" / "work.ipynb", PARAMETERS, WORK)
    notebook(room / "notebooks" / "read.ipynb", READ_PARAMETERS, READ)
    study(room, TWO)


def reasons(only: str = "") -> dict[str, tuple[bool, str]]:
    return {name: (plan.run, plan.reason) for name, plan in make_plans(load_study("s"), only).items()}


# ---- parameters


KNOWN = {"steps": ("int", 3), "rate": ("float", 0.1), "name": ("str", "a"), "fast": ("bool", False), "data": ("list[str]", ["a"]),
         "shrink": ("list[float]", [1.0])}  # fmt: skip


def test_given_values_go_over_the_defaults():
    checked = check_parameters({"steps": 5, "rate": 1, "shrink": [1, 2.5]}, KNOWN, "here")
    assert checked == {"steps": 5, "rate": 1.0, "name": "a", "fast": False, "data": ["a"], "shrink": [1, 2.5]}
    assert isinstance(checked["rate"], float)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"step": 3}, "here has no parameter 'step': did you mean steps?"),
        ({"learning": 3}, "here has no parameter 'learning': steps, rate, name, fast, data, shrink"),
        ({"steps": 3.0}, "here: parameter steps is 3.0, it must be of type int"),
        ({"steps": True}, "here: parameter steps is True, it must be of type int"),
        ({"steps": "3"}, "here: parameter steps is '3', it must be of type int"),
        ({"rate": "0.1"}, "here: parameter rate is '0.1', it must be of type float"),
        ({"rate": float("nan")}, "here: parameter rate is nan, it must be of type float"),
        ({"rate": False}, "here: parameter rate is False, it must be of type float"),
        ({"fast": 0}, "here: parameter fast is 0, it must be of type bool"),
        ({"name": None}, "here: parameter name is None, it must be of type str"),
        ({"data": "a"}, "here: parameter data is 'a', it must be of type list[str]"),
        ({"data": [1]}, "here: parameter data is [1], it must be of type list[str]"),
    ],
)
def test_a_misspelt_or_ill_typed_parameter_is_one_clear_line(given, message):
    with pytest.raises(InputError) as caught:
        check_parameters(given, KNOWN, "here")
    assert str(caught.value) == message


def test_parameters_are_read_as_papermill_reads_them(tmp_path):
    lines = [
        "a: int = 1  # one",
        "b: float = 1e-3  # two",
        'c: str = "x"  # three',
        'd: list[str] = ["p", "q"]',
        "e: bool = False  # five",
    ]
    assert inspect_parameters(notebook(tmp_path / "n.ipynb", "\n".join(lines))) == {
        "a": ("int", 1), "b": ("float", 0.001), "c": ("str", "x"), "d": ("list[str]", ["p", "q"]), "e": ("bool", False),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "message"),
    [("a = 1  # untyped", "parameter a must have a type"), ("a: int = f()", r"parameter a must have a literal as default, not f\(\)"),
     ("a: Path = 1", "parameter a must have a type, one of int, float, str, bool")],
)  # fmt: skip
def test_a_notebook_with_untyped_or_computed_parameters_is_refused(tmp_path, cell, message):
    with pytest.raises(InputError, match=message):
        inspect_parameters(notebook(tmp_path / "n.ipynb", cell))


def test_a_study_with_a_misspelt_parameter_is_refused_before_anything_runs(room):
    two(room)
    study(room, TWO.replace("times", "tines"))
    with pytest.raises(InputError, match=r"step first \(work.ipynb\) has no parameter 'tines': did you mean times"):
        reproduce("s")
    assert not (room / "reports").exists()


# ---- study files


def test_a_matrix_repeats_a_step_and_references_follow(room):
    notebook(room / "notebooks" / "work.ipynb", 'folder: str = "."\narm: str = "a"\nseed: int = 0\nstart: str = ""\n')
    notebook(room / "notebooks" / "judge.ipynb", 'folder: str = "."\ngenerators: list[str] = []\n')
    study(room, """
[[steps]]
id = "start"
notebook = "work"
[[steps]]
id = "tune"
name = "{arm}-s{seed}"
notebook = "work"
matrix = {arm = ["x-control", "y"], seed = [0, 1]}
parameters = {start = "step:start/generator.safetensors"}
[[steps]]
id = "judge"
notebook = "judge"
parameters = {generators = ["start=step:start/generator.safetensors", "peer", "steps:tune"]}
""")  # fmt: skip
    parsed = load_study("s", room / "out")
    steps, out = parsed.steps, room / "out" / "steps"
    assert list(steps) == ["start", "x-control-s0", "x-control-s1", "y-s0", "y-s1", "judge"]
    assert steps["y-s1"].parameters == {"folder": str(out / "y-s1"), "arm": "y", "seed": 1,
                                        "start": str(out / "start" / "generator.safetensors")}  # fmt: skip
    assert steps["y-s1"].needs == ("start",)
    assert steps["judge"].needs == ("start", "x-control-s0", "x-control-s1", "y-s0", "y-s1")
    assert steps["judge"].parameters["generators"] == [
        f"start={out}/start/generator.safetensors",
        "peer",
        f"x-control@0={out}/x-control-s0/generator.safetensors",
        f"x-control@1={out}/x-control-s1/generator.safetensors",
        f"y@0={out}/y-s0/generator.safetensors",
        f"y@1={out}/y-s1/generator.safetensors",
    ]


def test_words_with_step_in_them_are_no_references(room):
    notebook(room / "notebooks" / "work.ipynb", 'title: str = ""\n')
    study(room, '[[steps]]\nid = "a"\nnotebook = "work"\nparameters = {title = "the first step: begin"}')
    assert load_study("s").steps["a"].parameters == {"title": "the first step: begin"}


ONE = '[[steps]]\nid = "a"\nnotebook = "work"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = ", "is no TOML"),
        ("tilte = 'x'", "study s.toml has no key 'tilte': did you mean title?"),
        ("title = 'x'", "study s.toml has no steps"),
        ("[[steps]]\nid = 'a'", "a step has no notebook"),
        ("[[steps]]\nnotebook = 'work'", "a step has no id"),
        (ONE + "parameter = {}", "step a has no key 'parameter': did you mean parameters?"),
        (ONE.replace('"work"', '"wrok"'), "notebook wrok does not exist: choose from read, work"),
        (ONE + ONE, "has two steps named a"),
        (ONE + "parameters = {folder = 'step:b/x'}", "step a needs b, which no earlier step is: there are none"),
        (ONE + "matrix = {times = [1, 2]}\n" + ONE.replace('"a"', '"b"') + "parameters = {folder = 'step:a/x'}",
         r"step b: step:a/x is ambiguous, a has 2 repetitions: use steps:a"),
        (ONE + "matrix = {times = 1}", "times in matrix is 1, it must be a list"),
        (ONE + "matrix = {times = [1]}\nname = '{tiems}'", "name {tiems} may use times in braces"),
        (ONE + "name = '../up'", "step name '../up' cannot name a folder"),
        (ONE + "name = '{{x}}'", "step name '{x}' cannot name a folder"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_study_file_is_one_clear_line(room, text, message):
    two(room)
    study(room, text)
    with pytest.raises(InputError) as caught:
        load_study("s")
    assert re.search(message, str(caught.value))
    assert "\n" not in str(caught.value)


def test_an_unknown_study_lists_the_known_ones_and_a_path_is_taken_as_it_is(room):
    two(room)
    with pytest.raises(InputError, match=r"study t does not exist: choose from s, or give a .toml file"):
        load_study("t")
    (room / "mine.toml").write_text(TWO)
    assert load_study(str(room / "mine.toml")).out == (room / "reports" / "mine").resolve()


def test_braces_in_the_run_folder_are_refused(room):
    """papermill reads them as fields of a format."""
    two(room)
    with pytest.raises(InputError, match=r"has braces in its name"):
        reproduce("s", out=room / "run{1}")
    assert not (room / "run{1}").exists()


STUDIES = sorted((Path(__file__).resolve().parents[2] / "notebooks" / "studies").glob("*.toml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_studies_that_come_with_the_project_are_in_order(path, tmp_path):
    parsed = load_study(str(path), tmp_path / "out")
    assert parsed.title
    assert parsed.question
    assert not (tmp_path / "out").exists()


# ---- keys


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of three modules, of which a imports b, and a notebook that imports a."""
    root = tmp_path / "stvsr"
    (root / "sub").mkdir(parents=True)
    sources = {"__init__": "", "a": '"""Prose."""\nfrom stvsr import b\ndef f(x):\n    """Say."""\n    return b.g(x) + 1  # why\n',
               "b": "import stvsr.sub.d\ndef g(x):\n    return x\n", "c": "y = 1\n", "sub/__init__": "", "sub/d": "z = 1\n"}  # fmt: skip
    for name, source in sources.items():
        (root / f"{name}.py").write_text(source)
    monkeypatch.setattr(hashes, "PACKAGE", root)
    notebook(tmp_path / "n.ipynb", PARAMETERS, "from stvsr import a\na.f(times)  # once")
    return root


def parts_of(package: Path, **parameters: object) -> dict:
    step = Step(name="s", notebook=package.parent / "n.ipynb", parameters={"times": 2, **parameters})
    return key_parts(step, {"before": "k"})


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_key_holds_the_modules_that_are_imported_directly_or_through_others(package):
    assert list(parts_of(package)["modules"]) == ["stvsr", "stvsr.a", "stvsr.b", "stvsr.sub.d"]


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("a", '"""Prose."""', '"""Better prose,\n\nof two lines."""'),
        ("a", '"""Say."""', '"""Say it."""'),
        ("a", "# why", "# because"),
        ("a", "b.g(x) + 1", "(b.g( x )\n        + 1)"),
        ("c", "y = 1", "y = 2"),
    ],
)
def test_prose_layout_and_modules_that_are_not_imported_change_no_key(package, module, old, new):
    before = parts_of(package)
    rewrite(package / f"{module}.py", old, new)
    assert parts_of(package) == before


@pytest.mark.parametrize(
    ("module", "old", "new"), [("a", "+ 1", "+ 2"), ("b", "return x", "return -x"), ("sub/d", "z = 1", "z = 2")]
)
def test_code_of_imported_modules_changes_the_key(package, module, old, new):
    before = parts_of(package)
    rewrite(package / f"{module}.py", old, new)
    after = parts_of(package)
    name = "stvsr." + module.replace("/", ".")
    assert [key for key in after["modules"] if after["modules"][key] != before["modules"][key]] == [name]


def test_prose_of_a_notebook_changes_no_key_and_its_code_does(package):
    before, path = parts_of(package), package.parent / "n.ipynb"
    notebook(
        path,
        PARAMETERS + "# a remark\n",
        '"""A docstring."""\nfrom stvsr import a\na.f(times)  # twice',
        prose="Another why.",
    )
    assert parts_of(package) == before
    notebook(path, PARAMETERS, "from stvsr import a\na.f(times + 1)")
    assert parts_of(package)["cells"] != before["cells"]


def test_parameters_files_folders_and_earlier_steps_change_the_key(package, tmp_path):
    before = parts_of(package)
    assert parts_of(package, times=3) != before
    clip = tiny.write_folder(tmp_path / "clips" / "one", tiny.panning(2, 16, 16))
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"1")
    given = {"data": [f"{clip.parent}@test"], "generators": [f"g={weights}"]}
    first = parts_of(package, **given)
    assert parts_of(package, **given) == first
    weights.write_bytes(b"2")
    second = parts_of(package, **given)
    assert second["inputs"] != first["inputs"]
    tiny.write_folder(tmp_path / "clips" / "two", tiny.panning(2, 16, 16))
    third = parts_of(package, **given)
    assert third["inputs"] != second["inputs"]
    (clip / "001.png").unlink()  # two levels down
    assert parts_of(package, **given)["inputs"] != third["inputs"]
    step = Step(name="s", notebook=tmp_path / "n.ipynb", parameters={"times": 2})
    assert key_parts(step, {"before": "another"})["upstream"] != before["upstream"]


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of the package's modules, to rewrite, and a notebook that uses its arms."""
    root = tmp_path / "stvsr"
    root.mkdir()
    for path in hashes.PACKAGE.rglob("*.py"):
        copy = root / path.relative_to(hashes.PACKAGE)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copy)
    monkeypatch.setattr(hashes, "PACKAGE", root)
    notebook(tmp_path / "n.ipynb", PARAMETERS, "from stvsr.training import finetuning")
    return root


def test_a_step_depends_on_its_own_arm_and_on_no_other(copied, monkeypatch):
    before, other = parts_of(copied, arm="modern"), parts_of(copied, arm="perceptual")
    whole = parts_of(copied)
    assert "stvsr.arms" in before["modules"]
    rewrite(copied / "arms.py", '    "perceptual": Arm(', '    "mine": Arm(),\n    "perceptual": Arm(')
    assert parts_of(copied, arm="modern") == before
    assert parts_of(copied)["modules"] != whole["modules"]  # nobody knows which arms it uses
    monkeypatch.setitem(arms.ARMS, "perceptual", dataclasses.replace(arms.ARMS["perceptual"], says="in other words"))
    assert parts_of(copied, arm="perceptual") == other
    monkeypatch.setitem(arms.ARMS, "perceptual", dataclasses.replace(arms.ARMS["perceptual"], perceptual=0.5))
    assert parts_of(copied, arm="modern") == before
    changed = parts_of(copied, arm="perceptual")["modules"]
    assert [name for name in changed if changed[name] != other["modules"][name]] == ["stvsr.arms"]


def test_pretraining_and_evaluation_depend_on_no_arm():
    for name in ("02_rbpn_pretraining", "04_ablation_evaluation"):
        cells = [
            cell.source
            for cell in nbformat.read(study_file.NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
            if cell.cell_type == "code"
        ]
        modules = hashes.imported_modules(cells)
        assert "stvsr.training.launch" in modules
        assert "stvsr.arms" not in modules


def test_code_around_the_arms_changes_the_key_of_every_arm(copied):
    before = parts_of(copied, arm="modern")
    rewrite(copied / "arms.py", "return 3 if", "return 5 if")
    assert parts_of(copied, arm="modern")["modules"] != before["modules"]


def test_an_unknown_arm_is_refused_before_anything_runs(copied):
    with pytest.raises(InputError, match=r"arm 'moderne' is unknown: choose from pixel-control"):
        parts_of(copied, arm="moderne")


def test_relative_inputs_are_those_that_the_notebook_will_read(package, tmp_path, monkeypatch):
    (tmp_path / "clip.mp4").write_bytes(b"1")
    monkeypatch.chdir(tmp_path)
    assert list(parts_of(package, data=["clip.mp4"])["inputs"]) == ["clip.mp4"]
    monkeypatch.chdir("/")
    assert not parts_of(package, data=["clip.mp4"])["inputs"]


def test_a_notebook_runs_where_the_command_was_called(room):
    notebook(
        room / "notebooks" / "where.ipynb",
        PARAMETERS,
        "from pathlib import Path\nPath(folder, 'cwd').write_text(str(Path.cwd()))",
    )
    study(room, '[[steps]]\nid = "where"\nnotebook = "where"\n')
    assert reproduce("s") == 0
    assert Path((room / "reports/s/steps/where/cwd").read_text()) == room.resolve()


def test_shipped_weights_are_inputs(package, tmp_path, monkeypatch):
    monkeypatch.setattr(generators, "WEIGHTS", tmp_path)
    (tmp_path / "small.safetensors").write_bytes(b"1")
    before = parts_of(package, start="small")
    (tmp_path / "small.safetensors").write_bytes(b"2")
    assert parts_of(package, start="small")["inputs"] != before["inputs"]


# ---- plans


def done(room: Path, **changes: object) -> None:
    """Note in step.json that both steps were done, without running them."""
    for name, plan in make_plans(load_study("s")).items():
        record = {"key": plan.key, "parts": plan.parts, "status": "done", "parameters": plan.step.parameters, "notebook": "n.ipynb",
                  "seconds": 1.0, "error": ""}  # fmt: skip
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


def test_a_dry_run_says_what_would_run_and_does_nothing(room, capsys, built):
    two(room)
    assert reproduce("s", dry_run=True) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=2) for line in lines] == [["run", "first", "never run"], ["run", "second", "never run"]]
    assert not (room / "reports").exists()
    assert built == []


# ---- running


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
    work = f'from pathlib import Path\nassert arm not in "{failing}"\nPath(folder, "generator.safetensors").write_text(arm)'
    notebook(room / "notebooks" / "arm.ipynb", 'folder: str = "."  # where\narm: str = "a"  # which\n', work)
    table = 'from pathlib import Path\nPath(folder, "names.txt").write_text(" ".join(g.partition("=")[0] for g in generators))'
    notebook(
        room / "notebooks" / "table.ipynb",
        'folder: str = "."  # where\ngenerators: list[str] = []  # of a table\n',
        table,
    )
    study(room, SINGLE + ARMS)


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
    arms_and_table(room, failing="none")  # mended
    assert reproduce("s") == 0
    assert names.read_text() == "own a@0 b@0 c@0"


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


def test_what_passes_between_notebook_and_kernel_is_encrypted(room, capfd):
    two(room)
    assert reproduce("s", only="first") == 0
    assert "without encryption" not in capfd.readouterr().err, "the kernel warns of it by itself"


def test_a_kernel_that_dies_fails_its_step_only(room):
    notebook(room / "notebooks" / "dies.ipynb", PARAMETERS, "import os\nos._exit(9)")
    notebook(room / "notebooks" / "work.ipynb", PARAMETERS, WORK)
    study(room, '[[steps]]\nid = "one"\nnotebook = "dies"\n[[steps]]\nid = "two"\nnotebook = "work"\n')
    assert reproduce("s") == 1
    out = room / "reports" / "s" / "steps"
    assert read_json(out / "one/step.json")["status"] == "failed"
    assert "DeadKernelError" in read_json(out / "one/step.json")["error"]
    assert read_json(out / "two/step.json")["status"] == "done"


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
    assert "run the same command to go on" in capsys.readouterr().out
    assert built == []
    assert reasons()["first"] == (True, "stopped last time")


def test_no_step_begins_after_the_time_is_over(room, monkeypatch, built):
    two(room)
    monkeypatch.setenv("STVSR_DEADLINE", "inf")
    assert reproduce("s", minutes=1e-9) == 75
    assert built == []
    assert not (room / "reports/s/steps").exists()
    monkeypatch.setenv("STVSR_DEADLINE", "inf")
    assert reproduce("s") == 0


def test_a_run_folder_that_was_moved_is_not_run_again(room, monkeypatch):
    two(room)
    assert reproduce("s") == 0
    (room / "reports/s").rename(room / "reports/moved")
    plans = make_plans(load_study("s", room / "reports/moved"))
    assert [(plan.run, plan.reason) for plan in plans.values()] == [(False, "unchanged")] * len(plans)


CHANGES = [
    ({}, True),
    ({"cells": "other figures"}, True),
    ({"modules": {"stvsr.figures": "other"}}, True),
    ({"modules": {"stvsr.losses": "other"}}, False),
    ({"inputs": {"clip.mp4": "other"}}, False),
    ({"upstream": {"pretrain": "other"}}, False),
    ({"parameters": {"steps": 1}}, False),
]


def test_results_of_other_code_are_taken_away_and_a_stopped_training_is_kept(room, monkeypatch):
    """`launch` would take finished weights of an older start or older code for its own."""
    two(room)
    monkeypatch.setattr(pipeline.papermill, "execute_notebook", lambda *given, **named: None)
    plan = make_plans(load_study("s"))["first"]
    folder = load_study("s").out / "steps" / "first"
    left = ("checkpoint.safetensors", "config.json", "generator.safetensors", "log.jsonl", "outputs")
    for change, kept in CHANGES:
        write_json(folder / "step.json", {"key": "", "parts": plan.parts | change, "status": "stopped"})
        for name in left:
            (folder / name).write_text("{}")
        assert run_step(plan, load_study("s").out)[0] == "done"
        assert [(folder / name).exists() for name in left] == [kept] * 4 + [kept or "modules" not in change]


MEET = """
import time
from pathlib import Path
mine, other = Path(folder, "here"), Path(folder).parent / meet / "here"
mine.touch()
end = time.time() + 100
while not other.exists() and time.time() < end:
    time.sleep(0.05)
assert other.exists()
"""
PAIR = """
[[steps]]
id = "a"
notebook = "meet"
parameters = {meet = "b"}
[[steps]]
id = "b"
notebook = "meet"
parameters = {meet = "a"}
"""


def pair(room: Path) -> None:
    """Two steps that each wait for the other to have begun."""
    notebook(room / "notebooks" / "meet.ipynb", 'folder: str = "."  # where\nmeet: str = ""  # whom\n', MEET)
    study(room, PAIR)


def test_independent_steps_run_at_once_with_jobs(room):
    pair(room)
    assert reproduce("s", jobs=2) == 0
    assert all(read_json(path)["status"] == "done" for path in room.glob("reports/s/steps/*/step.json"))


def test_steps_at_once_have_gpus_of_their_own(room, monkeypatch):
    notebook(room / "notebooks" / "meet.ipynb", 'folder: str = "."  # where\nmeet: str = ""  # whom\n', MEET,
             'import os\nmine.write_text(os.environ["CUDA_VISIBLE_DEVICES"])')  # fmt: skip
    study(room, PAIR)
    monkeypatch.setattr(pipeline, "visible_gpus", lambda: ["0", "1", "5"])
    assert reproduce("s", jobs=2) == 0
    assert {(room / f"reports/s/steps/{name}/here").read_text() for name in "ab"} == {"0,5", "1"}


@pytest.mark.parametrize(
    ("gpus", "jobs", "shares"),
    [
        (8, 8, ["0", "1", "2", "3", "4", "5", "6", "7"]),
        (8, 2, ["0,2,4,6", "1,3,5,7"]),
        (2, 3, ["0", "1", "0"]),
        (1, 2, ["0", "0"]),
        (0, 2, ["", ""]),
    ],
)
def test_gpus_are_dealt_out_among_jobs(gpus, jobs, shares):
    assert pipeline.gpu_shares([str(index) for index in range(gpus)], jobs) == shares


@pytest.mark.parametrize(
    ("named", "count", "gpus"),
    [
        (None, 2, ["0", "1"]),
        ("4,5", 2, ["4", "5"]),
        ("GPU-8f,GPU-9c", 2, ["GPU-8f", "GPU-9c"]),
        ("-1", 0, []),
        ("", 0, []),
        (None, 0, []),
    ],
)
def test_gpus_are_those_that_the_user_left_visible(monkeypatch, named, count, gpus):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    monkeypatch.setattr(pipeline.torch.cuda, "device_count", lambda: count)
    assert pipeline.visible_gpus() == gpus


def test_steps_go_to_a_dask_cluster_when_asked(room):
    cluster = pytest.importorskip("distributed").LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        dashboard_address=None,
        protocol="tcp",
        local_directory=str(room),
    )
    pair(room)
    with cluster:
        assert reproduce("s", scheduler=cluster.scheduler_address) == 0
    assert all(read_json(path)["status"] == "done" for path in room.glob("reports/s/steps/*/step.json"))


def test_report_only_runs_nothing(room, built):
    two(room)
    assert reproduce("s", report_only=True) == 0
    assert built == [(room / "reports" / "s").resolve()]
    assert not (room / "reports" / "s" / "steps").exists()


def test_data_and_weights_of_all_steps_are_in_the_manifest_once(room, monkeypatch):
    two(room)
    monkeypatch.setattr(pipeline.papermill, "execute_notebook", lambda *given, **named: None)
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
