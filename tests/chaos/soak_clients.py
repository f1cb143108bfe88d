"""Clients that ask as fast as they are answered, some of which give up: `python -m tests.chaos.soak_clients JSON`.

In a process of their own and lean, so that a soak is long in requests and not in time. Four times a second they print
a line of JSON with what became of the requests so far; the last line is the one after which nothing is asked any more.
"""

import asyncio
import json
import random
import re
import sys
from collections import Counter
from dataclasses import dataclass
from typing import cast

import uvloop

from tests.e2e.model_server import BODY, INFER
from tests.e2e.wire import request

LARGE = BODY[:-1] + b" " * 32_768 + BODY[-1:]
LARGE_EVERY = 64
USERS = 10_000
GIVES_UP = 0.02
PATIENCE_S = 0.003
"""Of those that give up; an answer that comes before counts as answered."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Order:
    """What to do: `requests` to `port` over `connections`, with the dice of `seed`."""

    port: int
    requests: int
    connections: int
    seed: int


class Crowd:
    """All clients together."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.dice = random.Random(order.seed)
        self.asked = self.answered = self.cancelled = self.open = 0
        self.errors: Counter[str] = Counter()

    def next_request(self) -> bytes | None:
        """Return what to ask next, None when all was asked."""
        number = self.asked
        if number >= self.order.requests:
            return None
        self.asked += 1
        body = BODY if number % LARGE_EVERY else LARGE
        return request("POST", INFER, body, {"x-user-id": f"user-{number % USERS}"})

    def report(self) -> str:
        """Return one line of JSON."""
        counts = {"asked": self.asked, "answered": self.answered, "cancelled": self.cancelled}
        return json.dumps({**counts, "errors": dict(self.errors)})

    async def run(self) -> None:
        """Ask everything."""
        for _ in range(self.order.connections):
            self.connect()
        while self.open:
            await asyncio.sleep(0.25)
            print(self.report(), flush=True)  # noqa: T201 - how it speaks

    def connect(self) -> None:
        """Open one more connection, unless all was asked."""
        if self.asked < self.order.requests:
            self.open += 1
            task = asyncio.create_task(self._connect())
            task.add_done_callback(asyncio.Task.result)

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: Client(self), "127.0.0.1", self.order.port)
        except OSError as error:
            self.errors[f"connect: {error}"] += 1
            await asyncio.sleep(0.05)
            self.open -= 1
            self.connect()


class Client(asyncio.Protocol):
    """One connection: asks again as soon as it is answered."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._got = b""
        self._waits = False
        self._gives_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Take an answer."""
        self._got += data
        head_end = self._got.find(b"\r\n\r\n") + 4
        if head_end < 4:
            return
        head = self._got[: head_end - 2]
        length = _LENGTH.search(head)
        if length is None:
            self._crowd.errors["an answer without content-length"] += 1
            self._transport.abort()
        elif len(self._got) >= head_end + int(length[1]):
            self._answered(head, len(self._got) - head_end - int(length[1]))

    def connection_lost(self, exc: Exception | None) -> None:
        """Go on with another connection."""
        if self._gives_up:
            self._gives_up.cancel()
        if self._waits:
            self._crowd.errors[f"{'cut' if self._got else 'closed'}: {exc}"] += 1
        self._crowd.open -= 1
        self._crowd.connect()

    def _ask(self) -> None:
        raw = self._crowd.next_request()
        if raw is None:
            self._transport.close()
            return
        self._got, self._waits = b"", True
        self._transport.write(raw)
        dice = self._crowd.dice
        if dice.random() < GIVES_UP:
            patience_s = dice.uniform(-PATIENCE_S / 2, PATIENCE_S)  # a third of them at once
            self._gives_up = asyncio.get_running_loop().call_later(max(0.0, patience_s), self._give_up)

    def _answered(self, head: bytes, too_many: int) -> None:
        self._waits = False
        if self._gives_up:
            self._gives_up.cancel()
            self._gives_up = None
        status = head[9:12].decode("latin-1")
        if status != "200" or too_many:
            self._crowd.errors[f"status {status}, {too_many} bytes too many"] += 1
        self._crowd.answered += 1
        if b"connection: close" in head:
            self._transport.close()
        else:
            self._ask()

    def _give_up(self) -> None:
        self._crowd.cancelled += 1
        self._waits = False
        self._transport.abort()


if __name__ == "__main__":
    uvloop.run(Crowd(Order(**json.loads(sys.argv[1]))).run())
