"""Checks of a page in a real Chromium: no complaints, nothing wider than the window, alt text, accessibility."""

import os
from pathlib import Path

import pytest
import screenshot


def require_chromium() -> None:
    """Skip the test where no Chromium or Playwright is installed; on CI, fail instead."""
    pytest.importorskip("playwright")
    if screenshot.find_browser() is None:
        reason = "no Chromium is installed: apt-get install chromium"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)


def check_page(browser, path: Path, width: int) -> None:
    """Open a page of the notebooks from disk, without a network, and assert that it is sound at this width."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page, complaints = browser.new_page(offline=True, viewport={"width": width, "height": 900}), []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if _outside(request.url) else None)
    try:
        page.goto(path.resolve().as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path.name
        shown = "[...document.images].filter((image) => image.offsetParent)"
        assert page.evaluate(f"{shown}.every((image) => image.complete && image.naturalWidth > 0 && image.alt)")
        for number in range(page.locator(".stvsr-player iframe").count()):
            words = page.frame_locator(".stvsr-player iframe").nth(number).locator("#words")
            assert "left of the line" in words.text_content()
            assert page.locator(".stvsr-player > div").nth(number).is_hidden()  # the picture is for untrusted notebooks
        assert complaints == []  # before axe, which posts messages to frames that it was not loaded into
        violations = axe.Axe().run(page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"][:200]) for each in violations] == []
    finally:
        page.close()


def _outside(url: str) -> bool:
    return not url.startswith(("file:", "data:", "about:", "blob:"))
