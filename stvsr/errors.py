"""The exception for invalid user input."""

import difflib
from collections.abc import Iterable

LONGEST_LIST = 12  # names; of more than these only the nearest one is proposed


class InputError(ValueError):
    """Raised for invalid user input; the message names the problem and how to fix it in one line.

    The command line prints the message and exits with status 2; a notebook shows it as the last line of the traceback.
    """


def unknown(what: str, name: object, known: Iterable[object]) -> InputError:
    """Return the error for a name that is not among the known ones: it lists them, or proposes the nearest of many.

    Args:
        what: kind of the thing that is named, such as "protocol".
        name: the name that was given.
        known: the names that are allowed.
    """
    names = [str(entry) for entry in known]
    nearest = difflib.get_close_matches(str(name), names, n=1) if len(names) > LONGEST_LIST else []
    remedy = f"did you mean {nearest[0]}?" if nearest else f"choose from {', '.join(names) or '(there is none)'}"
    return InputError(f"{what} {name!r} is unknown: {remedy}")


def first_line(error: Exception) -> str:
    """Return the first line of another library's error, or its type where it has no text."""
    return (str(error).splitlines() or [type(error).__name__])[0]
