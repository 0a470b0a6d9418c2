"""Upscale clips of any length: frames stream in and out, memory is bounded by a window of frames and a tile of each.

    upscaler = load_upscaler("basicvsr-bi")
    write_frames("upscaled", upscaler(open_clip("clip.mp4")))
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stvsr.datasets import window_indices
from stvsr.degradation import bicubic_up, to_float, to_uint8
from stvsr.errors import InputError
from stvsr.flow import estimator
from stvsr.models import load_generator
from stvsr.models.basicvsr import SCALE, BasicVSR
from stvsr.shots import by_shot
from stvsr.tiles import Tile, upscale_tiles

SMALLEST_TILE = 32  # input pixels


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """How much is held at a time. More of each is slower to start and, for the window, slightly better.

    tile: side of a tile, input pixels; 0 is the whole frame. tile_overlap: input pixels that adjacent tiles share.
    window: frames that BasicVSR propagates together. window_overlap: frames that two windows share.
    half: 16-bit arithmetic; None means on CUDA only.
    """

    tile: int = 0
    tile_overlap: int = 32
    window: int = 20
    window_overlap: int = 6
    half: bool | None = None

    def __post_init__(self) -> None:
        if self.tile_overlap < 4:
            raise InputError(f"tile overlap is {self.tile_overlap}: at least 4 input pixels")
        least = max(SMALLEST_TILE, 2 * self.tile_overlap)
        if self.tile and self.tile < least:
            raise InputError(f"tile is {self.tile}: 0 for the whole frame, or at least {least} (twice the overlap)")
        if self.window < 1 or not 0 <= self.window_overlap <= self.window // 2:
            raise InputError(f"window is {self.window} with {self.window_overlap} shared: at least 1, of which at most half shared")


class Upscaler:
    """Map 8-bit LR frames to 8-bit HR frames, as many as came in, in their order, one shot at a time.

    Attributes:
        name: the name or file it was loaded by. scale: HR over LR size. config: window and tile.

    Frames of different shots never meet: a shot is upscaled as a clip of its own.
    """

    def __init__(self, name: str, scale: int, config: InferenceConfig) -> None:
        self.name, self.scale, self.config = name, scale, config

    def __call__(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield one uint8 (scale*H, scale*W, 3) RGB frame for every uint8 (H, W, 3) frame."""
        for _, shot in itertools.groupby(by_shot(frames), key=lambda pair: pair[0]):
            yield from self._upscale(frame for _, frame in shot)

    def memory(self, size: tuple[int, int]) -> int:
        """Return an upper estimate of the bytes that upscaling frames of `size` (H, W) needs, the network included."""
        raise NotImplementedError

    def _upscale(self, shot: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        raise NotImplementedError


class _Bicubic(Upscaler):
    def _upscale(self, shot: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        return (to_uint8(bicubic_up(to_float(frame[None]), self.scale))[0] for frame in shot)


class _Network(Upscaler):
    def __init__(self, name: str, scale: int, config: InferenceConfig, network: nn.Module, device: torch.device) -> None:
        super().__init__(name, scale, config)
        self.network, self.device = network.to(device).eval(), device

    def _precision(self) -> contextlib.AbstractContextManager:
        half = self.device.type == "cuda" if self.config.half is None else self.config.half
        dtype = torch.float16 if self.device.type == "cuda" else torch.bfloat16  # what each of them is fast in
        return torch.autocast(self.device.type, dtype=dtype, enabled=half)

    def _tiled(self, upscale: Callable[[Tile], Iterator[Tensor]], like: np.ndarray, *, length: int) -> Tensor:
        return upscale_tiles(upscale, like.shape[:2], length, self.config.tile, self.config.tile_overlap, self.scale)


class _Windowed(_Network):
    """RBPN: every frame from its neighbours; beyond a shot's ends stands the mirrored frame (t-1 is t+1 there)."""

    def _upscale(self, shot: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for window, indices in centred(shot, self.network.config.num_frames):
            yield to_uint8(self._target(window, indices))[0]

    @torch.inference_mode()
    def _target(self, window: list[np.ndarray], indices: list[int]) -> Tensor:
        middle = len(window) // 2
        others = [k for k in range(len(window)) if k != middle]
        estimate = estimator("dis")
        # A mirrored window names a neighbour twice: its flow is estimated once.
        flow_to = {indices[k]: estimate(window[middle], window[k]) for k in reversed(others)}
        flows = torch.from_numpy(np.stack([flow_to[indices[k]] for k in others]))[None].to(self.device)
        lr = to_float(np.stack(window))[None].to(self.device)

        def upscale(tile: Tile) -> Iterator[Tensor]:
            with self._precision():
                yield self.network(tile.of(lr[:, middle]), tile.of(lr[:, others]), tile.of(flows))[0]

        return self._tiled(upscale, window[0], length=1)


class _Recurrent(_Network):
    """BasicVSR: windows of a shot share frames, and the two results for a shared frame are cross-faded."""

    def _upscale(self, shot: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        held = torch.empty(0)
        for window, more in overlapping(shot, self.config.window, self.config.window_overlap):
            upscaled = self._window(window)
            for k, earlier in enumerate(held):
                upscaled[k].lerp_(earlier, 1 - (k + 1) / (len(held) + 1))
            done = len(window) - (self.config.window_overlap if more else 0)
            held = upscaled[done:].clone()
            for frame in upscaled[:done]:
                yield to_uint8(frame[None])[0]
            del upscaled, frame  # or two windows would be held at once

    @torch.inference_mode()
    def _window(self, window: list[np.ndarray]) -> Tensor:
        clip = to_float(np.stack(window))[None].to(self.device)
        # Flow of the whole frame, pair by pair: tiles then agree on it, and memory does not grow with the window.
        pairs = [self.network.flows(clip[:, t : t + 2]) for t in range(max(1, len(window) - 1))]
        to_next, to_previous = (torch.cat(flows, dim=1) for flows in zip(*pairs, strict=True))

        def upscale(tile: Tile) -> Iterator[Tensor]:
            with self._precision():
                for frame in self.network.frames(tile.of(clip), tile.of(to_next), tile.of(to_previous)):
                    yield frame[0]

        return self._tiled(upscale, window[0], length=len(window))


def centred(shot: Iterator[np.ndarray], num_frames: int) -> Iterator[tuple[list[np.ndarray], list[int]]]:
    """Yield every frame's window of `num_frames` and the frames' indices in the shot, holding one window at a time."""
    reach = num_frames // 2
    source, held, length = enumerate(shot), {}, None
    for centre in itertools.count():
        while length is None and centre + reach not in held:
            index, frame = next(source, (max(held, default=-1) + 1, None))
            if frame is None:
                length = index
            else:
                held[index] = frame
        if centre == length:
            return
        indices = window_indices(centre, num_frames, length or centre + reach + 1)
        yield [held[index] for index in indices], indices
        held.pop(centre - reach, None)


def overlapping(shot: Iterator[np.ndarray], window: int, overlap: int) -> Iterator[tuple[list[np.ndarray], bool]]:
    """Yield windows of frames, each beginning with the last `overlap` frames of the one before, and whether more follow."""
    frames = list(itertools.islice(shot, window))
    while frames:
        following = list(itertools.islice(shot, window - overlap))
        yield frames, bool(following)
        frames = frames[len(frames) - overlap :] + following if following else []


def load_upscaler(name_or_checkpoint: str | Path, device: torch.device | str = "cpu", config: InferenceConfig | None = None) -> Upscaler:
    """Return what upscales clips: `bicubic`, `basicvsr-bi`, `basicvsr-bd`, weights shipped with the package, or a checkpoint.

    Raises:
        InputError: the name is unknown, the asset or file is missing, or its tensors do not fit.
    """
    config = config or InferenceConfig()
    if str(name_or_checkpoint) == "bicubic":
        return _Bicubic("bicubic", 4, config)
    network, meta = load_generator(name_or_checkpoint)
    if isinstance(network, BasicVSR):
        return _Recurrent(meta["name"], SCALE, config, network, torch.device(device))
    return _Windowed(meta["name"], network.config.scale, config, network, torch.device(device))
