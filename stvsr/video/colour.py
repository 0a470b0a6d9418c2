"""Between a video's YUV and 8-bit RGB: matrix, range and tags, bit-exact on every machine."""

from dataclasses import dataclass

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

UNSPECIFIED = 2  # of ITU-T H.273, the tables that number matrices, primaries and transfer curves
MATRICES = {1: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 6: Colorspace.ITU601,
            7: Colorspace.SMPTE240M, 9: Colorspace.BT2020, 10: Colorspace.BT2020}  # fmt: skip


TAGS = {Colorspace.ITU709: 1, Colorspace.FCC: 4, Colorspace.ITU601: 6, Colorspace.SMPTE240M: 7, Colorspace.BT2020: 9}
NAMES = {Colorspace.ITU709: "bt709", Colorspace.FCC: "fcc", Colorspace.ITU601: "bt601",
         Colorspace.SMPTE240M: "smpte240m", Colorspace.BT2020: "bt2020"}  # fmt: skip


HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
EXACT = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


@dataclass(frozen=True, kw_only=True)
class Colour:
    """How RGB and YUV correspond, and the tags that tell a player so; primaries and transfer are H.273 numbers."""

    matrix: Colorspace = Colorspace.ITU709
    full_range: bool = False
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED

    @property
    def range(self) -> ColorRange:
        """Full (JPEG) or limited (MPEG) range."""
        return ColorRange.JPEG if self.full_range else ColorRange.MPEG

    @property
    def tag(self) -> int:
        """The matrix's number in H.273."""
        return TAGS[self.matrix]

    @property
    def name(self) -> str:
        """Matrix and range, for messages."""
        return f"{NAMES[self.matrix]} {'full' if self.full_range else 'limited'}"


def colour_of(frame: av.VideoFrame) -> Colour:
    """Return the frame's declared colour; what it does not declare is guessed from its size, as players do."""
    large = frame.height >= 720 or frame.width >= 1280
    guess = Colorspace.ITU709 if large or frame.format.is_rgb else Colorspace.ITU601
    return Colour(
        matrix=MATRICES.get(int(frame.colorspace), guess),
        full_range=int(frame.color_range) == int(ColorRange.JPEG) or frame.format.name.startswith("yuvj"),
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
    )


def to_rgb(frame: av.VideoFrame, colour: Colour, reformatter: VideoReformatter) -> np.ndarray:
    """Convert a decoded frame to uint8 (H, W, 3) RGB, or (H, W, 4) with straight alpha where it has transparency."""
    source = ColorRange.JPEG if frame.format.is_rgb else colour.range
    alpha = any(component.is_alpha for component in frame.format.components)
    return reformatter.reformat(
        frame, format="rgba" if alpha else "rgb24", src_colorspace=colour.matrix, dst_colorspace=colour.matrix,
        src_color_range=source, dst_color_range=ColorRange.JPEG, interpolation=EXACT,
    ).to_ndarray()  # fmt: skip


def from_rgb(frame: np.ndarray, pixel_format: str, colour: Colour, reformatter: VideoReformatter) -> av.VideoFrame:
    """Convert uint8 (H, W, 3) RGB to a YUV frame of `pixel_format`."""
    source = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    return reformatter.reformat(
        source, format=pixel_format, src_colorspace=colour.matrix, dst_colorspace=colour.matrix,
        src_color_range=ColorRange.JPEG, dst_color_range=colour.range, interpolation=EXACT,
    )  # fmt: skip
