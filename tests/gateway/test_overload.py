"""Overload: what is too much is refused at once, the rest is served as ever, copies go before live requests.

Capacity is the upstream's: a model server in a process of its own with a few slots, as many as the variant has places.
The load is open loop and in a process of its own too.
"""

import asyncio
import json
import math
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from router.core.config import RecorderConfig
from router.core.traffic import Backend, Timeouts, Variant
from router.gateway.lag import LoopLag
from router.testing import MemoryServer
from tests.gateway.bench import Bench, Gateway, route_of, started, until
from tests.gateway.clients import request
from tests.gateway.test_waiting import PLENTY_S, Gate
from tests.gateway.upstreams import Visit

SLOTS = 4
SERVICE_MS = 40
CAPACITY = SLOTS / (SERVICE_MS / 1000)


@dataclass(frozen=True, slots=True)
class Load:
    """What became of the requests of one open-loop load; latencies in ms from when each was due."""

    seconds: float
    accepted_ms: Sequence[float]
    rejected_ms: Sequence[float]
    others: Sequence[object]

    @property
    def goodput(self) -> float:
        """Accepted a second."""
        return len(self.accepted_ms) / self.seconds


def p99(values: Sequence[float]) -> float:
    """Return the 99th percentile."""
    return sorted(values)[math.ceil(len(values) * 0.99) - 1]


async def load(gateway: Gateway, rate: float, seconds: float) -> Load:
    """Put an open-loop load on the gateway from another process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.gateway.open_load", str(gateway.port), str(rate), str(seconds),
        stdout=asyncio.subprocess.PIPE, limit=2**26,
    )  # fmt: skip
    try:
        out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    answers = json.loads(out)["answers"]
    accepted = [ms for _, status, ms, _ in answers if status == 200]
    rejected = [ms for _, status, ms, retry_after in answers if status == 503 and retry_after == "1"]
    others = [one for one in answers if one[1] != 200 and (one[1], one[3]) != (503, "1")]
    return Load(seconds, accepted, rejected, others)


@asynccontextmanager
async def model_server(slots: int = SLOTS, service_ms: int = SERVICE_MS) -> AsyncIterator[Backend]:
    """Run a model server in a process of its own for the duration of the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.gateway.slots_server", str(slots), str(service_ms),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield Backend("127.0.0.1", int(await process.stdout.readline()))
    finally:
        process.kill()
        await process.communicate()


def variant(backend: Backend) -> Variant:
    """Return a variant with as many places as its server has slots, and the line of the default."""
    return Variant("v1", (backend,), max_in_flight=SLOTS, max_queue=SLOTS)


async def overloaded(bench: Bench, seconds: float, figure: Callable[[str], None]) -> None:
    """Offer five times what the server can do, and hold what becomes of it against the rest of the run."""
    async with model_server() as backend:
        gateway = await bench.gateway(route_of(variant(backend)))
        baseline = await load(gateway, CAPACITY / 2, 2.0)
        peak = await load(gateway, CAPACITY * 1.2, 2.0)
        over = await load(gateway, CAPACITY * 5, seconds)
        began = time.monotonic()
        after: list[float] = []
        client = await bench.client()
        limit_ms = 3 * p99(baseline.accepted_ms)
        while len(after) < 10:  # in a row
            asked = time.monotonic()
            answer = await client.ask("POST", "/", b"x")
            took_ms = (time.monotonic() - asked) * 1000
            after = [*after, took_ms] if answer.status == 200 and took_ms <= limit_ms else []
            assert time.monotonic() - began < 20, "it recovers"
        recovered_s = time.monotonic() - began - sum(after) / 1000
    figure(
        f"OV1: peak {peak.goodput:.0f}/s; at 5x for {seconds:g} s goodput {over.goodput:.0f}/s, "
        f"{len(over.rejected_ms)} rejected in p99 {p99(over.rejected_ms):.1f} ms, accepted p99 "
        f"{p99(over.accepted_ms):.0f} ms against {p99(baseline.accepted_ms):.0f} ms, median "
        f"{statistics.median(over.accepted_ms):.0f} against {statistics.median(baseline.accepted_ms):.0f} ms; "
        f"as before {recovered_s:.2f} s after"
    )
    assert (baseline.others, peak.others, over.others) == ([], [], [])
    assert over.goodput >= 0.9 * min(peak.goodput, CAPACITY)
    assert len(over.rejected_ms) + len(over.accepted_ms) == round(CAPACITY * 5 * seconds)
    assert p99(over.rejected_ms) <= 50
    assert p99(over.accepted_ms) <= limit_ms
    assert recovered_s <= 2.0


@pytest.mark.slow
async def test_ov1_five_times_the_capacity_is_shed_and_nothing_collapses(
    bench: Bench, figure: Callable[[str], None]
) -> None:
    """Goodput stays at the peak, refusals are quick, what is accepted takes at most three times as long."""
    await overloaded(bench, 10.0, figure)


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_ov1_for_a_minute(bench: Bench, figure: Callable[[str], None]) -> None:
    """The same for 60 s."""
    await overloaded(bench, 60.0, figure)


