"""UP3 behind one port: a candidate that hangs takes its own places in each worker, and nothing from stable."""

import asyncio
import statistics
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from router.core.traffic import SERVE, bucket_of
from tests.e2e.harness import Admin, Turnouts, config_for
from tests.e2e.load import Load, until
from tests.e2e.model_server import BODY, INFER, ModelServer
from tests.e2e.wire import Line, request
from tests.rounds import allowed, percentile

WORKERS = 3
PLACES = 10
"""The candidate's `max_in_flight`, in each worker."""
OTHERS = 120
"""Clients of the candidate in each round, some 40 for a worker."""
ROUNDS = 5
ASKED = 1_500
TIMES = 1.2
HALF = {
    "candidate": "v2",
    "policy": "canary",
    "steps": [{"weight": "50%", "bake": "1h"}],
    "breaker": {"consecutive": 100_000, "window": 1_000, "ratio": "100%"},
}


@asynccontextmanager
async def others_asking(port: int, user: str) -> AsyncIterator[list[Line]]:
    """Have many clients of the candidate ask once, each on a connection of its own, and nobody wait for them."""
    lines = [await Line.open(port) for _ in range(OTHERS)]
    answers = [line.ask(request("POST", INFER, BODY, {"x-user-id": user})) for line in lines]
    try:
        yield lines
    finally:
        for line in lines:
            line.close()
        await asyncio.gather(*answers, return_exceptions=True)


@pytest.mark.alone
@pytest.mark.slow
async def test_up3_a_hanging_candidate_costs_stable_nothing_in_any_of_three_workers(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """At weight 50 %: stable's p99 at most 1.2 times that of rounds without, and 3 x 10 requests at the candidate.

    What finds no place is refused at once by our 503, which is no failure of the candidate.
    """
    config = config_for(stable, candidate, rollout=HALF, rescue={"enabled": False})
    config["gateway"] |= {"workers": WORKERS}
    config["routes"]["digits"]["variants"]["v2"] |= {"max_in_flight": PLACES, "max_queue": 0}
    serve = await turnouts.start(config)
    rollout = await Admin(serve.port("admin")).until_routed(replicas=WORKERS)
    users = {bucket_of(f"user{number}".encode(), rollout["id"], SERVE) < 5_000: f"user{number}" for number in range(99)}
    port, most = serve.port("gateway"), 0

    def count(_: object) -> None:
        nonlocal most
        most = max(most, len(candidate.lines))

    candidate.on_request = count
    load = Load(port, clients=24, headers_of=lambda _: {"x-user-id": users[False]})

    async def p99_ms(*, hangs: bool) -> float:
        candidate.delay_s = 3_600.0 if hangs else 0.0
        before, seen = len(load.latencies_s), len(candidate.seen)
        async with others_asking(port, users[True]):
            await load.until_answered(ASKED)
            if hangs:
                assert len(candidate.seen) - seen == WORKERS * PLACES
        candidate.delay_s = 0.0
        await until(lambda: not candidate.lines or not hangs, 10.0)
        return 1000 * percentile(load.latencies_s[before:], 0.99)

    async with load.running():
        await p99_ms(hangs=False)
        rounds = [(await p99_ms(hangs=False), await p99_ms(hangs=True)) for _ in range(ROUNDS)]
        workers = set(load.workers.values())
    calm, stormy = (list(column) for column in zip(*rounds, strict=True))
    limit_ms = allowed(TIMES, calm)
    figure(
        f"UP3, three workers: stable's p99 {statistics.median(stormy):.2f} ms beside a hanging candidate, "
        f"{statistics.median(calm):.2f} ms without (allowed {limit_ms:.2f}); "
        f"at most {most} connections to the candidate, {WORKERS} x {PLACES} places"
    )
    assert load.errors == []
    assert len(workers) == WORKERS
    assert most <= WORKERS * PLACES
    assert statistics.median(stormy) <= limit_ms
