"""Comparisons: closed forms, simulated coverage, false positives and false credits, wording of the sentences."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from stvsr.errors import InputError
from stvsr.evaluation import bootstrap, comparison
from stvsr.evaluation.bootstrap import Estimate, estimate, holm, within
from stvsr.evaluation.comparison import NO_DIFFERENCE, clip_means, compare, summarise
from stvsr.evaluation.held_out import read_csv, write_csv
from stvsr.metrics.protocols import METRICS


def autoregressive(random: np.random.Generator, rows: int, frames: int, correlation: float) -> np.ndarray:
    """Return (rows, frames) of unit variance whose neighbours are correlated, as frames of one scene are."""
    noise = random.standard_normal((rows, frames))
    for index in range(1, frames):
        noise[:, index] = correlation * noise[:, index - 1] + np.sqrt(1 - correlation**2) * noise[:, index]
    return noise


def one_clip(random):
    return [autoregressive(random, 1, 32, 0.6)]


def four_clips(random):
    return [autoregressive(random, 1, 24, 0.6) for _ in range(4)]


def six_clips(random):
    return [random.standard_normal() + autoregressive(random, 1, 8, 0.8) for _ in range(6)]


def skewed_clips(random):
    return [random.exponential() - 1 + 0.2 * autoregressive(random, 1, 8, 0.8) for _ in range(20)]


def clips_and_seeds(random):
    seeds = 0.3 * random.standard_normal((3, 1))
    clips = random.standard_normal(12)
    return [
        clip + seeds + 0.3 * random.standard_normal((3, 1)) + 0.1 * autoregressive(random, 3, 8, 0.8) for clip in clips
    ]


@pytest.mark.parametrize("draw", [one_clip, four_clips, six_clips, skewed_clips, clips_and_seeds])
@pytest.mark.slow
def test_intervals_cover_at_their_nominal_rate(draw):
    random, runs = np.random.default_rng(0), 800
    found = [estimate(draw(random), draws=400, seed=run) for run in range(runs)]
    covered = np.mean([each.low <= 0 <= each.high for each in found])
    # the standard error of 800 runs is 0.008; few frames or clips err on the wide side, skewed clips on the narrow one
    assert 0.925 <= covered <= 0.99
    # an interval that covers because it is endless is no interval: at most twice as wide as if the spread were known
    ideal = 1.96 * np.std([each.mean for each in found])
    assert np.median([each.high - each.low for each in found]) / 2 < 2 * ideal


@pytest.mark.slow
@pytest.mark.parametrize("clips", [1, 4, 8])
def test_arms_that_do_not_differ_are_called_different_at_most_5_percent_of_the_time(clips):
    random, runs, called = np.random.default_rng(1), 600, 0
    for run in range(runs):
        of_clip = 0.5 * random.standard_normal((4, clips)) * (clips > 4)  # how well an arm happens to suit a clip
        control, *arms = ([shift + autoregressive(random, 1, 24, 0.6) for shift in shifts] for shifts in of_clip)
        pairs = ([a - b for a, b in zip(arm, control, strict=True)] for arm in arms)
        called += holm([estimate(values, draws=400, seed=run).p for values in pairs]).min() < 0.05
    # any of three arms, after Holm; the standard error of 600 runs is 0.009
    assert called / runs <= 0.05 + 0.009


def test_a_difference_is_found_and_its_size_is_right():
    random = np.random.default_rng(2)
    rows = [
        row(arm, seed, f"clip{clip}", frame, 0.5 - gain + 0.05 * clip + 0.01 * random.standard_normal())
        for arm, gain in (("pixel-control", 0.0), ("good", 0.1), ("bad", -0.1))
        for seed in (0, 1, 2)
        for clip in range(6)
        for frame in range(5)
    ]
    found = compare(pd.DataFrame(rows)).set_index("arm")
    assert found.loc["good", "difference"] == pytest.approx(-0.1, abs=0.01)
    assert found.loc["good", "low"] < -0.1 + 0.02 and found.loc["good", "high"] < 0
    assert list(found["verdict"]) == ["better", "worse"]  # LPIPS: lower is better
    assert list(found["clips"]) == [6, 6] and list(found["seeds"]) == [3, 3]
    assert found.loc["good", "sentence"].startswith(
        "good is better than pixel-control in LPIPS (AlexNet) (tecogan): difference -0.1"
    )
    assert found.loc["good", "sentence"].endswith("On 6 clips; 3 training seeds.")


def test_higher_is_better_for_psnr_only_where_it_is():
    rows = [
        row(arm, 0, f"c{clip}", 0, value + 0.1 * clip, "psnr")
        for arm, value in (("pixel-control", 30), ("a", 31))
        for clip in range(5)
    ]
    assert compare(pd.DataFrame(rows))["verdict"].tolist() == ["better"]


def row(
    arm: str, seed: int | None, clip: str, frame: int, value: float, metric: str = "lpips", protocol: str = "tecogan"
) -> dict:
    method = arm if seed is None else f"{arm}@{seed}"
    return {
        "method": method, "arm": arm, "seed": seed, "clip": clip, "frame": frame, "metric": metric, "value": value,
        "protocol": protocol, "version": 1, "colour": "rgb", "border": "0", "dropped": 2, "degradation": "bi",
        "weights": "",
    }  # fmt: skip


def two_arms(frames: int = 12, clips: int = 1, seeds=(0,), peer: bool = False, step: float = 0.1) -> pd.DataFrame:
    random = np.random.default_rng(3)
    arms = [("pixel-control", seeds), ("bicubic" if peer else "a", (None,) if peer else seeds)]
    return pd.DataFrame(
        row(arm, seed, f"clip{clip}", frame, step * (arm != "pixel-control") + 0.01 * random.standard_normal())
        for arm, its_seeds in arms
        for seed in its_seeds
        for clip in range(clips)
        for frame in range(frames)
    )


def test_where_the_truth_has_its_own_value_better_is_closer_to_it():
    random = np.random.default_rng(8)
    values = {"pixel-control": 2.0, "sharp": 4.0, "shaky": 9.0, "truth": 5.0}  # the control is smoother than the truth
    rows = [
        row(
            arm,
            None if arm == "truth" else 0,
            f"c{clip}",
            frame,
            value + 0.1 * random.standard_normal(),
            "warping_error",
            "study",
        )
        for arm, value in values.items()
        for clip in range(6)
        for frame in range(4)
    ]
    found = compare(pd.DataFrame(rows)).set_index("arm")
    assert found["verdict"].to_dict() == {"sharp": "better", "shaky": "worse"}
    assert "in warping error x1000, as distance from the truth's own 5." in found.loc["sharp", "sentence"]
    assert found.loc["sharp", "difference"] == pytest.approx(-2, abs=0.1)
    assert found.loc["shaky", "difference"] == pytest.approx(1, abs=0.1)


def test_no_difference_is_detected_between_equal_distances_above_and_below_the_truth():
    random = np.random.default_rng(8)
    values = {"pixel-control": 4.0, "sharp": 6.0, "truth": 5.0}
    rows = [
        row(
            arm,
            None if arm == "truth" else 0,
            f"c{clip}",
            frame,
            value + 0.1 * random.standard_normal(),
            "warping_error",
            "study",
        )
        for arm, value in values.items()
        for clip in range(6)
        for frame in range(4)
    ]
    found = compare(pd.DataFrame(rows)).iloc[0]
    assert found["verdict"] == NO_DIFFERENCE
    assert abs(found["difference"]) < 0.15


def test_one_clip_and_one_seed_are_named_as_limits():
    found = compare(two_arms()).iloc[0]
    assert found["verdict"] == "worse"
    assert "On the 12 frames of this clip only: other clips may differ" in found["sentence"]
    assert "one training seed: another training may differ." in found["sentence"]


def test_four_clips_speak_for_themselves_and_five_for_others():
    assert "frames of these 4 clips only" in compare(two_arms(clips=4)).iloc[0]["sentence"]
    assert "On 5 clips;" in compare(two_arms(clips=5)).iloc[0]["sentence"]


def test_too_few_frames_have_a_difference_and_no_interval():
    found = compare(two_arms(frames=3)).iloc[0]
    assert found["difference"] == pytest.approx(0.1, abs=0.02)
    assert found[["low", "high", "p", "p_holm"]].isna().all()
    assert (
        found["verdict"] == NO_DIFFERENCE
        and "too few frames for an interval: the shortest clip has" in found["sentence"]
    )


def test_a_peer_without_seeds_meets_every_seed_of_the_control():
    found = compare(two_arms(seeds=(0, 1, 2), peer=True)).iloc[0]
    assert found["arm"] == "bicubic" and found["seeds"] == 3
    assert found["difference"] == pytest.approx(0.1, abs=0.02)
    turned = compare(two_arms(seeds=(0, 1, 2), peer=True), control="bicubic").iloc[0]
    assert turned["difference"] == pytest.approx(-found["difference"])
    assert (turned["low"], turned["high"]) == pytest.approx((-found["high"], -found["low"]))


def test_pairing_removes_what_both_arms_share():
    random = np.random.default_rng(4)
    rows = two_arms(clips=8, frames=4)
    hard = {f"clip{clip}": 10 * random.standard_normal() for clip in range(8)}
    shared = rows.assign(value=rows["value"] + rows["clip"].map(hard))
    first, second = compare(rows).iloc[0], compare(shared).iloc[0]
    assert second[["difference", "low", "high"]].astype(float).to_numpy() == pytest.approx(
        first[["difference", "low", "high"]].astype(float).to_numpy(), abs=1e-9
    )


def test_identical_arms_do_not_differ_and_infinite_psnr_has_a_difference():
    same = pd.DataFrame(
        row(arm, 0, f"c{clip}", 0, np.inf, "psnr") for arm in ("pixel-control", "a") for clip in range(5)
    )
    found = compare(same).iloc[0]
    assert (found["difference"], found["low"], found["high"], found["p"]) == (0, 0, 0, 1)
    assert summarise(same)["mean"].tolist() == [comparison.PSNR_CAP] * 2


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert holm([0.02, np.nan, 0.03]) == pytest.approx([0.04, np.nan, 0.04], nan_ok=True)


def test_equal_clips_without_seeds_give_students_interval():
    cells = np.random.default_rng(5).standard_normal(400)
    found = estimate([np.array([[value]]) for value in cells])
    interval = stats.ttest_1samp(cells, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx(tuple(interval), rel=0.05, abs=0.01)


def test_the_block_variance_is_that_of_a_drawn_bootstrap():
    random = np.random.default_rng(6)
    frames, length = autoregressive(random, 1, 24, 0.6)[0], 6
    starts = random.integers(0, 24, (40_000, 4))
    drawn = frames[(starts[..., None] + np.arange(length)) % 24].mean((1, 2))
    assert bootstrap.block_variance(frames, length) == pytest.approx(drawn.var(), rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "correlation"), [(7, 0.5), (24, 0.8)])
def test_short_clips_are_corrected_for_their_autocorrelation(frames, correlation):
    random = np.random.default_rng(7)
    clips = autoregressive(random, 20_000, frames, correlation)
    assert bootstrap.mean_variance(correlation, frames) == pytest.approx(clips.mean(1).var(), rel=0.03)
    length = bootstrap.block_length(frames)
    seen = np.mean([bootstrap.block_variance(clip, length) for clip in clips[:3000]])
    assert bootstrap._seen_variance(correlation, frames, length) == pytest.approx(seen, rel=0.06)
    assert bootstrap.autocorrelation(clips[:3000]) == pytest.approx(correlation, abs=0.03)


def test_summaries_average_frames_then_clips():
    rows = [row("a", None, "short", frame, 1.0) for frame in range(2)] + [
        row("a", None, "long", frame, 4.0) for frame in range(6)
    ]
    rows += [row("truth", None, "long", frame, 2.0, "warping_error", "study") for frame in range(6)]
    found = summarise(pd.DataFrame(rows)).set_index("arm")
    assert found.loc["a", "mean"] == 2.5 and found.loc["a", "frame_mean"] == 3.25
    assert found.loc["a", ["clips", "frames", "seeds"]].tolist() == [2, 8, 0]
    assert found.loc["truth", "protocol"] == "study"
    assert clip_means(pd.DataFrame(rows)).set_index(["arm", "clip"])["mean"].to_dict() == {
        ("a", "short"): 1.0, ("a", "long"): 4.0, ("truth", "long"): 2.0,
    }  # fmt: skip


def test_frames_that_could_not_be_measured_are_left_out_of_both_arms():
    rows = two_arms(clips=5, frames=3)
    rows.loc[(rows["arm"] == "a") & (rows["frame"] == 2), "value"] = np.nan
    rows.loc[(rows["arm"] != "a") & (rows["frame"] == 2), "value"] = 100.0
    found = compare(rows).iloc[0]
    assert found["frames"] == 10 and found["difference"] == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows[rows["arm"] == "a"], "control 'pixel-control' is not in the metrics"),
        (lambda rows: rows[(rows["arm"] != "a") | (rows["frame"] > 0)], "not measured on the same frames"),
        (lambda rows: pd.concat([rows, rows]), "two values of lpips"),
        (lambda rows: rows[(rows["seed"] == 0) | (rows["frame"] > 2)], "evaluate every seed on every frame"),
        (lambda rows: rows.assign(seed=rows["seed"] + 5 * (rows["arm"] == "a")), "train both on the same"),
        (lambda rows: rows.assign(version=rows["arm"].map({"a": 1, "pixel-control": 2})), "version 2, 1"),
        (lambda rows: rows.assign(metric="vmaf"), "metric vmaf is unknown"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, words):
    with pytest.raises(InputError, match=words):
        compare(change(two_arms(seeds=(0, 1))))


# Twins ----------------------------------------------------------------------------------------------------------------


def with_twins(random: np.random.Generator, clips: int, seeds: int, effect: float = 0.0) -> pd.DataFrame:
    """Three arms that differ from the control and, but for `effect`, not from their twins; tecogan's four metrics."""
    arms = {"pixel-control": 0.0, "t1": -1.0, "t2": 1.0, "d1": -1.0 + effect, "d2": -1.0, "d3": 1.0}
    rows = []
    for metric in ("psnr", "lpips", "tof", "tlp100"):
        frame = random.normal(0, 1, (clips, 16))  # how hard a frame is
        for arm, level in arms.items():
            suits = 0.1 * random.standard_normal((clips, 1)) * (clips > 4)  # how well an arm happens to suit a clip
            for seed in range(seeds):
                luck = 0.1 * random.standard_normal() * (seeds > 1)  # of the training
                values = 20 + level + frame + suits + luck + 0.1 * autoregressive(random, clips, 16, 0.6)
                rows += [
                    row(arm, seed, f"c{clip}", t, values[clip, t], metric) for clip in range(clips) for t in range(16)
                ]
    return pd.DataFrame(rows)


