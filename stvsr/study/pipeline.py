"""Study file -> graph of notebooks -> papermill: each step runs only when something it depends on has changed."""

import concurrent.futures
import contextlib
import functools
import graphlib
import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from stvsr.errors import InputError
from stvsr.runs.deadline import deadline
from stvsr.runs.hashes import package_hash
from stvsr.runs.lock import locked
from stvsr.runs.signals import ending
from stvsr.runs.stamp import read_stamp
from stvsr.study.check import Machine, print_faults
from stvsr.study.estimate import estimate as estimated
from stvsr.study.estimate import table
from stvsr.study.execution import run_step
from stvsr.study.manifest import write_manifest
from stvsr.study.plan import Plan, _plan_step, make_plans
from stvsr.study.study_file import Study, load_study

RESUME = "not finished, checkpoints are saved: run the same command to continue"


def reproduce(
    study: str,
    *,
    out: Path | None = None,
    only: str = "",
    force: Sequence[str] = (),
    jobs: int = 1,
    scheduler: str = "",
    minutes: float = 0,
    dry_run: bool = False,
    estimate: bool = False,
    report_only: bool = False,
) -> int:
    """Run a study and build its report; return the exit status: 0, 1 a step failed, 2 a check failed, 75 time ran out.

    Ctrl-C, SIGTERM and SIGHUP stop trainings with checkpoints; the same command resumes.

    Args:
        study: a name in notebooks/studies or a TOML file.
        out: run folder, reports/NAME by default; one process at a time works in it.
        only: run this step and what it needs.
        force: steps that run although nothing changed; their old results are moved aside.
        jobs: steps at once on this machine, among which its GPUs are divided.
        scheduler: address of a Dask cluster that runs the steps instead.
        minutes: after this time start no step, and stop trainings with checkpoints.
        dry_run: print what would run and why, check it all, and run nothing.
        estimate: the same, then measure a few updates of each kind and print what the steps will cost.
        report_only: build the report from what is there.

    Raises:
        InputError: the study, a parameter or a name is wrong, found before anything runs, or another process works in
            the run folder.
        KeyboardInterrupt: a signal ended the run.
    """
    parsed = load_study(study, out)
    if report_only:
        print(f"report: {_build_report(parsed.out)}")
        return 0
    plans = make_plans(parsed, only, force)
    for plan in plans.values():
        print(f"{'run ' if plan.run else 'skip'} {plan.step.name:28s} {plan.reason}")
    todo = [name for name, plan in plans.items() if plan.run]
    faults = print_faults(parsed, todo, Machine(jobs, not scheduler))
    if faults or dry_run:
        return 2 if faults else 0
    if estimate:
        print(table(estimated(parsed, todo), jobs))
        return 0
    if minutes:
        os.environ["STVSR_DEADLINE"] = str(time.time() + 60 * minutes)
    with locked(parsed.out / ".lock", f"run folder {parsed.out}"), ending():
        return _run(parsed, plans, jobs, scheduler)


def _run(study: Study, plans: dict[str, Plan], jobs: int, scheduler: str) -> int:
    """Run planned steps, write the manifest and build the report; return the exit status."""
    started = time.time()
    try:
        states = run_plans(study, plans, jobs, scheduler)
    except KeyboardInterrupt:
        write_manifest(study, plans, started)
        print(_resume(study, plans, started), flush=True)
        raise
    write_manifest(study, plans, started)
    if any(state == "stopped" for state in states.values()):
        print(_resume(study, plans, started))
        return 75
    print(f"report: {_build_report(study.out)}")
    return 1 if any(state in ("failed", "blocked") for state in states.values()) else 0


