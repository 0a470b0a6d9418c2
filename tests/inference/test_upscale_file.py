"""`stvsr upscale` over the inputs people have: each works, or one line says why not, and nothing half-written stays."""

import math
import resource
import signal
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from media import encode, moving, packets
from PIL import Image

from stvsr.cli import main
from stvsr.errors import InputError
from stvsr.inference.upscale_file import UpscaleConfig, upscale
from stvsr.inference.upscaler import InferenceConfig, load_upscaler
from stvsr.models.basicvsr import BasicVSR, BasicVSRConfig
from stvsr.models.generators import save_generator
from stvsr.models.rbpn import RBPN, RBPNConfig
from stvsr.models.spynet import load_spynet
from stvsr.video.reader import open_clip, read_clip
from stvsr.video.writer import FolderWriter, VideoWriter, write_frames


def run(source, target, *options):
    """Run the command with the fastest model; return its exit status."""
    return main(["upscale", str(source), str(target), "--model", "bicubic", *options])


def refused(capsys, status):
    """Return the one line that a refused command printed."""
    assert status == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("stvsr: ")
    return lines[0]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    network = BasicVSR(BasicVSRConfig(features=4, blocks=1))
    network.spynet.load_state_dict(load_spynet().state_dict())
    path = tmp_path_factory.mktemp("models") / "basicvsr-tiny.safetensors"
    save_generator(path, network)
    return path