TWINS = {"d1": "t1", "d2": "t1", "d3": "t2"}


@pytest.mark.slow
@pytest.mark.parametrize(("clips", "seeds"), [(2, 1), (6, 1), (2, 3)])
def test_an_arm_that_equals_its_twin_is_hardly_ever_credited(clips, seeds):
    random, runs, credited, uncorrected = np.random.default_rng(0), 100, 0, 0
    for run in range(runs):
        found = compare(with_twins(random, clips, seeds), None, twins=TWINS, draws=199, seed=run)
        assert len(found) == 3 * 4 and found["is_twin"].all()
        credited += (found["verdict"] != NO_DIFFERENCE).any()  # of any arm in any metric, for better or worse
        uncorrected += (found["p"] < 0.05).any()
    # at most the nominal 5% of the runs; the standard error of 100 runs is 0.02
    assert credited / runs <= 0.05 + 0.02
    assert uncorrected / runs > max(0.1, 2 * credited / runs)  # what a missing correction would let through is seen


@pytest.mark.slow
def test_only_the_difference_from_the_twin_is_attributed_to_the_discriminator():
    found = compare(with_twins(np.random.default_rng(0), 2, 1, effect=-0.5), twins=TWINS)
    lpips = found[found["metric"] == "lpips"].set_index(["arm", "reference"]).sort_index()
    assert lpips["is_twin"].to_dict() == {
        ("t1", "pixel-control"): False, ("t2", "pixel-control"): False,
        ("d1", "pixel-control"): False, ("d1", "t1"): True, ("d2", "pixel-control"): False, ("d2", "t1"): True,
        ("d3", "pixel-control"): False, ("d3", "t2"): True,
    }  # fmt: skip
    verdicts = lpips["verdict"]
    assert verdicts["d1", "t1"] == verdicts["d1", "pixel-control"] == verdicts["d2", "pixel-control"] == "better"
    assert verdicts["d2", "t1"] == verdicts["d3", "t2"] == NO_DIFFERENCE
    assert lpips.loc[("d1", "t1"), "difference"] == pytest.approx(-0.5, abs=0.1)
    sentences = lpips["sentence"]
    assert sentences["d1", "t1"].startswith("d1 is better than t1 in LPIPS (AlexNet) (tecogan): difference -0.")
    assert "t1 has the same losses without the discriminator: the difference is attributed to" in sentences["d1", "t1"]
    assert sentences["d2", "t1"].startswith("No difference detected between d2 and t1 in LPIPS (AlexNet) (tecogan): ")
    assert "nothing is attributed to the discriminator." in sentences["d2", "t1"]
    assert "that of the discriminator is the difference from t1." in sentences["d2", "pixel-control"]
    assert "discriminator" not in sentences["t1", "pixel-control"]


