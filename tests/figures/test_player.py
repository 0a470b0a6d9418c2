"""The comparison player: what it carries, what it refuses, and how it behaves in a real Chromium."""

import os
import re

import numpy as np
import pytest
import screenshot

from stvsr.errors import InputError
from stvsr.figures import player

PIXELS = "[...document.getElementById('picture').getContext('2d').getImageData({}, 10, 1, 1).data].slice(0, 3)"


def clips() -> dict[str, np.ndarray]:
    dark, light = np.full((3, 40, 60, 3), 40, np.uint8), np.full((3, 40, 60, 3), 200, np.uint8)
    light[2] = 90
    return {"bicubic": dark, "<net>": light}


def test_page_carries_every_frame_and_escapes_names():
    page = player.player(clips(), what="a <wave>")
    assert page.count("data:image/webp;base64,") == 6
    assert "<net>" not in page and "a <wave>" not in page
    assert not re.search(r"""(?:src|href)=["']?https?:""", page)


def test_output_has_a_picture_where_scripts_may_not_run(tmp_path):
    shown = player.show_player(clips(), what="waves", path=tmp_path / "p" / "player.html").data
    assert (tmp_path / "p" / "player.html").read_text("utf-8").startswith("<!doctype html>")
    without = re.sub(r"<style.*?</style>|<iframe.*?</iframe>", "", shown, flags=re.DOTALL)  # what a sanitiser leaves
    assert 'alt="waves, frame 2 of 3: bicubic, &lt;net&gt;, from left to right"' in without
    assert "data:image/webp;base64," in without


def test_refuses_one_clip_and_clips_of_different_shapes():
    with pytest.raises(InputError, match="compares two clips or more, got a"):
        player.player({"a": clips()["bicubic"]}, what="x")
    with pytest.raises(InputError, match="clips of one shape"):
        player.player({"a": clips()["bicubic"], "b": clips()["bicubic"][:2]}, what="x")


@pytest.fixture(scope="module")
def chromium():
    if screenshot.find_browser() is None:
        reason = "no Chromium is installed: apt-get install chromium"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    pytest.importorskip("playwright")
    with screenshot.browser() as browser:
        yield browser


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1440])
def test_works_in_a_browser_without_a_network(chromium, tmp_path, width: int):
    player.show_player(clips(), what="waves", path=tmp_path / "player.html")
    page, complaints = chromium.new_page(offline=True, viewport={"width": width, "height": 700}), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((tmp_path / "player.html").as_uri())
    page.wait_for_function("document.getElementById('words').textContent.includes('left of the line')")
    left, right = page.evaluate(PIXELS.format(5)), page.evaluate(PIXELS.format(55))
    assert abs(left[0] - 40) < 6 and abs(right[0] - 200) < 6
    page.locator("#frame").focus()
    page.keyboard.press("End")
    assert page.locator("#frame-output").text_content() == "3 of 3"
    assert abs(page.evaluate(PIXELS.format(55))[0] - 90) < 6
    page.click("[data-mode=difference]")
    assert abs(page.evaluate(PIXELS.format(5))[0] - 255) < 6  # 128 + 4 * 50, clipped
    page.click("[data-mode=lens]")
    assert "enlarged 4 times" in page.locator("#words").text_content()
    page.click("[data-mode=blink]")
    assert "alternates" in page.locator("#words").text_content()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page).response["violations"]
    assert [violation["id"] for violation in found] == []
    page.close()
    assert complaints == []
