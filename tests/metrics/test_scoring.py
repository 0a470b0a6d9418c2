"""Named protocols: recorded scores, what is cropped and dropped, what is shared, what is refused."""

import collections
import weakref

import numpy as np
import pytest
from metric_clips import recorded, shuffled, stop_motion

from stvsr import flow
from stvsr.errors import InputError
from stvsr.metrics import perceptual
from stvsr.metrics.protocols import METRICS, PROTOCOLS, TRUTH, centre_crop, find_protocol, weights_of
from stvsr.metrics.scoring import score_methods

TECOGAN = PROTOCOLS["tecogan"]


def score_clip(results, targets, protocol):
    """Return `frame`, `metric`, `value` of one method's frames."""
    scores = score_methods({"results": results}, targets, protocol)
    return scores[scores["method"] == "results"].drop(columns="method").reset_index(drop=True)


def test_recorded_tecogan_scores_are_reproduced():
    truth, bicubic, scores = recorded()
    means = score_clip(bicubic, truth, TECOGAN).groupby("metric")["value"].agg(["mean", "size"])
    expected = {
        "psnr": ("PSNR", 5e-6, 4),
        "lpips": ("LPIPS", 1e-5, 4),
        "tof": ("tOF", 2e-6, 3),
        "tlp100": ("tLP100", 1e-3, 3),
    }
    for metric, (name, tolerance, count) in expected.items():
        assert means.loc[metric, "mean"] == pytest.approx(scores["tecogan"][name], abs=tolerance)
        assert means.loc[metric, "size"] == count


@pytest.mark.parametrize("name", ["literature-y", "original-rgb"])
def test_recorded_fidelity_is_reproduced(name):
    truth, bicubic, scores = recorded()
    means = score_clip(bicubic, truth, PROTOCOLS[name]).groupby("metric")["value"].mean()
    colour = PROTOCOLS[name].colour
    assert means["psnr"] == pytest.approx(scores[f"psnr_{colour}"], abs=5e-6)
    assert means["ssim"] == pytest.approx(scores[f"ssim_{colour}"], abs=5e-7)


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [
        (576, 720, (16, 560), (8, 712)),
        (480, 720, (16, 464), (8, 712)),
        (96, 128, (16, 80), (16, 112)),
        (49, 79, (8, 40), (23, 55)),
    ],
)
def test_the_crop_is_centred_and_a_multiple_of_32(height, width, rows, columns):
    y, x = np.mgrid[:height, :width]
    cut = centre_crop(np.stack([y, x], axis=2))
    assert (cut[0, 0, 0], cut[-1, -1, 0] + 1) == rows
    assert (cut[0, 0, 1], cut[-1, -1, 1] + 1) == columns


def test_frames_are_dropped_at_both_ends_and_the_first_kept_has_no_past():
    truth, bicubic, _ = recorded()
    frames = score_clip(bicubic, truth, TECOGAN).groupby("metric")["frame"].agg(list)
    assert frames["psnr"] == frames["lpips"] == [2, 3, 4, 5]
    assert frames["tof"] == frames["tlp100"] == [3, 4, 5]


def test_equal_clips_have_infinite_psnr_and_no_distance():
    truth, _, _ = recorded()
    values = score_clip(truth, truth, TECOGAN).groupby("metric")["value"].agg(["min", "max"])
    assert values.loc["psnr", "min"] == np.inf
    assert values.drop("psnr").abs().to_numpy().max() == pytest.approx(0, abs=1e-5)


def test_flows_and_features_are_computed_once_for_all_methods(monkeypatch):
    truth, bicubic, _ = recorded()
    calls = collections.Counter()
    farneback = flow.ESTIMATORS["farneback"]

    def counted(first, second):
        calls["flow"] += 1
        return farneback(first, second)

    network = perceptual.network("lpips", "cpu")
    features = type(network).features

    def counted_features(self, frames):
        calls["features"] += len(frames)
        return features(self, frames)

    monkeypatch.setitem(flow.ESTIMATORS, "farneback", counted)
    monkeypatch.setattr(type(network), "features", counted_features)
    score_methods({"one": bicubic, "two": shuffled(bicubic), "three": truth}, truth, TECOGAN)
    assert calls == {"flow": 4 * 3, "features": 4 * 4}  # truth and three methods: 3 pairs and 4 frames each


@pytest.mark.slow
def test_memory_does_not_grow_with_the_clip():
    base = stop_motion(frames=6, size=64)
    alive, most = set(), 0

    def stream():
        nonlocal most
        for index in range(40):
            frame = base[index % 6].copy()
            key = object()
            alive.add(key)
            weakref.finalize(frame, alive.remove, key)
            most = max(most, len(alive))
            yield frame

    score_methods({"one": stream()}, stream(), TECOGAN)
    assert most <= 2 * (TECOGAN.dropped + 4)


def test_the_study_lists_the_truths_own_values():
    clip = stop_motion(frames=3, size=64)
    scores = score_methods({"one": shuffled(clip[:2])}, clip[:2], PROTOCOLS["study"])
    assert set(scores.loc[scores["method"] == TRUTH, "metric"]) == {name for name in METRICS if METRICS[name].own}
    assert set(scores.loc[scores["method"] == "one", "metric"]) == set(PROTOCOLS["study"].metrics)
    assert scores.loc[scores["metric"] == "niqe", "value"].isna().all()  # frames too small for it


def test_every_protocol_says_what_it_measures():
    for protocol in PROTOCOLS.values():
        assert set(protocol.metrics) <= METRICS.keys()
        assert protocol.name in protocol.caption()
        assert f"v{protocol.version}" in protocol.caption()
    assert all((metric.frame is None) != (metric.pair is None) for metric in METRICS.values())
    with pytest.raises(AttributeError):
        TECOGAN.version = 2


@pytest.mark.parametrize("name", ["lpips", "lpips_vgg", "dists", "niqe", "tof_spynet", "tlp100"])
def test_metrics_with_trained_weights_name_them(name):
    assert all(len(digest) == 64 for digest in weights_of(name).values())
    assert weights_of(name)


@pytest.mark.parametrize("name", ["psnr", "ssim", "tof", "warping_error"])
def test_metrics_without_trained_weights_name_none(name):
    assert weights_of(name) == {}


def test_what_does_not_fit_is_refused():
    clip = stop_motion(frames=6, size=64)
    with pytest.raises(InputError, match="clip has 5 frames, protocol tecogan needs 6"):
        score_clip(clip[:5], clip[:5], TECOGAN)
    with pytest.raises(InputError, match="results ends after 5 frames, truth has more"):
        score_clip(clip[:5], clip, TECOGAN)
    with pytest.raises(InputError, match="frame 0 of results is 64x63, the target is 64x64"):
        score_clip(clip[:, 1:], clip, PROTOCOLS["literature-y"])
    with pytest.raises(InputError, match="40x64: protocol tecogan crops it, and needs at least 48x48"):
        score_clip(clip[:, :, :40], clip[:, :, :40], TECOGAN)
    with pytest.raises(InputError, match="a method is called 'truth'"):
        score_methods({"truth": clip}, clip, TECOGAN)
    with pytest.raises(InputError, match="uint16"):
        score_clip(clip.astype(np.uint16), clip, TECOGAN)
    with pytest.raises(InputError, match="protocol 'vid4' is unknown: choose from literature-y"):
        find_protocol("vid4")
