"""Time that a test may hold against the code under test: without what a busy machine took away meanwhile."""

import os
import time
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Stopwatch:
    """Counts seconds from its making on: all of them, and those in which this thread was not kept from running.

    For an upper limit take `elapsed_s`. There waiting counts as usual, for a timer, a socket, a lock or another
    process. Only two things do not: the time in the kernel's run queue (scheduler statistics of the thread) and what
    the hypervisor gave to other machines. Read it in the thread that made it. Where the kernel keeps no such figures
    it is the plain time.
    """

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._lost_s = _lost_s()

    @property
    def passed_s(self) -> float:
        """All seconds until now, for a lower limit."""
        return time.monotonic() - self._began_s

    @property
    def elapsed_s(self) -> float:
        """Seconds until now without those that a busy machine took, for an upper limit."""
        return self.passed_s - (_lost_s() - self._lost_s)


def _lost_s() -> float:
    try:
        waited_ns = int(Path("/proc/thread-self/schedstat").read_text().split()[1])
        stolen_ticks = int(Path("/proc/stat").read_text().split(maxsplit=9)[8])
    except (OSError, IndexError, ValueError):
        return 0.0
    return waited_ns / 1e9 + stolen_ticks / _TICKS_PER_S
