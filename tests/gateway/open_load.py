"""An open-loop load in a process of its own: `python -m tests.gateway.open_load PORT RATE SECONDS`.

Requests are due at fixed times whatever becomes of earlier ones, and a latency counts from when its request was due.
It prints one JSON object: `answers`, a list of [due_s, status, latency_ms, retry_after], status 0 for no answer.
"""

import asyncio
import json
import sys
import time
from typing import TypeAlias, cast

import httptools
import uvloop

REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
LAST_S = 10.0
"""How long the last answers are waited for."""

Sample: TypeAlias = tuple[float, int, float, str]


class _Line(asyncio.Protocol):
    """One connection, for one request at a time."""

    def __init__(self, load: "OpenLoad") -> None:
        self.load = load
        self.due_s = 0.0
        self.retry_after = ""
        self.asking = False

    def ask(self, due_s: float) -> None:
        self.due_s, self.retry_after, self.asking = due_s, "", True
        self.parser = httptools.HttpResponseParser(self)
        self.transport.write(REQUEST)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - a failure is a failure
        if self.asking:
            self.load.samples.append((self.due_s, 0, 0.0, ""))

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after":
            self.retry_after = value.decode()

    def on_message_complete(self) -> None:
        self.asking = False
        latency_ms = (time.monotonic() - self.load.began - self.due_s) * 1000
        self.load.samples.append((self.due_s, self.parser.get_status_code(), latency_ms, self.retry_after))
        self.load.free.append(self)


class OpenLoad:
    """`rate` requests a second for `seconds`."""

    def __init__(self, port: int, rate: float, seconds: float) -> None:
        self.port = port
        self.rate = rate
        self.number = round(rate * seconds)
        self.samples: list[Sample] = []
        self.free: list[_Line] = []

    def __repr__(self) -> str:
        return f"<OpenLoad {self.rate:g}/s, {len(self.samples)}/{self.number}>"

    async def _connect(self) -> _Line:
        _, line = await asyncio.get_running_loop().create_connection(lambda: _Line(self), "127.0.0.1", self.port)
        return line

    async def _send(self, due_s: float) -> None:
        line = self.free.pop() if self.free else await self._connect()
        line.ask(due_s)

    async def run(self) -> list[Sample]:
        """Send everything and return what became of each."""
        self.free = [await self._connect() for _ in range(min(self.number, 50))]
        self.began = time.monotonic()
        sending = []
        for turn in range(self.number):
            due_s = turn / self.rate
            if (wait_s := due_s - (time.monotonic() - self.began)) > 0:
                await asyncio.sleep(wait_s)
            sending.append(asyncio.ensure_future(self._send(due_s)))
        await asyncio.gather(*sending)
        until = time.monotonic() + LAST_S
        while len(self.samples) < self.number and time.monotonic() < until:  # noqa: ASYNC110 - once
            await asyncio.sleep(0.01)
        return self.samples


if __name__ == "__main__":
    answers = uvloop.run(OpenLoad(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])).run())
    print(json.dumps({"answers": answers}))  # noqa: T201 - how it speaks
