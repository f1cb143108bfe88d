"""The judge: from evidence to one Judgement that survives being asked every second.

Rollback when the weighted average of all evidence of harm reaches 1/alpha; the chance that this ever happens to a
candidate within every tolerance is at most alpha, under any dependence between gates (`eprocess.log_weighted_sum`).
Promotion when every enforced gate is proved in the present exposure; the chance that a candidate beyond any one margin
ever gets there is at most beta, whatever the number of gates (intersection-union). Between the two nothing is claimed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router.analysis.eprocess import Floats, log_weighted_sum, restart_mixture, start_weights
from router.analysis.evidence import Evidence, counts_of
from router.analysis.measures import Levels, Measure, measure, measure_ratios
from router.analysis.reading import Reading
from router.analysis.sentences import LARGEST, sentence_of
from router.analysis.validity import validity_of
from router.core.decisions import FORMULA, GateResult, Judgement, Verdict
from router.core.rollout import Exposure, GateSpec, Spec

ADVANCE_BELOW = 4.0
"""Evidence of harm above which the next step waits. Chosen in statistics.md 2.7: an equal candidate waits in at most a
quarter of its rollouts, and for a while only."""


@dataclass(frozen=True, slots=True)
class Case:
    """What the judge is asked about: one attempt of a rollout, and how its traffic has been split.

    `exposures` are all of this attempt, oldest first, the last being the present one. `attempt` counts from 1 the
    rollouts of the same two versions. `keyed` says that the Route has an affinity key. `step_gates` names those that
    must pass before the present step is left; empty means all. Harm of any gate counts in every step.
    """

    spec: Spec
    exposures: Sequence[Exposure]
    attempt: int = 1
    keyed: bool = False
    step_gates: tuple[str, ...] = ()


def level_of(chance: float, attempt: int) -> float:
    """Return the log e-value that errs with `chance` over all attempts: the n-th attempt has chance/2^n of it."""
    return attempt * math.log(2) - math.log(chance)


def weights_of(gates: Sequence[GateSpec]) -> Floats:
    """Return each gate's share of the evidence, (J,): those of enforced gates sum to 1.

    A gate on trial (`dry_run`) has the share that it would have if it were enforced.
    """
    enforced = sum(gate.weight for gate in gates if not gate.dry_run)
    return np.array([gate.weight / (enforced + (gate.weight if gate.dry_run else 0.0)) for gate in gates])


def strongest(log_e: Floats, weights: Floats, *, keyed: bool) -> Floats:
    """Return the evidence that is compared with the rollback level: (..., J, C, S) by gate, cut and start to (...).

    The weighted average over gates and start points, at the cut where it is largest: each cut bounds the same process
    at another moment. Where users stay on one side, what one start point leaves out is not independent of another's
    past, so no average is claimed: one gate since one start must cross by its own weight (statistics.md rule 4).
    """
    if keyed:
        by_start = log_e + np.log(start_weights(log_e.shape[-1])) + np.log(weights)[:, None, None]
        return np.asarray(by_start.max(axis=(-1, -2, -3)))
    by_gate = np.moveaxis(restart_mixture(log_e), -2, -1)
    return np.asarray(log_weighted_sum(by_gate, weights).max(axis=-1))


def judge(case: Case, evidence: Evidence, ratios: Sequence[Measure] | None = None, *, detail: bool = True) -> Judgement:
    """Return what all gates say of the evidence now.

    `ratios` are measures of precision and f1 made earlier of the same case (`measure_of_ratios`): they are dear, and
    evidence a few seconds old is as valid. None measures them now. Without `detail` bounds and forecasts are left out,
    which more than halves the time; verdicts and everything they rest on are the same.
    """
    reading, levels, gates = _reading(case, evidence), _levels(case), case.spec.gates
    fresh = measure_ratios(reading, gates, levels, detail=detail) if ratios is None else ratios
    by_name = {one.gate.name: one for one in (*measure(reading, gates, levels, detail=detail), *fresh)}
    return _judged(case, evidence, [by_name[gate.name] for gate in gates])


def measure_of_ratios(case: Case, evidence: Evidence, *, detail: bool = True) -> list[Measure]:
    """Return what the evidence says of precision and f1, for `judge`."""
    return measure_ratios(_reading(case, evidence), case.spec.gates, _levels(case), detail=detail)


def _reading(case: Case, evidence: Evidence) -> Reading:
    return Reading(evidence, case.exposures, case.keyed)


def _levels(case: Case) -> Levels:
    spec = case.spec
    return Levels(level_of(spec.alpha, case.attempt), level_of(spec.beta, case.attempt))


def _judged(case: Case, evidence: Evidence, measures: Sequence[Measure]) -> Judgement:
    levels, gates = _levels(case), case.spec.gates
    validity = validity_of(evidence, case.exposures, keyed=case.keyed)
    weights = weights_of(gates)
    # A statistic that is not a number is an error of measurement: it says nothing of the candidate (e = 1).
    broken = [not (np.isfinite(one.log_e).all() and math.isfinite(one.log_f)) for one in measures]
    log_e = np.array(
        [np.zeros_like(one.log_e) if bad else one.log_e for one, bad in zip(measures, broken, strict=True)]
    )
    alone = strongest(log_e[:, None], np.ones(1), keyed=case.keyed) if gates else np.zeros(0)
    results = [
        _result(one, float(harm), levels.harm - math.log(weight), levels, broken=bad)
        for one, harm, weight, bad in zip(measures, alone, weights, broken, strict=True)
    ]
    enforced = [j for j, gate in enumerate(gates) if not gate.dry_run]
    total, worst = 0.0, None
    if enforced:
        total = float(strongest(log_e[enforced], weights[enforced], keyed=case.keyed))
        worst = results[enforced[int(np.argmax(alone[enforced] + np.log(weights[enforced])))]]
    rollback = total >= levels.harm and not validity.broken
    needed = [results[j] for j in enforced if not case.step_gates or gates[j].name in case.step_gates]
    waiting = [result for result in needed if result.verdict is not Verdict.PASS]
    harm = None
    if worst is not None and total >= math.log(ADVANCE_BELOW):
        harm = (
            f"evidence of harm stands at {_shown(total)}; the next step asks for less than {ADVANCE_BELOW:g}, "
            f"a rollback for {_shown(levels.harm)}: {worst.sentence}"
        )
    if rollback and worst is not None:
        reason = worst.sentence
    elif validity.reason is not None:
        reason = f"the evidence is not valid: {validity.reason}"
    else:
        reason = _standing(needed, waiting)
    return Judgement(
        rollback=rollback, promote=bool(needed) and not waiting and not rollback and validity.reason is None,
        invalid=validity.reason, harm=harm, reason=reason, log_e=total, rollback_at=levels.harm, formula=FORMULA,
        counts=counts_of(evidence, case.exposures[-1]), gates=tuple(results),
    )  # fmt: skip


def _standing(needed: Sequence[GateResult], waiting: Sequence[GateResult]) -> str:
    """Say where the gates stand that the present step asks for."""
    if not needed:
        return "nothing is judged: no gate is enforced"
    if not waiting:
        return needed[0].sentence if len(needed) == 1 else f"all {len(needed)} gates pass"
    first = waiting[0].sentence
    return first if len(needed) == 1 else f"{len(waiting)} of {len(needed)} gates have not passed yet: {first}"


def _result(one: Measure, log_e: float, harm_at: float, levels: Levels, *, broken: bool) -> GateResult:
    gate = one.gate
    if broken:
        verdict, rule = Verdict.ERROR, "a statistic is not a number"
    elif log_e >= harm_at:
        verdict, rule = Verdict.FAIL, "log_e_harm >= harm_at"
    elif one.log_f >= levels.proof and one.unmeasured is None:
        verdict, rule = Verdict.PASS, "log_e_proof >= proof_at"
    else:
        verdict, rule = Verdict.INCONCLUSIVE, "log_e_harm < harm_at and log_e_proof < proof_at"
    return GateResult(
        gate=gate.name, verdict=verdict, sentence=sentence_of(one, verdict, log_e, levels.proof), rule=rule,
        enforced=not gate.dry_run, estimate=one.estimate, low=one.low, high=one.high,
        margin=gate.margin if gate.minimum is None else gate.minimum,
        tolerance=gate.rollback_margin if gate.minimum is None else gate.minimum,
        log_e_harm=log_e, harm_at=harm_at, log_e_proof=0.0 if broken else one.log_f, proof_at=levels.proof,
        counts=one.counts, more_requests=one.more,
    )  # fmt: skip


def _shown(log_e: float) -> str:
    """Return an e-value for a reader; beyond a billion its digits mean nothing."""
    return f"{math.exp(min(log_e, math.log(LARGEST))):,.3g}"
