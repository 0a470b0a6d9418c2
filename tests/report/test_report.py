"""The report: complete, honest about what is missing, safe with hostile names, repeatable, within its budget."""

import io
import itertools
import json
import re
import shutil
import warnings
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from PIL import Image
from report_fixture import ARMS, LADDER, make_run, write_notebook

from stvsr import losses
from stvsr.errors import InputError
from stvsr.report import __main__ as command
from stvsr.report import appendix, build, labels, limitations, media, provenance, published, tables
from stvsr.report.build import build_report
from stvsr.report.findings import answers, headline, plane
from stvsr.report.run import load_run, natural
from stvsr.report.scenes import read_scenes, spread

OUTWARD = re.compile(r"^(https?:)?//", re.IGNORECASE)


def soup_of(report: Path) -> BeautifulSoup:
    return BeautifulSoup(report.read_text(encoding="utf-8"), "html.parser")


def small_run(folder: Path, **changes: object) -> Path:
    """A run of one clip with three methods and one protocol: quick to make."""
    settings = {
        "arms": ("pixel-control", "recurrent-d"),
        "peers": ("bicubic",),
        "clips": ("waves",),
        "frames": 6,
        "measures": ("literature-y",),
    }
    return make_run(folder, **(settings | changes))


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    """A run with everything: peers, arms, ladder, two seeds of nothing missing, two clips, one failed arm; and its report."""
    folder = tmp_path_factory.mktemp("reports") / "full"
    arms = ("rbpn", "pixel-control", "seed-faithful", "recurrent-d", "recurrent-d-flow", *LADDER[:1])
    make_run(folder, arms=arms, failed="recurrent-d-flow", frames=9)
    build_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(full) -> BeautifulSoup:
    return soup_of(full / "report.html")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return small_run(tmp_path_factory.mktemp("reports") / "small")


# What the page says ---------------------------------------------------------------------------------------------------


def test_first_screen_has_question_answers_with_intervals_and_one_figure(page):
    first = page.select_one("section.answer")
    assert "sees time" in first.h1.text
    sentences = {item.b.text: item.text for item in first.select("ul.answers li")}
    assert set(sentences) == {"seed-faithful", "recurrent D", "recurrent D + flow D"}
    assert re.search(r"LPIPS [−+]?\d\.\d+, [−+]?\d\.\d+ to [−+]?\d\.\d+", sentences["recurrent D"])
    assert "PSNR" in sentences["recurrent D"]
    assert "tOF" in sentences["recurrent D"]
    assert len(first.select("figure")) == 1
    alt = first.select_one("svg.chart")["aria-label"]
    assert "Scatter plot of 7 methods" in alt


def test_headline_counts_verdicts(full):
    run = load_run(full)
    verdicts = {
        "recurrent-d": ("better", "worse", "worse"), "triplet-d": ("better", "not told apart", "worse"),
        "modern": ("not told apart", "worse", "not told apart"),
    }  # fmt: skip
    rows = [
        {"arm": arm, "metric": metric, "protocol": "tecogan", "verdict": verdict}
        for arm, told in verdicts.items()
        for metric, verdict in zip(("lpips", "tof", "psnr"), told, strict=True)
    ]
    object.__setattr__(run, "comparisons", pd.DataFrame(rows))
    assert headline(run) == (
        "Three arms have a discriminator that sees time. 2 of 3 look closer to the truth than the control (1 not told apart),"
        " none moves more like the truth (2 worse, 1 not told apart), and 2 of 3 pay in pixel fidelity (1 not told apart)."
    )
    object.__setattr__(run, "comparisons", pd.DataFrame(rows[:3]))
    assert headline(run) == (
        "One arm has a discriminator that sees time. It looks closer to the truth than the control, it does not move more like the"
        " truth (worse), and it pays in pixel fidelity."
    )
    object.__setattr__(run, "comparisons", pd.DataFrame(rows))
    run.comparisons["verdict"] = "not told apart"
    assert headline(run).endswith("None of them is told from the control in this run.")


