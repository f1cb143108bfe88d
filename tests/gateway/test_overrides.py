"""`x-turnout-variant` in a request: whose wish counts, what beats it, and that it is no evidence."""

from dataclasses import replace

import pytest

from router.core.decisions import RollBack
from router.core.rollout import BreakerSpec, RolloutState
from router.core.traffic import AffinityKind, AffinitySource
from tests.gateway.bench import Bench, Gateway, route_of, started
from tests.gateway.clients import Answer, Client
from tests.gateway.upstreams import Upstream, answering, ok

ME = ("127.0.0.0/8",)
ERROR = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


async def two(bench: Bench, candidate: bytes = ok(b"candidate")) -> tuple[Upstream, Upstream]:
    """Return a stable and a candidate upstream that answer with their names."""
    return await bench.upstream(answering(ok(b"stable"))), await bench.upstream(answering(candidate))


async def asking(client: Client, wish: str, times: int = 20) -> list[str | None]:
    """Return which side answered each of some requests with this wish."""
    return [(await wished(client, wish)).field("x-turnout-variant") for _ in range(times)]


async def wished(client: Client, wish: str) -> Answer:
    """Return the answer to one request with this wish."""
    return await client.ask("POST", "/", b"x", f"X-Turnout-Variant: {wish}")


def counted(gateway: Gateway) -> dict[str, int]:
    """Return how many requests the judge would see, by side."""
    tally = gateway.worker.table.standings["r"].tally
    assert tally is not None
    return {role.value: sum(one.buckets.values()) for role, one in tally.live.items()}


def tripping(state: RolloutState, *, consecutive: int) -> RolloutState:
    """Return the state with a breaker that trips at so many failures in a row, in its worker alone."""
    assert state.spec is not None
    return replace(state, spec=replace(state.spec, breaker=BreakerSpec(consecutive=consecutive, fleet="local")))


@pytest.mark.parametrize("weight_bp", [1, 5_000, 10_000])
async def test_se7_a_named_peer_chooses_its_side(bench: Bench, weight_bp: int) -> None:
    """At every weight above 0, both sides; the answer says who served."""
    await bench.gateway(route_of(*await two(bench)), states=[started(weight_bp)], override_networks=ME)
    client = await bench.client()
    assert await asking(client, "candidate") == ["candidate"] * 20
    assert await asking(client, "stable") == ["stable"] * 20


@pytest.mark.parametrize("allowed", [(), ("10.0.0.0/8",), ("::1",)])
async def test_se7_anybody_elses_wish_is_nothing(bench: Bench, allowed: tuple[str, ...]) -> None:
    """Unless its network is named the field ends at the gateway, unheard; by default nobody's is."""
    stable, candidate = await two(bench)
    await bench.gateway(route_of(stable, candidate), states=[started(10_000)], override_networks=allowed)
    assert await asking(await bench.client(), "stable", 5) == ["candidate"] * 5
    assert not candidate.requests[0].all("x-turnout-variant")


@pytest.mark.parametrize("wish", ["", "Candidate", "candidate, stable", "v2", "\xfc"])
async def test_a_wish_for_no_side_is_none(bench: Bench, wish: str) -> None:
    """The request is drawn like any other, and counted."""
    gateway = await bench.gateway(route_of(*await two(bench)), states=[started(10_000)], override_networks=ME)
    assert await asking(await bench.client(), wish, 3) == ["candidate"] * 3
    assert counted(gateway)["candidate"] == 3


async def test_weight_0_abort_and_no_rollout_beat_the_wish(bench: Bench) -> None:
    """design.md section 5: the candidate serves nobody who asks for it where it serves nobody else."""
    gateway = await bench.gateway(route_of(*await two(bench)), states=[started(0)], override_networks=ME)
    client = await bench.client()
    assert await asking(client, "candidate", 3) == ["stable"] * 3
    await gateway.expose(weight_bp=5_000)
    assert await asking(client, "candidate", 3) == ["candidate"] * 3
    await gateway.decide(RollBack(reason="test"))
    assert await asking(client, "candidate", 3) == ["stable"] * 3


async def test_a_tripped_breaker_beats_the_wish(bench: Bench) -> None:
    """Trip it by drawn requests; from then on the wish for the candidate goes to stable."""
    stable, candidate = await two(bench, ERROR)
    states = [tripping(started(10_000), consecutive=3)]
    gateway = await bench.gateway(route_of(stable, candidate), states=states, override_networks=ME)
    client = await bench.client()
    for _ in range(10):
        await client.ask("POST", "/", b"x")
    assert gateway.worker.table.standings["r"].tripped
    assert await asking(client, "candidate", 3) == ["stable"] * 3


@pytest.mark.parametrize("wish", ["candidate", "stable"])
async def test_what_was_chosen_is_no_evidence(bench: Bench, wish: str) -> None:
    """Counted in turnout_requests_total; not in the judge's tallies, not by key, and not copied."""
    stable, candidate = await two(bench)
    affinity = (AffinitySource(AffinityKind.HEADER, "x-user-id"),)
    gateway = await bench.gateway(
        route_of(stable, candidate, affinity=affinity), states=[started(5_000, 10_000)], override_networks=ME
    )
    client = await bench.client()
    for number in range(10):
        await client.ask("POST", "/", b"x", f"X-Turnout-Variant: {wish}", f"X-User-Id: {number}")
    assert counted(gateway) == {"stable": 0, "candidate": 0}
    assert gateway.outcomes("v2" if wish == "candidate" else "v1") == {"ok": 10}
    assert not (stable if wish == "candidate" else candidate).requests
    assert await gateway.pairs(0) == []


async def test_a_chosen_candidate_is_not_rescued_and_trips_nothing(bench: Bench) -> None:
    """Its failure is seen by who asked for it, and takes the candidate from nobody else."""
    stable, candidate = await two(bench, ERROR)
    states = [tripping(started(5_000), consecutive=2)]
    gateway = await bench.gateway(route_of(stable, candidate), states=states, override_networks=ME)
    client = await bench.client()
    assert [(await wished(client, "candidate")).status for _ in range(10)] == [500] * 10
    assert not gateway.worker.table.standings["r"].tripped
    assert gateway.rescues() == {}
    assert stable.requests == []
