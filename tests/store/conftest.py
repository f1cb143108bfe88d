"""Real servers for the store's tests: Valkey from its wheel, and Debian's redis-server 7.0 where it is installed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.store.embedded import EmbeddedValkey

OLDEST = shutil.which("redis-server")

BOTH = [
    pytest.param(None, id="valkey"),
    pytest.param(
        OLDEST, id="redis-7.0", marks=pytest.mark.skipif(OLDEST is None, reason="redis-server is not on PATH")
    ),
]
"""The newest and the oldest server that we support."""


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """A Valkey of this test's own, to be stopped, killed and started at will."""
    with EmbeddedValkey(tmp_path / "data") as running:
        yield running


@pytest.fixture(params=BOTH)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """The newest and the oldest server, each of this test's own."""
    with EmbeddedValkey(tmp_path / "data", binary=request.param) as running:
        yield running


@pytest.fixture(scope="module", params=BOTH)
def shared_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """The newest and the oldest server, each with what earlier tests of the module left in it."""
    with EmbeddedValkey(tmp_path_factory.mktemp("shared"), binary=request.param) as running:
        yield running
