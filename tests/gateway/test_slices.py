"""Slices in a worker: counted by header and by body, told to control while places are free, and kept with each pair."""

import json
from dataclasses import replace

import pytest

from router.core.decisions import GivePlaces
from router.core.observations import CounterKey
from router.core.rollout import GateSpec
from router.core.slices import WATCHED, Popular, SliceSource, places_of
from router.core.traffic import AffinityKind, AffinitySource
from tests.gateway.bench import ROLLOUT, Bench, Gateway, route_of, started, until
from tests.gateway.upstreams import Visit, answering, ok

TENANT, REGION = SliceSource.parse("header:x-tenant"), SliceSource.parse("json:$.region")


NAMED = ("tenant=acme", "region=eu")


async def sliced(
    bench: Bench,
    *,
    weight_bp: int = 0,
    mirror_bp: int = 10_000,
    affinity: bool = False,
    gates: tuple[GateSpec, ...] = (),
) -> Gateway:
    """Return a gateway whose Route has two sources of slices, each with one value that has a place, and a free one."""
    variants = [await bench.upstream(answering(ok(body))) for body in (b"1", b"2")]
    keys = (AffinitySource(AffinityKind.HEADER, "x-user"),) if affinity else ()
    route = route_of(variants[0], variants[1], slices=(TENANT, REGION), affinity=keys)
    state = started(weight_bp, mirror_bp)
    assert state.spec is not None
    slices = places_of(route.slices, 2, NAMED)
    return await bench.gateway(route, states=[replace(state, slices=slices, spec=replace(state.spec, gates=gates))])


Found = dict[tuple[str, str, str, str], int]


async def counters(gateway: Gateway) -> Found:
    """Return what the store has when all is written, by (metric, slice, variant, cell); the newest cut only."""
    await gateway.worker.recorder.flush()
    boots = await gateway.store.evidence("r", ROLLOUT)
    found: Found = {}
    for counted in boots.values():
        for key, number in counted.items():
            place = key.metric, key.slice, key.variant, key.cell
            found[place] = found.get(place, 0) + number
    return found


def of_cell(found: Found, *cell: str) -> dict[str, int]:
    """Return one cell (metric, variant, name) by slice."""
    return {slice_: n for (metric, slice_, *rest), n in found.items() if (metric, *rest) == cell}


async def test_requests_and_pairs_are_counted_by_slice_and_pairs_keep_their_values(bench: Bench) -> None:
    """By header of all requests, by body of copied ones; what is missing or no value is `none`."""
    gateway = await sliced(bench)
    client = await bench.client()
    for tenant, region in (("acme", "eu"), ("acme", None), ("bolt", "us"), (None, "eu")):
        fields = [f"x-tenant: {tenant}"] if tenant else []
        body = json.dumps({"region": region} if region else [1]).encode()
        assert (await client.ask("POST", "/", body, *fields)).status == 200
    pairs = await gateway.pairs(4)
    assert [dict(pair.slices) for pair in pairs] == [
        {"tenant": "acme", "region": "eu"},
        {"tenant": "acme", "region": "none"},
        {"tenant": "bolt", "region": "us"},
        {"tenant": "none", "region": "eu"},
    ]
    found = await counters(gateway)
    live = {
        slice_: n
        for (metric, slice_, role, cell), n in found.items()
        if (metric, role, cell) == ("outcome", "stable", "ok")
    }
    assert live == {"": 4, "tenant=acme": 2, "tenant=other": 1, "tenant=none": 1}
    different = {
        slice_: n for (metric, slice_, _, cell), n in found.items() if (metric, cell) == ("agreement", "different")
    }
    assert different == {**live, "region=eu": 2, "region=none": 1, "region=other": 1}
    assert [slice_ for metric, slice_, *_ in found if metric == "started" and slice_] == []


async def test_with_affinity_keys_each_key_counts_once_in_the_slice_of_its_first_request(bench: Bench) -> None:
    """As it does among all requests."""
    gateway = await sliced(bench, affinity=True)
    client = await bench.client()
    for user in ("ann", "ann", "bob", "ann"):
        await client.ask("POST", "/", b"{}", f"x-user: {user}", "x-tenant: acme")
    await gateway.pairs(4)
    found = await counters(gateway)
    assert found["key:outcome", "tenant=acme", "stable", "ok/0"] == 2
    assert found["key:agreement", "tenant=acme", "pair", "different/0"] == 2
    assert found["outcome", "tenant=acme", "stable", "ok"] == 4


async def test_control_is_told_of_values_without_a_place_and_what_gets_one_is_counted_from_then_on(
    bench: Bench,
) -> None:
    """A request belongs where its value had its place when the request came, however long it takes."""
    gateway = await sliced(bench, mirror_bp=0)
    client = await bench.client()
    for number in range(30):
        await client.ask("POST", "/", b"", f"x-tenant: {'bolt' if number % 3 else 'acme'}")
    await client.ask("POST", "/", b"")
    told = gateway.worker.table.popular()
    assert told == {"r": Popular(ROLLOUT, {"region": 0, "tenant": 31}, {"tenant=bolt": 20})}
    state = gateway.worker.table.standings["r"].state
    given = tuple("tenant=bolt" if place == "tenant=" else place for place in state.slices)
    await gateway.decide(GivePlaces(reason="often", slices=given))
    await client.ask("POST", "/", b"", "x-tenant: bolt")
    assert gateway.worker.table.popular() == {"r": Popular(ROLLOUT, {"region": 0}, {})}
    found = of_cell(await counters(gateway), "outcome", "stable", "ok")
    assert found == {"": 32, "tenant=acme": 10, "tenant=other": 20, "tenant=none": 1, "tenant=bolt": 1}