@pytest.mark.parametrize(("alone", "said"), [((-0.03, -0.01), True), ((-0.012, -0.005), False)])
def test_headline_says_when_the_perceptual_loss_alone_may_do_as_much(full, alone, said):
    run = load_run(full)
    intervals = {"perceptual": alone, "modern": (-0.04, -0.02)}
    rows = [
        {"arm": arm, "metric": "lpips", "protocol": "tecogan", "verdict": "better", "low": low, "high": high}
        for arm, (low, high) in intervals.items()
    ]
    object.__setattr__(run, "comparisons", pd.DataFrame(rows))
    caveat = (
        " Its gain in looks overlaps with that of the perceptual loss alone: the discriminator need not be the reason."
    )
    assert headline(run).endswith(caveat) is said


def test_plane_draws_the_intervals_of_paired_differences(full):
    run = load_run(full)
    points = plane(run).set_index("label")
    gap = run.comparisons.query("protocol == 'tecogan' and metric == 'lpips' and arm == 'recurrent-d'").iloc[0]
    arm = points.loc["recurrent D"]
    assert arm["perception_high"] - arm["perception_low"] == pytest.approx(gap["high"] - gap["low"])
    assert arm["perception_low"] < arm["perception"] < arm["perception_high"]
    assert np.isnan(points.loc["pixel control", "perception_low"])
    assert np.isnan(points.loc["bicubic", "perception_low"])


def test_failures_are_shown_as_failures(page):
    assert "1 of 7 steps failed" in page.select_one(".banner").text
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
    assert len(films) == 2 * 8
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
    assert len(page.select("#notebooks iframe")) == 7


def test_index_lists_reports_with_their_headline(full):
    index = soup_of(full.parent / "index.html")
    assert index.select_one("h2 a")["href"] == "full/report.html"
    assert "One arm has a discriminator that sees time." in index.text
    assert "1 failed step" in index.text


def test_what_the_run_cannot_say_follows_from_its_record(full, small, tmp_path):
    told = {limit.title: limit.why for limit in limitations.cannot_say(load_run(full))}
    assert "2 test clips are too few to speak for others" in told["Whether it holds for other scenes"]
    assert "trained once" in told["Whether an arm was lucky"]
    assert "400 steps" in told["What longer training would do"]
    assert "triplet D" in told["How the other arms of the study would do"]
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


def test_published_numbers_stand_beside_and_join_only_on_the_same_clips(page, tmp_path):
    assert "What the 2019 report found" in page.select_one("#table-published-2019").caption.text
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


# What is missing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"arms": (), "peers": ()},
        {"arms": ("rbpn",), "peers": ("bicubic",)},
        {"arms": ("pixel-control", "recurrent-d"), "peers": ()},
        {"frames": 1},
        {"arms": ("pixel-control", "recurrent-d"), "failed": "pixel-control"},
    ],
    ids=["nothing measured", "no arms", "no peers", "one frame", "the control failed"],
)
def test_missing_parts_are_said_and_do_not_break(tmp_path, changes):
    folder = small_run(tmp_path / "run", **changes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = soup_of(build_report(folder))
    assert page.h1
    assert page.select_one("#limits dt")
    text = page.select_one("main").text
    if not changes.get("arms", True):
        assert "Nothing was measured in this run." in text
    if changes.get("arms") == ("rbpn",):
        assert "This run does not reach the question" in text
        assert re.search(r"RBPN scores \d\d\.\d\d dB, \+\d\.\d\d dB against bicubic", text)


def test_a_manifest_alone_makes_a_report(tmp_path):
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "run.json").write_text('{"study": "bare"}')
    page = soup_of(build_report(folder))
    assert "Nothing was measured" in page.text
    assert not page.select("#look, #notebooks")


def test_missing_summary_is_computed(small, tmp_path):
    copy = shutil.copytree(small, tmp_path / "copy")
    before = load_run(copy).summary
    (copy / "steps" / "evaluate" / "summary.csv").unlink()
    after = load_run(copy).summary
    columns = ["arm", "protocol", "metric", "mean"]
    pd.testing.assert_frame_equal(
        before[columns].sort_values(columns[:3], ignore_index=True),
        after[columns].sort_values(columns[:3], ignore_index=True),
    )


