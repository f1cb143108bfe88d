"""Keep-alive and pipelining: one connection, its answers in order."""

import asyncio

import pytest

from router.core.config import Limits
from router.core.traffic import Match
from tests.gateway.bench import Bench, route_of, until
from tests.gateway.clients import TruncatedError, chunked_request, request
from tests.gateway.upstreams import Visit, answering, never, ok
from tests.stopwatch import Stopwatch


async def test_a_connection_serves_one_request_after_another(bench: Bench) -> None:
    """Ten requests use one client connection and one upstream connection."""
    upstream = await bench.upstream()
    gateway = await bench.gateway(route_of(upstream))
    client = await bench.client()
    bodies = [b"body %d" % number for number in range(10)]
    answers = [await client.ask("POST", "/x", body) for body in bodies]
    assert [answer.body for answer in answers] == bodies
    assert {answer.status for answer in answers} == {200}
    assert {answer.field("connection") for answer in answers} == {None}
    assert len(upstream.visits) == 1
    assert gateway.outcomes() == {"ok": 10}


async def test_a_client_that_asks_for_close_gets_it(bench: Bench) -> None:
    """`Connection: close` is answered by the same field and the end of the connection; the variant never sees it."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    answer = await client.ask("POST", "/", b"x", "Connection: close")
    assert (answer.status, answer.field("connection")) == (200, "close")
    assert await client.to_the_end() == b""
    assert upstream.requests[0].field("connection") is None


async def test_a_variant_that_closes_does_not_close_the_client(bench: Bench) -> None:
    """The two connections live apart: each request gets a fresh upstream connection, the client keeps its own."""
    upstream = await bench.upstream(answering(ok(b"a", "Connection: close")))
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    answers = [await client.ask("GET") for _ in range(3)]
    assert [(answer.status, answer.body, answer.field("connection")) for answer in answers] == [(200, b"a", None)] * 3
    assert len(upstream.visits) == 3


async def test_pipelined_answers_come_in_order_also_when_the_first_is_slow(bench: Bench) -> None:
    """Five requests in one write: the second is not sent on before the first is answered."""
    release = asyncio.Event()

    async def slow_first(visit: Visit) -> None:
        async for received in visit.requests():
            if received.body == b"0":
                await release.wait()
            await visit.send(ok(b"answer to " + received.body))

    upstream = await bench.upstream(slow_first)
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    await client.send(b"".join(request("POST", f"/{number}", b"%d" % number) for number in range(5)))
    await until(lambda: upstream.requests, "the first request arrives")
    assert [one.body for one in upstream.requests] == [b"0"]
    release.set()
    assert [(await client.answer()).body for _ in range(5)] == [b"answer to %d" % number for number in range(5)]
    assert len(upstream.visits) == 1


async def test_a_request_without_a_route_in_the_middle_of_a_line_keeps_its_place(bench: Bench) -> None:
    """200, 404, 413, 200: refusals wait for the answers before them, and do not end the connection."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream, match=Match("/v2")), limits=Limits(body_bytes=100))
    client = await bench.client()
    too_long = request("POST", "/v2", b"x" * 101)
    await client.send(request("POST", "/v2", b"1") + request("GET", "/v1") + too_long + request("POST", "/v2/a", b"4"))
    answers = [await client.answer() for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 404, 413, 200]
    assert (answers[0].body, answers[3].body) == (b"1", b"4")
    assert [answer.field("x-turnout-origin") for answer in answers] == [None, "gateway", "gateway", None]


@pytest.mark.parametrize("body", [b"x" * 101, None], ids=["content-length", "chunked"])
async def test_a_body_over_the_limit_waits_for_its_turn_to_be_refused(bench: Bench, body: bytes | None) -> None:
    """A pipelined request that is too long must not put its 413 in front of the answer before it."""
    release = asyncio.Event()

    async def held(visit: Visit) -> None:
        async for _ in visit.requests():
            await release.wait()
            await visit.send(ok(b"first"))

    upstream = await bench.upstream(held)
    await bench.gateway(route_of(upstream), limits=Limits(body_bytes=100))
    client = await bench.client()
    await client.send(
        request("POST", "/", b"1") + (request("POST", "/", body) if body else chunked_request(b"x" * 101))
    )
    await until(lambda: upstream.requests, "the first request arrives")
    release.set()
    assert [(one.status, one.body[:5]) for one in (await client.answer(), await client.answer())] == [
        (200, b"first"),
        (413, b'{"typ'),
    ]


