"""Pages of executed notebooks: self-contained, linked, accessible, and correct in a real Chromium."""

import re
from pathlib import Path

import nbformat
import notebook_pages
import numpy as np
import pytest
import screenshot
from browsing import check_page, require_chromium

from stvsr.errors import InputError
from stvsr.figures import images, player, style

NAMES = ("00_sanity_check", "06_motion")


def display(shown) -> nbformat.NotebookNode:
    """Return what a kernel would record for a displayed object."""
    from IPython.core.formatters import DisplayFormatter

    data, metadata = DisplayFormatter().format(shown)
    return nbformat.v4.new_output("display_data", data=data, metadata=metadata)


def executed(folder: Path) -> Path:
    """Write two executed notebooks with every kind of output that the series has."""
    frames = np.random.default_rng(0).integers(0, 256, (3, 40, 60, 3), dtype=np.uint8)
    figure = images.contact_sheets([frames])
    prose = nbformat.read(notebook_pages.NOTEBOOKS / "06_motion.ipynb", as_version=4).cells
    for name in NAMES:
        first = nbformat.read(notebook_pages.NOTEBOOKS / f"{name}.ipynb", as_version=4).cells[0]
        code = nbformat.v4.new_code_cell("print('shapes', (1, 2))  # a comment\nvalue: int = 3", execution_count=1)
        rows = "<thead><tr><th></th><th>a</th></tr></thead><tbody><tr><th>b</th><td>1</td></tr></tbody>"
        table = nbformat.v4.new_output("display_data", data={"text/html": f"<table>{rows}</table>"})
        code.outputs = [
            nbformat.v4.new_output("stream", name="stdout", text="shapes (1, 2)\n"),
            nbformat.v4.new_output("stream", name="stderr", text="noise of a progress bar\n"),
            display(style.show(figure, folder / "runs" / name / notebook_pages.READING_ORDER[name])),
            table,
            display(player.show_player({"a": frames, "b": frames[::-1]}, what="noise")),
        ]
        cells = [first, code, *(cell for cell in prose[1:] if cell.cell_type == "markdown")]
        (folder / "executed").mkdir(parents=True, exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "executed" / f"{name}.ipynb")
    return folder


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    out = executed(tmp_path_factory.mktemp("pages"))
    notebook_pages.build_pages(out, keep=True)
    return out


@pytest.mark.slow
def test_pages_load_nothing_and_say_nothing_of_the_machine(pages):
    for path in pages.glob("*.html"):
        page = path.read_text("utf-8")
        outside = re.findall(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)=["'](?!data:)([^"']+)""", page)
        assert outside == []
        assert "progress bar" not in page and str(pages) not in page


@pytest.mark.slow
def test_equations_are_mathml_with_their_numbers_and_code_stays_as_it_is(pages):
    page = (pages / "06_motion.html").read_text("utf-8")
    assert page.count('class="equation"') == 4
    assert "<span>(a)</span>" in page and "\\tag" not in page
    assert "$$" not in page and "<math" in page
    assert notebook_pages.markdown("`a $b$ c` and $x$", pages).startswith("`a $b$ c` and <math")


def test_links_lead_to_pages_and_files(pages):
    index = (pages / "index.html").read_text("utf-8")
    assert [name for name in NAMES if f'href="{name}.html"' in index] == list(NAMES)
    assert index.count("data:image/webp;base64,") == 2
    page = (pages / "00_sanity_check.html").read_text("utf-8")
    assert 'href="index.html"' in page and 'href="06_motion.html"' in page and ".ipynb" not in page
    target = re.search(r"\]\((.+)\)", notebook_pages.markdown("[m](../stvsr/metrics/README.md)", pages))[1]
    assert (pages / target).resolve() == notebook_pages.ROOT / "stvsr" / "metrics" / "README.md"


def test_diagrams_and_figures_are_embedded_with_their_words(pages):
    page = (pages / "06_motion.html").read_text("utf-8")
    assert 'src="data:image/svg+xml;base64,' in page and 'alt="Every target pixel keeps its place' in page
    assert "data:image/png" not in page and 'alt="One window of 3 consecutive frames' in page


def test_names_are_checked(tmp_path):
    with pytest.raises(InputError, match="notebook 09_nothing is unknown"):
        notebook_pages.build_pages(tmp_path, only=["09_nothing"])
    with pytest.raises(InputError, match="no executed notebook"):
        notebook_pages.build_pages(tmp_path, keep=True)
    assert set(notebook_pages.READING_ORDER) == {path.stem for path in notebook_pages.NOTEBOOKS.glob("*.ipynb")}


@pytest.fixture(scope="module")
def chromium():
    require_chromium()
    with screenshot.browser() as browser:
        yield browser


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 768, 1440])
def test_pages_in_a_browser(chromium, pages, width: int):
    for path in sorted(pages.glob("*.html")):
        check_page(chromium, path, width)