def test_several_seeds_are_one_row_and_one_picture(tmp_path):
    folder = small_run(tmp_path / "seeds", seeds=(0, 1))
    manifest = json.loads((folder / "run.json").read_text())
    manifest["steps"].append({"name": "recurrent-d-s2", "status": "failed", "error": "no memory"})
    (folder / "run.json").write_text(json.dumps(manifest))
    run = load_run(folder)
    assert [(answer.arm.name, answer.failure, len(answer.clauses)) for answer in answers(run)] == [
        ("recurrent-d", "", 1)
    ]
    assert run.arms == ["bicubic", "pixel-control", "recurrent-d"]
    assert list(run.frames["waves"]) == ["truth", "bicubic", "pixel-control", "recurrent-d"]
    told = {limit.title: limit.why for limit in limitations.cannot_say(run)}
    assert told["How much luck there is in training"].startswith("2 seeds per arm")


def test_what_cannot_be_read_is_one_clear_line(small, tmp_path, capsys):
    with pytest.raises(InputError, match=r"run\.json does not exist"):
        build_report(tmp_path)
    with pytest.raises(InputError, match="budget is 0 MB"):
        build_report(small, budget_mb=0)
    copy = shutil.copytree(small, tmp_path / "copy")
    table = copy / "steps" / "evaluate" / "metrics.csv"
    pd.read_csv(table).drop(columns="protocol").to_csv(table, index=False)
    assert command.main([str(copy)]) == 2
    assert re.fullmatch(r"stvsr: .*metrics\.csv lacks the column protocol: evaluate again\n", capsys.readouterr().err)


def test_command_prints_where_the_report_is(small, capsys):
    assert command.main([str(small), "--budget-mb", "20"]) == 0
    assert capsys.readouterr().out.strip() == str(small / "report.html")


# Safety, repeatability, size ------------------------------------------------------------------------------------------


def attributes_of(page: BeautifulSoup):
    for element in page.find_all(True):
        yield from ((element, name, value) for name, value in element.attrs.items())


def test_nothing_is_loaded_from_outside(full, page):
    loading = ("src", "poster", "srcset", "data", "action", "formaction", "background", "xlink:href")
    for element, name, value in attributes_of(page):
        if name in loading or (name == "href" and element.name in ("link", "use", "image")):
            assert re.match(r"data:|media/|#", value), (element.name, name, value[:80])
        assert not OUTWARD.match(value if isinstance(value, str) else ""), (element.name, name, value[:80])
    styles = " ".join(style.text for style in page.select("style"))
    assert "url(" not in styles
    assert "@import" not in styles
    policy = page.select_one("meta[http-equiv=Content-Security-Policy]")["content"]
    assert policy.startswith("default-src 'none'")
    for frame in page.select("iframe"):
        assert "allow-scripts" not in frame["sandbox"]
        inner = BeautifulSoup(frame["srcdoc"], "html.parser")
        assert not inner.select("script, link")
        assert not [
            value for _, name, value in attributes_of(inner) if name == "src" and not value.startswith("data:image/")
        ]


def test_hostile_names_stay_text(tmp_path):
    clip, arm = '"><script>alert(1)<b>', "x'><img src=y onerror=alert(2)> $\\frac{"
    folder = small_run(tmp_path / "<i>&run", clips=(clip,), arms=("pixel-control", arm))
    manifest = json.loads((folder / "run.json").read_text())
    manifest |= {
        "title": "<script>alert(3)</script>",
        "question": "</title><svg onload=alert(4)>",
        "command": "</script><script>alert(5)</script>",
    }
    (folder / "run.json").write_text(json.dumps(manifest))
    for path in (build_report(folder), folder.parent / "index.html"):
        page = soup_of(path)
        assert not [name for _, name, _ in attributes_of(page) if name.startswith("on")]
        scripts = [script for script in page.select("script") if script.get("type") != "application/json"]
        assert len(scripts) == (1 if path.name == "report.html" else 0)
        assert all("alert(" not in script.text for script in scripts)
        assert not page.select("img[src=y], svg[onload]")
    text = soup_of(folder / "report.html").text
    assert clip in text
    assert arm in text
    assert soup_of(folder.parent / "index.html").select_one("h2 a")["href"] == "%3Ci%3E%26run/report.html"


