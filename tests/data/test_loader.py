"""Loader processes: the same batches at any number of them, damaged files by name, one OpenCV thread."""

import multiprocessing
import os
import signal

import cv2
import pytest
import torch
from PIL import Image
from tiny import panning, write_clips
from torch.utils.data import Dataset

from stvsr.data import loader
from stvsr.data.clips import load_clips
from stvsr.data.loader import load_batches
from stvsr.data.septuplets import SampleConfig, SeptupletDataset
from stvsr.errors import InputError
from stvsr.runs.signals import ENDING


def dataset(root, length: int = 6) -> SeptupletDataset:
    return SeptupletDataset(load_clips(str(root)), SampleConfig(num_frames=5, patch=8), seed=0, length=length)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def resize(path):
    Image.fromarray(panning(1, 40, 56)[0]).save(path)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(tmp_path, workers):
    samples = dataset(write_clips(tmp_path))
    found = list(load_batches(samples, [[0, 1], [4, 5]], workers=workers))
    assert len(found) == 2
    assert all(torch.equal(found[1]["lr"][k], samples[4 + k]["lr"]) for k in range(2))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, r"^\S*/clip0/004.png cannot be read as an image: .*truncated"),
        (empty, r"^\S*/clip0/004.png cannot be read as an image"),
        (resize, r"^\S*/clip0/004.png is 56x40, its clip is 56x48: make all frames of one size$"),
    ],
)
def test_a_damaged_frame_is_named_at_any_number_of_workers(tmp_path, workers, damage, message):
    root = write_clips(tmp_path, count=1, frames=9)
    damage(root / "clip0" / "004.png")
    with pytest.raises(InputError, match=message) as caught:
        list(load_batches(dataset(root), [[index] for index in range(6)], workers=workers))
    assert "\n" not in str(caught.value)


class Failing(Dataset):
    """Raises what PyTorch raises when workers run out of memory."""

    def __init__(self, message: str):
        self.message = message

    def __getitem__(self, _index: int) -> dict:
        raise RuntimeError(self.message)


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that ...", "enlarge /dev/shm"),
        ("unable to write to file </torch_1>: No space left on device (28)", "enlarge /dev/shm"),
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", "ran out of memory: lower workers$"),
    ],
)
def test_workers_without_memory_are_one_line_with_a_remedy(message, remedy):
    with pytest.raises(InputError, match=remedy):
        list(load_batches(Failing(message), [[0]], workers=0))


def test_a_bug_in_a_dataset_stays_a_bug():
    with pytest.raises(RuntimeError, match="shape mismatch"):
        list(load_batches(Failing("shape mismatch"), [[0]], workers=0))


class Threads(Dataset):
    def __getitem__(self, _index: int) -> dict:
        return {"threads": torch.tensor(cv2.getNumThreads())}


@pytest.mark.parametrize("workers", [0, 2])
def test_opencv_has_one_thread_per_process(workers):
    cv2.setNumThreads(8)
    (batch,) = load_batches(Threads(), [[0, 1]], workers=workers)
    assert batch["threads"].tolist() == [1, 1]


class Signalled(Dataset):
    """Sends a signal to the process that makes the sample."""

    def __init__(self, number: int):
        self.number = number

    def __getitem__(self, index: int) -> dict:
        os.kill(os.getpid(), self.number)
        return {"index": torch.tensor(index)}


@pytest.mark.slow
@pytest.mark.parametrize("number", ENDING)
def test_workers_outlive_the_signals_that_end_a_run(number):
    found = list(load_batches(Signalled(number), [[0], [1]], workers=1))
    assert [batch["index"].tolist() for batch in found] == [[0], [1]]


@pytest.mark.slow
def test_a_suspended_worker_is_one_line_and_leaves_no_process(monkeypatch):
    monkeypatch.setattr(loader, "TIMEOUT", 1)
    before = multiprocessing.active_children()
    with pytest.raises(InputError, match=r"no batch came from 1 loader processes for 1 s: check the disk"):
        list(load_batches(Signalled(signal.SIGSTOP), [[0]], workers=1))
    left = [child for child in multiprocessing.active_children() if child not in before]
    for child in left:
        child.join(10)
    assert not any(child.is_alive() for child in left)
