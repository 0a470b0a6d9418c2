"""What every training shares: schedule, averages, checkpoints, log, guards; trainings as processes, one or several."""

import dataclasses
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from stvsr import losses
from stvsr.arms import find_arm
from stvsr.data.clips import load_clips, split_of
from stvsr.data.septuplets import SampleConfig
from stvsr.degradation import bicubic_up, quantise
from stvsr.errors import InputError
from stvsr.models import generators
from stvsr.models.basicvsr import BasicVSRConfig
from stvsr.models.generators import build_generator, generate, load_generator, save_generator
from stvsr.models.spynet import load_spynet
from stvsr.runs import deadline
from stvsr.runs.device import Precision, seed_everything
from stvsr.runs.files import as_json, from_json, load_tensors, read_json, read_log, save_tensors
from stvsr.training import batches, distributed, optimisation, pretraining, session, validation
from stvsr.training import log as training_log
from stvsr.training.batches import DataConfig
from stvsr.training.checkpoint import Checkpoint, Guard
from stvsr.training.finetuning import FinetuningConfig, finetune
from stvsr.training.launch import is_finished, launch
from stvsr.training.log import Log
from stvsr.training.optimisation import average_decay, clip_and_step, learning_rate
from stvsr.training.pretraining import PretrainingConfig, pretrain

ALONE = distributed.Rank(index=0, world=1, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.write_clips(tmp_path_factory.mktemp("clips"))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_generator(folder / "generator.safetensors")[0].state_dict()


def identical(first: Path, second: Path) -> bool:
    """Say whether two runs gave the same weights, bit for bit."""
    ours, theirs = weights(first), weights(second)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def largest_difference(first: Path, second: Path) -> float:
    ours, theirs = weights(first), weights(second)
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)


def logged(folder: Path) -> list[dict]:
    """Return the log without what a clock decides."""
    return [
        {name: value for name, value in entry.items() if name != "seconds"} for entry in read_log(folder / "log.jsonl")
    ]


def stop_after_each_step(monkeypatch):
    monkeypatch.setenv("STVSR_DEADLINE", "1")


# ---- schedule, average, configuration


def test_warm_up_rises_linearly_to_the_full_rate():
    config = tiny.optim(steps=100, warmup=10, schedule="constant", learning_rate=0.5)
    assert [learning_rate(step, config) for step in range(12)] == pytest.approx(
        [0.05 * k for k in range(1, 11)] + [0.5, 0.5]
    )


def test_cosine_falls_from_the_full_rate_to_one_percent():
    config = tiny.optim(steps=110, warmup=10, schedule="cosine", learning_rate=2.0)
    rates = [learning_rate(step, config) for step in range(10, 111)]
    assert rates[0] == 2.0
    assert rates[50] == pytest.approx(2.0 * 0.505)
    assert rates[100] == pytest.approx(0.02)
    assert rates == sorted(rates, reverse=True)


def test_step_falls_to_a_tenth_and_constant_does_not_fall():
    config = tiny.optim(steps=10, schedule="step", decay_at=0.7, learning_rate=1.0)
    assert [learning_rate(step, config) for step in range(10)] == pytest.approx([1.0] * 7 + [0.1] * 3)
    assert learning_rate(9, dataclasses.replace(config, schedule="constant")) == 1.0


@pytest.mark.slow
def test_the_schedule_reaches_the_optimiser(data, tmp_path):
    pretrain(tiny.pretraining(data, steps=5, warmup=2, schedule="cosine", learning_rate=1e-4), tmp_path)
    config = tiny.optim(steps=5, warmup=2, schedule="cosine", learning_rate=1e-4)
    assert [entry["learning_rate"] for entry in logged(tmp_path)] == pytest.approx(
        [learning_rate(step, config) for step in range(5)]
    )
    still = tiny.pretraining(data, steps=2, schedule="constant", learning_rate=1e-12)
    pretrain(still, tmp_path / "still")
    torch.manual_seed(still.optim.seed)
    start = build_generator("rbpn-tiny").state_dict()
    assert all(torch.allclose(value, start[name], atol=1e-9) for name, value in weights(tmp_path / "still").items())


def test_the_average_moves_by_one_minus_the_decay(data, tmp_path):
    """After the first step, whose decay is 1/10: average = start + 0.9 (weights - start)."""
    for name, ema in (("plain", 0.0), ("averaged", 0.75)):
        pretrain(tiny.pretraining(data, steps=1, ema=ema), tmp_path / name)
    torch.manual_seed(0)
    start = build_generator("rbpn-tiny").state_dict()
    plain, averaged = weights(tmp_path / "plain"), weights(tmp_path / "averaged")
    for name in start:
        assert torch.allclose(averaged[name], start[name] + 0.9 * (plain[name] - start[name]), atol=1e-7)
    assert any(not torch.equal(plain[name], averaged[name]) for name in start)


