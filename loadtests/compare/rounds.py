"""Who is measured when: systems take turns, so that those compared have met the same machine.

In each mode all systems stand there at once, and a round is one turn of a second or two of each: the two sides of a
ratio lie seconds apart. Each round begins with another system. Latencies are measured afterwards, with one system there
at a time, for what the others do when idle would be in them.
"""

import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from loadtests.compare.figures import DIRECT, PLAIN, TURNOUT, Cell, Workload
from loadtests.compare.measure import client_can_s, closed_cell, latencies_of, warm_up, with_latencies
from loadtests.compare.open_loop import Latencies
from loadtests.compare.systems import nginx
from loadtests.compare.systems.system import Live, Place, System, live
from loadtests.compare.systems.turnout import Turnout
from loadtests.on_demand import MissingError
from loadtests.processes import GATEWAY_CORE, LOAD_CORE, free_ports, running, wait_for_answer

LARGE_BYTES = 64 * 1_024
HALF = 0.5
"""The open loop's rate as a share of what Turnout does in a closed loop in the same mode, or a slower system itself, or
the open loop's own client: past half of what that can do it waits for itself, and says so of whoever it asks."""

Key = tuple[str, Workload, int]
Name = TypeVar("Name")


@dataclass(frozen=True, slots=True)
class Times:
    """How many rounds and the seconds of one turn, of the closed loop and of the open one."""

    rounds: int
    seconds: int
    open_rounds: int
    open_seconds: int

    def rounds_of(self, work: Workload) -> int:
        """Return the rounds of a workload: a third for those that are in no must, but two, or there is no interval."""
        return self.rounds if work.usual else max(2, self.rounds // 3)


@dataclass(frozen=True, slots=True)
class Upstreams:
    """Ports of stable and candidate: the fastest there are, and those that read a body before they answer."""

    fast: tuple[int, int]
    reading: tuple[int, int]
    fast_are: str

    def of(self, work: Workload) -> tuple[int, int]:
        """Return the pair for a workload. nginx answers at once: a body that is still on its way would be cut off."""
        return self.reading if work.body_bytes > LARGE_BYTES else self.fast


@contextmanager
def upstreams() -> Iterator[Upstreams]:
    """Run the fixed-answer upstreams on the load's core: nginx where it is installed, and our own."""
    ports = free_ports(4)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other, ExitStack() as stack:
        own = [sys.executable, str(Path(__file__).parents[1] / "fixed_answer.py")]
        try:
            fast = nginx.fixed_answers(Path(one), ports[:2])
        except MissingError:
            fast = [*own, *map(str, ports[:2])]
        stack.enter_context(running(fast, LOAD_CORE, Path(one)))
        stack.enter_context(running([*own, *map(str, ports[2:])], LOAD_CORE, Path(other)))
        for port in ports:
            wait_for_answer(port)
        yield Upstreams((ports[0], ports[1]), (ports[2], ports[3]), Path(fast[0]).name)


def run(
    systems: Sequence[Turnout | System],
    works: Sequence[Workload],
    models: Upstreams,
    times: Times,
    commands: dict[str, str],
) -> list[Cell]:
    """Return every cell, direct calls included; note in `commands` what started each system."""
    groups: dict[tuple[str, tuple[int, int]], list[Workload]] = {}  # what one start of a system serves
    for work in works:
        groups.setdefault((work.mode, models.of(work)), []).append(work)
    cells: dict[Key, Cell] = {}
    for (mode, ports), asked in groups.items():
        with ExitStack() as stack:
            lives = {DIRECT: Live(ports[0], {})} if mode == PLAIN else {}
            for system in systems:
                if mode in system.modes:
                    print(f"starting {system.name}, {mode}", file=sys.stderr)
                    lives[system.name] = one = stack.enter_context(started(system, mode, ports))
                    commands.setdefault(system.name, f"taskset -c {GATEWAY_CORE} {' '.join(one.command)}")
            cells |= _turns(lives, asked, times)
    for key, (found, rate_s) in _open_loops(systems, [work for work in works if work.open_loop], models, times, cells):
        cells[key] = with_latencies(cells[key], found, rate_s)
    return list(cells.values())


def _turns(lives: Mapping[str, Live], asked: Sequence[Workload], times: Times) -> dict[Key, Cell]:
    cells: dict[Key, Cell] = {}
    for work in asked:
        for one in lives.values():
            warm_up(one, work)
        for number in range(1, times.rounds_of(work) + 1):
            print(f"{work}: round {number} of {times.rounds_of(work)}", file=sys.stderr)
            for name in rotated(list(lives), number):
                cells[name, work, number] = closed_cell(name, lives[name], work, number, times.seconds)
    return cells


def _open_loops(
    systems: Sequence[Turnout | System],
    works: Sequence[Workload],
    models: Upstreams,
    times: Times,
    cells: Mapping[Key, Cell],
) -> Iterator[tuple[Key, tuple[Latencies, float]]]:
    names = {system.name: system for system in systems}
    client_s = {work: client_can_s(models.of(work)[0]) for work in works if times.open_rounds}
    for number in range(1, times.open_rounds + 1):
        for work in works:
            can_s = {name: _requests_s(cells, name, work) for name, of, _ in cells if of == work}
            for name in rotated(list(can_s), number):
                print(f"{work}: latencies of {name}, round {number} of {times.open_rounds}", file=sys.stderr)
                rate_s = rate_for(name, can_s, client_s[work])
                with ExitStack() as stack:
                    ports = models.of(work)
                    system = names.get(name)
                    one = stack.enter_context(started(system, work.mode, ports)) if system else Live(ports[0], {})
                    warm_up(one, work)
                    if rate_s:
                        yield (name, work, number), (latencies_of(name, one, rate_s, times.open_seconds), rate_s)


def rate_for(name: str, can_s: Mapping[str, float], client_s: float) -> float:
    """Return the rate at which the open loop asks a system, of what each can do, and the loop's own client."""
    return HALF * min(can_s[name], can_s[TURNOUT], client_s)


def _requests_s(cells: Mapping[Key, Cell], name: str, work: Workload) -> float:
    return statistics.median(cell.requests_s for (of, asked, _), cell in cells.items() if (of, asked) == (name, work))


def rotated(names: list[Name], number: int) -> list[Name]:
    """Return the names, beginning with another one in each round."""
    turn = (number - 1) % len(names)
    return [*names[turn:], *names[:turn]]


@contextmanager
def started(system: Turnout | System, mode: str, ports: tuple[int, int]) -> Iterator[Live]:
    """Run a system in a mode, on the ports of stable and candidate."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place = Place(folder, free_ports(1)[0], *ports, mode)
        yield stack.enter_context(system.live(place) if isinstance(system, Turnout) else live(system, place))
