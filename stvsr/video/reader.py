"""Frames in and out: video files and frame folders, read and written one frame at a time.

Frames are uint8 (H, W, 3) RGB everywhere. Reading: bit depths above 8 are reduced to 8 (16-bit grey images by rounding,
the rest by the decoder's library), grey is repeated over R, G and B, an image's alpha is composited on black and a
video's
ignored, EXIF and container rotation are applied, YUV is converted by the matrix and range the file declares
(undeclared: BT.709 from 720 lines or 1280 columns on, BT.601 below; limited range). Chroma is interpolated bicubically,
bit-exactly on every machine.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image, ImageOps, UnidentifiedImageError

from stvsr.errors import InputError
from stvsr.video.colour import HDR_TRANSFERS, Colour, colour_of, to_rgb
from stvsr.video.writer import IMAGE_SUFFIXES

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".y4m")
FOLDER_RATE = Fraction(25)  # frames per second where nobody says
ANNOUNCING = ("mov", "matroska")  # containers whose announced duration is no guess
MISSING = Fraction(1, 2)  # seconds a file may end before the length it announces; audio and video seldom end together


class FrameReader:
    """A clip that can be iterated, again and again, for uint8 (H, W, 3) RGB frames; one frame is held at a time.

    Attributes:
        name: file or folder name, without suffix.
        size: (H, W) in pixels, after rotation.
        length: frames the container announces or the folder holds; None when nobody knows before the end.
        rate: mean frames per second; None for a folder.
        seconds: announced duration; None when unknown.
        begins: where the file's clock starts, seconds: the earliest of all its streams.
        origin: time of the first frame on the file's clock, seconds.
        colour: matrix, range and tags, for a writer to repeat.
        time_base: unit of the times, seconds.
        aspect: width of a pixel over its height, 1 for square pixels.
        files: a folder's frames in order; None for a video.
        has_audio: whether there is sound to copy.
        notes: sentences a reader should see, such as a lost bit depth.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.stem if path.is_file() else path.name
        self.size = (0, 0)
        self.length: int | None = None
        self.rate: Fraction | None = None
        self.seconds: Fraction | None = None
        self.begins = self.origin = Fraction(0)
        self.colour = Colour()
        self.time_base: Fraction | None = None
        self.aspect = Fraction(1)
        self.files: list[Path] | None = None
        self.has_audio = False
        self.notes: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        pass

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield every frame."""
        return (frame for _, frame in self.timed())

    def timed(
        self, start: Fraction = Fraction(0), stop: Fraction | None = None
    ) -> Iterator[tuple[Fraction, np.ndarray]]:
        """Yield (time, frame), the time on the file's clock; `start` and `stop` are seconds after the first frame."""
        raise NotImplementedError

    def _same_size(self, frame: np.ndarray, where: object) -> np.ndarray:
        if frame.shape[:2] != self.size:
            (height, width), (tall, wide) = frame.shape[:2], self.size
            raise InputError(
                f"{self.path}: frame {where} is {width}x{height}, the clip began {wide}x{tall}: split it there"
            )
        return frame


class _VideoReader(FrameReader):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with self._open() as container:
            stream = self._stream(container)
            frame = next(self._decode(container, (stream,)), None)
            if frame is None:
                raise InputError(f"{path} holds no frame")
            self._describe(container, stream, frame)
        self._reformatter = VideoReformatter()

    def timed(
        self, start: Fraction = Fraction(0), stop: Fraction | None = None
    ) -> Iterator[tuple[Fraction, np.ndarray]]:
        first = self.origin + start
        last = None if stop is None else self.origin + stop
        with self._open() as container:
            if start > 0:
                container.seek(int(first * av.time_base))  # to the key frame before: decoding cannot begin between
            for time, frame in self._clocked(container, first):
                if last is not None and time >= last:
                    return
                if time >= first:
                    upright = _orient(to_rgb(frame, self.colour, self._reformatter), _rotation(frame))
                    yield time, self._same_size(upright, f"at {float(time):.3f} s")

    def _open(self) -> av.container.InputContainer:
        try:
            return av.open(str(self.path), metadata_errors="replace")
        except (OSError, av.FFmpegError) as error:
            raise InputError(f"{self.path} cannot be read as video: {error.strerror or error}") from error

    def _stream(self, container: av.container.InputContainer) -> av.VideoStream:
        stream = container.streams.best("video")
        if stream is None:
            raise InputError(f"{self.path} has no video stream")
        stream.thread_type = "AUTO"
        return stream

    def _clocked(
        self, container: av.container.InputContainer, start: Fraction
    ) -> Iterator[tuple[Fraction, av.VideoFrame]]:
        """Yield frames with their times; a frame without a time follows the one before by one mean frame."""
        time = start - 1 / self.rate
        for frame in self._decode(container, container.streams):
            time = time + 1 / self.rate if frame.pts is None else frame.pts * frame.time_base
            yield time, frame

    def _decode(self, container: av.container.InputContainer, demuxed: Iterable) -> Iterator[av.VideoFrame]:
        """Yield decoded frames; demux every stream given, to notice a file that ends before its time."""
        video, end, count = self._stream(container), Fraction(0), 0
        try:
            for packet in container.demux(tuple(demuxed)):
                if packet.pts is not None:
                    end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
                if packet.stream_index == video.index:
                    for frame in packet.decode():
                        count += 1
                        yield frame
        except (OSError, av.FFmpegError) as error:
            raise self._damaged(count, end, error.strerror or error) from error
        announces = self.seconds is not None and any(name in container.format.name for name in ANNOUNCING)
        if announces and end + MISSING < self.seconds:
            raise self._damaged(count, end, f"it announces {float(self.seconds):.1f} s")

    def _damaged(self, count: int, end: Fraction, why: object) -> InputError:
        whole = max(0.0, float(end - self.origin) - float(MISSING))
        return InputError(
            f"{self.path} is damaged or cut off after frame {count} ({why}): --duration {whole:.1f} keeps what is whole"
        )

    def _describe(self, container: av.container.InputContainer, stream: av.VideoStream, frame: av.VideoFrame) -> None:
        turned, _, _ = _rotation(frame)
        self.size = (frame.width, frame.height) if turned else (frame.height, frame.width)
        self.length = stream.frames or None
        self.rate = Fraction(stream.average_rate or stream.guessed_rate or FOLDER_RATE)
        self.time_base = stream.time_base
        self.colour = colour_of(frame)
        aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
        self.aspect = 1 / aspect if turned else aspect
        self.seconds = None if container.duration is None else Fraction(container.duration, av.time_base)
        self.begins = Fraction(container.start_time or 0, av.time_base)
        self.origin = self.begins if frame.pts is None else frame.pts * frame.time_base
        self.has_audio = bool(container.streams.audio)
        self.notes = _notes(frame, self.colour)


