"""Copies and pairs: one pair for each copied request, whatever happens, and the live side never feels it."""

import asyncio
import time
from hashlib import blake2b

import pytest

from router.core.config import Limits
from router.core.observations import Outcome
from router.core.traffic import Backend, MirrorLimits, Timeouts, Variant, bucket_of
from tests.gateway.bench import ROLLOUT, Bench, Gateway, route_of, started, until
from tests.gateway.clients import chunked_request, request
from tests.gateway.test_upstream_faults import MALFORMED, closed_port
from tests.gateway.upstreams import Script, Visit, answering, closing, echo, never, ok, resetting

SHADOW = (0, 10_000)


async def shadowed(bench: Bench, candidate: Script = echo, stable: Script = echo, **settings: object) -> Gateway:
    """Return a gateway at shadow 100 % in front of two upstreams."""
    limits = settings.pop("limits", None)
    assert limits is None or isinstance(limits, Limits)
    route = route_of(await bench.upstream(stable), await bench.upstream(candidate), **settings)
    return await bench.gateway(route, states=[started(*SHADOW)], limits=limits)


async def test_every_prediction_makes_one_pair_with_both_answers(bench: Bench) -> None:
    """Sixty POSTs, chunked or not: the pair holds both outcomes, sizes, digests, latencies and the verdict."""
    gateway = await shadowed(bench, answering(ok(b"0")))
    client = await bench.client()
    for number in range(60):
        body = b"%d" % (number % 2)
        wire = request("POST", "/", body, f"X-Request-Id: r{number}")
        await client.send(wire if number % 3 else chunked_request(body, fields=(f"X-Request-Id: r{number}",)))
        assert (await client.answer("POST")).body == body
    pairs = await gateway.pairs(60)
    assert sorted(pair.request_id for pair in pairs) == sorted(f"r{number}" for number in range(60))
    assert len({pair.pair_id for pair in pairs}) == 60
    zero = blake2b(b"0", digest_size=16).hexdigest()
    for pair in pairs:
        same = int(pair.request_id[1:]) % 2 == 0
        assert (pair.route, pair.rollout, pair.served) == ("r", ROLLOUT, "stable")
        assert (pair.stable.outcome, pair.stable.status, pair.stable.body_bytes) == (Outcome.OK, 200, 1)
        assert (pair.candidate.outcome, pair.candidate.status, pair.candidate.digest) == (Outcome.OK, 200, zero)
        assert (pair.comparison.same, pair.stable.digest == zero) == (same, same)
        assert 0 < pair.stable.latency_ms < 1_000
        assert 0 < pair.candidate.latency_ms < 1_000
    assert all(one.field("content-length") == "1" for one in bench.upstreams[1].requests)


async def test_without_a_rollout_nothing_is_copied(bench: Bench) -> None:
    """Neither copy nor pair, nor any request to a variant that is not stable."""
    stable, other = await bench.upstream(), await bench.upstream()
    gateway = await bench.gateway(route_of(stable, other))
    client = await bench.client()
    assert (await client.ask("POST", "/", b"x")).body == b"x"
    assert other.visits == []
    await gateway.pairs(0)


async def test_mi6_only_predictions_are_copied(bench: Bench) -> None:
    """GET and PUT are not; the reason is counted."""
    gateway = await shadowed(bench)
    client = await bench.client()
    await client.ask("GET")
    await client.ask("PUT", "/", b"x")
    await client.ask("POST", "/", b"x")
    await gateway.pairs(1)
    assert gateway.dropped("copy", "not_a_prediction") == 2
    assert len(bench.upstreams[1].requests) == 1


async def test_mi6_a_route_that_is_not_mirror_safe_is_never_copied(bench: Bench) -> None:
    """However large the mirror share is."""
    gateway = await shadowed(bench, mirror_safe=False)
    client = await bench.client()
    assert (await client.ask("POST", "/", b"x")).body == b"x"
    assert gateway.dropped("copy", "not_mirror_safe") == 1
    assert bench.upstreams[1].visits == []


