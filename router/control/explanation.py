"""Why a rollout stands where it stands, and what would make it move. Pure.

Everything here is said of the same judgement, facts and second that `ramp.next_move` decides by.
"""

from collections.abc import Iterable, Iterator, Sequence

from router.control.ramp import ABORT, Outlook, span, unfrozen
from router.core.decisions import DecisionRecord, Judgement, Verdict, all_waits
from router.core.rollout import Phase, RolloutState

SHOWN_CHANGES = 5
"""How many changes of the shares are told, newest first. Chosen: a plan has about ten; the ledger has them all."""


def changes_of(state: RolloutState, newest_first: Iterable[DecisionRecord]) -> Sequence[DecisionRecord]:
    """Return the decisions of this rollout that opened its exposures, newest first: the first set the present shares.

    A decision that opens none (a pause, an approval, the same shares again) is left out.
    """
    opened = [exposure.id for exposure in state.exposures]
    records = [one for one in newest_first if one.rollout == state.id and one.revision >= min(opened)]
    # A record may span two revisions (a policy and shares in one write), so an exposure's is the first at or after it.
    first_at = {min((one.revision for one in records if one.revision >= at), default=0) for at in opened}
    return [one for one in records if one.revision in first_at][:SHOWN_CHANGES]


def missing_of(state: RolloutState, judgement: Judgement, outlook: Outlook) -> Sequence[str]:
    """Return all that must come about before control moves this rollout on by itself; first what it waits for."""
    if not state.active:
        return ()
    outside = outlook.outside
    found = [outlook.waits_for, *all_waits(judgement, state, outlook.now_s), outlook.facts.lagging]
    found += [outside.frozen, outside.unconfirmed]
    if state.step + 1 == len(state.steps):
        found += _gates_left(state, judgement)
    elif state.spec is not None:
        found.append(unfrozen(state.spec, judgement))
    return list(dict.fromkeys(one for one in found if one is not None))


def limits_of(state: RolloutState, judgement: Judgement, outlook: Outlook) -> Sequence[str]:
    """Return what ends the waiting of a rollout in progress, should nothing else happen."""
    spec = state.spec
    if spec is None or state.phase is not Phase.PROGRESSING:
        return ()
    passed = span(outlook.now_s - state.started_s if judgement.running_s is None else judgement.running_s)
    found = [f"{_did(spec.on_inconclusive)} after {span(spec.max_duration_s)} (max_duration); {passed} have passed"]
    step = state.steps[state.step]
    if step.weight_bp or step.mirror_bp:
        idle_s = outlook.facts.idle_s
        silence = f", there has been none for {span(idle_s)}" if idle_s >= 1 else ""
        found.append(f"{_did(spec.no_data.action)} after {span(spec.no_data.after_s)} without evidence{silence}")
    return found


def _gates_left(state: RolloutState, judgement: Judgement) -> Iterator[str]:
    """Say of each gate that the last step asks for what it still needs."""
    asked = state.steps[state.step].gates
    if not any(gate.enforced and gate.proves for gate in judgement.gates):
        yield "no gate is enforced that could pass, so the judge has nothing to go by: promote --full"
    for gate in judgement.gates:
        if gate.verdict is Verdict.PASS or not gate.enforced or not gate.proves or (asked and gate.gate not in asked):
            continue
        if gate.more_requests is None:
            yield f"gate {gate.gate} has not passed, and nothing seen so far says that it will"
        else:
            yield f"gate {gate.gate} needs about {gate.more_requests:,} more if it goes on like this"


def _did(action: str) -> str:
    return "it is rolled back" if action == ABORT else "it pauses"
