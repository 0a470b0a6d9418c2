"""Clips in and out: colour, rotation, clocks, damage, and names that hold everything or nothing."""

import resource
from fractions import Fraction

import av
import numpy as np
import pytest
from media import encode, moving, packets
from PIL import Image

from stvsr.errors import InputError
from stvsr.video.colour import Colour
from stvsr.video.reader import natural, open_clip, read_clip
from stvsr.video.sound import AudioCopy
from stvsr.video.writer import FolderWriter, VideoWriter, write_frames

WEIGHTS = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}  # H.273 matrix -> red, blue


def yuv_to_rgb(planes, matrix, full):
    """The textbook conversion in floating point."""
    red, blue = WEIGHTS[matrix]
    y, u, v = (plane.astype(float) for plane in planes)
    y, u, v = (
        (y / 255, (u - 128) / 255, (v - 128) / 255) if full else ((y - 16) / 219, (u - 128) / 224, (v - 128) / 224)
    )
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    g = (y - red * r - blue * b) / (1 - red - blue)
    return np.clip(np.stack([r, g, b], axis=-1) * 255, 0, 255)


@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("full", [False, True])
def test_declared_matrix_and_range_are_used(tmp_path, matrix, full):
    y, u, v = np.meshgrid([60, 120, 180], [100, 128, 150], [110, 128, 140], indexing="ij")
    planes = np.stack([plane.reshape(3, 9).repeat(4, 0).repeat(4, 1) for plane in (y, u, v)]).astype(np.uint8)
    tags = {"colorspace": matrix, "color_range": 2 if full else 1}
    clip = encode(tmp_path / "c.mkv", planes[None], codec="ffv1", pix_fmt="yuv444p", planes=True, tags=tags)
    assert np.abs(read_clip(clip)[0] - yuv_to_rgb(planes, matrix, full)).max() <= 2  # rounding of swscale's tables


def test_undeclared_matrix_follows_size(tmp_path):
    small = encode(tmp_path / "small.mp4", moving(1, 64, 64))
    large = encode(tmp_path / "large.mp4", moving(1, 16, 1280))
    assert open_clip(small).colour.name == "bt601 limited"
    assert open_clip(large).colour.name == "bt709 limited"


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("full", [False, True])
def test_written_colour_is_tagged_and_comes_back(tmp_path, suffix, full):
    from stvsr.video.colour import MATRICES

    flat = np.full((1, 32, 32, 3), (200, 80, 40), np.uint8)
    colour = Colour(matrix=MATRICES[6], full_range=full, primaries=6, transfer=6)
    path = tmp_path / f"flat{suffix}"
    with VideoWriter(path, 25, (32, 32), crf=1, colour=colour) as out:
        out.write(flat[0])
    with open_clip(path) as clip:
        assert clip.colour == colour
        assert np.abs(next(iter(clip)).astype(int) - flat[0]).max() <= 4  # 8-bit YUV and the encoder


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_rotation_is_applied(tmp_path, degrees, turns):
    plain = read_clip(encode(tmp_path / "plain.mp4", moving(2)))
    turned = encode(tmp_path / "turned.mp4", moving(2), rotation=(degrees, False, False), sar=Fraction(4, 3))
    with open_clip(turned) as clip:
        frames = np.stack(list(clip))
        assert clip.size == frames.shape[1:3]
        assert clip.aspect == (Fraction(4, 3) if turns == 2 else Fraction(3, 4))
    assert np.array_equal(frames, np.rot90(plain, turns, axes=(1, 2)))


