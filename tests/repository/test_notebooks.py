"""The notebooks keep the house style, say which function implements which equation, and run, each small, by papermill."""

import ast
import itertools
import re
from pathlib import Path

import nbformat
import papermill
import pytest

from stvsr import losses
from stvsr.study.study_file import NOTEBOOKS, inspect_parameters

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
TRAINING = {
    "generator": "rbpn-tiny",
    "start": "",
    "patch": 16,
    "batch": 1,
    "data": ["samples:carphone"],
    "split": "all",
}
SMALL = {
    "00_sanity_check": {"steps": 60, "patch": 16},
    "01_data_augmentation": {"data": ["samples:carphone"], "patch": 16, "num_frames": 5, "draws": 2},
    "02_rbpn_pretraining": {**TRAINING, "steps": 3, "log_every": 1, "validate_every": 2},
    "03_adversarial_finetuning": {
        **TRAINING, "arm": "triplet-d", "steps": 2, "discriminator_width": 4, "validate_every": 2, "crops_every": 1,
    },
    "04_ablation_evaluation": {"data": ["samples:carphone"], "split": "all", "clips": ["carphone"], "frames": 6},
    "05_upscale_your_video": {"model": "rbpn-small", "duration": 0.2},
}  # fmt: skip
EXPECTED = {
    "00_sanity_check": ["learning_curve.png", "images.png", "log.jsonl"],
    "01_data_augmentation": ["degradation.png", "septuplets.png", "flow.png", "clips.csv"],
    "02_rbpn_pretraining": [
        "generator.safetensors",
        "log.jsonl",
        "config.json",
        "learning_curve.png",
        "validation.png",
        "images.png",
    ],
    "03_adversarial_finetuning": [
        "generator.safetensors",
        "log.jsonl",
        "losses.png",
        "scores.png",
        "gradients.png",
        "crops.png",
    ],
    "04_ablation_evaluation": ["metrics.csv", "summary.csv", "data.json", "weights.json", "crops.png"],
    "05_upscale_your_video": [],
}
named = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def cells(path: Path) -> list:
    return nbformat.read(path, as_version=4).cells


def is_parameters(cell) -> bool:
    return "parameters" in cell.metadata.get("tags", [])


@named
def test_begins_with_prose_and_has_one_parameters_cell(path: Path):
    content = cells(path)
    assert content[0].cell_type == "markdown" and content[0].source.startswith("# ")
    for word in ("**Question.**", "**In:**", "**Out:**", "**Time:**"):
        assert word in content[0].source, f"{path.name} does not say {word}"
    assert [is_parameters(cell) for cell in content if cell.cell_type == "code"].count(True) == 1
    assert is_parameters(next(cell for cell in content if cell.cell_type == "code"))


@named
def test_parameters_are_typed_literals_with_a_comment(path: Path):
    source = next(cell for cell in cells(path) if is_parameters(cell)).source
    for line in source.splitlines():
        assert re.fullmatch(r"\w+: [\w\[\]]+ = .+  # .+", line), line
    read = inspect_parameters(path)
    assert len(read) == len(source.splitlines()), "papermill reads fewer parameters than there are"
    assert "folder" in read


@named
def test_defines_nothing_and_names_no_place(path: Path):
    for cell in cells(path):
        if cell.cell_type == "code":
            tree = ast.parse(cell.source)  # also refuses shell magics
            assert not any(isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda) for node in ast.walk(tree)), (
                cell.source
            )
            assert not re.search(r"""["'](/|~|[A-Z]:\\)""", cell.source), cell.source


@named
def test_code_cells_are_short_and_prose_stands_between(path: Path):
    content = cells(path)
    for before, cell in itertools.pairwise(content):
        assert not (before.cell_type == cell.cell_type == "code"), f"two code cells in a row: {cell.source}"
    for cell in content:
        if cell.cell_type == "code" and not is_parameters(cell):
            assert len(cell.source.splitlines()) <= 15, cell.source


@named
def test_is_committed_without_outputs(path: Path):
    for cell in cells(path):
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None


def test_equations_and_functions_name_each_other():
    said: dict[str, set[str]] = {}
    for path in PATHS:
        for cell in cells(path):
            for number in re.findall(r"\\tag\{(\d+)\}", cell.source):
                functions = set(re.findall(r"`(\w+_loss)`", cell.source))
                assert functions, f"{path.name}: equation ({number}) names no function"
                said.setdefault(number, set()).update(functions)
    documented: dict[str, set[str]] = {}
    for name, function in vars(losses).items():
        for number in re.findall(r"Equation \((\d+)\)", getattr(function, "__doc__", None) or ""):
            documented.setdefault(number, set()).add(name)
    assert said == documented
    assert set(said) == {"1", "2", "3", "4"}


@pytest.mark.parametrize("name", SMALL)
def test_runs_small_by_papermill(name: str, tmp_path: Path):
    notebook, folder = NOTEBOOKS / f"{name}.ipynb", tmp_path / "run"
    parameters = {**SMALL[name], "folder": str(folder)}
    if name == "04_ablation_evaluation":
        parameters["generators"] = [f"tiny={tiny_generator(tmp_path)}"]
    papermill.execute_notebook(
        str(notebook), str(tmp_path / "out.ipynb"), parameters, progress_bar=False, cwd=str(tmp_path)
    )
    missing = [file for file in EXPECTED[name] if not (folder / file).is_file()]
    assert not missing
    executed = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    outputs = [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert pictures and all(output.metadata["image/png"].get("alt") for output in pictures), "a figure has no alt text"


def tiny_generator(folder: Path) -> Path:
    from stvsr.models.generators import build_generator, save_generator

    save_generator(folder / "tiny.safetensors", build_generator("rbpn-tiny"))
    return folder / "tiny.safetensors"
