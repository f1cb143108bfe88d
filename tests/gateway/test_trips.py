"""A tripped breaker on a worker: the next request is safe, the fleet hears of it, and nothing brings it back alone."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from router.core.config import StoreConfig
from router.core.decisions import Actor, ActorKind, Advance, Decision, DecisionRecord, Pause, Resume, SetExposure, Start
from router.core.observations import OUTCOME, PAIR, STARTED, CounterKey
from router.core.rollout import FULL_BP, BreakerSpec, Phase, RolloutState, Spec, Step, apply, idle_state
from router.core.traffic import AffinityKind, AffinitySource, RescueSpec, Timeouts
from router.gateway.breaker import Trip
from router.gateway.tally import Tally
from router.gateway.trips import TripFiles
from router.testing import MemoryServer, MemoryStore
from tests.gateway.bench import ROLLOUT, Bench, Gateway, route_of, until
from tests.gateway.clients import Client, request
from tests.gateway.upstreams import Script, Visit, answering, echo, never, ok

OLGA = Actor(ActorKind.OPERATOR, "olga")
FAILS = answering(ok(b"broken", status="500 Broken"))
REASON = "5 failures of v2 in a row, stable got nothing to compare with"


def serving(weight_bp: int = FULL_BP, mirror_bp: int = 0, **breaker: Any) -> RolloutState:  # noqa: ANN401
    """Return a rollout of v2 with these shares in its first step of two; `breaker` are fields of BreakerSpec."""
    steps = (Step(weight_bp=weight_bp, mirror_bp=mirror_bp), Step(weight_bp=FULL_BP))
    spec = Spec("v2", "canary", steps=steps, breaker=BreakerSpec(**breaker))
    return apply(idle_state("r", "v1", 0.0), Start(reason="s", rollout_id=ROLLOUT, spec=spec, steps=steps), 0.0)


async def broken(bench: Bench, state: RolloutState, candidate: Script = FAILS, **settings: Any) -> Gateway:  # noqa: ANN401
    """Return a gateway before a stable that echoes and a candidate that fails; `settings` of Route or of Bench."""
    of_route = {name: settings.pop(name) for name in ("affinity", "timeouts") if name in settings}
    made = [await bench.upstream(echo), await bench.upstream(candidate)]
    route = route_of(*made, rescue=RescueSpec(enabled=False), **of_route)
    return await bench.gateway(route, states=[state], **settings)


async def breach(bench: Bench, gateway: Gateway | None = None) -> Client:
    """Send five requests that the candidate fails, and return the client."""
    client = await bench.client(gateway)
    assert [(await client.ask("POST", "/", b"x")).status for _ in range(5)] == [500] * 5
    return client


async def state_of(gateway: Gateway) -> RolloutState:
    """Return what is stored."""
    return (await gateway.store.read_states(["r"]))["r"]


def weight_bp(gateway: Gateway) -> int:
    """Return the weight that the worker routes by."""
    return gateway.worker.table.standings["r"].exposure.weight_bp


def metric(gateway: Gateway, name: str, *labels: str) -> Any:  # noqa: ANN401
    """Return one value of the worker's metrics."""
    return gateway.worker.snapshot()[name][labels]


def counted(gateway: Gateway, metric_of: str, variant: str, cell: str, exposure: int = 1) -> int:
    """Return one counter of the worker's evidence."""
    for tally in gateway.worker.table.tallies("r", ROLLOUT):
        if tally.exposure == exposure:
            counters = tally.counters(0.0) if isinstance(tally, Tally) else tally.counters()
            return counters.get(CounterKey(exposure, metric_of, "", variant, cell), 0)
    raise AssertionError(f"exposure {exposure} is not counted")


# -- this worker ------------------------------------------------------------------------------------------------------


async def test_the_very_next_request_goes_to_stable(bench: Bench) -> None:
    """Ten requests in one write on one connection: five reach the candidate, the sixth already does not."""
    gateway = await broken(bench, serving(fleet="local"))
    client = await bench.client()
    await client.send(b"".join(request("POST", "/", b"%d" % number) for number in range(10)))
    answers = [await client.answer("POST") for _ in range(10)]
    assert [one.status for one in answers] == [500] * 5 + [200] * 5
    assert len(bench.upstreams[1].requests) == 5
    assert (weight_bp(gateway), metric(gateway, "turnout_breaker_open", "r")) == (0, 1.0)
    assert metric(gateway, "turnout_weight_ratio", "r") == 0.0


