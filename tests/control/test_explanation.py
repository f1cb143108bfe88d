"""Why a rollout stands where it stands: what is shown is what the loop acts by."""

from dataclasses import replace

import pytest

from router.control.commands import Change
from router.control.explanation import changes_of, limits_of, missing_of
from router.control.ramp import Outlook, next_move
from router.core.basis import Facts
from router.core.decisions import Advance, Counts, GateResult, Hold, Judgement, Outside, Verdict
from router.core.observations import CUTS, CounterKey
from router.core.ports import RecordBatch
from router.core.rollout import GateSpec, NoDataSpec, RolloutState, Spec, Step
from router.store.codec import encode_pairs
from tests.control.plant import Plant, order

STEPS = (
    Step(weight_bp=1_000, bake_s=60.0, min_requests=200, approval=True),
    Step(weight_bp=5_000, bake_s=60.0, min_requests=200),
)
ERRORS = GateSpec("errors", "error_rate", max_increase=0.005)
SPEED = GateSpec("speed", "latency", max_increase=0.1)
SPEC = Spec("v2", "canary", steps=STEPS, gates=(ERRORS,), no_data=NoDataSpec(600.0, "abort"), max_duration_s=7_200.0)


def seen(now_s: float, *, lagging: str | None = None, frozen: str | None = None) -> Outlook:
    """Return what control would do on these facts, were there nothing else to wait for."""
    return Outlook(Advance(reason="next"), Facts(lagging=lagging), Outside(frozen=frozen), now_s)


async def write(plant: Plant, state: RolloutState, stable: int, candidate: int, sequence: int = 1) -> None:
    """Let a gateway write that so many requests of each variant ended well."""
    counters = {}
    for role, fine in (("stable", stable), ("candidate", candidate)):
        for cut in CUTS:
            counters[CounterKey(state.exposure.id, "started" + cut, "", role, "all")] = fine
            counters[CounterKey(state.exposure.id, "outcome" + cut, "", role, "ok")] = fine
    await plant.store.append(RecordBatch("digits", state.id, "g1", sequence, 0, encode_pairs([]), counters), 2**20)


async def test_what_is_shown_is_what_the_loop_does_as_long_as_it_holds_and_when_it_moves(plant: Plant) -> None:
    """Through a whole rollout: while something is waited for nothing moves, and what is announced is what happens."""
    state = await plant.commands.start("digits", SPEC, order())
    loop = plant.loop()
    told: list[str] = []
    for second in range(0, 200, 10):
        await write(plant, state, 90 * second, 10 * second, second + 1)
        if second == 70:
            state = await plant.commands.approve("digits", order())
        outlook = loop.outlook(state, await plant.states.judge(state), await plant.store.heartbeats())
        await loop.turn()
        after = await plant.states.read("digits")
        if outlook.waits_for is not None:
            told.append(outlook.waits_for)
            assert after.revision == state.revision
        elif outlook.next is not None:
            newest = (await plant.store.decisions("digits", 1))[0]
            assert (newest.kind, newest.reason) == (outlook.next.kind, outlook.next.reason)
            assert after.revision == state.revision + 1
            told.append(newest.kind)
        state = after
        plant.clock.advance(10)
    seen = [one.partition(":")[0].partition(" of ")[0] for one in told]
    assert list(dict.fromkeys(seen)) == ["baking", "an operator's approval is asked for", "advance", "promote"]


async def test_a_paused_rollout_says_what_an_operator_can_do(plant: Plant) -> None:
    """Nothing moves it but a person, or harm."""
    await plant.commands.start("digits", SPEC, order())
    state = await plant.commands.pause("digits", order())
    judgement = await plant.states.judge(state)
    outlook = plant.loop().outlook(state, judgement, ())
    assert outlook.waits_for == "it is paused; an operator goes on with resume or promote, or ends it with abort"
    assert limits_of(state, judgement, outlook) == ()


@pytest.mark.parametrize("ends", ["abort", "promote"])
async def test_what_has_ended_waits_for_nothing(plant: Plant, ends: str) -> None:
    """Neither reason nor next move, and nothing is missing."""
    await plant.commands.start("digits", SPEC, order())
    if ends == "abort":
        state = await plant.commands.abort("digits", order())
    else:
        state = await plant.commands.promote("digits", order(), full=True)
    judgement = await plant.states.judge(state)
    outlook = plant.loop().outlook(state, judgement, ())
    assert (outlook.waits_for, outlook.next) == (None, None)
    assert missing_of(state, judgement, outlook) == ()


