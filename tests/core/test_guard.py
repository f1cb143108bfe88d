"""The guard: what may be applied, whoever proposes it."""

from dataclasses import replace

import pytest

from router.core.decisions import (
    CONTROL,
    Actor,
    ActorKind,
    Advance,
    Approve,
    Counts,
    Decision,
    Hold,
    Judgement,
    Pause,
    Promote,
    Resume,
    RollBack,
    SetExposure,
    SetPolicy,
    Start,
    Undo,
    guard,
    waits_for,
)
from router.core.errors import IllegalTransitionError
from router.core.rollout import Phase, RolloutState, Spec, Step, apply, idle_state

NOW_S = 1_000.0
OPERATOR = Actor(ActorKind.OPERATOR, "olga")
BREAKER = Actor(ActorKind.BREAKER, "worker-1")
CONFIG = Actor(ActorKind.CONFIG)
ACTORS = [CONTROL, OPERATOR, BREAKER, CONFIG]

STEP = Step(weight_bp=1_000, mirror_bp=1_000, bake_s=60.0, min_requests=200, min_pairs=50, approval=True)
ENOUGH = Judgement(counts=Counts(requests_stable=9_000, requests_candidate=200, pairs=50), reason="no harm seen")
CONTENT = replace(ENOUGH, promote=True)
HARM = Judgement(rollback=True, reason="candidate fails 1.9 % against 0.4 %")


def running(*steps: Step, approved: bool = True) -> RolloutState:
    """Return a rollout in the first of `steps` since NOW_S."""
    spec = Spec("v2", "canary")
    begin = Start(reason="begin", rollout_id="b.1", spec=spec, steps=steps or (STEP, replace(STEP, weight_bp=5_000)))
    return replace(apply(idle_state("digits", "v1", NOW_S), begin, NOW_S), approved=approved)


def every_decision(actor: Actor) -> list[Decision]:
    """Return one of each kind of decision."""
    return [
        Hold(reason="h", actor=actor),
        Start(reason="s", actor=actor, rollout_id="b.2", spec=Spec("v3", "canary"), steps=(STEP,)),
        Advance(reason="a", actor=actor),
        Pause(reason="p", actor=actor),
        Resume(reason="r", actor=actor),
        Approve(reason="a", actor=actor),
        SetExposure(reason="e", actor=actor, weight_bp=9_000),
        SetPolicy(reason="y", actor=actor, policy="blue_green", steps=(STEP,)),
        Promote(reason="o", actor=actor, full=True),
        RollBack(reason="b", actor=actor),
        Undo(reason="u", actor=actor),
    ]


@pytest.mark.parametrize("phase", [Phase.PROGRESSING, Phase.PAUSED])
@pytest.mark.parametrize("actor", ACTORS, ids=str)
def test_harm_rolls_back_whatever_is_proposed_and_waits_for_nothing(actor: Actor, phase: Phase) -> None:
    """No bake, no minimum count, no approval and no operator stands before the judge's word."""
    state = replace(running(approved=False), phase=phase)
    for decision in every_decision(actor):
        guarded = guard(HARM, state, decision, NOW_S)
        assert RollBack.kind == guarded.kind
        assert decision.reason == guarded.reason if isinstance(decision, RollBack) else HARM.reason == guarded.reason


@pytest.mark.parametrize("phase", [Phase.IDLE, Phase.PROMOTED, Phase.ROLLED_BACK])
def test_harm_of_a_rollout_that_has_ended_changes_nothing(phase: Phase) -> None:
    """Old evidence must not stop a new start."""
    start = Start(reason="again", rollout_id="b.2", spec=Spec("v3", "canary"), steps=(STEP,), actor=OPERATOR)
    assert start is guard(HARM, replace(running(), phase=phase), start, NOW_S)


