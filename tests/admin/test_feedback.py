"""`POST /v1/feedback`: true labels over HTTP. On memory and on Valkey."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from router.core.observations import Outcome, Pair
from router.core.ports import RecordBatch
from router.store.codec import encode_pairs
from router.telemetry.metrics import METRICS
from router.testing import MemoryServer, MemoryStore
from router.testing.samples import sample_pair
from tests.admin.desk import Desk, config, desk_for, problem

FEEDBACK = "/v1/feedback"
JSON = {"content-type": "application/json"}
RESULTS = ("accepted", "waiting", "double", "late", "unknown", "unusable", "refused")


def answered(rollout: str, number: int, stable: str | None = "7", candidate: str | None = "7", **changes: Any) -> Pair:  # noqa: ANN401 - fields
    """Return a pair of a rollout in its first exposure, with these predictions."""
    made = replace(sample_pair("digits", number), rollout=rollout, exposure=1, **changes)
    return replace(
        made, stable=replace(made.stable, label=stable), candidate=replace(made.candidate, label=candidate)
    )  # fmt: skip


async def write(desk: Desk, *pairs: Pair, boot: str = "g1") -> None:
    """Write one batch of pairs as a gateway does."""
    batch = RecordBatch(pairs[0].route, pairs[0].rollout, boot, 1, len(pairs), encode_pairs(pairs), {})
    await desk.store.append(batch, 2**26)


async def send(desk: Desk, *labels: Mapping[str, object]) -> dict[str, int]:
    """Send labels, and return what became of them: only what is not 0."""
    answer = await desk.client.post(FEEDBACK, json=list(labels))
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (tuple(found), sum(found.values())) == (RESULTS, len(labels))
    return {result: number for result, number in found.items() if number}


def label(number: int, truth: object = "7", **more: object) -> dict[str, object]:
    """Return one label of a pair."""
    return {"request_id": f"request-{number}", "label": truth, **more}


async def counted(desk: Desk) -> dict[tuple[str, str], int]:
    """Return the evidence of labels by (metric, cell)."""
    found = (await desk.get("/v1/routes/digits/evidence"))["counters"]
    return {(one["metric"], one["cell"]): one["value"] for one in found}


async def test_a_label_is_joined_to_both_predictions(desk: Desk) -> None:
    """Who was right, overall and by class; a number is the class of its digits."""
    rollout = (await desk.start())["id"]
    await write(desk, answered(rollout, 1), answered(rollout, 2, candidate="1"), answered(rollout, 3, stable="1"))
    assert await send(desk, label(1), label(2, 7), label(3, 2)) == {"accepted": 3}
    assert await counted(desk) == {
        ("correct", "11"): 1, ("correct", "10"): 1, ("correct", "00"): 1,
        ("label", "7:111"): 1, ("label", "7:110"): 1, ("label", "1:001"): 1,
        ("label", "2:100"): 1, ("label", "1:010"): 1, ("label", "7:001"): 1,
    }  # fmt: skip


async def test_each_label_says_what_became_of_it(desk: Desk) -> None:
    """Counted before, not there yet, of a pair without stable's prediction; each call's numbers add up."""
    rollout = (await desk.start())["id"]
    await write(desk, answered(rollout, 1), answered(rollout, 2), answered(rollout, 3, stable=None))
    assert await send(desk, label(1), label(1, "1"), label(3), label(4)) == {
        "accepted": 1, "double": 1, "unusable": 1, "waiting": 1,
    }  # fmt: skip
    assert await send(desk, label(1, "1"), label(2)) == {"accepted": 1, "double": 1}
    assert (await counted(desk))["correct", "11"] == 2


async def test_a_candidate_that_failed_is_counted_as_having_said_nothing(desk: Desk) -> None:
    """The judge takes it for right where it looks for harm, and for wrong where it looks for proof."""
    rollout = (await desk.start())["id"]
    silent = answered(rollout, 1, candidate=None)
    await write(desk, replace(silent, candidate=replace(silent.candidate, outcome=Outcome.TIMEOUT)))
    assert await send(desk, label(1)) == {"accepted": 1}
    assert await counted(desk) == {("correct", "1?"): 1, ("label", "7:11?"): 1}


async def test_a_label_of_a_batch_is_right_if_every_row_is(desk: Desk) -> None:
    """A list is joined as the gateway joins the rows' labels; a batch has no class."""
    rollout = (await desk.start())["id"]
    await write(desk, answered(rollout, 1, stable="3,true,x", candidate="3,true,y"), answered(rollout, 2))
    assert await send(desk, label(1, [3, True, "x"]), label(2, ["7"])) == {"accepted": 2}
    assert await counted(desk) == {("correct", "10"): 1, ("correct", "11"): 1, ("label", "7:111"): 1}


