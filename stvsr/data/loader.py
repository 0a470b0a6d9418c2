"""Batches from loader processes: limited threads, and failures in one line that names the file."""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence

import cv2
from torch.utils.data import DataLoader, Dataset

from stvsr.errors import InputError
from stvsr.runs.signals import ENDING

PREFETCH = 4  # batches that each worker prepares in advance
TIMEOUT = 600  # seconds for a worker to hand over a batch: one that is suspended or waits for a lost disk never does


def load_batches(dataset: Dataset, plan: Sequence[list[int]], *, workers: int, pin: bool = False) -> Iterator[dict]:
    """Yield one batch per entry of `plan`, the indices of its samples.

    Signals that end a run are left to this process, which closes the workers when it stops.

    Args:
        dataset: map-style, of dictionaries of tensors; a text in them becomes a list of texts.
        workers: processes that prepare batches; 0: this process does.
        pin: batches in page-locked memory, for copies to a GPU.

    Raises:
        InputError: a sample cannot be read (the line names its file, whichever process read it), or the workers ran out
            of memory or stopped answering.
    """
    _limit_threads()
    others = multiprocessing.active_children()
    loader: DataLoader = DataLoader(
        dataset,
        batch_sampler=plan,
        num_workers=workers,
        pin_memory=pin,
        prefetch_factor=PREFETCH if workers else None,
        worker_init_fn=_prepare_worker,
        timeout=TIMEOUT if workers else 0,
    )
    try:
        yield from loader
    except InputError as error:
        raise InputError(_original(str(error))) from None
    except RuntimeError as error:
        if "timed out" in str(error):
            for child in multiprocessing.active_children():
                if child not in others and child.pid:
                    os.kill(child.pid, signal.SIGCONT)  # a suspended worker must wake to end, or the exit waits for it
            raise InputError(
                f"no batch came from {workers} loader processes for {TIMEOUT} s: check the disk of the data, run it "
                "again to resume"
            ) from None
        if remedy := _remedy(str(error)):
            raise InputError(f"{workers} loader processes ran out of memory: {remedy}") from None
        raise


def _prepare_worker(_worker: int) -> None:
    """Ignore the signals that end a run, which reach a whole process group, so that the last batches still come."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    _limit_threads()


def _limit_threads() -> None:
    """Keep OpenCV to one thread per process: on 64x64 patches more only cost processor time (14 times at 192)."""
    cv2.setNumThreads(1)


def _original(message: str) -> str:
    """Return an error's own line; PyTorch puts the worker's traceback before it."""
    return message.rpartition(f"{InputError.__name__}: ")[2].strip()


def _remedy(message: str) -> str:
    if "shared memory" in message or "Bus error" in message or "No space left" in message:
        return "lower workers, or enlarge /dev/shm (docker run --shm-size=8g)"
    return "lower workers" if "killed by signal: Killed" in message else ""
