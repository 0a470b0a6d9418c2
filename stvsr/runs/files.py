"""Files of a run: written completely or not at all, read with one clear line for what is wrong."""

import contextlib
import dataclasses
import difflib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, uint8

from stvsr.errors import InputError


def write_atomic(path: Path, write: Callable[[IO[bytes]], object], *, durable: bool = True) -> None:
    """Call `write` with a binary file that becomes `path` only when complete: nobody reads a half-written file.

    Args:
        path: the file; its folder is made.
        write: writes the content.
        durable: wait until the disk has it, so that a power failure leaves the old file or the new one. Files that can
            be made again do without.

    Raises:
        InputError: the file cannot be written, for example because the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        if durable:
            _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise _unwritable(path, error) from error
        raise


def _unwritable(path: Path, error: OSError) -> InputError:
    remedy = "free space on its disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "choose another folder"
    return InputError(f"{path} cannot be written ({error.strerror or error}): {remedy}")


def _sync_folder(folder: Path) -> None:
    """Make a rename in a folder survive a power failure; file systems that cannot are left alone."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_leftovers(path: Path) -> None:
    """Delete the temporary files of writes to `path` that were killed; only its lock's holder may call this."""
    for leftover in path.parent.glob(f".{path.name}.????????"):
        leftover.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically; a byte of a file's name that is not UTF-8 is written as an escape."""
    write_atomic(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def write_json(path: Path, value: object) -> None:
    """Write JSON atomically: indented, non-finite numbers refused."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_text(path: Path) -> str:
    """Read UTF-8 text.

    Raises:
        InputError: the file is missing, cannot be read or is not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"{path} cannot be read: {error}") from None


def read_json(path: Path, kind: type = dict) -> Any:
    """Read a JSON file that holds an object, or a list where `kind` is list.

    Raises:
        InputError: the file is missing, is not valid JSON, or holds something else.
    """
    try:
        value = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, kind):
        wanted = "a list" if kind is list else "an object"
        raise InputError(f"{path} holds {type(value).__name__}, it must hold {wanted}")
    return value


def as_json(config: Any) -> dict:
    """Return a configuration as plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def read_log(path: Path) -> list[dict]:
    """Read a JSON-lines log; lines that are not an entry with a `step`, as a crash leaves them, are left out."""
    entries = []
    for line in read_text(path).splitlines():
        with contextlib.suppress(json.JSONDecodeError, RecursionError):
            entry = json.loads(line)
            if isinstance(entry, dict) and type(entry.get("step")) is int:
                entries.append(entry)
    return entries


def save_tensors(path: Path, tensors: dict[str, Tensor], meta: dict) -> None:
    """Write tensors (safetensors) with their description and a checksum in the file's own header, atomically."""
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = save(flat, metadata={"stvsr": json.dumps(meta), "sha256": _checksum(flat, meta)})
    write_atomic(path, lambda file: file.write(data))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Read what `save_tensors` wrote, or any other safetensors file (whose description is then empty).

    Raises:
        InputError: the file is missing, is not a safetensors file, or differs from its checksum.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = file.metadata() or {}
            meta = json.loads(header.get("stvsr", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except FileNotFoundError:
        raise InputError(f"checkpoint {path} does not exist") from None
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise InputError(f"checkpoint {path} cannot be read as safetensors: {error}") from None
    if not isinstance(meta, dict):
        raise InputError(f"checkpoint {path} describes itself by {type(meta).__name__}, it must be an object")
    if "sha256" in header and header["sha256"] != _checksum(tensors, meta):
        raise InputError(f"checkpoint {path} is damaged: its content differs from its checksum")
    return tensors, meta


def _checksum(tensors: dict[str, Tensor], meta: dict) -> str:
    """Return the SHA-256 of a description and of all tensors with their names, types and shapes."""
    found = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        if tensor.numel():
            found.update(tensor.contiguous().reshape(-1).view(uint8).numpy().data)
    return found.hexdigest()


def from_json(cls: type, value: object) -> object:
    """Build a configuration dataclass, nested ones too, from plain JSON values.

    Raises:
        InputError: a name is unknown (the nearest is proposed) or a value is of another type.
    """
    if not isinstance(value, dict):
        raise InputError(f"{cls.__name__} is {value!r}: it must be an object")
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
