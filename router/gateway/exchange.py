"""One request in flight: from its head to the client's last byte.

An Exchange is the `Call` of the live pool and the `Waiter` of the line before it. It joins the client connection and
the upstream connection, streams both ways with back-pressure, and says at its end what happened, once. Where the
candidate failed before the client had any of its answer, the failure is what is said, and stable goes on with the
request (`rescue`). Everything on its way is a callback; nothing is awaited, logged or stored here.
"""

from typing import TYPE_CHECKING

from router.core.errors import UnreadableError
from router.core.inference import RawRequest
from router.core.observations import (
    COMPARED_FAILURES,
    LATE,
    LOST,
    End,
    Ending,
    Outcome,
    latency_bucket,
    outcome_of_status,
)
from router.core.traffic import CANDIDATE, NO_KEY, STABLE, Role
from router.gateway import heads
from router.gateway.mirror import COPY_OVERHEAD_BYTES, Copy
from router.gateway.pieces import Pieces, add_piece
from router.gateway.rescue import Rescue, Result, refusal, result_of
from router.gateway.side import Side
from router.gateway.tally import PairEnd

if TYPE_CHECKING:
    from router.core.traffic import Assignment
    from router.gateway.client import ClientConnection
    from router.gateway.firsts import FirstPair, FirstRequest
    from router.gateway.table import LiveVariant, Standing
    from router.gateway.tally import Arrivals, PairCells, RoleTally
    from router.gateway.upstream import UpstreamConnection
    from router.gateway.worker import Worker

PENDING_BYTES = 64 * 2**10
"""How much of a request may wait for its connection before the client is slowed down. Chosen: one socket buffer."""

WHOLE_BYTES = 16 * 2**10
"""A body announced as no longer than this is waited for before its request takes a place at its variant.

So clients that hold back their bodies hold no places. Chosen: most predictions are shorter, and 10,000 such clients
can have us hold 160 MiB.
"""

DISCARD_BYTES = 64 * 2**10
"""Longest body that is read to its end after its request was refused. Chosen: what has likely been sent already."""

_STATUS_OF = {Outcome.TIMEOUT: 504, Outcome.SHED: 503}
_GOOD = (Outcome.OK, Outcome.CLIENT_ERROR)
_VIA = b"via: 1.1 turnout\r\n"
_BODY_METHODS = frozenset((b"POST", b"PUT", b"PATCH"))
ROLE_LINES = {role: f"x-turnout-variant: {role.value}\r\n".encode() for role in Role}
_RESCUED_LINES = {outcome: f"x-turnout-rescued: {outcome.value}\r\n".encode() for outcome in Outcome}