def _resume(study: Study, plans: dict[str, Plan], started: float) -> str:
    """Return how a run that began at `started` is continued: a forced step that has begun is not forced again."""
    begun = [
        f"--force {name}"
        for name, plan in plans.items()
        if plan.forced and read_stamp(study.out / "steps" / name / "step.json").get("started", 0) >= started
    ]
    return f"{RESUME}{', without ' * bool(begun)}{' '.join(begun)} ({study.out})"


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
                future = executor.submit(_job if jobs > 1 else run_step, plans[name], study.out, threads=_threads(jobs))
                future.add_done_callback(functools.partial(_tell, counted, todo, name))
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
        plans[name] = _plan_step(step.without(failed), out, plans, forced=plans[name].forced)
    if not plans[name].run:
        return "unchanged"
    return "stopped" if time.time() > deadline() else ""


def _tell(counted: Iterator[int], todo: int, name: str, future: concurrent.futures.Future) -> None:
    number = next(counted)
    if not future.cancelled() and not future.exception():
        state, seconds, line = future.result()
        print(f"[{number}/{todo}] {name}: {state} after {seconds:.0f} s{line and ': ' + line}", flush=True)


class _Here(concurrent.futures.Executor):
    """Run at once, in this process: Ctrl-C reaches the notebook's kernel, and progress the terminal."""

    def submit(self, function, /, *arguments, **named):
        future: concurrent.futures.Future = concurrent.futures.Future()
        future.set_result(function(*arguments, **named))
        return future


def _require_same_code(hashes: dict[str, str]) -> None:
    """Raise InputError for a Dask worker (address -> `package_hash`) whose code is not this process's."""
    for address, found in hashes.items():
        if found != package_hash():
            raise InputError(f"Dask worker {address} has other code of stvsr: install the same version on all workers")


@contextlib.contextmanager
def _executor(jobs: int, scheduler: str) -> Iterator[concurrent.futures.Executor]:
    if scheduler:
        try:
            from distributed import Client
        except ImportError:
            raise InputError("--scheduler needs the package distributed: pip install stvsr[cluster]") from None
        with Client(scheduler) as client:
            _require_same_code(client.run(package_hash))
            offered = [worker["resources"] for worker in client.scheduler_info()["workers"].values()]
            one_gpu = {"resources": {"GPU": 1}} if any("GPU" in resources for resources in offered) else {}
            yield client.get_executor(pure=False, **one_gpu)
    elif jobs > 1:
        others = multiprocessing.active_children()
        context = multiprocessing.get_context("spawn")
        shares = context.Queue()
        for share in gpu_shares(visible_gpus(), jobs):
            shares.put(share)
        with concurrent.futures.ProcessPoolExecutor(
            jobs, context, initializer=_begin_job, initargs=(shares,)
        ) as executor:
            try:
                yield executor
            except BaseException:
                for child in multiprocessing.active_children():
                    if child.pid and child not in others:
                        os.kill(child.pid, signal.SIGTERM)
                executor.shutdown(cancel_futures=True)
                raise
    else:
        yield _Here()


def visible_gpus() -> list[str]:
    """Return this machine's GPUs that CUDA_VISIBLE_DEVICES leaves, as it names them."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(index) for index in range(count)]


def gpu_shares(gpus: list[str], jobs: int) -> list[str]:
    """Return the CUDA_VISIBLE_DEVICES of each of so many jobs: all are used; jobs share GPUs when there are too few."""
    return [",".join(gpus[job::jobs]) or (gpus[job % len(gpus)] if gpus else "") for job in range(jobs)]


def _begin_job(shares: multiprocessing.Queue) -> None:
    """Prepare a process that runs steps: its GPUs, and an end with the process that started it."""
    if share := shares.get():
        os.environ["CUDA_VISIBLE_DEVICES"] = share
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(20)  # for a training to save a checkpoint
    os._exit(1)


def _job(plan: Plan, out: Path, *, threads: int = 0) -> tuple[str, float, str]:
    """Run a step in a process of the pool; after an ending signal it runs no other."""
    started = time.time()
    try:
        with ending():
            return run_step(plan, out, threads=threads)
    except KeyboardInterrupt:
        os.environ["STVSR_DEADLINE"] = "0"
        return "stopped", time.time() - started, ""


def _threads(jobs: int) -> int:
    return max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else 0
