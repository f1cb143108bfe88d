"""Gateway workers that are stopped: the ramp waits for them, and what they wake up to is the present state."""

import asyncio
import time
from collections.abc import Callable

import pytest

from router.control.replicas import LIVE_S
from router.gateway.waking import SLEPT_S
from tests.chaos.fleet import stopped
from tests.e2e.harness import Admin, Turnouts, config_for
from tests.e2e.load import Load, eventually
from tests.e2e.model_server import BODY, INFER, ModelServer
from tests.e2e.wire import Line, request

FULL = {"candidate": "v2", "policy": "blue_green", "steps": [{"weight": "100%", "bake": "1h"}]}
ASLEEP_S = SLEPT_S + 0.5
ASK = request("POST", INFER, BODY)


async def test_cl9_a_worker_that_slept_reads_the_state_before_its_first_routed_request(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """Stopped at weight 100 % while the rollout is aborted: no request that came meanwhile reaches the candidate."""
    serve = await turnouts.start(config_for(stable, candidate, rollout=FULL))
    admin = Admin(serve.port("admin"))
    await admin.until_routed()
    lines = [await Line.open(serve.port("gateway")) for _ in range(16)]
    assert {(await line.ask(ASK)).headers["x-turnout-variant"] for line in lines} == {"candidate"}
    reached = len(candidate.seen)
    (worker,) = serve.workers()
    async with stopped(worker):
        slept_s = time.monotonic()
        await admin.post("/rollout/abort", reason="while a replica sleeps")
        lines += [await Line.open(serve.port("gateway")) for _ in range(16)]  # accepted by the kernel alone
        asked = [line.ask(ASK) for line in lines]
        await asyncio.sleep(slept_s + ASLEEP_S - time.monotonic())  # the length of the fault
    awake_s = time.monotonic()
    answers = await asyncio.gather(*asked)
    took_s = [answer.ended_s - awake_s for answer in answers]
    for line in lines:
        line.close()
    assert {(answer.status, answer.headers["x-turnout-variant"]) for answer in answers} == {(200, "stable")}
    assert len(candidate.seen) == reached
    (woke,) = [line for line in serve.logged("warning") if line["event"].startswith("this worker did not run")]
    assert woke["fresh"]
    figure(
        f"asleep for {woke['slept_s']:.1f} s; {len(lines)} requests answered {1000 * max(took_s):.0f} ms after waking"
    )


@pytest.mark.slow
async def test_cl9_the_ramp_waits_for_a_stopped_replica_until_it_answers_or_expires(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """One of three: held while it sleeps, on when it has acknowledged; asleep for longer than LIVE_S, on without it."""
    walked = [{"weight": weight, "bake": "1s", "min_requests": 20} for weight in ("5%", "10%", "15%", "20%", "25%")]
    steps = [*walked, {"weight": "30%", "bake": "1h"}]
    config = config_for(stable, candidate, rollout={"candidate": "v2", "policy": "canary", "steps": steps})
    config["gateway"] |= {"workers": 3}
    serve = await turnouts.start(config)
    admin = Admin(serve.port("admin"))
    sleeper = (await admin.until_routed(replicas=3))["replicas"][0]

    async def step() -> int:
        return int((await admin.rollout())["step"])

    async def onwards() -> int:
        """Take the next step by an operator's word, which waits for nobody; return it."""
        return int((await admin.post("/rollout/promote", reason="one of three sleeps"))["step"])

    async def left(number: int) -> bool:
        return await step() > number

    async with Load(serve.port("gateway"), clients=12).running() as load:
        await load.until_answered(100)
        async with stopped(sleeper["pid"]):
            held = await onwards()
            until_s = time.monotonic() + LIVE_S - 1.0
            while time.monotonic() < until_s:  # the bake is over after 1 s
                assert await step() == held
                await asyncio.sleep(0.1)
        awake_s = time.monotonic()
        await eventually(lambda: left(held))
        acknowledged_s = time.monotonic() - awake_s
        async with stopped(sleeper["pid"]):
            asleep_s = time.monotonic()
            held = await onwards()
            await eventually(lambda: left(held), within_s=3 * LIVE_S)
            expired_s = time.monotonic() - asleep_s
            assert sleeper["id"] not in {one["id"] for one in (await admin.rollout())["replicas"]}
    assert load.errors == []
    assert expired_s >= LIVE_S - 1.1, "it had beaten within the second before"
    figure(f"on {acknowledged_s:.1f} s after it woke, and {expired_s:.1f} s after it fell asleep for longer")
