"""What was recorded, as the admin API shows it. On memory and on Valkey."""

from dataclasses import replace

import pytest

from router.core.observations import Comparison, Outcome, Pair
from router.core.ports import RecordBatch
from router.store.codec import encode_pairs, pair_to_json
from router.testing.samples import sample_pair
from tests.admin.desk import ROLLOUT, Desk, problem

PAIRS = "/v1/routes/digits/pairs"


def pair(number: int, *, same: bool | None = True, outcome: Outcome = Outcome.OK) -> Pair:
    """Return a pair whose candidate ended with `outcome`."""
    made = sample_pair("digits", number)
    candidate = replace(made.candidate, outcome=outcome)
    return replace(made, candidate=candidate, comparison=Comparison("label", same=same))


async def keep(desk: Desk, *pairs: Pair) -> None:
    """Write one batch of pairs as a gateway does."""
    await desk.store.append(
        RecordBatch("digits", pairs[0].rollout, "g1", 1, len(pairs), encode_pairs(pairs), {}), 2**26
    )


async def test_pairs_come_newest_first_and_in_their_public_form(desk: Desk) -> None:
    """A JSON array of the objects of design.md section 8."""
    await keep(desk, *(pair(number) for number in range(1, 6)))
    assert await desk.get(PAIRS, params={"limit": 2}) == [pair_to_json(pair(5)), pair_to_json(pair(4))]
    assert len(await desk.get(PAIRS)) == 5


async def test_pairs_can_be_asked_for_by_what_went_wrong(desk: Desk) -> None:
    """Disagreements, an outcome of either side, or both; not compared is no disagreement."""
    await keep(
        desk,
        pair(1, same=False),
        pair(2, same=None, outcome=Outcome.TIMEOUT),
        pair(3),
        pair(4, same=False, outcome=Outcome.HTTP_ERROR),
        *(pair(number) for number in range(5, 300)),
    )

    async def ids(**params: object) -> list[str]:
        return [one["pair_id"] for one in await desk.get(PAIRS, params=params)]

    assert await ids(disagreements="true") == ["boot1-4", "boot1-1"]
    assert await ids(disagreements="true", limit=1) == ["boot1-4"]
    assert await ids(outcome="timeout") == ["boot1-2"]
    assert await ids(outcome="http_error", disagreements="true") == ["boot1-4"]
    assert len(await ids(outcome="ok", limit=7)) == 7


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", "limit"), ("outcome=sad", "outcome"),
        ("disagreements=perhaps", "disagreements"),
    ],
)  # fmt: skip
async def test_a_bad_question_names_the_parameter(desk: Desk, query: str, field: str) -> None:
    """With what would do."""
    document = problem(await desk.client.get(f"{PAIRS}?{query}"), 422)
    assert document["field"] == field
    assert document["expected"]


async def test_decisions_come_newest_first_with_all_they_changed(desk: Desk) -> None:
    """Actor, reason, before and after, and the judgement of that moment."""
    await desk.start()
    await desk.client.patch(ROLLOUT, json={"weight": "20%", "reason": "more"})
    newest, first = await desk.get("/v1/routes/digits/decisions")
    assert (first["kind"], newest["kind"]) == ("start", "set_exposure")
    assert newest == {
        "at": "2027-01-15T08:00:00.000000Z", "route": "digits", "rollout": first["rollout"], "revision": 2, "epoch": 0,
        "kind": "set_exposure", "reason": "more", "actor": "operator:local",
        "phase_before": "progressing", "phase_after": "progressing",
        "weight_bp_before": 0, "weight_bp_after": 2_000, "mirror_bp_before": 10_000, "mirror_bp_after": 10_000,
        "policy": "canary", "judgement": newest["judgement"],
    }  # fmt: skip
    assert newest["judgement"]["reason"] == "nothing is judged: no gate is enforced"
    assert len(await desk.get("/v1/routes/digits/decisions", params={"limit": 1})) == 1


async def test_a_route_without_rollout_has_no_evidence(desk: Desk) -> None:
    """Empty, not an error."""
    document = await desk.get("/v1/routes/digits/evidence")
    assert (document["rollout"], document["counters"]) == ("", [])
