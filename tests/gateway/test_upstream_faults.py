"""What variants may do to us: no answer, half an answer, two answers, rubbish. None of it reaches another request."""

import asyncio
import socket

import pytest

from router.core.traffic import Backend, Timeouts, Variant
from tests.gateway.bench import Bench, route_of, until
from tests.gateway.clients import TruncatedError, request
from tests.gateway.upstreams import Script, Visit, echo, ok
from tests.stopwatch import Stopwatch

POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"

MALFORMED = {
    "no http": b"POISON\r\n\r\n",
    "no status line": b"\r\nX: y\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "status below 100": b"HTTP/1.1 050 OK\r\nContent-Length: 6\r\n\r\nPOISON",
    "status above 599": b"HTTP/1.1 600 OK\r\nContent-Length: 6\r\n\r\nPOISON",
    "http/2": b"HTTP/2.0 200 OK\r\nContent-Length: 6\r\n\r\nPOISON",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 6\r\n\r\nPOISON",
    "twice the same length": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nContent-Length: 6\r\n\r\nPOISON",
    "length list": b"HTTP/1.1 200 OK\r\nContent-Length: 6, 6\r\n\r\nPOISON",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -6\r\n\r\nPOISON",
    "signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +6\r\n\r\nPOISON",
    "hex length": b"HTTP/1.1 200 OK\r\nContent-Length: 0x6\r\n\r\nPOISON",
    "endless length": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nPOISON",
    "length of 16 digits": b"HTTP/1.1 200 OK\r\nContent-Length: 0000000000000006\r\n\r\nPOISON",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
    "gzip coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nPOISON",
    "gzip and chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n6\r\nPOISON\r\n0\r\n\r\n",
    "chunked twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n6\r\nPOISON\r\n0\r\n\r\n",
    "chunked in two fields": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n6\r\nPOISON\r\n0\r\n\r\n"
    ),
    "chunked in a list": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: ,chunked\r\n\r\n6\r\nPOISON\r\n0\r\n\r\n",
    "chunked and a tab": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked \t\r\n\r\n6\r\nPOISON\r\n0\r\n\r\n",
    "chunks in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nPOISON\r\n0\r\n\r\n",
    "space before colon": b"HTTP/1.1 200 OK\r\nContent-Length : 6\r\n\r\nPOISON",
    "no colon": b"HTTP/1.1 200 OK\r\nPOISON\r\n\r\n",
    "folded field": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 6\r\n\r\nPOISON",
    "nul in field": b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 6\r\n\r\nPOISON",
    "bare cr in field": b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: POISON\r\nContent-Length: 6\r\n\r\nPOISON",
    "switched protocols": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nPOISON",
    "interim with a body": b"HTTP/1.1 100 Continue\r\nContent-Length: 6\r\n\r\nPOISON",
    "unknown interim with a body": b"HTTP/1.1 199 X\r\nContent-Length: 44\r\n\r\n" + POISON,
    "unknown interim with chunks": b"HTTP/1.1 199 X\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nPOISON\r\n0\r\n\r\n",
    "long field": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\nContent-Length: 6\r\n\r\nPOISON",
    "many fields": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000 + b"Content-Length: 6\r\n\r\nPOISON",
    "endless interim answers": b"HTTP/1.1 102 Processing\r\n\r\n" * 5_000,
    "field without end": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000,
}


def first(answer: bytes) -> Script:
    """Return a script that gives `answer` to the first request of the whole upstream and echoes all later ones."""

    async def script(visit: Visit) -> None:
        received = await visit.request()
        if received is None:
            return
        if len(visit.upstream.requests) == 1:
            await visit.send(answer)
            await visit.gone()
        else:
            await visit.send(ok(received.body))
            await echo(visit)

    return script