async def test_ov8_copies_go_first_then_pairs_and_live_requests_last(bench: Bench) -> None:
    """As the load rises step by step: first all is served, then copies are left out, then live requests refused.

    Pairs of copies that were made go when the store does not take them. Each drop is counted where it happens.
    """
    gate = Gate()
    stable, candidate = await bench.upstream(gate.script), await bench.upstream()
    route = route_of(
        Variant("v1", (stable.backend,), max_in_flight=2, max_queue=2), candidate, timeouts=Timeouts(queue_s=PLENTY_S)
    )
    server = MemoryServer()
    gateway = await bench.gateway(
        route, states=[started(0, 10_000)], server=server, recorder=RecorderConfig(queue_bytes=10_000)
    )
    tasks = []
    seen: list[tuple[float, float, int, int]] = []
    line = gateway.worker.table.lives["r"].variants["v1"].line
    for turn in range(6):
        client = await bench.client()
        tasks.append(asyncio.create_task(client.ask("POST", "/", b"%d" % turn)))
        wanted = turn + 1
        counts = gateway.worker.table.lives["r"].variants["v1"].counts
        await until(lambda: counts.started == wanted, "it has begun")  # noqa: B023
        await until(lambda: len(candidate.requests) == min(wanted, 2), "its copy arrives if it has one")  # noqa: B023
        seen.append(
            (len(candidate.requests), gateway.dropped("copy", "overload"), len(line), gateway.outcomes().get("shed", 0))
        )
    assert seen == [(1, 0, 0, 0), (2, 0, 0, 0), (2, 1, 1, 0), (2, 2, 2, 0), (2, 3, 2, 1), (2, 4, 2, 2)]
    server.cut()
    gate.let(4)
    assert [(await task).status for task in tasks] == [200, 200, 200, 200, 503, 503]
    gate.let(1_000)
    client = await bench.client()
    for _ in range(40):
        assert (await client.ask("POST", "/", b"x" * 1_000)).status == 200
    await until(
        lambda: gateway.dropped("pair", "store_down") + gateway.dropped("pair", "queue_full"), "pairs are let go"
    )
    assert gateway.outcomes() == {"ok": 44, "shed": 2}
    server.mend()


async def test_ov8_a_loop_that_is_late_all_the_time_begins_no_copies(bench: Bench) -> None:
    """Twenty late turns in a row; one in time, and copies are made again."""
    stable, candidate = await bench.upstream(), await bench.upstream()
    gateway = await bench.gateway(route_of(stable, candidate), states=[started(0, 10_000)])
    client = await bench.client()
    lag: LoopLag = gateway.worker.lag
    await client.ask("POST", "/", b"1")
    for _ in range(19):
        lag.observe(0.03)
    before = lag.standing
    lag.observe(0.03)
    await client.send(request("POST", "/", b"2"))
    assert (before, lag.standing) == (False, True)
    assert (await client.answer("POST")).body == b"2"
    lag.observe(0.001)
    await client.ask("POST", "/", b"3")
    await gateway.pairs(len(candidate.requests))
    assert (await client.ask("POST", "/", b"4")).status == 200


@pytest.mark.slow
async def test_ov8_a_mirror_of_everything_costs_live_requests_nothing_under_overload(
    bench: Bench, figure: Callable[[str], None]
) -> None:
    """Three times the capacity, every request to be copied, pair log on: copies are left out, live are not."""
    async with model_server() as backend, model_server() as other:
        gateway = await bench.gateway(route_of(variant(backend), Variant("v2", (other,))), states=[started(0, 10_000)])
        over = await load(gateway, CAPACITY * 3, 3.0)
        dropped = gateway.dropped("copy", "overload")
        answered = gateway.outcomes()
    figure(
        f"OV8: at 3x with mirror 100 % goodput {over.goodput:.0f}/s of {CAPACITY:.0f}, {dropped:.0f} copies left out, "
        f"{answered}"
    )
    assert over.others == []
    assert over.goodput >= 0.9 * CAPACITY
    assert dropped >= 0.5 * (len(over.accepted_ms) + len(over.rejected_ms))
    assert answered["ok"] == len(over.accepted_ms)


@pytest.mark.parametrize("weight_bp", [0, 5_000], ids=["stable alone", "with a candidate"])
async def test_ov7_when_all_upstreams_fail_requests_are_not_multiplied(bench: Bench, weight_bp: int) -> None:
    """Every upstream reads the POST and hangs up: at most 1.2 attempts for each request, none twice at one variant."""

    async def failing(visit: Visit) -> None:
        await visit.request()

    stable, candidate = await bench.upstream(failing), await bench.upstream(failing)
    await bench.gateway(route_of(stable, candidate), states=[started(weight_bp)])
    number = 400
    client = await bench.client()
    for turn in range(number):
        assert (await client.ask("POST", "/", b"%d" % turn)).status == 502
    bodies = [[one.body for one in upstream.requests] for upstream in (stable, candidate)]
    assert all(len(one) == len(set(one)) for one in bodies)
    attempts = sum(len(one) for one in bodies)
    assert number <= attempts <= 1.2 * number
    assert (attempts > number) == bool(weight_bp)
