"""The adversarial loop: whose gradient reaches whom, arm by arm; learning, resuming, guards, each fault of 2019."""

import contextlib
import copy
import dataclasses
import functools
import itertools
import math

import numpy as np
import pytest
import tiny
import torch

from stvsr import losses
from stvsr.arms import ARMS, PUBLISHED, WEIGHTS, Arm, arms_table, find_arm, parameters_of
from stvsr.degradation import bicubic_up
from stvsr.errors import InputError
from stvsr.models import discriminators, generators, spynet, vgg
from stvsr.models.basicvsr import BasicVSRConfig
from stvsr.models.discriminators import SingleFrameDiscriminator
from stvsr.models.generators import load_generator
from stvsr.runs.device import Precision, seed_everything
from stvsr.runs.files import load_tensors, read_log
from stvsr.training import adversarial, batches, distributed, finetuning, session
from stvsr.training.adversarial import (
    AdversarialState,
    discriminator_inputs,
    discriminator_step,
    estimate_flows,
    generator_step,
    generator_terms,
)
from stvsr.training.batches import micro_batches, open_dataset, sample_config
from stvsr.training.finetuning import (
    FinetuningConfig,
    ScoreGap,
    build_discriminator,
    build_networks,
    build_optimizers,
    finetune,
    forward_generator,
    prepare,
    update,
)
from stvsr.training.launch import identity
from stvsr.training.optimisation import average_decay
from stvsr.warp import warp

ALONE = distributed.Rank(index=0, world=1, device=torch.device("cpu"))


def _kind(arm: Arm) -> str:
    """Return what an arm computes, without how strongly: arms of one kind run the same code."""
    parameters = {name: value for name, value in parameters_of(arm).items() if name != "name"}
    return str({name: bool(value) if name in WEIGHTS else value for name, value in parameters.items()})


ONE_OF_EACH = list({_kind(arm): name for name, arm in reversed(ARMS.items())}.values())[::-1]
WITH_D = [name for name in ONE_OF_EACH if ARMS[name].discriminator != "none"]
LADDER = [
    "original-faithful",
    "ladder-1-weights",
    "ladder-2-vgg",
    "ladder-3-gradient",
    "ladder-4-discriminator",
    "recurrent-d",
]
DETACHED = LADDER[:3]
ACCUMULATING = LADDER[:4]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny.write_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module", autouse=True)
def _small_and_quick():
    """BasicVSR in miniature; the pretrained networks are read once."""
    flow_network = functools.cache(spynet.load_spynet)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(generators.PRESETS, "basicvsr", BasicVSRConfig(features=4, blocks=1))
        patch.setattr(vgg, "_shipped", functools.cache(vgg._shipped))
        patch.setattr(finetuning, "load_spynet", lambda device: copy.deepcopy(flow_network(device)))
        yield


def configure(data, arm: str, **changes) -> FinetuningConfig:
    config = tiny.finetuning(data, "recurrent-d", **changes)
    return dataclasses.replace(config, arm=ARMS[arm], generator=ARMS[arm].generator or "rbpn-tiny")


def play(config: FinetuningConfig, arm: Arm | None = None) -> tuple[AdversarialState, dict]:
    """Return an arm's state, set up as the loop does it, and its first batch."""
    arm = arm or config.arm
    seed_everything(config.optim.seed)
    networks = build_networks(arm, config)
    optimizers = build_optimizers(networks, config, arm)
    precision = Precision("auto", torch.device("cpu"))
    state = AdversarialState(
        arm=arm,
        networks=networks,
        ddp_discriminator=networks.discriminator,
        optimizers=optimizers,
        precision=precision,
        flow_shrink=config.flow_shrink,
    )
    sample = dataclasses.replace(sample_config(networks.generator, config.data, targets=3), hr_flow=True)
    dataset = open_dataset(config.data, sample, config.optim)
    batch = torch.utils.data.default_collate([dataset[index] for index in range(config.optim.batch)])
    return state, prepare(batch, arm)


def outputs_of(state: AdversarialState, batch: dict) -> list[torch.Tensor]:
    return forward_generator(state.networks.generator, batch, state.arm, state.precision)


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gradients(module: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.grad for parameter in module.parameters() if parameter.grad is not None]


def flat(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def only(arm: Arm, *kept: str) -> Arm:
    """Return the arm with all weights of G's terms zero but these."""
    weights = (
        "pixel", "perceptual", "temporal_perceptual", "total_variation", "adversarial", "flow_adversarial",
        "feature_matching", "ping_pong",
    )  # fmt: skip
    return dataclasses.replace(arm, **{name: getattr(arm, name) if name in kept else 0.0 for name in weights})


# ---- whose gradient reaches whom


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, arm in ARMS.items() if arm.temporal_perceptual])
def test_the_temporal_perceptual_term_alone_moves_g_without_a_perceptual_one(data, name):
    state, batch = play(configure(data, name), only(ARMS[name], "temporal_perceptual"))
    generator_step(state, outputs_of(state, batch), batch, noise())
    assert max(gradient.abs().max().item() for gradient in gradients(state.networks.generator)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_D)