@pytest.mark.parametrize("actor", ACTORS, ids=str)
def test_less_candidate_traffic_is_open_to_everybody(actor: Actor) -> None:
    """Rolling back, pausing and lowering the weight pass at once, also when the bookkeeping is broken."""
    state = running(approved=False)
    invalid = Judgement(invalid="counters disagree")
    for decision in (
        RollBack(reason="bad", actor=actor),
        Pause(reason="stop", actor=actor),
        SetExposure(reason="less", actor=actor, weight_bp=999),
        SetExposure(reason="nothing", actor=actor, weight_bp=0, mirror_bp=0),
        SetExposure(reason="the same", actor=actor, weight_bp=1_000),
        SetPolicy(reason="copies only", actor=actor, policy="shadow", steps=(Step(mirror_bp=10_000),)),
    ):
        assert decision is guard(invalid, state, decision, NOW_S)


@pytest.mark.parametrize(
    "raises",
    [
        SetExposure(reason="more", weight_bp=1_001),
        SetPolicy(reason="all", policy="blue_green", steps=(Step(weight_bp=10_000),)),
    ],
)
def test_only_an_operator_may_raise_the_weight_by_hand(raises: SetExposure | SetPolicy) -> None:
    """Everybody else is held, with a reason that names who it was."""
    state = running()
    for actor in (CONTROL, BREAKER, CONFIG):
        guarded = guard(CONTENT, state, replace(raises, actor=actor), NOW_S + 3_600.0)
        assert Hold(reason=f"{actor} may lower the weight, only an operator may raise it", actor=actor) == guarded
    by_operator = replace(raises, actor=OPERATOR)
    assert by_operator is guard(CONTENT, state, by_operator, NOW_S)


def test_a_promotion_can_be_undone_for_the_rollback_window() -> None:
    """Exactly so long, by the Spec of the rollout that was promoted; later the refusal says what to do instead."""
    state = running(STEP)
    assert state.spec is not None
    state = replace(state, spec=replace(state.spec, rollback_window_s=7_200.0))
    promoted = apply(state, Promote(reason="good"), NOW_S + 500.0)
    undo = Undo(reason="it is slow", actor=OPERATOR)
    assert undo is guard(Judgement(), promoted, undo, NOW_S + 7_700.0)
    late = guard(Judgement(), promoted, undo, NOW_S + 7_700.1)
    assert isinstance(late, Hold)
    assert late.reason == (
        "the rollback window of 2 h since the promotion has passed; v1 comes back by a rollout of its own: "
        "start with candidate v1"
    )


def test_the_window_begins_with_the_promotion_whatever_the_shares_were() -> None:
    """Also when the last step had no traffic, so that nothing about the shares changes."""
    state = running(Step())
    promoted = apply(state, Promote(reason="good", full=True, actor=OPERATOR), NOW_S + 90_000.0)
    undo = Undo(reason="no", actor=OPERATOR)
    assert undo is guard(Judgement(), promoted, undo, NOW_S + 90_000.0 + 86_400.0)


def test_only_an_operator_may_approve() -> None:
    """Otherwise a policy could agree with itself."""
    state = running(approved=False)
    for actor in (CONTROL, BREAKER, CONFIG):
        assert isinstance(guard(CONTENT, state, Approve(reason="fine", actor=actor), NOW_S), Hold)
    agreed = Approve(reason="fine", actor=OPERATOR)
    assert agreed is guard(CONTENT, state, agreed, NOW_S)


