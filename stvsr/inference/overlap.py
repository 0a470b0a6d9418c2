"""Decoding and encoding in threads of their own while the network computes: bounded queues, order kept."""

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
DEPTH = 4  # frames in each queue
POLL = 0.1  # seconds after which a thread that waits for room looks whether it is still needed


def read_ahead(items: Iterable[Item], depth: int = DEPTH) -> Generator[Item, None, None]:
    """Yield `items` in order; a thread reads at most `depth` + 1 of them ahead.

    An exception of `items` is raised here, after the items before it. Closing this generator stops the thread and
    closes `items`.
    """
    ready: queue.Queue = queue.Queue(depth)
    stop, done = threading.Event(), threading.Event()

    def put(entry: tuple) -> bool:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(entry, timeout=POLL)
                return True
        return False

    def work() -> None:
        source = iter(items)
        try:
            for item in source:
                if not put((item, False, None)):
                    return
            put((None, True, None))
        except BaseException as error:
            put((None, True, error))
        finally:
            if hasattr(source, "close"):
                source.close()
            done.set()

    threading.Thread(target=work, name="read-ahead", daemon=True).start()
    try:
        while True:
            item, is_last, error = ready.get()
            if error is not None:
                raise error
            if is_last:
                return
            yield item
    finally:
        stop.set()
        _uninterrupted(done.wait)


@contextlib.contextmanager
def write_behind(write: Callable[..., None], depth: int = DEPTH) -> Iterator[Callable[..., None]]:
    """Give a function that queues calls of `write`; a thread makes them in order, at most `depth` behind.

    Leaving the context waits for the calls that are queued, also after Ctrl-C. An exception of `write` is raised by the
    next call or on leaving; later calls are dropped.
    """
    waiting: queue.Queue = queue.Queue(depth)
    failures: list[BaseException] = []
    done = threading.Event()

    def work() -> None:
        while (arguments := waiting.get()) is not None:
            if not failures:
                try:
                    write(*arguments)
                except BaseException as error:
                    failures.append(error)
        done.set()

    def put(*arguments: object) -> None:
        if failures:
            raise failures[0]
        waiting.put(arguments)

    threading.Thread(target=work, name="write-behind", daemon=True).start()
    try:
        yield put
    finally:
        # Event.wait, not Thread.join: Python 3.11 considers a thread ended when its join was interrupted
        _uninterrupted(lambda: waiting.put(None), done.wait)
    if failures:
        raise failures[0]


def _uninterrupted(*waits: Callable[[], object]) -> None:
    """Make every call, again when Ctrl-C interrupts it, and raise KeyboardInterrupt afterwards."""
    interruption = None
    for wait in waits:
        is_over = False
        while not is_over:
            try:
                wait()
                is_over = True
            except KeyboardInterrupt as error:
                interruption = error
    if interruption is not None:
        raise interruption
