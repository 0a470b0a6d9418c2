"""Properties that hold for every input: augmentation and its flow, windows, tiles, statistics, stamps, parsers."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stvsr.data import augmentation
from stvsr.data.augmentation import Draw
from stvsr.data.windows import centred, overlapping, window_indices
from stvsr.errors import InputError
from stvsr.evaluation.bootstrap import estimate, holm
from stvsr.inference.tiles import blend_weight, cut, upscale_tiles
from stvsr.runs.files import read_json, read_log
from stvsr.runs.stamp import differences
from stvsr.study.study_file import load_study
from stvsr.video.folders import in_order, natural
from stvsr.warp import warp

STUDY = 'title = "x"\n[[steps]]\nid = "a"\nnotebook = "02_rbpn_pretraining"\nparameters = {seed = 1}\n'
QUICK = settings(max_examples=60, deadline=None)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


# ---- augmentation


@QUICK
@given(
    state=st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    place=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    scale=st.sampled_from([2, 4]),
)
def test_frames_and_motion_agree_under_every_state(state, place, scale):
    """A pattern that moves by (1 row, 2 columns) a frame moves by the transformed vector after augmentation."""
    transpose, flip_rows, flip_columns, reverse = state
    y, x = np.mgrid[: 30 * scale, : 30 * scale]
    values = [(37 * (y - t) + 101 * (x - 2 * t)) % 251 for t in range(3)]
    frames = np.stack([np.stack([value] * 3, axis=-1) for value in values]).astype(np.uint8)
    drawn = Draw(start=0, top=place[0], left=place[1], transpose=transpose, flip_rows=flip_rows,
                 flip_columns=flip_columns, reverse=reverse)  # fmt: skip
    out, margins = augmentation.apply(drawn, frames, patch=10, scale=scale)
    top, bottom, left, right = margins
    assert out.shape == (3, (10 + top + bottom) * scale, (10 + left + right) * scale, 3)
    rows, columns = (2, 1) if transpose else (1, 2)
    rows, columns = (-rows if flip_rows else rows), (-columns if flip_columns else columns)
    if reverse:
        rows, columns = -rows, -columns
    moved = np.roll(out[0], (rows, columns), axis=(0, 1))
    assert np.array_equal(out[1][2:-2, 2:-2], moved[2:-2, 2:-2])


@QUICK
@given(state=st.tuples(st.booleans(), st.booleans(), st.booleans()), reverse=st.booleans())
def test_augmented_frames_are_aligned_by_the_augmented_flow(state, reverse):
    """Warping a neighbour of the augmented clip by (dx, dy), transformed as the frames were, gives the target."""
    transpose, flip_rows, flip_columns = state
    y, x = np.mgrid[:24, :24]
    frames = np.stack([np.stack([(37 * (y - t) + 101 * (x - 2 * t)) % 251] * 3, -1) for t in range(3)]).astype(np.uint8)
    drawn = Draw(start=0, top=2, left=3, transpose=transpose, flip_rows=flip_rows, flip_columns=flip_columns,
                 reverse=reverse)  # fmt: skip
    out, _ = augmentation.apply(drawn, frames, patch=16, scale=1)
    dx, dy = (1, 2) if transpose else (2, 1)  # of the pattern, pixels a frame
    dx, dy = (-dx if flip_columns else dx), (-dy if flip_rows else dy)
    dx, dy = (-dx, -dy) if reverse else (dx, dy)
    video = torch.from_numpy(out).movedim(-1, 1).float() / 255  # (T, 3, H, W)
    flow = torch.tensor([dx, dy]).float().view(1, 2, 1, 1).expand(1, 2, *video.shape[-2:])
    aligned = warp(video[2:], flow)
    assert torch.allclose(aligned[..., 3:-3, 3:-3], video[1:2, :, 3:-3, 3:-3], atol=1e-4)


# ---- windows


@QUICK
@given(length=st.integers(1, 30), half=st.integers(1, 5))
def test_a_stream_gives_the_windows_of_random_access(length, half):
    frames = [np.full((1, 1, 3), index) for index in range(length)]
    found = list(centred(iter(frames), 2 * half + 1))
    assert len(found) == length
    for centre, (window, indices) in enumerate(found):
        expected = window_indices(centre, 2 * half + 1, length)
        assert indices == expected
        assert [int(frame[0, 0, 0]) for frame in window] == expected
        assert indices[half] == centre
        assert all(0 <= index < length for index in indices)


@QUICK
@given(length=st.integers(1, 40), window=st.integers(2, 9), data=st.data())
def test_overlapping_windows_hold_every_frame_and_share_the_overlap(length, window, data):
    overlap = data.draw(st.integers(0, window - 1))
    found = list(overlapping(iter(range(length)), window, overlap))
    assert [more for _, more in found] == [True] * (len(found) - 1) + [False]
    joined = list(found[0][0])
    for frames, _ in found[1:]:
        assert frames[:overlap] == joined[len(joined) - overlap :]
        joined += frames[overlap:]
    assert joined == list(range(length))


# ---- tiles


@QUICK
@given(size=st.tuples(st.integers(8, 70), st.integers(8, 70)), tile=st.integers(16, 40), data=st.data())
def test_tiles_cover_a_frame_and_an_upscaler_without_borders_shows_no_seam(size, tile, data):
    overlap = data.draw(st.integers(1, tile // 2))
    height, width = size
    tiles = cut(height, width, tile, overlap)
    covered = torch.zeros(height, width)
    for part in tiles:
        part.of(covered).add_(blend_weight(part, height, width, overlap, 1))
    assert covered.min() > 0
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))
    twice = image.repeat_interleave(2, 1).repeat_interleave(2, 2)
    (out,) = upscale_tiles(lambda part: [part.of(twice, 2)], size, 1, tile, overlap, 2)
    assert torch.allclose(out, twice, atol=1e-5)


# ---- statistics

VALUES = st.floats(-50, 50, allow_nan=False, width=32)


@pytest.mark.slow
@QUICK
@given(clips=st.integers(1, 8), seeds=st.integers(1, 3), frames=st.integers(4, 9), data=st.data())
def test_an_interval_holds_its_mean_and_moves_and_mirrors_with_the_values(clips, seeds, frames, data):
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    values = [random.normal(data.draw(VALUES), 1, (seeds, frames)) for _ in range(clips)]
    found = estimate(values, draws=199)
    assert found.low <= found.mean <= found.high and 0 <= found.p <= 1
    assert np.isclose(found.mean, np.mean([clip.mean() for clip in values]))
    shift = data.draw(VALUES)
    moved, mirrored = (estimate(changed, draws=199) for changed in ([v + shift for v in values], [-v for v in values]))
    assert np.allclose([moved.low - shift, moved.high - shift], [found.low, found.high], atol=1e-6)
    assert np.allclose([-mirrored.high, -mirrored.low], [found.low, found.high], atol=1e-6)
    assert np.isclose(mirrored.p, found.p)


@QUICK
@given(p_values=st.lists(st.floats(0, 1) | st.just(float("nan")), max_size=12), data=st.data())
def test_holm_raises_p_values_keeps_their_order_and_does_not_depend_on_it(p_values, data):
    adjusted = holm(p_values)
    tested = [(p, q) for p, q in zip(p_values, adjusted, strict=True) if not np.isnan(p)]
    assert all(p <= q <= 1 for p, q in tested)
    assert [q for _, q in sorted(tested)] == sorted(q for _, q in tested)
    if tested:
        assert np.isclose(min(q for _, q in tested), min(1, min(p for p, _ in tested) * len(tested)))
    order = data.draw(st.permutations(range(len(p_values))))
    again = holm([p_values[k] for k in order])
    assert np.array_equal(again, adjusted[list(order)] if len(order) else adjusted, equal_nan=True)


# ---- parsers


def outcome(read):
    """Return what a function returns and an empty text, or None and its InputError's text."""
    try:
        return read(), ""
    except InputError as error:
        return None, str(error)


