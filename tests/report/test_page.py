"""The page: complete, labelled, its tables right and its pictures described."""

import itertools
import json
import re
import shutil

import pandas as pd
import pytest
from report_fixture import small_run, soup_of

from stvsr import losses
from stvsr.report import build, labels, limitations, provenance, published
from stvsr.report.run import load_run


@pytest.mark.slow
def test_first_screen_has_question_answers_with_intervals_and_one_figure(page):
    first = page.select_one("section.answer")
    assert "sees time" in first.h1.text
    sentences = {item.b.text: item.text for item in first.select("ul.answers li")}
    assert set(sentences) == {"perceptual", "2019 code", "recurrent D", "recurrent D + flow D"}
    assert re.search(r"LPIPS [−+]?\d\.\d+, [−+]?\d\.\d+ to [−+]?\d\.\d+", sentences["recurrent D"])
    assert "Effect of the discriminator: compared with its twin (perceptual), it" in sentences["recurrent D"]
    assert "Effect of all its losses: compared with pixel control, it" in sentences["recurrent D"]
    assert "nothing can be attributed to its discriminator" in sentences["2019 code"]
    assert sentences["perceptual"].count("ompared with") == 1
    assert "PSNR" in sentences["recurrent D"]
    assert "tOF" in sentences["recurrent D"]
    assert len(first.select("figure")) == 1
    alt = first.select_one("svg.chart")["aria-label"]
    assert "Scatter plot of 8 methods" in alt


@pytest.mark.slow
def test_failures_are_shown_as_failures(page):
    assert "1 of 8 steps failed" in page.select_one(".banner").text
    assert "loss is NaN at step 40" in page.select_one("ul.answers").text
    row = next(
        row for row in page.select("#table-scores-tecogan tbody tr") if row.th.text.startswith("recurrent D + flow D")
    )
    assert [cell.text for cell in row.select("td")] == ["✕failed"] * 4
    assert "Anything about recurrent-d-flow-s0" in page.select_one("#limits").text
    assert "failed" in page.select_one("ol.bars li.is-failed").text


def test_best_is_bold_and_marked_and_right(full, page):
    summary = pd.read_csv(full / "steps" / "evaluate" / "summary.csv")
    rows = summary[(summary["protocol"] == "tecogan") & (summary["metric"] == "lpips")].set_index("arm")["mean"]
    winner = labels.arm(rows.idxmin()).label
    column = [cell.text for cell in page.select("#table-scores-tecogan thead th span")].index("LPIPS (AlexNet)")
    best = [
        row.th.find(string=True)
        for row in page.select("#table-scores-tecogan tbody tr")
        if "best" in row.select("td")[column - 1].get("class", [])
    ]
    assert best == [winner]
    cell = page.select_one("#table-scores-tecogan td.best")
    assert cell.strong
    assert "★" in cell.text
    assert "best" in cell.text


def test_tables_have_captions_with_protocol_scopes_and_csv(full, page):
    found = page.select("table")
    assert len(found) >= 12
    for table in found:
        assert table.caption.text.strip()
        assert all(cell.get("scope") in ("col", "row") for cell in table.select("th"))
    for protocol in ("literature-y", "tecogan"):
        assert f"Protocol {protocol} v1" in page.select_one(f"#table-scores-{protocol} caption").text
        assert "degradation BI" in page.select_one(f"#table-scores-{protocol} caption").text
    for table in page.select("table.sortable"):
        key = table["id"].removeprefix("table-")
        data = pd.read_csv(full / "tables" / f"{key}.csv")
        assert len(data) >= 1
    scores = pd.read_csv(full / "tables" / "scores-tecogan.csv")
    assert set(scores["protocol"]) == {"tecogan"}
    assert len(scores) == len(pd.read_csv(full / "steps" / "evaluate" / "summary.csv").query("protocol == 'tecogan'"))


def test_numbers_of_different_protocols_never_meet(full):
    for path in (full / "tables").glob("*.csv"):
        data = pd.read_csv(path)
        if "protocol" in data:
            assert data["protocol"].nunique() == 1, path.name


