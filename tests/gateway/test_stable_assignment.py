"""DP11: a key keeps its side on every replica, over restarts and ramps, and the shares are what they say."""

from collections.abc import Callable, Sequence

import pytest

from router.core.traffic import AffinityKind, AffinitySource, Role
from router.gateway import heads
from tests.e2e.conftest import figure
from tests.gateway.bench import Bench, Gateway, route_of, started
from tests.gateway.upstreams import answering, ok

__all__ = ["figure"]

KEYS = 100_000
RAMP_BP = (100, 500, 2_500, 10_000, 0)
BY_USER = (AffinitySource(AffinityKind.HEADER, "x-user-id"),)


def heads_of(keys: int) -> list[heads.RequestHead]:
    """Return the head of one request for each key."""
    made = []
    for number in range(keys):
        head = heads.read_request(b"POST", b"/", "1.1", [(b"Host", b"svc"), (b"X-User-Id", b"user-%d" % number)])
        assert isinstance(head, heads.RequestHead)
        made.append(head)
    return made


def candidates(gateway: Gateway, requests: Sequence[heads.RequestHead], number: int) -> set[int]:
    """Return which keys this replica's present table sends to the candidate; `number` makes its request ids its own."""
    assign = gateway.worker.table.standings["r"].assign
    found = set()
    for key, head in enumerate(requests):
        assignment = assign(head, b"%d-%d" % (number, key))[0]
        if assignment is not None and assignment.serve is Role.CANDIDATE:
            found.add(key)
    return found


@pytest.mark.slow
async def test_dp11_a_hundred_thousand_keys_keep_their_sides(bench: Bench, figure: Callable[[str], None]) -> None:
    """Three replicas and a restarted one agree at each weight; a ramp only adds keys; 10 % are 10 % +/- 0.3 points."""
    route = route_of(
        await bench.upstream(answering(ok(b"stable"))), await bench.upstream(answering(ok(b"candidate"))),
        affinity=BY_USER,
    )  # fmt: skip
    first, *others = [await bench.gateway(route, states=[started(100)]) for _ in range(3)]
    requests = heads_of(KEYS)
    shares, before = [], set[int]()
    for weight_bp in RAMP_BP:
        await first.expose(weight_bp=weight_bp)
        now = candidates(first, requests, 0)
        shares.append(100 * len(now) / KEYS)
        assert now >= before or weight_bp == 0, "a raised weight has taken a key away"
        before = now
    assert shares == pytest.approx([weight_bp / 100 for weight_bp in RAMP_BP], abs=0.3)
    await first.expose(weight_bp=1_000)
    tenth = candidates(first, requests, 0)
    assert 100 * len(tenth) / KEYS == pytest.approx(10.0, abs=0.3)
    restarted = await bench.gateway(route, states=[started(100)], boot="again")
    for number, replica in enumerate([*others, restarted], 1):
        await replica.expose(weight_bp=1_000)
        assert candidates(replica, requests, number) == tenth
    figure(f"{KEYS:,} keys: {', '.join(f'{share:.2f} %' for share in shares)}; {len(tenth) / KEYS:.2%} at 10 %")
