"""Held-out clips through methods and protocols, on tiny clips: what is written, kept, made again and refused."""

import dataclasses
import itertools
import shutil

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from procedural_weights import fill
from skimage.metrics import peak_signal_noise_ratio

from stvsr.degradation import bicubic_up, degrade, to_float, to_uint8
from stvsr.errors import InputError
from stvsr.evaluation import held_out
from stvsr.evaluation.held_out import (
    EvaluationConfig,
    count_frames,
    frames_of,
    prepare_clips,
    score,
    summarise,
    table_of,
    upscale_clips,
)
from stvsr.inference.memory import MemoryPlan
from stvsr.metrics.scoring import evaluate
from stvsr.models.generators import build_generator, save_generator
from stvsr.runs.files import read_json
from stvsr.video.reader import read_clip

COLUMNS = [
    "method", "arm", "seed", "clip", "frame", "metric", "value", "protocol", "version", "colour", "border", "dropped",
    "degradation", "weights", "window",
]  # fmt: skip


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return tiny.write_clips(tmp_path_factory.mktemp("clips"), 2, frames=4)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A generator that adds something to bicubic, and one that adds nothing."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    network = build_generator("rbpn-tiny")
    save_generator(folder / "start.safetensors", network)
    torch.nn.init.normal_(network.output.conv.weight, std=0.01)
    save_generator(folder / "other.safetensors", network, licence="Apache-2.0")
    return folder


def configure(source, **changes) -> EvaluationConfig:
    settings = {"data": (str(source),), "split": "all", "protocols": ("literature-y",), "device": "cpu"}
    return EvaluationConfig(**settings | changes)


def run(config: EvaluationConfig, folder) -> pd.DataFrame:
    names = prepare_clips(config, folder)
    upscale_clips(config, folder, names)
    metrics = score(config, folder, names)
    summarise(config, folder, metrics)
    return metrics


def luma(frame: np.ndarray) -> np.ndarray:
    return frame @ np.array([65.481, 128.553, 24.966]) / 255 + 16


@pytest.mark.slow
def test_bicubic_is_always_there_and_scored_as_the_protocol_says(clips, tmp_path):
    metrics = run(configure(clips), tmp_path)
    assert set(metrics["method"]) == {"bicubic"}
    for name in ("clip0", "clip1"):
        truth = tiny.panning(4, seed=int(name[-1]))
        lr = degrade(truth, "bi", 4)
        assert np.array_equal(read_clip(tmp_path / "outputs/truth" / name), truth)
        assert np.array_equal(read_clip(tmp_path / "lr" / name), lr)
        expected = to_uint8(bicubic_up(to_float(lr), 4))
        assert np.array_equal(read_clip(tmp_path / "outputs/bicubic" / name), expected)
        rows = metrics[(metrics["clip"] == name) & (metrics["metric"] == "psnr")]
        decibel = [
            peak_signal_noise_ratio(luma(a), luma(b), data_range=255) for a, b in zip(truth, expected, strict=True)
        ]
        assert rows.sort_values("frame")["value"].tolist() == pytest.approx(decibel, abs=1e-3)


