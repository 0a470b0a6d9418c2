"""Findings: what the headline and the sentences attribute to a discriminator, and what they do not."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from report_fixture import small_run

from stvsr.evaluation.comparison import NO_DIFFERENCE, clip_means, compare, summarise
from stvsr.report import charts, limitations, tables
from stvsr.report.findings import answers, not_learnt, plane
from stvsr.report.headline import headline
from stvsr.report.run import Run, load_run

PROTOCOL = {"psnr": 35.0, "lpips": 0.1, "tof": 0.49}


def scores_of(
    means: dict[str, dict[str, float]], *, noise: float = 0.0005, protocol: str = "tecogan", seeds: int = 1
) -> pd.DataFrame:
    """Return `metrics.csv` rows of arms: two clips of 16 frames; how hard a frame is, arms have in common."""
    random = np.random.default_rng(0)
    metrics = list(next(iter(means.values())))
    shared = {metric: random.normal(0, 0.02, (2, 16)) for metric in metrics}
    return pd.DataFrame(
        {"method": f"{arm}@{seed}", "arm": arm, "seed": seed, "clip": f"clip{clip}", "frame": frame, "metric": metric,
         "value": value + shared[metric][clip, frame] + noise * random.standard_normal(), "protocol": protocol,
         "version": 1, "colour": "y", "border": "0", "dropped": 2, "degradation": "bi", "weights": ""}
        for arm, values in means.items()
        for seed in range(seeds)
        for metric, value in values.items()
        for clip in range(2)
        for frame in range(16)
    )  # fmt: skip


def with_scores(run: Run, means: dict[str, dict[str, float]], twins: dict[str, str], **changes: object) -> Run:
    metrics = scores_of(means)
    control = "pixel-control" if "pixel-control" in means else None
    return dataclasses.replace(
        run, metrics=metrics, comparisons=compare(metrics, control, twins=twins), logs={}, **changes
    )


def with_verdicts(run: Run, verdicts: dict[str, tuple[str, str, str]]) -> Run:
    """Return a run whose arms were compared with twins, with the verdicts given in LPIPS, tOF and PSNR."""
    rows = [
        {"arm": arm, "reference": "perceptual", "is_twin": True, "metric": metric, "protocol": "tecogan",
         "verdict": verdict, "difference": size, "low": size - 0.01, "high": size + 0.01}
        for arm, found in verdicts.items()
        for metric, size, verdict in zip(
            ("lpips", "tof", "psnr"), (-0.02, 0.03, -0.5 - 0.1 * (arm == "modern")), found, strict=True
        )
    ]  # fmt: skip
    metrics = scores_of(dict.fromkeys((*verdicts, "perceptual"), PROTOCOL))
    return dataclasses.replace(run, metrics=metrics, comparisons=pd.DataFrame(rows), logs={})


@pytest.mark.slow
def test_headline_counts_verdicts_against_twins(small):
    run = load_run(small)
    verdicts = {
        "recurrent-d": ("better", "worse", "worse"), "triplet-d": ("better", NO_DIFFERENCE, "worse"),
        "modern": (NO_DIFFERENCE, "worse", NO_DIFFERENCE),
    }  # fmt: skip
    assert headline(with_verdicts(run, verdicts)) == (
        "Three arms have a discriminator that sees time. Compared with the same losses without them, 2 of 3 look"
        " closer to the truth (1 no difference detected), none moves more like the truth (2 worse, 1 no difference"
        " detected) and 2 of 3 lose 0.50\u00a0dB of PSNR (1 no difference detected)."
    )
    assert headline(with_verdicts(run, {"recurrent-d": verdicts["recurrent-d"]})) == (
        "One arm has a discriminator that sees time. Compared with the same losses without it, it looks closer to the"
        " truth, it does not move more like the truth (worse) and it loses 0.50\u00a0dB of PSNR."
    )
    assert "both lose 0.50 to 0.60\u00a0dB of PSNR" in headline(
        with_verdicts(run, {"recurrent-d": ("better", "worse", "worse"), "modern": ("better", "worse", "worse")})
    )
    assert headline(with_verdicts(run, dict.fromkeys(verdicts, (NO_DIFFERENCE,) * 3))).endswith(
        "no difference was detected in looks, motion and pixel fidelity: nothing is attributed to a discriminator."
    )


@pytest.mark.slow
def test_what_the_twin_does_too_is_not_credited_to_the_discriminator(small):
    """The quick study of an earlier version: recurrent-d scores as its twin, both better than pixel-control."""
    means = {
        "pixel-control": {"psnr": 35.33, "lpips": 0.1043, "tof": 0.4895},
        "perceptual": {"psnr": 35.21, "lpips": 0.0958, "tof": 0.4897},
        "recurrent-d": {"psnr": 35.21, "lpips": 0.0958, "tof": 0.4895},
    }
    log = pd.DataFrame({"step": range(1, 61), "score_real": 0.5004, "score_fake": 0.5, "score_gap": 0.0003})
    run = with_scores(load_run(small), means, {"recurrent-d": "perceptual"})
    run = dataclasses.replace(run, logs={"recurrent-d@0": log})
    assert headline(run) == (
        "One arm has a discriminator that sees time. Compared with the same losses without it, no difference was"
        " detected in looks, motion and pixel fidelity: nothing is attributed to a discriminator."
        " The discriminator of recurrent D did not learn."
    )
    answer = next(answer for answer in answers(run) if answer.arm.name == "recurrent-d")
    against_twin, against_control = answer.parts
    assert against_twin.lead == "Effect of the discriminator: compared with its twin (perceptual), it"
    assert {clause.verdict for clause in against_twin.clauses} == {NO_DIFFERENCE}
    assert against_control.lead == "Effect of all its losses: compared with pixel control, it"
    assert [clause.words for clause in against_control.clauses][:2] == [
        "looks closer to the truth", "loses 0.12\u00a0dB of PSNR",
    ]  # fmt: skip
    assert answer.notes == (
        "Its discriminator did not learn: its mean scores of true and generated frames end 0.0004 apart.",
    )


def test_an_effect_of_the_discriminator_is_credited(small):
    means = {
        "pixel-control": {"psnr": 35.33, "lpips": 0.1043, "tof": 0.4895},
        "perceptual": {"psnr": 35.21, "lpips": 0.0958, "tof": 0.4897},
        "recurrent-d": {"psnr": 34.71, "lpips": 0.0891, "tof": 0.4897},
    }
    run = with_scores(load_run(small), means, {"recurrent-d": "perceptual"})
    assert "it looks closer to the truth" in headline(run)
    assert "it loses 0.50\u00a0dB of PSNR" in headline(run)
    assert "did not learn" not in headline(run)


@pytest.mark.slow
def test_without_a_twin_nothing_is_attributed(small):
    means = {
        "pixel-control": {"psnr": 35.33, "lpips": 0.1043, "tof": 0.4895},
        "recurrent-d": {"psnr": 34.71, "lpips": 0.0891, "tof": 0.4758},
    }
    run = with_scores(load_run(small), means, {})
    assert headline(run) == (
        "One arm has a discriminator that sees time. Its twin (the same losses without the discriminator) is not in"
        " this run, so nothing can be attributed to a discriminator."
    )
    note = answers(run)[0].notes[0]
    assert note.startswith("Its twin") and note.endswith("nothing can be attributed to its discriminator.")
    more = with_scores(
        load_run(small), means | {"perceptual": means["pixel-control"], "modern": PROTOCOL}, {"modern": "perceptual"}
    )
    assert "The twin of recurrent D is not in this run: nothing is attributed to it." in headline(more)


def test_a_discriminator_that_is_blind_to_time_does_not_count_as_one_that_sees_it(small):
    run = with_scores(
        load_run(small), dict.fromkeys(("temporal-twin", "blind-0.032"), PROTOCOL), {"blind-0.032": "temporal-twin"}
    )
    assert "no arm with a discriminator that sees time was measured" in headline(run)
    assert [answer.arm.name for answer in answers(run)] == ["blind-0.032"]


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ((0.3,), None),
        ((0.0,), "end 0.0000 apart"),
        ((0.3, 0.01), "end 0.0100 apart in 1 of 2 trainings"),
        ((-0.2,), "end 0.2000 apart"),
    ],
)
def test_a_discriminator_has_learnt_when_its_scores_end_apart(small, ends, words):
    logs = {
        # the last quarter of the log counts
        f"recurrent-d@{seed}": pd.DataFrame(
            {"step": range(8), "score_real": [0.9] * 6 + [0.5 + end] * 2, "score_fake": 0.5}
        )
        for seed, end in enumerate(ends)
    }
    found = not_learnt(dataclasses.replace(load_run(small), logs=logs))
    assert found.get("recurrent-d", "").endswith(words) if words else not found


@pytest.mark.slow
def test_plane_draws_the_intervals_of_paired_differences(full):
    run = load_run(full)
    points = plane(run).set_index("label")
    gap = run.compared("tecogan", twins=False).query("metric == 'lpips' and arm == 'recurrent-d'").iloc[0]
    arm = points.loc["recurrent D"]
    assert arm["perception_high"] - arm["perception"] == pytest.approx(gap["high"] - gap["difference"])
    lowest = arm["perception"] + gap["low"] - gap["difference"]
    assert arm["perception_low"] == pytest.approx(max(lowest, 0))  # LPIPS is never negative
    assert arm["perception_low"] < arm["perception"] < arm["perception_high"]
    assert np.isnan(points.loc["pixel control", "perception_low"])
    assert np.isnan(points.loc["bicubic", "perception_low"])


def test_bars_of_the_plane_stay_in_the_range_of_the_metric(small):
    means = {"pixel-control": PROTOCOL, "recurrent-d": PROTOCOL | {"lpips": 0.002}}
    metrics = scores_of(means, noise=0.05)
    found = {"comparisons": compare(metrics, twins={}), "summary": summarise(metrics)}
    run = dataclasses.replace(load_run(small), metrics=metrics, **found)
    run.comparisons["low"] -= 1
    assert plane(run)["perception_low"].dropna().tolist() == [0.0]


@pytest.mark.slow
def test_several_seeds_are_one_row_and_one_picture(tmp_path):
    folder = small_run(tmp_path / "seeds", seeds=(0, 1))
    manifest = json.loads((folder / "run.json").read_text())
    manifest["steps"].append({"name": "recurrent-d-s2", "status": "failed", "error": "no memory"})
    (folder / "run.json").write_text(json.dumps(manifest))
    run = load_run(folder)
    assert [(answer.arm.name, answer.failure, len(answer.parts)) for answer in answers(run)] == [("recurrent-d", "", 1)]
    assert [len(part.clauses) for part in answers(run)[0].parts] == [1]
    assert run.arms == ["bicubic", "pixel-control", "recurrent-d"]
    assert list(run.frames["waves"]) == ["truth", "bicubic", "pixel-control", "recurrent-d"]
    limits = {limit.title: limit.why for limit in limitations.cannot_say(run)}
    assert limits["How much depends on the random seed"].startswith("2 seeds per arm")


# The study of time ----------------------------------------------------------------------------------------------------


@pytest.fixture
def dosed(small) -> Run:
    """Three discriminators at two doses: seeing time halves the dose's harm to tOF, shuffled fakes change nothing."""
    harm = {"blind": 0.4, "triplet": 0.2, "shuffled": 0.2}
    means = {"temporal-twin": PROTOCOL} | {
        f"{kind}-{dose}": {"psnr": 35 - 5 * dose, "lpips": 0.1 - 0.1 * dose, "tof": 0.49 + dose * slope}
        for kind, slope in harm.items()
        for dose in (0.032, 0.128)
    }
    of_study = {arm: {"lpips": values["lpips"], "profile": 10 * values["tof"]} for arm, values in means.items()}
    metrics = pd.concat([scores_of(means, seeds=3), scores_of(of_study, seeds=3, protocol="study")])
    log = pd.DataFrame({"step": [1, 2], "score_real": 0.5, "score_fake": 0.5})
    return dataclasses.replace(
        load_run(small), metrics=metrics, comparisons=compare(metrics, "temporal-twin"), logs={"shuffled-0.128@0": log}
    )


