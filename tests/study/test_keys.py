"""Step keys: what changes them and what does not."""

import dataclasses
import shutil
from pathlib import Path

import nbformat
import pytest
import tiny
from studies import PARAMETERS, notebook, rewrite, study

from stvsr import arms
from stvsr.errors import InputError
from stvsr.models import generators
from stvsr.runs import hashes
from stvsr.study import study_file
from stvsr.study.keys import key_parts
from stvsr.study.pipeline import reproduce
from stvsr.study.study_file import Step


def parts_of(package: Path, **parameters: object) -> dict:
    step = Step(name="s", notebook=package.parent / "n.ipynb", parameters={"times": 2, **parameters})
    return key_parts(step, {"before": "k"})


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


@pytest.mark.slow
def test_a_step_depends_on_its_own_arm_and_on_no_other(copied, monkeypatch):
    before, other = parts_of(copied, arm="modern"), parts_of(copied, arm="perceptual")
    whole = parts_of(copied)
    assert "stvsr.arms" in before["modules"]
    rewrite(copied / "arms.py", '    "perceptual": Arm(', '    "mine": Arm(),\n    "perceptual": Arm(')
    assert parts_of(copied, arm="modern") == before
    assert parts_of(copied)["modules"] != whole["modules"]  # nobody knows which arms it uses
    monkeypatch.setitem(
        arms.ARMS, "perceptual", dataclasses.replace(arms.ARMS["perceptual"], description="in other words")
    )
    assert parts_of(copied, arm="perceptual") == other
    monkeypatch.setitem(arms.ARMS, "perceptual", dataclasses.replace(arms.ARMS["perceptual"], perceptual=0.5))
    assert parts_of(copied, arm="modern") == before
    changed = parts_of(copied, arm="perceptual")["modules"]
    assert [name for name in changed if changed[name] != other["modules"][name]] == ["stvsr.arms"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "uses"),
    [("02_rbpn_pretraining", False), ("03_adversarial_finetuning", True), ("04_ablation_evaluation", True)],
)
def test_pretraining_depends_on_no_arm_and_evaluation_on_their_twins(name, uses):
    cells = [
        cell.source
        for cell in nbformat.read(study_file.NOTEBOOKS / f"{name}.ipynb", as_version=4).cells
        if cell.cell_type == "code"
    ]
    modules = hashes.imported_modules(cells)
    assert "stvsr.models.generators" in modules
    assert ("stvsr.arms" in modules) is uses


def test_code_around_the_arms_changes_the_key_of_every_arm(copied):
    before = parts_of(copied, arm="modern")
    rewrite(copied / "arms.py", "return 3 if", "return 5 if")
    assert parts_of(copied, arm="modern")["modules"] != before["modules"]


def test_an_unknown_arm_is_refused_before_anything_runs(copied):
    with pytest.raises(InputError, match=r"arm 'moderne' is unknown: did you mean modern"):
        parts_of(copied, arm="moderne")


def test_relative_inputs_are_those_that_the_notebook_will_read(package, tmp_path, monkeypatch):
    (tmp_path / "clip.mp4").write_bytes(b"1")
    monkeypatch.chdir(tmp_path)
    assert list(parts_of(package, data=["clip.mp4"])["inputs"]) == ["clip.mp4"]
    monkeypatch.chdir("/")
    assert not parts_of(package, data=["clip.mp4"])["inputs"]


@pytest.mark.slow
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
