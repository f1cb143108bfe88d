"""What stable gets of a request that the candidate failed: all of it, once, in stable's own form."""

import asyncio
import random
from itertools import count

import pytest

from router.core.config import KIB, MIB, Limits
from router.core.traffic import Backend, MirrorLimits, RescueSpec, Timeouts, Variant
from router.gateway.exchange import WHOLE_BYTES
from tests.gateway.bench import Bench, until
from tests.gateway.clients import Client, TruncatedError, chunked_request, request
from tests.gateway.test_bodies import pieces_of, sha
from tests.gateway.test_rescue import OOPS, live, stable, trial
from tests.gateway.test_upstream_faults import closed_port
from tests.gateway.upstreams import Script, Visit, answering, closing, never, ok

INFER = "/v2/models/digits/infer?x=1"


def wire(body: bytes, framing: str) -> bytes:
    """Return a POST with this body."""
    return chunked_request(*pieces_of(body)) if framing == "chunked" else request("POST", "/", body)


WITHOUT_BOUND = RescueSpec(budget_bp=10_000)
BOTH = pytest.mark.parametrize("framing", ["content-length", "chunked"])


@BOTH
@pytest.mark.parametrize("failure", ["refused", "reset", "500"])
async def test_dp3_random_bodies_reach_stable_byte_for_byte(bench: Bench, framing: str, failure: str) -> None:
    """Twelve bodies of 0 B to 2 MiB, whole when they are sent again, and framed as the client framed them."""
    rolls = random.Random(framing + failure)
    candidate: Script | Variant = answering(OOPS) if failure == "500" else closing(b"")
    if failure == "refused":
        candidate = Variant("v2", (Backend("127.0.0.1", closed_port()),))
    gateway = await trial(bench, candidate, rescue=WITHOUT_BOUND)
    client = await bench.client()
    for size in (0, 1, 65_536, 2 * MIB, *[rolls.randrange(2 ** rolls.randrange(1, 20)) for _ in range(8)]):
        body = rolls.randbytes(size)
        _, answer = await asyncio.gather(client.send(wire(body, framing)), client.answer("POST"))
        assert sha(answer.body) == sha(b"stable:" + body)
        last = bench.upstreams[0].requests[-1]
        chunked = last.field("transfer-encoding") == "chunked"
        assert (chunked, last.field("content-length")) == (framing == "chunked", None if chunked else str(size))
    await until(lambda: gateway.held() == {}, "all bodies are let go")
    assert gateway.rescues() == {"answered": 12}


async def upload(client: Client, framing: str) -> None:
    """Send the head of a POST and the first half of its body, too long to be waited for to its end."""
    if framing == "chunked":
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
    else:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (11 + WHOLE_BYTES)
        await client.send(head + b"first" + b" " * WHOLE_BYTES)


async def finish(client: Client, framing: str) -> None:
    """Send the second half."""
    await client.send(b"6\r\nsecond\r\n0\r\n\r\n" if framing == "chunked" else b"second")


@BOTH
@pytest.mark.parametrize("answer", [b"", OOPS], ids=["reset", "500"])
async def test_a_body_that_is_still_coming_in_goes_on_to_stable(bench: Bench, framing: str, answer: bytes) -> None:
    """The candidate fails in the middle of an upload: stable gets both halves, and the copy of it is not made."""

    async def half(visit: Visit) -> None:
        await visit.read()
        await visit.send(answer)

    gateway = await trial(bench, half, shares=(10_000, 10_000))
    client = await bench.client()
    await upload(client, framing)
    await until(lambda: gateway.outcomes("v2"), "the candidate has failed")
    await until(lambda: bench.upstreams[0].visits and bench.upstreams[0].visits[0].read_bytes, "stable has the half")
    await finish(client, framing)
    assert (await client.answer("POST")).body.replace(b" ", b"") == b"stable:firstsecond"
    outcome = next(iter(gateway.outcomes("v2")))
    assert gateway.dropped("copy", f"live_{outcome}") == 1
    assert gateway.rescues() == {"answered": 1}
    assert gateway.held() == {}
    await gateway.pairs(0)


