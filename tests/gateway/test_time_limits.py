"""Deadlines: absolute, so that no drip of bytes moves them, and each ends only what it is for.

The wheel turns every 50 ms, so a deadline is met within two ticks (100 ms) or 10 %.
"""

import asyncio
import time
from collections.abc import Callable

import pytest

from router.core.config import MIB, Limits
from router.core.traffic import Timeouts, Variant
from tests.gateway.bench import Bench, route_of, until
from tests.gateway.clients import TruncatedError, request
from tests.gateway.upstreams import Visit, answering, never, ok

TICKS_S = 0.1
SLACK_S = 0.1
"""What a busy test machine may add."""


def about(deadline_s: float, began: float) -> bool:
    """Whether now is the time at which a deadline that began at `began` is noticed."""
    return deadline_s <= time.monotonic() - began < deadline_s + max(TICKS_S, deadline_s / 10) + SLACK_S


async def test_a_variant_that_never_answers_gives_504_at_the_total_deadline(bench: Bench) -> None:
    """`timeouts.total` 0.3 s after the last request byte: 504, its connection closed, its place free again."""
    upstream = await bench.upstream(never)
    gateway = await bench.gateway(route_of(upstream, timeouts=Timeouts(total_s=0.3)))
    client = await bench.client()
    began = time.monotonic()
    answer = await client.ask("POST", "/", b"x")
    assert about(0.3, began)
    assert (answer.status, answer.field("x-turnout-origin"), answer.field("connection")) == (504, "gateway", None)
    await until(lambda: upstream.visits[0].closed_at, "the upstream connection is closed")
    assert gateway.held() == {}
    assert gateway.outcomes() == {"timeout": 1}
    assert (await client.ask("POST", "/", b"again")).status == 504


