"""Counters of one worker: what becomes evidence, and what becomes metrics.

Counted in place on the request path, as plain integers; read by the recorder and by `/metrics`.
"""

import zlib
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, Self, TypeVar

import orjson

from router.core.observations import (
    AFFINITY,
    AGREEMENT,
    ALL,
    ANSWERS,
    BOTH,
    CUT_AGES_S,
    CUTS,
    DISTANCE,
    DROPS,
    FAILURE,
    LATE,
    LATENCY,
    LEVEL,
    LOST,
    OUTCOME,
    PAIR,
    PAIR_FAILURE,
    PAIR_VARIANT,
    STARTED,
    CounterKey,
    Ending,
    Outcome,
)
from router.core.traffic import KEY_CELLS, Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from router.core.levels import Levels

ARRIVAL_S = 1.0
"""Width of the cells of arrival (statistics.md rule 7)."""


class VariantCounts:
    """Ends of requests by outcome, and the latency of answers by bucket."""

    __slots__ = ("buckets", "latency_ms_sum", "outcomes", "started")

    def __init__(self) -> None:
        self.started = 0
        self.outcomes: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
        self.buckets: defaultdict[int, int] = defaultdict(int)
        self.latency_ms_sum = 0.0

    def end(self, outcome: Outcome, latency_ms: float, bucket: int) -> None:
        """Count one request's end; `bucket` is the bucket of `latency_ms`."""
        self.outcomes[outcome] += 1
        if outcome.is_answer:
            self.buckets[bucket] += 1
            self.latency_ms_sum += latency_ms


class Arrivals:
    """What became of the requests of one role that arrived within one second, or before a time.

    `levels` counts those that a variant ended, by how many of `edges` (buckets of latency, rising) they exceeded.
    `slices` counts ends once more, by slice: which one it is nobody has read when a request starts.
    """

    __slots__ = ("asked", "closed_at", "edges", "first_failures", "levels", "outcomes", "slices", "started")

    def __init__(self, edges: tuple[int, ...]) -> None:
        self.edges = edges
        self.started = 0
        self.outcomes: dict[Ending, int] = dict.fromkeys((*Outcome, LATE), 0)
        self.levels = [0] * (len(edges) + 1)
        self.first_failures: defaultdict[int, int] = defaultdict(int)
        """Of affinity keys, by the exposure in which the key had failed last before."""
        self.asked = 0
        """Failures of which the store has not said yet whether they are a key's first."""
        self.closed_at = 0.0
        self.slices: dict[str, Arrivals] = {}

    def of_slice(self, name: str, edges: tuple[int, ...] = ()) -> "Arrivals":
        """Return what is counted of one slice, cut at its own levels."""
        found = self.slices.get(name)
        if found is None:
            found = self.slices[name] = Arrivals(edges)
        return found

    def end(self, outcome: "Ending", bucket: int) -> None:
        """Count one request's end."""
        self.outcomes[outcome] += 1
        if self.edges and outcome not in DROPS:
            self.levels[bisect_left(self.edges, bucket)] += 1

    def add(self, other: "Arrivals") -> None:
        """Take in what another cell of the same edges has counted."""
        self.started += other.started
        for outcome, number in other.outcomes.items():
            self.outcomes[outcome] += number
        for level, number in enumerate(other.levels):
            self.levels[level] += number
        for last, number in other.first_failures.items():
            self.first_failures[last] += number
        for name, counted in other.slices.items():
            self.of_slice(name, counted.edges).add(counted)

    @property
    def open(self) -> int:
        """Return how many may still be counted here: in flight, or waiting for the store's word."""
        return self.started - sum(self.outcomes.values()) + self.asked

    def cells(self, slice_: str = "") -> "Iterator[tuple[str, str, str, int]]":
        """Yield (slice, metric, cell, number) of all that is not zero."""
        if self.started:
            yield slice_, STARTED, ALL, self.started
        for outcome, number in self.outcomes.items():
            if number:
                yield slice_, OUTCOME, str(outcome), number
        if self.edges:
            for level, number in enumerate(self.levels):
                if number:
                    yield slice_, LEVEL, str(level), number
        for last, number in self.first_failures.items():
            yield slice_, AFFINITY + FAILURE, f"{ALL}/{last}", number
        for name, counted in self.slices.items():
            yield from counted.cells(name)


