"""What makes a run repeatable: atomic files, seeds, the environment, checkpoints that cannot execute code."""

import contextlib
import dataclasses
import difflib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from stvsr.errors import InputError


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
