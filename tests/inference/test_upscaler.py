"""Upscaling a stream: windows, tiles and shots leave no visible trace and bound the memory."""

import numpy as np
import pytest
import torch
from media import moving

from stvsr.assets import locate
from stvsr.data.shots import by_shot, find_cuts
from stvsr.data.windows import centred, overlapping, window_indices
from stvsr.degradation import bicubic_up, degrade, to_float, to_uint8
from stvsr.errors import InputError
from stvsr.flow import estimator
from stvsr.inference import memory
from stvsr.inference.tiles import Tile, blend_weight, cut, upscale_tiles
from stvsr.inference.upscaler import InferenceConfig, load_upscaler
from stvsr.models.basicvsr import BasicVSR, BasicVSRConfig
from stvsr.models.generators import save_generator
from stvsr.models.rbpn import RBPN, RBPNConfig
from stvsr.models.spynet import load_spynet
from stvsr.video.reader import read_clip


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A small RBPN and a small BasicVSR whose outputs are pictures and not noise."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    rbpn = RBPN(RBPNConfig(base_filter=4, feat=4, num_stages=1, n_resblock=1, num_frames=5, residual=True))
    save_generator(folder / "rbpn.safetensors", rbpn)
    basicvsr = BasicVSR(BasicVSRConfig(features=4, blocks=1))
    basicvsr.spynet.load_state_dict(load_spynet().state_dict())
    save_generator(folder / "basicvsr.safetensors", basicvsr)
    return folder


def upscale(path, frames, **config):
    config = {"tile": 0, "precision": "full"} | config
    return np.stack(list(load_upscaler(path, config=InferenceConfig(**config))(frames)))


def test_bicubic_is_the_degradation_s_own():
    frames = moving(3, 40, 50)
    expected = to_uint8(bicubic_up(to_float(frames), 4))
    assert np.array_equal(upscale("bicubic", frames), expected)
    wide = moving(1, 20, 700)  # cut into tiles
    expected = to_uint8(bicubic_up(to_float(wide), 4)).astype(int)
    assert np.abs(upscale("bicubic", wide) - expected).max() <= 1  # values that lie on a rounding edge


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rbpn", "basicvsr"])
@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_any_number_of_frames(checkpoints, name, length):
    out = upscale(checkpoints / f"{name}.safetensors", moving(length, 17, 21), window=3, window_overlap=1)
    assert out.shape == (length, 68, 84, 3) and out.dtype == np.uint8


def test_no_frames_in_no_frames_out():
    assert list(load_upscaler("bicubic")([])) == []


@pytest.mark.slow
def test_rbpn_stream_equals_the_definition(checkpoints):
    frames = moving(6, 18, 20)
    upscaler = load_upscaler(checkpoints / "rbpn.safetensors", config=InferenceConfig(precision="full"))
    dis = estimator("dis")
    for centre, result in enumerate(upscaler(iter(frames))):
        window = frames[window_indices(centre, 5, 6)]
        flows = torch.from_numpy(np.stack([dis(window[2], window[k]) for k in (0, 1, 3, 4)]))
        lr = to_float(window)
        with torch.inference_mode():
            expected = upscaler.network(lr[2:3], lr[None, [0, 1, 3, 4]], flows[None])
        assert np.array_equal(result, to_uint8(expected)[0])


@pytest.mark.slow
def test_clip_within_one_window_is_the_network_s_own(checkpoints):
    frames = moving(6, 18, 20)
    upscaler = load_upscaler(checkpoints / "basicvsr.safetensors", config=InferenceConfig(precision="full"))
    with torch.inference_mode():
        expected = to_uint8(upscaler.network(to_float(frames)[None])[0])
    assert np.array_equal(np.stack(list(upscaler(frames))), expected)


@pytest.mark.slow
def test_window_seams_do_not_show(checkpoints):
    frames = moving(14, 18, 20)
    whole = upscale(checkpoints / "basicvsr.safetensors", frames).astype(int)
    parts = upscale(checkpoints / "basicvsr.safetensors", frames, window=8, window_overlap=4)
    assert len(parts) == 14
    assert np.abs(parts - whole).mean() < 0.5
    steps = [np.abs(np.diff(clip, axis=0)).mean((1, 2, 3)) for clip in (parts.astype(int), whole)]
    assert np.abs(steps[0] - steps[1]).max() < 0.5  # no frame jumps where windows meet