@pytest.mark.parametrize("answer", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_answer_gives_502_and_nothing_of_it_is_passed_on(bench: Bench, answer: bytes) -> None:
    """The client learns that the variant failed; the next request on its connection has its own answer."""
    upstream = await bench.upstream(first(answer))
    gateway = await bench.gateway(route_of(upstream))
    client = await bench.client()
    got = await client.ask("POST", "/", b"first", within_s=2.0)
    assert (got.status, got.field("x-turnout-origin")) == (502, "gateway")
    assert b"POISON" not in got.body
    assert (await client.ask("POST", "/", b"second")).body == b"second"
    assert gateway.outcomes() == {"malformed": 1, "ok": 1}
    await until(lambda: upstream.visits[0].closed_at, "the upstream connection is closed")


async def test_a_long_answer_head_is_refused_also_when_it_drips(bench: Bench) -> None:
    """64 KiB of one unfinished field end it, however they are cut."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(b"HTTP/1.1 200 OK\r\nX: ")
        gone = asyncio.ensure_future(visit.gone())
        while not gone.done():
            await visit.send(b"a" * 1_000)
            await asyncio.sleep(0)

    gateway = await bench.gateway(route_of(await bench.upstream(script)))
    client = await bench.client()
    assert (await client.ask("POST", "/", b"x", within_s=2.0)).status == 502
    assert gateway.outcomes() == {"malformed": 1}


BROKEN_CHUNKS = {
    "no size": b"POISON\r\n",
    "negative size": b"-1\r\nx\r\n0\r\n\r\n",
    "no line end behind a chunk": b"1\r\nxPOISON",
    "endless size": b"ffffffffffffffffff\r\nPOISON",
    "space in size": b"1 0\r\nPOISON",
}


@pytest.mark.parametrize("body", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
async def test_broken_chunks_in_the_first_read_give_502(bench: Bench, body: bytes) -> None:
    """As long as nothing has been passed on, the client can be told."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    gateway = await bench.gateway(route_of(await bench.upstream(first(head + b"2\r\nhi\r\n" + body))))
    client = await bench.client()
    assert (await client.ask("POST", "/", b"x")).status == 502
    assert (await client.ask("POST", "/", b"second")).body == b"second"
    assert gateway.outcomes() == {"malformed": 1, "ok": 1}


@pytest.mark.parametrize("body", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
async def test_broken_chunks_later_cut_the_answer_visibly(bench: Bench, body: bytes) -> None:
    """Once a part of the answer is out, the only honest end is a cut."""
    go_on = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        await go_on.wait()
        await visit.send(body)
        await visit.gone()

    gateway = await bench.gateway(route_of(await bench.upstream(script)))
    client = await bench.client()
    await client.send(request("POST", "/", b"x"))
    await client.reader.readuntil(b"2\r\nhi\r\n")
    go_on.set()
    with pytest.raises(ConnectionResetError):
        await client.to_the_end()
    assert gateway.outcomes() == {"malformed": 1}


async def test_an_endless_trailer_cuts_the_answer(bench: Bench) -> None:
    """Trailers are dropped, but not collected without bound."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = head + b"2\r\n" + b"hi\r\n0\r\nX: " + b"a" * 500_000
    gateway = await bench.gateway(route_of(await bench.upstream(first(answer))))
    client = await bench.client()
    await client.send(request("POST", "/", b"x"))
    with pytest.raises(TruncatedError):
        await client.answer("POST", within_s=2.0)
    assert gateway.outcomes() == {"malformed": 1}


SURPLUS = {
    "rubbish behind the body": ok(b"good") + b"POISON",
    "a second answer": ok(b"good") + POISON,
    "a second answer behind chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n" + POISON
    ),
    "a field for the hop behind chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\nTransfer-Encoding: identity\r\n\r\n"
    ),
    "close behind chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\nConnection: close\r\n\r\n"
    ),
    "rubbish behind close": ok(b"good", "Connection: close") + POISON,
}


@pytest.mark.parametrize("answer", SURPLUS.values(), ids=SURPLUS)
async def test_bytes_behind_an_answer_never_become_the_next_one(bench: Bench, answer: bytes) -> None:
    """The answer itself is whole and is passed on; its connection is not used again."""
    upstream = await bench.upstream(first(answer))
    gateway = await bench.gateway(route_of(upstream))
    client = await bench.client()
    assert (await client.ask("POST", "/", b"first")).body == b"good"
    assert (await client.ask("POST", "/", b"second")).body == b"second"
    assert len(upstream.visits) == 2
    assert gateway.outcomes() == {"ok": 2}


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6;"),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n"),
    ],
    ids=["head", "head-chunked", "204", "304"],
)
async def test_a_body_where_there_must_be_none_is_dropped(bench: Bench, method: str, head: bytes) -> None:
    """Neither the client nor the next request sees it."""
    upstream = await bench.upstream(first(head + b"POISON"))
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    assert (await client.ask(method)).body == b""
    assert (await client.ask("POST", "/", b"second")).body == b"second"
    assert len(upstream.visits) == 2


@pytest.mark.parametrize("surplus", [POISON, b"x"], ids=["answer", "rubbish"])
async def test_an_answer_to_no_request_closes_the_unused_connection(bench: Bench, surplus: bytes) -> None:
    """What comes on an idle connection is nobody's answer."""
    send_more = asyncio.Event()

    async def script(visit: Visit) -> None:
        async for received in visit.requests():
            await visit.send(ok(received.body))
            if len(visit.upstream.requests) == 1:
                await send_more.wait()
                await visit.send(surplus)
                await visit.gone()
                return

    upstream = await bench.upstream(script)
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    assert (await client.ask("POST", "/", b"first")).body == b"first"
    send_more.set()
    await until(lambda: upstream.visits[0].closed_at, "the connection is closed")
    assert (await client.ask("POST", "/", b"second")).body == b"second"
    assert len(upstream.visits) == 2


async def test_a_redirect_a_cookie_and_a_challenge_are_just_answers(bench: Bench) -> None:
    """Turnout is no browser: 307 is not followed, cookies are not kept, 401 is not answered."""
    answers = [
        ok(b"", f"Location: {target}", "Set-Cookie: a=b", 'WWW-Authenticate: Basic realm="x"', status=status)
        for target, status in (("/elsewhere", "307 Temporary Redirect"), ("/", "401 Unauthorized"))
    ]

    async def script(visit: Visit) -> None:
        async for _ in visit.requests():
            await visit.send(answers[(len(visit.upstream.requests) - 1) % 2])

    upstream = await bench.upstream(script)
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    got = [await client.ask("POST", "/", b"x") for _ in range(2)]
    assert [(answer.status, answer.field("set-cookie")) for answer in got] == [(307, "a=b"), (401, "a=b")]
    assert got[0].field("location") == "/elsewhere"
    assert len(upstream.requests) == 2
    assert [one.field("cookie") for one in upstream.requests] == [None, None]


# -- connecting -------------------------------------------------------------------------------------------------------


def closed_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_refused_connect_gives_502_at_once(bench: Bench) -> None:
    """Within 100 ms, counted as connect_failed, and the client keeps its connection."""
    gateway = await bench.gateway(route_of(Variant("v1", (Backend("127.0.0.1", closed_port()),))))
    client = await bench.client()
    watch = Stopwatch()
    answer = await client.ask("POST", "/", b"x")
    assert (answer.status, answer.field("x-turnout-origin")) == (502, "gateway")
    assert watch.elapsed_s < 0.1
    assert (await client.ask("GET")).status == 502
    assert gateway.outcomes() == {"connect_failed": 2}


async def test_a_connect_into_a_black_hole_ends_at_its_deadline(bench: Bench, full_port: int) -> None:
    """`timeouts.connect` 0.3 s: 502 after 0.3 s, not sooner and not much later."""
    variant = Variant("v1", (Backend("127.0.0.1", full_port),))
    gateway = await bench.gateway(route_of(variant, timeouts=Timeouts(connect_s=0.3)))
    client = await bench.client()
    watch = Stopwatch()
    assert (await client.ask("POST", "/", b"x")).status == 502
    assert watch.passed_s >= 0.29
    assert watch.elapsed_s < 0.45
    assert gateway.outcomes() == {"connect_failed": 1}


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 64 + ".invalid"])
async def test_a_host_that_cannot_be_found_gives_502(bench: Bench, host: str) -> None:
    """Also where the name is none at all."""
    gateway = await bench.gateway(route_of(Variant("v1", (Backend(host, 80),)), timeouts=Timeouts(connect_s=5.0)))
    client = await bench.client()
    assert (await client.ask("POST", "/", b"x")).status == 502
    assert gateway.outcomes() == {"connect_failed": 1}