@pytest.mark.slow
def test_the_files_have_their_schema(clips, weights, tmp_path):
    config = configure(
        clips,
        generators=(f"pixel-control@0={weights / 'start.safetensors'}", f"modern@0={weights / 'other.safetensors'}"),
    )
    run(config, tmp_path)
    metrics = pd.read_csv(tmp_path / "metrics.csv", keep_default_na=False)
    assert list(metrics.columns) == COLUMNS
    assert set(metrics["method"]) == {"bicubic", "pixel-control@0", "modern@0"}
    assert set(metrics["arm"]) == {"bicubic", "pixel-control", "modern"}
    assert set(metrics["seed"].astype(str)) == {"", "0"}
    assert set(metrics["degradation"]) == {"bi"}
    windows = metrics[["method", "window"]].drop_duplicates().astype(str).values.tolist()
    assert windows == [["bicubic", "1"], ["pixel-control@0", "5"], ["modern@0", "5"]]
    for (method, clip), rows in metrics[metrics["metric"] == "psnr"].groupby(["method", "clip"]):
        assert sorted(rows["frame"]) == [0, 1, 2, 3], (method, clip)
    clips = read_json(tmp_path / "data.json", list)
    assert [(entry["clip"], entry["frames"], entry["height"], entry["degradation"]) for entry in clips] == [
        ("clip0", 4, 48, "bi"),
        ("clip1", 4, 48, "bi"),
    ]
    said = read_json(tmp_path / "weights.json", list)
    assert [(entry["name"], entry["file"], entry["licence"], entry["window"]) for entry in said] == [
        ("pixel-control@0", "start.safetensors", "", 5), ("modern@0", "other.safetensors", "Apache-2.0", 5),
    ]  # fmt: skip
    assert "pixel-control" not in set(pd.read_csv(tmp_path / "comparisons.csv")["arm"])
    assert "modern" in set(pd.read_csv(tmp_path / "comparisons.csv")["arm"])
    table = table_of(pd.read_csv(tmp_path / "summary.csv"), "literature-y")
    assert {"bicubic", "pixel-control", "modern"} <= set(table.index)
    assert {"psnr", "ssim"} <= set(table.columns)


@pytest.mark.slow
def test_a_start_that_is_bicubic_scores_as_bicubic_and_another_does_not(clips, weights, tmp_path):
    config = configure(
        clips, generators=(f"start={weights / 'start.safetensors'}", f"other={weights / 'other.safetensors'}")
    )
    table = (
        run(config, tmp_path)
        .query("metric == 'psnr'")
        .pivot_table(index=["clip", "frame"], columns="method", values="value")
    )
    assert table["start"].to_numpy() == pytest.approx(table["bicubic"].to_numpy(), abs=1e-6)
    assert (table["other"] - table["bicubic"]).abs().min() > 1e-3


@pytest.mark.slow
def test_perception_and_time_are_measured_too(tmp_path):
    source = tiny.write_folder(tmp_path / "clip", tiny.panning(7, 64, 72))
    metrics = run(configure(source, protocols=("literature-y", "tecogan")), tmp_path / "run")
    there = metrics.groupby("protocol")["metric"].agg(set)
    assert {"psnr", "ssim"} <= there["literature-y"]
    assert {"lpips", "tof", "tlp100"} <= there["tecogan"]
    assert metrics["value"].notna().all()


# ---- what is kept and what goes


def stamps(folder) -> dict:
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns for path in sorted((folder / "outputs").rglob("*.png"))
    }


@pytest.mark.slow
def test_a_second_run_makes_nothing_again(clips, weights, tmp_path):
    config = configure(clips, generators=(f"g={weights / 'start.safetensors'}",))
    first = run(config, tmp_path)
    before = stamps(tmp_path)
    second = run(config, tmp_path)
    assert stamps(tmp_path) == before
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.slow
def test_only_what_depends_on_changed_weights_is_made_again(clips, weights, tmp_path):
    copy = tmp_path / "g.safetensors"
    shutil.copy(weights / "start.safetensors", copy)
    config = configure(clips, generators=(f"g={copy}",))
    run(config, tmp_path / "run")
    before = stamps(tmp_path / "run")
    shutil.copy(weights / "other.safetensors", copy)
    run(config, tmp_path / "run")
    after = stamps(tmp_path / "run")
    changed = {name.split("/")[1] for name in after if after[name] != before[name]}
    assert changed == {"g"}


@pytest.mark.slow
def test_another_degradation_makes_inputs_and_outputs_again(clips, tmp_path):
    run(configure(clips), tmp_path)
    bi = read_clip(tmp_path / "outputs/bicubic/clip0")
    metrics = run(configure(clips, degradation="bd"), tmp_path)
    assert set(metrics["degradation"]) == {"bd"}
    assert np.array_equal(read_clip(tmp_path / "lr/clip0"), degrade(tiny.panning(4, seed=0), "bd", 4))
    assert not np.array_equal(read_clip(tmp_path / "outputs/bicubic/clip0"), bi)