def test_the_adversarial_term_alone_moves_g_in_every_arm_that_is_not_detached(data, name):
    """Measured in G's own parameters, not in what the loop logs of itself; exactly zero for the code of 2019."""
    state, batch = play(configure(data, name), only(ARMS[name], "adversarial"))
    said = generator_step(state, outputs_of(state, batch), batch, noise())
    pull = max(gradient.abs().max().item() for gradient in gradients(state.networks.generator))
    if name in DETACHED:
        assert pull == 0.0
        assert said["gradient_adversarial"].item() == 0.0
    else:
        assert pull > 0.0
        assert said["gradient_adversarial"].item() > 0.0


def test_the_detached_arms_are_the_faithful_ones_only():
    assert [name for name, arm in ARMS.items() if arm.detached] == DETACHED
    assert [name for name, arm in ARMS.items() if arm.accumulating] == ACCUMULATING


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_D)
def test_d_gets_no_gradient_from_the_step_of_g_but_in_the_accumulating_arms(data, name):
    state, batch = play(configure(data, name))
    discriminator = state.networks.discriminator
    before = flat(discriminator)
    generator_step(state, outputs_of(state, batch), batch, noise())
    if name in ACCUMULATING:
        assert max(gradient.abs().max().item() for gradient in gradients(discriminator)) > 0
    else:
        assert gradients(discriminator) == []
    assert torch.equal(flat(discriminator), before)
    assert all(parameter.requires_grad for parameter in discriminator.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_D)
def test_g_and_the_flow_network_get_no_gradient_from_the_step_of_d(data, name):
    state, batch = play(configure(data, name))
    before = flat(state.networks.discriminator)
    said = discriminator_step(state, outputs_of(state, batch), batch, noise())
    assert gradients(state.networks.generator) == []
    assert state.networks.flow is None or gradients(state.networks.flow) == []
    assert not torch.equal(flat(state.networks.discriminator), before)
    assert {"discriminator", "score_real", "score_fake", "gradient_discriminator"} <= said.keys()


@pytest.mark.slow
def test_the_flow_discriminator_reaches_the_flow_network_and_changes_it(data):
    state, batch = play(configure(data, "recurrent-d-flow", more={"flow_learning_rate": 1e-4}))
    before = flat(state.networks.flow)
    said = generator_step(state, outputs_of(state, batch), batch, noise())
    assert max(gradient.abs().max().item() for gradient in gradients(state.networks.flow)) > 0
    assert not torch.equal(flat(state.networks.flow), before)
    assert said["gradient_flow_adversarial"].item() > 0  # and G too
    frozen, batch = play(configure(data, "recurrent-d-flow"), only(ARMS["recurrent-d-flow"], "pixel", "adversarial"))
    assert frozen.networks.flow is None  # it belongs to the flow term alone


@pytest.mark.slow
def test_the_step_of_the_flow_network_makes_its_flows_look_more_real(data):
    config = configure(data, "recurrent-d-flow", more={"flow_learning_rate": 1e-5}, learning_rate=1e-12)
    state, batch = play(config)
    state.networks.discriminator.eval()
    outputs = outputs_of(state, batch)
    first = generator_step(state, outputs, batch, noise())["flow_adversarial"]
    later = generator_step(state, outputs_of(state, batch), batch, noise())["flow_adversarial"]
    assert later < first


