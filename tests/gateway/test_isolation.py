"""A shadow that hangs, vanishes or dies: what it may cost, and that every copy is accounted for (MI1-MI7)."""

import asyncio
import contextlib
import gc
import signal
import time
from collections.abc import Callable

import pytest

from router.core.config import MIB
from router.core.traffic import MirrorLimits
from tests.gateway.bench import ROLLOUT, Bench, route_of, started, until
from tests.gateway.clients import Client, request
from tests.gateway.processes import dial, upstream_process, worker
from tests.gateway.rounds import alternate, steady
from tests.gateway.upstream_process import ANSWER, reading
from tests.gateway.upstreams import Visit, ok

BODY_BYTES = 100 * 2**10
CAP_BYTES = 64 * MIB
"""The default of `mirror.bytes`."""
SPARE_BYTES = 3 * MIB
"""What the allocator may keep besides the bodies of copies once some have ended and others have taken their room.
Measured: 2.3 MiB after two turns of all copies, and no more by tracemalloc after twenty."""


async def taking_nothing(visit: Visit) -> None:
    """Accept, and read nothing for as long as the test lasts."""
    await asyncio.sleep(3_600)
    await visit.gone()


async def ask_many(client: Client, wire: bytes, number: int) -> None:
    """Send requests one after another, each answered by ANSWER's body."""
    for _ in range(number):
        await client.send(wire)
        await client.reader.readuntil(b"\r\n\r\n")
        assert await client.reader.readexactly(14) == b'{"outputs":[]}'


