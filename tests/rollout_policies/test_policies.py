"""The three built-in policies: their default plans, and what they propose along the way."""

from dataclasses import replace

import pytest

from rollout_policies.blue_green import BlueGreen
from rollout_policies.canary import Canary
from rollout_policies.shadow import Shadow
from router.core.decisions import (
    Actor,
    ActorKind,
    Advance,
    Counts,
    Decision,
    Hold,
    Judgement,
    Pause,
    Promote,
    Start,
    guard,
)
from router.core.ports import RolloutPolicy
from router.core.rollout import GateSpec, Phase, RolloutState, Spec, Step, apply, idle_state
from router.testing.policy_contract import check_policy

NOW_S = 1_000.0
POLICIES: list[RolloutPolicy] = [Shadow(), Canary(), BlueGreen()]

SHADOW_STEP = Step(weight_bp=0, mirror_bp=10_000, bake_s=60.0, min_requests=0, min_pairs=500)
PLENTY = Counts(requests_stable=10_000, requests_candidate=10_000, pairs=10_000)
CONTENT = Judgement(promote=True, counts=PLENTY, reason="as good as stable")
UNSURE = Judgement(counts=PLENTY, reason="not enough evidence")


def canary_step(weight_bp: int) -> Step:
    """Return a step of the default canary."""
    return Step(weight_bp=weight_bp, mirror_bp=1_000, bake_s=60.0, min_requests=200, min_pairs=0)


def started(policy: RolloutPolicy, **spec: object) -> RolloutState:
    """Return a rollout at the first step of the policy's plan."""
    asked = replace(Spec("v2", policy.name), **spec)  # type: ignore[arg-type]
    begin = Start(reason="begin", rollout_id="b.1", spec=asked, steps=policy.plan(asked))
    return apply(idle_state("digits", "v1", NOW_S), begin, NOW_S)


def proposed(policy: RolloutPolicy, state: RolloutState, judgement: Judgement, now_s: float = NOW_S) -> Decision:
    """Return what the policy proposes."""
    return policy.decide(state.steps, state, judgement, now_s)


def at_the_last_step(policy: RolloutPolicy, **spec: object) -> RolloutState:
    """Return a rollout at the last step of the policy's plan."""
    state = started(policy, **spec)
    for _ in state.steps[1:]:
        state = apply(state, Advance(reason="on"), NOW_S)
    return state


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_a_built_in_policy_keeps_the_contract_it_shares_with_strangers(policy: RolloutPolicy) -> None:
    """`check_policy` is what an author of a plug-in runs too."""
    check_policy(policy)


@pytest.mark.parametrize(
    ("policy", "plan"),
    [
        (Shadow(), (SHADOW_STEP,)),
        (Canary(), (SHADOW_STEP, *(canary_step(weight_bp) for weight_bp in (100, 500, 2_500, 5_000)))),
        (BlueGreen(), (SHADOW_STEP, replace(canary_step(10_000), bake_s=86_400.0))),
    ],
    ids=["shadow", "canary", "blue_green"],
)
def test_the_default_plan_is_the_documented_one(policy: RolloutPolicy, plan: tuple[Step, ...]) -> None:
    """design.md section 7, written out."""
    assert policy.plan(Spec("v2", policy.name)) == plan


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_steps_of_the_spec_replace_the_default_plan(policy: RolloutPolicy) -> None:
    """The operator's plan is taken as it is."""
    steps = (Step(weight_bp=300), Step(weight_bp=7_000))
    assert policy.plan(Spec("v2", policy.name, steps=steps)) == steps


def test_blue_green_serves_everything_for_the_rollback_window() -> None:
    """The window is the Spec's, and it is the bake of the last step."""
    assert BlueGreen().plan(Spec("v2", "blue_green", rollback_window_s=120.0))[-1].bake_s == 120.0


ERRORS = GateSpec("errors", "error_rate", max_increase=0.005)
MOST_ERRORS = GateSpec("most_errors", "error_rate", maximum=0.02)
SPEED = GateSpec("speed", "latency", max_increase=0.1)
FLIPS = GateSpec("flips", "disagreement", maximum=0.02)


def test_blue_green_judges_each_gate_where_it_can_be_measured() -> None:
    """Before the switch what copies show, after it what needs no comparison; latency is shown by neither."""
    before, after = BlueGreen().plan(Spec("v2", "blue_green", gates=(ERRORS, MOST_ERRORS, SPEED, FLIPS)))
    assert (before.gates, after.gates) == (("errors", "most_errors", "flips"), ("most_errors", "flips"))


def test_blue_green_names_no_gate_that_is_on_trial() -> None:
    """A step that named only such gates would be left to nobody's word."""
    on_trial = replace(FLIPS, dry_run=True)
    before, after = BlueGreen().plan(Spec("v2", "blue_green", gates=(ERRORS, on_trial)))
    assert (before.gates, after.gates) == (("errors",), ())