@pytest.mark.slow
def test_flows_are_pixels_of_the_frames_in_both_directions(data):
    """The camera pans by (2, 1): to the frame before things go one way, to the next the other."""
    state, _ = play(configure(data, "recurrent-d-flow"))
    frames = torch.from_numpy(tiny.panning(3, 64, 64)).movedim(-1, 1)[None].float() / 255
    for shrink in (1, 2):
        flows = estimate_flows(state.networks.flow, frames, shrink)[0, :, :, 16:-16, 16:-16].mean((2, 3))
        assert flows.tolist() == [pytest.approx([2, 1], abs=0.4), pytest.approx([-2, -1], abs=0.4)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["original-faithful", "recurrent-d", "recurrent-d-flow", "triplet-d-pingpong", "modern", "iseebetter"]
)
def test_g_gets_the_gradient_of_the_weighted_sum(data, name):
    """Differentiating term by term and passing G once equals one backward through everything."""
    state, batch = play(configure(data, name))
    plain = copy.deepcopy(state)
    generator_step(state, outputs_of(state, batch), batch, noise(), fade=0.5)
    ours = gradients(state.networks.generator)
    terms = generator_terms(plain, outputs_of(plain, batch), batch, noise())
    total = sum(term.weight * (0.5 if term.adversarial else 1.0) * term.value for term in terms.values())
    total.backward()
    theirs = gradients(plain.networks.generator)
    assert len(ours) == len(theirs)
    for mine, expected in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_logged_gradients_are_those_of_the_whole_batch(data):
    """With four processes each sees a quarter of the batch, whose mean has twice the gradient at its frames."""
    logged = []
    for processes in (1, 4):
        state, batch = play(configure(data, "recurrent-d"))
        state = dataclasses.replace(state, processes=processes)
        logged.append(generator_step(state, outputs_of(state, batch), batch, noise()))
    for name in ("gradient_pixel", "gradient_perceptual", "gradient_adversarial"):
        assert logged[0][name].item() == pytest.approx(2 * logged[1][name].item(), rel=1e-5)
    assert logged[0]["gradient_generator"].item() == pytest.approx(logged[1]["gradient_generator"].item(), rel=1e-5)


@pytest.mark.slow
def test_the_adversarial_weight_is_faded_in(data):
    config = configure(data, "recurrent-d")
    pulls = []
    for fade in (0.0, 0.5, 1.0):
        state, batch = play(config, only(ARMS["recurrent-d"], "adversarial"))
        generator_step(state, outputs_of(state, batch), batch, noise(), fade)
        pulls.append(torch.cat([gradient.flatten() for gradient in gradients(state.networks.generator)]).norm().item())
    assert pulls == pytest.approx([0.0, pulls[2] / 2, pulls[2]], rel=1e-4)
    assert pulls[2] > 0


# ---- micro-batches


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["modern", "recurrent-d-flow", "ladder-3-gradient", "triplet-d-pingpong", "perceptual"]
)
def test_accumulated_gradients_are_those_of_the_whole_batch(data, name):
    """Without norms and random labels, which depend on how a batch is divided.

    Tolerance 3e-5 of the largest gradient of a network: sums in another order, and for G through a D that Adam moved.
    """
    arm = dataclasses.replace(ARMS[name], norm="none", soft_labels=False)
    found = []
    for count in (1, 2, 4):
        state, batch = play(configure(data, name, batch=4), arm)
        d = state.networks.discriminator is not None
        logged = update(state, state.networks.generator, micro_batches(batch, count), noise(), 0.5, discriminator=d)
        learning = {
            player: network for player, network in state.networks.named_children() if player in state.optimizers
        }
        found.append(({player: gradients(network) for player, network in learning.items()}, logged))
    (whole, terms), *divided = found
    for parts, logged in divided:
        for player in whole:
            largest = max(gradient.abs().max().item() for gradient in whole[player])
            assert largest > 0
            for mine, expected in zip(parts[player], whole[player], strict=True):
                assert torch.allclose(mine, expected, rtol=0, atol=3e-5 * largest), player
        assert logged.keys() == terms.keys()
        for term, value in terms.items():  # the mean of the parts' norms is at most the norm
            sums = term in ("gradient_generator", "gradient_discriminator") or "gradient_" not in term
            assert logged[term].item() == pytest.approx(value.item(), rel=1e-5 if sums else 0.2, abs=1e-7), term


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "discriminator", "forwards"), [(1, True, 1), (1, False, 1), (2, True, 4), (2, False, 2)]
)
def test_micro_batches_are_generated_again_for_g_without_their_graphs_for_d(
    data, monkeypatch, count, discriminator, forwards
):
    state, batch = play(configure(data, "recurrent-d"))
    graphs = []

    def forward(*given):
        outputs = forward_generator(*given)
        graphs.append(outputs[0].requires_grad)
        return outputs

    monkeypatch.setattr(finetuning, "forward_generator", forward)
    parts = micro_batches(batch, count)
    update(state, state.networks.generator, parts, noise(), 1.0, discriminator=discriminator)
    assert graphs == [False] * (forwards - count) + [True] * count


@pytest.mark.slow
def test_a_training_in_micro_batches_resumes_and_carries_gradients(data, tmp_path, monkeypatch):
    config = configure(data, "original-faithful", steps=3, accumulate=2)
    assert finetune(config, tmp_path / "whole")
    monkeypatch.setenv("STVSR_DEADLINE", "1")
    while not finetune(config, tmp_path / "pieces"):
        pass
    ours, theirs = (load_tensors(tmp_path / run / "generator.safetensors")[0] for run in ("whole", "pieces"))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