def test_the_decay_of_the_average_rises_and_the_start_is_forgotten():
    assert [average_decay(step, 0.99) for step in (0, 8, 889, 890, 5000)] == pytest.approx(
        [0.1, 0.5, 890 / 899, 0.99, 0.99]
    )
    assert average_decay(8, 0.25) == 0.25
    assert math.prod(average_decay(step, 0.99) for step in range(60)) < 1e-7  # the start's share after 60 steps


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"batch": 0}, "batch 0"),
        ({"accumulate": 0}, "accumulate is 0: it must be at least 1"),
        ({"batch": 4, "accumulate": 3}, "batch is 4: it must be a multiple of the accumulate of 3$"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0: it must be positive"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"schedule": "cosin"}, "schedule 'cosin' is unknown: choose from constant, cosine, step"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"log_every": 0}, "log_every is 0"),
        ({"save_every": 0}, "save_every 0"),
        ({"warmup": -1}, "warmup is -1"),
        ({"clip_gradient": -0.5}, "clip_gradient -0.5"),
        ({"clip_gradient": math.nan}, "clip_gradient nan"),
        ({"decay_at": 0.0}, "decay_at is 0.0"),
        ({"decay_at": 1.5}, "decay_at is 1.5"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296"),
    ],
)
def test_an_optimiser_config_names_what_is_wrong(changes, message):
    with pytest.raises(InputError, match=message):
        tiny.optim(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "trian"}, "split 'trian' is unknown"),
        ({"degradation": "bc"}, "degradation 'bc' is unknown"),
        ({"flow": "diss"}, "flow estimator 'diss' is unknown"),
        ({"patch": 2}, "patch is 2"),
        ({"shrink": (0.5,)}, r"shrink is \[0.5\]"),
        ({"shrink": ()}, r"shrink is \[\]"),
        ({"shrink": (math.inf,)}, r"shrink is \[inf\]"),
        ({"data": ()}, "data is empty"),
        ({"workers": -1}, "workers is -1"),
    ],
)
def test_a_data_config_names_what_is_wrong_before_any_work(changes, message):
    with pytest.raises(InputError, match=message):
        DataConfig(**changes)


def test_unknown_presets_losses_and_negative_intervals_are_named():
    with pytest.raises(InputError, match=r"validate_every is -1"):
        PretrainingConfig(validate_every=-1)
    with pytest.raises(InputError, match=r"generator 'rbpn-tny' is unknown"):
        PretrainingConfig(generator="rbpn-tny")
    with pytest.raises(InputError, match=r"loss 'l2' is unknown: choose from l1, charbonnier"):
        PretrainingConfig(loss="l2")


# ---- configurations as JSON


@pytest.mark.parametrize(
    "config", [PretrainingConfig(), FinetuningConfig(arm=find_arm("modern"), data=DataConfig(shrink=(1.0, 2.5)))]
)
def test_a_config_survives_json(config):
    assert from_json(type(config), json.loads(json.dumps(as_json(config)))) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generater": "rbpn"}, "PretrainingConfig has no 'generater': did you mean generator?"),
        ({"optim": {"step": 3}}, "OptimConfig has no 'step': did you mean steps?"),
        ({"optim": {"steps": "3"}}, "OptimConfig.steps is '3': it must be int"),
        ({"optim": {"steps": True}}, "OptimConfig.steps is True: it must be int"),
        ({"data": {"data": "samples"}}, "DataConfig.data is 'samples': it must be tuple"),
        ({"loss": 1}, "PretrainingConfig.loss is 1: it must be str"),
    ],
)
def test_a_config_file_with_a_mistake_is_one_clear_line(change, message):
    with pytest.raises(InputError) as caught:
        from_json(PretrainingConfig, change)
    assert str(caught.value) == message


def test_an_integer_stands_for_a_float():
    config = from_json(PretrainingConfig, {"optim": {"learning_rate": 1}})
    assert config.optim.learning_rate == 1.0
    assert isinstance(config.optim.learning_rate, float)


# ---- learning


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["l1", "charbonnier"])
def test_pretraining_overfits_one_clip(tmp_path, loss):
    """Of one still septuplet the network must learn more than bicubic, where it starts."""
    still = np.repeat(tiny.panning(1, 32, 32), 7, axis=0)
    source = tiny.write_folder(tmp_path / "clip", still)
    config = tiny.pretraining(source, loss=loss, steps=60, learning_rate=3e-3, schedule="constant")
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, augment=False))
    assert pretrain(config, tmp_path / "run")
    log = [entry["pixel"] for entry in logged(tmp_path / "run")]
    assert log[-1] < 0.8 * log[0]


@pytest.mark.slow
def test_overfit_shows_its_progress_or_says_there_is_none(data):
    config = tiny.pretraining(data)
    torch.manual_seed(0)
    network = build_generator("rbpn-tiny").train()
    sample = batches.open_dataset(config.data, batches.sample_config(network, config.data), config.optim)[0]
    log, images = validation.overfit(network, sample, tiny.optim(steps=40, learning_rate=3e-3))
    assert log["step"].tolist() == list(range(1, 41))
    validation.require_progress(log["pixel"].iloc[0], log["pixel"].iloc[-1], at_least=0.1)
    assert {name: image.shape for name, image in images.items()} == dict.fromkeys(
        ("bicubic", "output", "truth"), (32, 32, 3)
    )
    with pytest.raises(InputError, match=r"from 0.1000 to 0.0950, not down by 20%"):
        validation.require_progress(0.1, 0.095, at_least=0.2)
    with pytest.raises(InputError, match=r"to nan"):
        validation.require_progress(0.1, math.nan, at_least=0.2)


