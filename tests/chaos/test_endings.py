"""Turnout ends, asked or not: asked, no request is lost; killed, nothing of it lives on."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.e2e.harness import ORPHANS_S, Admin, Turnout, Turnouts, config_for, listening
from tests.e2e.load import Load, eventually, until
from tests.e2e.model_server import BODY, INFER, ModelServer
from tests.e2e.wire import fetch, request

SHADOW = {"candidate": "v2", "policy": "shadow"}


async def started(turnouts: Turnouts, stable: ModelServer, candidate: ModelServer) -> tuple[Turnout, Admin]:
    """Return a `turnout serve` with two workers and a shadow rollout."""
    config = config_for(stable, candidate, rollout=SHADOW)
    config["gateway"] |= {"workers": 2}
    serve = await turnouts.start(config)
    admin = Admin(serve.port("admin"))
    await admin.until_routed(replicas=2)
    return serve, admin


async def ended_under_load(turnouts: Turnouts, stable: ModelServer, candidate: ModelServer) -> tuple[Load, str]:
    """Send SIGTERM while 64 clients ask without a pause; return what became of them, and the figures."""
    serve, _ = await started(turnouts, stable, candidate)
    async with Load(serve.port("gateway"), clients=64, pause_s=0, stop_when_refused=True).running() as load:
        await load.until_answered(500)
        asked_s = time.monotonic()
        serve.process.send_signal(signal.SIGTERM)
        await until(lambda: not listening(serve.port("gateway")))
        refused_s = time.monotonic()
        assert await serve.ended() == 0
        ended_s = time.monotonic()
    kinds = [failure.kind for failure in load.failures]
    return load, (
        f"{load.answered} answers, refused {1000 * (refused_s - asked_s):.0f} ms and ended "
        f"{1000 * (ended_s - asked_s):.0f} ms after SIGTERM; "
        + ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("refused", "closed", "cut"))
    )


async def test_cf3_requests_under_way_at_sigterm_get_their_answers(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """Whatever a server was asked, a client has got the answer of; no answer is cut; new clients are refused."""
    stable.delay_s = 0.05  # so that nearly each client waits for an answer when it happens
    load, figures = await ended_under_load(turnouts, stable, candidate)
    figure(figures)
    kinds = [failure.kind for failure in load.failures]
    assert kinds.count("cut") == 0
    assert kinds.count("refused") == load.clients
    assert load.statuses[200] == len(stable.seen)


@pytest.mark.slow
async def test_cf3_sigterm_under_load_loses_no_request(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer
) -> None:
    """A client on a kept connection hears `connection: close` before it is closed, so no request meets a closed one."""
    stable.delay_s = 0.05
    load, _ = await ended_under_load(turnouts, stable, candidate)
    assert load.statuses.keys() == {200}
    assert [failure for failure in load.failures if failure.kind != "refused"] == []


@pytest.mark.slow
@pytest.mark.parametrize("copy_s", [0.0, 0.2])
async def test_what_was_recorded_is_written_before_the_end(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, copy_s: float
) -> None:
    """After SIGTERM under load and a new start, evidence and pairs count every request that was answered."""
    candidate.delay_s = copy_s
    serve, _ = await started(turnouts, stable, candidate)
    async with Load(serve.port("gateway"), clients=32, pause_s=0.05, stop_when_refused=True).running() as load:
        await load.until_answered(500)
        assert await serve.stop() == 0
    answered = load.statuses[200]
    _, admin = await started(turnouts, stable, candidate)
    counts = (await admin.get("/evidence"))["counts"]
    assert counts == {"requests_stable": answered, "requests_candidate": 0, "pairs": answered}


async def test_nothing_survives_the_parents_sigkill(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """Under load, kill -9 of the parent: workers, control and Valkey end within 2 s, and the next start works."""
    serve, first = await started(turnouts, stable, candidate)
    assert len(serve.processes()) == 5

    async def counted() -> bool:
        return bool((await first.get("/evidence"))["counts"]["requests_stable"])

    async with Load(serve.port("gateway"), clients=16, stop_when_refused=True).running() as load:
        await load.until_answered(200)
        await eventually(counted)  # counters are written twice a second: what came after the last write dies with it
        os.kill(serve.pid, signal.SIGKILL)
        killed_s = time.monotonic()
        assert await serve.ended() == -signal.SIGKILL
        await serve.nothing_left(within_s=ORPHANS_S)
        figure(f"all children gone {1000 * (time.monotonic() - killed_s):.0f} ms after the parent's SIGKILL")
    again, admin = await started(turnouts, stable, candidate)
    answer = await fetch(again.port("gateway"), request("POST", INFER, BODY))
    assert answer.status == 200
    counts = (await admin.get("/evidence"))["counts"]
    assert counts["requests_stable"] > 0
    assert list(serve.tmp.iterdir()) == [], "the next start clears up what the killed one could not"


@pytest.mark.slow
async def test_a_second_signal_does_not_wait_for_slow_requests(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer
) -> None:
    """With an answer that takes for ever, the first SIGTERM waits and the second ends everything."""
    stable.delay_s = 60.0
    serve, _ = await started(turnouts, stable, candidate)
    async with Load(serve.port("gateway"), clients=4, stop_when_refused=True).running():
        await until(lambda: len(stable.seen) == 4)
        serve.process.send_signal(signal.SIGTERM)
        await until(lambda: not listening(serve.port("gateway")))
        assert serve.process.poll() is None
        serve.process.send_signal(signal.SIGTERM)
        assert await serve.ended(within_s=5.0) == 0
