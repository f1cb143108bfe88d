"""An open-loop client: asks at a fixed rate, whatever the answers do: `python -m loadtests.compare.open_loop JSON`.

A closed loop (wrk) asks again only when it was answered, so while a server stands still it asks little, and the wait of
all the requests that would have come is in no figure ("coordinated omission"). Here request number i is meant to start
at i / rate. When no connection is free it waits for one; its latency counts from the meant start all the same.
"""

import asyncio
import json
import selectors
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import cast

from loadtests.processes import PATH

GRACE_S = 2.0
"""How long after the last start an answer may come, unless the order says so; what has none by then failed."""

BODY_100 = '{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP64","data":[5.1,3.5,1.4,0.2]}],"id":"0123456789"}'


@dataclass(frozen=True, slots=True)
class Order:
    """Ask `rate_s` requests a second for `seconds`, over `connections`; the bodies take turns."""

    port: int
    rate_s: float
    seconds: float
    connections: int = 64
    grace_s: float = GRACE_S
    host: str = "127.0.0.1"
    path: str = PATH
    bodies: Sequence[str] = (BODY_100,)


@dataclass(frozen=True, slots=True)
class Latencies:
    """What came of it. `late_p99_ms`: how late this client itself began, where a connection was free."""

    requests: int
    errors: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    late_p99_ms: float


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest of the ascending values that at least `share` (0..1) of them do not exceed; 0 of none."""
    return ordered[max(0, -int(-len(ordered) * share // 1) - 1)] if ordered else 0.0


Note = Callable[[float, float, bool], None]
"""Hears of each request: when it was meant to start, in seconds of the run, its latency, and whether it failed."""


class OpenLoop:
    """One run. Times are those of the event loop."""

    def __init__(self, order: Order, note: Note | None = None) -> None:
        self.order = order
        self.total = round(order.rate_s * order.seconds)
        self.messages = cycle([message(order.path, body) for body in order.bodies])
        self._note = note
        self.free: deque[_Line] = deque()
        self.latencies_s: list[float] = []
        self.late_s: list[float] = []
        self.errors = 0
        self.lines: set[_Line] = set()
        self.over = False
        self._waiting: deque[float] = deque()
        self._next = 0
        self._ended = asyncio.Event()

    async def run(self) -> Latencies:
        """Return when every request was answered, failed, or `grace_s` have passed since the last start."""
        loop = asyncio.get_running_loop()
        for _ in range(self.order.connections):
            await self.open_line()
        self._began_s = loop.time() + 0.05
        loop.call_at(self._began_s, self._send_due)
        try:
            async with asyncio.timeout(0.05 + self.order.seconds + self.order.grace_s):
                await self._ended.wait()
        except TimeoutError:
            self._count_unanswered(loop.time())
        self.over = True
        for line in tuple(self.lines):
            line.abort()
        await asyncio.sleep(0)  # the transports let go of their sockets
        return self._result()

    async def open_line(self) -> None:
        """Open one more connection; it offers itself."""
        await asyncio.get_running_loop().create_connection(lambda: _Line(self), self.order.host, self.order.port)

    def offer(self, line: "_Line") -> None:
        """Take back a connection that has nothing to do."""
        if self._waiting:
            line.ask(self._waiting.popleft())
        else:
            self.free.append(line)

    def answered(self, meant_s: float, *, failed: bool) -> None:
        """Count one request that is over; the latency of a failed one counts too."""
        self._keep(meant_s, asyncio.get_running_loop().time() - meant_s, failed)
        self.errors += failed
        if len(self.latencies_s) == self.total:
            self._ended.set()

    def _send_due(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        while self._next < self.total:
            meant_s = self._began_s + self._next / self.order.rate_s
            if meant_s > now_s:
                loop.call_at(meant_s, self._send_due)
                return
            self._next += 1
            if self.free:
                self.late_s.append(now_s - meant_s)
                self.free.popleft().ask(meant_s)
            else:
                self._waiting.append(meant_s)

    def _count_unanswered(self, now_s: float) -> None:
        missing = self.total - len(self.latencies_s)
        self.errors += missing
        # The newest ones, as a stall leaves them: each has waited at least since it was meant to start.
        first = self.total - missing
        for number in range(first, self.total):
            meant_s = self._began_s + number / self.order.rate_s
            self._keep(meant_s, now_s - meant_s, failed=True)

    def _keep(self, meant_s: float, latency_s: float, failed: bool) -> None:  # noqa: FBT001 - as Note
        self.latencies_s.append(latency_s)
        if self._note:
            self._note(meant_s - self._began_s, latency_s, failed)

    def _result(self) -> Latencies:
        ordered, late = sorted(self.latencies_s), sorted(self.late_s)
        p50, p99, p999 = (1000 * percentile(ordered, share) for share in (0.5, 0.99, 0.999))
        return Latencies(len(ordered), self.errors, p50, p99, p999, 1000 * percentile(late, 0.99))


class _Line(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, run: OpenLoop) -> None:
        self._run = run
        self._got = b""
        self._meant_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._run.lines.add(self)
        self._run.offer(self)

    def abort(self) -> None:
        self._transport.abort()

    def ask(self, meant_s: float) -> None:
        self._meant_s = meant_s
        self._transport.write(next(self._run.messages))

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, found, body = self._got.partition(b"\r\n\r\n")
        if not found or self._meant_s is None:
            return
        if len(body) < _length(head):
            return
        meant_s, self._meant_s, self._got = self._meant_s, None, b""
        self._run.answered(meant_s, failed=not head.startswith(b"HTTP/1.1 200"))
        if b"connection: close" in head.lower():
            self._transport.close()
        else:
            self._run.offer(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever it was
        self._run.lines.discard(self)
        if self._run.over:
            return
        meant_s, self._meant_s = self._meant_s, None
        if meant_s is not None:
            self._run.answered(meant_s, failed=True)
        elif self in self._run.free:
            self._run.free.remove(self)
        asyncio.get_running_loop().create_task(self._run.open_line()).add_done_callback(_forget)


def _forget(task: "asyncio.Task[None]") -> None:
    """A connection that cannot be made is missed by the requests that wait for it."""
    if not task.cancelled():
        task.exception()


def _length(head: bytes) -> int:
    """Return the content-length; 0 without one, or for chunked answers, which no measured system sends here."""
    lower = head.lower()
    at = lower.find(b"content-length:")
    return int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


def message(path: str = PATH, body: str = BODY_100) -> bytes:
    """Return a prediction request, by default that of design.md section 9. The body is ASCII."""
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()


def measure(order: Order) -> Latencies:
    """Carry out an order in this process.

    With select(2), whose timeout has microseconds: epoll rounds up to milliseconds, more than what is measured.
    """
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(OpenLoop(order).run())


if __name__ == "__main__":
    print(json.dumps(asdict(measure(Order(**json.loads(sys.argv[1]))))))
