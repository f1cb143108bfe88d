"""Counters of one worker: what becomes evidence, and what becomes metrics.

Counted in place on the request path, as plain integers; read by the recorder and by `/metrics`.
"""

from collections import defaultdict
from typing import TYPE_CHECKING

from router.core.observations import AGREEMENT, LATENCY, OUTCOME, PAIR, STARTED, CounterKey, Outcome, latency_bucket
from router.core.traffic import Role

if TYPE_CHECKING:
    from collections.abc import Mapping

PAIR_VARIANT = "pair"


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


class Tally:
    """The evidence of one exposure of one rollout, as this worker saw it. Only ever grows."""

    __slots__ = ("_agreement", "_pairs", "exposure", "live")

    def __init__(self, exposure: int) -> None:
        self.exposure = exposure
        self.live = {role: VariantCounts() for role in Role}
        self._pairs: defaultdict[str, int] = defaultdict(int)
        self._agreement: defaultdict[str, int] = defaultdict(int)

    def pair(self, cell: str, agreement: str) -> None:
        """Count a pair: `both`, or `<role>:<outcome>` of the missing answer; `same`, `different` or `not_compared`."""
        self._pairs[cell] += 1
        self._agreement[agreement] += 1

    def counters(self) -> "Mapping[CounterKey, int]":
        """Return every counter that is not zero, whole values."""
        found: dict[CounterKey, int] = {}
        for role, counts in self.live.items():
            cells = {
                (STARTED, "all"): counts.started,
                **{(OUTCOME, outcome.value): number for outcome, number in counts.outcomes.items()},
                **{(LATENCY, str(bucket)): number for bucket, number in counts.buckets.items()},
            }
            found.update(
                {CounterKey(self.exposure, metric, "", role.value, cell): n for (metric, cell), n in cells.items() if n}
            )
        for metric, numbers in ((PAIR, self._pairs), (AGREEMENT, self._agreement)):
            for cell, number in numbers.items():
                found[CounterKey(self.exposure, metric, "", PAIR_VARIANT, cell)] = number
        return found


def count_end(counts: VariantCounts, tally: Tally | None, role: Role, outcome: Outcome, latency_ms: float) -> None:
    """Count the end of one live request in the metrics of its variant and in the evidence of its exposure."""
    bucket = latency_bucket(latency_ms)
    counts.end(outcome, latency_ms, bucket)
    if tally is not None:
        tally.live[role].end(outcome, latency_ms, bucket)
