"""Comparison player: two versions of a clip under a wipe, blink, difference or lens, as self-contained HTML."""

import base64
import functools
import html
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stvsr.errors import InputError

STATIC = Path(__file__).parent / "static"
MODES = {"wipe": "Wipe", "blink": "Blink", "difference": "Difference", "lens": "Lens"}

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; \
script-src 'unsafe-inline'">
<style>:root {{ --width: {width}px; }}
{css}</style></head><body><main>
<h1>{title}</h1>
<div class="stage"><canvas id="picture" role="img" tabindex="0" aria-label="{title}"></canvas></div>
<div class="bar" role="group" aria-label="How to compare">{modes}<button type="button" id="play" aria-pressed="false">\
Play</button></div>
<div class="bar"><label class="wide">Frame <input type="range" id="frame" min="0" value="0"></label>\
<output id="frame-output" for="frame"></output>
<label class="wide">Line <input type="range" id="cut" min="0" max="100" value="50"></label></div>
<div class="bar"><label>Left or first <select id="left"></select></label>
<label>Right or second <select id="right"></select></label></div>
<p id="words"></p>
</main><script type="application/json" id="frames">{data}</script>
<script>{js}</script></body></html>"""

# Trusted notebooks and executed pages show the frame and hide the picture; an untrusted notebook strips `style` and
# `iframe`, which leaves the picture.
OUTPUT = """<style>.stvsr-player iframe + div {{ display: none; }}</style>
<div class="stvsr-player" style="max-width:{width}px">
<iframe srcdoc="{page}" title="Comparison player: {title}" style="width:100%;height:{height}px;border:0"></iframe>
<div><img src="{picture}" alt="{alt}" width="{width}"></div>
</div>"""


def player(clips: Mapping[str, np.ndarray], *, what: str, rate: float = 8.0) -> str:
    """Return a whole HTML page in which any two versions of a clip can be compared, frame by frame.

    The frame slider and Play choose the frame; Wipe, Blink, Difference (times 4, on grey) and Lens (4 times enlarged)
    choose the comparison. Mouse, touch and keyboard work; nothing is loaded from outside the page.

    Args:
        clips: name -> uint8 (T, H, W, 3) RGB, two or more, all of one shape.
        what: the content, for the title and the alternative text.
        rate: frames per second of Play.

    Raises:
        InputError: fewer than two clips, or clips of different shapes.
    """
    width = _checked(clips)[2]
    data = {
        "what": what, "rate": rate, "width": width, "height": _checked(clips)[1],
        "clips": {name: [_data(frame) for frame in clip] for name, clip in clips.items()},
    }  # fmt: skip
    modes = "".join(f'<button type="button" data-mode="{key}">{label}</button>' for key, label in MODES.items())
    return PAGE.format(
        title=html.escape(what), width=max(width, 320), css=_static("player.css"), js=_static("player.js"), modes=modes,
        data=json.dumps(data).replace("<", "\\u003c"),
    )  # fmt: skip


def show_player(clips: Mapping[str, np.ndarray], *, what: str, rate: float = 8.0, path: Path | None = None) -> Any:
    """Return the player as something a notebook displays; also save it as a separate page when `path` is given.

    Where scripts may not run (an untrusted notebook), a picture of the middle frame of every clip is left.
    """
    from IPython.display import HTML

    page = player(clips, what=what, rate=rate)
    if path is not None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, "utf-8")
    length, height, width, _ = _checked(clips)
    middle = np.concatenate([clip[length // 2] for clip in clips.values()], axis=1)
    shown = max(width, 320)
    return HTML(
        OUTPUT.format(
            page=html.escape(page, quote=True),
            title=html.escape(what),
            width=shown,
            picture=_data(middle),
            alt=html.escape(f"{what}, frame {length // 2 + 1} of {length}: {', '.join(clips)}, from left to right"),
            height=round(height * shown / width) + 180,
        )
    )


def _checked(clips: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    shapes = {name: clip.shape for name, clip in clips.items()}
    if len(shapes) < 2:
        raise InputError(f"the player compares two clips or more, got {', '.join(shapes) or 'none'}: add one")
    if len(set(shapes.values())) > 1:
        raise InputError(f"the player needs clips of one shape, got {shapes}: crop them or drop frames")
    return next(iter(shapes.values()))


def _data(frame: np.ndarray) -> str:
    """Return a frame as a data URI: WebP at a quality at which its losses are below what is compared."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(frame)).save(file, "webp", quality=92)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


@functools.cache
def _static(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")
