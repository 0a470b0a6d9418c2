"""Copy the sound of a video file, packet by packet: no second lossy encoding."""

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av

from stvsr.errors import InputError
from stvsr.video.packets import open_container, packets, time_of, timed_streams
from stvsr.video.tracks import names_of

FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
TRIED = 8  # packets of every stream that are written to try a container


class AudioCopy:
    """Carry the audio packets of a file over, unchanged, with each track's language, title and disposition.

    Args:
        source: video file whose audio streams are copied; every one of them.
        start, stop: seconds on the file's own clock; packets that begin outside are left out. None is open.
        offset: seconds subtracted from every time.
    """

    def __init__(
        self,
        source: Path,
        *,
        start: Fraction | None = None,
        stop: Fraction | None = None,
        offset: Fraction = Fraction(0),
    ) -> None:
        self._source = Path(source)
        self._container = open_container(self._source)
        self._start, self._stop, self._offset = start, stop, offset
        self._outputs: dict[int, av.AudioStream] = {}
        self._packets = self._read(self._container)
        self._waiting: av.Packet | None = None

    @property
    def names(self) -> list[str]:
        """Codec names, empty for a silent file."""
        contexts = [stream.codec_context for stream in self._container.streams.audio]
        return [context.codec.canonical_name if context else "unknown codec" for context in contexts]

    def check(self, suffix: str) -> None:
        """Write the first packets into memory, to learn before hours of work whether the container takes the sound.

        Raises:
            InputError: it does not; another container is proposed only when it does.
        """
        problem = self._problem(suffix)
        if problem is not None:
            others = (other for other in (".mkv", ".mov", ".mp4") if other != suffix and self._problem(other) is None)
            other = next((f"write {other}, or " for other in others), "")
            names = ", ".join(self.names)
            raise InputError(f"audio ({names}) cannot be copied into {suffix}: {other}give --no-audio") from problem

    def attach(self, container: av.container.OutputContainer) -> None:
        """Announce the streams to the container, before its first packet."""
        self._outputs = _add_streams(self._container, container)

    def until(self, time: Fraction | None) -> Iterator[av.Packet]:
        """Yield the packets that begin at or before `time`, output clock; all that are left for None."""
        while self._outputs:
            packet, self._waiting = self._waiting or next(self._packets, None), None
            if packet is None:
                return
            assert packet.pts is not None  # `_read` gives every packet a time
            if time is not None and packet.pts * packet.time_base > time:
                self._waiting = packet
                return
            packet.stream = self._outputs[packet.stream_index]
            yield packet

    def close(self) -> None:
        """Close the source."""
        self._container.close()

    def _problem(self, suffix: str) -> Exception | None:
        """Return why the container does not take the sound, None when it does."""
        try:
            with open_container(self._source) as source, av.open(io.BytesIO(), "w", format=FORMATS[suffix]) as sink:
                outputs = _add_streams(source, sink)
                counts = dict.fromkeys(outputs, 0)
                sink.start_encoding()
                for packet in self._read(source):
                    counts[packet.stream_index] += 1
                    packet.stream = outputs[packet.stream_index]
                    sink.mux(packet)
                    if min(counts.values()) >= TRIED or sum(counts.values()) > TRIED * 100:
                        break
        except (av.FFmpegError, OSError, ValueError) as error:
            return error
        return None

    def _read(self, container: av.container.InputContainer) -> Iterator[av.Packet]:
        """Yield the packets in range, their times shifted to the output clock and growing in every stream."""
        last: dict[int, int] = {}
        ends: dict[int, Fraction] = {}
        for packet in self._demuxed(container):
            index, tick = packet.stream.index, packet.time_base
            time = time_of(packet)
            if time is None:  # a container without times: each packet follows the one before
                time = ends.get(index, Fraction(0))
                packet.pts = packet.dts = round(time / tick)
            ends[index] = time + (packet.duration or 0) * tick
            if (self._start is not None and time < self._start) or (self._stop is not None and time >= self._stop):
                continue
            shift = round(self._offset / tick)
            ticks = packet.pts if packet.dts is None else packet.dts
            assert ticks is not None  # else `time_of` returned None, and both were set
            decoded = ticks - shift
            packet.dts = max(decoded, last.get(index, decoded - 1) + 1)  # joined recordings may overlap by a packet
            packet.pts = max((packet.dts if packet.pts is None else packet.pts - shift), packet.dts)
            last[index] = packet.dts
            yield packet

    def _demuxed(self, container: av.container.InputContainer) -> Iterator[av.Packet]:
        """Yield the packets of sound; the stream of pictures is read too where it sets the clock of joined parts."""
        sound = {stream.index for stream in container.streams.audio}
        if not sound:
            return
        joined = container.format.name in ("mpegts", "mpeg")
        streams = timed_streams(container) if joined else container.streams.audio
        for packet in packets(container, streams, self._start):
            if packet.stream.index in sound and packet.size:
                yield packet


def _add_streams(
    source: av.container.InputContainer, target: av.container.OutputContainer
) -> dict[int, av.AudioStream]:
    """Announce every audio stream of a file to a container; ValueError when one does not fit."""
    outputs = {}
    for stream in source.streams.audio:
        outputs[stream.index] = output = target.add_stream_from_template(stream)
        output.metadata.update(names_of(stream))
        output.disposition = stream.disposition
    return outputs