@QUICK
@given(noise=st.lists(st.binary(max_size=12), max_size=6), place=st.integers(0, 6))
def test_a_log_with_noise_keeps_its_whole_entries_or_is_refused_in_one_line(tmp_path_factory, noise, place):
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    lines = [json.dumps({"step": k, "pixel": k / 10}).encode() for k in range(3)]
    noise = [line.replace(b"\n", b" ").replace(b"\r", b" ") for line in noise]
    path.write_bytes(b"\n".join(lines[:place] + noise + lines[place:]))
    entries, refusal = outcome(lambda: read_log(path))
    assert "\n" not in refusal and (entries is not None or "log.jsonl is not UTF-8" in refusal)
    assert all(type(entry["step"]) is int for entry in entries or ())


@pytest.mark.slow
@QUICK
@given(content=st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_content_in_the_place_of_json_is_an_object_or_one_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("json") / "run.json"
    path.write_bytes(content)
    value, refusal = outcome(lambda: read_json(path))
    assert "\n" not in refusal and (isinstance(value, dict) or "run.json" in refusal)


@QUICK
@given(names=st.lists(st.text(st.characters(blacklist_characters="/\0"), min_size=1, max_size=8), unique=True))
def test_natural_order_keeps_every_name_and_does_not_depend_on_the_order_given(names):
    paths = [Path(f"{name}.png") for name in names if name not in (".", "..")]
    ordered = in_order(paths)
    assert sorted(ordered) == sorted(paths)
    assert [natural(path) for path in in_order(reversed(paths))] == [natural(path) for path in ordered]


@QUICK
@given(
    numbers=st.lists(st.integers(0, 10**6), unique=True), digits=st.integers(0, 8), prefix=st.sampled_from(["", "f"])
)
def test_numbered_frames_are_in_the_order_of_their_numbers(numbers, digits, prefix):
    paths = [Path(f"{prefix}{number:0{digits}d}.png") for number in numbers]
    assert [int(path.stem.removeprefix("f")) for path in in_order(paths)] == sorted(numbers)


# ---- stamps and study files


@QUICK
@given(before=JSON, now=JSON)
def test_values_differ_exactly_where_a_difference_is_named(before, now):
    """A name that is missing and one that is null are the same: a setting that is new and not set."""

    def without_null(value):
        if isinstance(value, dict):
            return {key: item for key, inner in value.items() if (item := without_null(inner)) is not None}
        return [without_null(item) for item in value] if isinstance(value, list) else value

    assert not list(differences(before, before))
    if without_null(before) != without_null(now):
        assert list(differences(before, now))


@settings(max_examples=80, deadline=None)
@given(noise=st.binary(max_size=60), place=st.integers(0, 200))
def test_a_study_file_with_noise_is_read_or_refused_in_one_line(tmp_path_factory, noise, place):
    path = tmp_path_factory.mktemp("study") / "s.toml"
    text = STUDY.encode()
    path.write_bytes(text[:place] + noise + text[place:])
    study, refusal = outcome(lambda: load_study(str(path), path.parent / "out"))
    if study is None:
        assert "\n" not in refusal.strip()
    else:
        assert study.steps
        tomllib.loads(path.read_text(encoding="utf-8"))
