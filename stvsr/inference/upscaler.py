"""Upscale clips of any length: frames stream in and out, memory is bounded by a window of frames and a tile of each.

upscaler = load_upscaler("basicvsr-bi")
write_frames("upscaled", upscaler(open_clip("clip.mp4")))
"""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from stvsr.data.shots import by_shot
from stvsr.data.windows import centred, overlapping
from stvsr.degradation import bicubic_up, to_float, to_uint8
from stvsr.errors import InputError
from stvsr.flow import estimator
from stvsr.inference.memory import FLOAT, TILES, MemoryPlan, largest_plan, tile_area, tile_fits
from stvsr.inference.precision import CHECKED_FRAMES, agrees, check_precision_name, reduced_type
from stvsr.inference.tiles import Tile, upscale_tiles
from stvsr.models.basicvsr import SCALE, BasicVSR
from stvsr.models.generators import load_generator
from stvsr.runs.device import exact

BICUBIC_TILE, BICUBIC_OVERLAP = 256, 16  # input pixels; the kernel reaches 2, so the blended values are the same
SHORT_WINDOW = 20  # frames; for weights that recommend nothing, and where a longer window does not fit the memory
WINDOW_OVERLAP = 6  # frames, at most half a window


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """How much is held at a time, and in which precision it is computed.

    tile: side of a tile, input pixels; 0 is the whole frame, None the largest that fits into the free memory.
    tile_overlap: input pixels that adjacent tiles share.
    window: frames that BasicVSR propagates together; None is what its weights recommend, less where memory is short.
    window_overlap: frames that two windows share; None is 6, at most half a window.
    precision: `full` is float32, also on a GPU; `bfloat16` and `float16` are 16 bits; `auto` is 16 bits where the
    processor has instructions for them and the first frames of the clip lose at most 0.02 dB of PSNR, else `full`.
    """

    tile: int | None = None
    tile_overlap: int = 32
    window: int | None = None
    window_overlap: int | None = None
    precision: str = "auto"

    def __post_init__(self) -> None:
        check_precision_name(self.precision)
        if self.tile_overlap < 4:
            raise InputError(f"tile overlap is {self.tile_overlap}: at least 4 input pixels")
        if self.tile is not None and not tile_fits(self.tile, self.tile_overlap):
            raise InputError(
                f"tile is {self.tile}: 0 for the whole frame, or at least {2 * self.tile_overlap} (twice the overlap)"
            )
        if self.window is not None and self.window < 1:
            raise InputError(f"window is {self.window}: at least 1 frame")
        shared, longest = self.window_overlap, None if self.window is None else self.window // 2
        if shared is not None and (shared < 0 or (longest is not None and shared > longest)):
            raise InputError(f"window is {self.window} with {shared} shared: at least 0, at most half of the window")

    def overlap(self, window: int) -> int:
        """Return how many frames adjacent windows of this length share."""
        return min(WINDOW_OVERLAP if self.window_overlap is None else self.window_overlap, window // 2)


class Upscaler:
    """Map 8-bit LR frames to 8-bit HR frames: one for each, in their order.

    Attributes:
        meta: the checkpoint's description (`load_generator`); name and sha256 are always there.
        scale: HR over LR size. config: window, tile and precision.

    Each shot is upscaled as a separate clip, so that no window looks across a cut.
    """

    def __init__(self, meta: dict, scale: int, config: InferenceConfig) -> None:
        self.meta, self.scale, self.config = meta, scale, config

    @property
    def name(self) -> str:
        """The name it was loaded by, or its file's."""
        return self.meta["name"]

    @property
    def precision(self) -> str:
        """The precision in use: full, bfloat16 or float16; `auto` until `settle_precision` was called."""
        return "full"

    def settle_precision(self, frames: Iterable[np.ndarray]) -> None:
        """Decide what `auto` means for a clip, on its first frames; `frames` is read only where there is a choice."""

    def __call__(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield one uint8 (scale*H, scale*W, 3) RGB frame for every uint8 (H, W, 3) frame."""
        if self.precision == "auto":
            frames = iter(frames)
            first = list(itertools.islice(frames, CHECKED_FRAMES))
            self.settle_precision(first)
            frames = itertools.chain(first, frames)
        for _, shot in itertools.groupby(by_shot(frames), key=lambda pair: pair[0]):
            yield from self._upscale(frame for _, frame in shot)

    def plan(self, size: tuple[int, int]) -> MemoryPlan:
        """Return tile, window and memory for frames of `size` (H, W), estimated generously."""
        raise NotImplementedError

    def _upscale(self, shot: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        raise NotImplementedError


class _Bicubic(Upscaler):
    def plan(self, size: tuple[int, int]) -> MemoryPlan:
        float_frames = 4 * 3 * 4 * self.scale**2 * size[0] * size[1]  # resized rows, result, its clamped copy, rounding
        return MemoryPlan(tile=0, device_bytes=float_frames, host_bytes=0)

    def _upscale(self, shot: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        return (to_uint8(self._enlarge(frame))[0] for frame in shot)

    def _enlarge(self, frame: np.ndarray) -> Tensor:
        """Enlarge in tiles: the matrices of `bicubic_up` grow with the square of the side. Equal up to rounding."""
        lr = to_float(frame[None])
        enlarge = functools.partial(upscale_tiles, lambda tile: bicubic_up(tile.of(lr), self.scale))
        return next(enlarge(frame.shape[:2], 1, BICUBIC_TILE, BICUBIC_OVERLAP, self.scale))[None]


class _Network(Upscaler):
    def __init__(
        self, meta: dict, scale: int, config: InferenceConfig, network: nn.Module, device: torch.device
    ) -> None:
        super().__init__(meta, scale, config)
        # channels last in memory: faster on a CPU (`benchmarks/generators.py`)
        self.network = network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.device = device
        self._reduced = reduced_type(config.precision, device)  # None is float32
        self._is_settled = config.precision != "auto" or self._reduced is None
        self._plans: dict[tuple[int, int], MemoryPlan] = {}

    @property
    def precision(self) -> str:
        if not self._is_settled:
            return "auto"
        return "full" if self._reduced is None else str(self._reduced).removeprefix("torch.")

    def settle_precision(self, frames: Iterable[np.ndarray]) -> None:
        first = [] if self._is_settled else list(itertools.islice(frames, CHECKED_FRAMES))
        if not first:
            return
        self._is_settled, reduced = True, self._reduced

        def run(small: np.ndarray, dtype: torch.dtype | None) -> np.ndarray:
            self._reduced = dtype
            return np.stack(list(self._upscale(iter(small))))

        both = (functools.partial(run, dtype=dtype) for dtype in (None, reduced))
        self._reduced = reduced if agrees(first, self.scale, *both) else None

    def plan(self, size: tuple[int, int]) -> MemoryPlan:
        """Return tile, window and memory for frames of `size` (H, W); they are chosen at the first call, and kept.

        Raises:
            InputError: the smallest choice needs more than the free memory.
        """
        if size not in self._plans:
            self._plans[size] = self._choose(size)
        return self._plans[size]

    def _choose(self, size: tuple[int, int]) -> MemoryPlan:
        tiles = [self.config.tile] if self.config.tile is not None else [
            tile for tile in TILES if tile < max(size) and tile_fits(tile, self.config.tile_overlap)
        ]  # fmt: skip
        windows = self._windows()
        if len(tiles) == len(windows) == 1:  # nothing to choose: the user's word, without a look at the memory
            return self._estimate(size, tiles[0], windows[0])
        estimate = functools.partial(self._estimate, size)
        return largest_plan(estimate, tiles, windows, self.device, self.name)

    def _windows(self) -> list[int]:
        """Return the lengths of window to choose from, best first."""
        raise NotImplementedError

    def _estimate(self, size: tuple[int, int], tile: int, window: int) -> MemoryPlan:
        raise NotImplementedError

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        reduced = self._reduced is not None
        with torch.inference_mode(), torch.autocast(self.device.type, self._reduced) if reduced else exact():
            yield

    def _steps(self, results: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield from a lazy computation in inference mode; the consumer's code between two yields runs outside it."""
        results = iter(results)
        while True:
            with self._running():
                result = next(results, None)
            if result is None:
                return
            yield result

    def _tiled(
        self, upscale: Callable[[Tile], Iterable[Tensor]], size: tuple[int, int], length: int
    ) -> Iterator[Tensor]:
        return self._steps(
            upscale_tiles(upscale, size, length, self.plan(size).tile, self.config.tile_overlap, self.scale)
        )


class _Windowed(_Network):
    """RBPN: every frame from its neighbours; beyond a shot's ends stands the mirrored frame (t-1 is t+1 there)."""

    def _windows(self) -> list[int]:
        return [self.network.config.num_frames]

    def _estimate(self, size: tuple[int, int], tile: int, window: int) -> MemoryPlan:
        config = self.network.config
        area, covered = size[0] * size[1], tile_area(size, tile)
        neighbours = window - 1
        # H_misr, H_k, their concatenation and one more at a time; the projections' stages; three LR maps per neighbour
        high = self.scale**2 * config.feat * (4 * neighbours + config.num_stages + 5)
        per_pixel = 1.2 * FLOAT * (high + 3 * config.base_filter * neighbours)
        frames = FLOAT * 3 * (4 * self.scale**2 + 2 * window)
        return MemoryPlan(tile=tile, window=window, device_bytes=int(per_pixel * covered), host_bytes=frames * area)

    def _upscale(self, shot: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        for window, indices in centred(shot, self.network.config.num_frames):
            for frame in self._target(window, indices):
                yield to_uint8(frame[None])[0]

    def _target(self, window: list[np.ndarray], indices: list[int]) -> Iterator[Tensor]:
        middle = len(window) // 2
        others = [k for k in range(len(window)) if k != middle]
        estimate = estimator("dis")
        # A mirrored window names a neighbour twice: its flow is estimated once.
        flow_to = {
            index: estimate(window[middle], window[indices.index(index)]) for index in {indices[k] for k in others}
        }
        flows = torch.from_numpy(np.stack([flow_to[indices[k]] for k in others]))[None].to(self.device)
        lr = to_float(np.stack(window))[None].to(self.device)

        def upscale(tile: Tile) -> Tensor:
            return self.network(tile.of(lr[:, middle]), tile.of(lr[:, others]), tile.of(flows))

        return self._tiled(upscale, window[0].shape[:2], 1)


class _Recurrent(_Network):
    """BasicVSR: windows of a shot share frames, and the two results for a shared frame are cross-faded."""

    def _windows(self) -> list[int]:
        """Return the recommended window, then a shorter one that needs less memory."""
        if self.config.window is not None:
            return [self.config.window]
        recommended = self.meta.get("window", SHORT_WINDOW)
        return [recommended, SHORT_WINDOW] if recommended > SHORT_WINDOW else [recommended]

    def _estimate(self, size: tuple[int, int], tile: int, window: int) -> MemoryPlan:
        features, upsampled = self.network.config.features, self.network.config.upsampled
        shared = self.config.overlap(window)
        area, covered = size[0] * size[1], tile_area(size, tile)
        # about five maps of features at the output's size, and two per frame of the window at the input's; or SPyNet
        network = FLOAT * (5 * SCALE**2 * upsampled + 2 * features * window) * covered
        flow = FLOAT * (700 + 4 * window) * area
        waiting = (window // 2 if tile else 0) + 2 * shared + 4  # frames; those of tiles in 16 bits
        return MemoryPlan(
            tile=tile, window=window, device_bytes=max(network, flow),
            host_bytes=FLOAT * 3 * (SCALE**2 * waiting + 3 * window) * area,
        )  # fmt: skip

    def _upscale(self, shot: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        first = next(shot, None)
        if first is None:
            return
        length = self.plan(first.shape[:2]).window
        shared = self.config.overlap(length)
        held: list[Tensor] = []
        for window, more in overlapping(itertools.chain([first], shot), length, shared):
            done = len(window) - (shared if more else 0)
            earlier, held = held, []
            for k, frame in enumerate(self._window(window)):
                frame = frame.float().cpu()
                if k < len(earlier):  # the previous window's result for this frame; its weight falls linearly
                    frame = frame.lerp(earlier[k], 1 - (k + 1) / (len(earlier) + 1))
                if k < done:
                    yield to_uint8(frame[None])[0]
                else:
                    held.append(frame)

    def _window(self, window: list[np.ndarray]) -> Iterator[Tensor]:
        clip = to_float(np.stack(window))[None].to(self.device)
        # Flow of the whole frame, pair by pair: tiles then agree on it, and memory does not grow with the window.
        pairs = self._steps(torch.stack(self.network.flows(clip[:, t : t + 2])) for t in range(max(1, len(window) - 1)))
        to_next, to_previous = torch.cat(list(pairs), dim=2)

        def upscale(tile: Tile) -> Iterator[Tensor]:
            return (frame[0] for frame in self.network.frames(tile.of(clip), tile.of(to_next), tile.of(to_previous)))

        return self._tiled(upscale, window[0].shape[:2], len(window))


def bicubic_upscaler(scale: int) -> Upscaler:
    """Return MATLAB's bicubic enlargement as an upscaler, the baseline of every comparison."""
    return _Bicubic({"name": "bicubic", "sha256": ""}, scale, InferenceConfig())


def load_upscaler(
    name_or_checkpoint: str | Path, device: torch.device | str = "cpu", config: InferenceConfig | None = None
) -> Upscaler:
    """Return an upscaler: `bicubic`, `basicvsr-bi`, `basicvsr-bd`, weights shipped with the package, or a checkpoint.

    Raises:
        InputError: the name is unknown, the asset or file is missing, or its tensors do not fit.
    """
    config = config or InferenceConfig()
    if str(name_or_checkpoint) == "bicubic":
        return bicubic_upscaler(SCALE)
    network, meta = load_generator(name_or_checkpoint)
    if isinstance(network, BasicVSR):
        return _Recurrent(meta, SCALE, config, network, torch.device(device))
    scale = network.config.scale
    return _Windowed(meta, int(scale), config, network, torch.device(device))
