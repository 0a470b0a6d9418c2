"""Write frames to a video file or a folder, so that a name either holds everything or does not exist.

Everything is written under a hidden name next to the target and renamed when it is complete. An error removes it. After
Ctrl-C, or when the input turns out to be broken, what is done is kept as `<name>.partial<suffix>`, which plays.
"""

import contextlib
import io
import itertools
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal, Self

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

from stvsr.errors import InputError
from stvsr.video.colour import Colour, from_rgb
from stvsr.video.folders import IMAGE_SUFFIXES, LOSSLESS_SUFFIXES
from stvsr.video.frames import BrokenClip
from stvsr.video.matroska import set_display_size
from stvsr.video.packets import reason
from stvsr.video.sound import FORMATS, AudioCopy
from stvsr.video.tracks import Tracks, add_tracks

Encoder = Literal["libx264", "libvpx-vp9"]
CODECS: dict[str, Encoder] = {".mp4": "libx264", ".mov": "libx264", ".mkv": "libx264", ".webm": "libvpx-vp9"}
LARGEST_SIDE = 16384  # pixels, of H.264's highest level in libx264 and of VP9 in libvpx
RATES = (1e-4, 1e5)  # frames per second that every container can hold
LONGEST_NAME = 255  # bytes, of every common file system


class _Output:
    """A target that is written under a temporary name; subclasses write frames and close."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self.path = Path(path)
        self.written = 0
        self.notes: list[str] = []  # what the output could not keep
        self._overwrite = overwrite
        if not overwrite and self.path.exists() and not _empty_folder(self.path):
            raise InputError(f"{self.path} exists: give another name or --overwrite")
        if self.path.is_dir():
            self._check_replaceable(self.path)
        self._temporary = self.path.with_name(f".{os.getpid()}-{id(self):x}{self.path.suffix}")
        self._made = _make_parents(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _traceback: object) -> None:
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt | BrokenClip)
        keep = kind is None or (interrupted and self.written > 0)
        try:
            if keep:
                self._close()
                self.path = self.partial if interrupted else self.path
                if self.path.is_dir():
                    self._check_replaceable(self.path)  # others may have put something there meanwhile
                    _remove(self.path)
                self._temporary.replace(self.path)
                self._made = []
        except OSError as failure:
            raise InputError(f"cannot write {self.path}: {reason(failure)}") from None
        finally:
            self._abandon()
            _remove(self._temporary)
            for folder in self._made:
                with contextlib.suppress(OSError):  # it is not empty
                    folder.rmdir()

    @property
    def partial(self) -> Path:
        """Where Ctrl-C and a broken input leave what is done."""
        ending = f".partial{self.path.suffix}"
        stem = self.path.stem.encode(errors="surrogateescape")[: LONGEST_NAME - len(ending.encode())]
        return self.path.with_name(stem.decode(errors="ignore") + ending)

    def _check_replaceable(self, folder: Path) -> None:
        """Refuse to replace a folder that holds anything but frames (it could be a home directory)."""
        for entry in folder.iterdir():
            if entry.is_dir() or entry.suffix.lower() not in IMAGE_SUFFIXES:
                raise InputError(f"folder {folder} holds {entry.name}, which is not a frame: give a new folder's name")

    def _close(self) -> None:
        raise NotImplementedError

    def _abandon(self) -> None:
        """Free what `_close` would have freed; called always, and harmless after `_close`."""


class FolderWriter(_Output):
    """Write frames as images into a folder: `with FolderWriter(path) as out: out.write(frame)`.

    Args:
        names: file names without suffix, in order; by default 000, 001, ... (more digits: `digits`).
        suffix: `.png` or `.webp`, both lossless.
        replaces: names without suffix of pictures that may be replaced besides `names` and a numbered series.
        profile: ICC profile that is written into every image.
        overwrite: replace an existing folder, unless it holds anything that is not from an earlier run.

    Raises:
        InputError: the target exists and is not empty, holds pictures that this run does not write, the suffix is
            another, or the disk is full.
    """

    def __init__(
        self, path: Path, *, names: Sequence[str] | None = None, suffix: str = ".png", digits: int = 3,
        replaces: Collection[str] = (), profile: bytes | None = None, overwrite: bool = False,
    ) -> None:  # fmt: skip
        if suffix not in LOSSLESS_SUFFIXES:
            raise InputError(f"frames cannot be written as {suffix!r}: choose from {', '.join(LOSSLESS_SUFFIXES)}")
        self._replaces = {*replaces, *(names or ())}
        super().__init__(path, overwrite=overwrite)
        self._names = iter(names) if names is not None else (f"{index:0{digits}d}" for index in itertools.count())
        self._suffix = suffix
        self._profile = profile
        with _one_line(self.path):
            _remove(self._temporary)
            self._temporary.mkdir()

    def write(self, frame: np.ndarray, time: Fraction | None = None) -> None:
        """Add one uint8 (H, W, 3) RGB frame; a folder has no clock, `time` is ignored."""
        encoded = io.BytesIO()  # so that an interruption never leaves half an image
        options: dict = {"compress_level": 3} if self._suffix == ".png" else {"lossless": True, "quality": 50}
        Image.fromarray(frame).save(encoded, self._suffix[1:], icc_profile=self._profile, **options)
        with _one_line(self.path):
            (self._temporary / f"{next(self._names)}{self._suffix}").write_bytes(encoded.getbuffer())
        self.written += 1

    def _check_replaceable(self, folder: Path) -> None:
        """Refuse pictures that neither this run nor an earlier one can have written."""
        super()._check_replaceable(folder)
        files = sorted(folder.iterdir())
        digits = len(files[0].stem) if files else 0
        if [file.stem for file in files] == [f"{index:0{digits}d}" for index in range(len(files))]:
            return  # a numbered series
        other = next((file for file in files if file.stem not in self._replaces), None)
        if other is not None:
            raise InputError(
                f"folder {folder} holds {other.name}, which this run does not write: give a new folder's name"
            )

    def _close(self) -> None:
        pass


class VideoWriter(_Output):
    """Write an H.264 (mp4, mov, mkv) or VP9 (webm) video.

        with VideoWriter(path, rate, size) as out:
            out.write(frame)

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
        tracks: titles, chapters (on the output's clock) and HDR metadata to carry over.

    Attributes:
        ends: when the last picture leaves the screen, output clock, seconds; set before the end of the `with` block.
        notes: what the container could not keep.

    Raises:
        InputError: container or size cannot be had, the encoder is missing, the target exists, or the disk is full.
    """

    def __init__(
        self, path: Path, rate: Fraction | float, size: tuple[int, int], crf: int = 18, *, colour: Colour | None = None,
        time_base: Fraction | None = None, aspect: Fraction | None = None, audio: AudioCopy | None = None,
        tracks: Tracks | None = None, options: Mapping[str, str] | None = None, overwrite: bool = False,
    ) -> None:  # fmt: skip
        _check_video(Path(path), size, crf, rate)
        super().__init__(path, overwrite=overwrite)
        self._size = size
        self._colour = colour or Colour()
        self._rate = Fraction(rate).limit_denominator(1_000_000)
        self._time_base = time_base or 1 / self._rate
        if self._time_base > 1:  # seconds: MP4 needs a whole number of ticks per second
            self._time_base = Fraction(1, self._time_base.denominator)
        self._aspect = aspect or Fraction(1)
        self._last: int | None = None
        self._reformatter = VideoReformatter()
        self._audio, self._options = audio, dict(options or {})
        self._damaged_sound = 0
        self.ends: Fraction | None = None
        with _one_line(self.path):
            self._container = _open_container(self._temporary, self._rate)
            try:
                self._stream = self._add_video(crf, tracks or Tracks())
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
        picture = from_rgb(frame, self._stream.pix_fmt or "yuv420p", self._colour, self._reformatter)
        picture.pts, picture.time_base = self._last, self._time_base
        with _one_line(self.path):
            self._copy_sound(time)
            self._container.mux(self._stream.encode(picture))
        self.written += 1

    def _add_video(self, crf: int, tracks: Tracks) -> av.VideoStream:
        codec = CODECS[self.path.suffix.lower()]
        options = {"crf": str(crf)}
        if codec == "libvpx-vp9":
            options |= {"b": "0", "row-mt": "1", "cpu-used": "4"}
        elif tracks.hdr:
            options["x264-params"] = tracks.hdr
        rate = min(self._rate, 1 / self._time_base)  # libvpx refuses frames that last less than a tick
        stream = self._container.add_stream(codec, rate=rate, options=options | self._options)
        stream.height, stream.width = self._size
        stream.pix_fmt = "yuv444p" if any(side % 2 for side in self._size) else "yuv420p"
        stream.time_base = stream.codec_context.time_base = self._time_base
        context = stream.codec_context
        context.colorspace, context.color_range = self._colour.tag, int(self._colour.range)
        context.color_primaries, context.color_trc = self._colour.primaries, self._colour.transfer
        context.sample_aspect_ratio = self._aspect
        add_tracks(self._container, stream, tracks)
        return stream

    def _copy_sound(self, time: Fraction | None) -> None:
        """Write the sound up to a moment, all that is left for None; a packet that the container refuses is counted."""
        for packet in self._audio.until(time) if self._audio else ():
            try:
                self._container.mux(packet)
            except av.InvalidDataError:
                self._damaged_sound += 1

    def _close(self) -> None:
        with _one_line(self.path):
            left = self._stream.encode()
            if left and self.ends is not None:  # the encoder is never done before this
                latest = max(left, key=lambda packet: packet.pts or 0)
                shown = round(self.ends / latest.time_base) - (latest.pts or 0)
                latest.duration = max(shown, latest.duration or 0, 1)
            self._container.mux(left)
            self._copy_sound(None)
            self._container.close()
        if self._damaged_sound:
            self.notes.append(f"damaged sound: {self._damaged_sound} packets are left out")
        if self.path.suffix.lower() == ".webm" and self._aspect != 1:  # VP9 itself has no field for it
            height, width = self._size
            if not set_display_size(self._temporary, *_display_size(width, height, self._aspect)):
                self.notes.append("the pixels' aspect could not be written into WebM: write .mkv")

    def _abandon(self) -> None:
        with contextlib.suppress(OSError, av.FFmpegError):  # the error that brought us here is already on its way
            self._container.close()
        if self._audio is not None:
            self._audio.close()


def write_frames(
    folder: Path | str,
    frames: Iterable[np.ndarray],
    *,
    names: Iterable[str] | None = None,
    suffix: str = ".png",
    profile: bytes | None = None,
    overwrite: bool = False,
) -> int:
    """Write uint8 (H, W, 3) frames into a new folder, one image each, and return how many.

    `overwrite` replaces an earlier run's frames.

    Raises:
        InputError: as `FolderWriter`; nothing is left behind then.
    """
    listed = None if names is None else list(names)
    with FolderWriter(Path(folder), names=listed, suffix=suffix, profile=profile, overwrite=overwrite) as out:
        try:
            for frame in frames:
                out.write(frame)
        except BrokenClip as error:  # frames for a study are complete or absent
            raise InputError(str(error)) from None
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
    """Return whether a name is a video's; a frame folder's has no suffix or ends in a slash.

    Raises:
        InputError: the suffix belongs to no container that is written here.
    """
    suffix = Path(path).suffix.lower()
    if str(path).endswith(("/", os.sep)) or not suffix or Path(path).is_dir():
        return False
    if suffix not in CODECS:
        raise InputError(
            f"{path}: {suffix} is not an output format: choose {', '.join(CODECS)}, or a folder's name with a slash at "
            "its end"
        )
    return True


def _open_container(path: Path, rate: Fraction) -> av.container.OutputContainer:
    options = {"movflags": "+faststart"} if path.suffix.lower() in (".mp4", ".mov") else {}  # plays while it downloads
    if options and rate > 1000:  # players skip a film whose length rounds to 0 ms
        options["movie_timescale"] = "1000000"
    return av.open(str(path.absolute()), "w", format=FORMATS[path.suffix.lower()], options=options)


def _check_video(path: Path, size: tuple[int, int], crf: int, rate: Fraction | float) -> None:
    if not is_video_name(path):
        raise InputError(f"{path} is not the name of a video: end it in {', '.join(CODECS)}")
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
    slowest, fastest = RATES
    if not slowest <= rate <= fastest:
        raise InputError(
            f"{path}: {float(rate):.4g} frames per second are not between {slowest:g} and {fastest:g}: write a frame "
            "folder"
        )


def _empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _make_parents(path: Path) -> list[Path]:
    """Create the folders above a target, and return the new ones, innermost first."""
    missing = [folder for folder in path.parents if not folder.exists()]
    with _one_line(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return missing


def _display_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Return a display size with exactly the shape of width x height pixels of this aspect, near their number."""
    shape = Fraction(width, height) * aspect
    times = max(1, round(height / shape.denominator))
    exact = shape.numerator * times, shape.denominator * times
    return exact if exact[1] < 2 * height and max(exact) < 1 << 16 else (round(width * aspect), height)


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
        raise InputError(f"cannot write {path}: {reason(error)}") from error