@pytest.mark.slow
def test_stale_methods_clips_and_comparisons_go(clips, weights, tmp_path):
    two = (f"pixel-control@0={weights / 'start.safetensors'}", f"old@0={weights / 'other.safetensors'}")
    run(configure(clips, generators=two), tmp_path)
    (tmp_path / "outputs" / ".DS_Store").write_bytes(b"")
    metrics = run(configure(clips, clips=("clip1",), generators=two[1:]), tmp_path)
    assert sorted(path.name for path in (tmp_path / "outputs").iterdir()) == ["bicubic", "old@0", "truth"]
    for folder in (*(tmp_path / "outputs").iterdir(), tmp_path / "lr"):
        assert [path.name for path in folder.iterdir()] == ["clip1"]
    assert set(metrics["clip"]) == {"clip1"}
    assert not (tmp_path / "comparisons.csv").exists()


@pytest.mark.slow
def test_scoring_that_ran_out_of_time_goes_on_where_it_stopped(clips, weights, tmp_path, monkeypatch):
    config = configure(
        clips, generators=(f"g={weights / 'start.safetensors'}",), protocols=("literature-y", "seed-rgb")
    )
    whole = run(config, tmp_path / "whole")
    names = prepare_clips(config, tmp_path)
    upscale_clips(config, tmp_path, names)
    scored = []

    def counting(methods, target, protocol, **named):
        if len(scored) == 1:
            monkeypatch.setenv("STVSR_DEADLINE", "1")  # the time is over after the second
        scored.append((protocol, target.name))
        return evaluate(methods, target, protocol, **named)

    monkeypatch.setattr(held_out, "evaluate", counting)
    with pytest.raises(InputError, match=r"stopped before its end .*: run it again to continue"):
        score(config, tmp_path, names)
    assert len(scored) == 2
    assert not (tmp_path / "metrics.csv").exists()
    monkeypatch.delenv("STVSR_DEADLINE")
    pd.testing.assert_frame_equal(score(config, tmp_path, names), whole)
    assert sorted(scored) == sorted(itertools.product(config.protocols, names))  # each once
    (tmp_path / "outputs" / "g" / names[0] / ".made-from").write_text("other weights")
    score(config, tmp_path, names)
    assert sorted(scored[len(names) * 2 :]) == sorted((protocol, names[0]) for protocol in config.protocols)


