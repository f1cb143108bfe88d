"""What machines ask: alive, ready, metrics, and the description of the API itself."""

import pytest

from router.core.ports import Heartbeat
from router.telemetry.metrics import CONTENT_TYPE
from tests.admin.desk import ROLLOUT, Desk, problem


async def test_ready_means_that_the_store_answers_and_the_loop_turns(desk: Desk) -> None:
    """A loop that hangs makes it unready although the store is fine."""
    await desk.control.turn()
    assert await desk.get("/readyz") == {"status": "ready", "epoch": desk.control.view.epoch}
    desk.clock.advance(5.1)
    document = problem(await desk.client.get("/readyz"), 503)
    assert "has not turned for 5 s" in document["detail"]
    assert await desk.get("/healthz") == {"status": "ok"}
    await desk.control.turn()
    assert (await desk.client.get("/readyz")).status_code == 200


async def test_metrics_show_what_the_loop_saw_last(desk: Desk) -> None:
    """Shares, decisions by kind and actor, replicas by state, and whether the store is up."""
    await desk.start()
    await desk.client.patch(ROLLOUT, json={"weight": "25%", "mirror": "5%"})
    for boots in (("g1", "g2"), ("g1",)):
        for boot in boots:
            await desk.store.beat(Heartbeat(boot, "gateway", "host", 1, desk.clock.now_s, "", {}))
        await desk.control.turn()
        desk.clock.advance(5.1)
    await desk.store.beat(Heartbeat("g1", "gateway", "host", 1, desk.clock.now_s, "", {}))
    await desk.control.turn()
    answer = await desk.client.get("/metrics")
    assert answer.headers["content-type"] == CONTENT_TYPE
    lines = answer.text.splitlines()
    for line in (
        'turnout_weight_ratio{route="digits"} 0.25',
        'turnout_mirror_ratio{route="digits"} 0.05',
        "turnout_store_up 1.0",
        'turnout_decisions_total{kind="start",reason="operator"} 1.0',
        'turnout_decisions_total{kind="set_exposure",reason="operator"} 1.0',
        'turnout_replicas{state="live"} 1.0',
        'turnout_replicas{state="silent"} 1.0',
    ):
        assert line in lines


async def test_the_description_names_the_fields_of_a_rollout_block(desk: Desk) -> None:
    """A client can be generated from it: bodies, answers and roles."""
    document = await desk.get("/openapi.json")
    start = document["paths"]["/v1/routes/{route}/rollouts"]["post"]
    properties = start["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert {"candidate", "policy", "steps", "gates", "reason"} <= set(properties)
    assert properties["steps"]["items"]["properties"]["weight"]["type"] == "string"
    assert "RolloutView" in document["components"]["schemas"]
    assert "$defs" not in str(document)


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_no_page_loads_scripts_from_elsewhere(desk: Desk, path: str) -> None:
    """The interactive pages of the framework are off."""
    problem(await desk.client.get(path), 404)
