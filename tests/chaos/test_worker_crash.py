"""A gateway worker is killed under load: only what it had in flight fails, and another one takes its place."""

import asyncio
import os
import signal
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from router.core.traffic import SERVE, bucket_of
from tests.e2e.harness import Admin, Turnout, Turnouts, config_for, slowdown
from tests.e2e.load import Load, ask_all, until, worker_of
from tests.e2e.model_server import BODY, INFER, ModelServer
from tests.e2e.wire import Answer, fetch, request
from tests.rounds import allowed, percentile

CANARY = {"candidate": "v2", "policy": "canary", "steps": [{"weight": "30%"}]}
REPLACED_S = 1.0
OTHERS_TIMES = 2.0
"""How many times its usual value the p99 of the workers that live on may be."""
WORKERS = 3
CLIENTS = 36
ROUNDS = 5
CALM_S = 0.7
"""A calm round; a round with a kill lasts as long, or until the worker is replaced."""


@dataclass
class Crash:
    """One worker killed under load, as its clients and those of the others saw it."""

    replaced_s: float
    allowed_s: float
    failed: int
    held: int
    newcomers: int
    p99_ms: float


class Crowd:
    """Clients of all workers, and how long each worker made them wait."""

    def __init__(self, serve: Turnout) -> None:
        self.port = serve.port("gateway")
        self.waited_ms: list[tuple[str, float]] = []
        self.load = Load(self.port, clients=CLIENTS, on_answer=self._note)

    def _note(self, answer: Answer) -> None:
        self.waited_ms.append((worker_of(answer), 1000 * (answer.ended_s - answer.started_s)))

    async def calm(self, but: str) -> float:
        """Return the p99 in ms of all workers but one, while nothing happens."""
        self.waited_ms.clear()
        await self.load.keep_on(CALM_S)
        return self._p99(but)

    async def kill(self, victim: Mapping[str, Any], others: set[str]) -> Crash:
        """Kill a worker; return once another one answers in its place and the round is over."""
        load = self.load
        held = {client for client, worker in load.workers.items() if worker == victim["id"]}
        before = len(load.failures)
        allowed_s = REPLACED_S * await asyncio.to_thread(slowdown)  # a thread, or all clients would wait for it
        self.waited_ms.clear()
        os.kill(victim["pid"], signal.SIGKILL)
        killed_s = time.monotonic()
        newcomers: list[str] = []
        arriving = []

        async def newcomer() -> None:
            newcomers.append(worker_of(await fetch(self.port, request("POST", INFER, BODY))))

        while set(newcomers) <= others | {victim["id"]}:
            assert time.monotonic() - killed_s < 10 * REPLACED_S
            arriving.append(asyncio.create_task(newcomer()))
            await asyncio.sleep(0.01)
        replaced_s = time.monotonic() - killed_s
        await asyncio.gather(*arriving)
        await load.keep_on(CALM_S - replaced_s)
        failed = [failure.client for failure in load.failures[before:]]
        assert set(failed) <= held
        assert len(failed) <= len(held)
        p99_ms = self._p99(victim["id"])
        allowed_s = max(allowed_s, REPLACED_S * await asyncio.to_thread(slowdown))
        return Crash(replaced_s, allowed_s, len(failed), len(held), len(newcomers), p99_ms)

    def _p99(self, but: str) -> float:
        return percentile([waited for worker, waited in self.waited_ms if worker != but], 0.99)


@pytest.mark.alone
@pytest.mark.slow
async def test_cf5_a_killed_worker_is_replaced_and_only_its_in_flight_requests_fail(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """Of three, one after another, kill -9: within 1 s another one answers, new clients notice nothing, others little.

    Little: the p99 of the two that live on is at most twice that of calm rounds in between.
    """
    stable.delay_s = candidate.delay_s = 0.01  # so that requests are in flight when it happens
    config = config_for(stable, candidate, rollout=CANARY)
    config["gateway"] |= {"workers": WORKERS}
    serve = await turnouts.start(config)
    admin = Admin(serve.port("admin"))
    await admin.until_routed(replicas=WORKERS)
    crowd = Crowd(serve)
    calm_ms: list[float] = []
    crashes: list[Crash] = []
    async with crowd.load.running():
        await crowd.load.until_answered(500)
        for _ in range(ROUNDS):
            pids = serve.workers()
            living = [one for one in (await admin.rollout())["replicas"] if one["pid"] in pids]
            victim = living[0]  # the oldest: one that has just replaced another is left in peace
            calm_ms.append(await crowd.calm(but=victim["id"]))
            crashes.append(await crowd.kill(victim, {one["id"] for one in living[1:]}))
            await until(lambda pids=pids: len(set(serve.workers()) - set(pids)) == 1)  # type: ignore[misc]
            assert victim["pid"] not in serve.workers()
    stormy_ms = [crash.p99_ms for crash in crashes]
    failed, held, newcomers = (sum(getattr(one, name) for one in crashes) for name in ("failed", "held", "newcomers"))
    figure(
        f"{ROUNDS} kills: replaced after {', '.join(f'{1000 * one.replaced_s:.0f}' for one in crashes)} ms "
        f"(allowed then: {', '.join(f'{1000 * one.allowed_s:.0f}' for one in crashes)}); "
        f"{failed} requests failed on {held} connections of the dead; {newcomers} new connections meanwhile, no error; "
        f"p99 of the others {statistics.median(stormy_ms):.1f} ms, in calm rounds {statistics.median(calm_ms):.1f} ms "
        f"(allowed {allowed(OTHERS_TIMES, calm_ms):.1f})"
    )
    assert crowd.load.statuses.keys() == {200}
    assert held > 0
    assert all(crash.replaced_s <= crash.allowed_s for crash in crashes)
    assert statistics.median(stormy_ms) <= allowed(OTHERS_TIMES, calm_ms)


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
