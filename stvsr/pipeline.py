"""A study file -> a graph of notebooks -> papermill, each step run only when something it depends on has changed.

A study (TOML) has a title, a question and steps. A step names a notebook, its parameters, and optionally a `matrix` that
repeats it. `step:ID/FILE` in a parameter is a file of an earlier step; `steps:ID` in a list stands for the generators of
all repetitions of ID, as `name=path`.
"""

import ast
import concurrent.futures
import contextlib
import difflib
import graphlib
import hashlib
import itertools
import json
import multiprocessing
import os
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import papermill

from stvsr import assets, models
from stvsr.errors import InputError
from stvsr.runs import environment, read_json, write_json
from stvsr.training import STOPPED

PACKAGE = Path(__file__).resolve().parent
NOTEBOOKS = PACKAGE.parent / "notebooks"
TYPES = {"int": int, "float": float, "str": str, "bool": bool}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One notebook with its parameters. `needs`: names of the steps whose files it reads."""

    name: str
    notebook: Path
    parameters: dict
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Study:
    """A parsed study: its steps by name, in an order in which each comes after what it needs."""

    name: str
    title: str
    question: str
    out: Path
    steps: dict[str, Step] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done with a step, and why. `key` identifies its inputs, `parts` what the key is made of."""

    step: Step
    run: bool
    reason: str
    key: str
    parts: dict


def reproduce(
    study: str,
    *,
    out: Path | None = None,
    only: str = "",
    jobs: int = 1,
    scheduler: str = "",
    minutes: float = 0,
    dry_run: bool = False,
    report_only: bool = False,
) -> int:
    """Run a study and build its report; return the exit status: 0, 1 when a step failed, 75 when time ran out.

    Args:
        study: a name in notebooks/studies or a TOML file. out: run folder, reports/NAME by default.
        only: run this step and what it needs. jobs: steps at once on this machine. scheduler: address of a Dask cluster
            that runs the steps instead. minutes: stop trainings after so long, with checkpoints. dry_run: say what would
            run and why, and do nothing. report_only: build the report from what is there.

    Raises:
        InputError: the study, a parameter or a name is wrong; said before anything runs.
    """
    from stvsr.report import build_report

    parsed = load_study(study, out)
    if report_only:
        print(f"report: {build_report(parsed.out)}")
        return 0
    plans = make_plans(parsed, only)
    for plan in plans.values():
        print(f"{'run ' if plan.run else 'skip'} {plan.step.name:28s} {plan.reason}")
    if dry_run:
        return 0
    if minutes:
        os.environ["STVSR_DEADLINE"] = str(time.time() + 60 * minutes)
    started = time.time()
    states = run_plans(parsed, plans, jobs, scheduler)
    write_manifest(parsed, plans, states, started)
    if any(state == "stopped" for state in states.values()):
        print(f"not finished, checkpoints are saved: run the same command to go on ({parsed.out})")
        return 75
    print(f"report: {build_report(parsed.out)}")
    return 1 if any(state in ("failed", "blocked") for state in states.values()) else 0


# ---- study file ---------------------------------------------------------------------------------------------------


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
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"study {path} is no TOML: {error}") from None
    _known(content, ("title", "question", "steps"), f"study {path.name}")
    folder = Path(out or Path("reports") / path.stem).resolve()
    if set("{}") & set(str(folder)):
        raise InputError(f"run folder {folder} has braces in its name, which papermill reads as fields: choose another")
    steps, groups = {}, {}
    for entry in content.get("steps", []):
        for step in _expand(entry, folder, groups, path):
            if step.name in steps:
                raise InputError(f"study {path.name} has two steps named {step.name}: give each its own name")
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


def _expand(entry: dict, folder: Path, groups: dict, path: Path) -> Iterator[Step]:
    """Yield the steps of one entry: one, or one per combination of its matrix."""
    _known(entry, ("id", "name", "notebook", "matrix", "parameters"), f"study {path.name}, step {entry.get('id', '?')}")
    for key in ("id", "notebook"):
        if key not in entry:
            raise InputError(f"study {path.name}: a step has no {key}")
    notebook = NOTEBOOKS / f"{entry['notebook']}.ipynb"
    matrix = entry.get("matrix", {})
    for values in itertools.product(*matrix.values()):
        chosen = dict(zip(matrix, values, strict=True))
        name = entry.get("name", "-".join([entry["id"], *("{" + key + "}" for key in matrix)])).format(**chosen)
        given, needs = {}, []
        for key, value in (entry.get("parameters", {}) | chosen).items():
            given[key] = _resolve(value, folder, groups, needs, name)
        known = inspect_parameters(notebook)
        if "folder" in known:
            given["folder"] = str(folder / "steps" / name)
        checked = check_parameters(given, known, f"step {name} ({notebook.name})")
        yield Step(name=name, notebook=notebook, parameters=checked, needs=tuple(dict.fromkeys(needs)))


