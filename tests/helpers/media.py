"""Small clips with one peculiarity each, written with PyAV directly, without stvsr.video."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def moving(count: int, height: int = 32, width: int = 48, *, seed: int = 0) -> np.ndarray:
    """Return uint8 (count, height, width, 3): smooth coloured waves that drift by one pixel a frame."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, : width + count]
    phase, period = rng.uniform(0, 6, 3), rng.uniform(6, 14, 3)
    wide = np.stack(
        [127 + 90 * np.sin(x / period[c] + phase[c]) * np.cos(y / period[c - 1]) for c in range(3)], axis=-1
    )
    return np.stack([wide[:, k : k + width] for k in range(count)]).round().astype(np.uint8)


def encode(
    path: Path, frames: np.ndarray, *, codec: str = "libx264", pix_fmt: str = "yuv420p", rate: int = 25,
    times: list[int] | None = None, rotation: tuple[float, bool, bool] | None = None, sound: float = 0.0,
    sound_codec: str = "aac", options: dict | None = None, planes: bool = False, tags: dict | None = None,
    sar: Fraction | None = None, container_options: dict | None = None,
) -> Path:  # fmt: skip
    """Write a clip; `times` are ticks of 1/1000 s, `sound` seconds of noise; with `planes` frames are (3, H, W) YUV."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or ({"crf": "1"} if codec == "libx264" else {}))
        stream.height, stream.width = frames.shape[-2:] if planes else frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        if times:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        if sar:
            stream.codec_context.sample_aspect_ratio = sar
        if rotation:
            stream.set_display_rotation(*rotation)
        audio = container.add_stream(sound_codec, rate=48000, layout="mono") if sound else None
        for index, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(array, format=pix_fmt if planes or array.ndim == 2 else "rgb24")
            frame.pts = times[index] if times else index
            frame.time_base = Fraction(1, 1000) if times else Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio:
            _noise(container, audio, sound)
    return path


def _noise(container: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    rng = np.random.default_rng(0)
    for index in range(int(seconds * 48000 / 960)):
        frame = av.AudioFrame.from_ndarray(
            rng.uniform(-0.1, 0.1, (1, 960)).astype(np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts, frame.time_base = 48000, index * 960, Fraction(1, 48000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def packets(path: Path, kind: str) -> list[tuple[Fraction, bytes]]:
    """Return (time, content) of every packet of a kind of stream."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [(p.pts * p.time_base, bytes(p)) for p in container.demux(stream) if p.pts is not None]


def numbered(count: int = 12, height: int = 48, width: int = 64, *, step: int = 18) -> np.ndarray:
    """Return uint8 (count, height, width, 3): waves; the left third of frame n has the grey level 16 + step * n."""
    frames = moving(count, height, width)
    frames[:, :, : width // 3] = (16 + step * np.arange(count))[:, None, None, None]
    return frames


def numbers(frames: Iterable[np.ndarray], *, step: int = 18) -> list[int]:
    """Return the numbers of frames that `numbered` made, whatever a codec did to them."""
    return [round((float(frame[:, : frame.shape[1] // 4].mean()) - 16) / step) for frame in frames]


def film(
    path: Path, codec: str, *, order: str = "v", pix_fmt: str = "yuv420p", sound_codec: str = "aac", count: int = 12,
    options: dict | None = None,
) -> Path:  # fmt: skip
    """Write numbered frames at 25 fps with streams in this order: "v" pictures, "a" as long a noise."""
    with av.open(str(path), "w") as container:
        streams: dict = {}
        for kind in order:
            if kind == "v":
                streams["v"] = stream = container.add_stream(codec, rate=25, options=options or {})
                stream.height, stream.width, stream.pix_fmt = 48, 64, pix_fmt
                if codec not in ("libx264", "libx265", "libvpx-vp9", "libvpx", "ffv1", "png", "gif"):
                    stream.bit_rate = 2_000_000
            elif kind == "a":
                streams[f"a{len(streams)}"] = container.add_stream(sound_codec, rate=48000, layout="stereo")
        container.start_encoding()
        for index, array in enumerate(numbered(count)):
            frame = av.VideoFrame.from_ndarray(array).reformat(format=pix_fmt)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(streams["v"].encode(frame))
            for sound in (stream for name, stream in streams.items() if name != "v"):
                _stereo(container, sound, index)
        for stream in streams.values():
            container.mux(stream.encode())
    return path


def _stereo(container: av.container.OutputContainer, stream: av.AudioStream, index: int) -> None:
    """Encode one frame's 40 ms of noise."""
    noise = np.random.default_rng(index).integers(-3000, 3000, (1, 2 * 1920), dtype=np.int16)
    frame = av.AudioFrame.from_ndarray(noise, format="s16", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = 48000, index * 1920, Fraction(1, 48000)
    container.mux(stream.encode(frame))