@pytest.mark.parametrize("verb", ["abort", "promote"])
async def test_after_its_rollout_a_label_is_late(desk: Desk, verb: str) -> None:
    """It is counted as that and changes no evidence; also in a process that sees the pair only now."""
    rollout = (await desk.start())["id"]
    await write(desk, answered(rollout, 1), answered(rollout, 2))
    assert await send(desk, label(1)) == {"accepted": 1}
    await desk.post(verb, **({"full": True} if verb == "promote" else {}))
    before = await counted(desk)
    assert await send(desk, label(1), label(2)) == {"late": 2}
    async with desk_for(desk.store, config()) as other:
        assert await send(other, label(2)) == {"late": 1}
    assert await counted(desk) == before


async def test_an_id_of_two_routes_is_of_no_use(desk: Desk) -> None:
    """A label cannot say whose answer it is about, nor whether that rollout is over."""
    rollout = (await desk.start())["id"]
    block = {"candidate": "v2", "policy": "canary", "steps": [{"weight": "1%"}]}
    other = (await desk.client.post("/v1/routes/opaque/rollouts", json=block)).json()["id"]
    await write(desk, answered(rollout, 1), answered(rollout, 2))
    await write(desk, replace(answered(other, 1), route="opaque"))
    assert await send(desk, label(1), label(2)) == {"unusable": 1, "accepted": 1}
    await desk.post("abort")
    assert await send(desk, label(1), label(2)) == {"unusable": 1, "late": 1}


async def test_the_metrics_tell_what_became_of_labels_and_how_late_they_were(desk: Desk) -> None:
    """By the time that the client gave, else by the time of the call; what waits is a gauge."""
    rollout = (await desk.start())["id"]
    at_s = desk.clock()
    await write(desk, *(answered(rollout, number, assigned_at_s=at_s) for number in (1, 2)))
    desk.clock.advance(1_000.0)
    assert await send(desk, label(1, observed_at="2027-01-15T08:00:10+00:00"), label(2), label(3)) == {
        "accepted": 2, "waiting": 1,
    }  # fmt: skip
    page = (await desk.client.get("/metrics")).text.splitlines()
    assert 'turnout_feedback_total{result="accepted"} 2.0' in page
    assert "turnout_feedback_waiting 1.0" in page
    assert 'turnout_feedback_delay_seconds_bucket{le="5.0"} 0.0' in page
    assert 'turnout_feedback_delay_seconds_bucket{le="15.0"} 1.0' in page
    assert 'turnout_feedback_delay_seconds_bucket{le="3600.0"} 2.0' in page
    assert "turnout_feedback_delay_seconds_sum 1010.0" in page
    assert METRICS["turnout_feedback_total"].labels == ("result",)


RIGHT = {"request_id": "r", "label": "7"}
A_LABEL = "text of at most 1,024 characters"


