"""Record of the training samples that were left out because a frame could not be read."""

import json
from pathlib import Path

from stvsr.runs.files import read_log, write_text
from stvsr.training import distributed

LEFT_OUT = "left_out.jsonl"
SHOWN = 10  # damaged frames that are printed; the file has all


def left_out(folder: Path) -> list[dict]:
    """Return what a training left out, an entry per draw: its `step` (1-based) and `damage`, a line with the path."""
    path = Path(folder) / LEFT_OUT
    return read_log(path) if path.is_file() else []


class LeftOut:
    """`left_out.jsonl` of a training: none while nothing is damaged; what came after the checkpoint is cut off."""

    def __init__(self, folder: Path, start: int, rank: distributed.Rank):
        self.path, self.rank = Path(folder) / LEFT_OUT, rank
        self.waiting: list[dict] = []
        self.entries: list[dict] = []
        if rank.index == 0 and self.path.exists():
            self.entries = [entry for entry in left_out(folder) if entry["step"] <= start]
            self._write()
        self.known = {entry["damage"] for entry in self.entries}

    def add(self, step: int, damage: list[str]) -> None:
        """Add what this process left out before a step (0-based)."""
        self.waiting += [{"step": step + 1, "damage": line} for line in damage]

    def write(self) -> None:
        """Write what all processes have added, and print the first of the damaged frames; every process calls this."""
        found = sorted(self.rank.gather(self.waiting), key=lambda entry: (entry["step"], entry["damage"]))
        self.waiting = []
        if not found or self.rank.index:
            return
        self.entries += found
        self._write()
        for line in dict.fromkeys(entry["damage"] for entry in found):
            if line not in self.known and len(self.known) < SHOWN:
                print(f"note: left out: {line}", flush=True)
            self.known.add(line)

    def summarise(self) -> None:
        """Print how many samples were left out."""
        if self.entries:
            print(
                f"note: {len(self.entries)} samples were left out for {len(self.known)} damaged frames: {self.path}",
                flush=True,
            )

    def _write(self) -> None:
        if not self.entries:
            self.path.unlink(missing_ok=True)
            return
        write_text(self.path, "".join(json.dumps(entry) + "\n" for entry in self.entries))