class PairCells:
    """What became of the copies that began within one second, or before a time.

    Ends by what is missing, what the comparator said, who failed, and how far the answers are apart.
    """

    __slots__ = ("closed_at", "metrics", "slices", "started")

    def __init__(self) -> None:
        self.started = 0
        self.closed_at = 0.0
        self.metrics: dict[str, defaultdict[str, int]] = {
            metric: defaultdict(int) for metric in (PAIR, AGREEMENT, PAIR_FAILURE, DISTANCE)
        }
        self.slices: dict[str, PairCells] = {}

    def of_slice(self, name: str) -> "PairCells":
        """Return what is counted of one slice."""
        found = self.slices.get(name)
        if found is None:
            found = self.slices[name] = PairCells()
        return found

    def end(self, end: "PairEnd") -> None:
        """Count a pair both of whose halves have ended, and once more in each of its slices."""
        self.metrics[PAIR][end.cell] += 1
        self.metrics[AGREEMENT][end.agreement] += 1
        self.metrics[PAIR_FAILURE][end.failures] += 1
        if end.distance is not None:
            self.metrics[DISTANCE][end.distance] += 1
        if end.slices:
            once = end._replace(slices=())
            for name in end.slices:
                self.of_slice(name).end(once)

    def lose(self) -> None:
        """Count a pair that was made and could not be kept until it was read."""
        self.metrics[PAIR][LOST] += 1

    def add(self, other: "PairCells") -> None:
        """Take in what another cell has counted."""
        self.started += other.started
        for metric, cells in other.metrics.items():
            for cell, number in cells.items():
                self.metrics[metric][cell] += number
        for name, counted in other.slices.items():
            self.of_slice(name).add(counted)

    @property
    def open(self) -> int:
        """Return how many are in flight."""
        return self.started - sum(self.metrics[PAIR].values())

    def cells(self, slice_: str = "") -> "Iterator[tuple[str, str, str, int]]":
        """Yield (slice, metric, cell, number) of all that is not zero."""
        if self.started:
            yield slice_, STARTED, ALL, self.started
        for metric, cells in self.metrics.items():
            for cell, number in cells.items():
                yield slice_, metric, cell, number
        for name, counted in self.slices.items():
            yield from counted.cells(name)


class PairEnd(NamedTuple):
    """How a pair ended.

    `cell` is `both`, or `<role>:<outcome>` of the missing answer; `agreement` is `same`, `different` or `not_compared`;
    `failures` is `<stable>/<candidate>`; `distance` is a bucket of the comparator's distance. It counts once more in
    each of `slices`.
    """

    cell: str
    agreement: str
    failures: str
    distance: str | None
    slices: tuple[str, ...] = ()


HOW_ENDED: Mapping[tuple[Outcome, Outcome], tuple[str, str]] = {
    (stable, candidate): (
        f"stable:{stable}" if not stable.is_answer else f"candidate:{candidate}" if not candidate.is_answer else BOTH,
        f"{stable.end}/{candidate.end}",
    )
    for stable in Outcome
    for candidate in Outcome
}
"""`cell` and `failures` of a PairEnd by the outcomes of stable and candidate."""


class _Cell(Protocol):
    """What Seconds asks of a cell."""

    started: int
    closed_at: float

    @property
    def open(self) -> int: ...

    def add(self, other: Self) -> None: ...


Cell = TypeVar("Cell", bound=_Cell)


