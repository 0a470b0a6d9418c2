"""Study files: what they may contain, and whether every step's parameters fit its notebook.

A study (TOML) has a title, a question and steps. A step names a notebook, its parameters, and optionally a `matrix`
that repeats it. `[defaults]` holds parameters of every step whose notebook knows them; a step's own come first.

`{step = "ID", file = "FILE"}` in a parameter is a file of an earlier step, its generator where `file` is left out;
`{name = "rbpn", step = "ID"}` in a list is `rbpn=PATH`; `{steps = "ID"}` in a list stands for the generators of all
repetitions of ID, as `name=path`, and those that fail are left out of the list. The same as text: `step:ID/FILE`,
`rbpn=step:ID/FILE`, `steps:ID`. Relative paths are relative to where the command runs.
"""

import ast
import difflib
import functools
import graphlib
import itertools
import math
import string
import tomllib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import papermill

from stvsr.errors import InputError
from stvsr.runs.files import read_text

MOST_STEPS = 1000
LONGEST_NAME = 100  # bytes of a step's name, which names a folder
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
TYPES = {"int": int, "float": float, "str": str, "bool": bool}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One notebook with its parameters.

    needs: names of the steps whose files it reads. optional: those of them that it can do without, since `steps:ID`
    named them, and the entry that stands for each in a list. base: what relative paths in parameters are relative to.
    """

    name: str
    notebook: Path
    parameters: dict
    needs: tuple[str, ...] = ()
    optional: dict[str, str] = field(default_factory=dict)
    base: Path = field(default_factory=Path.cwd)

    def without(self, missing: Collection[str]) -> "Step":
        """Return the step with the results of some optional steps left out of its lists."""
        gone = {self.optional[name] for name in missing}
        kept = {
            name: [item for item in value if item not in gone] if isinstance(value, list) else value
            for name, value in self.parameters.items()
        }
        return replace(self, parameters=kept, needs=tuple(name for name in self.needs if name not in missing))


@dataclass(frozen=True, kw_only=True)
class Study:
    """A parsed study: its steps by name, in an order in which each comes after what it needs."""

    name: str
    title: str
    question: str
    out: Path
    steps: dict[str, Step] = field(default_factory=dict)


def load_study(study: str, out: Path | None = None) -> Study:
    """Read a study file and check every step's parameters against its notebook, strictly.

    Raises:
        InputError: unknown study, step, key or parameter (the nearest is proposed), or a value of another type.
    """
    path = Path(study) if study.endswith(".toml") else NOTEBOOKS / "studies" / f"{study}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in (NOTEBOOKS / "studies").glob("*.toml")))
        raise InputError(f"study {study} does not exist: choose from {known}, or give a .toml file")
    try:
        content = tomllib.loads(read_text(path).removeprefix("\ufeff"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"study {path} is not valid TOML: {error}") from None
    _known(content, ("title", "question", "defaults", "steps"), f"study {path.name}")
    _typed(content, {"title": str, "question": str, "steps": list}, f"study {path.name}")
    defaults = _defaults(content, path)
    folder = _run_folder(out or Path("reports") / path.stem)
    if set("{}") & set(str(folder)):
        raise InputError(f"run folder {folder} has braces in its name, which papermill reads as fields: choose another")
    steps: dict[str, Step] = {}
    groups: dict[str, list[str]] = {}
    for entry in content.get("steps", []):
        if not isinstance(entry, dict):
            raise InputError(f"study {path.name}: steps holds {entry!r}, write each step as a [[steps]] table")
        for step in _expand(entry, defaults, folder, groups, path):
            if step.name in steps:
                raise InputError(f"study {path.name} has two steps named {step.name}: give each its own name")
            if len(steps) == MOST_STEPS:
                raise InputError(f"study {path.name} has more than {MOST_STEPS} steps: shorten its matrices")
            steps[step.name] = step
            groups.setdefault(entry["id"], []).append(step.name)
    if not steps:
        raise InputError(f"study {path.name} has no steps")
    ordered = graphlib.TopologicalSorter({step.name: step.needs for step in steps.values()}).static_order()
    return Study(
        name=folder.name,
        title=content.get("title", path.stem),
        question=content.get("question", ""),
        out=folder,
        steps={name: steps[name] for name in ordered},
    )


def _defaults(content: dict, path: Path) -> dict:
    """Return a study's `[defaults]`; InputError when one is a parameter of none of its notebooks."""
    defaults = content.get("defaults", {})
    if not isinstance(defaults, dict):
        raise InputError(f"study {path.name}: defaults is {defaults!r}, it must be a table: [defaults]")
    if defaults:
        steps = [entry for entry in content.get("steps", []) if isinstance(entry, dict)]
        notebooks = {str(entry["notebook"]) for entry in steps if "notebook" in entry}
        known = [inspect_parameters(NOTEBOOKS / f"{notebook}.ipynb") for notebook in sorted(notebooks)]
        _known(defaults, tuple(dict.fromkeys(itertools.chain(*known))), f"study {path.name}, defaults")
    return defaults


