"""Every pinned package with its version and licence: `make licences`.

Exit status 1 when an installed package has no pin, another version than its pin, or no licence in its metadata.
"""

import re
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OWN = {"stvsr", "pip", "setuptools"}  # this package, and what an environment brings along
VAGUE = {"", "unknown", "other/proprietary license"}


def pins(*texts: str) -> dict[str, set[str]]:
    """Return name -> the versions that requirements files pin (one for each Python, or for each platform)."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", "\n".join(texts), re.MULTILINE):
        found.setdefault(normal(name), set()).add(version)
    return found


def normal(name: str) -> str:
    """Return a package's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(package: Distribution) -> str:
    """Return a package's licence: the SPDX expression, else the classifiers, else the first line of the old field."""
    metadata = package.metadata
    classifiers = [
        text.split(" :: ")[-1] for text in metadata.get_all("Classifier") or [] if text.startswith("License")
    ]
    old = (metadata.get("License") or "").strip().splitlines()
    candidates = [metadata.get("License-Expression") or "", ", ".join(classifiers), old[0][:60] if old else ""]
    named = next((text for text in candidates if text.lower() not in (*VAGUE, "osi approved")), "")
    files = package.files or ()
    if not named and all(".dist-info" in str(file.parent) for file in files):
        return "nothing to license: it only requires others"
    return named or next((f"see {file}" for file in files if "licen" in file.name.lower()), "")


def table(packages: Iterable[Distribution], pinned: dict[str, set[str]]) -> tuple[list[str], list[str]]:
    """Return one line per package, and one per fault."""
    rows, faults = [], []
    for package in sorted(packages, key=lambda package: normal(package.name)):
        name, versions = normal(package.name), pinned.get(normal(package.name), set())
        if name in OWN:
            continue
        said = licence(package)
        state = "pinned" if package.version.partition("+")[0] in versions else "NOT PINNED"
        rows.append(f"{name:32s} {package.version:16s} {state:11s} {said or 'UNKNOWN'}")
        if state != "pinned":
            faults.append(f"{name} {package.version} is not pinned (pins: {', '.join(sorted(versions)) or 'none'})")
        if not said:
            faults.append(f"{name} names no licence in its metadata")
    return rows, faults


def main() -> int:
    """Print the table of this environment, then its faults."""
    texts = [(ROOT / name).read_text() for name in ("requirements.txt", "assets.txt")]
    rows, faults = table(distributions(), pins(*texts))
    print("\n".join(rows))
    print("\n".join(faults) or f"{len(rows)} packages, all pinned, all with a licence", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