def _resolve(value: object, folder: Path, groups: dict, needs: list[str], step: str) -> object:
    """Replace references to earlier steps by paths, noting the steps in `needs`."""
    if isinstance(value, list):
        resolved = [_resolve(item, folder, groups, needs, step) for item in value]
        return [part for item in resolved for part in (item if isinstance(item, list) else [item])]
    if not isinstance(value, str) or "step" not in value:
        return value
    prefix, mark, reference = value.partition("steps:")
    if mark and not prefix:
        names = _group(reference, groups, step)
        needs.extend(names)
        return [f"{_method(name)}={folder / 'steps' / name / 'generator.safetensors'}" for name in names]
    prefix, mark, reference = value.partition("step:")
    if not mark or (prefix and not prefix.endswith("=")):
        return value
    group, _, file = reference.partition("/")
    names = _group(group, groups, step)
    if len(names) != 1:
        raise InputError(f"step {step}: {value} is ambiguous, {group} has {len(names)} repetitions: use steps:{group}")
    needs.append(names[0])
    return prefix + str(folder / "steps" / names[0] / file)


def _group(reference: str, groups: dict, step: str) -> list[str]:
    if reference not in groups:
        raise InputError(f"step {step} needs {reference}, which no earlier step is: there are {', '.join(groups) or 'none'}")
    return groups[reference]


def _method(name: str) -> str:
    """Return how a step's generator is called in tables: pixel-control-s0 -> pixel-control@0."""
    arm, mark, seed = name.rpartition("-s")
    return f"{arm}@{seed}" if mark and seed.isdecimal() else name


def _known(given: dict, allowed: tuple[str, ...], where: str) -> None:
    for key in given:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1)
            raise InputError(f"{where} has no key {key!r}" + (f": did you mean {near[0]}?" if near else f": {', '.join(allowed)}"))


# ---- parameters ---------------------------------------------------------------------------------------------------


def inspect_parameters(notebook: Path) -> dict[str, tuple[str, object]]:
    """Return a notebook's parameters as papermill reads them: name -> (type, default).

    Raises:
        InputError: the notebook is missing, or a parameter has no type or no literal as default.
    """
    if not notebook.is_file():
        known = ", ".join(sorted(file.stem for file in NOTEBOOKS.glob("*.ipynb")))
        raise InputError(f"notebook {notebook.stem} does not exist: choose from {known}")
    parameters = {}
    for name, said in papermill.inspect_notebook(str(notebook)).items():
        try:
            parameters[name] = said["inferred_type_name"], ast.literal_eval(said["default"])
        except (ValueError, SyntaxError):
            raise InputError(f"{notebook.name}: parameter {name} must have a literal as default, not {said['default']}") from None
    return parameters


def check_parameters(given: dict, known: dict[str, tuple[str, object]], where: str) -> dict:
    """Return `given` over the defaults; papermill only warns about a misspelt name and never looks at types.

    Raises:
        InputError: a name is unknown (the nearest is proposed), or a value is not of the declared type.
    """
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise InputError(f"{where} has no parameter {name!r}" + (f": did you mean {near[0]}?" if near else f": {', '.join(known)}"))
        if not _fits(value, known[name][0]):
            raise InputError(f"{where}: parameter {name} is {value!r}, it must be of type {known[name][0]}")
    typed = {name: float(value) if known[name][0] == "float" else value for name, value in given.items()}
    return {name: default for name, (_, default) in known.items()} | typed


def _fits(value: object, kind: str) -> bool:
    if kind.startswith("list["):
        return isinstance(value, list) and all(_fits(item, kind[5:-1]) for item in value)
    if kind == "float":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is TYPES.get(kind)


# ---- keys ---------------------------------------------------------------------------------------------------------


def make_plans(study: Study, only: str = "") -> dict[str, Plan]:
    """Decide for every step (or `only` and what it needs) whether it runs, and say why.

    Raises:
        InputError: `only` is no step of the study.
    """
    wanted = _upstream(study, only) if only else set(study.steps)
    plans: dict[str, Plan] = {}
    for step in study.steps.values():
        if step.name in wanted:
            parts = key_parts(step, {name: plans[name].key for name in step.needs})
            plans[step.name] = _plan(step, study.out, parts, any(plans[name].run for name in step.needs))
    return plans


