"""Upscale a video file or frame folder into another: `stvsr upscale`, and the same from Python.

    upscale(UpscaleConfig(input="clip.mp4", output="large.mp4"))

Frames pass one by one from reader through network to writer; nothing is read whole. A folder of clips becomes a folder
of upscaled clips.
"""

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from stvsr.errors import InputError
from stvsr.inference.memory import MemoryPlan
from stvsr.inference.overlap import read_ahead, write_behind
from stvsr.inference.upscaler import InferenceConfig, Upscaler, bicubic_upscaler, load_upscaler
from stvsr.runs.device import pick_device
from stvsr.runs.lock import lock_beside, locked
from stvsr.video.folders import IMAGE_SUFFIXES, find_clips
from stvsr.video.reader import FOLDER_RATE, BrokenClip, FrameReader, open_clip
from stvsr.video.sound import FORMATS, AudioCopy
from stvsr.video.writer import FolderWriter, VideoWriter, is_video_name

ENCODER_FRAMES = 60  # frames an encoder looks ahead and keeps as reference, at most
GIGABYTE = 1e9
PROGRAM = 700_000_000  # bytes of Python, PyTorch and the decoder before any work


@dataclass(frozen=True, kw_only=True)
class UpscaleConfig:
    """One run of `stvsr upscale`.

    input: video file, frame folder, image, or folder of clips. output: .mp4, .mov, .mkv, .webm, or a folder for PNG
    frames (for a folder of clips: a folder for the upscaled clips).
    model: `bicubic`, `basicvsr-bi`, `basicvsr-bd`, weights shipped with the package, or a checkpoint.
    device: cpu, cuda, cuda:1, or auto. start, duration: seconds; duration None is to the end.
    crf: constant quality of the encoder, 0 (best) to 51. compare: bicubic on the left, the model on the right.
    audio: copy the sound. strict: refuse a video with damaged or missing frames. fps: rate of a frame folder; a video
    knows its own. overwrite: replace an existing output.
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
    strict: bool = False
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
        if not 0 <= self.crf <= 51:
            raise InputError(f"crf is {self.crf}: from 0 (best) to 51")
        source, target = Path(self.input), Path(self.output)
        if self.fps is not None and source.is_file() and source.suffix.lower() not in IMAGE_SUFFIXES:
            raise InputError(f"{self.input} has its own frame rate: --fps is for frame folders")
        if source.exists() and target.exists() and source.samefile(target):
            raise InputError(f"{source} is input and output: give the output another name")
        above = source.absolute().parents if self.overwrite and source.exists() and target.is_dir() else ()
        if any(folder.samefile(target) for folder in above):
            raise InputError(f"folder {target} holds the input {source}: give a new folder's name")

    @property
    def span(self) -> tuple[Fraction, Fraction | None]:
        """First and last moment, seconds after the first frame; None is the clip's end."""
        start = Fraction(self.start).limit_denominator(1_000_000)
        return start, None if self.duration is None else start + Fraction(self.duration).limit_denominator(1_000_000)


@dataclass(frozen=True, kw_only=True)
class Upscaled:
    """Result of a run: the file or folder, and how many frames are in it."""

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
        whole = clip.length or (None if clip.seconds is None else round(clip.seconds * rate))
        if whole is None:
            return None
        left = whole - round(self.start * rate)
        return max(0, left if self.stop is None else min(left, round((self.stop - self.start) * rate)))


def _print(line: str) -> None:
    print(line, flush=True)  # beforehand, also in a log file


def upscale(config: UpscaleConfig, say: Callable[[str], None] = _print, *, progress: bool = True) -> Upscaled:
    """Upscale a clip or a folder of clips; say beforehand what will happen and how much memory it takes.

    Every frame is kept with its own time (variable rates survive, and the last picture stands as long as it did), sound
    is copied unchanged with its languages, chapters, titles, colour and pixel aspect are repeated, rotation is applied.
    What is lost is said. Ctrl-C, a broken end and a size that changes leave what is done as `<output>.partial` with the
    suffix, playable, and raise; any other error leaves nothing.

    Raises:
        InputError: input, output, model or memory do not allow it.
    """
    source = Path(config.input)
    if source.is_dir():
        clips = find_clips(source, "input")
        if not clips.lone:
            for note in clips.notes:
                say(f"note: {note}")
            return _upscale_each(config, clips.paths, say, progress=progress)
    return _upscale_clip(config, say, progress=progress)


