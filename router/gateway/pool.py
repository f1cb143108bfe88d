"""The pool that a variant's connections live in, one for live requests and one for copies.

All state changes of a pool are synchronous; the only wait is the connect itself.
"""

import asyncio
from typing import TYPE_CHECKING

from router.core.observations import Outcome
from router.gateway.upstream import Call, UpstreamConnection, tls_context

if TYPE_CHECKING:
    from collections.abc import Iterable

    from router.core.traffic import Backend, Variant

IDLE_S = 4.0
"""How long an unused connection is kept: below the 5 s of uvicorn and many model servers (reliability.md, DP6)."""


class Pool:
    """Connections to the backends of one variant, for one purpose (live or copies), and the bound on calls in flight.

    Backends take turns. `in_flight` never exceeds `limit`; a call that does not fit is refused at once. A call counts
    from `acquire` until its connection is given back, also when nobody waits for it any more.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, variant: "Variant", connect_s: float, limit: int) -> None:
        self.in_flight = 0
        self.limit = limit
        self._loop = loop
        self._backends = variant.backends
        self._connect_s = connect_s
        self._turn = 0
        # Unused connections, the longest unused first; dicts serve as ordered sets.
        self._idle: dict[Backend, dict[UpstreamConnection, None]] = {backend: {} for backend in variant.backends}
        self._busy: set[UpstreamConnection] = set()
        self._connects: set[asyncio.Task[None]] = set()
        self._tls = tls_context(variant.tls) if any(backend.tls for backend in variant.backends) else None

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
        turn = self._turn
        self._turn = turn + 1 if turn + 1 < len(self._backends) else 0
        backend = self._backends[turn]
        spare = self._idle[backend]
        while spare:
            connection, _ = spare.popitem()
            if connection.usable and self._loop.time() - connection.idle_since < IDLE_S:
                self._start(connection, call)
                return True
            connection.close_idle()
        task = self._loop.create_task(self._connect(backend, call))
        self._connects.add(task)
        task.add_done_callback(self._connects.discard)
        return True

    def _start(self, connection: UpstreamConnection, call: Call) -> None:
        self._busy.add(connection)
        connection.take(call)
        call.on_connected(connection)

    async def _connect(self, backend: "Backend", call: Call) -> None:
        try:
            async with asyncio.timeout(self._connect_s):
                _, connection = await self._loop.create_connection(
                    lambda: UpstreamConnection(self, backend),
                    backend.host,
                    backend.port,
                    ssl=self._tls if backend.tls else None,
                    server_hostname=backend.host if backend.tls else None,
                )
        except (OSError, ValueError) as error:  # ValueError: a host name that cannot be one
            self._not_connected(call, str(error) or f"no connection within {self._connect_s:g} s")
            return
        if not connection.usable:
            self._not_connected(call, "the backend closed the connection before it was used")
        elif call.abandoned:
            self._busy.add(connection)
            self.idle(connection)
        else:
            self._start(connection, call)

    def _release(self) -> None:
        """A call is over: there is room for one more."""
        self.in_flight -= 1

    def _not_connected(self, call: Call, why: str) -> None:
        self._release()
        if not call.abandoned:
            call.on_failed(Outcome.CONNECT_FAILED, why)

    def idle(self, connection: UpstreamConnection) -> None:
        """Take back a connection that can be used again."""
        self._busy.discard(connection)
        self._release()
        connection.idle_since = self._loop.time()
        self._idle[connection.backend][connection] = None

    def closed(self, connection: UpstreamConnection) -> None:
        """Take note that a connection is gone; safe to call again."""
        if connection in self._busy:
            self._busy.discard(connection)
            self._release()
        else:
            self._idle[connection.backend].pop(connection, None)

    def expire(self, now: float) -> None:
        """Close connections that were unused for IDLE_S; called about once a second."""
        for spare in self._idle.values():
            for connection in [one for one in spare if now - one.idle_since >= IDLE_S]:
                del spare[connection]
                connection.close_idle()

    def close(self) -> None:
        """Close all connections, also busy ones, and give up connects."""
        for task in tuple(self._connects):
            task.cancel()
        everyone: Iterable[UpstreamConnection] = (*self._busy, *(one for spare in self._idle.values() for one in spare))
        for connection in tuple(everyone):
            connection.close_idle()
