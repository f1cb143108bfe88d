"""The store comes back empty or older amid a ramp: one server, a cluster, a failover. No client, no weight notices.

The ramp walks from 10 to 20 % and waits there for an approval. Whatever the store forgets, gateways and control give
back: no weight is ever seen that is not the plan's next one, no epoch and no revision goes back, and in the end
every request is counted once.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis

from router.store import keys
from router.store.embedded import EmbeddedValkey, find_binary
from tests.chaos.test_store_loss import Sampler
from tests.e2e.harness import ROUTE, Admin, Turnout, Turnouts, config_for
from tests.e2e.load import Load, eventually
from tests.e2e.model_server import ModelServer
from tests.e2e.wire import fetch, request
from tests.store.conftest import OLDEST
from tests.store.fleets import Fleet, Node, cluster, watched

PLAN_BP = (1_000, 2_000)
STEPS = [{"weight": f"{bp // 100}%", "mirror": "100%", "bake": "1s", "min_requests": 20} for bp in PLAN_BP]
RAMP = {"candidate": "v2", "policy": "canary", "steps": [*STEPS[:-1], {**STEPS[-1], "approval": True}]}
RECOVERED_S = 20.0


@dataclass
class Watch:
    """Looks again and again at what the gateway routes by, and at what control says of the rollout."""

    serve: Turnout
    admin: Admin
    weights_bp: list[int] = field(default_factory=list)
    told: list[tuple[int, int, int]] = field(default_factory=list)
    """(epoch, revision, weight_bp) of each answer of control."""

    @asynccontextmanager
    async def running(self) -> "AsyncIterator[Watch]":
        """Look for the duration of the block."""
        task = asyncio.create_task(self._run())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(0.05)

    async def look(self) -> None:
        """Look once."""
        page = (await fetch(self.serve.port("ops"), request("GET", "/metrics"))).body.decode()
        line = next((line for line in page.splitlines() if line.startswith("turnout_weight_ratio{")), "")
        if line:
            self.weights_bp.append(round(10_000 * float(line.rpartition(" ")[2])))
        answer = await self.admin.ask("GET", "/rollout")
        if answer.status == 200:
            now = answer.json()
            self.told.append((now["epoch"], now["revision"], now["exposure"]["weight_bp"]))

    def check(self) -> None:
        """Fail if a weight was not the plan's next one, or a number went back."""
        assert self.weights_bp == sorted(self.weights_bp)
        assert {*self.weights_bp} <= {0, *PLAN_BP}
        assert [epoch for epoch, _, _ in self.told] == sorted(epoch for epoch, _, _ in self.told)
        assert [revision for _, revision, _ in self.told] == sorted(revision for _, revision, _ in self.told)
        assert [weight for _, _, weight in self.told] == sorted(weight for _, _, weight in self.told)


async def ramp_through(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, url: str, fault: Callable[[], None]
) -> str:
    """Let `fault` happen at 10 % under load, check everything that must hold, and return the figures."""
    config = config_for(stable, candidate, rollout=RAMP, timeouts={"connect": "1s", "total": "1s"})
    serve = await turnouts.start({**config, "store": {"url": url}})
    admin = Admin(serve.port("admin"))
    sampler, watch = Sampler(Admin(serve.port("admin"))), Watch(serve, Admin(serve.port("admin")))
    await admin.until_routed()

    async def at(weight_bp: int) -> bool:
        answer = await admin.ask("GET", "/rollout")
        return answer.status == 200 and answer.json()["exposure"]["weight_bp"] >= weight_bp

    async def answers() -> bool:
        return (await admin.ask("GET", "/evidence")).status == 200

    async with watch.running(), Load(serve.port("gateway"), clients=8, pause_s=0.005, named=True).running() as load:
        await load.until_answered(200)
        await asyncio.to_thread(fault)
        fault_s = time.monotonic()
        await eventually(answers, RECOVERED_S)
        away_s = time.monotonic() - fault_s
        await eventually(lambda: at(PLAN_BP[1]), RECOVERED_S)
        went_on_s = time.monotonic() - fault_s
        number = load.asked

        async def pairs_flow() -> bool:
            answer = await admin.ask("GET", "/pairs?limit=1")
            return bool(answer.status == 200 and answer.json() and int(answer.json()[0]["request_id"]) >= number)

        await eventually(pairs_flow)
    assert load.errors == []
    watch.check()

    async def all_counted() -> bool:
        await sampler.sample()
        return (sampler.total("started"), sampler.total("pair")) == (load.asked, load.asked)

    try:
        await eventually(all_counted, 10.0)
    finally:
        counted = sampler.total("started"), sampler.total("pair")
        assert counted == (load.asked, load.asked)
    return (
        f"{load.asked} requests, 0 errors, all counted; the store was away for {away_s:.2f} s and the next step came "
        f"after {went_on_s:.2f} s; weights seen {sorted({*watch.weights_bp})}"
    )


