"""Write environment.yml: the direct dependencies at the versions that requirements.txt pins, for conda users."""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "3.11"
HEAD = f"""\
# Made by `make pins` from pyproject.toml and requirements.txt; a test compares them.
# conda env create -f environment.yml && conda activate stvsr
# pip install --no-deps --require-hashes -r assets.txt && pip install --no-deps -e .
name: stvsr
channels: [conda-forge]
dependencies:
  - python={PYTHON}
  - pip
  - pip:
"""


def pinned(requirements: str) -> dict[str, str]:
    """Return name -> version of requirements.txt for Python 3.11 (later Pythons have separate lines)."""
    pins = re.findall(r"^([a-z0-9-]+)==(\S+)(?: ; ([^\\\n]+))?", requirements, re.MULTILINE)
    return {
        name: version for name, version, marker in pins if ">= '3.12'" not in marker and "== '3.12.*'" not in marker
    }


def direct(project: dict) -> list[str]:
    """Return the names of the dependencies that pyproject.toml lists, those of tests and development included."""
    extras = project["project"]["optional-dependencies"]
    lines = project["project"]["dependencies"] + extras["test"] + extras["dev"]
    return [re.match(r"[A-Za-z0-9-]+", line).group().lower() for line in lines]


def environment(root: Path = ROOT) -> str:
    """Return the text of environment.yml."""
    versions = pinned((root / "requirements.txt").read_text())
    names = direct(tomllib.loads((root / "pyproject.toml").read_text()))
    return HEAD + "".join(f"      - {name}=={versions[name]}\n" for name in names)


if __name__ == "__main__":
    sys.stdout.write(environment())
