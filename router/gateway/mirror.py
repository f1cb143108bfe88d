"""Copies: the other variant's part in a request, and the pair that comes of it.

A copy begins when the request body is complete, has its own pool, bounds and deadline, and nobody waits for it.
Neither the client's going away nor the copy's failure touches the other side, but for streams: their copy ends with
the client that leaves. The pair is closed by whichever side ends last.
"""

from typing import TYPE_CHECKING

from router.core.observations import Outcome, outcome_of_status
from router.gateway.pieces import SHORT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.gateway import heads
    from router.gateway.exchange import Exchange
    from router.gateway.pieces import Pieces
    from router.gateway.side import Side
    from router.gateway.table import LiveRoute, LiveVariant
    from router.gateway.upstream import UpstreamConnection

COPY_OVERHEAD_BYTES = 10 * 2**10
"""What a copy holds besides its body while it waits: request, connection, tasks. Resident: 8.3 KiB, of 606 copies."""


class Copy:
    """One copy: a `Call` of the copies' pool. Its body counts against its Route's bound until its end.

    Whoever takes the body next holds it alone: first this copy, then its connection, which may send slowly or never.
    """

    __slots__ = (
        "_connection", "_exchange", "_held_bytes", "_live", "_sent_at", "abandoned", "body", "body_bytes",
        "method", "side", "started_at", "target", "variant",
    )  # fmt: skip

    def __init__(self, exchange: "Exchange", side: "Side", variant: "LiveVariant") -> None:
        self.side = side
        self.variant = variant
        self.method = exchange.method
        self.target = b""
        self.body: Pieces = []
        self.body_bytes = 0
        self.abandoned = False
        self._exchange = exchange
        self._live: LiveRoute = exchange.standing.live
        self._connection: UpstreamConnection | None = None
        self._held_bytes = 0
        self.started_at = 0.0
        self._sent_at = 0.0

    def start(self, target: bytes, body: "Pieces") -> None:
        """Have the copy sent at the end of the loop's turn."""
        self.target = target
        self.body = body
        self.body_bytes = sum(map(len, body))
        self.started_at = self._exchange.worker.now()
        self._live.copies[self] = None
        self._held_bytes = COPY_OVERHEAD_BYTES + self.body_bytes
        self._live.copy_bytes += self._held_bytes
        self._exchange.worker.departures.add(self)

    def send(self) -> None:
        """Send the copy on its way, or end it as shed when its pool is full."""
        if not self.side.done and not self.variant.copies.acquire(self):
            self._end(Outcome.SHED)

    def end_oversize(self) -> None:
        """The request's body was too large to be kept."""
        self._end(Outcome.OVERSIZE)

    def end_unreadable(self) -> None:
        """The request could not be readdressed to this variant; nothing was sent, and it is not the variant's fault."""
        self._live.drop_copy("not_readdressable")
        self._end(Outcome.CLIENT_ERROR)

    def on_connected(self, connection: "UpstreamConnection") -> None:
        self._connection = connection
        self._sent_at = self._exchange.worker.now()
        parts = (self._exchange.copy_head(self, connection), *self.body)
        if self.body_bytes <= SHORT_BYTES:
            connection.write(b"".join(parts))  # cheaper than to keep two buffers
        else:
            connection.write_all(parts)
        connection.request_sent()
        self.body = []
        self._exchange.copy_sent()

    def on_answer_head(self, head: "heads.AnswerHead") -> None:
        self.side.status = head.status
        self.side.answer = head
        if (reader := self._live.stream_reader) is not None:
            self.side.open_stream(self._exchange.worker.recorder.streams, reader, head, self._sent_at)
            self.leave_with_client()

    def on_answer_data(self, data: bytes) -> None:
        self.side.add(data)

    def on_answer_flush(self) -> None:
        """Nobody waits."""

    def on_answer_end(self) -> None:
        self._connection = None
        self._end(outcome_of_status(self.side.status))

    def on_failed(self, outcome: Outcome, why: str) -> None:  # noqa: ARG002 - the pair keeps the outcome; the text may quote the answer
        self._connection = None
        self._end(outcome)

    def on_write_blocked(self, blocked: bool) -> None:  # noqa: FBT001 - see Call
        """The body is bounded and already in memory; the transport holds what the backend has not taken."""

    def leave_with_client(self) -> None:
        """End the copy of a stream whose client has left: what a language model still writes is not compared."""
        live = self._exchange.live_side
        if live is None or live.outcome is not Outcome.CANCELLED:
            return
        if live.stream is not None or self.side.stream is not None:
            self._abandon()
            self._end(Outcome.CANCELLED)

    def expire_if(self, started_before: float) -> bool:
        """Give up if it was started before that time: the variant missed the deadline, or never took the connection."""
        if self.started_at >= started_before:
            return False
        self._end(Outcome.TIMEOUT if self._abandon() else Outcome.CONNECT_FAILED)
        return True

    def _abandon(self) -> bool:
        """Take no answer any more; return whether a connection has had the request."""
        self.abandoned = True
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()
        return connection is not None

    def _end(self, outcome: Outcome) -> None:
        if self.side.done:
            return
        if self in self._live.copies:
            del self._live.copies[self]
            self._live.copy_bytes -= self._held_bytes
        self.body = []
        latency_ms = (self._exchange.worker.now() - self._sent_at) * 1000 if self._sent_at else 0.0
        self.side.end(outcome, latency_ms)
        self._exchange.side_ended()


class Departures:
    """Copies that leave together, when all that has come in this turn of the loop has been dealt with.

    So no live request or answer waits for a copy, and a backend that sleeps is woken once for many of them: 4 % of the
    CPU of a request with its copy. `soon` has a function called in the loop's next turn.
    """

    __slots__ = ("_due", "_soon")

    def __init__(self, soon: "Callable[[Callable[[], None]], object]") -> None:
        self._soon = soon
        self._due: list[Copy] = []

    def add(self, copy: Copy) -> None:
        """Take a copy that is ready to be sent."""
        self._due.append(copy)
        if len(self._due) == 1:
            self._soon(self._send)

    def _send(self) -> None:
        due, self._due = self._due, []
        for copy in due:
            copy.send()


def expire_copies(live: "LiveRoute", now: float) -> None:
    """End the copies of a Route that have had their time; they are kept in the order of their start."""
    started_before = now - live.route.mirror.timeout_s
    for copy in list(live.copies):
        if not copy.expire_if(started_before):
            return
