"""The bench a gateway worker stands on in these tests: real sockets, one uvloop, a MemoryStore.

Every test ends with the same checks: nothing reached the loop's exception handler, no script of an upstream failed,
and with clients and upstreams gone the worker holds nothing any more.
"""

import asyncio
import gc
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from model_adapters.comparators.digest import Digest
from model_adapters.comparators.label import Label
from model_adapters.opaque import Opaque
from model_adapters.open_inference import OpenInference
from router.app import command
from router.core.config import GatewayConfig, Limits, StoreConfig, TurnoutConfig
from router.core.decisions import Decision, SetExposure, Start
from router.core.observations import Pair
from router.core.ports import Comparator, ModelAdapter
from router.core.rollout import FULL_BP, BreakerSpec, RolloutState, Spec, Step, apply, idle_state
from router.core.traffic import Match, Route, Variant
from router.gateway.client import ClientConnection
from router.gateway.names import Lookup, system_lookup
from router.gateway.table import LiveTable
from router.gateway.traces import Parent
from router.gateway.worker import Worker
from router.store.codec import encode_state
from router.testing import MemoryServer, MemoryStore
from tests.gateway.clients import Client
from tests.gateway.upstreams import Script, Upstream, echo

ROLLOUT = "abc.1"
ADAPTERS: Mapping[str, ModelAdapter] = {"opaque": Opaque(), "open_inference": OpenInference()}
COMPARE = command("compare")
COMPARATORS: Mapping[str, Comparator] = {"digest": Digest(), "label": Label()}


PATIENT = BreakerSpec(consecutive=1_000_000, window=1_000, ratio_bp=FULL_BP, fleet="local")
"""A breaker that trips in no test: those that are about it have one of their own."""


async def until(condition: Callable[[], object], what: str, within_s: float = 3.0) -> float:
    """Return once `condition` holds, and after how many seconds; fails with `what` when it never does."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.002)
    return time.monotonic() - began


def route_of(
    stable: Upstream | Variant,
    candidate: Upstream | Variant | None = None,
    **settings: Any,  # noqa: ANN401
) -> Route:
    """Return a Route `r` over everything, with variants v1 (stable) and v2; `settings` are fields of Route."""
    made = [("v1", stable), ("v2", candidate)]
    variants = {
        name: replace(one, name=name) if isinstance(one, Variant) else Variant(name, (one.backend,))
        for name, one in made
        if one is not None
    }
    fields: dict[str, Any] = {"name": "r", "match": Match("/"), "adapter": "opaque", "mirror_safe": True} | settings
    return Route(variants=variants, stable="v1", **fields)


def started(weight_bp: int = 0, mirror_bp: int = 0, route: str = "r", epoch: int = 0) -> RolloutState:
    """Return the state of a Route whose rollout of v2 has just begun with these shares."""
    begin = Start(
        reason="test",
        rollout_id=ROLLOUT,
        spec=Spec("v2", "canary", breaker=PATIENT),
        steps=(Step(weight_bp=weight_bp, mirror_bp=mirror_bp),),
    )
    return apply(replace(idle_state(route, "v1", 0.0), epoch=epoch), begin, 0.0)


class Gateway:
    """One worker on its own port, and what a test wants to know of it."""

    def __init__(self, worker: Worker, port: int, server: MemoryServer) -> None:
        self.worker = worker
        self.port = port
        self.server = server
        self.store = MemoryStore(server)

    def __repr__(self) -> str:
        return f"<Gateway :{self.port}>"

    async def decide(self, decision: Decision, route: str = "r") -> RolloutState:
        """Write a decision to the store as control would, and return once the worker routes by it."""
        state = (await self.store.read_states([route]))[route]
        after = apply(state, decision, time.time())
        assert await self.store.compare_and_set(after, state.revision, None)
        await until(lambda: self.revision(route) == after.revision, "the worker routes by the new state")
        return after

    async def expose(
        self, *, weight_bp: int | None = None, mirror_bp: int | None = None, route: str = "r"
    ) -> RolloutState:
        """Set the shares."""
        return await self.decide(SetExposure(reason="test", weight_bp=weight_bp, mirror_bp=mirror_bp), route)

    def recorder_turns_ms(self) -> list[float]:
        """Return a list to which each turn of the recorder from now on adds the CPU that it has taken."""
        recorder = self.worker.recorder
        tick = recorder.tick
        taken_ms: list[float] = []

        def timed(table: LiveTable) -> bool:
            began = time.thread_time()
            left = tick(table)
            taken_ms.append((time.thread_time() - began) * 1_000)
            return left

        recorder.tick = timed  # type: ignore[method-assign]
        return taken_ms

    def revision(self, route: str = "r") -> int:
        """Return the revision that the worker routes by."""
        return self.worker.table.standings[route].state.revision

    def outcomes(self, variant: str = "v1", route: str = "r") -> dict[str, int]:
        """Return how live requests of a variant ended, without zeros."""
        counts = self.worker.table.lives[route].variants[variant].counts
        return {outcome.value: number for outcome, number in counts.outcomes.items() if number}

    def rescues(self) -> dict[str, float]:
        """Return turnout_rescues_total by result, without zeros."""
        found = self.worker.snapshot()["turnout_rescues_total"].items()
        return {result: value for (result,), value in found if isinstance(value, (int, float)) and value}

    def dropped(self, what: str, reason: str) -> float:
        """Return a cell of turnout_dropped_total."""
        value = self.worker.snapshot()["turnout_dropped_total"].get((what, reason), 0.0)
        assert isinstance(value, (int, float))
        return value

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass at once for the deadlines of all connections, which alone go by the wheel.

        Once in a test: the wheel does not turn back, so that it stands still until the time has really passed.
        """
        now = self.worker.now
        self.worker.now = lambda: now() + seconds
        self.worker.wheel.turn(self.worker.now())
        self.worker.now = now

    @property
    def connections(self) -> int:
        """How many clients the worker has."""
        return len(self.worker._clients)  # noqa: SLF001 - no metric of it yet

    @property
    def blocked_clients(self) -> int:
        """How many clients read more slowly than they are written to."""
        clients = self.worker._clients  # noqa: SLF001 - no metric of it yet
        return sum(isinstance(client, ClientConnection) and client.blocked for client in clients)

    def held(self) -> dict[str, int]:
        """Return everything that a worker without clients must not hold, without zeros."""
        lives = self.worker.table.lives.values()
        found = {
            "kept_bytes": self.worker.kept_bytes,
            "in_flight": sum(pool.in_flight for live in lives for pool in live.pools()),
            "copies": sum(len(live.copies) for live in lives),
            "copy_bytes": sum(live.copy_bytes for live in lives),
            "answer_bytes": self.worker.recorder.answers.held_bytes,
        }
        return {name: number for name, number in found.items() if number}

    async def pairs(self, number: int, route: str = "r", within_s: float = 3.0) -> list[Pair]:
        """Return the pairs in the store, oldest first, once there are `number` of them; more is a failure."""
        async with asyncio.timeout(within_s):
            while len(found := await self.store.pairs(route, 100_000)) < number:  # noqa: ASYNC110 - a poll
                await asyncio.sleep(0.005)
        assert len(found) == number
        return found[::-1]


