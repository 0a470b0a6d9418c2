"""A study is checked before its first step: each planted fault is one line, all of them come at once."""

import shutil
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
import tiny
import torch
from vimeo_tree import names, write_vimeo

from stvsr import cli
from stvsr.arms import find_arm
from stvsr.models.generators import build_generator, save_generator
from stvsr.study import check
from stvsr.study.check import Machine, check_study
from stvsr.study.configurations import configurations
from stvsr.study.study_file import load_study

STUDY = """
title = "The paper's study in miniature"
question = "Do its checks find what is wrong?"
[[steps]]
id = "pretrain"
notebook = "02_rbpn_pretraining"
[steps.parameters]
data = ["VIMEO"]
generator = "rbpn-tiny"
initial_weights = ""
patch = 24
steps = 3
batch = 2
workers = 1
processes = 1
learning_rate = 0.0001
compile = false
device = "auto"
split = "train"
[[steps]]
id = "finetune"
name = "{arm}-s{seed}"
notebook = "03_adversarial_finetuning"
[steps.matrix]
arm = ["pixel-control", "recurrent-d-flow", "triplet-d"]
seed = [0]
[steps.parameters]
data = ["VIMEO"]
generator = "rbpn-tiny"
initial_weights = "step:pretrain/generator.safetensors"
patch = 16
steps = 2
batch = 2
discriminator_width = 4
crops_every = 0
vgg = ""
pwcnet = ""
srgan = ""
[[steps]]
id = "evaluate"
notebook = "04_ablation_evaluation"
[steps.parameters]
generators = ["rbpn=step:pretrain/generator.safetensors", "steps:finetune"]
data = ["VID4"]
split = "all"
clips = []
frames = 0
protocols = ["literature-y", "tecogan"]
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Vimeo-90k and Vid4 in miniature."""
    root = tmp_path_factory.mktemp("data")
    write_vimeo(root / "vimeo", train=names(48)[:40], test=names(48)[40:])
    for index, name in enumerate(("calendar", "city")):
        tiny.write_folder(root / "Vid4" / name, tiny.panning(8, 96, 112, seed=index))
    return root


def plant(text: str, *edits: tuple[str, str]) -> str:
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return text


def faults(tmp_path: Path, data: Path, *edits: tuple[str, str], machine: Machine = Machine()) -> list[str]:
    text = plant(STUDY, *edits).replace("VIMEO", str(data / "vimeo")).replace("VID4", str(data / "Vid4"))
    path = tmp_path / "mini.toml"
    path.write_text(text)
    return check_study(load_study(str(path), tmp_path / "out"), machine=machine)


@pytest.mark.slow
def test_a_study_without_faults_is_quiet(tmp_path, data):
    assert faults(tmp_path, data) == []
    assert not (tmp_path / "out").exists()


