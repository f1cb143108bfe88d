"""The waiting line in front of a variant: what arrives while its live pool is full waits here, for a while.

The line is bounded in number and in time, and serves in the order of arrival. It is as long as the pool by default:
by Little's law a standing line of as many requests as are under way costs one more service time, whatever that time
is. So requests that are let in take twice as long at the worst however great the load, and all others hear at once
that there is no room. A longer line would only make everybody wait for longer; it would not serve more.
"""

from typing import TYPE_CHECKING, Protocol

from router.gateway.upstream import Call

if TYPE_CHECKING:
    import asyncio

    from router.gateway.pool import Pool


class Waiter(Call, Protocol):
    """A call that may have to wait. It leaves the line by itself, by `leave`, when nobody waits for it any more."""

    def overdue(self) -> bool:
        """Whether its deadline has passed, now and not when this turn of the loop began."""

    def waited_out(self) -> None:
        """It has waited as long as it may and is sent to nobody. It has left the line."""

    def turned_away(self) -> None:
        """It was its turn and there was no place all the same. It has left the line."""


class WaitingLine:
    """Live requests of one variant on one worker that wait for a place in its pool, at most `limit`, each `wait_s`."""

    __slots__ = ("_loop", "_pool", "_since", "limit", "wait_s", "waited", "waited_s")

    def __init__(self, loop: "asyncio.AbstractEventLoop", pool: "Pool", limit: int, wait_s: float) -> None:
        self.limit = limit
        self.wait_s = wait_s
        self.waited = 0
        """How many have left the line for any reason, `waited_s` seconds in all."""
        self.waited_s = 0.0
        self._pool = pool
        self._loop = loop
        self._since: dict[Waiter, float] = {}
        """Who waits since when, the longest first; a dict serves as an ordered set."""

    def __repr__(self) -> str:
        return f"<WaitingLine {len(self._since)}/{self.limit} in front of {self._pool}>"

    def __len__(self) -> int:
        return len(self._since)

    def __contains__(self, waiter: Waiter) -> bool:
        return waiter in self._since

    @property
    def busy(self) -> bool:
        """Whether one more call would have to wait."""
        return bool(self._since) or self._pool.full

    def acquire(self, waiter: Waiter) -> bool:
        """Give `waiter` a place in the pool, now or when it is its turn; False when the line is full as well."""
        if not self._since and self._pool.acquire(waiter):
            return True
        if len(self._since) >= self.limit:
            return False
        self._since[waiter] = self._loop.time()
        self._pool.on_room = self._on_room
        return True

    def leave(self, waiter: Waiter) -> None:
        """Let go of `waiter`; safe to call of one that does not wait."""
        since = self._since.pop(waiter, None)
        if since is not None:
            self.waited += 1
            self.waited_s += self._loop.time() - since
            if not self._since:
                self._pool.on_room = None

    def expire(self, now: float) -> None:
        """Turn away who has waited for `wait_s`; called every tick."""
        while self._since:
            waiter = next(iter(self._since))
            if now - self._since[waiter] < self.wait_s:
                return
            self.leave(waiter)
            waiter.waited_out()

    def _on_room(self) -> None:
        # Not within the call that makes room: its connection may not have been given back yet.
        self._loop.call_soon(self._admit)

    def _admit(self) -> None:
        """Send on whose turn it is. What is too old is never sent: the tick may not have been there yet."""
        self.expire(self._loop.time())
        while self._since and not self._pool.full:
            waiter = next(iter(self._since))
            self.leave(waiter)
            if waiter.overdue():
                waiter.waited_out()
            elif not self._pool.acquire(waiter):
                waiter.turned_away()
