"""Affinity keys are counted once over all replicas, however many requests they send."""

from collections.abc import Mapping
from dataclasses import replace

from router.core.observations import CounterKey
from router.core.rollout import FULL_BP, GateSpec, RolloutState, Spec
from router.core.traffic import AffinityKind, AffinitySource, Role, Route
from router.gateway.firsts import REQUEST, WAITING, FirstRequest
from router.testing import MemoryServer
from tests.gateway.bench import ROLLOUT, Bench, Gateway, route_of, started, until
from tests.gateway.upstreams import Upstream, answering, ok

BY_USER = (AffinitySource(AffinityKind.HEADER, "x-user"),)


def of_users(stable: Upstream, candidate: Upstream, **settings: object) -> Route:
    """Return a Route on which users stay on one side."""
    return route_of(stable, candidate, affinity=BY_USER, **settings)


async def ask(bench: Bench, gateway: Gateway, user: str | None, times: int = 1) -> None:
    """Send requests of one user, or of nobody in particular."""
    client = await bench.client(gateway)
    fields = [] if user is None else [f"x-user: {user}"]
    for _ in range(times):
        await client.ask("POST", "/", b"x", *fields)


async def counted(*gateways: Gateway) -> Mapping[tuple[int, str, str, str], int]:
    """Return what all of them have counted by key, without cuts: (exposure, metric, variant, cell) to number."""
    found: dict[tuple[int, str, str, str], int] = {}
    for gateway in gateways:
        await gateway.worker.recorder.flush()
    for cells in (await gateways[0].store.evidence("r", ROLLOUT)).values():
        for key, value in cells.items():
            if key.metric.startswith("key:") and "@" not in key.metric:
                at = (key.exposure, key.metric.removeprefix("key:"), key.variant, key.cell)
                found[at] = found.get(at, 0) + value
    return found


async def test_a_user_counts_once_however_many_requests_come(bench: Bench) -> None:
    """Three users, ten requests each: three starts and three ends, each of a key that nobody had seen."""
    gateway = await bench.gateway(
        of_users(await bench.upstream(), await bench.upstream()), states=[started(FULL_BP, 0)]
    )
    for user in ("anna", "bert", "carl"):
        await ask(bench, gateway, user, times=10)
    found = await counted(gateway)
    assert found[1, "started", "candidate", "all/0"] == 3
    assert found[1, "outcome", "candidate", "ok/0"] == 3


async def test_replicas_count_a_user_once_together(bench: Bench) -> None:
    """Both see anna first, as far as they know; the store knows better."""
    server, (stable, candidate) = MemoryServer(), (await bench.upstream(), await bench.upstream())
    states = [started(FULL_BP, 0)]
    one = await bench.gateway(of_users(stable, candidate), states=states, server=server)
    two = await bench.gateway(of_users(stable, candidate), states=states, server=server)
    for gateway in (one, two):
        await ask(bench, gateway, "anna", times=3)
    await ask(bench, two, "bert")
    found = await counted(one, two)
    assert found[1, "started", "candidate", "all/0"] == 2


async def test_a_new_exposure_remembers_when_a_user_was_seen_last(bench: Bench) -> None:
    """In the second exposure anna was last seen in the first; the new user never was."""
    gateway = await bench.gateway(
        of_users(await bench.upstream(), await bench.upstream()), states=[started(FULL_BP, 0)]
    )
    await ask(bench, gateway, "anna", times=2)
    await gateway.worker.recorder.flush()
    after = await gateway.expose(weight_bp=0)
    await ask(bench, gateway, "anna", times=2)
    await ask(bench, gateway, "dora")
    found = await counted(gateway)
    assert found[after.exposure.id, "started", "stable", "all/1"] == 1
    assert found[after.exposure.id, "started", "stable", "all/0"] == 1


async def test_a_request_without_a_key_is_a_unit_by_itself(bench: Bench) -> None:
    """Nobody else can have sent it."""
    gateway = await bench.gateway(
        of_users(await bench.upstream(), await bench.upstream()), states=[started(FULL_BP, 0)]
    )
    await ask(bench, gateway, None, times=4)
    assert (await counted(gateway))[1, "started", "candidate", "all/0"] == 4


async def test_a_users_first_pair_is_compared_once(bench: Bench) -> None:
    """Ten copies of one user say as much about the models as one."""
    gateway = await bench.gateway(
        of_users(await bench.upstream(answering(ok(b"a"))), await bench.upstream(answering(ok(b"b")))),
        states=[started(0, FULL_BP)],
    )
    await ask(bench, gateway, "anna", times=10)
    await gateway.pairs(10)
    found = await counted(gateway)
    assert found[1, "agreement", "pair", "different/0"] == 1
    assert found[1, "pair_failure", "pair", "fine/fine/0"] == 1


async def test_first_failures_are_counted_where_no_increase_is_allowed(bench: Bench) -> None:
    """A user may fail later than at the first request, and then counts once."""
    second_fails = answering(ok(b"x"), ok(b"x", status="500 Oops"), ok(b"x"), ok(b"x", status="500 Oops"))
    strict = GateSpec("errors", "error_rate", max_increase=0.0)
    state: RolloutState = started(FULL_BP, 0)
    state = replace(state, spec=Spec("v2", "canary", gates=(strict,)))
    gateway = await bench.gateway(of_users(await bench.upstream(), await bench.upstream(second_fails)), states=[state])
    await ask(bench, gateway, "anna", times=4)
    found = await counted(gateway)
    assert found[1, "failure", "candidate", "all/0"] == 1
    assert found[1, "outcome", "candidate", "ok/0"] == 1


async def test_while_the_store_is_away_keys_wait_and_are_counted_when_it_is_back(bench: Bench) -> None:
    """Nothing on the request path waits for the answer."""
    gateway = await bench.gateway(
        of_users(await bench.upstream(), await bench.upstream()), states=[started(FULL_BP, 0)]
    )
    gateway.server.cut()
    for user in ("anna", "bert"):
        await ask(bench, gateway, user, times=3)
    await until(lambda: len(gateway.worker.recorder.firsts) == 2, "two keys wait")
    gateway.server.mend()
    assert (await counted(gateway))[1, "outcome", "candidate", "ok/0"] == 2


async def test_keys_beyond_what_may_wait_are_dropped_and_counted(bench: Bench) -> None:
    """The request itself is answered; its key counts for nobody, and the metric says so."""
    gateway = await bench.gateway(
        of_users(await bench.upstream(), await bench.upstream()), states=[started(FULL_BP, 0)]
    )
    gateway.server.cut()
    firsts, standing = gateway.worker.recorder.firsts, gateway.worker.table.standings["r"]
    assert standing.tally is not None
    for cell in range(WAITING):
        assert firsts.ask(standing, standing.tally, REQUEST, cell, FirstRequest(Role.CANDIDATE))
    assert gateway.dropped("key", "keys_full") == 0
    await ask(bench, gateway, "anna", times=3)
    assert (gateway.dropped("key", "keys_full"), len(firsts)) == (1, WAITING)
    assert gateway.outcomes("v2") == {"ok": 3}


def test_a_counter_of_keys_is_read_back_with_its_exposure() -> None:
    """`/j` in a cell survives the store's field names."""
    key = CounterKey(4, "key:pair_failure", "", "pair", "fine/fail/3")
    assert key == CounterKey.from_field(key.to_field())
