"""Every container and codec that can be written here, in every order of streams: all frames, with their times."""

from fractions import Fraction

import av
import pytest
from media import encode, film, moving, numbers

from stvsr.errors import InputError
from stvsr.video.reader import open_clip, read_clip

GROUPS = {"g": "5", "bf": "2"}  # several groups of pictures, with pictures that are stored out of order
KINDS = [  # suffix, codec, pixel format, codec of the sound, orders of the streams
    (".mp4", "libx264", "yuv420p", "aac", "v va av aav"), (".mp4", "libx265", "yuv420p", "aac", "v va av"),
    (".mp4", "mpeg4", "yuv420p", "aac", "v va av"), (".mp4", "libvpx-vp9", "yuv420p", "aac", "v va av"),
    (".mov", "prores_ks", "yuv422p10le", "pcm_s16le", "v va av"), (".mov", "mjpeg", "yuvj420p", "aac", "v va av"),
    (".mov", "png", "rgb24", "aac", "v av"), (".mov", "libx264", "yuv420p", "pcm_s16le", "v va av"),
    (".m4v", "libx264", "yuv420p", "aac", "v av"), (".3gp", "libx264", "yuv420p", "aac", "v va av"),
    (".f4v", "libx264", "yuv420p", "aac", "v va av"), (".mkv", "libx264", "yuv420p", "aac", "v va av aav"),
    (".mkv", "libx265", "yuv420p", "aac", "v va av"), (".mkv", "ffv1", "yuv420p", "flac", "v va av"),
    (".mkv", "libvpx", "yuv420p", "libopus", "v va av"), (".mkv", "mpeg2video", "yuv420p", "ac3", "v va av"),
    (".mkv", "mjpeg", "yuvj420p", "mp2", "v va av"), (".webm", "libvpx-vp9", "yuv420p", "libopus", "v va av"),
    (".webm", "libvpx", "yuv420p", "libopus", "v va av"), (".avi", "libx264", "yuv420p", "mp2", "v va av"),
    (".avi", "mpeg4", "yuv420p", "mp2", "v va av"), (".avi", "mjpeg", "yuvj420p", "mp2", "v va av"),
    (".avi", "ffv1", "yuv420p", "pcm_s16le", "v va av"), (".avi", "msmpeg4v3", "yuv420p", "mp2", "v av"),
    (".ts", "libx264", "yuv420p", "aac", "v va av"), (".ts", "libx265", "yuv420p", "aac", "v va av"),
    (".ts", "mpeg2video", "yuv420p", "mp2", "v va av"), (".m2ts", "libx264", "yuv420p", "ac3", "v va av"),
    (".mpg", "mpeg2video", "yuv420p", "mp2", "v va av"), (".mpg", "mpeg1video", "yuv420p", "mp2", "v va av"),
    (".vob", "mpeg2video", "yuv420p", "ac3", "v va av"), (".flv", "libx264", "yuv420p", "aac", "v va av"),
    (".flv", "flv", "yuv420p", "aac", "v va av"), (".mxf", "mpeg2video", "yuv420p", "pcm_s16le", "v va"),
    (".nut", "mpeg4", "yuv420p", "mp2", "v va av"), (".wmv", "wmv2", "yuv420p", "", "v"),
    (".y4m", "wrapped_avframe", "yuv420p", "", "v"), (".gif", "gif", "rgb8", "", "v"),
    (".h264", "libx264", "yuv420p", "", "v"), (".hevc", "libx265", "yuv420p", "", "v"),
    (".m2v", "mpeg2video", "yuv420p", "", "v"), (".mjpg", "mjpeg", "yuvj420p", "", "v"),
    (".ivf", "libvpx", "yuv420p", "", "v"), (".apng", "apng", "rgb24", "", "v"),
    (".mov", "v210", "yuv422p10le", "aac", "v av"), (".mov", "jpeg2000", "rgb24", "aac", "va"),
    (".mkv", "vc2", "yuv420p", "aac", "av"), (".mkv", "libx264rgb", "rgb24", "aac", "av"),
    (".mkv", "ffv1", "gbrp10le", "flac", "va"), (".avi", "utvideo", "gbrp", "mp2", "va"),
    (".avi", "huffyuv", "yuv422p", "mp2", "av"), (".asf", "wmv1", "yuv420p", "", "v"),
    (".wtv", "mpeg2video", "yuv420p", "mp2", "v va"), (".nut", "rawvideo", "rgb24", "mp2", "av"),
]  # fmt: skip
FILES = [(*kind[:4], order) for kind in KINDS for order in kind[4].split()]


