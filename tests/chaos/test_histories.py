"""The checker of histories finds what it is there for, and nothing in a good one."""

from dataclasses import replace

import pytest

from router.core.decisions import Actor, ActorKind, Decision, DecisionRecord, Judgement, RollBack, SetExposure, Start
from router.core.moves import make_move
from router.core.rollout import Spec, Step, idle_state
from tests.chaos.histories import faults

OLGA = Actor(ActorKind.OPERATOR, "olga")


def good() -> list[DecisionRecord]:
    """Return a ledger: three shares under two epochs, a rollback, the next attempt."""
    state, ledger = idle_state("digits", "v1", 0.0), []
    spec, steps = Spec("v2", "canary"), (Step(weight_bp=100),)
    decisions: list[tuple[int, Decision]] = [
        (1, Start(reason="go", actor=OLGA, rollout_id="a.1", spec=spec, steps=steps)),
        (1, SetExposure(reason="more", actor=OLGA, weight_bp=200)),
        (2, SetExposure(reason="more", actor=OLGA, weight_bp=300)),
        (2, RollBack(reason="bad", actor=OLGA)),
        (3, Start(reason="again", actor=OLGA, rollout_id="a.2", spec=spec, steps=steps)),
    ]
    for epoch, decision in decisions:
        move = make_move(replace(state, epoch=epoch), [decision], Judgement(), 0.0)
        assert move.record is not None
        state = move.state
        ledger.append(move.record)
    return ledger


def test_cl3_a_good_history_has_no_faults() -> None:
    """Whoever wrote it, with a writer for each epoch too."""
    assert faults(good()) == []
    assert faults(good(), {1: "a", 2: "a", 3: "b", 4: "b", 5: "a"}) == []


def lost(ledger: list[DecisionRecord]) -> list[DecisionRecord]:
    """An update of which the next writer has seen nothing."""
    return [*ledger[:2], replace(ledger[2], weight_bp_before=100), *ledger[3:]]


def interleaved(ledger: list[DecisionRecord]) -> list[DecisionRecord]:
    """Two writers read the same state and both wrote."""
    return [*ledger[:3], replace(ledger[2], revision=4, weight_bp_after=900), *ledger[4:]]


def doubled(ledger: list[DecisionRecord]) -> list[DecisionRecord]:
    """One revision was written twice."""
    return [*ledger[:2], ledger[1], *ledger[2:]]


def stale(ledger: list[DecisionRecord]) -> list[DecisionRecord]:
    """A writer of an old epoch came through."""
    return [*ledger[:3], replace(ledger[3], epoch=1), *ledger[4:]]


def risen(ledger: list[DecisionRecord]) -> list[DecisionRecord]:
    """A rollout that was rolled back has weight again."""
    after = ledger[3]
    risen = replace(
        after, kind="set_exposure", revision=5, phase_before=after.phase_after, weight_bp_before=0, weight_bp_after=50
    )
    return [*ledger[:4], risen]


def begun_again(ledger: list[DecisionRecord]) -> list[DecisionRecord]:
    """A rollout id began a second time."""
    return [*ledger[:4], replace(ledger[4], rollout="a.1")]


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lost, "was decided on ('progressing', 100, 0)"),
        (interleaved, "revision 4 was decided on ('progressing', 200, 0)"),
        (doubled, "revision 2 was written after 2"),
        (stale, "epoch 1 wrote revision 4 after epoch 2"),
        (risen, "gave 50 bp to a.1, which was rolled back"),
        (begun_again, "rollout a.1 began again"),
    ],
)
def test_cl3_a_bad_history_is_found(spoil, sentence: str) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Each with a sentence that says where."""
    assert sentence in "\n".join(faults(spoil(good())))


def test_cl3_two_writers_in_one_epoch_are_found() -> None:
    """Where it is known who wrote which revision."""
    assert faults(good(), {1: "a", 2: "b", 3: "b", 4: "b"}) == ["epoch 1 has two writers: a, b"]
