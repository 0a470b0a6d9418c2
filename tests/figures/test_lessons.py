"""Figures of the lessons: alt text with the values that are shown; the source of a function as Markdown."""

import numpy as np
import pandas as pd
import pytest

from stvsr import losses
from stvsr.figures import lessons, source, style
from stvsr.models.rbpn import RBPN

LINES = pd.DataFrame({"n": [1, 2, 1, 2], "dB": [1.0, 2.0, 3.0, 4.0], "name": ["a", "a", "b", "b"]})
PICTURE = np.zeros((8, 10, 3), np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("figure", "words"),
    [
        (lessons.captioned_rows([{"left": PICTURE, "right": PICTURE}], "Two."), "row 1: left, right"),
        (lessons.signed_maps({"dx": np.full((4, 5), -2.0)}, "Flow."), "dx 2.000"),
        (lessons.feature_maps({"H_k": np.ones((9, 4, 5))}, "Maps."), "H_k of 9 channels"),
        (lessons.masked_frames({"t+1": (PICTURE, np.zeros((8, 10), bool))}, "Hidden."), "t+1 100.0%"),
        (lessons.lines(LINES, x="n", y="dB", label="name"), "b from 3.000 to 4.000"),
        (lessons.bars({"one": 1.5, "all": float("inf")}, title="PSNR", unit="dB"), "one 1.500; all inf"),
        (lessons.dots(pd.DataFrame({"a": [27.5, 26.0]}, index=["Y", "RGB"]), title="T", unit="dB"), "RGB: a 26.00"),
        (lessons.dots(pd.DataFrame({"a": [1.0], "b": [2.0]}, index=["x"]), title="T", unit="dB"), "x: a 1.00, b 2.00"),
        (lessons.sampling_positions({"t": np.array([[0.5, 0.25]])}, scale=4, title="Where"), "t at (0.50, 0.25)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_alt_text_names_what_is_shown(figure, words: str):
    assert words in style.alt(figure)
    figure.draw_without_rendering()


def test_a_gradient_of_zero_is_written_out_and_one_of_another_arm_is_not():
    norms = {"2019": {"pixel": 1e-3, "adversarial": 0.0}, "now": {"pixel": 1.0, "adversarial": 1e-4, "extra": 1e-2}}
    figure = lessons.gradient_bars(norms, title="Gradients")
    texts = [text.get_text().strip() for text in figure.axes[0].texts]
    assert texts.count("exactly 0") == 1
    assert texts.count("not in this arm") == 1
    assert "2019: pixel 0.001, adversarial exactly 0" in style.alt(figure)


def test_sensitivity_map_writes_every_number():
    values = pd.DataFrame({"PSNR": [30.0, 100.0], "tOF": [0.00001, np.nan]}, index=["blur", "frozen"])
    figure = lessons.sensitivity_map(values, values / 100, title="Map")
    assert [text.get_text() for text in figure.axes[0].texts] == ["30", "0", "100", "–"]
    assert "blur: PSNR 30, tOF 1e-05" in style.alt(figure)


def test_source_names_file_and_line_and_is_a_python_block():
    shown = source.show_source(losses.pixel_loss)
    assert shown.data.startswith("`stvsr/losses.py`, line ")
    assert "```python\ndef pixel_loss(" in shown.data and shown.data.endswith("```")
    assert "```python\ndef forward(self" in source.source_of(RBPN.forward)  # methods are dedented
