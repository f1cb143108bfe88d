"""One gateway worker: joins clients, routes, recorder and store on one event loop.

The shell around the data plane: it owns the clock, the ids, the timers and the tasks, and hands them in.
"""

import asyncio
import ipaddress
import os
import platform
import random
import socket
import time
from bisect import bisect_left
from typing import TYPE_CHECKING

from router import version
from router.core.errors import ConfigError, StoreUnavailableError
from router.core.observations import latency_edge_ms
from router.core.options import configured
from router.core.ports import Heartbeat
from router.core.traffic import Role
from router.gateway.backends import Backends
from router.gateway.client import ClientConnection, networks
from router.gateway.deadlines import TICK_S, Wheel
from router.gateway.descriptors import connections_within, descriptor_limit
from router.gateway.exchange import ROLE_LINES, Exchange
from router.gateway.failures import Failures
from router.gateway.following import Follower, Snapshots, states_directory
from router.gateway.known_heads import KnownHeads
from router.gateway.lag import LoopLag
from router.gateway.listener_tls import Handshake, listener_context
from router.gateway.mirror import Departures, expire_copies
from router.gateway.names import Names, system_lookup
from router.gateway.recorder import Recorder
from router.gateway.rescue import Result
from router.gateway.rota import Rota
from router.gateway.table import LiveRoute, LiveTable
from router.gateway.traces import TracedExchange, Tracer
from router.gateway.trips import TripFiles, Trips
from router.gateway.waking import Waking
from router.telemetry import logs
from router.telemetry.metrics import METRICS, Histogram, HistogramValue

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from router.core.config import TurnoutConfig
    from router.core.ports import Comparator, ModelAdapter, Store
    from router.core.rollout import RolloutState
    from router.gateway.client import Networks
    from router.gateway.endpoints import LeftOut
    from router.gateway.heads import RequestHead
    from router.gateway.names import Lookup
    from router.gateway.tally import VariantCounts
    from router.gateway.traces import Parent
    from router.telemetry.metrics import Labels, Snapshot, Value

HEARTBEAT_S = 1.0
LINGER_S = 1.0
"""How long idle connections may still bring a request while draining. Chosen: a busy client comes back within it."""

START_NAMES_S = 0.5
"""How long a start waits for the addresses of its backends. Chosen: as START_STORE_S, and at the same time."""

CANCEL_S = 1.0
"""How long what is ended may take to end, a comparing process among it. Chosen: it takes milliseconds."""

START_STORE_S = 0.5
"""How long a start waits for the store before it goes by the states on disk. Chosen: start budget 1.5 s."""

UNSENT_BYTES = 2**16
"""How much of an answer the kernel takes beyond what its client has room for. Chosen; its own bound is 4 MiB."""