@pytest.mark.parametrize(
    ("judgement", "seconds", "state", "reason"),
    [
        (replace(ENOUGH, invalid="counters disagree"), 60.0, running(), "the evidence is not valid: counters disagree"),
        (ENOUGH, 59.9, running(), "baking: 59 s of 60 s"),
        (ENOUGH, -5.0, running(), "baking: -5 s of 60 s"),
        (replace(ENOUGH, counts=Counts(9_000, 199, 50)), 60.0, running(), "candidate requests: 199 of 200"),
        (replace(ENOUGH, counts=Counts(9_000, 200, 49)), 60.0, running(), "pairs: 49 of 50"),
        (ENOUGH, 60.0, running(approved=False), "an operator's approval is asked for: approve"),
        (Judgement(), 3_600.0, running(), "candidate requests: 0 of 200"),
    ],
    ids=["invalid", "bake", "a clock that went back", "requests", "pairs", "approval", "no data"],
)
def test_a_step_is_left_only_when_all_it_asks_for_is_there(
    judgement: Judgement, seconds: float, state: RolloutState, reason: str
) -> None:
    """Each condition by itself holds back both Advance and Promote of control, and says what is missing."""
    assert reason == waits_for(judgement, state, NOW_S + seconds)
    for decision in (Advance(reason="go"), Promote(reason="good")):
        guarded = guard(replace(judgement, promote=True), state, decision, NOW_S + seconds)
        assert Hold(reason=reason) == guarded


def test_a_step_is_left_as_soon_as_all_it_asks_for_is_there() -> None:
    """Exactly at the bake time and the minimum counts Advance passes unchanged."""
    go = Advance(reason="go")
    assert go is guard(ENOUGH, running(), go, NOW_S + 60.0)
    assert waits_for(ENOUGH, running(), NOW_S + 60.0) is None


def test_an_operator_may_advance_at_any_time() -> None:
    """A person may know more than the counters."""
    go = Advance(reason="I have seen enough", actor=OPERATOR)
    assert go is guard(Judgement(invalid="counters disagree"), running(approved=False), go, NOW_S)


def test_control_promotes_on_the_judges_word_alone() -> None:
    """`full` is an operator's power; control cannot use it."""
    state = running(STEP)
    promote = Promote(reason="good")
    assert promote is guard(CONTENT, state, promote, NOW_S + 60.0)
    for decision in (promote, replace(promote, full=True)):
        guarded = guard(ENOUGH, state, decision, NOW_S + 60.0)
        assert isinstance(guarded, Hold)
        assert "promotion waits for the judge (no harm seen)" in guarded.reason


def test_promotion_is_for_the_last_step() -> None:
    """A policy that cannot wait is held; an operator's `full` is not."""
    state = running()
    early = guard(CONTENT, state, Promote(reason="at once"), NOW_S + 60.0)
    assert isinstance(early, Hold)
    assert early.reason == "promotion is for the last step; this is step 1 of 2"
    full = Promote(reason="now", actor=OPERATOR, full=True)
    assert full is guard(CONTENT, state, full, NOW_S)


def test_an_operator_promotes_on_the_judges_word_or_with_full() -> None:
    """Without either, the refusal names the way."""
    state = running(STEP, approved=False)
    promote = Promote(reason="good", actor=OPERATOR)
    full = replace(promote, full=True)
    assert full is guard(ENOUGH, state, full, NOW_S)
    assert promote is guard(CONTENT, state, promote, NOW_S)
    guarded = guard(ENOUGH, state, promote, NOW_S)
    assert isinstance(guarded, Hold)
    assert guarded.reason.endswith("promote --full")
    assert guarded.actor == OPERATOR


def test_moves_that_are_impossible_in_the_phase_are_left_to_the_table() -> None:
    """The guard does not hide an illegal move behind a Hold: `apply` raises."""
    idle = idle_state("digits", "v1", NOW_S)
    for decision in (Advance(reason="go"), Promote(reason="good")):
        guarded = guard(CONTENT, idle, decision, NOW_S)
        assert decision is guarded
        with pytest.raises(IllegalTransitionError):
            apply(idle, guarded, NOW_S)


@pytest.mark.parametrize("text", ["control", "operator:olga", "breaker:host:7:1", "config"])
def test_an_actor_is_read_back_from_its_text(text: str) -> None:
    """Names may hold colons."""
    assert text == str(Actor.parse(text))


def test_an_unknown_kind_of_actor_is_refused() -> None:
    """The kind decides what the guard lets through, so it is never guessed."""
    with pytest.raises(ValueError, match="root"):
        Actor.parse("root:olga")
