"""Write frames to a video file or a folder, so that a name either holds everything or does not exist.

Everything is written under a hidden name beside the target and renamed when it is complete. An error removes it. Ctrl-C
closes what is there as `<name>.partial<suffix>`, which plays.
"""

import contextlib
import io
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

from stvsr.errors import InputError
from stvsr.video.colour import Colour, from_rgb

CODECS = {".mp4": "libx264", ".mov": "libx264", ".mkv": "libx264", ".webm": "libvpx-vp9"}
LARGEST_SIDE = 16384  # pixels, of H.264's highest level in libx264 and of VP9 in libvpx
LOSSLESS_SUFFIXES = (".png", ".webp")
IMAGE_SUFFIXES = (*LOSSLESS_SUFFIXES, ".jpg", ".jpeg")


class _Output:
    """A target that is written under a temporary name; subclasses write frames and close."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self.path = Path(path)
        self.written = 0
        if not self.path.parent.is_dir():
            raise InputError(f"folder {self.path.parent} does not exist: create it first")
        if not overwrite and self.path.exists() and not _empty_folder(self.path):
            raise InputError(f"{self.path} exists: give another name or --overwrite")
        _check_replaceable(self.path)
        self._temporary = self.path.with_name(f".{self.path.stem}.{os.getpid()}{self.path.suffix}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _traceback: object) -> None:
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        keep = kind is None or (interrupted and self.written > 0)
        try:
            if keep:
                self._close()
                self.path = self.partial if interrupted else self.path
                if self.path.is_dir():
                    _remove(self.path)
                self._temporary.replace(self.path)
        except OSError as failure:
            raise InputError(f"cannot write {self.path}: {failure.strerror or failure}") from None
        finally:
            self._abandon()
            _remove(self._temporary)

    @property
    def partial(self) -> Path:
        """Where Ctrl-C leaves what is done."""
        return self.path.with_name(f"{self.path.stem}.partial{self.path.suffix}")

    def _close(self) -> None:
        raise NotImplementedError

    def _abandon(self) -> None:
        """Free what `_close` would have freed; called always, and harmless after `_close`."""


class FolderWriter(_Output):
    """Write frames as images into a folder: `with FolderWriter(path) as out: out.write(frame)`.

    Args:
        names: file stems; by default 000, 001, ...
        suffix: `.png` or `.webp`, both lossless.

    Raises:
        InputError: the target exists and is not empty, its parent does not exist, the suffix is another, or the disk is
        full.
    """

    def __init__(
        self, path: Path, *, names: Iterable[str] | None = None, suffix: str = ".png", overwrite: bool = False
    ) -> None:
        super().__init__(path, overwrite=overwrite)
        if suffix not in LOSSLESS_SUFFIXES:
            raise InputError(f"frames cannot be written as {suffix!r}: choose from {', '.join(LOSSLESS_SUFFIXES)}")
        self._names = iter(names) if names is not None else (f"{index:03d}" for index in itertools.count())
        self._suffix = suffix
        with _one_line(self.path):
            _remove(self._temporary)
            self._temporary.mkdir()

    def write(self, frame: np.ndarray, time: Fraction | None = None) -> None:
        """Add one uint8 (H, W, 3) RGB frame; a folder has no clock, `time` is ignored."""
        encoded = io.BytesIO()  # so that an interruption never leaves half an image
        options = {"compress_level": 3} if self._suffix == ".png" else {"lossless": True, "quality": 50}
        Image.fromarray(frame).save(encoded, self._suffix[1:], **options)
        with _one_line(self.path):
            (self._temporary / f"{next(self._names)}{self._suffix}").write_bytes(encoded.getbuffer())
        self.written += 1

    def _close(self) -> None:
        pass


class VideoWriter(_Output):
    """Write an H.264 (mp4, mov, mkv) or VP9 (webm) video: `with VideoWriter(path, rate, size) as out: out.write(frame)`.

    Even sizes become yuv420p, which everything plays; odd ones yuv444p, because halved chroma needs even sides.

    Args:
        rate: frames per second; also the clock of frames written without a time.
        size: (H, W) of every frame.
        crf: constant quality of the encoder, 0 (lossless in H.264) to 51; 18 is visually transparent.
        colour: matrix, range and tags; BT.709 limited by default.
        time_base: unit of the times given to `write`, seconds; one frame by default.
        aspect: width of a pixel over its height.
        audio: packets to carry over, an `AudioCopy`.
        options: more of the encoder's own options, such as `{"threads": "1"}`.

    Raises:
        InputError: container or size cannot be had, the encoder is missing, the target exists, or the disk is full.
    """

    def __init__(
        self, path: Path, rate: Fraction | float, size: tuple[int, int], crf: int = 18, *, colour: Colour | None = None,
        time_base: Fraction | None = None, aspect: Fraction | None = None, audio: "AudioCopy | None" = None,
        options: Mapping[str, str] | None = None, overwrite: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(path, overwrite=overwrite)
        _check_video(self.path, size, crf)
        self._size = size
        self._colour = colour or Colour()
        self._rate = Fraction(rate).limit_denominator(1_000_000)
        self._time_base = time_base or 1 / self._rate
        self._last: int | None = None
        self._reformatter = VideoReformatter()
        self._audio, self._options = audio, dict(options or {})
        with _one_line(self.path):
            self._container = _open_container(self._temporary)
            try:
                self._stream = self._add_video(crf, aspect)
                if audio is not None:
                    audio.attach(self._container)
            except BaseException:
                self.__exit__(InputError, None, None)
                raise

    def write(self, frame: np.ndarray, time: Fraction | None = None) -> None:
        """Add one uint8 (H, W, 3) RGB frame shown from `time`, seconds; by default one frame after the one before."""
        if frame.shape[:2] != self._size:
            height, width = self._size
            raise InputError(
                f"{self.path}: frame {self.written} is {frame.shape[1]}x{frame.shape[0]}, the video {width}x{height}"
            )
        time = Fraction(self.written) / self._rate if time is None else time
        tick = round(time / self._time_base)
        self._last = tick if self._last is None else max(tick, self._last + 1)  # players need time to move forward
        picture = from_rgb(frame, self._stream.pix_fmt, self._colour, self._reformatter)
        picture.pts, picture.time_base = self._last, self._time_base
        with _one_line(self.path):
            if self._audio is not None:
                self._container.mux(list(self._audio.until(time)))
            self._container.mux(self._stream.encode(picture))
        self.written += 1

    def _add_video(self, crf: int, aspect: Fraction | None) -> av.VideoStream:
        codec = CODECS[self.path.suffix.lower()]
        options = {"crf": str(crf)} | ({"b": "0", "row-mt": "1", "cpu-used": "4"} if codec == "libvpx-vp9" else {})
        stream = self._container.add_stream(codec, rate=self._rate, options=options | self._options)
        stream.height, stream.width = self._size
        stream.pix_fmt = "yuv444p" if any(side % 2 for side in self._size) else "yuv420p"
        stream.time_base = stream.codec_context.time_base = self._time_base
        context = stream.codec_context
        context.colorspace, context.color_range = self._colour.tag, int(self._colour.range)
        context.color_primaries, context.color_trc = self._colour.primaries, self._colour.transfer
        if aspect:
            context.sample_aspect_ratio = aspect
        return stream

    def _close(self) -> None:
        self._container.mux(self._stream.encode())
        if self._audio is not None:
            self._container.mux(list(self._audio.until(None)))
        self._container.close()

    def _abandon(self) -> None:
        with contextlib.suppress(OSError):  # the error that brought us here is already on its way
            self._container.close()
        if self._audio is not None:
            self._audio.close()


class AudioCopy:
    """Carry the audio packets of a file over, unchanged: no second lossy encoding.

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
        self._container = av.open(str(source))
        self._start, self._stop, self._offset = start, stop, offset
        self._outputs: dict[int, av.AudioStream] = {}
        self._packets = self._read()
        self._waiting: av.Packet | None = None

    @property
    def names(self) -> list[str]:
        """Codec names, empty for a silent file."""
        return [stream.codec_context.name for stream in self._container.streams.audio]

    def check(self, suffix: str) -> None:
        """Write the header of an empty file in memory, to learn before hours of work whether the container takes the codecs.

        Raises:
            InputError: it does not.
        """
        sink = av.open(io.BytesIO(), "w", format=FORMATS[suffix])
        try:
            self._add_streams(sink)
            sink.start_encoding()
            sink.close()
        except (av.FFmpegError, ValueError) as error:
            names = ", ".join(self.names)
            raise InputError(
                f"audio ({names}) cannot be copied into {suffix}: write .mkv, or give --no-audio"
            ) from error

    def attach(self, container: av.container.OutputContainer) -> None:
        """Announce the streams to the container, before its first packet."""
        self._outputs = self._add_streams(container)

    def until(self, time: Fraction | None) -> Iterator[av.Packet]:
        """Yield the packets that begin at or before `time`, output clock; all that are left for None."""
        while self._outputs:
            packet, self._waiting = self._waiting or next(self._packets, None), None
            if packet is None:
                return
            if time is not None and packet.pts * packet.time_base > time:
                self._waiting = packet
                return
            packet.stream = self._outputs[packet.stream_index]
            yield packet

    def close(self) -> None:
        """Close the source."""
        self._container.close()

    def _add_streams(self, container: av.container.OutputContainer) -> dict[int, av.AudioStream]:
        return {stream.index: container.add_stream_from_template(stream) for stream in self._container.streams.audio}

    def _read(self) -> Iterator[av.Packet]:
        """Yield the packets in range, their times shifted to the output clock."""
        streams = self._container.streams.audio
        if streams and self._start is not None:
            self._container.seek(int(self._start * av.time_base))
        for packet in self._container.demux(streams) if streams else ():
            if packet.pts is None:
                continue  # the empty packet that ends a stream
            time = packet.pts * packet.time_base
            if (self._start is None or time >= self._start) and (self._stop is None or time < self._stop):
                shift = round(self._offset / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, None if packet.dts is None else packet.dts - shift
                yield packet


def write_frames(
    folder: Path | str,
    frames: Iterable[np.ndarray],
    *,
    names: Iterable[str] | None = None,
    suffix: str = ".png",
    overwrite: bool = False,
) -> int:
    """Write uint8 (H, W, 3) frames into a new folder, one image each, and return how many; `overwrite` replaces old frames.

    Raises:
        InputError: as `FolderWriter`; nothing is left behind then.
    """
    with FolderWriter(folder, names=names, suffix=suffix, overwrite=overwrite) as out:
        for frame in frames:
            out.write(frame)
    return out.written


def write_video(
    path: Path,
    frames: Iterable[np.ndarray],
    rate: Fraction | float,
    *,
    crf: int = 18,
    options: Mapping[str, str] | None = None,
) -> Path:
    """Write uint8 (H, W, 3) frames of one size as a video, replacing what is there, and return its path.

    Raises:
        InputError: as `VideoWriter`, or there is no frame.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise InputError(f"{path}: a video needs at least one frame")
    with VideoWriter(path, rate, first.shape[:2], crf, options=options, overwrite=True) as out:
        for frame in itertools.chain([first], frames):
            out.write(frame)
    return out.path


def is_video_name(path: Path | str) -> bool:
    """Tell a video's name from a frame folder's, which has no suffix or ends in a slash.

    Raises:
        InputError: the suffix is that of no container written here.
    """
    suffix = Path(path).suffix.lower()
    if str(path).endswith(("/", os.sep)) or not suffix or Path(path).is_dir():
        return False
    if suffix not in CODECS:
        raise InputError(
            f"{path}: {suffix} is no output format: choose {', '.join(CODECS)}, or a folder's name with a slash at its end"
        )
    return True


FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}


def _open_container(path: Path) -> av.container.OutputContainer:
    fragment = {"movflags": "+faststart"} if path.suffix.lower() in (".mp4", ".mov") else {}  # plays while it downloads
    return av.open(str(path), "w", format=FORMATS[path.suffix.lower()], options=fragment)


def _check_video(path: Path, size: tuple[int, int], crf: int) -> None:
    if not is_video_name(path):
        raise InputError(f"{path} names no video: end it in {', '.join(CODECS)}")
    codec = CODECS[path.suffix.lower()]
    if codec not in av.codecs_available:
        raise InputError(
            f"this PyAV has no {codec} encoder: install PyAV's own wheel (pip install av), or write a frame folder"
        )
    if max(size) > LARGEST_SIDE:
        raise InputError(
            f"{path}: {size[1]}x{size[0]} is beyond {codec}'s {LARGEST_SIDE} pixels a side: write a frame folder"
        )
    if not 0 <= crf <= 51:
        raise InputError(f"crf is {crf}: choose 0 (best) to 51")


def _empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _check_replaceable(path: Path) -> None:
    """Refuse to replace a folder that holds anything but frames: it may be somebody's home."""
    if path.is_dir():
        other = next(
            (entry for entry in path.iterdir() if entry.is_dir() or entry.suffix.lower() not in IMAGE_SUFFIXES), None
        )
        if other is not None:
            raise InputError(f"folder {path} holds {other.name}, which is no frame: give a new folder's name")


def _remove(path: Path) -> None:
    """Remove a file, or a folder of frames; a folder that has gained other files meanwhile stays, as an OSError."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    for entry in path.iterdir():
        if entry.suffix.lower() in IMAGE_SUFFIXES:
            entry.unlink()
    path.rmdir()


@contextlib.contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turn what a full disk or a missing permission raises into one line."""
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