class Bench:
    """Starts upstreams, gateways and clients, and ends them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.upstreams: list[Upstream] = []
        self.gateways: list[Gateway] = []
        self.clients: list[Client] = []
        self.complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.complaints.append(context))

    def __repr__(self) -> str:
        return f"<Bench {self.gateways} {self.upstreams}>"

    async def upstream(self, script: Script = echo, port: int = 0, host: str = "127.0.0.1") -> Upstream:
        """Return a running upstream."""
        upstream = await Upstream(script).start(port, host=host)
        self.upstreams.append(upstream)
        return upstream

    async def gateway(  # one argument for each thing a test may be about
        self,
        routes: Route | Sequence[Route],
        *,
        states: Sequence[RolloutState] = (),
        limits: Limits | None = None,
        server: MemoryServer | None = None,
        store: MemoryStore | None = None,
        store_config: StoreConfig | None = None,
        boot: str | None = None,
        comparators: Mapping[str, Comparator] = COMPARATORS,
        adapters: Mapping[str, ModelAdapter] = ADAPTERS,
        lookup: Lookup = system_lookup,
        compare_command: Sequence[str] = COMPARE,
        parent: Parent | None = None,
        **config: Any,  # noqa: ANN401
    ) -> Gateway:
        """Return a running worker; `config` are fields of GatewayConfig or TurnoutConfig."""
        routes = (routes,) if isinstance(routes, Route) else routes
        of_gateway = {name: config.pop(name) for name in tuple(config) if name in GatewayConfig.__dataclass_fields__}
        gateway = GatewayConfig(limits=limits or Limits(), **of_gateway)
        if store_config is None:
            store_config = StoreConfig(directory=str(self.directory / f"gateway{len(self.gateways)}"))
        store = store or MemoryStore(server)
        server = store.server
        for state in states:
            server.states[state.route] = encode_state(state)
        worker = Worker(
            TurnoutConfig(routes={one.name: one for one in routes}, gateway=gateway, store=store_config, **config),
            boot=boot or f"boot{len(self.gateways)}",
            store=store,
            adapters=adapters,
            comparators=comparators,
            compare_command=compare_command,
            lookup=lookup,
            parent=parent,
        )
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        await worker.start(listener)
        made = Gateway(worker, listener.getsockname()[1], server)
        self.gateways.append(made)
        return made

    async def client(
        self, gateway: Gateway | None = None, *, receive_bytes: int | None = None, tls: ssl.SSLContext | None = None
    ) -> Client:
        """Return a connection to a gateway, the first one unless told otherwise."""
        client = await Client.open((gateway or self.gateways[0]).port, receive_bytes, tls)
        self.clients.append(client)
        return client

    async def end(self) -> None:
        """Let go of everything and check that nothing is left."""
        for client in self.clients:
            client.abort()
        for upstream in self.upstreams:
            await upstream.stop()
        try:
            for gateway in self.gateways:
                await until(lambda one=gateway: not one.connections, f"{gateway} lets go of its clients")  # type: ignore[misc]
                await until(lambda one=gateway: not one.held(), f"the worker lets go of {gateway.held()}")  # type: ignore[misc]
        finally:
            for gateway in self.gateways:
                await gateway.worker.drain(1.0)
            self.clients.clear()
            await asyncio.sleep(0)
            gc.collect()  # a task whose error nobody read complains when it is collected
        failures = [failure for upstream in self.upstreams for failure in upstream.failures]
        assert not self.complaints, self.complaints
        assert not failures, failures
