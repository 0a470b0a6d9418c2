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
import psutil
import torch
from torch import Tensor, nn

from stvsr.data.shots import by_shot
from stvsr.data.windows import centred, overlapping
from stvsr.degradation import bicubic_up, to_float, to_uint8
from stvsr.errors import InputError
from stvsr.flow import estimator
from stvsr.inference.tiles import Tile, upscale_tiles
from stvsr.models.basicvsr import SCALE, BasicVSR
from stvsr.models.generators import load_generator
from stvsr.runs.device import exact

TILES = (0, 768, 512, 384, 256, 192, 128, 96, 64)  # input pixels a side, tried in this order
SHARE = 0.6  # of the free memory: the estimate is no promise, and others need some too
FLOAT = 4  # bytes
BICUBIC_TILE, BICUBIC_OVERLAP = 256, 16  # input pixels; the kernel reaches 2, so the blended values are the same


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """How much is held at a time.

    tile: side of a tile, input pixels; 0 is the whole frame, None the largest that fits into the free memory.
    tile_overlap: input pixels that adjacent tiles share.
    window: frames that BasicVSR propagates together. window_overlap: frames that two windows share.
    half: 16-bit arithmetic; None means on CUDA only. Without it results are those of full float32, also on a GPU.
    """

    tile: int | None = None
    tile_overlap: int = 32
    window: int = 20
    window_overlap: int = 6
    half: bool | None = None

    def __post_init__(self) -> None:
        if self.tile_overlap < 4:
            raise InputError(f"tile overlap is {self.tile_overlap}: at least 4 input pixels")
        if self.tile is not None and not tile_fits(self.tile, self.tile_overlap):
            raise InputError(
                f"tile is {self.tile}: 0 for the whole frame, or at least {2 * self.tile_overlap} (twice the overlap)"
            )
        if self.window < 1 or not 0 <= self.window_overlap <= self.window // 2:
            raise InputError(
                f"window is {self.window} with {self.window_overlap} shared: at least 1, of which at most half shared"
            )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What upscaling frames of one size takes: tile side (0: whole frame) and, at most, bytes of working memory.

    device_bytes: where the network runs. host_bytes: for frames in flight, in main memory. On a CPU both are one.
    """

    tile: int
    device_bytes: int
    host_bytes: int


class Upscaler:
    """Map 8-bit LR frames to 8-bit HR frames, as many as came in, in their order, one shot at a time.

    Attributes:
        meta: what its checkpoint says of itself (`load_generator`), of which name and sha256 are always there.
        scale: HR over LR size. config: window and tile.

    Frames of different shots never meet: a shot is upscaled as a clip of its own.
    """

    def __init__(self, meta: dict, scale: int, config: InferenceConfig) -> None:
        self.meta, self.scale, self.config = meta, scale, config

    @property
    def name(self) -> str:
        """The name it was loaded by, or its file's."""
        return self.meta["name"]

    def __call__(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield one uint8 (scale*H, scale*W, 3) RGB frame for every uint8 (H, W, 3) frame."""
        for _, shot in itertools.groupby(by_shot(frames), key=lambda pair: pair[0]):
            yield from self._upscale(frame for _, frame in shot)

    def plan(self, size: tuple[int, int]) -> Plan:
        """Return tile and memory for frames of `size` (H, W), estimated generously."""
        raise NotImplementedError

    def _upscale(self, shot: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        raise NotImplementedError


class _Bicubic(Upscaler):
    def plan(self, size: tuple[int, int]) -> Plan:
        float_frames = 4 * 3 * 4 * self.scale**2 * size[0] * size[1]  # resized rows, result, its clamped copy, rounding
        return Plan(tile=0, device_bytes=float_frames, host_bytes=0)

    def _upscale(self, shot: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        return (to_uint8(self._enlarge(frame))[0] for frame in shot)

    def _enlarge(self, frame: np.ndarray) -> Tensor:
        """Enlarge in tiles, because the matrices of `bicubic_up` grow with the square of the side; equal but for float rounding."""
        lr = to_float(frame[None])
        enlarge = functools.partial(upscale_tiles, lambda tile: bicubic_up(tile.of(lr), self.scale))
        return next(enlarge(frame.shape[:2], 1, BICUBIC_TILE, BICUBIC_OVERLAP, self.scale))[None]


class _Network(Upscaler):
    def __init__(
        self, meta: dict, scale: int, config: InferenceConfig, network: nn.Module, device: torch.device
    ) -> None:
        super().__init__(meta, scale, config)
        # channels last in memory: faster on a CPU (`benchmarks/upscale.py layout`: 1.35 to 2 times at 320x180)
        self.network, self.device = network.to(device, memory_format=torch.channels_last).eval(), device
        self._plans: dict[tuple[int, int], Plan] = {}

    def plan(self, size: tuple[int, int]) -> Plan:
        """Return tile and memory for frames of `size` (H, W); the tile is settled at the first call, and kept.

        Raises:
            InputError: the smallest tile needs more than the free memory.
        """
        if size not in self._plans:
            self._plans[size] = (
                self._settle(size) if self.config.tile is None else self._estimate(size, self.config.tile)
            )
        return self._plans[size]

    def _settle(self, size: tuple[int, int]) -> Plan:
        """Return the plan with the largest tile that leaves some memory to others, or the least plan if that just fits."""
        free = free_memory(self.device)
        tiles = [tile for tile in TILES if tile < max(size) and tile_fits(tile, self.config.tile_overlap)]
        plans = [self._estimate(size, tile) for tile in tiles]
        least = min(plans, key=lambda plan: max(self._needs(plan)))
        for plan, share in [*((plan, SHARE) for plan in plans), (least, 1.0)]:
            if all(need <= share * there for need, there in zip(self._needs(plan), free, strict=True)):
                return plan
        need = max(self._needs(least)) / 1e9
        raise InputError(
            f"{self.name} needs about {need:.1f} GB, {min(free) / 1e9:.1f} GB are free: lower the window, or set a tile size"
        )

    def _needs(self, plan: Plan) -> tuple[int, int]:
        """Bytes on the device and in main memory; a CPU's device is main memory."""
        total = plan.device_bytes + plan.host_bytes
        return (total, total) if self.device.type == "cpu" else (plan.device_bytes, plan.host_bytes)

    def _estimate(self, size: tuple[int, int], tile: int) -> Plan:
        raise NotImplementedError

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        half = self.device.type == "cuda" if self.config.half is None else self.config.half
        dtype = torch.float16 if self.device.type == "cuda" else torch.bfloat16  # what each of them is fast in
        with torch.inference_mode(), torch.autocast(self.device.type, dtype=dtype) if half else exact():
            yield

    def _steps(self, results: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield from a lazy computation, each step of it in inference mode, but nothing that happens between them."""
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

    def _estimate(self, size: tuple[int, int], tile: int) -> Plan:
        config = self.network.config
        area, covered = size[0] * size[1], _tile_area(size, tile)
        neighbours = config.num_frames - 1
        # H_misr, H_k, their concatenation and one more at a time; the projections' stages; three LR maps per neighbour
        high = self.scale**2 * config.feat * (4 * neighbours + config.num_stages + 5)
        per_pixel = 1.2 * FLOAT * (high + 3 * config.base_filter * neighbours)
        frames = FLOAT * 3 * (4 * self.scale**2 + 2 * config.num_frames)
        return Plan(tile=tile, device_bytes=int(per_pixel * covered), host_bytes=frames * area)

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

    def _estimate(self, size: tuple[int, int], tile: int) -> Plan:
        features, window = self.network.config.features, self.config.window
        area, covered = size[0] * size[1], _tile_area(size, tile)
        # About five maps of 64 features at the output's size, and per frame of the window three of the input's; or
        # SPyNet.
        network = FLOAT * (5 * SCALE**2 * 64 + 3 * features * window) * covered
        flow = FLOAT * (700 + 4 * window) * area
        waiting = (window // 2 if tile else 0) + 2 * self.config.window_overlap + 4  # frames; those of tiles in 16 bits
        return Plan(
            tile=tile, device_bytes=max(network, flow), host_bytes=FLOAT * 3 * (SCALE**2 * waiting + 3 * window) * area
        )

    def _upscale(self, shot: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        held: list[Tensor] = []
        for window, more in overlapping(shot, self.config.window, self.config.window_overlap):
            done = len(window) - (self.config.window_overlap if more else 0)
            earlier, held = held, []
            for k, frame in enumerate(self._window(window)):
                frame = frame.float().cpu()
                if k < len(earlier):  # the same frame as the window before saw it; its word counts less and less
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


def tile_fits(tile: int, overlap: int) -> bool:
    """Whether tiles of this side can share `overlap` pixels with both neighbours; 0 is the whole frame."""
    return tile == 0 or tile >= 2 * overlap


def free_memory(device: torch.device) -> tuple[int, int]:
    """Return the bytes that are free on the device and in main memory."""
    host = psutil.virtual_memory().available
    return (torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else host), host


def bicubic_upscaler(scale: int) -> Upscaler:
    """Return MATLAB's bicubic enlargement as an upscaler: what every network is compared with."""
    return _Bicubic({"name": "bicubic", "sha256": ""}, scale, InferenceConfig())


def load_upscaler(
    name_or_checkpoint: str | Path, device: torch.device | str = "cpu", config: InferenceConfig | None = None
) -> Upscaler:
    """Return what upscales clips: `bicubic`, `basicvsr-bi`, `basicvsr-bd`, weights shipped with the package, or a checkpoint.

    Raises:
        InputError: the name is unknown, the asset or file is missing, or its tensors do not fit.
    """
    config = config or InferenceConfig()
    if str(name_or_checkpoint) == "bicubic":
        return bicubic_upscaler(SCALE)
    network, meta = load_generator(name_or_checkpoint)
    if isinstance(network, BasicVSR):
        return _Recurrent(meta, SCALE, config, network, torch.device(device))
    return _Windowed(meta, network.config.scale, config, network, torch.device(device))


def _tile_area(size: tuple[int, int], tile: int) -> int:
    return min(size[0], tile or size[0]) * min(size[1], tile or size[1])
