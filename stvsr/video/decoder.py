"""Video files, decoded one frame at a time with their times; damage is counted, and what is good is kept."""

import heapq
import io
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.codec.context import Flags as CodecFlags
from av.codec.context import ThreadType
from av.video.reformatter import VideoReformatter
from PIL import Image

from stvsr.errors import InputError
from stvsr.video.colour import HDR_TRANSFERS, Colour, colour_of, to_rgb
from stvsr.video.frames import BrokenClip, FrameReader
from stvsr.video.matroska import is_cut_off
from stvsr.video.packets import from_key_frame, open_container, packets, reason, time_of, timed_streams
from stvsr.video.pictures import ON_BLACK, on_black
from stvsr.video.stills import FOLDER_RATE
from stvsr.video.tracks import read_tracks, side_data

ANNOUNCING = ("mov", "matroska")  # containers whose announced duration is not a guess
MISSING = Fraction(1, 2)  # seconds a file may end before the length it announces; audio and video seldom end together
EVERY_PACKET_A_FRAME = ("h264", "hevc", "mpeg2video")  # unless interlaced: a packet may then hold one of two fields
# EXIF orientation -> (swap the axes, then mirror left and right, then top and bottom)
ORIENTATIONS = {2: (False, True, False), 3: (False, True, True), 4: (False, False, True), 5: (True, False, False),
                6: (True, True, False), 7: (True, True, True), 8: (True, False, True)}  # fmt: skip
UPRIGHT = (False, False, False)