class _FolderReader(FrameReader):
    def __init__(self, path: Path, rate: Fraction | None) -> None:
        super().__init__(path)
        self.files = [path] if path.is_file() else image_files(path)
        self.length, self.rate = len(self.files), rate
        self.size = read_image(self.files[0]).shape[:2]
        self.seconds = self.length / (rate or FOLDER_RATE)
        self.time_base = 1 / (rate or FOLDER_RATE)

    def timed(
        self, start: Fraction = Fraction(0), stop: Fraction | None = None
    ) -> Iterator[tuple[Fraction, np.ndarray]]:
        for index, file in enumerate(self.files):
            time = index * self.time_base
            if time >= start and (stop is None or time < stop):
                yield time, self._same_size(read_image(file), file.name)


def open_clip(path: Path | str, *, rate: Fraction | None = None) -> FrameReader:
    """Open a video file, a folder of PNG, WebP or JPEG frames in natural order (2 before 10), or one such image.

    Args:
        rate: frames per second of a folder; a video file knows its own.

    Raises:
        InputError: nothing is there, it holds no frames or cannot be decoded. While iterating: a damaged file, or a
            frame of another size than the first.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        return _FolderReader(path, rate)
    return _VideoReader(path)


def read_clip(path: Path | str, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Return frames start..stop-1 of a clip at once: uint8 (T, H, W, 3).

    Raises:
        InputError: the clip cannot be read, or has no frame in the range.
    """
    with open_clip(path) as clip:
        frames = list(itertools.islice(clip, start, stop))
    if not frames:
        raise InputError(f"{path} has no frames {start} to {stop}")
    return np.stack(frames)


def image_files(folder: Path) -> list[Path]:
    """Return a folder's PNG, WebP and JPEG files in natural order; InputError when there is none."""
    files = [
        file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    ]
    if not files:
        raise InputError(f"folder {folder} has no {', '.join(IMAGE_SUFFIXES)} frames")
    return sorted(files, key=natural)


def natural(path: Path) -> list[tuple[int, int | str]]:
    """Return a sorting key under which frame2 comes before frame10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", path.name) if part]


def read_image(path: Path) -> np.ndarray:
    """Return one image as uint8 (H, W, 3) RGB, by the rules at the top of this file; InputError when it is none."""
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # 16-bit grey, which Pillow would clip instead of scaling
                grey = ((np.asarray(upright).astype(np.uint32) + 128) // 257).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=2)
            if upright.has_transparency_data:
                upright = Image.alpha_composite(
                    Image.new("RGBA", upright.size, (0, 0, 0, 255)), upright.convert("RGBA")
                )
            return np.asarray(upright.convert("RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise InputError(f"{path} cannot be read as an image: {error}") from error


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
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, False, False
    # x' = a x + c y, y' = b x + d y, in 16.16 fixed point, stored a b u c d v x y w
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    turned = abs(b) > abs(a)
    return (True, c < 0, b < 0) if turned else (False, a < 0, d < 0)


def _orient(frame: np.ndarray, rotation: tuple[bool, bool, bool]) -> np.ndarray:
    turned, mirror, flip = rotation
    frame = frame.swapaxes(0, 1) if turned else frame
    frame = frame[:, ::-1] if mirror else frame
    return np.ascontiguousarray(frame[::-1] if flip else frame)
