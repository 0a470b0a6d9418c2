"""The end of a run by Ctrl-C, SIGTERM or SIGHUP, which all act alike, and the end of the process that started it."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import psutil

PARENT = os.getppid()  # at the start: an orphan gets another parent
ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
LAUNCHER = "STVSR_LAUNCHER"  # environment variable: process ids whose end also ends a training


class Ended(KeyboardInterrupt):
    """A signal ended the run. `status` is the exit status that shells expect."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Raise `Ended` at the first ending signal and ignore the next ones, so that tidying up is not cut short.

    Signals that were ignored before (nohup) stay ignored. Outside the main thread, which alone receives signals, this
    does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received = []

    def end(number: int, _: object) -> None:
        received.append(number)
        if len(received) == 1:
            raise Ended(number)

    with handled(end):
        yield


@contextlib.contextmanager
def handled(handler: Callable[[int, FrameType | None], object], *, even_ignored: bool = False) -> Iterator[None]:
    """Set a handler for the ending signals and restore the previous ones afterwards.

    Signals that are ignored stay ignored. `even_ignored` excludes SIGHUP only (nohup): a shell in the background has
    Ctrl-C ignored in all that it starts, and a launched training must still hear it from its launcher.
    """
    before = {number: signal.getsignal(number) for number in ENDING}
    hangup = getattr(signal, "SIGHUP", None)
    numbers = [n for n in ENDING if before[n] is not signal.SIG_IGN or (even_ignored and n != hangup)]
    for number in numbers:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])


class Launchers:
    """Processes that a training must not outlive: those in $STVSR_LAUNCHER, and torchrun where it started this one."""

    def __init__(self) -> None:
        numbers = [int(number) for number in os.environ.get(LAUNCHER, "").split(",") if number.isdecimal()]
        if "TORCHELASTIC_RUN_ID" in os.environ:
            numbers.append(PARENT)
        self.missing = False
        self.processes = []
        for number in numbers:
            try:
                self.processes.append(psutil.Process(number))
            except psutil.NoSuchProcess:
                self.missing = True

    def gone(self) -> bool:
        """Return whether one of them has ended."""
        return self.missing or any(not _runs(process) for process in self.processes)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False
