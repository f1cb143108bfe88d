"""Two workers behind one port: who gets the connections and the requests, and one page of metrics for both."""

import re
from collections import Counter
from collections.abc import Callable

import pytest

from tests.e2e.harness import Turnouts, config_for
from tests.e2e.load import Load
from tests.e2e.model_server import ModelServer
from tests.e2e.wire import fetch, request

CLIENTS = 64
REQUESTS = 3_000


async def total(port: int, name: str) -> float:
    """Return the sum over all series of a metric."""
    page = (await fetch(port, request("GET", "/metrics"))).body.decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.MULTILINE))


@pytest.mark.slow
async def test_two_workers_share_connections_and_requests_and_one_page_counts_both(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """Of 64 connections each has 32 within four deviations of a fair coin; requests follow; the page misses none."""
    config = config_for(stable, candidate)
    config["gateway"] |= {"workers": 2}
    serve = await turnouts.start(config)
    assert len(serve.workers()) == 2
    load = Load(serve.port("gateway"), clients=CLIENTS)
    by_worker: Counter[str] = Counter()
    load.on_answer = lambda answer: by_worker.update([answer.headers["x-request-id"].partition("-")[0]])
    async with load.running():
        await load.until_answered(REQUESTS)
        connections = Counter(load.workers.values())
    assert load.errors == []
    assert by_worker.total() == load.answered
    assert sum(connections.values()) == CLIENTS
    figure(f"connections {sorted(connections.values())}, requests {sorted(by_worker.values())}")
    assert sorted(connections) == sorted(by_worker)
    assert len(connections) == 2
    assert min(connections.values()) >= CLIENTS / 2 - 4 * (CLIENTS**0.5 / 2)
    for worker, number in connections.items():
        fair = load.answered * number / CLIENTS
        assert 0.7 * fair <= by_worker[worker] <= 1.4 * fair
    assert await total(serve.port("ops"), "turnout_requests_total") == load.answered
    assert await total(serve.port("ops"), "turnout_request_seconds_count") == load.answered
    assert await total(serve.port("ops"), "turnout_in_flight") == 0