class Worker:
    """Accepts requests on one listener and routes them by the newest known states.

    `boot` names this process start and is never reused. `compare_command` starts a comparing process
    (`large_answers`), `lookup` finds the addresses of host names, `parent` takes spans where `config.tracing` is set.
    Nothing is bound or read before `start`.
    """

    def __init__(  # noqa: PLR0913 - all that it depends on
        self,
        config: "TurnoutConfig",
        *,
        boot: str,
        store: "Store",
        adapters: "Mapping[str, ModelAdapter]",
        comparators: "Mapping[str, Comparator]",
        compare_command: "Sequence[str]",
        lookup: "Lookup" = system_lookup,
        parent: "Parent | None" = None,
    ) -> None:
        self.limits = config.gateway.limits
        self.response_headers = config.gateway.response_headers
        self.role_lines = ROLE_LINES if self.response_headers else dict.fromkeys(Role, b"")
        self.scheme = b"https" if config.gateway.tls else b"http"
        self.boot_bytes = boot.encode()
        self.known: KnownHeads[RequestHead] = KnownHeads()
        self.draining = False
        self.kept_bytes = 0
        self._config = config
        self._boot = boot
        self._store = store
        self._adapters = adapters
        self._comparators = comparators
        self._compare_command = compare_command
        self._lookup = lookup
        self.tracer: Tracer | None = None
        self.exchange = Exchange
        self.failures = Failures()
        if config.tracing is not None and parent is not None:
            self.tracer = Tracer(
                config.tracing, parent, scheme=self.scheme.decode(),
                bits=random.getrandbits, now=time.monotonic, wall_ns=time.time_ns,
            )  # fmt: skip
            self.exchange = TracedExchange
        self._trusted = networks(config.gateway.trusted_proxies)
        self._choosers = networks(config.gateway.override_networks)
        self._clients: set[ClientConnection | Handshake] = set()
        self._failed_handshakes: dict[str, int] = {}
        self._most_connections = connections_within(self.limits.connections, descriptor_limit())
        self._refused_connections = 0
        self._requests = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._applied: dict[str, tuple[int, float]] = {}
        self._unroutable: dict[str, str] = {}
        self._beat_now = asyncio.Event()
        self._store_up = False
        self._writes: dict[str, int] = {"ok": 0, "failed": 0}
        self.lag = LoopLag()
        self._propagation = Histogram("turnout_rollback_propagation_seconds")
        self._snapshots = Snapshots(states_directory(config.store))
        self._trip_files = TripFiles(states_directory(config.store))
        self._log = logs.get("gateway")
        self._throttled = logs.ThrottledLog(self._log)
        self._store_changes = logs.Changes()

    # -- life -------------------------------------------------------------------------------------------------------

    async def start(
        self, listener: "socket.socket", *, strict: bool = False, left_out: "Sequence[LeftOut]" = ()
    ) -> None:
        """Accept requests on `listener`: returns once the states are known and the first request would be answered.

        The states are the store's; without it those saved on disk; without these stable only. `strict`: raises
        ConfigError, before a request is accepted, when a state names a variant that the configuration does not have.
        `left_out` are the backends that the process before this one had left out.
        """
        loop = asyncio.get_running_loop()
        self._loop = loop
        self.now = time.monotonic  # the same clock as loop.time(), which uvloop rounds to milliseconds
        self.wall_s = time.time
        self.wheel = Wheel(loop.time())
        self.departures = Departures(loop.call_soon)
        self.recorder = Recorder(
            self._store,
            boot=self._boot,
            config=self._config.recorder,
            pairs=self._config.pairs,
            compare_command=self._compare_command,
            now=self.now,
            on_write=self._count_write,
        )
        self._follower = Follower(self._store, tuple(self._config.routes), self._adopt, self._note_store, time.time)
        self._trips = Trips(self._store, self._trip_files, boot=self._boot, now_s=self.wall_s, take=self._follower.take)
        lives = {name: self._live(name) for name in self._config.routes}
        self.table = LiveTable(lives, time.time(), self._trips.open)
        self._routes = tuple(lives.values())
        self._rota = Rota(self._routes)
        for trip in self._trips.restore(lives):
            lives[trip.route].trip = trip
        names = Names(loop, self._config.gateway.dns_refresh_s, self._lookup)
        self.backends = Backends(loop, names, lives.values())
        self.backends.remember(left_out)
        await asyncio.gather(self._first_states(), names.first(START_NAMES_S))
        for name, missing in self._unroutable.items():
            if strict:
                known = list(self._config.routes[name].variants)
                raise ConfigError(f"routes.{name}.variants", known, f"also {missing}, which has traffic now")
        self.waking = Waking(self.now, self._follower.refresh, self._spawn)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)  # each connection inherits it
        self._server = await loop.create_server(self._protocol(), sock=listener, backlog=4096)
        if self._most_connections < self.limits.connections:
            self._log.info(
                "fewer connections than limits.connections: the limit of open files (ulimit -n) is too low",
                connections=self._most_connections, configured=self.limits.connections,
            )  # fmt: skip
        self._record_at = 0.0
        self._next_tick = loop.time() + TICK_S
        self._tick_handle = loop.call_at(self._next_tick, self._tick)
        recording = (self.recorder.run(), self.recorder.firsts.run(), self.recorder.large.run())
        for work in (self._follower.run(), self._trips.run(), *recording, self._beat()):
            self._spawn(work)

    def _protocol(self) -> "Callable[[], asyncio.Protocol]":
        """Return what makes the protocol of an accepted connection."""
        tls = self._config.gateway.tls
        if tls is None:
            return lambda: ClientConnection(self)
        try:
            context = listener_context(tls)
        except OSError as error:  # they were checked where the file was read, and have changed since
            raise ConfigError("gateway.tls", tls.cert, f"files that can be used ({error})") from error
        return lambda: Handshake(self, context)

    def _live(self, name: str) -> LiveRoute:
        route = self._config.routes[name]
        adapter = configured(self._adapters[route.adapter], route.adapter_options)
        comparator = configured(self._comparators[route.comparator or adapter.comparator], route.comparator_options)
        return LiveRoute(self._loop, route, adapter, comparator)

    async def _first_states(self) -> None:
        saved = [self._snapshots.load(name) for name in self._config.routes]
        self._follower.take(state for state in saved if state is not None)
        try:
            async with asyncio.timeout(START_STORE_S):
                await self._follower.refresh()
            self._note_store(up=True)
        except (StoreUnavailableError, TimeoutError):
            self._note_store(up=False)

    async def drain(self, deadline_s: float) -> None:
        """Stop accepting, finish what is under way, write what is recorded; returns after `deadline_s` at the latest.

        Connections that are still busy then are cut. Safe to cancel: the rest is cut at once.
        """
        self.draining = True
        self._server.close()
        try:
            async with asyncio.timeout(deadline_s):
                await self._say_close()
                for client in tuple(self._clients):
                    client.drain()
                while any(client.busy for client in self._clients):  # noqa: ASYNC110 - once in a process's life
                    await asyncio.sleep(TICK_S)
                await self._finish_records()
        except TimeoutError:
            self._log.warning("drain deadline passed", busy=sum(client.busy for client in self._clients))
        finally:
            await self._close()

    async def _say_close(self) -> None:
        """Give each connection one more answer, with `connection: close`: its next request may be on its way."""
        until = self.now() + LINGER_S
        while self._clients and self.now() < until:  # noqa: ASYNC110 - once in a process's life
            await asyncio.sleep(TICK_S)

    async def _finish_records(self) -> None:
        """Wait for copies under way, then write their pairs and the last counters."""
        while any(live.copies for live in self.table.lives.values()):  # noqa: ASYNC110 - once in a process's life
            await asyncio.sleep(TICK_S)
        if self._store_up:
            self.recorder.batch_counters(self.table)
            await self.recorder.flush()

    async def _close(self) -> None:
        self._tick_handle.cancel()
        if self.tracer is not None:
            self.tracer.hand_over_all()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        for client in tuple(self._clients):
            client.cut()
        self.backends.close()
        for live in self.table.lives.values():
            for pool in live.pools():
                pool.close()
        await asyncio.wait(tasks, timeout=CANCEL_S)
        try:
            await self._store.forget(self._boot)
        except StoreUnavailableError:
            self._log.warning("heartbeat not removed; it will expire")

    def _spawn(self, work: "Coroutine[object, object, None]") -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: "asyncio.Task[None]") -> None:
        """A background task ends only by cancellation; anything else is a bug that must not pass in silence."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.call_exception_handler({"message": "a background task of the worker died", "exception": error})
            os._exit(70)  # the parent replaces us within a second; going on half alive would hide it

    # -- what connections and exchanges ask -------------------------------------------------------------------------

    def admit(self, client: ClientConnection | Handshake) -> bool:
        """Take in a new connection; False when there are as many as allowed."""
        if len(self._clients) >= self._most_connections:
            self._refused_connections += 1
            return False
        self._clients.add(client)
        return True

    def dismiss(self, client: ClientConnection | Handshake) -> None:
        """Forget a connection that is gone."""
        self._clients.discard(client)

    def handshake_failed(self, peer: str, reason: str, why: str) -> None:
        """Count a connection whose TLS never stood; `why` is for the log, empty for a client that left."""
        self._failed_handshakes[reason] = self._failed_handshakes.get(reason, 0) + 1
        if why:
            self._throttled.info("handshake", "TLS handshake failed", peer=peer, why=why)

    def next_id(self) -> bytes:
        """Return the internal id of a new request: unique over all workers and restarts, not for a client to choose."""
        self._requests += 1
        return b"%b-%x" % (self.boot_bytes, self._requests)

    def trusts(self, peer: str) -> bool:
        """Whether the X-Forwarded fields of this peer are believed."""
        return _is_in(self._trusted, peer)

    def lets_choose(self, peer: str) -> bool:
        """Whether this peer may choose who serves its requests."""
        return _is_in(self._choosers, peer)

    # -- the clock --------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        now = self._loop.time()
        lag_s = max(0.0, now - self._next_tick)
        self.lag.observe(lag_s)
        # First, so that a mistake below costs its own work and not the worker's clock.
        self._next_tick = max(self._next_tick + TICK_S, now)
        self._tick_handle = self._loop.call_at(self._next_tick, self._tick)
        self.waking.tick(now)
        self.wheel.turn(now)
        for live in self._routes:
            if live.copies:
                expire_copies(live, now)
            for line in live.lines:
                if line:
                    line.expire(now)
        for live in self._rota.turn():
            for pool in live.pools():
                pool.expire(now)
        self.backends.turn(now)
        if now >= self._record_at:
            self._record_at = now + self._config.recorder.interval_s - TICK_S / 2
            self._record()
        if self.tracer is not None:
            self._hand_over_spans(self.tracer)
        self.failures.tell(self._log, now)

    def _hand_over_spans(self, tracer: Tracer) -> None:
        if tracer.hand_over():
            self._loop.call_soon(self._hand_over_spans, tracer)

    def _record(self) -> None:
        if self.recorder.tick(self.table):
            self._loop.call_soon(self._record)

    # -- the store --------------------------------------------------------------------------------------------------

    def _adopt(self, state: "RolloutState") -> None:
        if state.id != self.table.standings[state.route].rollout_id:
            self.recorder.batch_counters(self.table)  # the table lets go of a rollout when the next one begins
        weight_bp = self.table.standings[state.route].state.exposure.weight_bp
        if not self.table.adopt(state):
            known = set(self._config.routes[state.route].variants)
            self._unroutable[state.route] = ", ".join(sorted({state.stable, state.candidate} - known - {""}))
            self._log.error(
                "state not applied: it names a variant that this configuration does not have",
                route=state.route, stable=state.stable, candidate=state.candidate, revision=state.revision,
            )  # fmt: skip
            return
        if self.table.lives[state.route].trip is None:
            self._trips.settle(state.route)
        self._applied[state.route] = (state.revision, time.time())
        if state.exposure.weight_bp < weight_bp:
            self._propagation.observe(max(0.0, time.time() - state.exposure.since_s))
        self._log.info(
            "routing by", route=state.route, revision=state.revision, phase=state.phase.value,
            weight_bp=state.exposure.weight_bp, mirror_bp=state.exposure.mirror_bp,
        )  # fmt: skip
        self._beat_now.set()
        self._spawn(self._save(state))

    async def _save(self, state: "RolloutState") -> None:
        try:
            await asyncio.to_thread(self._snapshots.save, state)
        except OSError as error:
            self._log.error("state not saved to disk: a start without the store would not know it", error=str(error))

    def _note_store(self, *, up: bool) -> None:
        self._store_up = up
        if self._store_changes.changed("store", up):
            if up:
                self._log.info("store reachable")
            else:
                self._log.warning("store not reachable: routing goes on by the last states, pairs wait in memory")

    def _count_write(self, result: str) -> None:
        self._writes[result] += 1

    async def _beat(self) -> None:
        while True:
            heartbeat = Heartbeat(
                boot=self._boot,
                kind="gateway",
                host=platform.node(),
                pid=os.getpid(),
                at_s=time.time(),
                config_digest=self._config.digest,
                applied=dict(self._applied),
                popular=self.table.popular(),
            )
            self._beat_now.clear()
            try:
                await self._store.beat(heartbeat)
            except StoreUnavailableError:
                self._note_store(up=False)
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._beat_now.wait()
            except TimeoutError:
                continue

    # -- metrics ----------------------------------------------------------------------------------------------------

    def snapshot(self) -> "Snapshot":
        """Return the worker's metrics as plain numbers; cheap, no I/O."""
        found: dict[str, dict[Labels, Value]] = {
            "turnout_recorder_queue_bytes": {(): self.recorder.queue_bytes},
            "turnout_store_up": {(): float(self._store_up)},
            "turnout_loop_lag_seconds": self.lag.series,
            "turnout_store_writes_total": {(result,): number for result, number in self._writes.items()},
            "turnout_unreadable_total": {(what,): float(n) for what, n in self._store.unreadable.items()},
            "turnout_dropped_total": {("pair", reason): n for reason, n in self.recorder.drops.items()},
            "turnout_decisions_total": {(kind, "breaker"): n for kind, n in self._trips.decided.items()},
            "turnout_rollback_propagation_seconds": self._propagation.series,
            "turnout_build_info": {(version(), platform.python_version()): 1.0},
        }
        found.update(self.backends.snapshot())
        for what, drops in (("answer", self.recorder.answers.drops), ("comparison", self.recorder.large.drops)):
            found["turnout_dropped_total"].update({(what, reason): n for reason, n in drops.items()})
        found["turnout_dropped_total"] |= {("payload", why): n for why, n in self.recorder.capture.skipped.items() if n}
        found["turnout_dropped_total"]["connection", "limit"] = self._refused_connections
        for reason, failed in self._failed_handshakes.items():
            found["turnout_dropped_total"]["connection", reason] = failed
        found["turnout_dropped_total"]["key", "keys_full"] = self.recorder.firsts.dropped
        if self.tracer is not None:
            found["turnout_dropped_total"]["span", "queue"] = self.tracer.spans.drops
        found["turnout_rescues_total"] = {
            (result.value,): sum(live.rescues.results[result] for live in self.table.lives.values())
            for result in Result
        }
        for name in (
            "requests_total", "request_seconds", "in_flight", "pairs_total",
            "weight_ratio", "mirror_ratio", "breaker_open", "queue_length", "queue_waits_total",
            "queue_wait_seconds_total",
        ):  # fmt: skip
            found[f"turnout_{name}"] = {}
        for standing in self.table.standings.values():
            self._add_route(found, standing.live)
            name = standing.live.route.name
            found["turnout_weight_ratio"][name,] = standing.exposure.weight_bp / 10_000
            found["turnout_breaker_open"][name,] = float(standing.tripped)
            found["turnout_mirror_ratio"][name,] = standing.exposure.mirror_bp / 10_000
        return found

    def _add_route(self, found: "dict[str, dict[Labels, Value]]", live: LiveRoute) -> None:
        route = live.route.name
        for name, variant in live.variants.items():
            for outcome, number in variant.counts.outcomes.items():
                if number:
                    found["turnout_requests_total"][route, name, outcome.value] = number
            found["turnout_request_seconds"][route, name] = _seconds(variant.counts)
            found["turnout_in_flight"][route, name] = variant.live.in_flight + variant.copies.in_flight
            found["turnout_queue_length"][route, name] = len(variant.line)
            found["turnout_queue_waits_total"][route, name] = variant.line.waited
            found["turnout_queue_wait_seconds_total"][route, name] = variant.line.waited_s
        for counts, metric, label in (
            (live.copy_drops, "turnout_dropped_total", "copy"),
            (live.pairs, "turnout_pairs_total", ""),
        ):
            for reason, number in counts.items():
                labels = (label, reason) if label else (reason,)
                before = found[metric].get(labels, 0.0)
                found[metric][labels] = number + before if not isinstance(before, HistogramValue) else before


def _is_in(networks: "Networks", peer: str) -> bool:
    if not networks:
        return False
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    return any(address in network for network in networks)


_NO_SECONDS = HistogramValue((0,) * (len(METRICS["turnout_request_seconds"].bounds) + 1), 0.0)


def _seconds(counts: "VariantCounts") -> HistogramValue:
    """Sum the fine latency buckets up to the metric's bounds; one that straddles a bound counts as above it."""
    bounds = METRICS["turnout_request_seconds"].bounds
    if not counts.buckets:  # as most of a thousand Routes: one value for all, which is also sent once
        return _NO_SECONDS
    summed = [0] * (len(bounds) + 1)
    for bucket, number in counts.buckets.items():
        summed[bisect_left(bounds, latency_edge_ms(bucket) / 1000)] += number
    return HistogramValue(tuple(summed), counts.latency_ms_sum / 1000)
