"""What becomes of a tripped breaker beyond its worker: it is kept on disk, and proposed to the fleet.

A worker protects itself at once and alone (`router.gateway.table`). Here, in tasks beside the request path, the trip is
written down so that a restarted worker stays tripped, and the fleet's halt is decided by the same guard, transition
table and compare-and-set as every other decision. While the store is away both wait for it; the worker does not.
"""

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import orjson

from router.core.decisions import Actor, ActorKind, Decision, Judgement, Pause, RollBack, SetExposure
from router.core.errors import StaleEpochError, StoreUnavailableError
from router.core.moves import make_move
from router.core.rollout import Phase
from router.gateway.breaker import Trip
from router.gateway.following import locked, write_whole
from router.store.fields import Fields, UnreadableRecordError
from router.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from router.core.ports import StateStore
    from router.core.rollout import RolloutState

VERSION = 1
RETRY_S = 0.25
"""Between tries while the store is away."""


def proposals_of(trip: Trip, state: "RolloutState", actor: Actor) -> "Sequence[Decision]":
    """Return what a trip asks of the fleet in `state`, by `breaker.fleet`; nothing if that has been decided."""
    if state.spec is None or not state.exposure.weight_bp or trip.settled_by(state):
        return ()
    match state.spec.breaker.fleet:
        case "local":
            return ()
        case "abort":
            return (RollBack(reason=trip.reason, actor=actor),)
        case _:
            halt: list[Decision] = [SetExposure(reason=trip.reason, actor=actor, weight_bp=0)]
            if state.phase is Phase.PROGRESSING:
                halt.append(Pause(reason=trip.reason, actor=actor))
            return halt


class TripFiles:
    """The open trip of each Route on local disk, beside the last good states; workers of one machine share it."""

    def __init__(self, directory: "Path") -> None:
        self._directory = directory

    def load(self, route: str) -> Trip | None:
        """Return the trip that was kept, or None when there is nothing readable."""
        with suppress(OSError, UnreadableRecordError):
            record = Fields.parse(self._file(route).read_bytes(), "trip", VERSION)
            return Trip(route, record.text("rollout"), record.whole("exposure"), record.text("reason"))
        return None

    def keep(self, trip: Trip) -> None:
        """Write it, complete or not at all. Raises OSError."""
        with locked(self._directory):
            write_whole(self._file(trip.route), orjson.dumps({"v": VERSION, **asdict(trip)}))

    def forget(self, trip: Trip) -> None:
        """Remove it, unless another worker has written its own meanwhile. Raises OSError."""
        with locked(self._directory):
            if self.load(trip.route) == trip:
                self._file(trip.route).unlink()

    def _file(self, route: str) -> "Path":
        return self._directory / f"{route}.trip.json"


class Trips:
    """The open trips of one worker. `open` and `settle` are for the request path and never wait; `run` does the work.

    `take` is told the states that this worker has written, so that it need not wait for the notice of them; `decided`
    counts those decisions by kind.
    """

    def __init__(
        self, store: "StateStore", files: TripFiles, *, boot: str,
        now_s: "Callable[[], float]", take: "Callable[[Iterable[RolloutState]], None]",
    ) -> None:  # fmt: skip
        self.decided: Counter[str] = Counter()
        self._store = store
        self._files = files
        self._boot = boot
        self._actor = Actor(ActorKind.BREAKER, boot)
        self._now_s = now_s
        self._take = take
        self._open: dict[str, Trip] = {}
        self._unproposed: dict[str, Trip] = {}
        self._unwritten: dict[str, tuple[Trip, bool]] = {}
        """What is to be done on disk: the trip, and whether it is open."""
        self._wake_proposer = asyncio.Event()
        self._wake_writer = asyncio.Event()
        self._log = logs.get("breaker")

    def __repr__(self) -> str:
        return f"<Trips of {self._boot}: {len(self._open)} open, {len(self._unproposed)} to propose>"

    def restore(self, routes: "Iterable[str]") -> "Iterable[Trip]":
        """Return the trips that were open when a worker of this machine ended, to be proposed again."""
        kept = [trip for trip in map(self._files.load, routes) if trip is not None]
        for trip in kept:
            self._open[trip.route] = self._unproposed[trip.route] = trip
        self._wake_proposer.set()
        return kept

    def open(self, trip: Trip) -> None:
        """Keep a fresh trip, and propose it."""
        named = replace(trip, reason=f"breaker of {self._boot}: {trip.reason}")
        self._open[trip.route] = self._unproposed[trip.route] = named
        self._unwritten[trip.route] = named, True
        self._wake_proposer.set()
        self._wake_writer.set()

    def settle(self, route: str) -> None:
        """The fleet's state knows of the trip, if there was one."""
        trip = self._open.pop(route, None)
        if trip is not None:
            self._unproposed.pop(route, None)
            self._unwritten[route] = trip, False
            self._wake_writer.set()

    async def run(self) -> None:
        """Keep and propose until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write_forever())
            group.create_task(self._propose_forever())

    async def _write_forever(self) -> None:
        while True:
            await self._wake_writer.wait()
            self._wake_writer.clear()
            while self._unwritten:
                route = next(iter(self._unwritten))
                trip, is_open = self._unwritten.pop(route)
                if is_open:
                    self._log.warning("tripped", route=route, rollout=trip.rollout, reason=trip.reason)
                try:
                    await asyncio.to_thread(self._files.keep if is_open else self._files.forget, trip)
                except OSError as error:
                    self._log.error("trip not saved to disk: a restart would not know it", error=str(error))

    async def _propose_forever(self) -> None:
        while True:
            await self._wake_proposer.wait()
            self._wake_proposer.clear()
            while self._unproposed:
                away = False
                for trip in tuple(self._unproposed.values()):
                    try:
                        if await self._propose(trip) and self._unproposed.get(trip.route) is trip:
                            del self._unproposed[trip.route]
                    except StoreUnavailableError:
                        away = True
                if away:
                    await asyncio.sleep(RETRY_S)

    async def _propose(self, trip: Trip) -> bool:
        """Have the fleet's state follow the trip; False when somebody else was first and it has to be read again."""
        state = (await self._store.read_states((trip.route,))).get(trip.route)
        if state is None:
            raise StoreUnavailableError("the store has lost this Route's state, and is given it back")
        proposals = proposals_of(trip, state, self._actor)
        if not proposals:
            return True
        move = make_move(state, proposals, Judgement(), self._now_s())
        try:
            written = await self._store.compare_and_set(move.state, state.revision, move.record)
        except StaleEpochError:
            return False  # a new lease holder wrote its epoch in between; nothing else changed
        if written:
            self.decided[move.decision.kind] += 1
            self._take((move.state,))
        return written
