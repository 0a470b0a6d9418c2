"""Trainings in processes of their own: from a notebook, from the shell, under torchrun; their configuration as JSON."""

import argparse
import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from stvsr.errors import InputError
from stvsr.models.generators import weights_file
from stvsr.runs.deadline import STOPPED, UNFINISHED
from stvsr.runs.files import as_json, from_json, read_json, remove_leftovers, write_json
from stvsr.runs.hashes import digest, hash_of
from stvsr.runs.lock import locked
from stvsr.runs.set_aside import set_aside
from stvsr.runs.signals import LAUNCHER
from stvsr.runs.stamp import make_stamp, read_stamp, why_stale
from stvsr.training import distributed
from stvsr.training.left_out import LEFT_OUT, left_out

CONFIG, IDENTITY, GENERATOR, LOG = "config.json", "identity.json", "generator.safetensors", "log.jsonl"
CHECKPOINT, CHECKPOINT_BEFORE = "checkpoint.safetensors", "checkpoint-before.safetensors"
CHECKPOINT_NEW = "checkpoint-new.safetensors"  # for a moment, while the others are renamed
BEST = "best.safetensors"
FILES = (
    GENERATOR, BEST, "checkpoint*.safetensors*", LOG, LEFT_OUT, "crops", "tensorboard", CONFIG, IDENTITY,
)  # fmt: skip
# how a training runs and what it shows, and an arm's prose (`stvsr.arms.PROSE`): they do not change the result.
# `skip_damaged` changes it only where something was left out, which `is_finished` looks at
NOT_IDENTITY = (
    "workers", "skip_damaged", "accumulate", "recompute", "log_every", "save_every", "validate_every", "crops_every",
    "keep_checkpoints", "keep_best", "device",
    "label", "kind", "description", "twin",
)  # fmt: skip
START = ("initial_weights",)  # settings that name weights to begin with
PORT = 29400  # where the machines of a training meet
INTERRUPTED = 15  # seconds for a training to save a checkpoint after a signal


def launch(module: str, config: Any, folder: Path, *, processes: int = 1, nodes: int = 1) -> Path:
    """Train in a separate process, so that a notebook's kernel stays light and can interrupt it.

    A finished training with the same identity is not repeated. One with another identity is moved aside, and a line
    says what differs. Progress is shown as it comes; Ctrl-C (or the notebook's stop button) lets the training save a
    checkpoint, from which the next call resumes, with any number of processes and workers.

    Args:
        module: `stvsr.training.pretraining` or `stvsr.training.finetuning`.
        config: what is trained.
        folder: where results go.
        processes: on each node; more than one run under torchrun.
        nodes: machines, on all of which `node_command` starts torchrun; they share the folder and the data.

    Returns:
        The path of the trained generator.

    Raises:
        InputError: the training stopped with an error, whose line is repeated, or another process works in the folder.
    """
    folder = Path(folder)
    with locked(folder / ".launch.lock", f"training folder {folder}"):
        if is_finished(config, folder):
            return folder / GENERATOR
        write_json(folder / CONFIG, as_json(config))
        write_json(folder / IDENTITY, make_stamp(identity(config)))
        child = subprocess.Popen(
            _command(module, folder, processes, nodes),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            env=_environment(nodes),
        )
        last = _follow(child, config)
        if last == STOPPED:
            raise InputError(f"training in {folder} {STOPPED}: run it again to continue")
        if child.returncode:
            raise InputError(f"training in {folder} failed: {last or f'status {child.returncode}'}")
    return folder / GENERATOR


def is_finished(config: Any, folder: Path) -> bool:
    """Return whether a folder holds the finished training of a configuration; move another training in it aside."""
    why = why_stale(stamp := read_stamp(folder / IDENTITY), asked := identity(config), folder)
    left = [entry for entry in left_out(folder) if not config.data.skip_damaged]
    why = why or (f"{len(left)} samples with damaged frames were left out" if left else "")
    if not why and (folder / GENERATOR).is_file() and stamp["made"]:
        return True
    same = stamp.get("made_from") == asked
    if same and not why:  # unfinished, or killed while it finished: the checkpoint has the state
        return False
    with locked(folder / ".training.lock", f"training folder {folder}", wait=INTERRUPTED):
        names = (GENERATOR,) if same and not left and (folder / CHECKPOINT).is_file() else FILES
        if aside := set_aside(folder, why, names):
            print(f"note: what was trained in {folder} is now in {aside.name}: {why}", flush=True)
    return False


def identity(config: object) -> dict:
    """Return what identifies a training: its configuration without what cannot change its result.

    Files (start weights, the user's own networks) are identified by their hash instead of their place, an arm by its
    parameters.
    """
    files: dict[str, str] = {}
    for name, value in vars(config).items():
        if isinstance(value, str) and value:
            path = weights_file(value) if name in START else Path(value)
            with contextlib.suppress(OSError, ValueError):
                files |= {name: digest(path)} if path and path.is_file() else {}
    return _without(as_json(config), NOT_IDENTITY) | files


def _without(value: Any, names: tuple[str, ...]) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: _without(item, names) for name, item in value.items() if name not in names}


