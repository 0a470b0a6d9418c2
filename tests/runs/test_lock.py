"""Locks, with real processes: one at a time, the other is named, a dead one holds nothing."""

import os
import signal
import subprocess
import sys
import time

import pytest

from stvsr.errors import InputError
from stvsr.runs import lock
from stvsr.runs.lock import lock_beside, locked

HOLD = """
import sys, time
from pathlib import Path
from stvsr.runs.lock import locked
with locked(Path(sys.argv[1]), "this"):
    print("held", flush=True)
    time.sleep(600)
"""


def hold(path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.slow
def test_another_process_is_named_and_a_dead_one_holds_nothing(tmp_path):
    path = tmp_path / "deep" / ".lock"
    process = hold(path)
    with pytest.raises(InputError) as caught, locked(path, "folder x", wait=0.2):
        pass
    line = str(caught.value)
    assert line.startswith(f"folder x is in use by process {process.pid} on ")
    assert line.endswith(": wait until it has ended, or end it")
    assert "\n" not in line
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert path.exists()  # what it left does not count
    with locked(path, "folder x", wait=0.2):
        assert f"process {os.getpid()} on " in path.read_text()
    assert not path.exists()


def test_a_lock_is_waited_for_and_free_afterwards(tmp_path):
    path = tmp_path / ".lock"
    process = hold(path)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    with locked(path, "folder x", wait=60):
        assert time.monotonic() - began < 60
    process.wait()


def test_a_file_system_without_locks_is_named_and_used(tmp_path, monkeypatch, capsys):
    def missing(*given, **named):
        raise OSError(lock.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.FileLock, "acquire", missing)
    with locked(tmp_path / ".lock", "folder x"):
        pass
    assert capsys.readouterr().err == (
        "note: folder x cannot be locked on this file system: do not start a second run there\n"
    )


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    def denied(*given, **named):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(lock.FileLock, "acquire", denied)
    with pytest.raises(InputError, match=r"folder x cannot be written \(Permission denied\): choose another place"):
        locked(tmp_path / ".lock", "folder x").__enter__()


def test_the_lock_of_an_output_is_hidden_beside_it(tmp_path):
    assert lock_beside(tmp_path / "clip.mp4") == tmp_path / ".clip.mp4.lock"
