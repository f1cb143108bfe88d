"""The pool that a variant's connections live in, one for live requests and one for copies.

All state changes of a pool are synchronous; the only wait is the connect itself. A connect that failed is tried again
at another backend, since nothing was sent; from the first byte on a request stays where it is.
"""

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from router.core.observations import Outcome
from router.gateway.descriptors import is_ours
from router.gateway.known_heads import KnownHeads
from router.gateway.upstream import Call, UpstreamConnection

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from router.gateway.endpoints import Endpoint, Endpoints
    from router.gateway.heads import AnswerHead

IDLE_S = 4.0
"""How long an unused connection is kept: below the 5 s of uvicorn and many model servers (reliability.md, DP6)."""

RETRY_COST = 6
"""Requests for each of which a sixth of a retry is saved up: with RETRIES_SAVED below the 1.2 attempts of OV7."""

RETRIES_SAVED = 16
"""Most retries that are saved up. Chosen: three backends may die at once, each seen after 5 failures."""

RETRY_UNTIL = 1.5
"""Retries begin within so many connect deadlines: one after a black hole, more after refusals, and no long wait."""


class Dialing(NamedTuple):
    """How connections of a variant are made: within which time, and by which TLS settings where a backend has TLS."""

    connect_s: float
    tls: "ssl.SSLContext | None" = None


class NotMade(NamedTuple):
    """Why there is no connection, and what that counts as: SHED where it is ours, which no other backend mends."""

    why: str
    outcome: Outcome = Outcome.CONNECT_FAILED