async def rollout_of(admin: Admin) -> Any:  # noqa: ANN401 - JSON
    """Return the rollout, asking again while the store is away: on a busy machine it may be late for once."""
    found: list[Any] = []

    async def answered() -> bool:
        answer = await admin.ask("GET", "/rollout")
        assert answer.status in (200, 503), answer
        found[:] = [answer.json()]
        return answer.status == 200

    await eventually(answered, RECOVERED_S)
    return found[0]


class Backup:
    """Everything in one server at one moment, and the way back to it: as from an older RDB file."""

    def __init__(self, url: str) -> None:
        self._url = url
        with redis.Redis.from_url(url) as client:
            self._dumps = {key: client.dump(key) for key in client.scan_iter()}

    def restore(self) -> None:
        """Let the server hold that, and nothing else."""
        with redis.Redis.from_url(self._url) as client:
            pipeline = client.pipeline(transaction=True)
            pipeline.flushall()
            for key, dump in self._dumps.items():
                pipeline.restore(key, 0, dump)
            pipeline.execute()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[str]:
    """The URL of a server that `turnout serve` did not start."""
    with EmbeddedValkey(tmp_path / "elsewhere") as server:
        yield server.url


async def test_rd5_a_store_that_forgets_everything_is_given_it_back(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, valkey: str, figure: Callable[[str], None]
) -> None:
    """FLUSHALL at 10 %: the ramp goes on from there, and all that was ever counted is counted again."""

    def flush() -> None:
        with redis.Redis.from_url(valkey) as client:
            client.flushall()

    figure(await ramp_through(turnouts, stable, candidate, valkey, flush))


@pytest.mark.slow
async def test_rd5_a_store_restored_from_a_backup_does_not_take_the_rollout_back(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, valkey: str, figure: Callable[[str], None]
) -> None:
    """Rolled back after the backup was made: when that is restored the candidate had 20 %, and still gets nothing."""
    serve = await turnouts.start(config_for(stable, candidate, rollout=RAMP) | {"store": {"url": valkey}})
    admin = Admin(serve.port("admin"))
    await admin.until_routed()
    async with Load(serve.port("gateway"), clients=8, pause_s=0.005).running() as load:

        async def at_the_end() -> bool:
            return bool((await rollout_of(admin))["exposure"]["weight_bp"] == PLAN_BP[-1])

        await eventually(at_the_end, RECOVERED_S)
        backup = Backup(valkey)

        async def is_aborted() -> bool:
            await admin.ask("POST", "/rollout/abort", {"reason": "harm"})
            now = await rollout_of(admin)
            routed = {replica["revision"] for replica in now["replicas"]}
            return bool(now["phase"] == "rolled_back" and routed == {now["revision"]})

        await eventually(is_aborted, RECOVERED_S)
        aborted = await rollout_of(admin)
        served = sum(not seen.is_copy for seen in candidate.seen)
        await asyncio.to_thread(backup.restore)
        restored_s = time.monotonic()

        async def given_back() -> bool:
            with redis.Redis.from_url(valkey) as client:
                return bool(client.hget(keys.state(ROUTE), "revision") == str(aborted["revision"]).encode())

        await eventually(given_back, RECOVERED_S)
        given_back_s = time.monotonic() - restored_s
        await load.keep_on(2.0)
    after = await rollout_of(admin)
    assert (after["phase"], after["revision"]) == ("rolled_back", aborted["revision"])
    assert after["epoch"] >= aborted["epoch"]
    # Those on their way when the last gateway had applied the abort; at 20 % there would have been hundreds.
    assert sum(not seen.is_copy for seen in candidate.seen) <= served + load.clients
    assert load.errors == []
    figure(f"given back after {given_back_s:.2f} s, {load.answered} requests, none of the later ones to the candidate")


@pytest.mark.slow
async def test_rd5_a_failover_during_a_ramp_is_noticed_by_nobody(
    turnouts: Turnouts,
    stable: ModelServer,
    candidate: ModelServer,
    tmp_path: Path,
    figure: Callable[[str], None],
) -> None:
    """SIGKILL of the primary behind three sentinels: the replica may lag, and learns again what it had not heard."""
    with watched(OLDEST or find_binary(), tmp_path / "watched") as fleet:
        figure(await ramp_through(turnouts, stable, candidate, fleet.url, fleet.primary().stop))


@pytest.mark.slow
async def test_rd5_a_cluster_node_that_comes_back_empty_during_a_ramp_is_noticed_by_nobody(
    turnouts: Turnouts,
    stable: ModelServer,
    candidate: ModelServer,
    tmp_path: Path,
    figure: Callable[[str], None],
) -> None:
    """Kill -9 of the node that has the Route, which keeps nothing on disk: state, evidence and pair log go on there."""
    with cluster(find_binary(), tmp_path / "cluster") as fleet:

        def restart_empty() -> None:
            node = owner_of_route(fleet)
            node.stop()
            node.start()

        figure(await ramp_through(turnouts, stable, candidate, fleet.url, restart_empty))


def owner_of_route(fleet: Fleet) -> Node:
    """Return the node that holds the Route's state."""
    for node in fleet.nodes:
        with contextlib.suppress(redis.RedisError):
            if node.ask("EXISTS", keys.state(ROUTE)):
                return node
    raise AssertionError("no node holds the Route's state")