class Seconds(Generic[Cell]):
    """Cells of one second each, for as long as something that began in them may be in flight; older ones are one sum.

    `present` is the cell of what begins now; what began in a cell ends there.
    """

    __slots__ = ("_earlier", "_make", "_recent", "present")

    def __init__(self, make: "Callable[[], Cell]") -> None:
        self._make = make
        self._earlier = make()
        self._recent: deque[Cell] = deque()
        self.present = make()

    def close_second(self, now: float, total_s: float) -> None:
        """Begin a new cell; cells in which all has ended, `total_s` after they closed, become one."""
        if self.present.started:
            self.present.closed_at = now
            self._recent.append(self.present)
            self.present = self._make()
        while self._recent and self._recent[0].closed_at <= now - total_s and not self._recent[0].open:
            self._earlier.add(self._recent.popleft())

    @property
    def settled(self) -> bool:
        """Whether all seconds have become one."""
        return not self._recent and not self.present.started

    def at_cuts(self, now: float, total_s: float) -> "Iterator[tuple[str, Cell]]":
        """Yield each of CUTS with what became of all that began that long ago or earlier; good until the next one."""
        ages = [total_s if age_s is None else age_s for age_s in CUT_AGES_S]
        found = self._make()
        found.add(self._earlier)
        cells = iter(self._recent)
        cell = next(cells, None)
        # From the oldest cut on, each has all of the one before it: so every cell is added once.
        for age_s, cut in sorted(zip(ages, CUTS, strict=True), reverse=True):
            while cell is not None and (not cut or cell.closed_at <= now - age_s):
                found.add(cell)
                cell = next(cells, None)
            if not cut:
                found.add(self.present)
            yield cut, found


class RoleTally(Seconds[Arrivals]):
    """One role's requests in one exposure, and the latency of its answers by bucket."""

    __slots__ = ("buckets", "slice_buckets")

    def __init__(self, edges: tuple[int, ...]) -> None:
        super().__init__(lambda: Arrivals(edges))
        self.buckets: defaultdict[int, int] = defaultdict(int)
        self.slice_buckets: defaultdict[str, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))
        """Of the slices that a latency gate names."""

    def end(self, arrivals: Arrivals, outcome: "Ending", bucket: int) -> None:
        """Count one request's end in the cell it arrived in."""
        arrivals.end(outcome, bucket)
        if outcome in ANSWERS or outcome == LATE:
            self.buckets[bucket] += 1


class Units:
    """Requests and pairs of one exposure: all of them, or those with which affinity keys came first."""

    __slots__ = ("live", "pairs")

    def __init__(self, levels: "Levels") -> None:
        self.live = {Role.STABLE: RoleTally(levels.stable), Role.CANDIDATE: RoleTally(levels.candidate)}
        self.pairs = Seconds(PairCells)

    @property
    def settled(self) -> bool:
        """Whether nothing is in flight any more and all seconds have become one."""
        return self.pairs.settled and all(role.settled for role in self.live.values())

    def close_second(self, now: float, total_s: float) -> None:
        """Begin new cells."""
        for role in self.live.values():
            role.close_second(now, total_s)
        self.pairs.close_second(now, total_s)

    def cells(self, now: float, total_s: float) -> "Iterator[tuple[str, str, str, str, int]]":
        """Yield (metric, slice, variant, cell, number) of all that is not zero, without the histograms."""
        for name, role in self.live.items():
            for cut, arrivals in role.at_cuts(now, total_s):
                for slice_, metric, cell, number in arrivals.cells():
                    yield metric + cut, slice_, name.value, cell, number
        for cut, pairs in self.pairs.at_cuts(now, total_s):
            for slice_, metric, cell, number in pairs.cells():
                yield metric + cut, slice_, PAIR_VARIANT, cell, number


