"""Keeps one slot filled: starts its process, replaces it when it dies, and remembers what it had counted."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import cast

from router.core.errors import TurnoutError
from router.gateway.channel import (
    Drain,
    Failed,
    Metrics,
    MetricsRequest,
    Modules,
    ModulesRequest,
    Ready,
    ReloadAsked,
    Settings,
    Spans,
)
from router.gateway.endpoints import LeftOut
from router.supervisor.child import Child, how_it_ended
from router.supervisor.restarts import Restarts
from router.telemetry import logs, metrics
from router.telemetry.tracing import Span

FIRST_STARTS = 5
"""How often a slot is tried before the whole start is given up. Chosen: 1.5 s of waiting in all."""

LAST_WORD_S = 0.5
"""How long a process may take to say what its successor should know. Chosen, as for a scrape."""

KILL_AFTER_S = 1.0
"""How long after its deadline a draining process is left alone. Chosen."""


class StartError(TurnoutError):
    """A process cannot be started. `lasting`: the settings are at fault, another try would fail as well."""

    def __init__(self, sentence: str, *, lasting: bool) -> None:
        super().__init__(sentence)
        self.lasting = lasting


class Keeper:
    """One slot. `run` is its life; all other methods may be called while it runs."""

    def __init__(  # noqa: PLR0913 - all that it depends on
        self,
        name: str,
        command: Sequence[str],
        listener: socket.socket | None,
        settings: Callable[[], Awaitable[Settings]],
        on_reload: Callable[[], None] | None = None,
        *,
        on_spans: Callable[[Iterable[Span]], None] | None = None,
    ) -> None:
        self.name = name
        self._on_spans = on_spans
        self._on_reload = on_reload
        self._command = tuple(command)
        self._listener = listener
        self._settings = settings
        self._restarts = Restarts()
        self._log = logs.get("supervisor")
        self._throttled = logs.ThrottledLog(self._log)
        self._child: Child | None = None
        self._ready_at_s: float | None = None
        self._heard_at_s = 0.0
        self._failure: Failed | None = None
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._first_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._first_ready.add_done_callback(asyncio.Future.exception)  # heard even if nobody waits for it
        self._last: metrics.Snapshot = {}
        self._left_out: tuple[LeftOut, ...] = ()
        self._of_the_dead: metrics.Snapshot = {}
        self._asked: asyncio.Future[None] | None = None
        self._modules: asyncio.Future[tuple[str, ...]] | None = None

    def __repr__(self) -> str:
        return f"<Keeper {self.name} {'ready' if self.is_ready else 'not ready'} {self._child}>"

    @property
    def is_ready(self) -> bool:
        """Whether the slot's process answers requests."""
        return self._ready_at_s is not None

    @property
    def pid(self) -> int | None:
        """Process id of the one in the slot now."""
        return self._child.pid if self._child else None

    @property
    def silent_s(self) -> float:
        """Seconds since the process in the slot last said something; 0 while it is starting."""
        return _now_s() - self._heard_at_s if self.is_ready else 0.0

    async def run(self) -> None:
        """Fill the slot until `stop`; the first start gives up after a few tries (`wait_ready` raises)."""
        starts = 0
        try:
            while not self._stopping.is_set():
                starts += 1
                status, ready_for_s = await self._live()
                if self._stopping.is_set() or self._gives_up(starts, status):
                    return
                delay_s = self._restarts.delay_s(ready_for_s)
                self._log.warning(
                    "process ended, starting another", slot=self.name, status=status, delay_s=delay_s,
                    reason=self._failure.reason if self._failure else "",
                )  # fmt: skip
                await self._pause(delay_s)
        finally:
            self._ended.set()

    async def wait_ready(self) -> None:
        """Return when the slot was filled for the first time. Raises StartError when it cannot be."""
        await asyncio.shield(self._first_ready)

    async def stop(self, deadline_s: float) -> None:
        """End the process. What is in flight has `deadline_s`; with 0, or before it is ready, it ends at once."""
        self._stopping.set()
        if self._child is None:
            await self._ended.wait()
            return
        if deadline_s > 0 and self.is_ready:
            self._child.channel.send(Drain(deadline_s))
        else:
            self._child.kill()
        try:
            await asyncio.wait_for(self._ended.wait(), deadline_s + KILL_AFTER_S)
        except TimeoutError:
            self._log.warning("process did not end in time, killed", slot=self.name, deadline_s=deadline_s)
            self.abandon()
            await self._ended.wait()

    def abandon(self) -> None:
        """End the process at once and for good."""
        self._stopping.set()
        if self._child is not None:
            self._child.kill()

    async def refresh(self, timeout_s: float) -> None:
        """Ask the process for its metrics; return when they came, it died, or the time is over."""
        if self._child is None or not self.is_ready:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._ask(self._child)

    def counted(self) -> metrics.Snapshot:
        """Return what this slot's processes have counted, dead ones too, so that no sum goes backwards."""
        return metrics.merge([self._of_the_dead, self._last])

    async def successor(self) -> "Keeper":
        """Return another keeper of the same slot and socket; its process gets the settings of the moment it starts.

        And it leaves out the backends that the present process leaves out, as that says now or has said last.
        """
        await self.refresh(LAST_WORD_S)
        fresh = Keeper(
            self.name, self._command, self._listener, self._settings, self._on_reload, on_spans=self._on_spans
        )
        fresh._left_out = self._left_out
        return fresh

    def inherit(self, other: "Keeper") -> None:
        """Count on from what the processes of `other`, which has ended, had counted."""
        self._of_the_dead = metrics.merge([self._of_the_dead, other.counted()])

    async def modules(self) -> tuple[str, ...]:
        """Return the names of all modules loaded in the process. Raises StartError when none is running."""
        if self._child is None or not self.is_ready:
            raise StartError(f"{self.name} is not running", lasting=False)
        self._modules = asyncio.get_running_loop().create_future()
        self._child.channel.send(ModulesRequest())
        return await self._modules

    async def _ask(self, child: Child) -> None:
        """Ask one question at a time, so that a process that hangs is not buried under them."""
        while self._asked is not None:
            await asyncio.shield(self._asked)
        if child is self._child:
            self._asked = asyncio.get_running_loop().create_future()
            child.channel.send(MetricsRequest())
            await asyncio.shield(self._asked)

    async def _live(self) -> tuple[str, float]:
        """Start one process and stay with it to its end; return how it ended and for how long it was ready."""
        self._failure = None
        try:
            child = await Child.spawn(self._command, self._listener)
        except OSError as error:
            return f"not started: {error}", 0.0
        self._child = child
        if self._stopping.is_set():
            child.kill()
        greeting = asyncio.create_task(self._greet(child))
        try:
            await self._listen(child)
        finally:
            greeting.cancel()
            ready_for_s = 0.0 if self._ready_at_s is None else _now_s() - self._ready_at_s
            self._bury()
            status = await child.reap()
            self._child = None
        return how_it_ended(status), ready_for_s

    async def _greet(self, child: Child) -> None:
        child.channel.send(replace(await self._settings(), left_out=self._left_out))

    async def _listen(self, child: Child) -> None:
        while (message := await child.channel.receive()) is not None:
            self._heard_at_s = _now_s()
            match message:
                case Ready():
                    self._ready_at_s = _now_s()
                    if not self._first_ready.done():
                        self._first_ready.set_result(None)
                case Metrics():
                    self._remember(cast("metrics.Snapshot", message.snapshot))
                    self._left_out = message.left_out
                    self._answered()
                case Spans() if self._on_spans is not None:
                    self._on_spans(message.spans)
                case Modules():
                    if self._modules and not self._modules.done():
                        self._modules.set_result(message.names)
                case Failed():
                    self._failure = message
                case ReloadAsked() if self._on_reload is not None:
                    self._on_reload()
                case _:
                    self._log.error("unexpected message", slot=self.name, message=type(message).__name__)

    def _remember(self, snapshot: metrics.Snapshot) -> None:
        try:
            self._last = metrics.merge([snapshot])
        except ValueError as error:
            self._throttled.error("metrics", "metrics refused", slot=self.name, exc_info=error)

    def _answered(self) -> None:
        asked, self._asked = self._asked, None
        if asked:
            asked.set_result(None)

    def _bury(self) -> None:
        """Keep the dead process's counters, and let go whoever waits for its answers."""
        self._of_the_dead = metrics.merge([self._of_the_dead, metrics.lasting(self._last)])
        self._last = {}
        self._ready_at_s = None
        self._answered()
        if self._modules and not self._modules.done():
            self._modules.set_exception(StartError(f"{self.name} died", lasting=False))

    def _gives_up(self, starts: int, status: str) -> bool:
        """Whether the first start has failed for good; later deaths are always followed by another start."""
        if self._first_ready.done():
            return False
        lasting = self._failure is not None and self._failure.lasting
        if not lasting and starts < FIRST_STARTS:
            return False
        why = self._failure.reason if self._failure else f"{status} before it was ready, {starts} times"
        self._first_ready.set_exception(StartError(f"{self.name} cannot start: {why}", lasting=lasting))
        return True

    async def _pause(self, delay_s: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), delay_s)
        except TimeoutError:
            return


def _now_s() -> float:
    return asyncio.get_running_loop().time()
