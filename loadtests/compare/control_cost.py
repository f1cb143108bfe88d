"""What replicas and gates cost control and the store: real ones, under a fleet that is made up but for its records.

One real Turnout serves on a real Valkey and so shows what a worker writes. Then a fleet of made-up workers writes the
same, each second anew: a heartbeat and all counters, grown. Control reads and judges as ever.
"""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loadtests.compare.figures import CANARY, USUAL, Cost, Workload
from loadtests.compare.measure import closed_loop
from loadtests.compare.rounds import Upstreams, started
from loadtests.compare.systems.system import Live
from loadtests.compare.systems.turnout import Shape, Turnout
from loadtests.processes import cpu_s
from router.core.observations import CounterKey
from router.core.ports import Heartbeat, RecordBatch
from router.store.embedded import EmbeddedValkey
from router.store.redis import RedisStore

ROUTE = "m"
FLEETS = (0, 50, 200)
"""How many replicas are made up, beside the real one."""
SECONDS = 6
LOAD_S = 2
KEEP_BYTES = 2**20
PATIENT_S = 10.0
GATES: tuple[Mapping[str, object], ...] = (
    {"metric": "error_rate", "max_increase": "0.5pp"},
    {"metric": "latency", "max_increase": "10%", "dry_run": True},  # judged all the same; enforced it needs two steps
    {"metric": "disagreement", "max": "2%"},
)
MANY = 4
"""How many times GATES stand in the larger rollout, under other names."""


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU in a second, in milliseconds."""

    control_ms: float
    store_ms: float


def control_costs(models: Upstreams) -> list[Cost]:
    """Return the costs of a replica and of a gate."""
    by_fleet, counters = _measure(models, GATES, FLEETS)
    (many,), _ = _measure(models, tuple(_named(number) for number in range(MANY * len(GATES))), FLEETS[1:2])
    least, few, most = by_fleet[0], by_fleet[1], by_fleet[-1]  # gates cost nothing while no counter changes
    more_gates = (MANY - 1) * len(GATES)
    return [
        *(
            Cost(f"control, {1 + size} replicas", round(spent.control_ms, 1), "ms/s")
            for size, spent in zip(FLEETS, by_fleet, strict=True)
        ),
        Cost("a replica, in control", round((most.control_ms - least.control_ms) / FLEETS[-1], 3), "ms/s"),
        Cost("a replica, in the store", round((most.store_ms - least.store_ms) / FLEETS[-1], 3), "ms/s"),
        Cost("counters that a replica writes", counters, "of them"),
        Cost("a gate, in control", round((many.control_ms - few.control_ms) / more_gates, 3), "ms/s"),
    ]


def _named(number: int) -> Mapping[str, object]:
    return {**GATES[number % len(GATES)], "name": f"gate{number}"}


def _measure(
    models: Upstreams, gates: tuple[Mapping[str, object], ...], fleets: Sequence[int]
) -> tuple[list[Spent], int]:
    with tempfile.TemporaryDirectory() as folder, EmbeddedValkey(Path(folder)) as valkey:
        turnout = Turnout(shape=Shape(store=valkey.url, gates=gates))
        with started(turnout, CANARY, models.fast) as live:
            closed_loop(live.port, Workload(CANARY, *USUAL), LOAD_S)
            return asyncio.run(_with_fleets(valkey, live, fleets))


async def _with_fleets(valkey: EmbeddedValkey, live: Live, fleets: Sequence[int]) -> tuple[list[Spent], int]:
    store = RedisStore(valkey.url, timeout_s=PATIENT_S, connect_s=PATIENT_S)
    try:
        fleet = await _Fleet.like_the_real_one(store)
        found = []
        for size in fleets:
            await fleet.write(size, time.time())  # what is new to control is not what a second costs
            before = _cpu(valkey, live)
            began = time.monotonic()
            for second in range(1, SECONDS + 1):
                await fleet.write(size, time.time())
                await asyncio.sleep(max(0.0, began + second - time.monotonic()))
            took_s, after = time.monotonic() - began, _cpu(valkey, live)
            found.append(Spent(*(1_000 * (now - was) / took_s for now, was in zip(after, before, strict=True))))
        return found, len(fleet.counters)
    finally:
        await store.close()


def _cpu(valkey: EmbeddedValkey, live: Live) -> tuple[float, float]:
    return cpu_s(live.parts["control"]), cpu_s([valkey.pid] if valkey.pid else [])


class _Fleet:
    """Made-up workers that write what a real one has written."""

    def __init__(
        self, store: RedisStore, heartbeat: Heartbeat, rollout: str, counters: Mapping[CounterKey, int]
    ) -> None:
        self._store = store
        self._heartbeat = heartbeat
        self._rollout = rollout
        self.counters = counters
        self._sequence = itertools.count(1)

    def __repr__(self) -> str:
        return f"<_Fleet {self._rollout}, {len(self.counters)} counters each>"

    @classmethod
    async def like_the_real_one(cls, store: RedisStore) -> "_Fleet":
        """Return a fleet that copies the one worker which writes to the store; waits for its first counters."""
        async with asyncio.timeout(PATIENT_S):
            while True:
                state = (await store.read_states([ROUTE]))[ROUTE]
                beats = [one for one in await store.heartbeats() if one.kind == "gateway"]
                evidence = await store.evidence(ROUTE, state.id)
                if beats and (counters := evidence.get(beats[0].boot)):
                    return cls(store, beats[0], state.id, counters)
                await asyncio.sleep(0.1)

    async def write(self, size: int, at_s: float) -> None:
        """Write one second of `size` workers."""
        sequence = next(self._sequence)
        for number in range(size):
            boot = f"made-up-{number}"
            await self._store.beat(replace(self._heartbeat, boot=boot, at_s=at_s))
            counters = {key: value + sequence for key, value in self.counters.items()}
            batch = RecordBatch(ROUTE, self._rollout, boot, sequence, 0, b"", counters)
            await self._store.append(batch, KEEP_BYTES)