def test_mirrored_display_matrix(tmp_path):
    plain = read_clip(encode(tmp_path / "plain.mp4", moving(1)))
    mirrored = read_clip(encode(tmp_path / "mirror.mp4", moving(1), rotation=(0, True, False)))
    assert np.array_equal(mirrored, plain[:, :, ::-1])


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "size"),
    [("libx264", "yuv444p", (31, 45)), ("libx264", "yuv420p10le", (32, 48)), ("ffv1", "gray", (31, 45)),
     ("ffv1", "bgr0", (31, 45)), ("ffv1", "yuva420p", (32, 48)), ("libvpx-vp9", "yuv420p", (31, 45))],
)  # fmt: skip
def test_pixel_formats_and_odd_sizes(tmp_path, codec, pix_fmt, size):
    frames = moving(2, *size)
    if pix_fmt == "gray":
        frames = frames[..., :1].repeat(3, axis=-1)
    clip = encode(
        tmp_path / "clip.mkv", frames, codec=codec, pix_fmt=pix_fmt, options={"crf": "1"} if codec != "ffv1" else {}
    )
    back = read_clip(clip)
    assert back.shape == frames.shape
    assert np.abs(back.astype(int) - frames).mean() < 3  # halved chroma
    assert bool(open_clip(clip).notes) == ("10" in pix_fmt)


def test_grey_video_is_grey(tmp_path):
    frame = read_clip(encode(tmp_path / "grey.mkv", moving(1), codec="ffv1", pix_fmt="gray"))[0]
    assert np.array_equal(frame[..., 0], frame[..., 1]) and np.array_equal(frame[..., 1], frame[..., 2])


def test_image_kinds(tmp_path):
    grey16 = np.arange(0, 65536, 65536 // 64, dtype=np.uint16).reshape(8, 8)
    Image.fromarray(grey16).save(tmp_path / "a1.png")
    assert np.array_equal(read_clip(tmp_path / "a1.png")[0, ..., 1], np.round(grey16 / 257).astype(np.uint8))
    half = np.full((8, 8, 4), (200, 100, 50, 128), np.uint8)
    Image.fromarray(half, "RGBA").save(tmp_path / "a2.png")
    assert np.abs(read_clip(tmp_path / "a2.png")[0, 0, 0] - np.array([100.4, 50.2, 25.1])).max() <= 1
    Image.fromarray(np.full((8, 8), 77, np.uint8)).save(tmp_path / "a10.png")
    assert (read_clip(tmp_path / "a10.png") == 77).all()
    turned = Image.fromarray(moving(1, 8, 16)[0])
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    turned.save(tmp_path / "turned.webp", exif=exif, lossless=True)
    assert np.array_equal(read_clip(tmp_path / "turned.webp")[0], np.rot90(moving(1, 8, 16)[0], -1))
    assert [path.name for path in sorted(tmp_path.glob("a*"), key=natural)] == ["a1.png", "a2.png", "a10.png"]


def test_folder_of_frames(tmp_path):
    folder = tmp_path / "mein Vidéo 映像"
    frames = moving(12)
    assert write_frames(folder, frames, names=(f"f{k}" for k in range(12))) == 12
    (folder / "notes.txt").write_text("not a frame")
    with open_clip(folder) as clip:
        assert (clip.size, clip.length, clip.rate, clip.name) == ((32, 48), 12, None, "mein Vidéo 映像")
        assert np.array_equal(np.stack(list(clip)), frames)
        assert np.array_equal(np.stack(list(clip)), frames)  # again
    assert np.array_equal(read_clip(folder, 3, 5), frames[3:5])


def test_times_of_a_variable_rate(tmp_path):
    times = [0, 40, 55, 200, 210, 500]
    source = encode(tmp_path / "vfr.mkv", moving(6), times=times)
    for suffix in (".mp4", ".mkv", ".webm"):
        with (
            open_clip(source) as clip,
            VideoWriter(tmp_path / f"out{suffix}", clip.rate, clip.size, time_base=clip.time_base) as out,
        ):
            for time, frame in clip.timed():
                out.write(frame, time)
        with open_clip(out.path) as clip:
            assert [time for time, _ in clip.timed()] == [Fraction(time, 1000) for time in times]


def test_range_in_seconds_equals_the_same_frames_of_the_whole(tmp_path):
    source = encode(tmp_path / "clip.mp4", moving(50), options={"crf": "10", "g": "12"})
    with open_clip(source) as clip:
        whole = list(clip.timed())
        part = list(clip.timed(Fraction(1), Fraction(7, 5)))
    assert [time for time, _ in part] == [time for time, _ in whole[25:35]]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(part, whole[25:35], strict=True))


