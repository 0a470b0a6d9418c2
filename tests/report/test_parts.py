"""Parts of the report: films, pictures, numbers as text, order of arms."""

import io

import av
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from report_fixture import ARMS

from stvsr.report import labels, media, tables
from stvsr.report.scenes import spread


def test_films_are_h264_with_even_sides_and_their_index_first():
    frames = np.random.default_rng(0).integers(0, 255, (5, 33, 47, 3), dtype=np.uint8)
    data = media.h264(frames, 6)
    assert data == media.h264(frames, 6)
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(io.BytesIO(data)) as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.width, stream.height) == ("h264", "yuv420p", 48, 34)
        assert stream.average_rate == 6
        assert sum(1 for _ in film.decode(video=0)) == 5


def test_lossless_crops_are_lossless():
    frame = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(media.webp(frame, lossless=True))) as image:
        assert (np.asarray(image) == frame).all()


def test_placing_fills_the_room_by_rank():
    items = [media.Item(data=bytes([k]) * 300, mime="image/webp", rank=k) for k in (2, 0, 1)]
    where = media.placed(items, 801)
    assert [where[item.name].partition("/")[0] for item in items] == ["media", "data:image", "data:image"]


@pytest.mark.parametrize(("count", "most", "expected"), [(5, 9, [0, 1, 2, 3, 4]), (10, 4, [0, 3, 6, 9]), (3, 1, [0])])
def test_spread_is_even_and_reaches_the_ends(count, most, expected):
    assert list(spread(count, most)) == expected


@pytest.mark.parametrize(
    ("value", "digits", "text"), [(0.1234, 2, "+0.12"), (-0.1, 1, "−0.1"), (0.0004, 2, "0.00"), (-0.0004, 2, "0.00")]
)
def test_differences_carry_a_sign_unless_they_round_to_zero(value, digits, text):
    assert labels.signed(value, digits) == text


def test_numbers_without_a_value():
    assert labels.plain(float("inf"), 2) == "∞"
    assert labels.plain(float("nan"), 2) == "–"
    assert labels.plain(-3.14159, 2) == "−3.14"


def test_an_interval_without_zero_never_seems_to_touch_it():
    assert labels.interval_digits(-0.012, -0.0004, 3) == 4
    assert labels.interval_digits(-0.012, -0.0006, 3) == 3
    assert labels.interval_digits(-0.01, 0.0004, 3) == 3


def test_arms_stand_in_the_order_of_the_study():
    names = ["recurrent-d", "ladder-10-x", "bicubic", "ladder-2-vgg", "unknown", "seed-faithful", "basicvsr-bi", "rbpn"]
    ordered = sorted(names, key=labels.arm_order)
    assert ordered == [
        "bicubic",
        "rbpn",
        "seed-faithful",
        "ladder-2-vgg",
        "ladder-10-x",
        "recurrent-d",
        "basicvsr-bi",
        "unknown",
    ]
    assert labels.arm("ladder-2-vgg").what == "and VGG inputs normalised as it was trained"
    assert all(labels.arm(name).what for name in ARMS)


def test_a_metric_with_a_value_of_the_truth_has_no_direction_but_its_distance_has():
    assert labels.metric("warping_error").direction is None
    assert labels.metric("tlp100_signed").compared == ("signed tLP x100, distance from the truth's", "lower")
    assert labels.metric("warping_error").compared == ("warping error x1000, distance from the truth's", "lower")
    assert labels.metric("psnr").compared == ("PSNR, dB", "higher")
    assert labels.metric("unheard-of").compared == ("unheard-of", None)


def test_best_needs_a_contest_and_a_direction():
    means = pd.Series({"a": 1.0, "b": 2.0, "c": 2.0, "d": np.nan})
    assert tables.best_of(means, "higher") == {"b", "c"}
    assert tables.best_of(means, "lower") == {"a"}
    assert tables.best_of(means, None) == set()
    assert tables.best_of(means[:1], "higher") == set()
