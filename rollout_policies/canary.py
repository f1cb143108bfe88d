"""Canary: the candidate serves a growing share of the traffic."""

from rollout_policies.walk import planned, serving_step, shadow_step, walk
from router.core.decisions import Decision, Judgement, Promote
from router.core.rollout import RolloutState, Spec, Step

WEIGHTS_BP = (100, 500, 2_500, 5_000)
"""1, 5, 25, 50 %: each step shows harm that the one before was too small to show."""


class Canary:
    """Copies first, then serves 1, 5, 25 and 50 %, then promotes."""

    name = "canary"

    def plan(self, spec: Spec) -> tuple[Step, ...]:
        """Return the Spec's steps, or the shadow step followed by 1, 5, 25 and 50 % with 10 % copies."""
        return planned(spec, (shadow_step(), *(serving_step(weight_bp) for weight_bp in WEIGHTS_BP)))

    def decide(self, plan: tuple[Step, ...], state: RolloutState, judgement: Judgement, now_s: float) -> Decision:
        """Propose the next step, and promotion at the last one."""
        return walk(plan, state, judgement, Promote(reason=f"last step: {judgement.reason}"))