def _upscale_each(
    config: UpscaleConfig, clips: dict[str, Path], say: Callable[[str], None], *, progress: bool
) -> Upscaled:
    """Upscale every clip of a folder; one that fails is reported at the end and does not stop the others."""
    folder = Path(config.output)
    if str(config.output) and folder.suffix.lower() in FORMATS and not folder.is_dir():
        raise InputError(f"{config.input} is a folder of clips: give a folder as output, not {folder.name}")
    targets = {name: folder / _target_name(name, path) for name, path in clips.items()}
    frames, failures = 0, []
    for name, path in clips.items():
        try:
            clip = replace(config, input=path, output=targets[name], fps=config.fps if path.is_dir() else None)
            frames += _upscale_clip(clip, say, progress=progress).frames
        except InputError as error:
            failures.append(str(error))
            say(f"note: {path.name} was not upscaled: {error}")
    if failures:
        raise InputError(f"{len(failures)} of {len(clips)} clips were not upscaled; the first: {failures[0]}")
    return Upscaled(path=folder, frames=frames)


def _target_name(name: str, path: Path) -> str:
    """Return a clip's name in the output folder: a folder for frames, the container of a video if it can be written."""
    if path.is_dir():
        return name
    return path.name if path.suffix.lower() in FORMATS else f"{name}.mkv"


def _upscale_clip(config: UpscaleConfig, say: Callable[[str], None], *, progress: bool) -> Upscaled:
    output = Path(config.output)
    shared = output.parent.is_dir()  # otherwise no other process can write there yet
    lock = locked(lock_beside(output), f"output {output}") if shared else contextlib.nullcontext()
    rate = None if config.fps is None else Fraction(config.fps).limit_denominator(1_000_000)
    with lock, open_clip(config.input, rate=rate, strict=config.strict) as clip:
        span = _span(config, clip)
        upscaler = load_upscaler(config.model, pick_device(config.device), config.inference)
        with contextlib.suppress(BrokenClip):  # raised again where the frames before the damage are upscaled
            upscaler.settle_precision(frame for _, frame in clip.timed(span.start, span.stop))
        with _writer(config, clip, span, upscaler.scale) as out:
            for line in announcement(config, clip, upscaler, out):
                say(line)
            known = len(clip.notes)
            _run(config, clip, span, upscaler, out, progress=progress, say=say)
            for note in clip.notes[known:]:
                say(f"note: {note}")
            if not out.written:
                raise InputError(f"{config.input} has no frame after {config.start} s: lower --start")
    for note in out.notes:
        say(f"note: {note}")
    return Upscaled(path=out.path, frames=out.written)


def announcement(
    config: UpscaleConfig, clip: FrameReader, upscaler: Upscaler, out: "VideoWriter | FolderWriter"
) -> Iterator[str]:
    """Yield the lines that are printed before work begins: sizes, model, memory, and what a reader should know."""
    (height, width), (tall, wide) = clip.size, _out_size(config, clip, upscaler.scale)
    rate = f"{float(clip.rate or FOLDER_RATE):.4g} fps"
    colour = clip.colour.name if clip.colour else "RGB"
    yield f"{clip.path.name} ({width}x{height}, {rate}, {colour}) -> {out.path} ({wide}x{tall})"
    plan = upscaler.plan(clip.size)
    extent = f"tiles of {plan.tile}" if plan.tile else "whole frames"
    extent += f", windows of {plan.window}" if plan.window > 1 else ""
    yield f"{upscaler.name}, {extent}, {upscaler.precision} precision"
    yield f"memory: {_memory(config, clip, plan, upscaler.scale)}"
    for note in (*clip.notes, *_losses(clip, out)):
        yield f"note: {note}"


