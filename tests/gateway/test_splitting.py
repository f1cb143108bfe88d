"""Which variant serves: matching routes, shares, affinity, and the same answer in every worker."""

import pytest

from router.core.decisions import Actor, ActorKind, Pause, Promote, RollBack
from router.core.observations import Outcome
from router.core.traffic import AffinityKind, AffinitySource, Match, Role, Route, bucket_of
from tests.gateway.bench import ROLLOUT, Bench, Gateway, route_of, started, until
from tests.gateway.clients import Answer
from tests.gateway.upstreams import Upstream, answering, ok

SOURCES = (
    AffinitySource(AffinityKind.HEADER, "X-User-Id"),
    AffinitySource(AffinityKind.COOKIE, "uid"),
    AffinitySource(AffinityKind.QUERY, "user"),
)


async def two(bench: Bench) -> tuple[Upstream, Upstream]:
    """Return a stable and a candidate upstream that answer with their names."""
    return await bench.upstream(answering(ok(b"stable"))), await bench.upstream(answering(ok(b"candidate")))


def side_of(key: bytes, weight_bp: int) -> str:
    """Return the side that the rule of design.md section 5 gives a key."""
    return "candidate" if bucket_of(key, ROLLOUT, b"serve") < weight_bp else "stable"


def side(answer: Answer) -> str:
    """Return the side that answered, which the body and the field must agree on."""
    assert answer.field("x-turnout-variant") == answer.body.decode()
    return answer.body.decode()


@pytest.mark.parametrize(
    ("target", "fields"),
    [
        ("/", "X-User-Id: {}"),
        ("/", "x-user-id:   {}  "),
        ("/", "Cookie: a=b; uid={}; c=d"),
        ("/?user={}&x=y", "X-A: b"),
        ("/?a=b&user={}", "X-A: b"),
    ],
    ids=["header", "header in spaces", "cookie", "query", "last of query"],
)
async def test_a_user_is_on_the_side_of_its_key_wherever_the_key_comes_from(
    bench: Bench, target: str, fields: str
) -> None:
    """200 users at 50 %: each exactly where the hash says."""
    stable, candidate = await two(bench)
    await bench.gateway(route_of(stable, candidate, affinity=SOURCES), states=[started(5_000)])
    client = await bench.client()
    for number in range(200):
        answer = await client.ask("POST", target.format(number), b"x", fields.format(number))
        assert side(answer) == side_of(b"%d" % number, 5_000)
    assert (len(stable.requests), len(candidate.requests)) == (200 - len(candidate.requests), len(candidate.requests))


async def test_the_first_source_that_is_present_wins(bench: Bench) -> None:
    """Header before cookie before query, as the route lists them; an empty value is none."""
    stable, candidate = await two(bench)
    await bench.gateway(route_of(stable, candidate, affinity=SOURCES), states=[started(5_000)])
    client = await bench.client()
    for number in range(50):
        keys = (f"h{number}", f"c{number}", f"q{number}")
        every = await client.ask("POST", f"/?user={keys[2]}", b"x", f"X-User-Id: {keys[0]}", f"Cookie: uid={keys[1]}")
        cookie = await client.ask("POST", f"/?user={keys[2]}", b"x", "X-User-Id:", f"Cookie: uid={keys[1]}")
        assert (side(every), side(cookie)) == (side_of(keys[0].encode(), 5_000), side_of(keys[1].encode(), 5_000))


async def test_a_user_is_on_the_same_side_in_every_worker_and_after_a_restart(bench: Bench) -> None:
    """Two workers, and a third one with another boot id, agree on 100 users."""
    stable, candidate = await two(bench)
    route = route_of(stable, candidate, affinity=SOURCES)
    sides = []
    for _ in range(3):
        gateway = await bench.gateway(route, states=[started(3_000)])
        client = await bench.client(gateway)
        sides.append([side(await client.ask("GET", f"/?user={number}")) for number in range(100)])
    assert sides[0] == sides[1] == sides[2]
    assert set(sides[0]) == {"stable", "candidate"}


async def test_a_client_cannot_choose_its_side_by_the_request_id(bench: Bench) -> None:
    """Without an affinity key the internal id decides: one x-request-id is served by both sides."""
    stable, candidate = await two(bench)
    await bench.gateway(route_of(stable, candidate), states=[started(5_000)])
    client = await bench.client()
    sides = [side(await client.ask("POST", "/", b"x", "X-Request-Id: fixed")) for _ in range(200)]
    # 200 draws at 50 %: outside 65..135 with probability below 1e-6; the boot id is fixed, so is the result
    assert 65 <= sides.count("candidate") <= 135


@pytest.mark.parametrize(("weight_bp", "served"), [(0, {"stable"}), (10_000, {"candidate"})])
async def test_nothing_and_everything_are_exact(bench: Bench, weight_bp: int, served: set[str]) -> None:
    """0 % and 100 % know no exception."""
    stable, candidate = await two(bench)
    await bench.gateway(route_of(stable, candidate), states=[started(weight_bp)])
    client = await bench.client()
    assert {side(await client.ask("POST", "/", b"x")) for _ in range(50)} == served


