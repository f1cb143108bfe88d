"""Blue/green: after copies only, all traffic moves at once; the old variant stays ready for the way back."""

from rollout_policies.walk import planned, serving_step, shadow_step, walk
from router.core.decisions import Decision, Judgement, Promote
from router.core.rollout import FULL_BP, RolloutState, Spec, Step


class BlueGreen:
    """Copies first, then serves everything from the candidate for the rollback window, then promotes."""

    name = "blue_green"

    def plan(self, spec: Spec) -> tuple[Step, ...]:
        """Return the Spec's steps, or the shadow step and 100 % that bakes for `spec.rollback_window_s`."""
        return planned(spec, (shadow_step(), serving_step(FULL_BP, bake_s=spec.rollback_window_s)))

    def decide(self, plan: tuple[Step, ...], state: RolloutState, judgement: Judgement, now_s: float) -> Decision:
        """Propose the next step, and promotion at the last one; the guard waits for the window to pass."""
        return walk(plan, state, judgement, Promote(reason=f"last step: {judgement.reason}"))