@BOTH
@pytest.mark.parametrize("mirror_safe", [True, False], ids=["safe", "unsafe"])
async def test_a_body_that_waited_for_the_candidates_connection_waits_for_stables(
    bench: Bench, full_port: int, framing: str, *, mirror_safe: bool
) -> None:
    """Nothing was sent: what has come in goes to stable, also where nothing is kept, and the rest behind it."""
    hole = Variant("v2", (Backend("127.0.0.1", full_port),))
    gateway = await trial(bench, hole, mirror_safe=mirror_safe, timeouts=Timeouts(connect_s=0.5))
    client = await bench.client()
    await upload(client, framing)
    await until(lambda: gateway.outcomes("v2"), "the connect has failed")
    await finish(client, framing)
    assert (await client.answer("POST")).body.replace(b" ", b"") == b"stable:firstsecond"
    assert (gateway.outcomes("v2"), gateway.rescues()) == ({"connect_failed": 1}, {"answered": 1})


@pytest.mark.parametrize("mirror_safe", [True, False], ids=["safe", "unsafe"])
async def test_a_large_body_that_waited_is_let_flow_again(bench: Bench, full_port: int, *, mirror_safe: bool) -> None:
    """4 MiB, of which 64 KiB may wait: the client is slowed down, then stable gets all of it, kept or not."""
    hole = Variant("v2", (Backend("127.0.0.1", full_port),))
    limits = Limits(kept_body_bytes=100 * KIB)
    gateway = await trial(bench, hole, mirror_safe=mirror_safe, limits=limits, timeouts=Timeouts(connect_s=0.5))
    client = await bench.client()
    body = random.Random(1).randbytes(4 * MIB)
    _, answer = await asyncio.gather(client.send(request("POST", "/", body)), client.answer("POST"))
    assert sha(answer.body) == sha(b"stable:" + body)
    assert gateway.rescues() == {"answered": 1}


