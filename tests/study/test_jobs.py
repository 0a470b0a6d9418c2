"""Several steps at once: processes, GPUs, a Dask cluster."""

from pathlib import Path

import pytest
from studies import notebook, study

from stvsr.errors import InputError
from stvsr.runs import hashes
from stvsr.runs.files import read_json
from stvsr.study import pipeline
from stvsr.study.pipeline import reproduce

MEET = """
import time
from pathlib import Path
mine, other = Path(folder, "here"), Path(folder).parent / meet / "here"
mine.touch()
end = time.time() + 100
while not other.exists() and time.time() < end:
    time.sleep(0.05)
assert other.exists()
"""
PAIR = """
[[steps]]
id = "a"
notebook = "meet"
parameters = {meet = "b"}
[[steps]]
id = "b"
notebook = "meet"
parameters = {meet = "a"}
"""


def pair(room: Path) -> None:
    """Two steps that each wait for the other to have begun."""
    notebook(room / "notebooks" / "meet.ipynb", 'folder: str = "."  # where\nmeet: str = ""  # whom\n', MEET)
    study(room, PAIR)


@pytest.mark.slow
def test_independent_steps_run_at_once_with_jobs(room):
    pair(room)
    assert reproduce("s", jobs=2) == 0
    assert all(read_json(path)["status"] == "done" for path in room.glob("reports/s/steps/*/step.json"))


@pytest.mark.slow
def test_steps_at_once_have_gpus_of_their_own(room, monkeypatch):
    notebook(room / "notebooks" / "meet.ipynb", 'folder: str = "."  # where\nmeet: str = ""  # whom\n', MEET,
             'import os\nmine.write_text(os.environ["CUDA_VISIBLE_DEVICES"])')  # fmt: skip
    study(room, PAIR)
    monkeypatch.setattr(pipeline, "visible_gpus", lambda: ["0", "1", "5"])
    assert reproduce("s", jobs=2) == 0
    assert {(room / f"reports/s/steps/{name}/here").read_text() for name in "ab"} == {"0,5", "1"}


@pytest.mark.parametrize(
    ("gpus", "jobs", "shares"),
    [
        (8, 8, ["0", "1", "2", "3", "4", "5", "6", "7"]),
        (8, 2, ["0,2,4,6", "1,3,5,7"]),
        (2, 3, ["0", "1", "0"]),
        (1, 2, ["0", "0"]),
        (0, 2, ["", ""]),
    ],
)
def test_gpus_are_dealt_out_among_jobs(gpus, jobs, shares):
    assert pipeline.gpu_shares([str(index) for index in range(gpus)], jobs) == shares


@pytest.mark.parametrize(
    ("named", "count", "gpus"),
    [
        (None, 2, ["0", "1"]),
        ("4,5", 2, ["4", "5"]),
        ("GPU-8f,GPU-9c", 2, ["GPU-8f", "GPU-9c"]),
        ("-1", 0, []),
        ("", 0, []),
        (None, 0, []),
    ],
)
def test_gpus_are_those_that_the_user_left_visible(monkeypatch, named, count, gpus):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    monkeypatch.setattr(pipeline.torch.cuda, "device_count", lambda: count)
    assert pipeline.visible_gpus() == gpus


@pytest.mark.slow
def test_steps_go_to_a_dask_cluster_when_asked(room):
    cluster = pytest.importorskip("distributed").LocalCluster(
        n_workers=1,
        threads_per_worker=2,
        processes=False,
        dashboard_address=None,
        protocol="tcp",
        local_directory=str(room),
    )
    pair(room)
    with cluster:
        assert reproduce("s", scheduler=cluster.scheduler_address) == 0
    assert all(read_json(path)["status"] == "done" for path in room.glob("reports/s/steps/*/step.json"))


@pytest.mark.slow
def test_a_dask_worker_with_other_code_is_refused():
    own = hashes.package_hash()
    pipeline._require_same_code({"tcp://10.0.0.1:1": own})
    with pytest.raises(InputError, match=r"tcp://10\.0\.0\.2:1 has other code of stvsr: install the same version"):
        pipeline._require_same_code({"tcp://10.0.0.1:1": own, "tcp://10.0.0.2:1": "0" * 64})
