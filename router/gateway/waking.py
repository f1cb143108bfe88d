"""A worker that slept: stopped, paused with its container, or kept from running by a machine that is too busy.

Meanwhile its states went stale, and when it wakes, the requests that wait in its sockets come before any timer. So the
moment at which a request would be assigned is also where a sleep is noticed: the clock is then further than the last
tick can explain. From there on requests are held back, unread, until the states were read anew or WAKE_S have passed;
without the store the last states are the best there are.

The clock is the monotonic one, which stands still while a whole machine is suspended: then the poll of the next second
finds what has changed, not this.
"""

import asyncio
from typing import TYPE_CHECKING, Protocol

from router.core.errors import StoreUnavailableError
from router.gateway.deadlines import NEVER
from router.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

SLEPT_S = 1.0
"""How late a tick may be. Chosen: as old as states may be between two polls; a busy loop is late by milliseconds."""

WAKE_S = 0.1
"""How long requests wait for the states at most. CL9 asks for 100 ms."""


class Sleeper(Protocol):
    """A connection with requests that are held back."""

    def woken(self) -> None:
        """Go on with them."""


class Waking:
    """Knows whether the worker has slept, and holds requests back until it is awake again.

    `awake_until` is the second of the clock up to which requests may be assigned without another look; -inf while
    the states are being read anew.
    """

    __slots__ = ("_held", "_now", "_refresh", "_spawn", "awake_until")

    def __init__(
        self,
        now: "Callable[[], float]",
        refresh: "Callable[[], Awaitable[None]]",
        spawn: "Callable[[Coroutine[object, object, None]], object]",
    ) -> None:
        self._now = now
        self._refresh = refresh
        self._spawn = spawn
        self._held: dict[Sleeper, None] = {}
        self.awake_until = now() + SLEPT_S

    def __repr__(self) -> str:
        return f"<Waking awake until {self.awake_until:.2f} s, {len(self._held)} connections held>"

    def tick(self, now: float) -> None:
        """Note that the worker runs; called with each tick of its clock."""
        if now <= self.awake_until:
            self.awake_until = now + SLEPT_S
        else:
            self._begin()

    def hold(self, connection: Sleeper) -> None:
        """Call `woken` of this connection once requests may be assigned again; for a clock past `awake_until`."""
        self._held[connection] = None
        self._begin()

    def _begin(self) -> None:
        if self.awake_until != -NEVER:
            slept_s = self._now() - self.awake_until + SLEPT_S
            self.awake_until = -NEVER
            self._spawn(self._wake(slept_s))

    async def _wake(self, slept_s: float) -> None:
        try:
            fresh = await self._read_anew()
        finally:
            self.awake_until = self._now() + SLEPT_S
            held, self._held = self._held, {}
            for connection in held:
                connection.woken()
        logs.get("gateway").warning(
            "this worker did not run for a while; requests waited for the present states",
            slept_s=round(slept_s, 3), held=len(held), fresh=fresh,
        )  # fmt: skip

    async def _read_anew(self) -> bool:
        """Return whether the states were read; again if the worker slept once more meanwhile."""
        while True:
            began = self._now()
            try:
                async with asyncio.timeout(WAKE_S):
                    await self._refresh()
                    fresh = True
            except (StoreUnavailableError, TimeoutError):
                fresh = False
            if self._now() - began <= SLEPT_S:
                return fresh
