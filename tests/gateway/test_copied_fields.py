"""Copies carry nothing that would let the variant on trial act in a client's name (MI6)."""

import pytest

from router.core.rollout import RolloutState
from router.core.traffic import WITHHELD, AffinityKind, AffinitySource, MirrorLimits
from tests.gateway.bench import ROLLOUT, Bench, route_of, started, until
from tests.gateway.upstreams import Received, Visit, never, ok

SECRETS = (
    "Authorization: Bearer s3cret", "Cookie: uid=anna", "cookie: session=s3cret", "Proxy-Authorization: Basic czNjcmV0",
    "Idempotency-Key: s3cret", "X-Api-Key: s3cret",
)  # fmt: skip
NAMES = ("authorization", "cookie", "idempotency-key", "proxy-authorization", "x-api-key")


async def copied(
    bench: Bench, mirror: MirrorLimits, state: RolloutState, **settings: object
) -> tuple[Received, Received]:
    """Return what stable and candidate have received of one request with SECRETS."""
    stable, candidate = await bench.upstream(), await bench.upstream()
    gateway = await bench.gateway(route_of(stable, candidate, mirror=mirror, **settings), states=[state])
    client = await bench.client()
    assert (await client.ask("POST", "/", b"x", *SECRETS, "X-Other: kept")).status == 200
    await gateway.pairs(1)
    return stable.requests[0], candidate.requests[0]


def carried(received: Received) -> list[str]:
    """Return which of NAMES it carries."""
    return [name for name in NAMES if received.all(name)]


@pytest.mark.parametrize(
    ("mirror", "expected"),
    [
        (MirrorLimits(), ["x-api-key"]),
        (MirrorLimits(withheld=(*WITHHELD, "x-api-key")), []),
        (MirrorLimits(withheld=("idempotency-key", "proxy-authorization")), ["authorization", "cookie", "x-api-key"]),
        (MirrorLimits(withheld=()), list(NAMES)),
    ],
    ids=["default", "one more", "two allowed", "all allowed"],
)
@pytest.mark.parametrize("serves", ["stable", "candidate"])
async def test_mi6_a_copy_carries_only_the_credentials_that_are_allowed(
    bench: Bench, mirror: MirrorLimits, expected: list[str], serves: str
) -> None:
    """Whoever gets the copy; the live request has them all, and only the copy bears the mark."""
    shares = (0, 10_000) if serves == "stable" else (10_000, 10_000)
    received = await copied(bench, mirror, started(*shares))
    live, copy = received if serves == "stable" else received[::-1]
    assert (carried(live), carried(copy)) == (list(NAMES), expected)
    assert (live.field("x-turnout-mirror"), copy.field("x-turnout-mirror")) == (None, ROLLOUT)
    assert (live.field("x-other"), copy.field("x-other")) == ("kept", "kept")


async def test_mi6_a_cookie_that_is_the_affinity_key_is_no_exception(bench: Bench) -> None:
    """It chooses the side, and the copy goes without it."""
    sources = (AffinitySource(AffinityKind.COOKIE, "uid"),)
    live, copy = await copied(bench, MirrorLimits(), started(0, 10_000), affinity=sources)
    assert (live.all("cookie"), copy.all("cookie")) == (["uid=anna", "session=s3cret"], [])


async def test_mi6_a_rescue_is_the_clients_own_request_and_keeps_its_credentials(bench: Bench) -> None:
    """Stable answers in the candidate's place: without them it would refuse the client."""

    async def failing(visit: Visit) -> None:
        async for _ in visit.requests():
            await visit.send(ok(b"no", status="500 No"))

    stable, candidate = await bench.upstream(), await bench.upstream(failing)
    await bench.gateway(route_of(stable, candidate), states=[started(10_000, 0)])
    client = await bench.client()
    answer = await client.ask("POST", "/", b"x", *SECRETS)
    assert (answer.status, answer.field("x-turnout-rescued")) == (200, "http_error")
    assert (carried(candidate.requests[0]), carried(stable.requests[0])) == (list(NAMES), list(NAMES))
    assert stable.requests[0].field("x-turnout-mirror") is None


async def test_mi6_a_post_to_a_route_not_marked_safe_is_never_sent_twice(bench: Bench) -> None:
    """Neither as a copy nor as a rescue once its bytes were sent: the candidate that never answers has it alone."""
    stable, candidate = await bench.upstream(), await bench.upstream(never)
    gateway = await bench.gateway(route_of(stable, candidate, mirror_safe=False), states=[started(10_000, 10_000)])
    client = await bench.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: svc\r\nContent-Length: 1\r\n\r\nx")
    await until(lambda: candidate.requests, "the candidate has it")
    gateway.pass_time(31.0)
    assert (await client.answer("POST")).status == 504
    assert (stable.visits, gateway.dropped("copy", "not_mirror_safe")) == ([], 1)
