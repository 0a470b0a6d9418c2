"""Figures: one style that does not leak, alt text that says what is shown, arrays that are what they claim."""

import io

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from stvsr.errors import InputError
from stvsr.figures import images, pixels, scores, style, training

LABELS = ["bicubic", "pixel control", "recurrent D", "cost $\\frac{", "<b>&"]
KINDS = ["peer", "control", "adversarial", "ladder", "arm"]


def plane_points() -> pd.DataFrame:
    fidelity, perception = np.array([24.0, 25.0, 25.02, 25.01, 24.99]), np.array([0.5, 0.36, 0.361, 0.359, 0.362])
    frame = pd.DataFrame(
        {
            "label": LABELS,
            "kind": KINDS,
            "fidelity": fidelity,
            "perception": perception,
            "temporal": np.linspace(0.1, 0.4, 5),
        }
    )
    return frame.assign(
        fidelity_low=fidelity - 0.3, fidelity_high=fidelity + 0.3, perception_low=np.nan, perception_high=np.nan
    )


def training_log(**columns: object) -> pd.DataFrame:
    steps = np.arange(1, 501)
    return pd.DataFrame({"step": steps, "pixel": 0.1 / steps, **columns})


def clip(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (5, 24, 32, 3), dtype=np.uint8)


def every_figure() -> dict[str, Figure]:
    verdicts = ["worse", "no difference detected", "better"]
    differences = pd.DataFrame(
        {"label": LABELS[:3], "difference": [-1.0, 0.1, 2], "low": [-2.0, -1, 1], "high": [-0.5, 1, 3]}
    )
    differences["verdict"] = verdicts
    log = training_log(adversarial=0.7, score_real=0.8, score_fake=0.3, gradient_pixel=1.0, gradient_adversarial=0.0)
    values = pd.DataFrame({"label": np.repeat(LABELS, 4), "frame": list(range(4)) * 5, "value": np.arange(20.0)})
    frames = {"truth": clip()[0], "bicubic": clip(1)[0]}
    return {
        "perception_distortion": scores.perception_distortion(plane_points()),
        "differences": scores.differences(differences, metric="PSNR, dB", control="pixel control", better="higher"),
        "defect_ladder": scores.defect_ladder(
            pd.DataFrame({"label": LABELS[:3], "value": [0.3, 0.2, 0.25]}), metric="LPIPS", better="lower"
        ),
        "per_frame": scores.per_frame(values, metric="PSNR, dB"),
        "learning_curves": training.learning_curves({"a": log, "b": log}, highlight="a"),
        "loss_terms": training.loss_terms(log),
        "gradient_norms": training.gradient_norms(log),
        "discriminator_scores": training.discriminator_scores(log),
        "crops_grid": images.crops_grid(frames, [pixels.Box(top=2, left=3, height=8, width=10)]),
        "temporal_profiles": images.temporal_profiles({"truth": clip(), "bicubic": clip(1)}, row=3),
        "error_maps": images.error_maps({"bicubic": clip(1)[0]}, clip()[0]),
        "flow_images": images.flow_images({"truth": np.ones((2, 24, 32), np.float32)}),
        "contact_sheets": images.contact_sheets([clip()]),
    }


@pytest.fixture(scope="module")
def drawn() -> dict[str, Figure]:
    return every_figure()


@pytest.mark.slow
def test_every_figure_has_alt_text_with_the_values_it_shows(drawn):
    for name, figure in drawn.items():
        assert isinstance(figure, Figure), name
        assert len(style.alt(figure)) > 40, name
    assert "PSNR, dB" in style.alt(drawn["differences"])
    assert "recurrent D 2.000 (1.000 to 3.000, better)" in style.alt(drawn["differences"])
    assert "bicubic 0.300; pixel control 0.200; recurrent D 0.250" in style.alt(drawn["defect_ladder"])
    assert "Lowest LPIPS: cost" in style.alt(drawn["perception_distortion"])
    assert "true frames end at 0.80, generated frames end at 0.30" in style.alt(drawn["discriminator_scores"])


@pytest.mark.slow
def test_a_gradient_that_never_arrives_is_said_in_words(drawn):
    said = "adversarial gradient: exactly 0 at every step"
    assert said in drawn["gradient_norms"].axes[0].get_xlabel()
    assert said in style.alt(drawn["gradient_norms"])
    arriving = training.gradient_norms(training_log(gradient_pixel=1.0, gradient_adversarial=0.1))
    assert "exactly 0" not in style.alt(arriving)


def test_an_almost_constant_line_has_round_ticks():
    figure = training.gradient_norms(training_log(gradient_pixel=np.where(np.arange(500) % 7, 0.00390682, 0.0039)))
    figure.draw_without_rendering()
    low, high = figure.axes[0].get_ylim()
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels() if low <= label.get_position()[1] <= high]
    assert shown == ["0.003", "0.004", "0.005", "0.006"]


def test_style_does_not_leak_and_is_not_leaked_into():
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30}):
        figure = training.discriminator_scores(training_log(score_real=1.0))
        assert figure.axes[0].xaxis.label.get_size() == style.STYLE["axes.labelsize"]
        assert figure.axes[0].get_facecolor()[3] == 0
    assert dict(matplotlib.rcParams) == before


@pytest.mark.slow
def test_names_are_data_and_no_formulas(drawn):
    for figure in drawn.values():
        figure.savefig(io.BytesIO(), format="png", dpi=40)  # raises on a label that is taken for mathematics