async def test_requests_in_flight_end_where_they_began(bench: Bench) -> None:
    """A slow good answer of the candidate still reaches its client after the trip, and is counted in its exposure."""
    release = asyncio.Event()

    async def slow_or_broken(visit: Visit) -> None:
        async for received in visit.requests():
            if received.body == b"slow":
                await release.wait()
                await visit.send(ok(b"late"))
            else:
                await visit.send(ok(b"broken", status="500 Broken"))

    gateway = await broken(bench, serving(fleet="local"), slow_or_broken)
    slow = await bench.client()
    await slow.send(request("POST", "/", b"slow"))
    await until(lambda: bench.upstreams[1].requests, "the candidate has it")
    await breach(bench)
    assert weight_bp(gateway) == 0
    release.set()
    assert (await slow.answer("POST")).body == b"late"
    assert counted(gateway, OUTCOME, "candidate", "ok") == 1
    assert counted(gateway, STARTED, "candidate", "all") == 6


async def test_after_a_trip_live_requests_leave_the_exposures_evidence_and_pairs_stay(bench: Bench) -> None:
    """Its split is no longer the exposure's here, so neither arm grows; pairs are as good as before."""
    gateway = await broken(bench, serving(mirror_bp=FULL_BP, fleet="local"))
    client = await breach(bench)
    await until(lambda: weight_bp(gateway) == 0, "the copies have answered, and the breaker has tripped")
    before = await gateway.pairs(5)
    for _ in range(7):
        assert (await client.ask("POST", "/", b"x")).status == 200
    pairs = await gateway.pairs(12)
    assert [pair.exposure for pair in pairs] == [1] * 12
    assert [pair.served for pair in pairs] == ["candidate"] * len(before) + ["stable"] * 7
    assert (counted(gateway, STARTED, "stable", "all"), counted(gateway, STARTED, "candidate", "all")) == (0, 5)
    assert (counted(gateway, STARTED, "pair", "all"), counted(gateway, PAIR, "pair", "both")) == (12, 12)
    assert gateway.outcomes("v1") == {"ok": 7}, "metrics go on counting"


async def test_copies_are_witnesses(bench: Bench) -> None:
    """Failures whose copies stable answers well trip it; where stable fails the same inputs they do not."""
    for script, trips in ((echo, True), (FAILS, False)):
        candidate, stable = await bench.upstream(FAILS), await bench.upstream(script)
        route = route_of(stable, candidate, rescue=RescueSpec(enabled=False))
        gateway = await bench.gateway(route, states=[serving(mirror_bp=FULL_BP, fleet="local")])
        client = await bench.client(gateway)
        for _ in range(5 if trips else 40):
            assert (await client.ask("POST", "/", b"x")).status == 500
        await gateway.pairs(5 if trips else 40)
        assert (weight_bp(gateway) == 0) is trips
        trip = gateway.worker.table.lives["r"].trip
        assert trip is None or "stable answered the same inputs (5 by copies)" in trip.reason


@pytest.mark.parametrize("mirror_bp", [0, FULL_BP])
async def test_rescues_are_witnesses(bench: Bench, mirror_bp: int) -> None:
    """No client sees an error, and the fifth rescue trips it; a request that is copied too counts once."""
    stable, candidate = await bench.upstream(echo), await bench.upstream(FAILS)
    gateway = await bench.gateway(route_of(stable, candidate), states=[serving(mirror_bp=mirror_bp, fleet="local")])
    client = await bench.client()
    for number in range(6):
        assert weight_bp(gateway) == (FULL_BP if number < 5 else 0)
        assert (await client.ask("POST", "/", b"x")).status == 200
    trip = gateway.worker.table.lives["r"].trip
    assert trip is not None
    assert trip.reason == "5 failures of v2 in a row, stable answered the same inputs (5 by rescue)"


