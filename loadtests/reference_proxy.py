"""The least that a proxy in Python can do, and some fixed work: `reference_proxy.py PORT UPSTREAM_PORT`.

What Turnout costs is held against this in the same run. It has the same event loop and parser, and passes whole
messages on; the work is there so that its mix of Python and kernel is about that of Turnout, else a machine with slow
system calls, or a newer Python, would change the ratio.
"""

import asyncio
import sys
from collections import deque
from typing import cast

import httptools
import uvloop

WORK = 700
"""Steps for each request; with them user time is 2.1 times system time, 2.2 times in a worker (2026-11-25)."""


class Upstream(asyncio.Protocol):
    """One connection to the upstream, for one request at a time."""

    client: "Client"

    def __init__(self, free: deque["Upstream"]) -> None:
        self._free = free
        self._parser = httptools.HttpResponseParser(self)
        self._got: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, client: "Client", message: bytes) -> None:
        """Pass a request on."""
        self.client = client
        self._transport.write(message)

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._got.append(data)
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Pass the answer back."""
        message, self._got = b"".join(self._got), []
        self._free.append(self)
        self.client.answer(message)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever it was
        """Do not ask over it any more; a client that asked it to close has done so."""
        if self in self._free:
            self._free.remove(self)


class Client(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, free: deque[Upstream], port: int) -> None:
        self._free = free
        self._port = port
        self._parser = httptools.HttpRequestParser(self)
        self._got: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._got.append(data)
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Pass a request on, over a connection that is free or a new one."""
        message, self._got = b"".join(self._got), []
        work(WORK)
        if self._free:
            self._free.popleft().ask(self, message)
        else:
            asyncio.get_running_loop().create_task(self._connect(message))

    def answer(self, message: bytes) -> None:
        """Pass an answer back."""
        self._transport.write(message)

    async def _connect(self, message: bytes) -> None:
        loop = asyncio.get_running_loop()
        _, upstream = await loop.create_connection(lambda: Upstream(self._free), "127.0.0.1", self._port)
        upstream.ask(self, message)


def work(steps: int) -> int:
    """Take some CPU, about 0.06 us for each step, as any Python does: with dictionaries and small numbers."""
    found: dict[int, int] = {}
    for step in range(steps):
        found[step & 15] = found.get(step & 7, 0) + step
    return len(found)


async def main(port: int, upstream: int) -> None:
    """Serve on loopback until killed."""
    free: deque[Upstream] = deque()
    await asyncio.get_running_loop().create_server(lambda: Client(free, upstream), "127.0.0.1", port, backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*(int(text) for text in sys.argv[1:])))