@pytest.mark.parametrize("method", ["HEAD", "GET", "PUT", "DELETE"])
async def test_other_methods_are_rescued_as_well(bench: Bench, method: str) -> None:
    """Also the answer to HEAD, which announces a body that does not come."""
    gateway = await trial(
        bench, answering(b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\n"), stable=answering(ok(b""))
    )
    client = await bench.client()
    for _ in range(2):
        answer = await client.ask(method, "/x?y=z")
        assert (answer.status, answer.field("x-turnout-rescued")) == (200, "http_error")
    assert [(one.method, one.target) for one in bench.upstreams[0].requests] == [(method, "/x?y=z")] * 2
    assert gateway.rescues() == {"answered": 2}


async def test_requests_behind_a_rescued_one_keep_their_order(bench: Bench) -> None:
    """Ten pipelined requests, every other one fails: ten answers in order, each its asker's."""

    async def odd(visit: Visit) -> None:
        async for received in visit.requests():
            await visit.send(OOPS if int(received.body) % 2 else ok(b"candidate:" + received.body))

    gateway = await trial(bench, odd)
    client = await bench.client()
    await client.send(b"".join(request("POST", "/", b"%d" % number) for number in range(10)))
    answers = [(await client.answer("POST")).body for _ in range(10)]
    assert answers == [b"%b:%d" % (b"stable" if one % 2 else b"candidate", one) for one in range(10)]
    assert gateway.rescues() == {"answered": 5}


async def test_a_client_that_waits_for_100_continue_gets_one_and_stables_answer(bench: Bench) -> None:
    """The candidate refuses before the body is there: stable gets the whole request."""
    gateway = await trial(bench, Variant("v2", (Backend("127.0.0.1", closed_port()),)))
    client = await bench.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\nExpect: 100-continue\r\n\r\n")
    await until(lambda: gateway.outcomes("v2"), "the candidate has failed")
    await client.send(b"x" * 20_000)
    answer = await client.answer("POST")
    assert (answer.interim, answer.status, answer.body) == ((100,), 200, b"stable:" + b"x" * 20_000)


async def test_a_client_whose_body_stops_during_a_rescue_is_the_one_that_is_late(bench: Bench) -> None:
    """408 as ever; the candidate's failure stays what it was."""

    async def half(visit: Visit) -> None:
        await visit.read()

    gateway = await trial(bench, half, limits=Limits(body_deadline_s=1.0))
    client = await bench.client()
    await upload(client, "chunked")
    assert (await client.answer("POST")).status == 408
    assert (gateway.outcomes("v2"), gateway.rescues()) == ({"reset": 1}, {"cancelled": 1})


# -- variants with their own place -------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(("one", "two"), [(None, "/two"), ("/one", None), ("/one", "/two")])
@pytest.mark.parametrize("failure", ["refused", "500"])
async def test_stable_is_asked_at_its_own_path(
    bench: Bench, framing: str, one: str | None, two: str | None, failure: str
) -> None:
    """Whoever of the two has a path of its own, and whether or not the candidate was sent anything."""
    trusted, tried = await bench.upstream(stable), await bench.upstream(answering(OOPS))
    backend = tried.backend if failure == "500" else Backend("127.0.0.1", closed_port())
    gateway = await trial(
        bench, Variant("v2", (backend,), path=two), stable=Variant("v1", (trusted.backend,), path=one)
    )
    client = await bench.client()
    await client.send(wire(b"body", framing))
    assert (await client.answer("POST")).body == b"stable:body"
    assert [(seen.target, seen.body) for seen in trusted.requests] == [(one or "/", b"body")]
    assert [seen.target for seen in tried.requests] == [two or "/"] * (failure == "500")
    assert (gateway.held(), gateway.rescues()) == ({}, {"answered": 1})


async def test_a_candidate_with_its_own_model_is_rescued_by_stables_name(bench: Bench) -> None:
    """The client's own path goes to stable, the candidate's name went to the candidate."""
    tried = await bench.upstream(answering(OOPS))
    await trial(bench, Variant("v2", (tried.backend,), model="digits-v2"), adapter="open_inference")
    client = await bench.client()
    assert (await client.ask("POST", INFER, b"{}")).body == b"stable:{}"
    assert [one.target for one in bench.upstreams[0].requests] == ["/v2/models/digits-v2/infer?x=1"]
    assert [one.target for one in bench.upstreams[1].requests] == [INFER]


async def test_stable_with_a_path_waits_for_the_whole_body(bench: Bench) -> None:
    """The candidate fails within the upload; stable is asked when the upload is complete, mirror-safe or not."""
    trusted = await bench.upstream(stable)
    gateway = await trial(
        bench,
        Variant("v2", (Backend("127.0.0.1", closed_port()),)),
        stable=Variant("v1", (trusted.backend,), path="/one"),
        mirror_safe=False,
    )
    client = await bench.client()
    await upload(client, "chunked")
    await until(lambda: gateway.outcomes("v2"), "the candidate has failed")
    assert trusted.visits == []
    await finish(client, "chunked")
    assert (await client.answer("POST")).body.replace(b" ", b"") == b"stable:firstsecond"
    assert [(one.target, one.field("content-length")) for one in trusted.requests] == [("/one", "11")]
    assert (gateway.held(), gateway.rescues()) == ({}, {"answered": 1})


async def test_a_request_that_stable_cannot_be_given_is_refused_naming_both(bench: Bench) -> None:
    """400 as stable would have given it; nothing of it reaches stable."""
    trusted = await bench.upstream(stable)
    gateway = await trial(
        bench, answering(OOPS), stable=Variant("v1", (trusted.backend,), model="m"), adapter="open_inference"
    )
    client = await bench.client()
    answer = await client.ask("POST", "/no/model/here", b"{}")
    assert answer.status == 400
    assert b"cannot be readdressed to v1" in answer.body
    assert b"before that v2 failed (http_error)" in answer.body
    assert (trusted.visits, gateway.rescues(), gateway.held()) == ([], {"failed": 1}, {})


# -- never twice -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
async def test_dp5_no_variant_sees_a_request_twice(bench: Bench, seed: int) -> None:
    """400 POSTs, both variants fail in every way, clients leave: of each request each variant has at most one."""
    rolls = random.Random(seed)

    failures = [b"", b"POISON\r\n\r\n", b"HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\nhalf"]

    async def moody(visit: Visit) -> None:
        async for received in visit.requests():
            if rolls.random() < 0.4:
                await visit.send(rolls.choice(failures))
                return
            await visit.send(rolls.choice([OOPS, ok(received.body), ok(received.body)]))

    gateway = await trial(
        bench, moody, stable=moody, shares=(5_000, 5_000), mirror=MirrorLimits(timeout_s=1.0), rescue=WITHOUT_BOUND
    )
    numbers = count()

    async def user() -> None:
        client = await bench.client()
        for _ in range(40):
            body = b"%d" % next(numbers)
            await client.send(request("POST", "/", body))
            try:
                answer = await client.answer("POST", within_s=10.0 if rolls.random() < 0.9 else 0.001)
                assert answer.body == body or answer.status in (500, 502)
            except (TimeoutError, TruncatedError):
                client.abort()
                client = await bench.client()

    await asyncio.gather(*[user() for _ in range(10)])
    await until(lambda: gateway.held() == {}, "everything ends")
    for upstream in bench.upstreams:
        for copies in (True, False):
            seen = [one.body for one in upstream.requests if (one.field("x-turnout-mirror") is not None) is copies]
            assert len(seen) == len(set(seen))
    assert gateway.rescues()["answered"] > 10
    assert sum(gateway.outcomes("v1").values()) + sum(gateway.outcomes("v2").values()) == 400
    assert live(bench.upstreams[1]) <= sum(gateway.outcomes("v2").values())


@BOTH
async def test_a_kept_body_is_let_go_when_the_answer_begins(bench: Bench, framing: str) -> None:
    """A long answer does not hold its request in memory."""

    async def begin(visit: Visit) -> None:
        await visit.request()
        await visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        await go_on.wait()
        await visit.send(b"0\r\n\r\n")

    go_on = asyncio.Event()
    gateway = await trial(bench, begin)
    client = await bench.client()
    await client.send(wire(b"x" * 10_000, framing))
    await client.reader.readuntil(b"2\r\nhi\r\n")
    assert gateway.held() == {"in_flight": 1}
    go_on.set()
    assert await client.reader.readuntil(b"0\r\n\r\n")
    await until(lambda: gateway.held() == {}, "the request ends")


async def test_a_kept_body_is_kept_while_the_candidate_may_still_fail(bench: Bench) -> None:
    """The copy to stable has ended long ago: the body waits for the candidate, then serves its rescue."""
    fail = asyncio.Event()

    async def held(visit: Visit) -> None:
        await visit.request()
        await fail.wait()

    gateway = await trial(bench, held, shares=(10_000, 10_000))
    client = await bench.client()
    await client.send(request("POST", "/", b"x" * 1_000))
    await until(lambda: bench.upstreams[0].requests and not gateway.held().get("copies"), "the copy has ended")
    assert gateway.held() == {"in_flight": 1, "kept_bytes": 1_000}
    fail.set()
    assert (await client.answer("POST")).body == b"stable:" + b"x" * 1_000
    await until(lambda: gateway.held() == {}, "the body is let go")


async def test_a_body_is_let_go_with_a_client_that_leaves(bench: Bench) -> None:
    """Before the candidate failed: nothing is rescued for nobody."""
    gateway = await trial(bench, never)
    client = await bench.client()
    await client.send(request("POST", "/", b"x" * 10_000))
    await until(lambda: gateway.held() == {"in_flight": 1, "kept_bytes": 10_000}, "the request is under way")
    client.abort()
    await until(lambda: gateway.held() == {}, "everything is let go")
    assert (gateway.outcomes("v2"), gateway.rescues()) == ({"cancelled": 1}, {})
