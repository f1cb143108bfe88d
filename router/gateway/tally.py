"""Counters of one worker: what becomes evidence, and what becomes metrics.

Counted in place on the request path, as plain integers; read by the recorder and by `/metrics`.
"""

from bisect import bisect_left
from collections import defaultdict, deque
from typing import TYPE_CHECKING

from router.core.observations import (
    AGREEMENT,
    ALL,
    CUT_AGES_S,
    CUTS,
    DISTANCE,
    DROPS,
    LATENCY,
    LEVEL,
    OUTCOME,
    PAIR,
    PAIR_FAILURE,
    PAIR_VARIANT,
    STARTED,
    CounterKey,
    Outcome,
)
from router.core.traffic import Role

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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
    """

    __slots__ = ("closed_at", "edges", "levels", "outcomes", "started")

    def __init__(self, edges: tuple[int, ...]) -> None:
        self.edges = edges
        self.started = 0
        self.outcomes: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
        self.levels = [0] * (len(edges) + 1)
        self.closed_at = 0.0

    def end(self, outcome: Outcome, bucket: int) -> None:
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

    @property
    def open(self) -> int:
        """Return how many are in flight."""
        return self.started - sum(self.outcomes.values())

    def cells(self) -> "Iterator[tuple[str, str, int]]":
        """Yield (metric, cell, number) of all that is not zero."""
        if self.started:
            yield STARTED, ALL, self.started
        for outcome, number in self.outcomes.items():
            if number:
                yield OUTCOME, outcome.value, number
        if self.edges:
            for level, number in enumerate(self.levels):
                if number:
                    yield LEVEL, str(level), number


class RoleTally:
    """One role's requests in one exposure, by second of arrival for as long as some may be in flight.

    `present` is the cell of requests that arrive now; a request keeps the cell it arrived in and ends there.
    """

    __slots__ = ("_earlier", "_edges", "_recent", "buckets", "present")

    def __init__(self, edges: tuple[int, ...]) -> None:
        self._edges = edges
        self._earlier = Arrivals(edges)
        self._recent: deque[Arrivals] = deque()
        self.present = Arrivals(edges)
        self.buckets: defaultdict[int, int] = defaultdict(int)

    def end(self, arrivals: Arrivals, outcome: Outcome, bucket: int) -> None:
        """Count one request's end in the cell it arrived in."""
        arrivals.end(outcome, bucket)
        if outcome.is_answer:
            self.buckets[bucket] += 1

    def close_second(self, now: float, total_s: float) -> None:
        """Begin a new cell; cells whose requests have all ended, `total_s` after they closed, become one."""
        if self.present.started:
            self.present.closed_at = now
            self._recent.append(self.present)
            self.present = Arrivals(self._edges)
        while self._recent and self._recent[0].closed_at <= now - total_s and not self._recent[0].open:
            self._earlier.add(self._recent.popleft())

    def at_cuts(self, now: float, total_s: float) -> "Iterator[tuple[str, Arrivals]]":
        """Yield each of CUTS with what became of the requests that arrived that long ago or earlier."""
        for cut, age_s in zip(CUTS, CUT_AGES_S, strict=True):
            found = Arrivals(self._edges)
            found.add(self._earlier)
            until = now - (total_s if age_s is None else age_s)
            for cell in self._recent:
                if not cut or cell.closed_at <= until:
                    found.add(cell)
            if not cut:
                found.add(self.present)
            yield cut, found


class Tally:
    """The evidence of one exposure of one rollout, as this worker saw it. Only ever grows.

    `total_s` is how long after its arrival a request may still be in flight, `levels` where latencies are cut.
    """

    __slots__ = ("_agreement", "_closed_at", "_distances", "_pair_failures", "_pairs", "_total_s", "exposure", "live")

    def __init__(self, exposure: int, levels: "Levels", total_s: float) -> None:
        self.exposure = exposure
        self.live = {Role.STABLE: RoleTally(levels.stable), Role.CANDIDATE: RoleTally(levels.candidate)}
        self._total_s = total_s
        self._closed_at = 0.0
        self._pairs: defaultdict[str, int] = defaultdict(int)
        self._agreement: defaultdict[str, int] = defaultdict(int)
        self._pair_failures: defaultdict[str, int] = defaultdict(int)
        self._distances: defaultdict[int, int] = defaultdict(int)

    def pair(self, cell: str, agreement: str, failures: str, distance: int | None) -> None:
        """Count a pair.

        `cell` is `both`, or `<role>:<outcome>` of the missing answer; `agreement` is `same`, `different` or
        `not_compared`; `failures` is `<stable>/<candidate>`; `distance` is a bucket of the comparator's distance.
        """
        self._pairs[cell] += 1
        self._agreement[agreement] += 1
        self._pair_failures[failures] += 1
        if distance is not None:
            self._distances[distance] += 1

    def lose_pair(self) -> None:
        """Count a pair that was made and could not be kept until it was read."""
        self._pairs["lost"] += 1

    def turn(self, now: float) -> None:
        """Close the second if it is over; to be called several times a second."""
        if now - self._closed_at >= ARRIVAL_S:
            self._closed_at = now
            for role in self.live.values():
                role.close_second(now, self._total_s)

    def counters(self, now: float) -> "Mapping[CounterKey, int]":
        """Return every counter that is not zero, whole values."""
        found: dict[CounterKey, int] = {}
        for name, role in self.live.items():
            for cut, arrivals in role.at_cuts(now, self._total_s):
                for metric, cell, number in arrivals.cells():
                    found[CounterKey(self.exposure, metric + cut, "", name.value, cell)] = number
            for bucket, number in role.buckets.items():
                found[CounterKey(self.exposure, LATENCY, "", name.value, str(bucket))] = number
        distances = {str(bucket): number for bucket, number in self._distances.items()}
        for metric, cells in (
            (PAIR, self._pairs), (AGREEMENT, self._agreement), (PAIR_FAILURE, self._pair_failures),
            (DISTANCE, distances),
        ):  # fmt: skip
            for cell, number in cells.items():
                found[CounterKey(self.exposure, metric, "", PAIR_VARIANT, cell)] = number
        return found