# ---- what D is shown


def test_an_arm_of_one_target_reads_what_a_sample_of_one_target_holds(data):
    """Cutting the outer frames off a sample of three targets gives the sample of the middle one."""
    config = configure(data, "recurrent-d")
    _, batch = play(config)
    triple, _ = play(configure(data, "triplet-d"))
    assert batch["lr"].shape[1:3] == (5, 3)
    assert batch["flows"].shape[1:4] == (1, 4, 2)
    assert batch["hr"].shape[1] == 1
    sample = dataclasses.replace(sample_config(triple.networks.generator, config.data, targets=3), hr_flow=True)
    whole = open_dataset(config.data, sample, config.optim)[0]
    assert torch.equal(batch["lr"][0], whole["lr"][1:6])
    assert torch.equal(batch["hr"][0, 0], whole["hr"][1])
    assert torch.equal(batch["flows"][0, 0], whole["flows"][1])


def test_the_recurrent_discriminator_judges_a_frame_beside_true_neighbours_and_true_flow(data):
    state, batch = play(configure(data, "recurrent-d"))
    (output,) = outputs_of(state, batch)
    frame, neighbours, flows = discriminator_inputs(output, batch, state.arm)
    assert torch.equal(frame, output[:, 0])
    assert torch.equal(neighbours, batch["truth"][:, [0, 2]])
    assert torch.equal(flows, batch["hr_flows"])
    assert torch.equal(discriminator_inputs(batch["truth"], batch, state.arm)[0], batch["truth"][:, 1])


def test_the_triplet_discriminator_sees_three_generated_frames_raw_and_warped_beside_their_input(data):
    state, batch = play(configure(data, "triplet-d"))
    (output,) = outputs_of(state, batch)
    assert output.shape == (2, 3, 3, 32, 32)
    frames, warped, conditions = discriminator_inputs(output, batch, state.arm)
    assert torch.equal(frames, output)
    assert torch.equal(warped[:, 1], output[:, 1])
    assert torch.allclose(warped[:, 0], warp(output[:, 0], batch["hr_flows"][:, 0]))
    assert torch.allclose(warped[:, 2], warp(output[:, 2], batch["hr_flows"][:, 1]))
    middle = batch["lr"][:, 2:5]  # of seven: the LR frames of the three targets
    assert torch.allclose(conditions, bicubic_up(middle.flatten(0, 1), 4).unflatten(0, (2, 3)))
    assert (conditions - batch["truth"]).abs().mean() < 0.1


def test_ping_pong_reads_the_windows_backwards(data):
    state, batch = play(configure(data, "triplet-d-pingpong"))
    network = state.networks.generator
    torch.nn.init.normal_(network.output.conv.weight, std=0.1)
    forwards, backwards = outputs_of(state, batch)
    lr, flows = batch["lr"], batch["flows"]
    for k in range(3):
        window = lr[:, k : k + 5]
        expected = network(window[:, 2], window[:, [4, 3, 1, 0]], flows[:, k].flip(1))
        assert torch.allclose(backwards[:, k], expected, atol=1e-5)
    assert not torch.allclose(forwards, backwards, atol=1e-4)


# ---- the study of time: what each discriminator sees, and its twin


def test_a_blind_discriminator_sees_no_change_from_frame_to_frame(data):
    state, batch = play(configure(data, "blind-0.032"))
    (output,) = outputs_of(state, batch)
    frames, warped, conditions = discriminator_inputs(output, batch, state.arm)
    count = output.shape[0] * output.shape[1]
    assert frames.shape == (count, 3, *output.shape[2:]) and conditions.shape == frames.shape
    assert torch.equal(frames[:, 0], output.flatten(0, 1))
    assert torch.equal(frames[:, :1].expand_as(frames), frames) and torch.equal(warped, frames)
    assert (state.networks.discriminator.read(frames, warped, conditions)[:, 9:18] == 0).all(), "no motion is left"


def test_the_score_of_a_blind_discriminator_does_not_depend_on_the_order_of_frames(data):
    state, batch = play(configure(data, "blind-0.032"))
    truth = batch["truth"]
    mean = [
        state.networks.discriminator(
            *discriminator_inputs(frames, {**batch, "conditions": conditions}, state.arm)
        ).mean()
        for frames, conditions in (
            (truth, batch["conditions"]),
            (truth[:, [2, 0, 1]], batch["conditions"][:, [2, 0, 1]]),
        )
    ]
    assert torch.allclose(*mean, atol=1e-5)


