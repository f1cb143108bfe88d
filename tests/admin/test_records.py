"""What was recorded, as the admin API shows it. On memory and on Valkey."""

import json
import random
from dataclasses import replace

import pytest

from router.control.replay import Outcome as Replay
from router.control.replay import replay
from router.core.basis import Basis
from router.core.observations import Comparison, CounterKey, Outcome, Pair
from router.core.ports import RecordBatch
from router.plugins import load_policies
from router.store import keys
from router.store.codec import decode_decision, encode_pairs, pair_to_json
from router.store.redis import RedisStore
from router.testing import MemoryStore
from router.testing.samples import sample_decision, sample_pair
from tests.admin.desk import ROLLOUT, Desk, problem

PAIRS = "/v1/routes/digits/pairs"
TIMELINE = "/v1/routes/digits/timeline"


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


async def test_decisions_come_with_what_they_followed_from_when_asked(desk: Desk) -> None:
    """The usual answer stays light; with evidence each has the ledger's own record, which replays."""
    started = await desk.start()
    counters = {CounterKey(1, "outcome", "", "stable", "ok"): 7, CounterKey(1, "pair", "", "pair", "both"): 5}
    batch = RecordBatch("digits", started["id"], "g1", 1, 0, encode_pairs([]), counters)
    await desk.store.append(batch, 2**26)
    await desk.post("pause", reason="lunch")
    path = "/v1/routes/digits/decisions"
    light = await desk.get(path)
    told = await desk.get(path, params={"evidence": "true"})
    assert light == [{key: value for key, value in one.items() if key != "record"} for one in told]
    records = [decode_decision(json.dumps(one["record"])) for one in told]
    assert [one.kind for one in records] == ["pause", "start"]
    assert [replay(one, load_policies()).outcome for one in records] == [Replay.SAME, Replay.SAME]
    assert records[0].basis is not None
    assert records[0].basis.counters == counters
    assert records[0].judgement.counts.pairs == 5
    assert len(await desk.get(path, params={"evidence": "true", "limit": 1})) == 1


async def test_a_damaged_basis_is_as_none(desk: Desk) -> None:
    """The other decisions are told all the same, and replay."""
    await desk.start()
    await desk.post("pause")
    if isinstance(desk.store, MemoryStore):
        desk.store.server.bases["digits"][1] = b"foreign"
    else:
        assert isinstance(desk.store, RedisStore)
        await desk.store._connections.ask("XADD", keys.bases("digits"), "*", "r", "1", "p", b"foreign")  # noqa: SLF001
    told = await desk.get("/v1/routes/digits/decisions", params={"evidence": "true"})
    assert [one["record"]["basis"] is None for one in told] == [False, True]


async def test_more_evidence_than_fits_one_answer_is_refused_with_what_would_fit(desk: Desk) -> None:
    """Nothing is cut off silently."""
    started = await desk.start()
    noise = random.Random(1)
    counters = {CounterKey(1, noise.randbytes(40).hex(), "", "pair", "x"): n for n in range(30_000)}
    state = await desk.control.states.read("digits")
    basis = Basis(state, 1.0, counters, keyed=False)
    for revision in range(2, 9):
        record = replace(sample_decision("digits", revision), rollout=started["id"], basis=basis)
        assert await desk.store.compare_and_set(replace(state, revision=revision), revision - 1, record)
    path = "/v1/routes/digits/decisions"
    document = problem(await desk.client.get(path, params={"evidence": "true"}), 422)
    assert document["field"] == "limit"
    assert "since evidence takes up to 8388608 bytes" in document["expected"]
    assert len(await desk.get(path, params={"evidence": "true", "limit": 2})) == 2
    assert len(await desk.get(path)) == 8


async def test_the_timeline_is_the_samples_and_now_with_what_control_measured(desk: Desk) -> None:
    """Oldest first; of another rollout only what was kept."""
    started = await desk.start()
    await desk.control.turn()
    desk.clock.advance(90.0)
    await desk.control.turn()
    desk.clock.advance(5.0)
    points = await desk.get(TIMELINE)
    assert [point["ages"] for point in points] == [[0.0, 0.0], [90.0, 90.0], [95.0, 95.0]]
    assert {point["state"]["id"] for point in points} == {started["id"]}
    assert await desk.get(TIMELINE, params={"rollout": "other.1"}) == []


async def test_a_route_without_rollout_has_no_evidence(desk: Desk) -> None:
    """Empty, not an error."""
    document = await desk.get("/v1/routes/digits/evidence")
    assert (document["rollout"], document["counters"]) == ("", [])
