"""Which question a rollout's state puts to the judge. Pure: the loop asks it, and so does a replay years later."""

from collections.abc import Sequence

from router.analysis.evidence import Evidence, count_only
from router.analysis.judge import Case, judge
from router.analysis.measures import Measure
from router.core.decisions import Judgement
from router.core.rollout import RolloutState


def case_of(state: RolloutState, *, keyed: bool) -> Case | None:
    """Return what the judge is asked about; None when no rollout is under way. `keyed`: users stay on one side."""
    if state.spec is None or not state.active:
        return None
    return Case(
        spec=state.spec,
        exposures=state.exposures,
        attempt=state.attempt,
        keyed=keyed,
        step_gates=state.steps[state.step].gates,
    )


def judgement_of(
    state: RolloutState,
    evidence: Evidence,
    ratios: Sequence[Measure] | None = None,
    *,
    keyed: bool,
    detail: bool = True,
) -> Judgement:
    """Return what this evidence says of the state's rollout; `ratios` and `detail` as `judge` takes them."""
    case = case_of(state, keyed=keyed)
    return count_only(evidence, state.exposure) if case is None else judge(case, evidence, ratios, detail=detail)