async def test_a_dead_stable_is_no_witness(bench: Bench) -> None:
    """Both fail everything: no rescue succeeds, and nothing trips."""
    gateway = await bench.gateway(
        route_of(await bench.upstream(FAILS), await bench.upstream(FAILS)), states=[serving(fleet="local")]
    )
    client = await bench.client()
    for _ in range(50):
        assert (await client.ask("POST", "/", b"x")).status == 500
    assert weight_bp(gateway) == FULL_BP


async def test_one_user_with_bad_requests_trips_nothing(bench: Bench) -> None:
    """A hundred failures of one affinity key, at 100 % with nobody to compare with."""
    gateway = await broken(bench, serving(), affinity=(AffinitySource(AffinityKind.HEADER, "x-user-id"),))
    client = await bench.client()
    for _ in range(100):
        assert (await client.ask("POST", "/", b"x", "X-User-Id: mallory")).status == 500
    assert weight_bp(gateway) == FULL_BP
    for name in "abcd":
        assert (await client.ask("POST", "/", b"x", f"X-User-Id: {name}")).status == 500
    assert weight_bp(gateway) == 0


# -- the fleet --------------------------------------------------------------------------------------------------------


async def test_the_fleet_is_halted(bench: Bench) -> None:
    """Weight 0, paused, copies go on, by the breaker of this boot with its reason; the trip is settled by that."""
    gateway = await broken(bench, serving(mirror_bp=300), boot="b7")
    other = await bench.gateway(next(iter(gateway.worker.table.lives.values())).route, server=gateway.server, boot="b8")
    client = await bench.client(gateway)
    while weight_bp(gateway):
        await client.ask("POST", "/", b"x")
    await until(lambda: weight_bp(other) == 0, "the other worker follows")
    state = await state_of(gateway)
    assert (state.phase, state.halted, state.revision) == (Phase.PAUSED, True, 3)
    assert (state.exposure.weight_bp, state.exposure.mirror_bp) == (0, 300)
    (record,) = await gateway.store.decisions("r", 10)
    assert (record.kind, record.actor, record.phase_after) == ("set_exposure", "breaker:b7", "paused")
    assert (record.reason, record.weight_bp_before, record.weight_bp_after) == (state.reason, FULL_BP, 0)
    assert state.reason.startswith("breaker of b7: 5 failures of v2 in a row")
    await until(lambda: metric(gateway, "turnout_breaker_open", "r") == 0.0, "the state knows of the trip")
    assert metric(gateway, "turnout_decisions_total", "set_exposure", "breaker") == 1
    for one in (gateway, other):
        assert sum(metric(one, "turnout_rollback_propagation_seconds").counts) == 1


async def test_an_operators_resume_gives_the_candidate_its_traffic_again(bench: Bench) -> None:
    """With a fresh breaker: what failed before the halt counts no more, and what fails after it trips again."""
    gateway = await broken(bench, serving())
    client = await breach(bench)
    await until(lambda: gateway.revision() == 3, "the fleet is halted")
    for expected in (5, 10):
        assert (await client.ask("POST", "/", b"x")).status == 200
        assert len(bench.upstreams[1].requests) == expected
        await gateway.decide(Resume(reason="fixed", actor=OLGA))
        await breach(bench)
        assert weight_bp(gateway) == 0
        await until(lambda: gateway.revision() in (6, 9), "the fleet is halted again")


async def test_a_rollout_that_a_person_has_paused_stays_paused_by_that_person(bench: Bench) -> None:
    """Only the weight is taken: one revision more."""
    gateway = await broken(bench, apply(serving(), Pause(reason="lunch", actor=OLGA), 0.0))
    await breach(bench)
    await until(lambda: gateway.revision() == 3, "the weight is taken")
    state = await state_of(gateway)
    assert (state.phase, state.halted, state.exposure.weight_bp) == (Phase.PAUSED, True, 0)


async def test_abort_rolls_the_fleet_back(bench: Bench) -> None:
    """`breaker.fleet: abort`: for good, copies too."""
    gateway = await broken(bench, serving(mirror_bp=10, fleet="abort"))
    client = await bench.client()
    while weight_bp(gateway):
        await client.ask("POST", "/", b"x")
    await until(lambda: gateway.revision() == 2, "it is rolled back")
    state = await state_of(gateway)
    assert (state.phase, state.exposure.mirror_bp) == (Phase.ROLLED_BACK, 0)
    assert (await gateway.store.decisions("r", 1))[0].actor == "breaker:boot0"


