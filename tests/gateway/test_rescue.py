"""Rescue: a candidate that fails before its first byte costs no client an answer, and counts against the candidate."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest

from router.core.config import KIB, MIB, Limits
from router.core.traffic import Backend, RescueSpec, Timeouts, Variant
from tests.gateway.bench import Bench, Gateway, route_of, started, until
from tests.gateway.clients import TruncatedError, request
from tests.gateway.test_upstream_faults import BROKEN_CHUNKS, MALFORMED, closed_port
from tests.gateway.upstreams import Script, Upstream, Visit, answering, closing, never, ok, resetting
from tests.stopwatch import Stopwatch

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OOPS = ok(b"oops", status="500 Oops")
SLACK_S = 0.5
"""Two ticks of the wheel, and what a busy test machine may add."""


async def stable(visit: Visit) -> None:
    """Answer each request with its own body behind a name."""
    async for received in visit.requests():
        await visit.send(ok(b"stable:" + received.body))


def live(upstream: Upstream) -> int:
    """Return how many requests arrived that are no copies."""
    return sum(one.field("x-turnout-mirror") is None for one in upstream.requests)


def held(release: asyncio.Event, answer: bytes) -> Script:
    """Return a script that gives each request this answer once it is released."""

    async def script(visit: Visit) -> None:
        async for _ in visit.requests():
            await release.wait()
            await visit.send(answer)

    return script


async def trial(
    bench: Bench,
    candidate: Script | Variant,
    *,
    stable: Script | Variant = stable,
    shares: tuple[int, int] = (10_000, 0),
    limits: Limits | None = None,
    response_headers: bool = True,
    **settings: Any,  # noqa: ANN401 - fields of Route
) -> Gateway:
    """Return a gateway that sends everything to a candidate, unless told otherwise."""
    sides = [one if isinstance(one, Variant) else await bench.upstream(one) for one in (stable, candidate)]
    return await bench.gateway(
        route_of(*sides, **settings), states=[started(*shares)], limits=limits, response_headers=response_headers
    )


async def ask_many(bench: Bench, number: int, clients: int = 10) -> dict[int, int]:
    """Send `number` requests over some connections; return how many answers of each status came, each the asker's."""
    statuses: dict[int, int] = {}

    async def user(first: int) -> None:
        client = await bench.client()
        for turn in range(first, number, clients):
            answer = await client.ask("POST", "/", b"%d" % turn)
            assert answer.status != 200 or answer.body.removeprefix(b"stable:") == b"%d" % turn
            statuses[answer.status] = statuses.get(answer.status, 0) + 1

    await asyncio.gather(*[user(first) for first in range(clients)])
    return statuses


# -- what a client sees of a candidate that is down --------------------------------------------------------------------


@pytest.mark.parametrize("mirror_safe", [True, False], ids=["safe", "unsafe"])
async def test_up1_a_candidate_that_refuses_every_connection_costs_no_client_an_answer(
    bench: Bench, *, mirror_safe: bool
) -> None:
    """Weight 10 %, 400 requests: no error, on any route, since nothing was sent; each failure is the candidate's."""
    down = Variant("v2", (Backend("127.0.0.1", closed_port()),))
    gateway = await trial(bench, down, shares=(1_000, 0), mirror_safe=mirror_safe)
    assert await ask_many(bench, 400) == {200: 400}
    failed = gateway.outcomes("v2")["connect_failed"]
    assert 20 <= failed <= 60  # 400 draws at 10 %; the boot id is fixed, so is the number
    assert gateway.outcomes("v2") == {"connect_failed": failed}
    assert gateway.outcomes("v1") == {"ok": 400 - failed}
    assert gateway.rescues() == {"answered": failed}
    assert live(bench.upstreams[0]) == 400


async def test_up1_a_candidate_in_a_black_hole_costs_no_client_an_answer(bench: Bench, full_port: int) -> None:
    """Connects that hang end after `timeouts.connect`, by default 1 s, and stable answers then."""
    assert Timeouts().connect_s <= 1.0
    hole = Variant("v2", (Backend("127.0.0.1", full_port),))
    gateway = await trial(bench, hole, shares=(1_000, 0), timeouts=Timeouts(connect_s=0.5))
    assert await ask_many(bench, 200) == {200: 200}
    failed = gateway.outcomes("v2")["connect_failed"]
    assert 5 <= failed <= 40
    assert gateway.rescues() == {"answered": failed}
    await until(lambda: gateway.held() == {}, "all places are free")