async def test_rubbish_behind_a_request_is_answered_after_it(bench: Bench) -> None:
    """The good request gets its answer, the rubbish gets 400, and the connection ends."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    await client.send(request("POST", "/", b"good") + b"rubbish\r\n\r\n")
    assert (await client.answer()).body == b"good"
    refused = await client.answer()
    assert (refused.status, refused.field("connection")) == (400, "close")
    assert await client.to_the_end() == b""
    assert len(upstream.requests) == 1


async def test_more_requests_than_may_wait_end_the_connection_after_the_answers_before(bench: Bench) -> None:
    """`limits.pipelined` 2: one in flight and two waiting are answered, the fourth gets 503."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream), limits=Limits(pipelined=2))
    client = await bench.client()
    await client.send(b"".join(request("POST", "/", b"%d" % number) for number in range(5)))
    answers = [await client.answer() for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 503]
    assert await client.to_the_end() == b""
    assert len(upstream.requests) == 3


async def test_a_pipelined_request_may_arrive_in_pieces(bench: Bench) -> None:
    """The second request begins in the first one's read and is completed while the first is in flight, or after."""
    release = asyncio.Event()

    async def held(visit: Visit) -> None:
        async for received in visit.requests():
            await release.wait()
            await visit.send(ok(received.body))

    upstream = await bench.upstream(held)
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    second = request("POST", "/", b"second body")
    await client.send(request("POST", "/", b"first") + second[:-8])
    await until(lambda: upstream.requests, "the first request arrives")
    release.set()
    assert (await client.answer()).body == b"first"
    await client.send(second[-8:])
    assert (await client.answer()).body == b"second body"


async def test_the_next_request_may_be_sent_before_the_answer_is_read(bench: Bench) -> None:
    """Byte by byte, without waiting: 20 requests, 20 answers."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    wire = b"".join(request("POST", "/", b"%d" % number) for number in range(20))
    for start in range(0, len(wire), 7):
        client.writer.write(wire[start : start + 7])
        await asyncio.sleep(0)
    assert [(await client.answer()).body for _ in range(20)] == [b"%d" % number for number in range(20)]


UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")


async def test_an_upgrade_is_ignored_and_its_body_arrives(bench: Bench) -> None:
    """Java's HttpClient offers h2c with every request; body, framing and the following requests stay right."""
    upstream = await bench.upstream()
    gateway = await bench.gateway(route_of(upstream))
    client = await bench.client()
    await client.send(
        request("POST", "/1", b"one", *UPGRADE)
        + request("GET", "/2", b"", *UPGRADE)
        + chunked_request(b"thr", b"ee", fields=UPGRADE)
        + request("POST", "/4", b"four")
    )
    answers = [await client.answer() for _ in range(4)]
    assert [(answer.status, answer.body) for answer in answers] == [
        (200, b"one"),
        (200, b""),
        (200, b"three"),
        (200, b"four"),
    ]
    names = {name for received in upstream.requests for name, _ in received.fields}
    assert not names & {"upgrade", "connection", "http2-settings"}
    assert gateway.outcomes() == {"ok": 4}


