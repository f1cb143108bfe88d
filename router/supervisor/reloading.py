"""Reload: new settings for all processes under one parent, without losing a connection.

Each slot gets a second process with the new settings on the same listening socket; once that one answers, the first
finishes what it has and ends. So the settings of a process stay frozen for its whole life, and a process that cannot
live by the new ones leaves the old one where it was.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from router.core.config import TracingConfig, TurnoutConfig
from router.core.errors import ConfigError, PluginError
from router.supervisor.keeper import Keeper, StartError
from router.telemetry import logs

READY_S = 30.0
"""How long a successor may take to answer. Chosen, as a whole start's."""

Read = Callable[[], TurnoutConfig]
"""Reads the file again. Raises ConfigError, PluginError."""


class Install(Protocol):
    """Puts a keeper in another one's place."""

    def __call__(self, old: Keeper, new: Keeper, life: "asyncio.Task[None]") -> None:
        """From now on the slot is `new`'s, whose run is `life`; that of `old` may end."""


def refusal_of(old: TurnoutConfig, new: TurnoutConfig) -> str | None:
    """Say what of `new` only a restart can bring, None when a reload can bring all of it."""
    found = [
        name
        for name, before, after in (
            ("gateway.host or gateway.port", old.gateway.listen, new.gateway.listen),
            ("gateway.tls (whether it is set)", old.gateway.tls is None, new.gateway.tls is None),
            ("gateway.workers", old.gateway.workers, new.gateway.workers),
            ("ops", old.ops, new.ops),
            ("admin", old.admin, new.admin),
            ("store", old.store, new.store),
            ("tracing, all but sample,", _exported(old), _exported(new)),
        )
        if before != after
    ]
    return f"{', '.join(found)} changed, which only a restart can do" if found else None


def _exported(config: TurnoutConfig) -> TracingConfig | None:
    """Return what the parent exports spans by; `sample` is the workers' own."""
    return config.tracing and replace(config.tracing, sample_bp=0)


class Reloads:
    """Carries out one reload after another; all that are asked for meanwhile are one more.

    `config` is what new processes live by, `replaced` are the keepers that finish what they have, `running` says that
    successors are being started, which must be able to take over.
    """

    def __init__(self, read: Read | None, config: TurnoutConfig) -> None:
        self.config = config
        self.replaced: list[Keeper] = []
        self.running = False
        self._read = read
        self._asked = asyncio.Event()
        self._log = logs.get("supervisor")
        self._endings: set[asyncio.Task[None]] = set()

    def ask(self) -> None:
        """Read the file again soon."""
        self._asked.set()

    async def run(self, slots: Callable[[], Sequence[Keeper]], install: Install) -> None:
        """Reload whenever it is asked for, until cancelled. A file that is wrong changes nothing but the log."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self._reload(slots(), install)

    async def _reload(self, slots: Sequence[Keeper], install: Install) -> None:
        old = self.config
        try:
            self.config = await asyncio.to_thread(self._read_anew)
            self.running = True
            for keeper in slots:
                await self._replace(keeper, install)
        except (ConfigError, PluginError, StartError, TimeoutError) as error:
            self.config = old
            why = str(error) or f"a successor did not answer within {READY_S:.0f} s"
            self._log.error("reload refused; what ran before goes on as before", why=why)
        else:
            self._log.info("reloaded", digest=self.config.digest)
        finally:
            self.running = False

    def _read_anew(self) -> TurnoutConfig:
        if self._read is None:
            raise ConfigError("the file", None, "a file that can be read again; this Turnout was started without one")
        new = self._read()
        if (refusal := refusal_of(self.config, new)) is not None:
            raise ConfigError("the file", None, refusal)
        return new

    async def _replace(self, keeper: Keeper, install: Install) -> None:
        fresh = await keeper.successor()
        life = asyncio.create_task(fresh.run(), name=fresh.name)
        try:
            async with asyncio.timeout(READY_S):
                await fresh.wait_ready()
        except BaseException:
            fresh.abandon()
            await life
            raise
        install(keeper, fresh, life)
        self.replaced.append(keeper)
        ending = asyncio.create_task(self._end(keeper, fresh))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def _end(self, keeper: Keeper, fresh: Keeper) -> None:
        await keeper.stop(self.config.gateway.drain_deadline_s)
        fresh.inherit(keeper)
        self.replaced.remove(keeper)
