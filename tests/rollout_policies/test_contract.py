"""`check_policy` itself: it must notice what it promises to notice."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest

from rollout_policies.canary import Canary
from router.core.decisions import Advance, Approve, Decision, Hold, Judgement, Promote, Resume
from router.core.rollout import RolloutState, Spec, Step
from router.testing.policy_contract import check_policy


class Broken(Canary):
    """A canary with one thing done wrongly."""

    def __init__(
        self,
        decides: Callable[[], Decision] | None = None,
        plans: Callable[[Spec], tuple[Step, ...]] | None = None,
    ) -> None:
        self._decides = decides
        self._plans = plans

    def plan(self, spec: Spec) -> tuple[Step, ...]:
        """Return the broken plan, or the canary's."""
        return self._plans(spec) if self._plans else super().plan(spec)

    def decide(self, plan: tuple[Step, ...], state: RolloutState, judgement: Judgement, now_s: float) -> Decision:
        """Return the broken decision, or the canary's."""
        return self._decides() if self._decides else super().decide(plan, state, judgement, now_s)


calls = count()


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        (Broken(lambda: Advance(reason="past the end")), "only what is possible"),
        (Broken(lambda: Hold(reason="one more day")), "comes to its end"),
        (Broken(lambda: Promote(reason="at once")), "comes to its end"),
        (Broken(lambda: Approve(reason="agreeing with itself")), "does not propose Approve"),
        (Broken(lambda: Resume(reason="on")), "does not propose Resume"),
        (Broken(lambda: Hold(reason="")), "a reason of one line"),
        (Broken(lambda: Hold(reason=f"call {next(calls)}")), "deciding twice gives the same"),
        (Broken(plans=lambda spec: Canary().plan(replace(spec, steps=()))), "own steps are the plan"),
        (Broken(plans=lambda spec: spec.steps), "at least one step"),
        (Broken(plans=lambda spec: spec.steps or (Step(weight_bp=100, min_pairs=5),)), "waits for pairs only where"),
        (Broken(plans=lambda spec: spec.steps or (Step(min_requests=5),)), "waits for requests only where"),
        (Broken(plans=lambda spec: spec.steps or (Step(weight_bp=10_001),)), r"shares are 0\.\.10000"),
    ],
)
def test_a_policy_that_breaks_the_contract_is_found(policy: Canary, sentence: str) -> None:
    """Each fault by itself fails the check, with a sentence that names it."""
    with pytest.raises(AssertionError, match=sentence):
        check_policy(policy)
