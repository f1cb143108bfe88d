"""A server of large bodies and of events, and a reader that takes its time."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

PIECE = 64 * 1024
EVENTS = 12
EVERY_S = 0.1
SLOW_BYTES_PER_S = 64 * 1024


def big_body(size: int) -> Iterator[bytes]:
    """Yield `size` bytes, no two pieces alike."""
    for at in range(0, size, PIECE):
        block = hashlib.sha256(b"%d" % at).digest() * (PIECE // 32)
        yield block[: min(PIECE, size - at)]


def digest_of(size: int) -> str:
    """Return the digest of a big body."""
    whole = hashlib.sha256()
    for piece in big_body(size):
        whole.update(piece)
    return whole.hexdigest()


async def read_body(reader: asyncio.StreamReader, size: int, slow_for_s: float = 0.0) -> str:
    """Return the digest of the next `size` bytes, read at 64 KiB/s for the first `slow_for_s`, then at full speed."""
    whole, got = hashlib.sha256(), 0
    began_s = time.monotonic()
    while got < size:
        passed_s = time.monotonic() - began_s
        if passed_s < slow_for_s and got > passed_s * SLOW_BYTES_PER_S:
            await asyncio.sleep(0.02)  # the reader's pace is what is tested
            continue
        piece = await reader.read(min(size - got, 8 * 1024 if passed_s < slow_for_s else PIECE))
        assert piece, f"ended {size - got} bytes before its end"
        whole.update(piece)
        got += len(piece)
    return whole.hexdigest()


@dataclass
class StreamServer:
    """`POST /put/S` reads slowly for S seconds and tells the digest, `/get/N` sends N bytes, `/events` sends events."""

    port: int = 0
    events_sent_s: list[float] = field(default_factory=list)
    bytes_sent: int = 0
    serving: int = 0
    """Connections open now."""

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self) -> "AsyncIterator[StreamServer]":
        """Listen for the duration of the block."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=PIECE)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            _, path, number = head.split(" ")[1].split("/")
            if path == "put":
                size = int(head.partition("content-length:")[2].split("\r\n")[0])
                await self._put(size, float(number), reader, writer)
            elif path == "get":
                await self._get(int(number), writer)
            else:
                await self._events(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the gateway may close its connections as it likes
        finally:
            self.serving -= 1
            writer.close()

    async def _put(
        self, size: int, slow_for_s: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        digest = (await read_body(reader, size, slow_for_s)).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(digest), digest))
        await writer.drain()

    async def _get(self, size: int, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % size)
        for piece in big_body(size):
            writer.write(piece)
            await writer.drain()
            self.bytes_sent += len(piece)

    async def _events(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(EVENTS):
            event = b"data: %d\n\n" % number
            self.events_sent_s.append(time.monotonic())
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
            await asyncio.sleep(EVERY_S)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
