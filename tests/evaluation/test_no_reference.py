"""Scores without a truth."""

import numpy as np
import pytest
from media import encode, moving

from stvsr.degradation import bicubic_up, to_float, to_uint8
from stvsr.errors import InputError
from stvsr.evaluation import no_reference
from stvsr.inference.upscale_file import UpscaleConfig, upscale
from stvsr.inference.upscaler import load_upscaler
from stvsr.video.reader import read_clip
from stvsr.video.writer import write_video


@pytest.fixture(scope="module")
def pair():
    """A recorded clip and its bicubic enlargement, large enough for NIQE's blocks."""
    recorded = moving(3, 48, 72)
    return recorded, to_uint8(bicubic_up(to_float(recorded), 4))


def test_sample_names_and_paths_are_found(tmp_path):
    assert no_reference.find_clip("carphone").is_file()
    assert no_reference.find_clip(str(tmp_path)) == tmp_path
    with pytest.raises(InputError, match="clip nothing does not exist"):
        no_reference.find_clip("nothing")


@pytest.mark.slow
def test_flicker_raises_the_warping_error_and_a_contradiction_costs_consistency(pair):
    recorded, bicubic = pair
    flickering, false = bicubic.copy(), bicubic.copy()
    flickering[1] = np.clip(flickering[1].astype(int) + 20, 0, 255)
    false[:, :96] = 255 - false[:, :96]
    scores = no_reference.judge({"bicubic": bicubic, "flickering": flickering, "false": false}, recorded)
    means = scores.groupby(["metric", "method"])["value"].mean()
    assert means["warping error x1000", "flickering"] > means["warping error x1000", "bicubic"] + 1
    assert means["consistency, dB", "false"] < means["consistency, dB", "bicubic"] - 10
    assert set(scores["metric"]) == set(no_reference.METRICS)
    frames = scores[(scores["method"] == "false") & (scores["metric"] == "warping error x1000")]["frame"]
    assert frames.tolist() == [1, 2]


def test_what_vanishes_when_shrunk_costs_little_consistency(pair):
    recorded, bicubic = pair
    checks = np.indices(bicubic.shape[1:3]).sum(0) % 2 * 2 - 1  # the finest texture there is
    textured = np.clip(bicubic + 8 * checks[None, :, :, None], 0, 255).astype(np.uint8)
    scores = no_reference.judge({"textured": textured}, recorded)
    assert scores[scores["metric"] == "consistency, dB"]["value"].min() > 40


def test_summary_has_a_row_per_metric_with_its_meaning(pair):
    recorded, bicubic = pair
    table = no_reference.summary(no_reference.judge({"b": bicubic, "a": bicubic}, recorded))
    assert list(table.columns) == ["b", "a", "meaning"]
    assert set(table.index) == set(no_reference.METRICS)
    assert table["a"].equals(table["b"]) or np.allclose(table["a"], table["b"])


def test_wrong_sizes_are_named(pair):
    recorded, bicubic = pair
    with pytest.raises(InputError, match="4 times the clip"):
        no_reference.judge({"small": bicubic[:, :-1]}, recorded)


def test_recorded_part_and_halves_match_what_upscale_compared(tmp_path):
    source = encode(tmp_path / "in.mp4", moving(10))
    config = UpscaleConfig(
        input=source, output=tmp_path / "out", model="bicubic", compare=True, start=0.12, duration=0.16
    )
    done = upscale(config, progress=False)
    left, right = no_reference.halves(read_clip(done.path))
    expected = np.stack(list(load_upscaler("bicubic")(no_reference.recorded_part(config))))
    assert len(expected) == 4
    assert np.array_equal(left, expected) and np.array_equal(right, expected)


def test_written_video_holds_the_frames(tmp_path):
    frames = moving(5)
    for _ in range(2):  # the second replaces the first
        assert np.abs(read_clip(write_video(tmp_path / "v.mp4", frames, 25, crf=1)).astype(int) - frames).mean() < 3
    with pytest.raises(InputError, match="at least one frame"):
        write_video(tmp_path / "none.mp4", [], 25)
    assert len(list(tmp_path.iterdir())) == 1