async def test_local_tells_nobody_and_holds(bench: Bench) -> None:
    """`breaker.fleet: local`: steps forward do not bring the traffic back here; weight 0 and then more does."""
    gateway = await broken(bench, serving(fleet="local"))
    client = await breach(bench)
    await gateway.decide(Advance(reason="on", actor=OLGA))
    await gateway.expose(weight_bp=5_000)
    assert (weight_bp(gateway), metric(gateway, "turnout_breaker_open", "r")) == (0, 1.0)
    assert (await client.ask("POST", "/", b"x")).status == 200
    assert await gateway.store.decisions("r", 1) == []
    await gateway.expose(weight_bp=0)
    assert metric(gateway, "turnout_breaker_open", "r") == 0.0
    await gateway.expose(weight_bp=FULL_BP)
    assert (await client.ask("POST", "/", b"x")).status == 500


class Raced(MemoryStore):
    """A store in which somebody else is always first, `times` times: by a step forward of control."""

    times = 3

    async def compare_and_set(self, state: RolloutState, expected_revision: int, record: DecisionRecord | None) -> bool:
        """Let another one write first."""
        if self.times:
            self.times -= 1
            other = MemoryStore(self.server)
            stored = (await other.read_states([state.route]))[state.route]
            step: Decision = SetExposure(reason="step", weight_bp=1_000 * (9 - self.times), actor=OLGA)
            assert await other.compare_and_set(apply(stored, step, 0.0), stored.revision, None)
        return await super().compare_and_set(state, expected_revision, record)


async def test_a_step_forward_at_the_same_time_loses(bench: Bench) -> None:
    """Three times another decision is first: the breaker reads it and tries again, and its worker never leaves 0."""
    gateway = await broken(bench, serving(), store=Raced())
    client = await breach(bench)
    while gateway.revision() < 6:
        assert (await client.ask("POST", "/", b"x")).status == 200
    state = await state_of(gateway)
    assert (state.phase, state.exposure.weight_bp, len(bench.upstreams[1].requests)) == (Phase.PAUSED, 0, 5)


# -- without the store ------------------------------------------------------------------------------------------------


@pytest.fixture
async def away(bench: Bench) -> AsyncIterator[Gateway]:
    """A worker whose breaker has tripped while the store was away."""
    gateway = await broken(bench, serving(), store_config=StoreConfig(directory=str(bench.directory / "kept")))
    states = bench.directory / "kept" / "states"
    await until((states / "r.state.json").exists, "the state is saved")
    gateway.server.cut()
    await breach(bench)
    await until((states / "r.trip.json").exists, "the trip is saved")
    yield gateway
    gateway.server.mend()


async def again(bench: Bench, gateway: Gateway, server: MemoryServer) -> Gateway:
    """Return a worker that starts on the same disk."""
    route = gateway.worker.table.lives["r"].route
    return await bench.gateway(
        route, server=server, store_config=StoreConfig(directory=str(bench.directory / "kept")), boot="next"
    )


async def test_without_the_store_the_worker_stays_at_zero_and_proposes_when_it_is_back(
    bench: Bench, away: Gateway
) -> None:
    """Meanwhile every request is stable's; then the halt is written, and nothing is left on disk."""
    client = await bench.client()
    for _ in range(20):
        assert (await client.ask("POST", "/", b"x")).status == 200
    assert (weight_bp(away), away.revision()) == (0, 1)
    away.server.mend()
    await until(lambda: away.revision() == 3, "the fleet is halted")
    assert (await state_of(away)).reason == f"breaker of boot0: {REASON}"
    await until(lambda: not (bench.directory / "kept" / "states" / "r.trip.json").exists(), "the trip is settled")