def test_windows_cover_every_frame_once():
    for length in range(20):
        for window, overlap in ((1, 0), (4, 0), (4, 2), (5, 2)):
            seen, held = [], 0
            for frames, more in overlapping(iter(range(length)), window, overlap):
                assert len(frames) <= window
                assert frames[:held] == seen[len(seen) - held :]
                seen += frames[held:]
                held = overlap if more else 0
            assert seen == list(range(length))


def test_centred_windows_mirror_the_ends():
    for length in range(1, 9):
        for num_frames in (3, 5, 7):
            windows = [frames for frames, _ in centred(iter(range(length)), num_frames)]
            assert windows == [window_indices(t, num_frames, length) for t in range(length)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "most"), [("bicubic", 6), ("rbpn", 10), ("basicvsr", 16)])
def test_reading_runs_only_so_far_ahead(checkpoints, name, most):
    """Nothing is read whole: windows, and five frames to see a cut coming."""
    read = 0

    def source():
        nonlocal read
        for frame in moving(30, 16, 16):
            read += 1
            yield frame

    path = name if name == "bicubic" else checkpoints / f"{name}.safetensors"
    config = InferenceConfig(tile=0, window=6, window_overlap=2)
    ahead = [read - done for done, _ in enumerate(load_upscaler(path, config=config)(source()))]
    assert max(ahead) <= most