class Pool:
    """Connections to the endpoints of one variant, for one purpose, and the bound on calls in flight.

    Endpoints take turns. `in_flight` never exceeds `limit`; a call that does not fit is refused at once. A call counts
    from `acquire` until its connection is given back, also when nobody waits for it any more. `live` says that what
    happens here decides which endpoints serve.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        endpoints: "Endpoints",
        dialing: Dialing,
        limit: int,
        *,
        live: bool,
    ) -> None:
        self.in_flight = 0
        self.limit = limit
        self.on_room: Callable[[], None] | None = None
        """Called when a place has become free; set while somebody waits for one."""
        self.retries = 0
        """Connects that were made because another one had failed."""
        self.known: KnownHeads[AnswerHead] = KnownHeads()
        self._loop = loop
        self._endpoints = endpoints
        self._dialing = dialing
        self._live = live
        self._turn = 0
        self._saved = RETRIES_SAVED * RETRY_COST
        # Unused connections, the longest unused first; dicts serve as ordered sets.
        self._idle: dict[Endpoint, dict[UpstreamConnection, None]] = {}
        self._busy: set[UpstreamConnection] = set()
        self._connects: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        idle = sum(map(len, self._idle.values()))
        return f"<Pool in flight {self.in_flight}/{self.limit}, idle {idle}, connecting {len(self._connects)}>"

    @property
    def full(self) -> bool:
        """Whether no more calls are taken."""
        return self.in_flight >= self.limit

    def acquire(self, call: Call) -> bool:
        """Find a connection for `call` and tell it by `on_connected`, now or later; False when the pool is full."""
        if self.in_flight >= self.limit:
            return False
        self.in_flight += 1
        self._saved += 1
        endpoint = self._next()
        if endpoint is None:
            self._loop.call_soon(self._not_connected, call, NotMade("no address of it was found yet"))
            return True
        connection = self._spare(endpoint)
        if connection is not None:
            self._busy.add(connection)
            connection.take(call)
            call.on_connected(connection)
            return True
        task = self._loop.create_task(self._connect(endpoint, call))
        self._connects.add(task)
        task.add_done_callback(self._connects.discard)
        return True

    def _next(self) -> "Endpoint | None":
        """Return whose turn it is."""
        endpoints = self._endpoints
        trial = endpoints.trial
        if trial is not None and self._live:
            endpoints.begin_trial(trial, self._loop.time())
            return trial
        serving = endpoints.serving
        turn = self._turn
        if turn >= len(serving):
            turn = 0
            if not serving:
                return None
        self._turn = turn + 1
        return serving[turn]

    def _spare(self, endpoint: "Endpoint") -> UpstreamConnection | None:
        """Return an unused connection to `endpoint` that can be used."""
        spare = self._idle.get(endpoint)
        while spare:
            connection, _ = spare.popitem()
            if self._loop.time() - connection.idle_since < IDLE_S and connection.usable:
                return connection
            connection.close_idle()
        return None

    # -- connecting -------------------------------------------------------------------------------------------------

    async def _connect(self, endpoint: "Endpoint", call: Call) -> None:
        """Connect to `endpoint`, or to others in turn while it fails, somebody waits, and retries are saved up."""
        tried = [endpoint]
        until = self._loop.time() + RETRY_UNTIL * self._dialing.connect_s
        connection = await self._open(endpoint)
        while isinstance(connection, NotMade):
            over = call.abandoned or connection.outcome is Outcome.SHED or self._loop.time() >= until
            other = None if over else self._another(tried)
            if other is None:
                self._not_connected(call, connection)
                return
            tried.append(other)
            connection = self._spare(other) or await self._open(other)
        self._busy.add(connection)
        if call.abandoned:
            self.idle(connection)
        else:
            connection.take(call)
            call.on_connected(connection)

    def _another(self, tried: "list[Endpoint]") -> "Endpoint | None":
        """Return one that serves and was not tried, while retries are saved up."""
        self._saved = min(self._saved, RETRIES_SAVED * RETRY_COST)
        if self._saved < RETRY_COST:
            return None
        for _ in self._endpoints.serving:
            other = self._next()
            if other is not None and other not in tried:
                self._saved -= RETRY_COST
                self.retries += 1
                return other
        return None

    async def _open(self, endpoint: "Endpoint") -> UpstreamConnection | NotMade:
        """Return a new connection, or why there is none."""
        try:
            connection = await self._dial(endpoint)
        except (OSError, ValueError) as error:
            why = str(error) or f"no connection within {self._dialing.connect_s:g} s"
            if is_ours(error):
                return NotMade(why, Outcome.SHED)
        else:
            if connection.usable:
                return connection
            why = "the backend closed the connection before it was used"
        self._endpoints.doubted.add(endpoint.backend.host)
        self.failed(endpoint)
        return NotMade(why)

    async def _dial(self, endpoint: "Endpoint") -> UpstreamConnection:
        """Connect to the first of the endpoint's addresses that can be reached; each has its part of the time."""
        backend, addresses = endpoint.backend, endpoint.addresses
        for address in addresses:
            try:
                async with asyncio.timeout(self._dialing.connect_s / len(addresses)):
                    _, connection = await self._loop.create_connection(
                        lambda: UpstreamConnection(self, endpoint),
                        address,
                        backend.port,
                        ssl=self._dialing.tls if backend.tls else None,
                        server_hostname=backend.host if backend.tls else None,
                    )
            except OSError:
                if address == addresses[-1]:
                    raise
            else:
                if address != addresses[0]:
                    endpoint.prefer(address)
                return connection
        raise OSError("no address")

    def _not_connected(self, call: Call, not_made: NotMade) -> None:
        self._release()
        if not call.abandoned:
            call.on_failed(not_made.outcome, not_made.why)

    # -- what connections tell --------------------------------------------------------------------------------------

    def failed(self, endpoint: "Endpoint") -> None:
        """A request to `endpoint` failed by the fault of the endpoint."""
        if self._live:
            self._endpoints.failed(endpoint, self._loop.time())

    def answered(self, endpoint: "Endpoint") -> None:
        """A request to `endpoint`, which had failed before, was answered well."""
        if self._live:
            self._endpoints.answered(endpoint)

    def _release(self) -> None:
        """A call is over: there is room for one more."""
        self.in_flight -= 1
        if self.on_room is not None:
            self.on_room()

    def idle(self, connection: UpstreamConnection) -> None:
        """Take back a connection that can be used again."""
        self._busy.discard(connection)
        connection.idle_since = self._loop.time()
        spare = self._idle.get(connection.endpoint)
        if spare is None:
            spare = self._idle[connection.endpoint] = {}
        spare[connection] = None
        self._release()

    def closed(self, connection: UpstreamConnection) -> None:
        """Take note that a connection is gone; safe to call again."""
        if connection in self._busy:
            self._busy.discard(connection)
            self._release()
        elif (spare := self._idle.get(connection.endpoint)) is not None:
            spare.pop(connection, None)

    def expire(self, now: float) -> None:
        """Close connections that were unused for IDLE_S, and let go of endpoints that have none."""
        for endpoint, spare in list(self._idle.items()):
            for connection in [one for one in spare if now - one.idle_since >= IDLE_S]:
                del spare[connection]
                connection.close_idle()
            if not spare:
                del self._idle[endpoint]

    def close(self) -> None:
        """Close all connections, also busy ones, and give up connects."""
        for task in tuple(self._connects):
            task.cancel()
        for connection in (*self._busy, *(one for spare in self._idle.values() for one in spare)):
            connection.close_idle()
