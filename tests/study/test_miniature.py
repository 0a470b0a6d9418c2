"""The paper's study in miniature, from Vimeo-90k and Vid4 folders to the report: two processes, two jobs, resumed."""

import os
import tomllib

import pandas as pd
import pytest
import tiny
from vimeo_tree import names, write_vimeo

from stvsr import cli
from stvsr.data.clips import load_clips
from stvsr.data.seen import seen
from stvsr.models.generators import load_generator
from stvsr.runs.files import read_json
from stvsr.study.study_file import NOTEBOOKS

# of the paper's study only sizes change: folders, generator, steps, one seed, three of its arms
SMALLER = [
    ('"data/vimeo_septuplet"', '"VIMEO"'), ('"data/Vid4"', '"VID4"'), ('generator = "rbpn"', 'generator = "rbpn-tiny"'),
    ("patch = 64", "patch = 16"), ("workers = 12", "workers = 1"), ("steps = 450000", "steps = 4"),
    ("batch = 16", "batch = 2"), ("compile = true", "compile = false"), ("processes = 1", "processes = 2"),
    ("steps = 449000", "steps = 2"), ("seed = [0, 1, 2]", "seed = [0]"),
    ("fade = 1000", 'fade = 1\nby_hand = ["recurrent-d"]'),  # the lesson before the training is not what is tested
    ("validate_every = 2000", "validate_every = 2"), ("crops_every = 10000", "crops_every = 0"),
    ("log_every = 100", "log_every = 1"), ("discriminator_width = 64", "discriminator_width = 4"),
]  # fmt: skip
ARMS = ["pixel-control", "recurrent-d-flow", "triplet-d"]


def miniature(root) -> str:
    """Return the paper's study with smaller numbers, on synthetic folders that are written below `root`."""
    write_vimeo(root / "vimeo", train=names(40)[:32], test=names(40)[32:])
    for index, name in enumerate(("calendar", "city")):
        tiny.write_folder(root / "Vid4" / name, tiny.panning(8, 96, 112, seed=20 + index))
    text = (NOTEBOOKS / "studies" / "paper.toml").read_text()
    arms = tomllib.loads(text)["steps"][1]["matrix"]["arm"]
    assert set(ARMS) <= set(arms)
    listed = ", ".join(f'"{arm}"' for arm in arms)
    for old, new in [*SMALLER, (listed, ", ".join(f'"{arm}"' for arm in ARMS))]:
        assert old in text, old
        text = text.replace(old, new)
    return text.replace("VIMEO", str(root / "vimeo")).replace("VID4", str(root / "Vid4"))


@pytest.mark.slow
@pytest.mark.skipif("STVSR_MINIATURE" not in os.environ, reason="takes minutes: set STVSR_MINIATURE=1")
def test_the_papers_study_runs_end_to_end_in_miniature(tmp_path, capsys):
    study, out = tmp_path / "mini.toml", tmp_path / "out"
    study.write_text(miniature(tmp_path))
    assert cli.main(["reproduce", str(study), "--out", str(out), "--jobs", "2"]) == 0, capsys.readouterr()
    assert (out / "report.html").is_file()
    states = {step["name"]: step["status"] for step in read_json(out / "run.json")["steps"]}
    assert states == dict.fromkeys(["pretrain", *(f"{arm}-s0" for arm in ARMS), "evaluate"], "done")
    summary = pd.read_csv(out / "steps" / "evaluate" / "summary.csv")
    assert set(summary["protocol"]) == {"literature-y", "original-rgb", "tecogan", "study"}
    assert {*ARMS, "rbpn", "bicubic", "basicvsr-bi"} <= set(summary["arm"])
    # the tuned generators know the clips of pretraining and fine-tuning, and no test clip
    weights = str(out / "steps" / "triplet-d-s0" / "generator.safetensors")
    train = load_clips(str(tmp_path / "vimeo"), "train")
    assert seen(weights, train) == [clip.name for clip in train]
    assert seen(weights, load_clips(str(tmp_path / "vimeo"), "official-test")) == []
    assert load_generator(weights)[1]["trained_on"]
    capsys.readouterr()
    assert cli.main(["reproduce", str(study), "--out", str(out), "--dry-run"]) == 0
    assert all(line.startswith("skip ") for line in capsys.readouterr().out.splitlines())
