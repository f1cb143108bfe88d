"""Fixtures that tests of several packages need."""

import io
import json
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from router.core.config import LogConfig
from router.telemetry import logs
from tests.turnstile import Turnstile

_FOLDER = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:  # noqa: ANN401 - xdist publishes no types
    """Tell each process of one run where they take turns."""
    if _FOLDER not in node.config.stash:
        node.config.stash[_FOLDER] = tempfile.TemporaryDirectory(prefix="turnout-tests-")
    node.workerinput["turnstile"] = node.config.stash[_FOLDER].name


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove that place."""
    if (folder := config.stash.get(_FOLDER, None)) is not None:
        folder.cleanup()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run a test that is marked `alone` while no other one runs; its time-out does not count the wait."""
    if (process := getattr(item.config, "workerinput", None)) is None:
        return (yield)
    with Turnstile(Path(process["turnstile"])).passed(alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, object]]]]:
    """Give the log lines of warnings and errors written so far by this process."""
    stream = io.StringIO()
    logs.configure(LogConfig(level="warning", format="json"), process="test", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logs.configure(LogConfig(), process="test")
