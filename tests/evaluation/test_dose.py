"""Dose-response of the study of time: contrasts at equal dose, slopes, and their closed forms."""

import numpy as np
import pandas as pd
import pytest

from stvsr.evaluation.comparison import NO_DIFFERENCE
from stvsr.evaluation.dose import contrasts, dose_arms, responses, slopes

HARM = {"blind": 0.5, "triplet": 0.3, "shuffled": 0.3}  # what a dose adds to tOF


def measured(*, doses=(0.1, 0.4), clips: int = 2, seeds: int = 2, noise: float = 0.001, harm=HARM) -> pd.DataFrame:
    """Return rows of tecogan (LPIPS falls by a tenth of the dose, tOF grows by `harm`) and of study (ten times tOF)."""
    random = np.random.default_rng(0)
    arms = {"temporal-twin": (0.0, 0.0)} | {
        f"{kind}-{dose:g}": (dose, slope) for kind, slope in harm.items() for dose in doses
    }
    rows = []
    for arm, (dose, slope) in arms.items():
        values = {("tecogan", "lpips"): 0.3 - 0.1 * dose, ("tecogan", "tof"): 1 + slope * dose,
                  ("study", "lpips"): 0.3 - 0.1 * dose, ("study", "profile"): 10 * (1 + slope * dose)}  # fmt: skip
        rows += [
            {"arm": arm, "seed": seed, "clip": f"c{clip}", "frame": frame, "metric": metric, "protocol": protocol,
             "value": value + 0.1 * clip + noise * random.standard_normal()}
            for (protocol, metric), value in values.items()
            for seed in range(seeds)
            for clip in range(clips)
            for frame in range(12)
        ]  # fmt: skip
    return pd.DataFrame(rows)


def test_arms_are_grouped_by_kind_and_dose():
    names = [
        "triplet-0.128",
        "triplet-0.032",
        "blind-0.008",
        "temporal-twin",
        "triplet-d",
        "recurrent-0.5",
        "modern-0.1",
    ]
    assert dose_arms(names) == {
        "blind": {0.008: "blind-0.008"}, "triplet": {0.032: "triplet-0.032", 0.128: "triplet-0.128"},
        "recurrent": {0.5: "recurrent-0.5"},
    }  # fmt: skip


@pytest.mark.slow
def test_contrasts_are_differences_at_equal_dose_and_their_mean():
    found = contrasts(measured()).set_index(["contrast", "metric", "doses"]).sort_index()
    difference = found.loc[("triplet - blind", "tof"), "difference"]
    assert difference.to_dict() == pytest.approx({"0.1, 0.4": -0.05, "0.1": -0.02, "0.4": -0.08}, abs=2e-3)
    assert found.loc[("triplet - blind", "profile", "0.1, 0.4"), "difference"] == pytest.approx(-0.5, abs=2e-3)
    assert set(found.loc[("triplet - blind", "tof"), "verdict"]) == {"better"}
    assert found.loc[("shuffled - triplet", "tof", "0.1, 0.4"), "verdict"] == NO_DIFFERENCE
    primary = found[found["primary"]]
    assert sorted(primary.index) == [
        (contrast, metric, "0.1, 0.4")
        for contrast in ("shuffled - triplet", "triplet - blind")
        for metric in ("profile", "tof")
    ]
    # one family of four: Holm multiplies the smallest p-value by 4
    smallest = primary.sort_values("p").iloc[0]
    assert smallest["p_holm"] == pytest.approx(4 * smallest["p"])


@pytest.mark.slow
def test_only_doses_that_both_kinds_have_are_compared():
    rows = measured()
    found = contrasts(rows[rows["arm"] != "blind-0.4"])
    first = found[(found["contrast"] == "triplet - blind") & (found["metric"] == "tof")]
    assert first["doses"].tolist() == ["0.1"] and first["primary"].tolist() == [True]
    assert contrasts(rows[~rows["arm"].str.startswith("triplet")]).empty


@pytest.mark.slow
def test_equal_discriminators_are_told_from_each_other_at_most_at_the_nominal_rate():
    random, runs, called = np.random.default_rng(1), 60, 0
    rows = measured(harm=dict.fromkeys(HARM, 0.3), noise=0.0, doses=(0.1,), seeds=1)
    rows = rows[rows["metric"] != "lpips"]
    for run in range(runs):
        noisy = rows.assign(value=rows["value"] + 0.01 * random.standard_normal(len(rows)))
        found = contrasts(noisy, draws=199, seed=run)
        called += (found.loc[found["primary"], "verdict"] != NO_DIFFERENCE).any()
    assert called / runs <= 0.05 + 0.03  # the standard error of 60 runs is 0.03


def test_slopes_are_motion_per_hundredth_of_lpips():
    found = slopes(measured()).set_index(["kind", "metric"])
    # tOF grows by 0.5 where LPIPS falls by 0.1: 0.05 per -0.01
    assert found.loc[("blind", "tof"), "slope"] == pytest.approx(-0.05, rel=0.05)
    assert found.loc[("triplet", "tof"), "slope"] == pytest.approx(-0.03, rel=0.05)
    assert found.loc[("blind", "profile"), "slope"] == pytest.approx(-0.5, rel=0.05)
    assert found.loc[("blind", "tof"), "perception_range"] == pytest.approx(0.04, abs=2e-3)
    assert (found["low"] < found["slope"]).all() and (found["slope"] < found["high"]).all()
    assert found["seeds"].eq(2).all() and found["dose_count"].eq(2).all()
    assert slopes(measured(seeds=1))[["low", "high"]].isna().all(axis=None)


def test_without_the_twin_there_is_no_dose_response():
    rows = measured()
    assert responses(rows[rows["arm"] != "temporal-twin"]).empty
    assert slopes(rows[rows["arm"] != "temporal-twin"]).empty
    points = responses(rows)
    assert set(points["dose"]) == {0.0, 0.1, 0.4}
    assert len(points) == 2 * 3 * 3 * 2  # endpoints, kinds, doses, seeds


def test_a_run_of_other_arms_has_neither():
    rows = measured()
    other = rows[rows["arm"] == "temporal-twin"].assign(arm="modern")
    assert contrasts(other).empty and slopes(other).empty
