"""A cluster: each key has a slot, each slot an owner, and a command goes to its key's owner.

The keys of a Route share a slot (`keys`), so a script never meets two servers. Which slots are whose is asked of any
node, at first and whenever a node fails or says that a slot has moved. MOVED and ASK say that a command was *not*
carried out, so following them repeats nothing.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, RedisError

from router.core.errors import StoreUnavailableError
from router.store.connections import REDIRECTS, Command, Connections, in_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from router.store.addresses import StoreAddress
    from router.store.connections import Line

HOPS = 4
"""How often a command is sent on. Chosen: one MOVED and one ASK, and both again when a slot comes back."""

Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Slots:
    """Who owns which slots: `owners[i]` those from `starts[i]` to `ends[i]`; `starts` ascend."""

    starts: Sequence[int]
    ends: Sequence[int]
    owners: Sequence[Place]

    @classmethod
    def read(cls, reply: Sequence[Sequence[Any]], host: str) -> "Slots":
        """Return what CLUSTER SLOTS replied; a node without a name is at `host`, which was asked. Raises ValueError."""
        rows = sorted((int(start), int(end), _place(node, host)) for start, end, node, *_ in reply)
        if not rows:
            raise ValueError("no slot has an owner")
        return cls(*(tuple(column) for column in zip(*rows, strict=True)))

    def owner(self, slot: int) -> Place | None:
        """Return where a slot lives, None where nobody has it."""
        at = bisect_right(self.starts, slot) - 1
        return self.owners[at] if at >= 0 and slot <= self.ends[at] else None


class ClusterConnections:
    """Connections to every node that owns a key that is asked for. As `Connections`, with one deadline over all."""

    def __init__(self, address: "StoreAddress", *, timeout_s: float, connect_s: float, size: int) -> None:
        self._address = address
        self._timeout_s, self._connect_s, self._size = timeout_s, connect_s, size
        self._nodes: dict[Place, Connections] = {}
        self._seeds = [(seed.options["host"], seed.options["port"]) for seed in address.seeds]
        self._slots: Slots | None = None
        self._moved: dict[int, Place] = {}
        self._reading = asyncio.Lock()
        self._closed = False
        self._turn = 0
        self.where = address.where

    def __repr__(self) -> str:
        return f"<ClusterConnections at {self.where}: {list(self._nodes.values())}>"

    async def ask(self, *command: str | bytes | float) -> Any:  # noqa: ANN401 - what a server replies
        """Return the reply to one command."""
        return (await self.ask_all([command]))[0]

    async def ask_all(self, commands: Sequence[Command]) -> list[Any]:
        """Return the replies to `commands`, each sent to its key's owner; StoreUnavailableError if any of them fails.

        A command is sent on only by a node that has not carried it out, at most HOPS times, all within one deadline.
        """
        within_s = self._connect_s + self._timeout_s
        async with in_time(within_s, f"store {self.where}: no answer within {within_s:g} s"):
            replies: list[Any] = [None] * len(commands)
            sent_on: Mapping[int, tuple[Place, bool]] = {}
            left: Iterable[int] = range(len(commands))
            for _ in range(HOPS):
                await self._send(commands, left, sent_on, replies)
                left = [number for number, reply in enumerate(replies) if isinstance(reply, REDIRECTS)]
                if not left:
                    return replies
                sent_on = {number: hop for number in left if (hop := self._follow(replies[number])) is not None}
            told = replies[next(iter(left))]
            raise StoreUnavailableError(
                f"store {self.where}: a slot is on the move, {told} was not the last word"
            ) from told

    @asynccontextmanager
    async def opened(self) -> "AsyncIterator[Line]":
        """Lend a new line to some node, closed at the end: a message reaches all nodes. After a failure, to another."""
        await self._owners()
        places = sorted({*(self._slots.owners if self._slots else ()), *self._nodes})
        try:
            async with self._node(places[self._turn % len(places)]).opened() as line:
                yield line
        except StoreUnavailableError:
            self._turn += 1
            raise

    async def close(self) -> None:
        """Close the idle connections now, and those in use when their call ends."""
        self._closed = True
        for node in self._nodes.values():
            await node.close()

    async def _send(
        self,
        commands: Sequence[Command],
        numbers: Iterable[int],
        sent_on: Mapping[int, tuple[Place, bool]],
        replies: list[Any],
    ) -> None:
        """Send the commands of these numbers to their owners, or where they were sent on, and note the replies."""
        slots = await self._owners()
        groups: dict[Place, list[tuple[int | None, Command]]] = {}
        for number in numbers:
            place, asking = sent_on.get(number) or (self._place_of(commands[number], slots), False)
            group = groups.setdefault(place, [])
            if asking:
                group.append((None, ("ASKING",)))
            group.append((number, commands[number]))
        sent = [self._node(place).try_all([command for _, command in group]) for place, group in groups.items()]
        ended = await asyncio.gather(*sent, return_exceptions=True)
        for group, end in zip(groups.values(), ended, strict=True):
            if isinstance(end, BaseException):
                self._slots = None  # it may have been replaced: whoever asks next asks for the slots first
                raise end
            for (index, _), reply in zip(group, end, strict=True):
                if index is not None:
                    replies[index] = reply

    def _follow(self, redirect: RedisError) -> tuple[Place, bool] | None:
        """Return where a command is to be sent on, and whether with ASKING; None: to its owner once more."""
        if not isinstance(redirect, AskError):
            return None  # TRYAGAIN
        place = (redirect.host or self._seeds[0][0], redirect.port)
        if not isinstance(redirect, MovedError):
            return place, True
        self._moved[redirect.slot_id] = place
        self._slots = None
        return place, False

    def _place_of(self, command: Command, slots: Slots) -> Place:
        slot = _slot_of(command)
        place = slots.owners[0] if slot is None else self._moved.get(slot) or slots.owner(slot)
        if place is None:
            raise StoreUnavailableError(f"store {self.where}: slot {slot} has no server: look at CLUSTER INFO")
        return place

    def _node(self, place: Place) -> Connections:
        if self._closed:
            raise StoreUnavailableError(f"store {self.where}: this client is closed, make a new one")
        if place not in self._nodes:
            self._nodes[place] = Connections(
                self._address.server.at(*place),
                timeout_s=self._timeout_s, connect_s=self._connect_s, size=self._size,
            )  # fmt: skip
        return self._nodes[place]

    async def _owners(self) -> Slots:
        """Return who owns which slots, asking for them first if that is not known; raises StoreUnavailableError."""
        async with self._reading:
            if self._slots is None:
                self._slots = await self._read_slots()
                self._moved.clear()
                for place in self._nodes.keys() - {*self._slots.owners}:
                    await self._nodes.pop(place).close()
            return self._slots

    async def _read_slots(self) -> Slots:
        """Ask one node, another one after each failure: whoever failed last may be the one that is gone."""
        places = list(dict.fromkeys([*self._nodes, *self._seeds]))
        host, port = place = places[self._turn % len(places)]
        try:
            return Slots.read(await self._node(place).ask("CLUSTER", "SLOTS"), host)
        except StoreUnavailableError:
            self._turn += 1
            raise
        except (ValueError, TypeError, AttributeError) as error:
            self._turn += 1
            raise StoreUnavailableError(
                f"store {self.where}: {host}:{port} is no node of a whole cluster: {error}"
            ) from error


def _place(node: Sequence[Any], host: str) -> Place:
    name = node[0].decode() if node[0] else ""
    return (host if name in ("", "?") else name, int(node[1]))


def _slot_of(command: Command) -> int | None:
    """Return the slot of a command's first key, None for one without keys."""
    if len(command) < 2:
        return None
    key = command[3] if command[0] == "EVAL" else command[1]
    return key_slot(key if isinstance(key, bytes) else str(key).encode())
