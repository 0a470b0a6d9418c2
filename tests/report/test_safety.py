"""Safety and repeatability: nothing is loaded from outside, names stay text, two builds are equal, size has a limit."""

import json
import re
import shutil

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from report_fixture import small_run, soup_of, write_notebook

from stvsr.report import appendix
from stvsr.report.build import build_report
from stvsr.report.run import load_run
from stvsr.report.scenes import read_scenes

OUTWARD = re.compile(r"^(https?:)?//", re.IGNORECASE)


def attributes_of(page: BeautifulSoup):
    for element in page.find_all(True):
        yield from ((element, name, value) for name, value in element.attrs.items())


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_notebooks_lose_scripts_and_outside_pictures(tmp_path):
    html = (
        "<script>alert(1)</script><img src='https://example.org/x.png'>"
        "<a href='javascript:alert(2)' onclick='alert(3)'>go</a>"
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_middle_frame_is_embedded_before_all_others(small):
    scene = read_scenes(load_run(small))[0]
    ranks = [item.rank for item in scene.frames["truth"]]
    assert min(ranks) == ranks[scene.shown.index(scene.middle)]
    assert len(set(ranks)) > 2
