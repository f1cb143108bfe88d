"""What tests of the chart share."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from router.store.embedded import EmbeddedValkey
from tests.chart.tools import VENV, Helm, need
from tests.e2e.harness import Turnouts


@pytest.fixture(scope="session")
def helm() -> Iterator[Helm]:
    """The real Helm, from .venv-chart."""
    need((VENV / "turnout-stamp").exists(), "Helm's SDK", "./run setup chart")
    process = Helm()
    yield process
    process.close()


@pytest.fixture
async def turnouts(tmp_path: Path) -> AsyncIterator[Turnouts]:
    """Starts real processes; afterwards each must end well and leave nothing."""
    all_of_them = Turnouts(tmp_path)
    yield all_of_them
    await all_of_them.finish()


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A real server, which lives on while releases come and go."""
    server = EmbeddedValkey(tmp_path_factory.mktemp("store"))
    server.start()
    yield server
    server.stop()