def test_the_gradient_is_clipped_and_its_norm_logged_before(data, tmp_path):
    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    ((weight**2).sum() / 2).backward()
    norm = clip_and_step(optimizer, 0.5)
    assert norm.item() == pytest.approx(5.0)
    assert torch.allclose(weight.detach(), torch.tensor([3.0 - 0.3, 4.0 - 0.4]), atol=1e-5)


def test_a_batch_in_one_is_the_textbook_step_bit_for_bit(data, tmp_path):
    config = tiny.pretraining(data, steps=1, learning_rate=1e-3, warmup=0)
    pretrain(config, tmp_path)
    seed_everything(config.optim.seed)
    generator = build_generator("rbpn-tiny")
    optimizer = torch.optim.Adam(generator.parameters(), lr=config.optim.learning_rate, foreach=True)
    dataset = batches.open_dataset(config.data, batches.sample_config(generator, config.data), config.optim)
    _, batch = next(batches.batches(dataset, config.optim, 0, ALONE, 0))
    losses.pixel_loss(generate(generator, batch["lr"], batch["flows"]), batch["hr"]).backward()
    optimizer.step()
    expected = generator.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in weights(tmp_path).items())


@pytest.mark.slow
def test_a_recurrent_generator_learns_from_the_inner_frames_and_keeps_its_flow(data, tmp_path, monkeypatch):
    monkeypatch.setitem(generators.PRESETS, "basicvsr", BasicVSRConfig(features=4, blocks=1, upsampled=4))
    config = dataclasses.replace(tiny.pretraining(data, steps=1, learning_rate=1e-3, warmup=0), generator="basicvsr")
    pretrain(config, tmp_path)
    seed_everything(config.optim.seed)
    generator = generators.start_generator("basicvsr", "")
    published = load_spynet().state_dict()
    assert all(torch.equal(value, published[name]) for name, value in generator.spynet.state_dict().items())
    sample = batches.sample_config(generator, config.data)
    dataset = batches.open_dataset(config.data, dataclasses.replace(sample, num_frames=3, targets=5), config.optim)
    _, batch = next(batches.batches(dataset, config.optim, 0, ALONE, 0))
    assert batch["lr"].shape[1] == 7 and batch["hr"].shape[1] == 5
    trained = [value for name, value in generator.named_parameters() if not name.startswith("spynet.")]
    optimizer = torch.optim.Adam(trained, lr=config.optim.learning_rate, foreach=True)
    losses.pixel_loss(generator(batch["lr"])[:, 1:6], batch["hr"]).backward()
    optimizer.step()
    expected = generator.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in weights(tmp_path).items())


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_gradients_give_the_same_training(data, tmp_path, monkeypatch, accumulate):
    """Tolerance 2e-6 on weights that moved by up to 4 steps of 1e-3: gradients are summed in another order."""
    sizes = []
    monkeypatch.setattr(
        pretraining, "generate", lambda *given, **named: sizes.append(len(given[1])) or generate(*given, **named)
    )
    pretrain(tiny.pretraining(data, batch=4, clip_gradient=0.03), tmp_path / "plain")
    pretrain(tiny.pretraining(data, batch=4, clip_gradient=0.03, accumulate=accumulate), tmp_path / "divided")
    assert sizes == [4] * 4 + [4 // accumulate] * 4 * accumulate
    assert largest_difference(tmp_path / "plain", tmp_path / "divided") < 2e-6
    for term in ("pixel", "gradient_pixel"):
        plain, divided = ([entry[term] for entry in logged(tmp_path / name)] for name in ("plain", "divided"))
        assert plain == pytest.approx(divided, rel=1e-4)


@pytest.mark.slow
def test_a_recurrent_generator_is_validated_on_seven_frames_as_it_is_used(data, tmp_path, monkeypatch):
    monkeypatch.setitem(generators.PRESETS, "basicvsr", BasicVSRConfig(features=4, blocks=1, upsampled=4))
    lengths = []

    def validated(network, batch, device):
        lengths.append(batch["lr"].shape[1])
        return {"validation_psnr": 1.0}

    monkeypatch.setattr(session, "validate", validated)
    held_out = tiny.write_folder(tmp_path / "held-out", tiny.panning(9, 48, 56, seed=99))
    config = tiny.pretraining(data, steps=1)
    patches = dataclasses.replace(config.data, validation=(str(held_out),))
    pretrain(dataclasses.replace(config, generator="basicvsr", data=patches, validate_every=1), tmp_path / "run")
    assert lengths == [7]


@pytest.mark.slow
def test_bfloat16_trains_nearly_alike_and_is_never_chosen_for_a_cpu(data, tmp_path):
    assert not Precision("auto", torch.device("cpu")).enabled
    logs = {}
    for precision in ("auto", "full", "bfloat16"):
        pretrain(tiny.pretraining(data, precision=precision), tmp_path / precision)
        logs[precision] = [entry["pixel"] for entry in logged(tmp_path / precision)]
    assert logs["auto"] == logs["full"] != logs["bfloat16"]
    assert logs["bfloat16"] == pytest.approx(logs["full"], rel=0.03)  # 8 significant bits
    assert {value.dtype for value in load_tensors(tmp_path / "bfloat16/generator.safetensors")[0].values()} == {
        torch.float32
    }
    with pytest.raises(InputError, match="precision 'half' is unknown"):
        tiny.optim(precision="half")


def test_a_gpu_without_bfloat16_trains_in_full_precision(monkeypatch):
    asked = []
    for native in (True, False):
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda native=native, **options: asked.append(options) or native
        )
        assert Precision("auto", torch.device("cuda")).enabled == native
        assert not Precision("full", torch.device("cuda")).enabled
    assert asked == [{"including_emulation": False}] * 2  # emulated bfloat16 is slower than float32


