"""A move is guard, then apply, then one record; all of its proposals or none."""

from dataclasses import replace
from typing import Any

import pytest

from router.core.decisions import (
    Actor,
    ActorKind,
    Advance,
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
)
from router.core.errors import IllegalTransitionError
from router.core.moves import make_move
from router.core.rollout import Phase, RolloutState, Spec, Step, apply, idle_state

OLGA = Actor(ActorKind.OPERATOR, "olga")
STEPS = (Step(mirror_bp=10_000), Step(weight_bp=1_000, mirror_bp=1_000))
SPEC = Spec("v2", "canary", steps=STEPS)


def running() -> RolloutState:
    """Return a canary at its first step."""
    start = Start(reason="go", actor=OLGA, rollout_id="abc.1", spec=SPEC, steps=STEPS)
    return replace(apply(idle_state("digits", "v1", 0.0), start, 100.0), epoch=7)


def operator(kind: type[Decision], **fields: Any) -> Decision:  # noqa: ANN401 - fields of any kind
    """Return what olga proposes."""
    return kind(reason="because", actor=OLGA, **fields)


def test_one_proposal_becomes_one_revision_and_one_record() -> None:
    """The record holds who, why, and what it changed."""
    before = running()
    move = make_move(before, [operator(Advance)], Judgement(reason="seen"), 160.0)
    assert move.record is not None
    assert (before.revision + 1, 1_000) == (move.state.revision, move.state.exposure.weight_bp)
    shown = (
        move.record.at_s, move.record.kind, move.record.reason, move.record.actor, move.record.revision,
        move.record.epoch, move.record.weight_bp_before, move.record.weight_bp_after,
        move.record.mirror_bp_before, move.record.mirror_bp_after, move.record.judgement.reason,
    )  # fmt: skip
    assert shown == (160.0, "advance", "because", "operator:olga", 2, 7, 0, 1_000, 10_000, 1_000, "seen")


def test_several_proposals_are_one_move_with_one_record() -> None:
    """Policy, weight and mirror change together; the record has the first kind and the whole difference."""
    wanted = [
        operator(SetPolicy, policy="blue_green", steps=(Step(weight_bp=10_000),)),
        operator(SetExposure, weight_bp=2_500, mirror_bp=500),
    ]
    move = make_move(running(), wanted, Judgement(), 160.0)
    assert move.record is not None
    assert (
        move.state.revision, move.state.policy, move.state.exposure.weight_bp, move.state.exposure.mirror_bp,
    ) == (3, "blue_green", 2_500, 500)  # fmt: skip
    assert (
        move.record.kind, move.record.revision, move.record.weight_bp_before, move.record.weight_bp_after,
        move.record.mirror_bp_before, move.record.mirror_bp_after, move.record.policy,
    ) == ("set_policy", 3, 0, 2_500, 10_000, 500, "blue_green")  # fmt: skip


def test_a_held_proposal_changes_nothing_and_writes_no_record() -> None:
    """Promotion without the judge's word is held; so is everything proposed before it in the same move."""
    before = running()
    move = make_move(before, [operator(Advance), operator(Promote)], Judgement(), 160.0)
    assert isinstance(move.decision, Hold)
    assert "promote --full" in move.decision.reason
    assert (before, None) == (move.state, move.record)


def test_an_illegal_second_proposal_refuses_the_whole_move() -> None:
    """Nothing is half done."""
    with pytest.raises(IllegalTransitionError):
        make_move(running(), [operator(Advance), operator(Resume)], Judgement(), 160.0)


def test_a_demanded_rollback_takes_the_place_of_whatever_was_proposed() -> None:
    """The judge's word wins over an operator's, and only its effect remains."""
    harm = Judgement(rollback=True, reason="error_rate: 9 % against 1 %")
    before = running()
    move = make_move(before, [operator(SetExposure, weight_bp=9_000), operator(Pause)], harm, 160.0)
    assert isinstance(move.decision, RollBack)
    assert (Phase.ROLLED_BACK, 0, before.revision + 1) == (
        move.state.phase, move.state.exposure.weight_bp, move.state.revision,
    )  # fmt: skip
    assert move.record is not None
    assert ("roll_back", "control", harm.reason) == (move.record.kind, move.record.actor, move.record.reason)