def test_shuffled_triplets_are_true_frames_in_a_wrong_order_with_their_own_lr_frames(data):
    state, batch = play(configure(data, "shuffled-0.032"))
    frames, warped, conditions = adversarial.shuffled_inputs(batch, state.arm, noise())
    for sample in range(len(frames)):
        order = [next(k for k in range(3) if torch.equal(frame, batch["truth"][sample, k])) for frame in frames[sample]]
        assert tuple(order) in adversarial.WRONG_ORDERS
        assert torch.equal(conditions[sample], batch["conditions"][sample, order])
    right = discriminator_inputs(batch["truth"], batch, state.arm)[1]
    still = (right - batch["truth"][:, 1:2]).abs().mean()
    assert (warped - frames[:, 1:2]).abs().mean() > 2 * still, "the wrong order moves incoherently"


def test_a_shuffled_arm_logs_the_score_of_the_wrong_order(data):
    state, batch = play(configure(data, "shuffled-0.032"))
    terms = discriminator_step(state, outputs_of(state, batch), batch, noise())
    assert 0 < terms["score_shuffled"] < 1


@pytest.mark.parametrize("name", [name for name in WITH_D if ARMS[name].kind != "ladder"])
def test_the_twin_has_the_same_losses_and_targets_and_no_discriminator(name):
    arm, twin = ARMS[name], ARMS[ARMS[name].twin]
    shared = ("pixel", "pixel_loss", "perceptual", "perceptual_loss", "vgg_layer", "vgg_input", "temporal_perceptual")
    shared += ("total_variation", "four_states", "generator", "targets")
    assert {field: getattr(twin, field) for field in shared} == {field: getattr(arm, field) for field in shared}
    assert twin.discriminator == "none" and twin.adversarial == 0


@pytest.mark.slow
def test_the_2019_code_gives_exactly_its_twins_weights(data, tmp_path):
    """No adversarial gradient reaches G: training with the discriminator changes nothing at all."""
    weights = []
    for name in ("original-faithful", "original-twin"):
        finetune(configure(data, name, steps=3), tmp_path / name)
        weights.append(load_tensors(tmp_path / name / "generator.safetensors")[0])
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


# ---- the faults of 2019, one by one


def differing(first: str, second: str) -> set[str]:
    one, other = (parameters_of(dataclasses.replace(ARMS[name], name="")) for name in (first, second))
    return {name for name in one if one[name] != other[name]}


def test_each_rung_of_the_ladder_corrects_exactly_one_fault():
    steps = [differing(first, second) for first, second in itertools.pairwise(LADDER)]
    # the weights of a term are one fault: without flow the code used others than with it
    assert steps == [{"pixel", "adversarial"}, {"vgg_input"}, {"detached"}, {"accumulating"}, {"four_states"}]
    last = ARMS["recurrent-d"]
    assert (last.detached, last.accumulating, last.four_states, last.vgg_input) == (False, False, False, "imagenet")
    assert (
        {name: getattr(last, name) for name in PUBLISHED}
        == PUBLISHED
        == {"pixel": 1.0, "perceptual": 0.006, "adversarial": 1e-3}
    )
    assert differing("recurrent-d", "recurrent-d-flow") == {"flow_adversarial"}
    assert differing("pixel-control", "perceptual") == {"perceptual"}
    faithful = ARMS["original-faithful"]
    assert (faithful.pixel, faithful.perceptual, faithful.adversarial) == (0.001, 0.006, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("accumulating", "factor"), [(True, 2), (False, 1)])
def test_accumulating_never_zeroes_the_gradients_of_d(data, accumulating, factor):
    arm = dataclasses.replace(ARMS["recurrent-d"], accumulating=accumulating)
    state, batch = play(configure(data, "recurrent-d", more={"discriminator_learning_rate": 0.0}), arm)
    outputs = outputs_of(state, batch)
    discriminator_step(state, outputs, batch, noise())
    once = [gradient.clone() for gradient in gradients(state.networks.discriminator)]
    discriminator_step(state, outputs, batch, noise())
    for gradient, before in zip(gradients(state.networks.discriminator), once, strict=True):
        assert torch.allclose(gradient, factor * before, rtol=1e-4, atol=1e-7)


def test_vgg_inputs_are_divided_by_their_maximum_in_the_faithful_arms_only(data):
    values = {}
    for name in ("ladder-1-weights", "ladder-2-vgg"):
        state, batch = play(configure(data, name))
        output = outputs_of(state, batch)
        values[name] = generator_terms(state, output, batch, noise())["perceptual"].value
        image, wanted = output[0].flatten(0, 1), batch["hr"].flatten(0, 1)
        if name == "ladder-1-weights":
            image, wanted = image / image.amax(), wanted / wanted.amax()
        assert torch.allclose(values[name], losses.perceptual_loss(image, wanted, state.networks.vgg))
    assert values["ladder-1-weights"] != values["ladder-2-vgg"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["original-faithful", "recurrent-d"])
