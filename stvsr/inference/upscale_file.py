"""Upscale a video file or frame folder into another: `stvsr upscale`, and the same from Python.

    upscale(UpscaleConfig(input="clip.mp4", output="large.mp4"))

Frames pass one by one from reader through network to writer; nothing is read whole.
"""

import contextlib
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from stvsr.errors import InputError
from stvsr.inference.memory import Plan
from stvsr.inference.overlap import read_ahead, write_behind
from stvsr.inference.upscaler import InferenceConfig, Upscaler, bicubic_upscaler, load_upscaler
from stvsr.runs.device import pick_device
from stvsr.video.reader import FOLDER_RATE, FrameReader, open_clip
from stvsr.video.writer import IMAGE_SUFFIXES, AudioCopy, FolderWriter, VideoWriter, is_video_name

ENCODER_FRAMES = 60  # frames an encoder looks ahead and keeps as reference, at most
GIGABYTE = 1e9
PROGRAM = 700_000_000  # bytes of Python, PyTorch and the decoder before any work


@dataclass(frozen=True, kw_only=True)
class UpscaleConfig:
    """One run of `stvsr upscale`.

    input: video file, frame folder or image. output: .mp4, .mov, .mkv, .webm, or a folder for PNG frames.
    model: `bicubic`, `basicvsr-bi`, `basicvsr-bd`, weights shipped with the package, or a checkpoint.
    device: cpu, cuda, cuda:1, or auto. start, duration: seconds; duration None is to the end.
    crf: constant quality of the encoder, 0 (best) to 51. compare: bicubic on the left, the model on the right.
    audio: copy the sound. fps: rate of a frame folder; a video knows its own. overwrite: replace an existing output.
    inference: tile, window and precision.
    """

    input: Path | str
    output: Path | str
    model: str = "basicvsr-bi"
    device: str = "auto"
    start: float = 0.0
    duration: float | None = None
    crf: int = 18
    compare: bool = False
    audio: bool = True
    fps: float | None = None
    overwrite: bool = False
    inference: InferenceConfig = field(default_factory=InferenceConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.start < math.inf:
            raise InputError(f"start is {self.start} s: 0 or later")
        if self.duration is not None and not 0 < self.duration < math.inf:
            raise InputError(f"duration is {self.duration} s: it must be positive")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise InputError(f"fps is {self.fps}: more than 0, at most 1000")
        source, target = Path(self.input), Path(self.output)
        if self.fps is not None and source.is_file() and source.suffix.lower() not in IMAGE_SUFFIXES:
            raise InputError(f"{self.input} has its own frame rate: --fps is for frame folders")
        if source.exists() and target.exists() and source.samefile(target):
            raise InputError(f"{source} is input and output: give the output another name")

    @property
    def span(self) -> tuple[Fraction, Fraction | None]:
        """First and last moment, seconds after the first frame; None is the clip's end."""
        start = Fraction(self.start).limit_denominator(1_000_000)
        return start, None if self.duration is None else start + Fraction(self.duration).limit_denominator(1_000_000)


@dataclass(frozen=True, kw_only=True)
class Upscaled:
    """What came of a run: the file or folder, and how many frames are in it."""

    path: Path
    frames: int


@dataclass(frozen=True, kw_only=True)
class _Span:
    """The part of a clip that is asked for, on three clocks."""

    start: Fraction  # seconds after the first frame
    stop: Fraction | None
    offset: Fraction  # what is subtracted from the file's clock to give the output's

    def count(self, clip: FrameReader) -> int | None:
        """Frames to expect, for the progress bar."""
        rate = clip.rate or FOLDER_RATE
        whole = clip.length or (clip.seconds and round(clip.seconds * rate))
        if whole is None:
            return None
        left = whole - round(self.start * rate)
        return max(0, left if self.stop is None else min(left, round((self.stop - self.start) * rate)))


def _print(line: str) -> None:
    print(line, flush=True)  # beforehand, also in a log file


def upscale(config: UpscaleConfig, say: Callable[[str], None] = _print, *, progress: bool = True) -> Upscaled:
    """Upscale a clip; say beforehand what will happen and how much memory it takes.

    Every frame is kept with its own time (variable rates survive), sound is copied unchanged, colour and pixel aspect
    are repeated, rotation is applied. Subtitles and other tracks are left out. Ctrl-C leaves what is done as
    `<output>.partial` with the suffix, playable, and raises KeyboardInterrupt; any other error leaves nothing.

    Raises:
        InputError: input, output, model or memory do not allow it.
    """
    with open_clip(config.input, rate=config.fps and Fraction(config.fps).limit_denominator(1_000_000)) as clip:
        span = _span(config, clip)
        upscaler = load_upscaler(config.model, pick_device(config.device), config.inference)
        upscaler.settle_precision(frame for _, frame in clip.timed(span.start, span.stop))
        with _writer(config, clip, span, upscaler.scale) as out:
            for line in describe(config, clip, upscaler, out):
                say(line)
            _run(config, clip, span, upscaler, out, progress=progress, say=say)
            if not out.written:
                raise InputError(f"{config.input} has no frame after {config.start} s: lower --start")
    return Upscaled(path=out.path, frames=out.written)


def describe(
    config: UpscaleConfig, clip: FrameReader, upscaler: Upscaler, out: "VideoWriter | FolderWriter"
) -> Iterator[str]:
    """Yield the lines that are printed before work begins: sizes, model, memory, and what a reader should know."""
    (height, width), (tall, wide) = clip.size, _out_size(config, clip, upscaler.scale)
    rate = f"{float(clip.rate or FOLDER_RATE):.4g} fps"
    colour = "RGB" if clip.files else clip.colour.name
    yield f"{clip.path.name} ({width}x{height}, {rate}, {colour}) -> {out.path} ({wide}x{tall})"
    plan = upscaler.plan(clip.size)
    extent = f"tiles of {plan.tile}" if plan.tile else "whole frames"
    extent += f", windows of {plan.window}" if plan.window > 1 else ""
    yield f"{upscaler.name}, {extent}, {upscaler.precision} precision"
    yield f"memory: {_memory(config, clip, plan, upscaler.scale)}"
    if isinstance(out, FolderWriter) and clip.has_audio:
        yield "note: a frame folder holds no sound"
    for note in clip.notes:
        yield f"note: {note}"


def _run(
    config: UpscaleConfig, clip: FrameReader, span: _Span, upscaler: Upscaler, out: "VideoWriter | FolderWriter", *,
    progress: bool, say: Callable[[str], None],
) -> None:  # fmt: skip
    pending: deque[tuple[Fraction, np.ndarray]] = deque()  # read and not yet written; the upscaler keeps their order

    def read() -> Iterator[np.ndarray]:
        for time, frame in clip.timed(span.start, span.stop):
            pending.append((time - span.offset, frame))
            yield frame

    bicubic = bicubic_upscaler(upscaler.scale) if config.compare else None
    try:
        with contextlib.closing(read_ahead(read())) as frames, write_behind(out.write) as write:
            bar = tqdm(upscaler(frames), total=span.count(clip), unit=" frames", disable=None if progress else True)
            for frame in bar:
                time, source = pending.popleft()
                write(_beside(next(bicubic([source])), frame) if bicubic else frame, time)
    except KeyboardInterrupt:
        if out.written:
            say(f"interrupted: the first {out.written} frames are kept in {out.partial}")
        raise
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        raise InputError("out of memory: give a smaller --tile or --window") from error


def _span(config: UpscaleConfig, clip: FrameReader) -> _Span:
    start, stop = config.span
    # Without a start the file's clock is kept from its earliest stream on, so that sound and picture stay in step.
    return _Span(start=start, stop=stop, offset=clip.origin + start if start else clip.begins)


def _writer(config: UpscaleConfig, clip: FrameReader, span: _Span, scale: int) -> "VideoWriter | FolderWriter":
    if not is_video_name(config.output):
        return FolderWriter(Path(config.output), names=_names(clip, span), overwrite=config.overwrite)
    audio = _audio(config, clip, span)
    return VideoWriter(
        Path(config.output), clip.rate or FOLDER_RATE, _out_size(config, clip, scale), config.crf, colour=clip.colour,
        time_base=clip.time_base, aspect=clip.aspect, audio=audio, overwrite=config.overwrite,
    )  # fmt: skip


def _audio(config: UpscaleConfig, clip: FrameReader, span: _Span) -> AudioCopy | None:
    if not (config.audio and clip.has_audio):
        return None
    first = clip.origin + span.start if span.start else None
    last = None if span.stop is None else clip.origin + span.stop
    audio = AudioCopy(clip.path, start=first, stop=last, offset=span.offset)
    audio.check(Path(config.output).suffix.lower())
    return audio


def _names(clip: FrameReader, span: _Span) -> Iterator[str]:
    """Frames of a folder keep their names; those of a video are numbered."""
    files = clip.files
    if files is None or len({file.stem for file in files}) < len(files):
        return (f"{index:06d}" for index in itertools.count())
    return (file.stem for index, file in enumerate(files) if index * clip.time_base >= span.start)


def _out_size(config: UpscaleConfig, clip: FrameReader, scale: int) -> tuple[int, int]:
    height, width = clip.size
    return height * scale, width * scale * (2 if config.compare else 1)


def _beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.concatenate([left, right], axis=1)


def _memory(config: UpscaleConfig, clip: FrameReader, plan: Plan, scale: int) -> str:
    height, width = _out_size(config, clip, scale)
    encoder = ENCODER_FRAMES * 3 * height * width // 2 if is_video_name(config.output) else 0
    host = PROGRAM + plan.host_bytes + encoder
    if pick_device(config.device).type == "cpu":
        return f"at most about {(plan.device_bytes + host) / GIGABYTE:.1f} GB, however long the clip"
    return f"at most about {plan.device_bytes / GIGABYTE:.1f} GB on the GPU, {host / GIGABYTE:.1f} GB beside it, however long the clip"
