"""What happened: Outcomes, Observations, Pairs and the counters that evidence is made of."""

import math
from bisect import bisect_left
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple, TypeAlias


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
    def end(self) -> "End":
        """What a copy's outcome says of the variant."""
        if self in FAILURES:
            return End.FAIL
        return End.FINE if self in (Outcome.OK, Outcome.CLIENT_ERROR) else End.UNKNOWN

    @property
    def is_failure(self) -> bool:
        """Whether it counts against the variant."""
        return self in FAILURES

    @property
    def is_answer(self) -> bool:
        """Whether the variant gave a complete answer, whatever its status."""
        return self in ANSWERS


class End(StrEnum):
    """What an outcome says of a variant; cells of PAIR_FAILURE are `<stable>/<candidate>` of these."""

    FINE = "fine"
    FAIL = "fail"
    UNKNOWN = "unknown"


_OK = Outcome.OK
ANSWERS = frozenset({Outcome.OK, Outcome.CLIENT_ERROR, Outcome.HTTP_ERROR})
FAILURES = frozenset({Outcome.HTTP_ERROR, Outcome.CONNECT_FAILED, Outcome.RESET, Outcome.MALFORMED, Outcome.TIMEOUT})
COMPARED_FAILURES = FAILURES | {Outcome.CANCELLED}
"""What counts as a failure where both variants are compared.

A cancelled request is an event of the same kind in both: without it a variant that fails slowly loses its failures to
clients that give up (statistics.md rule 3).
"""

DROPS = frozenset({Outcome.SHED, Outcome.QUEUE_TIMEOUT, Outcome.OVERSIZE})
"""What the gateway itself gave up: of these requests nobody can say how the variant would have ended them."""


def outcome_of_status(status: int) -> Outcome:
    """Return the outcome of a complete answer with this HTTP status."""
    if status < 400:
        return _OK
    return Outcome.HTTP_ERROR if status >= 500 else Outcome.CLIENT_ERROR


class Generation(NamedTuple):
    """How a language model wrote an answer; None is what is not known.

    `first_token_ms` runs as the latency does, to the first token of a stream. `tokens` are as its server counts them,
    `finish` says why it ended, in at most 64 bytes for all choices.
    """

    first_token_ms: float | None = None
    tokens: int | None = None
    finish: str | None = None


@dataclass(frozen=True, slots=True)
class PairSide:
    """One Variant's half of a Pair.

    `status` is 0 and `digest` empty when there was no complete answer. `latency_ms` runs from the moment the request
    was handed to the variant's connection to the last answer byte, or to the end of waiting. `label` and `score` are
    what was read of the prediction, each at most 64 bytes of text; None when unread. `generation` is there where a
    language model wrote the answer.
    """

    outcome: Outcome
    status: int
    latency_ms: float
    body_bytes: int
    digest: str
    label: str | None = None
    score: float | None = None
    generation: Generation | None = None


class Comparison(NamedTuple):
    """How two answers differ. `same` is None when they were not compared; `reason` says why, or what differs."""

    comparator: str
    same: bool | None
    distance: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Payload:
    """What is kept of one request's body and its answers' bodies, each as JSON text; None where nothing is kept."""

    request: str | None = None
    stable: str | None = None
    candidate: str | None = None

    @property
    def size(self) -> int:
        """Characters of all three."""
        return sum(len(text) for text in (self.request, self.stable, self.candidate) if text is not None)


@dataclass(frozen=True, slots=True)
class Pair:
    """Both Variants' answers to one request, or why one is missing. `served` names the role that the client heard.

    `key_cell` is the cell of its affinity key or `traffic.NO_KEY`; None where an older gateway wrote the pair.
    `payload` is None unless the operator asked for it (`pairs.payloads`).
    """

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
    key_cell: int | None = None
    payload: Payload | None = None

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


# Metrics of evidence; docs/evidence.md lists their cells, and which of them the gateway counts today.
STARTED = "started"
OUTCOME = "outcome"
LEVEL = "level"
LATENCY = "latency"
PAIR = "pair"
AGREEMENT = "agreement"
DISTANCE = "distance"
PAIR_FAILURE = "pair_failure"
CORRECT = "correct"
LABEL = "label"
FAILURE = "failure"

NO_PREDICTION = "?"
"""The candidate's digit in a cell of CORRECT or LABEL where it has made no prediction, for whatever reason.

Like a copy without an answer it speaks for the candidate where harm is asked, and against it where proof is: a
candidate that fails where it would have been wrong must not gain by it (statistics.md rule 9).
"""

PAIR_VARIANT = "pair"
"""The `variant` of counters that belong to both variants together."""

ALL = "all"
"""The one cell of STARTED."""

BOTH = "both"
"""The cell of PAIR that counts complete pairs; every other cell names the answer that is missing."""

LATE: Literal["late"] = "late"
"""A cell of OUTCOME: a good answer that began after the time at which a rescue cuts the candidate.

So both variants are judged by one deadline. The candidate has it where it could not be cut: no budget, no kept body.
"""

Ending: TypeAlias = Outcome | Literal["late"]
"""How a request is counted as evidence: one cell of OUTCOME."""

LOST: Literal["lost"] = "lost"
"""A cell of PAIR: a copy was made, and the pair was dropped on its way to the store."""

AFFINITY = "key:"
"""Prefix of a metric that counts each affinity key once; its cells end in `/j`.

j is the last exposure before this one in which the key was counted for the same metric, 0 for none. For the
evidence that begins with exposure s the first events are therefore those with j < s (statistics.md rule 4).
"""

CUTS = ("", "@1s", "@5s", "@total")
CUT_AGES_S = (0.0, 1.0, 5.0, None)
"""Suffixes of STARTED, OUTCOME and LEVEL: all requests, and those that arrived 1 s, 5 s and `timeouts.total` ago.

Requests in flight are counted as if they ended in the candidate's favour. At an older cut fewer are in flight, at a
newer one more have arrived; each cut bounds the same path, so harm at any of them is harm (statistics.md rule 7).
"""

LATENCY_FLOOR_MS = 0.1
LATENCY_GROWTH = 1.02
LATENCY_BUCKETS = 815
"""Buckets grow by 2 %: 815 of them reach from 0.1 ms to 1000 s at 1 % precision (statistics.md 2.2)."""


def latency_bucket(latency_ms: float) -> int:
    """Return the bucket 0..815 of a latency: bucket i holds (edge(i-1), edge(i)], the last one all that is slower."""
    return bisect_left(_EDGES_MS, latency_ms)


def latency_edge_ms(bucket: int) -> float:
    """Return the upper edge of a bucket, in milliseconds; infinite for the last one."""
    return LATENCY_FLOOR_MS * LATENCY_GROWTH**bucket if bucket < LATENCY_BUCKETS else math.inf


_EDGES_MS = [latency_edge_ms(bucket) for bucket in range(LATENCY_BUCKETS)]
"""A search in them takes a third of the time of the logarithm, and puts an edge into its own bucket exactly."""


DISTANCE_FLOOR = 1e-6
DISTANCE_GROWTH = 1.05
DISTANCE_BUCKETS = 520
"""Buckets grow by 5 % from 1e-6 to 1e5: a comparator's distance may be a share or a difference of prices."""


def distance_bucket(distance: float) -> int:
    """Return the bucket 0..520 of a comparator's distance, as `latency_bucket` does; 0 is "the same within 1e-6"."""
    if distance <= DISTANCE_FLOOR:
        return 0
    return min(math.ceil(math.log(distance / DISTANCE_FLOOR) / math.log(DISTANCE_GROWTH)), DISTANCE_BUCKETS)
