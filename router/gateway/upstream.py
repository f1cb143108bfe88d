"""The upstream side: one connection to a backend, and what a request there looks like to it.

A connection serves one `Call` at a time. A request that was handed to a connection is never handed to another one:
whether a lost POST was executed cannot be known.
"""

import asyncio
import ssl
from typing import TYPE_CHECKING, Protocol, cast

import httptools

from router.core.observations import Outcome
from router.gateway import heads
from router.gateway.known_heads import END

if TYPE_CHECKING:
    from collections.abc import Iterable

    from router.core.traffic import TlsSpec
    from router.gateway.endpoints import Endpoint
    from router.gateway.pool import Pool

MAX_ANSWER_HEAD_BYTES = 64 * 2**10
"""Of all heads of one answer, interim ones and trailers too. Chosen: twice a request's; Envoy allows 60 KiB."""

_TOO_LONG = "the answer's head is longer than 64 KiB"


class Call(Protocol):
    """One request on its way to a backend. After `on_failed` or `on_answer_end` no method is called again."""

    abandoned: bool
    """Set by the owner when nobody waits any more."""
    method: bytes

    def on_connected(self, connection: "UpstreamConnection") -> None:
        """A connection is there; write the request to it."""

    def on_answer_head(self, head: heads.AnswerHead) -> None:
        """The final answer's head is complete and its framing is allowed."""

    def on_answer_data(self, data: bytes) -> None:
        """A piece of the answer's body, without framing."""

    def on_answer_flush(self) -> None:
        """All that came in one read has been handed over."""

    def on_answer_end(self) -> None:
        """The answer is complete; the connection is no longer the call's."""

    def on_failed(self, outcome: Outcome, why: str) -> None:
        """There will be no complete answer; the connection is no longer the call's."""

    def on_write_blocked(self, blocked: bool) -> None:  # noqa: FBT001 - one method for both edges
        """The backend reads slower than we write, or has caught up."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to a backend; answers go to the call that has it."""

    __slots__ = (
        "_answer", "_call", "_complete", "_fresh", "_head_bytes", "_headers", "_in_head", "_junk", "_parser", "_paused",
        "_pool",
        "_request_sent", "_silent_bytes", "_transport", "backend", "closed", "endpoint", "host_line",
        "idle_since",
    )  # fmt: skip

    def __init__(self, pool: "Pool", endpoint: "Endpoint") -> None:
        self.endpoint = endpoint
        self.backend = endpoint.backend
        self.host_line = b"host: %b\r\n" % endpoint.backend.authority.encode()
        self.idle_since = 0.0
        self.closed = False
        self._pool = pool
        self._call: Call | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._answer: heads.AnswerHead | None = None
        self._in_head = True
        self._head_bytes = 0
        self._silent_bytes = 0
        self._complete = False
        self._junk = False
        self._paused = False
        self._request_sent = False
        self._fresh = True
        """Whether nothing of an answer has come since the last one ended: the parser is where it was at first."""

    def __repr__(self) -> str:
        state = "closed" if self.closed else "busy" if self._call else "idle"
        return f"<UpstreamConnection {self.backend.authority} {state}>"

    @property
    def usable(self) -> bool:
        """Whether a request can be written; False from the moment its end was seen, before `connection_lost` comes."""
        return not self.closed and not self._transport.is_closing()

    @property
    def answered(self) -> bool:
        """Whether the answer is complete; its call hears of that once all of the read has been handed over."""
        return self._complete

    # -- what a call does -------------------------------------------------------------------------------------------

    def take(self, call: Call) -> None:
        """Give this idle connection to `call`."""
        self._call = call
        self._request_sent = False

    def write(self, data: bytes) -> None:
        """Send a part of the request."""
        self._transport.write(data)

    def write_all(self, parts: "Iterable[bytes | bytearray]") -> None:
        """Send parts of the request in one go, without a second copy of them."""
        self._transport.writelines(parts)

    def request_sent(self) -> None:
        """Note that the request is complete; only then may the connection be used again."""
        self._request_sent = True

    def pause_reading(self) -> None:
        """Stop taking the answer, so that the backend is slowed down to the client's pace."""
        if not self.closed:
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take the answer again."""
        if not self.closed:
            self._paused = False
            self._transport.resume_reading()

    def abandon(self, *, timed_out: bool = False) -> None:
        """Let go of the call without an answer: the connection is closed, so that the backend can stop working."""
        if timed_out and self._call is not None:
            self._count_failure()
        self._call = None
        self._pool.closed(self)
        self._close()

    # -- asyncio.Protocol -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        call = self._call
        if call is None:
            self._pool.closed(self)  # nobody asked: whatever it is, it must not become the next one's answer
            self._close()
            return
        if self._fresh and call.method != b"HEAD":
            end = data.find(END) + len(END)
            answer = self._pool.known.get(data[:end])
            if answer is not None and len(data) - end == answer.body_length:
                self._take_whole(call, answer, data[end:])
                return
        self._parse(data)

    def _take_whole(self, call: Call, answer: heads.AnswerHead, body: bytes) -> None:
        """Hand over an answer that came whole in one read and whose head is known."""
        self._answer = answer
        self._complete = True
        call.on_answer_head(answer)
        call.on_answer_data(body)
        call.on_answer_flush()
        if not self.closed:
            self._finish()

    def _parse(self, data: bytes) -> None:
        fresh, self._fresh = self._fresh, False
        self._silent_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(Outcome.MALFORMED, "the backend switched protocols unasked")
        except httptools.HttpParserCallbackError:
            raise  # a mistake of ours, not of the backend
        except httptools.HttpParserError as error:
            if self._complete:
                self._junk = True  # the answer itself is whole
            else:
                self._fail(Outcome.MALFORMED, f"the answer is not HTTP/1.1: {error}")
        if self._silent_bytes > MAX_ANSWER_HEAD_BYTES and not self._complete:
            self._fail(Outcome.MALFORMED, _TOO_LONG)
        if self.closed or self._call is None:
            return  # failed, here or in a callback
        self._call.on_answer_flush()
        if self._complete and self._answer is not None:
            if self._answer.bodiless and not data.endswith(b"\r\n\r\n"):
                self._junk = True  # a part of a chunk's size, of which the parser says nothing
            if fresh:
                self._remember(data, self._answer)
            self._finish()

    def _remember(self, data: bytes, answer: heads.AnswerHead) -> None:
        """Take the next answer with the same head for what this one was, if all of it came in this read."""
        if answer.body_length > 0 and answer.keep_alive and answer.status < 500 and not self._junk:
            self._pool.known.remember(data, answer, answer.body_length)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        call = self._call
        if call is None:
            self._pool.closed(self)
            return
        if exc is None and self._answer is not None and self._answer.body_length == heads.UNTIL_CLOSE:
            self._finish()
        else:
            self._fail(Outcome.RESET, "the backend closed the connection before its answer was complete")

    def pause_writing(self) -> None:
        if self._call is not None:
            self._call.on_write_blocked(blocked=True)

    def resume_writing(self) -> None:
        if self._call is not None:
            self._call.on_write_blocked(blocked=False)

    # -- httptools callbacks ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            self._junk = True
            return
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._silent_bytes = 0
        if self._in_head:
            self._headers.append((name, value))
        elif heads.is_of_hop(name):  # other trailers are just dropped (RFC 9110 section 6.5.1)
            self._junk = True  # the parser believes it, and would go wrong with the next answer
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > MAX_ANSWER_HEAD_BYTES:
            self._fail(Outcome.MALFORMED, _TOO_LONG)

    def on_headers_complete(self) -> None:
        if self._complete or self._call is None:
            return
        parser = self._parser
        status = parser.get_status_code()
        if 100 <= status < 200:
            return  # interim answers end at this hop; 101 raises HttpParserUpgrade
        no_body = self._call.method == b"HEAD"
        answer = heads.read_answer(status, parser.get_http_version(), self._headers, to_head=no_body)
        if answer is None:
            self._fail(Outcome.MALFORMED, "the answer's status, version or framing is not allowed")
            return
        self._in_head = False
        self._answer = answer
        if status >= 500:
            self._pool.failed(self.endpoint)
        self._call.on_answer_head(answer)
        if no_body or status in (204, 304):
            self._complete = True
            # This parser would wait for the body that the fields announce.
            self._parser = httptools.HttpResponseParser(self)

    def on_body(self, data: bytes) -> None:
        self._silent_bytes = 0
        if self._complete:
            self._junk = True
        elif self._answer is None:
            self._fail(Outcome.MALFORMED, "an interim answer has a body")  # the parser believes the fields of a 199
        elif self._call is not None:
            self._call.on_answer_data(data)

    def on_message_complete(self) -> None:
        if self._answer is not None:
            self._complete = True

    # -- endings ----------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        call, answer = self._call, self._answer
        if call is None or answer is None:
            return
        if self.endpoint.failures and answer.status < 500:
            self._pool.answered(self.endpoint)
        reusable = answer.keep_alive and self._request_sent and not self._junk and not self.closed
        self._call = None
        self._answer = None
        self._in_head = True
        self._head_bytes = 0
        self._silent_bytes = 0
        self._complete = False
        self._fresh = True
        if reusable:
            if self._paused:  # a client that reads slowly has stopped it
                self.resume_reading()
            self._pool.idle(self)
        else:
            self._pool.closed(self)
            self._close()
        call.on_answer_end()

    def _fail(self, outcome: Outcome, why: str) -> None:
        call = self._call
        if call is not None:
            self._count_failure()
        self._call = None
        self._pool.closed(self)
        self._close()
        if call is not None:
            call.on_failed(outcome, why)

    def _count_failure(self) -> None:
        if self._answer is None or self._answer.status < 500:  # else counted when its head came
            self._pool.failed(self.endpoint)

    def _close(self) -> None:
        if not self.closed:
            self.closed = True
            self._transport.abort()

    def close_idle(self) -> None:
        """Close an unused connection."""
        self._close()


def tls_context(spec: "TlsSpec") -> ssl.SSLContext:
    """Return the TLS settings towards a backend; raises OSError or ssl.SSLError when a file cannot be used."""
    context = ssl.create_default_context(cafile=spec.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if spec.cert:
        context.load_cert_chain(spec.cert, spec.key)
    if not spec.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
