"""Rescues change what clients see and nothing of what is counted: the candidate's failure is its Observation."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from router.core.observations import LATE, Outcome
from router.core.rollout import GateSpec, Spec
from router.core.traffic import AffinityKind, AffinitySource, RescueSpec, Role
from router.gateway.rescue import FEWEST, WINDOW, Rescues
from tests.analysis.ledger import Ledger
from tests.gateway.bench import PATIENT, ROLLOUT, Bench, Gateway, route_of, started, until
from tests.gateway.clients import request
from tests.gateway.test_rescue import OOPS, trial
from tests.gateway.upstreams import Script, Upstream, Visit, answering, ok

BY_USER = (AffinitySource(AffinityKind.HEADER, "x-user"),)
STRICT = Spec("v2", "canary", gates=(GateSpec("errors", "error_rate", max_increase=0.0),), breaker=PATIENT)


async def evidence(gateway: Gateway, *metrics: str) -> Mapping[tuple[str, str, str], int]:
    """Return what the store holds of the rollout by metric, variant and cell, without cuts; all metrics or some."""
    await gateway.worker.recorder.flush()
    (cells,) = (await gateway.store.evidence("r", ROLLOUT)).values()
    found = {(key.metric, key.variant, key.cell): value for key, value in cells.items() if "@" not in key.metric}
    return {key: value for key, value in found.items() if not metrics or key[0] in metrics}


def fickle(turns: Sequence[str]) -> Script:
    """Return a script that answers, fails by status or hangs up, by the number in the body."""

    async def script(visit: Visit) -> None:
        async for received in visit.requests():
            turn = turns[int(received.body) % len(turns)]
            if turn == "reset":
                return
            await visit.send(OOPS if turn == "500" else ok(b"same"))

    return script


@pytest.mark.parametrize("shares", [(5_000, 0), (5_000, 10_000), (10_000, 10_000)])
async def test_the_same_traffic_gives_the_same_evidence_with_and_without_rescue(
    bench: Bench, shares: tuple[int, int]
) -> None:
    """90 requests of 17 users: started, outcomes, pairs, agreement, keys and first failures, cell by cell."""
    counted = []
    for enabled in (True, False):
        sides = [await bench.upstream(fickle(turns)) for turns in (["ok"], ["ok", "500", "ok", "reset", "ok"])]
        gateway = await bench.gateway(
            route_of(*sides, affinity=BY_USER, rescue=RescueSpec(enabled=enabled, budget_bp=10_000)),
            states=[replace(started(*shares), spec=STRICT)],
            boot="same",
        )
        client = await bench.client(gateway)
        for number in range(90):
            answer = await client.ask("POST", "/", b"%d" % number, f"x-user: {number % 17}")
            assert not enabled or answer.status == 200
        pairs = 90 if shares[1] else 0
        await gateway.pairs(pairs, within_s=10.0)
        found = await evidence(gateway)
        counted.append({key: value for key, value in found.items() if key[0] not in ("latency", "key:latency")})
    assert counted[0] == counted[1]
    assert counted[0]["outcome", "candidate", "http_error"] > 5
    assert counted[0]["outcome", "candidate", "reset"] > 5
    assert [key for key in counted[0] if key[0] == "key:failure"]


@pytest.mark.parametrize("fail", ["500", "reset"])
async def test_the_pair_of_a_rescued_request_holds_the_failure_and_the_copy(bench: Bench, fail: str) -> None:
    """The candidate served, as far as the record goes; stable's half is its copy, not its rescuing answer."""

    async def answers(visit: Visit) -> None:
        async for received in visit.requests():
            await visit.send(ok(b"rescue" if received.field("x-turnout-mirror") is None else b"the copy"))

    candidate = answering(OOPS) if fail == "500" else fickle(["reset"])
    gateway = await trial(bench, candidate, stable=answers, shares=(10_000, 10_000))
    assert (await (await bench.client()).ask("POST", "/", b"0")).body == b"rescue"
    (pair,) = await gateway.pairs(1)
    whole = (Outcome.HTTP_ERROR, 500, len(b"oops")) if fail == "500" else (Outcome.RESET, 0, 0)
    assert (pair.served, pair.candidate.outcome, pair.candidate.status, pair.candidate.body_bytes) == (
        "candidate",
        *whole,
    )
    assert (pair.stable.outcome, pair.stable.status, pair.stable.body_bytes) == (Outcome.OK, 200, len(b"the copy"))
    found = await evidence(gateway, "pair_failure")
    assert found == {("pair_failure", "pair", "fine/fail"): 1}


