"""The people who find out what the right answer was: each request's real label, sent some time after its answer."""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from router.demo.admin import Admin, NotNowError
from router.demo.traffic import Label, Traffic

FASTEST_S: Final = 0.5
SLOWEST_S: Final = 2.0
"""How long after its answer a label is known: drawn evenly between these two. Chosen: long enough for labels to come in
another order than their requests, short enough for a demo."""

EVERY_S: Final = 0.25
MOST: Final = 1_000
"""Labels in one call: what the admin API takes."""


@dataclass(frozen=True, slots=True, order=True)
class _Due:
    """One label, and when it is known by the monotonic clock; `number` keeps the order of equal moments."""

    at_s: float
    number: int
    label: Label = field(compare=False)


class Delay:
    """Holds labels back until they are known. Which label waits how long follows from the seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - it must repeat, not surprise
        self._waiting: list[_Due] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, labels: Iterable[Label], now_s: float) -> None:
        """Take the labels of requests that were answered just now."""
        for label in labels:
            self._number += 1
            due_s = now_s + self._random.uniform(FASTEST_S, SLOWEST_S)
            heapq.heappush(self._waiting, _Due(due_s, self._number, label))

    def known(self, now_s: float, limit: int = MOST) -> list[Label]:
        """Return, and forget, up to `limit` labels that are known by now, the oldest first."""
        found: list[Label] = []
        while self._waiting and self._waiting[0].at_s <= now_s and len(found) < limit:
            found.append(heapq.heappop(self._waiting).label)
        return found


class Feedback:
    """Sends the labels of the traffic to Turnout. `run` it beside the play."""

    def __init__(self, admin: Admin, traffic: Traffic, seed: int) -> None:
        self._admin = admin
        self._traffic = traffic
        self._delay = Delay(seed)
        self._counts: Counter[str] = Counter()

    @property
    def counts(self) -> Mapping[str, int]:
        """What Turnout said of the labels so far, by its words: accepted, waiting, double, late, unknown."""
        return dict(self._counts)

    async def run(self) -> None:
        """Send until cancelled. Raises DemoError when labels are refused."""
        while True:
            self._delay.add(self._traffic.take_labels(limit=10_000), time.monotonic())
            while labels := self._delay.known(time.monotonic()):
                await self._send(labels)
            await asyncio.sleep(EVERY_S)

    async def _send(self, labels: list[Label]) -> None:
        """Send one batch until it is known to have arrived; what arrives twice is counted as double there."""
        observed_at = datetime.now(UTC).isoformat()
        batch = [{"request_id": one.request_id, "label": str(one.label), "observed_at": observed_at} for one in labels]
        while True:
            try:
                self._counts.update(await self._admin.feedback(batch))
            except NotNowError:
                await asyncio.sleep(EVERY_S)
            else:
                return
