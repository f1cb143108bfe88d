"""Following the store: which state each Route is in, told by notices and checked by a poll each second.

Routing never waits for this. When the store is silent, the last states stay; a state is only ever replaced by a newer
one. A store that has lost states is given back what this worker routes by (`router.core.recovery`).
"""

import asyncio
import fcntl
import hashlib
import os
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from router.core.errors import StoreUnavailableError, TurnoutError
from router.core.recovery import restore, resumes
from router.store.addresses import shown
from router.store.codec import decode_state, encode_state
from router.store.lost_states import give_back, read_readable
from router.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from router.core.config import StoreConfig
    from router.core.ports import StateStore
    from router.core.rollout import RolloutState

POLL_S = 1.0


@contextmanager
def locked(directory: Path) -> "Iterator[None]":
    """Be alone with a directory that workers share, which is made if it is not there. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_whole(path: Path, raw: bytes) -> None:
    """Replace a file, complete or not at all (fsync, rename). Raises OSError."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".new")
    with os.fdopen(descriptor, "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    Path(name).replace(path)


def states_directory(store: "StoreConfig") -> Path:
    """Return where the last good states are saved: the states of one store must never be given to another.

    Named after the store's address, without credentials and options; the embedded store is the directory's own.
    """
    if store.url is None:
        return Path(store.directory) / "states"
    name = hashlib.blake2b(shown(store.url).encode(), digest_size=4).hexdigest()
    return Path(store.directory) / f"states-{name}"


class OnStore(Protocol):
    """Is told after each poll whether the store answered."""

    def __call__(self, *, up: bool) -> None:
        """Take note."""


class Snapshots:
    """The last good state of each Route on local disk, so that a gateway can start without the store."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, route: str) -> "RolloutState | None":
        """Return what was saved last, or None when there is nothing readable."""
        with suppress(OSError, TurnoutError):
            return decode_state(self._file(route).read_bytes())
        return None

    def save(self, state: "RolloutState") -> None:
        """Replace what is saved by a newer revision, complete or not at all (fsync, rename). Raises OSError."""
        with locked(self._directory):  # without it an older state could be renamed over a newer one
            saved = self.load(state.route)
            if saved is None or saved.revision < state.revision:
                write_whole(self._file(state.route), encode_state(state))

    def _file(self, route: str) -> Path:
        return self._directory / f"{route}.state.json"


class Follower:
    """Keeps the worker's states as new as the store's, and the other way round. `adopt` is called for each newer state.

    `now_s` is the wall clock.
    """

    def __init__(
        self,
        store: "StateStore",
        routes: "Sequence[str]",
        adopt: "Callable[[RolloutState], None]",
        on_store: OnStore,
        now_s: "Callable[[], float]",
    ) -> None:
        self._store = store
        self._routes = routes
        self._adopt = adopt
        self._on_store = on_store
        self._now_s = now_s
        self._newest: dict[str, RolloutState] = {}
        self._log = logs.get("gateway")
        self._changes = logs.Changes()

    def take(self, states: "Iterable[RolloutState]") -> None:
        """Adopt those states that are newer than what is known: a higher revision, and never a lower epoch.

        A rollout that was rolled back is never resumed, whatever its numbers.
        """
        for state in states:
            known = self._newest.get(state.route)
            if known is None or (state.revision > known.revision and state.epoch >= known.epoch):
                if known is not None and resumes(known, state):
                    continue
                self._newest[state.route] = state
                self._adopt(state)

    async def refresh(self, *, whole: bool = False) -> None:
        """Read what has changed, or with `whole` everything, and give back what was lost. StoreUnavailableError."""
        changed = self._routes
        if not whole:
            revisions = await self._store.revisions(self._routes)
            changed = [name for name in self._routes if revisions.get(name, 0) != self._revision(name)]
        if not changed:
            return
        stored, why = await read_readable(self._store, changed)
        self._tell(changed, why)
        self.take(stored.values())
        for route in changed:
            if route in self._newest and route not in why:
                await self._give_back(self._newest[route], stored.get(route))

    async def run(self) -> None:
        """Follow until cancelled: the poll goes on whatever happens to the notices."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll())
            group.create_task(self._listen())

    def _revision(self, route: str) -> int:
        known = self._newest.get(route)
        return known.revision if known is not None else 0

    def _tell(self, routes: "Iterable[str]", why: "Mapping[str, str]") -> None:
        for route in routes:
            if self._changes.changed(route, why.get(route)) and route in why:
                self._log.error("unreadable state", route=route, why=why[route])

    async def _give_back(self, known: "RolloutState", stored: "RolloutState | None") -> None:
        """Write what the store has lost; whoever else writes first is heard of by the next look."""
        lost = restore(known, stored, self._now_s())
        if lost is not None and await give_back(self._store, lost, self._log):
            self.take([lost.state])

    async def _poll(self) -> None:
        while True:
            try:
                await self.refresh()
                self._on_store(up=True)
            except StoreUnavailableError:
                self._on_store(up=False)
            await asyncio.sleep(POLL_S)

    async def _listen(self) -> None:
        """Read on each notice; and everything once the line stands, for what happened before is not told on it."""
        while True:
            try:
                fresh = True
                async for notice in self._store.notices():
                    if fresh or notice.route in self._routes:
                        await self.refresh(whole=fresh)
                        self._on_store(up=True)
                    fresh = False
            except StoreUnavailableError:
                await asyncio.sleep(POLL_S / 4)
