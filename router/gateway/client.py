"""The client side: one connection, its requests in order, and the deadlines that no client can drip past.

Requests are answered in the order they came in (RFC 9112 section 9.3.2): only the first in line is sent on; while
others wait behind it nothing more is read.
"""

import asyncio
import ipaddress
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, TypeAlias, cast

import httptools

from router.gateway import heads
from router.gateway.deadlines import NEVER
from router.gateway.known_heads import END

if TYPE_CHECKING:
    from router.gateway.exchange import Exchange
    from router.gateway.worker import Worker

LINGER_S = 2.0
"""How long a client that is still sending gets to read our answer. Chosen; a few round trips."""

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no seconds: closing throws away what was not sent, and resets the connection."""

Networks: TypeAlias = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]

_PAUSED_LINE = 1
_PAUSED_UPSTREAM = 2


class ClientConnection(asyncio.Protocol):
    """One client connection.

    Three deadlines run beside each other: of what is being read (idle between requests, head from its first byte,
    body from its head's end), of the answer (from the request's end), and of a client that reads nothing of its
    answer. All but the body's are absolute, and a body must come at least at a rate (`limits.body_rate`): no drip of
    bytes moves them. What we keep waiting ourselves is not timed.
    """

    __slots__ = (
        "_closing", "_current", "_fields", "_forwarded", "_fresh", "_head_bytes", "_headers", "_in_head",
        "_latest", "_limits", "_parser", "_paused", "_peer", "_read_deadline", "_receiving", "_refusal", "_replaying",
        "_silent_bytes", "_stall_deadline", "_transport", "_trusted", "_unread", "_upgrade", "_url", "_waiting",
        "_worker", "answer_deadline", "deadline", "may_choose", "wheel_at",
    )  # fmt: skip

    def __init__(self, worker: "Worker") -> None:
        self.deadline = NEVER
        self.wheel_at = NEVER
        self._worker = worker
        self._limits = worker.limits
        self._parser = httptools.HttpRequestParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._url = b""
        self._in_head = False
        self._head_bytes = 0
        self._fields = 0
        self._silent_bytes = 0
        self._upgrade = False
        self._replaying = False
        self._unread: bytes | None = None
        self._refusal: heads.Refusal | None = None
        self._fresh = True
        """Whether nothing of a request has come since the last one ended: the parser is where it was at first."""
        self._latest: heads.RequestHead | None = None
        self._receiving: Exchange | None = None
        self._current: Exchange | None = None
        self._waiting: deque[Exchange | heads.Refusal] = deque()
        self._paused = 0
        self._closing = False
        self._read_deadline = NEVER
        self.answer_deadline = NEVER
        self._stall_deadline = NEVER

    def __repr__(self) -> str:
        state = "closing" if self._closing else "busy" if self._current else "idle"
        return f"<ClientConnection {self._peer} {state}, {len(self._waiting)} waiting>"

    # -- asyncio.Protocol -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        worker = self._worker
        self._peer = peer_of(self._transport)
        self._trusted = worker.trusts(self._peer)
        self.may_choose = worker.lets_choose(self._peer)
        self._forwarded = b"x-forwarded-for: %b\r\nx-forwarded-proto: %b\r\n" % (self._peer.encode(), worker.scheme)
        if not worker.admit(self):
            self._refuse_now(heads.Refusal(503, "this gateway has as many connections as it may (limits.connections)"))
            return
        self._read_within(self._limits.idle_s)
        self._arm()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        fresh = self._fresh
        if fresh and self._current is None and self._begin_whole(data):
            return
        self._fresh = False
        self._silent_bytes += len(data)
        try:
            try:
                self._parser.feed_data(data)
                if self._unread is not None:
                    self._feed_behind(self._unread)
            except httptools.HttpParserUpgrade as upgrade:
                self._feed_behind(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError:
            raise  # a mistake of ours, not of the client
        except httptools.HttpParserError as error:
            self._refuse(heads.Refusal(400, f"this is not HTTP/1.1: {error}"))
        if self._silent_bytes > self._limits.header_bytes:
            self._refuse(self._too_long())
        if fresh and self._fresh and self._latest is not None and self._latest.ordinary:
            self._worker.known.remember(data, self._latest, self._latest.body_length)
        if self._current is not None:
            self._current.flush()
        self._arm()

    def _begin_whole(self, data: bytes) -> bool:
        """Begin a request that came whole in one read and whose head is known; False if it is not, or has to wait."""
        end = data.find(END) + len(END)
        head = self._worker.known.get(data[:end])
        if head is None or len(data) - end != head.body_length:
            return False
        if self._waiting or self.blocked or self._worker.now() > self._worker.waking.awake_until:
            return False
        self._read_deadline = NEVER
        worker = self._worker
        self._current = exchange = worker.exchange(self, worker, head)
        exchange.begin_whole(data[end:])
        self._arm()
        return True

    def _feed_behind(self, data: bytes) -> None:
        """Go on behind a head that the parser has misread, with a new one that knows only the framing.

        Two heads are misread. One with an Upgrade field, which is not taken up here (RFC 9110 section 7.8): the parser
        would take the request for the last one and its body for another protocol. Java's HttpClient sends such a field
        with each request. And one with a tab behind its transfer coding, see `on_headers_complete`.
        """
        self._unread = data
        while self._receiving is not None and (rest := self._take_unread()) is not None:
            self._parser = httptools.HttpRequestParser(self)
            self._replaying = True
            framing = heads.framing_line(self._receiving.head.body_length)
            self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % framing)
            try:
                self._parser.feed_data(rest)
            except httptools.HttpParserUpgrade as another:
                self._unread = rest[another.args[0] :]
        self._unread = None  # also where the request was refused meanwhile

    def _take_unread(self) -> bytes | None:
        unread, self._unread = self._unread, None
        return unread

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why the client left does not matter
        self._closing = True
        self._worker.dismiss(self)
        self._waiting.clear()
        current, self._current = self._current, None
        if current is not None:
            current.client_gone()
        self._worker.wheel.forget(self)

    def pause_writing(self) -> None:
        self._stall_deadline = self._worker.now() + self._limits.write_stall_s
        self._arm()
        if self._current is not None:
            self._current.client_blocked(blocked=True)

    def resume_writing(self) -> None:
        self._stall_deadline = NEVER
        if self._current is not None:
            self._current.client_blocked(blocked=False)
        elif not self._closing:
            self._go_on()
            self._arm()

    # -- httptools callbacks ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._replaying:
            return
        self._fresh = False  # also where it begins behind another one in the same read
        self._headers = []
        self._url = b""
        self._fields = 0
        self._head_bytes = 0
        self._silent_bytes = 0
        self._in_head = True
        self._read_within(self._limits.header_deadline_s)

    def on_url(self, url: bytes) -> None:
        self._silent_bytes = 0
        self._url += url
        if len(self._url) > self._limits.request_line_bytes:
            self._refuse(heads.Refusal(414, f"the request target may have {self._limits.request_line_bytes} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._replaying:
            return
        self._silent_bytes = 0
        if self._in_head:  # else a trailer: dropped (RFC 9110 section 6.5.1), yet counted
            self._headers.append((name, value))
        self._head_bytes += len(name) + len(value) + 4
        self._fields += 1
        if self._head_bytes > self._limits.header_bytes:
            self._refuse(self._too_long())
        elif self._fields > self._limits.header_fields:
            self._refuse(heads.Refusal(431, f"a request may have {self._limits.header_fields} header fields"))

    def on_headers_complete(self) -> None:
        if self._replaying:
            self._replaying = False
            return
        self._in_head = False
        if self._closing or self._refusal is not None:
            return
        parser = self._parser
        head = heads.read_request(parser.get_method(), self._url, parser.get_http_version(), self._headers)
        if isinstance(head, heads.Refusal):
            self._refuse(head)
            return
        if head.wants_tls and not self._trusted and self._worker.scheme != b"https":
            self._refuse(heads.Refusal(421, "an https URL is only served to a TLS connection or a trusted proxy"))
            return
        self._upgrade = parser.should_upgrade()
        now = self._worker.now()
        self._read_deadline = now + self._limits.body_deadline_s
        exchange = self._worker.exchange(self, self._worker, head)
        self._receiving = exchange
        self._latest = head
        if head.body_length == heads.CHUNKED and heads.hides_chunks(self._headers):
            # The parser would refuse it now. Being lenient about this one body it hands over all that follows as it is.
            parser.set_dangerous_leniencies(lenient_transfer_encoding=True)
            self._unread = b""
        if self._current is None and not self.blocked and not self._held(now):
            self._current = exchange
            exchange.begin()
        elif len(self._waiting) >= self._limits.pipelined:
            self._refuse(heads.Refusal(503, f"at most {self._limits.pipelined} requests may wait on a connection"))
        else:
            self._waiting.append(exchange)
            self._pause(_PAUSED_LINE)

    def on_body(self, data: bytes) -> None:
        self._silent_bytes = 0
        if self._unread is not None:
            self._unread += data
        elif self._receiving is not None:
            self._receiving.request_data(data)

    def on_message_complete(self) -> None:
        self._silent_bytes = 0
        if self._upgrade:
            self._upgrade = False  # the parser does not know better; the body is still to come
            return
        receiving, self._receiving = self._receiving, None
        if receiving is not None:
            self._fresh = True
            self._read_deadline = NEVER
            receiving.request_done()
            if self._current is None and not self._closing:
                self._read_within(self._limits.idle_s)

    # -- what an exchange does --------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send a part of the answer."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def cut(self) -> None:
        """End the connection at once, so that an unfinished answer cannot be taken for a whole one.

        By RST then: a client of HTTP/1.0 takes FIN, which `abort` alone sends, for the end of its answer.
        """
        self._closing = True
        if self._current is not None or self._transport.get_write_buffer_size():
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def await_answer(self, seconds: float) -> None:
        """Start the answer's deadline: the request is complete."""
        self.answer_deadline = self._worker.now() + seconds

    def extend_answer(self, seconds: float) -> None:
        """Move the answer's deadline by so much, from where it is or was."""
        self.answer_deadline += seconds

    def read_body_anew(self) -> None:
        """Give the rest of the request's body its full time: a variant held it up until now."""
        self._read_within(self._limits.body_deadline_s)

    @property
    def blocked(self) -> bool:
        """Whether the client reads more slowly than it is written to."""
        return self._stall_deadline != NEVER

    def forwarded_lines(self, head: heads.RequestHead) -> bytes:
        """Return the X-Forwarded fields: ours alone, unless the peer is a trusted proxy whose word is kept."""
        if not self._trusted:
            return b"%bx-forwarded-host: %b\r\n" % (self._forwarded, head.host)
        chain = b", ".join([*head.forwarded_for, self._peer.encode()])
        proto = head.forwarded_proto.lower()
        proto = proto if proto in (b"http", b"https") else self._worker.scheme
        host = head.forwarded_host if heads.HOST.fullmatch(head.forwarded_host) else head.host
        return b"x-forwarded-for: %b\r\nx-forwarded-proto: %b\r\nx-forwarded-host: %b\r\n%b" % (
            chain, proto, host, head.claims,
        )  # fmt: skip

    def pause_for_upstream(self) -> None:
        """Take no more of the request until the variant has caught up."""
        self._pause(_PAUSED_UPSTREAM)

    def resume_for_upstream(self) -> None:
        """Take more of the request."""
        self._resume(_PAUSED_UPSTREAM)

    def exchange_done(self, *, keep_alive: bool) -> None:
        """The answer is written: close, or go on with the next request in line."""
        self._current = None
        self.answer_deadline = NEVER
        if self._closing:
            return
        if not keep_alive or self._worker.draining:
            self._close()
            return
        self._resume(_PAUSED_UPSTREAM)
        if not self.blocked:  # else answers would pile up in memory; `resume_writing` goes on
            self._go_on()
        self._arm()

    def _go_on(self) -> None:
        """Begin the next request in line, or read on."""
        if self._waiting:
            if self._held(self._worker.now()):
                return
            following = self._waiting.popleft()
            if isinstance(following, heads.Refusal):
                self._refuse_now(following)
                return
            if not self._waiting:
                self._read_on()
            self._current = following
            following.begin()
            if self._current is following:
                following.flush()
        elif self._refusal is not None:
            self._refuse_now(self._refusal)
        else:
            self._read_on()

    def _held(self, now: float) -> bool:
        """Whether the worker has slept and does not know the present states yet; `woken` then goes on."""
        waking = self._worker.waking
        if now <= waking.awake_until:
            return False
        waking.hold(self)
        return True

    def woken(self) -> None:
        """The worker knows the present states again: begin what was held back."""
        if self._current is None and not self._closing and not self.blocked:
            self._go_on()
            self._arm()

    def _read_on(self) -> None:
        """Nobody waits in line any more: take what comes; if it was kept waiting, its time starts now."""
        if self._receiving is None and not self._in_head:
            self._read_within(self._limits.idle_s)
        elif self._paused & _PAUSED_LINE:
            reading_body = self._receiving is not None
            self._read_within(self._limits.body_deadline_s if reading_body else self._limits.header_deadline_s)
        self._resume(_PAUSED_LINE)

    # -- deadlines --------------------------------------------------------------------------------------------------

    def on_deadline(self) -> None:
        """One of the deadlines may have passed: end what it was for."""
        now = self._worker.now()
        if self._stall_deadline <= now or (self._closing and self._read_deadline <= now):
            self.cut()
        elif self.answer_deadline <= now:
            if self._current is not None:
                self._current.timed_out()  # ends, which takes the deadline away, or extends it
            else:
                self.answer_deadline = NEVER
        elif self._read_deadline <= now and not self._is_quick(now):
            self._read_deadline = NEVER
            self._end_late()
        self._arm()

    def _is_quick(self, now: float) -> bool:
        """Whether the request's body came at its least rate, and so gets its time once more.

        Only what came within the last such time counts: a burst does not pay for a long silence after it.
        """
        receiving, limits = self._receiving, self._limits
        if receiving is None or receiving.fresh_bytes() < limits.body_rate_bytes * limits.body_deadline_s:
            return False
        self._read_deadline = now + limits.body_deadline_s
        return True

    def _end_late(self) -> None:
        """The client did not send in time, or not at all."""
        receiving = self._receiving
        if self._paused & _PAUSED_LINE:
            return  # it is we who wait; `_read_on` starts the time anew
        if receiving is not None and self._paused & _PAUSED_UPSTREAM:
            receiving.not_taken()
        elif receiving is not None:
            self._refuse(heads.Refusal(408, "the request's body was not complete in time (limits.body_deadline)"))
        elif self._in_head:
            self._refuse(heads.Refusal(408, "the request's head was not complete in time (limits.header_deadline)"))
        elif self._current is None:
            self._close()

    def _read_within(self, seconds: float) -> None:
        self._read_deadline = self._worker.now() + seconds

    def _arm(self) -> None:
        """Tell the wheel; once at the end of whatever moved a deadline, since each step of a request moves one."""
        self.deadline = deadline = min(self._read_deadline, self.answer_deadline, self._stall_deadline)
        if deadline < self.wheel_at:  # what `set` asks first: it is seldom so
            self._worker.wheel.set(self, deadline)

    # -- pausing and closing ----------------------------------------------------------------------------------------

    def _pause(self, reason: int) -> None:
        if not self._paused and not self._transport.is_closing():
            self._transport.pause_reading()
        self._paused |= reason

    def _resume(self, reason: int) -> None:
        if self._paused & reason:
            self._paused &= ~reason
            if not self._paused and not self._transport.is_closing():
                self._transport.resume_reading()

    def _too_long(self) -> heads.Refusal:
        return heads.Refusal(431, f"a request's head may have {self._limits.header_bytes} bytes")

    def _refuse(self, refusal: heads.Refusal) -> None:
        """Answer with an error when all earlier answers are out, and read no more."""
        if self._refusal is not None or self._closing:
            return
        self._refusal = refusal
        receiving, self._receiving = self._receiving, None
        if receiving is not None and receiving is self._current:
            receiving.broken_off(refusal)
            return
        if receiving is not None and self._waiting and self._waiting[-1] is receiving:
            self._waiting.pop()
        elif receiving is not None and receiving.begun:
            self._close()  # it has its answer already, only the rest of its body was missing
            return
        if self._current is None and not self._waiting:
            self._refuse_now(refusal)
        else:
            self._waiting.append(refusal)
            self._stop_reading()

    def _refuse_now(self, refusal: heads.Refusal) -> None:
        self.write(heads.problem(refusal.status, refusal.detail, keep_alive=False))
        self._close()

    def _stop_reading(self) -> None:
        self._pause(_PAUSED_LINE)

    def _close(self) -> None:
        """Close after what has been written is out.

        While the client is still sending, closing would reset the connection and could take the answer with it; so
        the rest is read and thrown away for a while (RFC 9112 section 9.6). A TLS transport does so by itself until
        the client confirms the end, or until the same deadline.
        """
        self._closing = True
        self._stall_deadline = NEVER
        secure = not self._transport.can_write_eof()
        if self._receiving is None and self._refusal is None and not secure:
            self._read_within(self._limits.write_stall_s)
            self._arm()
            self._transport.close()
        elif not self._transport.is_closing():
            unread = self._transport.get_write_buffer_size()
            self._read_within(self._limits.write_stall_s if unread else LINGER_S)
            self._arm()
            if secure:
                self._transport.close()
                return
            self._transport.write_eof()
            if self._paused:
                self._paused = 0
                self._transport.resume_reading()

    def drain(self) -> None:
        """Close as soon as no request is under way."""
        if self._current is None and not self._closing:
            self._close()

    @property
    def busy(self) -> bool:
        """Whether a request is under way."""
        return self._current is not None


def peer_of(transport: asyncio.BaseTransport) -> str:
    """Return the address of whoever is at the other end, "unknown" where it has none."""
    peername = transport.get_extra_info("peername")
    # On a socket for both families an IPv4 peer has a mapped address, which is in no IPv4 network.
    return str(peername[0]).removeprefix("::ffff:") if isinstance(peername, tuple) else "unknown"


def networks(texts: tuple[str, ...]) -> "Networks":
    """Read addresses and networks; raises ValueError on a text that is no address or network."""
    return tuple(ipaddress.ip_network(text) for text in texts)