async def test_an_error_that_was_cut_for_its_rescue_is_not_compared(bench: Bench) -> None:
    """Half a body is nobody's answer: its digest would say that the models differ."""

    async def half(visit: Visit) -> None:
        await visit.request()
        await visit.send(b"HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\nhalf")
        await visit.gone()

    gateway = await trial(bench, half, stable=answering(OOPS), shares=(10_000, 10_000))
    assert (await (await bench.client()).ask("POST", "/", b"x")).status == 500
    (pair,) = await gateway.pairs(1)
    assert (pair.candidate.outcome, pair.candidate.digest, pair.comparison.same) == (Outcome.HTTP_ERROR, "", None)
    assert pair.comparison.reason == "cut for a rescue"


async def test_a_rescuing_answer_is_nobodys_observation(bench: Bench) -> None:
    """Neither metric nor evidence of stable knows of it, latency included."""
    gateway = await trial(bench, answering(OOPS))
    client = await bench.client()
    for _ in range(5):
        assert (await client.ask("POST", "/", b"x")).status == 200
    found = await evidence(gateway)
    assert {key[1] for key in found} == {"candidate"}
    assert found["outcome", "candidate", "http_error"] == found["started", "candidate", "all"] == 5
    counts = gateway.worker.table.lives["r"].variants["v1"].counts
    assert (counts.started, counts.latency_ms_sum) == (0, 0.0)


# -- late: both variants are judged by one deadline ------------------------------------------------------------------


def slowly(release: asyncio.Event) -> Script:
    """Return a script that answers at once what begins with `now`, begins to answer `begun`, and else is released."""

    async def script(visit: Visit) -> None:
        async for received in visit.requests():
            head, body = b"HTTP/1.1 %b\r\nContent-Length: 4\r\n\r\n" % status_of(received.body), b"done"
            if received.body == b"begun":
                await visit.send(head)
                head = b""
            if received.body != b"now":
                await release.wait()
            await visit.send(head + body)

    return script


def status_of(body: bytes) -> bytes:
    """Return the status that a request's body asks for."""
    return {b"late 404": b"404 No", b"late 500": b"500 Oops"}.get(body, b"200 OK")


async def ask_slowly(
    bench: Bench, gateway: Gateway, upstream: Upstream, release: asyncio.Event, *bodies: bytes
) -> None:
    """Send requests in this order; the time of the first byte passes when all are there, then they are released."""
    clients = [await bench.client(gateway) for _ in bodies]
    for number, (client, body) in enumerate(zip(clients, bodies, strict=True), start=1):
        await client.send(request("POST", "/", body, "x-user: anna"))
        await until(lambda n=number: len(upstream.requests) == n, "the request is there")  # type: ignore[misc]
        if body in (b"now", b"begun"):
            await client.reader.readuntil(b"\r\n\r\n")
    gateway.pass_time(6.0)
    release.set()
    for client in clients:
        assert await client.reader.readuntil(b"done")


async def test_a_good_answer_of_stables_after_the_time_of_the_first_byte_is_late(bench: Bench) -> None:
    """Where the candidate would have been cut; the metric keeps `ok`, and an error stays an error."""
    release = asyncio.Event()
    gateway = await trial(bench, answering(ok()), stable=slowly(release), shares=(0, 0))
    bodies = (b"now", b"begun", b"late", b"late 404", b"late 500")
    await ask_slowly(bench, gateway, bench.upstreams[0], release, *bodies)
    await until(lambda: sum(gateway.outcomes("v1").values()) == 5, "all answers are booked")
    found = await evidence(gateway, "outcome", "latency")
    assert {cell: value for (metric, _, cell), value in found.items() if metric == "outcome"} == {
        "ok": 2,
        LATE: 2,
        "http_error": 1,
    }
    assert sum(value for (metric, *_), value in found.items() if metric == "latency") == 5
    assert gateway.outcomes("v1") == {"ok": 3, "client_error": 1, "http_error": 1}


