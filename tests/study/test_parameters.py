"""Parameters of notebooks and steps: strict names, types and literals."""

import pytest
from studies import TWO, notebook, study, two

from stvsr.errors import InputError
from stvsr.study.pipeline import reproduce
from stvsr.study.study_file import check_parameters, inspect_parameters

KNOWN = {
    "steps": ("int", 3),
    "rate": ("float", 0.1),
    "name": ("str", "a"),
    "fast": ("bool", False),
    "data": ("list[str]", ["a"]),
    "shrink": ("list[float]", [1.0]),
}


def test_given_values_go_over_the_defaults():
    checked = check_parameters({"steps": 5, "rate": 1, "shrink": [1, 2.5]}, KNOWN, "here")
    assert checked == {"steps": 5, "rate": 1.0, "name": "a", "fast": False, "data": ["a"], "shrink": [1, 2.5]}
    assert isinstance(checked["rate"], float)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"step": 3}, "here has no parameter 'step': did you mean steps?"),
        ({"learning": 3}, "here has no parameter 'learning': steps, rate, name, fast, data, shrink"),
        ({"steps": 3.0}, "here: parameter steps is 3.0, it must be of type int"),
        ({"steps": True}, "here: parameter steps is True, it must be of type int"),
        ({"steps": "3"}, "here: parameter steps is '3', it must be of type int"),
        ({"rate": "0.1"}, "here: parameter rate is '0.1', it must be of type float"),
        ({"rate": float("nan")}, "here: parameter rate is nan, it must be of type float"),
        ({"rate": False}, "here: parameter rate is False, it must be of type float"),
        ({"fast": 0}, "here: parameter fast is 0, it must be of type bool"),
        ({"name": None}, "here: parameter name is None, it must be of type str"),
        ({"data": "a"}, "here: parameter data is 'a', it must be of type list[str]"),
        ({"data": [1]}, "here: parameter data is [1], it must be of type list[str]"),
    ],
)
def test_a_misspelt_or_ill_typed_parameter_is_one_clear_line(given, message):
    with pytest.raises(InputError) as caught:
        check_parameters(given, KNOWN, "here")
    assert str(caught.value) == message


def test_parameters_are_read_as_papermill_reads_them(tmp_path):
    lines = [
        "a: int = 1  # one",
        "b: float = 1e-3  # two",
        'c: str = "x"  # three',
        'd: list[str] = ["p", "q"]',
        "e: bool = False  # five",
    ]
    assert inspect_parameters(notebook(tmp_path / "n.ipynb", "\n".join(lines))) == {
        "a": ("int", 1), "b": ("float", 0.001), "c": ("str", "x"), "d": ("list[str]", ["p", "q"]), "e": ("bool", False),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("a = 1  # untyped", "parameter a must have a type"),
        ("a: int = f()", r"parameter a must have a literal as default, not f\(\)"),
        ("a: Path = 1", "parameter a must have a type, one of int, float, str, bool"),
    ],
)
def test_a_notebook_with_untyped_or_computed_parameters_is_refused(tmp_path, cell, message):
    with pytest.raises(InputError, match=message):
        inspect_parameters(notebook(tmp_path / "n.ipynb", cell))


def test_a_study_with_a_misspelt_parameter_is_refused_before_anything_runs(room):
    two(room)
    study(room, TWO.replace("times", "tines"))
    with pytest.raises(InputError, match=r"step first \(work.ipynb\) has no parameter 'tines': did you mean times"):
        reproduce("s")
    assert not (room / "reports").exists()
