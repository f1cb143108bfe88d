"""A language model's server in a process of its own, which keeps time: `python -m tests.e2e.event_server`.

Prints its port. `POST` any path with `{"events": N, "every_s": S, "phase_s": P}` streams N events, the first one after
P seconds; each says under `at` when it was due by the monotonic clock, which all processes of a machine share. So what
this server itself is late counts as late, too. `GET` any path tells how many streams it is writing.
"""

import asyncio
import contextlib
import json
import sys
import time
from typing import Any, cast

import httptools
import uvloop

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


class _Line(asyncio.Protocol):
    """One connection."""

    def __init__(self, writing: set["_Line"]) -> None:
        self._writing = writing
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - how it ended is all the same
        self._writing.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body = b""

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        if self._parser.get_method() == b"GET":
            told = b"%d" % len(self._writing)
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(told), told))
            return
        asked: dict[str, Any] = json.loads(self._body)
        self._writing.add(self)
        self._transport.write(HEAD)
        self._wait(asked["events"], asked["every_s"], time.monotonic() + asked["phase_s"])

    def _wait(self, left: int, every_s: float, due_s: float) -> None:
        wait_s = max(0.0, due_s - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._write, left, every_s, due_s)

    def _write(self, left: int, every_s: float, due_s: float) -> None:
        if left:
            body = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}],"at":%.6f}\n\n' % due_s
            self._transport.write(b"%x\r\n%b\r\n" % (len(body), body))
            self._wait(left - 1, every_s, due_s + every_s)
        else:
            self._writing.discard(self)
            self._transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(STOP), STOP))


async def _serve() -> None:
    writing: set[_Line] = set()
    server = await asyncio.get_running_loop().create_server(lambda: _Line(writing), "127.0.0.1", 0, backlog=1_024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_serve())
