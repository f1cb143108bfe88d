"""Streaming with back-pressure: events arrive as they are sent, and the slower side sets the pace of the other."""

import asyncio
import hashlib
import time

import pytest

from router.core.config import MIB, Limits
from router.core.traffic import Timeouts
from tests.gateway.bench import Bench, route_of, until
from tests.gateway.clients import request
from tests.gateway.upstreams import Visit, answering, ok

BLOCK = bytes(range(256)) * 256  # 64 KiB


async def test_events_arrive_as_they_are_sent(bench: Bench) -> None:
    """Server-sent events, one every 40 ms: each reaches the client within 50 ms, without waiting for the next."""
    sent_at: list[float] = []

    async def events(visit: Visit) -> None:
        await visit.request()
        await visit.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(10):
            event = b"data: %d\n\n" % number
            sent_at.append(time.monotonic())
            await visit.send(b"%x\r\n%b\r\n" % (len(event), event))
            await asyncio.sleep(0.04)
        await visit.send(b"0\r\n\r\n")

    await bench.gateway(route_of(await bench.upstream(events)))
    client = await bench.client()
    await client.send(request("GET"))
    await client.reader.readuntil(b"\r\n\r\n")
    late_ms = []
    for number in range(10):
        assert await client.reader.readuntil(b"\n\n\r\n") == b"9\r\ndata: %d\n\n\r\n" % number
        late_ms.append((time.monotonic() - sent_at[number]) * 1000)
    assert max(late_ms) < 50, late_ms
    assert await client.reader.readexactly(5) == b"0\r\n\r\n"


async def test_a_request_body_is_sent_on_as_it_comes(bench: Bench) -> None:
    """Pieces of a chunked upload reach the variant before the upload is complete."""
    seen: list[bytes] = []

    async def watch(visit: Visit) -> None:
        while b"0\r\n\r\n" not in b"".join(seen):
            seen.append(await visit.read())
        await visit.send(ok(b"done"))

    await bench.gateway(route_of(await bench.upstream(watch)))
    client = await bench.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    for number in range(5):
        piece = b"piece %d" % number
        await client.send(b"7\r\n%b\r\n" % piece)
        await until(lambda piece=piece: piece in b"".join(seen), "the piece arrives")  # type: ignore[misc]
    await client.send(b"0\r\n\r\n")
    assert (await client.answer("POST")).body == b"done"


class Counted:
    """A script that sends one answer of `blocks` blocks and counts what the gateway has taken of it."""

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self.sent = 0

    async def __call__(self, visit: Visit) -> None:
        """Answer one request."""
        async for _ in visit.requests():
            await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (self.blocks * len(BLOCK)))
            for _ in range(self.blocks):
                await visit.send(BLOCK)
                self.sent += len(BLOCK)


async def standstill(value: list[int] | Counted, still_s: float = 0.25) -> int:
    """Return the number of bytes once it has not changed for `still_s`."""

    def now() -> int:
        return value.sent if isinstance(value, Counted) else sum(value)

    last, since = now(), time.monotonic()
    async with asyncio.timeout(10):
        while time.monotonic() - since < still_s:
            await asyncio.sleep(0.01)
            if now() != last:
                last, since = now(), time.monotonic()
    return last


async def test_a_client_that_does_not_read_stops_the_variant(bench: Bench) -> None:
    """Of a 64 MiB answer the variant gets rid of what the sockets hold, and the rest once the client reads."""
    answer = Counted(1_024)
    await bench.gateway(route_of(await bench.upstream(answer)))
    client = await bench.client(receive_bytes=65_536)
    await client.send(request("GET"))
    taken = await standstill(answer)
    assert 0 < taken < 24 * MIB  # kernel buffers of two connections, at most 4 + 6 MiB each
    got = await client.answer("GET", within_s=30)
    assert hashlib.sha256(got.body).digest() == hashlib.sha256(BLOCK * 1_024).digest()