@pytest.mark.parametrize(
    ("body", "field", "expected"),
    [
        ({}, "body", "a list"),
        ([], "body", "at least 1 item"),
        ([RIGHT] * 1_001, "body", "at most 1000 items"),
        ([7], "[0]", "object"),
        ([RIGHT, {"label": "7"}], "[1].request_id", "a value"),
        ([RIGHT, {"request_id": "r"}], "[1].label", "a value"),
        ([{**RIGHT, "lable": 1}], "[0].lable", "did you mean label?"),
        ([{**RIGHT, "route": "digits"}], "[0].route", "no field of this name"),
        ([{**RIGHT, "request_id": 7}], "[0].request_id", "text"),
        ([{**RIGHT, "request_id": ""}], "[0].request_id", "pattern"),
        ([{**RIGHT, "request_id": "r" * 129}], "[0].request_id", "pattern"),
        ([{**RIGHT, "request_id": "a b"}], "[0].request_id", "pattern"),
        ([{**RIGHT, "request_id": "r\n"}], "[0].request_id", "pattern"),
        ([{**RIGHT, "request_id": "\u00fc"}], "[0].request_id", "pattern"),
        ([{**RIGHT, "label": None}], "[0].label", A_LABEL),
        ([{**RIGHT, "label": 7.0}], "[0].label", A_LABEL),
        ([{**RIGHT, "label": 2**64}], "[0].label", A_LABEL),
        ([{**RIGHT, "label": "x" * 1_025}], "[0].label", A_LABEL),
        ([{**RIGHT, "label": "\ud800"}], "[0].label", A_LABEL),
        ([{**RIGHT, "label": []}], "[0].label", A_LABEL),
        ([{**RIGHT, "label": [[7]]}], "[0].label", A_LABEL),
        ([{**RIGHT, "label": {"class": 7}}], "[0].label", A_LABEL),
        ([{**RIGHT, "label": ["7"] * 1_001}], "[0].label", "1 to 1,000"),
        ([{**RIGHT, "observed_at": 1_800_000_000}], "[0].observed_at", "a time with its offset"),
        ([{**RIGHT, "observed_at": "2027-01-15T08:00:00"}], "[0].observed_at", "a time with its offset"),
        ([{**RIGHT, "observed_at": "yesterday"}], "[0].observed_at", "a time with its offset"),
    ],
)  # fmt: skip
async def test_a_wrong_body_names_its_fault_and_counts_nothing(
    desk: Desk, body: object, field: str, expected: str
) -> None:
    """One label that is wrong refuses the whole call, so that it may be mended and sent again."""
    rollout = (await desk.start())["id"]
    await write(desk, answered(rollout, 1, request_id="r"))
    raw = json.dumps(body).encode()  # ASCII, so that what UTF-8 cannot hold gets there as well
    found = problem(await desk.client.post(FEEDBACK, content=raw, headers=JSON), 422)
    assert found["field"] == field
    assert expected in found["expected"]
    assert await counted(desk) == {}


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b'[{"request_id":"r","label":"1","label":"7"}]', 422),
        (b'[{"request_id":"r","label":NaN}]', 422),
        (b'[{"request_id":"r","label":1e999}]', 422),
        (b'[{"request_id":"r","label":' + b"9" * 5_000 + b"}]", 422),
        (b'[{"request_id":"r","label":' + b"[" * 50_000 + b"]" * 50_000 + b"}]", 422),
        (b'[{"request_id":"r","label":"\xff"}]', 422),
        (b"", 422),
        (json.dumps([RIGHT] * 40_000).encode(), 413),
    ],
    ids=["double key", "NaN", "infinity", "huge number", "deep", "no UTF-8", "nothing", "huge"],
)
async def test_a_hostile_body_is_refused_by_its_bytes(desk: Desk, raw: bytes, status: int) -> None:
    """Before anybody looks at a label."""
    problem(await desk.client.post(FEEDBACK, content=raw, headers=JSON), status)


async def test_without_the_store_the_call_fails_and_may_be_repeated() -> None:
    """503, and nothing waits here that the client will send again."""
    server = MemoryServer()
    async with desk_for(MemoryStore(server), config()) as desk:
        rollout = (await desk.start())["id"]
        await write(desk, answered(rollout, 1))
        server.cut()
        problem(await desk.client.post(FEEDBACK, json=[label(1), label(2)]), 503)
        server.mend()
        assert desk.control.feedback.waiting == 0
        assert await send(desk, label(1)) == {"accepted": 1}


async def test_a_thousand_labels_fit_into_one_call(desk: Desk) -> None:
    """With the longest ids there are, and a label that is cut like the prediction."""
    rollout = (await desk.start())["id"]
    ids = [f"{number:0128}" for number in range(1_000)]
    await write(desk, *(answered(rollout, number, request_id=one) for number, one in enumerate(ids)))
    labels = [{"request_id": one, "label": "7", "observed_at": "2027-01-15T08:00:00.125+05:30"} for one in ids]
    assert await send(desk, *labels) == {"accepted": 1_000}
    assert (await counted(desk))["correct", "11"] == 1_000
