"""Study file -> graph of notebooks -> papermill: each step runs only when something it depends on has changed."""

import concurrent.futures
import contextlib
import contextvars
import graphlib
import itertools
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import papermill
import torch
from traitlets.config import Config

from stvsr.errors import InputError
from stvsr.runs.deadline import STOPPED, deadline
from stvsr.runs.files import read_json, write_json
from stvsr.study.check import Machine, print_faults
from stvsr.study.manifest import write_manifest
from stvsr.study.plan import Plan, _plan_step, make_plans
from stvsr.study.study_file import Study, load_study
from stvsr.training.launch import discard

# other users of a machine shall not read what a notebook and its kernel say, nor every step warn that they could
PRIVATE = Config(KernelManager={"transport_encryption": "auto"})


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
    """Run a study and build its report; return the exit status: 0, 1 a step failed, 2 a check failed, 75 time ran out.

    Args:
        study: a name in notebooks/studies or a TOML file. out: run folder, reports/NAME by default.
        only: run this step and what it needs. jobs: steps at once on this machine, among which its GPUs are dealt out.
        scheduler: address of a Dask cluster that runs the steps instead. minutes: after so long start no step, and stop
        trainings
            with checkpoints. dry_run: say what would run and why, check it all, and run nothing.
            report_only: build the report from what is there.

    Raises:
        InputError: the study, a parameter or a name is wrong; said before anything runs.
    """
    parsed = load_study(study, out)
    if report_only:
        print(f"report: {_build_report(parsed.out)}")
        return 0
    plans = make_plans(parsed, only)
    for plan in plans.values():
        print(f"{'run ' if plan.run else 'skip'} {plan.step.name:28s} {plan.reason}")
    faults = print_faults(parsed, [name for name, plan in plans.items() if plan.run], Machine(jobs, not scheduler))
    if faults or dry_run:
        return 2 if faults else 0
    if minutes:
        os.environ["STVSR_DEADLINE"] = str(time.time() + 60 * minutes)
    started = time.time()
    states = run_plans(parsed, plans, jobs, scheduler)
    write_manifest(parsed, plans, states, started)
    if any(state == "stopped" for state in states.values()):
        print(f"not finished, checkpoints are saved: run the same command to go on ({parsed.out})")
        return 75
    print(f"report: {_build_report(parsed.out)}")
    return 1 if any(state in ("failed", "blocked") for state in states.values()) else 0


def _build_report(folder: Path) -> Path:
    from stvsr.report.build import build_report  # takes seconds to import, and a dry run needs no report

    return build_report(folder)


def run_plans(study: Study, plans: dict[str, Plan], jobs: int = 1, scheduler: str = "") -> dict[str, str]:
    """Run what is to be run, each step as soon as what it needs is done; return the state of every step.

    States: done, unchanged, failed, stopped (time ran out: not begun, or a checkpoint saved), blocked (something it
    needs did not finish). A step runs without optional needs that failed, as long as one is left; its plan in `plans`
    is replaced by that.
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
                if state := _settle(name, plans, states, study.out):
                    states[name] = state
                    sorter.done(name)
                    continue
                future = executor.submit(run_step, plans[name], study.out, threads=_threads(jobs))
                future.add_done_callback(lambda done, name=name: _tell(next(counted), todo, name, done))
                pending[future] = name
            finished, _ = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in finished:
                name = pending.pop(future)
                states[name] = future.result()[0]
                sorter.done(name)
    return states


def _settle(name: str, plans: dict[str, Plan], states: dict[str, str], out: Path) -> str:
    """Return the state of a step that is not to run, now that all it needs has ended; empty when it is to run.

    A step that can do without what failed gets a plan without it. What only stopped will go on, and is waited for.
    """
    step = plans[name].step
    failed = {needed for needed in step.needs if states[needed] not in ("done", "unchanged")}
    if failed:
        if not failed < set(step.optional) or any(states[needed] == "stopped" for needed in failed):
            return "blocked"
        plans[name] = _plan_step(step.without(failed), out, plans)
    if not plans[name].run:
        return "unchanged"
    return "stopped" if time.time() > deadline() else ""


def _tell(number: int, todo: int, name: str, future: concurrent.futures.Future) -> None:
    if not future.exception():
        state, seconds, line = future.result()
        print(f"[{number}/{todo}] {name}: {state} after {seconds:.0f} s{line and ': ' + line}", flush=True)


class _Here(concurrent.futures.Executor):
    """Run at once, in this process: Ctrl-C reaches the notebook's kernel, and progress the terminal."""

    def submit(self, function, /, *arguments, **named):
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
        shares = context.Queue()
        for share in gpu_shares(visible_gpus(), jobs):
            shares.put(share)
        with concurrent.futures.ProcessPoolExecutor(
            jobs, context, initializer=_take_share, initargs=(shares,)
        ) as executor:
            yield executor
    else:
        yield _Here()


