"""What is measured, and what follows from it. Pure: values in, values out.

The interval of a ratio is Student's t interval at 95 % over the logarithms of the ratios of single rounds: both systems
of a round have had the same machine, so what a busy machine does to both divides out. It assumes that these logarithms
scatter about normally, and needs two rounds.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from scipy import stats

TURNOUT: Final = "turnout"
DIRECT: Final = "direct"
PLAIN, CANARY, MIRROR = "plain", "canary", "mirror"
PARTS = ("gateway", "control", "store")
USUAL = (100, 64)
"""Body bytes and connections of design.md section 9."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What clients ask for: requests of `body_bytes` over `connections`; `open_loop` if also at a fixed rate.

    `more_headers` are header fields beside the three that each request has.
    """

    mode: str
    body_bytes: int
    connections: int
    open_loop: bool = False
    more_headers: int = 0

    def __str__(self) -> str:
        return f"{self.mode}, {self.body_bytes} B, {self.connections} connections"

    @property
    def usual(self) -> bool:
        """Whether it is the workload of design.md section 9, which the budgets are about."""
        return (self.body_bytes, self.connections) == USUAL


@dataclass(frozen=True, slots=True)
class Cell:
    """One system under one workload in one round.

    `cpu_us` is CPU per request by part; None for what the system does not have. Latencies are those at the fixed
    `rate_s` of the open loop, from the intended start; None where it was not asked for. Errors are those of both loads.
    """

    system: str
    mode: str
    body_bytes: int
    connections: int
    round: int
    requests_s: float
    cpu_us: Mapping[str, float | None]
    p50_ms: float | None
    p99_ms: float | None
    errors: int
    pairs_missing: int | None
    p999_ms: float | None
    rate_s: float | None
    peak_rss_mib: float | None

    @property
    def usual(self) -> bool:
        """Whether it is of the workload of design.md section 9."""
        return (self.body_bytes, self.connections) == USUAL


@dataclass(frozen=True, slots=True)
class Cost:
    """One thing and what it costs, such as 4.2 `us` of CPU."""

    what: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Ratio:
    """How much of the peer's figure is Turnout's: median over rounds, its 95 % interval, and what it must be."""

    mode: str
    peer: str
    median: float
    low95: float | None
    high95: float | None
    must: float | None
    passed: bool | None


@dataclass(frozen=True, slots=True)
class Budget:
    """One comparison: a figure of Turnout's cells over the same figure of a peer's, in the workload of design.md 9."""

    name: str
    mode: str
    turnout: Callable[["Rounds", int], float | None]
    peer: Callable[["Rounds", str, int], float | None]
    musts: Mapping[str, float]


class Rounds:
    """All cells of a run with the usual workload, to look up."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._cells = {
            (cell.system, cell.mode, cell.round): cell for cell in cells if (cell.body_bytes, cell.connections) == USUAL
        }
        self.systems = tuple(dict.fromkeys(system for system, _, _ in self._cells))
        direct = [cell.p99_ms for (system, mode, _), cell in self._cells.items() if (system, mode) == (DIRECT, PLAIN)]
        self._direct_p99s_ms = [p99_ms for p99_ms in direct if p99_ms is not None]
        self.numbers = sorted({number for _, _, number in self._cells})

    def cpu_us(self, system: str, mode: str, number: int, parts: Sequence[str] = ("gateway",)) -> float | None:
        """Return CPU per request of some parts together, None if there is no such cell."""
        cell = self._cells.get((system, mode, number))
        found = [us for part in parts if cell and (us := cell.cpu_us.get(part)) is not None]
        return sum(found) if found else None

    def added_p99_ms(self, system: str, mode: str, number: int) -> float | None:
        """Return by how much p99 exceeds the median p99 of direct calls; 0.001 at least.

        Not that of the same round: it is as uneven as a gateway's, so that a gateway would seem to add nothing, or
        several times what it adds, in a round in which a direct call was unlucky.
        """
        cell, directs = self._cells.get((system, mode, number)), self._direct_p99s_ms
        if cell is None or cell.p99_ms is None or not directs:
            return None
        return max(0.001, cell.p99_ms - statistics.median(directs))


