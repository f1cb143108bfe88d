"""What all end-to-end tests share."""

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.e2e.harness import Turnouts
from tests.e2e.model_server import ModelServer


@pytest.fixture
async def turnouts(tmp_path: Path) -> AsyncIterator[Turnouts]:
    """Starts real processes; afterwards each must end well and leave nothing."""
    if sys.platform != "linux":
        pytest.skip("finds the processes that it started in /proc")
    all_of_them = Turnouts(tmp_path)
    yield all_of_them
    await all_of_them.finish()


@pytest.fixture
async def stable() -> AsyncIterator[ModelServer]:
    """The server of v1, which answers 1."""
    async with ModelServer(1).running() as server:
        yield server


@pytest.fixture
async def candidate() -> AsyncIterator[ModelServer]:
    """The server of v2, which answers 2."""
    async with ModelServer(2).running() as server:
        yield server


@pytest.fixture
def figure(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a figure past pytest's capture, for the record."""

    def show(text: str) -> None:
        with capsys.disabled():
            print(f"\n  observed: {text}")  # noqa: T201 - that is its purpose

    return show
