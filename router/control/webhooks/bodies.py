"""What webhooks are told: Flagger's payload, so that its receivers understand it, and what we know beside. Pure."""

import json
from collections.abc import Mapping

from router.control.webhooks.calls import Message
from router.core.decisions import Decision, DecisionRecord, Judgement, Start
from router.core.rollout import Phase, RolloutState, Step, block_hash_of

NAMESPACE = "turnout"

_FLAGGER: Mapping[str, str] = {
    Phase.IDLE: "Initialized",
    Phase.PROGRESSING: "Progressing",
    Phase.PAUSED: "Waiting",
    Phase.PROMOTED: "Succeeded",
    Phase.ROLLED_BACK: "Failed",
}
"""Our phases in Flagger's words."""

_WARNINGS = frozenset({"roll_back", "undo"})


def gate_message(moment: str, state: RolloutState, decision: Decision | None, now_s: float) -> Message:
    """Return the question whether `decision` may be made; None where it is whether to roll back."""
    rollout = decision.rollout_id if isinstance(decision, Start) else state.id
    candidate = decision.spec.candidate if isinstance(decision, Start) else state.candidate
    following = _following(state, decision)
    why = decision.reason if decision else state.reason
    return _message(
        f"{state.route}/{state.revision}/{moment}",
        moment,
        state.route,
        state.phase,
        rollout,
        {
            "metadata": _metadata(why, "Normal", now_s),
            "rollout": {
                "id": rollout,
                "revision": state.revision,
                "phase": state.phase,
                "stable": state.stable,
                "candidate": candidate,
                "step": state.step,
                "steps": len(decision.steps if isinstance(decision, Start) else state.steps),
                "weight_bp": state.exposure.weight_bp,
                "mirror_bp": state.exposure.mirror_bp,
                "next_weight_bp": following.weight_bp if following else None,
                "next_mirror_bp": following.mirror_bp if following else None,
            },
        },
    )


def event_message(record: DecisionRecord, state: RolloutState) -> Message:
    """Return the news of a decision that was written; `state` is what it made, or a later one."""
    kind = "Warning" if record.kind in _WARNINGS else "Normal"
    return _message(
        f"{record.route}/{record.revision}",
        "event",
        record.route,
        record.phase_after,
        record.rollout,
        {
            "metadata": _metadata(record.reason, kind, record.at_s),
            "decision": {
                "at_s": record.at_s,
                "rollout": record.rollout,
                "revision": record.revision,
                "epoch": record.epoch,
                "kind": record.kind,
                "reason": record.reason,
                "actor": record.actor,
                "phase_before": record.phase_before,
                "phase_after": record.phase_after,
                "weight_bp_before": record.weight_bp_before,
                "weight_bp_after": record.weight_bp_after,
                "mirror_bp_before": record.mirror_bp_before,
                "mirror_bp_after": record.mirror_bp_after,
                "policy": record.policy,
                "stable": state.stable,
                "candidate": state.candidate,
                "judgement": _judged(record.judgement),
            },
        },
    )


def _message(  # noqa: PLR0913, PLR0917 - the fields of one body in their order
    message_id: str, kind: str, route: str, phase: str, rollout: str, rest: Mapping[str, object]
) -> Message:
    body = {
        "id": message_id,
        "type": kind,
        "name": route,
        "namespace": NAMESPACE,
        "phase": _FLAGGER[phase],
        "checksum": block_hash_of(rollout),
        **rest,
    }
    return Message(message_id, json.dumps(body, ensure_ascii=True, separators=(",", ":")).encode())


def _metadata(reason: str, kind: str, at_s: float) -> Mapping[str, str]:
    return {"eventMessage": reason, "eventType": kind, "timestamp": str(int(at_s * 1_000))}


def _following(state: RolloutState, decision: Decision | None) -> Step | None:
    """Return the step that would be entered, None where there is none."""
    if isinstance(decision, Start):
        return decision.steps[0]
    is_last = state.step + 1 >= len(state.steps)
    return None if decision is None or decision.kind != "advance" or is_last else state.steps[state.step + 1]


def _judged(judgement: Judgement) -> Mapping[str, object]:
    gates = [
        {"gate": gate.gate, "verdict": gate.verdict, "sentence": gate.sentence, "enforced": gate.enforced}
        for gate in judgement.gates
    ]
    return {
        "rollback": judgement.rollback,
        "promote": judgement.promote,
        "invalid": judgement.invalid,
        "reason": judgement.reason,
        "gates": gates,
    }
