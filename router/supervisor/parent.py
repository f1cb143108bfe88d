"""The life of `turnout serve` and `turnout gateway`: everything up, kept up, and down again in order."""

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from router.core.config import TurnoutConfig
from router.gateway.channel import Settings
from router.supervisor.keeper import Keeper, StartError
from router.supervisor.listeners import open_listeners, url_of
from router.supervisor.processes import Processes
from router.supervisor.reloading import Read, Reloads
from router.supervisor.store_keeper import StoreKeeper, StoreServer
from router.telemetry.otlp import SpanExporter

if TYPE_CHECKING:
    from router.supervisor.http_server import HttpServer

START_S = 30.0
"""How long everything may take to answer. Chosen: 20 times the budget, for a very busy machine."""

CONTROL_S = 3.0
"""How long control may take to let go of its lease and its connections. Chosen."""

METRICS_S = 1.0
"""How often workers are asked for their metrics; what a killed worker counted since the last time is lost."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a parent runs. Commands get the arguments that `Child.spawn` adds.

    `control` None: no control plane here. `store` None: `config.store.url` names one that runs elsewhere.
    """

    config: TurnoutConfig
    worker: Sequence[str]
    control: Sequence[str] | None
    store: StoreServer | None
    new_boot: Callable[[], str]
    read: Read | None = None
    """Reads the configuration again, for a reload; None: there is none, and SIGHUP ends everything."""
    file: str = ""
    """Where it reads."""


