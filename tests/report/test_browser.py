"""The report in a real Chromium, from disk and without a network: controls, films, sorting, layout, accessibility."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import screenshot
from PIL import Image
from report_fixture import make_run

from stvsr.report.build import build_report

FILMS = "[...document.querySelectorAll('[data-films]')[0].querySelectorAll('video')]"
SIZES = ((360, 740), (768, 1024), (1440, 900))


@pytest.fixture(scope="module")
def chromium():
    if screenshot.find_browser() is None:
        reason = "no Chromium is installed: apt-get install chromium"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    pytest.importorskip("playwright")
    with screenshot.browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("reports") / "run"
    arms = ("pixel-control", "seed-faithful", "recurrent-d", "recurrent-d-flow")
    make_run(folder, arms=arms, peers=("bicubic",), failed="recurrent-d-flow", measures=("tecogan",), frames=9)
    build_report(folder)
    return folder


class Watched:
    """A page that records console messages, errors and requests for anything but a local file."""

    def __init__(self, chromium, path: Path, **settings: object) -> None:
        self.complaints: list[str] = []
        self.page = chromium.new_page(offline=True, **{"viewport": {"width": 1440, "height": 900}, **settings})
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message) or dialog.dismiss())
        self.page.on("request", self._note)
        self.page.goto(path.resolve().as_uri())

    def _note(self, request) -> None:
        if not request.url.startswith(("file:", "data:", "about:", "blob:")):
            self.complaints.append(f"asked for {request.url}")


@pytest.fixture
def watch(chromium):
    """Open a page; when the test is over it must have had nothing to complain about."""
    opened = []

    def open_page(path: Path, **settings: object):
        opened.append(Watched(chromium, path, **settings))
        return opened[-1].page

    yield open_page
    for watched in opened:
        watched.page.close()
        assert watched.complaints == []


@pytest.fixture
def page(watch, folder):
    return watch(folder / "report.html")


def until(page, condition: str, seconds: float = 20) -> None:
    """Wait until a JavaScript expression is true; Playwright's way needs `eval`, which the report's policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"never became true: {condition}"
        time.sleep(0.05)


def unfold(page) -> None:
    """Open every fold, the notebooks among them."""
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")


@pytest.mark.slow
def test_opens_at_once_from_disk_without_a_network(watch, folder):
    page = watch(folder / "report.html")
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})  # time on the processor: the machine may be busy
    page.reload()
    spent = {metric["name"]: metric["value"] for metric in session.send("Performance.getMetrics")["metrics"]}
    assert 0 < spent["TaskDuration"] < 2
    assert page.title() == "Fixture of the report's tests"
    unfold(page)
    page.wait_for_timeout(300)
    shown = "[...document.images].filter((image) => image.loading !== 'lazy')"
    assert page.evaluate(f"{shown}.every((image) => image.complete && image.naturalWidth > 0)")


@pytest.mark.slow
def test_divider_moves_by_keyboard_and_mouse(page):
    wipe = page.locator(".wipe")
    cut = "getComputedStyle(document.querySelector('.layer.right')).clipPath"
    start = page.evaluate(cut)
    wipe.focus()
    page.keyboard.press("ArrowLeft")
    assert wipe.input_value() == "49.5"
    assert page.evaluate(cut) != start
    page.keyboard.press("Home")
    assert wipe.input_value() == "0"
    wipe.scroll_into_view_if_needed()
    box = wipe.bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    assert 70 < float(wipe.input_value()) < 80
    line, stage = page.locator(".stage .line").bounding_box(), page.locator(".stage").bounding_box()
    assert abs((line["x"] - stage["x"]) / stage["width"] - 0.75) < 0.03  # what is drawn is where the pointer is


@pytest.mark.slow
def test_any_two_methods_on_any_clip_and_frame(page):
    left, right = page.locator(".layer.left img"), page.locator(".layer.right img")
    options = page.locator("[data-role=left] option").all_text_contents()
    assert options == ["truth", "bicubic", "pixel control", "2019 code", "recurrent D"]
    assert left.get_attribute("alt").startswith("bicubic, clip waves, frame ")
    page.select_option("[data-role=left]", "truth")
    page.select_option("[data-role=right]", "pixel-control")
    page.select_option("[data-role=clip]", label="waves-mirrored")
    page.locator("[data-role=frame]").focus()
    page.keyboard.press("End")
    assert page.locator("[data-role=frame-output]").text_content() == "8 of 0–8"
    assert left.get_attribute("alt") == "truth, clip waves-mirrored, frame 8"
    assert right.get_attribute("alt") == "pixel control, clip waves-mirrored, frame 8"
    before = (left.get_attribute("src"), right.get_attribute("src"))
    page.click("[data-role=swap]")
    assert (right.get_attribute("src"), left.get_attribute("src")) == before
    page.select_option("[data-role=right]", "bicubic")
    page.keyboard.press("Tab")
    page.locator("[data-role=frame]").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    readout = page.locator("[data-role=readout]").inner_text()
    assert "PSNR" in readout
    assert "right: bicubic" in readout


