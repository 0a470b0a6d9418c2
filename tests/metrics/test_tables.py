"""`stvsr evaluate`: folders, videos, many methods, JSON and CSV, clear errors."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from metric_clips import blurred, shuffled, stop_motion
from PIL import Image

from stvsr import assets
from stvsr.cli import main
from stvsr.errors import InputError
from stvsr.metrics.protocols import PROTOCOLS
from stvsr.metrics.scoring import COLUMNS, evaluate, score_methods
from stvsr.metrics.tables import averages, named, text


def save(folder, frames, suffix=".png"):
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{index}{suffix}", lossless=True)
    return folder


@pytest.fixture
def clips(tmp_path):
    """Two clips of 8 frames: truth (PNG), a blurred method (lossless WebP), a shuffled one of seed 3 (PNG)."""
    for name, seed in (("city", 3), ("walk", 2)):
        clip = stop_motion(size=64, step=seed)
        save(tmp_path / "truth" / name, clip)
        save(tmp_path / "soft" / name, blurred(clip), ".webp")
        save(tmp_path / "mixed" / name, shuffled(clip))
    return tmp_path


@pytest.mark.slow
def test_every_row_carries_what_makes_it_citable(clips):
    methods = {"soft": clips / "soft", "arm@3": clips / "mixed"}
    rows = evaluate(methods, clips / "truth", "tecogan", degradation="bi", progress=False)
    assert list(rows.columns) == COLUMNS
    assert rows.groupby(["method", "clip", "metric"]).size().unstack().loc[("soft", "city")].to_dict() == {
        "lpips": 4, "psnr": 4, "tlp100": 3, "tof": 3,
    }  # fmt: skip
    assert set(rows.loc[rows["method"] == "arm@3", "arm"]) == {"arm"}
    assert set(rows.loc[rows["method"] == "arm@3", "seed"]) == {3}
    assert rows.loc[rows["method"] == "soft", "seed"].isna().all()
    assert (rows[["protocol", "version", "dropped", "degradation"]] == ["tecogan", 1, 2, "bi"]).all(axis=None)
    weights = rows.groupby("metric")["weights"].first()
    assert weights["lpips"].startswith(f"alexnet:{assets.ASSETS['alexnet'].sha256[:12]},lpips-alex-0.1:")
    assert weights["psnr"] == ""
    assert rows.groupby("metric")["colour"].first().to_dict() == {
        "lpips": "rgb",
        "psnr": "y",
        "tlp100": "rgb",
        "tof": "grey",
    }


def test_files_score_as_frames_in_memory(clips):
    rows = evaluate({"soft": clips / "soft"}, clips / "truth", "literature-y", progress=False)
    clip = stop_motion(size=64, step=3)
    direct = score_methods({"soft": blurred(clip)}, clip, PROTOCOLS["literature-y"])
    assert rows.loc[rows["clip"] == "city", "value"].tolist() == direct["value"].tolist()


@pytest.mark.slow
def test_command_prints_a_table_and_writes_json_and_csv(clips, capsys):
    status = main([
        "evaluate", "--results", str(clips / "soft"), f"mixed={clips / 'mixed'}", "--targets", str(clips / "truth"),
        "--protocol", "tecogan", "--json", str(clips / "out" / "scores.json"),
        "--csv", str(clips / "out" / "scores.csv"),
    ])  # fmt: skip
    printed = capsys.readouterr().out
    assert status == 0
    assert (
        "tecogan v1: Y, centre crop to multiples of 32" in printed
        and "clip average" in printed
        and "frame average" in printed
    )
    rows = pd.read_csv(clips / "out" / "scores.csv")
    assert list(rows.columns) == COLUMNS
    scores = json.loads((clips / "out" / "scores.json").read_text())
    assert scores["protocol"]["name"] == "tecogan" and scores["degradation"] == "other"
    assert scores["weights"]["alexnet"] == assets.ASSETS["alexnet"].sha256
    mean = rows[(rows["method"] == "mixed") & (rows["metric"] == "tof")].groupby("clip")["value"].mean()
    assert scores["methods"]["mixed"]["clip_average"]["tof"] == pytest.approx(mean.mean())
    assert scores["methods"]["mixed"]["clips"]["walk"]["tof"] == pytest.approx(mean["walk"])
    assert not [path for path in (clips / "out").iterdir() if path.name.startswith(".")]  # nothing half-written is left


@pytest.mark.slow
def test_one_clip_needs_no_equal_name_and_equal_clips_are_infinite(clips):
    rows = evaluate({"same": clips / "truth" / "city"}, clips / "truth" / "city", "literature-y", progress=False)
    assert set(rows["clip"]) == {"city"}
    assert "inf" in text(rows) and text(rows).endswith("Better: PSNR higher, SSIM higher.")
    lone = evaluate({"soft": clips / "soft" / "walk"}, clips / "truth" / "city", "seed-rgb", progress=False)
    assert set(lone["clip"]) == {"city"}


@pytest.mark.slow
def test_videos_are_scored_frame_by_frame():
    video = assets.locate("carphone")
    rows = evaluate({"same": video}, video, "literature-y", progress=False)
    assert rows.groupby("metric").size().to_dict() == {"psnr": 120, "ssim": 120}
    assert np.isinf(rows.loc[rows["metric"] == "psnr", "value"]).all()


def test_16_bit_grey_and_alpha_frames_are_reduced_as_the_reader_says(tmp_path):
    clip = stop_motion(frames=2, size=64)
    grey = clip[..., 0]
    save(tmp_path / "truth", np.repeat(grey[..., None], 3, axis=3))
    (tmp_path / "deep").mkdir()
    for index, frame in enumerate(grey):
        Image.fromarray(frame.astype(np.uint16) * 257).save(tmp_path / "deep" / f"{index}.png")
    save(
        tmp_path / "alpha",
        np.concatenate([np.repeat(grey[..., None], 3, axis=3), np.full_like(grey, 255)[..., None]], axis=3),
    )
    rows = evaluate(
        {"deep": tmp_path / "deep", "alpha": tmp_path / "alpha"}, tmp_path / "truth", "seed-rgb", progress=False
    )
    assert np.isinf(rows.loc[rows["metric"] == "psnr", "value"]).all()


def test_averages_are_over_clips_and_over_frames():
    rows = pd.DataFrame(
        {"method": "a", "metric": "tof", "clip": ["x", "x", "x", "y"], "value": [1.0, 1.0, np.nan, 4.0]}
    )
    table = averages(rows).iloc[0]
    assert (table["clip_average"], table["frame_average"], table["clips"], table["frames"]) == (2.5, 2.0, 2, 3)


@pytest.mark.slow
def test_protocols_never_share_a_table(clips):
    rows = [
        evaluate({"a": clips / "soft"}, clips / "truth", name, progress=False) for name in ("literature-y", "seed-rgb")
    ]
    with pytest.raises(InputError, match="literature-y, original-rgb never share a table"):
        text(pd.concat(rows))


def test_mistakes_are_one_clear_line(clips, capsys):
    def fails(words, results, targets="truth", protocol="literature-y", *more):
        arguments = [
            "evaluate",
            "--results",
            *results,
            "--targets",
            str(clips / targets),
            "--protocol",
            protocol,
            *more,
        ]
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert words in error and error.startswith("stvsr: ") and len(error.strip().splitlines()) == 1

    soft = str(clips / "soft")
    (clips / "empty").mkdir()
    save(clips / "short" / "city", stop_motion(frames=7, size=64))
    save(clips / "short" / "walk", stop_motion(frames=8, size=64))
    save(clips / "small" / "city", stop_motion(frames=8, size=60))
    save(clips / "small" / "walk", stop_motion(frames=8, size=64))
    fails("clip city: short ends after 7 frames, truth has more", [str(clips / "short")])
    fails("clip city: frame 0 of small is 60x60, the target is 64x64", [str(clips / "small")])
    fails("does not exist", [str(clips / "nowhere")])
    fails("has neither frames nor clips", [str(clips / "empty")])
    save(clips / "twice" / "city", stop_motion(frames=8, size=64))
    (clips / "twice" / "city.mp4").touch()
    fails("has a video and a folder, or two videos, of one name", [str(clips / "twice")])
    fails("protocol 'vid4' is unknown", [soft], "truth", "vid4")
    fails("two results are called 'soft'", [soft, f"soft={clips / 'mixed'}"])
    fails("write NAME=DIR", ["=x"])
    fails("device 'tpu9' is unknown", [soft], "truth", "literature-y", "--device", "tpu9")


def test_clips_must_be_there_on_both_sides(clips):
    other = save(clips / "other" / "sea", stop_motion(frames=2, size=64)).parent
    with pytest.raises(InputError, match="missing: city, walk; without target: sea"):
        evaluate({"a": other}, clips / "truth", "literature-y", progress=False)
    with pytest.raises(InputError, match="degradation 'blur' is unknown"):
        evaluate({"a": other}, clips / "truth", "literature-y", degradation="blur")
    with pytest.raises(InputError, match="no results are given"):
        evaluate({}, clips / "truth", "literature-y")


def test_names_of_results(tmp_path):
    (tmp_path / "a=b").mkdir()
    (tmp_path / "v1.2").mkdir()
    assert named([str(tmp_path / "v1.2")]) == {"v1.2": tmp_path / "v1.2"}
    assert named(["x=/some/where", str(tmp_path / "a=b")]) == {"x": Path("/some/where"), "a=b": tmp_path / "a=b"}


def test_shifted_names_are_warned_of(tmp_path, capsys):
    clip = stop_motion(frames=8, size=64)
    for name, first in (("truth", 0), ("same", 0), ("shifted", 2), ("other", 100)):
        (tmp_path / name).mkdir()
        for index, frame in enumerate(clip):
            Image.fromarray(frame).save(tmp_path / name / f"{first + index:06d}.png")
    for name in ("same", "other", "shifted"):
        evaluate({name: tmp_path / name}, tmp_path / "truth", "literature-y", progress=False)
        said = capsys.readouterr().err
        assert ("names are shifted: target 000000 is paired with 000002 of shifted" in said) == (name == "shifted")


def test_one_equal_frame_does_not_make_the_mean_infinite(tmp_path, capsys):
    clip = stop_motion(frames=4, size=64)
    mixed = np.concatenate([clip[:1], blurred(clip)[1:]])
    save(tmp_path / "truth", clip)
    save(tmp_path / "mixed", mixed)
    arguments = [
        "evaluate",
        "--results",
        str(tmp_path / "mixed"),
        "--targets",
        str(tmp_path / "truth"),
        "--protocol",
        "literature-y",
    ]
    assert main([*arguments, "--json", str(tmp_path / "scores.json")]) == 0
    assert "PSNR of 1 frames equal to the truth counts as 100 dB" in capsys.readouterr().out
    rows = evaluate({"mixed": tmp_path / "mixed"}, tmp_path / "truth", "literature-y", progress=False)
    values = rows.loc[rows["metric"] == "psnr", "value"]
    assert np.isinf(values.iloc[0])  # the frame's own row
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["protocol"]["psnr_cap"] == 100
    expected = np.mean([100, *values[1:]])
    assert scores["methods"]["mixed"]["clip_average"]["psnr"] == pytest.approx(expected)
    assert scores["methods"]["mixed"]["clips"]["truth"]["psnr"] == pytest.approx(expected)


def test_a_truth_that_scale_does_not_divide_goes_through_all_commands(tmp_path, capsys):
    save(tmp_path / "truth", stop_motion(frames=3, size=80)[:, :50, :66])
    assert main(["degrade", str(tmp_path / "truth"), str(tmp_path / "lr")]) == 0
    assert "cropped from 66x50 to 64x48" in capsys.readouterr().err
    assert main(["upscale", str(tmp_path / "lr"), str(tmp_path / "sr"), "--model", "bicubic"]) == 0
    results = ["--results", str(tmp_path / "sr"), "--targets", str(tmp_path / "truth")]
    capsys.readouterr()
    assert main(["evaluate", *results, "--protocol", "literature-y", "--csv", str(tmp_path / "scores.csv")]) == 0
    assert "targets are cropped from 66x50 to 64x48" in capsys.readouterr().err
    save(tmp_path / "cropped", stop_motion(frames=3, size=80)[:, :48, :64])
    rows = evaluate({"sr": tmp_path / "sr"}, tmp_path / "cropped", "literature-y", progress=False)
    assert pd.read_csv(tmp_path / "scores.csv")["value"].tolist() == pytest.approx(rows["value"].tolist())


@pytest.mark.slow
def test_nested_and_stray_entries_are_understood_or_named(clips, capsys):
    rows = evaluate({"soft": clips / "soft"}, clips / "truth", "literature-y", progress=False)
    for name in ("city", "walk"):
        (clips / "truth" / name).rename(clips / f"moved-{name}")
        (clips / "truth" / name).mkdir()
        (clips / f"moved-{name}").rename(clips / "truth" / name / "original")
    Image.new("RGB", (9, 9)).save(clips / "truth" / "cover.png")
    again = evaluate({"soft": clips / "soft"}, clips / "truth", "literature-y", progress=False)
    assert rows["value"].tolist() == again["value"].tolist()
    assert "left out cover.png" in capsys.readouterr().err
    with pytest.raises(InputError, match="holds no frames but the folders"):
        evaluate({"soft": clips / "soft"}, clips, "literature-y", progress=False)
