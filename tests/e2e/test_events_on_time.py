"""Server-sent events through `turnout serve`, by two hundred streams at once, each copied and both read."""

import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from tests.e2e.harness import Admin, Turnout, Turnouts, clean_environment, config_for, slowdown
from tests.e2e.load import eventually
from tests.e2e.model_server import ModelServer
from tests.e2e.wire import fetch, request
from tests.rounds import percentile

ROOT = Path(__file__).parents[2]
STREAMS = 200
ROUNDS = 5
EVENTS = 10
"""Of one stream in one round: 10,000 in all, directly and through the gateway."""
EVERY_S = 0.1
LATER_MS = 20.0
GONE_S = 2.0

_AT = re.compile(rb'"at":(\d+\.\d+)')

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(120)]


class Stream(asyncio.Protocol):
    """One client of one stream: `late_ms` has a figure for each event, `ended` is set with the stream's end."""

    def __init__(self) -> None:
        self.late_ms: list[float] = []
        self.first_s = self.last_s = 0.0
        self.ended = asyncio.Event()
        self._rest = b""

    @classmethod
    async def ask(cls, port: int, number: int, events: int) -> "Stream":
        """Ask for a stream whose events are due between those of the others."""
        transport, stream = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        body = json.dumps({"events": events, "every_s": EVERY_S, "phase_s": EVERY_S * number / STREAMS}).encode()
        transport.write(request("POST", "/v1/chat/completions", body, {"x-request-id": f"stream-{number}"}))
        return stream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Note when each event came."""
        self.last_s = time.monotonic()
        self.first_s = self.first_s or self.last_s
        whole, between, self._rest = (self._rest + data).rpartition(b"\n\n")
        self.late_ms += [(self.last_s - float(at)) * 1_000 for at in _AT.findall(whole + between)]
        if self._rest.endswith(b"0\r\n\r\n"):
            self.ended.set()

    def abort(self) -> None:
        """Leave."""
        self._transport.abort()


@contextmanager
def model_server() -> Iterator[int]:
    """Run one in its own process for the duration of the block; gives its port."""
    command = [sys.executable, "-m", "tests.e2e.event_server"]
    with subprocess.Popen(command, cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


@pytest.fixture
def models() -> Iterator[Sequence[int]]:
    """The ports of the servers of v1 and v2."""
    with model_server() as stable, model_server() as candidate:
        yield stable, candidate


@pytest.fixture
async def serve(turnouts: Turnouts, models: Sequence[int]) -> Turnout:
    """A Turnout that copies every stream and reads both."""
    stable, candidate = [ModelServer(number, port=port) for number, port in enumerate(models)]
    rollout = {"candidate": "v2", "policy": "shadow"}
    config = config_for(stable, candidate, match={}, adapter="openai", mirror_safe=True, rollout=rollout)
    one = await turnouts.start(config)
    await Admin(one.port("admin")).until_routed()
    return one


async def streams(port: int, events: int) -> Sequence[Stream]:
    """Return all streams, under way."""
    return await asyncio.gather(*[Stream.ask(port, number, events) for number in range(STREAMS)])


async def late_ms(port: int) -> list[float]:
    """Return how late each event of one round was; fails unless all streams were open at once and are whole."""
    found = await streams(port, EVENTS)
    async with asyncio.timeout(30):
        await asyncio.gather(*[stream.ended.wait() for stream in found])
    assert max(stream.first_s for stream in found) < min(stream.last_s for stream in found)
    assert {len(stream.late_ms) for stream in found} == {EVENTS}
    for stream in found:
        stream.abort()
    return [one for stream in found for one in stream.late_ms]


async def test_10000_events_are_at_most_20_ms_later_than_direct_ones(
    serve: Turnout, models: Sequence[int], figure: Callable[[str], None]
) -> None:
    """200 streams at once, directly and through the gateway by turns, by an open loop; every pair knows both texts.

    Judged is the median of the rounds' p99: what another process takes from one round says nothing of the gateway.
    """
    gateway = serve.port("gateway")
    direct: list[float] = []
    through: list[float] = []
    added_ms: list[float] = []
    for _ in range(ROUNDS):
        direct += (asked_directly := await late_ms(models[0]))
        through += (asked := await late_ms(gateway))
        added_ms.append(percentile(asked, 0.99) - percentile(asked_directly, 0.99))
    figure(
        f"{len(through)} events: p50 {percentile(through, 0.5):.2f} ms, direct {percentile(direct, 0.5):.2f}; "
        f"p99 {percentile(through, 0.99):.2f} ms, direct {percentile(direct, 0.99):.2f}; "
        f"p99 of each round later by {', '.join(f'{one:.2f}' for one in added_ms)} ms"
    )
    assert len(through) == len(direct) == 10_000
    assert statistics.median(added_ms) <= LATER_MS * slowdown()

    admin = Admin(serve.port("admin"))

    async def all_there() -> bool:
        return len(await admin.get("/pairs?limit=1000")) == ROUNDS * STREAMS

    await eventually(all_there)
    for pair in await admin.get("/pairs?limit=1000"):
        assert pair["comparison"]["same"] is True, pair
        for side in (pair["stable"], pair["candidate"]):
            assert side["prediction"]["label"] == "a" * EVENTS
            assert side["generation"]["finish"] == "stop"
            assert 0 < side["generation"]["first_token_ms"] < side["latency_ms"]


async def test_200_clients_that_leave_end_their_streams_and_the_copies(
    serve: Turnout, models: Sequence[int], figure: Callable[[str], None]
) -> None:
    """Both servers are let go of soon after, and the pairs say that nobody failed."""

    async def writing() -> list[int]:
        return [int((await fetch(port, request("GET", "/"))).body) for port in models]

    under_way = await streams(serve.port("gateway"), events=1_000)

    async def all_begun() -> bool:
        return await writing() == [STREAMS, STREAMS] and all(stream.late_ms for stream in under_way)

    await eventually(all_begun)
    for stream in under_way:
        stream.abort()
    began_s = time.monotonic()

    async def all_left() -> bool:
        return await writing() == [0, 0]

    await eventually(all_left, GONE_S)
    figure(f"{STREAMS} streams and their copies were let go of {1_000 * (time.monotonic() - began_s):.0f} ms after")
    admin = Admin(serve.port("admin"))

    async def all_there() -> bool:
        return len(await admin.get("/pairs?limit=1000")) == STREAMS

    await eventually(all_there)
    outcomes = {(one["stable"]["outcome"], one["candidate"]["outcome"]) for one in await admin.get("/pairs?limit=1000")}
    assert outcomes == {("cancelled", "cancelled")}
