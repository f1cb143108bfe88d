"""Fixtures that tests of several packages need."""

import io
import json
from collections.abc import Callable, Iterator

import pytest

from router.core.config import LogConfig
from router.telemetry import logs


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, object]]]]:
    """Give the log lines of warnings and errors written so far by this process."""
    stream = io.StringIO()
    logs.configure(LogConfig(level="warning", format="json"), process="test", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logs.configure(LogConfig(), process="test")
