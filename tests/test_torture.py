"""The fast part of `make torture`: a few random kills, and every kind of file damaged in every way once."""

import os

import pytest
import torture

from stvsr.study import study_file


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """Torture sets where notebooks and the cache are."""
    monkeypatch.setattr(study_file, "NOTEBOOKS", study_file.NOTEBOOKS)
    monkeypatch.setenv("STVSR_CACHE", os.environ["STVSR_CACHE"])


@pytest.mark.slow
def test_damaged_inputs_are_refused_in_one_line_or_made_again(tmp_path):
    ways = len(torture.DAMAGES) + len(torture.PLACES)
    assert torture.corrupt(tmp_path / "inputs", 13 * ways, seed=1) == []


@pytest.mark.slow
def test_trainings_that_are_killed_at_random_end_as_if_uninterrupted(tmp_path):
    assert torture.kill(tmp_path, 10, seed=1) == []