def _plan(step: Step, out: Path, parts: dict, upstream_runs: bool) -> Plan:
    key = _hash(parts)
    path = out / "steps" / step.name / "step.json"
    before = read_json(path) if path.is_file() else {}
    if not before:
        reason = "never run"
    elif before["status"] != "done":
        reason = f"{before['status']} last time"
    elif before["key"] != key:
        reason = _difference(before["parts"], parts)
    elif upstream_runs:
        reason = "a step it needs runs again"
    else:
        return Plan(step=step, run=False, reason="unchanged", key=key, parts=parts)
    return Plan(step=step, run=True, reason=reason, key=key, parts=parts)


def _difference(before: dict, now: dict) -> str:
    if before["parameters"] != now["parameters"]:
        names = sorted(name for name in now["parameters"] if before["parameters"].get(name) != now["parameters"][name])
        return f"parameter {', '.join(names)} changed"
    if before["modules"] != now["modules"]:
        names = sorted(name for name in now["modules"] if before["modules"].get(name) != now["modules"][name])
        return f"code of {', '.join(names)} changed"
    return "notebook code changed" if before["cells"] != now["cells"] else "an input changed"


def key_parts(step: Step, upstream: dict[str, str]) -> dict:
    """Return what a step's result depends on: code cells, parameters, the modules they import, inputs, earlier keys.

    Prose, comments and docstrings are no part of it, so that editing them never retrains a model.
    """
    notebook = nbformat.read(step.notebook, as_version=4)
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    modules = imported_modules(cells)
    return {
        "cells": _hash([_without_prose(cell) for cell in cells]),
        "parameters": step.parameters,
        "modules": {name: _hash(_without_prose(path.read_text(encoding="utf-8"))) for name, path in modules.items()},
        "inputs": {value: stamp for value in _strings(step.parameters) if (stamp := _stamp(value))},
        "upstream": upstream,
    }


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


