"""Three workers on a real Valkey: how fast a breach in one of them reaches all, by notice, by poll, without it."""

import asyncio
import os
import signal
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from router.core.ports import Notice
from router.core.rollout import Phase, Step
from router.core.traffic import RescueSpec
from router.store.embedded import EmbeddedValkey
from router.store.redis import RedisStore
from tests.e2e.harness import slowdown
from tests.gateway.bench import Bench, route_of, until
from tests.gateway.clients import Client
from tests.gateway.fleet import Fleet
from tests.gateway.upstreams import answering, echo, ok

FAILS = answering(ok(b"broken", status="500 Broken"))
FLEET_S, POLL_S = 0.25, 2.0
CANARY = Step(weight_bp=1_000)


class Deaf(RedisStore):
    """A client of the store that hears no notice."""

    async def notices(self) -> AsyncIterator[Notice]:
        """Never yield."""
        await asyncio.Event().wait()
        yield Notice("", 0)


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A real server."""
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
async def fleet(valkey: EmbeddedValkey, bench: Bench) -> AsyncIterator[Fleet]:
    """Three workers before a stable that echoes and a candidate that fails everything."""
    async with three_workers(bench, valkey.url) as made:
        yield made


@asynccontextmanager
async def three_workers(bench: Bench, url: str, make: Callable[[str], RedisStore] = RedisStore) -> AsyncIterator[Fleet]:
    """Run them on an empty store, and end them before their clients of the store are closed."""
    made = Fleet(bench, url, make)
    made.empty()
    stable, broken = await bench.upstream(echo), await bench.upstream(FAILS)
    await made.start(route_of(stable, broken, rescue=RescueSpec(enabled=False)), 3)
    yield made
    await bench.end()
    bench.gateways.clear()
    bench.upstreams.clear()
    await made.close()


async def breach(fleet: Fleet, at: int, client: Client) -> float:
    """Ask one worker until the candidate has failed often enough for it; return when the breaching answer was there.

    Nearly always the fifth; where chance has put fewer than four of stable's answers between them, one of the next.
    """
    failures = 0
    for _ in range(500):
        if (await client.ask("POST", "/", b"x")).status == 500:
            failures += 1
            breached_s = time.monotonic()
            if not fleet.weights_bp[at]:
                assert 5 <= failures <= 10
                return breached_s
    raise AssertionError(f"not tripped after {failures} failures")


async def trial(fleet: Fleet, clients: list[Client], number: int) -> tuple[float, float]:
    """Breach once; return after how long this worker, and the last of all, had weight 0. Nothing is sent after it."""
    await fleet.begin(number + 1, CANARY)
    watch = fleet.until_none_serves()
    at = number % len(clients)
    breached_s = await breach(fleet, at, clients[at])
    for _ in range(30):
        assert (await clients[at].ask("POST", "/", b"x")).status == 200
    await until(lambda: len(watch.at_s) == len(clients), "all have weight 0", 5.0)
    watch.end()
    return watch.at_s[at] - breached_s, max(watch.at_s.values()) - breached_s


def shown(what: str, times_s: list[float]) -> str:
    """Return a distribution in words."""
    ms = sorted(1_000 * one for one in times_s)
    return f"{what} p50 {statistics.median(ms):.2f} ms, p95 {ms[len(ms) * 95 // 100]:.2f} ms, max {ms[-1]:.2f} ms"


@pytest.mark.slow
async def test_up2_a_hundred_breaches(fleet: Fleet, bench: Bench, figure: Callable[[str], None]) -> None:
    """Each time the breaching worker is at 0 before its client has the answer, and all three within 250 ms."""
    clients = [await bench.client(one) for one in fleet.workers]
    found = [await trial(fleet, clients, number) for number in range(100)]
    local_s, fleet_s = ([one[which] for one in found] for which in (0, 1))
    figure(f"{shown('local', local_s)} after the client had the breaching answer; {shown('fleet', fleet_s)}")
    assert max(local_s) <= 0
    assert max(fleet_s) <= FLEET_S * slowdown()


async def test_cl1_without_notices_the_poll_takes_the_weight_from_all(
    valkey: EmbeddedValkey, bench: Bench, figure: Callable[[str], None]
) -> None:
    """No worker hears of the other's decision, and still within 2 s none of them sends the candidate anything."""
    async with three_workers(bench, valkey.url, Deaf) as fleet:
        clients = [await bench.client(one) for one in fleet.workers]
        _, fleet_s = await trial(fleet, clients, 0)
        figure(f"all at 0 after {1_000 * fleet_s:.0f} ms, by poll alone")
        assert fleet_s <= POLL_S * slowdown()


async def test_a_breach_while_the_store_is_dead_is_proposed_when_it_returns(tmp_path: Path, bench: Bench) -> None:
    """Kill -9 of Valkey: the breaching worker stays at 0, restarted too; when the store is back all are halted."""
    with EmbeddedValkey(tmp_path / "store") as valkey:
        async with three_workers(bench, valkey.url) as fleet:
            state = await fleet.begin(1, CANARY)
            assert valkey.pid is not None
            os.kill(valkey.pid, signal.SIGKILL)
            await until(lambda: valkey.poll() is not None, "the server is dead")
            clients = [await bench.client(one) for one in fleet.workers]
            await breach(fleet, 0, clients[0])
            assert fleet.weights_bp == [0, 1_000, 1_000]
            trip = tmp_path / "worker0" / "states" / "r.trip.json"
            await until(trip.exists, "the trip is on disk")
            await fleet.replace(0)
            assert fleet.weights_bp == [0, 1_000, 1_000]
            valkey.restart()
            await until(lambda: fleet.weights_bp == [0, 0, 0], "all have weight 0", 10.0)
            stored = (await fleet.store.read_states(["r"]))["r"]
            assert (stored.phase, stored.halted, stored.revision) == (Phase.PAUSED, True, state.revision + 2)
            assert stored.reason.startswith("breaker of boot0: 5 failures of v2 in a row")