async def test_a_candidate_that_answers_500_to_everything_costs_no_client_an_answer(bench: Bench) -> None:
    """Weight 10 %, 1,000 requests, none fails; its connections live on, and stable gets each request once."""
    gateway = await trial(bench, answering(OOPS), shares=(1_000, 0))
    assert await ask_many(bench, 1_000) == {200: 1_000}
    failed = gateway.outcomes("v2")["http_error"]
    assert 60 <= failed <= 140
    assert gateway.outcomes("v2") == {"http_error": failed}
    assert gateway.rescues() == {"answered": failed}
    assert [live(one) for one in bench.upstreams] == [1_000, failed]
    assert len(bench.upstreams[1].visits) <= 10


async def test_a_rescued_answer_says_so_and_is_stables_to_the_byte(bench: Bench) -> None:
    """Status, fields and body are stable's; two fields name who answered and how the candidate failed."""
    teapot = ok(b"short and stout", "X-Pot: tea", "X-Turnout-Rescued: forged", status="418 I'm a teapot")
    await trial(bench, answering(OOPS), stable=answering(teapot))
    client = await bench.client()
    answer = await client.ask("POST", "/", b"x", "X-Request-Id: mine")
    assert (answer.status, answer.field("x-pot"), answer.body) == (418, "tea", b"short and stout")
    assert (answer.field("x-turnout-variant"), answer.field("x-turnout-rescued")) == ("stable", "http_error")
    assert answer.field("x-request-id") == "mine"
    assert [one.field("x-request-id") for upstream in bench.upstreams for one in upstream.requests] == ["mine"] * 2


async def test_the_fields_can_be_switched_off(bench: Bench) -> None:
    """`response_headers: false` hides both."""
    await trial(bench, answering(OOPS), response_headers=False)
    answer = await (await bench.client()).ask("POST", "/", b"x")
    assert (answer.body, answer.field("x-turnout-variant"), answer.field("x-turnout-rescued")) == (
        b"stable:x",
        None,
        None,
    )


async def test_without_a_failure_nothing_is_rescued(bench: Bench) -> None:
    """Answers below 500 are the candidate's own, whatever they say."""
    gateway = await trial(bench, answering(ok(b"1"), ok(b"2", status="404 No"), ok(b"3", status="499 Odd")))
    client = await bench.client()
    answers = [await client.ask("POST", "/", b"x") for _ in range(3)]
    assert [(one.status, one.field("x-turnout-rescued")) for one in answers] == [(200, None), (404, None), (499, None)]
    assert (gateway.rescues(), bench.upstreams[0].visits) == ({}, [])


async def test_a_rescue_that_is_switched_off_shows_every_failure(bench: Bench) -> None:
    """`rescue.enabled: false`: nothing is kept, nothing is counted."""
    gateway = await trial(bench, answering(OOPS), rescue=RescueSpec(enabled=False))
    answer = await (await bench.client()).ask("POST", "/", b"x")
    assert (answer.status, answer.body, answer.field("x-turnout-variant")) == (500, b"oops", "candidate")
    assert (gateway.rescues(), bench.upstreams[0].visits) == ({}, [])


async def test_stables_own_failures_are_nobodys_to_rescue(bench: Bench) -> None:
    """At weight 0 the candidate is asked for nothing."""
    gateway = await trial(bench, answering(ok()), stable=answering(OOPS), shares=(0, 0))
    assert (await (await bench.client()).ask("POST", "/", b"x")).status == 500
    assert (gateway.rescues(), bench.upstreams[1].visits) == ({}, [])


# -- ways to fail ------------------------------------------------------------------------------------------------------


def then_hang(answer: bytes) -> Script:
    """Return a script that gives a part of an answer and waits for the end of the connection."""

    async def script(visit: Visit) -> None:
        await visit.request()
        await visit.send(answer)
        await visit.gone()

    return script


