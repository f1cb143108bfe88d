"""News of decisions on its way to event webhooks: in order for each Route, again until it arrives or is too old."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from router.control.webhooks.backoff import backoff_s
from router.control.webhooks.calls import Call, Message
from router.core.config import WebhookSpec
from router.telemetry import logs

MOST_PAUSE_S = 60.0
"""Longest pause between two tries. Chosen: a receiver that comes back is told within a minute."""

OVERHEAD_BYTES = 512
"""What one waiting message takes beside its body. Chosen: above what CPython needs for it."""

Sleep = Callable[[float], Awaitable[None]]
Count = Callable[[str, str], None]
"""Takes the type of a webhook and a result."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    number: int
    message: Message
    since_s: float

    @property
    def bytes(self) -> int:
        return len(self.message.body) + OVERHEAD_BYTES


class Outbox:
    """What waits for one event webhook.

    Each Route has a line of its own, so that a message that is not taken holds back only what comes after it on the
    same Route. At least once: a receiver may see a message again, under the same id. Over `queue_bytes` the oldest
    messages of all lines are dropped, after `max_age_s` any.
    """

    def __init__(  # noqa: PLR0913 - everything it touches is handed in
        self,
        hook: WebhookSpec,
        call: Call,
        count: Count,
        *,
        queue_bytes: int,
        max_age_s: float,
        monotonic: Callable[[], float],
        sleep: Sleep,
        random: Callable[[], float],
    ) -> None:
        self.hook = hook
        self._call = call
        self._count = count
        self._queue_bytes = queue_bytes
        self._max_age_s = max_age_s
        self._monotonic = monotonic
        self._sleep = sleep
        self._random = random
        self._log = logs.ThrottledLog(logs.get("webhooks"))
        self._lines: dict[str, deque[_Waiting]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._number = 0
        self.bytes = 0

    def __repr__(self) -> str:
        return f"Outbox({self.hook.name}, {len(self)} waiting, {self.bytes} bytes)"

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def put(self, route: str, message: Message) -> None:
        """Take a message to be delivered; never waits."""
        self._number += 1
        waiting = _Waiting(self._number, message, self._monotonic())
        self._lines.setdefault(route, deque()).append(waiting)
        self.bytes += waiting.bytes
        while self.bytes > self._queue_bytes:
            self._drop(min((line for line in self._lines.values() if line), key=lambda line: line[0].number), "queue")
        if route not in self._tasks:
            self._tasks[route] = asyncio.create_task(self._deliver(route), name=f"webhook {self.hook.name} {route}")

    async def aclose(self) -> None:
        """Deliver no more; what still waits is counted as dropped."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for line in self._lines.values():
            while line:
                self._drop(line, "stopped")

    async def _deliver(self, route: str) -> None:
        """Deliver one Route's line to its end."""
        line = self._lines[route]
        try:
            while line:
                await self._deliver_first(line)
        finally:
            del self._tasks[route]

    async def _deliver_first(self, line: "deque[_Waiting]") -> None:
        """Try the first of a line until it is taken, or no longer the first since it was dropped."""
        first, failures = line[0], 0
        while line and line[0] is first:
            left_s = first.since_s + self._max_age_s - self._monotonic()
            if left_s <= 0:
                self._drop(line, "age")
                return
            answer = await self._call(self.hook, first.message)
            if answer.ok:
                if line and line[0] is first:  # else it was dropped while it was on its way, and counted so
                    self._take(line)
                return
            failures += 1
            self._log.warning(
                self.hook.name, "an event could not be delivered", webhook=self.hook.name, why=answer.said
            )
            await self._sleep(min(backoff_s(failures, MOST_PAUSE_S, self._random), left_s))

    def _take(self, line: "deque[_Waiting]") -> None:
        self.bytes -= line.popleft().bytes

    def _drop(self, line: "deque[_Waiting]", reason: str) -> None:
        dropped = line[0]
        self._take(line)
        self._count(self.hook.type, f"dropped_{reason}")
        self._log.warning(
            f"{self.hook.name} {reason}", "an event was dropped", webhook=self.hook.name, reason=reason,
            id=dropped.message.id,
        )  # fmt: skip
