"""Packets of a video file: opened by path alone, on one continuous clock, from a moment on, with losses noticed."""

import errno
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av

from stvsr.errors import InputError, first_line

JOINED = ("mpegts", "mpeg")  # recordings of these are joined by writing one file after another
BACKWARD = Fraction(1, 10)  # seconds by which decoding times may step back before a clock counts as restarted
FORWARD = 10  # seconds that a stream may pause before its clock counts as restarted
INDEXED = ("mov", "matroska")  # containers whose index finds a key frame reliably
MARGIN = 10  # seconds before the wanted moment at which reading begins there
MOST_WAITING = 1000  # packets kept while a key frame is looked for
NOT_VIDEO = {"tty": "text", "concat": "a list of other files", "hls": "a playlist of other files",
             "dash": "a playlist of other files", "sdp": "a description of a stream"}  # fmt: skip


def open_container(path: Path) -> av.container.InputContainer:
    """Open a file for reading; a colon in its name is part of the name.

    Raises:
        InputError: the file cannot be read as video, or is a list of other files, which would be read unnoticed.
    """
    try:
        name = str(path.absolute())  # a relative a:b.mp4 would name a protocol
        container = av.open(name, metadata_errors="replace", options={"protocol_whitelist": "file"})
    except (OSError, av.FFmpegError, ValueError) as error:
        busy = isinstance(error, OSError) and error.errno == errno.EBUSY  # Y4M's reader means its header
        why = "its header is not valid" if busy else reason(error)
        if path.is_file() and not path.stat().st_size:
            why = "it is empty"
        raise InputError(f"{path} cannot be read as video: {why}") from error
    for kind in container.format.name.split(","):
        if kind in NOT_VIDEO:
            container.close()
            raise InputError(f"{path} is {NOT_VIDEO[kind]}, not a video: give the video itself")
    return container


def reason(error: Exception) -> str:
    """Return an error of PyAV or the system in a few words."""
    return getattr(error, "strerror", None) or first_line(error)


def timed_streams(container: av.container.InputContainer) -> list[av.stream.Stream]:
    """Return the streams of picture and sound; others (chapters, timecode, telemetry) keep clocks of their own."""
    return [stream for stream in container.streams if stream.type in ("video", "audio")]


def time_of(packet: av.Packet) -> Fraction | None:
    """Return when a packet is to be shown or heard, in seconds; None for the empty one that ends a stream."""
    ticks = packet.dts if packet.pts is None else packet.pts
    return None if ticks is None else ticks * packet.time_base


def packets(
    container: av.container.InputContainer, streams: Sequence[av.stream.Stream], start: Fraction | None = None
) -> Iterator[av.Packet]:
    """Yield the packets of `streams`, on one continuous clock, ending with an empty packet per stream.

    Args:
        start: where an index exists, begin up to `MARGIN` seconds before this moment instead of at the beginning.

    Raises:
        av.FFmpegError, OSError: the container is damaged.
    """
    clock = _Clock() if container.format.name in JOINED else None
    if start is not None and start > 2 * MARGIN and any(name in container.format.name for name in INDEXED):
        container.seek(int((start - MARGIN) * av.time_base))
    for packet in container.demux(tuple(streams)):
        if clock is not None:
            clock.adjust(packet)
        yield packet


def from_key_frame(demuxed: Iterator[av.Packet], video: int, start: Fraction, *, whole: bool) -> Iterator[av.Packet]:
    """Leave out the video packets that a decoder does not need for the pictures from `start` on.

    No seek is trusted: many containers have no index, and pictures around an open group's key frame need the group
    before. Packets are kept back from each key frame until one beyond `start` shows that no later key frame will do.

    Args:
        demuxed: packets of all streams; `whole` tells whether from the file's beginning.
        video: index of the video stream.
        start: seconds, on the packets' clock.

    Raises:
        LookupError: reading began after the key frame that is needed.
    """
    waiting: list[av.Packet] = []
    found = whole
    for packet in demuxed:
        if packet.stream.index != video:
            yield packet
            continue
        time = time_of(packet)
        if packet.is_keyframe and time is not None and time <= start:
            waiting, found = [], True
        waiting.append(packet)
        if time is None or time > start or len(waiting) > MOST_WAITING:
            break
    if not found:
        raise LookupError
    yield from waiting
    yield from demuxed


class _Clock:
    """One continuous clock over joined recordings, each of which starts its own clock.

    A stream whose decoding times jump enters the next part; the first stream to enter a part decides where it begins:
    where all streams of the part before have ended.
    """

    def __init__(self) -> None:
        self._shifts = [Fraction(0)]  # of every part
        self._end = Fraction(0)  # of all streams so far
        self._parts: dict[int, int] = {}  # stream -> its part
        self._times: dict[int, Fraction] = {}  # stream -> decoding time of its last packet

    def adjust(self, packet: av.Packet) -> None:
        """Shift a packet's times."""
        time = time_of(packet)
        if time is None:
            return
        index, tick = packet.stream.index, packet.time_base
        part, last = self._parts.get(index, 0), self._times.get(index)
        decoded = None if packet.dts is None else packet.dts * tick
        while last is not None and decoded is not None:
            if last - BACKWARD <= decoded + self._shifts[part] <= last + FORWARD:
                break
            part += 1
            if part == len(self._shifts):
                self._shifts.append(self._end - time)
                break
        shift = self._shifts[part]
        packet.pts = None if packet.pts is None else packet.pts + round(shift / tick)
        packet.dts = None if packet.dts is None else packet.dts + round(shift / tick)
        self._parts[index] = part
        if decoded is not None:
            self._times[index] = decoded + shift
        self._end = max(self._end, time + shift + (packet.duration or 0) * tick)
