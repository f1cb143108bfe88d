"""How Turnout's cost grows with what it is asked to do: `./run compare --growth`.

Each factor is measured at several values that take turns, like the systems of a comparison; the first value is the
base by which the others are told (`times_first`: the median of the rounds' ratios of CPU). Beside it stand single
costs: of a copy, a pair, an idle connection, a Route that nobody asks, a replica and a gate.
"""

import json
import math
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from loadtests.compare.control_cost import control_costs
from loadtests.compare.figures import MIRROR, PARTS, PLAIN, USUAL, Cell, Cost, Workload
from loadtests.compare.measure import closed_cell, warm_up
from loadtests.compare.open_loop import message
from loadtests.compare.rounds import Upstreams, rotated, started
from loadtests.compare.systems import nginx
from loadtests.compare.systems.system import Live
from loadtests.compare.systems.turnout import USUAL_SHAPE, Shape, Turnout
from loadtests.planted_turnout import planted
from loadtests.processes import GATEWAY_CORE, LOAD_CORE, cpu_s, free_ports, rss_mib, running, wait_for_answer

KIB = 1_024
BASE = Workload(PLAIN, *USUAL)
BOTH_CORES = f"{GATEWAY_CORE},{LOAD_CORE}"
IDLE_CONNECTIONS = 2_000
IDLE_S = 4.0

LIMITS: Mapping[str, float] = {
    "routes": 1.25, "backends": 1.25, "more header fields": 4.0, "body bytes to 10 KiB": 2.0,
}  # fmt: skip
"""Most that the last value of a factor may cost by the first; what is above is said. Routes are looked up in a table,
and a backend is chosen among all, so neither may show; 80 more fields are each parsed, judged and written again."""


