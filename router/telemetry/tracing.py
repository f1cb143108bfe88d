"""Traces as plain values: W3C trace context in and out, and finished spans on their way to whoever exports them.

Nothing here knows OpenTelemetry's SDK: a worker makes a Span when a request has ended and hands it to its parent, which
exports it (`telemetry/otlp.py`). ADR 0021 says why.
"""

import re
from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

from router.core.rollout import FULL_BP

Attribute: TypeAlias = str | int | bool

SPAN_BYTES = 3_000
"""What a waiting span takes besides its texts. Measured by tracemalloc: 2,982 with 20 attributes of its own."""

TRACE_ID_BITS = 128
SPAN_ID_BITS = 64
_SAMPLED = 1
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[\x20-\x7e]*)?")


class TraceParent(NamedTuple):
    """Where a request comes from: ids are above 0, `sampled` is its sender's decision, `state` its `tracestate`."""

    trace_id: int
    span_id: int
    sampled: bool
    state: str = ""


class Span(NamedTuple):
    """One finished piece of work. Ids as in `TraceParent`, `parent_id` 0 for none, times in ns since 1970.

    `server` says that it is a request as a client of ours sent it, its parent the client's; else it is a call of ours,
    its parent that request. `state` is the trace's `tracestate`; `failed` sets the span's status to error.
    """

    trace_id: int
    span_id: int
    parent_id: int
    state: str
    name: str
    begun_ns: int
    ended_ns: int
    attributes: Mapping[str, Attribute]
    server: bool
    failed: bool

    @property
    def held_bytes(self) -> int:
        """What it takes while it waits, about."""
        texts = [value for value in self.attributes.values() if isinstance(value, str)]
        return SPAN_BYTES + len(self.state) + len(self.name) + sum(map(len, texts))


def read_traceparent(value: bytes) -> TraceParent | None:
    """Return what the field says, None where it is not valid (W3C Trace Context, section 3.2)."""
    found = _TRACEPARENT.fullmatch(value)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more):
        return None
    read = TraceParent(int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & _SAMPLED))
    return read if read.trace_id and read.span_id else None


def traceparent_line(trace_id: int, span_id: int, *, sampled: bool) -> bytes:
    """Return the field, as it is sent to an upstream whose spans belong below `span_id`."""
    return b"traceparent: 00-%032x-%016x-%02x\r\n" % (trace_id, span_id, sampled)


def is_sampled(trace_id: int, sample_bp: int) -> bool:
    """Decide for a trace that begins here, by its id: `sample_bp` of FULL_BP of them, the same for all who look."""
    drawn = trace_id % (1 << SPAN_ID_BITS)
    return drawn * FULL_BP < sample_bp << SPAN_ID_BITS


class SpanQueue:
    """Spans that wait, at most `limit_bytes` of them; the newest do not get in when it is full. `drops` counts them."""

    def __init__(self, limit_bytes: int) -> None:
        self.held_bytes = 0
        self.drops = 0
        self._limit_bytes = limit_bytes
        self._spans: deque[Span] = deque()

    def __repr__(self) -> str:
        return f"<SpanQueue {len(self._spans)} spans, {self.held_bytes}/{self._limit_bytes} bytes>"

    def __len__(self) -> int:
        return len(self._spans)

    def put(self, span: Span) -> None:
        """Take in a span, or drop it."""
        size = span.held_bytes
        if self.held_bytes + size > self._limit_bytes:
            self.drops += 1
            return
        self.held_bytes += size
        self._spans.append(span)

    def take(self, most: int) -> tuple[Span, ...]:
        """Return the oldest spans, at most so many; they are the caller's from here on."""
        taken = tuple(self._spans.popleft() for _ in range(min(most, len(self._spans))))
        self.held_bytes -= held_bytes(taken)
        return taken


def held_bytes(spans: Iterable[Span]) -> int:
    """Return what these take while they wait."""
    return sum(span.held_bytes for span in spans)
