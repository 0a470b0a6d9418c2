"""Independent jobs in processes of one thread each: faster than one process of many threads where work is small."""

import concurrent.futures
import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence

import cv2
import psutil
import torch

WORKER_BYTES = 1_500_000_000  # of memory per process: PyTorch, a measuring network and its features
THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def count_workers(jobs: int) -> int:
    """Return how many processes to use: one per job and thread of this process, as far as the memory suffices."""
    by_memory = int(psutil.virtual_memory().available / WORKER_BYTES)
    return max(1, min(jobs, torch.get_num_threads(), by_memory))


def run_jobs(
    function: Callable[..., None], jobs: Sequence[tuple], *, workers: int, before: Callable[[], None] = lambda: None
) -> Iterator[tuple]:
    """Call `function(*job)` for every job and yield the jobs as they are done.

    Args:
        function: of a module, because processes import it; its arguments can be pickled.
        workers: processes; with 1 everything runs in this process.
        before: called in this process before each job begins. When it raises, no further job begins and the running
            ones are completed.
    """
    if workers == 1:
        for job in jobs:
            before()
            function(*job)
            yield job
        return
    context = multiprocessing.get_context("spawn")
    waiting = list(jobs)
    with _one_thread(), concurrent.futures.ProcessPoolExecutor(workers, context, initializer=_initialise) as executor:
        running: dict[concurrent.futures.Future, tuple] = {}
        while waiting or running:
            while waiting and len(running) < workers:
                before()
                job = waiting.pop(0)
                running[executor.submit(function, *job)] = job
            done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                job = running.pop(future)
                future.result()
                yield job


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Limit the numeric libraries of processes that are started in this context to one thread."""
    before = {name: os.environ.get(name) for name in THREAD_LIMITS}
    os.environ.update(dict.fromkeys(THREAD_LIMITS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value


def _initialise() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