def test_four_states_reaches_the_data(data, tmp_path, monkeypatch, name):
    seen, real = [], batches.open_dataset
    monkeypatch.setattr(
        session, "open_dataset", lambda data, sample, optim: seen.append(sample) or real(data, sample, optim)
    )
    finetune(configure(data, name, steps=1), tmp_path)
    assert seen[0].four_states is (name == "original-faithful")


# ---- learning


@pytest.mark.slow
@pytest.mark.parametrize("name", ["recurrent-d", "triplet-d", "modern", "iseebetter"])
def test_d_learns_to_tell_bicubic_from_truth_on_a_toy_clip(tmp_path, name):
    """And not by heart: at the end it is asked about patches that it was not trained on."""
    grain = np.random.default_rng(0).integers(0, 256, (40, 44, 3), np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    source = tiny.write_folder(tmp_path / "grain", np.stack([grain[t : t + 64, 2 * t : 2 * t + 64] for t in range(9)]))
    config = configure(
        source, name, batch=4, steps=80, more={"discriminator_width": 8, "discriminator_learning_rate": 1e-3}
    )
    state, _ = play(config, dataclasses.replace(ARMS[name], r1=0.0))
    sample = dataclasses.replace(sample_config(state.networks.generator, config.data, targets=3), hr_flow=True)
    dataset = open_dataset(config.data, sample, config.optim)
    gaps = []
    for step in range(80):
        batch = prepare(torch.utils.data.default_collate([dataset[4 * step + index] for index in range(4)]), state.arm)
        said = discriminator_step(
            state, outputs_of(state, batch), batch, noise(step)
        )  # an untrained residual G is bicubic
        gaps.append((said["score_real"] - said["score_fake"]).item())
    assert abs(gaps[0]) < 0.02
    batch = prepare(torch.utils.data.default_collate([dataset[320 + index] for index in range(16)]), state.arm)
    with torch.no_grad():
        real = state.networks.discriminator(*discriminator_inputs(batch["truth"], batch, state.arm))
        fake = state.networks.discriminator(*discriminator_inputs(outputs_of(state, batch)[0], batch, state.arm))
    assert np.mean(gaps[-5:]) > 0.03
    assert (real > fake).float().mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_each_arm_overfits_one_clip(tmp_path, name):
    """What the arm minimises besides the state must fall: its fidelity terms with their weights."""
    source = tiny.write_folder(tmp_path / "clip", np.repeat(tiny.panning(1, 32, 32), 7, axis=0))
    steps, rate = (8, 5e-4) if ARMS[name].generator else (20, 3e-3)  # faster, BasicVSR's first steps overshoot
    config = configure(source, name, steps=steps, learning_rate=rate)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, augment=False))
    assert finetune(config, tmp_path / "run")
    arm, log = ARMS[name], read_log(tmp_path / "run" / "log.jsonl")
    terms = [term for term in ("pixel", "perceptual", "temporal_perceptual", "total_variation") if getattr(arm, term)]
    objective = [sum(getattr(arm, term) * entry[term] for term in terms) for entry in log]
    assert min(objective[-3:]) < 0.97 * objective[0]


@pytest.mark.slow
def test_the_log_names_every_term_both_scores_and_all_gradient_norms(data, tmp_path):
    assert finetune(
        configure(data, "recurrent-d-flow", steps=2, more={"crops_every": 2, "validate_every": 2}), tmp_path
    )
    first, second = read_log(tmp_path / "log.jsonl")
    expected = {
        "step", "seconds", "learning_rate", "score_gap", "discriminator", "flow_discriminator", "score_real",
        "score_fake", "score_real_flow", "score_fake_flow", "gradient_discriminator", "gradient_generator",
    }  # fmt: skip
    for term in ("pixel", "perceptual", "adversarial", "flow_adversarial"):
        expected |= {term, f"gradient_{term}"}
    assert first.keys() == expected
    assert second.keys() == expected | {"validation_psnr", "validation_psnr_bicubic"}
    assert [path.name for path in sorted((tmp_path / "crops").iterdir())] == ["step-000001.png", "step-000002.png"]
    generator, meta = load_generator(tmp_path / "generator.safetensors")
    assert (meta["task"], meta["arm"], generator.config) == (
        "fine-tuning",
        "recurrent-d-flow",
        generators.PRESETS["rbpn-tiny"],
    )


