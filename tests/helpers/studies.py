"""Throw-away notebooks and studies for the tests of the chain."""

from pathlib import Path

import nbformat

from stvsr.study.plan import make_plans
from stvsr.study.study_file import load_study

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


ONE = '[[steps]]\nid = "a"\nnotebook = "work"\n'


def two(room: Path) -> None:
    notebook(room / "notebooks" / "work.ipynb", PARAMETERS, WORK)
    notebook(room / "notebooks" / "read.ipynb", READ_PARAMETERS, READ)
    study(room, TWO)


def reasons(only: str = "") -> dict[str, tuple[bool, str]]:
    return {name: (plan.run, plan.reason) for name, plan in make_plans(load_study("s"), only).items()}


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
