"""Every way to end `stvsr reproduce`: a checkpoint, state "stopped", no process left; two runs on one folder."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from studies import PARAMETERS, notebook, study

from stvsr.errors import InputError
from stvsr.runs.files import load_tensors, read_json
from stvsr.runs.lock import locked
from stvsr.runs.signals import Ended, ending
from stvsr.study.pipeline import reproduce

TRAIN = """
from pathlib import Path
import endless
from stvsr.training.launch import launch
launch("endless", endless.EndlessConfig(), Path(folder))
"""
REPRODUCE = """
import sys
from pathlib import Path
from stvsr.study import study_file
study_file.NOTEBOOKS = Path("notebooks").resolve()
from stvsr.cli import main
if __name__ == "__main__":
    sys.exit(main(["reproduce", "s", "--jobs", sys.argv[1]]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_ends_and_the_next_ones_do_not_disturb(number):
    before = signal.getsignal(number)
    with pytest.raises(Ended) as caught, ending():
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), number)
            time.sleep(0)
    assert caught.value.status == 128 + number
    assert signal.getsignal(number) is before


def test_ignored_signals_stay_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
def test_a_second_run_of_a_folder_is_one_clear_line(room):
    notebook(room / "notebooks" / "work.ipynb", PARAMETERS)
    study(room, '[[steps]]\nid = "a"\nnotebook = "work"\n')
    folder = room / "reports" / "s"
    with locked(folder / ".lock", "this"), pytest.raises(InputError) as caught:
        reproduce("s")
    assert str(caught.value).startswith(f"run folder {folder} is in use by process {os.getpid()} on ")
    assert not (folder / "steps").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "jobs"), [(signal.SIGTERM, "1"), (signal.SIGHUP, "1"), (signal.SIGTERM, "2"), (signal.SIGKILL, "2")]
)
def test_every_end_of_a_run_saves_a_checkpoint_and_leaves_no_process(room, number, jobs):
    notebook(room / "notebooks" / "work.ipynb", PARAMETERS, TRAIN)
    study(room, '[[steps]]\nid = "a"\nnotebook = "work"\n')
    (room / "run.py").write_text(REPRODUCE)
    folder = room / "reports" / "s" / "steps" / "a"
    process = subprocess.Popen([sys.executable, "run.py", jobs], cwd=room, stdout=subprocess.PIPE, text=True)
    end = time.time() + 300
    while not (folder / "ready-0").exists():
        assert time.time() < end and process.poll() is None
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    out = process.communicate(timeout=100)[0]
    _, alive = psutil.wait_procs(children, timeout=60)  # an idle machine takes a few seconds
    assert not [child for child in alive if "resource_tracker" not in str(child.cmdline())]
    assert load_tensors(folder / "checkpoint.safetensors")[1]["step"] >= 1
    if number != signal.SIGKILL:
        assert process.returncode == 128 + number
        assert read_json(folder / "step.json")["status"] == "stopped"
        assert "not finished, checkpoints are saved" in out
        assert [step["status"] for step in read_json(folder.parents[1] / "run.json")["steps"]] == ["stopped"]
