"""Limits: what a client may send, what it hears when it sends more, and that nothing of it reaches a variant."""

import asyncio

import pytest

from router.core.config import MIB, Limits
from tests.gateway.bench import Bench, route_of, until
from tests.gateway.clients import request
from tests.gateway.upstreams import never


def of_head(size: int) -> bytes:
    """Return a request whose fields have exactly `size` bytes, as `limits.header_bytes` counts them."""
    fixed = len("Host: a\r\n")
    return b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * (size - fixed - len("X: \r\n")) + b"\r\n\r\n"


REFUSED = {
    "long target": (b"GET /" + b"a" * 8_192 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "long query": (b"GET /?" + b"a" * 8_192 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "long field": (of_head(32_769), 431),
    "long field without end": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 300_000, 431),
    "long fields together": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: %b\r\n" % (b"a" * 1_000) * 33 + b"\r\n", 431),
    "many fields": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100 + b"\r\n", 431),
    "long trailer": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"a" * 300_000, 431),
    "many trailers": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        431,
    ),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    "host with a path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "host with user": (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", 400),
    "length list": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx", 400),
    "signed length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", 400),
    "length of 16 digits": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0000000000000001\r\n\r\nx", 400),
    "length and chunks": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "chunks and length": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        400,
    ),
    "gzip coding": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    "chunked twice": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    "empty element": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", 501),
    "chunks in 1.0": (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "broken chunk size": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    "chunk without end": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n", 400),
    "bare lf": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "nul in field": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", 400),
    "bare cr in field": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
    "folded field": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
    "space before colon": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    "empty field name": (b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", 400),
    "no http": (b"rubbish\r\n\r\n", 400),
    "unknown method": (b"FLY / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "http/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "http/2": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "http/0.9": (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    "fragment": (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "no path": (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "other scheme": (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "connect": (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501),
    "trace": (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "other expectation": (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: cookies\r\nContent-Length: 1\r\n\r\nx", 417),
}


@pytest.mark.parametrize(("wire", "status"), REFUSED.values(), ids=REFUSED)
async def test_a_request_that_is_not_allowed_is_refused_and_ends_the_connection(
    bench: Bench, wire: bytes, status: int
) -> None:
    """The refusal is a problem document of the gateway; what stands behind it on the connection is not looked at."""
    upstream = await bench.upstream(never)
    gateway = await bench.gateway(route_of(upstream))
    client = await bench.client()
    client.writer.write(wire + request("GET", "/smuggled"))
    answer = await client.answer("GET")
    assert (answer.status, answer.field("connection")) == (status, "close")
    assert answer.field("content-type") == "application/problem+json"
    assert answer.field("x-turnout-origin") == "gateway"
    assert await client.to_the_end() == b""
    await until(lambda: gateway.held() == {}, "nothing is left")
    assert [one.target for one in upstream.requests] == []


@pytest.mark.parametrize("wire", [of_head(32_768), b"GET /" + b"a" * 8_191 + b" HTTP/1.1\r\nHost: a\r\n\r\n"])
@pytest.mark.parametrize("cut", [1_000_000, 1_000, 10_000], ids=["whole", "1000", "10000"])
async def test_what_is_just_within_the_limits_passes_however_it_is_cut(bench: Bench, wire: bytes, cut: int) -> None:
    """Bytes are counted once, whether they come in one read or in many."""
    await bench.gateway(route_of(await bench.upstream()))
    client = await bench.client()
    await client.ask("GET")
    for start in range(0, len(wire), cut):
        await client.send(wire[start : start + cut])
        await asyncio.sleep(0.001)
    assert (await client.answer("GET")).status == 200


@pytest.mark.parametrize("cut", [300, 5_000], ids=["300", "5000"])
async def test_a_long_head_is_refused_however_it_is_cut(bench: Bench, cut: int) -> None:
    """A field that never ends is refused once it is over the limit, not collected."""
    await bench.gateway(route_of(await bench.upstream()))
    client = await bench.client()
    answer = asyncio.create_task(client.answer("GET"))
    sent = 0
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
    while not answer.done() and sent < MIB:
        await client.send(b"a" * cut)
        sent += cut
        await asyncio.sleep(0)
    assert (await answer).status == 431
    assert sent < MIB


async def test_a_hundred_fields_are_allowed(bench: Bench) -> None:
    """`limits.header_fields` is the number that passes."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 99 + b"\r\n")
    assert (await client.answer("GET")).status == 200
    assert len(upstream.requests[0].all("x")) == 99


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
async def test_a_client_that_is_still_sending_can_read_the_413(bench: Bench, framing: str) -> None:
    """The rest is read and thrown away for a while, so that no reset takes the answer away."""
    upstream = await bench.upstream(never)
    await bench.gateway(route_of(upstream), limits=Limits(body_bytes=MIB))
    client = await bench.client()
    body = b"x" * (16 * MIB)
    if framing == "chunked":
        head, body = b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        head = b"Content-Length: %d\r\n\r\n" % len(body)
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + head + body)  # all of it, before the answer is read
    answer = await client.answer("POST")
    assert (answer.status, answer.field("connection")) == (413, "close")
    assert await client.to_the_end() == b""
    await until(lambda: not upstream.open, "no upstream request is left")
    assert upstream.requests == []


async def test_a_body_of_exactly_the_limit_passes(bench: Bench) -> None:
    """`limits.body` is the size that passes."""
    await bench.gateway(route_of(await bench.upstream()), limits=Limits(body_bytes=1_000))
    client = await bench.client()
    assert (await client.ask("POST", "/", b"x" * 1_000)).status == 200
    assert (await client.ask("POST", "/", b"x" * 1_001)).status == 413


async def test_a_short_body_of_a_refused_request_does_not_cost_the_connection(bench: Bench) -> None:
    """A refused request whose body is small and announced is read to its end; the next request is served."""
    await bench.gateway(route_of(await bench.upstream()), limits=Limits(body_bytes=1_000))
    client = await bench.client()
    wire = request("POST", "/", b"x" * 5_000)
    await client.send(wire[:3_000])
    assert (await client.answer("POST")).status == 413
    await client.send(wire[3_000:] + request("POST", "/", b"next"))
    assert (await client.answer("POST")).body == b"next"


async def test_a_refused_request_whose_body_stops_is_not_answered_twice(bench: Bench) -> None:
    """After its 413 the client sends neither the rest nor anything else: the connection just ends."""
    await bench.gateway(route_of(await bench.upstream()), limits=Limits(body_bytes=1_000, body_deadline_s=0.2))
    client = await bench.client()
    await client.send(request("POST", "/", b"x" * 5_000)[:3_000])
    assert (await client.answer("POST")).status == 413
    assert await client.to_the_end() == b""


async def test_a_connection_too_many_gets_503_and_the_others_stay(bench: Bench) -> None:
    """`limits.connections` 2: the third hears why, is counted, and when one leaves there is room again."""
    gateway = await bench.gateway(route_of(await bench.upstream()), limits=Limits(connections=2))
    first, second = await bench.client(), await bench.client()
    assert (await first.ask("POST", "/", b"1")).body == b"1"
    assert (await second.ask("POST", "/", b"2")).body == b"2"
    third = await bench.client()
    await third.send(request("POST", "/", b"3"))
    assert (await third.answer("POST")).status == 503
    assert await third.to_the_end() == b""
    assert gateway.dropped("connection", "limit") == 1
    second.close()
    await second.writer.wait_closed()

    await until(lambda: gateway.connections == 1, "the place is free")
    assert (await (await bench.client()).ask("POST", "/", b"4")).body == b"4"
    assert (await first.ask("POST", "/", b"5")).body == b"5"
