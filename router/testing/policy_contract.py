"""What every rollout policy must keep; run it in the tests of yours: `check_policy(MyPolicy())`."""

from dataclasses import replace

from router.core.decisions import (
    Advance,
    Counts,
    Decision,
    Hold,
    Judgement,
    Pause,
    Promote,
    RollBack,
    SetExposure,
    SetPolicy,
    Start,
    guard,
)
from router.core.errors import IllegalTransitionError
from router.core.ports import RolloutPolicy
from router.core.rollout import FULL_BP, Phase, RolloutState, Spec, Step, apply, idle_state
from router.testing.expect import ensure, expect

NOW_S = 1_790_000_000.0

OWN_STEPS = (
    Step(mirror_bp=FULL_BP, bake_s=0.0, min_pairs=10),
    Step(weight_bp=500, mirror_bp=1_000, min_requests=50, approval=True),
    Step(weight_bp=FULL_BP),
)
"""A plan of the operator's: copies, a part, everything."""

PROPOSALS = (Advance, Hold, Pause, Promote, RollBack, SetExposure, SetPolicy)
"""What a policy may propose; to start, resume, approve or undo is for people."""

PLENTY = Counts(requests_stable=1_000_000, requests_candidate=1_000_000, pairs=1_000_000)
JUDGEMENTS = (
    Judgement(),
    Judgement(counts=PLENTY, reason="no harm seen"),
    Judgement(promote=True, counts=PLENTY, reason="as good as stable"),
    Judgement(rollback=True, counts=PLENTY, reason="errors"),
    Judgement(invalid="counters disagree", counts=PLENTY, reason="invalid"),
)


def check_policy(policy: RolloutPolicy) -> None:
    """Raise AssertionError with one sentence unless `policy` keeps the contract of `RolloutPolicy`."""
    ensure(isinstance(policy, RolloutPolicy), "a policy has name, plan and decide")
    expect(str, type(policy.name), "a policy's name is a text")
    default = Spec(candidate="v2", policy=policy.name)
    for spec in (default, replace(default, steps=OWN_STEPS), replace(default, steps=OWN_STEPS[:1])):
        _check_plan(policy, spec)
        _check_decisions(policy, spec)
        _check_it_ends(policy, spec)


def _check_plan(policy: RolloutPolicy, spec: Spec) -> None:
    plan = policy.plan(spec)
    expect(tuple, type(plan), "a plan is a tuple")
    ensure(plan, "a plan has at least one step")
    expect(plan, policy.plan(spec), "one Spec has one plan")
    if spec.steps:
        expect(spec.steps, plan, "the operator's own steps are the plan")
    for step in plan:
        ensure(isinstance(step, Step), "a plan consists of Steps")
        ensure(0 <= step.weight_bp <= FULL_BP and 0 <= step.mirror_bp <= FULL_BP, "shares are 0..10000")
        ensure(not step.min_requests or step.weight_bp, "a step waits for requests only where the candidate serves")
        ensure(not step.min_pairs or step.mirror_bp, "a step waits for pairs only where requests are copied")


def _check_decisions(policy: RolloutPolicy, spec: Spec) -> None:
    """Ask for a decision at every step, under every sort of judgement, early and late."""
    plan = policy.plan(spec)
    for step in range(len(plan)):
        state = _at_step(policy, spec, step)
        for judgement in JUDGEMENTS:
            for now_s in (NOW_S, NOW_S + 1.0, NOW_S + 30 * 86_400.0):
                decision = policy.decide(plan, state, judgement, now_s)
                _check_decision(decision, state)
                expect(decision, policy.decide(plan, state, judgement, now_s), "deciding twice gives the same")


def _check_decision(decision: Decision, state: RolloutState) -> None:
    ensure(isinstance(decision, PROPOSALS), f"a policy does not propose {type(decision).__name__}")
    ensure(decision.reason and "\n" not in decision.reason, "a decision has a reason of one line")
    try:
        apply(state, decision, NOW_S)
    except IllegalTransitionError as error:
        raise AssertionError(f"a policy proposes only what is possible: {error}") from error


def _check_it_ends(policy: RolloutPolicy, spec: Spec) -> None:
    """Walk the plan with a judge who is content and time that passes: it ends in Promote or Pause, in order."""
    plan = policy.plan(spec)
    state = _at_step(policy, spec, 0)
    content, now_s = JUDGEMENTS[2], NOW_S
    for _ in range(10 * len(plan)):
        now_s += 400 * 86_400.0
        decision = guard(content, replace(state, approved=True), policy.decide(plan, state, content, now_s), now_s)
        before, state = state, apply(state, decision, now_s)
        if state.phase is not Phase.PROGRESSING:
            expect(len(plan) - 1, before.step, "a rollout ends at the last step of its plan")
            return
    raise AssertionError("a rollout without any harm comes to its end")


def _at_step(policy: RolloutPolicy, spec: Spec, step: int) -> RolloutState:
    """Return a rollout that has just entered the step with this index."""
    steps = policy.plan(spec)
    start = Start(reason="contract", rollout_id="contract.1", spec=spec, steps=steps)
    state = apply(idle_state("route", "v1", NOW_S), start, NOW_S)
    for _ in range(step):
        state = apply(state, Advance(reason="contract"), NOW_S)
    return state
