"""One step: its notebook through papermill, and a record of what it was made from and what it made."""

import contextvars
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import papermill
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from traitlets.config import Config

from stvsr.errors import InputError
from stvsr.runs.deadline import STOPPED, deadline
from stvsr.runs.files import write_json
from stvsr.runs.lock import locked
from stvsr.runs.set_aside import set_aside
from stvsr.runs.stamp import differences, make_stamp, products, read_stamp
from stvsr.study.keys import files_read
from stvsr.study.plan import Plan
from stvsr.training.launch import FILES

WAIT = 15  # seconds for a step to end whose run was killed
PRESENTATION = "stvsr.figures"  # shows results and makes none


class OwnKernel(AsyncKernelManager):
    """A kernel of this environment; Jupyter prefers any kernel of the same name in $JUPYTER_PATH or the user's folders.

    The kernel's log is limited to critical lines: every interruption, and so every shutdown, may log an error.
    """

    @property
    def kernel_spec(self) -> KernelSpec:
        """The way to start it."""
        return KernelSpec(resource_dir="", **get_kernel_dict(["--log-level=CRITICAL"]))


# Other users of a machine must not read what passes between a notebook and its kernel. An interrupted kernel gets half
# the time to let its training save a checkpoint.
KERNEL = Config(
    NotebookClient={"kernel_manager_class": OwnKernel},
    KernelManager={"transport_encryption": "auto", "shutdown_wait_time": 14.0},
)


def run_step(plan: Plan, out: Path, *, threads: int = 0) -> tuple[str, float, str]:
    """Execute one notebook; return (state, seconds, error line). The executed notebook is kept, failed or not.

    Raises:
        KeyboardInterrupt: a signal ended the run; the record says `stopped`.
    """
    folder = out / "steps" / plan.step.name
    if time.time() > deadline():
        return "stopped", 0.0, ""
    try:
        with locked(folder / ".step.lock", f"step folder {folder}", wait=WAIT):
            return _run_alone(plan, out, folder, threads)
    except InputError as error:
        return "failed", 0.0, str(error)


def _run_alone(plan: Plan, out: Path, folder: Path, threads: int) -> tuple[str, float, str]:
    step, record_file = plan.step, folder / "step.json"
    read = files_read(step, out)
    _set_stale_aside(folder, plan, read)
    state, line, started, made = "failed", "", time.time(), {}
    record = {"step": step.name, "notebook": step.notebook.name, "parameters": step.parameters, "key": plan.key,
              "parts": plan.parts, "read": read, "started": started}  # fmt: skip
    write_json(record_file, record | {"status": "running", "seconds": 0, "error": ""})
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin at barriers starve a machine that is shared
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        contextvars.Context().run(  # a separate event loop, when several steps share a process
            papermill.execute_notebook,
            str(step.notebook),
            str(folder / "notebook.ipynb"),
            parameters=step.parameters,
            progress_bar=False,
            stderr_file=sys.stderr if sys.stderr.isatty() else None,
            config=KERNEL,
            cwd=str(step.base),
        )
        made = make_stamp(None, folder, products(folder))["made"]
        state = "done"
    except papermill.PapermillExecutionError as error:
        line = f"{error.ename}: {error.evalue}".partition("\n")[0]
        state = "stopped" if STOPPED in line else "failed"
    except Exception as error:  # the kernel died, perhaps for want of memory: no reason to stop the other steps
        line = f"{type(error).__name__}: {error}".partition("\n")[0]
    except KeyboardInterrupt:
        state = "stopped"
        raise
    finally:
        seconds = round(time.time() - started, 1)
        write_json(record_file, record | {"status": state, "seconds": seconds, "error": line, "made": made})
    return state, seconds, line


def _set_stale_aside(folder: Path, plan: Plan, read: dict[str, str]) -> None:
    """Move aside what other code or inputs left in a step's folder, because a notebook keeps what looks like its own.

    A forced step keeps nothing. Parameters are not compared: trainings and evaluations carry stamps of what they were
    made from, and compare those parameters that matter to them.
    """
    record = read_stamp(folder / "step.json")
    if plan.forced:
        _move_aside(plan, folder, record, "forced", None)
    elif "parts" in record:
        why, names = _stale(record, plan.parts, read)
        if why:
            _move_aside(plan, folder, record, why, names)


def _stale(record: dict, now: dict, read: dict[str, str]) -> tuple[str, Sequence[str] | None]:
    """Return why the result of a step is stale, empty when it is not, and the entries to move aside, None for all."""
    before = record["parts"]
    code = list(differences(_code(before), _code(now)))
    inputs = list(differences(before["inputs"], now["inputs"]))
    if before["upstream"] != now["upstream"]:
        inputs += differences(record.get("read", {}), read) if record.get("read") else ["an earlier step"]
    why = ", ".join(["code of " + name.removesuffix(" changed") + " changed" for name in code] + inputs)
    return why, None if code else FILES


def _move_aside(plan: Plan, folder: Path, record: dict, why: str, names: Sequence[str] | None) -> None:
    """Move entries of a step's folder aside, None for all; its record stays, and a copy goes with them."""
    visible = [entry.name for entry in folder.iterdir() if entry.name != "step.json" and not entry.name.startswith(".")]
    if aside := set_aside(folder, why, visible if names is None else names):
        write_json(aside / "step.json", record)
        print(f"{plan.step.name}: what was made before is now in {aside} ({why})", flush=True)


def _code(parts: dict) -> dict:
    return {name: key for name, key in parts["modules"].items() if not name.startswith(PRESENTATION)}