async def test_a_new_weight_reaches_open_connections_and_only_adds_users(bench: Bench) -> None:
    """10 % -> 40 % -> 0 %: whoever was on the candidate stays there, until nobody is."""
    stable, candidate = await two(bench)
    gateway = await bench.gateway(route_of(stable, candidate, affinity=SOURCES), states=[started(1_000)])
    client = await bench.client()

    async def on_candidate() -> set[int]:
        return {one for one in range(150) if side(await client.ask("GET", f"/?user={one}")) == "candidate"}

    low = await on_candidate()
    await gateway.expose(weight_bp=4_000)
    high = await on_candidate()
    await gateway.expose(weight_bp=0)
    assert low < high
    assert await on_candidate() == set()


async def test_abort_and_promote_move_all_traffic(bench: Bench) -> None:
    """After a rollback the candidate gets nothing; after a promotion it is the stable one; a pause changes nothing."""
    operator = Actor(ActorKind.OPERATOR, "test")

    async def served(gateway: Gateway) -> set[str]:
        client = await bench.client(gateway)
        return {(await client.ask("POST", "/", b"x")).body.decode() for _ in range(20)}

    stable, candidate = await two(bench)
    route = route_of(stable, candidate)
    aborted = await bench.gateway(route, states=[started(10_000, 10_000)])
    promoted = await bench.gateway(route, states=[started(0)])
    await aborted.decide(Pause(reason="test"))
    assert await served(aborted) == {"candidate"}
    await aborted.decide(RollBack(reason="test"))
    assert await served(aborted) == {"stable"}
    await promoted.decide(Promote(reason="test", actor=operator, full=True))
    assert await served(promoted) == {"candidate"}
    assert promoted.worker.table.standings["r"].variant(Role.STABLE).variant.name == "v2"


async def test_a_request_keeps_the_state_it_began_with(bench: Bench) -> None:
    """The state changes while the request is in flight: it still counts for the exposure it began in."""
    stable, candidate = await two(bench)
    gateway = await bench.gateway(route_of(stable, candidate), states=[started(10_000)])
    client = await bench.client()
    first = gateway.worker.table.standings["r"]
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\nx")
    await until(lambda: candidate.visits, "the request is under way")
    await gateway.expose(weight_bp=0)
    await client.send(b"x" * 19_999)
    assert (await client.answer("POST")).body == b"candidate"
    assert first.tally is not None
    assert first.tally.live[Role.CANDIDATE].present.outcomes[Outcome.OK] == 1


def routes_of(upstreams: dict[str, Upstream], matches: dict[str, Match]) -> list[Route]:
    """Return one route for each match, each with its own upstream."""
    return [route_of(upstreams[name], name=name, match=match) for name, match in matches.items()]


@pytest.mark.parametrize(
    ("target", "fields", "route"),
    [
        ("/v2/models/digits/infer", (), "digits"),
        ("/v2/models/digits", (), "digits"),
        ("/v2/models/digits?x=y", (), "digits"),
        ("/v2/models/digits2", (), "models"),
        ("/v2/models/digits/infer", ("X-Tenant: acme",), "tenant"),
        ("/v2/models/digits/infer", ("x-tenant: other",), "digits"),
        ("/", (), None),
        ("/v2/other", (), None),
    ],
)
async def test_the_longest_matching_prefix_wins(
    bench: Bench, target: str, fields: tuple[str, ...], route: str | None
) -> None:
    """By whole path segments; conditions on fields are more specific; nothing that matches is 404."""
    matches = {
        "models": Match("/v2/models"),
        "digits": Match("/v2/models/digits"),
        "tenant": Match("/v2/models/digits", headers=(("x-tenant", "acme"),)),
    }
    upstreams = {name: await bench.upstream(answering(ok(name.encode()))) for name in matches}
    await bench.gateway(routes_of(upstreams, matches))
    client = await bench.client()
    answer = await client.ask("POST", target, b"x", *fields)
    if route is None:
        assert (answer.status, answer.field("content-type")) == (404, "application/problem+json")
    else:
        assert (answer.status, answer.body.decode()) == (200, route)


@pytest.mark.parametrize(
    ("host", "route"), [("a.test", "a"), ("A.TEST", "a"), ("a.test:8080", "a"), ("b.test", "any"), ("[::1]:80", "any")]
)
async def test_a_route_may_ask_for_a_host(bench: Bench, host: str, route: str) -> None:
    """Names are compared without case and port."""
    matches = {"any": Match("/"), "a": Match("/", host="a.test")}
    upstreams = {name: await bench.upstream(answering(ok(name.encode()))) for name in matches}
    await bench.gateway(routes_of(upstreams, matches))
    client = await bench.client()
    await client.send(f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n".encode())
    assert (await client.answer("POST")).body.decode() == route
