"""Latency with and without a fault in alternating rounds: what the fault adds, less what the machine does anyway."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from tests.gateway.clients import Client


@dataclass(slots=True)
class Rounds:
    """A percentile of each round, in milliseconds, and how many requests they are of."""

    percentile: int
    calm_ms: list[float] = field(default_factory=list)
    faulty_ms: list[float] = field(default_factory=list)
    requests: int = 0

    @property
    def spread_ms(self) -> float:
        """How far rounds without the fault lie apart."""
        return max(self.calm_ms) - min(self.calm_ms)

    @property
    def added_ms(self) -> float:
        """What the fault adds to the median round."""
        return statistics.median(self.faulty_ms) - statistics.median(self.calm_ms)

    def __str__(self) -> str:
        calm_ms, faulty_ms = statistics.median(self.calm_ms), statistics.median(self.faulty_ms)
        of = f"{self.requests} requests, p{self.percentile}"
        return f"{of} {calm_ms:.2f} ms without and {faulty_ms:.2f} ms with the fault, spread {self.spread_ms:.2f} ms"

    def added_at_most(self, limit_ms: float, share: float = 0.0) -> bool:
        """Whether the fault adds no more than the limit, that share of the calm rounds, or three times the spread."""
        return self.added_ms <= max(limit_ms, share * statistics.median(self.calm_ms), 3 * self.spread_ms)


async def alternate(
    number: int,
    measure: Callable[[], Awaitable[Sequence[float]]],
    fault: Callable[[bool], Awaitable[None]],
    percentile: int = 99,
) -> Rounds:
    """Measure `number` rounds of each kind, by turns; `fault` is switched on before a faulty one and off after it.

    `measure` returns the latencies of one round in milliseconds.
    """
    rounds = Rounds(percentile)
    for _ in range(number):
        for faulty, kind in ((False, rounds.calm_ms), (True, rounds.faulty_ms)):
            if faulty:
                await fault(True)  # noqa: FBT003 - on or off
            taken_ms = sorted(await measure())
            kind.append(taken_ms[len(taken_ms) * percentile // 100])
            rounds.requests += len(taken_ms)
            if faulty:
                await fault(False)  # noqa: FBT003 - on or off
    return rounds


async def steady(
    clients: Sequence[Client], wire: bytes, answer_bytes: int, *, per_s: float, seconds: float
) -> list[float]:
    """Send a request at so many moments a second, each client in its turn; return how long each answer took, in ms.

    Every answer must be a 200 whose body has that length. A client that still waits when its turn comes is late, and
    its next request counts from when it should have been sent.
    """
    began = time.monotonic()
    taken_ms: list[float] = []

    async def one(client: Client, first: int) -> None:
        for turn in range(first, int(per_s * seconds), len(clients)):
            due = began + turn / per_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            late_s = max(0.0, time.monotonic() - due - SLEEP_S)
            sent = time.monotonic()
            await client.send(wire)
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            await client.reader.readexactly(answer_bytes)
            taken_ms.append((time.monotonic() - sent + late_s) * 1_000)

    await asyncio.gather(*[one(client, first) for first, client in enumerate(clients)])
    return taken_ms


SLEEP_S = 0.05
"""How late a sleep may end on a busy machine before the request counts as held up by the one before it."""
