"""What the built-in policies share: the steps of their default plans, and the walk over any plan.

A policy is order and pace. It proposes the next move at each tick and lets `router.core.decisions.guard`
hold it back until bake, counts, approval and the judge allow it, so the wait has one reason, named in one
place.
"""

from router.core.decisions import Advance, Decision, Judgement
from router.core.rollout import FULL_BP, RolloutState, Spec, Step

COPIES_BP = 1_000
"""Copies during a canary. Chosen: a tenth keeps pairs coming without doubling the load on the models."""

MIN_PAIRS = 500
"""Pairs before the first step is left. Chosen: a disagreement of 1 % shows in 99 of 100 such samples."""

MIN_REQUESTS = 200
"""Candidate requests before a serving step is left: not for validity, but for cold caches (statistics.md)."""


def shadow_step() -> Step:
    """Return the step all default plans begin with: every request copied, none served by the candidate."""
    return Step(mirror_bp=FULL_BP, min_pairs=MIN_PAIRS)


def serving_step(weight_bp: int, bake_s: float = 60.0) -> Step:
    """Return a step in which the candidate serves `weight_bp` (1..10000) for at least `bake_s`."""
    return Step(weight_bp=weight_bp, mirror_bp=COPIES_BP, bake_s=bake_s, min_requests=MIN_REQUESTS)


def planned(spec: Spec, default: tuple[Step, ...]) -> tuple[Step, ...]:
    """Return the steps to walk: the Spec's own if it has any, else `default`."""
    return spec.steps or default


def walk(plan: tuple[Step, ...], state: RolloutState, judgement: Judgement, at_the_end: Decision) -> Decision:
    """Return the next move over `plan`: one step further, or `at_the_end` when there is none."""
    if state.step + 1 < len(plan):
        done = f"step {state.step + 1} of {len(plan)} is done and nothing speaks against the next"
        return Advance(reason=f"{done}: {judgement.reason}")
    return at_the_end
