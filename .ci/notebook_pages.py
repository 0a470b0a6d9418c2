"""Execute the notebooks and write them as linked, self-contained HTML pages with an index: `make notebooks`.

    python .ci/notebook_pages.py                       # all of them, into reports/notebooks
    python .ci/notebook_pages.py --only 06_motion      # one of them, and the index of those that are there
    python .ci/notebook_pages.py --keep                # pages from notebooks that were executed before

A page loads nothing: equations become MathML, diagrams and figures are embedded, code is coloured by CSS.
"""

import argparse
import base64
import html
import io
import os
import re
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
import papermill
from jinja2 import Environment
from latex2mathml.converter import convert
from markupsafe import Markup
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from PIL import Image
from pygments.formatters import HtmlFormatter

from stvsr.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
OUT = ROOT / "reports" / "notebooks"
READING_ORDER = {  # notebook -> the figure of its run folder that becomes its thumbnail
    "00_sanity_check": "learning_curve.png",
    "01_data_augmentation": "states.png",
    "06_motion": "fused.png",
    "02_rbpn_pretraining": "given.png",
    "03_adversarial_finetuning": "gradient_bars.png",
    "07_metrics": "sensitivity.png",
    "04_ablation_evaluation": "crops.png",
    "05_upscale_your_video": "crops.png",
}
THUMBNAIL = (480, 300)
FENCES = re.compile(r"(```.*?```|`[^`\n]+`)", re.DOTALL)
MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.DOTALL)
TAG = re.compile(r"\\tag\{(\w+)\}")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
STYLE = """
:root { color-scheme: light; --rule: #c9ccd2; }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body { font: 17px/1.6 system-ui, sans-serif; color: #1d2026; background: #fff; margin: 0; overflow-wrap: break-word; }
header, main, footer { max-width: 62rem; margin: 0 auto; padding: .8rem 1rem; }
header, footer { font-size: 15px; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; }
header { border-bottom: 1px solid var(--rule); } footer { border-top: 1px solid var(--rule); }
h1 { line-height: 1.2; font-size: 1.9rem; } h2 { margin-top: 2.2rem; line-height: 1.25; }
a { color: #0b5f85; }
a:focus-visible, pre:focus-visible, [tabindex]:focus-visible { outline: 3px solid #d55e00; outline-offset: 2px; }
p, ul, ol, h2, h3 { max-width: 44rem; }
img, svg, video, iframe { max-width: 100%; } img { height: auto; }
pre { margin: .5rem 0; padding: .7rem .9rem; border-radius: 6px; font-size: 13.5px; line-height: 1.45; }
.highlight { background: #f8f8f8; border-radius: 6px; margin: .6rem 0; } .highlight pre { overflow-x: auto; }
.jp-OutputArea pre, .output pre { white-space: pre-wrap; background: #fff; border-radius: 0; }
.jp-OutputArea pre, .output pre { border-left: 3px solid var(--rule); }
code { font-size: .9em; } p code, li code { background: #f3f4f6; padding: .05em .3em; border-radius: 3px; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 14px; margin: .6rem 0; }
td, th { padding: .25rem .6rem; border-bottom: 1px solid var(--rule); text-align: right; vertical-align: top; }
.equation { overflow-x: auto; display: flex; align-items: center; gap: 1.5rem; padding: .2rem 0; }
.equation math { font-size: 1.1em; } .equation span { margin-left: auto; color: #454a53; }
.anchor-link, .jp-InputPrompt, .jp-OutputPrompt, .prompt { display: none; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1.4rem; }
.cards { padding: 0; list-style: none; max-width: none; }
.cards img { width: 100%; border: 1px solid var(--rule); border-radius: 6px; background: #fff; }
.cards img { aspect-ratio: 8 / 5; object-fit: contain; }
.cards h2 { font-size: 1.1rem; margin: .5rem 0 .2rem; } .cards p { margin: 0; font-size: 15px; }
"""
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title><style>{{ style }}</style></head><body>
<header><nav aria-label="Series"><a href="index.html">All notebooks</a>{% for link in links %} · \
<a href="{{ link.name }}.html">{{ link.title }}</a>{% endfor %}</nav></header>
<main>{{ body }}</main>
<footer>{{ note }}</footer></body></html>
"""
INDEX = """<h1>The notebooks, executed</h1>
<p>Eight lessons in reading order. Each page is one notebook with its outputs.</p>
<ol class="cards">{% for lesson in lessons %}
<li><a href="{{ lesson.name }}.html"><img src="{{ lesson.thumbnail }}" alt="Figure from: {{ lesson.title }}"></a>
<h2><a href="{{ lesson.name }}.html">{{ lesson.title }}</a></h2><p>{{ lesson.question }}</p></li>{% endfor %}
</ol>"""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """One executed notebook of the series: its name, title, question, and its thumbnail as an address."""

    name: str
    title: str
    question: str
    thumbnail: str


def build_pages(
    out: Path = OUT, *, only: list[str] | None = None, keep: bool = False, parameters: dict | None = None
) -> Path:
    """Execute notebooks and write their pages and the index; return the index's path.

    Args:
        out: folder of the pages. Executed notebooks go to `out/executed`, what they write to `out/runs`.
        only: names of notebooks to execute; None for all of the series.
        keep: execute nothing, use what was executed before.
        parameters: notebook's name -> parameters that differ from its defaults.

    Raises:
        InputError: a name is unknown, or a notebook was not executed.
    """
    names = list(READING_ORDER) if only is None else only
    if unknown := set(names) - set(READING_ORDER):
        raise InputError(f"notebook {', '.join(sorted(unknown))} is unknown: choose from {', '.join(READING_ORDER)}")
    for name in [] if keep else names:
        execute(name, out, (parameters or {}).get(name, {}))
    there = [name for name in READING_ORDER if (out / "executed" / f"{name}.ipynb").is_file()]
    if not there:
        raise InputError(f"no executed notebook is in {out}: run without --keep")
    executed = {name: nbformat.read(out / "executed" / f"{name}.ipynb", as_version=4) for name in there}
    lessons = [describe(name, executed[name], out) for name in there]
    for place, lesson in enumerate(lessons):
        links = [other for at, other in enumerate(lessons) if abs(at - place) == 1]
        page = render(to_html(executed[lesson.name], out), title=lesson.title, links=links)
        (out / f"{lesson.name}.html").write_text(page, "utf-8")
    body = Environment(autoescape=True).from_string(INDEX).render(lessons=lessons)
    (out / "index.html").write_text(render(body, title="The notebooks, executed", links=[]), "utf-8")
    return out / "index.html"


def execute(name: str, out: Path, parameters: dict) -> None:
    """Run one notebook by papermill; its run folder is emptied first, so that nothing of an older run is shown."""
    began, run = time.monotonic(), out / "runs" / name
    shutil.rmtree(run, ignore_errors=True)
    (out / "executed").mkdir(parents=True, exist_ok=True)
    papermill.execute_notebook(
        str(NOTEBOOKS / f"{name}.ipynb"),
        str(out / "executed" / f"{name}.ipynb"),
        {**parameters, "folder": str(run)},
        cwd=str(NOTEBOOKS),
        progress_bar=False,
    )
    print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)


def describe(name: str, notebook: NotebookNode, out: Path) -> Lesson:
    """Read title and question off the first cell, and make the thumbnail from the notebook's figure."""
    first = notebook.cells[0].source
    title = first.splitlines()[0].removeprefix("# ")
    question = re.search(r"\*\*Question\.\*\* (.+)", first)
    figure, thumbnail = out / "runs" / name / READING_ORDER[name], out / f"{name}.webp"
    if figure.is_file():
        with Image.open(figure) as image:
            image = image.convert("RGB")
            image.thumbnail(THUMBNAIL, Image.Resampling.LANCZOS)
            image.save(thumbnail, "webp", quality=80)
    data = base64.b64encode(thumbnail.read_bytes()).decode() if thumbnail.is_file() else ""
    return Lesson(
        name=name, title=title, question=question[1] if question else "", thumbnail=f"data:image/webp;base64,{data}"
    )