@pytest.mark.slow
def test_headline_of_the_study_of_time_is_about_equal_doses(dosed):
    text = headline(dosed)
    primary = dosed.contrasts[dosed.contrasts["primary"]]
    assert set(primary["contrast"]) == {"triplet - blind", "shuffled - triplet"}
    assert set(primary["metric"]) == {"tof", "profile"}
    assert text.startswith(
        "At equal dose, a discriminator that sees time, compared with the same one blind to time, moves more like the"
        " truth (tOF −0.016 px, −0.01"
    )
    assert (
        "one that also learns from shuffled true frames, compared with the one that does not, shows no detectable"
        in text
    )
    assert "LPIPS is below the twin's in 6 of 6 arms." in text
    assert "The discriminator of sees time, shuffled fakes, 0.128 did not learn." in text


@pytest.mark.slow
def test_the_study_of_time_has_one_table_per_protocol_and_one_chart_per_endpoint(dosed):
    found = {}
    for protocol in ("tecogan", "study"):
        rows, slopes = (table[table["protocol"] == protocol] for table in (dosed.contrasts, dosed.slopes))
        found[protocol] = tables.doses(rows, slopes, dosed.metrics, protocol)
    names = [row[0].text for row in found["study"].rows]
    assert names[:3] == ["triplet − blind"] * 3
    assert names[-3:] == ["slope, blind to time", "slope, sees time", "slope, sees time, shuffled fakes"]
    assert [row[0].note for row in found["tecogan"].rows][:3] == [
        "mean of doses 0.032, 0.128",
        "dose 0.032",
        "dose 0.128",
    ]
    assert {row["protocol"] for table in found.values() for _, row in table.data.iterrows()} == {"tecogan", "study"}
    assert found["tecogan"].data["protocol"].nunique() == 1
    drawn = charts.doses(dosed)
    assert [chart.title for chart in drawn] == ["tOF, px (tecogan)", "temporal profile, levels (study)"]
    assert "The twin, dose 0:" in str(drawn[0].svg) and "blind to time reaches" in str(drawn[0].svg)


