"""Take a picture of a report: `python .ci/screenshot.py reports/quick/report.html docs/report.png`."""

import argparse
import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from stvsr.errors import InputError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


def find_browser() -> str | None:
    """Return the path of an installed Chromium, None when there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextlib.contextmanager
def browser() -> Iterator:
    """Start the installed Chromium without a window and yield Playwright's Browser.

    Raises:
        InputError: Playwright or Chromium is not installed.
    """
    path = find_browser()
    if path is None:
        raise InputError("no Chromium found: install it (on Debian and Ubuntu: apt-get install chromium)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise InputError("Playwright is not installed: pip install -e .[test]") from None
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield chromium
        finally:
            chromium.close()


def screenshot(
    report: Path, picture: Path, *, width: int = 1280, height: int = 900, dark: bool = False, full: bool = False
) -> Path:
    """Write a PNG of the report's first screen (or of the whole page) and return its path.

    Args:
        report: an HTML file. picture: the PNG to write.
        width, height: of the window, CSS pixels.
        dark: in the dark theme. full: the whole page instead of the first screen.

    Raises:
        InputError: the report is missing, or there is no browser.
    """
    report, picture = Path(report), Path(picture)
    if not report.is_file():
        raise InputError(f"{report} does not exist: build it with python -m stvsr.report RUN_FOLDER")
    picture.parent.mkdir(parents=True, exist_ok=True)
    with browser() as chromium:
        page = chromium.new_page(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            offline=True,
            reduced_motion="reduce",
        )
        page.goto(report.resolve().as_uri())
        page.screenshot(path=str(picture), full_page=full)
    return picture


def main(arguments: list[str] | None = None) -> int:
    """Take the picture that the command line asks for and print where it is."""
    parser = argparse.ArgumentParser(
        prog="python .ci/screenshot.py", description="Take a picture of a report with Chromium."
    )
    parser.add_argument("report", type=Path, help="report.html")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    parser.add_argument("--width", type=int, default=1280, help="of the window, CSS pixels (default %(default)s)")
    parser.add_argument("--height", type=int, default=900, help="of the window, CSS pixels (default %(default)s)")
    parser.add_argument("--dark", action="store_true", help="in the dark theme")
    parser.add_argument("--full", action="store_true", help="the whole page, not only the first screen")
    options = parser.parse_args(arguments)
    try:
        print(
            screenshot(
                options.report,
                options.picture,
                width=options.width,
                height=options.height,
                dark=options.dark,
                full=options.full,
            )
        )
    except InputError as error:
        print(f"stvsr: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
