"""Variants do not pay for each other, and what Turnout does itself is not held against them."""

import statistics
from collections.abc import Callable

import numpy as np
import pytest

from router.analysis.evidence import Evidence
from router.analysis.reading import Reading
from router.core.observations import Outcome
from router.core.rollout import GateSpec
from router.core.traffic import SERVE, AffinityKind, AffinitySource, RescueSpec, Role, Timeouts, Variant, bucket_of
from tests.gateway.bench import ROLLOUT, Bench, route_of, started, until
from tests.gateway.clients import Client, request
from tests.gateway.test_recorder import counters, of
from tests.gateway.upstreams import Visit, ok
from tests.stopwatch import Stopwatch

NO_RESCUE = RescueSpec(enabled=False)


def user_of(role: Role) -> str:
    """Return a user whom weight 50 % sends to that side."""
    names = (f"user{number}" for number in range(100))
    return next(one for one in names if (bucket_of(one.encode(), ROLLOUT, SERVE) < 5_000) is (role is Role.CANDIDATE))


class Sleeper:
    """A server that echoes, and while `hangs` takes requests and never answers."""

    def __init__(self) -> None:
        self.hangs = False

    async def serve(self, visit: Visit) -> None:
        """Serve one connection."""
        async for received in visit.requests():
            if self.hangs:
                await visit.gone()
                return
            await visit.send(ok(received.body))


@pytest.mark.slow
async def test_up3_a_hanging_candidate_costs_stable_nothing(bench: Bench, figure: Callable[[str], None]) -> None:
    """At weight 50 %: stable's p99 <= 1.2 times that without the fault, and the candidate keeps to its 20 places.

    Five alternating rounds of 300 requests each. The limit is the larger of 1.2 times the baseline and the baseline
    and three times what rounds without the fault differ by.
    """
    sleeper = Sleeper()
    stable, candidate = await bench.upstream(), await bench.upstream(sleeper.serve)
    route = route_of(
        stable,
        Variant("v2", (candidate.backend,), max_in_flight=20),
        rescue=NO_RESCUE,
        affinity=(AffinitySource(AffinityKind.HEADER, "x-user-id"),),
    )
    gateway = await bench.gateway(route, states=[started(5_000)])
    pool = gateway.worker.table.lives["r"].variants["v2"].live
    ours, theirs = (f"X-User-Id: {user_of(role)}" for role in Role)
    client = await bench.client()

    async def p99_ms(*, hangs: bool) -> float:
        sleeper.hangs = hangs
        others: list[Client] = []
        took: list[float] = []
        for number in range(300):
            if number % 3 == 0:  # nobody waits for these: they are as many clients as a real half of the traffic
                other = await bench.client()
                others.append(other)
                await other.send(request("POST", "/", b"x", theirs))
            watch = Stopwatch()
            assert (await client.ask("POST", "/", b"x", ours)).status == 200
            took.append(watch.elapsed_s * 1000)
            assert pool.in_flight <= 20
        if hangs:
            assert pool.in_flight == 20
        for other in others:
            other.abort()
        await until(lambda: not pool.in_flight, "the round's requests are over")
        return sorted(took)[296]

    await p99_ms(hangs=False)
    rounds = [(await p99_ms(hangs=False), await p99_ms(hangs=True)) for _ in range(5)]
    baseline, faulty = (statistics.median(column) for column in zip(*rounds, strict=True))
    quiet = [one for one, _ in rounds]
    limit = max(1.2 * baseline, baseline + 3 * (max(quiet) - min(quiet)))
    figure(f"UP3 stable's p99 {faulty:.2f} ms beside a hanging candidate, {baseline:.2f} ms without; limit {limit:.2f}")
    assert faulty <= limit
    assert gateway.outcomes("v1") == {"ok": 11 * 300}
    assert len(candidate.visits) <= 20 * 11


ANSWERS = {
    "/500": ok(b"", status="500 No"),
    "/404": ok(b"", status="404 None"),
    "/junk": b"nonsense\r\n\r\n",
    "/": ok(b"x"),
}


async def by_target(visit: Visit) -> None:
    """Answer as the target says; hang at `/hang`, hang up at `/reset`."""
    async for received in visit.requests():
        if received.target == "/hang":
            await visit.gone()
        elif received.target == "/reset":
            return
        else:
            await visit.send(ANSWERS[received.target])


async def test_up5_only_what_the_variant_and_its_transport_did_enters_the_verdict(bench: Bench) -> None:
    """Upstream 500, resets, junk and time-outs are failures; our 503 and a client's leaving are not.

    Each has its series in turnout_requests_total. A time-out that we end is the variant's (design.md section 5): it
    had the request and missed the deadline.
    """
    candidate = await bench.upstream(by_target)
    route = route_of(
        await bench.upstream(),
        Variant("v2", (candidate.backend,), max_in_flight=2, max_queue=0),
        rescue=NO_RESCUE,
        timeouts=Timeouts(total_s=0.5),
    )
    gateway = await bench.gateway(route, states=[started(10_000)])
    client = await bench.client()
    for target, times, status in (("/", 5, 200), ("/404", 2, 404), ("/500", 3, 500), ("/reset", 2, 502),
                                  ("/junk", 2, 502), ("/hang", 1, 504)):  # fmt: skip
        for _ in range(times):
            assert (await client.ask("POST", target, b"x")).status == status
    hanging = [await bench.client() for _ in range(2)]
    for one in hanging:
        await one.send(request("POST", "/hang", b"x"))
    seen = 15 + 2
    await until(lambda: len(candidate.requests) == seen, "both places are taken")
    assert (await client.ask("POST", "/", b"x")).status == 503
    for one in hanging:
        one.abort()
    expected = {"ok": 5, "client_error": 2, "http_error": 3, "reset": 2, "malformed": 2, "timeout": 1,
                "shed": 1, "cancelled": 2}  # fmt: skip
    await until(lambda: gateway.outcomes("v2") == expected, f"all are counted: {expected}")
    series = gateway.worker.snapshot()["turnout_requests_total"]
    assert {outcome: series["r", "v2", outcome] for outcome in expected} == expected
    await gateway.worker.drain(2.0)
    bench.gateways.clear()
    found = await counters(gateway)
    assert {outcome.value: of(found, "outcome", "candidate", outcome) for outcome in Outcome} == {
        outcome.value: expected.get(outcome, 0) for outcome in Outcome
    }
    evidence = Evidence.of(await gateway.store.evidence("r", ROLLOUT))
    state = (await gateway.store.read_states(["r"]))["r"]
    reading = Reading(evidence, [state.exposure], keyed=False)
    arm = reading.outcomes([GateSpec("errors", "error_rate")], Role.CANDIDATE, absolute=True)
    assert [int(part.flat[0]) for part in (arm.events, arm.rest, arm.unknown)] == [8, 7, 3]
    assert int(np.sum(reading.dropped(Role.CANDIDATE))) == 1
