"""A folder of notebooks and studies of its own for every test of the chain."""

from pathlib import Path

import pytest
from studies import PARAMETERS, notebook

from stvsr.runs import hashes
from stvsr.study import manifest, pipeline, study_file


@pytest.fixture
def built() -> list[Path]:
    """The run folders for which a report was asked."""
    return []


@pytest.fixture
def room(tmp_path, monkeypatch, built):
    """A folder of notebooks and studies of its own, and a report that is only noted."""
    monkeypatch.setattr(study_file, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(pipeline, "_build_report", lambda folder: built.append(folder) or folder / "report.html")
    monkeypatch.setattr(manifest, "environment", lambda: {"python": "3"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of three modules, of which a imports b, and a notebook that imports a."""
    root = tmp_path / "stvsr"
    (root / "sub").mkdir(parents=True)
    sources = {
        "__init__": "",
        "a": '"""Prose."""\nfrom stvsr import b\ndef f(x):\n    """Say."""\n    return b.g(x) + 1  # why\n',
        "b": "import stvsr.sub.d\ndef g(x):\n    return x\n",
        "c": "y = 1\n",
        "sub/__init__": "",
        "sub/d": "z = 1\n",
    }
    for name, source in sources.items():
        (root / f"{name}.py").write_text(source)
    monkeypatch.setattr(hashes, "PACKAGE", root)
    notebook(tmp_path / "n.ipynb", PARAMETERS, "from stvsr import a\na.f(times)  # once")
    return root