COST_LIMITS: Mapping[str, float] = {
    "a Route that nobody asks, in the gateway": 20.0,
    "an idle connection, memory of the worker": 64.0,
}
"""The same for single costs, in their units. 1,000 idle Routes may take 2 % of a core; 64 KiB is asked by OV4."""


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one factor: medians over rounds."""

    factor: str
    value: int
    requests_s: float
    cpu_us: Mapping[str, float | None]
    times_first: float
    errors: int


@dataclass(frozen=True, slots=True)
class Growth:
    """All of it. `too_much` has a sentence for each factor that grows by more than its limit."""

    machine: Mapping[str, Any]
    points: Sequence[Point]
    costs: Sequence[Cost]

    @property
    def too_much(self) -> list[str]:
        """What grows by more than it should, and where to look."""
        last = {point.factor: point for point in self.points}
        factors = [
            f"{name}: at {last[name].value} a request takes {last[name].times_first:.2f} times the first value's CPU, "
            f"at most {limit:.2f} expected"
            for name, limit in LIMITS.items()
            if name in last and last[name].times_first > limit
        ]
        return factors + [
            f"{cost.what}: {cost.value:.1f} {cost.unit}, at most {COST_LIMITS[cost.what]:.1f} expected"
            for cost in self.costs
            if cost.value > COST_LIMITS.get(cost.what, math.inf)
        ]


def points_of(factor: str, rounds: Sequence[Mapping[int, Cell]]) -> list[Point]:
    """Return the points of a factor from cells by value, one mapping for each round; the first value is the base."""
    values = list(rounds[0])
    points = []
    for value in values:
        cells = [one[value] for one in rounds]
        ratios = [_us(one[value]) / _us(one[values[0]]) for one in rounds]
        points.append(
            Point(
                factor, value, statistics.median(cell.requests_s for cell in cells),
                {part: _median([cell.cpu_us.get(part) for cell in cells]) for part in PARTS},
                statistics.median(ratios), sum(cell.errors for cell in cells),
            )
        )  # fmt: skip
    return points


def _us(cell: Cell) -> float:
    us = cell.cpu_us["gateway"]
    if not us:
        raise RuntimeError(f"no request was counted: {cell}")
    return us


def _median(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return round(statistics.median(found), 2) if found else None


Found = tuple[Sequence[Point], Sequence[Cost]]


def measure_growth(
    models: Upstreams, rounds: int, seconds: int, machine: Mapping[str, Any], groups: Sequence[str]
) -> Growth:
    """Measure these of GROUPS; all take about `rounds` x `seconds` x 40 and three minutes."""
    turns = _Turns(models, rounds, seconds)
    found = [GROUPS[name](turns, models) for name in groups]
    return Growth(machine, [one for points, _ in found for one in points], [one for _, costs in found for one in costs])


def _bodies(turns: "_Turns", models: Upstreams) -> Found:
    small, large = (100, KIB, 10 * KIB), (100, 100 * KIB, KIB * KIB)
    return [
        *turns.by_work("body bytes to 10 KiB", {size: _work(body_bytes=size) for size in small}),
        *turns.by_work("body bytes to 1 MiB", {size: _work(body_bytes=size) for size in large}, models.reading),
    ], ()


def _connections(turns: "_Turns", _: Upstreams) -> Found:
    return turns.by_work("connections", {many: _work(connections=many) for many in (64, 1, 8, 256, 1_000)}), ()


def _headers(turns: "_Turns", _: Upstreams) -> Found:
    return turns.by_work("more header fields", {many: _work(more_headers=many) for many in (0, 10, 40, 80)}), ()


def _routes(turns: "_Turns", _: Upstreams) -> Found:
    with turns.by_shape("routes", {many: Shape(routes=many) for many in (1, 10, 100, 1_000)}) as (points, lives):
        return points, _idle_costs(lives[1], lives[1_000], 999)


def _backends(turns: "_Turns", _: Upstreams) -> Found:
    with _more_backends(64) as ports:
        shapes = {many: Shape(backends=ports[:many]) for many in (1, 4, 16, 64)}
        with turns.by_shape("backends", shapes) as (points, _lives):
            return points, ()


def _workers(turns: "_Turns", _: Upstreams) -> Found:
    shapes = {many: Shape(workers=many, cores=BOTH_CORES) for many in (1, 2)}
    with turns.by_shape("workers on two cores shared with the load", shapes) as (points, lives):
        return points, [_fairness(lives[2]), *_idle_connections(lives[1])]


def _mirror(turns: "_Turns", _: Upstreams) -> Found:
    asked = {0: (PLAIN, USUAL_SHAPE), 10: (MIRROR, Shape(mirror="10%")), 100: (MIRROR, USUAL_SHAPE)}
    with turns.by_mode("mirror %", asked) as (points, _lives):
        return points, turns.pair_costs()


def _control(_: "_Turns", models: Upstreams) -> Found:
    return (), control_costs(models)


GROUPS: Mapping[str, Callable[["_Turns", Upstreams], Found]] = {
    "bodies": _bodies, "connections": _connections, "headers": _headers, "routes": _routes, "backends": _backends,
    "workers": _workers, "mirror": _mirror, "control": _control,
}  # fmt: skip


def _work(**changes: int) -> Workload:
    return replace(BASE, **changes)  # type: ignore[arg-type]


class _Turns:
    """Starts what is measured side by side and lets it take turns."""

    def __init__(self, models: Upstreams, rounds: int, seconds: int) -> None:
        self._models = models
        self._rounds = rounds
        self._seconds = seconds

    def __repr__(self) -> str:
        return f"<_Turns {self._rounds} x {self._seconds} s>"

    def by_work(self, factor: str, works: Mapping[int, Workload], ports: tuple[int, int] | None = None) -> list[Point]:
        """Measure one Turnout under several workloads."""
        with started(Turnout(), PLAIN, ports or self._models.fast) as one:
            return points_of(factor, self.rounds(factor, {value: (one, work) for value, work in works.items()}))

    @contextmanager
    def by_shape(self, factor: str, shapes: Mapping[int, Shape]) -> Iterator[tuple[list[Point], Mapping[int, Live]]]:
        """Measure several Turnouts in plain mode; they still run when this is entered."""
        with self.by_mode(factor, {value: (PLAIN, shape) for value, shape in shapes.items()}) as found:
            yield found

    @contextmanager
    def by_mode(
        self, factor: str, asked: Mapping[int, tuple[str, Shape]]
    ) -> Iterator[tuple[list[Point], Mapping[int, Live]]]:
        """Measure several Turnouts, each in a mode."""
        with ExitStack() as stack:
            lives = {
                value: stack.enter_context(started(Turnout(shape=shape), mode, self._models.fast))
                for value, (mode, shape) in asked.items()
            }
            cells = self.rounds(factor, {value: (one, BASE) for value, one in lives.items()})
            yield points_of(factor, cells), lives

    def rounds(self, factor: str, parties: Mapping[int, tuple[Live, Workload]]) -> Sequence[Mapping[int, Cell]]:
        """Return the cells by value, for each round."""
        for one, work in parties.values():
            warm_up(one, work)
        found = []
        for number in range(1, self._rounds + 1):
            print(f"{factor}: round {number} of {self._rounds}", file=sys.stderr)
            turns = rotated(list(parties), number)
            cells = {value: closed_cell(factor, *parties[value], number, self._seconds) for value in turns}
            found.append({value: cells[value] for value in parties})
        return found

    def pair_costs(self) -> list[Cost]:
        """Return what a copy costs in the gateway without its record, what the record adds, and the store's part."""
        with ExitStack() as stack:
            fast = self._models.fast
            lives = [
                stack.enter_context(started(Turnout(), PLAIN, fast)),
                stack.enter_context(started(Turnout(planted("no_recorder")), MIRROR, fast)),
                stack.enter_context(started(Turnout(), MIRROR, fast)),
            ]
            rounds = self.rounds("copy and pair", {value: (one, BASE) for value, one in enumerate(lives)})
        plain, copied, paired = ([_us(one[value]) for one in rounds] for value in range(3))
        both = [one[2].cpu_us for one in rounds]
        return [
            Cost("a copy, in the gateway", _differences(copied, plain), "us"),
            Cost("the pair of a copy, in the gateway", _differences(paired, copied), "us"),
            Cost("a pair, in the store", _median([one["store"] for one in both]) or 0.0, "us"),
            Cost("a pair, in control", _median([one["control"] for one in both]) or 0.0, "us"),
        ]