@pytest.mark.slow
def test_shots_are_those_of_the_whole_clip():
    frames = read_clip(locate("bikes"), 20, 85)[:, ::4, ::4]
    frames = np.concatenate([frames, frames[5:15]])  # cuts of its own, and one more
    numbers = [number for number, _ in by_shot(frames)]
    assert [k for k in range(1, len(frames)) if numbers[k] != numbers[k - 1]] == find_cuts(frames)
    assert len(find_cuts(frames)) == 4
    assert all(np.array_equal(a, b) for (_, a), b in zip(by_shot(frames), frames, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rbpn", "basicvsr"])
def test_shots_do_not_meet(checkpoints, name):
    night, day = moving(7, 20, 24, seed=1) // 4, 255 - moving(7, 20, 24, seed=2) // 4
    both = np.concatenate([night, day])
    assert find_cuts(both) == [7]
    path = checkpoints / f"{name}.safetensors"
    assert np.array_equal(upscale(path, both), np.concatenate([upscale(path, night), upscale(path, day)]))


def test_tiles_cover_the_frame_and_their_weights_vanish_at_artificial_borders():
    for height, width, tile, overlap in ((64, 64, 0, 8), (40, 100, 32, 16), (97, 33, 32, 8), (20, 300, 64, 32)):
        tiles = cut(height, width, tile, overlap)
        total = torch.zeros(height * 2, width * 2)
        for part in tiles:
            weight = blend_weight(part, height, width, overlap, 2)
            assert weight[0].max() == (1 if part.top == 0 else 0)
            assert weight[:, -1].max() == (1 if part.right == width else 0)
            part.of(total, 2).add_(weight)
        assert total.min() > 0.99
        assert all(part.bottom - part.top <= (tile or height) for part in tiles)


def test_blended_tiles_of_a_local_operation_are_exact():
    image = torch.rand(3, 50, 70)
    result = upscale_tiles(
        lambda tile: [tile.of(image).repeat_interleave(2, 1).repeat_interleave(2, 2)], (50, 70), 1, 24, 8, 2
    )
    assert torch.allclose(next(result), image.repeat_interleave(2, 1).repeat_interleave(2, 2), atol=1e-6)
    assert Tile(top=1, bottom=3, left=0, right=2).of(image).shape == (3, 2, 2)


@pytest.mark.slow
def test_tiles_of_the_published_network_differ_by_less_than_a_twentieth_of_a_decibel():
    hr = read_clip(locate("bikes"), 40, 42)[:, 8:264, 100:420]  # 64x80 LR
    lr = degrade(hr, "bi", 4)
    whole, tiled = (upscale("basicvsr-bi", lr, tile=tile).astype(float) for tile in (0, 64))
    ratio = [10 * np.log10(255**2 / ((out - hr) ** 2).mean()) for out in (whole, tiled)]
    assert abs(ratio[0] - ratio[1]) < 0.05
    # A seam is a step across one column that the whole frame does not have: compare every column's steps.
    steps = [np.abs(np.diff(out, axis=2)).mean((0, 1, 3)) for out in (whole, tiled)]
    assert np.abs(steps[0] - steps[1]).max() < 0.35  # of 255 levels
    assert np.abs(tiled - whole).max() > 0  # it was tiled


@pytest.mark.slow
def test_rbpn_tiles_agree(checkpoints):
    frames = moving(3, 24, 90)
    path = checkpoints / "rbpn.safetensors"
    assert np.abs(upscale(path, frames, tile=48, tile_overlap=16).astype(int) - upscale(path, frames)).mean() < 0.2


@pytest.mark.slow
def test_half_precision_is_close(checkpoints):
    frames = moving(4, 20, 24)
    for name in ("rbpn", "basicvsr"):
        path = checkpoints / f"{name}.safetensors"
        assert np.abs(upscale(path, frames, precision="bfloat16").astype(int) - upscale(path, frames)).mean() < 1.5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rbpn", "basicvsr"])
@pytest.mark.parametrize("precision", ["full", "bfloat16"])
def test_without_half_precision_convolutions_are_exact_on_a_gpu_too(checkpoints, monkeypatch, name, precision):
    seen = set()
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    upscaler = load_upscaler(checkpoints / f"{name}.safetensors", config=InferenceConfig(tile=0, precision=precision))
    for module in upscaler.network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(
                lambda *_: seen.add((torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic))
            )
    before = torch.backends.cudnn.deterministic
    list(upscaler(moving(3, 16, 20)))
    assert seen == {(False, True) if precision == "full" else (True, before)}
    assert torch.backends.cudnn.allow_tf32 and torch.backends.cudnn.deterministic == before


@pytest.mark.slow
def test_tile_follows_the_free_memory(checkpoints, monkeypatch):
    path, size = checkpoints / "basicvsr.safetensors", (720, 1280)

    def plan(gigabytes):
        monkeypatch.setattr(memory, "free_memory", lambda device: (gigabytes * 1e9, gigabytes * 1e9))
        return load_upscaler(path).plan(size)

    assert plan(1000).tile == 0
    tiles = [plan(gigabytes).tile for gigabytes in (60, 20, 14, 10)]
    sides = [tile or max(size) for tile in tiles]
    assert sides == sorted(sides, reverse=True) and tiles[-1] > 0
    with pytest.raises(InputError, match="lower the window"):
        plan(1)


def test_plan_is_settled_once(checkpoints, monkeypatch):
    upscaler = load_upscaler(checkpoints / "basicvsr.safetensors")
    monkeypatch.setattr(memory, "free_memory", lambda device: (1e12, 1e12))
    first = upscaler.plan((720, 1280))
    monkeypatch.setattr(memory, "free_memory", lambda device: (1e6, 1e6))
    assert upscaler.plan((720, 1280)) is first


@pytest.mark.slow
def test_window_is_the_weights_recommendation_or_shorter_for_want_of_memory(checkpoints, monkeypatch):
    size = (144, 180)
    monkeypatch.setattr(memory, "free_memory", lambda device: (1e12, 1e12))
    assert load_upscaler(checkpoints / "basicvsr.safetensors").plan(size).window == 20
    assert load_upscaler("basicvsr-bi").plan(size).window == 50
    assert load_upscaler("basicvsr-bi", config=InferenceConfig(window=7)).plan(size).window == 7
    monkeypatch.setattr(memory, "free_memory", lambda device: (1.8e9, 1.8e9))
    short = load_upscaler("basicvsr-bi").plan(size)
    assert short.window == 20 and short.tile == 0


def test_recommended_window_is_read_from_a_checkpoint(tmp_path):
    save_generator(tmp_path / "long.safetensors", BasicVSR(BasicVSRConfig(features=4, blocks=1)), window=31)
    assert load_upscaler(tmp_path / "long.safetensors").plan((16, 16)).window == 31


@pytest.mark.parametrize(
    ("values", "words"),
    [({"tile": 63}, "tile is 63"), ({"tile_overlap": 2}, "tile overlap is 2"), ({"window": 0}, "window is 0"),
     ({"window": 4, "window_overlap": 3}, "3 shared"), ({"window_overlap": -1}, "-1 shared"),
     ({"precision": "half"}, "precision 'half' is unknown: choose from auto, full")],
)  # fmt: skip
def test_impossible_settings_are_named(values, words):
    with pytest.raises(InputError, match=words):
        InferenceConfig(**values)


def test_unknown_model_is_named():
    with pytest.raises(InputError, match="basicvsr-xl is neither a file nor a known name"):
        load_upscaler("basicvsr-xl")
