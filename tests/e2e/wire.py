"""A lean HTTP/1.1 client for tests: one keep-alive connection, one request at a time, about 0.1 ms each."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import httptools


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer; header names in lower case, times of the monotonic clock."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    started_s: float
    ended_s: float

    @property
    def closes(self) -> bool:
        """Whether the server said that this was the connection's last answer."""
        return self.headers.get("connection", "") == "close"

    def json(self) -> Any:  # noqa: ANN401 - whatever was sent
        """Return the body as JSON."""
        return json.loads(self.body)


class BrokenError(Exception):
    """The connection ended under a request; `cut` if part of the answer had come."""

    def __init__(self, why: str, *, cut: bool) -> None:
        super().__init__(why)
        self.cut = cut


def request(method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """Return the bytes of a request."""
    lines = [f"{method} {target} HTTP/1.1", "host: localhost"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body or method != "GET":
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class Line(asyncio.Protocol):
    """One client connection."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._waiter: asyncio.Future[Answer] | None = None
        self._started_s = 0.0
        self._any = False
        self.is_open = False
        self.asked = 0

    @classmethod
    async def open(cls, port: int) -> "Line":
        """Connect to a port of this machine; raises OSError."""
        _, line = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return line

    @property
    def local_port(self) -> int:
        """Our own port."""
        return int(self._transport.get_extra_info("sockname")[1])

    def ask(self, raw: bytes) -> "asyncio.Future[Answer]":
        """Send a request; the future is its answer, or BrokenError."""
        assert self._waiter is None, "one request at a time"
        self._waiter = asyncio.get_running_loop().create_future()
        waiter = self._waiter
        self._any = False
        self.asked += 1
        self._started_s = time.monotonic()
        if self.is_open:
            self._transport.write(raw)
        else:
            self._break("the connection was closed before")
        return waiter

    def close(self) -> None:
        """Close without ceremony."""
        self.is_open = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready."""
        self._transport = cast("asyncio.Transport", transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._any = True
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self.is_open = False
        self._break(str(exc) if exc else "closed by the server")

    def on_message_begin(self) -> None:
        """Begin an answer."""
        self._headers = {}
        self._body = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field."""
        self._headers[name.decode().lower()] = value.decode()

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        self._body.append(data)

    def on_message_complete(self) -> None:
        """Hand the answer over."""
        waiter, self._waiter = self._waiter, None
        if waiter and not waiter.done():
            status = self._parser.get_status_code()
            answer = Answer(status, self._headers, b"".join(self._body), self._started_s, time.monotonic())
            waiter.set_result(answer)

    def _break(self, why: str) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter and not waiter.done():
            waiter.set_exception(BrokenError(why, cut=self._any))


async def fetch(port: int, raw: bytes) -> Answer:
    """Return the answer to one request on a connection of its own."""
    line = await Line.open(port)
    try:
        return await line.ask(raw)
    finally:
        line.close()