def test_notebooks_lose_scripts_and_outside_pictures(tmp_path):
    html = (
        "<script>alert(1)</script><img src='https://example.org/x.png'><a href='javascript:alert(2)' onclick='alert(3)'>go</a>"
        "<table><tr><td>kept</td></tr></table>"
    )
    write_notebook(tmp_path, html)
    page = BeautifulSoup(appendix.to_html(tmp_path / "notebook.ipynb", "<b>"), "html.parser")
    assert not page.select("script")
    assert "alert" not in page.text
    assert [image["alt"] for image in page.select("img[src]")] == ["A dot"]
    assert page.select_one("img[src]")["src"].startswith("data:image/webp")
    assert page.find("a", string="go").attrs == {}
    assert page.select_one("td").text == "kept"
    assert page.h1.text.startswith("One arm")
    assert "ValueError" in page.select_one(".ansi-red-fg").text
    assert page.title.text == "<b>"


def test_a_broken_notebook_is_left_out(small, tmp_path):
    copy = shutil.copytree(small, tmp_path / "copy")
    (copy / "steps" / "evaluate" / "notebook.ipynb").write_text("no notebook")
    assert [found.step for found in appendix.appendices(load_run(copy))] == ["pixel-control-s0", "recurrent-d-s0"]


def test_places_of_the_machine_are_not_in_the_report(small, tmp_path):
    copy = shutil.copytree(small, tmp_path / "copy")
    manifest = json.loads((copy / "run.json").read_text())
    for step in manifest["steps"]:
        step["parameters"] = {
            "folder": f"/home/me/runs/small/steps/{step['name']}",
            "start": "/home/me/runs/small/steps/pretrain/generator.safetensors",
        }
    (copy / "run.json").write_text(json.dumps(manifest))
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("in /home/me/runs/small/steps/evaluate", id="a")]
    )
    nbformat.write(notebook, copy / "steps" / "evaluate" / "notebook.ipynb")
    text = build_report(copy).read_text()
    assert "/home/me" not in text
    assert "small/steps/pretrain/generator.safetensors" in text


def test_two_builds_differ_in_one_date_line(small, monkeypatch, tmp_path):
    copy = shutil.copytree(small, tmp_path / "copy")
    pages = []
    for epoch in ("1700000000", "1800000000"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
        build_report(copy)
        pages.append((copy / "report.html").read_text().splitlines())
        tables_now = {path.name: path.read_bytes() for path in (copy / "tables").iterdir()}
        monkeypatch.setattr(np.random, "seed", None)  # nobody may rely on it
    assert len(pages[0]) == len(pages[1])
    different = [(a, b) for a, b in zip(*pages, strict=True) if a != b]
    assert different == [
        ("<p>Report built on 2023-11-14 22:13 UTC.</p>", "<p>Report built on 2027-01-15 08:00 UTC.</p>")
    ]
    assert tables_now == {path.name: path.read_bytes() for path in (copy / "tables").iterdir()}


def test_media_above_the_budget_go_beside_the_report(small, tmp_path):
    copy = shutil.copytree(small, tmp_path / "copy")
    whole = build_report(copy, budget_mb=50).stat().st_size
    assert not (copy / "media").exists()
    images = soup_of(copy / "report.html").select_one("#comparison-data").text
    budget = (whole - 0.5 * len(images)) / 1e6  # room for about half of the frames
    report = build_report(copy, budget_mb=budget)
    assert report.stat().st_size <= budget * 1e6
    beside = {path.name for path in (copy / "media").iterdir()}
    named = set(re.findall(r"media/([0-9a-f]{16}\.\w+)", report.read_text()))
    assert beside == named
    assert beside
    assert not soup_of(report).select("img[src^=media]")  # crops and maps are small and come first
    (copy / "media" / "mine.txt").write_text("not the report's")
    build_report(copy, budget_mb=50)
    assert [path.name for path in (copy / "media").iterdir()] == ["mine.txt"]


def test_middle_frame_is_embedded_before_all_others(small):
    scene = read_scenes(load_run(small))[0]
    ranks = [item.rank for item in scene.frames["truth"]]
    assert min(ranks) == ranks[scene.shown.index(scene.middle)]
    assert len(set(ranks)) > 2


# Parts ----------------------------------------------------------------------------------------------------------------


def test_films_are_h264_with_even_sides_and_their_index_first():
    import av

    frames = np.random.default_rng(0).integers(0, 255, (5, 33, 47, 3), dtype=np.uint8)
    data = media.h264(frames, 6)
    assert data == media.h264(frames, 6)
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(io.BytesIO(data)) as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.width, stream.height) == ("h264", "yuv420p", 48, 34)
        assert stream.average_rate == 6
        assert sum(1 for _ in film.decode(video=0)) == 5


