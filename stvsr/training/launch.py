"""Trainings in processes of their own: from a notebook, from the shell, under torchrun; their configuration as JSON."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from stvsr.errors import InputError
from stvsr.models.generators import weights_file
from stvsr.runs.deadline import STOPPED, UNFINISHED
from stvsr.runs.files import as_json, from_json, read_json, write_json
from stvsr.runs.hashes import digest
from stvsr.training import distributed


def launch(module: str, config: object, folder: Path, *, processes: int = 1) -> Path:
    """Train in a process of its own, so that a notebook's kernel stays light and can interrupt it; return the generator's path.

    A finished training of the same configuration, from the same weights, is not repeated. Progress is shown as it
    comes; Ctrl-C (or the notebook's stop button) lets the training save a checkpoint, from which the next call goes on.

    Args:
        module: `stvsr.training.pretraining` or `stvsr.training.finetuning`. processes: more than one go through
        torchrun.

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
    environment = {
        "OMP_WAIT_POLICY": "PASSIVE",
        **os.environ,
    }  # threads that spin at barriers starve a machine that is shared
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