class Supervisor:
    """The parent. Build it inside a running loop on the main thread and `run` it once."""

    def __init__(self, plan: Plan, announce: Callable[[str], None]) -> None:
        self._plan = plan
        self._announce = announce
        self.processes = Processes(store=StoreKeeper(plan.store) if plan.store else None)
        tracing = plan.config.tracing
        self.processes.exporter = exporter = SpanExporter(tracing) if tracing else None
        self._on_spans = exporter.put if exporter else None
        self._store_url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._listeners: list[socket.socket] = []
        self._ops: HttpServer | None = None
        self._lives: list[asyncio.Task[None]] = []
        self._stop_asked = asyncio.Event()
        self._hurried = asyncio.Event()
        self._lives_changed = asyncio.Event()
        self._past_lives: set[asyncio.Task[None]] = set()
        self._reloads = Reloads(plan.read, plan.config)
        self.processes.replaced = self._reloads.replaced

    async def run(self) -> None:
        """Start everything, announce each listener and then `ready`, keep it up until a signal ends it.

        The first SIGTERM or SIGINT ends it in order: readiness goes off, `gateway.drain_delay` later no new client is
        accepted, `gateway.drain_deadline` after that what is still in flight is cut. The second ends it at once. SIGHUP
        reloads, but from a terminal, where it says that the terminal is gone, it ends too. Raises ConfigError,
        ListenError, StoreUnavailableError or StartError when it cannot start. In every case nothing is left running.
        """
        self._catch_signals()
        try:
            ops_listener = self._open_listeners()
            start = asyncio.create_task(self._start(ops_listener))
            await self._until_stop(start)
            if not self._stop_asked.is_set():
                self._announce("ready")
                await self._until_stop()
        finally:
            await self._end()
            self._ignore_signals()

    def _open_listeners(self) -> socket.socket:
        """Open every port before anything is started; return the one of ops."""
        config = self._plan.config
        gateways = open_listeners(config.gateway.listen, config.gateway.workers, "gateway")
        self._listeners += gateways
        self.processes.workers = [
            Keeper(
                f"gateway-{slot}",
                self._plan.worker,
                listener,
                self._settings_for(slot),
                self._reloads.ask,
                on_spans=self._on_spans,
            )
            for slot, listener in enumerate(gateways)
        ]
        scheme = "https" if config.gateway.tls else "http"
        lines = [f"gateway    {url_of(gateways[0], scheme)}    send predictions here"]
        if self._plan.control:
            (admin,) = open_listeners(config.admin, 1, "admin")
            self._listeners.append(admin)
            self.processes.control = Keeper(
                "control", self._plan.control, admin, self._settings_for(0), self._reloads.ask
            )
            lines.append(f"admin      {url_of(admin)}    for `turnout get` and the other commands")
        (ops,) = open_listeners(config.ops, 1, "ops")
        self._listeners.append(ops)
        lines.append(f"ops        {url_of(ops)}    /healthz /readyz /metrics")
        for line in lines:
            self._announce(line)
        return ops

    async def _start(self, ops_listener: socket.socket) -> None:
        """Bring everything up: first what answers requests, then what needs the processor to load itself.

        Control and the ops server load for 1 s of CPU together; beside them the workers of a small machine would take
        twice as long. The store server's start blocks for 0.1 s, which the workers' interpreters use to load.
        """
        for keeper in self.processes.workers:
            self._keep(keeper.run(), keeper.name)
        await asyncio.sleep(0)  # lets them be spawned
        self._store_url.set_result(self._start_store())
        await self._wait_ready(self.processes.workers)
        if self.processes.control:
            self._keep(self.processes.control.run(), "control")
            await asyncio.sleep(0)
        await self._start_ops(ops_listener)
        self._keep(self._ask_metrics(), "metrics")
        await self._wait_ready(self.processes.keepers)
        self._keep(self._reloads.run(lambda: self.processes.keepers, self._install), "reloads")

    async def _wait_ready(self, keepers: Sequence[Keeper]) -> None:
        try:
            async with asyncio.timeout(START_S):
                for keeper in keepers:
                    await keeper.wait_ready()
        except TimeoutError:
            late = ", ".join(keeper.name for keeper in keepers if not keeper.is_ready)
            raise StartError(f"{late} did not answer within {START_S:.0f} s", lasting=False) from None

    def _start_store(self) -> str:
        store = self.processes.store
        if store is None:
            return self._plan.config.store.url or ""
        url = store.start()
        self._keep(store.run(), "store")
        return url

    async def _start_ops(self, listener: socket.socket) -> None:
        from router.supervisor.http_server import HttpServer  # noqa: PLC0415 - loads while workers start
        from router.supervisor.ops import ops_app  # noqa: PLC0415 - the same

        self._ops = HttpServer(ops_app(self.processes), listener)
        self._keep(self._ops.run(), "ops")
        await self._ops.wait_started()

    async def _ask_metrics(self) -> None:
        while True:
            await asyncio.sleep(METRICS_S)
            await self.processes.refresh(METRICS_S)

    def _settings_for(self, slot: int) -> Callable[[], Awaitable[Settings]]:
        async def settings() -> Settings:
            url = await asyncio.shield(self._store_url)
            strict = self._reloads.running
            return Settings(self._reloads.config, self._plan.new_boot(), url, slot, self._plan.file, strict)

        return settings

    def _keep(self, life: Coroutine[Any, Any, None], name: str) -> None:
        self._lives.append(asyncio.create_task(life, name=name))

    async def _until_stop(self, start: "asyncio.Task[None] | None" = None) -> None:
        """Return when a signal asks for the end or `start` is done; raise what it or any of our lives raised."""
        asked = asyncio.create_task(self._stop_asked.wait())
        try:
            if start:
                await asyncio.wait([asked, start], return_when=asyncio.FIRST_COMPLETED)
                if start.done():
                    start.result()
                return
            await self._until_asked_or_ended(asked)
            if not asked.done():
                raise StartError(self._what_ended(), lasting=False)
        finally:
            asked.cancel()
            if start and not start.done():
                start.cancel()

    async def _until_asked_or_ended(self, asked: "asyncio.Task[bool]") -> None:
        """Return when `asked` or one of our lives is done; a reload changes which lives those are."""
        while True:
            self._lives_changed.clear()
            changed = asyncio.create_task(self._lives_changed.wait())
            try:
                await asyncio.wait([asked, changed, *self._lives], return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
            if asked.done() or any(life.done() for life in self._lives):
                return

    def _install(self, old: Keeper, new: Keeper, life: "asyncio.Task[None]") -> None:
        """Give a slot to the successor of its keeper, whose own life may end from here on."""
        if old is self.processes.control:
            self.processes.control = new
        else:
            workers = self.processes.workers
            workers[workers.index(old)] = new
        for past in [one for one in self._lives if one.get_name() == old.name]:
            self._lives.remove(past)
            self._past_lives.add(past)
            past.add_done_callback(self._past_lives.discard)
        self._lives.append(life)
        self._lives_changed.set()

    def _what_ended(self) -> str:
        """Say which life ended although nobody asked; that is a bug of ours, so the whole process ends with it."""
        ended = [life for life in self._lives if life.done()]
        return "; ".join(f"{life.get_name()} ended: {life.exception()!r}" for life in ended)

    async def _end(self) -> None:
        """Take everything down: traffic first, the store last."""
        self.processes.stopping = True
        await self._let_balancers_look_elsewhere()
        started = {life.get_name() for life in self._lives}
        workers = [keeper for keeper in self.processes.workers if keeper.name in started]
        leaving = self.processes.replaced
        deadline_s = self._reloads.config.gateway.drain_deadline_s
        draining = asyncio.gather(*(keeper.stop(deadline_s) for keeper in (*workers, *leaving)))
        await asyncio.sleep(0)  # no slot is filled again from here on
        for listener in self._listeners[: len(self.processes.workers)]:
            listener.close()  # new clients are refused once the worker has closed its copy too
        await draining
        if self.processes.exporter:
            await asyncio.to_thread(self.processes.exporter.close)
        if self._ops:
            self._ops.stop()  # takes the moment that control takes too
        if self.processes.control and "control" in started:
            await self.processes.control.stop(CONTROL_S)
        for life in self._lives:
            if life.get_name() != "ops":
                life.cancel()
        await asyncio.gather(*self._lives, return_exceptions=True)
        if self.processes.store:
            self.processes.store.stop()
        for listener in self._listeners:
            listener.close()

    async def _let_balancers_look_elsewhere(self) -> None:
        """Serve on for a while with readiness off if a signal asks for the end: there is traffic to be led away."""
        if self._stop_asked.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurried.wait(), self._reloads.config.gateway.drain_delay_s)
        self._stop_asked.set()
        for life in self._lives:
            if life.get_name() == "reloads":  # no slot gets a successor from here on
                life.cancel()
                await asyncio.wait([life])

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP on purpose
                reloads = number is signal.SIGHUP and self._plan.read is not None and not os.isatty(0)
                loop.add_signal_handler(number, self._reloads.ask if reloads else self._on_signal)

    def _ignore_signals(self) -> None:
        for number in SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)

    def _on_signal(self) -> None:
        if self._stop_asked.is_set():
            self._hurried.set()
            for keeper in self.processes.keepers:
                keeper.abandon()
        self._stop_asked.set()