def _run_folder(out: Path) -> Path:
    try:
        return Path(out).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of symbolic links, or a NUL in the name
        raise InputError(f"run folder {str(out)!r} cannot be used ({error}): choose another with --out") from None


def _typed(table: dict, types: dict[str, type], where: str) -> None:
    words: dict[type, str] = {str: "text", list: "a list", dict: "a table"}
    for key, kind in types.items():
        if key in table and not isinstance(table[key], kind):
            raise InputError(f"{where}: {key} is {table[key]!r}, it must be {words[kind]}")


def _expand(entry: dict, defaults: dict, folder: Path, groups: dict, path: Path) -> Iterator[Step]:
    """Yield the steps of one entry: one, or one per combination of its matrix."""
    _known(entry, ("id", "name", "notebook", "matrix", "parameters"), f"study {path.name}, step {entry.get('id', '?')}")
    for key in ("id", "notebook"):
        if key not in entry:
            raise InputError(f"study {path.name}: a step has no {key}")
    types: dict[str, type] = {"id": str, "name": str, "notebook": str, "matrix": dict, "parameters": dict}
    _typed(entry, types, f"study {path.name}, step {entry['id']}")
    if set("/\\\0") & set(entry["notebook"]):
        raise InputError(f"study {path.name}, step {entry['id']}: notebook {entry['notebook']!r} must be a plain name")
    notebook = NOTEBOOKS / f"{entry['notebook']}.ipynb"
    matrix = entry.get("matrix", {})
    for key, values in matrix.items():
        if not isinstance(values, list):
            raise InputError(f"study {path.name}, step {entry['id']}: {key} in matrix is {values!r}, it must be a list")
    if (count := math.prod(len(values) for values in matrix.values())) > MOST_STEPS:
        raise InputError(f"study {path.name}, step {entry['id']}: matrix gives {count} steps, at most {MOST_STEPS}")
    known = inspect_parameters(notebook)
    for values in itertools.product(*matrix.values()):
        chosen = dict(zip(matrix, values, strict=True))
        name = _step_name(entry, chosen, path)
        given: dict[str, object] = {}
        needs: list[str] = []
        optional: dict[str, str] = {}
        applicable = {key: value for key, value in defaults.items() if key in known}
        for key, value in (applicable | entry.get("parameters", {}) | chosen).items():
            given[key] = _resolve(value, folder, groups, needs, optional, name)
        if "folder" in known:
            given["folder"] = str(folder / "steps" / name)
        checked = check_parameters(given, known, f"step {name} ({notebook.name})")
        spared = {step: entry for step, entry in optional.items() if step not in needs}
        yield Step(
            name=name, notebook=notebook, parameters=checked, needs=(*dict.fromkeys(needs), *spared), optional=spared
        )


def _step_name(entry: dict, chosen: dict, path: Path) -> str:
    template = entry.get("name", "-".join([entry["id"], *("{" + key + "}" for key in chosen)]))
    try:
        # only {key} itself: a width such as {arm:>999999999} would fill the memory
        fields = [part for part in string.Formatter().parse(template) if part[1] is not None]
        if any(field not in chosen or width or conversion for _, field, width, conversion in fields):
            raise KeyError
        name = template.format(**chosen)
    except (KeyError, IndexError, ValueError):
        raise InputError(
            f"study {path.name}: name {template} may use {', '.join(chosen) or 'nothing'} in braces"
        ) from None
    if not name or set("/\\{}") & set(name) or name.startswith(".") or not name.isprintable():
        raise InputError(f"study {path.name}: step name {name!r} cannot name a folder")
    if len(name.encode()) > LONGEST_NAME:
        raise InputError(f"study {path.name}: step name {name[:20]}... has more than {LONGEST_NAME} bytes: shorten it")
    return name