def test_blue_green_moves_all_traffic_only_when_the_judge_agrees() -> None:
    """After bake and pairs, by the gates of the shadow step; an operator need not wait."""
    state = started(BlueGreen(), gates=(ERRORS, FLIPS))
    later_s = NOW_S + 60.0
    assert proposed(BlueGreen(), state, CONTENT) == Hold(reason="baking: 0 s of 60 s")
    unsure = proposed(BlueGreen(), state, UNSURE, later_s)
    assert unsure == Hold(reason="all traffic moves when the judge agrees: not enough evidence")
    assert isinstance(proposed(BlueGreen(), state, CONTENT, later_s), Advance)
    by_hand = Advance(reason="now", actor=Actor(ActorKind.OPERATOR, "olga"))
    assert by_hand is guard(UNSURE, state, by_hand, NOW_S)


@pytest.mark.parametrize(
    ("gates", "steps"),
    [
        ((), ()),
        ((replace(ERRORS, dry_run=True),), ()),
        ((ERRORS,), (Step(weight_bp=5_000), Step(weight_bp=10_000))),
        ((ERRORS,), (Step(weight_bp=500, gates=("errors",)), Step(weight_bp=5_000), Step(weight_bp=10_000))),
    ],
    ids=["no gate", "none enforced", "none named", "not before the switch"],
)
def test_blue_green_waits_for_nobody_where_no_gate_is_asked(
    gates: tuple[GateSpec, ...], steps: tuple[Step, ...]
) -> None:
    """Steps of one's own wait for the gates that the step before 100 % names, and for no other."""
    state = started(BlueGreen(), gates=gates, steps=steps)
    assert isinstance(proposed(BlueGreen(), state, UNSURE, NOW_S + 60.0), Advance)


@pytest.mark.parametrize("policy", [Canary(), BlueGreen()], ids=lambda policy: policy.name)
def test_before_the_last_step_the_next_one_is_proposed(policy: RolloutPolicy) -> None:
    """Policies set the order; that nothing is ready yet is the guard's to say."""
    state = started(policy)
    assert isinstance(proposed(policy, state, Judgement()), Advance)
    held = guard(Judgement(), state, proposed(policy, state, Judgement()), NOW_S + 10.0)
    assert (held.kind, held.reason) == ("hold", "baking: 10 s of 60 s")


@pytest.mark.parametrize("policy", [Canary(), BlueGreen()], ids=lambda policy: policy.name)
def test_at_the_last_step_promotion_is_proposed_and_waits_for_bake_and_judge(policy: RolloutPolicy) -> None:
    """The judge's word before the bake is not enough, nor is the bake without the judge's word."""
    state = at_the_last_step(policy)
    bake_s = state.steps[-1].bake_s
    promote = proposed(policy, state, CONTENT)
    assert isinstance(promote, Promote)
    assert not promote.full
    assert guard(CONTENT, state, promote, NOW_S + bake_s) is promote
    assert guard(CONTENT, state, promote, NOW_S + bake_s - 1.0).reason.startswith("baking: ")
    assert guard(UNSURE, state, promote, NOW_S + bake_s).reason.startswith("promotion waits for the judge")


def test_shadow_ends_paused_with_the_reason_shadow_passed() -> None:
    """When its step has all it asks for and the judge is content."""
    state = at_the_last_step(Shadow())
    passed = proposed(Shadow(), state, CONTENT, NOW_S + 60.0)
    assert passed == Pause(reason="shadow_passed")
    ended = apply(state, guard(CONTENT, state, passed, NOW_S + 60.0), NOW_S + 60.0)
    assert (ended.phase, ended.reason, ended.exposure.mirror_bp) == (Phase.PAUSED, "shadow_passed", 10_000)


@pytest.mark.parametrize(
    ("judgement", "seconds", "reason"),
    [
        (CONTENT, 59.0, "baking: 59 s of 60 s"),
        (replace(CONTENT, counts=Counts(pairs=499)), 60.0, "pairs: 499 of 500"),
        (UNSURE, 60.0, "the judge has not passed it yet: not enough evidence"),
        (Judgement(), 3_600.0, "pairs: 0 of 500"),
    ],
    ids=["bake", "pairs", "judge", "no data"],
)
def test_shadow_has_not_passed_before_all_is_there(judgement: Judgement, seconds: float, reason: str) -> None:
    """Silence never passes."""
    assert proposed(Shadow(), at_the_last_step(Shadow()), judgement, NOW_S + seconds) == Hold(reason=reason)


def test_shadow_walks_several_steps_in_their_order() -> None:
    """Only the last one passes."""
    state = started(Shadow(), steps=(Step(mirror_bp=1_000), SHADOW_STEP))
    assert isinstance(proposed(Shadow(), state, CONTENT, NOW_S + 60.0), Advance)
