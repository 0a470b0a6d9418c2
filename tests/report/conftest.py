"""Runs and reports shared by the tests of the report."""

from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from report_fixture import LADDER, make_run, small_run, soup_of

from stvsr.report.build import build_report


@pytest.fixture(scope="session")
def full(tmp_path_factory) -> Path:
    """A run with everything: peers, arms with and without a twin, a ladder, two clips, a failed arm; and its report."""
    folder = tmp_path_factory.mktemp("reports") / "full"
    arms = ("rbpn", "pixel-control", "perceptual", "seed-faithful", "recurrent-d", "recurrent-d-flow", *LADDER[:1])
    make_run(folder, arms=arms, failed="recurrent-d-flow", frames=9)
    build_report(folder)
    return folder


@pytest.fixture(scope="session")
def page(full) -> BeautifulSoup:
    """The page of `full`."""
    return soup_of(full / "report.html")


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """A run of one clip, three methods and one protocol."""
    return small_run(tmp_path_factory.mktemp("reports") / "small")
