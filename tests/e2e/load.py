"""Clients in a closed loop, and what became of each of their requests."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.e2e.model_server import BODY, INFER
from tests.e2e.wire import Answer, BrokenError, Line, request

RECONNECT_S = 0.01
"""Between tries to connect where nobody listens, so that such a client does not spin."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without an answer: `refused`, `closed` (no byte of an answer), `cut` (in the middle of one)."""

    kind: str
    at_s: float
    client: int
    worker: str
    why: str


@dataclass
class Load:
    """`clients` clients, each with one connection, asking again `pause_s` after each answer."""

    port: int
    clients: int = 16
    pause_s: float = 0.002
    stop_when_refused: bool = False
    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    asked: int = 0
    named: bool = False
    """Whether requests carry an x-request-id, counted from 0; else the gateway names them and its worker."""
    latencies_s: list[float] = field(default_factory=list)
    workers: dict[int, str] = field(default_factory=dict)
    """Which worker, by its boot, has the connection of each client."""
    busy: dict[int, str] = field(default_factory=dict)
    """The same, for clients that wait for an answer just now."""
    on_answer: Callable[[Answer], None] | None = None
    headers_of: Callable[[int], Mapping[str, str]] | None = None
    """More header fields of a request, by its number."""

    @asynccontextmanager
    async def running(self) -> "AsyncIterator[Load]":
        """Keep asking for the duration of the block; each client gets its last answer."""
        self._stopping = False
        self._numbers = itertools.count()
        tasks = [asyncio.create_task(self._client(number)) for number in range(self.clients)]
        try:
            yield self
        finally:
            self._stopping = True
            await asyncio.gather(*tasks)

    @property
    def answered(self) -> int:
        """How many answers came."""
        return self.statuses.total()

    @property
    def errors(self) -> list[str]:
        """All that a client would call an error, one line for each kind."""
        bad = [f"{count} x status {status}" for status, count in self.statuses.items() if status != 200]
        kinds = Counter(f"{failure.kind}: {failure.why}" for failure in self.failures)
        return bad + [f"{count} x {kind}" for kind, count in kinds.items()]

    async def until_answered(self, more: int, within_s: float = 20.0) -> None:
        """Return once `more` further answers have come."""
        wanted = self.answered + more
        await until(lambda: self.answered >= wanted, within_s)

    async def keep_on(self, seconds: float) -> None:
        """Return after `seconds` of load, and at least one answer per client: a window to look at, no waiting for."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            await self.until_answered(self.clients)

    async def _client(self, number: int) -> None:
        line: Line | None = None
        while not self._stopping:
            if line is None or not line.is_open:
                line = await self._connect(number)
                if line is None:
                    if self.stop_when_refused:
                        return
                    continue
            await self._ask(number, line)
            await asyncio.sleep(self.pause_s)
        if line:
            line.close()

    async def _connect(self, number: int) -> Line | None:
        self.workers.pop(number, None)
        try:
            return await Line.open(self.port)
        except OSError as error:
            self._fail("refused", number, str(error))
            await asyncio.sleep(RECONNECT_S)
            return None

    async def _ask(self, number: int, line: Line) -> None:
        index = next(self._numbers)
        self.asked += 1
        headers = {"x-user-id": f"user-{index}", "x-started": f"{time.monotonic():.6f}"}
        if self.named:
            headers["x-request-id"] = str(index)
        if self.headers_of:
            headers.update(self.headers_of(index))
        self.busy[number] = self.workers.get(number, "")
        try:
            answer = await line.ask(request("POST", INFER, BODY, headers))
        except BrokenError as error:
            self._fail("cut" if error.cut else "closed", number, str(error))
            return
        finally:
            del self.busy[number]
        self.statuses[answer.status] += 1
        self.latencies_s.append(answer.ended_s - answer.started_s)
        if not self.named:
            self.workers[number] = worker_of(answer)
        if self.on_answer:
            self.on_answer(answer)
        if answer.closes:
            line.close()

    def _fail(self, kind: str, number: int, why: str) -> None:
        self.failures.append(Failure(kind, time.monotonic(), number, self.workers.get(number, ""), why))


def worker_of(answer: Answer) -> str:
    """Return the boot of the worker that answered a request which had no x-request-id of its own."""
    return answer.headers.get("x-request-id", "").partition("-")[0]


async def ask_all(port: int, requests: Iterable[bytes], clients: int = 24) -> Sequence[Answer]:
    """Return the answers to all requests, in their order, asked over a few connections at once."""
    numbered = enumerate(requests)
    answers: dict[int, Answer] = {}

    async def client() -> None:
        line = await Line.open(port)
        for number, raw in numbered:
            answers[number] = await line.ask(raw)
        line.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return [answers[number] for number in sorted(answers)]


@asynccontextmanager
async def beside(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run `work`, which never ends by itself, for the duration of the block; what it raised is raised at the end."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled() and (error := task.exception()):
            raise error


async def until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Return once `condition` holds; fail when it does not within `within_s`."""
    give_up_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up_s, "the condition never held"
        await asyncio.sleep(0.005)


async def eventually(condition: Callable[[], Awaitable[object]], within_s: float = 10.0) -> None:
    """Return once what `condition` returns is true; fail when it is not within `within_s`."""
    give_up_s = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < give_up_s, "the condition never held"
        await asyncio.sleep(0.02)
