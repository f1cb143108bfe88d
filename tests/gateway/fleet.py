"""Several gateway workers on one real store, in one process: cheap enough for many trials."""

import socket
import time
from collections.abc import Callable, Sequence

import redis

from router.core.config import StoreConfig, TurnoutConfig
from router.core.decisions import RollBack, Start
from router.core.rollout import RolloutState, Spec, Step, apply, idle_state
from router.core.traffic import Route
from router.gateway.breaker import Trip
from router.gateway.table import LiveTable
from router.gateway.worker import Worker
from router.store.redis import RedisStore
from router.testing import MemoryServer
from tests.gateway.bench import ADAPTERS, COMPARATORS, COMPARE, Bench, Gateway, until


class Fleet:
    """Workers of one Route on the store at `url`; the bench ends them. `make` makes each one's client of the store."""

    def __init__(self, bench: Bench, url: str, make: Callable[[str], RedisStore] = RedisStore) -> None:
        self.workers: list[Gateway] = []
        self.store = RedisStore(url)
        self._bench = bench
        self._url = url
        self._make = make
        self._stores = [self.store]

    def __repr__(self) -> str:
        return f"<Fleet of {len(self.workers)}>"

    def empty(self) -> None:
        """Forget what an earlier test has left in the store."""
        with redis.Redis.from_url(self._url) as admin:
            admin.flushall()

    @property
    def weights_bp(self) -> list[int]:
        """The weight by which each worker routes."""
        return [one.worker.table.standings["r"].exposure.weight_bp for one in self.workers]

    async def start(self, route: Route, number: int) -> None:
        """Start so many workers, each with a disk of its own."""
        self._route = route
        for index in range(number):
            self.workers.append(await self._worker(index, f"boot{index}"))

    async def replace(self, index: int) -> None:
        """End a worker at once, and start another one on its disk."""
        old = self.workers[index]
        self._bench.gateways.remove(old)
        await old.worker.drain(0.0)
        self.workers[index] = await self._worker(index, f"successor{index}")

    async def _worker(self, index: int, boot: str) -> Gateway:
        store = self._make(self._url)
        self._stores.append(store)
        worker = Worker(
            TurnoutConfig(
                routes={self._route.name: self._route},
                store=StoreConfig(directory=str(self._bench.directory / f"worker{index}")),
            ),
            boot=boot, store=store, adapters=ADAPTERS, comparators=COMPARATORS, compare_command=COMPARE,
        )  # fmt: skip
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        await worker.start(listener)
        made = Gateway(worker, listener.getsockname()[1], MemoryServer())
        self._bench.gateways.append(made)
        return made

    async def begin(self, attempt: int, step: Step) -> RolloutState:
        """Begin a rollout of v2 of one step, and return once all workers route by it."""
        stored = (await self.store.read_states(["r"])).get("r")
        known = stored or idle_state("r", "v1", time.time())
        ended = apply(known, RollBack(reason="next"), time.time()) if known.active else known
        spec = Spec("v2", "canary", steps=(step,))
        start = Start(reason="trial", rollout_id=f"abc.{attempt}", spec=spec, steps=spec.steps)
        state = apply(ended, start, time.time())
        assert await self.store.compare_and_set(state, known.revision, None)
        await until(lambda: all(one.revision() == state.revision for one in self.workers), "all route by it", 5.0)
        return state

    async def close(self) -> None:
        """Let go of the store; after the bench has ended the workers."""
        for store in self._stores:
            await store.close()

    def until_none_serves(self) -> "Watch":
        """Return what notes when each worker stops giving the candidate requests, from now on."""
        return Watch([one.worker for one in self.workers])


class Watch:
    """Notes the second at which each worker has weight 0: by its own trip, or by a state that it adopts."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.at_s: dict[int, float] = {}
        self._restore: list[Callable[[], None]] = []
        for number, worker in enumerate(workers):
            self._watch(number, worker.table)

    def __repr__(self) -> str:
        return f"<Watch: {len(self.at_s)} at 0>"

    def _watch(self, number: int, table: LiveTable) -> None:
        adopt, on_trip = table.adopt, table._on_trip  # noqa: SLF001 - the moment itself, not a poll after it

        def adopting(state: RolloutState) -> bool:
            done = adopt(state)
            if not state.exposure.weight_bp:
                self.at_s.setdefault(number, time.monotonic())
            return done

        def tripping(trip: Trip) -> None:
            self.at_s.setdefault(number, time.monotonic())
            on_trip(trip)

        def restore() -> None:
            del table.adopt
            table._on_trip = on_trip  # noqa: SLF001

        table.adopt = adopting  # type: ignore[method-assign]
        table._on_trip = tripping  # noqa: SLF001
        self._restore.append(restore)

    def end(self) -> None:
        """Watch no longer."""
        for restore in self._restore:
            restore()