async def test_an_upgrade_whose_body_comes_later_is_read_to_its_end(bench: Bench) -> None:
    """The body is split over many reads."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    wire = request("POST", "/", b"0123456789", *UPGRADE)
    for start in range(0, len(wire), 5):
        await client.send(wire[start : start + 5])
        await asyncio.sleep(0.001)
    assert (await client.answer()).body == b"0123456789"
    assert (await client.ask("POST", "/", b"next")).body == b"next"


TABBED = (b"chunked\t", b"chunked \t ", b"\tChunked\t\t")


@pytest.mark.parametrize("coding", TABBED)
@pytest.mark.parametrize("cut", [1, 7, 64, 10_000])
@pytest.mark.parametrize("more", [(), UPGRADE], ids=["alone", "with an upgrade"])
async def test_a_tab_behind_chunked_is_no_part_of_it(
    bench: Bench, coding: bytes, cut: int, more: tuple[str, ...]
) -> None:
    """However it is cut: the body is read to its end, and so are the requests behind it (TE25, RFC 9110 section 5.5).

    What goes to the variant has the field as it should be.
    """
    upstream = await bench.upstream()
    gateway = await bench.gateway(route_of(upstream))
    client = await bench.client()
    tabbed = chunked_request(b"GET / HTTP/1.1\r\n\r\n", b"0\r\n\r\n", fields=more)
    tabbed = tabbed.replace(b"chunked", coding)
    assert coding in tabbed
    wire = tabbed + tabbed + request("POST", "/", b"plain") + tabbed
    for start in range(0, len(wire), cut):
        client.writer.write(wire[start : start + cut])
        await asyncio.sleep(0)
    whole = b"GET / HTTP/1.1\r\n\r\n0\r\n\r\n"
    assert [(await client.answer()).body for _ in range(4)] == [whole, whole, b"plain", whole]
    sent = [value for received in upstream.requests for name, value in received.fields if name == "transfer-encoding"]
    assert sent == ["chunked"] * 3
    assert gateway.outcomes() == {"ok": 4}


@pytest.mark.parametrize(
    "fields",
    ["Transfer-Encoding: chunked\t\r\nContent-Length: 5", "Content-Length: 5\r\nTransfer-Encoding: chunked\t",
     "Transfer-Encoding: chunked\t\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\t, chunked",
     "Transfer-Encoding: chunked\tx", "Transfer-Encoding: gzip\t", "Transfer-Encoding: \t"],
)  # fmt: skip
async def test_a_tab_makes_no_other_framing_allowed(bench: Bench, fields: str) -> None:
    """Refused and closed as without the tab; nothing behind the head is read as a request."""
    upstream = await bench.upstream()
    await bench.gateway(route_of(upstream))
    client = await bench.client()
    head = f"POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n".encode()
    await client.send(head + b"5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = await client.answer()
    assert (answer.status, answer.field("connection")) in {(400, "close"), (501, "close")}
    assert upstream.requests == []


async def test_a_tabbed_body_is_limited_and_timed_like_any_other(bench: Bench) -> None:
    """Its size is counted, junk in it is refused, and an unfinished one ends with its deadline."""
    upstream = await bench.upstream()
    gateway = await bench.gateway(route_of(upstream), limits=Limits(body_bytes=10))
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\t\r\n\r\n"
    for body, status in ((b"b\r\n01234567890", 413), (b"nonsense\r\n", 400)):
        client = await bench.client()
        await client.send(head + body)
        assert (await client.answer()).status == status
    client = await bench.client()
    await client.send(head + b"5\r\nhel")
    await until(gateway.held, "it is under way")
    gateway.pass_time(31.0)
    assert (await client.answer()).status == 408


async def test_a_hundred_connections_at_once_get_their_own_answers(bench: Bench) -> None:
    """No answer crosses over to another client."""
    upstream = await bench.upstream()
    gateway = await bench.gateway(route_of(upstream))

    async def one(number: int) -> bool:
        client = await bench.client(gateway)
        bodies = [b"%d/%d" % (number, turn) for turn in range(10)]
        return [(await client.ask("POST", "/", body)).body for body in bodies] == bodies

    assert all(await asyncio.gather(*[one(number) for number in range(100)]))
    assert gateway.outcomes() == {"ok": 1_000}


async def test_draining_finishes_what_is_under_way_and_says_so(bench: Bench) -> None:
    """The answer in flight is completed with `Connection: close`, an idle one gets one more, or its end."""
    release = asyncio.Event()

    async def held(visit: Visit) -> None:
        async for received in visit.requests():
            if received.body == b"held":
                await release.wait()
            await visit.send(ok(received.body))

    upstream = await bench.upstream(held)
    gateway = await bench.gateway(route_of(upstream))
    idle, late, busy = [await bench.client() for _ in range(3)]
    for client in (idle, late):
        await client.ask("POST", "/", b"x")
    await busy.send(request("POST", "/", b"held"))
    await until(lambda: len(upstream.requests) == 3, "the request arrives")
    draining = asyncio.create_task(gateway.worker.drain(5.0))
    await asyncio.sleep(0)
    answer = await late.ask("POST", "/", b"late")
    assert (answer.body, answer.field("connection")) == (b"late", "close")
    assert await idle.to_the_end() == b""
    assert not draining.done()
    release.set()
    answer = await busy.answer()
    assert (answer.status, answer.body, answer.field("connection")) == (200, b"held", "close")
    await asyncio.wait_for(draining, 3.0)
    bench.gateways.clear()


async def test_a_drain_ends_at_its_deadline(bench: Bench) -> None:
    """A request that does not end is cut, so that a restart takes no longer than it may."""
    upstream = await bench.upstream(never)
    gateway = await bench.gateway(route_of(upstream))
    client = await bench.client()
    await client.send(request("POST", "/", b"x"))
    await until(lambda: upstream.requests, "the request arrives")
    watch = Stopwatch()
    await gateway.worker.drain(0.3)
    assert watch.passed_s >= 0.29
    assert watch.elapsed_s < 0.6
    with pytest.raises(TruncatedError):
        await client.answer("POST")
    bench.gateways.clear()