async def test_the_mirror_share_goes_by_the_internal_id(bench: Bench) -> None:
    """30 % of 200 requests: exactly those whose id hashes below the share."""
    route = route_of(await bench.upstream(), await bench.upstream())
    gateway = await bench.gateway(route, states=[started(0, 3_000)], boot="b")
    client = await bench.client()
    for _ in range(200):
        await client.ask("POST", "/", b"x")
    expected = [
        one for one in (b"b-%x" % number for number in range(1, 201)) if bucket_of(one, ROLLOUT, b"mirror") < 3_000
    ]
    pairs = await gateway.pairs(len(expected))
    assert sorted(pair.pair_id for pair in pairs) == sorted(one.decode() for one in expected)
    assert 40 <= len(expected) <= 80


async def test_when_the_candidate_serves_the_copy_goes_to_stable_by_its_own_pool(bench: Bench) -> None:
    """Copies cannot take live places of stable: its only live place is taken, and still the copy is answered."""
    release = asyncio.Event()

    async def held_when_live(visit: Visit) -> None:
        async for received in visit.requests():
            if received.field("x-turnout-mirror") is None:
                await release.wait()
            await visit.send(ok(b"stable"))

    stable, candidate = await bench.upstream(held_when_live), await bench.upstream(answering(ok(b"candidate")))
    route = route_of(Variant("v1", (stable.backend,), max_in_flight=1, max_queue=0), candidate)
    gateway = await bench.gateway(route, states=[started(0, 0)])
    live = await bench.client()
    await live.send(request("POST", "/", b"x"))
    await until(lambda: stable.requests, "stable's live place is taken")
    await gateway.expose(weight_bp=10_000, mirror_bp=10_000)
    client = await bench.client()
    assert (await client.ask("POST", "/", b"x")).body == b"candidate"
    pair = (await gateway.pairs(1))[0]
    assert (pair.served, pair.stable.outcome, pair.comparison.same) == ("candidate", Outcome.OK, False)
    release.set()
    assert (await live.answer("POST")).body == b"stable"


# -- the live side never feels it -------------------------------------------------------------------------------------


async def timed_ms(bench: Bench, number: int = 40) -> list[float]:
    """Return how long each of `number` requests took, sorted."""
    client = await bench.client()
    took = []
    for _ in range(number):
        began = time.monotonic()
        assert (await client.ask("POST", "/", b"x" * 1_000)).status == 200
        took.append((time.monotonic() - began) * 1_000)
    return sorted(took)


async def test_a_shadow_that_never_answers_costs_the_client_nothing(bench: Bench) -> None:
    """Forty requests on one connection go on at their pace while forty copies hang; each pair says timeout."""
    gateway = await shadowed(bench, never, mirror=MirrorLimits(timeout_s=0.5))
    took = await timed_ms(bench)
    assert took[20] < 20, took  # one wait for the shadow would be 500 ms
    assert took[-1] < 250, took
    pairs = await gateway.pairs(40)
    assert {(pair.stable.outcome, pair.candidate.outcome) for pair in pairs} == {(Outcome.OK, Outcome.TIMEOUT)}
    assert all(450 <= pair.candidate.latency_ms < 750 for pair in pairs)  # it is sent a little after its start
    assert {pair.comparison.reason for pair in pairs} == {"no answer of candidate: timeout"}
    await until(lambda: not bench.upstreams[1].open, "their connections are closed")


async def test_a_shadow_that_cannot_be_connected_costs_the_client_nothing(bench: Bench, full_port: int) -> None:
    """A black hole behind the copies: the live answers come as always, each pair says connect_failed."""
    candidate = Variant("v2", (Backend("127.0.0.1", full_port),))
    route = route_of(await bench.upstream(), candidate, timeouts=Timeouts(connect_s=0.4))
    gateway = await bench.gateway(route, states=[started(*SHADOW)])
    took = await timed_ms(bench, 20)
    assert took[10] < 20, took
    pairs = await gateway.pairs(20)
    assert {pair.candidate.outcome for pair in pairs} == {Outcome.CONNECT_FAILED}


