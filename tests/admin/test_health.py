"""What machines ask: alive, ready, metrics, and the description of the API itself."""

import pytest

from router.core.observations import CUTS, CounterKey
from router.core.ports import Heartbeat, RecordBatch
from router.store.codec import encode_pairs
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


async def test_metrics_show_what_the_gates_say_while_this_process_decides(desk: Desk) -> None:
    """Estimate, bound, threshold and evidence of each gate; of no rollout that has ended, and from no other process."""
    gates = [
        {"metric": "error_rate", "max_increase": "5pp"},
        {"metric": "accuracy", "min": "90%", "dry_run": True},
    ]
    started = await desk.start(gates=gates, steps=[{"weight": "50%", "mirror": "10%"}])
    counters = {}
    for role, failed in (("stable", 10), ("candidate", 20)):
        for cut in CUTS:
            counters[CounterKey(1, "started" + cut, "", role, "all")] = 1_000
            counters[CounterKey(1, "outcome" + cut, "", role, "ok")] = 1_000 - failed
            counters[CounterKey(1, "outcome" + cut, "", role, "http_error")] = failed
    await desk.store.append(RecordBatch("digits", started["id"], "g1", 1, 0, encode_pairs([]), counters), 2**26)
    assert "turnout_gate" not in (await desk.client.get("/metrics")).text
    await desk.control.turn()
    text = (await desk.client.get("/metrics")).text
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("turnout_gate_"))
    gate = (await desk.get(ROLLOUT))["judgement"]["gates"][0]
    labels = '{gate="error_rate",route="digits"}'
    assert float(found[f"turnout_gate_estimate{labels}"]) == pytest.approx(0.01)
    assert float(found[f"turnout_gate_bound{labels}"]) == gate["high"]
    assert float(found[f"turnout_gate_threshold{labels}"]) == 0.05
    assert float(found[f"turnout_gate_log_e{labels}"]) == gate["log_e_harm"]
    floor = '{gate="accuracy",route="digits"}'
    assert f"turnout_gate_estimate{floor}" not in found, "no label has come back, so there is no number"
    assert float(found[f"turnout_gate_threshold{floor}"]) == 0.9
    await desk.post("abort")
    await desk.control.turn()
    assert "turnout_gate_estimate{" not in (await desk.client.get("/metrics")).text


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