def test_repeated_times_move_forward(tmp_path):
    with VideoWriter(tmp_path / "same.mp4", 25, (32, 48), time_base=Fraction(1, 1000)) as out:
        for frame in moving(3):
            out.write(frame, Fraction(0))
    times = [time for time, _ in open_clip(out.path).timed()]
    assert len(set(times)) == 3 and times == sorted(times)


def test_what_cannot_be_read_is_said_in_one_line(tmp_path):
    (tmp_path / "text.mp4").write_text("no video\n" * 99)
    (tmp_path / "empty.mkv").write_bytes(b"")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 40)
    (tmp_path / "nothing").mkdir()
    Image.fromarray(moving(1)[0]).save(tmp_path / "nothing.webp")
    cases = {"text.mp4": "cannot be read as video", "empty.mkv": "cannot be read as video", "bad.png": "as an image",
             "nothing": "has no", "absent.mp4": "does not exist"}  # fmt: skip
    for name, words in cases.items():
        with pytest.raises(InputError, match=words) as raised:
            list(open_clip(tmp_path / name))
        assert "\n" not in str(raised.value) and name in str(raised.value)


def test_sound_alone_is_no_clip(tmp_path):
    both = encode(tmp_path / "both.mp4", moving(2), sound=0.5)
    alone = tmp_path / "alone.mp4"
    with av.open(str(both)) as source, av.open(str(alone), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.pts is not None:
                packet.stream = stream
                target.mux(packet)
    with pytest.raises(InputError, match="no video stream"):
        open_clip(alone)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_truncated_file_is_refused_and_its_whole_part_can_be_read(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (75, 32, 48, 3), dtype=np.uint8)
    options = {"movflags": "faststart"} if suffix == ".mp4" else {}
    whole = encode(tmp_path / f"whole{suffix}", noise, container_options=options, options={"crf": "20"}).read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    with pytest.raises(InputError, match="damaged or cut off") as raised:
        list(open_clip(cut))
    seconds = float(str(raised.value).split("--duration ")[1].split()[0])
    assert 0.5 < seconds < 2
    assert len(list(open_clip(cut).timed(Fraction(0), Fraction(seconds)))) == pytest.approx(25 * seconds, abs=1)


def test_size_change_is_named(tmp_path):
    write_frames(tmp_path / "a", moving(2))
    Image.fromarray(moving(1, 16, 16)[0]).save(tmp_path / "a" / "002.png")
    with pytest.raises(InputError, match=r"002\.png is 16x16, the clip began 48x32"):
        list(open_clip(tmp_path / "a"))


def test_odd_sizes_are_written_whole(tmp_path):
    frames = moving(3, 31, 45)
    with VideoWriter(tmp_path / "odd.mp4", 25, (31, 45), crf=1) as out:
        for frame in frames:
            out.write(frame)
    assert np.abs(read_clip(out.path).astype(int) - frames).mean() < 2


def test_error_leaves_nothing_and_interruption_a_playable_part(tmp_path):
    for writer in (lambda path: VideoWriter(path, 25, (32, 48)), FolderWriter):
        path = tmp_path / ("clip.mp4" if writer is not FolderWriter else "clip")
        with pytest.raises(ZeroDivisionError), writer(path) as out:
            out.write(moving(1)[0])
            raise ZeroDivisionError
        assert not list(tmp_path.iterdir())
        with pytest.raises(KeyboardInterrupt), writer(path) as out:
            raise KeyboardInterrupt
        assert not list(tmp_path.iterdir())
        with pytest.raises(KeyboardInterrupt), writer(path) as out:
            for frame in moving(5):
                out.write(frame)
            raise KeyboardInterrupt
        assert [entry.name for entry in tmp_path.iterdir()] == [f"clip.partial{path.suffix}"]
        assert len(read_clip(out.path)) == 5
        out.path.unlink() if out.path.is_file() else [*map(type(path).unlink, out.path.iterdir()), out.path.rmdir()]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip"])
def test_full_disk_is_said_in_one_line_and_leaves_nothing(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (40, 128, 128, 3), dtype=np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (20_000, limits[1])
    )  # the system refuses to write more, as a full disk does
    try:
        with pytest.raises(InputError, match="cannot write") as raised:
            if name == "clip":
                write_frames(tmp_path / name, noise)
            else:
                with VideoWriter(tmp_path / name, 25, (128, 128), crf=5) as out:
                    for frame in noise:
                        out.write(frame)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_targets_are_checked_before_work(tmp_path):
    (tmp_path / "there.mp4").write_bytes(b"x")
    cases = [
        (tmp_path / "there.mp4", (32, 48), 18, "exists"),
        (tmp_path / "there.mp4" / "clip.mp4", (32, 48), 18, "cannot write"),
        (tmp_path / "clip.avi", (32, 48), 18, "is not an output format"),
        (tmp_path / "new" / "clip", (32, 48), 18, "is not the name of a video"),
        (tmp_path / "clip.mp4", (32, 16388), 18, "16384 pixels a side"),
        (tmp_path / "clip.mp4", (32, 48), 52, "crf is 52"),
    ]
    for path, size, crf, words in cases:
        with pytest.raises(InputError, match=words):
            VideoWriter(path, 25, size, crf)
    assert [entry.name for entry in tmp_path.iterdir()] == ["there.mp4"]


def test_only_frames_are_ever_replaced(tmp_path):
    home = tmp_path / "home"
    write_frames(home, moving(3))
    write_frames(home, moving(2), overwrite=True)
    assert len(read_clip(home)) == 2
    with pytest.raises(InputError, match="exists"):
        write_frames(home, moving(2))
    (home / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"holds thesis\.tex, which is not a frame"):
        write_frames(home, moving(2), overwrite=True)
    assert (home / "thesis.tex").read_text() == "years of work"
    with pytest.raises(InputError, match=r"holds other\.txt"), FolderWriter(tmp_path / "late") as out:
        out.write(moving(1)[0])
        (tmp_path / "late").mkdir()
        (tmp_path / "late" / "other.txt").write_text("came meanwhile")
    assert (tmp_path / "late" / "other.txt").exists()


def test_failing_start_leaves_nothing(tmp_path):
    source = encode(tmp_path / "in.mp4", moving(2), sound=0.2)
    audio = AudioCopy(source)
    audio.attach = lambda container: 1 / 0
    with pytest.raises(ZeroDivisionError):
        VideoWriter(tmp_path / "out.mp4", 25, (32, 48), audio=audio)
    assert [entry.name for entry in tmp_path.iterdir()] == ["in.mp4"]


def test_sound_is_copied_packet_by_packet(tmp_path):
    source = encode(tmp_path / "in.mp4", moving(10), sound=2.0)  # longer than the picture
    with VideoWriter(tmp_path / "out.mkv", 25, (32, 48), audio=AudioCopy(source)) as out:
        for frame in moving(10):
            out.write(frame)
    before, after = packets(source, "audio"), packets(out.path, "audio")
    assert [content for _, content in after] == [content for _, content in before]
    # Matroska has no negative times: picture and sound move together, and its clock ticks in milliseconds.
    shift = packets(out.path, "video")[0][0] - packets(source, "video")[0][0]
    assert all(abs(a - shift - b) <= Fraction(1, 1000) for (a, _), (b, _) in zip(after, before, strict=True))


def test_part_of_the_sound_is_shifted(tmp_path):
    source = encode(tmp_path / "in.mp4", moving(10), sound=2.0)
    audio = AudioCopy(source, start=Fraction(1, 2), stop=Fraction(1), offset=Fraction(1, 2))
    with VideoWriter(tmp_path / "out.mp4", 25, (32, 48), audio=audio) as out:
        out.write(moving(1)[0])
    wanted = [
        (time - Fraction(1, 2), content) for time, content in packets(source, "audio") if Fraction(1, 2) <= time < 1
    ]
    assert packets(out.path, "audio") == wanted


def test_container_that_cannot_hold_the_sound_is_named(tmp_path):
    source = encode(tmp_path / "in.mp4", moving(2), sound=0.2)
    with pytest.raises(InputError, match=r"audio \(aac\) cannot be copied into \.webm"):
        AudioCopy(source).check(".webm")
    AudioCopy(source).check(".mkv")
