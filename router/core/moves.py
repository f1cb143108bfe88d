"""From proposals to the next state: guard, then apply, then one line for the ledger. Pure.

The control loop, the operators' commands and a gateway's breaker all move a Route through this one function, so that
a decision means the same whoever asks for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from router.core.decisions import NOTHING_OUTSIDE, Decision, DecisionRecord, Hold, Judgement, Outside, guard
from router.core.rollout import RolloutState, apply


@dataclass(frozen=True, slots=True)
class Move:
    """What came of one or more proposals.

    `decision` is what `guard` let through: the first proposal, or the Hold or RollBack in its place. `record` is None
    when nothing changes.
    """

    state: RolloutState
    decision: Decision
    record: DecisionRecord | None


def make_move(
    state: RolloutState,
    proposals: Sequence[Decision],
    judgement: Judgement,
    now_s: float,
    outside: Outside = NOTHING_OUTSIDE,
) -> Move:
    """Return the state after all `proposals` (at least one), applied in order as one move; all of them or none.

    Each proposal passes `guard`. If guard puts another decision in the place of any, that decision alone is applied
    to `state` as it was. The revision grows by one for each decision applied; the record has the kind of the first,
    and the shares before the first and after the last. Raises IllegalTransitionError where the transition table has
    no entry.
    """
    after = state
    for proposal in proposals:
        allowed = guard(judgement, after, proposal, now_s, outside)
        if allowed is not proposal:
            return _moved(state, apply(state, allowed, now_s, judgement.thresholds), allowed, judgement, now_s)
        after = apply(after, proposal, now_s, judgement.thresholds)
    return _moved(state, after, proposals[0], judgement, now_s)


def _moved(before: RolloutState, after: RolloutState, decision: Decision, judgement: Judgement, now_s: float) -> Move:
    if isinstance(decision, Hold):
        return Move(before, decision, None)
    record = DecisionRecord(
        at_s=now_s,
        route=after.route,
        rollout=after.id,
        revision=after.revision,
        epoch=after.epoch,
        kind=decision.kind,
        reason=decision.reason,
        actor=str(decision.actor),
        phase_before=before.phase,
        phase_after=after.phase,
        weight_bp_before=before.exposure.weight_bp,
        weight_bp_after=after.exposure.weight_bp,
        mirror_bp_before=before.exposure.mirror_bp,
        mirror_bp_after=after.exposure.mirror_bp,
        policy=after.policy,
        judgement=judgement,
    )
    return Move(after, decision, record)
