"""A picture that is one result on the left of a handle and another on its right, as self-contained HTML."""

import base64
import html
import io
from pathlib import Path

import numpy as np
from PIL import Image

from stvsr.errors import InputError

PAGE = """<figure class="stvsr-slider" style="margin:0;max-width:{width}px;--cut:50%">
<style>
.stvsr-slider .stage {{ position: relative; line-height: 0; }}
.stvsr-slider .stage img {{ width: 100%; height: auto; }}
.stvsr-slider .stage img + img {{ position: absolute; inset: 0; clip-path: inset(0 0 0 var(--cut)); }}
.stvsr-slider .stage span {{ position: absolute; inset: 0 auto 0 var(--cut); width: 2px; background: #fff; outline: 1px
solid #000; }} .stvsr-slider input {{ width: 100%; margin: .5em 0 0; accent-color: #0b6e8f; }} .stvsr-slider figcaption
{{ display: flex; justify-content: space-between; font: 14px/1.4 system-ui, sans-serif; }} </style> <div
class="stage"><img src="{left}" alt="{left_alt}"><img src="{right}" alt="{right_alt}"><span></span></div> <input
type="range" min="0" max="100" value="50" aria-label="Boundary between {left_label} and {right_label}, percent from the
left"
 oninput="this.closest('figure').style.setProperty('--cut', this.value + '%')">
<figcaption><span>{left_label}</span><span>{right_label}</span></figcaption>
</figure>"""


def slider(left: np.ndarray, right: np.ndarray, *, labels: tuple[str, str], what: str) -> str:
    """Return HTML in which a handle, moved by mouse or arrow keys, uncovers `left` or `right`.

    Args:
        left, right: uint8 (H, W, 3) RGB of one size.
        labels: what made each of them.
        what: the picture's content, for the alternative text.

    Raises:
        InputError: the sizes differ.
    """
    if left.shape != right.shape:
        raise InputError(f"slider over {left.shape} and {right.shape}: both pictures must have one size")
    left_label, right_label = (html.escape(label) for label in labels)
    return PAGE.format(
        width=left.shape[1], left=_data(left), right=_data(right), left_label=left_label, right_label=right_label,
        left_alt=html.escape(f"{what}, {labels[0]}"), right_alt=html.escape(f"{what}, {labels[1]}"),
    )  # fmt: skip


def show_slider(left: np.ndarray, right: np.ndarray, *, labels: tuple[str, str], what: str, path: Path | None = None):
    """Return `slider` as something a notebook displays; also save it as a page when `path` is given."""
    from IPython.display import HTML

    page = slider(left, right, labels=labels, what=what)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(what)}</title>{page}</html>',
            "utf-8",
        )
    return HTML(page)


def _data(frame: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "webp", lossless=True, quality=60)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
