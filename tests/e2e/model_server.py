"""A model server in the test's own event loop: answers one label, and remembers what reached it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

import httptools

INFER = "/v2/models/digits/infer"

BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0.1, 0.2, 0.3, 0.4]}]}
).encode()
"""An Open Inference request of about 100 bytes."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One request that reached the server, at a second of the monotonic clock."""

    at_s: float
    target: str
    headers: Mapping[str, str]
    body_bytes: int

    @property
    def request_id(self) -> str:
        """Its x-request-id."""
        return self.headers["x-request-id"]

    @property
    def is_copy(self) -> bool:
        """Whether it was a copy."""
        return "x-turnout-mirror" in self.headers


class ModelServer:
    """Answers every request with its label. `seen` grows by one for each."""

    def __init__(self, label: int, *, delay_s: float = 0.0, port: int = 0) -> None:
        self.label = label
        self.delay_s = delay_s
        self.seen: list[Seen] = []
        self.port = port
        self.lines: set[_ServerLine] = set()
        self.on_request: Callable[[Seen], None] | None = None

    @property
    def url(self) -> str:
        """Its address, for the configuration."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def answer(self) -> bytes:
        """The bytes of every answer."""
        return answer_of(self.label)

    def answer_to(self, seen: Seen) -> bytes | None:  # noqa: ARG002 - others look at it
        """Return the answer to one request, None for the usual one."""
        return None

    @asynccontextmanager
    async def running(self) -> "AsyncIterator[ModelServer]":
        """Listen on a free port for the duration of the block."""
        server = await asyncio.get_running_loop().create_server(
            lambda: _ServerLine(self), "127.0.0.1", self.port, backlog=4096
        )
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for line in tuple(self.lines):
                line.abort()
            await server.wait_closed()


class _ServerLine(asyncio.Protocol):
    """One connection of a gateway."""

    def __init__(self, server: ModelServer) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._answer = server.answer
        self._headers: dict[str, str] = {}
        self._target = b""
        self._bytes = 0

    def abort(self) -> None:
        """End the connection."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.lines.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - gateways may leave as they like
        self._server.lines.discard(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._headers, self._target, self._bytes = {}, b"", 0

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode()

    def on_body(self, data: bytes) -> None:
        self._bytes += len(data)

    def on_message_complete(self) -> None:
        server = self._server
        seen = Seen(time.monotonic(), self._target.decode(), self._headers, self._bytes)
        server.seen.append(seen)
        if server.on_request:
            server.on_request(seen)
        answer = server.answer_to(seen) or self._answer
        if server.delay_s:
            asyncio.get_running_loop().call_later(server.delay_s, self._write, answer)
        else:
            self._transport.write(answer)

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


def answer_of(label: int, rows: int = 1) -> bytes:
    """Return an answer with one label, in each of so many rows."""
    output = {"name": "label", "shape": [rows], "datatype": "INT64", "data": [label] * rows}
    body = json.dumps({"model_name": "digits", "outputs": [output]}).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class FailingServer(ModelServer):
    """Answers every request with 500."""

    @property
    def answer(self) -> bytes:
        """The bytes of every answer."""
        return b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n"
