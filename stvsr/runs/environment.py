"""Software and hardware of a run: git state, packages, processor, memory, GPU."""

import contextlib
import os
import platform
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import torch

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "papermill",
    "nbconvert",
    "jupyterlab",
    "pandas",
    "seaborn",
    "scikit-image",
    "lpips",
    "av",
    "opencv-python-headless",
    "pillow",
    "safetensors",
    "scipy",
    "jinja2",
)


def environment() -> dict:
    """Return the software and hardware for a manifest: git, Python, packages, processor, memory, GPU."""
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
    root = Path(__file__).resolve().parents[2]
    try:
        commit, changes, top = (
            subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"], ["rev-parse", "--show-toplevel"])
        )
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
    if Path(top).resolve() != root:  # the package was installed inside another repository
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(changes)}


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
