"""A control process that lives by a recorded timeline: it is told the second; what was counted lies in the store.

So two runs can be compared digit for digit, however often the process was killed in one of them.
"""

import asyncio
import multiprocessing
import random
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess

from router.control.commands import Commands
from router.control.loop import ControlLoop
from router.control.states import States
from router.core.config import LogConfig, TurnoutConfig
from router.core.decisions import DecisionRecord
from router.core.observations import CUTS, CounterKey
from router.core.ports import RecordBatch
from router.core.rollout import Spec
from router.plugins import load_policies
from router.settings import block_hash
from router.store.codec import encode_pairs
from router.telemetry import logs
from router.testing import ManualClock
from tests.control.plant import FakeProber, order, route_named
from tests.patience import patient_store

ROUTE = "digits"
BEGIN_S = 1_800_000_000.0
TURN_S = 0.012
"""About how long a turn takes: kills are spread over a little more."""

CONFIG = TurnoutConfig(routes={ROUTE: route_named(ROUTE)})

Rates = Callable[[int], tuple[float, float]]
"""From the second to the shares of failed answers of stable and candidate."""


def live(line: Connection, url: str, boot: str) -> None:
    """Be a control process: take a turn at each second that comes over the line, and say when it is done."""
    logs.configure(LogConfig(level="error"), process=boot)
    asyncio.run(_live(line, url, boot))


async def _live(line: Connection, url: str, boot: str) -> None:
    clock = ManualClock(BEGIN_S)
    loop = ControlLoop(
        config=CONFIG, store=patient_store(url), policies=load_policies(), prober=FakeProber(), boot=boot,
        now_s=clock, monotonic=clock,
    )  # fmt: skip
    while True:
        clock.now_s = BEGIN_S + line.recv()
        await loop.turn()
        assert loop.store_up
        line.send(loop.view.epoch)


def preloaded() -> ForkServerContext:
    """Return what starts processes that have loaded all of this already: in 10 ms each instead of a second."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


class Run:
    """One rollout over one timeline, by control processes of which each may be killed in the middle of a turn."""

    def __init__(self, url: str, spec: Spec, rates: Rates) -> None:
        self._url = url
        self._rates = rates
        self._dice = random.Random(8)
        self._counters: dict[CounterKey, int] = {}
        self._store = patient_store(url)
        self._spec = spec
        self._context = preloaded()
        self._boot = ""
        self._process: BaseProcess | None = None
        self.epochs: set[int] = set()
        self.killed = 0

    async def play(self, seconds: int, kills: Mapping[int, float]) -> list[DecisionRecord]:
        """Play the timeline; in each second of `kills` kill control so long after its turn was asked for.

        Returns the ledger, oldest first.
        """
        await self._store._connections.ask("FLUSHALL")  # noqa: SLF001 - the server is this test's own
        states = States(self._store, CONFIG.routes, lambda: BEGIN_S)
        commands = Commands(states, CONFIG.routes, load_policies(), FakeProber(), block_hash)
        await commands.start(ROUTE, self._spec, order())
        await self._begin()
        for second in range(seconds):
            await self._count(second)
            if second in kills:
                self._line.send(second)
                await asyncio.sleep(kills[second])  # the moment of the fault
                await self._kill()
            await self._turn(second)
        await self._end()
        ledger = await self._store.decisions(ROUTE, 1_000)
        await self._store.close()
        return ledger[::-1]

    async def _begin(self) -> None:
        self._boot = f"control-{self.killed}"
        self._line, theirs = self._context.Pipe()
        self._process = self._context.Process(target=live, args=(theirs, self._url, self._boot), daemon=True)
        await asyncio.to_thread(self._process.start)
        theirs.close()

    async def _kill(self) -> None:
        """Kill -9, let the lease run out, and start the next one."""
        await self._end()
        self.killed += 1
        await self._store.release_lease(self._boot)
        await self._begin()

    async def _end(self) -> None:
        assert self._process is not None
        self._process.kill()
        await asyncio.to_thread(self._process.join)
        self._process.close()
        self._line.close()

    async def _turn(self, second: int) -> None:
        self._line.send(second)
        begun_s = time.monotonic()
        while not self._line.poll():
            assert time.monotonic() - begun_s < 30.0, "control does not answer"
            await asyncio.sleep(0.001)
        self.epochs.add(self._line.recv())

    async def _count(self, second: int) -> None:
        """Write what a gateway has counted until this second: 45 answers of stable and 15 of the candidate in each."""
        state = (await self._store.read_states((ROUTE,)))[ROUTE]
        if not state.active:
            return
        for role, answers, rate in zip(("stable", "candidate"), (45, 15), self._rates(second), strict=True):
            failed = sum(self._dice.random() < rate for _ in range(answers))
            for cut in CUTS:
                for metric, cell, number in (
                    ("started", "all", answers), ("outcome", "ok", answers - failed), ("outcome", "http_error", failed),
                ):  # fmt: skip
                    key = CounterKey(state.exposure.id, metric + cut, "", role, cell)
                    self._counters[key] = self._counters.get(key, 0) + number
        batch = RecordBatch(ROUTE, state.id, "gateway", second + 1, 0, encode_pairs([]), self._counters)
        await self._store.append(batch, 2**20)
