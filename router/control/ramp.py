"""What control proposes for a rollout: the policy's next move, or what a limit of time demands. Pure.

Whether a proposal is safe is `router.core.decisions.guard`'s to say; this only knows order, pace and time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from router.control.replicas import Replica
from router.core.decisions import Advance, Decision, Hold, Judgement, Pause, Promote, RollBack
from router.core.levels import QUANTILES, threshold_name
from router.core.ports import Heartbeat, RolloutPolicy
from router.core.rollout import Phase, RolloutState, Spec

ABORT = "abort"
"""The action that rolls back; every other one pauses."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What control knows of a rollout beside its evidence.

    `idle_s` is how long no evidence has arrived; `lagging` says which replicas do not route by the present revision
    yet, or None.
    """

    idle_s: float = 0.0
    lagging: str | None = None


def propose(policy: RolloutPolicy, state: RolloutState, judgement: Judgement, facts: Facts, now_s: float) -> Decision:
    """Return the next move of a rollout under way, a Hold with its reason where there is none.

    The cases, in order:
    1. paused: nothing but what guard does by itself, which rolls back also then;
    2. the rollout has taken longer than `max_duration` and the judge has not decided: `on_inconclusive`;
    3. no evidence for `no_data.after` in a step that should have some: `no_data.action`;
    4. an operator has set other shares than the step's: the operator goes on, not the plan;
    5. the policy's own move, which waits for every live replica where it goes forward.
    """
    spec = state.spec
    if spec is None or state.phase is not Phase.PROGRESSING:
        return Hold(reason="paused")
    if now_s - state.started_s >= spec.max_duration_s and not judgement.promote:
        reason = f"inconclusive after {_span(spec.max_duration_s)} (max_duration): {judgement.reason}"
        return _stopped(spec.on_inconclusive, reason)
    step = state.steps[state.step]
    if (step.weight_bp or step.mirror_bp) and facts.idle_s >= spec.no_data.after_s:
        return _stopped(spec.no_data.action, f"no new evidence for {_span(facts.idle_s)} (no_data.after)")
    shares = state.exposure.weight_bp, state.exposure.mirror_bp
    if shares != (step.weight_bp, step.mirror_bp):
        return Hold(reason=f"shares were set by hand; `turnout promote` goes on from step {state.step + 1}")
    decision = policy.decide(state.steps, state, judgement, now_s)
    if facts.lagging is not None and isinstance(decision, Advance | Promote):
        return Hold(reason=facts.lagging)
    return decision


def lagging_of(state: RolloutState, replicas: Sequence[Replica], heartbeats: Iterable[Heartbeat]) -> str | None:
    """Return which live replicas hold a rollout back, as one sentence: behind in revision, or with another file."""
    behind = [one.id for one in replicas if one.revision < state.revision]
    if behind:
        return f"waits until all replicas route by revision {state.revision}: {', '.join(behind)} not yet"
    live = {one.id for one in replicas}
    digests = {one.config_digest for one in heartbeats if one.boot in live}
    if len(digests) > 1:
        return f"waits until all replicas have the same configuration: there are {len(digests)} different ones"
    return None


def unfrozen(spec: Spec, thresholds: tuple[tuple[str, float], ...]) -> bool:
    """Whether an enforced latency gate would find no threshold in the next exposure: nothing is frozen later."""
    known = {name for name, _ in thresholds}
    wanted = {
        threshold_name(quantile, gate.slice or "")
        for gate in spec.gates
        if gate.metric == "latency" and not gate.dry_run
        for quantile in QUANTILES
    }
    return not wanted <= known


def _stopped(action: str, reason: str) -> Decision:
    return RollBack(reason=reason) if action == ABORT else Pause(reason=reason)


def _span(seconds: float) -> str:
    for unit_s, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= unit_s and seconds % unit_s == 0:
            return f"{seconds / unit_s:.0f}{unit}"
    return f"{seconds:.0f}s"
