"""Properties that hold for every input: geometry of augmentation, windows at clip ends, tiles, stamps, study files."""

import tomllib

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stvsr.data import augmentation
from stvsr.data.augmentation import Draw
from stvsr.data.windows import centred, overlapping, window_indices
from stvsr.errors import InputError
from stvsr.inference.tiles import blend_weight, cut, upscale_tiles
from stvsr.runs.stamp import differences
from stvsr.study.study_file import load_study

STUDY = 'title = "x"\n[[steps]]\nid = "a"\nnotebook = "02_rbpn_pretraining"\nparameters = {seed = 1}\n'
QUICK = settings(max_examples=60, deadline=None)


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


# ---- stamps and study files

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


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
    study, refusal = None, ""
    try:
        study = load_study(str(path), path.parent / "out")
    except InputError as error:
        refusal = str(error)
    if study is None:
        assert "\n" not in refusal.strip()
    else:
        assert study.steps
        tomllib.loads(path.read_text(encoding="utf-8"))
