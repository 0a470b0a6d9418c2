"""Speed and memory, each against the plain way in the same run: `python -m benchmarks --help`."""