def test_two_clips_of_one_name_are_refused(tmp_path):
    for place in ("a", "b"):
        tiny.write_folder(tmp_path / place / "000", tiny.panning(4, 32, 32))
    config = configure(tmp_path / "a", data=(str(tmp_path / "a"), str(tmp_path / "b")))
    with pytest.raises(InputError, match=r"a/000 and .*b/000 are both named 000: give each clip a different name"):
        prepare_clips(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_an_interrupted_method_is_made_again(clips, weights, tmp_path, monkeypatch):
    config = configure(clips, generators=(f"g={weights / 'start.safetensors'}",))
    names = prepare_clips(config, tmp_path)

    def interrupted(source, device, config):
        def upscale(frames):
            yield to_uint8(bicubic_up(to_float(frames[:1]), 4))[0]
            raise KeyboardInterrupt

        upscale.meta, upscale.plan = {"sha256": "0"}, lambda size: MemoryPlan(tile=0, device_bytes=0, host_bytes=0)
        return upscale

    with monkeypatch.context() as patch:
        patch.setattr(held_out, "load_upscaler", interrupted)
        with pytest.raises(KeyboardInterrupt):
            upscale_clips(config, tmp_path, names)
    upscale_clips(config, tmp_path, names)
    assert all(
        len(read_clip(tmp_path / "outputs" / method / clip)) == 4 for method in ("bicubic", "g") for clip in names
    )


def test_fewer_frames_are_the_first_ones_and_sizes_are_cut_to_multiples(tmp_path):
    frames = tiny.panning(9, 50, 59)
    source = tiny.write_folder(tmp_path / "clip", frames)
    prepare_clips(configure(source, frames=3), tmp_path / "run")
    assert np.array_equal(read_clip(tmp_path / "run/outputs/truth/clip"), frames[:3, :48, :56])
    assert count_frames(tmp_path / "run", "clip") == 3


def test_frames_for_figures(clips, tmp_path):
    run(configure(clips), tmp_path)
    there = frames_of(tmp_path, "clip1", 2, ("truth", "bicubic"))
    assert list(there) == ["truth", "bicubic"]
    assert np.array_equal(there["truth"], tiny.panning(4, seed=1)[2])
    assert np.array_equal(there["bicubic"], read_clip(tmp_path / "outputs/bicubic/clip1")[2])


# ---- mistakes: one clear line, before any work


def refused(config: EvaluationConfig, folder, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        prepare_clips(config, folder)
    assert "\n" not in str(caught.value)
    assert not folder.exists()


def test_a_clip_of_five_frames_is_refused_before_anything_is_written(tmp_path):
    """By the protocol that looks at time; it leaves two frames at either end out."""
    tiny.write_folder(tmp_path / "clips" / "a-long", tiny.panning(9, 64, 64))
    tiny.write_folder(tmp_path / "clips" / "short", tiny.panning(5, 64, 64))
    config = configure(tmp_path / "clips", protocols=("literature-y", "tecogan"))
    refused(config, tmp_path / "run", "clip short has 5 frames, the protocols need 6: drop the clip")
    with pytest.raises(InputError, match=r"frames is 5: these protocols need at least 6, or 0 for all"):
        dataclasses.replace(config, frames=5)


def test_missing_clips_sources_and_splits_are_named(clips, tmp_path):
    refused(configure(clips, clips=("clip9",)), tmp_path / "run", "clip clip9 is missing: there are clip0, clip1")
    refused(configure(tmp_path / "none"), tmp_path / "run", "does not exist")
    (tmp_path / "empty").mkdir()
    refused(configure(tmp_path / "empty"), tmp_path / "run", "has neither frames nor clips")
    refused(configure(clips, split="test"), tmp_path / "run", "no clip is left")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocols": ("literature",)}, "'literature' is unknown"),
        ({"degradation": "bc"}, "degradation 'bc' is unknown"),
        ({"generators": ("bicubic=x",)}, "method bicubic is named twice"),
        ({"generators": ("a=x", "a=y")}, "method a is named twice"),
        ({"generators": ("truth=x",)}, "method truth is named twice or cannot name a folder"),
        ({"generators": ("a/b=x",)}, "cannot name a folder"),
        ({"generators": ("..=x",)}, "cannot name a folder"),
        ({"generators": ("=x",)}, "cannot name a folder"),
    ],
)
def test_a_config_names_what_is_wrong(changes, message):
    with pytest.raises(InputError, match=message):
        EvaluationConfig(**changes)


def test_unknown_weights_are_named_before_anything_is_written(clips, tmp_path):
    refused(configure(clips, generators=("a=nothing.pth",)), tmp_path / "run", "nothing.pth")


def test_a_known_name_with_a_dot_names_its_method():
    config = EvaluationConfig(generators=("blind-0.032-s0", "folder/best.of.three.pth"))
    assert list(config.methods) == ["bicubic", "blind-0.032@0", "best.of.three"]
    assert config.methods["blind-0.032@0"] == "blind-0.032-s0"


def test_methods_keep_their_order_and_a_bare_file_gives_its_name():
    config = EvaluationConfig(generators=("b=x.pth", "folder/a.safetensors", "basicvsr-bi"))
    assert config.methods == {
        "bicubic": "bicubic",
        "b": "x.pth",
        "a": "folder/a.safetensors",
        "basicvsr-bi": "basicvsr-bi",
    }


def test_a_filled_network_differs_from_its_start():
    """The weights of these tests are what they are said to be."""
    assert fill(build_generator("rbpn-tiny")).output.conv.weight.any()
    assert not build_generator("rbpn-tiny").output.conv.weight.any()