FAULTS: dict[str, tuple[Script | None, Outcome]] = {
    "refused": (None, Outcome.CONNECT_FAILED),
    "hangs up": (closing(b""), Outcome.RESET),
    "resets": (resetting(b""), Outcome.RESET),
    "cut": (closing(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), Outcome.RESET),
    "cut chunks": (closing(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc"), Outcome.RESET),
    "500": (answering(ok(b"oops", status="500 Oops")), Outcome.HTTP_ERROR),
    "404": (answering(ok(b"gone", status="404 Gone")), Outcome.CLIENT_ERROR),
    **{name: (answering(answer), Outcome.MALFORMED) for name, answer in MALFORMED.items()},
}


@pytest.mark.parametrize(("script", "outcome"), FAULTS.values(), ids=FAULTS)
async def test_whatever_the_shadow_does_the_live_answer_is_byte_exact(
    bench: Bench, script: Script | None, outcome: Outcome
) -> None:
    """The pair holds what happened; the client's three answers are its own."""
    stable = await bench.upstream()
    candidate = (
        Variant("v2", (Backend("127.0.0.1", closed_port()),)) if script is None else await bench.upstream(script)
    )
    gateway = await bench.gateway(route_of(stable, candidate), states=[started(*SHADOW)])
    client = await bench.client()
    for body in (b"one", b"two" * 1_000, b""):  # a longer one would start a comparing process
        assert (await client.ask("POST", "/", body)).body == body
    pairs = await gateway.pairs(3)
    assert [(pair.stable.outcome, pair.candidate.outcome) for pair in pairs] == [(Outcome.OK, outcome)] * 3
    assert gateway.outcomes("v1") == {"ok": 3}
    assert gateway.outcomes("v2") == {}  # live outcomes; the pairs hold the copies'


@pytest.mark.parametrize(
    ("script", "outcome", "status"),
    [
        (closing(b""), Outcome.RESET, 502),
        (answering(ok(b"oops", status="500 Oops")), Outcome.HTTP_ERROR, 500),
        (answering(MALFORMED["no http"]), Outcome.MALFORMED, 502),
        (never, Outcome.TIMEOUT, 504),
    ],
    ids=["reset", "500", "malformed", "timeout"],
)
async def test_a_failing_live_side_still_makes_its_pair(
    bench: Bench, script: Script, outcome: Outcome, status: int
) -> None:
    """The copy's answer is kept beside the live failure."""
    gateway = await shadowed(bench, stable=script, timeouts=Timeouts(total_s=0.2))
    client = await bench.client()
    assert (await client.ask("POST", "/", b"x")).status == status
    pair = (await gateway.pairs(1))[0]
    assert (pair.stable.outcome, pair.candidate.outcome) == (outcome, Outcome.OK)


# -- independent lives ------------------------------------------------------------------------------------------------


async def test_mi7_a_copy_begins_when_the_body_is_complete(bench: Bench) -> None:
    """The candidate hears nothing of half a request."""
    await shadowed(bench)
    stable, candidate = bench.upstreams
    client = await bench.client()
    body = b"whole body" * 2_000
    wire = request("POST", "/", body)
    await client.send(wire[:-4])
    await until(lambda: stable.visits and stable.visits[0].read_bytes, "stable has the first part")
    assert candidate.visits == []
    await client.send(wire[-4:])
    assert (await client.answer("POST")).body == body
    await until(lambda: candidate.requests, "the copy arrives")
    assert candidate.requests[0].body == body


async def test_mi7_a_client_that_leaves_within_its_body_makes_no_copy(bench: Bench) -> None:
    """Counted as a copy that was not made; no pair."""
    gateway = await shadowed(bench)
    client = await bench.client()
    await client.send(request("POST", "/", b"x" * 100)[:-50])
    await until(lambda: gateway.held() != {}, "the request is under way")
    client.abort()
    await until(lambda: gateway.outcomes() == {"cancelled": 1}, "the abort is seen")
    assert gateway.dropped("copy", "live_cancelled") == 1
    assert bench.upstreams[1].visits == []
    assert gateway.held() == {}
    await gateway.pairs(0)


async def test_mi7_a_client_that_leaves_later_does_not_end_the_copy(bench: Bench) -> None:
    """The pair holds the copy's answer and says that the live half was cancelled."""
    release = asyncio.Event()

    async def late(visit: Visit) -> None:
        async for received in visit.requests():
            await release.wait()
            await visit.send(ok(received.body))

    gateway = await shadowed(bench, late, stable=never)
    client = await bench.client()
    await client.send(request("POST", "/", b"x"))
    await until(lambda: bench.upstreams[1].requests, "the copy is under way")
    client.abort()
    await until(lambda: gateway.outcomes() == {"cancelled": 1}, "the abort is seen")
    release.set()
    pair = (await gateway.pairs(1))[0]
    assert (pair.stable.outcome, pair.candidate.outcome) == (Outcome.CANCELLED, Outcome.OK)


async def test_mi7_a_shadow_that_dies_does_not_end_the_live_answer(bench: Bench) -> None:
    """It resets while the client has half of its answer: the rest comes, and the pair says what happened."""
    release = asyncio.Event()

    async def halting(visit: Visit) -> None:
        async for _ in visit.requests():
            await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + b"a" * 10_000)
            await release.wait()
            await visit.send(b"b" * 10_000)

    gateway = await shadowed(bench, resetting(b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\nhalf"), stable=halting)
    client = await bench.client()
    await client.send(request("POST", "/", b"x"))
    await until(lambda: not gateway.worker.table.lives["r"].copies, "the copy has ended")
    release.set()
    assert (await client.answer("POST")).body == b"a" * 10_000 + b"b" * 10_000
    pair = (await gateway.pairs(1))[0]
    assert (pair.stable.outcome, pair.candidate.outcome) == (Outcome.OK, Outcome.RESET)


async def test_mi3_a_copy_that_is_still_under_way_does_not_hold_the_next_request(bench: Bench) -> None:
    """No head-of-line blocking on keep-alive; pairs close in any order."""
    release = asyncio.Event()

    async def first_late(visit: Visit) -> None:
        async for received in visit.requests():
            if received.body == b"0":
                await release.wait()
            await visit.send(ok(received.body))

    gateway = await shadowed(bench, first_late)
    client = await bench.client()
    for number in range(5):
        assert (await client.ask("POST", "/", b"%d" % number, within_s=1.0)).body == b"%d" % number
    await gateway.pairs(4)
    release.set()
    await gateway.pairs(5)


async def test_pipelined_requests_each_make_a_pair(bench: Bench) -> None:
    """Ten requests in one write."""
    gateway = await shadowed(bench)
    client = await bench.client()
    await client.send(b"".join(request("POST", "/", b"%d" % number) for number in range(10)))
    assert [(await client.answer("POST")).body for _ in range(10)] == [b"%d" % number for number in range(10)]
    pairs = await gateway.pairs(10)
    assert {pair.comparison.same for pair in pairs} == {True}


# -- bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
async def test_mi7_a_body_over_the_cap_streams_on_and_its_pair_is_oversize(bench: Bench, framing: str) -> None:
    """`kept_body`: the live side is byte-exact, the candidate gets nothing, the pair says why."""
    gateway = await shadowed(bench, limits=Limits(kept_body_bytes=100_000))
    client = await bench.client()
    body = bytes(range(256)) * 1_000
    wire = chunked_request(body[:1_000], body[1_000:]) if framing == "chunked" else request("POST", "/", body)
    await client.send(wire)
    assert (await client.answer("POST")).body == body
    pair = (await gateway.pairs(1))[0]
    assert (pair.stable.outcome, pair.candidate.outcome, pair.candidate.latency_ms) == (
        Outcome.OK,
        Outcome.OVERSIZE,
        0,
    )
    assert gateway.worker.snapshot()["turnout_pairs_total"] == {("candidate:oversize",): 1}
    assert bench.upstreams[1].visits == []
    assert gateway.held() == {}


async def test_all_kept_bodies_together_are_bounded(bench: Bench) -> None:
    """`kept` for the worker: what does not fit any more is oversize; when copies end there is room again."""
    release = asyncio.Event()

    async def held(visit: Visit) -> None:
        async for received in visit.requests():
            await release.wait()
            await visit.send(ok(received.body))

    gateway = await shadowed(bench, held, limits=Limits(kept_bytes=25_000))
    client = await bench.client()
    for _ in range(5):
        assert (await client.ask("POST", "/", b"x" * 10_000)).status == 200
        assert gateway.worker.kept_bytes <= 25_000
    release.set()
    await gateway.pairs(5)
    assert (await client.ask("POST", "/", b"x" * 10_000)).status == 200
    pairs = await gateway.pairs(6)
    assert sorted(pair.candidate.outcome for pair in pairs) == ["ok"] * 3 + ["oversize"] * 3
    assert gateway.held() == {}


@pytest.mark.parametrize(
    ("limits", "reason"),
    [(MirrorLimits(in_flight=3), "in_flight"), (MirrorLimits(body_bytes=62_000), "bytes")],
    ids=["count", "bytes"],
)
async def test_copies_over_a_bound_of_the_route_are_dropped_and_counted(
    bench: Bench, limits: MirrorLimits, reason: str
) -> None:
    """Three fit (with what a copy takes besides its body), seven do not, and every live answer comes."""
    release = asyncio.Event()

    async def held(visit: Visit) -> None:
        async for received in visit.requests():
            await release.wait()
            await visit.send(ok(received.body))

    gateway = await shadowed(bench, held, mirror=limits)
    client = await bench.client()
    for _ in range(10):
        assert (await client.ask("POST", "/", b"x" * 10_000)).status == 200
    assert gateway.dropped("copy", reason) == 7
    assert len(gateway.worker.table.lives["r"].copies) == 3
    release.set()
    await gateway.pairs(3)
    assert (await client.ask("POST", "/", b"x")).status == 200
    await gateway.pairs(4)


async def test_every_copy_is_accounted_for(bench: Bench) -> None:
    """Under bounds and faults together: POSTs = pairs + dropped copies."""
    turn = iter(range(1_000_000))

    async def moody(visit: Visit) -> None:
        async for received in visit.requests():
            mood = next(turn) % 5
            if mood == 0:
                visit.reset()
                return
            if mood == 1:
                await visit.send(b"POISON\r\n\r\n")
                return
            if mood == 2:
                await asyncio.sleep(0.05)
            await visit.send(ok(received.body))

    gateway = await shadowed(bench, moody, mirror=MirrorLimits(in_flight=6, timeout_s=1.0))

    async def client(number: int) -> None:
        connection = await bench.client()
        for turns in range(25):
            body = b"%d/%d" % (number, turns)
            assert (await connection.ask("POST", "/", body)).body == body

    await asyncio.gather(*[client(number) for number in range(8)])
    await until(lambda: gateway.held() == {}, "all copies end")
    dropped = sum(gateway.worker.table.lives["r"].copy_drops.values())
    assert dropped > 0
    pairs = await gateway.pairs(200 - int(dropped))
    assert {pair.stable.outcome for pair in pairs} == {Outcome.OK}
    counted = gateway.worker.snapshot()["turnout_pairs_total"]
    assert sum(value for value in counted.values() if isinstance(value, (int, float))) == len(pairs)