async def test_what_one_worker_keeps_and_tells_is_bounded_whatever_clients_send(bench: Bench) -> None:
    """A new tenant with each request, a value of 20 KiB, bytes that are no UTF-8, an empty one: all are counted."""
    gateway = await sliced(bench, mirror_bp=0)
    client = await bench.client()
    odd = ["\u00ff\u00fe", "x" * 20_000, "", "a|b", "=", "\t"]
    for number in range(2 * WATCHED):
        await client.ask("POST", "/", b"", f"x-tenant: made up {number}")
    for value in odd:
        await client.ask("POST", "/", b"", f"x-tenant: {value}")
    total = 2 * WATCHED + len(odd)
    (told,) = gateway.worker.table.popular().values()
    assert told.requests == {"region": 0, "tenant": total}
    assert len(told.slices) <= 2
    assert max(map(len, told.slices)) <= len("tenant=") + 32
    found = of_cell(await counters(gateway), "outcome", "stable", "ok")
    assert found == {"": total, "tenant=other": total - 2, "tenant=none": 2}


async def test_of_a_path_that_leads_nowhere_or_to_many_values_there_is_none(bench: Bench) -> None:
    """As of a body that is no JSON, is nested 10,000 deep, or too long to be read."""
    gateway = await sliced(bench)
    client = await bench.client()
    bodies = [b"{}", b'{"region": ["eu", "us"]}', b'{"region": {"eu": 1}}', b'{"region": null}', b"[1]", b"\xff\xfe{",
              b"[" * 10_000, b'{"region": "eu", "x": "%b"}' % (b"x" * 20_000)]  # fmt: skip
    for body in bodies:
        assert (await client.ask("POST", "/", body)).status == 200
    await client.ask("POST", "/", b'{"region": "a", "region": "eu"}')
    pairs = await gateway.pairs(len(bodies) + 1)
    assert [dict(pair.slices)["region"] for pair in pairs] == [*["none"] * len(bodies), "eu"]
    found = of_cell(await counters(gateway), "agreement", "pair", "different")
    assert found == {"": 9, "tenant=none": 9, "region=none": 8, "region=eu": 1}


async def test_a_pair_whose_candidate_failed_before_the_copy_counts_wherever_its_body_may_belong(bench: Bench) -> None:
    """Nobody reads such a body, and a candidate must not gain by failing: its answer is missing in all of them."""

    async def hangs_up(visit: Visit) -> None:
        await visit.read()

    route = route_of(await bench.upstream(answering(ok(b"1"))), await bench.upstream(hangs_up), slices=(TENANT, REGION))
    state = replace(started(10_000, 10_000), slices=places_of(route.slices, 2, NAMED))
    gateway = await bench.gateway(route, states=[state])
    client = await bench.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nx-tenant: acme\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
    await until(lambda: gateway.outcomes("v2"), "the candidate has failed in the middle of the upload")
    await client.send(b"1\r\n}\r\n0\r\n\r\n")
    assert (await client.answer("POST")).status == 200
    found = of_cell(await counters(gateway), "pair", "pair", "candidate:reset")
    assert found == {"": 1, "tenant=acme": 1, "region=eu": 1, "region=other": 1, "region=none": 1}


async def test_first_failures_of_keys_are_counted_in_the_slice_of_their_request(bench: Bench) -> None:
    """For a gate that allows no more errors at all, asked of one tenant."""
    failing = await bench.upstream(answering(b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n"))
    route = route_of(failing, failing, slices=(TENANT,), affinity=(AffinitySource(AffinityKind.HEADER, "x-user"),))
    state = started()
    assert state.spec is not None
    gates = (GateSpec("acme", "error_rate", max_increase=0.0, slice="tenant=acme"),)
    state = replace(state, slices=places_of(route.slices, 1, ["tenant=acme"]), spec=replace(state.spec, gates=gates))
    gateway = await bench.gateway(route, states=[state])
    client = await bench.client()
    for user, tenant in (("ann", "acme"), ("ann", "acme"), ("bob", "acme"), ("cid", "bolt")):
        await client.ask("POST", "/", b"{}", f"x-user: {user}", f"x-tenant: {tenant}")
    await gateway.worker.recorder.flush()
    found = of_cell(await counters(gateway), "key:failure", "stable", "all/0")
    assert found == {"": 3, "tenant=acme": 2, "tenant=other": 1}


async def test_a_route_whose_rollout_began_without_slices_goes_on_without(bench: Bench) -> None:
    """As after an upgrade, or after `slices:` was added to the file: the next rollout has them."""
    variants = [await bench.upstream(answering(ok(body))) for body in (b"1", b"2")]
    gateway = await bench.gateway(route_of(*variants, slices=(TENANT,)), states=[started(0, 10_000)])
    client = await bench.client()
    await client.ask("POST", "/", b"{}", "x-tenant: acme")
    (pair,) = await gateway.pairs(1)
    assert pair.slices == ()
    assert {slice_ for _, slice_, *_ in await counters(gateway)} == {""}
    assert gateway.worker.table.popular() == {}


@pytest.mark.parametrize("value", ["a|b%7C", "a=b", "\u00e9\u00ff", "\\xff"])
def test_any_value_survives_the_store(value: str) -> None:
    """Counters are fields of a hash, whose separators a value may hold."""
    key = CounterKey(1, "outcome", f"tenant={value}", "stable", "ok")
    assert key == CounterKey.from_field(key.to_field())
