"""For all tests: one thread, one cache of decoded clips for the whole session, no time limit left by a caller."""

import os
import signal

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def session(tmp_path_factory):
    """Keep the user's cache out of it. Subprocesses and notebook kernels inherit the settings."""
    settings = {
        "STVSR_CACHE": str(tmp_path_factory.mktemp("cache")),
        "OMP_NUM_THREADS": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        for name in ("STVSR_DEADLINE", "WORLD_SIZE", "RANK", "LOCAL_RANK"):
            patch.delenv(name, raising=False)
        patch.setenv(
            "PYTHONPATH",
            os.pathsep.join(
                filter(None, [os.path.join(os.path.dirname(__file__), "helpers"), os.environ.get("PYTHONPATH")])
            ),
        )
        torch.set_num_threads(1)
        # a shell that starts the tests in the background has Ctrl-C ignored, and what they start would inherit that
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it
        yield
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGHUP, hangup)