def _differences(ones: Sequence[float], others: Sequence[float]) -> float:
    return round(statistics.median(one - other for one, other in zip(ones, others, strict=True)), 2)


@contextmanager
def _more_backends(count: int) -> Iterator[tuple[int, ...]]:
    ports = free_ports(count)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(running(nginx.fixed_answers(folder, ports), LOAD_CORE, folder))
        for port in ports:
            wait_for_answer(port)
        yield tuple(ports)


def _idle_costs(one: Live, many: Live, routes: int) -> list[Cost]:
    """Return what Routes that nobody asks cost a second, by part."""
    before = [{part: cpu_s(pids) for part, pids in live.parts.items()} for live in (one, many)]
    time.sleep(IDLE_S)
    spent = [
        {part: cpu_s(live.parts[part]) - was[part] for part in live.parts}
        for live, was in zip((one, many), before, strict=True)
    ]
    return [
        Cost(
            f"a Route that nobody asks, in {_PART_NAMES[part]}",
            _us_each(spent[1][part] - spent[0][part], routes),
            "us/s",
        )
        for part in PARTS
    ]


_PART_NAMES = {"gateway": "the gateway", "control": "control", "store": "the store"}


def _us_each(spent_s: float, many: int) -> float:
    return round(spent_s / IDLE_S / many * 1e6, 2)


def _fairness(two: Live) -> Cost:
    """Return the share of the work that the busier one of two workers did in a load of a second or so."""
    workers = two.parts["gateway"][1:]
    before = [cpu_s([pid]) for pid in workers]
    warm_up(two, BASE)
    spent = [cpu_s([pid]) - was for pid, was in zip(workers, before, strict=True)]
    return Cost("work of the busier of two workers, 64 connections", round(100 * max(spent) / sum(spent), 1), "%")


def _idle_connections(one: Live) -> list[Cost]:
    """Return the memory that a connection takes that has had one answer and waits."""
    worker = one.parts["gateway"][1:]
    warm_up(one, BASE)
    before_mib = rss_mib(worker)
    with ExitStack() as stack:
        for _ in range(IDLE_CONNECTIONS):
            line = stack.enter_context(socket.create_connection(("127.0.0.1", one.port), timeout=10))
            line.sendall(message())
            line.recv(4_096)
        each_kib = (rss_mib(worker) - before_mib) * KIB / IDLE_CONNECTIONS
    return [Cost("an idle connection, memory of the worker", round(each_kib, 1), "KiB")]


def as_json(growth: Growth) -> str:
    """Return the document."""
    found = {
        "v": 1,
        "machine": growth.machine,
        "points": [asdict(one) for one in growth.points],
        "costs": [asdict(one) for one in growth.costs],
        "too_much": growth.too_much,
    }
    return json.dumps(found, indent=1)


def from_json(text: str) -> Growth:
    """Return what `as_json` wrote."""
    read = json.loads(text)
    return Growth(read["machine"], [Point(**one) for one in read["points"]], [Cost(**one) for one in read["costs"]])


def as_markdown(growth: Growth) -> str:
    """Return a table of the points and one of the costs."""
    rows = ["| factor | value | requests/s | CPU us: gateway | times the first |", "|---|---:|---:|---:|---:|"]
    rows += [
        f"| {one.factor} | {one.value:,} | {one.requests_s:,.0f} | {one.cpu_us['gateway']:.1f} "
        f"| {one.times_first:.2f} |"
        for one in growth.points
    ]
    rows += ["", "| what | costs | |", "|---|---:|---|"]
    rows += [f"| {one.what} | {one.value:,.{1 if one.value >= 10 else 2}f} | {one.unit} |" for one in growth.costs]
    rows += [f"\nMore than expected: {one}" for one in growth.too_much]
    return "\n".join(rows)


def draw(growth: Growth, file: Path) -> None:
    """Write a picture of CPU per request against each factor; the format follows from the suffix."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "turnout"  # the same figures give the same file
    factors = list(dict.fromkeys(one.factor for one in growth.points))
    figure, axes = plt.subplots(2, -(-len(factors) // 2), figsize=(11, 5), layout="constrained")
    for axis, factor in zip(axes.flat, factors, strict=False):
        points = sorted((one for one in growth.points if one.factor == factor), key=lambda one: one.value)
        axis.plot([one.value for one in points], [one.times_first for one in points], "o-", color="#1f6feb")
        axis.set_xscale("symlog" if points[0].value == 0 else "log")
        axis.set_title(factor if len(factor) < 30 else factor.partition(" on ")[0], fontsize=9)
        axis.set_ylim(bottom=0)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes.flat[len(factors) :]:
        axis.set_visible(False)
    figure.supylabel("CPU of the gateway per request, times the first value", fontsize=9)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
