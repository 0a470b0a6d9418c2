"""Batches from loader processes: limited threads, and failures in one line that names the file."""

from collections.abc import Iterator, Sequence

import cv2
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stvsr.errors import InputError

PREFETCH = 4  # batches that each worker prepares in advance


def load_batches(
    dataset: Dataset, plan: Sequence[list[int]], *, workers: int, pin: bool = False
) -> Iterator[dict[str, Tensor]]:
    """Yield one batch per entry of `plan`, the indices of its samples.

    Args:
        dataset: map-style, of dictionaries of tensors.
        workers: processes that prepare batches; 0: this process does.
        pin: batches in page-locked memory, for copies to a GPU.

    Raises:
        InputError: a sample cannot be read (the line names its file, whichever process read it), or the workers ran out
            of memory.
    """
    _limit_threads()
    loader: DataLoader = DataLoader(
        dataset,
        batch_sampler=plan,
        num_workers=workers,
        pin_memory=pin,
        prefetch_factor=PREFETCH if workers else None,
        worker_init_fn=_limit_threads,
    )
    try:
        yield from loader
    except InputError as error:
        raise InputError(_original(str(error))) from None
    except RuntimeError as error:
        if remedy := _remedy(str(error)):
            raise InputError(f"{workers} loader processes ran out of memory: {remedy}") from None
        raise


def _limit_threads(_worker: int = 0) -> None:
    """Keep OpenCV to one thread per process: on 64x64 patches more only cost processor time (14 times at 192)."""
    cv2.setNumThreads(1)


def _original(message: str) -> str:
    """Return an error's own line; PyTorch puts the worker's traceback before it."""
    return message.rpartition(f"{InputError.__name__}: ")[2].strip()


def _remedy(message: str) -> str:
    if "shared memory" in message or "Bus error" in message or "No space left" in message:
        return "lower workers, or enlarge /dev/shm (docker run --shm-size=8g)"
    return "lower workers" if "killed by signal: Killed" in message else ""
