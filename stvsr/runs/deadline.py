"""The time at which work stops, and the exit status of unfinished work."""

import os

UNFINISHED = 75  # EX_TEMPFAIL of sysexits: try again
STOPPED = "was stopped before its end and saved a checkpoint"


def deadline() -> float:
    """Return the time, seconds since the epoch, at which work is to stop: $STVSR_DEADLINE, which `--minutes` sets."""
    return float(os.environ.get("STVSR_DEADLINE", "inf"))
