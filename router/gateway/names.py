"""The addresses of host names, found beside the requests: no request ever waits for a resolver.

The system's resolver does not say how long its answer is valid, so every name is looked up anew at a fixed pace. The
last addresses that were found are kept for as long as no others are: a resolver that is down takes nobody down.
"""

import asyncio
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from router.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable

Addresses: TypeAlias = tuple[str, ...]
Lookup: TypeAlias = "Callable[[str], Addresses]"
"""Blocks, and returns the addresses of a host name in order of preference; raises OSError or ValueError."""

AGAIN_S = 1.0
"""Shortest time between two lookups of a name: after a failed one, or when an address was not reached. Chosen."""


PATIENCE_S = 2.5
"""After so long a lookup gets company: the C library waits 5 s for a lost answer before it asks again."""

MOST_LOOKUPS = 4
"""Lookups of one name at one time, each in its thread: what PATIENCE_S makes of the 10 s of the C library."""


def system_lookup(host: str) -> Addresses:
    """Ask the system's resolver."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(one[4][0]) for one in found))


class _Name:
    __slots__ = ("asked", "asked_at_s", "due_s", "found", "host", "listeners", "running", "taken")

    def __init__(self, host: str) -> None:
        self.host = host
        self.listeners: list[Callable[[Addresses], None]] = []
        self.found: Addresses = ()
        self.running = 0
        self.asked = 0
        self.taken = 0
        """The number of the lookup that was heard last; older ones have nothing to say any more."""
        self.asked_at_s = 0.0
        self.due_s = 0.0


class Names:
    """Looks up every watched name each `refresh_s`, each lookup in a thread of its own and never more than a few.

    The threads are daemons: a resolver that hangs keeps no process from ending.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, refresh_s: float, lookup: Lookup = system_lookup) -> None:
        self.lookups = {"ok": 0, "failed": 0}
        self._loop = loop
        self._refresh_s = refresh_s
        self._lookup = lookup
        self._names: dict[str, _Name] = {}
        self._unheard: set[str] = set()
        self._heard = asyncio.Event()
        self._heard.set()
        self._log = logs.get("names")
        self._changes = logs.Changes()

    def __repr__(self) -> str:
        return f"<Names {[f'{one.host}: {one.found}' for one in self._names.values()]}>"

    def watch(self, host: str, listener: "Callable[[Addresses], None]") -> None:
        """Tell `listener` the addresses of `host`, now or when they are found, and whenever they are others."""
        name = self._names.get(host)
        if name is None:
            name = self._names[host] = _Name(host)
            self._unheard.add(host)
            self._heard.clear()
            self._ask(name)
        name.listeners.append(listener)
        if name.found:
            listener(name.found)

    async def first(self, within_s: float) -> None:
        """Return once every name was looked up once, well or not, or after `within_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._heard.wait()

    def doubt(self, host: str) -> None:
        """An address of `host` was not reached: look it up soon instead of when it is due."""
        if (name := self._names.get(host)) is not None:
            name.due_s = min(name.due_s, name.asked_at_s + AGAIN_S)

    def turn(self, now_s: float) -> None:
        """Begin the lookups that are due on the loop's clock."""
        for name in self._names.values():
            if now_s >= name.due_s and self._may_ask(name, now_s):
                self._ask(name)

    def _may_ask(self, name: _Name, now_s: float) -> bool:
        return not name.running or (name.running < MOST_LOOKUPS and now_s - name.asked_at_s >= PATIENCE_S)

    def _ask(self, name: _Name) -> None:
        name.running += 1
        name.asked += 1
        name.asked_at_s = self._loop.time()
        threading.Thread(target=self._work, args=(name, name.asked), name=f"lookup {name.host}", daemon=True).start()

    def _work(self, name: _Name, number: int) -> None:
        """Run in a thread of its own."""
        try:
            found, why = self._lookup(name.host), "no address"
        except (OSError, ValueError) as error:  # ValueError: a host name that cannot be one
            found, why = (), str(error)
        with suppress(RuntimeError):  # the loop is closed: nobody asks any more
            self._loop.call_soon_threadsafe(self._take, name, number, found, why)

    def _take(self, name: _Name, number: int, found: Addresses, why: str) -> None:
        name.running -= 1
        if number < name.taken:
            return
        name.taken = number
        name.due_s = self._loop.time() + (self._refresh_s if found else min(AGAIN_S, self._refresh_s))
        self.lookups["ok" if found else "failed"] += 1
        self._note(name, found, why)
        if found and found != name.found:
            name.found = found
            for listener in name.listeners:
                listener(found)
        self._unheard.discard(name.host)
        if not self._unheard:
            self._heard.set()

    def _note(self, name: _Name, found: Addresses, why: str) -> None:
        if self._changes.changed(name.host, bool(found)):
            if found:
                self._log.info("found", host=name.host, addresses=", ".join(found))
            else:
                kept = ", ".join(name.found) or "none"
                self._log.warning("not found: going on by its last addresses", host=name.host, last=kept, error=why)
        elif found and sorted(found) != sorted(name.found):
            self._log.info("has other addresses", host=name.host, addresses=", ".join(found))
