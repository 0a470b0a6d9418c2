"""BI and BD against recorded MATLAB and BasicVSR values, and against Pillow, loops and formulas."""

from pathlib import Path

import numpy as np
import pytest
import torch
from metric_clips import texture
from PIL import Image

from stvsr.degradation import (
    bicubic_down,
    bicubic_up,
    blur_down,
    crop_to_multiple,
    degrade,
    quantise,
    resize,
    to_float,
    to_uint8,
)
from stvsr.errors import InputError

DATA = Path(__file__).parent / "recorded" / "degradation.npz"


@pytest.fixture(scope="module")
def recorded():
    with np.load(DATA) as file:
        return dict(file)


def off(first: np.ndarray, second: np.ndarray) -> int:
    return int(np.abs(first.astype(int) - second).max())


@pytest.mark.parametrize(("mode", "name"), [("bi", "bi_lr"), ("bd", "bd_lr")])
def test_every_8_bit_value_is_within_one_of_the_recorded(recorded, mode, name):
    assert off(degrade(recorded["hr"][None], mode, 4)[0], recorded[name]) <= 1


def test_bicubic_back_up_is_within_one_of_the_recorded(recorded):
    assert off(to_uint8(bicubic_up(to_float(recorded["bi_lr"][None]), 4))[0], recorded["bi_lr_upscaled"]) <= 1


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_bicubic_down_agrees_with_pillow_away_from_the_borders(scale):
    """Pillow's kernel has the same a = -0.5 and widens likewise; it cuts borders off where MATLAB mirrors them."""
    image = np.random.default_rng(0).random((48, 72)).astype(np.float32)
    ours = bicubic_down(torch.from_numpy(image).expand(1, 3, -1, -1), scale)[0, 0].numpy()
    theirs = np.asarray(Image.fromarray(image, "F").resize((72 // scale, 48 // scale), Image.Resampling.BICUBIC))
    inner = (slice(2, -2), slice(2, -2))
    assert ours.shape == theirs.shape
    assert np.abs(ours[inner] - theirs[inner]).max() < 1e-5


def test_bd_equals_loops_over_blocks():
    image, sigma = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0)), 1.3
    result = blur_down(image, 4, sigma)
    for row, column in [(0, 0), (1, 3), (3, 5)]:
        centre = (4 * row + 1.5, 4 * column + 1.5)  # of the block, between the pixels 1 and 2
        total = weight = 0.0
        for y in range(4 * row - 4, 4 * row + 8):
            for x in range(4 * column - 4, 4 * column + 8):
                w = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * sigma**2))
                total = total + w * image[0, :, min(max(y, 0), 15), min(max(x, 0), 23)]
                weight += w
        assert torch.allclose(result[0, :, row, column], total / weight, atol=1e-6)


@pytest.mark.parametrize("shrink", [bicubic_down, blur_down])
@pytest.mark.parametrize("turn", [lambda image: image.flip(-1), lambda image: image.flip(-2), lambda image: image.mT])
def test_mirroring_and_transposing_commute_with_shrinking(shrink, turn):
    """There is no phase shift, which would cost decibels of PSNR."""
    image = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(shrink(turn(image), 4), turn(shrink(image, 4)), atol=1e-6)


@pytest.mark.parametrize("shrink", [bicubic_down, blur_down])
def test_brightness_and_straight_ramps_survive(shrink):
    flat = torch.full((1, 3, 16, 16), 0.3)
    assert torch.allclose(shrink(flat, 4), torch.full((1, 3, 4, 4), 0.3), atol=1e-6)
    ramp = torch.arange(64.0).expand(1, 3, 8, 64)
    inner = shrink(ramp, 4)[0, 0, 0, 3:-3]
    assert torch.allclose(inner, torch.arange(64.0).view(16, 4).mean(1)[3:-3], atol=1e-4)


def test_dtype_and_gradient_pass_through():
    image = torch.rand(1, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    for shrink in (bicubic_down, blur_down):
        small = shrink(image, 4)
        assert small.dtype == torch.float64
        (gradient,) = torch.autograd.grad(small.sum(), image)
        assert gradient.sum().item() == pytest.approx(small.numel(), abs=1e-9)  # each LR pixel is a mean of HR pixels


def test_resize_to_the_same_size_changes_nothing():
    image = torch.rand(1, 3, 9, 7)
    assert torch.allclose(resize(image, 9, 7), image, atol=1e-6)


@pytest.mark.parametrize("mode", ["bi", "bd"])
def test_a_size_that_is_not_a_multiple_is_refused(mode):
    frames = np.zeros((1, 10, 16, 3), np.uint8)
    with pytest.raises(InputError, match=r"16x10.*multiples of 4"):
        degrade(frames, mode, 4)


def test_odd_bd_scales_and_unknown_modes_are_refused():
    with pytest.raises(InputError, match=r"even scale"):
        blur_down(torch.zeros(1, 3, 9, 9), 3)
    with pytest.raises(InputError, match=r"'bix' is unknown: choose from bi, bd"):
        degrade(np.zeros((1, 8, 8, 3), np.uint8), "bix", 4)


def test_crop_to_multiple_cuts_the_last_rows_and_columns():
    frames = texture(11, 14)[None]
    assert np.array_equal(crop_to_multiple(frames, 4), frames[:, :8, :12])
    assert crop_to_multiple(frames[:, :8, :12], 4).shape == (1, 8, 12, 3)


def test_8_bit_values_survive_the_way_to_float_and_back():
    frames = np.arange(256, dtype=np.uint8).repeat(3).reshape(2, 8, 16, 3)
    assert np.array_equal(to_uint8(to_float(frames)), frames)
    assert to_float(frames[:, ::-1]).shape == (2, 3, 8, 16)  # negative strides, as augmentation makes them


def test_quantise_is_what_writing_8_bits_does():
    image = torch.linspace(-0.2, 1.2, 3 * 64).view(1, 3, 8, 8)
    assert torch.equal(quantise(image), to_float(to_uint8(image)))
    assert quantise(torch.tensor([0.5 / 255 + 1e-4, 0.4 / 255, 2.0])).tolist() == pytest.approx([1 / 255, 0, 1])
