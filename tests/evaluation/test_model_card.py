"""Shipped weights: small files that match their cards, with the scores that the cards claim."""

import dataclasses
import os

import pytest
import torch

from stvsr.errors import InputError
from stvsr.evaluation import model_card
from stvsr.models.generators import WEIGHTS, load_generator, save_generator, shipped_weights
from stvsr.models.rbpn import RBPN, RBPNConfig
from stvsr.runs import hashes
from stvsr.runs.files import load_tensors, read_json

TOTAL_MB = 30
MEASURED_AGAIN = ("triplet-0.032-s0", "basicvsr-adversarial")  # one of each network
TOLERANCE = {
    "psnr": 0.02,
    "ssim": 0.0005,
    "lpips": 0.002,
    "tof": 0.01,
    "tlp100": 0.05,
}  # processors round differently


def test_all_weights_together_stay_small():
    assert shipped_weights()
    assert sum(path.stat().st_size for path in WEIGHTS.glob("*.safetensors")) <= TOTAL_MB * 2**20


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped_weights())
def test_card_describes_the_file(name: str):
    path, card = WEIGHTS / f"{name}.safetensors", read_json(WEIGHTS / f"{name}.json")
    assert card["sha256"] == hashes.digest(path)
    assert card["recipe"] and card["data"] and card["licence"]
    assert (WEIGHTS / f"{name}.md").read_text() == model_card.render_card(card)
    assert all(part["what"] in path.with_suffix(".md").read_text() for part in card["scores"])
    generator, meta = load_generator(name)
    assert card["parameters"] == sum(parameter.numel() for parameter in generator.parameters())
    assert meta["sha256"] == card["sha256"]
    assert meta.get("window") == card.get("window")
    assert not generator.training and next(generator.parameters()).dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped_weights() if os.environ.get("STVSR_CARDS") == "all" else MEASURED_AGAIN)
def test_claimed_scores_are_measured_again(name: str):
    """Measured on the sample clips, which everyone has; STVSR_CARDS=all measures every card."""
    claimed = next(part for part in read_json(WEIGHTS / f"{name}.json")["scores"] if part["data"] == "samples")
    measured = model_card.measure([name], claimed["data"], claimed["split"], claimed["clips"], claimed["frames"])
    for protocol, methods in claimed["scores"].items():
        for method in ("bicubic", name):
            for metric, value in methods[method].items():
                assert measured[protocol][method][metric] == pytest.approx(value, abs=TOLERANCE[metric]), (
                    protocol,
                    method,
                    metric,
                )


def claims(name: str, part: int = 0) -> dict:
    """Return what a card claims: protocol -> method -> metric -> value; part 0 is of the sample clips, 1 of Vid4."""
    return read_json(WEIGHTS / f"{name}.json")["scores"][part]["scores"]


def test_the_small_generator_beats_bicubic_on_held_out_clips():
    scores = claims("rbpn-small")
    assert scores["literature-y"]["rbpn-small"]["psnr"] > scores["literature-y"]["bicubic"]["psnr"] + 1
    assert scores["tecogan"]["rbpn-small"]["lpips"] < scores["tecogan"]["bicubic"]["lpips"]


def test_half_precision_changes_outputs_by_less_than_2_percent(tmp_path):
    """Weights are shipped in 16 bits: outputs differ from those of 32 bits by far less than one of 256 levels."""
    torch.manual_seed(0)
    network = RBPN(RBPNConfig(base_filter=8, feat=4, num_stages=1, n_resblock=1, num_frames=3)).eval()
    save_generator(tmp_path / "half.safetensors", network, dtype=torch.float16)
    assert load_tensors(tmp_path / "half.safetensors")[0]["feat0.conv.weight"].dtype == torch.float16
    half, _ = load_generator(tmp_path / "half.safetensors")
    window = torch.rand(1, 3, 12, 12), torch.rand(1, 2, 3, 12, 12), torch.zeros(1, 2, 2, 12, 12)
    with torch.no_grad():
        difference = (network(*window) - half(*window)).abs().max() / network(*window).std()
    assert 0 < difference < 0.02


def test_exporting_an_unknown_checkpoint_is_refused():
    with pytest.raises(InputError, match="neither a file nor a known name"):
        model_card.export_weights("absent.safetensors", "absent", recipe="none", data="none")
    assert "absent" not in shipped_weights()


def test_a_training_of_several_steps_names_where_the_first_began(tmp_path, monkeypatch):
    tuned, _ = load_generator("rbpn-small")
    checkpoint = tmp_path / "second.safetensors"
    save_generator(checkpoint, tuned, start="first.safetensors")  # what a second training writes: a local file
    measured = []
    monkeypatch.setattr(model_card, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr(model_card, "measure", lambda methods, *rest: measured.append(methods) or {})
    (tmp_path / "weights").mkdir()
    path = model_card.export_weights(str(checkpoint), "mine", recipe="none", data="none", start="rbpn-small")
    assert measured == [["rbpn-small", measured[0][1]]]
    assert read_json(path.with_suffix(".json"))["start"] == "rbpn-small"
    assert "first.safetensors" not in path.with_suffix(".md").read_text()


def test_adversarial_weights_look_better_than_their_starts_and_stay_coherent():
    """On the sample clips and on Vid4: LPIPS below the start's, tOF below bicubic's."""
    for name, start in (("rbpn-small-adversarial", "rbpn-small"), ("basicvsr-adversarial", "basicvsr-bi")):
        for part in (0, 1):
            scores = claims(name, part)["tecogan"]
            assert scores[name]["lpips"] < scores[start]["lpips"]
            assert scores[name]["tof"] < scores["bicubic"]["tof"]


@pytest.mark.slow
def test_clips_that_cannot_be_read_leave_no_weights_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(model_card, "WEIGHTS", tmp_path)
    monkeypatch.setattr(model_card, "SAMPLE_CLIPS", dataclasses.replace(model_card.SAMPLE_CLIPS, clips=("absent",)))
    with pytest.raises(InputError, match="absent"):
        model_card.export_weights("rbpn-small", "mine", recipe="none", data="none")
    assert not list(tmp_path.iterdir())
