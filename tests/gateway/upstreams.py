"""A scriptable raw upstream: it answers the bytes it is told to, and records what it received.

What the gateway sends is read by h11, so that every test also checks the gateway's framing by a parser of other people.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import h11

from router.core.traffic import Backend

READ_BYTES = 2**18


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it arrived: names lower-case, in order; the body without its framing."""

    method: str
    target: str
    fields: tuple[tuple[str, str], ...]
    body: bytes

    def field(self, name: str) -> str | None:
        """Return the only value of a field, None without one; two are a failure."""
        values = self.all(name)
        assert len(values) < 2, f"{name} occurs {len(values)} times: {values}"
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        """Return all values of a field in order."""
        return [value for key, value in self.fields if key == name]


class Visit:
    """One accepted connection, in the hands of a script."""

    def __init__(self, upstream: "Upstream", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.upstream = upstream
        self.read_bytes = 0
        self.closed_at: float | None = None
        self._rest = b""

    async def read(self, limit: int = READ_BYTES) -> bytes:
        """Return what comes next, b"" at the end."""
        data = await self.reader.read(limit)
        self.read_bytes += len(data)
        return data

    async def read_head(self) -> bytes:
        """Return the head of the next request as it came, b"" at the end: fast, for scripts that read many."""
        try:
            return await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return b""

    async def request(self) -> Received | None:
        """Return the next request when it is complete, None when the gateway closed before the first byte."""
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
        if self._rest:
            parser.receive_data(self._rest)
        head: h11.Request | None = None
        body: list[bytes] = []
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                data = await self.read()
                if not data and head is None:
                    return None
                if not data:
                    raise asyncio.IncompleteReadError(b"".join(body), None)
                parser.receive_data(data)
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                self._rest = parser.trailing_data[0]
                received = Received(
                    head.method.decode(),
                    head.target.decode("latin-1"),
                    tuple((name.decode(), value.decode("latin-1")) for name, value in head.headers),
                    b"".join(body),
                )
                self.upstream.requests.append(received)
                return received

    async def requests(self) -> AsyncIterator[Received]:
        """Yield requests until the gateway closes."""
        while (received := await self.request()) is not None:
            yield received

    async def send(self, data: bytes) -> None:
        """Send bytes as they are; returns when the transport has room again."""
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Return when the gateway has closed the connection; what it still sent is thrown away."""
        with contextlib.suppress(ConnectionError):
            while await self.read():
                pass
        self.closed_at = time.monotonic()

    def reset(self) -> None:
        """End the connection by RST; bytes that were not sent yet are lost."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script: TypeAlias = Callable[[Visit], Awaitable[None]]


class Upstream:
    """A server on a free loopback port that hands each connection to its script, and closes it afterwards."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Received] = []
        self.visits: list[Visit] = []
        self.failures: list[BaseException] = []
        self.port = 0
        self._tls = False
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Upstream :{self.port}, {len(self.visits)} connections, {len(self.requests)} requests>"

    @property
    def backend(self) -> Backend:
        """Where it listens."""
        return Backend("127.0.0.1", self.port, self._tls)

    @property
    def open(self) -> int:
        """How many connections are still in the hands of the script."""
        return len(self._tasks)

    async def start(self, port: int = 0, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> "Upstream":
        """Listen, on a free port unless one is given."""
        self._server = await asyncio.start_server(self._accept, host, port, limit=READ_BYTES, ssl=tls)
        self._tls = tls is not None
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visit = Visit(self, reader, writer)
        self.visits.append(visit)
        if not self._server.is_serving():
            writer.transport.abort()
            return
        task = asyncio.ensure_future(self._serve(visit))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, visit: Visit) -> None:
        try:
            await self.script(visit)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the gateway went away; the test looks at what it cares about
        except Exception as error:  # noqa: BLE001 - shown by the bench at the end of the test
            self.failures.append(error)
        finally:
            visit.writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await visit.writer.wait_closed()

    async def stop(self) -> None:
        """Stop listening and cut all connections."""
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for visit in self.visits:
            visit.writer.transport.abort()  # a script that was cancelled before its first step has closed nothing


# -- scripts ----------------------------------------------------------------------------------------------------------


def ok(body: bytes = b"ok", *fields: str, status: str = "200 OK") -> bytes:
    """Return an answer framed by Content-Length."""
    lines = [f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def chunked(*pieces: bytes, fields: tuple[str, ...] = ()) -> bytes:
    """Return an answer framed by one chunk for each piece."""
    head = "\r\n".join(["HTTP/1.1 200 OK", *fields, "Transfer-Encoding: chunked", "", ""]).encode("latin-1")
    return head + b"".join(b"%X\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def answering(*answers: bytes) -> Script:
    """Return a script that gives these answers in turn to the requests of one connection, the last one for ever."""

    async def script(visit: Visit) -> None:
        turn = 0
        async for _ in visit.requests():
            await visit.send(answers[min(turn, len(answers) - 1)])
            turn += 1

    return script


def closing(answer: bytes) -> Script:
    """Return a script that gives one answer and closes the connection."""

    async def script(visit: Visit) -> None:
        if await visit.request() is not None:
            await visit.send(answer)

    return script


def resetting(answer: bytes) -> Script:
    """Return a script that gives one answer, waits until it is out, and resets the connection."""

    async def script(visit: Visit) -> None:
        if await visit.request() is None:
            return
        visit.writer.transport.set_write_buffer_limits(high=0)
        await visit.send(answer)
        visit.reset()

    return script


async def echo(visit: Visit) -> None:
    """Answer each request with its own body, framed by Content-Length."""
    async for received in visit.requests():
        await visit.send(ok(received.body))


async def never(visit: Visit) -> None:
    """Take the request and never answer."""
    await visit.request()
    await visit.gone()