INPUTS = {
    "one frame": {"frames": moving(1)},
    "two frames": {"frames": moving(2)},
    "odd size": {"frames": moving(3, 31, 45), "codec": "ffv1", "pix_fmt": "yuv420p", "suffix": ".mkv"},
    "10 bits": {"frames": moving(3), "pix_fmt": "yuv420p10le"},
    "yuv444": {"frames": moving(3), "pix_fmt": "yuv444p"},
    "grey": {"frames": moving(3)[..., :1].repeat(3, -1), "codec": "ffv1", "pix_fmt": "gray", "suffix": ".mkv"},
    "alpha": {"frames": moving(3), "codec": "ffv1", "pix_fmt": "yuva420p", "suffix": ".mkv"},
    "no sound": {"frames": moving(3)},
    "webm": {"frames": moving(3), "codec": "libvpx-vp9", "suffix": ".webm", "options": {"crf": "4", "b": "0"}},
    "spaces and unicode": {"frames": moving(3), "name": "mein Film – 映像 (1)"},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", INPUTS)
def test_inputs_of_every_kind_come_out_four_times_as_large(tmp_path, kind):
    case = dict(INPUTS[kind])
    frames, suffix, name = case.pop("frames"), case.pop("suffix", ".mp4"), case.pop("name", "clip")
    source = encode(tmp_path / f"{name}{suffix}", frames, **case)
    target = tmp_path / f"{name} x4.mp4"
    assert run(source, target, "--crf", "4") == 0
    back = read_clip(target)
    assert back.shape == (len(frames), 4 * frames.shape[1], 4 * frames.shape[2], 3)
    assert np.abs(back[:, 1::4, 1::4].astype(int) - frames).mean() < 12  # the picture, not only its size
    assert not list(tmp_path.glob(".*"))


def test_rotated_phone_clip_stands_upright(tmp_path):
    source = encode(tmp_path / "phone.mov", moving(2), rotation=(-90, False, False), sar=Fraction(4, 3))
    assert run(source, tmp_path / "up.mp4") == 0
    with open_clip(tmp_path / "up.mp4") as clip:
        assert (clip.size, clip.aspect) == ((192, 128), Fraction(3, 4))
    upright = np.rot90(moving(2), -1, axes=(1, 2))
    assert np.abs(read_clip(tmp_path / "up.mp4")[:, 1::4, 1::4].astype(int) - upright).mean() < 12


def test_variable_rate_keeps_every_time(tmp_path):
    times = [0, 40, 55, 200, 210, 500]
    source = encode(tmp_path / "vfr.mkv", moving(6), times=times)
    assert run(source, tmp_path / "out.mp4") == 0
    with open_clip(tmp_path / "out.mp4") as clip:
        assert [moment for moment, _ in clip.timed()] == [Fraction(moment, 1000) for moment in times]


def test_sound_longer_than_the_picture_is_kept_whole(tmp_path):
    source = encode(tmp_path / "long.mp4", moving(5), sound=1.5)
    assert run(source, tmp_path / "out.mp4") == 0
    assert packets(tmp_path / "out.mp4", "audio") == packets(source, "audio")


def test_sound_that_does_not_fit_is_refused_or_left_out(tmp_path, capsys):
    source = encode(tmp_path / "in.mp4", moving(3), sound=0.3)
    assert "audio (aac) cannot be copied into .webm" in refused(capsys, run(source, tmp_path / "out.webm"))
    assert run(source, tmp_path / "out.webm", "--no-audio") == 0
    with av.open(str(tmp_path / "out.webm")) as container:
        assert not container.streams.audio


def test_colour_tags_are_carried_over(tmp_path):
    tags = {"colorspace": 6, "color_range": 2, "color_primaries": 6, "color_trc": 6}
    source = encode(tmp_path / "in.mkv", moving(2), tags=tags)
    assert run(source, tmp_path / "out.mp4") == 0
    with open_clip(source) as before, open_clip(tmp_path / "out.mp4") as after:
        assert after.colour == before.colour
        assert before.colour.full_range and before.colour.tag == 6


@pytest.mark.slow
def test_part_of_a_clip(tmp_path):
    source = encode(tmp_path / "in.mp4", moving(30), sound=1.2)
    assert run(source, tmp_path / "part", "--start", "0.4", "--duration", "0.2") == 0
    assert run(source, tmp_path / "whole") == 0
    names = sorted(path.name for path in (tmp_path / "part").iterdir())
    assert names == [f"{k:06d}.png" for k in range(5)]
    assert np.array_equal(read_clip(tmp_path / "part"), read_clip(tmp_path / "whole", 10, 15))
    assert run(source, tmp_path / "part.mp4", "--start", "0.4", "--duration", "0.2") == 0
    assert [moment for moment, _ in open_clip(tmp_path / "part.mp4").timed()] == [Fraction(k, 25) for k in range(5)]
    assert all(0 <= moment < Fraction(1, 5) for moment, _ in packets(tmp_path / "part.mp4", "audio"))


def test_part_after_the_end_is_refused(tmp_path, capsys):
    source = encode(tmp_path / "in.mp4", moving(3))
    assert "no frame after 9.0 s" in refused(capsys, run(source, tmp_path / "out.mp4", "--start", "9"))
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_frame_folder_keeps_its_names_and_takes_a_rate(tmp_path):
    frames = moving(4, 17, 19)
    write_frames(tmp_path / "in", frames, names=["shot8", "shot9", "shot10", "shot11"])
    alpha = Image.fromarray(np.concatenate([frames[3], np.full((17, 19, 1), 255, np.uint8)], axis=-1))
    alpha.save(tmp_path / "in" / "shot11.png")
    assert run(tmp_path / "in", tmp_path / "out", "--start", "0.04") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["shot10.png", "shot11.png", "shot9.png"]
    expected = np.stack(list(load_upscaler("bicubic")(frames[1:])))
    assert np.array_equal(read_clip(tmp_path / "out"), expected)
    assert run(tmp_path / "in", tmp_path / "out.mp4", "--fps", "10") == 0
    assert open_clip(tmp_path / "out.mp4").rate == 10


@pytest.mark.slow
def test_compare_puts_bicubic_on_the_left(tmp_path, checkpoint):
    source = encode(tmp_path / "in.mp4", moving(6))
    config = InferenceConfig(tile=0, window=4, window_overlap=2)
    upscale(
        UpscaleConfig(input=source, output=tmp_path / "both", model=checkpoint, compare=True, inference=config),
        progress=False,
    )
    both, frames = read_clip(tmp_path / "both"), read_clip(source)
    assert np.array_equal(both[:, :, :192], np.stack(list(load_upscaler("bicubic")(frames))))
    assert np.array_equal(both[:, :, 192:], np.stack(list(load_upscaler(checkpoint, config=config)(frames))))


def test_compare_at_another_scale(tmp_path):
    network = RBPN(RBPNConfig(base_filter=4, feat=4, num_stages=1, n_resblock=1, num_frames=3, scale=2))
    save_generator(tmp_path / "double.safetensors", network)
    write_frames(tmp_path / "in", moving(2))
    model = ("--model", str(tmp_path / "double.safetensors"), "--compare")
    assert main(["upscale", str(tmp_path / "in"), str(tmp_path / "out"), *model]) == 0
    both = read_clip(tmp_path / "out")
    assert both.shape == (2, 64, 192, 3)
    assert np.abs(both[:, ::2, :96:2].astype(int) - moving(2)).mean() < 12


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--window", "4", "--window-overlap", "2"), ("--tile", "64")])
def test_command_and_python_give_identical_frames(tmp_path, checkpoint, options):
    source = encode(tmp_path / "in.mp4", moving(6, 20, 90))
    assert main(["upscale", str(source), str(tmp_path / "command"), "--model", str(checkpoint), *options]) == 0
    values = {name[2:].replace("-", "_"): int(value) for name, value in zip(options[::2], options[1::2], strict=True)}
    upscaler = load_upscaler(checkpoint, config=InferenceConfig(**values))
    write_frames(tmp_path / "python", upscaler(open_clip(source)))
    assert np.array_equal(read_clip(tmp_path / "command"), read_clip(tmp_path / "python"))


@pytest.mark.slow
def test_wide_input_is_refused_as_video_and_works_as_frames(tmp_path, capsys):
    write_frames(tmp_path / "in", moving(1, 8, 7680))
    assert "30720x32 is beyond libx264's 16384 pixels a side: write a frame folder" in refused(
        capsys, run(tmp_path / "in", tmp_path / "out.mp4")
    )
    assert run(tmp_path / "in", tmp_path / "out") == 0
    assert read_clip(tmp_path / "out").shape == (1, 32, 30720, 3)


def test_what_is_no_video_is_refused(tmp_path, capsys):
    (tmp_path / "text.mp4").write_text("no video\n" * 99)
    (tmp_path / "empty").mkdir()
    for name, words in (
        ("text.mp4", "cannot be read as video"),
        ("empty", "has neither frames nor clips"),
        ("absent.mp4", "does not exist"),
    ):
        assert words in refused(capsys, run(tmp_path / name, tmp_path / "out.mp4"))
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.slow
def test_truncated_file_is_refused_with_a_remedy_that_works(tmp_path, capsys):
    noise = np.random.default_rng(0).integers(0, 256, (50, 32, 48, 3), dtype=np.uint8)
    whole = encode(tmp_path / "whole.mp4", noise, container_options={"movflags": "faststart"}).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    line = refused(capsys, run(tmp_path / "cut.mp4", tmp_path / "out.mp4"))
    assert "is damaged or cut off" in line
    kept = int(line.split("the first ")[1].split()[0])
    assert [path.name for path in tmp_path.glob("*out*")] == ["out.partial.mp4"]
    assert len(read_clip(tmp_path / "out.partial.mp4")) == kept > 10
    duration = line.split("--duration ")[1].split()[0]
    assert run(tmp_path / "cut.mp4", tmp_path / "out.mp4", "--duration", duration) == 0


def test_bad_targets_are_refused_before_work(tmp_path, capsys):
    source = encode(tmp_path / "in.mp4", moving(2))
    (tmp_path / "there.mp4").write_bytes(b"precious")
    assert "cannot write" in refused(capsys, run(source, tmp_path / "there.mp4" / "out.mp4"))
    assert "exists: give another name" in refused(capsys, run(source, tmp_path / "there.mp4"))
    assert ".avi is not an output format" in refused(capsys, run(source, tmp_path / "out.avi"))
    assert "is input and output" in refused(capsys, run(source, source, "--overwrite"))
    assert (tmp_path / "there.mp4").read_bytes() == b"precious"
    assert run(source, tmp_path / "there.mp4", "--overwrite") == 0
    assert len(read_clip(tmp_path / "there.mp4")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("target", ["out.mp4", "out"])
def test_full_disk_is_said_in_one_line_and_leaves_nothing(tmp_path, capsys, target):
    noise = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    source = encode(tmp_path / "in.mp4", noise)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (20_000, limits[1])
    )  # the system refuses to write more, as a full disk does
    try:
        status = run(source, tmp_path / target, "--crf", "0")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot write" in refused(capsys, status)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("target", ["out.mp4", "out"])
def test_interruption_leaves_a_playable_part(tmp_path, capsys, monkeypatch, number, target):
    source = encode(tmp_path / "in.mp4", moving(12), sound=1.0)
    before = signal.getsignal(number)
    for writer in (VideoWriter, FolderWriter):

        def write(self, frame, moment, original=writer.write):
            if self.written == 5:
                signal.raise_signal(number)  # as Ctrl-C or a scheduler would, in the midst of work
            original(self, frame, moment)

        monkeypatch.setattr(writer, "write", write)
    try:
        assert run(source, tmp_path / target) == 130
    finally:
        signal.signal(number, before)
    partial = tmp_path / target.replace("out", "out.partial")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", partial.name]
    kept = len(read_clip(partial))  # what was upscaled before the interruption is written too
    assert 5 <= kept <= 12
    said = capsys.readouterr()
    assert f"the first {kept} frames are kept in {partial}" in said.out and "Traceback" not in said.err


def test_what_will_happen_is_said_beforehand(tmp_path, capsys):
    source = encode(tmp_path / "in.mkv", moving(2), pix_fmt="yuv420p10le", sound=0.2)
    assert run(source, tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "(48x32, 25 fps, bt601 limited)" in said and "(192x128)" in said
    assert "memory: at most about" in said and "GB" in said
    assert "10-bit video is reduced to 8 bits" in said and "holds no sound" in said
    assert "2 frames in" in said


@pytest.mark.parametrize(
    ("values", "words"),
    [({"start": -1.0}, "start is -1"), ({"start": math.nan}, "start is nan"), ({"duration": 0.0}, "duration is 0"),
     ({"duration": math.inf}, "duration is inf"), ({"fps": 0.0}, "fps is 0"),
     ({"device": "tpu9"}, "device 'tpu9'"), ({"model": "nothing"}, "nothing is neither")],
)  # fmt: skip
def test_impossible_settings_are_named(tmp_path, values, words):
    write_frames(tmp_path / "in", moving(1))
    with pytest.raises(InputError, match=words):
        upscale(UpscaleConfig(**{"input": tmp_path / "in", "output": tmp_path / "out", **values}), progress=False)
    assert not (tmp_path / "out").exists()