def make(path, codec, pix_fmt, sound_codec, order="v", **changes):
    options = GROUPS if codec in ("libx264", "libx265", "mpeg2video", "mpeg4") else {}
    if codec == "libx265":
        options = {"x265-params": "keyint=5:bframes=2:log-level=none"}
    return film(path, codec, pix_fmt=pix_fmt, sound_codec=sound_codec, order=order, options=options, **changes)


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "codec", "pix_fmt", "sound", "order"), FILES)
def test_all_frames_are_read_in_order_with_their_times(tmp_path, suffix, codec, pix_fmt, sound, order):
    path = make(tmp_path / f"clip{suffix}", codec, pix_fmt, sound, order)
    with open_clip(path) as clip:
        frames = list(clip.timed())
        assert numbers(frame for _, frame in frames) == list(range(12))
        tick = max(clip.time_base, Fraction(1, 2000))
        assert all(abs(time - clip.origin - Fraction(k, 25)) <= tick for k, (time, _) in enumerate(frames))
        assert clip.has_audio == ("a" in order)
        assert clip.size == (48, 64)
        assert abs(clip.ends - clip.origin - Fraction(12, 25)) <= Fraction(1, 25)
        assert not [note for note in clip.notes if "damaged" in note]


STARTS = [(".mp4", "libx264"), (".mov", "prores_ks"), (".mkv", "libx264"), (".webm", "libvpx-vp9"), (".avi", "libx264"),
          (".ts", "libx264"), (".m2ts", "libx264"), (".mpg", "mpeg2video"), (".vob", "mpeg2video"), (".flv", "libx264"),
          (".mxf", "mpeg2video"), (".nut", "mpeg4"), (".mp4", "libx265"), (".ts", "libx265"), (".h264", "libx264"),
          (".gif", "gif"), (".mjpg", "mjpeg"), (".y4m", "wrapped_avframe")]  # fmt: skip
FORMATS = {(suffix, codec): (pix_fmt, sound) for suffix, codec, pix_fmt, sound, _ in KINDS}


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "codec"), STARTS)
@pytest.mark.parametrize("open_groups", [False, True])
def test_a_part_equals_the_same_frames_of_the_whole(tmp_path, suffix, codec, open_groups):
    pix_fmt, sound = FORMATS[suffix, codec]
    path = tmp_path / f"clip{suffix}"
    if open_groups and codec in ("libx264", "libx265"):
        name = f"{codec[3:]}-params"
        film(path, codec, order="av" if sound else "v", sound_codec=sound or "aac",
             options={name: "keyint=5:bframes=2:open-gop=1:log-level=0"})  # fmt: skip
    elif open_groups:
        make(path, codec, pix_fmt, sound, "av" if sound and suffix != ".mxf" else "v")
    else:
        make(path, codec, pix_fmt, sound)
    with open_clip(path) as clip:
        whole = list(clip.timed())
        for first in (1, 4, 5, 6, 9, 11):
            part = list(clip.timed(whole[first][0] - clip.origin))
            assert [time for time, _ in part] == [time for time, _ in whole[first:]], first
            assert all((a == b).all() for (_, a), (_, b) in zip(part, whole[first:], strict=True)), first
        stop = whole[7][0] - clip.origin
        assert [time for time, _ in clip.timed(whole[3][0] - clip.origin, stop)] == [time for time, _ in whole[3:7]]


def test_a_part_far_into_a_long_file_is_found_by_its_index_and_checked(tmp_path):
    for suffix, groups in ((".mp4", "1"), (".mkv", "9999")):  # the second has one key frame: reading starts again
        times = [1000 * k for k in range(31)]  # one frame per second
        path = encode(tmp_path / f"long{suffix}", moving(31), times=times, options={"g": groups, "bf": "0"})
        with open_clip(path) as clip:
            assert [time - clip.origin for time, _ in clip.timed(Fraction(27))] == [27, 28, 29, 30]


MOVFLAGS = ("frag_keyframe+empty_moov", "frag_every_frame+empty_moov+default_base_moof", "cmaf")
LAYOUTS = [*((".mp4", {"movflags": flags}) for flags in MOVFLAGS), (".mkv", {"live": "1"}), (".nut", {}), (".ts", {}),
           (".mov", {}), (".flv", {})]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "options"), LAYOUTS)
@pytest.mark.parametrize(("late", "seconds"), [("", 0), ("video audio", 5), ("video", 2), ("audio", 2)])
def test_fragments_and_clocks_that_start_late_lose_nothing(tmp_path, suffix, options, late, seconds):
    if late == "video" and "movflags" in options:
        options = {}  # a fragment cannot say that the first picture comes late
    source, path = film(tmp_path / f"in{suffix}", "libx264", order="va", options=GROUPS), tmp_path / f"late{suffix}"
    with av.open(str(source)) as given, av.open(str(path), "w", options=options) as sink:
        streams = {stream.index: sink.add_stream_from_template(stream) for stream in given.streams}
        for packet in given.demux():
            if packet.pts is None:
                continue
            if packet.stream.type in late:
                ticks = round(seconds / packet.time_base)
                packet.pts, packet.dts = packet.pts + ticks, None if packet.dts is None else packet.dts + ticks
            packet.stream = streams[packet.stream.index]
            sink.mux(packet)
    with open_clip(path) as clip:
        assert numbers(clip) == list(range(12))
        assert numbers(frame for _, frame in clip.timed(Fraction(1, 5))) == list(range(5, 12))
        ahead = float(clip.origin - clip.begins)
        assert ahead == pytest.approx(seconds if late == "video" else 0, abs=0.1)


