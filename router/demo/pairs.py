"""What the pairs say: how many copies got both answers, how often the models agree, who is right, and how fast."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from router.demo.admin import Body
from router.demo.traffic import MAX_LABELS, Label

RECENT: Final = 1_000
"""Over how many of the newest pairs latency is shown. Chosen: 50 of them are above the 95th percentile."""

IN_FLIGHT: Final = "in_flight"
"""Why an answer is missing that may still come."""

ROLES: Final = ("stable", "candidate")


@dataclass(frozen=True, slots=True)
class PairCounts:
    """Copied requests: `copies` = `both` + all of `missing`, which says why an answer is missing."""

    copies: int
    both: int
    missing: Mapping[str, int]

    @property
    def complete(self) -> float:
        """The part of the copies that have both answers, 0..1; 0 without copies."""
        return self.both / self.copies if self.copies else 0.0


@dataclass(frozen=True, slots=True)
class ModelScore:
    """One model over the pairs: the part of its labels that is right, 0..1, and its recent latency."""

    accuracy: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class PairScores:
    """`pairs` that were read, the part of them in which both labels are the same, and each role's model."""

    pairs: int
    agreement: float
    models: Mapping[str, ModelScore]


def pair_counts(page: str, live_in_flight: int) -> PairCounts:
    """Return the gateways' own counts from their metrics.

    A copy that is still under way has no second answer yet: it is missing, as IN_FLIGHT. `live_in_flight` requests are
    under way that are no copies.
    """
    from prometheus_client.parser import text_string_to_metric_families

    both = in_flight = 0
    missing: Counter[str] = Counter()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            count, labels = int(sample.value), sample.labels
            match sample.name, labels:
                case "turnout_pairs_total", {"outcome": "both"}:
                    both = count
                case "turnout_pairs_total", {"outcome": outcome}:
                    missing[outcome] += count
                case "turnout_dropped_total", {"what": "pair", "reason": "queue_full" as reason}:
                    missing[f"dropped:{reason}"] += count
                case "turnout_dropped_total", {"what": "copy", "reason": reason} if reason != "not_readdressable":
                    # Not readdressable ones are among the pairs already, as the outcome of the copy.
                    missing[f"not_sent:{reason}"] += count
                case "turnout_in_flight", _:
                    in_flight += count
    missing[IN_FLIGHT] = max(0, in_flight - live_in_flight)
    kept = {reason: count for reason, count in sorted(missing.items()) if count}
    return PairCounts(both + sum(kept.values()), both, MappingProxyType(kept))


class PairReader:
    """Gathers scores from pairs as the admin API gives them; memory is bounded.

    A pair counts once however often it is seen in two calls that follow each other. Right is what the label says that
    was known when the pair came.
    """

    def __init__(self) -> None:
        self._labels: dict[str, str] = {}
        self._last_seen: frozenset[str] = frozenset()
        self._agreement: Counter[bool] = Counter()
        self._labelled = 0
        self._right: Counter[str] = Counter()
        self._latency_ms: dict[str, deque[float]] = {role: deque(maxlen=RECENT) for role in ROLES}
        self._pairs = 0

    @property
    def known_labels(self) -> int:
        """How many real answers are remembered."""
        return len(self._labels)

    def learn(self, labels: Iterable[Label]) -> None:
        """Remember the real answers to requests; the oldest are forgotten beyond MAX_LABELS."""
        for one in labels:
            self._labels[one.request_id] = str(one.label)
        for request_id in list(self._labels)[:-MAX_LABELS]:
            del self._labels[request_id]

    def read(self, newest: Sequence[Body]) -> None:
        """Take the newest pairs, newest first."""
        fresh = [pair for pair in newest if pair["pair_id"] not in self._last_seen]
        self._last_seen = frozenset(pair["pair_id"] for pair in newest)
        for pair in reversed(fresh):
            self._take(pair)

    def scores(self) -> PairScores:
        """Return what is known so far."""
        compared = self._agreement.total()
        return PairScores(
            pairs=self._pairs,
            agreement=self._agreement[True] / compared if compared else 0.0,
            models=MappingProxyType({role: self._score(role) for role in ROLES}),
        )

    def _take(self, pair: Body) -> None:
        self._pairs += 1
        same = pair["comparison"]["same"]
        if same is None:
            return  # an answer is missing or could not be read
        self._agreement[same] += 1
        label = self._labels.get(pair["request_id"])
        self._labelled += label is not None
        for role in ROLES:
            self._latency_ms[role].append(pair[role]["latency_ms"])
            if label is not None:
                self._right[role] += (pair[role].get("prediction") or {}).get("label") == label

    def _score(self, role: str) -> ModelScore:
        ordered = sorted(self._latency_ms[role])
        accuracy = self._right[role] / self._labelled if self._labelled else 0.0
        return ModelScore(accuracy, _quantile(ordered, 0.5), _quantile(ordered, 0.95))


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which this share of `ordered` lies; 0 when there is none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
