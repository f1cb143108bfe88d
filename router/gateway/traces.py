"""Traces of requests: one span for the request, one for each call to an upstream, made when each of them has ended.

The live path only writes `traceparent` and keeps a few numbers; all else is read from the finished exchange or half of
a pair. A worker that does not trace has no Tracer and makes plain exchanges: they have nothing of this to ask.
"""

from typing import TYPE_CHECKING, NamedTuple, Protocol

from router.core.observations import ANSWERS, Outcome
from router.gateway import heads
from router.gateway.channel import Spans
from router.gateway.exchange import Exchange
from router.telemetry.tracing import (
    SPAN_ID_BITS,
    TRACE_ID_BITS,
    Attribute,
    Span,
    SpanQueue,
    TraceParent,
    is_sampled,
    read_traceparent,
    traceparent_line,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.core.config import TracingConfig
    from router.core.traffic import Backend, Role
    from router.gateway.mirror import Copy
    from router.gateway.table import LiveVariant, Standing
    from router.gateway.upstream import UpstreamConnection

BATCH = 128
"""Spans that are handed over at a time. Measured: pickling them takes 0.2 ms of the loop."""

_NOTHING = frozenset[bytes]()
_PARENT = frozenset((b"traceparent",))
_CONTEXT = frozenset((b"traceparent", b"tracestate"))
"""Where the first is not valid the second means nothing (W3C Trace Context, section 3.3.1.4)."""

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"))
"""Names that a span may have; of others there is no bound (OpenTelemetry's conventions for HTTP)."""


class Parent(Protocol):
    """Whoever exports the spans of this worker: the channel to its parent."""

    @property
    def clear(self) -> bool:
        """Whether all that was sent has been taken."""

    def send(self, message: Spans) -> None:
        """Take some."""


class Call(NamedTuple):
    """One request to an upstream on its way: the id of its span, and when (monotonic), where and what was sent."""

    span_id: int
    sent_s: float
    backend: "Backend"
    target: bytes


class Ended(NamedTuple):
    """How a call ended. `status` 0: no answer came. Seconds are monotonic; it began to look for a connection then."""

    outcome: Outcome
    status: int
    begun_s: float
    ended_s: float


class Tracer:
    """Begins the traces of one worker and keeps its finished spans until its parent takes them.

    `scheme` is that of the listener, `bits(number)` gives so many random bits, `now` is the worker's monotonic clock,
    `wall_ns` the time since 1970.
    """

    def __init__(  # noqa: PLR0913 - all that it depends on
        self,
        config: "TracingConfig",
        parent: Parent,
        *,
        scheme: str,
        bits: "Callable[[int], int]",
        now: "Callable[[], float]",
        wall_ns: "Callable[[], int]",
    ) -> None:
        self.spans = SpanQueue(config.queue_bytes)
        self.bits = bits
        self.now = now
        self.wall_ns = wall_ns
        self.scheme = scheme
        self._sample_bp = config.sample_bp
        self._parent = parent

    def begin(self, head: heads.RequestHead) -> "Trace | None":
        """Return the trace of a request; None where its sender does not record it: its context passes unchanged."""
        given = [line for name, line in head.fields if name == b"traceparent"]
        states = [line for name, line in head.fields if name == b"tracestate"]
        parent = read_traceparent(_value(given[0])) if len(given) == 1 else None
        if parent is None:
            trace_id = self.bits(TRACE_ID_BITS) or 1
            parent = TraceParent(trace_id, 0, is_sampled(trace_id, self._sample_bp))
            return Trace(self, parent, _CONTEXT if given or states else _NOTHING)
        if not parent.sampled:
            return None
        return Trace(self, parent._replace(state=b",".join(map(_value, states)).decode("latin-1")), _PARENT)

    def hand_over(self) -> bool:
        """Give the parent some of what waits if it has taken all it got before; whether there is more to give."""
        if not self.spans or not self._parent.clear:
            return False
        self._parent.send(Spans(self.spans.take(BATCH)))
        return len(self.spans) > 0

    def hand_over_all(self) -> None:
        """Give the parent all that waits; it takes that before the worker ends."""
        while self.spans:
            self._parent.send(Spans(self.spans.take(BATCH)))


class Trace:
    """What one request leaves in its trace. Not recorded where it is not sampled; its calls say so to the upstreams."""

    __slots__ = ("_begun_ns", "_begun_s", "_call", "_copy", "_dropped", "_free_s", "_parent", "_span_id", "_tracer")

    def __init__(self, tracer: Tracer, parent: TraceParent, dropped: frozenset[bytes]) -> None:
        """`dropped` are the fields that say it to us and not to the upstreams."""
        self._tracer = tracer
        self._parent = parent
        self._dropped = dropped
        self._begun_ns = tracer.wall_ns()
        self._begun_s = self._free_s = tracer.now()
        self._span_id = tracer.bits(SPAN_ID_BITS) or 1
        self._call: Call | None = None
        self._copy: Call | None = None

    def __repr__(self) -> str:
        return f"<Trace {self._parent.trace_id:032x} {'sampled' if self._parent.sampled else 'not sampled'}>"

    # -- what upstreams are told ------------------------------------------------------------------------------------

    def lines(self, head: heads.RequestHead, backend: "Backend", target: bytes) -> bytes:
        """Return the fields of a request that is sent now, with its place in the trace."""
        self._call = self._begin_call(backend, target)
        fields = heads.lines_without(head, self._dropped) if self._dropped else head.lines
        return fields + self._context(self._call)

    def copy_lines(
        self, head: heads.RequestHead, withheld: frozenset[bytes], backend: "Backend", target: bytes
    ) -> bytes:
        """Return the fields of a copy that is sent now, without what is withheld."""
        self._copy = self._begin_call(backend, target)
        withheld = withheld | self._dropped if self._dropped else withheld
        return heads.lines_without(head, withheld) + self._context(self._copy)

    def _begin_call(self, backend: "Backend", target: bytes) -> Call:
        return Call(self._tracer.bits(SPAN_ID_BITS) or 1, self._tracer.now(), backend, target)

    def _context(self, call: Call) -> bytes:
        return traceparent_line(self._parent.trace_id, call.span_id, sampled=self._parent.sampled)

    # -- what is recorded -------------------------------------------------------------------------------------------

    def call_ended(self, exchange: Exchange, outcome: Outcome, status: int, *, rescue: bool) -> None:
        """Record the request's call to the variant that it is with now; `status` 0 where no answer came."""
        ended = Ended(outcome, status, self._free_s, self._tracer.now())
        call, self._call, self._free_s = self._call, None, ended.ended_s
        if not self._parent.sampled:
            return
        found = _of_variant(exchange.variant, exchange.role)
        if rescue:
            found["turnout.rescue"] = True
        self._record_call(exchange, call, ended, found)

    def copy_ended(self, exchange: Exchange, copy: "Copy") -> None:
        """Record the copy, whose half of the pair has ended."""
        if not self._parent.sampled:
            return
        side, call = copy.side, self._copy
        sent_s = call.sent_s if call else copy.started_at
        ended = Ended(side.outcome, side.status, copy.started_at, sent_s + side.latency_ms / 1000)
        found = _of_variant(copy.variant, side.role)
        found["turnout.mirror"] = True
        self._record_call(exchange, call, ended, found)

    def _record_call(self, exchange: Exchange, call: Call | None, ended: Ended, found: dict[str, Attribute]) -> None:
        """Record one call, if there was one: what was turned away or waited in line never reached for an upstream."""
        outcome, status, begun_s, ended_s = ended
        if call is None and outcome is not Outcome.CONNECT_FAILED:
            return
        found |= _of_standing(exchange.standing)
        name = _add_method(found, exchange.method)
        if call is None:
            span_id = self._tracer.bits(SPAN_ID_BITS) or 1
        else:
            span_id, begun_s, backend, target = call
            path = target.partition(b"?")[0].decode("latin-1")
            found["server.address"], found["server.port"] = backend.host, backend.port
            found["url.full"] = f"{'https' if backend.tls else 'http'}://{backend.authority}{path}"
            found["network.protocol.version"] = "1.1"
        if status:
            found["http.response.status_code"] = status
        found["turnout.outcome"] = outcome.value
        if outcome is not Outcome.OK:
            found["error.type"] = _error_type(outcome, status)
        failed = outcome.is_failure or outcome is Outcome.CLIENT_ERROR
        self._record(span_id, self._span_id, name, begun_s, ended_s, found, server=False, failed=failed)

    def request_ended(
        self, exchange: Exchange, outcome: Outcome | None, status: int, rescued_from: Outcome | None = None
    ) -> None:
        """Record the request as its client saw it: `status` 0 where it got no answer.

        `outcome` is that of the variant which it was with at last, None where it went to none; `rescued_from` is how
        the candidate had failed before.
        """
        if not self._parent.sampled:
            return
        head = exchange.head
        found: dict[str, Attribute] = {
            "url.path": head.path.decode("latin-1"),
            "url.scheme": self._tracer.scheme,
            "network.protocol.version": "1.0" if head.http10 else "1.1",
            "turnout.request_id": exchange.request_id.decode("latin-1"),
        }
        name = _add_method(found, head.method)
        host, colon, port = head.host.decode("latin-1").rpartition(":")
        if colon and port.isdigit():
            found["server.address"], found["server.port"] = host, int(port)
        elif head.host:
            found["server.address"] = head.host.decode("latin-1")
        if outcome is not None:
            prefix = exchange.standing.live.route.match.path_prefix
            name = f"{name} {prefix}"
            found |= _of_standing(exchange.standing) | _of_variant(exchange.variant, exchange.role)
            found["http.route"] = prefix
            found["turnout.outcome"] = outcome.value
        if rescued_from is not None:
            found["turnout.rescued_from"] = rescued_from.value
        if status:
            found["http.response.status_code"] = status
        unfinished = outcome is not None and outcome not in ANSWERS
        if status >= 500 or unfinished:
            found["error.type"] = _error_type(outcome, status)
        failed = status >= 500 or (unfinished and outcome is not Outcome.CANCELLED)
        parent_id, now_s = self._parent.span_id, self._tracer.now()
        self._record(self._span_id, parent_id, name, self._begun_s, now_s, found, server=True, failed=failed)

    def _record(  # noqa: PLR0913, PLR0917 - a span
        self,
        span_id: int,
        parent_id: int,
        name: str,
        begun_s: float,
        ended_s: float,
        found: dict[str, Attribute],
        *,
        server: bool,
        failed: bool,
    ) -> None:
        parent = self._parent
        begun_ns, ended_ns = self._at_ns(begun_s), self._at_ns(ended_s)
        self._tracer.spans.put(
            Span(parent.trace_id, span_id, parent_id, parent.state, name, begun_ns, ended_ns, found, server, failed)
        )

    def _at_ns(self, at_s: float) -> int:
        return self._begun_ns + round((at_s - self._begun_s) * 1e9)


class TracedExchange(Exchange):
    """An exchange that says what its trace needs; what is not traced is made of the plain ones, which ask nothing."""

    __slots__ = ("_trace",)

    def begin(self) -> None:
        tracer = self.worker.tracer
        self._trace = tracer.begin(self.head) if tracer is not None else None
        super().begin()

    def _request_head(self, connection: "UpstreamConnection", lines: bytes) -> bytes:
        if self._trace is not None:
            lines = self._trace.lines(self.head, connection.backend, self._target)
        return super()._request_head(connection, lines)

    def copy_head(self, copy: "Copy", connection: "UpstreamConnection", lines: bytes | None = None) -> bytes:
        if self._trace is not None:
            withheld = self.standing.live.withheld
            lines = self._trace.copy_lines(self.head, withheld, connection.backend, copy.target)
        return super().copy_head(copy, connection, lines)

    def refuse(self, status: int, detail: str) -> None:
        if self.begun and self._trace is not None:
            self._trace.request_ended(self, None, status)
        super().refuse(status, detail)

    def _answer_ourselves(self, status: int, detail: str) -> None:
        self._status = status
        super()._answer_ourselves(status, detail)

    def _begin_rescue(self, failed: Outcome) -> None:
        if self._trace is not None:
            self._trace.call_ended(self, failed, self._status if failed is Outcome.HTTP_ERROR else 0, rescue=False)
        super()._begin_rescue(failed)

    def _end(self, outcome: Outcome) -> None:
        if self._trace is not None:
            rescue, status = self._rescue, self._status
            answered = outcome in ANSWERS or self._answer_started
            self._trace.call_ended(self, outcome, status if answered else 0, rescue=rescue is not None)
            unseen = outcome is Outcome.CANCELLED and not self._answer_started
            self._trace.request_ended(self, outcome, 0 if unseen else status, rescue.failed if rescue else None)
        super()._end(outcome)

    def side_ended(self) -> None:
        trace, copy, live_side = self._trace, self._copy, self.live_side
        if trace is not None and copy is not None and live_side is not None and copy.side.done and live_side.done:
            trace.copy_ended(self, copy)
        super().side_ended()


def _value(line: bytes) -> bytes:
    return line.partition(b":")[2].strip()


def _add_method(found: dict[str, Attribute], method: bytes) -> str:
    """Note the method as the conventions ask for it, and return what it gives to the span's name."""
    text = method.decode("latin-1")
    if text in _METHODS:
        found["http.request.method"] = text
        return text
    found["http.request.method"], found["http.request.method_original"] = "_OTHER", text
    return "HTTP"


def _of_variant(live: "LiveVariant", role: "Role") -> dict[str, Attribute]:
    return {"turnout.variant": live.variant.name, "turnout.role": role.value}


def _of_standing(standing: "Standing") -> dict[str, Attribute]:
    found: dict[str, Attribute] = {"turnout.route": standing.live.route.name}
    if standing.candidate is not None:
        found["turnout.rollout"], found["turnout.exposure"] = standing.rollout_id, standing.exposure.id
    return found


def _error_type(outcome: Outcome | None, status: int) -> str:
    """Return the status where it was the variant's answer or there was no variant, else what went wrong."""
    return str(status) if outcome is None or outcome in ANSWERS else outcome.value
