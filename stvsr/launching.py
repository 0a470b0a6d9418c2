"""Trainings in processes of their own: from a notebook, from the shell, under torchrun; their configuration as JSON."""

import argparse
import dataclasses
import difflib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from stvsr import distributed
from stvsr.assets import digest
from stvsr.errors import InputError
from stvsr.models import weights_file
from stvsr.runs import as_json, read_json, write_json

UNFINISHED = 75  # EX_TEMPFAIL of sysexits: try again
STOPPED = "was stopped before its end and saved a checkpoint"


def from_json(cls: type, value: dict) -> object:
    """Build a configuration dataclass, nested ones too, from plain JSON values.

    Raises:
        InputError: a name is unknown (the nearest is proposed) or a value is of another type.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for name in value:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            raise InputError(f"{cls.__name__} has no {name!r}" + (f": did you mean {near[0]}?" if near else ""))
    return cls(**{name: _typed(cls, fields[name], item) for name, item in value.items()})


def _typed(cls: type, field: dataclasses.Field, item: object) -> object:
    default = field.default
    if dataclasses.is_dataclass(default):
        return from_json(type(default), item)
    if isinstance(default, tuple) and isinstance(item, list):
        return tuple(item)
    if isinstance(default, float) and isinstance(item, int) and not isinstance(item, bool):
        return float(item)
    if type(item) is not type(default):
        raise InputError(f"{cls.__name__}.{field.name} is {item!r}: it must be {type(default).__name__}")
    return item


def launch(module: str, config: object, folder: Path, *, processes: int = 1) -> Path:
    """Train in a process of its own, so that a notebook's kernel stays light and can interrupt it; return the generator's path.

    A finished training of the same configuration, from the same weights, is not repeated. Progress is shown as it comes;
    Ctrl-C (or the notebook's stop button) lets the training save a checkpoint, from which the next call goes on.

    Args:
        module: `stvsr.pretraining` or `stvsr.finetuning`. processes: more than one go through torchrun.

    Raises:
        InputError: the training stopped with an error, whose line is repeated.
    """
    folder = Path(folder)
    result, written, known = folder / "generator.safetensors", folder / "config.json", folder / "identity.json"
    asked, before = identity(config), read_json(known) if known.is_file() else None
    if result.is_file() and before == asked:
        return result
    if written.is_file() and before != asked:
        discard(folder)
    write_json(written, as_json(config))
    write_json(known, asked)
    runner = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *runner, "-m", module, str(folder)]
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}  # threads that spin at barriers starve a machine that is shared
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, env=environment
    )
    last = _follow(child, config)
    if last == STOPPED:
        raise InputError(f"training in {folder} {STOPPED}: run it again to go on")
    if child.returncode:
        raise InputError(f"training in {folder} failed: {last or f'status {child.returncode}'}")
    return result


def identity(config: object) -> dict:
    """Return what a training is told apart by: its configuration, with the hash of the start's weights instead of their place.

    Also by its `definition` where it has one: an arm may be edited under its name.
    """
    start = getattr(config, "start", "")
    file = weights_file(start) if start else None
    return as_json(config) | {"start": digest(file) if file else "", "definition": getattr(config, "definition", {})}


def deadline() -> float:
    """Return the time, seconds since the epoch, at which work is to stop: $STVSR_DEADLINE, which `--minutes` sets."""
    return float(os.environ.get("STVSR_DEADLINE", "inf"))


def discard(folder: Path) -> None:
    """Take away what a training left in its folder, so that the next one starts anew."""
    for name in ("config.json", "identity.json", "generator.safetensors", "checkpoint.safetensors", "log.jsonl"):
        (folder / name).unlink(missing_ok=True)
    for name in ("crops", "tensorboard"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _follow(child: subprocess.Popen, config: object) -> str:
    """Show a training's progress lines as one bar; return what it said of its end.

    That is its own last line that begins with `stvsr: `, else its last line; torchrun adds a page about a failure.
    """
    last = own = ""
    try:
        with tqdm(total=config.optim.steps, unit="step", mininterval=5) as bar:
            for line in child.stdout:
                if line.startswith("progress "):
                    _, step, text = line.rstrip().split(" ", 2)
                    bar.set_postfix_str(text, refresh=False)
                    bar.update(int(step) - bar.n)
                elif line.startswith("stvsr: "):
                    own = line.removeprefix("stvsr: ").strip()
                elif line.strip():
                    last = line.strip()
    except KeyboardInterrupt:
        child.send_signal(signal.SIGINT)
        child.communicate()
        raise
    child.wait()
    return own or last


def main(config_class: type, train: Callable[..., bool]) -> None:
    """Command line of a training module: FOLDER with its config.json, and how many minutes it may take."""
    parser = argparse.ArgumentParser(description=train.__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="run folder with config.json")
    parser.add_argument("--minutes", type=float, default=0, help="stop with a checkpoint after so long (0: no limit)")
    arguments = parser.parse_args()
    if arguments.minutes:
        os.environ["STVSR_DEADLINE"] = str(time.time() + arguments.minutes * 60)
    try:
        done = train(from_json(config_class, read_json(arguments.folder / "config.json")), arguments.folder)
    except (InputError, OSError) as error:
        sys.exit(f"stvsr: {error}")
    finally:
        distributed.leave()
    if not done:
        print(f"stvsr: {STOPPED}", flush=True)
        # torchrun ends the other processes when one has another status than 0, perhaps while it writes the checkpoint
        sys.exit(UNFINISHED if int(os.environ.get("WORLD_SIZE", "1")) == 1 else 0)
