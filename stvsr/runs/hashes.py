"""Hashes of code: which modules of the package a source imports, and what of them is more than prose."""

import ast
import functools
import hashlib
import json
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def code_of(cells: list[str]) -> dict[str, str]:
    """Return the modules of the package that code imports, directly or through others: name -> hash of its code."""
    modules = imported_modules(cells)
    return {name: hash_of(without_prose(path.read_text(encoding="utf-8"))) for name, path in modules.items()}


def package_hash() -> str:
    """Return the hash of the code of all modules of the package."""
    return hash_of(
        {
            str(path.relative_to(PACKAGE)): without_prose(path.read_text(encoding="utf-8"))
            for path in sorted(PACKAGE.rglob("*.py"))
        }
    )


def imported_modules(cells: list[str]) -> dict[str, Path]:
    """Return the modules of the package that code imports, directly or through others: name -> file, sorted."""
    found: dict[str, Path] = {}
    queue = list(cells)
    while queue:
        for name in _imports(queue.pop()):
            path = module_file(name)
            if path and name not in found:
                found[name] = path
                queue.append(path.read_text(encoding="utf-8"))
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


def module_file(name: str) -> Path | None:
    """Return the file of a module of the package; None for others."""
    parts = name.split(".")
    if parts[0] != "stvsr":
        return None
    base = PACKAGE.joinpath(*parts[1:])
    candidates = [base / "__init__.py", base.with_suffix(".py")]
    return next((path for path in candidates if path.is_file()), None)


@functools.lru_cache(maxsize=256)
def without_prose(source: str) -> str:
    """Return Python source without comments, docstrings and formatting."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def hash_of(value: object) -> str:
    """Return the SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def digest(path: Path) -> str:
    """Return the SHA-256 of a file as lower-case hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
