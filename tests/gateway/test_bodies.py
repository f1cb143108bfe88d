"""Bodies arrive byte for byte, whatever frames them, in both directions."""

import asyncio
import gzip
import hashlib
import random
from collections.abc import Callable

import pytest

from router.core.config import MIB, Limits
from tests.gateway.bench import Bench, route_of
from tests.gateway.clients import chunked_request, request
from tests.gateway.upstreams import Script, Visit, answering, chunked, closing, ok


def bytes_of(size: int) -> bytes:
    """Return `size` bytes that are the same in every run."""
    return random.Random(size).randbytes(size)


def pieces_of(body: bytes) -> list[bytes]:
    """Cut a body into pieces of 1 B to 200 KiB."""
    rolls, pieces, start = random.Random(len(body)), [], 0
    while start < len(body):
        size = rolls.choice((1, 10, 1_000, 65_536, 200_000))
        pieces.append(body[start : start + size])
        start += size
    return pieces


def sha(body: bytes) -> str:
    """Return a short name of a body for assertions one can read."""
    return f"{len(body)}:{hashlib.sha256(body).hexdigest()}"


def echoing(framing: str) -> Script:
    """Return a script that sends each body back, framed as asked."""

    async def script(visit: Visit) -> None:
        async for received in visit.requests():
            await visit.send(chunked(*pieces_of(received.body)) if framing == "chunked" else ok(received.body))

    return script


BOTH = pytest.mark.parametrize("framing", ["content-length", "chunked"])
SIZES = pytest.mark.parametrize(
    "size",
    [0, 1, 65_536, MIB, pytest.param(64 * MIB, marks=pytest.mark.slow)],
    ids=["0B", "1B", "64KiB", "1MiB", "64MiB"],
)


@BOTH
@SIZES
async def test_a_body_arrives_byte_for_byte_both_ways(bench: Bench, framing: str, size: int) -> None:
    """What the variant receives and what the client gets back have the SHA-256 of what was sent."""
    upstream = await bench.upstream(echoing(framing))
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    body = bytes_of(size)
    wire = chunked_request(*pieces_of(body)) if framing == "chunked" else request("POST", "/", body)
    answer, _ = await asyncio.gather(client.answer("POST", within_s=50), client.send(wire))
    assert sha(upstream.requests[0].body) == sha(body)
    assert sha(answer.body) == sha(body)
    framed = ("content-length", str(size)) if framing == "content-length" else ("transfer-encoding", "chunked")
    assert upstream.requests[0].field(framed[0]) == framed[1]
    assert answer.field(framed[0]) == framed[1]
    assert (await client.ask("POST", "/", b"next")).body == b"next"


@pytest.mark.parametrize("seed", range(5))
async def test_random_bodies_and_framings_stay_exact(bench: Bench, seed: int) -> None:
    """Fifty bodies in a row over one connection, each framed at random, sent in random cuts."""
    upstream = await bench.upstream(echoing("chunked" if seed % 2 else "content-length"))
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    rolls = random.Random(seed)
    for _ in range(50):
        body = rolls.randbytes(rolls.choice((0, 1, 100, 5_000, 70_000)))
        wire = chunked_request(*pieces_of(body)) if rolls.random() < 0.5 else request("POST", "/", body)
        cut = rolls.randrange(len(wire))
        await client.send(wire[:cut])
        await asyncio.sleep(0)
        await client.send(wire[cut:])
        assert sha((await client.answer("POST")).body) == sha(body)


