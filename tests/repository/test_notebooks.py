"""The notebooks keep the house style, teach in the agreed form, name their functions, and run small by papermill."""

import ast
import dataclasses
import importlib
import itertools
import re
from pathlib import Path

import nbformat
import notebook_pages
import pytest
import screenshot
from browsing import check_page, require_chromium
from small_notebooks import SMALL, small_parameters

from stvsr import losses
from stvsr.arms import Arm
from stvsr.data.septuplets import SampleConfig
from stvsr.evaluation.held_out import EvaluationConfig
from stvsr.inference.upscale_file import UpscaleConfig
from stvsr.inference.upscaler import InferenceConfig
from stvsr.study.study_file import NOTEBOOKS, inspect_parameters
from stvsr.training.finetuning import FinetuningConfig
from stvsr.training.from_parameters import fields_of
from stvsr.training.pretraining import PretrainingConfig

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
EXPECTED = {
    "00_sanity_check": ["sample.png", "learning_curve.png", "images.png", "errors.png", "log.jsonl"],
    "01_data_augmentation": ["degradation.png", "edge.png", "states.png", "septuplets.png", "flow.png", "clips.csv"],
    "02_rbpn_pretraining": [
        "generator.safetensors",
        "log.jsonl",
        "config.json",
        "features.png",
        "contributions.png",
        "given.png",
        "learning_curve.png",
        "validation.png",
        "images.png",
    ],
    "03_adversarial_finetuning": [
        "generator.safetensors",
        "log.jsonl",
        "inputs.png",
        "gradient_maps.png",
        "gradient_bars.png",
        "losses.png",
        "scores.png",
        "gradients.png",
        "crops.png",
    ],
    "04_ablation_evaluation": [
        "metrics.csv", "summary.csv", "data.json", "weights.json", "crops.png", "plane.png", "player.html",
    ],
    "05_upscale_your_video": ["player.html", "crops.png", "consistency.png"],
    "06_motion": ["flow.png", "occlusion.png", "averaging.png", "back_projection.png", "averaging.csv"],
    "07_metrics": ["sensitivity.csv", "sensitivity.png", "protocols.png", "player.html"],
}  # fmt: skip
# a lesson is shorter and smaller than a study: these parameters differ from the dataclass's defaults on purpose
LESSON = {
    "steps",
    "patch",
    "batch",
    "initial_weights",
    "discriminator_learning_rate",
    "discriminator_width",
    "fade",
    "log_every",
    "validate_every",
    "crops_every",
}
SERIES = (
    "00_sanity_check", "01_data_augmentation", "06_motion", "02_rbpn_pretraining", "03_adversarial_finetuning",
    "07_metrics", "04_ablation_evaluation", "05_upscale_your_video",
)  # fmt: skip
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
    lines = [line for line in source.splitlines() if not line.startswith("# ")]
    for line in lines:
        assert re.fullmatch(r"\w+: [\w\[\]]+ = .+  # .+", line), line
    assert len(source.splitlines()) - len(lines) <= 1, "two groups at most: what a reader changes, then the rest"
    read = inspect_parameters(path)
    assert len(read) == len(lines), "papermill reads fewer parameters than there are"
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


@named
def test_is_a_lesson(path: Path):
    """Prose between code, figures with alt text, exercises by parameter, and the way to the next."""
    content = cells(path)
    prose = "\n".join(cell.source for cell in content if cell.cell_type == "markdown")
    headings = re.findall(r"^## (.+)$", prose, re.MULTILINE)
    assert headings[-4:] == ["What to take away", "Try it", "Next", "Sources"]
    sections = dict(zip(headings, re.split(r"^## .+$", prose, flags=re.MULTILINE)[1:], strict=True))
    assert len(re.findall(r"^- ", sections["What to take away"], re.MULTILINE)) == 3
    exercises = re.findall(r"^\d\. (.+)$", sections["Try it"], re.MULTILINE)
    assert len(exercises) == 3
    parameters = inspect_parameters(path)
    for exercise in exercises:
        named_there = re.findall(r"`(\w+) = ", exercise)
        assert named_there and set(named_there) <= set(parameters), exercise
    assert len(re.findall(r"\]\(https://", sections["Sources"])) >= 2
    assert sum("style.show(" in cell.source for cell in content if cell.cell_type == "code") >= 3


@named
def test_links_to_the_lesson_before_and_after(path: Path):
    first, place = cells(path)[0].source, SERIES.index(path.stem)
    for neighbour in [SERIES[at] for at in (place - 1, place + 1) if 0 <= at < len(SERIES)]:
        assert f"]({neighbour}.ipynb)" in first, f"{path.name} does not link to {neighbour}"


def test_series_is_long_enough_and_complete():
    assert {path.stem for path in PATHS} == set(SERIES) == set(SMALL) == set(EXPECTED)
    content = [cell for path in PATHS for cell in cells(path)]
    words = sum(len(re.findall(r"\w+", cell.source)) for cell in content if cell.cell_type == "markdown")
    figures = sum(cell.source.count("style.show(") for cell in content if cell.cell_type == "code")
    assert words >= 8000
    assert figures >= 25


