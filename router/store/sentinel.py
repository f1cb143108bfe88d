"""A primary that sentinels watch over: they say where it is, and everything else is the one primary's connections.

The sentinels are asked before the first call, again after each failure, and every ASK_AGAIN_S besides: a primary that
was cut off from the others may go on answering, and would lead us astray until somebody tells us.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from router.core.errors import StoreUnavailableError
from router.store.connections import Command, Connections, in_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from router.store.addresses import StoreAddress
    from router.store.connections import Line

ASK_AGAIN_S = 2.0
"""How old the sentinels' word may be. Chosen: one small question in two seconds, and a poll of 1 s finds the rest."""

Place = tuple[str, int]


class SentinelConnections:
    """Connections to whichever server the sentinels name. As `Connections`, and the finding is part of `connect_s`."""

    def __init__(self, address: "StoreAddress", *, timeout_s: float, connect_s: float, size: int) -> None:
        self._address = address
        self._timeout_s, self._connect_s, self._size = timeout_s, connect_s, size
        self._sentinels = [
            Connections(seed, timeout_s=connect_s, connect_s=connect_s, size=1) for seed in address.seeds
        ]
        self._place: Place | None = None
        self._primary: Connections | None = None
        self._due_s = 0.0
        self._asking = asyncio.Lock()
        self._closed = False
        self.where = address.where

    def __repr__(self) -> str:
        return f"<SentinelConnections of {self._address.master} at {self.where}: {self._primary!r}>"

    async def ask(self, *command: str | bytes | float) -> Any:  # noqa: ANN401 - what a server replies
        """Return the reply to one command."""
        return (await self.ask_all([command]))[0]

    async def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        """Return the replies to `commands`, tried once, on the primary; StoreUnavailableError if any of them fails."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._connect_s
        primary = await self._find()
        try:
            return await primary.ask_all(commands, max(until_s - loop.time(), self._connect_s / 4))
        except StoreUnavailableError:
            self._due_s = 0.0
            raise

    @asynccontextmanager
    async def opened(self) -> "AsyncIterator[Line]":
        """Lend a new line to the primary, closed at the end. Sentinels end it when they take the role away."""
        primary = await self._find()
        try:
            async with primary.opened() as line:
                yield line
        except StoreUnavailableError:
            self._due_s = 0.0
            raise

    async def close(self) -> None:
        """Close the idle connections now, and those in use when their call ends."""
        self._closed = True
        for one in [*self._sentinels, *([self._primary] if self._primary else [])]:
            await one.close()

    async def _find(self) -> Connections:
        """Return the primary's connections; raises StoreUnavailableError while nobody has ever said where it is."""
        if self._closed:
            raise StoreUnavailableError(f"store {self.where}: this client is closed, make a new one")
        loop = asyncio.get_running_loop()
        if self._primary and loop.time() < self._due_s:
            return self._primary
        late = f"store {self.where}: no sentinel answered within {self._connect_s:g} s"
        async with in_time(self._connect_s, late), self._asking:
            if self._primary is None or loop.time() >= self._due_s:
                await self._ask_sentinels()
        if self._primary is None:
            raise StoreUnavailableError(
                f"store {self.where}: no sentinel knows a primary named {self._address.master!r}; check the name, the "
                "sentinels' addresses, and sentinel_password"
            )
        return self._primary

    async def _ask_sentinels(self) -> None:
        """Follow the word of most sentinels; without any word the primary known so far stays."""
        words = await asyncio.gather(*(self._word_of(one) for one in self._sentinels))
        self._due_s = asyncio.get_running_loop().time() + ASK_AGAIN_S
        said = Counter(word for word in words if word is not None).most_common(1)
        if not said or said[0][0] == self._place:
            return
        before, self._place = self._primary, said[0][0]
        self._primary = Connections(
            self._address.server.at(*self._place),
            timeout_s=self._timeout_s, connect_s=self._connect_s, size=self._size,
        )  # fmt: skip
        if before:
            await before.close()

    async def _word_of(self, sentinel: Connections) -> Place | None:
        """Return where one sentinel says the primary is, None when it does not know or answer within half the time."""
        try:
            async with in_time(self._connect_s / 2, "no answer"):
                found = await sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._address.master)
            host, port = found or (b"", b"0")
            return (host.decode(), int(port)) if host else None
        except (StoreUnavailableError, ValueError):
            return None