async def test_a_threshold_that_cannot_be_frozen_yet_names_its_gate_and_what_is_missing(plant: Plant) -> None:
    """Also in the list of all that is missing; a step that could be left is held for it."""
    state = await plant.commands.start("digits", replace(SPEC, gates=(ERRORS, SPEED)), order())
    state = await plant.commands.approve("digits", order())
    few = Judgement(counts=Counts(600, 300), thresholds=(("latency_p50_ms", 9.0), ("latency_p95_ms", 11.0)))
    late_s = plant.clock() + 61
    move = next_move(state, Advance(reason="next"), few, late_s)
    wait = (
        "gate speed could not be judged in the next step: stable's p99 is frozen from 1,000 of its answers in one "
        "exposure, here there are 600"
    )
    assert (move.decision, move.record, move.state) == (Hold(reason=wait), None, state)
    assert missing_of(state, few, seen(late_s)) == [wait]
    frozen = replace(few, thresholds=(*few.thresholds, ("latency_p99_ms", 14.0)))
    assert next_move(state, Advance(reason="next"), frozen, late_s).state.step == 1


async def test_everything_that_is_missing_is_told_at_once(plant: Plant) -> None:
    """Not only the first that holds: bake, counts, approval, replicas; at the last step each gate's own need."""
    state = await plant.commands.start("digits", SPEC, order())
    judgement = Judgement(harm="too much harm", counts=Counts(900, 100))
    outlook = seen(plant.clock() + 12, lagging="b not yet", frozen="frozen until Monday")
    assert missing_of(state, judgement, outlook) == [
        "too much harm", "baking: 12 s of 60 s", "candidate requests: 100 of 200",
        "an operator's approval is asked for: approve", "b not yet", "frozen until Monday",
    ]  # fmt: skip
    gates = (
        GateResult("errors", Verdict.INCONCLUSIVE, "", more_requests=3_100),
        GateResult("flips", Verdict.INCONCLUSIVE, ""),
        GateResult("right", Verdict.PASS, ""),
        GateResult("trial", Verdict.FAIL, "", enforced=False),
    )
    last = replace(state, step=1, exposure=replace(state.exposure, weight_bp=5_000))
    assert missing_of(last, Judgement(counts=Counts(900, 900), gates=gates), seen(plant.clock() + 60)) == [
        "gate errors needs about 3,100 more if it goes on like this",
        "gate flips has not passed, and nothing seen so far says that it will",
    ]  # fmt: skip


async def test_what_ends_the_waiting_is_told_with_how_far_it_is(plant: Plant) -> None:
    """max_duration and no_data.after, each with its action."""
    state = await plant.commands.start("digits", SPEC, order())
    silent = replace(seen(plant.clock() + 9_999), facts=Facts(idle_s=45.2))
    assert limits_of(state, Judgement(running_s=3_725.5), silent) == [
        "it pauses after 2h (max_duration); 1h2m have passed",
        "it is rolled back after 10m without evidence, there has been none for 45s",
    ]


async def test_the_present_shares_are_explained_by_the_decision_that_set_them(plant: Plant) -> None:
    """Decisions that left the shares alone are not among them, nor those of an earlier rollout."""
    await plant.commands.start("digits", SPEC, order("first attempt"))
    await plant.commands.abort("digits", order())
    await plant.commands.retry("digits", order("second attempt"))
    await plant.commands.change("digits", Change(weight_bp=2_000, policy="canary", steps=STEPS), order("more"))
    await plant.commands.pause("digits", order("lunch"))
    state = await plant.commands.resume("digits", order())
    found = changes_of(state, await plant.store.decisions("digits", 100))
    assert [(one.kind, one.reason, one.weight_bp_after) for one in found] == [
        ("set_policy", "more", 2_000),
        ("start", "second attempt", 1_000),
    ]
    assert found[0].revision == state.exposure.id


async def test_a_move_that_is_not_possible_any_more_is_a_hold_that_says_so(plant: Plant) -> None:
    """After 50 changes of the shares control cannot open another exposure: that is told, not a crash each second."""
    state = await plant.commands.start("digits", replace(SPEC, gates=()), order())
    state = await plant.commands.approve("digits", order())
    crowded = replace(state, past=tuple(replace(state.exposure, id=n) for n in range(50)))
    move = next_move(crowded, Advance(reason="next"), Judgement(counts=Counts(900, 200)), plant.clock() + 61)
    assert move.record is None
    assert "changed its shares 50 times" in move.decision.reason