# ---- resume


@pytest.mark.slow
def test_the_best_weights_by_validation_are_kept_and_can_be_loaded(data, tmp_path, monkeypatch):
    config = tiny.pretraining(data, steps=4, validate_every=1, keep_best=True, learning_rate=0.02, ema=0.5)
    assert pretrain(config, tmp_path / "whole")
    scores = {entry["step"]: entry["validation_psnr"] for entry in logged(tmp_path / "whole")}
    generator, meta = load_generator(tmp_path / "whole" / "best.safetensors")
    assert meta["step"] == max(scores, key=scores.get)
    assert meta["validation_psnr"] == max(scores.values())
    assert meta["task"] == "pretraining" and meta["trained_on"]
    dataset = batches.open_dataset(config.data, batches.sample_config(generator, config.data), config.optim)
    fixed = validation.validation_batch(config.data, dataset.config)
    assert validation.validate(generator, fixed, torch.device("cpu"))["validation_psnr"] == meta["validation_psnr"]
    stop_after_each_step(monkeypatch)
    while not pretrain(config, tmp_path / "pieces"):
        pass
    again = load_tensors(tmp_path / "pieces" / "best.safetensors")
    assert again[1]["step"] == meta["step"]
    assert all(torch.equal(value, again[0][name]) for name, value in generator.state_dict().items())
    assert is_finished(dataclasses.replace(config, optim=tiny.optim(learning_rate=0.02, ema=0.5)), tmp_path / "whole")


def test_the_best_weights_need_validation():
    for config in (PretrainingConfig, FinetuningConfig):
        with pytest.raises(InputError, match="keep_best needs validation: set validate_every"):
            config(optim=tiny.optim(keep_best=True), validate_every=0)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"ema": 0.9, "clip_gradient": 0.01, "warmup": 2, "seed": 3}])
def test_a_run_stopped_after_every_step_equals_an_uninterrupted_one_bit_for_bit(data, tmp_path, monkeypatch, changes):
    config = tiny.pretraining(data, steps=4, validate_every=2, **changes)
    assert pretrain(config, tmp_path / "whole")
    stop_after_each_step(monkeypatch)
    finished = []
    while not finished or not finished[-1]:
        finished.append(pretrain(config, tmp_path / "pieces"))
    assert finished == [False, False, False, False, True]
    assert identical(tmp_path / "whole", tmp_path / "pieces")
    assert logged(tmp_path / "whole") == logged(tmp_path / "pieces")
    assert not (tmp_path / "pieces" / "checkpoint.safetensors").exists()


