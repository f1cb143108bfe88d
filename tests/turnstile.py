"""One test alone on the machine, while others run in several processes."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Turnstile:
    """Lets tests through together, or one of them alone.

    Whoever wants to be alone keeps the gate closed behind it, so that it waits only for tests that have begun. Locks
    of open files end with their process, however that ends.
    """

    def __init__(self, folder: Path) -> None:
        self._gate = folder / "gate.lock"
        self._inside = folder / "inside.lock"

    @property
    def closed(self) -> bool:
        """Whether one waits at the gate, or passes it now."""
        try:
            with _locked(self._gate, fcntl.LOCK_EX | fcntl.LOCK_NB):
                return False
        except BlockingIOError:
            return True

    @contextmanager
    def passed(self, *, alone: bool) -> Iterator[None]:
        """Wait until it may run, and hold the place for the block."""
        how = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
        with _locked(self._gate, fcntl.LOCK_EX) as gate, _locked(self._inside, how):
            fcntl.flock(gate, fcntl.LOCK_UN)
            yield


@contextmanager
def _locked(path: Path, how: int) -> Iterator[int]:
    opened = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(opened, how)
        yield opened
    finally:
        os.close(opened)