def a_body(rolls: random.Random) -> tuple[bytes, str]:
    """Return a body of 0 B to 8 MiB, small ones as often as large ones, packed or not, and its coding."""
    size = rolls.choice((0, 8 * MIB, *[int(2 ** rolls.uniform(0, 23))] * 18))
    if rolls.random() < 0.5:
        return rolls.randbytes(size), "identity"
    return gzip.compress(rolls.randbytes(max(1, size // 2)) * 2, compresslevel=1, mtime=0), "gzip"


@pytest.mark.slow
@pytest.mark.timeout(590)
@pytest.mark.parametrize("bodies", [200, pytest.param(10_000, marks=pytest.mark.soak)])
async def test_dp3_random_bodies_keep_their_digest(bench: Bench, bodies: int, figure: Callable[[str], None]) -> None:
    """Half of them with requests, half with answers, over four connections: by length and in chunks, gzip'd or not."""
    rolls, wrong, carried, done = random.Random(3), 0, 0, 0

    def is_wrong(body: bytes, coding: str | None, digest: str | None, expected: str | None) -> bool:
        nonlocal carried
        carried += len(body)
        return (hashlib.sha256(body).hexdigest(), coding) != (digest, expected)

    def fields_of(body: bytes, coding: str) -> tuple[str, str, str]:
        return f"X-Digest: {hashlib.sha256(body).hexdigest()}", f"Content-Encoding: {coding}", f"X-Coding: {coding}"

    async def script(visit: Visit) -> None:
        nonlocal wrong
        async for got in visit.requests():
            wrong += is_wrong(got.body, got.field("content-encoding"), got.field("x-digest"), got.field("x-coding"))
            visit.upstream.requests.clear()
            body, coding = a_body(rolls)
            own = fields_of(body, coding)
            await visit.send(chunked(*pieces_of(body), fields=own) if rolls.random() < 0.5 else ok(body, *own))

    await bench.gateway(route_of(await bench.upstream(script)))

    async def user() -> None:
        nonlocal wrong, done
        client = await bench.client()
        while done < bodies // 2:
            done += 1
            body, coding = a_body(rolls)
            own = fields_of(body, coding)
            framed = chunked_request(*pieces_of(body), fields=own)
            wire = framed if rolls.random() < 0.5 else request("POST", "/", body, *own)
            answer, _ = await asyncio.gather(client.answer("POST", within_s=60), client.send(wire))
            assert answer.status == 200
            wrong += is_wrong(
                answer.body, answer.field("content-encoding"), answer.field("x-digest"), answer.field("x-coding")
            )

    await asyncio.gather(*[user() for _ in range(4)])
    figure(f"{2 * done:,} bodies, {carried / 2**30:.2f} GiB: {wrong} wrong digests or codings")
    assert (wrong, 2 * done) == (0, bodies)


async def test_encoded_bodies_are_not_touched(bench: Bench) -> None:
    """Gzip goes through as it is, with its fields."""
    packed = gzip.compress(b"x" * 1_000, mtime=0)
    upstream = await bench.upstream(answering(ok(packed, "Content-Encoding: gzip")))
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    answer = await client.ask("POST", "/", packed, "Content-Encoding: gzip", "Accept-Encoding: gzip")
    assert (answer.body, answer.field("content-encoding")) == (packed, "gzip")
    assert (upstream.requests[0].body, upstream.requests[0].field("accept-encoding")) == (packed, "gzip")


async def test_chunk_extensions_and_trailers_end_at_the_gateway(bench: Bench) -> None:
    """They are hop-by-hop for an intermediary that re-frames; the bodies are whole and the connections stay usable."""
    answer = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
        b"3;name=value\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"
    )
    upstream = await bench.upstream(answering(answer))
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    for _ in range(2):
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n0\r\nX-Trailer: t\r\n\r\n"
        )
        got = await client.answer("POST")
        assert (got.status, got.body, got.field("trailer"), got.field("x-sum")) == (200, b"abc", None, None)
    assert [(one.body, one.field("x-trailer")) for one in upstream.requests] == [(b"hi", None)] * 2
    assert len(upstream.visits) == 1


@pytest.mark.parametrize(
    ("method", "answer", "status", "length"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, "5"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, None),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, None),
        ("GET", b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 5\r\n\r\n', 304, "5"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\n", 304, None),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "0"),
    ],
    ids=["head", "head-chunked", "204", "304-length", "304", "empty"],
)
async def test_an_answer_without_body_leaves_both_connections_usable(
    bench: Bench, method: str, answer: bytes, status: int, length: str | None
) -> None:
    """HEAD, 204 and 304 carry no body whatever their fields say; the next request has its own answer."""
    upstream = await bench.upstream(answering(answer, ok(b"next")))
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    got = await client.ask(method)
    assert (got.status, got.body, got.field("content-length")) == (status, b"", length)
    assert (await client.ask("GET")).body == b"next"
    assert len(upstream.visits) == 1


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_an_answer_that_ends_with_its_connection_is_framed_for_the_client(bench: Bench, version: bytes) -> None:
    """The client cannot mistake a cut for the end: it gets chunks, and keeps its connection."""
    upstream = await bench.upstream(closing(b"HTTP/" + version + b" 200 OK\r\nX-A: b\r\n\r\n" + b"z" * 100_000))
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    for _ in range(2):
        got = await client.ask("GET")
        assert (got.body, got.field("transfer-encoding"), got.field("x-a")) == (b"z" * 100_000, "chunked", "b")
    assert len(upstream.visits) == 2


async def test_an_old_client_gets_its_answer_and_the_end_of_the_connection(bench: Bench) -> None:
    """HTTP/1.0 without keep-alive: answer, then close; also without a Host field."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    await client.send(b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi")
    head, _, body = (await client.to_the_end()).partition(b"\r\n\r\n")
    assert body == b"hi"
    assert b"\r\nconnection: close" in head.lower()
    assert upstream.requests[0].body == b"hi"


async def test_an_old_client_may_keep_its_connection(bench: Bench) -> None:
    """HTTP/1.0 with `Connection: keep-alive`: two requests, both answers say that the connection stays."""
    await bench.gateway(route_of(await bench.upstream()))
    client = await bench.client()
    for _ in range(2):
        await client.send(b"POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi")
        got = await client.answer("POST")
        assert (got.body, got.field("connection")) == (b"hi", "keep-alive")


async def test_an_old_client_gets_a_chunked_answer_without_chunks(bench: Bench) -> None:
    """HTTP/1.0 knows no chunks: the pieces come plain, and the end of the connection ends them."""
    upstream = await bench.upstream(answering(chunked(b"one ", b"two ", b"three")))
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    await client.send(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
    head, _, body = (await client.to_the_end()).partition(b"\r\n\r\n")
    assert body == b"one two three"
    assert b"transfer-encoding" not in head.lower()
    assert b"\r\nconnection: close" in head.lower()


async def test_a_client_that_waits_for_100_continue_gets_it(bench: Bench) -> None:
    """The gateway answers the expectation itself; the variant gets the request without it."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    async with asyncio.timeout(3):
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"body")
    assert (await client.answer("POST")).body == b"body"
    assert upstream.requests[0].field("expect") is None


async def test_a_request_that_is_refused_gets_no_100_continue(bench: Bench) -> None:
    """A body that is too long is refused before the client sends it."""
    await bench.gateway(route_of(await bench.upstream()), limits=Limits(body_bytes=3))
    client = await bench.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
    got = await client.answer("POST")
    assert (got.status, got.interim) == (413, ())


async def test_interim_answers_of_a_variant_are_dropped(bench: Bench) -> None:
    """100 and 103 end at the gateway; the final answer follows and the connection stays usable."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    upstream = await bench.upstream(answering(interim + ok(b"final")))
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    for _ in range(2):
        got = await client.ask("POST", "/", b"x")
        assert (got.status, got.body, got.interim, got.field("link")) == (200, b"final", (), None)
    assert len(upstream.visits) == 1
