"""The time at which work stops, and the exit status of unfinished work."""

import os

from stvsr.errors import InputError

UNFINISHED = 75  # EX_TEMPFAIL of sysexits: try again
STOPPED = "was stopped before its end and saved a checkpoint"


def deadline() -> float:
    """Return the time, seconds since the epoch, at which work is to stop: $STVSR_DEADLINE, which `--minutes` sets."""
    given = os.environ.get("STVSR_DEADLINE", "inf")
    try:
        return float(given)
    except ValueError:
        raise InputError(f"STVSR_DEADLINE is {given!r}: it must be seconds since 1970, or unset") from None