async def test_a_variant_that_does_not_read_stops_the_client(bench: Bench) -> None:
    """Of a 64 MiB upload the client gets rid of what the sockets hold, and of the rest once the variant reads."""
    release = asyncio.Event()

    async def waiting(visit: Visit) -> None:
        await release.wait()
        received = await visit.request()
        assert received is not None
        await visit.send(ok(hashlib.sha256(received.body).hexdigest().encode()))

    await bench.gateway(route_of(await bench.upstream(waiting)))
    client = await bench.client()
    sent: list[int] = []

    async def upload() -> None:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (1_024 * len(BLOCK)))
        for _ in range(1_024):
            await client.send(BLOCK)
            sent.append(len(BLOCK))

    uploading = asyncio.create_task(upload())
    taken = await standstill(sent)
    assert 0 < taken < 24 * MIB
    release.set()
    await uploading
    assert (await client.answer("POST", within_s=30)).body.decode() == hashlib.sha256(BLOCK * 1_024).hexdigest()


async def test_a_slow_reader_leaves_the_upstream_connections_usable(bench: Bench) -> None:
    """Answers that end while the client is blocked: 100 pipelined ones of 200 KiB all arrive once it reads.

    A connection that went back to its pool with reading stopped would hang the next request; and while the client is
    blocked no further request of the line may be sent on, or answers would pile up in the gateway.
    """
    upstream = await bench.upstream(answering(ok(b"z" * 200_000)))
    gateway = await bench.gateway(route_of(upstream, timeouts=Timeouts(total_s=5.0)), limits=Limits(pipelined=200))
    client = await bench.client(receive_bytes=4_096)
    await client.send(request("GET") * 100)

    async def quiet() -> int:
        before = -1
        while before != len(upstream.requests):
            before = len(upstream.requests)
            await asyncio.sleep(0.2)
        return before

    assert 0 < await quiet() < 90
    other = await bench.client()
    assert (await other.ask("GET", within_s=1.0)).status == 200
    assert len(upstream.visits) == 1
    for _ in range(100):
        assert (await client.answer("GET")).body == b"z" * 200_000
    assert gateway.outcomes() == {"ok": 101}


async def test_rubbish_behind_a_request_that_waits_for_the_client_to_read_keeps_its_place(bench: Bench) -> None:
    """While the client is blocked nothing is in flight; what comes then still is answered in order."""
    upstream = await bench.upstream(answering(ok(b"z" * 1_000_000)))
    gateway = await bench.gateway(route_of(upstream))
    client = await bench.client(receive_bytes=4_096)
    asked: list[bytes] = []
    while not gateway.blocked_clients:
        asked.append(request("GET"))
        await client.send(asked[-1])
        await until(lambda: gateway.blocked_clients or gateway.outcomes() == {"ok": len(asked)}, "blocked, or answered")
        assert len(asked) < 50
    await client.send(request("GET") + b"rubbish\r\n\r\n")
    await asyncio.sleep(0.02)  # lets it arrive while the client is blocked
    statuses = [(await client.answer("GET")).status for _ in range(len(asked) + 2)]
    assert statuses == [200] * (len(asked) + 1) + [400]


@pytest.mark.parametrize("announced", [True, False], ids=["content-length", "chunked"])
async def test_an_answer_may_begin_before_the_request_is_complete(bench: Bench, *, announced: bool) -> None:
    """The early answer reaches the client; the connection then ends, since nobody knows where the body stops."""

    async def early(visit: Visit) -> None:
        await visit.reader.readuntil(b"\r\n\r\n")
        await visit.send(ok(b"too long for me", status="413 Too Large"))
        await visit.gone()

    upstream = await bench.upstream(early)
    gateway = await bench.gateway(route_of(upstream))
    client = await bench.client()
    framing = b"Content-Length: 1000000\r\n" if announced else b"Transfer-Encoding: chunked\r\n"
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n")
    got = await client.answer("POST")
    assert (got.status, got.body, got.field("connection")) == (413, b"too long for me", "close")
    await until(lambda: upstream.visits[0].closed_at, "the upstream connection is closed, not used again")
    assert gateway.outcomes() == {"client_error": 1}