PLANTED = {
    "a negative learning rate": (("learning_rate = 0.0001", "learning_rate = -0.1"), "pretrain: learning_rate is -0.1"),
    "no steps": (("steps = 3", "steps = -1"), "pretrain: steps is -1"),
    "a patch of two pixels": (("patch = 24", "patch = 2"), "pretrain: patch is 2 LR pixels"),
    "a patch larger than the frames": (("patch = 16", "patch = 80"), "448x256, a patch needs 320"),
    "negative crops_every": (("crops_every = 0", "crops_every = -1"), "crops_every is -1"),
    "a VGG checkpoint that is not there": (('vgg = ""', 'vgg = "vgg19.pth"'), "checkpoint vgg19.pth does not exist"),
    "a PWC-Net checkpoint that is not there": (('pwcnet = ""', 'pwcnet = "pwc.pth"'), "pwc.pth does not exist"),
    "an SRGAN checkpoint that is not there": (('srgan = ""', 'srgan = "srgan.pth"'), "srgan.pth does not exist"),
    "no test clips": (("VID4", "nowhere/Vid4"), "evaluate: data nowhere/Vid4 does not exist"),
    "no training clips": (
        ('data = ["VIMEO"]\ngenerator = "rbpn-tiny"\ninitial_weights = ""',
         'data = ["nowhere"]\ngenerator = "rbpn-tiny"\ninitial_weights = ""'),
        "pretrain: data nowhere",
    ),
    "a clip of another data set": (("clips = []", 'clips = ["bikes-03"]'),
                                   "evaluate: clip bikes-03 is missing: there are calendar, city"),
    "a start that is not there": (('initial_weights = ""', 'initial_weights = "rbpn.pth"'),
                                  "generator rbpn.pth is neither a file nor"),
    "a start of another preset": (('initial_weights = ""', 'initial_weights = "rbpn-small"'),
                                  "pretrain: initial weights rbpn-small are"),
    "an earlier step of another preset": (
        ('generator = "rbpn-tiny"\ninitial_weights = ""', 'generator = "rbpn"\ninitial_weights = ""'),
        "the preset rbpn-tiny is",
    ),
    "a file that no step makes": (("pretrain/generator.safetensors\"\npatch", "pretrain/rbpn.pth\"\npatch"),
                                  "step pretrain will make no rbpn.pth: choose from generator.safetensors"),
    "fewer frames than a protocol needs": (("frames = 0", "frames = 3"), "frames is 3: these protocols need at least"),
    "a batch that processes cannot share": (("processes = 1", "processes = 3"), "it must be a multiple of the 3"),
    "a batch that cannot be divided": (("processes = 1", "processes = 1\naccumulate = 4"),
                                       "batch is 2: it must be a multiple of the accumulate of 4"),
    "nodes without a command that starts them": (("processes = 1", "processes = 1\nnodes = 2"),
                                                 "nodes is 2, srun is not there to start them"),
    "no node": (("processes = 1", "processes = 1\nnodes = 0"), "nodes is 0: at least 1"),
    "no process": (("processes = 1", "processes = 0"), "processes is 0: at least 1"),
    "the whole official list without validation": (('split = "train"', 'split = "official-train"'),
                                                   "split official-train leaves nothing of"),
    "every clip without validation": (('split = "train"', 'split = "all"'), "split all leaves nothing of"),
    "validation on training clips": (('split = "train"', 'split = "train"\nvalidation = ["VIMEO@train"]'),
                                     "validates and is trained on: name other sources in validation"),
    "a decay after the end": (('split = "train"', 'split = "train"\ndecay_at = 2.0'), "decay_at is 2.0: a share"),
    "negative validate_every": (('split = "train"', 'split = "train"\nvalidate_every = -1'), "validate_every is -1"),
    "a discriminator without channels": (("discriminator_width = 4", "discriminator_width = 0"),
                                         "discriminator_width is 0: it must be at least 1"),
    "an unknown protocol": (('"literature-y", "tecogan"', '"literature"'), "protocol 'literature' is unknown"),
    "an unknown arm": (('"triplet-d"]', '"triplet-e"]'), "triplet-e"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_fault_is_one_line_before_the_first_step(tmp_path, data, kind):
    edit, message = PLANTED[kind]
    found = faults(tmp_path, data, edit)
    assert any(message in line for line in found), found
    assert all(line.startswith("step") and "\n" not in line for line in found)


@pytest.mark.slow
def test_all_faults_come_at_once(tmp_path, data):
    """All that do not hide each other: a data set that is not there has no clip of a wrong name or size."""
    hidden = (
        "no test clips", "no training clips", "a patch larger than the frames", "a start of another preset",
        "an earlier step of another preset", "a start that is not there", "no process", "an unknown arm",
        "no node", "nodes without a command that starts them", "every clip without validation",
        "validation on training clips", "a decay after the end", "negative validate_every",
        "a batch that cannot be divided",
    )  # fmt: skip
    together = [planted for kind, planted in PLANTED.items() if kind not in hidden]
    found = faults(tmp_path, data, *(edit for edit, _ in together))
    assert len(together) >= 13
    assert [message for _, message in together if not any(message in line for line in found)] == []


@pytest.mark.slow
def test_damaged_and_missing_frames_are_found_without_a_full_scan(tmp_path, data):
    root = shutil.copytree(data / "vimeo", tmp_path / "data" / "vimeo")
    shutil.copytree(data / "Vid4", tmp_path / "data" / "Vid4")
    path = root / "sequences" / names(4)[3] / "im4.png"
    path.write_bytes(path.read_bytes()[:1000])
    found = faults(tmp_path, tmp_path / "data")
    assert len(found) == 1  # once, though four steps read it
    assert f"{names(4)[3]}/im4.png is missing or incomplete" in found[0]
    assert found[0].startswith("steps pretrain, pixel-control-s0 and 2 more: ")


def test_a_list_that_is_missing_is_found(tmp_path, data):
    root = shutil.copytree(data / "vimeo", tmp_path / "data" / "vimeo")
    (root / "sep_trainlist.txt").unlink()
    assert any("has no sep_trainlist.txt" in line for line in faults(tmp_path, tmp_path / "data"))


def test_clips_too_short_or_small_to_be_measured_are_found(tmp_path, data):
    tiny.write_folder(tmp_path / "data" / "Vid4" / "short", tiny.panning(5, 96, 112))
    tiny.write_folder(tmp_path / "data" / "Vid4" / "small", tiny.panning(8, 40, 112))
    (tmp_path / "data" / "vimeo").symlink_to(data / "vimeo")
    found = faults(tmp_path, tmp_path / "data")
    assert any("clip short has 5 frames, protocol tecogan needs 6" in line for line in found)
    assert any("needs at least 48x48" in line for line in found)


@pytest.mark.slow
def test_a_finished_checkpoint_of_another_size_is_found_by_reading_it(tmp_path, data):
    save_generator(tmp_path / "mine.safetensors", build_generator("rbpn-small"))
    found = faults(tmp_path, data, ('initial_weights = ""', f'initial_weights = "{tmp_path / "mine.safetensors"}"'))
    assert any("the preset rbpn-tiny is" in line for line in found)


# ---- the machine

Usage = namedtuple("Usage", "total used free")


def test_a_full_disk_and_a_small_dev_shm_are_found(tmp_path, data, monkeypatch):
    monkeypatch.setattr(check.shutil, "disk_usage", lambda path: Usage(10**6, 0, 10**5))
    found = faults(tmp_path, data)
    assert any("will hold about" in line and "free space" in line for line in found)
    if Path("/dev/shm").is_dir():
        assert any("in /dev/shm, which has 0.00 GB free: lower workers, or enlarge it" in line for line in found)


def test_too_little_memory_for_the_jobs_is_found(tmp_path, data, monkeypatch):
    memory = namedtuple("Memory", "total")(int(4e9))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert faults(tmp_path, data) == []
    assert any("4 jobs need about" in line for line in faults(tmp_path, data, machine=Machine(jobs=4)))


def test_a_missing_compiler_and_gpu_are_found(tmp_path, data, monkeypatch):
    monkeypatch.setattr(check.shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    found = faults(tmp_path, data, ("compile = false", "compile = true"), ('device = "auto"', 'device = "cuda"'))
    assert any("compile needs a C++ compiler" in line for line in found)
    assert any("device cuda is not there" in line for line in found)


def test_more_processes_than_a_jobs_share_of_gpus_are_found(tmp_path, data, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(check, "pick_device", lambda name: torch.device("cuda"))
    edit = ("batch = 2\nworkers = 1\nprocesses = 1", "batch = 8\nworkers = 1\nprocesses = 8")
    assert faults(tmp_path, data, edit) == []
    found = faults(tmp_path, data, edit, machine=Machine(jobs=8))
    assert any("processes is 8, each of 8 jobs has 1 of 8 GPUs" in line for line in found)


def test_a_cluster_is_not_judged_by_the_machine_that_asks(tmp_path, data, monkeypatch):
    monkeypatch.setattr(check.shutil, "disk_usage", lambda path: Usage(10**6, 0, 0))
    assert faults(tmp_path, data, machine=Machine(local=False)) == []


# ---- configurations and commands


def test_configurations_are_those_that_the_notebook_builds(tmp_path, data):
    path = tmp_path / "mini.toml"
    path.write_text(STUDY.replace("VIMEO", str(data / "vimeo")).replace("VID4", str(data / "Vid4")))
    steps = load_study(str(path), tmp_path / "out").steps
    built, wrong = configurations(steps["triplet-d-s0"])
    config = next(config for config in built if type(config).__name__ == "FinetuningConfig")
    assert config.arm == find_arm("triplet-d")
    assert (config.optim.steps, config.discriminator_width, config.data.patch) == (2, 4, 16)
    assert wrong == []


def test_several_mistakes_in_one_step_are_all_reported(tmp_path, data):
    found = faults(tmp_path, data, ("learning_rate = 0.0001", "learning_rate = -1.0\nema = 2.0\nwarmup = -3"))
    assert [any(part in line for line in found) for part in ("learning_rate is", "ema is", "warmup is")] == [True] * 3


@pytest.mark.slow
def test_the_commands_refuse_with_status_2_and_write_nothing(tmp_path, data, capsys):
    path = tmp_path / "mini.toml"
    text = STUDY.replace("VIMEO", str(data / "vimeo")).replace("VID4", str(data / "Vid4"))
    path.write_text(text)
    out = ["--out", str(tmp_path / "out")]
    assert cli.main(["check", str(path), *out]) == 0
    assert "5 steps, nothing is wrong" in capsys.readouterr().out
    path.write_text(text.replace("clips = []", 'clips = ["bikes-03"]').replace("crops_every = 0", "crops_every = -1"))
    for command in (["check"], ["reproduce", "--dry-run"], ["reproduce"]):
        assert cli.main([*command, str(path), *out]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 2
        assert all(line.startswith("stvsr: step") for line in lines)
    assert not (tmp_path / "out").exists()