def test_every_picture_has_alt_text_and_headings_descend(page):
    assert all(image.get("alt") for image in page.select("img"))
    assert all(chart.get("aria-label") and chart["role"] == "img" for chart in page.select("svg.chart"))
    levels = [int(heading.name[1]) for heading in page.select("h1, h2, h3, h4, h5")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    ids = [element["id"] for element in page.select("[id]")]
    assert len(ids) == len(set(ids))


def test_films_never_start_by_themselves(page):
    films = page.select("video")
    assert len(films) == 2 * 9
    for film in films:
        assert film.has_attr("controls")
        assert film.has_attr("poster")
        assert film["preload"] == "none"
        assert not film.has_attr("autoplay")


def test_equations_name_the_functions_that_implement_them(page):
    shown = page.select("ol.equations > li")
    assert len(shown) == 4
    formulas = ["".join(math.text for math in item.select("math")) for item in shown]
    assert formulas == [
        "LG=‖Gt−GTt‖1",
        "LP=‖VGG(Gt)−VGG(GTt)‖2",
        "LD=−log(1−D(Gt,Py(GT)))−logD(GTt,Py(GT))LA=−logD(Gt)",
        "LD′=−log(1−D(F(Gt+k,Gt)))−logD(F(GTt+k,GTt))LF=−logD(F(Gt+k,Gt))",
    ]
    for number, item in enumerate(shown, start=1):
        names = [code.text.removeprefix("stvsr.losses.") for code in item.select("code")]
        assert names
        for name in names:
            assert f"Equation ({number})" in getattr(losses, name).__doc__, name


def test_provenance_is_complete(page):
    text = page.select_one("#provenance").text
    for expected in (
        "stvsr reproduce full",
        "0123456789abcdef",
        "a processor",
        "2026-01-05 09:00 UTC",
        "torch",
        "core hours",
        "film/01",
        "1" * 64,
    ):
        assert expected.lower() in text.lower(), expected
    assert len(page.select("#notebooks iframe")) == 8


def test_index_lists_reports_with_their_headline(full):
    index = soup_of(full.parent / "index.html")
    assert index.select_one("h2 a")["href"] == "full/report.html"
    assert "One arm has a discriminator that sees time." in index.text
    assert "1 failed step" in index.text


def test_what_the_run_cannot_say_follows_from_its_record(full, small, tmp_path):
    told = {limit.title: limit.why for limit in limitations.cannot_say(load_run(full))}
    assert "2 test clips are too few to represent others" in told["Whether it holds for other scenes"]
    assert "trained once" in told["How much depends on the random seed"]
    assert "400 steps" in told["What longer training would do"]
    assert "triplet D" in told["How the other arms of the study would do"]
    assert "dose" not in told["How the other arms of the study would do"]
    assert "was not measured in this run" in told["What the discriminator changes in 2019 code"]
    assert "on other clips" in told["How these scores compare with published ones"]
    assert "How it does on clips it has not seen" not in told
    told = {limit.title: limit.why for limit in limitations.cannot_say(load_run(small))}
    assert "one clip (waves, 6 frames)" in told["Whether it holds for other scenes"]
    copy = shutil.copytree(small, tmp_path / "copy")
    manifest = json.loads((copy / "run.json").read_text())
    manifest["git"]["dirty"] = True
    manifest["data"] += [manifest["data"][0] | {"clip": name} for name in ("waves", "walk-01", "davis-camel")]
    manifest["data"] += [manifest["data"][1] | {"clip": name} for name in ("walk-02", "davis-cows")]
    (copy / "run.json").write_text(json.dumps(manifest))
    told = {limit.title: limit.why for limit in limitations.cannot_say(load_run(copy))}
    assert "uncommitted" in told["Which code exactly ran"]
    assert "very clip they are scored on (waves)" in told["How it does on clips it has not seen"]
    assert "(walk)" in told["How it does on film of another kind"]


@pytest.mark.slow
def test_published_numbers_stand_beside_and_join_only_on_the_same_clips(page, tmp_path):
    assert "Results of the 2019 report" in page.select_one("#table-published-2019").caption.text
    calendar = next(row for row in page.select("#table-published-2019 tbody tr") if row.th.text == "Calendar")
    assert "21.62" in calendar.text
    assert "−0.12 dB" in calendar.text
    ours = next(row for row in page.select("#table-contrasts tbody tr") if row.th.text.startswith("recurrent D"))
    assert "−0.12" in ours.text
    assert " to " in ours.text
    assert "this run)" not in page.select_one("#table-published-vid4").text
    folder = small_run(tmp_path / "vid4", clips=("calendar", "city", "foliage", "walk"), arms=("rbpn", "pixel-control"))
    run = load_run(folder)
    joined = published.literature(run)
    assert [row[0].text for row in joined.rows][-3:] == [
        "bicubic (this run)",
        "RBPN (this run)",
        "pixel control (this run)",
    ]
    assert "RBPN, here" in published.report_2019(run).columns


def test_cost_counts_cores(full):
    table = provenance.step_table(load_run(full))
    evaluate = table.data.set_index("step").loc["evaluate"]
    assert evaluate["core hours"] == pytest.approx(41.5 * 2 / 3600, abs=1e-3)


def test_index_survives_a_broken_neighbour(small, tmp_path):
    shutil.copytree(small, tmp_path / "small")
    for name, manifest in (("broken", "{"), ("small", None)):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "report.html").write_text("")
        if manifest:
            (tmp_path / name / "run.json").write_text(manifest)
    page = soup_of(build.write_index(tmp_path))
    assert [link["href"] for link in page.select("h2 a")] == ["small/report.html"]
