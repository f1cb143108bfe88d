"""A candidate that fails everything: each replica takes its traffic away by itself, and the fleet follows at once."""

import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.e2e.harness import Admin, Turnout, Turnouts, config_for, slowdown
from tests.e2e.load import Load, until, worker_of
from tests.e2e.model_server import FailingServer, ModelServer
from tests.e2e.wire import Answer

REPLICAS = 3
CONSECUTIVE = 5
FLEET_S = 0.25
CLIENTS = 32
CANARY = {"candidate": "v2", "policy": "canary", "steps": [{"weight": "10%", "mirror": "0%"}]}


@pytest.fixture
async def broken() -> AsyncIterator[FailingServer]:
    """The server of v2."""
    server = FailingServer(2)
    async with server.running():
        yield server


class Breach:
    """Notes, as the clients see it, when the first replica has had five failures of the candidate, and all of them."""

    def __init__(self) -> None:
        self.at_s = 0.0
        self.failures: Counter[str] = Counter()

    def __call__(self, answer: Answer) -> None:
        """Take one answer."""
        if answer.status == 500 or "x-turnout-rescued" in answer.headers:
            worker = worker_of(answer)
            self.failures[worker] += 1
            if self.failures[worker] == CONSECUTIVE and not self.at_s:
                self.at_s = time.monotonic()


async def three_replicas(
    turnouts: Turnouts, stable: ModelServer, broken: FailingServer, *, rescue: bool = False
) -> tuple[Turnout, Admin]:
    """Return a `turnout serve` with three workers that all route 10 % to the candidate."""
    config = config_for(stable, broken, rollout=CANARY, rescue={"enabled": rescue})
    config["gateway"] |= {"workers": REPLICAS}
    serve = await turnouts.start(config)
    admin = Admin(serve.port("admin"))
    await admin.until_routed(replicas=REPLICAS)
    return serve, admin


async def breached(serve: Turnout, admin: Admin, broken: FailingServer) -> tuple[Any, int, str]:
    """Let the candidate fail under load, check what must hold; return the decision, client errors and the figures."""
    breach = Breach()
    allowed_s = FLEET_S * slowdown()
    async with Load(serve.port("gateway"), clients=CLIENTS, on_answer=breach).running() as load:
        await until(lambda: breach.at_s)
        await load.keep_on(1.0)
        assert len(set(load.workers.values())) == REPLICAS
        sent = len(broken.seen)
        await load.until_answered(1_000)
        assert len(broken.seen) == sent, "somebody still sends the candidate requests"
    allowed_s = max(allowed_s, FLEET_S * slowdown())
    last_s = max(float(seen.headers["x-started"]) for seen in broken.seen) - breach.at_s
    assert last_s <= allowed_s
    errors = load.statuses[500]
    assert errors <= REPLICAS * CONSECUTIVE + CLIENTS  # what each replica needs, and what may be in flight
    assert load.statuses.keys() <= {200, 500}
    assert load.failures == []
    rollout = await admin.until_routed(replicas=REPLICAS)
    assert (rollout["phase"], rollout["halted"], rollout["exposure"]["weight_bp"]) == ("paused", True, 0)
    decision = (await admin.get("/decisions?limit=1"))[0]
    return (
        decision,
        errors,
        (
            f"last request started for the candidate {1000 * last_s:+.0f} ms after the first breach (allowed now: "
            f"{1000 * allowed_s:.0f}), {errors} client errors of {load.answered} answers, by replica "
            f"{sorted(breach.failures.values(), reverse=True)}: {decision['reason']}"
        ),
    )


async def test_up2_a_candidate_that_fails_everything_is_out_of_traffic_on_all_replicas_at_once(
    turnouts: Turnouts, stable: ModelServer, broken: FailingServer, figure: Callable[[str], None]
) -> None:
    """At 10 %, rescue off: within 250 ms of the first breach no replica sends it anything; few clients see an error."""
    serve, admin = await three_replicas(turnouts, stable, broken)
    decision, _, figures = await breached(serve, admin, broken)
    figure(figures)
    assert decision["actor"].startswith("breaker:")
    assert "failures of v2 in a row, stable failed 0 of" in decision["reason"]


@pytest.mark.slow
async def test_up2_with_rescue_no_client_sees_an_error(
    turnouts: Turnouts, stable: ModelServer, broken: FailingServer, figure: Callable[[str], None]
) -> None:
    """The same with rescue: stable's answers are the witnesses."""
    serve, admin = await three_replicas(turnouts, stable, broken, rescue=True)
    decision, errors, figures = await breached(serve, admin, broken)
    figure(figures)
    assert errors == 0
    assert "stable answered the same inputs (5 by rescue)" in decision["reason"]


@pytest.mark.slow
async def test_cl1_rollback_does_not_need_the_control_process(
    turnouts: Turnouts, stable: ModelServer, broken: FailingServer, figure: Callable[[str], None]
) -> None:
    """Kill -9 of the lease holder, then the candidate fails: each replica protects itself, and the fleet follows."""
    serve, admin = await three_replicas(turnouts, stable, broken)
    os.kill(serve.pid_of("router.app control"), signal.SIGKILL)
    decision, _, figures = await breached(serve, admin, broken)
    figure(figures)
    assert decision["actor"].startswith("breaker:")
