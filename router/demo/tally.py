"""What the demo's traffic saw: answers, failures and latency, by phase and by the variant that answered."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

# Latencies are counted in cells that grow by 5 %, so a quantile is within 2.5 % of the true one; a fixed
# 340 cells whatever the load. The first ends at 10 us, the last at about 160 s.
CELLS: Final = 340
CELL_GROWTH: Final = 1.05
FIRST_CELL_MS: Final = 0.01


@dataclass(frozen=True, slots=True)
class Latency:
    """Quantiles in milliseconds, from the moment a request should have left; 0 without answers."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class VariantTally:
    """What one variant answered: how many, how many of them `right` by the real label, how fast."""

    answers: int
    right: int
    latency: Latency


@dataclass(frozen=True, slots=True)
class PhaseTally:
    """What happened to the requests sent in one phase; `rescued` answers are among the serving variant's."""

    name: str
    answers: int
    client_errors: int
    rescued: int
    variants: Mapping[str, VariantTally]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole run up to `seconds` after its start.

    `sent` = `answers` + `client_errors` + `in_flight`. A client error is anything but a readable 200;
    `errors` counts them by reason. `skipped` requests were never sent, because this process itself stood still
    or too many were under way. Phases are in the order of their first mark, `variants` counts all phases together.
    """

    seconds: float
    sent: int
    answers: int
    client_errors: int
    in_flight: int
    skipped: int
    errors: Mapping[str, int]
    variants: Mapping[str, VariantTally]
    phases: tuple[PhaseTally, ...]

    @property
    def rescued(self) -> int:
        """Answers that stable gave in place of a candidate that had failed."""
        return sum(phase.rescued for phase in self.phases)


@dataclass(slots=True)
class _VariantCount:
    answers: int = 0
    right: int = 0
    max_ms: float = 0.0
    cells: Counter[int] = field(default_factory=Counter)

    def add(self, latency_ms: float, *, right: bool) -> None:
        self.answers += 1
        self.right += right
        self.max_ms = max(self.max_ms, latency_ms)
        self.cells[_cell_of(latency_ms)] += 1

    def merge(self, other: _VariantCount) -> None:
        self.answers += other.answers
        self.right += other.right
        self.max_ms = max(self.max_ms, other.max_ms)
        self.cells.update(other.cells)

    def frozen(self) -> VariantTally:
        return VariantTally(self.answers, self.right, _latency(self.cells, self.max_ms))


class PhaseCount:
    """The counters of one phase. They only grow; memory is bounded by the number of variants."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.errors: Counter[str] = Counter()
        self.variants: dict[str, _VariantCount] = {}
        self._rescued = 0

    @property
    def answers(self) -> int:
        """Answers so far, of all variants."""
        return sum(one.answers for one in self.variants.values())

    def add_answer(self, variant: str, latency_ms: float, *, right: bool, rescued: bool) -> None:
        """Count one readable answer."""
        self.variants.setdefault(variant, _VariantCount()).add(latency_ms, right=right)
        self._rescued += rescued

    def add_error(self, reason: str) -> None:
        """Count one request that got no readable answer."""
        self.errors[reason] += 1

    def frozen(self) -> PhaseTally:
        """Return the counters as they stand."""
        return PhaseTally(
            name=self.name,
            answers=self.answers,
            client_errors=self.errors.total(),
            rescued=self._rescued,
            variants=_frozen_variants(self.variants),
        )


def snapshot_of(phases: Iterable[PhaseCount], *, seconds: float, sent: int, in_flight: int, skipped: int) -> Snapshot:
    """Return the values of these counters as they stand; `phases` in the order they are to be shown."""
    counts = tuple(phases)
    tallies = tuple(count.frozen() for count in counts)
    errors = sum((count.errors for count in counts), Counter[str]())
    return Snapshot(
        seconds=seconds,
        sent=sent,
        answers=sum(tally.answers for tally in tallies),
        client_errors=errors.total(),
        in_flight=in_flight,
        skipped=skipped,
        errors=MappingProxyType(dict(sorted(errors.items()))),
        variants=_frozen_variants(_added_up(counts)),
        phases=tallies,
    )


def _added_up(phases: Iterable[PhaseCount]) -> dict[str, _VariantCount]:
    """Return each variant's counters, summed over the phases."""
    sums: dict[str, _VariantCount] = {}
    for phase in phases:
        for name, one in phase.variants.items():
            sums.setdefault(name, _VariantCount()).merge(one)
    return sums


def _frozen_variants(variants: Mapping[str, _VariantCount]) -> Mapping[str, VariantTally]:
    return MappingProxyType({name: one.frozen() for name, one in sorted(variants.items())})


def _cell_of(latency_ms: float) -> int:
    if latency_ms <= FIRST_CELL_MS:
        return 0
    return min(CELLS - 1, math.ceil(math.log(latency_ms / FIRST_CELL_MS) / math.log(CELL_GROWTH)))


def _latency(cells: Mapping[int, int], max_ms: float) -> Latency:
    p50_ms, p90_ms, p99_ms = (min(max_ms, _quantile_ms(cells, share)) for share in (0.5, 0.9, 0.99))
    return Latency(p50_ms, p90_ms, p99_ms, max_ms)


def _quantile_ms(cells: Mapping[int, int], share: float) -> float:
    """Return the (geometric) middle of the cell below whose end lies this share of the counts."""
    missing = share * sum(cells.values())
    for cell in sorted(cells):
        missing -= cells[cell]
        if missing <= 0.0:
            return FIRST_CELL_MS * math.pow(CELL_GROWTH, cell - 0.5)
    return 0.0