@pytest.mark.parametrize("where", ["no rescue", "not mirror-safe", "no rollout"])
async def test_where_nobody_would_be_cut_nobody_is_late(bench: Bench, where: str) -> None:
    """A slow answer is then as good as any."""
    release = asyncio.Event()
    upstream = await bench.upstream(slowly(release))
    rescue = RescueSpec(enabled=where != "no rescue")
    route = route_of(upstream, await bench.upstream(), rescue=rescue, mirror_safe=where != "not mirror-safe")
    gateway = await bench.gateway(route, states=[] if where == "no rollout" else [started(0, 0)])
    await ask_slowly(bench, gateway, upstream, release, b"late")
    await until(lambda: gateway.outcomes("v1") == {"ok": 1}, "the answer is booked")
    if where != "no rollout":
        assert await evidence(gateway, "outcome") == {("outcome", "stable", "ok"): 1}


async def test_late_ends_are_counted_as_the_reference_counts_them(bench: Bench) -> None:
    """Cell by cell, keys included: a user's first request may be late, and is its first failure then."""
    release = asyncio.Event()
    upstream = await bench.upstream(slowly(release))
    gateway = await bench.gateway(
        route_of(upstream, await bench.upstream(), affinity=BY_USER), states=[replace(started(0, 0), spec=STRICT)]
    )
    exposure, ledger = gateway.worker.table.standings["r"].exposure, Ledger()
    bodies = (b"late", b"now", b"late")
    await ask_slowly(bench, gateway, upstream, release, *bodies)
    for body in bodies:
        begun = ledger.start(0.0, exposure, Role.STABLE, key="anna")
        ledger.end(begun, LATE if body == b"late" else Outcome.OK, 1.0)
    await until(lambda: gateway.outcomes("v1") == {"ok": 3}, "all answers are booked")
    metrics = ("started", "outcome", "key:started", "key:outcome", "key:failure")
    expected = {(key.metric, key.variant, key.cell): number for key, number in ledger.counters(1.0).items()}
    assert await evidence(gateway, *metrics) == {key: n for key, n in expected.items() if key[0] in metrics}
    assert (expected["key:failure", "stable", "all/0"], expected["outcome", "stable", LATE]) == (1, 2)


async def test_a_candidate_that_could_not_be_cut_is_late_as_well(bench: Bench) -> None:
    """Over budget it is waited for, and counts as stable would: else it were better to be slow than to be stable."""
    release = asyncio.Event()
    gateway = await trial(bench, slowly(release))
    while gateway.worker.table.lives["r"].rescues.admit(0):
        pass
    await ask_slowly(bench, gateway, bench.upstreams[1], release, b"late")
    await until(lambda: gateway.outcomes("v2") == {"ok": 1}, "the answer is booked")
    assert await evidence(gateway, "outcome") == {("outcome", "candidate", LATE): 1}


# -- the budget --------------------------------------------------------------------------------------------------------


def taken(rescues: Rescues, requests: int) -> int:
    """Return how many rescues the budget still gives when the Route has had so many requests."""
    number = 0
    while rescues.admit(requests):
        number += 1
    return number


@pytest.mark.parametrize(
    ("budget_bp", "requests", "expected"),
    [(2_000, 0, FEWEST), (2_000, 54, 10), (2_000, 55, 11), (0, 10_000, FEWEST), (10_000, 500, 500), (1, 199_999, 19)],
)
def test_a_window_has_its_share_of_requests_and_ten_in_any_case(budget_bp: int, requests: int, expected: int) -> None:
    """Whole rescues only: what is left of a share is not given."""
    rescues = Rescues(budget_bp)
    assert (taken(rescues, requests), taken(rescues, requests)) == (expected, 0)


def test_the_budget_forgets_after_its_window() -> None:
    """100 requests a second at 20 %: 200 in ten seconds; what the first second used comes back after the tenth."""
    rescues = Rescues(2_000)
    given = []
    for second in range(25):
        rescues.turn(1_000.0 + second, 100 * second)
        rescues.turn(1_000.5 + second, 100 * second + 50)  # within the second: changes nothing
        given.append(taken(rescues, 100 * (second + 1)))
    assert sum(given[:WINDOW]) == 200
    assert all(sum(given[at : at + WINDOW]) <= 200 for at in range(25 - WINDOW + 1))
    assert sum(given) == 20 * 25


def test_a_quiet_route_gets_ten_rescues_again_and_again() -> None:
    """One request a second, all fail: ten in any ten seconds are all of them."""
    rescues = Rescues(0)
    for second in range(40):
        rescues.turn(1_000.0 + second, second)
        assert rescues.admit(second + 1)
