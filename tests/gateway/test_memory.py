"""Memory: bounded whatever the two sides do, and nothing left of what is over. Measured in a worker of its own."""

import asyncio
import gc
import time
import tracemalloc
from itertools import count

import pytest

from router.core.config import MIB
from router.core.decisions import RollBack, Start
from router.core.rollout import Spec, Step
from router.core.traffic import AffinityKind, AffinitySource, Timeouts
from router.gateway import recorder, table, tally
from router.gateway.client import ClientConnection
from router.gateway.exchange import Exchange
from router.gateway.mirror import Copy
from router.gateway.tally import FoldedTally
from router.gateway.upstream import UpstreamConnection
from tests.gateway.bench import PATIENT, Bench, Gateway, route_of, started, until
from tests.gateway.clients import Client, request
from tests.gateway.processes import dial, worker
from tests.gateway.upstreams import Visit, ok

ANSWER = ok(b'{"outputs":[]}')
ASK = request("POST", "/", b'{"inputs":[]}')


class Fast:
    """A script that answers POSTs without reading them closely, and a GET with 64 MiB; it counts what was taken."""

    def __init__(self) -> None:
        self.taken = 0

    async def __call__(self, visit: Visit) -> None:
        """Serve one connection. Each request has one empty line, behind its head."""
        while data := await visit.read():
            if not data.startswith(b"GET"):
                await visit.send(ANSWER * data.count(b"\r\n\r\n"))
                continue
            await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MIB))
            for _ in range(1_024):
                await visit.send(b"z" * 65_536)
                self.taken += 65_536


