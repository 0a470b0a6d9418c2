"""Seeded random kills and damaged inputs: `python tests/torture.py [--kills 300] [--inputs 500] [--seed 0]`.

Kills: a tiny training is killed at random moments by random signals and resumed until it ends; its weights and log must
equal those of the uninterrupted run, bit for bit. Inputs: every kind of file that the study reads is damaged in every
way below; each must give the same result as before, be made again, or be refused in one line that names the file.
Prints how many were tried and survived, and every failure with the seed that repeats it. Exit status 1 on a failure.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent / "helpers"))
import tiny

from stvsr.data.clips import load_clips
from stvsr.data.decoded import decoded
from stvsr.errors import InputError
from stvsr.models.generators import build_generator, load_generator, save_generator
from stvsr.runs.files import as_json, load_tensors, read_log, write_json
from stvsr.runs.stamp import make_stamp
from stvsr.study import study_file
from stvsr.study.plan import make_plans
from stvsr.study.study_file import load_study
from stvsr.training.checkpoint import Checkpoint
from stvsr.training.distributed import Rank
from stvsr.training.launch import identity, is_finished, read_config
from stvsr.training.pretraining import PretrainingConfig, pretrain

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
KILLS_OF_ONE = 10  # times a training is killed at most, before it is left to end
LIMIT = 30  # seconds for one input; more is a hang
LIMIT_OF_TRAINING = 240  # the same for a training
CONTEXT = multiprocessing.get_context("forkserver")


# ---- kills


def kill(root: Path, kills: int, seed: int) -> list[str]:
    """Kill trainings so often in all; return the failures."""
    # trainings are forked from a process that has only imported: a fork of this one could wait for a thread it lacks.
    # The first optimiser imports torch._dynamo, which takes several times as long as a training: once, before the forks
    CONTEXT.set_forkserver_preload([__name__, "torch._dynamo"])
    data = tiny.write_clips(root / "clips")
    failures, done, number, start = [], 0, 0, time.monotonic()
    while done < kills:
        rng = random.Random(f"{seed}/{number}")
        config = tiny.pretraining(data, steps=rng.randint(4, 12), save_every=rng.randint(1, 4), seed=number % 3)
        whole, run = root / f"whole-{number}", root / f"run-{number}"
        began = time.monotonic()
        _train(config, whole, None, rng)
        seconds = time.monotonic() - began
        for _ in range(KILLS_OF_ONE):
            if _train(config, run, rng.uniform(0, 0.8 * seconds), rng):
                break
            done += 1
        else:
            _train(config, run, None, rng)
        if difference := _compare(whole, run):
            failures.append(f"kills, seed {seed}, training {number}: {difference}")
        shutil.rmtree(whole, ignore_errors=True)
        shutil.rmtree(run, ignore_errors=True)
        number += 1
    seconds = time.monotonic() - start
    print(f"kills: {done} in {number} trainings, {number - len(failures)} ended as if uninterrupted, {seconds:.0f} s")
    return failures


def _train(config: PretrainingConfig, folder: Path, delay: float | None, rng: random.Random) -> bool:
    """Train in a process of its own, killed after `delay` seconds; return whether it ended by itself, complete."""
    folder.mkdir(exist_ok=True)
    child = CONTEXT.Process(target=_train_quietly, args=(config, folder))
    child.start()
    if delay is not None:
        time.sleep(delay)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, rng.choice(SIGNALS))
    child.join(LIMIT_OF_TRAINING)
    if child.is_alive():
        child.kill()
        raise TimeoutError(f"a training in {folder} hangs")
    return child.exitcode == 0


def _train_quietly(config: PretrainingConfig, folder: Path) -> None:
    """Train without a word; exit with 0 when it is complete."""
    torch.set_num_threads(1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    sys.exit(0 if pretrain(config, folder) else 75)


def _compare(whole: Path, run: Path) -> str:
    """Return how an interrupted run differs from an uninterrupted one; empty when it does not."""
    try:
        ours, theirs = (load_tensors(folder / "generator.safetensors")[0] for folder in (run, whole))
        logs = [[{**entry, "seconds": 0} for entry in read_log(folder / "log.jsonl")] for folder in (run, whole)]
    except InputError as error:
        return str(error)
    if any(not torch.equal(ours[name], theirs[name]) for name in theirs):
        return "other weights"
    return "" if logs[0] == logs[1] else "another log"


# ---- damaged inputs


def _flip(content: bytes, rng: random.Random) -> bytes:
    if not content:
        return b"\x01"
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]


def _zeros(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(max(1, len(content) - 64))
    return content[:place] + bytes(min(64, len(content) - place)) + content[place + 64 :]


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "one bit": _flip,
    "64 zeros": _zeros,
    "cut": lambda content, rng: content[: rng.randrange(max(1, len(content)))],
    "empty": lambda content, rng: b"",
    "inverted": lambda content, rng: bytes(255 - byte for byte in content),
    "noise": lambda content, rng: rng.randbytes(200),
    "longer": lambda content, rng: content + rng.randbytes(9),
    "swapped halves": lambda content, rng: content[len(content) // 2 :] + content[: len(content) // 2],
    "not UTF-8": lambda content, rng: b"\xff\xfe" + content,
    "NUL": lambda content, rng: b"\0" + content,
    "null": lambda content, rng: b"null",
    "a number": lambda content, rng: b"3",
    "a list": lambda content, rng: b"[1, 2]",
    "an object": lambda content, rng: b'{"steps": [], "status": 3, "step": -1}',
    "deep": lambda content, rng: b"[" * 50_000,
}
PLACES = ("missing", "folder", "loop of links")  # what may stand in a file's place


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of file: how it is read, and whether a result other than before may come of damage.

    `read` returns a comparable value. `strict`: content carries a checksum, so that another value is a silent fault.
    """

    file: Path
    read: Callable[[], object]
    strict: bool = False


