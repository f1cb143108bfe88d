"""Shadow: the candidate gets copies only; its answers are compared, never used."""

from rollout_policies.walk import planned, shadow_step, walk
from router.core.decisions import Decision, Hold, Judgement, Pause, waits_for
from router.core.rollout import RolloutState, Spec, Step

PASSED = "shadow_passed"
"""Reason of the pause at the end; `turnout wait --for=passed` looks for it."""


class Shadow:
    """Copies all requests until the judge is content, then pauses with reason `shadow_passed`.

    It never promotes: what comes next is an operator's choice (`set-policy canary`, `promote --full`,
    `abort`).
    """

    name = "shadow"

    def plan(self, spec: Spec) -> tuple[Step, ...]:
        """Return the Spec's steps, or one in which everything is copied until 500 pairs are there."""
        return planned(spec, (shadow_step(),))

    def decide(self, plan: tuple[Step, ...], state: RolloutState, judgement: Judgement, now_s: float) -> Decision:
        """Propose the next step; at the last one Pause as soon as the judgement would allow promotion."""
        return walk(plan, state, judgement, _end(state, judgement, now_s))


def _end(state: RolloutState, judgement: Judgement, now_s: float) -> Decision:
    """Return the pause that says "passed"; the guard lets every pause through, so the wait is here."""
    wait = waits_for(judgement, state, now_s)
    if wait is None and not judgement.promote:
        wait = f"the judge has not passed it yet: {judgement.reason}"
    return Pause(reason=PASSED) if wait is None else Hold(reason=wait)
