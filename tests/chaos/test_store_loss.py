"""The store dies or freezes under load: clients notice nothing, and nothing that was counted is ever taken back."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from tests.e2e.harness import ROUTE, Admin, Turnout, Turnouts, config_for
from tests.e2e.load import Load, beside, eventually, until
from tests.e2e.model_server import ModelServer
from tests.e2e.wire import fetch, request
from tests.patience import patient_store

MIXED = {"candidate": "v2", "policy": "canary", "steps": [{"weight": "30%", "mirror": "100%"}]}
ALL_PAIRS = 1_000_000
SAMPLE_S = 0.05


@dataclass
class Sampler:
    """Reads the evidence again and again, and notes whatever went backwards."""

    admin: Admin
    last: dict[tuple[int, str, str, str], int] = field(default_factory=dict)
    good: int = 0
    away: int = 0
    backwards: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> "AsyncIterator[Sampler]":
        """Sample for the duration of the block."""
        async with beside(self._run()):
            yield self

    async def _run(self) -> None:
        while True:
            await self.sample()
            await asyncio.sleep(SAMPLE_S)

    async def sample(self) -> None:
        """Take one sample."""
        counters = await self.admin.counters()
        if counters is None:
            self.away += 1
            return
        self.good += 1
        for key, value in self.last.items():
            if counters.get(key, 0) < value:
                self.backwards.append(f"{key}: {value} -> {counters.get(key)}")
        self.last = counters

    def total(self, metric: str) -> int:
        """Return the sum over all cells of one metric in the last sample, of pairs only for `pair`."""
        of = {(metric, "pair")} if metric == "pair" else {(metric, "stable"), (metric, "candidate")}
        return sum(value for (_, name, variant, _), value in self.last.items() if (name, variant) in of)


async def share_of_candidate(load: Load, stable: ModelServer, candidate: ModelServer) -> float:
    """Return the candidate's share of the live requests of some hundred milliseconds from now on."""
    before = [sum(not seen.is_copy for seen in server.seen) for server in (stable, candidate)]
    await load.until_answered(1_500)
    after = [sum(not seen.is_copy for seen in server.seen) for server in (stable, candidate)]
    of_stable, of_candidate = (late - early for early, late in zip(before, after, strict=True))
    return of_candidate / (of_stable + of_candidate)


async def stored_pairs(serve: Turnout) -> list[str]:
    """Return the request ids of all pairs in the store, read past the API's limit of 1,000."""
    (directory,) = serve.tmp.glob("turnout-store-*")
    store = patient_store(f"unix://{directory / 's'}")
    try:
        return [pair.request_id for pair in await store.pairs(ROUTE, ALL_PAIRS)]
    finally:
        await store.close()


async def kill(serve: Turnout, times: int) -> None:
    """Kill the store server, and each of its successors as soon as it is there, `times` times in all."""
    killed: set[int] = set()
    for _ in range(times):
        pid = serve.pid_of("valkey-server")
        os.kill(pid, signal.SIGKILL)
        killed.add(pid)
        await until(lambda: stores(serve) - killed)


def stores(serve: Turnout) -> set[int]:
    """Return the pids of living store servers."""
    return {pid for pid, command in serve.processes().items() if "valkey-server" in command}


async def freeze(serve: Turnout, seconds: float) -> None:
    """Stop the store server for a while; meanwhile the gateway stays ready, and says that it is degraded."""
    pid = serve.pid_of("valkey-server")
    os.kill(pid, signal.SIGSTOP)
    try:
        thaw_s = time.monotonic() + seconds
        seen = [await fetch(serve.port("ops"), request("GET", "/readyz"))]
        while time.monotonic() < thaw_s:
            await asyncio.sleep(SAMPLE_S)
            seen.append(await fetch(serve.port("ops"), request("GET", "/readyz")))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert {answer.status for answer in seen} == {200}
    assert "store: gateway-0 cannot reach it" in seen[-1].json()["degraded"][0]


def lines_of_trouble(serve: Turnout) -> Counter[str]:
    """Return what was logged as a warning or worse, and how often."""
    return Counter(f"{line['process']}: {line['event']}" for line in serve.logged("warning", "error"))


async def survive(
    turnouts: Turnouts,
    stable: ModelServer,
    candidate: ModelServer,
    fault: Callable[[Turnout], Coroutine[None, None, None]],
) -> str:
    """Let `fault` happen to the store under load, check everything that must hold, and return the figures."""
    serve = await turnouts.start(config_for(stable, candidate, rollout=MIXED))
    admin = Admin(serve.port("admin"))
    before = await admin.until_routed()
    sampler = Sampler(Admin(serve.port("admin")))
    async with sampler.running(), Load(serve.port("gateway"), clients=8, pause_s=0.005, named=True).running() as load:
        await load.until_answered(1_000)
        calm_s = sorted(load.latencies_s)
        load.latencies_s.clear()
        fault_s = time.monotonic()
        trouble = asyncio.create_task(fault(serve))
        share = await share_of_candidate(load, stable, candidate)
        await trouble
        fault_s = time.monotonic() - fault_s
        stormy_s = sorted(load.latencies_s)
        number = load.asked

        async def pairs_flow() -> bool:
            answer = await admin.ask("GET", "/pairs?limit=1")
            return answer.status == 200 and int(answer.json()[0]["request_id"]) >= number

        await eventually(pairs_flow)
    assert load.errors == []
    assert 0.25 <= share <= 0.35  # 4 standard errors
    after = await admin.until_routed()
    assert (after["revision"], after["exposure"]) == (before["revision"], before["exposure"])

    async def all_counted() -> bool:
        await sampler.sample()
        return (sampler.total("started"), sampler.total("pair")) == (load.asked, load.asked)

    try:
        await eventually(all_counted, 5.0)
    finally:
        counted = sampler.total("started"), sampler.total("pair")
        assert counted == (load.asked, load.asked)
    assert sampler.backwards == []
    pairs = await stored_pairs(serve)
    assert sorted(map(int, pairs)) == list(range(load.asked))
    p99 = [1000 * some[len(some) * 99 // 100] for some in (calm_s, stormy_s)]
    return (
        f"fault of {fault_s:.1f} s, {load.asked} requests, 0 errors, {len(pairs)} pairs in the log, "
        f"evidence read {sampler.good} times and refused {sampler.away} times, "
        f"client p99 {p99[0]:.1f} ms before and {p99[1]:.1f} ms during the fault"
    )


async def test_rd1_a_killed_store_is_noticed_by_nobody(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """Kill -9 once: 0 client errors, weights stay; then pairs flow again, and no counter ever went backwards."""
    figure(await survive(turnouts, stable, candidate, lambda serve: kill(serve, 1)))


@pytest.mark.slow
async def test_rd1_a_store_killed_again_and_again_is_noticed_by_nobody(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """The same with six kills in a row, each as soon as the store is back."""
    figure(await survive(turnouts, stable, candidate, lambda serve: kill(serve, 6)))


@pytest.mark.slow
async def test_rd2_a_frozen_store_is_noticed_by_nobody(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """The same with a store that keeps its connections and answers nothing for 5 s; few lines are logged."""
    figure(await survive(turnouts, stable, candidate, lambda serve: freeze(serve, 5.0)))
    assert lines_of_trouble(turnouts.started[0]) == {
        "gateway-0: store not reachable: routing goes on by the last states, pairs wait in memory": 1,
        "control: the store is away; nothing is decided until it is back": 1,
    }
