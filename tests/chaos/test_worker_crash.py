"""A gateway worker is killed under load: only what it had in flight fails, and another one takes its place."""

import asyncio
import os
import signal
import time
from collections.abc import Callable

import pytest

from router.core.traffic import SERVE, bucket_of
from tests.e2e.harness import Admin, Turnouts, config_for, slowdown
from tests.e2e.load import Load, ask_all, until, worker_of
from tests.e2e.model_server import BODY, INFER, ModelServer
from tests.e2e.wire import fetch, request

CANARY = {"candidate": "v2", "policy": "canary", "steps": [{"weight": "30%"}]}
REPLACED_S = 1.0
CLIENTS = 32


async def test_cf5_a_killed_worker_is_replaced_and_only_its_in_flight_requests_fail(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """One of two, kill -9: within 1 s another one answers; the other worker's clients and new ones notice nothing."""
    stable.delay_s = candidate.delay_s = 0.01  # so that requests are in flight when it happens
    config = config_for(stable, candidate, rollout=CANARY)
    config["gateway"] |= {"workers": 2}
    serve = await turnouts.start(config)
    admin = Admin(serve.port("admin"))
    replicas = (await admin.until_routed(replicas=2))["replicas"]
    allowed_s = REPLACED_S * slowdown()
    async with Load(serve.port("gateway"), clients=CLIENTS).running() as load:
        await load.until_answered(500)
        assert len(set(load.workers.values())) == 2
        victim = replicas[0]
        held = {client for client, worker in load.workers.items() if worker == victim["id"]}
        calm = sorted(load.latencies_s)
        load.latencies_s.clear()
        os.kill(victim["pid"], signal.SIGKILL)
        killed_s = time.monotonic()

        old = {replica["id"] for replica in replicas}
        newcomers: list[str] = []

        async def newcomer() -> None:
            newcomers.append(worker_of(await fetch(serve.port("gateway"), request("POST", INFER, BODY))))

        arriving = []
        while set(newcomers) <= old:
            assert time.monotonic() - killed_s < 10 * REPLACED_S
            arriving.append(asyncio.create_task(newcomer()))
            await asyncio.sleep(0.01)
        replaced_s = time.monotonic() - killed_s
        await asyncio.gather(*arriving)
        await load.until_answered(500)
        assert set(load.workers.values()) & old == {replicas[1]["id"]}
    stormy = sorted(load.latencies_s)
    allowed_s = max(allowed_s, REPLACED_S * slowdown())
    assert replaced_s <= allowed_s
    assert load.statuses.keys() == {200}
    assert {failure.client for failure in load.failures} <= held
    assert len(load.failures) <= len(held)
    pids = {replica["pid"] for replica in replicas}
    assert len(set(serve.workers()) - pids) == 1
    assert victim["pid"] not in serve.workers()
    p99 = [1000 * some[len(some) * 99 // 100] for some in (calm, stormy)]
    figure(
        f"replaced after {1000 * replaced_s:.0f} ms (allowed now: {1000 * allowed_s:.0f}), "
        f"{len(load.failures)} requests failed on {len(held)} connections, "
        f"{len(newcomers)} new connections meanwhile without error, p99 {p99[0]:.0f} ms before, {p99[1]:.0f} ms after"
    )


@pytest.mark.slow
async def test_cf5_a_worker_replaced_while_the_store_is_frozen_routes_as_before(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer
) -> None:
    """Without the store the new worker goes by the states on disk: the same weight, the same users."""
    serve = await turnouts.start(config_for(stable, candidate, rollout=CANARY))
    await Admin(serve.port("admin")).until_routed()
    messages = [request("POST", INFER, BODY, {"x-user-id": f"user-{number}"}) for number in range(500)]

    async def sides() -> list[str]:
        answers = await ask_all(serve.port("gateway"), messages)
        return [answer.headers["x-turnout-variant"] for answer in answers]

    before = await sides()
    assert 100 <= before.count("candidate") <= 200
    store, (worker,) = serve.pid_of("valkey-server"), serve.workers()
    os.kill(store, signal.SIGSTOP)
    try:
        os.kill(worker, signal.SIGKILL)
        await until(lambda: serve.workers() not in ([worker], []))
        assert await sides() == before
    finally:
        os.kill(store, signal.SIGCONT)


@pytest.mark.slow
async def test_dp11_real_replicas_and_their_successors_agree_on_every_user(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer
) -> None:
    """Three workers, each killed and replaced: 1,000 users are asked for again, each is on the side of its bucket."""
    config = config_for(stable, candidate, rollout={**CANARY, "steps": [{"weight": "10%"}]})
    config["gateway"] |= {"workers": 3}
    serve = await turnouts.start(config)
    admin = Admin(serve.port("admin"))
    rollout = await admin.until_routed(replicas=3)
    users = [f"user-{number}" for number in range(1_000)]
    messages = [request("POST", INFER, BODY, {"x-user-id": user}) for user in users]
    expected = [bucket_of(user.encode(), rollout["id"], SERVE) < 1_000 for user in users]
    for round_ in range(2):
        answers = await ask_all(serve.port("gateway"), messages, clients=64)
        assert [answer.headers["x-turnout-variant"] == "candidate" for answer in answers] == expected
        assert len({worker_of(answer) for answer in answers}) == 3
        if not round_:
            old = serve.workers()
            for pid in old:
                os.kill(pid, signal.SIGKILL)
            await until(lambda old=old: len(set(serve.workers()) - set(old)) == 3)  # type: ignore[misc]
