"""What a client's bytes may cost in memory: no more than 100 times as many, and 4 MiB for a bomb (OV5).

A hundred times is where Envoy's threat model begins to call it a vulnerability.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from router.core.config import MIB
from tests.gateway.bench import Bench
from tests.gateway.clients import Client
from tests.gateway.processes import Process, dial, worker
from tests.gateway.upstreams import Visit, answering, ok

REFUSALS = (400, 413, 414, 431, 503)
CLIENTS = 100
MOST_TIMES = 100
BOMB_BYTES = 16 * MIB
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

HALVES = {
    "fields": HEAD + b"".join(b"%02x:\r\n" % number for number in range(98)),
    "pipelined": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 16,
    "trailer": CHUNKED + b"1\r\na\r\n0\r\n" + b"".join(b"%02x:\r\n" % number for number in range(90)),
    "line": b"GET /" + b"a" * 8_000,
    "head": HEAD + b"X-Long: " + b"a" * 32_000,
    "chunk extensions": CHUNKED + (b"1;" + b"e" * 500 + b"\r\na\r\n") * 100,
    "chunks of one byte": CHUNKED + b"1\r\na\r\n" * 10_000,
    "chunks of two bytes": CHUNKED + b"2\r\naa\r\n" * 10_000,
    "body": HEAD + b"Content-Length: 100000\r\n\r\n" + b"a" * 99_999,
}
"""Requests that stop short of a limit, and of their end; the short ones first, since a heap keeps what it once had."""

BOMBS = {
    "line": (b"GET /", b"a" * 65_536),
    "field": (HEAD + b"X-Long: ", b"a" * 65_536),
    "field name": (HEAD, b"a" * 65_536),
    "fields": (HEAD, b"a:b\r\n" * 13_107),
    "chunk size": (CHUNKED, b"0" * 65_536),
    "chunk extension": (CHUNKED + b"1;", b"e" * 65_536),
    "trailer field": (CHUNKED + b"0\r\nX-Long: ", b"a" * 65_536),
    "trailer": (CHUNKED + b"0\r\n", b"a:b\r\n" * 13_107),
    "requests": (b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2_427),
    "empty lines": (b"", b"\r\n" * 32_768),
}
"""What begins a request, and what is repeated for 16 MiB unless the gateway closes before."""


@contextlib.asynccontextmanager
async def warm_worker(bench: Bench, mirror_bp: int = 0) -> AsyncIterator[Process]:
    """Run a worker in front of upstreams that never answer anything but a first few requests."""
    warm = iter(range(500))

    async def answering_at_first(visit: Visit) -> None:
        while await visit.read_head():
            if next(warm, None) is None:
                await visit.gone()
            await visit.send(ok())

    stable, candidate = await bench.upstream(answering_at_first), await bench.upstream(answering(ok()))
    async with worker(stable, candidate.port, in_the_end_free=False, mirror_bp=mirror_bp) as process:
        client = await dial(bench, process.port)
        for _ in range(500):
            assert (await client.ask("GET")).status == 200
        yield process


@pytest.mark.slow
@pytest.mark.parametrize("mirror_bp", [0, 10_000], ids=["", "copied"])
async def test_ov5_held_bytes_cost_at_most_a_hundred_times_as_many(
    bench: Bench, mirror_bp: int, figure: Callable[[str], None]
) -> None:
    """A hundred clients each, one kind after the other: bytes that are sent and never finished."""
    times = {}
    async with warm_worker(bench, mirror_bp) as process:
        before = process.resident_bytes()
        for name, wire in HALVES.items():
            process.forget_peak()
            clients = [await dial(bench, process.port) for _ in range(CLIENTS)]
            for client in clients:
                await client.send(wire)
            await process.report()  # it has read what was there before it was asked
            times[name] = (process.peak_bytes() - before) / CLIENTS / len(wire)
            for client in clients:
                client.abort()
        figure(f"times as much memory: {', '.join(f'{name} {one:.1f}' for name, one in times.items())}")
    assert max(times.values()) <= MOST_TIMES


@pytest.mark.slow
async def test_ov5_a_bomb_costs_at_most_4_mib(bench: Bench, figure: Callable[[str], None]) -> None:
    """Each kind is sent for 16 MiB or until the gateway closes; it is refused."""
    grown = {}
    async with warm_worker(bench) as process:
        for name, (beginning, unit) in BOMBS.items():
            before = process.resident_bytes()
            process.forget_peak()
            client = await dial(bench, process.port)
            status = await bombarded(client, beginning, unit)
            grown[name] = process.peak_bytes() - before
            client.abort()
            assert status in (*REFUSALS, None if name == "requests" else 400), (name, status)
        figure(f"KiB: {', '.join(f'{name} {one // 1_024}' for name, one in grown.items())}")
    assert max(grown.values()) <= 4 * MIB


async def bombarded(client: Client, beginning: bytes, unit: bytes) -> int | None:
    """Send a bomb; return the status of the answer, None when there is none in time."""
    sent = 0
    with contextlib.suppress(ConnectionError, TimeoutError):
        await client.send(beginning)
        while sent < BOMB_BYTES and not client.reader.at_eof():
            async with asyncio.timeout(1):
                await client.send(unit)
            sent += len(unit)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            return int((await client.reader.readline()).split()[1])
    return None
