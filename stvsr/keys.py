"""What a step's result depends on, as a key: code, parameters, inputs, earlier steps. Prose is no part of it."""

import ast
import contextlib
import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import nbformat

from stvsr import assets, models
from stvsr.datasets import split_source
from stvsr.studies import Step

PACKAGE = Path(__file__).resolve().parent


def key_parts(step: Step, upstream: dict[str, str]) -> dict:
    """Return what a step's result depends on: code cells, parameters, the modules they import, inputs, earlier keys.

    Prose, comments and docstrings are no part of it, so that editing them never retrains a model; nor is the place of the run
    folder, so that it may be moved.
    """
    notebook = nbformat.read(step.notebook, as_version=4)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return {
        "cells": hash_of([_without_prose(cell) for cell in cells]),
        "parameters": _portable(step.parameters, step.parameters.get("folder", "").removesuffix(f"steps/{step.name}")),
        "modules": code_of(cells),
        "inputs": {value: stamp for value in _strings(step.parameters) if (stamp := _stamp(value, step.base))},
        "upstream": upstream,
    }


def code_of(cells: list[str]) -> dict[str, str]:
    """Return the modules of the package that code imports, directly or through others: name -> hash of its code."""
    modules = imported_modules(cells)
    return {name: hash_of(_without_prose(path.read_text(encoding="utf-8"))) for name, path in modules.items()}


def imported_modules(cells: list[str]) -> dict[str, Path]:
    """Return the modules of the package that code imports, directly or through others: name -> file, sorted."""
    found: dict[str, Path] = {}
    queue = [(source, "") for source in cells]
    while queue:
        source, _ = queue.pop()
        for name in _imports(source):
            path = _module_file(name)
            if path and name not in found:
                found[name] = path
                queue.append((path.read_text(encoding="utf-8"), name))
    return dict(sorted(found.items()))


@functools.lru_cache(maxsize=256)  # many steps share a module
def _imports(source: str) -> tuple[str, ...]:
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(names)


def _module_file(name: str) -> Path | None:
    parts = name.split(".")
    if parts[0] != "stvsr":
        return None
    base = PACKAGE.joinpath(*parts[1:])
    candidates = [base / "__init__.py", base.with_suffix(".py")]
    return next((path for path in candidates if path.is_file()), None)


@functools.lru_cache(maxsize=256)
def _without_prose(source: str) -> str:
    """Return Python source without comments, docstrings and formatting."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _portable(value: object, root: str) -> object:
    """Return parameters with paths into the run folder `root` (with a slash at its end) relative to it."""
    if isinstance(value, dict):
        return {name: _portable(item, root) for name, item in value.items()}
    if isinstance(value, list):
        return [_portable(item, root) for item in value]
    return value.replace(f"{root}steps/", "steps/") if isinstance(value, str) and root.endswith("/") else value


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value.partition("=")[2] or value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _stamp(value: str, base: Path) -> str:
    """Return what identifies an input named by a parameter: a weight's or file's hash, or a folder's names and sizes.

    Names and sizes are those of its entries and of theirs, which covers a folder of frame folders. A relative path is
    relative to `base`, where the notebook runs.
    """
    if value in models.shipped_weights():
        return assets.digest(models.weights_file(value))
    path = base / split_source(value)[0]
    with contextlib.suppress(OSError):
        if path.is_file() and "steps" not in path.parts:  # those of earlier steps are covered by the earlier keys
            return assets.digest(path)
        if value and path.is_dir() and "steps" not in path.parts:
            entries = [*path.iterdir(), *path.glob("*/*")]
            return hash_of(sorted((str(entry.relative_to(path)), entry.stat().st_size) for entry in entries if entry.is_file()))
    return ""


def hash_of(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