@pytest.mark.slow
def test_zoom_shows_plain_pixels_and_can_be_moved(page):
    page.select_option("[data-role=zoom]", "4")
    image = page.locator(".layer.left img")
    assert image.evaluate("(image) => new DOMMatrix(getComputedStyle(image).transform).a") == 4
    assert image.evaluate("(image) => getComputedStyle(image).imageRendering") == "pixelated"
    origin = "(image) => getComputedStyle(image).transformOrigin"
    before = image.evaluate(origin)
    page.locator("[data-role=across]").focus()
    page.keyboard.press("Home")
    assert image.evaluate(origin) != before
    page.select_option("[data-role=zoom]", "1")
    assert page.locator(".pan").first.is_hidden()


@pytest.mark.slow
def test_comparison_plays_and_stops(page):
    output = page.locator("[data-role=frame-output]")
    before = output.text_content()
    page.click("[data-role=play]")
    until(page, f"document.querySelector('[data-role=frame-output]').textContent !== {before!r}")
    page.click("[data-role=play]")
    assert page.locator("[data-role=play]").get_attribute("aria-pressed") == "false"


@pytest.mark.slow
def test_films_play_together_and_step(page):
    states = f"{FILMS}.map((video) => [video.paused, video.currentTime])"
    assert all(paused for paused, _ in page.evaluate(states))
    first = page.locator("[data-films]").first
    first.scroll_into_view_if_needed()
    first.locator("[data-role=all]").click()
    until(page, f"{states}.every(([paused, time]) => !paused && time > 0.2)")
    first.locator("[data-role=all]").click()
    until(page, f"{states}.every(([paused]) => paused)")
    first.locator("[data-role=forward]").click()
    page.wait_for_timeout(200)
    times = [time for _, time in page.evaluate(states)]
    assert max(times) - min(times) < 0.02
    other_scene = "[...document.querySelectorAll('[data-films]')[1].querySelectorAll('video')]"
    assert page.evaluate(f"{other_scene}.every((video) => video.paused && video.currentTime === 0)")


@pytest.mark.slow
def test_a_single_film_starts_and_stops_all_others_of_its_scene(page):
    page.evaluate(f"{FILMS}[2].play()")
    until(page, f"{FILMS}.every((video) => !video.paused)")
    page.evaluate(f"{FILMS}[1].pause()")
    until(page, f"{FILMS}.every((video) => video.paused)")