FAILURES: Mapping[str, tuple[Script, str]] = {
    "hangs up": (closing(b""), "reset"),
    "resets": (resetting(b""), "reset"),
    "resets within its head": (resetting(b"HTTP/1.1 200 OK\r\nContent-Le"), "reset"),
    "hangs up after an interim answer": (closing(b"HTTP/1.1 102 Processing\r\n\r\n"), "reset"),
    "breaks its chunks in the first read": (closing(CHUNKED + b"2\r\nhi\r\n" + BROKEN_CHUNKS["no size"]), "malformed"),
    "500 without an end": (then_hang(b"HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\nbegin"), "http_error"),
    "500 until it closes": (closing(b"HTTP/1.1 500 Oops\r\n\r\noops"), "http_error"),
    "500 without a body": (
        closing(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        "http_error",
    ),
    "500 in chunks": (closing(b"HTTP/1.1 599 Odd\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n"), "http_error"),
} | {
    f"malformed: {name}": (then_hang(MALFORMED[name]), "malformed") for name in ("no http", "two lengths", "long field")
}


@pytest.mark.parametrize(("candidate", "outcome"), FAILURES.values(), ids=FAILURES)
async def test_whatever_comes_before_the_first_byte_is_rescued(bench: Bench, candidate: Script, outcome: str) -> None:
    """Each time stable answers, the candidate got each request once, and the connection serves the next request."""
    gateway = await trial(bench, candidate)
    client = await bench.client()
    for number in range(3):
        answer = await client.ask("POST", "/", b"%d" % number)
        assert (answer.status, answer.body) == (200, b"stable:%d" % number)
        assert answer.field("x-turnout-rescued") == outcome
    assert (gateway.outcomes("v2"), gateway.outcomes("v1"), gateway.rescues()) == ({outcome: 3}, {}, {"answered": 3})
    assert [live(one) for one in bench.upstreams] == [3, 3]
    await until(lambda: not bench.upstreams[1].open, "the candidate's connections are closed")
    assert gateway.held() == {}


async def test_a_candidate_that_hangs_is_left_after_the_time_of_the_first_byte(bench: Bench) -> None:
    """`rescue.first_byte` 0.5 s: not sooner, its connection is closed, and it counts as its timeout."""
    gateway = await trial(bench, never, rescue=RescueSpec(first_byte_s=0.5))
    client = await bench.client()
    began, watch = time.monotonic(), Stopwatch()
    answer = await client.ask("POST", "/", b"x")
    assert time.monotonic() - began >= 0.49
    assert watch.elapsed_s < 0.5 + SLACK_S
    assert (answer.body, answer.field("x-turnout-rescued")) == (b"stable:x", "timeout")
    await until(lambda: bench.upstreams[1].visits[0].closed_at, "the candidate's connection is closed")
    assert (gateway.outcomes("v2"), gateway.rescues()) == ({"timeout": 1}, {"answered": 1})
    assert gateway.held() == {}


async def test_a_connect_that_outlasts_the_time_of_the_first_byte_is_left_too(bench: Bench, full_port: int) -> None:
    """It goes on by itself and disturbs nobody; the candidate counts as not connected."""
    hole = Variant("v2", (Backend("127.0.0.1", full_port),))
    gateway = await trial(bench, hole, rescue=RescueSpec(first_byte_s=0.2), timeouts=Timeouts(connect_s=1.2))
    client = await bench.client()
    assert (await client.ask("POST", "/", b"1")).field("x-turnout-rescued") == "connect_failed"
    assert gateway.held() == {"in_flight": 1}
    await until(lambda: gateway.held() == {}, "the connect is given up")
    assert (gateway.outcomes("v2"), gateway.rescues()) == ({"connect_failed": 1}, {"answered": 1})


async def test_an_answer_that_has_begun_in_time_is_waited_for(bench: Bench) -> None:
    """The time of the first byte is no time of the last one: it has all of `timeouts.total`."""

    async def slow_end(visit: Visit) -> None:
        await visit.request()
        await visit.send(CHUNKED + b"2\r\nhi\r\n")
        await go_on.wait()
        await visit.send(b"1\r\n!\r\n0\r\n\r\n")

    go_on = asyncio.Event()
    gateway = await trial(bench, slow_end)
    client = await bench.client()
    await client.send(request("POST", "/", b"x"))
    await client.reader.readuntil(b"2\r\nhi\r\n")
    gateway.pass_time(6.0)
    go_on.set()
    assert await client.reader.readuntil(b"0\r\n\r\n") == b"1\r\n!\r\n0\r\n\r\n"
    await until(lambda: gateway.outcomes("v2") == {"ok": 1}, "the answer is booked")
    assert gateway.rescues() == {}


async def test_what_breaks_after_the_first_byte_stays_visible(bench: Bench) -> None:
    """A client that has some of the candidate's answer gets nothing of stable's behind it."""
    gateway = await trial(bench, resetting(CHUNKED + b"2\r\nhi\r\n"))
    client = await bench.client()
    await client.send(request("POST", "/", b"x"))
    with pytest.raises(TruncatedError):
        await client.answer("POST")
    assert (gateway.outcomes("v2"), gateway.rescues()) == ({"reset": 1}, {})
    assert bench.upstreams[0].visits == []


async def test_a_shed_request_is_no_failure_and_not_rescued(bench: Bench) -> None:
    """The candidate's full pool is its bulkhead: 503 as ever."""
    release = asyncio.Event()
    candidate = await bench.upstream(held(release, ok(b"candidate")))
    gateway = await trial(bench, Variant("v2", (candidate.backend,), max_in_flight=1, max_queue=0))
    first, second = await bench.client(), await bench.client()
    await first.send(request("POST", "/", b"x"))
    await until(lambda: candidate.requests, "the candidate is busy")
    assert (await second.ask("POST", "/", b"x")).status == 503
    release.set()
    assert (await first.answer("POST")).body == b"candidate"
    assert (gateway.outcomes("v2"), gateway.rescues()) == ({"ok": 1, "shed": 1}, {})


# -- where there is none -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("candidate", "status"), [(answering(OOPS), 500), (closing(b""), 502)], ids=["500", "reset"])
async def test_dp5_a_route_that_is_not_mirror_safe_is_not_rescued_once_bytes_were_sent(
    bench: Bench, candidate: Script, status: int
) -> None:
    """Nobody knows what the candidate did with it: the failure reaches the client, and stable sees nothing."""
    gateway = await trial(bench, candidate, mirror_safe=False)
    client = await bench.client()
    for _ in range(2):
        assert (await client.ask("POST", "/", b"x")).status == status
    assert (gateway.rescues(), live(bench.upstreams[1]), bench.upstreams[0].visits) == ({"not_safe": 2}, 2, [])


async def test_a_budget_that_is_used_up_lets_failures_through(bench: Bench) -> None:
    """10 % of 150 requests are 15 rescues: from then on the candidate's own answer comes."""
    gateway = await trial(bench, answering(OOPS), rescue=RescueSpec(budget_bp=1_000))
    client = await bench.client()
    statuses = [(await client.ask("POST", "/", b"x")).status for _ in range(150)]
    assert (statuses[:10], statuses[10:20]) == ([200] * 10, [500] * 10)
    rescued = statuses.count(200)
    assert 10 <= rescued <= 15  # 15, unless a slow machine needs more than a window for it
    assert gateway.rescues() == {"answered": rescued, "over_budget": 150 - rescued}
    assert gateway.outcomes("v2") == {"http_error": 150}
    assert gateway.held() == {}


async def test_a_slow_candidate_over_budget_is_waited_for(bench: Bench) -> None:
    """The time of the first byte passes, there is no rescue left: its answer is better than none."""
    release = asyncio.Event()
    gateway = await trial(bench, held(release, ok(b"late")))
    while gateway.worker.table.lives["r"].rescues.admit(0):
        pass
    client = await bench.client()
    await client.send(request("POST", "/", b"x"))
    await until(lambda: bench.upstreams[1].requests, "the candidate has the request")
    gateway.pass_time(6.0)
    release.set()
    assert (await client.answer("POST")).body == b"late"
    assert (gateway.outcomes("v2"), gateway.rescues()) == ({"ok": 1}, {"over_budget": 1})


async def test_a_body_over_the_cap_streams_on_and_cannot_be_rescued(bench: Bench) -> None:
    """`kept_body`: the candidate gets all of it, its failure reaches the client; the next, smaller one is rescued."""
    gateway = await trial(bench, answering(OOPS), limits=Limits(kept_body_bytes=100 * KIB))
    client = await bench.client()
    body = bytes(range(256)) * 1_000
    answer = await client.ask("POST", "/", body)
    assert (answer.status, answer.body) == (500, b"oops")
    assert bench.upstreams[1].requests[0].body == body
    assert (await client.ask("POST", "/", b"small")).body == b"stable:small"
    assert gateway.rescues() == {"not_kept": 1, "answered": 1}
    assert gateway.held() == {}


async def test_a_full_stable_pool_rescues_nobody(bench: Bench) -> None:
    """Rescues take stable's live places and never more of them: the client gets the candidate's failure."""
    release = asyncio.Event()
    busy = await bench.upstream(held(release, ok(b"stable")))
    gateway = await trial(bench, answering(OOPS), stable=Variant("v1", (busy.backend,), max_in_flight=1, max_queue=0))
    first, second = await bench.client(), await bench.client()
    await first.send(request("POST", "/", b"x"))
    await until(lambda: busy.requests, "the first rescue takes stable's only place")
    assert gateway.held()["in_flight"] == 1
    answer = await second.ask("POST", "/", b"x")
    assert (answer.status, answer.body, answer.field("x-turnout-rescued")) == (500, b"oops", None)
    release.set()
    assert (await first.answer("POST")).body == b"stable"
    assert gateway.rescues() == {"answered": 1, "no_room": 1}
    assert gateway.outcomes("v2") == {"http_error": 2}


async def test_dp10_a_request_has_one_total_deadline_rescued_or_not(bench: Bench) -> None:
    """The candidate takes 0.5 s of 1.2 s, stable hangs as well: 504 at 1.2 s, naming both."""
    gateway = await trial(
        bench, never, stable=never, rescue=RescueSpec(first_byte_s=0.5), timeouts=Timeouts(total_s=1.2)
    )
    client = await bench.client()
    began, watch = time.monotonic(), Stopwatch()
    answer = await client.ask("POST", "/", b"x")
    assert time.monotonic() - began >= 1.19
    assert watch.elapsed_s < 1.2 + SLACK_S
    assert (answer.status, answer.field("x-turnout-origin")) == (504, "gateway")
    assert b"v1 did not answer within 1.2 s (timeouts.total); before that v2 failed (timeout)" in answer.body
    assert (gateway.outcomes("v2"), gateway.outcomes("v1"), gateway.rescues()) == ({"timeout": 1}, {}, {"failed": 1})
    await until(lambda: gateway.held() == {}, "both places are free")


async def test_dp10_a_rescue_that_begins_early_has_all_of_the_total_deadline(bench: Bench) -> None:
    """The time of the first byte is the candidate's, not stable's."""
    release = asyncio.Event()
    gateway = await trial(bench, closing(b""), stable=held(release, ok(b"stable")))
    client = await bench.client()
    await client.send(request("POST", "/", b"x"))
    await until(lambda: bench.upstreams[0].requests, "the rescue is under way")
    gateway.pass_time(6.0)
    release.set()
    assert (await client.answer("POST")).body == b"stable"
    assert gateway.rescues() == {"answered": 1}


async def test_without_time_for_stable_the_deadline_is_the_end(bench: Bench) -> None:
    """`first_byte` beyond `total`: 504 at `total`, counted as such."""
    gateway = await trial(bench, never, rescue=RescueSpec(first_byte_s=60.0))
    client = await bench.client()
    await client.send(request("POST", "/", b"x"))
    await until(lambda: bench.upstreams[1].requests, "the candidate has the request")
    gateway.pass_time(31.0)
    assert (await client.answer("POST")).status == 504
    assert (gateway.outcomes("v2"), gateway.rescues()) == ({"timeout": 1}, {"no_time": 1})


@pytest.mark.parametrize("other", ["refuses", "resets"])
async def test_when_stable_fails_as_well_the_client_is_told_of_both(bench: Bench, other: str) -> None:
    """502, stable's failure is nobody's Observation, and no third attempt is made."""
    down = Variant("v1", (Backend("127.0.0.1", closed_port()),))
    gateway = await trial(bench, answering(OOPS), stable=down if other == "refuses" else closing(b""))
    client = await bench.client()
    answer = await client.ask("POST", "/", b"x")
    assert (answer.status, answer.field("x-turnout-origin")) == (502, "gateway")
    assert b"v1 gave no answer" in answer.body
    assert b"before that v2 failed (http_error)" in answer.body
    assert (gateway.outcomes("v2"), gateway.outcomes("v1"), gateway.rescues()) == (
        {"http_error": 1},
        {},
        {"failed": 1},
    )
    assert [live(one) for one in bench.upstreams] == [1] * len(bench.upstreams)
    assert (await client.ask("POST", "/", b"x")).status == 502


async def test_stables_own_500_is_the_answer(bench: Bench) -> None:
    """Any status of stable's is what the client would have got without a rollout."""
    gateway = await trial(bench, closing(b""), stable=answering(ok(b"stable oops", status="500 Oops")))
    answer = await (await bench.client()).ask("POST", "/", b"x")
    assert (answer.status, answer.body, answer.field("x-turnout-rescued")) == (500, b"stable oops", "reset")
    assert gateway.rescues() == {"answered": 1}


async def test_dp8_a_rescue_that_is_cut_short_stays_visible(bench: Bench) -> None:
    """Stable dies within its answer: the client sees a broken one."""
    gateway = await trial(bench, answering(OOPS), stable=resetting(CHUNKED + b"2\r\nhi\r\n"))
    client = await bench.client()
    await client.send(request("POST", "/", b"x"))
    with pytest.raises(TruncatedError):
        await client.answer("POST")
    assert gateway.rescues() == {"failed": 1}


@pytest.mark.parametrize("leave", ["close", "abort"])
async def test_dp9_a_client_that_leaves_during_its_rescue_ends_it(bench: Bench, leave: str) -> None:
    """Stable's connection is closed; the candidate's failure stays booked as it was, nothing else is."""
    gateway = await trial(bench, answering(OOPS), stable=never)
    client = await bench.client()
    await client.send(request("POST", "/", b"x"))
    await until(lambda: bench.upstreams[0].requests, "the rescue is under way")
    getattr(client, leave)()
    await until(lambda: bench.upstreams[0].visits[0].closed_at, "stable's connection is closed")
    await until(lambda: gateway.held() == {}, "all places are free")
    assert (gateway.outcomes("v2"), gateway.outcomes("v1"), gateway.rescues()) == (
        {"http_error": 1},
        {},
        {"cancelled": 1},
    )


async def test_a_worker_that_drains_ends_a_rescue_first(bench: Bench) -> None:
    """The answer comes whole, with `connection: close`, and only then the worker is done."""
    release = asyncio.Event()
    gateway = await trial(bench, answering(OOPS), stable=held(release, ok(b"stable")))
    client = await bench.client()
    await client.send(request("POST", "/", b"x"))
    await until(lambda: bench.upstreams[0].requests, "the rescue is under way")
    draining = asyncio.create_task(gateway.worker.drain(10.0))
    await until(lambda: gateway.worker.draining, "the drain has begun")
    release.set()
    answer = await client.answer("POST")
    assert (answer.body, answer.field("connection"), answer.field("x-turnout-rescued")) == (
        b"stable",
        "close",
        "http_error",
    )
    await draining
    assert (gateway.held(), gateway.rescues()) == ({}, {"answered": 1})
    bench.gateways.clear()


async def test_a_candidate_that_takes_no_body_is_left_for_stable(bench: Bench) -> None:
    """It stops the upload until `body_deadline`: stable gets what is kept, and the client time for the rest."""

    async def deaf(visit: Visit) -> None:  # noqa: ARG001 - it takes nothing
        await stay.wait()

    async def measure(visit: Visit) -> None:
        async for received in visit.requests():
            await visit.send(ok(b"%d" % len(received.body)))

    stay = asyncio.Event()
    limits = Limits(body_deadline_s=2.0, kept_body_bytes=64 * MIB)
    gateway = await trial(bench, deaf, stable=measure, limits=limits)
    client = await bench.client()
    uploading = asyncio.create_task(client.send(request("POST", "/", b"x" * (16 * MIB))))
    answer = await client.answer("POST")
    await uploading
    stay.set()
    assert (answer.status, answer.body) == (200, b"%d" % (16 * MIB))
    assert (gateway.outcomes("v2"), gateway.rescues()) == ({"timeout": 1}, {"answered": 1})
