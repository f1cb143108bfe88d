"""A breaker's halt: the weight goes to 0, copies go on, and only an operator's resume gives back the step's shares."""

from dataclasses import replace

import pytest

from router.core.decisions import (
    CONTROL,
    Actor,
    ActorKind,
    Advance,
    Hold,
    Judgement,
    Pause,
    Promote,
    Resume,
    RollBack,
    SetExposure,
    SetPolicy,
    Start,
)
from router.core.errors import IllegalTransitionError
from router.core.moves import make_move
from router.core.rollout import EXPOSURES, Phase, RolloutState, Spec, Step, apply, idle_state

BREAKER = Actor(ActorKind.BREAKER, "boot1")
OLGA = Actor(ActorKind.OPERATOR, "olga")
STEPS = (Step(weight_bp=1_000, mirror_bp=500), Step(weight_bp=5_000))
START = Start(reason="begin", rollout_id="a.1", spec=Spec("v2", "canary", steps=STEPS), steps=STEPS)
NOTHING = Judgement()


def running() -> RolloutState:
    """Return a rollout in its first step, at 10 %."""
    return apply(idle_state("r", "v1", 0.0), START, 0.0)


def halt(state: RolloutState) -> RolloutState:
    """Halt it as a breaker does."""
    zero = SetExposure(reason="5 failures", actor=BREAKER, weight_bp=0)
    wanted = (zero, Pause(reason="5 failures", actor=BREAKER)) if state.phase is Phase.PROGRESSING else (zero,)
    move = make_move(state, wanted, NOTHING, 60.0)
    assert move.decision is zero
    return move.state


@pytest.mark.parametrize("phase", [Phase.PROGRESSING, Phase.PAUSED])
def test_a_halt_takes_the_weight_and_leaves_the_copies(phase: Phase) -> None:
    """It is paused at weight 0 with the breaker's reason; a rollout that an operator has paused as well."""
    state = running()
    if phase is Phase.PAUSED:
        state = apply(state, Pause(reason="lunch", actor=OLGA), 30.0)
    halted = halt(state)
    assert (halted.phase, halted.reason, halted.halted) == (Phase.PAUSED, "5 failures", True)
    assert (halted.exposure.weight_bp, halted.exposure.mirror_bp, halted.exposure.since_s) == (0, 500, 60.0)


def test_an_operators_resume_opens_the_steps_own_shares_as_a_new_exposure() -> None:
    """With the thresholds of then; max_duration begins anew as after any pause."""
    halted = halt(running())
    move = make_move(halted, (Resume(reason="fixed", actor=OLGA),), Judgement(thresholds=(("latency_p50", 3.0),)), 90.0)
    resumed = move.state
    assert (resumed.phase, resumed.halted, resumed.started_s) == (Phase.PROGRESSING, False, 90.0)
    exposure = resumed.exposure
    assert (exposure.weight_bp, exposure.mirror_bp, exposure.since_s, exposure.id) == (1_000, 500, 90.0, 4)
    assert exposure.thresholds == (("latency_p50", 3.0),)
    assert move.record is not None
    assert (move.record.weight_bp_before, move.record.weight_bp_after) == (0, 1_000)


def test_a_resume_after_a_plain_pause_opens_nothing() -> None:
    """Shares, exposure and evidence go on."""
    paused = apply(running(), Pause(reason="lunch", actor=OLGA), 30.0)
    assert apply(paused, Resume(reason="on", actor=OLGA), 60.0).exposure is paused.exposure


@pytest.mark.parametrize("actor", [CONTROL, BREAKER, Actor(ActorKind.CONFIG, "file")])
def test_nobody_but_an_operator_resumes_what_a_breaker_has_halted(actor: Actor) -> None:
    """It would raise the weight."""
    halted = halt(running())
    move = make_move(halted, (Resume(reason="on", actor=actor),), NOTHING, 90.0)
    assert (move.state, move.record) == (halted, None)
    assert move.decision == Hold(
        reason=f"{actor} cannot resume what a breaker has halted, only an operator can", actor=actor
    )


def test_the_judge_may_still_roll_a_halted_rollout_back() -> None:
    """A breaker's word is not final; the judge's is."""
    move = make_move(halt(running()), (Hold(reason="paused"),), Judgement(rollback=True, reason="harm"), 90.0)
    assert (move.state.phase, move.state.halted) == (Phase.ROLLED_BACK, False)


def test_an_operators_other_moves_end_the_halt_only_if_they_give_weight() -> None:
    """More copies leave it halted; a weight set by hand, another step or policy, and every end do not."""
    halted = halt(running())
    assert apply(halted, SetExposure(reason="look", actor=OLGA, mirror_bp=10_000), 90.0).halted
    for move in (
        SetExposure(reason="a bit", actor=OLGA, weight_bp=100),
        Advance(reason="on", actor=OLGA),
        SetPolicy(reason="other", actor=OLGA, policy="shadow", steps=(Step(mirror_bp=10_000),)),
        Promote(reason="all", actor=OLGA, full=True),
        RollBack(reason="no", actor=OLGA),
    ):
        assert not apply(halted, move, 90.0).halted


def test_an_operators_weight_of_zero_is_no_halt() -> None:
    """Resume then leaves the shares as they were set by hand."""
    state = apply(running(), SetExposure(reason="stop", actor=OLGA, weight_bp=0), 30.0)
    resumed = apply(apply(state, Pause(reason="p", actor=OLGA), 40.0), Resume(reason="r", actor=OLGA), 50.0)
    assert (state.halted, resumed.exposure.weight_bp) == (False, 0)


def test_a_rollout_with_all_its_exposures_can_still_be_halted() -> None:
    """The bound is for those that would raise the weight; a resume after it is refused."""
    state = running()
    for number in range(EXPOSURES):
        state = apply(state, SetExposure(reason="x", actor=OLGA, weight_bp=900 - number), 1.0)
    halted = halt(state)
    assert (halted.phase, halted.exposure.weight_bp) == (Phase.PAUSED, 0)
    with pytest.raises(IllegalTransitionError, match="changed its shares 50 times"):
        apply(halted, Resume(reason="on", actor=OLGA), 2.0)


def test_a_second_halt_of_a_replica_that_was_slower_changes_nothing_else() -> None:
    """Halting again, before it was known, would only be one more revision: weight and phase stay."""
    halted = halt(running())
    again = halt(replace(halted, revision=halted.revision))
    assert (again.exposure, again.phase, again.halted) == (halted.exposure, Phase.PAUSED, True)
