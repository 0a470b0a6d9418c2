"""Study files: matrices, references, and one clear line for every mistake."""

import re
from pathlib import Path

import pytest
from studies import ONE, TWO, notebook, study, two

from stvsr.errors import InputError
from stvsr.study.pipeline import reproduce
from stvsr.study.study_file import load_study


def test_a_matrix_repeats_a_step_and_references_follow(room):
    notebook(
        room / "notebooks" / "work.ipynb",
        'folder: str = "."\narm: str = "a"\nseed: int = 0\ninitial_weights: str = ""\n',
    )
    notebook(room / "notebooks" / "judge.ipynb", 'folder: str = "."\ngenerators: list[str] = []\n')
    study(room, """
[[steps]]
id = "start"
notebook = "work"
[[steps]]
id = "tune"
name = "{arm}-s{seed}"
notebook = "work"
matrix = {arm = ["x-control", "y"], seed = [0, 1]}
parameters = {initial_weights = "step:start/generator.safetensors"}
[[steps]]
id = "judge"
notebook = "judge"
parameters = {generators = ["start=step:start/generator.safetensors", "peer", "steps:tune"]}
""")  # fmt: skip
    parsed = load_study("s", room / "out")
    steps, out = parsed.steps, room / "out" / "steps"
    assert list(steps) == ["start", "x-control-s0", "x-control-s1", "y-s0", "y-s1", "judge"]
    assert steps["y-s1"].parameters == {"folder": str(out / "y-s1"), "arm": "y", "seed": 1,
                                        "initial_weights": str(out / "start" / "generator.safetensors")}  # fmt: skip
    assert steps["y-s1"].needs == ("start",)
    assert steps["judge"].needs == ("start", "x-control-s0", "x-control-s1", "y-s0", "y-s1")
    assert steps["judge"].parameters["generators"] == [
        f"start={out}/start/generator.safetensors",
        "peer",
        f"x-control@0={out}/x-control-s0/generator.safetensors",
        f"x-control@1={out}/x-control-s1/generator.safetensors",
        f"y@0={out}/y-s0/generator.safetensors",
        f"y@1={out}/y-s1/generator.safetensors",
    ]


def test_words_with_step_in_them_are_no_references(room):
    notebook(room / "notebooks" / "work.ipynb", 'title: str = ""\n')
    study(room, '[[steps]]\nid = "a"\nnotebook = "work"\nparameters = {title = "the first step: begin"}')
    assert load_study("s").steps["a"].parameters == {"title": "the first step: begin"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = ", "is not valid TOML"),
        ("tilte = 'x'", "study s.toml has no key 'tilte': did you mean title?"),
        ("title = 'x'", "study s.toml has no steps"),
        ("[[steps]]\nid = 'a'", "a step has no notebook"),
        ("[[steps]]\nnotebook = 'work'", "a step has no id"),
        (ONE + "parameter = {}", "step a has no key 'parameter': did you mean parameters?"),
        (ONE.replace('"work"', '"wrok"'), "notebook wrok does not exist: choose from read, work"),
        (ONE + ONE, "has two steps named a"),
        (ONE + "parameters = {folder = 'step:b/x'}", "step a needs b, which no earlier step is: there are none"),
        (ONE + "matrix = {times = [1, 2]}\n" + ONE.replace('"a"', '"b"') + "parameters = {folder = 'step:a/x'}",
         r"step b: step:a/x is ambiguous, a has 2 repetitions: use steps:a"),
        (ONE + "matrix = {times = 1}", "times in matrix is 1, it must be a list"),
        (ONE + "matrix = {times = [1]}\nname = '{tiems}'", "name {tiems} may use times in braces"),
        (ONE + "name = '../up'", "step name '../up' cannot name a folder"),
        ("id = 3\n" + ONE, "has no key 'id'"),
        ("steps = 3", "steps is 3, it must be a list"),
        ("steps = [1]", r"steps holds 1, write each step as a \[\[steps\]\] table"),
        ("title = 3\n" + ONE, "title is 3, it must be text"),
        (ONE.replace('"a"', "3"), "step 3: id is 3, it must be text"),
        (ONE.replace('"work"', "[1]"), r"step a: notebook is \[1\], it must be text"),
        (ONE.replace('"work"', '"../work"'), "notebook '../work' must be a plain name"),
        (ONE + "matrix = 3", "step a: matrix is 3, it must be a table"),
        (ONE + "parameters = [3]", r"step a: parameters is \[3\], it must be a table"),
        (ONE + f"matrix = {{times = {list(range(1001))}}}", "matrix gives 1001 steps, at most 1000"),
        (ONE + "matrix = {times = [1]}\nname = '{times:>999999999}'", "may use times in braces"),
        (ONE + "matrix = {times = [1]}\nname = '{times.real}'", "may use times in braces"),
        (ONE + "matrix = {times = [1]}\nname = '{times!r}'", "may use times in braces"),
        (ONE + f"name = '{'x' * 300}'", "has more than 100 bytes"),
        (ONE + 'name = "two\\nlines"', r"step name 'two\\nlines' cannot name a folder"),
        (ONE + 'name = "null\\u0000"', r"step name 'null\\x00' cannot name a folder"),
        (ONE + ONE.replace('"a"', '"b"') + "parameters = {folder = 'step:a/../../../etc/passwd'}",
         "leads out of the step"),
        (ONE + ONE.replace('"a"', '"b"') + "parameters = {folder = 'step:a//etc/passwd'}", "leads out of the step"),
        (ONE + "name = '{{x}}'", "step name '{x}' cannot name a folder"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_study_file_is_one_clear_line(room, text, message):
    two(room)
    study(room, text)
    with pytest.raises(InputError) as caught:
        load_study("s")
    assert re.search(message, str(caught.value))
    assert "\n" not in str(caught.value)


def test_an_unknown_study_lists_the_known_ones_and_a_path_is_taken_as_it_is(room):
    two(room)
    with pytest.raises(InputError, match=r"study t does not exist: choose from s, or give a .toml file"):
        load_study("t")
    (room / "mine.toml").write_text(TWO)
    assert load_study(str(room / "mine.toml")).out == (room / "reports" / "mine").resolve()


def test_braces_in_the_run_folder_are_refused(room):
    """papermill reads them as fields of a format."""
    two(room)
    with pytest.raises(InputError, match=r"has braces in its name"):
        reproduce("s", out=room / "run{1}")
    assert not (room / "run{1}").exists()


STUDIES = sorted((Path(__file__).resolve().parents[2] / "notebooks" / "studies").glob("*.toml"))


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_studies_that_come_with_the_project_are_in_order(path, tmp_path):
    parsed = load_study(str(path), tmp_path / "out")
    assert parsed.title
    assert parsed.question
    assert not (tmp_path / "out").exists()


def test_a_study_that_is_not_utf_8_is_named(room):
    two(room)
    path = study(room, "")
    path.write_bytes("title = 'Größe'".encode("latin-1"))
    with pytest.raises(InputError, match=r"s.toml is not UTF-8 text"):
        load_study("s")


def test_a_run_folder_behind_a_loop_of_links_is_refused(room):
    two(room)
    (room / "loop").symlink_to(room / "loop")
    with pytest.raises(InputError, match=r"loop"):
        reproduce("s", out=room / "loop" / "run")