def corrupt(root: Path, inputs: int, seed: int) -> list[str]:
    """Read damaged files so often; return the failures."""
    kinds = _kinds(root)
    expected = {name: kind.read() for name, kind in kinds.items()}
    ways = [*DAMAGES, *PLACES]
    outcomes: dict[str, int] = {}
    failures = []
    for number in range(inputs):
        name = list(kinds)[number % len(kinds)]
        way = ways[number // len(kinds) % len(ways)]
        rng = random.Random(f"{seed}/{number}")
        outcome, detail = _one(root, kinds[name], way, rng, expected[name])
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        if outcome not in ("as before", "made again or refused as a whole", "one line", "another valid value"):
            failures.append(f"inputs, seed {seed}, number {number}, {name}, {way}: {outcome}: {detail}")
    counts = ", ".join(f"{count} {what}" for what, count in sorted(outcomes.items()))
    print(f"inputs: {inputs} of {len(kinds)} kinds: {counts}")
    return failures


def _one(root: Path, kind: Kind, way: str, rng: random.Random, expected: object) -> tuple[str, str]:
    """Damage one file, read it, restore everything; return the outcome and, for a failure, its last line."""
    backup = root.parent / f"{root.name}-backup"
    shutil.rmtree(backup, ignore_errors=True)
    shutil.copytree(root, backup, symlinks=True)
    try:
        _damage(kind.file, way, rng)
        return _read(kind, expected)
    finally:
        shutil.rmtree(root)
        backup.rename(root)


def _damage(file: Path, way: str, rng: random.Random) -> None:
    content = file.read_bytes()
    if way in DAMAGES:
        file.write_bytes(DAMAGES[way](content, rng))
        return
    file.unlink()
    if way == "folder":
        file.mkdir()
    elif way == "loop of links":
        file.symlink_to(file)


def _read(kind: Kind, expected: object) -> tuple[str, str]:
    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            value = kind.read()
    except InputError as error:
        line = str(error)
        named = kind.file.name in line or kind.file.parent.name in line or kind.file.stem in line
        if "\n" in line.strip():
            return "several lines", line
        return ("one line", "") if named else ("a line without the file", line)
    except TimeoutError:
        return "a hang", ""
    except BaseException:
        return "a traceback", traceback.format_exc().strip().splitlines()[-1]
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    if value == expected:
        return "as before", ""
    if value == AGAIN:
        return "made again or refused as a whole", ""
    return ("a silent fault", repr(value)[:80]) if kind.strict else ("another valid value", "")


AGAIN = "again"


def _kinds(root: Path) -> dict[str, Kind]:
    """Write one file of every kind and return how each is read."""
    root.mkdir(parents=True)
    os.environ["STVSR_CACHE"] = str(root / "cache")
    clips = tiny.write_clips(root / "clips")
    video = tiny.write_video(root / "film.mp4", tiny.panning(12))
    config = tiny.pretraining(clips, steps=10)
    generator = root / "weights.safetensors"
    save_generator(generator, build_generator("rbpn-tiny"))
    alone = Rank(index=0, world=1, device=torch.device("cpu"))

    def checkpoint() -> object:
        module = torch.nn.Linear(2, 1)
        step = Checkpoint(root / "run", config, {"g": module}, {}, alone).load()
        if step in (0, 3):  # from the one before or from the beginning, both with a line
            return AGAIN
        return [step, module.weight.tolist()]

    for step in (3, 6):
        module = torch.nn.Linear(2, 1)
        Checkpoint(root / "run", config, {"g": module}, {}, alone).save(step)
    finished = root / "finished"
    finished.mkdir()
    shutil.copyfile(generator, finished / "generator.safetensors")
    write_json(finished / "identity.json", make_stamp(identity(config), finished, ["generator.safetensors"]))
    write_json(root / "config.json", as_json(config))
    (root / "log.jsonl").write_text(
        "".join(json.dumps({"step": k, "seconds": k, "pixel": 0.1}) + "\n" for k in range(9))
    )

    def cached() -> object:
        decoded.cache_clear()
        return int(np.asarray(decoded(video, 1.0).frames).astype(np.uint64).sum())

    def trained() -> object:
        return is_finished(config, finished) or AGAIN

    cached()
    study, steps = _study(root)
    return {
        "checkpoint": Kind(file=root / "run/checkpoint.safetensors", read=checkpoint, strict=True),
        "generator": Kind(file=generator, read=lambda: _weights(generator), strict=True),
        "identity": Kind(file=finished / "identity.json", read=trained, strict=True),
        "trained weights": Kind(file=finished / "generator.safetensors", read=trained, strict=True),
        "config": Kind(file=root / "config.json", read=lambda: read_config(PretrainingConfig, root)),
        "log": Kind(file=root / "log.jsonl", read=lambda: read_log(root / "log.jsonl")),
        "cached frames": Kind(file=next((root / "cache").glob("*.npy")), read=cached, strict=True),
        "cache note": Kind(file=next((root / "cache").glob("*.json")), read=cached, strict=True),
        "frame": Kind(file=clips / "clip0/004.png", read=lambda: load_clips(str(clips / "clip0"))[0].frames().tolist()),
        "video": Kind(file=video, read=lambda: load_clips(str(video))[0].frames().tolist()),
        "study": Kind(file=study, read=lambda: list(_load(study, root).steps)),
        "step record": Kind(
            file=steps / "a/step.json", read=lambda: make_plans(_load(study, root))["a"].reason or AGAIN
        ),
        "step result": Kind(
            file=steps / "a/metrics.csv",
            read=lambda: AGAIN if make_plans(_load(study, root))["a"].run else "unchanged",
            strict=True,
        ),
    }


def _weights(path: Path) -> float:
    return sum(value.double().sum().item() for value in load_generator(path)[0].state_dict().values())


def _load(study: Path, root: Path) -> study_file.Study:
    return load_study(str(study), root / "out")


def _study(root: Path) -> tuple[Path, Path]:
    """Write a study of one step that is done, with a result."""
    from studies import notebook

    study_file.NOTEBOOKS = root / "notebooks"
    notebook(root / "notebooks" / "work.ipynb")
    path = root / "one.toml"
    path.write_text('title = "One"\n[[steps]]\nid = "a"\nnotebook = "work"\nparameters = {times = 3}\n')
    plan = make_plans(_load(path, root))["a"]
    folder = root / "out" / "steps" / "a"
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("clip,value\na,1\n")
    made = make_stamp(None, folder, ["metrics.csv"])["made"]
    write_json(folder / "step.json", {"key": plan.key, "parts": plan.parts, "status": "done", "made": made})
    return path, folder.parent


def main() -> int:
    """Run both and print the failures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--inputs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        failures = corrupt(Path(folder) / "inputs", arguments.inputs, arguments.seed)
        failures += kill(Path(folder), arguments.kills, arguments.seed)
    print("\n".join(failures) or "no failure")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