def to_html(notebook: NotebookNode, out: Path) -> str:
    """Return the body of an executed notebook: equations as MathML, pictures embedded, tables that scroll."""
    notebook = nbformat.from_dict(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = markdown(cell.source, out)
        else:
            kept = [output for output in cell.outputs if output.get("name") != "stderr"]
            cell.outputs = [output for output in kept if "widget" not in str(list(output.get("data", {})))]
    notebook.cells = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(notebook)
    body = re.sub(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)", _smaller, body)
    body = re.sub(r"<th[^>]*>(?:&nbsp;|\s)*</th>", "<td></td>", body)
    body = re.sub(
        r"(<table.*?</table>)",
        r'<div class="scroll" tabindex="0" role="group" aria-label="Table">\1</div>',
        body,
        flags=re.DOTALL,
    )
    body = re.sub(r'(<div class="highlight[^>]*>)<pre>', r'\1<pre tabindex="0">', body)
    return re.sub(r'<a class="anchor-link".*?</a>', "", body)


def markdown(source: str, out: Path) -> str:
    """Replace equations by MathML, pictures by their data, and links to files by links that hold from `out`."""
    parts = FENCES.split(source)
    parts[::2] = [MATH.sub(_equation, LINK.sub(lambda found: _link(found, out), part)) for part in parts[::2]]
    return "".join(parts)


def _equation(found: re.Match) -> str:
    block, inline = found[1], found[2]
    if inline:
        return convert(inline)
    number = TAG.search(block)
    label = f"<span>({number[1]})</span>" if number else ""
    formula = convert(TAG.sub("", block).strip(), display="block")
    return f'\n<div class="equation" tabindex="0" role="group" aria-label="Equation">{formula}{label}</div>\n'


def _link(found: re.Match, out: Path) -> str:
    picture, text, target = found.groups()
    if re.match(r"[a-z]+:|#", target):
        return found[0]
    path = (NOTEBOOKS / target).resolve()
    if picture:
        kind = "svg+xml" if path.suffix == ".svg" else path.suffix[1:]
        data = base64.b64encode(path.read_bytes()).decode()
        return f'<img src="data:image/{kind};base64,{data}" alt="{html.escape(text)}">'
    if path.suffix == ".ipynb":
        return f"[{text}]({path.stem}.html)"
    return f"[{text}]({Path(os.path.relpath(path, out.resolve())).as_posix()})"


def _smaller(found: re.Match) -> str:
    """Turn an embedded PNG into lossless WebP, about half the bytes."""
    with Image.open(io.BytesIO(base64.b64decode(found[1]))) as image:
        file = io.BytesIO()
        image.convert("RGB").save(file, "webp", lossless=True, method=3)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def render(body: str, *, title: str, links: list[Lesson]) -> str:
    """Return a whole page."""
    colours = HtmlFormatter(style="default").get_style_defs(".highlight")
    return (
        Environment(autoescape=True)
        .from_string(PAGE)
        .render(
            title=title,
            style=Markup(STYLE + colours),
            links=links,
            body=Markup(body),
            note="Made by make notebooks. The notebooks themselves are in the folder notebooks.",
        )
    )


def main(arguments: list[str] | None = None) -> int:
    """Build the pages that the command line asks for and print where the index is."""
    parser = argparse.ArgumentParser(prog="python .ci/notebook_pages.py", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the pages (default reports/notebooks)")
    parser.add_argument("--only", nargs="+", help="names of notebooks to execute")
    parser.add_argument("--keep", action="store_true", help="execute nothing, use what was executed before")
    options = parser.parse_args(arguments)
    try:
        print(build_pages(options.out, only=options.only, keep=options.keep))
    except InputError as error:
        print(f"stvsr: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
