"""Pictures of every mode, depth and file format, animations among them."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from media import moving, numbered, numbers
from PIL import Image, PngImagePlugin

from stvsr.data.clips import load_clips
from stvsr.errors import InputError
from stvsr.video.pictures import ON_BLACK, ONLY_FIRST, find_animation, on_black, read_picture
from stvsr.video.reader import open_clip, read_clip

MODES = {
    ".png": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    ".webp": ["RGB", "RGBA", "L"],
    ".jpg": ["L", "RGB", "CMYK"],
}
RGB = moving(1, 24, 32)[0]


def profile(space: bytes) -> bytes:
    """Return the smallest thing that looks like an ICC profile of a colour space."""
    return struct.pack(">I", 132) + b"test" + bytes(8) + space + bytes(112)


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix, modes in MODES.items() for mode in modes])
def test_every_mode_becomes_rgb(tmp_path, suffix, mode):
    if mode == "I;16":
        image = Image.fromarray(RGB[..., 0].astype(np.uint16) * 257)
        expected = RGB[..., :1].repeat(3, -1)
    else:
        image = Image.fromarray(RGB).convert(mode)
        expected = np.asarray(image.convert("RGB"))
    image.save(tmp_path / f"a{suffix}", lossless=True, quality=100)
    read = read_clip(tmp_path / f"a{suffix}")[0]
    assert read.shape == expected.shape and read.dtype == np.uint8
    assert np.abs(read.astype(int) - expected).mean() <= (3 if suffix == ".jpg" else 0)
    assert read.flags.writeable


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_are_rounded_to_8(tmp_path, channels):
    levels = np.linspace(0, 65535, 32 * 32 * channels).round().astype(np.uint16)
    deep = np.random.default_rng(0).permutation(levels).reshape(32, 32, channels)
    if channels == 4:
        deep[..., 3] = 65535
    cv2.imwrite(str(tmp_path / "deep.png"), deep[..., {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]])
    picture = read_picture(tmp_path / "deep.png")
    expected = np.round(deep[..., :3] / 257).astype(np.uint8)
    assert np.array_equal(picture.pixels, expected.repeat(3, -1) if channels == 1 else expected)
    assert picture.notes == ("16-bit pictures are rounded to 8 bits",)


def test_a_transparent_level_of_16_bit_grey_is_shown_on_black(tmp_path):
    deep = np.full((24, 32), 40_000, np.uint16)
    deep[:, 16:] = 12_345
    image = Image.fromarray(deep)
    image.save(tmp_path / "a.png", transparency=12_345)
    picture = read_picture(tmp_path / "a.png")
    assert ON_BLACK in picture.notes
    assert (picture.pixels[:, :16] == round(40_000 / 257)).all() and (picture.pixels[:, 16:] == 0).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_shown_on_black_with_a_note(tmp_path, mode):
    alpha = np.full((24, 32, 1), 255, np.uint8)
    alpha[:, 16:] = 51
    image = Image.fromarray(RGB if mode == "P" else np.concatenate([RGB, alpha], axis=-1)).convert(mode)
    used = int(np.bincount(np.asarray(image).ravel()).argmax())  # of a palette
    image.save(tmp_path / "a.png", **({"transparency": used} if mode == "P" else {}))
    picture = read_picture(tmp_path / "a.png")
    assert picture.notes == (ON_BLACK,)
    with Image.open(tmp_path / "a.png") as again:
        assert np.array_equal(picture.pixels, on_black(np.asarray(again.convert("RGBA"))))
    opaque = np.dstack([RGB, np.full((24, 32), 255, np.uint8)])
    assert np.array_equal(on_black(opaque), RGB)
    Image.fromarray(opaque).save(tmp_path / "b.png")
    assert read_picture(tmp_path / "b.png").notes == ()


@pytest.mark.parametrize("compressed", [False, True])
def test_text_of_many_megabytes_is_no_hindrance(tmp_path, compressed):
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "x" * 5_000_000, zip=compressed)
    Image.fromarray(RGB).save(tmp_path / "a.png", pnginfo=text)
    assert np.array_equal(read_clip(tmp_path / "a.png")[0], RGB)


def test_profiles_of_rgb_are_kept_and_others_named(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png", icc_profile=profile(b"RGB ") + bytes(2_000_000))
    assert read_picture(tmp_path / "a.png").profile[16:20] == b"RGB "
    Image.fromarray(RGB).convert("L").save(tmp_path / "grey.png", icc_profile=profile(b"GRAY"))
    grey = read_picture(tmp_path / "grey.png")
    assert grey.profile is None and "not one of RGB" in grey.notes[0]


def test_what_is_too_large_or_broken_is_one_line(tmp_path):
    width = height = 20_000

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    rows = zlib.compress(bytes(100))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    whole = io.BytesIO()
    Image.fromarray(RGB).save(whole, "PNG")
    (tmp_path / "cut.png").write_bytes(whole.getvalue()[:200])
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    (tmp_path / "empty.webp").write_bytes(b"")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.png", "TIFF")
    for name in ("bomb.png", "cut.png", "page.jpg", "empty.webp", "float.png"):
        with pytest.raises(InputError, match=name) as raised:
            read_clip(tmp_path / name)
        assert "\n" not in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "options"),
    [(".webp", {"lossless": True}), (".png", {}), (".png", {"default_image": True}), (".gif", {}), (".apng", {}),
     (".png", {"format": "GIF"}), (".webp", {"format": "GIF"})],
)  # fmt: skip
def test_animations_are_clips_with_their_times(tmp_path, suffix, options):
    frames = numbered(6)
    first, *others = [Image.fromarray(frame) for frame in frames]
    if options.get("default_image"):
        others = [first, *others]
    durations = [100, 200, 100, 300, 50, 250]
    options = {"format": "PNG" if suffix == ".apng" else None, **options}
    first.save(tmp_path / f"a{suffix}", save_all=True, append_images=others, duration=durations, **options)
    with open_clip(tmp_path / f"a{suffix}") as clip:
        timed = list(clip.timed())
        assert numbers(frame for _, frame in timed) == list(range(6))
        assert [float(time) for time, _ in timed] == pytest.approx([0, 0.1, 0.3, 0.4, 0.7, 0.75])
        assert float(clip.ends) == pytest.approx(1.0)
        assert clip.rate == 6 or suffix == ".gif"


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_animations_among_frames_are_noted_because_one_picture_of_each_is_used(tmp_path, suffix, capsys):
    first, *others = [Image.fromarray(frame) for frame in numbered(3)]
    (tmp_path / "clip").mkdir()
    for index in range(2):
        first.save(tmp_path / "clip" / f"{index}{suffix}", save_all=True, append_images=others, duration=40)
    with open_clip(tmp_path / "clip") as clip:
        assert len(list(clip)) == 2 and clip.notes == [ONLY_FIRST]
    assert len(load_clips(str(tmp_path / "clip"))) == 1
    assert ONLY_FIRST in capsys.readouterr().err


def test_a_still_and_a_picture_of_a_phone_are_no_animations(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.webp")
    Image.fromarray(RGB).save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[Image.fromarray(RGB)])
    assert find_animation(tmp_path / "a.webp") is None and find_animation(tmp_path / "phone.jpg") is None
    assert len(read_clip(tmp_path / "phone.jpg")) == 1
