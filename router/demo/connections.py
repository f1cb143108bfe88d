"""A small HTTP/1.1 client for steady load: ready-made bytes over keep-alive connections, by callbacks.

Made for the demo's traffic, which shares two cores with everything it drives. At 200 requests/s against one
model server, two cores, CPU of the traffic process for one request: 0.5 ms with this, most of it waking up
(62 us when it never sleeps), 2.3 ms with httpx. It speaks plain HTTP to one address, follows no redirect,
and never sends a call twice: whether the server acted on a broken one is unknown.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, cast

import httptools

INTERIM_BELOW: Final = 200  # RFC 9110 15.2: a 1xx response is followed by the real one


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response: header names in lower case, of a repeated header the last value."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Call:
    """One request, `payload` being all its bytes. `due_s` is when it should leave, by the caller's clock.

    Exactly one callback is called, once. The reasons for a failure: `connect` (no connection), `closed`
    (before the response was complete), `malformed` (no HTTP), `timeout`, `overflow` (too many calls wait).
    """

    payload: bytes
    due_s: float
    on_response: Callable[[Response], None]
    on_failure: Callable[[str], None]


class Connections:
    """A pool of keep-alive connections to one address, used within one event loop.

    At most `limit` connections are open, and at most `waiting_limit` calls wait for one; a call beyond that
    fails at once.
    """

    def __init__(self, host: str, port: int, *, limit: int = 64, waiting_limit: int = 4096) -> None:
        self._address = (host, port)
        self._limit = limit
        self._waiting_limit = waiting_limit
        self._waiting: deque[Call] = deque()
        # The one used last is taken first: what the rate does not need stays idle until the server closes it.
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._closed = False

    def __repr__(self) -> str:
        counts = f"{len(self._busy)} busy, {len(self._idle)} idle, {len(self._waiting)} waiting"
        return f"<Connections {self._address[0]}:{self._address[1]} {counts}>"

    @property
    def in_flight(self) -> int:
        """Calls that have not ended yet."""
        return len(self._busy) + len(self._waiting)

    def submit(self, call: Call) -> None:
        """Send the call now or as soon as a connection is free; after `close` it fails at once."""
        if self._closed:
            call.on_failure("closed")
        elif self._idle:
            self._send(self._idle.pop(), call)
        elif len(self._waiting) >= self._waiting_limit:
            call.on_failure("overflow")
        else:
            self._waiting.append(call)
            self._open_for_waiting()

    def expire(self, due_before_s: float) -> None:
        """Fail as a timeout every call that was due before this moment; connections of sent ones close."""
        for connection in [one for one in self._busy if one.due_s < due_before_s]:
            connection.end("timeout")
        while self._waiting and self._waiting[0].due_s < due_before_s:
            self._waiting.popleft().on_failure("timeout")

    def close(self) -> None:
        """Close everything now; calls that have not ended fail as closed."""
        self._closed = True
        for opening in self._opening:
            opening.cancel()
        for connection in [*self._busy, *self._idle]:
            connection.end("closed")
        while self._waiting:
            self._waiting.popleft().on_failure("closed")

    # What connections tell the pool.

    def released(self, connection: Connection) -> None:
        """Give a free connection to the call that waits longest, else keep it for the next."""
        self._busy.discard(connection)
        if self._closed:
            connection.end("closed")
        elif self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        """Forget a connection that has closed or is about to, and open others if calls wait."""
        self._busy.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._open_for_waiting()

    def _send(self, connection: Connection, call: Call) -> None:
        self._busy.add(connection)
        connection.send(call)

    def _open_for_waiting(self) -> None:
        """Open one connection for each waiting call, as far as the limit allows."""
        while not self._closed and len(self._opening) < min(len(self._waiting), self._limit - len(self._busy)):
            opening = asyncio.get_running_loop().create_task(self._open())
            self._opening.add(opening)
            opening.add_done_callback(self._opened)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: Connection(self), *self._address)
        except OSError:
            if self._waiting:
                self._waiting.popleft().on_failure("connect")
        else:
            self.released(connection)

    def _opened(self, opening: asyncio.Task[None]) -> None:
        self._opening.discard(opening)
        if not opening.cancelled():
            opening.result()
            self._open_for_waiting()


class Connection(asyncio.Protocol):
    """One connection of a pool; it carries one call at a time."""

    def __init__(self, pool: Connections) -> None:
        self._pool = pool
        self._call: Call | None = None
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._complete: list[Response] = []
        self._keep_alive = False

    @property
    def due_s(self) -> float:
        """When the call it carries was due; infinitely late when it carries none."""
        return math.inf if self._call is None else self._call.due_s

    def send(self, call: Call) -> None:
        """Send the call. The connection must be free."""
        self._call = call
        if self._transport is None:
            self.end("closed")
        else:
            self._transport.write(call.payload)

    def end(self, reason: str) -> None:
        """Close the connection; the call it carries, if any, fails for this reason."""
        call, self._call = self._call, None
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
        self._pool.lost(self)
        if call is not None:
            call.on_failure(reason)

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:  # noqa: D102
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.end("malformed")
            return
        if self._complete:
            self._deliver()

    def eof_received(self) -> None:  # noqa: D102
        # At once, not when the loop reports the loss: until then the pool would hand this connection to a
        # call.
        self.end("closed")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002, D102
        self.end("closed")

    # What the parser calls. These only gather: the parser would turn an error of the caller's callback into
    # its own.

    def on_message_begin(self) -> None:  # noqa: D102
        self._headers = {}
        self._body = []

    def on_header(self, name: bytes, value: bytes) -> None:  # noqa: D102
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:  # noqa: D102
        self._body.append(body)

    def on_message_complete(self) -> None:  # noqa: D102
        status = self._parser.get_status_code()
        # Only here does the parser know: after this call it is ready for the next response.
        self._keep_alive = self._parser.should_keep_alive()
        if status >= INTERIM_BELOW:
            self._complete.append(Response(status, self._headers, b"".join(self._body)))

    def _deliver(self) -> None:
        responses, self._complete = self._complete, []
        if self._call is None or len(responses) > 1:
            self.end("malformed")  # a response that nobody asked for
            return
        call, self._call = self._call, None
        if self._keep_alive:
            self._pool.released(self)
        else:
            self.end("closed")
        call.on_response(responses[0])
