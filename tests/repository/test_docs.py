"""Documents are up to date: links and named things exist, versions agree, and no file names a private place."""

import importlib
import importlib.util
import re
import subprocess
import tomllib
from pathlib import Path

import environment
import nbformat
import pytest

import stvsr
from stvsr.study.study_file import load_study

ROOT = Path(__file__).resolve().parents[2]
MARKDOWN = [
    path
    for path in ROOT.rglob("*.md")
    if not {".venv", "steps", "runs", ".pytest_cache"} & set(path.relative_to(ROOT).parts)
]
STUDIES = sorted((ROOT / "notebooks" / "studies").glob("*.toml"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def tracked() -> list[Path]:
    """Return the files that git tracks; none outside a git repository."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    return [ROOT / line for line in listed.stdout.splitlines()]


def text_of(path: Path) -> str:
    if path.suffix == ".ipynb":
        return "\n".join(
            cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"
        )
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", MARKDOWN + NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_to_files(path: Path):
    links = re.findall(r"\]\(([^)#\s]+)", text_of(path))
    local = [link for link in links if not link.startswith(("http:", "https:", "mailto:"))]
    missing = [link for link in local if not (path.parent / link).exists()]
    assert not missing, f"{path.name} links to {missing}"


def test_readme_names_existing_commands_and_studies():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z]+)", readme, re.MULTILINE)) <= targets
    assert {"reproduce", "test", "lab"} <= targets
    for study in STUDIES:
        assert f"`{study.stem}`" in readme, f"README does not mention the study {study.stem}"


def test_readme_shows_every_folder_and_module_in_its_tree():
    tree = re.search(r"```\nstvsr/\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL).group(1)
    shown = set(re.findall(r"^  (\S+)  ", tree, re.MULTILINE))
    package = [path for path in (ROOT / "stvsr").iterdir() if not path.name.startswith("__")]
    assert shown == {path.name + "/" * path.is_dir() for path in package}


def test_readme_imports_exist():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    imports = re.findall(r"^from (\S+) import (.+)$", "\n".join(blocks), re.MULTILINE)
    assert imports
    for module, names in imports:
        assert set(names.split(", ")) <= set(vars(importlib.import_module(module))), module


def test_readme_names_functions_that_exist():
    answers = re.findall(r"`(\w+)` in \[.*?\]\((.*?)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(answers) >= 4
    for name, path in answers:
        assert re.search(rf"^(def {name}\b|{name}\b.* = )", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), (
            name
        )


def test_modules_named_in_commands_and_paths_exist():
    for path in [*MARKDOWN, *STUDIES, *(ROOT / "stvsr").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]:
        text = path.read_text(encoding="utf-8")
        for module in re.findall(r"python -m (stvsr[\w.]*\w)", text):
            assert importlib.util.find_spec(module), f"{path.relative_to(ROOT)} names {module}"
        for file in re.findall(r"(?<![\w/])(?:stvsr|benchmarks|tests|\.ci)/[\w/]+\.py\b", text):
            assert (ROOT / file).is_file(), f"{path.relative_to(ROOT)} names {file}"


def test_changelog_has_the_groups_of_keep_a_changelog():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= {
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    }
    assert "## Unreleased\n" in text


@pytest.mark.slow
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_studies_fit_their_notebooks(path: Path, tmp_path: Path):
    study = load_study(path.stem, tmp_path)
    assert study.question and study.steps
    assert "evaluate" in study.steps


def test_environment_gives_conda_users_the_pinned_versions():
    assert (ROOT / "environment.yml").read_text() == environment.environment(), "run make pins"


def test_pins_satisfy_the_declared_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    versions = environment.pinned((ROOT / "requirements.txt").read_text())
    assert set(environment.direct(project)) <= set(versions)


def test_every_dependency_has_its_reason():
    text = (ROOT / "pyproject.toml").read_text()
    lines = text[text.index("\ndependencies = [") : text.index("[project.scripts]")].splitlines()
    dependencies = [line for line in lines if re.match(r'    "[a-z]', line)]
    assert len(dependencies) > 20
    assert not [line for line in dependencies if "#" not in line]


def test_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == stvsr.__version__
    assert f"version: {stvsr.__version__}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {stvsr.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_no_file_names_a_home_folder_or_a_registry():
    private = re.compile(r"(?<![\w.])/(?:home|root|Users)/\w|files\.pythonhosted|pypi\.org")
    texts = {".md", ".py", ".toml", ".txt", ".yml", ".ipynb", ".j2", ".csv"}
    for path in tracked():
        if path.suffix in texts and path.is_file() and ROOT / "tests" not in path.parents:  # tests use hostile paths
            found = private.search(path.read_text(encoding="utf-8"))
            assert not found, f"{path.relative_to(ROOT)} names {found.group()}"


def test_python_files_have_at_most_450_lines():
    sizes = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "stvsr").rglob("*.py")}
    assert not {name: size for name, size in sizes.items() if size > 450}
