"""Two runs of `stvsr upscale` into one output: the second is refused, and nothing of the first is touched."""

import os

import pytest
import tiny

from stvsr.cli import main
from stvsr.runs.lock import lock_beside, locked


@pytest.mark.slow
@pytest.mark.parametrize("output", ["large.mp4", "frames"])
def test_a_second_upscale_to_one_output_names_the_first(tmp_path, capsys, output):
    clip = tiny.write_folder(tmp_path / "clip", tiny.panning(3, 16, 16))
    command = ["upscale", str(clip), str(tmp_path / output), "--model", "bicubic"]
    with locked(lock_beside(tmp_path / output), "this"):
        assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"stvsr: output {tmp_path / output} is in use by process {os.getpid()} on ")
    assert error.count("\n") == 1
    assert main(command) == 0
    assert not lock_beside(tmp_path / output).exists()
