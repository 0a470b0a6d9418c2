"""Executed notebooks as appendices: nbconvert's plain template, without scripts and without the network."""

import base64
import io
import re
from dataclasses import dataclass
from pathlib import Path

import bleach
import nbformat
from nbconvert import HTMLExporter
from PIL import Image

from stvsr.report.media import Item
from stvsr.report.run import Run

# A notebook's output may contain anything, so the document's own policy forbids scripts and the network, as does the
# frame around it.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; media-src data:"
PNG = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")
TAGS = [
    "a", "abbr", "b", "blockquote", "br", "caption", "code", "dd", "del", "details", "div", "dl", "dt", "em",
    "figcaption", "figure", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "kbd", "li", "ol", "p", "pre", "s",
    "small", "span", "strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "tt", "u",
    "ul",
]  # fmt: skip


ATTRIBUTES = {
    "*": {"class", "title"}, "a": {"href"}, "img": {"src", "alt", "width", "height"},
    "td": {"colspan", "rowspan"}, "th": {"colspan", "rowspan", "scope"},
}  # fmt: skip


ACTIVE = re.compile(r"<(script|style)\b.*?</\1\s*>|<!--.*?-->", re.DOTALL | re.IGNORECASE)  # with their text
ANSI = {
    "red": "#c62f2f",
    "green": "#2a8a4a",
    "yellow": "#9a6b00",
    "blue": "#2f6fc6",
    "cyan": "#0d8a94",
    "magenta": "#a3449a",
}
STYLE = """
:root { color-scheme: light dark; --rule: #8884; --soft: #8881; }
body { font: 15px/1.55 system-ui, sans-serif; margin: 1rem auto; max-width: 52rem; padding: 0 1rem; overflow-wrap:
break-word; } pre { background: var(--soft); padding: .6rem .8rem; border-radius: 6px; overflow-x: auto; font-size:
13px; white-space: pre-wrap; } img, svg { max-width: 100%; height: auto; } img { background: #fff; border-radius: 4px; }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; } td, th { padding: .2rem .6rem;
border-bottom: 1px solid var(--rule); text-align: right; } .anchor-link, .jp-InputPrompt, .jp-OutputPrompt, .prompt {
display: none; } .output_stderr pre, .jp-RenderedText[data-mime-type*="stderr"] pre { border-left: 3px solid #c80; }
""" + "".join(f".ansi-{name}-fg, .ansi-{name}-intense-fg {{ color: {colour}; }}\n" for name, colour in ANSI.items())


@dataclass(frozen=True, kw_only=True)
class Appendix:
    """One executed notebook as an HTML document."""

    step: str
    notebook: str
    failed: bool
    item: Item


def appendices(run: Run) -> list[Appendix]:
    """Return the executed notebooks of all steps in the order of the manifest; a broken notebook is left out."""
    status = {step["name"]: step for step in run.steps}
    folders = [run.folder / "steps" / name for name in status]
    found = []
    for folder in folders:
        path = folder / "notebook.ipynb"
        step = status[folder.name]
        if path.is_file() and (document := to_html(path, folder.name)):
            item = Item(data=run.local(document).encode(), mime="text/html", rank=0.9)
            found.append(
                Appendix(
                    step=folder.name,
                    notebook=str(step.get("notebook") or ""),
                    failed=step["status"] == "failed",
                    item=item,
                )
            )
    return found


def to_html(path: Path, title: str) -> str | None:
    """Return an executed notebook as a whole HTML document without scripts, None when it is not a notebook."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception:  # nbformat raises its own, JSON's and attribute errors for other files
        return None
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(notebook)
    body = bleach.clean(
        ACTIVE.sub("", body), tags=TAGS, attributes=_allowed, protocols=["http", "https", "mailto", "data"], strip=True
    )
    body = PNG.sub(_smaller, body)
    safe_title = title.replace("&", "&amp;").replace("<", "&lt;")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><base target="_blank">'
        f"<title>{safe_title}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>"
    )


def _allowed(tag: str, name: str, value: str) -> bool:
    """Return whether an attribute is kept: classes, labels, links outwards, pictures embedded in the notebook."""
    if name == "src":
        return tag == "img" and value.startswith("data:image/")
    if name == "href":
        return tag == "a" and value.startswith(("http://", "https://"))
    return name in ATTRIBUTES["*"] | ATTRIBUTES.get(tag, set())


def _smaller(match: re.Match) -> str:
    """Turn an embedded PNG into WebP, lossless for drawings: about half the bytes."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(match[1]))) as image:
            file = io.BytesIO()
            image.convert("RGBA" if "A" in image.getbands() else "RGB").save(file, "webp", lossless=True, method=3)
    except (OSError, ValueError):
        return match[0]
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
