"""A receiver of webhooks: a real HTTP server that says what a test wants it to."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Received:
    """One request."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - any JSON
        """Return the body read."""
        return json.loads(self.body)


Reply = Callable[[Received], bytes | None]


def status(code: int, body: str = "", extra: str = "") -> Reply:
    """Answer everything so."""
    content = body.encode()
    head = f"HTTP/1.1 {code} X\r\ncontent-length: {len(content)}\r\n{extra}\r\n".encode()
    return lambda _: head + content


def silence(_received: Received) -> None:
    """Take everything and never answer."""


@dataclass
class Receiver:
    """What came in, and what is answered. `connections` counts also those on which nothing was said."""

    reply: Reply = field(default_factory=lambda: status(200))
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    holds: bool = False
    """Whether connections stay open after the answer."""
    port: int = 0
    came: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}/hook"

    async def until(self, number: int) -> list[Received]:
        """Return what came in once there are `number` requests, at most 10 s later."""
        async with asyncio.timeout(10):
            while len(self.received) < number:
                self.came.clear()
                await self.came.wait()
        return self.received

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *fields = head.removesuffix("\r\n\r\n").split("\r\n")
            headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in fields)}
            received = Received(line, headers, await reader.readexactly(int(headers.get("content-length", "0"))))
            self.received.append(received)
            self.came.set()
            answer = self.reply(received)
            if answer is not None:
                writer.write(answer)
                await writer.drain()
            if answer is None or self.holds:
                await reader.read()  # until the other side gives up
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiver(reply: Reply | None = None) -> AsyncIterator[Receiver]:
    """Run one on a free port of loopback."""
    found = Receiver(reply or status(200))
    async with await asyncio.start_server(found._serve, "127.0.0.1", 0) as server:  # noqa: SLF001 - its own module
        found.port = server.sockets[0].getsockname()[1]
        yield found