OK = b"HTTP/1.1 200 OK\r\n"
DRIPS = {
    "of a body": (OK + b"Content-Length: 1000\r\n\r\n", b"x"),
    "of chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "of an endless body": (OK + b"\r\n", b"x"),
    "of a head": (OK + b"X-A: ", b"x"),
    "of interim answers": (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
}


@pytest.mark.parametrize("where", DRIPS)
@pytest.mark.parametrize(
    ("total_s", "every_s"), [(0.5, 0.02), pytest.param(2.0, 0.3, marks=pytest.mark.slow)], ids=["0.5s", "2s"]
)
async def test_dp10_a_dripping_answer_ends_at_the_total_deadline(
    bench: Bench, where: str, total_s: float, every_s: float, figure: Callable[[str], None]
) -> None:
    """No drip moves the deadline: 504, or a visible cut where the answer has begun; the place is free again."""
    head, drop = DRIPS[where]

    async def drip(visit: Visit) -> None:
        await visit.request()
        await visit.send(head)
        gone = asyncio.ensure_future(visit.gone())
        while not gone.done():
            await visit.send(drop)
            await asyncio.sleep(every_s)

    upstream = await bench.upstream(drip)
    variant = Variant("v1", (upstream.backend,), max_in_flight=1)
    gateway = await bench.gateway(route_of(variant, timeouts=Timeouts(total_s=total_s)))
    client = await bench.client()
    began = time.monotonic()
    await client.send(request("POST", "/", b"x"))
    if head.endswith(b"\r\n\r\n"):
        with pytest.raises(TruncatedError):
            await client.answer("POST")
    else:
        assert (await client.answer("POST")).status == 504
    figure(f"a drip {where} every {every_s:g} s ended after {time.monotonic() - began:.3f} s of {total_s:g} s")
    assert about(total_s, began)
    await until(lambda: upstream.visits[0].closed_at, "the upstream connection is closed")
    assert gateway.outcomes() == {"timeout": 1}
    assert gateway.held() == {}


async def test_the_total_deadline_begins_with_the_last_byte_of_the_request(bench: Bench) -> None:
    """A slow upload does not eat the variant's time."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await asyncio.sleep(0.2)
        await visit.send(ok())

    gateway = await bench.gateway(route_of(await bench.upstream(script), timeouts=Timeouts(total_s=0.4)))
    client = await bench.client()
    wire = request("POST", "/", b"x" * 10)
    await client.send(wire[:-10])
    for _ in range(10):
        await asyncio.sleep(0.05)
        await client.send(b"x")
    assert (await client.answer("POST")).status == 200
    assert gateway.outcomes() == {"ok": 1}


@pytest.mark.parametrize("behind", [request("POST", "/", b"2"), request("POST", "/", b"2")[:20]], ids=["whole", "part"])
async def test_a_request_behind_does_not_move_the_deadline_of_the_one_before(bench: Bench, behind: bytes) -> None:
    """Pipelined bytes neither shorten the time of the answer before them (head deadline 0.2 s) nor stretch it."""
    upstream = await bench.upstream(never)
    limits = Limits(header_deadline_s=0.2, body_deadline_s=0.2)
    gateway = await bench.gateway(route_of(upstream, timeouts=Timeouts(total_s=0.6)), limits=limits)
    client = await bench.client()
    began = time.monotonic()
    await client.send(request("POST", "/", b"1"))
    await until(lambda: upstream.requests, "the request arrives")
    await client.send(behind)
    answer = await client.answer("POST")
    assert answer.status == 504
    assert about(0.6, began)
    assert gateway.outcomes() == {"timeout": 1}


async def test_a_body_that_we_kept_waiting_gets_its_full_time(bench: Bench) -> None:
    """The second request's body is not read while the first is in flight for longer than the body deadline."""
    release = asyncio.Event()

    async def held(visit: Visit) -> None:
        async for received in visit.requests():
            await release.wait()
            await visit.send(ok(received.body))

    upstream = await bench.upstream(held)
    await bench.gateway(route_of(upstream), limits=Limits(body_deadline_s=0.3, header_deadline_s=0.3))
    client = await bench.client()
    second = request("POST", "/", b"second")
    await client.send(request("POST", "/", b"first") + second[:-6])
    await asyncio.sleep(0.5)  # longer than the deadline that must not count
    release.set()
    assert (await client.answer("POST")).body == b"first"
    await client.send(b"second")
    assert (await client.answer("POST")).body == b"second"


async def test_a_dripping_head_is_ended_at_its_deadline(bench: Bench) -> None:
    """`header_deadline` runs from the head's first byte; 408, then the end."""
    await bench.gateway(route_of(await bench.upstream()), limits=Limits(header_deadline_s=0.3))
    client = await bench.client()
    began = time.monotonic()
    answer = asyncio.create_task(client.answer("POST"))
    for byte in b"POST / HTTP/1.1\r\nHost: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa":
        if answer.done():
            break
        await client.send(bytes((byte,)))
        await asyncio.sleep(0.02)
    assert (await answer).status == 408
    assert about(0.3, began)
    assert await client.to_the_end() == b""


async def test_a_head_that_stops_behind_another_request_is_ended_after_the_answer(bench: Bench) -> None:
    """The answer before it arrives whole, then 408."""
    release = asyncio.Event()

    async def held(visit: Visit) -> None:
        await visit.request()
        await release.wait()
        await visit.send(ok(b"first"))

    await bench.gateway(route_of(await bench.upstream(held)), limits=Limits(header_deadline_s=0.2))
    client = await bench.client()
    await client.send(request("POST", "/", b"1") + b"POST / HT")
    await asyncio.sleep(0.5)  # the deadline passes while the first request is in flight
    release.set()
    assert (await client.answer("POST")).body == b"first"
    assert (await client.answer("POST")).status == 408
    assert await client.to_the_end() == b""


async def test_a_body_that_stops_is_ended_at_its_deadline(bench: Bench) -> None:
    """`body_deadline` runs from the head's end; 408, the variant's connection is closed, no failure is counted."""
    upstream = await bench.upstream(never)
    gateway = await bench.gateway(route_of(upstream), limits=Limits(body_deadline_s=0.3))
    client = await bench.client()
    began = time.monotonic()
    await client.send(request("POST", "/", b"x" * 100)[:-50])
    answer = await client.answer("POST")
    assert (answer.status, answer.field("connection")) == (408, "close")
    assert about(0.3, began)
    await until(lambda: not upstream.open, "the upstream connection is closed")
    assert gateway.outcomes() == {"cancelled": 1}


async def test_a_variant_that_takes_no_body_is_the_one_that_is_late(bench: Bench) -> None:
    """When it is the variant that stopped the upload, the end is its timeout, not the client's."""
    stay = asyncio.Event()

    async def deaf(visit: Visit) -> None:  # noqa: ARG001 - it takes nothing
        await stay.wait()

    limits = Limits(body_deadline_s=0.5, body_rate_bytes=64 * MIB)
    gateway = await bench.gateway(route_of(await bench.upstream(deaf)), limits=limits)
    client = await bench.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (64 * MIB))
    uploading = asyncio.create_task(client.send(b"x" * (64 * MIB)))
    began = time.monotonic()
    assert (await client.answer("POST")).status == 504
    assert about(0.5, began)
    assert gateway.outcomes() == {"timeout": 1}
    client.abort()
    await asyncio.gather(uploading, return_exceptions=True)
    stay.set()


