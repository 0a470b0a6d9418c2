"""The message for an unknown name lists the known ones, or proposes the nearest of many."""

from stvsr.errors import InputError, unknown

MANY = ["recurrent-d", "triplet-d", *(f"ladder-{step}" for step in range(20))]


def test_a_short_list_is_shown():
    error = unknown("protocol", "tecogann", {"literature-y": 1, "tecogan": 2})
    assert isinstance(error, InputError)
    assert str(error) == "protocol 'tecogann' is unknown: choose from literature-y, tecogan"
    assert str(unknown("scale", 3, (2, 4, 8))) == "scale 3 is unknown: choose from 2, 4, 8"


def test_the_nearest_of_many_is_proposed():
    assert str(unknown("arm", "recurent", MANY)) == "arm 'recurent' is unknown: did you mean recurrent-d?"
    assert str(unknown("arm", "x", MANY)).endswith(f"choose from {', '.join(MANY)}")


def test_an_empty_list_is_said_to_be_empty():
    assert str(unknown("clip", "x", [])) == "clip 'x' is unknown: choose from (there is none)"
