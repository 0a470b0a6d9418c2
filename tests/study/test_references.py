"""Study files: defaults of all steps, and references to earlier steps as tables."""

from pathlib import Path

import pytest

from stvsr.errors import InputError
from stvsr.study.study_file import load_study

STUDY = """
[defaults]
patch = 16
generator = "rbpn-tiny"
degradation = "bd"
[[steps]]
id = "pretrain"
notebook = "02_rbpn_pretraining"
[[steps]]
id = "tune"
name = "{arm}-s{seed}"
notebook = "03_adversarial_finetuning"
matrix = {arm = ["modern", "triplet-d"], seed = [0]}
parameters = {initial_weights = {step = "pretrain"}, patch = 24}
[[steps]]
id = "evaluate"
notebook = "04_ablation_evaluation"
parameters = {generators = [{name = "rbpn", step = "pretrain"}, {steps = "tune"}, "basicvsr-bi"]}
"""


def load(tmp_path: Path, text: str):
    path = tmp_path / "s.toml"
    path.write_text(text)
    return load_study(str(path), tmp_path / "out")


def test_tables_mean_what_their_form_as_text_means(tmp_path):
    tables = load(tmp_path, STUDY)
    text = load(
        tmp_path,
        STUDY.replace('{step = "pretrain"}', '"step:pretrain/generator.safetensors"')
        .replace('{name = "rbpn", step = "pretrain"}', '"rbpn=step:pretrain/generator.safetensors"')
        .replace('{steps = "tune"}', '"steps:tune"'),
    )
    assert tables.steps == text.steps
    assert tables.steps["evaluate"].needs == ("pretrain", "modern-s0", "triplet-d-s0")
    assert (
        tables.steps["modern-s0"].parameters["initial_weights"]
        == f"{tmp_path}/out/steps/pretrain/generator.safetensors"
    )


def test_a_table_may_name_the_file(tmp_path):
    steps = load(tmp_path, STUDY.replace('{step = "pretrain"},', '{step = "pretrain", file = "other.pth"},')).steps
    assert steps["modern-s0"].parameters["initial_weights"].endswith("/steps/pretrain/other.pth")


def test_defaults_reach_every_step_that_knows_them_and_give_way(tmp_path):
    steps = load(tmp_path, STUDY).steps
    assert {name: step.parameters.get("patch") for name, step in steps.items()} == {
        "pretrain": 16, "modern-s0": 24, "triplet-d-s0": 24, "evaluate": None,
    }  # fmt: skip
    assert all(step.parameters["degradation"] == "bd" for step in steps.values())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("patch = 16", "pach = 16", "study s.toml, defaults has no key 'pach': did you mean patch?"),
        ("patch = 16", "patch = '16'", "parameter patch is '16', it must be of type int"),
        ("[defaults]", "defaults = 3\n[other]", "study s.toml has no key 'other'"),
        ('{step = "pretrain"}', '{stp = "pretrain"}', "reference has no key 'stp': did you mean step?"),
        ('{step = "pretrain"}', '{step = "pretrian"}', "needs pretrian, which no earlier step is"),
        ('{step = "pretrain"}', '{file = "x"}', "is not a reference: write"),
        ('{step = "pretrain"}', "{step = 3}", "is not a reference: write"),
        ('{steps = "tune"}', '{steps = "tune", name = "x"}', "names several steps: write steps alone"),
        ('{name = "rbpn", step = "pretrain"}', '{step = "tune"}', "is ambiguous, tune has 2 repetitions"),
    ],
)
def test_a_mistake_in_a_table_is_one_clear_line(tmp_path, old, new, message):
    with pytest.raises(InputError) as caught:
        load(tmp_path, STUDY.replace(old, new))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
