"""A fleet of real processes on one real store: several `turnout control` and `turnout gateway`, each its own machine.

Each has a directory of its own, as on a machine of its own; a process can be given a wall clock that is off and jumps
(Debian's faketime), or be stopped for a while.
"""

import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from router.store.embedded import EmbeddedValkey
from router.store.redis import RedisStore
from tests.e2e.harness import Admin, Turnout, Turnouts
from tests.e2e.load import eventually
from tests.e2e.wire import fetch, request
from tests.patience import patient_store

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
"""Debian's libfaketime, where it is installed."""


class Clock:
    """The wall clock of one process: so many seconds off, from now on until the next `set`."""

    def __init__(self, file: Path, off_s: float) -> None:
        self._file = file
        self.set(off_s)

    def set(self, off_s: float) -> None:
        """Let the clock jump to `off_s` seconds beside the truth, at once."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{off_s:+.0f}s\n")
        new.replace(self._file)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to live by this clock; its monotonic clock stays the kernel's."""
        return {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@dataclass(frozen=True)
class Member:
    """One `turnout control` or `turnout gateway`."""

    turnout: Turnout
    clock: Clock | None = None

    @property
    def admin(self) -> Admin:
        """The admin API of a control process, on a connection of its own."""
        return Admin(self.turnout.port("admin"))

    async def epoch(self) -> int | None:
        """Return the epoch of a control process, None while another one decides."""
        answer = await fetch(self.turnout.port("admin"), request("GET", "/readyz"))
        epoch = answer.json().get("epoch")
        return None if epoch is None else int(epoch)


class Fleet:
    """Starts members on one store. Made by the fixture `fleet`, which ends them all."""

    def __init__(self, turnouts: Turnouts, store: EmbeddedValkey, directory: Path) -> None:
        self._turnouts = turnouts
        self._directory = directory
        self._started = 0
        self.url = store.url

    def open_store(self) -> RedisStore:
        """Return a client of the store; whoever asks closes it."""
        return patient_store(self.url)

    async def start(self, command: str, config: Mapping[str, Any], off_s: float | None = None) -> Member:
        """Start one member with a directory of its own and, if `off_s` is given, a wall clock that is so far off."""
        self._started += 1
        where = self._directory / f"{command}-{self._started}"
        where.mkdir()
        file = where / "turnout.yaml"
        file.write_text(yaml.safe_dump({**config, "store": {"url": self.url}}))
        clock = None if off_s is None else Clock(where / "clock", off_s)
        environment = clock.environment if clock else {}
        member = Member(self._turnouts.launch(command, "--config", str(file), directory=where, **environment), clock)
        await member.turnout.until_ready()
        return member


@asynccontextmanager
async def stopped(pid: int) -> AsyncIterator[None]:
    """Keep a process from running for the duration of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def until_one_decides(*members: Member, within_s: float = 15.0) -> int:
    """Return the epoch under which one of these control processes decides, once one does."""
    epochs: list[int] = []

    async def decides() -> bool:
        found = [await member.epoch() for member in members]
        epochs.extend(epoch for epoch in found if epoch is not None)
        return bool(epochs)

    await eventually(decides, within_s)
    return epochs[0]
