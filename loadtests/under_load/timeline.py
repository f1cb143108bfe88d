"""What was seen in a run, on one axis of seconds since its start. Pure: who sees it says when."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtests.compare.open_loop import percentile

TURNOUT, DIRECT, OPEN, OPEN_DIRECT = "turnout", "direct", "open loop", "open loop, direct"
STREAM, FIRST = "whole stream", "first token"
"""What is measured: locust's users through Turnout and past it, the two open loops, and the readers of streams."""

WARM_UP_S = 3.0
"""Latencies count from this second on: before, users and connections come, and a new Turnout's first rollout starts."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One request that is over: when it ended (an open loop's: was meant to start), how long it took, how it went."""

    second: float
    source: str
    latency_ms: float
    failed: str = ""
    side: str = ""
    """Who served it by the answer's `x-turnout-variant`, empty where that is not known or it was rescued."""


@dataclass(frozen=True, slots=True)
class Stand:
    """Where a rollout stood when it was looked at."""

    second: float
    route: str
    phase: str
    reason: str
    weight_bp: int
    mirror_bp: int


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: a decision, or a fault of ours."""

    second: float
    what: str
    text: str


@dataclass(slots=True)
class Timeline:
    """Everything that was seen; it grows while the run goes on."""

    seconds: float
    answers: list[Answer] = field(default_factory=list)
    stands: list[Stand] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    flips: list[float] = field(default_factory=list)
    """When a user whom the candidate had served was served by stable again, without a rescue."""
    fault_s: tuple[float, float] | None = None
    """From when to when the fault lasted."""

    def latencies(self, source: str) -> list[float]:
        """Return the latencies of a source after the warm-up, ascending."""
        return sorted(one.latency_ms for one in self.answers if one.source == source and one.second >= WARM_UP_S)

    def p99_ms(self, source: str) -> float:
        """Return their 99th percentile, 0 of none."""
        return percentile(self.latencies(source), 0.99)

    def failures(self, sources: Iterable[str]) -> Counter[str]:
        """Return how often each failure came to those who asked through these sources."""
        wanted = set(sources)
        return Counter(one.failed for one in self.answers if one.failed and one.source in wanted)

    def last_stands(self) -> Mapping[str, Stand]:
        """Return by Route where its rollout stood at the last look."""
        return {one.route: one for one in self.stands}

    def first_fall_s(self) -> float:
        """Return when the candidate was first seen with less than before, or at its end; infinity if never."""
        before: dict[str, int] = {}
        for one in self.stands:
            if one.weight_bp < before.get(one.route, 0) or one.phase in ("promoted", "rolled_back"):
                return one.second
            before[one.route] = one.weight_bp
        return float("inf")

    def weight_bp_at(self, second: float) -> int:
        """Return the weight that was last seen by then."""
        return next((one.weight_bp for one in reversed(self.stands) if one.second <= second), 0)


def by_bucket(answers: Sequence[Answer], width_s: float) -> Mapping[int, list[Answer]]:
    """Return the answers by the number of the bucket of `width_s` that they fall into."""
    found: dict[int, list[Answer]] = {}
    for one in answers:
        found.setdefault(int(one.second // width_s), []).append(one)
    return found


def event_of(decision: Mapping[str, Any], second: float) -> Event:
    """Return the Event of one line of the ledger."""
    what = f"{decision['kind']} -> {decision['phase_after']}, {decision['weight_bp_after'] / 100:g} %"
    return Event(second, what, str(decision["reason"]))
