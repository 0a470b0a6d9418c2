"""Functions that return a Figure with alt text, for notebooks and report."""
