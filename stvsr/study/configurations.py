"""Configurations of a step, built as its notebook will build them, without running the notebook."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import nbformat

from stvsr.errors import InputError
from stvsr.study.study_file import Step, inspect_parameters


def configurations(step: Step) -> tuple[list, list[str]]:
    """Return the configuration objects that a step's notebook will build, and what is wrong with its parameters.

    A parameter that a configuration refuses is reported and replaced by the notebook's default, so that all mistakes
    are found at once.
    """
    code, defaults = _code(step.notebook, step.notebook.stat().st_mtime_ns), inspect_parameters(step.notebook)
    given, faults = dict(step.parameters), []
    while True:
        namespace = dict(given)
        try:
            exec(code, namespace)
        except (InputError, OSError) as error:
            faults.append(str(error).partition("\n")[0])
            blamed = [
                name
                for name, (_, default) in defaults.items()
                if re.search(rf"\b{name.rstrip('s')}s?\b", faults[-1]) and given[name] != default  # of a list: one item
            ]
            if not blamed:
                return [], faults
            given |= {name: defaults[name][1] for name in blamed}
        except Exception as error:
            return [], [
                *faults,
                f"{step.notebook.name} cannot build its configuration: {type(error).__name__}: {error}",
            ]
        else:
            return [value for value in namespace.values() if type(value).__name__.endswith("Config")], faults


@functools.lru_cache(maxsize=16)
def _code(notebook: Path, _changed: int) -> CodeType:
    """Return a notebook's assignments that build a configuration, and the imports and assignments that these need."""
    cells = nbformat.read(notebook, as_version=4).cells
    statements = [
        statement
        for cell in cells
        if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", [])
        for statement in ast.parse(cell.source).body
    ]
    kept: list[ast.stmt] = []
    needed: set[str] = set()
    for statement in reversed(statements):
        wanted = bool(needed & set(_bound(statement)))
        if isinstance(statement, ast.Assign):
            wanted |= any(_is_config(node) for node in ast.walk(statement.value))
        if wanted:
            kept.insert(0, statement)
            needed |= {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    return compile(ast.Module(kept, []), notebook.name, "exec")


def _bound(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in statement.names)
    elif isinstance(statement, ast.Assign):
        yield from (node.id for target in statement.targets for node in ast.walk(target) if isinstance(node, ast.Name))


def _is_config(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name.endswith(("Config", "pretraining_config", "finetuning_config"))
