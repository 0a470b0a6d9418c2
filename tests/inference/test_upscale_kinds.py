"""`stvsr upscale` over files of other tools: nothing is lost without a printed line, and what can be kept is kept."""

import io
import os
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from media import encode, film, moving, numbered, numbers, packets
from PIL import Image

from stvsr.cli import main
from stvsr.runs.files import read_json
from stvsr.video.folders import print_note
from stvsr.video.reader import open_clip, read_clip
from stvsr.video.writer import write_frames

GROUPS = {"g": "5", "bf": "2"}


def run(source, target, *options):
    return main(["upscale", str(source), str(target), "--model", "bicubic", *options])


def probe(path):
    """Return what a player sees: frames, duration in seconds, pixel aspect, (language, title, default) of the sound."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        sound = [
            (stream.language, stream.metadata.get("title") or stream.metadata.get("name"), bool(stream.disposition & 1))
            for stream in container.streams.audio
        ]
        frames = sum(1 for _ in container.decode(video))
        return frames, container.duration / av.time_base, video.sample_aspect_ratio, sound


INPUTS = [
    (".mp4", "libx264", "aac", "av"), (".mov", "libx264", "aac", "av"), (".mkv", "libx265", "flac", "av"),
    (".webm", "libvpx-vp9", "libopus", "av"), (".avi", "libx264", "mp2", "av"), (".ts", "libx264", "aac", "va"),
    (".mpg", "mpeg2video", "mp2", "av"), (".flv", "libx264", "aac", "av"), (".nut", "mpeg4", "mp2", "va"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("target", [".mp4", ".mkv"])
@pytest.mark.parametrize(("suffix", "codec", "sound", "order"), INPUTS)
def test_frames_times_and_sound_pass_through(tmp_path, suffix, codec, sound, order, target):
    options = {"x265-params": "keyint=5:log-level=none"} if codec == "libx265" else {}
    source = film(tmp_path / f"in{suffix}", codec, sound_codec=sound, order=order, options=options)
    assert run(source, tmp_path / f"out{target}") == 0
    with open_clip(source) as before, open_clip(tmp_path / f"out{target}") as after:
        first, second = list(before.timed()), list(after.timed())
        assert numbers(frame for _, frame in second) == list(range(12))
        offsets = [float(a - before.begins - b + after.begins) for (a, _), (b, _) in zip(first, second, strict=True)]
    assert np.ptp(offsets) < 0.0021  # a container's clock may tick in milliseconds
    assert abs(np.mean(offsets)) < 0.025  # priming of the sound may move a file's beginning
    kept = [content for _, content in packets(tmp_path / f"out{target}", "audio")]
    assert sum(map(len, kept)) > 0.8 * sum(len(content) for _, content in packets(source, "audio"))


@pytest.mark.slow
@pytest.mark.parametrize("target", [".mp4", ".mkv", ".webm", ".mov"])
@pytest.mark.parametrize("held", [True, False])
def test_the_last_picture_stands_as_long_as_it_did(tmp_path, target, held):
    path = tmp_path / "slides.webm"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for time, array in zip((0, 2000, 4000), numbered(3), strict=True):
            frame = av.VideoFrame.from_ndarray(array)
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        left = stream.encode()
        left[-1].duration = 3000 if held else 40
        container.mux(left)
    assert run(path, tmp_path / f"out{target}") == 0
    frames, seconds, *_ = probe(tmp_path / f"out{target}")
    assert (frames, seconds) == (3, pytest.approx(7.0 if held else 4.04, abs=0.01))
    assert run(path, tmp_path / f"part{target}", "--start", "3") == 0
    with open_clip(tmp_path / f"part{target}") as clip:
        timed = list(clip.timed())
        assert numbers(frame for _, frame in timed) == [1, 2]
        assert [float(time - clip.origin) for time, _ in timed] == [0, 1]


def test_a_slide_show_from_a_folder_starts_with_the_slide_on_screen(tmp_path):
    write_frames(tmp_path / "in", numbered(4))
    assert run(tmp_path / "in", tmp_path / "out", "--fps", "0.5", "--start", "3") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["001.png", "002.png", "003.png"]
    assert numbers(read_clip(tmp_path / "out")) == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("target", [".mp4", ".mkv", ".webm", ".mov"])
@pytest.mark.parametrize("sar", [Fraction(32, 27), Fraction(16, 15), Fraction(8, 9)])
def test_the_shape_of_pixels_is_kept(tmp_path, target, sar):
    source = encode(tmp_path / "in.mp4", moving(3, 48, 64), sar=sar, sound=0.2, sound_codec="libopus")
    assert run(source, tmp_path / f"out{target}", *(["--no-audio"] if target == ".mov" else [])) == 0
    frames, _, aspect, sound = probe(tmp_path / f"out{target}")
    assert (frames, aspect, len(sound)) == (3, sar, target != ".mov")


@pytest.mark.slow
@pytest.mark.parametrize("target", [".mp4", ".mkv", ".mov"])
def test_languages_titles_defaults_and_chapters_are_kept(tmp_path, target):
    path, named = film(tmp_path / "in.mkv", "libx264", order="vaa"), tmp_path / "named.mkv"
    with av.open(str(path)) as source, av.open(str(named), "w") as sink:
        streams = [sink.add_stream_from_template(stream) for stream in source.streams]
        for stream, language, default in zip(streams[1:], ("eng", "jpn"), (0, 1), strict=True):
            stream.metadata.update(language=language, title=f"{language} title")
            stream.disposition = default
        sink.metadata["title"] = "The film"
        sink.set_chapters([
            {"id": k, "start": 200 * k, "end": 200 * k + 200, "time_base": Fraction(1, 1000),
             "metadata": {"title": f"c{k}"}}
            for k in range(2)
        ])  # fmt: skip
        for packet in source.demux():
            if packet.pts is not None:
                packet.stream = streams[packet.stream.index]
                sink.mux(packet)
    assert run(named, tmp_path / f"out{target}", "--start", "0.24") == 0
    assert probe(tmp_path / f"out{target}")[3] == [("eng", "eng title", False), ("jpn", "jpn title", True)]
    with av.open(str(tmp_path / f"out{target}")) as container:
        assert container.metadata["title"] == "The film"
        (chapter,) = container.chapters()
        assert chapter["metadata"]["title"] == "c1"
        assert (chapter["start"] * chapter["time_base"], chapter["end"] * chapter["time_base"]) == (0, Fraction(4, 25))


def test_hdr_metadata_is_kept_in_h264_and_named_for_webm(tmp_path, capsys):
    display = "mastering-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):cll=1000,400"
    source = encode(tmp_path / "in.mp4", moving(2), options={"x264-params": display}, tags={"color_trc": 16})
    assert run(source, tmp_path / "out.mp4") == 0
    capsys.readouterr()
    with open_clip(source) as before, open_clip(tmp_path / "out.mp4") as after:
        assert before.tracks.hdr == after.tracks.hdr == display
    assert run(source, tmp_path / "out.webm") == 0
    assert "left out: HDR mastering metadata" in capsys.readouterr().out


@pytest.mark.slow
def test_sound_that_fits_nowhere_names_only_remedies_that_work(tmp_path, capsys):
    source = film(tmp_path / "in.mkv", "libx264", order="va")
    source.write_bytes(source.read_bytes().replace(b"A_AAC", b"A_XYZ"))
    for target in ("out.mp4", "out.mkv"):
        assert run(source, tmp_path / target) == 2
        line = capsys.readouterr().err
        assert "cannot be copied" in line and "--no-audio" in line and "write .mkv" not in line
    assert run(source, tmp_path / "out.mkv", "--no-audio") == 0
    assert numbers(open_clip(tmp_path / "out.mkv")) == list(range(12))


SOUNDS = [  # source, codec of its sound, targets that refuse it, what they propose
    (".mkv", "pcm_s16le", ".mp4 .webm", "write .mkv, or "), (".mkv", "flac", ".mov .webm", "write .mkv, or "),
    (".mkv", "libopus", ".mov", "write .mkv, or "), (".mkv", "libmp3lame", ".webm", "write .mkv, or "),
    (".mkv", "ac3", ".webm", "write .mkv, or "), (".mkv", "wavpack", ".mp4 .mov .webm", "write .mkv, or "),
    (".mov", "pcm_alaw", ".mp4 .mkv .webm", "write .mov, or "), (".avi", "adpcm_ms", ".mp4 .mkv .mov .webm", ""),
    (".ts", "eac3", ".webm", "write .mkv, or "), (".ts", "aac", ".webm", "write .mkv, or "),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "codec", "refusing", "remedy"), SOUNDS)
def test_sound_is_kept_or_refused_with_a_container_that_takes_it(tmp_path, capsys, suffix, codec, refusing, remedy):
    source = film(tmp_path / f"in{suffix}", "mpeg4" if suffix == ".avi" else "libx264", order="va", sound_codec=codec)
    for target in (".mp4", ".mkv", ".mov", ".webm"):
        status = run(source, tmp_path / f"out{target}", "--duration", "0.08")
        if target not in refusing.split():
            assert status == 0 and len(probe(tmp_path / f"out{target}")[3]) == 1
        else:
            assert status == 2
            assert f"cannot be copied into {target}: {remedy}give --no-audio" in capsys.readouterr().err


SUBTITLES = [(".mkv", "subrip"), (".mkv", "ass"), (".mp4", "mov_text"), (".mov", "mov_text"), (".ts", "dvbsub"),
             (".ts", "dvb_teletext")]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "codec"), SUBTITLES)
def test_subtitles_and_data_are_named_when_they_are_left_out(tmp_path, capsys, suffix, codec):
    source, more = film(tmp_path / "in.mkv", "libx264"), tmp_path / f"more{suffix}"
    with av.open(str(source)) as given, av.open(str(more), "w") as sink:
        video = sink.add_stream_from_template(given.streams[0])
        extra = [sink.add_mux_stream(codec), *([sink.add_data_stream("klv")] if suffix == ".ts" else [])]
        sink.start_encoding()
        for stream in extra:
            packet = av.Packet(b"\x10" + bytes(45))
            packet.pts = packet.dts = 0
            packet.duration, packet.time_base, packet.stream = 100, Fraction(1, 1000), stream
            sink.mux(packet)
        for packet in given.demux():
            if packet.pts is not None:
                packet.stream = video
                sink.mux(packet)
    for target in ("out.mp4", "out.mkv", "out.webm", "out"):
        assert run(more, tmp_path / target) == 0
        said = capsys.readouterr().out
        assert "left out: subtitles" in said and ("a data stream" in said) == (suffix == ".ts")


# Y4M's field for the rate -> whether a video of that rate can be written
RATES = {"F1:1000000000": False, "F2147483647:1": False, "F1:1000": True, "F90000:1": True, "F0:0": True, "": True}


@pytest.mark.slow
@pytest.mark.parametrize("rate", list(RATES))
def test_absurd_frame_rates_are_written_or_refused_in_one_line(tmp_path, capsys, rate):
    frame = b"FRAME\n" + bytes(16 * 16 * 3 // 2)
    (tmp_path / "in.y4m").write_bytes(f"YUV4MPEG2 W16 H16 {rate} C420\n".encode() + frame * 3)
    for target in ("out.mp4", "out.mkv", "out.webm"):
        assert run(tmp_path / "in.y4m", tmp_path / target) == (0 if RATES[rate] else 2)
        said = capsys.readouterr()
        if RATES[rate]:
            assert len(read_clip(tmp_path / target)) == 3
        else:
            assert "frames per second" in said.err and "write a frame folder" in said.err
    assert run(tmp_path / "in.y4m", tmp_path / "out") == 0


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_damaged_packets_are_counted_and_the_rest_is_kept(tmp_path, capsys, codec, suffix):
    options = {"x265-params": "log-level=none:bframes=0"} if codec == "libx265" else {"bf": "0"}
    order = "v" if (suffix, codec) == (".ts", "libx265") else "av"
    source, bad = film(tmp_path / "in.mp4", codec, order=order, options=options), tmp_path / f"bad{suffix}"
    with av.open(str(source)) as given, av.open(str(bad), "w") as sink:
        streams = [sink.add_stream_from_template(stream) for stream in given.streams]
        count = 0
        for packet in given.demux():
            if packet.pts is None:
                continue
            count += packet.stream.type == "video"
            if packet.stream.type == "video" and count == 6 and suffix != ".ts":
                broken = av.Packet(b"\xff" * packet.size)
                broken.pts, broken.dts, broken.time_base = packet.pts, packet.dts, packet.time_base
                broken.stream = streams[packet.stream.index]
                sink.mux(broken)
                continue
            packet.stream = streams[packet.stream.index]
            sink.mux(packet)
    if suffix == ".ts":  # a burst of noise in the middle
        data = bytearray(bad.read_bytes())
        middle = len(data) // 2 // 188 * 188
        data[middle : middle + 188 * 6] = bytes(188 * 6)
        bad.write_bytes(data)
    assert run(bad, tmp_path / "out.mp4") == 0
    said = capsys.readouterr()
    frames = len(read_clip(tmp_path / "out.mp4"))
    assert 8 <= frames <= 12
    assert "damaged video" in said.out or "reports gaps" in said.out
    assert "Traceback" not in said.err


def test_a_change_of_size_keeps_what_came_before(tmp_path, capsys):
    write_frames(tmp_path / "in", moving(3))
    Image.fromarray(moving(1, 16, 16)[0]).save(tmp_path / "in" / "003.png")
    assert run(tmp_path / "in", tmp_path / "out.mp4") == 2
    line = capsys.readouterr().err
    assert "003.png is 16x16" in line and "first 3 frames are kept in" in line
    assert len(read_clip(tmp_path / "out.partial.mp4")) == 3
    (tmp_path / "in" / "003.png").write_bytes(b"not a picture")
    assert run(tmp_path / "in", tmp_path / "out.mp4") == 2
    line = capsys.readouterr().err
    assert "003.png cannot be read as an image" in line and "first 3 frames are kept in" in line
    assert main(["degrade", str(tmp_path / "in"), str(tmp_path / "small")]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out.partial.mp4"]


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8])
def test_motion_jpeg_of_cameras_is_turned(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "Camera"
    picture, picture_bytes = Image.fromarray(moving(1)[0]), io.BytesIO()
    picture.save(picture_bytes, "JPEG", exif=exif, quality=95)
    with av.open(str(tmp_path / "in.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuvj420p"
        container.start_encoding()
        for index in range(3):
            packet = av.Packet(picture_bytes.getvalue())
            packet.pts = packet.dts = index
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), stream, True
            container.mux(packet)
    (tmp_path / "in.jpg").write_bytes(picture_bytes.getvalue())
    video, still = read_clip(tmp_path / "in.avi"), read_clip(tmp_path / "in.jpg")
    assert video.shape == (3, *still.shape[1:])
    assert np.abs(video[0].astype(int) - still[0]).mean() < 4


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"),
    [
        (".mov", "qtrle", "argb"),
        (".mov", "png", "rgba"),
        (".mkv", "ffv1", "yuva420p"),
        (".webm", "libvpx-vp9", "yuva420p"),
    ],
)
def test_transparency_of_video_is_shown_on_black_with_a_note(tmp_path, capsys, suffix, codec, pix_fmt):
    pixels = np.full((32, 48, 4), (200, 100, 50, 255), np.uint8)
    pixels[:, 24:, 3] = 0
    with av.open(str(tmp_path / f"in{suffix}"), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 48, pix_fmt
        for index in range(2):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format=pix_fmt)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert run(tmp_path / f"in{suffix}", tmp_path / "out") == 0
    assert "transparent areas are shown on black" in capsys.readouterr().out
    frame = read_clip(tmp_path / "out")[0]
    assert np.abs(frame[:, :80].astype(int) - (200, 100, 50)).mean() < 4 and frame[:, 110:].max() == 0


@pytest.mark.slow
def test_a_folder_of_clips_becomes_a_folder_of_clips(tmp_path, capsys):
    write_frames(tmp_path / "in" / "frames", moving(2))
    film(tmp_path / "in" / "a.mp4", "libx264", order="av")
    film(tmp_path / "in" / "b.ts", "libx264")
    (tmp_path / "in" / "notes.txt").write_text("notes")
    assert run(tmp_path / "in", tmp_path / "new" / "out") == 0
    said = capsys.readouterr().out
    assert "left out notes.txt" in said and "26 frames in" in said
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == ["a.mp4", "b.mkv", "frames"]
    (tmp_path / "in" / "c.mp4").write_text("not a video")
    assert run(tmp_path / "in", tmp_path / "out2") == 2
    assert "1 of 4 clips were not upscaled" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out2").iterdir()) == ["a.mp4", "b.mkv", "frames"]
    assert run(tmp_path / "in", tmp_path / "out.mp4") == 2


def test_overwriting_never_deletes_another_picture_or_the_input(tmp_path, capsys):
    album = tmp_path / "album"
    write_frames(album, moving(3), names=["a", "b", "c"])
    assert run(album / "a.png", album, "--overwrite") == 2
    assert "holds the input" in capsys.readouterr().err
    write_frames(tmp_path / "other", moving(1), names=["z"])
    assert run(tmp_path / "other" / "z.png", album, "--overwrite") == 2
    assert "holds a.png, which this run does not write" in capsys.readouterr().err
    assert sorted(path.name for path in album.iterdir()) == ["a.png", "b.png", "c.png"]
    assert run(album, tmp_path / "out") == 0
    assert run(album, tmp_path / "out", "--start", "0.04", "--overwrite") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b.png", "c.png"]


@pytest.mark.slow
def test_folders_above_the_output_are_created_and_removed_after_an_error(tmp_path, capsys):
    source = film(tmp_path / "in.mp4", "libx264")
    assert run(source, tmp_path / "a" / "b" / "out.mp4") == 0
    assert run(source, tmp_path / "c" / "d" / "out") == 0
    assert run(source, tmp_path / "e" / "f" / "out.mp4", "--start", "9") == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c", "in.mp4"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["é" * 123 + ".mp4", "x" * 250, "a:b.mkv"])
def test_long_names_and_colons_are_names(tmp_path, monkeypatch, name):
    film(tmp_path / "in.mp4", "libx264")
    monkeypatch.chdir(tmp_path)
    assert run("in.mp4", name) == 0
    assert len(read_clip(name)) == 12


def test_the_profile_of_pictures_is_kept_in_png_and_named_for_video(tmp_path, capsys):
    profile = bytes(16) + b"RGB " + bytes(112)
    (tmp_path / "in").mkdir()
    for index, frame in enumerate(moving(2)):
        Image.fromarray(frame).save(tmp_path / "in" / f"{index}.png", icc_profile=profile)
    assert run(tmp_path / "in", tmp_path / "out") == 0
    with Image.open(tmp_path / "out" / "1.png") as image:
        assert image.info["icc_profile"] == profile
    capsys.readouterr()
    assert run(tmp_path / "in", tmp_path / "out.mp4") == 0
    assert "left out: the pictures' colour profile" in capsys.readouterr().out


def test_degrade_keeps_names(tmp_path):
    write_frames(tmp_path / "in", moving(3, 50, 66), names=["im8", "im9", "im10"])
    assert main(["degrade", str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["im10.png", "im8.png", "im9.png"]


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_recording_that_starts_between_key_frames_begins_at_the_next_one(tmp_path, capsys, codec):
    source = film(tmp_path / "whole.ts", codec, options={"g": "6", "bf": "0"})
    with av.open(str(source)) as given, av.open(str(tmp_path / "in.ts"), "w") as sink:
        stream = sink.add_stream_from_template(given.streams[0])
        for index, packet in enumerate(given.demux()):
            if index >= 3 and packet.pts is not None:
                packet.stream = stream
                sink.mux(packet)
    assert run(tmp_path / "in.ts", tmp_path / "out") == 0
    assert numbers(read_clip(tmp_path / "out")) == [6, 7, 8, 9, 10, 11]
    assert "3 of 9 frames could not be decoded and are missing" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("command", ["degrade", "upscale"])
@pytest.mark.parametrize("more", [(), ("--duration", "0.44")])
def test_strict_refuses_damaged_and_missing_frames_and_leaves_nothing(tmp_path, capsys, command, more):
    source = film(tmp_path / "whole.mp4", "libx264", options={"g": "12", "bf": "0"})
    model = ("--model", "bicubic", "--no-audio", *more) if command == "upscale" else ()
    assert main([command, str(source), str(tmp_path / "whole"), "--strict", *model]) == 0
    with av.open(str(source)) as given:
        packet = [packet for packet in given.demux(video=0) if packet.size][5]
    content = bytearray(source.read_bytes())
    content[packet.pos + 4 : packet.pos + packet.size] = bytes(packet.size - 4)
    (tmp_path / "in.mp4").write_bytes(content)
    capsys.readouterr()
    assert main([command, str(tmp_path / "in.mp4"), str(tmp_path / "out"), *model]) == 0
    assert "damaged video: 1" in "".join(capsys.readouterr())
    assert main([command, str(tmp_path / "in.mp4"), str(tmp_path / "out2"), "--strict", *model]) == 2
    assert "damaged video: 1" in (refusal := capsys.readouterr().err)
    assert "--strict refuses that" in refusal
    assert not (tmp_path / "out2").exists()


@pytest.mark.slow
def test_evaluate_names_damage_on_either_side_and_refuses_it_when_strict(tmp_path, capsys):
    source = film(tmp_path / "whole.mp4", "libx264", options={"g": "12", "bf": "0"})
    with av.open(str(source)) as given:
        packet = [packet for packet in given.demux(video=0) if packet.size][5]
    content = bytearray(source.read_bytes())
    content[packet.pos + 4 : packet.pos + packet.size] = bytes(packet.size - 4)
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(content)

    def evaluate(results, targets, *options):
        status = main(["evaluate", "--results", str(results), "--targets", str(targets), "--protocol", "literature-y",
                       *options])  # fmt: skip
        return status, capsys.readouterr().err

    damage = "bad.mp4: damaged video: 1 of 12 frames could not be decoded and are missing"
    print_note.cache_clear()
    status, said = evaluate(bad, source)
    assert status == 2 and "ends after 11 frames" in said and damage in said  # the reason stands above the error
    print_note.cache_clear()
    assert evaluate(bad, bad)[0] == 0
    for results, targets in ((bad, source), (source, bad), (bad, bad)):
        status, said = evaluate(results, targets, "--strict")
        assert status == 2 and f"{damage}: --strict refuses that" in said
    assert evaluate(source, source, "--strict")[0] == 0


@pytest.mark.slow
def test_names_that_are_not_utf8_are_names(tmp_path):
    """In a process of its own: the streams of pytest take what a terminal refuses."""
    name = os.fsdecode(b"caf\xe9")
    film(tmp_path / "in.mp4", "libx264").rename(tmp_path / f"{name}.mp4")
    write_frames(tmp_path / name / name, moving(12, 48, 64))
    evaluate = ["evaluate", "--results", name, "--targets", name, "--protocol", "literature-y"]
    commands = [["upscale", f"{name}.mp4", f"{name}-out.mp4", "--model", "bicubic"], ["degrade", name + ".mp4", "lr"],
                ["upscale", name, "clips", "--model", "bicubic"], ["degrade", "missing" + name, "x"],
                [*evaluate, "--csv", "a.csv", "--json", "a.json"]]  # fmt: skip
    program = "import sys; from stvsr.cli import main; print([main(line) for line in eval(sys.argv[1])])"
    done = subprocess.run(
        [sys.executable, "-c", program, ascii(commands)], cwd=tmp_path, capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict", "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert b"[0, 0, 0, 2, 0]" in done.stdout, done.stderr
    assert b"Traceback" not in done.stderr and (tmp_path / "clips" / name).is_dir()
    assert read_json(tmp_path / "a.json")["methods"][name]["clips"].keys() == {name}


@pytest.mark.parametrize("name", ["pipe.mp4", "pipe.png", "loop"])
def test_pipes_and_loops_of_links_are_one_line(tmp_path, capsys, name):
    path = tmp_path / name
    if name == "loop":
        path.symlink_to(path)
    else:
        os.mkfifo(path)
    evaluate = ["evaluate", "--results", str(path), "--targets", str(path), "--protocol", "literature-y"]
    for command in (["degrade", str(path), str(tmp_path / "a")], ["upscale", str(path), str(tmp_path / "b")], evaluate):
        assert main(command) == 2
        assert str(path) in capsys.readouterr().err