def test_a_training_without_saved_crops_is_a_figure_that_states_it(tmp_path):
    figure = images.image_row({})
    assert figure.get_label() == "There are no pictures to show."
    assert style.save(figure, tmp_path / "crops.png").is_file()


@pytest.mark.slow
def test_png_carries_its_alt_text_and_is_repeatable(tmp_path):
    first, second = (images.contact_sheets([clip()]) for _ in range(2))
    written = style.save(first, tmp_path / "new" / "a.png", dpi=50)
    assert style.save(second, tmp_path / "b.png", dpi=50).read_bytes() == written.read_bytes()
    with Image.open(written) as image:
        assert image.text["Description"] == style.alt(first)


@pytest.mark.slow
def test_show_gives_a_notebook_the_alt_text(drawn):
    _, metadata = style.show(drawn["contact_sheets"])._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == style.alt(drawn["contact_sheets"])


def test_labels_of_crowded_points_do_not_overlap(drawn):
    figure = drawn["perception_distortion"]
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert len(boxes) == len(LABELS)
    for k, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:k])


@pytest.mark.slow
def test_intervals_wider_than_all_points_together_leave_the_frame():
    points = plane_points().assign(fidelity_low=-1000.0, fidelity_high=1000.0)
    low, high = scores.perception_distortion(points).axes[0].get_xlim()
    assert low < points["fidelity"].min() < points["fidelity"].max() < high
    assert high - low < 2 * np.ptp(points["fidelity"])
    alone = scores.perception_distortion(points[:1]).axes[0]
    assert alone.get_xlim()[0] < points["fidelity"][0] < alone.get_xlim()[1]


def test_lines_differ_by_more_than_colour():
    looks = [style.line_look(place) for place in range(16)]
    assert len(set(looks)) == 16
    assert all(looks[k][1] != looks[k + 1][1] for k in range(15))
    assert len(set(style.MARKERS.values())) == len(style.MARKERS)
    assert len({marker for _, marker in style.VERDICT_LOOK.values()}) == 3


@pytest.mark.parametrize("sight", ["normal", "deuteranopia", "protanopia"])
def test_palette_stays_apart_for_colour_blind_readers(sight):
    # Vienot, Brettel and Mollon 1999: linear RGB -> what a dichromat sees, as linear RGB
    seen = {
        "normal": np.eye(3),
        "deuteranopia": np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
        "protanopia": np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
    }[sight]
    first_six = np.array([matplotlib.colors.to_rgb(colour) for colour in style.PALETTE[:6]])
    shades = np.clip((first_six**2.2) @ seen.T, 0, 1) ** (1 / 2.2)
    distances = np.linalg.norm(shades[:, None] - shades[None], axis=-1) + np.eye(6) * 9
    assert distances.min() > 0.12  # of a cube's edge; equal colours have 0


# Arrays ---------------------------------------------------------------------------------------------------------------


def test_busiest_boxes_finds_what_differs_and_does_not_overlap():
    frames = [np.zeros((40, 60, 3), np.uint8) for _ in range(2)]
    frames[1][10:18, 30:40] = 200
    frames[1][28:34, 5:12] = 90
    first, second = pixels.busiest_boxes(pixels.disagreement(frames), (8, 10), 2)
    assert first == pixels.Box(top=10, left=30, height=8, width=10)
    assert 26 <= second.top <= 28
    assert 2 <= second.left <= 5
    assert first.cut(frames[1]).min() == 200


def test_busiest_boxes_is_cut_to_small_pictures_and_gives_up_when_full():
    boxes = pixels.busiest_boxes(np.ones((6, 9)), (50, 4), 5)
    assert [(box.height, box.width, box.left) for box in boxes] == [(6, 4, 0), (6, 4, 4)]


def test_temporal_profile_of_a_moving_edge_is_a_slanted_edge():
    moving = np.stack([np.tile((np.arange(20) >= 5 + t)[None, :, None] * np.uint8(255), (8, 1, 3)) for t in range(6)])
    profile = pixels.temporal_profile(moving, row=3)
    assert profile.shape == (6, 20, 3)
    assert (profile[..., 0] == 255).argmax(axis=1).tolist() == [5, 6, 7, 8, 9, 10]
    assert pixels.temporal_profile(moving, column=7).shape == (8, 6, 3)
    with pytest.raises(InputError, match="one row or one column"):
        pixels.temporal_profile(moving, row=1, column=1)


def test_liveliest_row_is_where_something_moves():
    still = np.full((4, 40, 12, 3), 100, np.uint8)
    still[2, 25] = 255
    assert pixels.liveliest_row([still]) == 25


def test_flow_colours_tell_direction_and_speed():
    flow = np.zeros((2, 1, 4), np.float32)
    flow[:, 0] = [[0, 2, -2, 1], [0, 0, 0, 0]]
    rest, right, left, slow = pixels.flow_colours(flow, 2.0)[0].astype(int)
    assert (rest == 255).all()
    assert right.tolist() == [255, 0, 0]
    assert left.tolist() == [0, 255, 255]
    assert slow[0] == 255
    assert 100 < slow[1] < 150


def test_error_and_heat_share_one_scale():
    truth, result = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 30, np.uint8)
    error = pixels.absolute_error(result, truth)
    assert error.tolist() == [[30, 30], [30, 30]]
    dark, light = pixels.heat(np.zeros((1, 1)), 30), pixels.heat(error[:1, :1], 30)
    assert dark.sum() < light.sum()
    assert (pixels.heat(error * 5, 30) == pixels.heat(error, 30)).all()