async def test_a_slow_but_steady_upload_passes_however_long_it_takes(bench: Bench) -> None:
    """Ten times its least rate for four times `body_deadline`."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream), limits=Limits(body_deadline_s=0.5, body_rate_bytes=1_000))
    client = await bench.client()
    pieces = 100
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (200 * pieces))
    began = time.monotonic()
    for _ in range(pieces):
        await client.send(b"x" * 200)
        await asyncio.sleep(0.02)
    assert time.monotonic() - began >= 1.5
    assert (await client.answer("POST")).status == 200
    assert [len(one.body) for one in upstream.requests] == [200 * pieces]


@pytest.mark.parametrize(("burst", "times"), [(1, 1), (60_000, 2)], ids=["drip", "burst, then drip"])
async def test_a_dripping_body_is_ended_whatever_came_before(bench: Bench, burst: int, times: int) -> None:
    """At 50 B/s with a least rate of 10,000: 408 after `body_deadline`, with a burst in it after the next one."""
    gateway = await bench.gateway(
        route_of(await bench.upstream()), limits=Limits(body_deadline_s=0.4, body_rate_bytes=10_000)
    )
    client = await bench.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * burst)
    began = time.monotonic()
    answer = asyncio.create_task(client.answer("POST"))
    while not answer.done():
        await client.send(b"x")
        await asyncio.sleep(0.02)
    assert (await answer).status == 408
    assert about(0.4 * times, began)
    assert gateway.outcomes() == {"cancelled": 1}


@pytest.mark.parametrize("before", [b"", b"\r\n\r\n"], ids=["silent", "empty lines"])
async def test_an_idle_connection_is_closed_at_its_deadline(bench: Bench, before: bytes) -> None:
    """`idle` seconds without a request; empty lines are no request."""
    await bench.gateway(route_of(await bench.upstream()), limits=Limits(idle_s=0.3))
    client = await bench.client()
    assert (await client.ask("POST", "/", b"x")).status == 200
    began = time.monotonic()
    await client.send(before)
    assert await client.to_the_end() == b""
    assert about(0.3, began)


async def test_a_request_keeps_an_idle_connection_open(bench: Bench) -> None:
    """Each request starts the idle time anew, and an answer that takes longer than it is waited for."""

    async def slow(visit: Visit) -> None:
        async for _ in visit.requests():
            await asyncio.sleep(0.35)
            await visit.send(ok())

    await bench.gateway(route_of(await bench.upstream(slow)), limits=Limits(idle_s=0.2))
    client = await bench.client()
    for _ in range(2):
        assert (await client.ask("POST", "/", b"x")).status == 200
        await asyncio.sleep(0.1)


async def test_a_client_that_reads_nothing_is_cut_off(bench: Bench) -> None:
    """`write_stall` 0.3 s without a byte taken: the connection ends, and the variant is not blamed."""
    upstream = await bench.upstream(answering(ok(b"z" * (32 * MIB))))
    gateway = await bench.gateway(route_of(upstream), limits=Limits(write_stall_s=0.3))
    client = await bench.client(receive_bytes=4_096)
    await client.send(request("GET"))
    await until(lambda: gateway.outcomes() == {"cancelled": 1}, "the client is cut off", within_s=2.0)
    await until(lambda: gateway.held() == {}, "its request is let go")
    with pytest.raises(TruncatedError):
        await client.answer("GET")


async def test_a_client_that_reads_slowly_is_not_cut_off(bench: Bench) -> None:
    """Three times `write_stall` for one answer: whoever takes something in that time goes on."""
    body = b"z" * (10 * MIB)
    gateway = await bench.gateway(route_of(await bench.upstream(answering(ok(body)))), limits=Limits(write_stall_s=0.3))
    client = await bench.client(receive_bytes=65_536)
    began = time.monotonic()
    await client.send(request("GET"))
    await client.reader.readuntil(b"\r\n\r\n")
    taken = 0
    while taken < len(body):
        taken += len(await client.reader.readexactly(131_072))
        await asyncio.sleep(0.012)  # 80 times: 0.96 s
    assert time.monotonic() - began > 0.9
    assert gateway.outcomes() == {"ok": 1}


async def test_a_slow_reader_is_not_the_variants_timeout(bench: Bench) -> None:
    """The total deadline passes while the client is not reading: cut, and counted as cancelled."""
    upstream = await bench.upstream(answering(ok(b"z" * (32 * MIB))))
    gateway = await bench.gateway(route_of(upstream, timeouts=Timeouts(total_s=0.3)))
    client = await bench.client(receive_bytes=4_096)
    await client.send(request("GET"))
    await until(lambda: gateway.outcomes() == {"cancelled": 1}, "the deadline passes", within_s=2.0)


async def test_the_end_of_an_answer_reaches_a_slow_reader_before_the_connection_ends(bench: Bench) -> None:
    """`Connection: close` with the tail still in the gateway's buffer: a slow client gets all of it."""
    body = b"z" * (8 * MIB)
    await bench.gateway(route_of(await bench.upstream(answering(ok(body)))), limits=Limits(write_stall_s=0.3))
    client = await bench.client(receive_bytes=65_536)
    await client.send(request("GET", "/", b"", "Connection: close"))
    await client.reader.readuntil(b"\r\n\r\n")
    taken = 0
    while data := await client.reader.read(131_072):
        taken += len(data)
        await asyncio.sleep(0.005)
    assert taken == len(body)