@pytest.mark.slow
def test_other_studies_have_no_doses(full):
    run = load_run(full)
    assert run.contrasts.empty and run.slopes.empty and not charts.doses(run)


@pytest.mark.slow
def test_demonstrations_are_marked_and_not_compared_with_longer_trainings(small):
    means = {
        "temporal-twin": PROTOCOL, "triplet-0.032": PROTOCOL,
        "original-twin": PROTOCOL | {"lpips": 0.2}, "original-faithful": PROTOCOL | {"lpips": 0.2},
    }  # fmt: skip
    names = ["original-twin", "original-faithful"]
    run = load_run(small)
    metrics = scores_of(means, seeds=2)
    metrics = metrics[~(metrics["arm"].isin(names) & (metrics["seed"] == 1))]
    run = dataclasses.replace(
        run,
        metrics=metrics,
        comparisons=compare(metrics, "temporal-twin", demonstrations=names),
        logs={},
        steps=[{"name": "evaluate", "status": "done", "parameters": {"demonstrations": names}}],
    )
    found = {answer.arm.name: answer for answer in answers(run)}
    assert [part.lead for part in found["original-faithful"].parts] == [
        "Effect of the discriminator: compared with its twin (original-twin), it"
    ]
    assert any(note.startswith("A demonstration") for note in found["original-faithful"].notes)
    assert not any(note.startswith("A demonstration") for note in found["triplet-0.032"].notes)
    limits = {limit.title: limit.why for limit in limitations.cannot_say(run)}
    assert "What 2019 code, no D and 2019 code can do" in limits
    assert limits["How much depends on the random seed"].startswith("2 seeds per arm")  # demonstrations have one
    assert "model cards" in limits["What longer training would do"]
    table = tables.scores(summarise(metrics), clip_means(metrics), metrics, "tecogan", {}, run.demonstrations)
    notes = {row[0].text: row[0].note for row in table.rows}
    assert notes["2019 code"].startswith("demonstration: ") and "demonstration" not in notes["sees time, 0.032"]
