"""Score held-out clips, compare arms with intervals, write model cards."""
