"""What all measured systems have in common."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from loadtests.compare.figures import CANARY, MIRROR, PLAIN
from loadtests.processes import GATEWAY_CORE, Parts, descendants, running, wait_for_answer

ALL_MODES = frozenset({PLAIN, CANARY, MIRROR})
KEPT = 1_024
"""Connections to a backend that each peer may keep open: at least as many as there are clients."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a system is to run: its folder, its port, the ports of stable and candidate, and what it is to do."""

    folder: Path
    port: int
    stable: int
    candidate: int
    mode: str


@dataclass(frozen=True, slots=True)
class Live:
    """A running system, and what started it. `pairs_missing`, where pairs are written: how many are missing by now."""

    port: int
    parts: Parts
    command: tuple[str, ...] = ()
    pairs_missing: Callable[[], int] | None = None


class System(Protocol):
    """A gateway that can be measured."""

    name: str
    modes: frozenset[str]

    def version(self) -> str:
        """Return the version of its program. Raises MissingError when that is neither here nor to be had."""

    def command(self, place: Place) -> list[str]:
        """Write what configures it into the place's folder, and return what starts it."""


@contextmanager
def live(system: System, place: Place) -> Iterator[Live]:
    """Run a system that is one tree of processes; it answers when this is entered."""
    command = system.command(place)
    with running(command, GATEWAY_CORE, place.folder) as process:
        wait_for_answer(place.port)
        yield Live(place.port, {"gateway": tuple(descendants(process.pid))}, tuple(command))