async def ask_fast(client: Client, number: int, at_once: int = 8) -> None:
    """Send `number` requests, some at once, and read as many answers by their length."""
    for _ in range(number // at_once):
        client.writer.write(ASK * at_once)
        for _ in range(at_once):
            await client.reader.readuntil(b"\r\n\r\n")
            assert await client.reader.readexactly(14) == b'{"outputs":[]}'


async def warm(bench: Bench, port: int, number: int = 2_000) -> None:
    """Send some requests, so that what a worker needs once is there."""
    client = await dial(bench, port)
    await ask_fast(client, number)
    client.abort()


@pytest.mark.slow
async def test_a_client_that_reads_64_kib_a_second_costs_at_most_16_mib(bench: Bench) -> None:
    """Ten seconds of a 64 MiB answer: the worker's memory stays, and the variant is slowed down to the client."""
    script = Fast()
    async with worker(await bench.upstream(script)) as process:
        await warm(bench, process.port)
        before = process.resident_bytes()
        client = await dial(bench, process.port, receive_bytes=65_536)
        await client.send(request("GET"))
        most, until_s = 0, time.monotonic() + 10
        while time.monotonic() < until_s:
            assert await client.reader.read(16_384)
            most = max(most, process.resident_bytes() - before)
            await asyncio.sleep(0.25)
        client.abort()
    assert most < 16 * MIB
    assert script.taken < 24 * MIB  # what the client read, and the kernel's buffers of two connections


@pytest.mark.slow
async def test_many_clients_that_read_nothing_cost_little_each(bench: Bench) -> None:
    """Fifty clients, each in front of a 64 MiB answer: under 1 MiB of the worker's memory each."""
    script = Fast()
    async with worker(await bench.upstream(script)) as process:
        await warm(bench, process.port)
        before = process.resident_bytes()
        clients = [await dial(bench, process.port, receive_bytes=4_096) for _ in range(50)]
        for client in clients:
            await client.send(request("GET") * 20)
        last = -1
        while last != script.taken:
            last = script.taken
            await asyncio.sleep(1.0)
        assert process.resident_bytes() - before < 50 * MIB
        for client in clients:
            client.abort()


@pytest.mark.slow
async def test_an_upload_to_a_slow_variant_costs_at_most_16_mib(bench: Bench) -> None:
    """The variant takes 64 KiB a second of a 64 MiB body: the client is slowed down, the worker's memory stays."""

    async def slow(visit: Visit) -> None:
        while b"67108864" not in (data := await visit.read(65_536)):
            if not data:
                return
            await visit.send(ANSWER * data.count(b"\r\n\r\n"))
        while await visit.read(16_384):  # noqa: ASYNC110 - the pace
            await asyncio.sleep(0.25)

    upstream = await bench.upstream(slow)
    async with worker(upstream) as process:
        await warm(bench, process.port)
        before = process.resident_bytes()
        client = await dial(bench, process.port)
        client.writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 67108864\r\n\r\n")
        uploading = asyncio.create_task(client.send(b"x" * 64 * MIB))
        most, until_s = 0, time.monotonic() + 8
        while time.monotonic() < until_s:
            most = max(most, process.resident_bytes() - before)
            await asyncio.sleep(0.1)
        client.abort()
        await upstream.stop()  # a client that we have stopped is not heard leaving before there is room again
        await asyncio.gather(uploading, return_exceptions=True)
        assert most < 16 * MIB


@pytest.mark.slow
async def test_twenty_thousand_copied_requests_leave_nothing_behind(bench: Bench) -> None:
    """No body, copy or pair is held any more, no pair was dropped, and the memory of the last 15,000 is nothing."""
    stable, candidate = await bench.upstream(Fast()), await bench.upstream(Fast())
    async with worker(stable, candidate.port, mirror_bp=10_000) as process:
        await warm(bench, process.port, 5_000)
        before = process.resident_bytes()
        clients = [await dial(bench, process.port) for _ in range(4)]
        await asyncio.gather(*[ask_fast(client, 3_752) for client in clients])
        for client in clients:
            client.abort()
        async with asyncio.timeout(5):
            while await process.held():  # noqa: ASYNC110 - a poll
                await asyncio.sleep(0.05)
        # The fake store keeps what is written, about 200 bytes a pair.
        assert process.resident_bytes() - before < 10 * MIB


def alive(*kinds: type) -> dict[str, int]:
    """Return how many objects of each kind there are."""
    gc.collect()
    found = [type(one) for one in gc.get_objects() if type(one) in kinds]
    return {kind.__name__: found.count(kind) for kind in kinds}


async def test_what_is_over_is_let_go(bench: Bench) -> None:
    """Three thousand copied requests over 100 short connections: no request, copy or client of them stays in memory."""
    stable, candidate = await bench.upstream(Fast()), await bench.upstream(Fast())
    gateway = await bench.gateway(route_of(stable, candidate), states=[started(0, 10_000)])
    for _ in range(100):
        client = await Client.open(gateway.port)
        await ask_fast(client, 32, at_once=4)
        client.close()
        await client.writer.wait_closed()
    await until(lambda: not gateway.connections and not gateway.held(), "everything ends")
    await gateway.worker.recorder.flush()
    assert gateway.worker.recorder.queue_bytes == 0
    await gateway.pairs(3_200 - int(sum(gateway.worker.table.lives["r"].copy_drops.values())))
    left = alive(Exchange, Copy, ClientConnection, UpstreamConnection)
    assert (left["Exchange"], left["Copy"], left["ClientConnection"]) == (0, 0, 0)
    assert left["UpstreamConnection"] <= 2 * 8  # those in the pools


def counted_bytes() -> int:
    """Return how much memory was allocated for counting and is still held, while tracemalloc runs."""
    gc.collect()
    files = [tracemalloc.Filter(inclusive=True, filename_pattern=str(one.__file__)) for one in (recorder, table, tally)]
    snapshot = tracemalloc.take_snapshot().filter_traces(files)
    return sum(one.size for one in snapshot.statistics("filename"))


async def until_folded(gateway: Gateway) -> int:
    """Return how many past exposures there are once each is folded and nothing ends in the present one any more."""
    standing = gateway.worker.table.standings["r"]
    assert standing.tally is not None
    await until(lambda: standing.tally is not None and standing.tally.settled, "the last second is over", 10.0)

    def past() -> list[object]:
        tallies = gateway.worker.table.tallies("r", standing.rollout_id)
        return [one for one in tallies if one is not standing.tally]

    await until(lambda: all(isinstance(one, FoldedTally) for one in past()), "past exposures are folded", 10.0)
    return len(past())


@pytest.mark.slow
async def test_a_past_exposure_costs_its_values_and_a_past_rollout_nothing(bench: Bench) -> None:
    """Two rollouts of 25 exposures with affinity keys: 0.3 to 3 KB for each, as much after the second as after one.

    Cells, keys and values of one such exposure took 60 KB, and keys and values were held when their rollout was over.
    """
    route = route_of(
        await bench.upstream(Fast()),
        await bench.upstream(Fast()),
        affinity=(AffinitySource(AffinityKind.HEADER, "x-user-id"),),
        timeouts=Timeouts(total_s=0.2),
    )
    gateway = await bench.gateway(route, states=[started(3_000, 3_000)])
    client = await bench.client()
    users = (f"X-User-Id: user{number % 200}" for number in count())

    async def walk(*weights_bp: int) -> int:
        for weight_bp in weights_bp:
            await gateway.expose(weight_bp=weight_bp)
            for _ in range(20):
                assert (await client.ask("POST", "/", b"x", next(users))).status == 200
        assert await until_folded(gateway) == len(gateway.worker.table.standings["r"].state.past)
        await gateway.worker.recorder.flush()
        gateway.server.evidence.clear()  # the fake store holds the worker's own keys
        return counted_bytes()

    tracemalloc.start()
    try:
        small = await walk(3_001)
        large = await walk(*range(3_002, 3_026))
        await gateway.decide(RollBack(reason="test"))
        spec, step = Spec("v2", "canary", breaker=PATIENT), Step(weight_bp=3_000, mirror_bp=3_000)
        await gateway.decide(Start(reason="test", rollout_id="abc.2", spec=spec, steps=(step,)))
        again = await walk(*range(3_001, 3_026))
    finally:
        tracemalloc.stop()
    assert 300 <= (large - small) / 24 <= 3_000
    assert abs(again - large) <= 30_000
