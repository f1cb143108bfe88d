"""How fast an operator's word reaches every request: abort, and the way between the three policies."""

import statistics
import time
from collections.abc import Callable, Mapping

import pytest

from tests.e2e.harness import Admin, Turnouts, config_for
from tests.e2e.load import Load
from tests.e2e.model_server import ModelServer, Seen

HALF = {"candidate": "v2", "policy": "canary", "steps": [{"weight": "50%", "mirror": "50%"}]}
LATE_S = 0.050
"""Issue 2: nothing that starts later than this after the reply to an abort reaches the candidate."""
WATCHED_S = 0.2
"""How long the load goes on after a flip, to see who still goes where."""


class Watch:
    """Tells of the requests that reached a server when they were started, on the clients' clock."""

    def __init__(self, server: ModelServer) -> None:
        self._server = server
        server.seen.clear()

    def last_start_s(self, chosen: Callable[[Seen], bool]) -> float:
        """Return when the last request was started of those that reached the server and are chosen."""
        return max((float(seen.headers["x-started"]) for seen in self._server.seen if chosen(seen)), default=0.0)


def is_any(_: Seen) -> bool:
    """Choose live requests and copies alike."""
    return True


def is_live(seen: Seen) -> bool:
    """Choose live requests."""
    return not seen.is_copy


async def abort_once(admin: Admin, load: Load, candidate: ModelServer) -> tuple[float, float]:
    """Abort under load; return how long the call took and when, after its reply, the last one started that arrived."""
    await load.until_answered(100)
    watch = Watch(candidate)
    await load.until_answered(50)
    asked_s = time.monotonic()
    rollout = await admin.post("/rollout/abort", reason="a test of aborting")
    replied_s = time.monotonic()
    assert (rollout["phase"], rollout["exposure"]["weight_bp"]) == ("rolled_back", 0)
    await load.keep_on(WATCHED_S)
    assert watch.last_start_s(is_any), "the load never reached the candidate"
    return replied_s - asked_s, watch.last_start_s(is_any) - replied_s


async def aborts(turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, times: int) -> str:
    """Abort `times` times, each time a new attempt, and return the figures."""
    serve = await turnouts.start(config_for(stable, candidate, rollout=HALF))
    admin = Admin(serve.port("admin"))
    await admin.until_routed()
    calls_s, reaches_s = [], []
    async with Load(serve.port("gateway")).running() as load:
        for attempt in range(times):
            if attempt:
                await admin.post("/rollout/retry", reason="once more")
            await admin.until_routed()
            call_s, reach_s = await abort_once(admin, load, candidate)
            calls_s.append(call_s)
            reaches_s.append(reach_s)
    assert load.errors == []
    assert max(reaches_s) <= LATE_S
    return (
        f"{times} aborts: last start to reach the candidate, after the reply: max {1000 * max(reaches_s):+.1f} ms, "
        f"median {1000 * statistics.median(reaches_s):+.1f} ms; "
        f"the call itself: median {1000 * statistics.median(calls_s):.1f} ms, max {1000 * max(calls_s):.1f} ms"
    )


async def test_after_an_abort_nothing_reaches_the_candidate(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """Under load, no request and no copy that starts 50 ms after the reply arrives there; three times."""
    figure(await aborts(turnouts, stable, candidate, 3))


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_after_each_of_many_aborts_nothing_reaches_the_candidate(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """The same, sixty times."""
    figure(await aborts(turnouts, stable, candidate, 60))


@pytest.mark.parametrize("turns", [1, pytest.param(3, marks=pytest.mark.slow)])
async def test_flips_between_the_policies_reach_every_request(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None], turns: int
) -> None:
    """Shadow, canary, blue/green and back, under load: 50 ms after each reply live requests go where they should."""
    serve = await turnouts.start(config_for(stable, candidate, rollout={"candidate": "v2", "policy": "shadow"}))
    admin = Admin(serve.port("admin"))
    await admin.until_routed()
    late_s: list[float] = []
    async with Load(serve.port("gateway")).running() as load:

        async def flip(change: Mapping[str, str], silent: ModelServer | None, weight_bp: int) -> None:
            watches = Watch(stable), Watch(candidate)
            await load.until_answered(50)
            rollout = await admin.patch(**change, reason="a flip")
            replied_s = time.monotonic()
            assert (rollout["policy"], rollout["exposure"]["weight_bp"]) == (change["policy"], weight_bp)
            await load.keep_on(WATCHED_S)
            if silent is not None:
                last_s = watches[silent is candidate].last_start_s(is_live)
                late_s.append(last_s - replied_s if last_s else 0.0)
                assert late_s[-1] <= LATE_S

        for _ in range(turns):
            await flip({"policy": "canary", "weight": "50%"}, None, 5_000)
            assert all(any(is_live(seen) for seen in server.seen[-50:]) for server in (stable, candidate))
            await flip({"policy": "blue_green", "weight": "100%"}, stable, 10_000)
            await flip({"policy": "shadow"}, candidate, 0)
            await flip({"policy": "blue_green", "weight": "100%", "mirror": "0%"}, stable, 10_000)
            await flip({"policy": "canary", "weight": "0%"}, candidate, 0)
            await flip({"policy": "shadow"}, candidate, 0)
    assert load.errors == []
    records = await admin.get("/decisions?limit=100")
    flips = records[: 6 * turns]
    assert [record["kind"] for record in flips] == ["set_policy"] * 6 * turns
    assert all(record["reason"] == "a flip" for record in flips)
    figure(f"{len(late_s)} flips: last start on the old side, after the reply: max {1000 * max(late_s):+.1f} ms")