BUDGETS = (
    Budget(
        PLAIN, PLAIN, lambda all_, number: all_.cpu_us(TURNOUT, PLAIN, number),
        lambda all_, peer, number: all_.cpu_us(peer, PLAIN, number), {},
    ),
    Budget(
        CANARY, CANARY, lambda all_, number: all_.cpu_us(TURNOUT, CANARY, number),
        lambda all_, peer, number: all_.cpu_us(peer, CANARY, number), {"envoy": 1.0},
    ),
    Budget(
        MIRROR, MIRROR, lambda all_, number: all_.cpu_us(TURNOUT, MIRROR, number),
        lambda all_, peer, number: all_.cpu_us(peer, MIRROR, number), {"envoy": 0.8, "nginx": 1.0},
    ),
    Budget(
        "mirror, with control and store", MIRROR, lambda all_, number: all_.cpu_us(TURNOUT, MIRROR, number, PARTS),
        lambda all_, peer, number: all_.cpu_us(peer, MIRROR, number), {"envoy": 1.3},
    ),
    Budget(
        "plain, p99 added to direct", PLAIN, lambda all_, number: all_.added_p99_ms(TURNOUT, PLAIN, number),
        lambda all_, peer, number: all_.added_p99_ms(peer, PLAIN, number), {"envoy": 1.0},
    ),
)  # fmt: skip
"""The musts are those of design.md section 9; what has none is there to be seen."""


def ratios(cells: Sequence[Cell], budgets: Sequence[Budget] = BUDGETS) -> list[Ratio]:
    """Return every comparison that at least one round allows."""
    all_ = Rounds(cells)
    found = []
    for budget in budgets:
        for peer in all_.systems:
            if peer in (TURNOUT, DIRECT):
                continue
            values = [(budget.turnout(all_, number), budget.peer(all_, peer, number)) for number in all_.numbers]
            rounds = [mine / theirs for mine, theirs in values if mine is not None and theirs]
            if rounds:
                found.append(_ratio(budget.name, peer, rounds, budget.musts.get(peer)))
    return found


def _ratio(name: str, peer: str, rounds: Sequence[float], must: float | None) -> Ratio:
    median = statistics.median(rounds)
    low, high = interval95(rounds)
    return Ratio(name, peer, median, low, high, must, None if must is None else median <= must)


def interval95(rounds: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the t interval at 95 % of positive ratios, by their logarithms; (None, None) with fewer than two."""
    if len(rounds) < 2:
        return None, None
    logs = [math.log(one) for one in rounds]
    middle, scatter = statistics.mean(logs), statistics.stdev(logs)
    half = float(stats.t.ppf(0.975, len(logs) - 1)) * scatter / math.sqrt(len(logs))
    return math.exp(middle - half), math.exp(middle + half)


def medians(cells: Sequence[Cell]) -> list[Cell]:
    """Return one cell for each system and workload: the median of each figure over its rounds, errors summed."""
    groups: dict[tuple[str, str, int, int], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.system, cell.mode, cell.body_bytes, cell.connections), []).append(cell)
    return [_median_cell(group) for group in groups.values()]


def _median_cell(group: Sequence[Cell]) -> Cell:
    first = group[0]

    def median(figure: Callable[[Cell], float | None]) -> float | None:
        found = [value for cell in group if (value := figure(cell)) is not None]
        return statistics.median(found) if found else None

    missing = [cell.pairs_missing for cell in group if cell.pairs_missing is not None]
    return Cell(
        system=first.system, mode=first.mode, body_bytes=first.body_bytes, connections=first.connections,
        round=len(group),
        requests_s=statistics.median(cell.requests_s for cell in group),
        cpu_us={part: median(lambda cell, part=part: cell.cpu_us.get(part)) for part in PARTS},  # type: ignore[misc]
        p50_ms=median(lambda cell: cell.p50_ms), p99_ms=median(lambda cell: cell.p99_ms),
        errors=sum(cell.errors for cell in group),
        pairs_missing=sum(missing) if missing else None,
        p999_ms=median(lambda cell: cell.p999_ms), rate_s=median(lambda cell: cell.rate_s),
        peak_rss_mib=median(lambda cell: cell.peak_rss_mib),
    )  # fmt: skip
