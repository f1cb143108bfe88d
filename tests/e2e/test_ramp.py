"""The ramp through real processes: counted by a gateway, judged by control, walked and taken back by itself."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from router.control.replay import Outcome, replay
from router.core.observations import CounterKey
from router.plugins import load_policies
from router.store.codec import decode_decision
from tests.e2e.harness import Admin, Turnouts, config_for
from tests.e2e.load import Load, eventually
from tests.e2e.model_server import FailingServer, ModelServer

ERRORS = {"metric": "error_rate", "max_increase": "5pp"}
SHADOW = {"mirror": "100%", "bake": "1s", "min_pairs": 100}
HALF = {"weight": "50%", "mirror": "10%", "bake": "1s", "min_requests": 100}
PATIENT = {"consecutive": 1_000_000, "window": 1_000, "ratio": "100%", "fleet": "local"}
"""A breaker that leaves a failing candidate to the judge."""


def asking(*steps: dict[str, object]) -> dict[str, object]:
    """Return a rollout block with one gate."""
    return {"candidate": "v2", "policy": "canary", "steps": list(steps), "gates": [ERRORS]}


async def replays_and_a_tampered_ledger_does_not(admin: Admin) -> None:
    """Fail unless every decision follows from its record to the last digit, and one failure more is found."""
    told = await admin.get("/decisions?evidence=true")
    policies = load_policies()
    records = [decode_decision(json.dumps(one["record"]), longest=None) for one in told]
    found = [replay(record, policies) for record in records]
    assert [one.outcome for one in found] == [Outcome.SAME] * len(told), found
    basis = records[0].basis
    assert basis is not None
    assert basis.counters is not None
    failed = CounterKey(basis.state.exposure.id, "outcome", "", "candidate", "http_error")
    counters = {**basis.counters, failed: basis.counters.get(failed, 0) + 1}
    tampered = replay(replace(records[0], basis=replace(basis, counters=counters)), policies)
    assert tampered.outcome is Outcome.DIFFERS
    assert any(one.where.startswith("judgement.") for one in tampered.differences)


@pytest.mark.parametrize(
    "affinity",
    [pytest.param(["header:x-user-id"], id="by user"), pytest.param([], id="by request", marks=pytest.mark.slow)],
)
async def test_a_good_candidate_is_promoted_without_anybody(
    turnouts: Turnouts,
    stable: ModelServer,
    candidate: ModelServer,
    figure: Callable[[str], None],
    affinity: list[str],
) -> None:
    """From shadow over half of the traffic to promotion; no client sees an error; the ledger says why."""
    config = config_for(
        stable, candidate, rollout=asking(SHADOW, HALF), affinity=affinity, timeouts={"connect": "1s", "total": "1s"}
    )
    serve = await turnouts.start(config)
    admin = Admin(serve.port("admin"))
    await admin.until_routed()

    async def promoted() -> bool:
        return bool((await admin.rollout())["phase"] == "promoted")

    async with Load(serve.port("gateway")).running() as load:
        await eventually(promoted, within_s=30.0)
        await load.until_answered(200)
    assert load.errors == []
    after = await admin.rollout()
    assert after["stable"] == "v2"
    decisions = await admin.get("/decisions")
    assert [one["kind"] for one in decisions] == ["promote", "advance", "start"]
    assert {one["actor"] for one in decisions[:2]} == {"control"}
    await replays_and_a_tampered_ledger_does_not(admin)
    (gate,) = decisions[0]["judgement"]["gates"]
    assert gate["verdict"] == "pass"
    assert gate["counts"]["candidate_requests"] > 100
    figure(gate["sentence"])


async def test_a_failing_candidate_is_rolled_back_by_the_judge_and_no_client_notices(
    turnouts: Turnouts, stable: ModelServer, figure: Callable[[str], None]
) -> None:
    """Before any minimum, though stable rescues every request and no breaker helps; then stable serves."""
    async with FailingServer(2).running() as failing:
        asked = asking({**HALF, "weight": "10%"}, HALF) | {"breaker": PATIENT}
        config = config_for(stable, failing, rollout=asked)
        serve = await turnouts.start(config)
        admin = Admin(serve.port("admin"))
        await admin.until_routed()

        async def rolled_back() -> bool:
            return bool((await admin.rollout())["phase"] == "rolled_back")

        async with Load(serve.port("gateway")).running() as load:
            await eventually(rolled_back, within_s=20.0)
            await load.until_answered(300)
    assert load.statuses.keys() == {200}
    assert load.errors == []
    await replays_and_a_tampered_ledger_does_not(admin)
    newest, *before = await admin.get("/decisions")
    assert (newest["kind"], newest["actor"]) == ("roll_back", "control")
    assert newest["reason"].startswith("error_rate: ")
    assert [one["kind"] for one in before] == ["start"]
    figure(f"{load.answered} answers, all 200; rolled back: {newest['reason']}")
