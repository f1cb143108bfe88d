"""A worker's protocol objects without sockets: bytes in, bytes out, thousands of connections a second.

The worker, its pools and connections are the real ones; only the transports are made up, and time stands still. A
backend is reached at once: there is always one more unused connection to it.
"""

import asyncio
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import uvloop

from router.core.config import Limits
from router.core.rollout import RolloutState
from router.core.traffic import Route
from router.gateway.client import ClientConnection
from router.gateway.deadlines import NEVER
from router.gateway.endpoints import Endpoint
from router.gateway.mirror import Departures
from router.gateway.pool import Pool
from router.gateway.upstream import UpstreamConnection
from tests.gateway.bench import Bench, Gateway
from tests.gateway.readings import Ending

READ_ON_S = 1.0
"""Where the clock stands."""


class FakeTransport:
    """What asyncio's transport shows to a protocol, and its socket. `written` is what the protocol sent.

    `end` is how the peer sees it end: by `fin`, by `rst`, or "" while it does not.
    """

    def __init__(self, peername: tuple[str, int] = ("127.0.0.1", 1)) -> None:
        self.written = bytearray()
        self.paused = False
        self.end: Ending = ""
        self.half_closed = False
        self._peername = peername
        self._resets = False

    def get_extra_info(self, name: str) -> Any:  # noqa: ANN401 - as asyncio
        """Return the peer's name, or this as its socket."""
        return {"peername": self._peername, "socket": self}.get(name)

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        """Take SO_LINGER of no seconds, after which closing resets."""
        assert (level, option, value) == (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._resets = True

    def write(self, data: bytes) -> None:
        """Take it at once."""
        assert not self.half_closed, "written behind the end"
        if not self.end:
            self.written += data

    def can_write_eof(self) -> bool:
        """It can, as without TLS."""
        return True

    def write_eof(self) -> None:
        """Note the end of what is written."""
        self.half_closed = True

    def get_write_buffer_size(self) -> int:
        """Nothing waits here."""
        return 0

    def pause_reading(self) -> None:
        """Deliver no more."""
        self.paused = True

    def resume_reading(self) -> None:
        """Deliver again."""
        self.paused = False

    def is_closing(self) -> bool:
        """Whether it ends."""
        return bool(self.end)

    def close(self) -> None:
        """End after what was written."""
        self.end = self.end or "fin"

    def abort(self) -> None:
        """End at once."""
        self.end = self.end or ("rst" if self._resets else "fin")


class Upstreamed:
    """One connection to a backend as the backend sees it."""

    def __init__(self, pool: Pool, endpoint: Endpoint) -> None:
        self.transport = FakeTransport()
        self.connection = UpstreamConnection(pool, endpoint)
        self.connection.connection_made(cast("asyncio.Transport", self.transport))
        self.ended = False

    def deliver(self, data: bytes) -> bool:
        """Send bytes to the gateway; False once it listens no more."""
        if self.ended or self.transport.end:
            return False
        self.connection.data_received(data)
        return True

    def hang_up(self, error: Exception | None = None) -> None:
        """End the connection: by FIN, or by RST with `error`."""
        if not self.ended:
            self.ended = True
            self.connection.connection_lost(error)


class _Idle(dict[UpstreamConnection, None]):
    """The unused connections of an endpoint, of which there is always one more."""

    def __init__(self, connect: Callable[[], UpstreamConnection]) -> None:
        super().__init__()
        self._connect = connect

    def __bool__(self) -> bool:
        return True

    def popitem(self) -> tuple[UpstreamConnection, None]:
        """Return an unused one, else a new one."""
        return super().popitem() if len(self) else (self._connect(), None)


class Stage:
    """A worker without sockets. Between two examples `clear` it."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.worker = gateway.worker
        self.worker.now = lambda: READ_ON_S
        self.worker.waking.awake_until = NEVER
        self.worker.departures = Departures(lambda send: send())  # the loop does not turn here
        self.upstreamed: list[Upstreamed] = []
        self.pools: dict[str, Pool] = {}
        for live in self.worker.table.lives.values():
            for name, variant in live.variants.items():
                self.pools[name] = variant.live
                for pool in (variant.live, variant.copies):
                    self._make_endless(pool)

    def _make_endless(self, pool: Pool) -> None:
        for endpoint in pool._endpoints.serving:  # noqa: SLF001 - the seam between pool and network is asyncio's own

            def connect(pool: Pool = pool, endpoint: Endpoint = endpoint) -> UpstreamConnection:
                made = Upstreamed(pool, endpoint)
                made.connection.idle_since = NEVER
                self.upstreamed.append(made)
                return made.connection

            pool._idle[endpoint] = _Idle(connect)  # noqa: SLF001 - the same

    def client(self, peer: str = "127.0.0.1") -> "Client":
        """Return a new connection of a client at this address."""
        return Client(self, peer)

    def settle(self) -> None:
        """Tell connections that were closed by us that they are gone, as the loop does in its next turn."""
        for one in self.upstreamed:
            if one.transport.end:
                one.hang_up()

    def hang_up(self) -> None:
        """End the connections of all backends."""
        for one in self.upstreamed:
            one.hang_up()
        self.upstreamed.clear()

    def clear(self) -> None:
        """End everything, and fail if the worker holds anything of it."""
        self.hang_up()
        held, clients = self.gateway.held(), self.gateway.connections
        assert (held, clients) == ({}, 0)


class Client:
    """One client's connection."""

    def __init__(self, stage: Stage, peer: str) -> None:
        self.stage = stage
        self.transport = FakeTransport((peer, 1))
        self.connection = ClientConnection(stage.worker)
        self.connection.connection_made(cast("asyncio.Transport", self.transport))
        self._unread: list[bytes] = []
        self._gone = False

    def send(self, pieces: Sequence[bytes]) -> None:
        """Queue bytes; each piece is one read of the gateway."""
        self._unread += pieces

    def deliver(self) -> bool:
        """Let the gateway read one piece; False when there is none, or it reads no more."""
        if not self._unread or self.transport.paused or self.transport.end:
            return False
        self.connection.data_received(self._unread.pop(0))
        return True

    @property
    def received(self) -> bytes:
        """Everything that the gateway has sent."""
        return bytes(self.transport.written)

    @property
    def ended(self) -> Ending:
        """How the gateway ended the connection: by `fin` (also half of it), by `rst`, or "": not at all."""
        return self.transport.end or ("fin" if self.transport.half_closed else "")

    def leave(self) -> None:
        """End the connection."""
        if not self._gone:
            self._gone = True
            self.connection.connection_lost(None)


@contextmanager
def stage(
    route: Route,
    *,
    states: Sequence[RolloutState] = (),
    limits: Limits | None = None,
    **config: Any,  # noqa: ANN401
) -> Iterator[Stage]:
    """Run a worker for the duration of the block; nothing may have been complained about at its end."""
    loop = uvloop.new_event_loop()
    try:
        with tempfile.TemporaryDirectory() as directory:

            async def begin() -> tuple[Bench, Gateway]:
                bench = Bench(Path(directory))
                return bench, await bench.gateway(route, states=states, limits=limits, **config)

            bench, gateway = loop.run_until_complete(begin())
            real = gateway.worker.now
            made = Stage(gateway)
            try:
                yield made
            finally:  # also when the test has failed: closing a uvloop waits for a listener that is still open
                gateway.worker.now = real
                for client in tuple(gateway.worker._clients):  # noqa: SLF001 - left over by a test that has failed
                    client.connection_lost(None)
                made.hang_up()
                for pool in made.pools.values():
                    for idle in pool._idle.values():  # noqa: SLF001 - see Stage
                        idle.clear()
                loop.run_until_complete(bench.end())
    finally:
        loop.close()