@pytest.mark.slow
def test_the_averaged_weights_are_what_is_kept(data, tmp_path, monkeypatch):
    monkeypatch.setenv("STVSR_DEADLINE", "1")
    config = configure(data, "modern", steps=1, ema=0.99)
    assert not finetune(config, tmp_path)
    tensors, _ = load_tensors(tmp_path / "checkpoint.safetensors")
    state, _ = play(config)
    start, decay = state.networks.generator.state_dict(), average_decay(0, 0.99)
    for name, value in start.items():
        moved = start[name] + (1 - decay) * (tensors[f"module/generator/{name}"] - value)
        assert torch.allclose(tensors[f"module/ema/{name}"], moved, atol=1e-7)
    assert finetune(config, tmp_path)
    kept = load_generator(tmp_path / "generator.safetensors")[0].state_dict()
    assert all(torch.equal(kept[name], tensors[f"module/ema/{name}"]) for name in start)


# ---- resume


@pytest.mark.slow
@pytest.mark.parametrize("name", ["recurrent-d", "original-faithful", "recurrent-d-flow", "modern"])
def test_a_run_stopped_after_every_step_equals_an_uninterrupted_one_bit_for_bit(data, tmp_path, monkeypatch, name):
    """With optimisers of all networks, batch statistics, averaged weights, carried gradients, and who sat out."""
    more = {
        "skip_above": -1.0,
        "flow_learning_rate": 1e-4,
        "fade": 3,
        "discriminator_clip": 0.01,
    }  # D sits out every second step
    config = configure(data, name, steps=4, more=more)
    assert finetune(config, tmp_path / "whole")
    monkeypatch.setenv("STVSR_DEADLINE", "1")
    while not finetune(config, tmp_path / "pieces"):
        pass
    ours, theirs = (
        load_generator(tmp_path / run / "generator.safetensors")[0].state_dict() for run in ("whole", "pieces")
    )
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    logs = [read_log(tmp_path / run / "log.jsonl") for run in ("whole", "pieces")]
    for entries in zip(*logs, strict=True):
        first, second = ({key: value for key, value in entry.items() if key != "seconds"} for entry in entries)
        assert first == second
    assert ["score_real" in entry for entry in logs[0]] == [False, True, False, True]


# ---- guards


def scores(real: float, fake: float) -> dict:
    return {"score_real": torch.tensor(real), "score_fake": torch.tensor(fake)}


def test_the_gap_follows_the_scores_and_d_sits_out_every_second_step_while_it_wins():
    gap = ScoreGap(FinetuningConfig(arm=find_arm("recurrent-d"), skip_above=0.5), ALONE)
    values = [gap.update(scores(0.9, 0.1), step)["score_gap"] for step in range(3)]
    assert values == pytest.approx([0.8 * (1 - 0.9**k) for k in (1, 2, 3)])
    assert [gap.skip() for _ in range(3)] == [False] * 3
    for step in range(60):
        gap.update(scores(0.9, 0.1), step)
    assert [gap.skip() for _ in range(5)] == [True, False, True, False, True]
    assert gap.update({}, 64) == {}  # a step that D sat out says nothing
    for step in range(60):
        gap.update(scores(0.5, 0.5), step)
    assert not gap.skip()


def test_a_discriminator_that_is_certain_for_too_long_stops_the_run():
    gap = ScoreGap(FinetuningConfig(arm=find_arm("recurrent-d"), patience=5), ALONE)
    with pytest.raises(
        InputError, match=r"certain for 6 steps \(gap 0.99.*lower discriminator_learning_rate, or choose spectral norm"
    ):
        for step in range(200):
            gap.update(scores(1.0, 0.0), step)
    assert step > 5


@pytest.mark.slow
def test_a_collapsed_discriminator_stops_the_loop(data, tmp_path, monkeypatch):
    """The same through the loop: a step that always answers with certainty."""

    def certain(state, outputs, batch, noise, micro):
        return scores(1.0, 0.0)

    monkeypatch.setattr(finetuning, "discriminator_step", certain)
    with pytest.raises(InputError, match=r"step \d+: the discriminator has been certain for 3 steps"):
        finetune(configure(data, "recurrent-d", steps=300, more={"patience": 2, "skip_above": 2.0}), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["pixel", "discriminator"])
def test_what_is_not_finite_stops_the_loop_with_a_message(data, tmp_path, monkeypatch, broken):
    if broken == "pixel":
        monkeypatch.setitem(
            losses.PIXEL_LOSSES,
            "l1",
            lambda output, truth: (output - truth).mean() * math.nan,
        )
    else:
        monkeypatch.setitem(
            losses.DISCRIMINATOR_LOSSES, "bce", lambda real, fake, *chosen: (real - fake).mean() * math.nan
        )
    with pytest.raises(InputError, match=f"step 1: {broken} is nan: lower the learning rate"):
        finetune(configure(data, "recurrent-d"), tmp_path)