async def test_a_body_that_waits_for_a_connect_is_bounded(bench: Bench, full_port: int) -> None:
    """While there is no connection, the client is stopped after what the sockets and 64 KiB hold."""
    variant = Variant("v1", (Backend("127.0.0.1", full_port),))
    await bench.gateway(route_of(variant, timeouts=Timeouts(connect_s=1.0)))
    client = await bench.client()
    sent: list[int] = []

    async def upload() -> None:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 67108864\r\n\r\n")
        for _ in range(1_024):
            await client.send(b"x" * 65_536)
            sent.append(65_536)

    uploading = asyncio.create_task(upload())
    answer = await client.answer("POST")
    assert answer.status == 502
    assert sum(sent) < 24 * 2**20
    client.abort()
    await asyncio.gather(uploading, return_exceptions=True)


# -- pools ------------------------------------------------------------------------------------------------------------


async def test_backends_take_turns(bench: Bench) -> None:
    """Nine requests over three backends: three each, in order."""
    upstreams = [await bench.upstream() for _ in range(3)]
    variant = Variant("v1", tuple(one.backend for one in upstreams))
    await bench.gateway(route_of(variant))
    client = await bench.client()
    for number in range(9):
        await client.ask("POST", "/", b"%d" % number)
    assert [[one.body for one in upstream.requests] for upstream in upstreams] == [
        [b"0", b"3", b"6"],
        [b"1", b"4", b"7"],
        [b"2", b"5", b"8"],
    ]
    assert [len(upstream.visits) for upstream in upstreams] == [1, 1, 1]


