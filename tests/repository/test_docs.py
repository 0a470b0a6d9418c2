"""The documents are true: links lead somewhere, named things exist, versions agree, nothing names a private place."""

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
    """Return the files that git tracks (all but the ignored, where there is no git)."""
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
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
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
        if (
            path.suffix in texts and path.is_file() and path.parent != ROOT / "tests"
        ):  # tests name hostile paths on purpose
            found = private.search(path.read_text(encoding="utf-8"))
            assert not found, f"{path.relative_to(ROOT)} names {found.group()}"


def test_python_files_stay_readable():
    """A file of more than 450 lines is no longer one room."""
    sizes = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "stvsr").rglob("*.py")}
    assert not {name: size for name, size in sizes.items() if size > 450}
