"""What happened: Outcomes, Observations, Pairs and the counters that evidence is made of."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Outcome(StrEnum):
    """How one Variant's part in one request ended.

    The first group is the variant's doing, the second is ours and never a failure of a variant.
    """

    OK = "ok"
    CLIENT_ERROR = "client_error"
    HTTP_ERROR = "http_error"
    CONNECT_FAILED = "connect_failed"
    RESET = "reset"
    MALFORMED = "malformed"
    TIMEOUT = "timeout"

    SHED = "shed"
    QUEUE_TIMEOUT = "queue_timeout"
    CANCELLED = "cancelled"
    OVERSIZE = "oversize"

    @property
    def is_failure(self) -> bool:
        """Whether it counts against the variant."""
        return self in FAILURES

    @property
    def is_answer(self) -> bool:
        """Whether the variant gave a complete answer, whatever its status."""
        return self in ANSWERS


ANSWERS = frozenset({Outcome.OK, Outcome.CLIENT_ERROR, Outcome.HTTP_ERROR})
FAILURES = frozenset({Outcome.HTTP_ERROR, Outcome.CONNECT_FAILED, Outcome.RESET, Outcome.MALFORMED, Outcome.TIMEOUT})
OURS = frozenset({Outcome.SHED, Outcome.QUEUE_TIMEOUT, Outcome.CANCELLED, Outcome.OVERSIZE})


def outcome_of_status(status: int) -> Outcome:
    """Return the outcome of a complete answer with this HTTP status."""
    if status >= 500:
        return Outcome.HTTP_ERROR
    return Outcome.CLIENT_ERROR if status >= 400 else Outcome.OK


@dataclass(frozen=True, slots=True)
class PairSide:
    """One Variant's half of a Pair.

    `status` is 0 and `digest` empty when there was no complete answer. `latency_ms` runs from the moment the request
    was handed to the variant's connection to the last answer byte, or to the end of waiting. `label` and `score` are
    what was read of the prediction, each at most 64 bytes of text; None when unread.
    """

    outcome: Outcome
    status: int
    latency_ms: float
    body_bytes: int
    digest: str
    label: str | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two answers differ. `same` is None when they were not compared; `reason` says why, or what differs."""

    comparator: str
    same: bool | None
    distance: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """Both Variants' answers to one request, or why one is missing. `served` names the role that the client heard."""

    pair_id: str
    request_id: str
    route: str
    rollout: str
    exposure: int
    assigned_at_s: float
    served: str
    stable: PairSide
    candidate: PairSide
    comparison: Comparison
    slices: tuple[tuple[str, str], ...] = ()

    @property
    def complete(self) -> bool:
        """Whether both variants gave an answer."""
        return self.stable.outcome.is_answer and self.candidate.outcome.is_answer


class CounterKey(NamedTuple):
    """Names one cumulative counter of evidence. `variant` is `stable`, `candidate` or `pair`; `slice` "" is all."""

    exposure: int
    metric: str
    slice: str
    variant: str
    cell: str

    def to_field(self) -> str:
        """Return the key as the name of a hash field; `|` inside a part is escaped."""
        return "|".join(str(part).replace("%", "%25").replace("|", "%7C") for part in self)

    @classmethod
    def from_field(cls, text: str) -> "CounterKey":
        """Read back what `to_field` wrote; raises ValueError on anything else."""
        parts = [part.replace("%7C", "|").replace("%25", "%") for part in text.split("|")]
        if len(parts) != len(cls._fields):
            msg = f"counter field {text!r}: expected {len(cls._fields)} parts"
            raise ValueError(msg)
        exposure, metric, slice_, variant, cell = parts
        return cls(int(exposure), metric, slice_, variant, cell)


# Metrics of evidence that the gateway counts today; docs/evidence.md lists their cells.
STARTED = "started"
OUTCOME = "outcome"
LATENCY = "latency"
PAIR = "pair"
AGREEMENT = "agreement"

LATENCY_FLOOR_MS = 0.1
LATENCY_GROWTH = 1.02
LATENCY_BUCKETS = 815
"""Buckets grow by 2 %: 815 of them reach from 0.1 ms to 1000 s at 1 % precision (statistics.md 2.2)."""

_PER_LOG = 1.0 / math.log(LATENCY_GROWTH)


def latency_bucket(latency_ms: float) -> int:
    """Return the bucket 0..815 of a latency: bucket i holds (edge(i-1), edge(i)], the last one all that is slower."""
    if latency_ms <= LATENCY_FLOOR_MS:
        return 0
    return min(math.ceil(math.log(latency_ms / LATENCY_FLOOR_MS) * _PER_LOG), LATENCY_BUCKETS)


def latency_edge_ms(bucket: int) -> float:
    """Return the upper edge of a bucket, in milliseconds; infinite for the last one."""
    return LATENCY_FLOOR_MS * LATENCY_GROWTH**bucket if bucket < LATENCY_BUCKETS else math.inf