def visible_gpus() -> list[str]:
    """Return this machine's GPUs that CUDA_VISIBLE_DEVICES leaves, as it names them."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(index) for index in range(count)]


def gpu_shares(gpus: list[str], jobs: int) -> list[str]:
    """Return the CUDA_VISIBLE_DEVICES of each of so many jobs: all GPUs are dealt out; what is scarce is shared."""
    return [",".join(gpus[job::jobs]) or (gpus[job % len(gpus)] if gpus else "") for job in range(jobs)]


def _take_share(shares: multiprocessing.Queue) -> None:
    if share := shares.get():
        os.environ["CUDA_VISIBLE_DEVICES"] = share


def _threads(jobs: int) -> int:
    return max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else 0


PRESENTATION = ("stvsr.figures", "stvsr.figure_style", "stvsr.pictures")  # show results and make none


def _discard_stale(folder: Path, before: dict, now: dict) -> None:
    """Take away what other code or inputs left in a step's folder: a notebook keeps what looks like its own result."""

    def code(parts: dict) -> dict:
        return {name: key for name, key in parts["modules"].items() if name not in PRESENTATION}

    if code(before) != code(now):
        shutil.rmtree(folder)
        folder.mkdir()
    elif any(before[part] != now[part] for part in ("parameters", "inputs", "upstream")):
        discard(folder)  # outputs of single methods carry a note of what they were made from, and may stay


def run_step(plan: Plan, out: Path, *, threads: int = 0) -> tuple[str, float, str]:
    """Execute one notebook; return (state, seconds, error line). The executed notebook stays, with its traceback if any."""
    step = plan.step
    folder = out / "steps" / step.name
    folder.mkdir(parents=True, exist_ok=True)
    said = folder / "step.json"
    if said.is_file():
        _discard_stale(folder, read_json(said)["parts"], plan.parts)
    state, line, started = "failed", "", time.time()
    record = {"step": step.name, "notebook": step.notebook.name, "parameters": step.parameters, "key": plan.key,
              "parts": plan.parts, "started": started}  # fmt: skip
    write_json(said, record | {"status": "running", "seconds": 0, "error": ""})
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin at barriers starve a machine that is shared
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        contextvars.Context().run(  # an event loop of its own, when several steps share a process
            papermill.execute_notebook,
            str(step.notebook),
            str(folder / "notebook.ipynb"),
            parameters=step.parameters,
            progress_bar=False,
            stderr_file=sys.stderr if sys.stderr.isatty() else None,
            config=PRIVATE,
            cwd=str(step.base),
        )
        state = "done"
    except papermill.PapermillExecutionError as error:
        line = f"{error.ename}: {error.evalue}".partition("\n")[0]
        state = "stopped" if STOPPED in line else "failed"
    except Exception as error:  # the kernel died, perhaps for want of memory: no reason to stop the other steps
        line = f"{type(error).__name__}: {error}".partition("\n")[0]
    except KeyboardInterrupt:
        state = "interrupted"
        raise
    finally:
        seconds = round(time.time() - started, 1)
        write_json(said, record | {"status": state, "seconds": seconds, "error": line})
    return state, seconds, line
