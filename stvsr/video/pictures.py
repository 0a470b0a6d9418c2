"""Pictures as 8-bit RGB: stills and animations in PNG, WebP and JPEG."""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from stvsr.errors import InputError, first_line

# Image generators store whole workflows as text, and ICC profiles may pass 1 MiB: allow each chunk the limit of all.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
ON_BLACK = "transparent areas are shown on black"
ONLY_FIRST = "only the first picture of each animation in the folder is used: give one file to use all of it"
ANIMATED = ("WEBP", "PNG", "GIF")  # formats; the further pictures of a phone's JPEG are not an animation
BROWSER_DELAY = 100  # ms that browsers show an animation's picture whose delay is 10 ms or less
PROBLEMS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, cv2.error,
            Image.DecompressionBombError)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One decoded picture.

    pixels: uint8 (H, W, 3) RGB. profile: its ICC profile, None where there is none or it is not one of RGB.
    notes: sentences about what was lost.
    """

    pixels: np.ndarray
    profile: bytes | None = None
    notes: tuple[str, ...] = ()


def read_image(path: Path | io.BytesIO) -> np.ndarray:
    """Return one image as uint8 (H, W, 3) RGB; InputError when it cannot be decoded."""
    return read_picture(path).pixels


def read_picture(path: Path | io.BytesIO) -> Picture:
    """Return one picture: EXIF rotation applied, grey repeated, 16 bits rounded to 8, transparency shown on black.

    Of an animation it is the first picture, with a note.

    Raises:
        InputError: the file cannot be decoded, or is larger than Pillow's guard against decompression bombs allows.
    """
    try:
        with Image.open(path) as image:
            animated = image.format in ANIMATED and getattr(image, "n_frames", 1) > 1
            picture = _picture(image, _sixteen_bits(path, image.info.get("transparency")))
            return replace(picture, notes=(*picture.notes, ONLY_FIRST)) if animated else picture
    except PROBLEMS as error:
        raise _unreadable(path, error) from error


@dataclass(frozen=True, kw_only=True)
class Animation:
    """Pictures with times in a WebP, PNG or GIF file, and the moments in ms at which they begin and end."""

    path: Path
    edges: tuple[int, ...]
    first: int  # an APNG's default image is not part of its animation

    def pictures(self) -> Iterator[Picture]:
        """Yield every picture.

        Raises:
            InputError: one cannot be decoded.
        """
        try:
            with Image.open(self.path) as image:
                for index in range(len(self.edges) - 1):
                    image.seek(self.first + index)
                    yield _picture(image, None)
        except PROBLEMS as error:
            raise _unreadable(self.path, error) from error


def find_animation(path: Path) -> Animation | None:
    """Return the animation in a WebP, PNG or GIF file, None for a still picture."""
    try:
        with Image.open(path) as image:
            first = int(bool(image.info.get("default_image")))
            count = getattr(image, "n_frames", 1) - first
            if image.format not in ANIMATED or count < 2:
                return None
            edges = [0]
            for index in range(count):
                image.seek(first + index)
                image.load()  # WebP knows the delay only then
                delay = round(float(image.info.get("duration", 0)))
                edges.append(edges[-1] + (delay if delay > 10 else BROWSER_DELAY))
            return Animation(path=path, edges=tuple(edges), first=first)
    except PROBLEMS as error:
        raise _unreadable(path, error) from error


def on_black(pixels: np.ndarray) -> np.ndarray:
    """Composite uint8 (H, W, 4) RGBA with straight alpha on black."""
    alpha = pixels[..., 3:].astype(np.uint16)
    return ((pixels[..., :3] * alpha + 127) // 255).astype(np.uint8)


def _picture(image: Image.Image, deep: np.ndarray | None) -> Picture:
    notes, profile = [], image.info.get("icc_profile")
    if deep is not None:
        eight = Image.fromarray(deep)
        eight.info["exif"] = image.info.get("exif", b"")
        image = eight
        notes.append("16-bit pictures are rounded to 8 bits")
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "F":
        raise ValueError("its values are floating-point numbers: save it with 8 or 16 bits")
    if upright.mode.startswith("I"):  # 16-bit grey outside PNG, which Pillow would clip instead of scaling
        upright = Image.fromarray(_rounded(np.asarray(upright)))
        notes.append("16-bit pictures are rounded to 8 bits")
    if profile and profile[16:20] != b"RGB ":  # the colour space that an ICC profile is for
        notes.append("the pictures' colour profile is not one of RGB and is left out")
        profile = None
    if not upright.has_transparency_data:
        return Picture(pixels=np.array(upright.convert("RGB")), profile=profile, notes=tuple(notes))
    pixels = np.array(upright.convert("RGBA"))
    if pixels[..., 3].min() < 255:
        notes.append(ON_BLACK)
    return Picture(pixels=on_black(pixels), profile=profile, notes=tuple(notes))


def _sixteen_bits(path: Path | io.BytesIO, transparent: object) -> np.ndarray | None:
    """Return a 16-bit PNG rounded to 8 bits, (H, W) or (H, W, 3 or 4); None for any other file.

    Pillow keeps only the high byte of 16-bit RGB and RGBA, which darkens by half a level, and OpenCV ignores that one
    level of grey may stand for full transparency (`transparent`).
    """
    data = path.getvalue() if isinstance(path, io.BytesIO) else _head(path)
    header = data[:26]
    if header[:8] != b"\x89PNG\r\n\x1a\n" or len(header) < 26 or header[24] != 16:
        return None
    width, height = struct.unpack(">II", header[16:24])
    if width * height > (Image.MAX_IMAGE_PIXELS or 0):  # Pillow judges large ones
        return None
    whole = data if isinstance(path, io.BytesIO) else path.read_bytes()
    deep = cv2.imdecode(np.frombuffer(whole, np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None or deep.dtype != np.uint16:
        return None
    if deep.ndim == 2 and isinstance(transparent, int):
        grey, alpha = _rounded(deep), np.where(deep == transparent, np.uint8(0), np.uint8(255))
        return np.dstack([grey, grey, grey, alpha])
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(deep.shape[-1] if deep.ndim == 3 else 1)
    return _rounded(deep if order is None else deep[..., order])


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(26)


def _rounded(deep: np.ndarray) -> np.ndarray:
    return ((deep.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _unreadable(path: Path | io.BytesIO, error: Exception) -> InputError:
    if isinstance(error, Image.DecompressionBombError):
        largest = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        return InputError(f"{path} has more than {largest} million pixels: crop or shrink it first")
    if isinstance(error, UnidentifiedImageError):
        return InputError(f"{path} cannot be read as an image: it is not a PNG, WebP or JPEG file")
    return InputError(f"{path} cannot be read as an image: {first_line(error)}")
