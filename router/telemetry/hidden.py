"""Keeps a package out of a process that another one would load it into, without need, because it is installed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hidden(package: str) -> Iterator[None]:
    """Let nothing load `package` within the block, unless it is loaded already; afterwards it can be loaded again."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # Python's own word for "do not import"
    try:
        yield
    finally:
        del sys.modules[package]
