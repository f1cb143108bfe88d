"""Which question a rollout's state puts to the judge. Pure: the loop asks it, and so does a replay years later."""

from collections.abc import Sequence
from dataclasses import replace

from router.analysis.evidence import Evidence, count_only
from router.analysis.judge import Case, judge
from router.analysis.measures import Measure
from router.core.basis import Ages
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
        slices=state.slices,
    )


def judgement_of(  # noqa: PLR0913 - all that a judgement follows from
    state: RolloutState,
    evidence: Evidence,
    ratios: Sequence[Measure] | None = None,
    *,
    keyed: bool,
    detail: bool = True,
    ages: Ages | None = None,
) -> Judgement:
    """Return what this evidence says of the state's rollout; `ratios` and `detail` as `judge` takes them.

    `ages` are how long it has lasted; None where nobody has measured.
    """
    case = case_of(state, keyed=keyed)
    if case is None:
        return count_only(evidence, state.exposure)
    judged = judge(case, evidence, ratios, detail=detail)
    return judged if ages is None else replace(judged, exposed_s=ages.exposed_s, running_s=ages.running_s)
