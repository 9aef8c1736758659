"""What the tests of the chart need: Helm and the programs around it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cluster.binaries import BinariesError, find_binaries
from tests.support.helm import MODULES
from tests.support.require import require_or_skip

_NO_PROGRAMS = pytest.StashKey[str]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Get the programs before the first test, so that a long build counts against no test's time limit."""
    here = Path(__file__).parent
    if session.config.option.collectonly or not any(here in item.path.parents for item in session.items):
        return
    capture = session.config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():  # a person who waits sees why
        try:
            for module in MODULES:
                find_binaries(module)
        except BinariesError as error:
            session.config.stash[_NO_PROGRAMS] = str(error)


@pytest.fixture(scope="session", autouse=True)
def programs(request: pytest.FixtureRequest) -> None:
    """They are there."""
    if reason := request.config.stash.get(_NO_PROGRAMS, None):
        require_or_skip("chart", reason)