def _losses(clip: FrameReader, out: "VideoWriter | FolderWriter") -> Iterator[str]:
    """Yield what the output cannot hold."""
    tracks, lost = clip.tracks, [*clip.tracks.left_out]
    if isinstance(out, FolderWriter):
        lost += ["sound"] * clip.has_audio + ["chapters"] * bool(tracks.chapters) + ["titles"] * bool(tracks.titles)
        lost += ["the length of each picture"] * (clip.files is None and clip.colour is None)
        if clip.has_audio:
            yield "a frame folder holds no sound"
            lost.remove("sound")
    elif clip.profile:
        lost.append("the pictures' colour profile")
    if tracks.hdr and (isinstance(out, FolderWriter) or out.path.suffix.lower() == ".webm"):
        lost.append("HDR mastering metadata")
    if lost:
        yield f"left out: {', '.join(dict.fromkeys(lost))}"


def _run(
    config: UpscaleConfig, clip: FrameReader, span: _Span, upscaler: Upscaler, out: "VideoWriter | FolderWriter", *,
    progress: bool, say: Callable[[str], None],
) -> None:  # fmt: skip
    # Frames leave the upscaler in the order and number in which they came: each finds its time and source here.
    pending: deque[tuple[Fraction, np.ndarray]] = deque()  # as many as the upscaler holds back
    broken: list[BrokenClip] = []

    def read() -> Iterator[np.ndarray]:
        try:
            for time, frame in clip.timed(span.start, span.stop):
                pending.append((time - span.offset, frame))
                yield frame
        except BrokenClip as error:  # what came before it is still upscaled
            broken.append(error)

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
    if broken:
        kept = f"; the first {out.written} frames are kept in {out.partial}" if out.written else ""
        raise BrokenClip(f"{broken[0]}{kept}")
    if isinstance(out, VideoWriter) and clip.ends is not None:
        out.ends = clip.ends - span.offset


def _span(config: UpscaleConfig, clip: FrameReader) -> _Span:
    start, stop = config.span
    # Without a start the file's clock is kept from its earliest stream on, so that sound and picture stay in step.
    return _Span(start=start, stop=stop, offset=clip.origin + start if start else clip.begins)


def _writer(config: UpscaleConfig, clip: FrameReader, span: _Span, scale: int) -> "VideoWriter | FolderWriter":
    if not is_video_name(config.output):
        names = clip.names(span.start, span.stop)  # frames of a folder keep their names, those of a video are numbered
        every = () if names is None else [file.stem for file in clip.files or ()]
        return FolderWriter(
            Path(config.output), names=names, digits=6, replaces=every, profile=clip.profile, overwrite=config.overwrite
        )
    first, last = _moments(clip, span)
    audio = (
        AudioCopy(clip.path, start=first, stop=last, offset=span.offset) if config.audio and clip.has_audio else None
    )
    if audio is not None:
        audio.check(Path(config.output).suffix.lower())
    return VideoWriter(
        Path(config.output), clip.rate or FOLDER_RATE, _out_size(config, clip, scale), config.crf, colour=clip.colour,
        time_base=clip.time_base, aspect=clip.aspect, audio=audio, tracks=clip.tracks.part(span.offset, first, last),
        overwrite=config.overwrite,
    )  # fmt: skip


def _moments(clip: FrameReader, span: _Span) -> tuple[Fraction | None, Fraction | None]:
    """Return the range on the file's clock; None is open, so that sound before the first picture is kept."""
    return (
        clip.origin + span.start if span.start else None,
        None if span.stop is None else clip.origin + span.stop,
    )


def _out_size(config: UpscaleConfig, clip: FrameReader, scale: int) -> tuple[int, int]:
    height, width = clip.size
    return height * scale, width * scale * (2 if config.compare else 1)


def _beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.concatenate([left, right], axis=1)


def _memory(config: UpscaleConfig, clip: FrameReader, plan: MemoryPlan, scale: int) -> str:
    height, width = _out_size(config, clip, scale)
    encoder = ENCODER_FRAMES * 3 * height * width // 2 if is_video_name(config.output) else 0
    host = PROGRAM + plan.host_bytes + encoder
    if pick_device(config.device).type == "cpu":
        return f"at most about {(plan.device_bytes + host) / GIGABYTE:.1f} GB, however long the clip"
    device = f"{plan.device_bytes / GIGABYTE:.1f} GB on the GPU"
    return f"at most about {device}, {host / GIGABYTE:.1f} GB of main memory, however long the clip"
