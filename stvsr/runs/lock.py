"""Locks: one process at a time works in a folder or on an output. A process that died holds none."""

import contextlib
import errno
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from filelock import FileLock, Timeout

from stvsr.errors import InputError

LONGEST_NAME = 240  # bytes; file systems allow 255, and the lock's name has six more
UNSUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextlib.contextmanager
def locked(path: Path, what: str, *, wait: float = 1.0) -> Iterator[None]:
    """Hold the lock file `path` while the block runs. A file system without locks is named once and not locked.

    Args:
        path: the lock file; it is removed at the end.
        what: what is locked, for the error's line.
        wait: seconds to wait for another process to end.

    Raises:
        InputError: another process holds the lock; the line names it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False, fallback_to_soft=False)
    held = True
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        raise InputError(f"{what} is in use by {_holder(path)}: wait until it has ended, or end it") from None
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in UNSUPPORTED:
            raise InputError(f"{what} cannot be written ({error.strerror}): choose another place") from None
        held = False
        print(f"note: {what} cannot be locked on this file system: do not start a second run there", file=sys.stderr)
    try:
        if held:
            command = shlex.join(os.path.basename(word) if os.path.isabs(word) else word for word in sys.argv)
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            holder = f"process {os.getpid()} on {socket.gethostname()} since {now} ({command[:200]})\n"
            path.write_text(holder, "utf-8", errors="backslashreplace")
        yield
    finally:
        if held:
            path.unlink(
                missing_ok=True
            )  # before the release: whoever holds the old file next finds it gone and retries
            lock.release()


def lock_beside(output: Path) -> Path:
    """Return the lock file of an output file or folder that may not exist yet."""
    encoded = os.fsencode(output.name)
    name = output.name if len(encoded) <= LONGEST_NAME else sha256(encoded).hexdigest()
    return output.parent / f".{name}.lock"


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if text := path.read_text(encoding="utf-8").strip():
            return text
    return "another process"