class VideoReader(FrameReader):
    """A video file."""

    def __init__(self, path: Path, *, strict: bool = False) -> None:
        super().__init__(path)
        self._strict = strict
        self._damage = _Damage("")  # of the latest iteration
        self._untimed = False  # AVI has no presentation times, and libavformat's guesses are wrong for H.264
        self._turn: tuple[bool, bool, bool] | None = None  # EXIF's rotation of Motion JPEG
        self._reformatter = VideoReformatter()
        with open_container(path) as container:
            stream = _video_stream(container, path)
            self._describe(container, stream)

    def _stills(self, first: Fraction) -> Iterator[tuple[Fraction, av.VideoFrame]]:
        for attempt in (first, None):  # with the help of the index, then from the beginning
            try:
                with open_container(self.path) as container:
                    yield from self._decode(container, first, attempt)
                return
            except LookupError:
                continue

    def _decode(
        self, container: av.container.InputContainer, first: Fraction, seek: Fraction | None
    ) -> Iterator[tuple[Fraction, av.VideoFrame]]:
        """Yield (time, frame) from the key frame before `first` on; a frame without a time follows the one before."""
        assert self.rate is not None
        stream = _video_stream(container, self.path)
        self._damage = damage = _Damage(stream.codec_context.name)
        decode = _decoder(stream)
        demuxed = packets(container, timed_streams(container), seek)
        if first > self.origin and not self._untimed:
            demuxed = from_key_frame(demuxed, stream.index, first, whole=seek is None)
        time, end, shown, step = self.origin - 1 / self.rate, Fraction(0), None, 1 / self.rate
        moments: list[Fraction] = []  # decoding times that no frame has been shown at, a heap
        try:
            for packet in demuxed:
                end = max(end, (time_of(packet) or Fraction(0)) + (packet.duration or 0) * packet.time_base)
                damage.gaps += packet.is_corrupt
                if packet.stream.index != stream.index:
                    continue
                frames = damage.counted(packet, decode)
                if self._untimed and frames is not None and packet.dts is not None:
                    heapq.heappush(moments, packet.dts * packet.time_base)
                for frame in frames or ():
                    time = time + 1 / self.rate if frame.pts is None else _seconds(frame.pts, frame.time_base)
                    if moments:  # the n-th frame shown has the n-th decoding time
                        time = heapq.heappop(moments)
                    step = frame.duration * frame.time_base if frame.duration and frame.time_base else 1 / self.rate
                    if time >= first and frame.is_corrupt:
                        damage.shown += 1
                    shown = time
                    yield time, frame
        except (OSError, av.FFmpegError) as error:
            self._add_damage(damage, whole=first <= self.origin)
            raise self._broken(damage.frames, end, reason(error)) from error
        self._add_damage(damage, whole=first <= self.origin)
        announced = self.seconds if any(name in container.format.name for name in ANNOUNCING) else None
        if announced is not None and end - self.begins + MISSING < announced and is_cut_off(self.path):
            raise self._broken(damage.frames, end, f"it announces {float(announced):.1f} s")
        if shown is not None:
            self.ends = shown + step if announced is None else self._last_end(container, stream, shown + step)

    def _last_end(self, container: av.container.InputContainer, stream: av.VideoStream, end: Fraction) -> Fraction:
        """Return when the last picture leaves the screen, where a file announces it for the whole stream only."""
        assert self.rate is not None and self.seconds is not None
        announced = [] if self.has_audio else [self.begins + self.seconds]
        if stream.duration is not None:
            announced.append(_seconds((stream.start_time or 0) + stream.duration, stream.time_base))
        latest = max(announced, default=end)
        return latest if latest - end > 1 / self.rate else end  # less is rounding

    def _broken(self, frames: int, end: Fraction, why: str) -> BrokenClip:
        whole = max(0.0, float(end - self.origin) - float(MISSING))
        remedy = f": --duration {whole:.1f} keeps what is whole" if whole >= 0.1 else ""
        return BrokenClip(f"{self.path} is damaged or cut off after frame {frames} ({why}){remedy}")

    def _left(self) -> None:
        self._add_damage(self._damage, whole=False)

    def _add_damage(self, damage: "_Damage", *, whole: bool) -> None:
        for line in damage.notes(whole=whole):
            if self._strict:
                raise InputError(f"{self.path}: {line}: --strict refuses that")
            self._note(line)

    def _rgb(self, still: av.VideoFrame) -> np.ndarray:
        assert self.colour is not None
        pixels = to_rgb(still, self.colour, self._reformatter)
        if pixels.shape[-1] == 4:
            if pixels[..., 3].min() < 255:
                self._note(ON_BLACK)
            pixels = on_black(pixels)
        return _orient(pixels, self._turn or _rotation(still))

    def _describe(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        packet, frame = _first_frame(container, stream, self.path)
        if stream.codec_context.name == "mjpeg":
            self._turn = _exif_rotation(packet)
        turned, _, _ = self._turn or _rotation(frame)
        self.size = (frame.width, frame.height) if turned else (frame.height, frame.width)
        self.length = stream.frames or None
        self.rate = Fraction(stream.average_rate or stream.guessed_rate or FOLDER_RATE)
        self.time_base = stream.time_base
        self.colour = colour_of(frame)
        aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
        self.aspect = 1 / aspect if turned else aspect
        self.seconds = None if container.duration is None else Fraction(container.duration, av.time_base)
        self.begins = Fraction(container.start_time or 0, av.time_base)
        self.origin = self.begins if frame.pts is None else _seconds(frame.pts, frame.time_base)
        self._untimed = container.format.name == "avi"
        if self._untimed and packet.dts is not None:
            self.origin = packet.dts * packet.time_base
        self.has_audio = bool(container.streams.audio)
        self.tracks = read_tracks(container, stream, frame)
        self.notes = _notes(frame, self.colour)


class _Damage:
    """Count what does not decode.

    Attributes:
        frames: frames that can be shown. shown: those of them that are damaged and in the wanted range.
        gaps: packets of pictures and sound at which the container reports an error.
    """

    def __init__(self, codec: str) -> None:
        self._one_each = codec in EVERY_PACKET_A_FRAME
        self._packets = self._refused = 0
        self._begun = False
        self.frames = self.shown = self.gaps = 0

    def counted(self, packet: av.Packet, decode: av.VideoCodecContext) -> list[av.VideoFrame] | None:
        """Return a packet's frames; None where it does not decode, which is counted.

        Frames that need others from before the stream's first key frame are left out.
        """
        if packet.size and not packet.is_discard:
            self._packets += 1
        try:
            frames = decode.decode(packet)
        except av.EOFError:
            return []
        except (OSError, av.FFmpegError):
            self._refused += 1
            return None
        if not self._begun:
            frames = list(itertools.dropwhile(lambda frame: frame.is_corrupt and not frame.key_frame, frames))
            self._begun = bool(frames)
        self._one_each &= not any(frame.interlaced_frame for frame in frames)
        self.frames += len(frames)
        return frames

    def notes(self, *, whole: bool) -> Iterator[str]:
        """Yield what was lost; `whole`: from the beginning, where each packet should have given a frame."""
        missing = max(self._refused, self._packets - self.frames) if whole and self._one_each else self._refused
        if missing:
            yield f"damaged video: {missing} of {self._packets} frames could not be decoded and are missing"
        if self.shown:
            yield f"damaged video: {self.shown} frames were decoded with errors"
        if self.gaps:
            yield f"the container reports gaps at {self.gaps} places: damage, or where recordings were joined"


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    stream = container.streams.best("video")
    if stream is None:
        raise InputError(f"{path} has no video stream")
    if stream.codec_context is None:
        raise InputError(f"{path}: this PyAV has no decoder for its video: convert it with another program first")
    assert isinstance(stream, av.VideoStream)
    stream.thread_type = ThreadType.SLICE  # threads over frames would lose good frames next to a damaged one
    stream.codec_context.flags |= CodecFlags.output_corrupt  # a concealed error is better than a hole
    return stream


def _decoder(stream: av.VideoStream) -> av.VideoCodecContext:
    """Return the stream's decoder; for VP8 and VP9 with transparency the one that knows it."""
    name = stream.codec_context.name
    if name in ("vp8", "vp9") and stream.metadata.get("alpha_mode") == "1":
        library: Literal["libvpx", "libvpx-vp9"] = "libvpx" if name == "vp8" else "libvpx-vp9"
        if library in av.codecs_available:
            return av.CodecContext.create(library, "r")
    return stream.codec_context


def _seconds(ticks: int, time_base: Fraction | None) -> Fraction:
    assert time_base is not None  # FFmpeg gives every time its unit
    return ticks * time_base


def _first_frame(
    container: av.container.InputContainer, stream: av.VideoStream, path: Path
) -> tuple[av.Packet, av.VideoFrame]:
    """Return the stream's first packet and first frame."""
    damage, first, decode = _Damage(""), None, _decoder(stream)
    try:
        for packet in packets(container, [stream]):
            first = first or packet
            frames = damage.counted(packet, decode)
            if frames:
                return first, frames[0]
    except (OSError, av.FFmpegError) as error:
        raise InputError(f"{path} cannot be read as video: {reason(error)}") from error
    raise InputError(f"{path} holds no frame")


def _notes(frame: av.VideoFrame, colour: Colour) -> list[str]:
    depth = max(component.bits for component in frame.format.components)
    notes = [f"{depth}-bit video is reduced to 8 bits"] if depth > 8 else []
    if colour.transfer in HDR_TRANSFERS:
        notes.append(f"{HDR_TRANSFERS[colour.transfer]} (HDR) is kept and tagged, but 8 bits will show bands")
    if frame.interlaced_frame:
        notes.append("interlaced video is not deinterlaced: both fields of a frame are upscaled together")
    return notes


def _rotation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """Read the display matrix: (swap the axes, then mirror left and right, then top and bottom)."""
    data = side_data(frame).get("DISPLAYMATRIX")
    if data is None:
        return UPRIGHT
    # x' = a x + c y, y' = b x + d y, in 16.16 fixed point, stored a b u c d v x y w
    a, b, _, c, d = np.frombuffer(data, np.int32)[:5].tolist()
    turned = abs(b) > abs(a)
    return (True, c < 0, b < 0) if turned else (False, a < 0, d < 0)


def _exif_rotation(packet: av.Packet) -> tuple[bool, bool, bool] | None:
    """Read the orientation in a JPEG's EXIF; None where there is none."""
    try:
        with Image.open(io.BytesIO(bytes(packet))) as image:
            return ORIENTATIONS.get(image.getexif().get(0x0112, 1))
    except (OSError, ValueError, SyntaxError):
        return None


def _orient(frame: np.ndarray, rotation: tuple[bool, bool, bool]) -> np.ndarray:
    turned, mirror, flip = rotation
    frame = frame.swapaxes(0, 1) if turned else frame
    frame = frame[:, ::-1] if mirror else frame
    return np.ascontiguousarray(frame[::-1] if flip else frame)