@pytest.mark.slow
def test_two_arms_of_one_twin_differ_in_what_they_add_to_it():
    found = compare(with_twins(np.random.default_rng(0), 2, 1, effect=-0.5), "d2", twins=TWINS)
    sentences = found[found["metric"] == "lpips"].set_index(["arm", "reference"])["sentence"].sort_index()
    assert "Both have the twin t1: this is the difference between what each adds to it." in sentences["d1", "d2"]
    assert "Both have the twin" not in sentences["d3", "d2"]  # its twin is t2
    assert "Both have the twin" not in sentences["t1", "d2"] and "Both have the twin" not in sentences["d1", "t1"]


def test_a_twin_that_was_not_measured_leaves_nothing_to_attribute():
    rows = two_arms()
    found = compare(rows.assign(arm=rows["arm"].replace({"a": "recurrent-d"})))
    assert found["reference"].tolist() == ["pixel-control"]
    assert "Its twin perceptual, the same losses without the discriminator, is not in this run" in found["sentence"][0]


def test_a_study_without_the_control_compares_twins_only_and_one_whose_control_is_the_twin_does_it_once():
    rows = with_twins(np.random.default_rng(1), 1, 1)
    assert compare(rows[rows["arm"] != "pixel-control"], None, twins=TWINS)["is_twin"].all()
    found = compare(rows[rows["arm"].isin(["t1", "d1"])], "t1", twins=TWINS)
    assert len(found) == 4 and found["is_twin"].all()
    assert compare(rows[rows["arm"].isin(["t1", "t2"])], None, twins=TWINS).empty