# ---- configuration


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generator": "rbpn-tny"}, "generator 'rbpn-tny' is unknown"),
        ({"flow_shrink": 3}, "flow_shrink is 3: choose 1, 2 or 4"),
        ({"discriminator_learning_rate": -1.0}, "discriminator_learning_rate is -1.0: it must be 0 or more"),
        ({"flow_learning_rate": math.nan}, "flow_learning_rate is nan: it must be 0 or more"),
        ({"fade": -5}, "fade is -5: it cannot be negative"),
        ({"skip_above": math.nan}, "skip_above is nan"),
        ({"discriminator_width": 0}, "discriminator_width is 0: it must be at least 1"),
        (
            {"arm": ARMS["basicvsr-triplet"]},
            "arm basicvsr-triplet fine-tunes basicvsr, not rbpn-small: set generator to basicvsr",
        ),
    ],
)
def test_a_config_names_what_is_wrong(changes, message):
    with pytest.raises(InputError, match=message):
        FinetuningConfig(**changes)


def test_an_unknown_arm_is_named_with_the_nearest_one():
    with pytest.raises(InputError, match=r"arm 'recurent-d' is unknown: did you mean recurrent-d\?"):
        finetuning.finetuning_config({"arm": "recurent-d"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"discriminator": "recurrnt"}, "discriminator 'recurrnt' is unknown: choose from none, recurrent"),
        ({"adversarial": 0.1}, "an adversarial weight needs a discriminator"),
        ({"flow_adversarial": 0.1, "discriminator": "triplet"}, "choose discriminator recurrent"),
        ({"ping_pong": 0.1, "discriminator": "recurrent"}, "choose triplet"),
        ({"adversarial_loss": "hinge", "discriminator": "triplet"}, "hinge losses have no labels"),
        ({"perceptual": -0.1}, "perceptual is -0.1: a weight of 0 or more"),
        ({"r1": math.nan}, "r1 is nan: a weight of 0 or more"),
        ({"discriminator_betas": (0.9, 1.0)}, r"two numbers in \[0, 1\)"),
        ({"vgg_input": "maxmum"}, "vgg_input 'maxmum' is unknown"),
        ({"temporal_perceptual": 0.1}, "measures change by LPIPS: set perceptual_loss to lpips"),
    ],
)
def test_an_arm_that_cannot_be_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Arm(**changes)


def test_an_arm_that_is_edited_under_its_name_is_another_training(data, monkeypatch):
    config = configure(data, "modern")
    before = identity(config)
    monkeypatch.setitem(ARMS, "modern", dataclasses.replace(ARMS["modern"], description="in other words"))
    assert identity(configure(data, "modern")) == before
    assert before["arm"].keys() == parameters_of(ARMS["modern"]).keys()
    monkeypatch.setitem(ARMS, "modern", dataclasses.replace(ARMS["modern"], r1=1.0))
    assert identity(configure(data, "modern")) != before


def test_the_table_of_arms_has_them_all():
    table = arms_table()
    assert table.index.tolist() == list(ARMS)
    assert table.loc["recurrent-d-flow", "flow_adversarial"] == 1e-3
    assert all(table["description"])


def test_d_may_start_from_an_srgan_discriminator(data, tmp_path):
    config = configure(data, "recurrent-d")
    source = SingleFrameDiscriminator(discriminators.DiscriminatorConfig(width=config.discriminator_width))
    torch.save(source.state_dict(), tmp_path / "srgan.pth")
    network = build_discriminator(ARMS["recurrent-d"], dataclasses.replace(config, srgan=str(tmp_path / "srgan.pth")))
    assert torch.equal(network.conv4.weight, source.conv4.weight)
    assert network.config.score == "raw"


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_every_network_that_learns_has_an_optimiser_and_no_other(data, name):
    state, _ = play(configure(data, name))
    assert set(state.optimizers) == {
        player for player in ("generator", "discriminator", "flow") if getattr(state.networks, player)
    }
    assert all(
        not parameter.requires_grad for parameter in (state.networks.vgg.parameters() if state.networks.vgg else ())
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_step_stays_on_its_device(data, monkeypatch, name):
    """`meta`, a device without numbers, stands for a GPU: what is left on the CPU cannot be joined with it."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # which it does not have
    state, batch = play(configure(data, name))
    state.networks.to("meta")
    batch = {key: tensor.to("meta") for key, tensor in batch.items()}
    outputs = outputs_of(state, batch)
    terms = discriminator_step(state, outputs, batch, noise()) if state.ddp_discriminator else {}
    terms |= generator_step(state, outputs, batch, noise())
    assert {value.device.type for name, value in terms.items() if not name.startswith("gradient_")} == {"meta"}