class Exchange:
    """One request and its answer.

    The client side calls `request_data`*, `request_done` and, when the request is first in line, `begin`; after each
    read that may have changed something, `flush`. The upstream side calls the methods of `Call`. The exchange ends
    exactly once, in `_end`. `role` and `variant` are who serves: from a rescue on, stable.
    """

    __slots__ = (
        "_acquiring", "_answer_out", "_answer_started", "_arrivals", "_body_length", "_client", "_connection", "_copy",
        "_copy_started", "_early", "_ended", "_extra_s", "_first", "_first_pair", "_keep_alive", "_kept", "_kept_bytes",
        "_late", "_out", "_out_bytes", "_pair_cells", "_placed", "_rechunk", "_request_bytes", "_rescuable",
        "_rescue", "_retarget", "_seen_bytes", "_sent_at", "_status", "_tally", "_target", "abandoned",
        "assigned_at_s", "begun", "head", "internal_id", "key_cell", "live_side", "method",
        "request_body", "request_complete", "request_id", "role", "standing", "variant", "worker",
    )  # fmt: skip

    standing: "Standing"
    variant: "LiveVariant"

    def __init__(self, client: "ClientConnection", worker: "Worker", head: heads.RequestHead) -> None:
        self.worker = worker
        self.head = head
        self.method = head.method
        self.internal_id = worker.next_id()
        self.request_id = head.request_id or self.internal_id
        self.role = STABLE
        self.abandoned = False
        self.begun = False
        self.request_complete = False
        self.assigned_at_s = 0.0
        self.live_side: Side | None = None
        self._client = client
        self._connection: UpstreamConnection | None = None
        self._copy: Copy | None = None
        self._copy_started = False
        self._early: list[bytes] | None = None  # what comes of the body before it is our turn
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._kept: Pieces | None = None
        self._kept_bytes = 0
        self._request_bytes = 0
        self._seen_bytes = 0
        self._retarget = False
        self._target = head.target
        self._body_length = head.body_length
        self._acquiring = False
        self._placed = False
        self._answer_out: list[bytes] = []
        self._answer_started = False
        self._rechunk = False
        self._status = 0
        self._keep_alive = head.keep_alive
        self._sent_at = 0.0
        self._ended = False
        self._rescuable = False  # its failure would reach stable and not the client
        self._rescue: Rescue | None = None
        self._extra_s = 0.0  # how much later than the answer's present deadline the last one is
        self._late = False
        self._tally: RoleTally | None = None
        self._arrivals: Arrivals | None = None
        self._first: FirstRequest | None = None
        self._pair_cells: PairCells | None = None
        self._first_pair: FirstPair | None = None
        self.key_cell = NO_KEY
        self.request_body: bytes | None = None  # for the pair's payload, if it is not too long for one

    # -- the request ------------------------------------------------------------------------------------------------

    def begin(self) -> None:  # noqa: C901, PLR0912 - the one place where the order of these things is decided
        """Choose where the request goes and ask for a connection. Called once, when all earlier answers are out."""
        self.begun = True
        worker, head = self.worker, self.head
        if head.last_hop:
            self._answer_options()
            return
        standing = worker.table.find(head)
        if standing is None:
            self.refuse(404, "no route matches this path and host; `turnout list` shows the routes")
            return
        if max(head.body_length, self._request_bytes) > worker.limits.body_bytes:
            self.refuse(413, f"a body may have at most {worker.limits.body_bytes} bytes")
            return
        assignment: Assignment | None
        if head.override and self._client.may_choose and (chosen := standing.choose(head.override)) is not None:
            standing, assignment = chosen
        else:
            assignment, self.key_cell = standing.assign(head, self.internal_id)
        self.standing = standing
        self.assigned_at_s = worker.wall_s()
        if assignment is not None:
            self.role = assignment.serve
            self._rescuable = standing.rescues and self.role is CANDIDATE
        self.variant = standing.variant(self.role)
        self.variant.counts.started += 1
        if standing.live_tally is not None:
            self._tally = standing.live_tally.live[self.role]
            self._arrivals = self._tally.present
            self._arrivals.started += 1
            if standing.keyed:
                self._first = worker.recorder.first_request(standing, standing.live_tally, self.role, self.key_cell)
        self._retarget = self.variant.retargets
        if assignment is not None and assignment.copy:
            self._plan_copy(assignment)
        if self._retarget or (self._rescuable and standing.keeps_bodies):
            self._kept = []
        if head.expects_continue and not self.request_complete:
            self._client.write(heads.CONTINUE)
        if self._early is not None:
            early, self._early = self._early, None
            for data in early:
                self._take(data)
        if self.request_complete:
            self._on_complete()

    def begin_whole(self, body: bytes) -> None:
        """Begin with a request whose body, without framing, has come already."""
        self._request_bytes = len(body)
        if body:
            self._early = [body]
        self.request_complete = True
        self.begin()
        self.flush()

    def request_data(self, data: bytes) -> None:
        """Take a piece of the body, without framing."""
        if self._ended:
            return
        self._request_bytes += len(data)
        if not self.begun:
            # Of one read at most; whether it is too much is said when it is our turn.
            if self._early is None:
                self._early = []
            self._early.append(data)
        elif self._request_bytes > self.worker.limits.body_bytes:
            self._end_by_us(Outcome.OVERSIZE, 413, f"a body may have at most {self.worker.limits.body_bytes} bytes")
        else:
            self._take(data)

    def fresh_bytes(self) -> int:
        """Return how much of the body has come since this was asked last."""
        fresh, self._seen_bytes = self._request_bytes - self._seen_bytes, self._request_bytes
        return fresh

    def request_done(self) -> None:
        """The body is complete."""
        self.request_complete = True
        if self.begun:
            self._on_complete()

    def _take(self, data: bytes) -> None:
        if self._kept is not None:
            self._keep(data)
        if not self._retarget:
            self._out.append(heads.chunk(data) if self.head.body_length == heads.CHUNKED else data)
            self._out_bytes += len(data)

    def _on_complete(self) -> None:
        if self._ended:
            return
        if self._rescue is None:
            self._extra_s = self.standing.extra_s
            self._client.await_answer(self.standing.first_byte_s)
        else:
            self._client.await_answer(self.standing.live.route.timeouts.total_s)
        if self._retarget:
            self._send_retargeted()
        elif self.head.body_length == heads.CHUNKED:
            self._out.append(heads.LAST_CHUNK)

    def _send_retargeted(self) -> None:
        try:
            raw = self.standing.live.adapter.retarget(self._raw_request(), self.variant.variant)
        except UnreadableError as error:
            self._end_by_us(
                Outcome.CLIENT_ERROR, 400, f"this request cannot be readdressed to {self.variant.variant.name}: {error}"
            )
            return
        # The head stays as the client sent it: a copy goes to its own variant's place, not to this one's.
        self._target = raw.target.encode("latin-1")
        self._body_length = len(raw.body)
        self._out.append(raw.body)
        self._acquire()

    def _raw_request(self) -> RawRequest:
        """The complete request as an adapter sees it; decoding Latin-1 and back loses nothing."""
        fields = tuple(
            (name.decode("latin-1"), line.partition(b":")[2].strip().decode("latin-1"))
            for name, line in self.head.fields
        )
        return RawRequest(
            self.method.decode("latin-1"), self.head.target.decode("latin-1"), fields, b"".join(self._kept or ())
        )

    def _acquire(self) -> None:
        self._placed = self._acquiring = True
        placed = self.variant.line.acquire(self) if self._rescue is None else self.variant.live.acquire(self._rescue)
        if not placed:
            self.turned_away()
        self._acquiring = False

    def overdue(self) -> bool:
        return self._client.answer_deadline <= self.worker.now()

    def waited_out(self) -> None:
        name, wait_s = self.variant.variant.name, self.variant.line.wait_s
        self._end_by_us(Outcome.QUEUE_TIMEOUT, 503, f"{name} had no place free within {wait_s:g} s (timeouts.queue)")

    def turned_away(self) -> None:
        name, limit = self.variant.variant.name, self.variant.live.limit
        self._end_by_us(Outcome.SHED, 503, f"{name} already has {limit} requests in flight (max_in_flight)")

    def on_connected(self, connection: "UpstreamConnection") -> None:
        self._connection = connection
        self._sent_at = self.worker.now()
        self._out.insert(0, self._request_head(connection, self.head.lines))
        if not self._acquiring:
            self.flush()

    def flush(self) -> None:
        """Send on what has come in, and start the copy once the request is complete."""
        if self._ended:
            return
        if not self._placed and (self.request_complete or not 0 < self.head.body_length <= WHOLE_BYTES):
            self._acquire()
        connection = self._connection
        if connection is None:
            if self._out_bytes > PENDING_BYTES:
                self._client.pause_for_upstream()
        else:
            if self._out:
                out = b"".join(self._out)
                self._out.clear()
                if self._out_bytes > PENDING_BYTES:
                    self._client.resume_for_upstream()  # before the write, which may block the client anew
                self._out_bytes = 0
                connection.write(out)
            if self.request_complete:
                connection.request_sent()
        if self._copy is not None and self.request_complete and not self._copy_started:
            self._start_copy(self._copy)

    def on_write_blocked(self, blocked: bool) -> None:  # noqa: FBT001 - see Call
        if blocked:
            self._client.pause_for_upstream()
        else:
            self._client.resume_for_upstream()

    def _request_head(self, connection: "UpstreamConnection", lines: bytes) -> bytes:
        head = self.head
        framed = self._body_length or head.method in _BODY_METHODS
        return b"%b %b HTTP/1.1\r\n%b%b%bx-request-id: %b\r\n%b%b\r\n" % (
            head.method, self._target, self.variant.host_line(connection, head.host), lines,
            self._client.forwarded_lines(head), self.request_id, _VIA,
            heads.framing_line(self._body_length) if framed else b"",
        )  # fmt: skip

    # -- the answer -------------------------------------------------------------------------------------------------

    def on_answer_head(self, head: heads.AnswerHead) -> None:
        self._status = head.status
        request = self.head
        if not self.request_complete or self.worker.draining:
            self._keep_alive = False
        of_hop = b""
        if head.body_length < 0:
            if request.http10:
                self._keep_alive = False
            else:
                self._rechunk = True
                of_hop = heads.framing_line(heads.CHUNKED)
        if not self._keep_alive:
            of_hop += b"connection: close\r\n"
        elif request.http10:
            of_hop += b"connection: keep-alive\r\n"
        variant = self.worker.role_lines[self.role]
        if self._rescue is not None and self.worker.response_headers:
            variant += _RESCUED_LINES[self._rescue.failed]
        self._answer_out.append(
            b"%b%bx-request-id: %b\r\n%b%b\r\n" % (head.lines, of_hop, self.request_id, variant, _VIA)
        )
        side = self.live_side
        if side is not None and not side.done:
            side.status = head.status
            side.answer = head
            if (reader := self.standing.live.stream_reader) is not None:
                side.open_stream(self.worker.recorder.streams, reader, head, self._sent_at)

    def on_answer_data(self, data: bytes) -> None:
        self._answer_out.append(heads.chunk(data) if self._rechunk else data)
        if self.live_side is not None and not self.live_side.done:
            self.live_side.add(data)

    def on_answer_flush(self) -> None:
        if self._rescuable and self._answer_out:
            if self._status >= 500 and self._may_be_rescued():
                self._hold_back_error()
                return
            self._rescuable = False
            self._spare_body()
        # The last piece goes out with the end of the body, so that a whole answer is one write.
        if self._answer_out:
            self._answer_started = True
            self._client.write(b"".join(self._answer_out))
            self._answer_out.clear()

    def on_answer_end(self) -> None:
        self._connection = None
        if self._rescuable:
            self._begin_rescue(Outcome.HTTP_ERROR)
            return
        if self._rechunk:
            self._client.write(heads.LAST_CHUNK)
        self._end(outcome_of_status(self._status))

    def on_failed(self, outcome: Outcome, why: str) -> None:
        self._connection = None
        if self._rescuable and outcome.is_failure and self._may_be_rescued():
            self._begin_rescue(outcome)
            return
        name = self.variant.variant.name
        self._end_by_us(outcome, _STATUS_OF.get(outcome, 502), f"{name} gave no answer ({outcome}): {why}")

    def client_blocked(self, blocked: bool) -> None:  # noqa: FBT001 - one method for both edges
        """The client reads slower than the variant answers, or has caught up."""
        if self._connection is not None:
            if blocked:
                self._connection.pause_reading()
            else:
                self._connection.resume_reading()

    # -- endings ----------------------------------------------------------------------------------------------------

    def refuse(self, status: int, detail: str) -> None:
        """Answer a request that goes to no variant."""
        self._ended = True
        self.begun = True
        self._answer_ourselves(status, detail)
        self._client.exchange_done(keep_alive=self._keep_alive)

    def _answer_options(self) -> None:
        """Answer OPTIONS as its last recipient (RFC 9110 section 7.6.2)."""
        self._ended = True
        self._close_unless_short()
        connection = b"" if self._keep_alive else b"connection: close\r\n"
        self._client.write(heads.NO_CONTENT % (self.request_id, connection))
        self._client.exchange_done(keep_alive=self._keep_alive)

    def timed_out(self) -> None:
        """The time of the first byte has passed, or the request's deadline: it was sent and not answered in time."""
        if self in self.variant.line:
            self.waited_out()
            return
        outcome = Outcome.TIMEOUT if self._connection is not None else Outcome.CONNECT_FAILED
        if self._extra_s:
            self._miss_first_byte(outcome)
            return
        if self._rescuable:
            self.standing.live.rescues.count(Result.NO_TIME)
        if self._client.blocked:
            outcome = Outcome.CANCELLED  # the variant waited for the client to read
        total_s = self.standing.live.route.timeouts.total_s
        self._end_by_us(
            outcome, 504, f"{self.variant.variant.name} did not answer within {total_s:g} s (timeouts.total)"
        )

    def not_taken(self) -> None:
        """The variant read so slowly that the client could not finish its request in time."""
        if self in self.variant.line:
            self.waited_out()
            return
        if self._rescuable and self._may_be_rescued():
            self._begin_rescue(Outcome.TIMEOUT)
            return
        name = self.variant.variant.name
        self._end_by_us(Outcome.TIMEOUT, 504, f"{name} did not take the body in time (limits.body_deadline)")

    def broken_off(self, refusal: heads.Refusal) -> None:
        """The client's bytes stopped, or stopped being HTTP, within the body: the variant never sees an end to it."""
        self._keep_alive = False
        self._end_by_us(Outcome.CANCELLED, refusal.status, refusal.detail)

    def client_gone(self) -> None:
        """The client has closed its connection: the variant may stop working; a copy goes on, unless of a stream."""
        if self._ended or not self.begun:
            self._ended = True
            return
        self._let_go(Outcome.CANCELLED)
        self._keep_alive = False
        self._end(Outcome.CANCELLED)
        if self._copy is not None:
            self._copy.leave_with_client()

    def _let_go(self, outcome: Outcome) -> None:
        self.abandoned = True
        self.variant.line.leave(self)
        if self._rescue is not None:
            self._rescue.abandoned = True
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon(timed_out=outcome is Outcome.TIMEOUT)

    def _end_by_us(self, outcome: Outcome, status: int, detail: str) -> None:
        """End without a complete answer: by one of our own or, where one has begun, by cutting it visibly short."""
        if self._ended:
            return
        if not self.begun:
            self.refuse(status, detail)
            return
        self.worker.failures.note(self, outcome)
        self._let_go(outcome)
        if self._rescue is not None:
            detail = f"{detail}; before that {self._rescue.name} failed ({self._rescue.failed})"
        if self._answer_started:
            self._client.cut()
        else:
            self._answer_ourselves(status, detail)
        self._end(outcome)

    def _answer_ourselves(self, status: int, detail: str) -> None:
        self._close_unless_short()
        extra = b"x-request-id: %b\r\n" % self.request_id
        if status == 503:
            extra += b"retry-after: 1\r\n"
        self._client.write(
            heads.problem(status, detail, keep_alive=self._keep_alive, extra=extra, to_head=self.method == b"HEAD")
        )

    def _close_unless_short(self) -> None:
        """End the connection with this answer unless it is better to read the rest of the request and throw it away.

        A client that waits for 100-continue may leave its body out, so there is no telling what would come next.
        """
        short = 0 <= self.head.body_length <= DISCARD_BYTES and not self.head.expects_continue
        if not self.request_complete and not short:
            self._keep_alive = False

    def _end(self, outcome: Outcome) -> None:
        """Say what happened and make room for the next request."""
        self._ended = True
        if self._rescue is None:
            self._book(outcome)
        else:
            self._rescue_ended(outcome)
            self._rescue = None  # breaks a reference cycle, as in `side_ended`
        if self._copy is None:
            self._release_body()
        self._client.exchange_done(keep_alive=self._keep_alive)

    def _book(self, outcome: Outcome) -> None:
        """Count what became of the request at the variant it was assigned to, and close the live half of the pair.

        Where stable rescues it, `_rescue` is set: the request goes on, and how it ends is not booked here again.
        """
        latency_ms = (self.worker.now() - self._sent_at) * 1000 if self._sent_at else 0.0
        bucket = latency_bucket(latency_ms)
        self.variant.counts.end(outcome, latency_ms, bucket)
        ending: Ending = LATE if self._late and outcome in _GOOD else outcome
        if self._tally is not None and self._arrivals is not None:
            self._tally.end(self._arrivals, ending, bucket)
            if self._first is not None:
                self._first.end(ending, bucket)
            slices: tuple[str, ...] = ()
            if self.standing.slicing is not None:
                slices = self.standing.slicing.end(
                    self._arrivals, self._first, self._tally, self.role, ending, bucket, self.head
                )
            if self.standing.first_failures and (ending == LATE or ending in COMPARED_FAILURES):
                self.worker.recorder.first_failure(self.standing, self._arrivals, self.key_cell, slices)
        if self.standing.breaker is not None:
            waits = self._copy_started or self._rescue is not None
            self.standing.breaker.live_ended(self.role, ending, self.key_cell, waits)
        if self.live_side is not None:
            self.live_side.end(outcome, latency_ms)
            if self._copy_started:
                self.side_ended()
            else:
                self._copy = None
                self.live_side.let_go("")
                self.standing.live.drop_copy(f"live_{outcome.value}")
                if self.role is CANDIDATE and outcome.is_failure:
                    self._count_failed_pair(outcome)

    # -- the rescue -------------------------------------------------------------------------------------------------

    def _miss_first_byte(self, outcome: Outcome) -> None:
        """Note whether the answer has begun in time; a candidate's that has not is not waited for if stable can."""
        self._client.extend_answer(self._extra_s)
        self._extra_s = 0.0
        if not self._answer_started:
            self._late = True
            if self._rescuable and self._may_be_rescued():
                self._begin_rescue(outcome)

    def _may_be_rescued(self) -> bool:
        """Whether stable takes over from here; asked once, since the answer takes from the budget."""
        refused = refusal(self.standing, sent=self._sent_at > 0, kept=self._kept is not None)
        if refused is None:
            return True
        self.standing.live.rescues.count(refused)
        self._rescuable = False
        self._spare_body()
        return False

    def _hold_back_error(self) -> None:
        """Show nothing of a 5xx answer to the client; if it is already whole, its end comes in this turn, else cut it.

        So the pair has its body, and the connection lives on, where that costs no time.
        """
        connection = self._connection
        if connection is None or not connection.answered:
            if self.live_side is not None:
                self.live_side.let_go("cut for a rescue")
            self._begin_rescue(Outcome.HTTP_ERROR)

    def _begin_rescue(self, failed: Outcome) -> None:
        """Book the candidate's failure, and send stable its own form of as much of the request as has come in."""
        self.worker.failures.note(self, failed)
        self._let_go(failed)
        self._rescuable = False
        self._rescue = Rescue(self, self.variant.variant.name, failed)
        self._book(failed)
        standing = self.standing
        self.role, self.variant = STABLE, standing.stable
        self._answer_out.clear()
        self._rechunk = False
        self._keep_alive = self.head.keep_alive
        self._client.extend_answer(self._extra_s)
        self._extra_s = 0.0
        if not self.request_complete:
            self._client.read_body_anew()
        self._client.resume_for_upstream()
        self._send_again()

    def _send_again(self) -> None:
        self._target, self._body_length = self.head.target, self.head.body_length
        self._retarget = self.variant.retargets
        if self._retarget:
            self._out.clear()
            self._out_bytes = 0
            if self.request_complete:
                self._send_retargeted()
        else:
            # What was not kept was not sent either, and still waits in `_out`.
            if self._kept is not None:
                self._put_kept(b"".join(self._kept))
            self._acquire()
        self.flush()

    def _put_kept(self, body: bytes) -> None:
        self._out.clear()
        self._out_bytes = len(body)
        chunked = self._body_length == heads.CHUNKED
        if body:
            self._out.append(heads.chunk(body) if chunked else body)
        if not self.request_complete:
            self._kept = None  # what still comes is sent once
        elif chunked:
            self._out.append(heads.LAST_CHUNK)

    def _rescue_ended(self, outcome: Outcome) -> None:
        """Count how the rescue ended; `outcome` is of stable's part, an answer only if `_answer_started`."""
        self.standing.live.rescues.count(result_of(outcome, answered=self._answer_started))
        if self.standing.breaker is not None and self._rescue is not None:
            self.standing.breaker.rescued(self._rescue.ending(outcome, answered=self._answer_started), self.key_cell)

    # -- the copy ---------------------------------------------------------------------------------------------------

    def _plan_copy(self, assignment: "Assignment") -> None:
        """Decide, from what was known before this request arrived, whether its copy can be made."""
        live = self.standing.live
        reason = self._copy_refusal()
        if reason:
            live.drop_copy(reason)
            return
        other = assignment.serve.other
        answers = self.worker.recorder.answers
        self.live_side = Side(self.role, answers)
        self._copy = Copy(self, Side(other, answers), self.standing.variant(other))
        self._kept = []

    def _copy_refusal(self) -> str:
        live = self.standing.live
        if not live.mirror_safe:
            return "not_mirror_safe"
        if self.method != b"POST":
            return "not_a_prediction"
        if self.worker.lag.standing or self.variant.live.full or len(self.standing.variant(self.role.other).line):
            return "overload"
        if len(live.copies) >= live.route.mirror.in_flight:
            return "in_flight"
        if live.copy_bytes + COPY_OVERHEAD_BYTES + max(self.head.body_length, 0) > live.route.mirror.body_bytes:
            return "bytes"  # a chunked one is not known yet: `_keep` bounds it
        return ""

    def _keep(self, data: bytes) -> None:
        """Hold a piece of the body for the copy; past the caps the request streams on and its pair is `oversize`."""
        kept = self._kept
        if kept is None:
            return
        limits = self.worker.limits
        size = len(data)
        if self._kept_bytes + size > limits.kept_body_bytes or self.worker.kept_bytes + size > limits.kept_bytes:
            self._release_body()
            if self._retarget:
                self._end_by_us(
                    Outcome.OVERSIZE, 413, f"bodies over {limits.kept_body_bytes} bytes cannot be readdressed"
                )
            return
        add_piece(kept, data)
        self._kept_bytes += size
        self.worker.kept_bytes += size

    def _spare_body(self) -> None:
        """Let go of the body unless a copy or a rescue may still need it."""
        wanted_again = not self._ended and (self._rescuable or self._rescue is not None)
        if not wanted_again and (self._copy is None or self._copy.side.done):
            self._release_body()

    def copy_sent(self) -> None:
        """The copy's connection holds the body now: it counts as held until the copy ends, but not twice."""
        if not self._rescuable and self._rescue is None:
            self._kept = None

    def _release_body(self) -> None:
        self.worker.kept_bytes -= self._kept_bytes
        self._kept_bytes = 0
        self._kept = None

    def _start_copy(self, copy: Copy) -> None:
        self._copy_started = True
        tally = self.standing.tally
        if tally is not None:
            self._pair_cells = tally.pairs.present
            self._pair_cells.started += 1
            if self.standing.keyed:
                self._first_pair = self.worker.recorder.first_pair(self.standing, tally, self.key_cell)
        if self._kept is None:
            copy.end_oversize()
            return
        target, body = self.head.target, self._kept
        slicing = self.standing.slicing
        if self.worker.recorder.capture.takes(self._kept_bytes) or (
            slicing is not None and slicing.takes(self._kept_bytes)
        ):
            self.request_body = b"".join(body)
        if copy.variant.retargets:
            self._kept = [b"".join(body)]  # one body, not its pieces and their sum
            try:
                raw = self.standing.live.adapter.retarget(self._raw_request(), copy.variant.variant)
                target, body = raw.target.encode("latin-1"), [raw.body]
            except Exception:  # noqa: BLE001 - whatever a plug-in raises here, the live answer goes on
                copy.end_unreadable()
                return
        copy.start(target, body)

    def copy_head(self, copy: Copy, connection: "UpstreamConnection", lines: bytes | None = None) -> bytes:
        """Return the head of the copy, marked with the rollout: with `lines`, else what is not withheld of its own."""
        head = self.head
        fields = heads.lines_without(head, self.standing.live.withheld) if lines is None else lines
        return b"%b %b HTTP/1.1\r\n%b%b%bx-request-id: %b\r\nx-turnout-mirror: %b\r\n%bcontent-length: %d\r\n\r\n" % (
            head.method, copy.target, copy.variant.host_line(connection, head.host), fields,
            self._client.forwarded_lines(head), self.request_id, self.standing.rollout_id.encode(), _VIA,
            copy.body_bytes,
        )  # fmt: skip

    def _count_failed_pair(self, outcome: Outcome) -> None:
        """Count a copy that was decided on and not made because the candidate failed first: its answer is missing."""
        if self.standing.tally is not None:
            self._pair_cells = self.standing.tally.pairs.present
            self._pair_cells.started += 1
            missing = f"{CANDIDATE}:{outcome}"
            slices = () if self.standing.slicing is None else self.standing.slicing.of_unread(self.head)
            self._pair_cells.end(PairEnd(missing, "not_compared", f"{End.UNKNOWN}/{End.FAIL}", None, slices))

    def pair_ended(self, end: "PairEnd") -> None:
        """Count how the pair ended, in the cell of the second in which its copy began."""
        if self._pair_cells is not None:
            self._pair_cells.end(end)
        if self._first_pair is not None:
            self._first_pair.end(end)

    def pair_lost(self) -> None:
        """Count that nobody could keep the pair until it was read."""
        if self._pair_cells is not None:
            self._pair_cells.lose()
        if self._first_pair is not None:
            self._first_pair.end(LOST)

    def side_ended(self) -> None:
        """One half of the pair is closed; with the second one the pair goes to the recorder."""
        copy, live_side = self._copy, self.live_side
        if copy is None or live_side is None:
            return
        if copy.side.done:
            self._spare_body()
            if live_side.done:
                if self.standing.breaker is not None and self.role is CANDIDATE:  # a rescue is witness enough
                    self.standing.breaker.pair_ended(live_side.outcome, copy.side.outcome, self.key_cell)
                self._copy = None  # breaks the one reference cycle, so that no garbage waits for the collector
                self.worker.recorder.put(self, live_side, copy.side)
