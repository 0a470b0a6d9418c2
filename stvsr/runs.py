"""What makes a run repeatable: atomic files, seeds, the environment, checkpoints that cannot execute code."""

import contextlib
import dataclasses
import json
import os
import platform
import random
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import IO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from stvsr.errors import InputError

PACKAGES = (
    "torch", "torchvision", "numpy", "papermill", "nbconvert", "jupyterlab", "pandas", "seaborn", "scikit-image", "lpips",
    "av", "opencv-python-headless", "pillow", "safetensors", "scipy", "jinja2",
)  # fmt: skip


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Call `write` with a binary file that becomes `path` only when complete, so that nobody reads a half-written file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_atomic(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically: indented, non-finite numbers refused."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict:
    """Read a JSON file; InputError names it when it is missing or broken."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no JSON: {error}") from None


def as_json(config: object) -> dict:
    """Return a configuration as plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def read_log(path: Path) -> list[dict]:
    """Read a JSON-lines log; a last line cut short by a crash is left out."""
    entries = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            entries.append(json.loads(line))
    return entries


def save_tensors(path: Path, tensors: dict[str, Tensor], meta: dict) -> None:
    """Write tensors (safetensors) with their description inside the file's own header, atomically and as one file."""
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = save(flat, metadata={"stvsr": json.dumps(meta)})
    write_atomic(path, lambda file: file.write(data))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Read what `save_tensors` wrote, or any other safetensors file (whose description is then empty).

    Raises:
        InputError: the file is missing or no safetensors file.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            meta = json.loads((file.metadata() or {}).get("stvsr", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, meta  # noqa: SIM118 (no mapping)
    except FileNotFoundError:
        raise InputError(f"checkpoint {path} does not exist") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"checkpoint {path} cannot be read as safetensors: {error}") from None


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch (CPU and GPU), and ask cuDNN for repeatable algorithms."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def pick_device(name: str = "auto") -> torch.device:
    """Return the named device; `auto` is the GPU when there is one.

    Raises:
        InputError: CUDA is asked for and there is none, or the name is unknown.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"device {name!r} is unknown or not supported: choose auto, cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {name} is not there: choose auto or cpu, or install a CUDA build of PyTorch")
    return device


def environment() -> dict:
    """Return what a manifest says of software and hardware: git, Python, packages, processor, memory, GPU."""
    return {
        "git": git_state(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": dict(_versions()),
        "hardware": hardware(),
    }


def hardware() -> dict:
    """Return processor, cores, memory in GB and GPU's name (or None)."""
    return {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def git_state() -> dict:
    """Return the commit of the source tree and whether it has uncommitted changes; None outside a checkout."""
    root = Path(__file__).resolve().parents[1]
    try:
        run = [subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
               for words in (["rev-parse", "HEAD"], ["status", "--porcelain"], ["rev-parse", "--show-toplevel"])]  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
    inside = Path(run[2]).resolve() == root  # not the repository of somebody who installed the package below theirs
    return {"commit": run[0] if inside else None, "dirty": bool(run[1]) if inside else None}


def _versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            yield package, metadata.version(package)


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
