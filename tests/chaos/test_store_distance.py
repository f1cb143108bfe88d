"""RD9: no request asks the store anything: not in its commands, and not in the time a client waits."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.harness import Admin, Turnouts, config_for
from tests.e2e.load import Load
from tests.e2e.model_server import ModelServer
from tests.store.fleets import Node, one_server
from tests.store.wires import Wire

MIXED = {"candidate": "v2", "policy": "canary", "steps": [{"weight": "30%", "mirror": "100%"}]}
REQUESTS = 1_000
CALM_PER_S = 60
"""Commands a second of one worker and one control process: 20 batches, and some 10 each for polls, turns and beats."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Node]:
    """A server that listens on a port; asked for before `turnouts`, so that it outlives them."""
    with one_server(tmp_path / "server") as node:
        yield node


@pytest.fixture
async def wire(server: Node) -> AsyncIterator[Wire]:
    """The wire to that server."""
    async with Wire(server.port).running() as running:
        yield running


@asynccontextmanager
async def monitored(port: int) -> AsyncIterator[Counter[str]]:
    """Count the commands that a server is sent, by name; what a script does inside is not counted."""
    counts: Counter[str] = Counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    writer.write(b"MONITOR\r\n")
    assert await reader.readline() == b"+OK\r\n"

    async def count() -> None:
        while line := await reader.readline():
            who, _, command = line.decode("latin-1").partition("] ")
            if not who.endswith("lua"):
                counts[command.split('"')[1].upper()] += 1

    counting = asyncio.create_task(count())
    try:
        yield counts
    finally:
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)
        writer.close()


async def test_rd9_no_request_sends_a_command(
    server: Node, turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """A thousand requests, all with copies: the server's commands come by the clock, not by the request."""
    config = config_for(stable, candidate, rollout=MIXED, affinity=[])
    serve = await turnouts.start(config | {"store": {"url": f"redis://127.0.0.1:{server.port}"}})
    await Admin(serve.port("admin")).until_routed()
    async with monitored(server.port) as counts:
        began_s = time.monotonic()
        async with Load(serve.port("gateway"), clients=16, pause_s=0).running() as load:
            await load.until_answered(REQUESTS)
        took_s = time.monotonic() - began_s
    assert load.errors == []
    assert counts["EVAL"] > 0  # batches, or nobody was listening
    assert counts.total() <= CALM_PER_S * (took_s + 1.0)
    figure(f"{counts.total()} commands in {took_s:.2f} s of {load.answered} requests: {dict(counts)}")


@pytest.mark.slow
async def test_rd9_a_store_that_is_far_away_is_not_felt(
    wire: Wire, turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """With 200 ms more to the store and back the clients' p99 stays what it was, in five alternating rounds."""
    config = config_for(stable, candidate, rollout=MIXED, affinity=[])
    serve = await turnouts.start(config | {"store": {"url": f"redis://127.0.0.1:{wire.port}"}})
    await Admin(serve.port("admin")).until_routed()
    near: list[float] = []
    far: list[float] = []
    async with Load(serve.port("gateway"), clients=8, pause_s=0.002).running() as load:
        for number in range(10):
            wire.delay_s = 0.1 if number % 2 else 0.0
            load.latencies_s.clear()
            await load.until_answered(400)
            taken_ms = sorted(1000 * one for one in load.latencies_s)
            (far if number % 2 else near).append(taken_ms[len(taken_ms) * 99 // 100])
        wire.delay_s = 0.0
    assert load.errors == []
    spread_ms = max(near) - min(near)
    added_ms = statistics.median(far) - statistics.median(near)
    figure(f"p99 {statistics.median(near):.1f} ms near and {statistics.median(far):.1f} ms far, spread {spread_ms:.1f}")
    assert added_ms <= max(20.0, 3 * spread_ms)