LISTS = {
    "text.txt": "One line of prose.\nAnother.\n" * 20,
    "text.nfo": "One line of prose.\nAnother.\n" * 20,
    "script.mp4": "ffconcat version 1.0\nfile other.ts\nfile other.ts\n",
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.48,\nother.ts\n#EXT-X-ENDLIST\n",
    "net.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.48,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    "page.mp4": "<!DOCTYPE html><html>Not found</html>",
    "empty.mkv": "",
}


@pytest.mark.parametrize("name", list(LISTS))
def test_text_and_lists_of_other_files_are_not_read_as_video(tmp_path, name):
    film(tmp_path / "other.ts", "libx264")
    (tmp_path / name).write_text(LISTS[name])
    with pytest.raises(InputError, match=r"not a video|cannot be read as video") as raised:
        open_clip(tmp_path / name)
    assert name in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("header", ["W0 H0 F25:1", "W-64 H48 F25:1", "W99999 H99999 F25:1", "W64 H48"])
def test_headers_that_describe_no_video_are_one_line(tmp_path, header):
    (tmp_path / "in.y4m").write_bytes(f"YUV4MPEG2 {header} C420\n".encode() + b"FRAME\n" + bytes(64 * 48 * 3 // 2))
    if "F25" in header:
        with pytest.raises(InputError, match=r"in.y4m cannot be read as video: its header is not valid"):
            open_clip(tmp_path / "in.y4m")
    else:
        assert len(read_clip(tmp_path / "in.y4m")) == 1


def test_joined_recordings_have_one_clock(tmp_path):
    one = film(tmp_path / "one.ts", "libx264", order="va", options=GROUPS)
    (tmp_path / "joined.ts").write_bytes(one.read_bytes() * 3)
    with open_clip(tmp_path / "joined.ts") as clip:
        frames = list(clip.timed())
        assert numbers(frame for _, frame in frames) == [*range(12)] * 3
        times = [float(time - clip.origin) for time, _ in frames]
        part = list(clip.timed(Fraction(9, 10)))
    assert times == sorted(set(times)) and times[-1] == pytest.approx(35 / 25, abs=0.1)
    assert [time for time, _ in part] == [time for time, _ in frames if time - clip.origin >= Fraction(9, 10)]


def test_avi_starts_with_its_sound(tmp_path):
    for codec in ("libx264", "mpeg4"):
        with open_clip(film(tmp_path / f"{codec}.avi", codec, order="va", sound_codec="mp2", options=GROUPS)) as clip:
            assert clip.origin == clip.begins == 0


def test_chapters_attachments_subtitles_and_data_do_not_stop_reading(tmp_path):
    path, more = film(tmp_path / "clip.mkv", "libx264", order="va"), tmp_path / "more.mkv"
    with av.open(str(path)) as source, av.open(str(more), "w") as target:
        chapter = {"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}}
        target.set_chapters([chapter])
        target.metadata["title"] = "A film"
        target.add_mux_stream("subrip")
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        target.add_attachment("font.ttf", "font/ttf", b"glyphs")
        for packet in source.demux():
            if packet.pts is not None:
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    with open_clip(more) as clip:
        assert numbers(clip) == list(range(12))
        assert clip.tracks.titles["title"] == "A film"
        assert clip.tracks.chapters == ((0, Fraction(1, 5), "One"),)
        assert any("font.ttf" in text for text in clip.tracks.left_out)
        assert any("subtitles" in text for text in clip.tracks.left_out)


@pytest.mark.parametrize(
    "name", ["a:b.mp4", "pipe:1.mp4", "clip%03d.mp4", "-i.mp4", "Vidéo 映像 #1?.mkv", "x" * 246 + ".mp4"]
)
def test_names_are_names_of_files(tmp_path, monkeypatch, name):
    film(tmp_path / "clip.mp4", "libx264").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert numbers(open_clip(name)) == list(range(12))


def test_a_codec_without_decoder_and_sound_alone_are_one_line(tmp_path):
    path = film(tmp_path / "clip.mkv", "libx264")
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/ABC"))
    with pytest.raises(InputError, match=r"no decoder for its video|cannot be read as video"):
        read_clip(path)