@pytest.mark.slow
def test_headings_sort_by_value_with_mouse_and_keyboard(page):
    table = page.locator("#table-scores-tecogan")
    column = table.locator("tbody tr td:nth-child(2)")
    heading = table.locator("thead th").nth(1)
    heading.locator("button").click()

    def values() -> list[float]:
        return [
            float(text) for text in column.evaluate_all("(cells) => cells.map((cell) => cell.dataset.sort)") if text
        ]

    assert heading.get_attribute("aria-sort") == "ascending"
    assert values() == sorted(values())
    assert "failed" in column.last.text_content()  # what has no value comes last, whichever way
    heading.locator("button").focus()
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert values() == sorted(values(), reverse=True)
    assert "failed" in column.last.text_content()
    table.locator("thead th").first.locator("button").click()
    assert heading.get_attribute("aria-sort") is None
    names = table.locator("tbody th").evaluate_all("(cells) => cells.map((cell) => cell.dataset.sort)")
    assert names == sorted(names)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_nothing_overflows(watch, folder, width, height):
    page = watch(folder / "report.html", viewport={"width": width, "height": height})
    unfold(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = """() => [...document.querySelectorAll('main *')].filter((element) => {
        const box = element.getBoundingClientRect();
        if (box.width === 0 || (box.right <= innerWidth + 1 && box.left >= -1)) return false;
        for (let parent = element.parentElement; parent; parent = parent.parentElement)
            if (getComputedStyle(parent).overflowX !== 'visible' && parent !== document.body) return false;
        return true;
    }).map((element) => element.outerHTML.slice(0, 80))"""
    assert page.evaluate(outside) == []


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1440, "dark"), (360, "light")])
def test_axe_finds_no_violation(watch, folder, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = watch(folder / "report.html", viewport={"width": width, "height": 900}, color_scheme=scheme)
    unfold(page)
    page.locator("iframe").evaluate_all(
        "(frames) => frames.forEach((frame) => frame.remove())"
    )  # sandboxed: axe cannot enter
    found = axe.run(page)
    assert found.violations_count == 0, found.generate_report()
    assert {"color-contrast", "image-alt", "label", "heading-order"} <= {
        rule["id"] for rule in found.response["passes"]
    }


@pytest.mark.slow
def test_index_opens_and_leads_to_the_report(watch, folder):
    page = watch(folder.parent / "index.html")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    assert axe.run(page).violations_count == 0
    page.click("h2 a")
    page.wait_for_selector("#question")


@pytest.mark.slow
def test_focus_goes_down_the_page_and_can_skip_the_navigation(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["y"] >= 0
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")
    order = []
    for _ in range(25):
        order.append(page.evaluate("document.activeElement.getBoundingClientRect().top + scrollY"))
        page.keyboard.press("Tab")
    assert all(after > before - 60 for before, after in itertools.pairwise(order))  # same row, or further down


@pytest.mark.slow
def test_without_scripts_everything_can_still_be_read(watch, folder):
    page = watch(folder / "report.html", java_script_enabled=False)
    for side in ("left", "right"):
        assert page.locator(f".layer.{side} img").bounding_box()["width"] > 300
    assert page.locator(".controls").is_hidden()
    assert page.locator("#table-scores-tecogan").is_visible()
    assert page.locator("video").first.is_visible()


@pytest.mark.slow
def test_prints(watch, folder):
    page = watch(folder / "report.html")
    page.emulate_media(media="print")
    assert page.locator(".top").is_hidden()
    assert page.locator(".controls").is_hidden()
    assert page.locator("#limits").is_visible()
    assert page.pdf(format="A4")[:5] == b"%PDF-"


@pytest.mark.slow
def test_reduced_motion_stops_smooth_scrolling(watch, folder):
    page = watch(folder / "report.html", reduced_motion="reduce")
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"


@pytest.mark.slow
def test_dark_theme_is_dark_and_reaches_into_the_figures(watch, folder):
    shades = {}
    for scheme in ("light", "dark"):
        page = watch(folder / "report.html", color_scheme=scheme)
        paint = "getComputedStyle(document.querySelector('.plane svg.chart text')).fill"
        shades[scheme] = (page.evaluate("getComputedStyle(document.body).backgroundColor"), page.evaluate(paint))
    assert shades["light"][0] != shades["dark"][0]
    assert shades["light"][1] != shades["dark"][1]


@pytest.mark.slow
def test_media_beside_the_report_are_found_and_missed_politely(watch, chromium, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    report = build_report(copy, budget_mb=0.001)
    assert (copy / "media").is_dir()
    page = watch(report)
    assert page.locator(".layer.left img").evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 128
    assert page.locator("video").first.evaluate("(video) => video.play().then(() => true)")
    page.locator("details.notebook summary").first.click()
    frame = page.frame_locator("details.notebook iframe").first
    assert frame.locator("h1").text_content().startswith("One arm")
    alone = shutil.copy(report, tmp_path / "alone.html")
    watched = Watched(chromium, Path(alone))
    watched.page.locator("[data-role=frame]").focus()
    watched.page.keyboard.press("Home")
    until(watched.page, "document.querySelector('[data-role=status]').textContent.includes('media/')")
    watched.page.close()


@pytest.mark.slow
def test_hostile_names_run_nothing(watch, tmp_path):
    clip = '"><img src=x onerror=alert(1)>'
    arms = ("pixel-control", "<svg onload=alert(2)>")
    run = make_run(tmp_path / "run", arms=arms, peers=("bicubic",), clips=(clip,), frames=6, measures=("literature-y",))
    manifest = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(manifest | {"title": "</title><script>alert(3)</script>"}))
    page = watch(build_report(run))
    unfold(page)
    page.select_option("[data-role=right]", label="<svg onload=alert(2)>")
    page.locator("[data-role=frame]").focus()
    page.keyboard.press("End")
    assert clip in page.locator(".layer.right img").get_attribute("alt")
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.slow
def test_screenshot_command_writes_a_picture(chromium, folder, tmp_path):
    target = tmp_path / "new" / "picture.png"
    words = [sys.executable, screenshot.__file__]
    missing = subprocess.run(
        [*words, str(tmp_path / "none.html"), str(target)], capture_output=True, text=True, check=False
    )
    assert missing.returncode == 2
    assert missing.stderr.startswith("stvsr: ")
    subprocess.run(
        [*words, str(folder / "report.html"), str(target), "--width", "800", "--height", "600", "--dark"], check=True
    )
    with Image.open(target) as picture:
        assert picture.size == (800, 600)
        assert sum(picture.convert("RGB").getpixel((5, 300))) < 3 * 60
