"""What control proposes for a rollout: the policy's next move, or what a limit of time demands. Pure.

Whether a proposal is safe is `router.core.decisions.guard`'s to say; this only knows order, pace and time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from router.analysis.thresholds import FEWEST
from router.control.replicas import Replica, ahead_of
from router.core.basis import Facts
from router.core.decisions import (
    NOTHING_OUTSIDE,
    Advance,
    Decision,
    GivePlaces,
    Hold,
    Judgement,
    Outside,
    Pause,
    Promote,
    RollBack,
)
from router.core.errors import IllegalTransitionError
from router.core.levels import QUANTILES, threshold_name
from router.core.moves import Move, make_move
from router.core.ports import Heartbeat, RolloutPolicy
from router.core.rollout import Phase, RolloutState, Spec
from router.core.slices import give_places

ABORT = "abort"
"""The action that rolls back; every other one pauses."""

PAUSED = "it is paused; an operator goes on with resume or promote, or ends it with abort"


@dataclass(frozen=True, slots=True)
class Outlook:
    """What control would do with a rollout at the wall-clock second `now_s`, and what it would do it on.

    `decision` is None where no rollout is under way.
    """

    decision: Decision | None
    facts: Facts
    outside: Outside
    now_s: float

    @property
    def waits_for(self) -> str | None:
        """What is waited for, in a sentence; None when the next turn does something, or nothing is under way."""
        return self.decision.reason if isinstance(self.decision, Hold) else None

    @property
    def next(self) -> Decision | None:
        """What the next turn does; None when it does nothing."""
        return None if isinstance(self.decision, Hold) else self.decision


def propose(  # noqa: PLR0911 - one for each case
    policy: RolloutPolicy, state: RolloutState, judgement: Judgement, facts: Facts, now_s: float
) -> Decision:
    """Return the next move of a rollout under way, a Hold with its reason where there is none.

    The cases, in order:
    0. values of slices have come often enough to be given free places, also while it is paused;
    1. paused: nothing but what guard does by itself, which rolls back also then;
    2. the rollout has taken longer than `max_duration` and the judge has not decided: `on_inconclusive`;
    3. no evidence for `no_data.after` in a step that should have some: `no_data.action`;
    4. an operator has set other shares than the step's: the operator goes on, not the plan;
    5. the policy's own move, which waits for every live replica where it goes forward.
    """
    spec = state.spec
    if state.active and facts.popular is not None:
        places, words = give_places(state.slices, facts.popular)
        if words:
            return GivePlaces(reason=f"judged by themselves from now on: {', '.join(words)}", slices=places)
    if spec is None or state.phase is not Phase.PROGRESSING:
        return Hold(reason=PAUSED)
    running_s = now_s - state.started_s if judgement.running_s is None else judgement.running_s
    if running_s >= spec.max_duration_s and not judgement.promote:
        reason = f"inconclusive after {span(spec.max_duration_s)} (max_duration): {judgement.reason}"
        return _stopped(spec.on_inconclusive, reason)
    step = state.steps[state.step]
    if (step.weight_bp or step.mirror_bp) and facts.idle_s >= spec.no_data.after_s:
        return _stopped(spec.no_data.action, f"no new evidence for {span(facts.idle_s)} (no_data.after)")
    shares = state.exposure.weight_bp, state.exposure.mirror_bp
    if shares != (step.weight_bp, step.mirror_bp):
        return Hold(reason=f"shares were set by hand; `turnout promote` goes on from step {state.step + 1}")
    # Gates' lines are made only when a decision is due or somebody looks: a policy must not act by them.
    decision = policy.decide(state.steps, state, replace(judgement, gates=(), thresholds=()), now_s)
    if facts.lagging is not None and isinstance(decision, Advance | Promote):
        return Hold(reason=facts.lagging)
    return decision


def lagging_of(state: RolloutState, replicas: Sequence[Replica], heartbeats: Iterable[Heartbeat]) -> str | None:
    """Return which live replicas hold a rollout back, as one sentence: of another revision, or with another file."""
    if ahead := ahead_of(replicas, state.revision):
        return ahead
    behind = [one.id for one in replicas if one.revision < state.revision]
    if behind:
        return f"waits until all replicas route by revision {state.revision}: {', '.join(behind)} not yet"
    live = {one.id for one in replicas}
    digests = {one.config_digest for one in heartbeats if one.boot in live}
    if len(digests) > 1:
        return f"waits until all replicas have the same configuration: there are {len(digests)} different ones"
    return None


def unfrozen(spec: Spec, judgement: Judgement) -> str | None:
    """Say which enforced latency gate would find no threshold in the next exposure: nothing is frozen later."""
    known = {name for name, _ in judgement.thresholds}
    for gate in spec.gates:
        if gate.metric != "latency" or gate.dry_run:
            continue
        for quantile in QUANTILES:
            if threshold_name(quantile, gate.slice or "") not in known:
                return (
                    f"gate {gate.name} could not be judged in the next step: stable's p{100 * quantile:g} is frozen "
                    f"from {FEWEST[quantile]:,} of its answers in one exposure, "
                    f"here there are {judgement.counts.requests_stable:,}"
                )
    return None


def next_move(
    state: RolloutState,
    proposal: Decision,
    judgement: Judgement,
    now_s: float,
    outside: Outside = NOTHING_OUTSIDE,
) -> Move:
    """Return what comes of control's proposal: guard, then the thresholds of the next step, then apply.

    Where nothing does, the move's decision is a Hold that says what is waited for. The loop acts by this function and
    the admin API shows what it says, so the two cannot differ. `judgement` is one with all its numbers and thresholds.
    """
    try:
        move = make_move(state, (proposal,), judgement, now_s, outside)
    except IllegalTransitionError as error:
        return Move(state, Hold(reason=str(error)), None)
    if isinstance(move.decision, Advance) and state.spec is not None:
        wait = unfrozen(state.spec, judgement)
        if wait is not None:
            return Move(state, Hold(reason=wait), None)
    return move


def _stopped(action: str, reason: str) -> Decision:
    return RollBack(reason=reason) if action == ABORT else Pause(reason=reason)


def span(seconds: float) -> str:
    """Return a duration in its one or two largest units: `7d`, `1m30s`."""
    left, parts = int(seconds), []
    for unit_s, unit in ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")):
        count, left = divmod(left, unit_s)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2]) or "0s"
