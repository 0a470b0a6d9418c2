"""Flat parameters become nested configurations; the first step by hand is the first step of the training."""

import json

import pytest
import tiny
import torch

from stvsr.errors import InputError
from stvsr.training import adversarial, finetuning, first_step
from stvsr.training.finetuning import finetuning_config
from stvsr.training.from_parameters import fields_of
from stvsr.training.optimisation import OptimConfig
from stvsr.training.pretraining import PretrainingConfig, pretraining_config


def test_names_go_to_the_field_of_that_name_wherever_it_is():
    config = pretraining_config({"steps": 7, "patch": 16, "data": ["a", "b"], "generator": "rbpn-tiny", "Path": object})
    assert (config.optim.steps, config.data.patch, config.data.data, config.generator) == (
        7,
        16,
        ("a", "b"),
        "rbpn-tiny",
    )
    assert config.optim.batch == OptimConfig().batch


def test_nothing_given_is_the_defaults():
    assert pretraining_config({}) == PretrainingConfig()
    assert finetuning_config({}) == finetuning.FinetuningConfig()
    assert {"steps", "patch", "arm", "discriminator_width"} <= set(fields_of(finetuning.FinetuningConfig))


def test_a_wrong_value_is_refused_as_by_the_dataclass():
    with pytest.raises(InputError, match="schedule 'linear' is unknown"):
        finetuning_config({"schedule": "linear"})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.write_clips(tmp_path_factory.mktemp("clips"))


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["original-faithful", "recurrent-d"])
def test_step_by_hand_logs_what_the_training_logs(arm: str, data, tmp_path):
    config = tiny.finetuning(data, arm, steps=1)
    step = first_step.prepare_first_step(config)
    step = first_step.FirstStep(
        state=step.state, batch=step.batch, outputs=step.outputs, noise=torch.Generator().manual_seed(0)
    )
    terms = adversarial.discriminator_step(step.state, step.outputs, step.batch, step.noise)
    terms |= adversarial.generator_step(step.state, step.outputs, step.batch, step.noise)
    assert finetuning.finetune(config, tmp_path)
    logged = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    if arm == "recurrent-d":  # the faithful arm draws its samples from four states only
        assert {name: float(value) for name, value in terms.items()} == pytest.approx(
            {name: logged[name] for name in terms}, rel=1e-4
        )
    assert (
        (float(terms["gradient_adversarial"]) == 0)
        == (arm == "original-faithful")
        == (logged["gradient_adversarial"] == 0)
    )


@pytest.mark.slow
def test_no_adversarial_gradient_of_2019_reaches_a_weight(data):
    faithful, corrected = (
        first_step.prepare_first_step(tiny.finetuning(data, arm)) for arm in ("original-faithful", "recurrent-d")
    )
    assert torch.equal(faithful.batch["lr"], corrected.batch["lr"])
    assert first_step.parameter_gradient(faithful, "adversarial") == 0
    assert first_step.parameter_gradient(faithful, "pixel") > 0
    assert first_step.parameter_gradient(corrected, "adversarial") > 0
    maps = first_step.gradient_maps(faithful)
    assert maps["adversarial"].abs().sum() == 0 < maps["pixel"].abs().sum()
    assert maps["pixel"].shape == faithful.outputs[0].shape


def test_gradient_maps_of_terms_that_share_the_discriminators_features(data):
    step = first_step.prepare_first_step(tiny.finetuning(data, "modern"))
    maps = first_step.gradient_maps(step)
    assert {"feature_matching", "adversarial"} <= set(maps)
    assert all(gradient.abs().sum() > 0 for gradient in maps.values())


@pytest.mark.slow
def test_discriminator_alone_leaves_the_generator_as_it_is(data):
    history = first_step.train_discriminator_only(tiny.finetuning(data, "recurrent-d", steps=1), 3)
    assert history["step"].tolist() == [1, 2, 3]
    assert history[["score_real", "score_fake"]].stack().between(0, 1).all()
    scores = first_step.judged_scores(first_step.prepare_first_step(tiny.finetuning(data, "recurrent-d")))
    assert set(scores) == {"true", "generated"} and all(0 < value < 1 for value in scores.values())
