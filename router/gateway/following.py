"""Following the store: which state each Route is in, told by notices and checked by a poll each second.

Routing never waits for this. When the store is silent, the last states stay; a state is only ever replaced by a newer
one.
"""

import asyncio
import fcntl
import os
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from router.core.errors import StoreUnavailableError, TurnoutError
from router.store.codec import decode_state, encode_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

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
    """Keeps the worker's states as new as the store's. `adopt` is called for each newer state."""

    def __init__(
        self,
        store: "StateStore",
        routes: "Sequence[str]",
        adopt: "Callable[[RolloutState], None]",
        on_store: OnStore,
    ) -> None:
        self._store = store
        self._routes = routes
        self._adopt = adopt
        self._on_store = on_store
        self._newest: dict[str, tuple[int, int]] = {}

    def take(self, states: "Iterable[RolloutState]") -> None:
        """Adopt those states that are newer than what is known: a higher revision, and never a lower epoch."""
        for state in states:
            epoch, revision = self._newest.get(state.route, (0, 0))
            if state.revision > revision and state.epoch >= epoch:
                self._newest[state.route] = (state.epoch, state.revision)
                self._adopt(state)

    async def refresh(self) -> None:
        """Read what has changed. Raises StoreUnavailableError."""
        revisions = await self._store.revisions(self._routes)
        stale = [name for name, revision in revisions.items() if revision > self._newest.get(name, (0, 0))[1]]
        if stale:
            self.take((await self._store.read_states(stale)).values())

    async def run(self) -> None:
        """Follow until cancelled: the poll goes on whatever happens to the notices."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll())
            group.create_task(self._listen())

    async def _poll(self) -> None:
        while True:
            try:
                await self.refresh()
                self._on_store(up=True)
            except StoreUnavailableError:
                self._on_store(up=False)
            await asyncio.sleep(POLL_S)

    async def _listen(self) -> None:
        while True:
            try:
                async for notice in self._store.notices():
                    if notice.route in self._routes:
                        await self.refresh()
            except StoreUnavailableError:
                await asyncio.sleep(POLL_S / 4)