@named
def test_every_equation_is_followed_by_the_source_of_its_function(path: Path):
    """In the same cell, or up to the next heading, stands `show_source`."""
    content = cells(path)
    for place, cell in enumerate(content):
        if cell.cell_type == "markdown" and "\\tag{" in cell.source:
            following = content[place + 1 : place + 4]
            assert any("show_source(" in other.source for other in following), f"{path.name}, cell {place}"


@pytest.mark.parametrize(
    ("name", "config_class"),
    [("02_rbpn_pretraining", PretrainingConfig), ("03_adversarial_finetuning", FinetuningConfig)],
)
def test_trainings_have_one_set_of_defaults(name: str, config_class: type):
    fields, parameters = fields_of(config_class), inspect_parameters(NOTEBOOKS / f"{name}.ipynb")
    fields |= {key: default.name for key, default in fields.items() if isinstance(default, Arm)}  # notebooks name arms
    assert set(fields) <= set(parameters), "an option that no notebook can set"
    assert set(parameters) - set(fields) <= {"folder", "processes", "nodes", "look", "example", "by_hand", "learn"}
    differing = {
        key
        for key, default in fields.items()
        if parameters[key][1] != (list(default) if isinstance(default, tuple) else default)
    }
    assert differing <= LESSON


@pytest.mark.parametrize(
    ("name", "config_class", "elsewhere"),
    [
        # the generator decides the scale, the arm what its losses need
        ("01_data_augmentation", SampleConfig, {"scale", "targets", "four_states", "hr_flow"}),
        ("04_ablation_evaluation", EvaluationConfig, set()),
        # `clip` and `folder` are input and output; the notebook writes frames without sound; damage is printed
        ("05_upscale_your_video", UpscaleConfig,
         {"input", "output", "inference", "compare", "overwrite", "crf", "audio", "strict"}),
        ("05_upscale_your_video", InferenceConfig, set()),
    ],
)  # fmt: skip
def test_every_option_can_be_set_from_a_notebook(name: str, config_class: type, elsewhere: set):
    options = {field.name for field in dataclasses.fields(config_class)} - elsewhere
    path = NOTEBOOKS / f"{name}.ipynb"
    assert options <= set(inspect_parameters(path))
    code = [ast.parse(cell.source) for cell in cells(path) if cell.cell_type == "code"]
    calls = [node for tree in code for node in ast.walk(tree) if isinstance(node, ast.Call)]
    (call,) = [call for call in calls if ast.unparse(call.func).endswith(config_class.__name__)]
    assert options <= {keyword.arg for keyword in call.keywords}


def test_diagrams_have_a_title_and_words_instead_of_them():
    used = {
        name
        for path in PATHS
        for cell in cells(path)
        for name in re.findall(r"!\[[^\]]{40,}\]\(figures/(.+?)\)", cell.source)
    }
    drawn = {path.name for path in (NOTEBOOKS / "figures").glob("*.svg")}
    assert used == drawn and len(drawn) >= 4
    for name in drawn:
        svg = (NOTEBOOKS / "figures" / name).read_text(encoding="utf-8")
        assert "<title>" in svg and "<desc>" in svg and "<script" not in svg


def test_equations_and_functions_name_each_other():
    named_in_notebooks: dict[str, set[str]] = {}
    for path in PATHS:
        for cell in cells(path):
            for number in re.findall(r"\\tag\{(\d+)\}", cell.source):
                functions = set(re.findall(r"`(\w+_loss)`", cell.source))
                assert functions, f"{path.name}: equation ({number}) names no function"
                named_in_notebooks.setdefault(number, set()).update(functions)
    documented: dict[str, set[str]] = {}
    for name, function in vars(losses).items():
        for number in re.findall(r"Equation \((\d+)\)", getattr(function, "__doc__", None) or ""):
            documented.setdefault(number, set()).add(name)
    assert named_in_notebooks == documented
    assert set(named_in_notebooks) == {"1", "2", "3", "4"}


def test_imports_of_the_notebooks_exist():
    for path in PATHS:
        for cell in (cell for cell in cells(path) if cell.cell_type == "code"):
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.ImportFrom) and node.module.startswith("stvsr"):
                    module = importlib.import_module(node.module)
                    for alias in node.names:
                        assert hasattr(module, alias.name) or importlib.import_module(f"{node.module}.{alias.name}")


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_runs_small_and_becomes_a_page(name: str, tmp_path: Path):
    """Papermill executes it; it writes what it promises; its page is self-contained and accessible in Chromium."""
    notebook_pages.build_pages(tmp_path, only=[name], parameters={name: small_parameters(name, tmp_path)})
    missing = [file for file in EXPECTED[name] if not (tmp_path / "runs" / name / file).is_file()]
    assert not missing
    executed = nbformat.read(tmp_path / "executed" / f"{name}.ipynb", as_version=4)
    outputs = [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert pictures and all(output.metadata["image/png"].get("alt") for output in pictures), "a figure has no alt text"
    require_chromium()
    with screenshot.browser() as browser:  # after papermill, whose event loop cannot run inside Playwright's
        for width in (360, 1440):
            check_page(browser, tmp_path / f"{name}.html", width)
