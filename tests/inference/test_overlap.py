"""Decoding and encoding in threads: order, bounds, errors and Ctrl-C."""

import itertools
import signal
import threading
import time

import pytest

from stvsr.inference.overlap import read_ahead, write_behind


def test_items_keep_their_order():
    assert list(read_ahead(range(100), 3)) == list(range(100))
    assert list(read_ahead([], 3)) == []


def test_reading_ahead_is_bounded_and_in_another_thread():
    read, threads = [], set()

    def source():
        for item in range(50):
            read.append(item)
            threads.add(threading.current_thread())
            yield item

    for done, _ in enumerate(read_ahead(source(), 3)):
        time.sleep(0.001)
        assert len(read) - done <= 5
    assert threading.main_thread() not in threads


def test_an_error_of_the_source_arrives_after_the_items_before_it():
    def source():
        yield 1
        yield 2
        raise ValueError("damaged")

    items = read_ahead(source())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="damaged"):
        next(items)


def test_closing_stops_an_endless_source_and_closes_it():
    closed = threading.Event()

    def source():
        try:
            yield from itertools.count()
        finally:
            closed.set()

    items = read_ahead(source(), 2)
    assert next(items) == 0
    items.close()
    assert closed.is_set()


def test_writes_keep_their_order_and_are_complete_on_leaving():
    written = []
    with write_behind(lambda frame, moment: written.append((frame, moment)), 2) as write:
        for item in range(30):
            write(item, item / 25)
    assert written == [(item, item / 25) for item in range(30)]


def test_writing_behind_is_bounded():
    release, entered = threading.Event(), threading.Event()

    def slow(_):
        entered.set()
        release.wait()

    with write_behind(slow, 2) as write:
        write(0)
        entered.wait()
        write(1)
        write(2)  # two calls wait: the queue is full
        blocked = threading.Thread(target=write, args=(3,))
        blocked.start()
        blocked.join(0.05)
        assert blocked.is_alive()
        release.set()
        blocked.join()


def test_an_error_of_a_write_is_raised_and_nothing_is_written_after_it():
    written = []

    def fail(item):
        if item == 3:
            raise OSError("disk full")
        written.append(item)

    with pytest.raises(OSError, match="disk full"), write_behind(fail, 2) as write:
        for item in range(100):
            write(item)
    assert written == [0, 1, 2]
    with pytest.raises(OSError, match="disk full"), write_behind(fail, 2) as write:
        write(3)  # the last call: the error is raised on leaving


def test_ctrl_c_on_leaving_waits_for_what_is_queued():
    written = []

    def slow(item):
        if item == 0:
            signal.raise_signal(signal.SIGINT)  # handled by the main thread, which waits for this one
        time.sleep(0.01)
        written.append(item)

    with pytest.raises(KeyboardInterrupt), write_behind(slow, 4) as write:
        for item in range(4):
            write(item)
    count = len(written)
    assert count >= 1 and written == list(range(count))
    time.sleep(0.05)
    assert len(written) == count  # the thread has ended