def test_lossless_crops_are_lossless():
    frame = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(media.webp(frame, lossless=True))) as image:
        assert (np.asarray(image) == frame).all()


def test_placing_fills_the_room_by_rank():
    items = [media.Item(data=bytes([k]) * 300, mime="image/webp", rank=k) for k in (2, 0, 1)]
    where = media.placed(items, 801)
    assert [where[item.name].partition("/")[0] for item in items] == ["media", "data:image", "data:image"]


@pytest.mark.parametrize(("count", "most", "expected"), [(5, 9, [0, 1, 2, 3, 4]), (10, 4, [0, 3, 6, 9]), (3, 1, [0])])
def test_spread_is_even_and_reaches_the_ends(count, most, expected):
    assert list(spread(count, most)) == expected


@pytest.mark.parametrize(
    ("value", "digits", "text"), [(0.1234, 2, "+0.12"), (-0.1, 1, "−0.1"), (0.0004, 2, "0.00"), (-0.0004, 2, "0.00")]
)
def test_differences_carry_a_sign_unless_they_round_to_zero(value, digits, text):
    assert labels.signed(value, digits) == text


def test_numbers_without_a_value():
    assert labels.plain(float("inf"), 2) == "∞"
    assert labels.plain(float("nan"), 2) == "–"
    assert labels.plain(-3.14159, 2) == "−3.14"


def test_an_interval_without_zero_never_seems_to_touch_it():
    assert labels.interval_digits(-0.012, -0.0004, 3) == 4
    assert labels.interval_digits(-0.012, -0.0006, 3) == 3
    assert labels.interval_digits(-0.01, 0.0004, 3) == 3


def test_arms_stand_in_the_order_of_the_study():
    names = ["recurrent-d", "ladder-10-x", "bicubic", "ladder-2-vgg", "unknown", "seed-faithful", "basicvsr-bi", "rbpn"]
    ordered = sorted(names, key=labels.arm_order)
    assert ordered == [
        "bicubic",
        "rbpn",
        "seed-faithful",
        "ladder-2-vgg",
        "ladder-10-x",
        "recurrent-d",
        "basicvsr-bi",
        "unknown",
    ]
    assert labels.arm("ladder-2-vgg").what == "VGG inputs normalised as it was trained"
    assert all(labels.arm(name).what for name in ARMS)


def test_a_metric_with_a_value_of_the_truth_has_no_direction_but_its_distance_has():
    assert labels.metric("warping_error").better is None
    assert labels.metric("warping_error").compared == ("warping error x1000, distance from the truth's", "lower")
    assert labels.metric("psnr").compared == ("PSNR, dB", "higher")
    assert labels.metric("unheard-of").compared == ("unheard-of", None)


def test_natural_order_of_frames():
    assert sorted(["10.png", "2.png", "1.png", "a.png"], key=natural) == ["1.png", "2.png", "10.png", "a.png"]


def test_best_needs_a_contest_and_a_direction():
    means = pd.Series({"a": 1.0, "b": 2.0, "c": 2.0, "d": np.nan})
    assert tables.best_of(means, "higher") == {"b", "c"}
    assert tables.best_of(means, "lower") == {"a"}
    assert tables.best_of(means, None) == set()
    assert tables.best_of(means[:1], "higher") == set()


def test_cost_counts_cores(full):
    table = provenance.step_table(load_run(full))
    evaluate = table.data.set_index("step").loc["evaluate"]
    assert evaluate["core hours"] == pytest.approx(41.5 * 2 / 3600, abs=1e-3)


def test_index_survives_a_broken_neighbour(small):
    broken = small.parent / "broken"
    broken.mkdir(exist_ok=True)
    (broken / "report.html").write_text("")
    (broken / "run.json").write_text("{")
    page = soup_of(build.write_index(small.parent))
    assert [link["href"] for link in page.select("h2 a")] == (
        ["small/report.html"] if (small / "report.html").is_file() else []
    )
