"""Figures as inline SVG: in the page's own font and colours, light and dark, no id that could meet another figure's."""

import io
import re

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.figure import Figure

from stvsr import figure_style as style

# Names of the page's CSS variables, so that a figure follows the reader's light or dark theme.
THEME = {style.INK: "ink", style.MUTED: "muted", style.RULE: "rule", style.PAPER: "paper"} | {
    colour: f"c{place}" for place, colour in enumerate(style.PALETTE, start=1)
}
NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def to_svg(figure: Figure, name: str) -> Markup:
    """Return the figure as an SVG element with its alt text; `name` keeps its ids apart from those of other figures.

    Text stays text (in the page's font), colours become the page's variables, numbers lose digits nobody sees. The same
    figure and name give the same bytes.
    """
    file = io.BytesIO()
    with rc_context({**style.STYLE, "svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", metadata=NO_METADATA)
    text = file.getvalue().decode()
    body = re.sub(r"<style.*?</style>", "", text[text.index("<defs") : text.rindex("</svg>")], flags=re.DOTALL)
    body = re.sub(r"<[^>]+>", lambda tag: _slim(tag[0], name), body)
    body = re.sub(r">\s+<", "><", body)
    width, height = (inches * 72 for inches in figure.get_size_inches())
    # 72 points of the drawing are shown as 96 CSS pixels, the size its letters were chosen for
    return Markup(
        f'<svg class="chart" viewBox="0 0 {width:.5g} {height:.5g}" style="--width: {width * 4 / 3:.0f}px" role="img"'
        f' aria-label="{escape(style.alt(figure))}">{body}</svg>'
    )


def _slim(tag: str, name: str) -> str:
    """Rewrite one tag: ids and references get the figure's name, colours the page's variables, numbers two decimals."""
    if tag.startswith("<g "):
        tag = re.sub(r' id="[^"]*"', "", tag)
    tag = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', tag)
    tag = re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", tag)
    tag = re.sub(r'xlink:href="#', f'href="#{name}-', tag).replace("xlink:href", "href")
    tag = re.sub(r'font-family: [^;"]*;? ?', "", tag)
    tag = re.sub(r' transform="rotate\(-0 [^"]*"', "", tag)
    tag = re.sub(r"#[0-9a-f]{6}\b", lambda colour: f"var(--{THEME[colour[0]]})" if colour[0] in THEME else colour[0], tag)
    if "base64" in tag:
        return re.sub(r"\s*\n\s*", "", tag)
    return re.sub(r"(\d\.\d\d)\d+", r"\1", re.sub(r"\s+", " ", tag))