async def test_a_full_variant_sheds_with_retry_after(bench: Bench) -> None:
    """`max_in_flight` 2: the third request gets 503 at once, the first two their answers, and then there is room."""
    release = asyncio.Event()

    async def held(visit: Visit) -> None:
        async for received in visit.requests():
            await release.wait()
            await visit.send(ok(received.body))

    upstream = await bench.upstream(held)
    gateway = await bench.gateway(route_of(Variant("v1", (upstream.backend,), max_in_flight=2, max_queue=0)))
    clients = [await bench.client() for _ in range(3)]
    for client in clients[:2]:
        await client.send(request("POST", "/", b"in"))
    await until(lambda: len(upstream.requests) == 2, "two requests are in flight")
    watch = Stopwatch()
    answer = await clients[2].ask("POST", "/", b"out")
    assert (answer.status, answer.field("retry-after")) == (503, "1")
    assert watch.elapsed_s < 0.1
    release.set()
    assert [(await client.answer("POST")).body for client in clients[:2]] == [b"in", b"in"]
    assert (await clients[2].ask("POST", "/", b"again")).body == b"again"
    assert gateway.outcomes() == {"ok": 3, "shed": 1}


async def test_an_unused_upstream_connection_is_closed_after_four_seconds(bench: Bench) -> None:
    """Below the 5 s of common model servers, so that they never close one that we are about to use.

    The pool's clock is the loop's; `expire` takes the time as an argument, so nobody has to wait.
    """
    upstream = await bench.upstream()
    gateway = await bench.gateway(route_of(upstream))
    client = await bench.client()
    await client.ask("POST", "/", b"one")
    now = asyncio.get_running_loop().time()
    for pool in gateway.worker.table.lives["r"].pools():
        pool.expire(now + 3.8)
    await client.ask("POST", "/", b"two")
    assert len(upstream.visits) == 1
    now = asyncio.get_running_loop().time()
    for pool in gateway.worker.table.lives["r"].pools():
        pool.expire(now + 4.1)
    await until(lambda: not upstream.open, "the unused connection is closed")
    await client.ask("POST", "/", b"three")
    assert len(upstream.visits) == 2