@pytest.mark.slow
def test_a_run_that_crashed_between_checkpoints_goes_on_from_the_last_one(data, tmp_path, monkeypatch):
    config = tiny.pretraining(data, steps=6, save_every=2)
    assert pretrain(config, tmp_path / "whole")
    calls, real = [], optimisation.update_average

    def crash(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("power cut")
        return real(*arguments)

    monkeypatch.setattr(session, "update_average", crash)
    with pytest.raises(RuntimeError, match=r"power cut"):
        pretrain(config, tmp_path / "crashed")
    assert [entry["step"] for entry in logged(tmp_path / "crashed")] == [1, 2, 3]
    assert load_tensors(tmp_path / "crashed" / "checkpoint.safetensors")[1]["step"] == 2
    assert pretrain(config, tmp_path / "crashed")
    assert identical(tmp_path / "whole", tmp_path / "crashed")
    assert logged(tmp_path / "whole") == logged(tmp_path / "crashed")


@pytest.mark.slow
def test_seconds_go_on_counting_after_a_resume(data, tmp_path, monkeypatch):
    stop_after_each_step(monkeypatch)
    for _ in range(3):
        pretrain(tiny.pretraining(data, steps=3), tmp_path)
    seconds = [entry["seconds"] for entry in read_log(tmp_path / "log.jsonl")]
    assert seconds == sorted(seconds)
    assert seconds[2] > seconds[0]


def test_a_checkpoint_of_another_configuration_is_refused(data, tmp_path, monkeypatch):
    stop_after_each_step(monkeypatch)
    pretrain(tiny.pretraining(data, learning_rate=1e-3), tmp_path)
    with pytest.raises(InputError, match=r"was made with another configuration: choose another folder or delete it"):
        pretrain(tiny.pretraining(data, learning_rate=2e-3), tmp_path)


@pytest.mark.slow
def test_a_stopped_run_goes_on_when_its_start_has_moved_and_not_when_it_has_changed(data, tmp_path, monkeypatch):
    start, moved = tmp_path / "start.safetensors", tmp_path / "elsewhere" / "start.safetensors"
    save_generator(start, build_generator("rbpn-tiny"))
    config = tiny.pretraining(data, steps=2, start=str(start))
    assert pretrain(config, tmp_path / "whole")
    stop_after_each_step(monkeypatch)
    assert not pretrain(config, tmp_path / "pieces")
    moved.parent.mkdir()
    start.rename(moved)
    config = dataclasses.replace(config, initial_weights=str(moved))
    assert not pretrain(config, tmp_path / "pieces")
    assert pretrain(config, tmp_path / "pieces")
    assert identical(tmp_path / "whole", tmp_path / "pieces")
    assert not pretrain(config, tmp_path / "changed")
    save_generator(moved, build_generator("rbpn-tiny"))
    with pytest.raises(InputError, match=r"was made with another configuration"):
        pretrain(config, tmp_path / "changed")


def test_a_checkpoint_that_says_nothing_of_its_configuration_is_refused(tmp_path):
    save_tensors(tmp_path / "checkpoint.safetensors", {}, {"step": 1})
    with pytest.raises(InputError, match=r"was made with another configuration"):
        Checkpoint(tmp_path, tiny.optim(), {}, {}, ALONE).load()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run_and_another_another(data, tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        pretrain(tiny.pretraining(data, steps=2, seed=seed), tmp_path / name)
    assert identical(tmp_path / "a", tmp_path / "b")
    assert not identical(tmp_path / "a", tmp_path / "c")


@pytest.mark.slow
def test_loader_processes_change_nothing(data, tmp_path):
    config = tiny.pretraining(data, steps=3)
    pretrain(config, tmp_path / "none")
    more = dataclasses.replace(config, data=dataclasses.replace(config.data, workers=1))
    pretrain(more, tmp_path / "one")
    assert identical(tmp_path / "none", tmp_path / "one")


def test_carried_gradients_are_part_of_a_checkpoint(tmp_path):
    def build():
        module = torch.nn.Linear(2, 1)
        adam = torch.optim.Adam(module.parameters())
        return module, Checkpoint(tmp_path, tiny.optim(steps=9), {"d": module}, {"d": adam}, ALONE, ("d",))

    module, checkpoint = build()
    module(torch.ones(1, 2)).sum().backward()
    checkpoint.save(7)
    other, restored = build()
    assert restored.load() == 7
    assert torch.equal(other.weight, module.weight)
    assert torch.equal(other.weight.grad, module.weight.grad)


# ---- log and guards


@pytest.mark.slow
def test_the_log_has_the_due_steps_only_and_tensorboard_the_same(data, tmp_path):
    pretrain(tiny.pretraining(data, steps=7, log_every=3, validate_every=5), tmp_path)
    log = logged(tmp_path)
    assert [entry["step"] for entry in log] == [1, 3, 5, 6, 7]
    assert {"pixel", "gradient_pixel", "learning_rate"} <= log[0].keys()
    assert "validation_psnr" in log[2]
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_a_loss_that_is_not_finite_stops_the_run_with_a_message(data, tmp_path, monkeypatch):
    network = build_generator("rbpn-tiny")
    torch.nn.init.constant_(network.output.conv.bias, math.nan)
    save_generator(tmp_path / "nan.safetensors", network)
    with pytest.raises(InputError, match=r"nan.safetensors has NaN or infinite values in 1 tensors"):
        pretrain(tiny.pretraining(data, start=str(tmp_path / "nan.safetensors")), tmp_path / "run")
    with pytest.raises(InputError, match=r"step 1: pixel is nan: lower the learning rate, or clip the gradient"):
        monkeypatch.setitem(losses.PIXEL_LOSSES, "l1", lambda output, truth: (output - truth).mean() * math.nan)
        pretrain(tiny.pretraining(data), tmp_path / "diverged")


@pytest.mark.slow
def test_a_broken_state_never_gets_into_a_checkpoint(data, tmp_path, monkeypatch):
    """The loss breaks between two logged steps and before a checkpoint: the last good checkpoint stays."""
    calls = []

    def breaking(output, target):
        calls.append(1)
        return losses.pixel_loss(output, target) * (math.nan if len(calls) >= 3 else 1.0)

    monkeypatch.setitem(losses.PIXEL_LOSSES, "l1", breaking)
    with pytest.raises(InputError, match=r"step 4: pixel is nan"):
        pretrain(tiny.pretraining(data, steps=20, log_every=10, save_every=2), tmp_path)
    tensors, meta = load_tensors(tmp_path / "checkpoint.safetensors")
    assert meta["step"] == 2
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_a_log_cuts_what_came_after_the_checkpoint(tmp_path):
    (tmp_path / "log.jsonl").write_text(
        "".join(json.dumps({"step": step, "seconds": step}) + "\n" for step in range(1, 6))
    )
    with Log(tmp_path, 3, ALONE) as log:
        log.write(4, tiny.optim(steps=9), {"pixel": torch.tensor(0.5)}, saving=False)
    assert [(entry["step"], entry.get("pixel")) for entry in read_log(tmp_path / "log.jsonl")] == [
        (1, None),
        (2, None),
        (3, None),
        (4, 0.5),
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_the_handlers_come_back(number):
    before = signal.getsignal(number)
    with Guard(ALONE) as guard:
        assert not guard.stop()
        os.kill(os.getpid(), number)
        assert guard.stop()
    assert signal.getsignal(number) is before


def test_time_that_is_up_stops_a_run(monkeypatch):
    monkeypatch.setenv("STVSR_DEADLINE", str(time.time() + 0.05))
    with Guard(ALONE) as guard:
        assert not guard.stop()
        time.sleep(0.1)
        assert guard.stop()


# ---- data


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(distributed, "pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match="4 processes have 2 GPUs to share: set processes to 2 or fewer"):
        distributed.current()


def test_processes_share_every_batch_without_overlap(data):
    config = tiny.optim(steps=3, batch=4)
    sizes = batches.sample_config(build_generator("rbpn-tiny"), DataConfig(patch=8))
    dataset = batches.open_dataset(DataConfig(data=(str(data),), split="all", patch=8), sizes, config)
    assert len(dataset) == 12
    ranks = [distributed.Rank(index=index, world=2, device=torch.device("cpu")) for index in range(2)]
    whole = dict(batches.batches(dataset, config, 0, ALONE, 0))
    parts = [dict(batches.batches(dataset, config, 0, rank, 0)) for rank in ranks]
    for step in range(3):
        joined = torch.cat([part[step]["hr"] for part in parts])
        assert torch.equal(joined, whole[step]["hr"])
    resumed = dict(batches.batches(dataset, config, 2, ALONE, 0))
    assert list(resumed) == [2]
    assert torch.equal(resumed[2]["lr"], whole[2]["lr"])
    odd = distributed.Rank(index=0, world=3, device=torch.device("cpu"))
    with pytest.raises(InputError, match=r"batch is 4: it must be a multiple of the 3 processes"):
        next(batches.batches(dataset, config, 0, odd, 0))
    with pytest.raises(
        InputError, match=r"batch is 4: it must be a multiple of the 2 processes times the accumulate of 4"
    ):
        next(batches.batches(dataset, dataclasses.replace(config, accumulate=4), 0, ranks[0], 0))


def test_validation_patches_are_fixed_still_and_of_the_validation_split(tmp_path):
    root = tiny.write_clips(tmp_path / "a@home", 3)
    assert [split_of(f"clip{index}") for index in range(3)] == ["train", "train", "validation"]
    data = DataConfig(data=(str(root),), split="train", patch=8)
    sizes = batches.sample_config(build_generator("rbpn-tiny"), data, targets=3)
    batch = validation.validation_batch(data, sizes, count=3)
    again = validation.validation_batch(data, sizes, count=3)
    assert all(torch.equal(batch[name], again[name]) for name in batch)
    assert batch["hr"].shape == (3, 1, 3, 32, 32)
    held_out = load_clips(str(root), "validation")[0].frames()
    windows = np.lib.stride_tricks.sliding_window_view(held_out[2:-2], (32, 32), axis=(1, 2))
    for patch in (batch["hr"][:, 0] * 255).round().numpy().astype(np.uint8):
        assert (
            (windows == patch[None, None, None]).all(axis=(3, 4, 5)).any()
        )  # there as it is: not turned, not trained on
    named = dataclasses.replace(data, validation=(str(root / "clip0"),))
    assert not torch.equal(validation.validation_batch(named, sizes, count=3)["hr"], batch["hr"])


def test_validation_scores_are_psnr_of_8_bit_outputs(data):
    network = build_generator("rbpn-tiny").eval()
    config = DataConfig(data=(str(data),), split="all", validation=(str(data),), patch=8)
    batch = validation.validation_batch(config, batches.sample_config(network, config))
    scores = validation.validate(network, batch, torch.device("cpu"))
    up = quantise(bicubic_up(batch["lr"][:, 2], 4)).numpy()
    mse = np.mean((up - batch["hr"][:, 0].numpy()) ** 2)
    assert scores["validation_psnr_bicubic"] == pytest.approx(10 * np.log10(1 / mse), abs=1e-3)
    assert scores["validation_psnr"] == pytest.approx(
        scores["validation_psnr_bicubic"], abs=1e-3
    )  # it starts at bicubic


def test_shrunk_copies_are_added_where_a_patch_still_fits(tmp_path):
    tiny.write_folder(tmp_path / "clip", tiny.panning(7, 64, 80))
    config = DataConfig(data=(str(tmp_path / "clip"),), split="all", patch=10, shrink=(1.0, 1.5, 3.0))
    sizes = batches.sample_config(build_generator("rbpn-tiny"), config)
    dataset = batches.open_dataset(config, sizes, tiny.optim())
    assert [(clip.name, clip.height, clip.width) for clip in dataset.clips] == [("clip", 64, 80), ("clip/1.5", 42, 53)]


def test_data_json_names_every_clip_once_with_its_hash(data, tmp_path):
    config = tiny.pretraining(data)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, shrink=(1.0, 1.25)))
    batches.write_data(tmp_path, batches.open_dataset(config.data, SampleConfig(num_frames=5, patch=8), config.optim))
    entries = read_json(tmp_path / "data.json", list)
    assert [(entry["clip"], entry["frames"], entry["height"], entry["width"]) for entry in entries] == [
        ("clip0", 9, 48, 56), ("clip1", 9, 48, 56),
    ]  # fmt: skip
    assert [entry["sha256"] for entry in entries] == [clip.fingerprint() for clip in load_clips(str(data))]


def test_a_training_without_crops_has_none_to_show(tmp_path):
    assert training_log.saved_crops(tmp_path / "crops") == {}


def test_a_validation_log_becomes_two_curves():
    log = pd.DataFrame(
        [{"step": 1, "pixel": 1.0}, {"step": 2, "pixel": 1.0, "validation_psnr": 30.0, "validation_psnr_bicubic": 29.0}]
    )
    curves = training_log.validation_log(log)
    assert {name: table.to_dict("list") for name, table in curves.items()} == {
        "generator": {"step": [2], "psnr": [30.0]},
        "bicubic": {"step": [2], "psnr": [29.0]},
    }
    assert all(table.empty for table in training_log.validation_log(log[["step", "pixel"]]).values())


# ---- processes of their own


@pytest.mark.slow
def test_launch_repeats_the_line_of_a_failure(data, tmp_path):
    config = tiny.pretraining(tmp_path / "nothing")
    with pytest.raises(InputError) as caught:
        launch("stvsr.training.pretraining", config, tmp_path / "run")
    assert str(caught.value).startswith(
        f"training in {tmp_path / 'run'} failed: data {tmp_path / 'nothing'} does not exist"
    )
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_launch_stops_in_time_goes_on_to_the_same_weights_and_repeats_nothing(data, tmp_path, monkeypatch):
    config, run = tiny.pretraining(data, steps=4), tmp_path / "run"
    stop_after_each_step(monkeypatch)
    with pytest.raises(InputError, match=f"{deadline.STOPPED}: run it again to continue"):
        launch("stvsr.training.pretraining", config, run)
    assert load_tensors(run / "checkpoint.safetensors")[1]["step"] == 1
    monkeypatch.delenv("STVSR_DEADLINE")
    assert launch("stvsr.training.pretraining", config, run) == run / "generator.safetensors"
    pretrain(config, tmp_path / "whole")
    assert identical(run, tmp_path / "whole")
    assert logged(run) == logged(tmp_path / "whole")

    def refuse(*arguments, **named):
        raise AssertionError("started again")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert launch("stvsr.training.pretraining", config, run) == run / "generator.safetensors"
    (run / "crops").mkdir()
    with pytest.raises(AssertionError, match=r"started again"):
        launch("stvsr.training.pretraining", tiny.pretraining(data, steps=5), run)
    left = {path.name for path in run.iterdir()}
    assert not left & {"generator.safetensors", "checkpoint.safetensors", "log.jsonl", "crops", "tensorboard"}


@pytest.mark.slow
def test_other_weights_behind_the_same_name_are_trained_anew(data, tmp_path):
    run, start = tmp_path / "run", tmp_path / "start.safetensors"
    save_generator(start, build_generator("rbpn-tiny"))
    config = tiny.pretraining(data, steps=1, start=str(start))
    launch("stvsr.training.pretraining", config, run)
    first = weights(run)
    save_generator(start, build_generator("rbpn-tiny"))
    launch("stvsr.training.pretraining", config, run)
    second = weights(run)
    assert not torch.equal(second["output.conv.weight"], first["output.conv.weight"])
    start.rename(moved := tmp_path / "moved.safetensors")  # the same weights elsewhere
    before = (run / "log.jsonl").stat().st_mtime_ns
    launch("stvsr.training.pretraining", dataclasses.replace(config, initial_weights=str(moved)), run)
    assert (run / "log.jsonl").stat().st_mtime_ns == before


@pytest.mark.slow
def test_ctrl_c_reaches_a_launched_training_which_saves_and_can_go_on(data, tmp_path, monkeypatch):
    config = tiny.pretraining(data, steps=100_000, save_every=100_000)
    log = tmp_path / "log.jsonl"

    def interrupt():
        deadline = time.time() + 120
        while time.time() < deadline and not (log.is_file() and log.read_text().count("\n") >= 2):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    watcher = threading.Thread(target=interrupt)
    watcher.start()
    with pytest.raises(KeyboardInterrupt):
        launch("stvsr.training.pretraining", config, tmp_path)
    watcher.join()
    done = load_tensors(tmp_path / "checkpoint.safetensors")[1]["step"]
    assert done == logged(tmp_path)[-1]["step"] >= 2
    stop_after_each_step(monkeypatch)
    assert not pretrain(config, tmp_path)
    assert [entry["step"] for entry in logged(tmp_path)] == list(range(1, done + 2))


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_equal_one(data, tmp_path, accumulate):
    """Tolerance 1e-5 on weights that moved by up to 4 steps of 1e-3: gradients are summed in another order."""
    config = tiny.pretraining(data, steps=4, batch=4, accumulate=accumulate)
    launch("stvsr.training.pretraining", config, tmp_path / "two", processes=2)
    pretrain(tiny.pretraining(data, steps=4, batch=4), tmp_path / "one")
    assert largest_difference(tmp_path / "one", tmp_path / "two") < 1e-5
    logs = [[entry["pixel"] for entry in logged(tmp_path / name)] for name in ("two", "one")]
    assert logs[0] == pytest.approx(logs[1], rel=1e-4)  # the means over both, not process 0's share


@pytest.mark.slow
def test_two_nodes_equal_one(data, tmp_path, monkeypatch):
    """Tolerance as for two processes."""
    starter = Path(__file__).parents[1] / "helpers" / "as_nodes.py"
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("STVSR_NODE_COMMAND", f"{sys.executable} {starter} {{nodes}}")
    monkeypatch.setenv("STVSR_RENDEZVOUS", f"localhost:{port}")
    launch("stvsr.training.pretraining", tiny.pretraining(data, steps=2, batch=4), tmp_path / "two", nodes=2)
    pretrain(tiny.pretraining(data, steps=2, batch=4), tmp_path / "one")
    assert largest_difference(tmp_path / "one", tmp_path / "two") < 1e-5
    logs = [[entry["pixel"] for entry in logged(tmp_path / name)] for name in ("two", "one")]
    assert logs[0] == pytest.approx(logs[1], rel=1e-4)


@pytest.mark.slow
def test_two_processes_equal_one_with_batch_norm_labels_orders_and_maxima(data, tmp_path):
    """Arms with all that depends on how a batch is divided, unless the processes share it.

    Tolerance as below: 5e-4 at most of weights that moved by up to 2 steps of 1e-3, and 1e-6 for the median.
    """
    arms = ["original-faithful", "recurrent-d-flow", "shuffled-0.032"]
    script = Path(__file__).parents[1] / "helpers" / "two_processes.py"
    runner = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*runner, str(script), str(tmp_path / "two"), str(data), *arms]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    for arm in arms:
        finetune(tiny.finetuning(data, arm, steps=2, batch=4), tmp_path / arm)
        alone, both = weights(tmp_path / arm), weights(tmp_path / "two" / arm)
        apart = torch.cat([(alone[name] - both[name]).abs().flatten() for name in alone])
        assert apart.max() < 5e-4, arm
        assert apart.median() < 1e-6, arm
        one, two = (logged(folder) for folder in (tmp_path / arm, tmp_path / "two" / arm))
        for term in ("discriminator", "score_real", "score_fake", "adversarial", "gradient_discriminator"):
            found = [[entry[term] for entry in log] for log in (one, two)]
            assert found[0] == pytest.approx(found[1], rel=1e-3), (arm, term)


@pytest.mark.slow
def test_two_processes_fine_tune_alike_stop_together_and_equal_one(data, tmp_path):
    """Tolerance 5e-4 on weights that moved by up to 3 steps of 1e-3, and most of them far less.

    Where a gradient is almost zero, Adam makes steps of its rounding. The gradient itself is tighter.
    """
    script = Path(__file__).parents[1] / "helpers" / "two_processes.py"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(script),
        str(tmp_path),
        str(data),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    said = {}
    for line in ended.stdout.splitlines():
        said |= json.loads(line) if line.startswith("{") else {}
    assert said["any"] == [[True, False]] * 2
    assert said["mean"] == [0.5, 0.5]
    first, second = said["players"]
    assert first == second
    assert first["flow"] != first["untrained"]
    assert said["finished"] == [False, False]
    assert said["stopped at"] == [1, 1]
    finetune(tiny.finetuning(data, "modern", steps=3), tmp_path / "one")
    assert largest_difference(tmp_path / "one", tmp_path / "modern") < 5e-4
    alone, both = weights(tmp_path / "one"), weights(tmp_path / "modern")
    apart = torch.cat([(alone[name] - both[name]).abs().flatten() for name in alone])
    assert apart.median() < 1e-6
    assert apart.quantile(0.99) < 1e-5
    for term in ("pixel", "discriminator", "r1", "gradient_generator", "gradient_discriminator"):
        one, two = ([entry[term] for entry in logged(tmp_path / name)] for name in ("one", "modern"))
        assert one == pytest.approx(two, rel=1e-4), term