# -- MI1: a shadow that hangs ------------------------------------------------------------------------------------------


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1.0, pytest.param(60.0, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
async def test_mi1_a_stopped_shadow_costs_live_requests_nothing(
    bench: Bench, seconds: float, figure: Callable[[str], None]
) -> None:
    """SIGSTOP of the shadow's process at mirror 100 %, five rounds with and without it: no error, p99 as before."""
    stable = await bench.upstream(reading)
    timeout_s = 1 if seconds < 10 else 30
    async with (
        upstream_process() as shadow,
        worker(stable, shadow.port, in_the_end_free=False, mirror_bp=10_000, copy_timeout_s=timeout_s) as gateway,
    ):
        clients = [await dial(bench, gateway.port) for _ in range(4)]
        wire = request("POST", "/", b"x" * 2_000)

        async def stopped(stop: bool) -> None:  # noqa: FBT001 - on or off
            shadow.signal(signal.SIGSTOP if stop else signal.SIGCONT)

        rounds = await alternate(5, lambda: steady(clients, wire, 14, per_s=300, seconds=seconds), stopped)
        dropped = (await gateway.report())["dropped"]
        figure(f"shadow stopped: {rounds}; dropped {dropped}")
        assert dropped["copy/in_flight"] > 0  # it has hung
        assert rounds.added_at_most(1.0, share=0.05)


# -- MI2: copies are bounded -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [4, pytest.param(1_000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize("hole", ["takes nothing", "swallows connects"])
async def test_mi2_a_black_hole_costs_no_more_than_the_configured_memory(
    bench: Bench, full_port: int, hole: str, rounds: int, figure: Callable[[str], None]
) -> None:
    """Bodies of 100 KiB at mirror 100 %: resident memory stops at the cap of copies; what is dropped is counted."""
    candidate = full_port if hole == "swallows connects" else (await bench.upstream(taking_nothing)).port
    stable = await bench.upstream(reading)
    async with worker(
        stable, candidate, in_the_end_free=False, mirror_bp=10_000, copies=10_000, copy_timeout_s=3_600
    ) as process:
        clients = [await dial(bench, process.port) for _ in range(4)]
        body = b"x" * BODY_BYTES

        async def each(number: int, method: str) -> None:
            wire = request(method, "/", body)
            await asyncio.gather(*[ask_many(client, wire, number) for client in clients])

        await each(100, "PUT")  # not copied
        before = process.resident_bytes()
        await each(250, "POST")
        grown = [process.resident_bytes() - before]
        while len(grown) < rounds:
            await each(250, "POST")
            grown.append(process.resident_bytes() - before)
        report = await process.report()
        held, dropped = report["held"], report["dropped"]
        ended = sum(report["pairs"].values())  # the kernel gives a connect up after about 127 s
        figure(
            f"{hole}: {1_000 * len(grown)} requests, RSS + {grown[0] / MIB:.1f} MiB, at most {max(grown) / MIB:.1f}; "
            f"{held['copies']} copies, {ended} ended, {dropped['copy/bytes']} dropped"
        )
        spare = SPARE_BYTES if ended else 0
        assert max(grown) <= CAP_BYTES + spare
        assert max(grown) - grown[0] < 1 * MIB + spare
        assert held["copy_bytes"] <= CAP_BYTES
        assert held["copy_bytes"] > CAP_BYTES - 2 * BODY_BYTES
        assert held["copies"] + ended + dropped["copy/bytes"] == 1_000 * len(grown)


# -- MI3: requests behind a copy --------------------------------------------------------------------------------------


@pytest.mark.alone
@pytest.mark.slow
async def test_mi3_the_second_request_of_a_connection_does_not_wait_for_the_first_ones_copy(
    bench: Bench, figure: Callable[[str], None]
) -> None:
    """The shadow takes five seconds: the second answer comes as fast as when it takes none, over alternating rounds."""
    slow, released = asyncio.Event(), asyncio.Event()

    async def sleeping(visit: Visit) -> None:
        async for received in visit.requests():
            if slow.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(released.wait(), 5)
            await visit.send(ok(received.body))

    route = route_of(await bench.upstream(), await bench.upstream(sleeping), mirror=MirrorLimits(in_flight=10_000))
    gateway = await bench.gateway(route, states=[started(0, 10_000)])

    async def seconds_of_pairs() -> list[float]:
        taken_ms = []
        for _ in range(25):
            client = await dial(bench, gateway.port)
            assert (await client.ask("POST", "/", b"one")).body == b"one"
            began = time.perf_counter()
            assert (await client.ask("POST", "/", b"two")).body == b"two"
            taken_ms.append((time.perf_counter() - began) * 1_000)
        return taken_ms

    async def fault(on: bool) -> None:  # noqa: FBT001 - on or off
        if on:
            slow.set()
            released.clear()
            return
        assert len(gateway.worker.table.lives["r"].copies) == 50  # all of the round still sleep
        slow.clear()
        released.set()
        await until(lambda: not gateway.worker.table.lives["r"].copies, "the copies of the round end")

    rounds = await alternate(7, seconds_of_pairs, fault, percentile=50)
    figure(f"second request of a connection: {rounds}")
    assert rounds.added_at_most(1.0)


# -- MI5: no copy is lost ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", [10_000, pytest.param(100_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
async def test_mi5_every_copy_has_an_end_however_often_garbage_is_collected(
    bench: Bench, number: int, figure: Callable[[str], None]
) -> None:
    """A collection every 10 ms, a shadow of many moods: requests = pairs + drops, in metrics, evidence and store."""
    turn = iter(range(10 * number))

    async def moody(visit: Visit) -> None:
        while head := await visit.read_head():
            await visit.reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            mood = next(turn) % 100
            if mood == 0:
                visit.reset()
                return
            if mood == 1:
                await visit.send(b"POISON\r\n\r\n")
                return
            if mood == 2:
                await visit.gone()  # never answers
                return
            if mood == 3:
                await visit.send(ANSWER[:-5])
                return
            await visit.send(ANSWER)

    async def collecting() -> None:
        while True:
            gc.collect()
            await asyncio.sleep(0.01)

    stable, candidate = await bench.upstream(reading), await bench.upstream(moody)
    route = route_of(stable, candidate, mirror=MirrorLimits(in_flight=6, timeout_s=0.3))
    gateway = await bench.gateway(route, states=[started(0, 10_000)])
    collector = asyncio.create_task(collecting())
    clients = [await dial(bench, gateway.port) for _ in range(8)]
    wire = request("POST", "/", b"x" * 500)
    await asyncio.gather(*[ask_many(client, wire, number // 8) for client in clients])
    await until(lambda: gateway.held() == {}, "all copies end")
    await gateway.worker.recorder.flush()
    collector.cancel()

    def counted(metric: str) -> dict[str, int]:
        cells = gateway.worker.snapshot()[metric].items()
        return {"/".join(cell): int(value) for cell, value in cells if isinstance(value, (int, float)) and value}

    ended, dropped = counted("turnout_pairs_total"), counted("turnout_dropped_total")
    figure(f"{number} requests: pairs {ended}, dropped {dropped}")
    assert sum(ended.values()) + sum(dropped.values()) == number
    slow_to_connect = {"candidate:connect_failed"}  # of a machine that is busy with something else
    assert set(ended) - slow_to_connect == {"both", "candidate:reset", "candidate:malformed", "candidate:timeout"}
    assert {"copy/in_flight"} <= set(dropped) <= {"copy/in_flight", "copy/overload"}
    (cells,) = (await gateway.store.evidence("r", ROLLOUT)).values()
    told = {key.cell: value for key, value in cells.items() if (key.metric, key.variant) == ("pair", "pair")}
    begun = sum(value for key, value in cells.items() if (key.metric, key.variant) == ("started", "pair"))
    assert told == ended
    assert begun == sum(ended.values())
    assert len(await gateway.pairs(sum(ended.values()))) == begun
