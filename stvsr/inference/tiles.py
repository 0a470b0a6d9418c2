"""Cut a frame into overlapping tiles and blend the results without visible seams."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

SLOPE = 4  # the outer quarter of the overlap has weight zero: there the network saw the tile's artificial border


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Rows top..bottom-1 and columns left..right-1 of a frame."""

    top: int
    bottom: int
    left: int
    right: int

    def of(self, image: Tensor, scale: int = 1) -> Tensor:
        """Return the view of `image` (..., scale*H, scale*W) that this tile covers."""
        return image[..., self.top * scale : self.bottom * scale, self.left * scale : self.right * scale]


def cut(height: int, width: int, tile: int, overlap: int) -> list[Tile]:
    """Return tiles of `tile` pixels a side (the frame's own side where that is smaller), evenly spread.

    Adjacent tiles share at least `overlap` pixels; `tile` 0 is one tile, the whole frame.
    """
    rows, columns = (_spans(side, tile or side, overlap) for side in (height, width))
    return [Tile(top=top, bottom=bottom, left=left, right=right) for top, bottom in rows for left, right in columns]


def blend_weight(tile: Tile, height: int, width: int, overlap: int, scale: int) -> Tensor:
    """Return the tile's share of every output pixel, (scale*h, scale*w): a ramp over the overlap, flat elsewhere."""
    rows = _ramp(tile.bottom - tile.top, overlap, scale, first=tile.top == 0, last=tile.bottom == height)
    columns = _ramp(tile.right - tile.left, overlap, scale, first=tile.left == 0, last=tile.right == width)
    return rows[:, None] * columns


def upscale_tiles(
    upscale: Callable[[Tile], Iterable[Tensor]], size: tuple[int, int], length: int, tile: int, overlap: int, scale: int
) -> Iterator[Tensor]:
    """Yield the `length` upscaled frames of a clip, (3, scale*H, scale*W) each.

    The frames of a single tile are passed on one by one. Several tiles are blended on the CPU, in a buffer that
    holds the whole clip.

    Args:
        upscale: maps a tile to its `length` upscaled frames, (3, scale*h, scale*w) each.
        size: (H, W) of the input frames. tile, overlap: input pixels, as in `cut`.
    """
    height, width = size
    tiles = cut(height, width, tile, overlap)
    if len(tiles) == 1:
        yield from upscale(tiles[0])
        return
    weights = [blend_weight(part, height, width, overlap, scale) for part in tiles]
    total = torch.zeros(height * scale, width * scale)
    for part, weight in zip(tiles, weights, strict=True):
        part.of(total, scale).add_(weight)
    # The buffer of a clip has 16 bits, an error of at most a tenth of an 8-bit level; that of a single frame has 32.
    result = torch.zeros(length, 3, height * scale, width * scale, dtype=torch.float16 if length > 1 else torch.float32)
    for part, weight in zip(tiles, weights, strict=True):
        share = weight / part.of(total, scale)
        for frame, upscaled in zip(result, upscale(part), strict=True):
            part.of(frame, scale).add_(upscaled.float().cpu() * share)
    yield from result


def _spans(side: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    if side <= tile:
        return [(0, side)]
    count = -(-(side - overlap) // (tile - overlap))
    starts = [round(index * (side - tile) / (count - 1)) for index in range(count)]
    return [(start, start + tile) for start in starts]


def _ramp(side: int, overlap: int, scale: int, *, first: bool, last: bool) -> Tensor:
    position = (torch.arange(side * scale) + 0.5) / scale
    margin = overlap / SLOPE
    rise, fall = (
        ((distance - margin) / (overlap - 2 * margin)).clamp(0, 1) for distance in (position, side - position)
    )
    return (1 if first else rise) * (1 if last else fall) * torch.ones(side * scale)