class FoldedTally:
    """What was counted in a past exposure, as bytes: 2 KB where cells, keys and values took 60."""

    __slots__ = ("__weakref__", "_packed", "exposure")

    def __init__(self, exposure: int, counters: Mapping[CounterKey, int]) -> None:
        self.exposure = exposure
        self._packed = zlib.compress(orjson.dumps([[*key, number] for key, number in counters.items()]), 1)

    def __repr__(self) -> str:
        return f"<FoldedTally of exposure {self.exposure}, {len(self._packed)} bytes>"

    def counters(self) -> dict[CounterKey, int]:
        """Return every counter that is not zero, whole values."""
        return {CounterKey(*key): number for *key, number in orjson.loads(zlib.decompress(self._packed))}


class Tally(Units):
    """The evidence of one exposure of one rollout, as this worker saw it. Only ever grows.

    `total_s` is how long after its arrival a request may still be in flight, `levels` where latencies are cut, `before`
    what was counted of the same exposure until it was folded.
    """

    __slots__ = ("_before", "_closed_at", "_keyed", "_levels", "_seen", "_total_s", "exposure")

    def __init__(self, exposure: int, levels: "Levels", total_s: float, before: FoldedTally | None = None) -> None:
        super().__init__(levels)
        self.exposure = exposure
        self._before = before
        self._levels = levels
        self._total_s = total_s
        self._closed_at = 0.0
        self._keyed: dict[int, Units] = {}
        self._seen: dict[str, bytearray] | None = {}

    def open(self) -> None:
        """Begin to remember which keys were seen: requests come."""
        if self._seen is None:
            self._seen = {}

    def close(self) -> None:
        """Forget which keys were seen: no new request comes, and the few in flight may ask the store once more."""
        self._seen = None

    def sees(self, metric: str, cell: int) -> bool:
        """Return whether this worker sees the key's cell for the first time in this exposure, as far as it knows."""
        if self._seen is None:
            return True
        bits = self._seen.get(metric)
        if bits is None:
            bits = self._seen[metric] = bytearray(KEY_CELLS // 8)
        mask = 1 << (cell & 7)
        if bits[cell >> 3] & mask:
            return False
        bits[cell >> 3] |= mask
        return True

    def keyed(self, last: int) -> Units:
        """Return where first events of keys are counted that were seen last in exposure `last`, 0 for never."""
        found = self._keyed.get(last)
        if found is None:
            found = self._keyed[last] = Units(self._levels)
        return found

    @property
    def settled(self) -> bool:
        """Whether nothing is in flight any more and all seconds have become one."""
        return super().settled and all(units.settled for units in self._keyed.values())

    def turn(self, now: float) -> None:
        """Close the second if it is over; to be called several times a second."""
        if now - self._closed_at >= ARRIVAL_S:
            self._closed_at = now
            for units in (self, *self._keyed.values()):
                units.close_second(now, self._total_s)

    def counters(self, now: float) -> Mapping[CounterKey, int]:
        """Return every counter that is not zero, whole values."""
        found: dict[CounterKey, int] = {}
        for metric, slice_, variant, cell, number in self.cells(now, self._total_s):
            found[CounterKey(self.exposure, metric, slice_, variant, cell)] = number
        for name, role in self.live.items():
            for slice_, buckets in (("", role.buckets), *role.slice_buckets.items()):
                for bucket, number in buckets.items():
                    found[CounterKey(self.exposure, LATENCY, slice_, name.value, str(bucket))] = number
        for last, units in self._keyed.items():
            for metric, slice_, variant, cell, number in units.cells(now, self._total_s):
                found[CounterKey(self.exposure, AFFINITY + metric, slice_, variant, f"{cell}/{last}")] = number
        if self._before is not None:
            for key, number in self._before.counters().items():
                found[key] = found.get(key, 0) + number
        return found

    def fold(self, now: float) -> FoldedTally:
        """Return what was counted, for good: only of what is closed and `settled`, when every cut holds the same."""
        return FoldedTally(self.exposure, self.counters(now))
