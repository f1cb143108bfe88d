"""Notices code that touches anything but memory: files, sockets, processes, the terminal."""

import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache

from router.testing.expect import ensure

EVENTS = (
    "open", "os.", "socket.", "subprocess.", "shutil.", "tempfile.", "glob.", "pathlib.", "mmap.", "fcntl.",
    "sqlite3.", "urllib.", "http.", "ftplib.", "smtplib.", "ssl.", "time.sleep", "_thread.start",
)  # fmt: skip
"""Beginnings of the audit events (sys.addaudithook) of what pure code does not do; 3.11 has none of the last two."""


class _Watch:
    """The audit hook of this process: Python lets none be removed, so there is one and it can be switched off."""

    def __init__(self) -> None:
        self.thread: int | None = None
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        """Note an event of the watched thread."""
        if self.thread == threading.get_ident() and event.startswith(EVENTS) and not _importing():
            self.seen.append(f"{event} {arguments[:1]!r}"[:200])


def _importing() -> bool:
    """Whether a module is being loaded: its file is opened by Python, for whoever needs it first."""
    frame = sys._getframe(2)  # noqa: SLF001 - the one way to ask
    while frame.f_back is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@cache
def _watch() -> _Watch:
    watch = _Watch()
    sys.addaudithook(watch)
    return watch


@contextmanager
def doing_nothing_else(who: str) -> Iterator[None]:
    """Raise AssertionError at the end if this thread did any I/O meanwhile, or printed."""
    watch, printed = _watch(), io.StringIO()
    watch.thread, watch.seen = threading.get_ident(), []
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            yield
    finally:
        watch.thread = None
    ensure(not watch.seen, f"{who} does no I/O; seen: {', '.join(watch.seen[:3])}")
    ensure(not printed.getvalue(), f"{who} prints nothing; seen: {printed.getvalue()[:80]!r}")