async def test_a_worker_that_restarts_without_the_store_stays_tripped(bench: Bench, away: Gateway) -> None:
    """For the same rollout; when the store returns it proposes what its predecessor could not."""
    second = await again(bench, away, away.server)
    client = await bench.client(second)
    assert (await client.ask("POST", "/", b"x")).status == 200
    assert (weight_bp(second), metric(second, "turnout_breaker_open", "r")) == (0, 1.0)
    bench.gateways.remove(away)
    await away.worker.drain(0.0)
    away.server.mend()
    await until(lambda: second.revision() == 3, "the fleet is halted")
    state = await state_of(second)
    assert (state.phase, state.reason) == (Phase.PAUSED, f"breaker of boot0: {REASON}")


@pytest.mark.parametrize("later", ["resumed", "retried"])
async def test_an_old_trip_on_disk_does_not_outlive_what_was_decided_after_it(
    bench: Bench, away: Gateway, later: str
) -> None:
    """The store says that it was halted and resumed since, or another attempt runs: the trip is forgotten."""
    server = MemoryServer()
    store = MemoryStore(server)
    state = serving()
    for move in (
        SetExposure(reason="off", weight_bp=0, actor=OLGA),
        SetExposure(reason="on", weight_bp=FULL_BP, actor=OLGA),
    ):
        state = apply(state, move, 0.0)
    state = replace(state, id="abc.2", past=(), epoch=1) if later == "retried" else replace(state, epoch=1)
    assert await store.compare_and_set(state, 0, None)
    second = await again(bench, away, server)
    assert weight_bp(second) == FULL_BP
    client = await bench.client(second)
    assert (await client.ask("POST", "/", b"x")).status == 500
    await until(lambda: not (bench.directory / "kept" / "states" / "r.trip.json").exists(), "the trip is forgotten")


def test_trips_survive_their_file(tmp_path: Path) -> None:
    """Forgotten only by who wrote it last; what is unreadable is none."""
    files = TripFiles(tmp_path / "states")
    mine, theirs = (Trip("r", ROLLOUT, 7, f"breaker of {boot}: why „so“") for boot in ("b1", "b2"))
    assert files.load("r") is None
    files.keep(mine)
    files.keep(theirs)
    files.forget(mine)
    assert files.load("r") == theirs
    files.forget(theirs)
    assert files.load("r") is None
    (tmp_path / "states" / "r.trip.json").write_bytes(b'{"v": 1, "rollout": 3}')
    assert files.load("r") is None


async def test_a_disk_that_cannot_be_written_does_not_stop_the_halt(bench: Bench) -> None:
    """The trip is then known to this process and, through the store, to all."""
    blocked = bench.directory / "file"
    blocked.write_text("not a directory")
    gateway = await broken(bench, serving(), store_config=StoreConfig(directory=str(blocked)))
    await breach(bench)
    await until(lambda: gateway.revision() == 3, "the fleet is halted")


async def test_timeouts_trip_it(bench: Bench) -> None:
    """A candidate that takes requests and never answers."""
    gateway = await broken(bench, serving(fleet="local"), never, timeouts=Timeouts(total_s=0.05))
    client = await bench.client()
    statuses = [(await client.ask("POST", "/", b"x")).status for _ in range(6)]
    assert statuses == [504] * 5 + [200]
    assert weight_bp(gateway) == 0


def answering_after(seconds: float) -> Script:
    """Return a script that takes its time for each answer."""

    async def script(visit: Visit) -> None:
        async for _ in visit.requests():
            await asyncio.sleep(seconds)
            await visit.send(ok(b"slow"))

    return script


@pytest.mark.parametrize(("stable_s", "trips"), [(0.0, True), (0.8, False)], ids=["fast stable", "slow stable"])
async def test_a_rescue_is_a_witness_only_within_the_time_that_the_candidate_had(
    bench: Bench, stable_s: float, *, trips: bool
) -> None:
    """Twelve requests at once to a candidate that is cut after 0.4 s: if stable is as slow, it says nothing."""
    sides = await bench.upstream(answering_after(stable_s)), await bench.upstream(never)
    route = route_of(*sides, rescue=RescueSpec(first_byte_s=0.4, budget_bp=FULL_BP))
    gateway = await bench.gateway(route, states=[serving(fleet="local")])
    clients = [await bench.client() for _ in range(12)]
    answers = await asyncio.gather(*[client.ask("POST", "/", b"x") for client in clients])
    assert [one.status for one in answers] == [200] * 12
    assert (weight_bp(gateway) == 0) is trips
