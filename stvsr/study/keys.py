"""What a step's result depends on, as a key: code, parameters, inputs, earlier steps, but not prose."""

import ast
import contextlib
from collections.abc import Iterator
from pathlib import Path

import nbformat

from stvsr.arms import find_arm, parameters_of
from stvsr.data.clips import split_source
from stvsr.models.generators import shipped_weights, weights_file
from stvsr.runs.hashes import code_of, digest, hash_of, module_file, without_prose
from stvsr.runs.stamp import contents
from stvsr.study.study_file import Step

ARMS = "stvsr.arms"


def key_parts(step: Step, upstream: dict[str, str]) -> dict:
    """Return what a step's result depends on: code cells, parameters, the modules they import, inputs, earlier keys.

    Prose, comments and docstrings are no part of it, so that editing them never retrains a model; nor is the place of
    the run folder, so that it may be moved; nor, for a step with an arm, are the other arms.

    Raises:
        InputError: the step's arm is unknown.
    """
    notebook = nbformat.read(step.notebook, as_version=4)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    modules = code_of(cells)
    if "arm" in step.parameters and ARMS in modules:
        modules[ARMS] = _hash_of_arm(step.parameters["arm"])
    return {
        "cells": hash_of([without_prose(cell) for cell in cells]),
        "parameters": _portable(step.parameters, step.parameters.get("folder", "").removesuffix(f"steps/{step.name}")),
        "modules": modules,
        "inputs": {value: stamp for value in _strings(step.parameters) if (stamp := _stamp(value, step.base))},
        "upstream": upstream,
    }


def files_read(step: Step, out: Path) -> dict[str, str]:
    """Return the hashes of the earlier steps' files that a step's parameters name, by their place in `steps`."""
    root, own = out / "steps", out / "steps" / step.name
    paths = [Path(value) for value in _strings(step.parameters)]
    return {
        str(path.relative_to(root)): contents(path)
        for path in paths
        if path.is_relative_to(root) and not path.is_relative_to(own) and path.exists()
    }


def _hash_of_arm(name: str) -> str:
    """Return the hash of one arm and of the code around the table of arms, which is all that `stvsr.arms` assigns."""
    source = module_file(ARMS)
    assert source is not None
    tree = ast.parse(without_prose(source.read_text(encoding="utf-8")))
    tree.body = [node for node in tree.body if not isinstance(node, ast.Assign | ast.AnnAssign)]
    return hash_of([ast.unparse(tree), parameters_of(find_arm(name))])


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
    if value in shipped_weights():
        weights = weights_file(value)
        assert weights is not None
        return digest(weights)
    path = base / split_source(value)[0]
    with contextlib.suppress(OSError):
        if path.is_file() and "steps" not in path.parts:  # those of earlier steps are covered by the earlier keys
            return digest(path)
        if value and path.is_dir() and "steps" not in path.parts:
            entries = [*path.iterdir(), *path.glob("*/*")]
            return hash_of(
                sorted((str(entry.relative_to(path)), entry.stat().st_size) for entry in entries if entry.is_file())
            )
    return ""