def _imports(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _module_file(name: str) -> Path | None:
    parts = name.split(".")
    if parts[0] != "stvsr":
        return None
    base = PACKAGE.joinpath(*parts[1:])
    candidates = [base / "__init__.py", base.with_suffix(".py")]
    return next((path for path in candidates if path.is_file()), None)


def _without_prose(source: str) -> str:
    """Return Python source without comments, docstrings and formatting."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value.partition("=")[2] or value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _stamp(value: str) -> str:
    """Return what identifies an input named by a parameter: a weight's or file's hash, a folder's names and sizes."""
    if value in models.shipped_weights():
        return assets.digest(models.WEIGHTS / f"{value}.safetensors")
    path = Path(value.rpartition("@")[0] or value)
    with contextlib.suppress(OSError):
        if path.is_file() and "steps" not in path.parts:  # those of earlier steps are covered by the earlier keys
            return assets.digest(path)
        if value and path.is_dir() and "steps" not in path.parts:
            return _hash(sorted((entry.name, entry.stat().st_size) for entry in path.iterdir()))
    return ""


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _upstream(study: Study, name: str) -> set[str]:
    if name not in study.steps:
        near = difflib.get_close_matches(name, study.steps, n=1)
        raise InputError(f"step {name!r} is unknown" + (f": did you mean {near[0]}?" if near else f": {', '.join(study.steps)}"))
    return {name}.union(*(_upstream(study, needed) for needed in study.steps[name].needs))


# ---- running ------------------------------------------------------------------------------------------------------


def run_plans(study: Study, plans: dict[str, Plan], jobs: int = 1, scheduler: str = "") -> dict[str, str]:
    """Run what is to be run, each step as soon as what it needs is done; return the state of every step.

    States: done, unchanged, failed, stopped (time ran out, checkpoint saved), blocked (something it needs did not finish).
    """
    sorter = graphlib.TopologicalSorter({name: plan.step.needs for name, plan in plans.items()})
    sorter.prepare()
    states: dict[str, str] = {}
    counted = itertools.count(1)
    todo = sum(plan.run for plan in plans.values())
    with _executor(jobs, scheduler) as executor:
        pending: dict[concurrent.futures.Future, str] = {}
        while sorter.is_active():
            for name in sorter.get_ready():
                plan = plans[name]
                if any(states[needed] not in ("done", "unchanged") for needed in plan.step.needs):
                    states[name] = "blocked"
                elif not plan.run:
                    states[name] = "unchanged"
                else:
                    future = executor.submit(run_step, plan, study.out, threads=_threads(jobs))
                    future.add_done_callback(lambda done, name=name: _tell(next(counted), todo, name, done))
                    pending[future] = name
                    continue
                sorter.done(name)
            finished, _ = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in finished:
                name = pending.pop(future)
                states[name] = future.result()[0]
                sorter.done(name)
    return states


def _tell(number: int, todo: int, name: str, future: concurrent.futures.Future) -> None:
    if not future.exception():
        state, seconds, line = future.result()
        print(f"[{number}/{todo}] {name}: {state} after {seconds:.0f} s{line and ': ' + line}", flush=True)


class _Here(concurrent.futures.Executor):
    """Run at once, in this process: Ctrl-C reaches the notebook's kernel, and progress the terminal."""

    def submit(self, function, /, *arguments, **named):  # noqa: ANN001, ANN201 (the base class's signature)
        future = concurrent.futures.Future()
        future.set_result(function(*arguments, **named))
        return future


@contextlib.contextmanager
def _executor(jobs: int, scheduler: str) -> Iterator[concurrent.futures.Executor]:
    if scheduler:
        try:
            from distributed import Client
        except ImportError:
            raise InputError("--scheduler needs the package distributed: pip install stvsr[cluster]") from None
        with Client(scheduler) as client:
            yield client.get_executor(pure=False)
    elif jobs > 1:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(jobs, mp_context=context) as executor:
            yield executor
    else:
        yield _Here()


def _threads(jobs: int) -> int:
    return max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else 0


def run_step(plan: Plan, out: Path, *, threads: int = 0) -> tuple[str, float, str]:
    """Execute one notebook; return (state, seconds, error line). The executed notebook stays, with its traceback if any."""
    step = plan.step
    folder = out / "steps" / step.name
    folder.mkdir(parents=True, exist_ok=True)
    state, line, started = "failed", "", time.time()
    record = {"step": step.name, "notebook": step.notebook.name, "parameters": step.parameters, "key": plan.key,
              "parts": plan.parts, "started": started}  # fmt: skip
    write_json(folder / "step.json", record | {"status": "running", "seconds": 0, "error": ""})
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin at barriers starve a machine that is shared
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        papermill.execute_notebook(
            str(step.notebook),
            str(folder / "notebook.ipynb"),
            parameters=step.parameters,
            progress_bar=False,
            stderr_file=sys.stderr if sys.stderr.isatty() else None,
            cwd=str(step.notebook.parent),
        )
        state = "done"
    except papermill.PapermillExecutionError as error:
        line = f"{error.ename}: {error.evalue}".partition("\n")[0]
        state = "stopped" if STOPPED in line else "failed"
    except KeyboardInterrupt:
        state = "interrupted"
        raise
    finally:
        seconds = round(time.time() - started, 1)
        write_json(folder / "step.json", record | {"status": state, "seconds": seconds, "error": line})
    return state, seconds, line


def write_manifest(study: Study, plans: dict[str, Plan], states: dict[str, str], started: float) -> None:
    """Write run.json: everything that is needed to repeat the run."""
    records = {name: read_json(path) for name in study.steps if (path := study.out / "steps" / name / "step.json").is_file()}
    steps = [
        {"name": name, "notebook": record["notebook"], "parameters": record["parameters"], "seconds": record["seconds"],
         "status": record["status"], "key": record["key"], "error": record["error"],
         "reason": plans[name].reason if name in plans else "not asked for"}
        for name, record in records.items()
    ]  # fmt: skip
    parameters = [record["parameters"] for record in records.values()]
    write_json(
        study.out / "run.json",
        {
            "study": study.name,
            "title": study.title,
            "question": study.question,
            "command": " ".join(["stvsr", *sys.argv[1:]]),
            "started": started,
            "finished": time.time(),
            "seconds": round(sum(step["seconds"] for step in steps), 1),
            **environment(),
            "seeds": sorted({values["seed"] for values in parameters if "seed" in values}),
            "data": _gather(study, "data.json"),
            "weights": _gather(study, "weights.json"),
            "steps": steps,
        },
    )


def _gather(study: Study, name: str) -> list[dict]:
    """Return the union of the lists that steps wrote under a name, each entry once."""
    found = [entry for step in study.steps if (path := study.out / "steps" / step / name).is_file() for entry in read_json(path)]
    return list({json.dumps(entry, sort_keys=True): entry for entry in found}.values())