@pytest.mark.slow
def test_a_demonstration_is_compared_with_its_twin_of_equal_length_and_with_nothing_else():
    rows = with_twins(np.random.default_rng(1), 1, 1)
    found = compare(rows, demonstrations=["t1", "d1"], twins=TWINS)
    pairs = set(zip(found["arm"], found["reference"], strict=True))
    assert {pair for pair in pairs if {"t1", "d1"} & set(pair)} == {("d1", "t1")}
    assert ("d3", "pixel-control") in pairs and ("d3", "t2") in pairs
    only = compare(rows, demonstrations=["d1"], twins=TWINS)
    assert "d1" not in set(only["arm"])  # its twin was trained for longer


# Ranges ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metric", "scale"), [("psnr", 30), ("ssim", 1), ("lpips", 0.3), ("tof", 1), ("tlp100_signed", 1)]
)
@pytest.mark.parametrize("clips", [2, 6])
def test_no_interval_leaves_the_range_of_its_metric(metric, scale, clips):
    random = np.random.default_rng(3)
    known = METRICS[metric]
    values = {
        arm: scale * random.random(clips).clip(0, 0.999) ** power for arm, power in (("pixel-control", 0.1), ("a", 9))
    }
    rows = pd.DataFrame(
        row(arm, 0, f"c{clip}", frame, value, metric)
        for arm, of_arm in values.items()
        for clip, value in enumerate(of_arm)
        for frame in range(4)
    )  # fmt: skip
    ends = summarise(rows)[["low", "high"]]
    if clips == 2:
        assert ends.isna().all(axis=None)  # the clips' own values are shown instead
    else:
        assert ends.ge(known.low).all(axis=None) and ends.le(known.high).all(axis=None)
        reach = known.high - known.low
        found = compare(rows)[["low", "high"]]
        assert found.ge(-reach).all(axis=None) and found.le(reach).all(axis=None)


def test_an_interval_is_cut_at_the_ends_of_the_range():
    assert within(Estimate(mean=0.9, low=0.7, high=1.1, p=0.1), -1, 1) == (0.7, 1)
    assert within(Estimate(mean=0.1, low=-0.1, high=0.3, p=0.1), 0, np.inf) == (0, 0.3)
    assert np.isnan(within(Estimate(mean=0.1, low=np.nan, high=np.nan, p=np.nan), 0, 1)).all()


def test_it_reads_back_from_csv(tmp_path):
    rows = two_arms(seeds=(0, 1), peer=True, clips=2)
    rows.to_csv(tmp_path / "metrics.csv", index=False)
    pd.testing.assert_frame_equal(compare(pd.read_csv(tmp_path / "metrics.csv")), compare(rows))
    written = compare(rows)
    write_csv(tmp_path / "comparisons.csv", written)
    pd.testing.assert_frame_equal(read_csv(tmp_path / "comparisons.csv"), written, check_dtype=False)
