"""Jobs in one process and in several: the same results, in spite of errors and deadlines."""

import os
from pathlib import Path

import pytest
import tiny
import torch

from stvsr.errors import InputError
from stvsr.evaluation import held_out, parallel
from stvsr.evaluation.held_out import EvaluationConfig, prepare_clips, score, upscale_clips
from stvsr.evaluation.parallel import count_workers, run_jobs


def write_square(folder: Path, number: int) -> None:
    if number < 0:
        raise InputError(f"{number} is negative: give another")
    (folder / f"{number}.txt").write_text(f"{number**2} {os.getpid()} {torch.get_num_threads()}")


def results(folder: Path) -> list[list[str]]:
    return sorted(path.read_text().split() for path in folder.glob("*.txt"))


@pytest.mark.slow
def test_processes_do_every_job_with_one_thread_each(tmp_path):
    before = os.environ.get("OMP_NUM_THREADS")
    jobs = [(tmp_path, number) for number in range(5)]
    assert sorted(run_jobs(write_square, jobs, workers=2)) == jobs
    assert {square for square, _, _ in results(tmp_path)} == {"0", "1", "4", "9", "16"}
    assert {threads for _, _, threads in results(tmp_path)} == {"1"}
    assert str(os.getpid()) not in {pid for _, pid, _ in results(tmp_path)}
    assert os.environ.get("OMP_NUM_THREADS") == before


@pytest.mark.slow
def test_an_error_in_a_process_is_the_caller_s(tmp_path):
    with pytest.raises(InputError, match="-1 is negative: give another"):
        list(run_jobs(write_square, [(tmp_path, number) for number in (1, -1, 2)], workers=2))


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_no_job_begins_after_the_deadline(tmp_path, workers):
    begun = []

    def before() -> None:
        if len(begun) == 2:
            raise InputError("time ran out")
        begun.append(len(begun))

    with pytest.raises(InputError, match="time ran out"):
        list(run_jobs(write_square, [(tmp_path, number) for number in range(6)], workers=workers, before=before))
    assert [square for square, _, _ in results(tmp_path)] == ["0", "1"]


def test_workers_are_bounded_by_jobs_threads_and_memory(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(parallel.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 64e9}))
    assert [count_workers(jobs) for jobs in (0, 1, 3, 100)] == [1, 1, 3, 8]
    monkeypatch.setattr(parallel.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 4e9}))
    assert count_workers(100) == 2
    monkeypatch.setattr(parallel.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1e8}))
    assert count_workers(100) == 1


@pytest.mark.slow
def test_scores_of_processes_are_those_of_one_process(tmp_path, monkeypatch):
    clips = tiny.write_clips(tmp_path / "clips", 2, frames=6)
    config = EvaluationConfig(data=(str(clips),), split="all", protocols=("literature-y", "study"), device="cpu")
    tables = []
    for folder, pixels in ((tmp_path / "one", held_out.PARALLEL_PIXELS), (tmp_path / "two", 0)):
        monkeypatch.setattr(held_out, "PARALLEL_PIXELS", pixels)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
        names = prepare_clips(config, folder)
        upscale_clips(config, folder, names)
        score(config, folder, names)
        tables.append((folder / "metrics.csv").read_text())
    assert tables[0] == tables[1]