def node_command(nodes: int) -> list[str]:
    """Return the command that starts another one on each of several machines: $STVSR_NODE_COMMAND, or Slurm's."""
    command = os.environ.get("STVSR_NODE_COMMAND", "srun --nodes={nodes} --ntasks={nodes} --ntasks-per-node=1")
    return [part.replace("{nodes}", str(nodes)) for part in shlex.split(command)]


def _command(module: str, folder: Path, processes: int, nodes: int) -> list[str]:
    """Return the command of a training; its machines meet at $STVSR_RENDEZVOUS, by default on the first one."""
    torchrun = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    training = ["-m", module, str(folder)]
    if nodes > 1:
        meeting = os.environ.get("STVSR_RENDEZVOUS", f"{socket.gethostname()}:{PORT}")
        torchrun += [f"--nnodes={nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint={meeting}"]
        return [*node_command(nodes), sys.executable, *torchrun, f"--rdzv-id={hash_of(str(folder))[:12]}", *training]
    return [sys.executable, *([*torchrun, "--standalone"] if processes > 1 else []), *training]


def _environment(nodes: int) -> dict[str, str]:
    """Return the environment of a training: it ends with this process, or with the command that starts its nodes."""
    if nodes > 1:  # on other machines the number of this process means nothing
        return {name: value for name, value in os.environ.items() if name != LAUNCHER}
    launchers = [*filter(None, os.environ.get(LAUNCHER, "").split(",")), str(os.getpid())]
    passive = {"OMP_WAIT_POLICY": "PASSIVE"}  # threads that spin at barriers starve a machine that is shared
    return passive | os.environ | {LAUNCHER: ",".join(launchers)}


def _follow(child: subprocess.Popen, config: Any) -> str:
    """Show a training's progress lines as one bar and its notes as they come; return its last message.

    That is its own last line that begins with `stvsr: `, else its last line. torchrun adds a page about a failure, of
    which only the process that died first matters.
    """
    last = own = ""
    assert child.stdout is not None  # a pipe, by `launch`
    try:
        with tqdm(total=config.optim.steps, unit="step", mininterval=5) as bar:
            for line in child.stdout:
                if line.startswith("progress "):
                    _, step, text = line.rstrip().split(" ", 2)
                    bar.set_postfix_str(text, refresh=False)
                    bar.update(int(step) - bar.n)
                elif line.startswith("note: "):
                    bar.write(line.rstrip())
                elif line.startswith("stvsr: "):
                    own = line.removeprefix("stvsr: ").strip()
                elif died := re.search(r"exitcode +: (-?\d+) \(pid: (\d+)\)", line):
                    own = own or _death(int(died[1]), died[2])
                elif line.strip():
                    last = line.strip()
    except KeyboardInterrupt:
        child.send_signal(signal.SIGINT)
        child.communicate()
        raise
    child.wait()
    return own or last


def _death(status: int, pid: str) -> str:
    if status >= 0:
        return ""
    return f"process {pid} was killed by {signal.Signals(-status).name} (perhaps out of memory): run it again to resume"


def read_config(config_class: type, folder: Path) -> Any:
    """Return the configuration in a training's folder; InputError names the file."""
    value = read_json(folder / CONFIG)
    try:
        return from_json(config_class, value)
    except InputError as error:
        raise InputError(f"{folder / CONFIG}: {error}") from None


def main(config_class: type, train: Callable[..., bool]) -> None:
    """Command line of a training module: FOLDER with its config.json, and how many minutes it may take."""
    assert train.__doc__ is not None
    parser = argparse.ArgumentParser(description=train.__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="run folder with config.json")
    parser.add_argument("--minutes", type=float, default=0, help="stop with a checkpoint after so long (0: no limit)")
    arguments = parser.parse_args()
    if arguments.minutes:
        os.environ["STVSR_DEADLINE"] = str(time.time() + arguments.minutes * 60)
    if LAUNCHER in os.environ:
        sys.stdout, sys.stderr = _Surviving(sys.stdout), _Surviving(sys.stderr)
    try:
        config = read_config(config_class, arguments.folder)
        with _alone(arguments.folder):
            done = train(config, arguments.folder)
    except (InputError, OSError) as error:
        sys.exit(f"stvsr: {error}")
    finally:
        distributed.leave()
    if not done:
        print(f"stvsr: {STOPPED}", flush=True)
        # torchrun ends the other processes when one has another status than 0, perhaps while it writes the checkpoint
        sys.exit(UNFINISHED if int(os.environ.get("WORLD_SIZE", "1")) == 1 else 0)


class _Surviving:
    """A text stream that drops its text once nobody reads it, so that a training whose launcher died can still save."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(BrokenPipeError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let only one training work in a folder: the first of its processes holds the lock for all."""
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    # a training whose launcher was killed still saves its checkpoint
    with locked(folder / ".training.lock", f"training folder {folder}", wait=INTERRUPTED):
        for name in (CHECKPOINT_NEW, GENERATOR, BEST):
            remove_leftovers(folder / name)
        yield
