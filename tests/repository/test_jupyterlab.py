"""Run All in a real JupyterLab, driven by Playwright, small: one notebook, with STVSR_LAB=all every one."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import screenshot
from browsing import require_chromium
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from small_notebooks import SMALL, small_parameters

from stvsr.study.study_file import NOTEBOOKS

SETTINGS = {  # every cell stays in the page; nothing is asked and nothing fetched from outside
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"checkForUpdates": False, "fetchNews": "false"},
}
LAB_START, RUN_ALL = 90, 300  # seconds
ALWAYS = ("00_sanity_check",)
# every notebook is executed by test_notebook_pages.py; in JupyterLab all eight take minutes
ON_REQUEST = pytest.mark.skipif(os.environ.get("STVSR_LAB") != "all", reason="set STVSR_LAB=all for all notebooks")
CODE_CELLS = """() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells
    .filter((cell) => cell.cell_type === "code")"""
STATE = f"""() => {{
    const cells = ({CODE_CELLS})();
    return {{
        left: cells.filter((cell) => cell.source !== "" && cell.execution_count === null).length,
        errors: cells.flatMap((cell) => cell.outputs).filter((output) => output.output_type === "error")
            .map((output) => `${{output.ename}}: ${{output.evalue}}`),
        kernel: window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status,
    }};
}}"""


@pytest.fixture(scope="module")
def chromium():
    require_chromium()
    with screenshot.browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Serve a copy of the notebooks by JupyterLab, away from the user's settings; yield (folder, address, token)."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("lab")
    shutil.copytree(NOTEBOOKS, folder / "notebooks", ignore=shutil.ignore_patterns("runs"))
    for name, values in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), "utf-8")
    places = {
        "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython", "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }  # fmt: skip
    log = home / "lab.log"
    options = ("--no-browser", "--ip=127.0.0.1", "--port=0", "--allow-root", "--expose-app-in-browser")
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options, f"--ServerApp.root_dir={folder}"],
            env=os.environ | {name: str(home / place) for name, place in places.items()},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield folder, *address_of(server, home / "runtime", log)
    finally:
        server.terminate()  # shuts the kernels down, too
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def address_of(server: subprocess.Popen, runtime: Path, log: Path) -> tuple[str, str]:
    """Wait until the server has written where it listens; return (address, token)."""
    end, path = time.monotonic() + LAB_START, runtime / f"jpserver-{server.pid}.json"
    while time.monotonic() < end and server.poll() is None:
        if path.is_file() and (text := path.read_text("utf-8")).endswith("}"):
            found = json.loads(text)
            return found["url"], found["token"]
        time.sleep(0.1)
    pytest.fail(f"JupyterLab did not start within {LAB_START} s:\n{log.read_text('utf-8', 'replace')[-3000:]}")


def open_notebook(page, lab: tuple, path: Path) -> None:
    """Open a notebook of the served folder in a workspace of its own and wait for its kernel."""
    folder, address, token = lab
    place = path.relative_to(folder).as_posix()
    page.goto(f"{address}lab/workspaces/{path.stem}/tree/{place}?reset&token={token}", timeout=1000 * LAB_START)
    page.wait_for_function(
        "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
        timeout=1000 * LAB_START,
    )


def choose(page, menu: str, item: str) -> None:
    """Choose an item of JupyterLab's menu bar as a user does."""
    page.locator("#jp-MainMenu").get_by_text(menu, exact=True).click()
    page.locator(".lm-Menu-itemLabel").get_by_text(re.compile(rf"^{item}$")).click()


def wait_until_done(page) -> None:
    """Wait until every code cell has run; a cell that fails ends the wait."""
    end = time.monotonic() + RUN_ALL
    while (state := page.evaluate(STATE))["errors"] == [] and (state["left"] or state["kernel"] != "idle"):
        assert time.monotonic() < end, f"not done after {RUN_ALL} s: {state}"
        time.sleep(0.3)
    assert state["errors"] == []


@pytest.mark.slow
@pytest.mark.timeout(2 * LAB_START + RUN_ALL + 60)
@pytest.mark.parametrize("name", [name if name in ALWAYS else pytest.param(name, marks=ON_REQUEST) for name in SMALL])
def test_run_all_in_jupyterlab(chromium, lab, name: str, tmp_path: Path):
    path = lab[0] / "notebooks" / f"{name}.ipynb"
    parameters = small_parameters(name, tmp_path)
    nbformat.write(parameterize_notebook(load_notebook_node(str(path)), parameters), path)
    page = chromium.new_page(viewport={"width": 1440, "height": 900})
    try:
        open_notebook(page, lab, path)
        choose(page, "Run", "Run All Cells")
        wait_until_done(page)
        check_what_is_shown(page)
        choose(page, "File", "Save Notebook")
        page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty", timeout=30_000)
        page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    finally:
        page.close()
    saved = nbformat.read(path, as_version=4)
    code = [cell for cell in saved.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code if cell.source)
    pictures = [output for cell in code for output in cell.outputs if "image/png" in output.get("data", {})]
    assert all(output.metadata["image/png"].get("alt") for output in pictures)  # which JupyterLab keeps but ignores
    assert (path.parent / "runs" / name).is_dir(), "results belong to the folder next to the notebook"


def check_what_is_shown(page) -> None:
    """Every figure and diagram is drawn, every player runs, no equation is left as TeX."""
    pictures = page.locator(".jp-RenderedImage img, .jp-MarkdownOutput img")
    assert pictures.count() >= 3
    for number in range(pictures.count()):
        assert pictures.nth(number).evaluate("(image) => image.decode().then(() => image.naturalWidth > 0)")
    for number in range(page.locator(".stvsr-player iframe").count()):
        words = page.frame_locator(".stvsr-player iframe").nth(number).locator("#words")
        assert "left of the line" in words.text_content()
    assert page.locator(".jp-MarkdownOutput").filter(has_text="$$").count() == 0