def _resolve(
    value: object, folder: Path, groups: dict, needs: list[str], optional: dict[str, str], step: str
) -> object:
    """Replace references to earlier steps by paths; note the steps in `needs` or, for `steps:ID`, in `optional`."""
    if isinstance(value, list):
        resolved = [_resolve(item, folder, groups, needs, optional, step) for item in value]
        return [part for item in resolved for part in (item if isinstance(item, list) else [item])]
    if isinstance(value, dict):
        value = _as_text(value, step)
    if not isinstance(value, str) or "step" not in value:
        return value
    prefix, mark, reference = value.partition("steps:")
    if mark and not prefix:
        names = _group(reference, groups, step)
        entries = {name: f"{_method(name)}={folder / 'steps' / name / 'generator.safetensors'}" for name in names}
        optional |= entries
        return list(entries.values())
    prefix, mark, reference = value.partition("step:")
    if not mark or (prefix and not prefix.endswith("=")):
        return value
    group, _, file = reference.partition("/")
    names = _group(group, groups, step)
    if len(names) != 1:
        raise InputError(f"step {step}: {value} is ambiguous, {group} has {len(names)} repetitions: use steps:{group}")
    if ".." in Path(file).parts or Path(file).is_absolute() or "\0" in file:
        raise InputError(f"step {step}: {value} leads out of the step's folder: name a file inside it")
    needs.append(names[0])
    return prefix + str(folder / "steps" / names[0] / file)


def _as_text(reference: dict, step: str) -> str:
    """Return a reference that is written as a table in its form as text."""
    _known(reference, ("name", "step", "file", "steps"), f"step {step}: reference")
    if not all(isinstance(part, str) for part in reference.values()) or ("step" in reference) == ("steps" in reference):
        raise InputError(f'step {step}: {reference} is not a reference: write {{step = "ID"}} or {{steps = "ID"}}')
    if "steps" in reference:
        if len(reference) > 1:
            raise InputError(f"step {step}: {reference} names several steps: write steps alone")
        return f"steps:{reference['steps']}"
    prefix = f"{reference['name']}=" if "name" in reference else ""
    return f"{prefix}step:{reference['step']}/{reference.get('file', 'generator.safetensors')}"


def _group(reference: str, groups: dict, step: str) -> list[str]:
    if reference not in groups:
        raise InputError(
            f"step {step} needs {reference}, which no earlier step is: there are {', '.join(groups) or 'none'}"
        )
    return groups[reference]


def _method(name: str) -> str:
    """Return how a step's generator is called in tables: pixel-control-s0 -> pixel-control@0."""
    arm, mark, seed = name.rpartition("-s")
    return f"{arm}@{seed}" if mark and seed.isdecimal() else name


def _known(given: dict, allowed: tuple[str, ...], where: str) -> None:
    for key in given:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1)
            raise InputError(
                f"{where} has no key {key!r}" + (f": did you mean {near[0]}?" if near else f": {', '.join(allowed)}")
            )


def inspect_parameters(notebook: Path) -> dict[str, tuple[str, object]]:
    """Return a notebook's parameters as papermill reads them: name -> (type, default).

    Raises:
        InputError: the notebook is missing, or a parameter has no type or no literal as default.
    """
    if not notebook.is_file():
        known = ", ".join(sorted(file.stem for file in NOTEBOOKS.glob("*.ipynb")))
        raise InputError(f"notebook {notebook.stem} does not exist: choose from {known}")
    return dict(_inspect(notebook, notebook.stat().st_mtime_ns))


@functools.lru_cache(maxsize=64)  # many steps share a notebook
def _inspect(notebook: Path, _changed: int) -> dict[str, tuple[str, object]]:
    parameters = {}
    for name, said in papermill.inspect_notebook(str(notebook)).items():
        if said["inferred_type_name"].removeprefix("list[").removesuffix("]") not in TYPES:
            raise InputError(
                f"{notebook.name}: parameter {name} must have a type, one of {', '.join(TYPES)}, or a list of one"
            )
        try:
            parameters[name] = said["inferred_type_name"], ast.literal_eval(said["default"])
        except (ValueError, SyntaxError):
            raise InputError(
                f"{notebook.name}: parameter {name} must have a literal as default, not {said['default']}"
            ) from None
    return parameters


def check_parameters(given: dict, known: dict[str, tuple[str, object]], where: str) -> dict:
    """Return `given` over the defaults; papermill only warns about a misspelt name and never looks at types.

    Raises:
        InputError: a name is unknown (the nearest is proposed), or a value is not of the declared type.
    """
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise InputError(
                f"{where} has no parameter {name!r}"
                + (f": did you mean {near[0]}?" if near else f": {', '.join(known)}")
            )
        if not _fits(value, known[name][0]):
            raise InputError(f"{where}: parameter {name} is {value!r}, it must be of type {known[name][0]}")
    typed = {name: float(value) if known[name][0] == "float" else value for name, value in given.items()}
    return {name: default for name, (_, default) in known.items()} | typed


def _fits(value: object, kind: str) -> bool:
    if kind.startswith("list["):
        return isinstance(value, list) and all(_fits(item, kind[5:-1]) for item in value)
    if kind == "float":
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return type(value) is TYPES.get(kind)
