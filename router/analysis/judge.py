"""The judge: from evidence to one Judgement that survives being asked every second.

Rollback when the weighted average of all evidence of harm reaches 1/alpha; the chance that this ever happens to a
candidate within every tolerance is at most alpha, under any dependence between gates (`eprocess.log_weighted_sum`).
Promotion when every enforced gate is proved in the present exposure; the chance that a candidate beyond any one margin
ever gets there is at most beta, whatever the number of gates (intersection-union). Between the two nothing is claimed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from router.analysis.eprocess import Floats, log_weighted_sum, restart_mixture, start_weights
from router.analysis.evidence import Evidence, counts_of
from router.analysis.measures import CriticalValues, Measure, measure, measure_ratios
from router.analysis.reading import Reading
from router.analysis.sentences import facts_of, odds, sentence_of
from router.analysis.thresholds import freeze_thresholds
from router.analysis.validity import validity_of
from router.core.decisions import FORMULA, GateResult, Judgement, Verdict
from router.core.rollout import Exposure, GateSpec, Spec
from router.core.slices import is_free

ADVANCE_BELOW = 4.0
"""Evidence of harm above which the next step waits. Chosen in statistics.md 2.7: an equal candidate waits in at most a
quarter of its rollouts, and for a while only."""


@dataclass(frozen=True, slots=True)
class Case:
    """What the judge is asked about: one attempt of a rollout, and how its traffic has been split.

    `exposures` are all of this attempt, oldest first, the last being the present one. `attempt` counts from 1 the
    rollouts of the same two versions. `keyed` says that the Route has an affinity key. `step_gates` names those that
    must pass before the present step is left; empty means all. Harm of any gate counts in every step. `slices` are the
    places of the rollout's slices, of which gates of each slice are asked.
    """

    spec: Spec
    exposures: Sequence[Exposure]
    attempt: int = 1
    keyed: bool = False
    step_gates: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()


def critical_value(chance: float, attempt: int) -> float:
    """Return the log e-value that errs with `chance` over all attempts: the n-th attempt has chance/2^n of it."""
    return attempt * math.log(2) - math.log(chance)


def of_each_slice(gates: Sequence[GateSpec], places: Sequence[str]) -> tuple[GateSpec, ...]:
    """Return the gates with those of `each` slice replaced by one for every slice that has a place, in their order."""
    found: list[GateSpec] = []
    for gate in gates:
        if not gate.slices:
            found.append(gate)
            continue
        taken = [place for place in places if not is_free(place)]
        found += [replace(gate, name=f"{gate.name}@{place}", slice=place) for place in taken]
    return tuple(found)


def weights_of(gates: Sequence[GateSpec], asked: Sequence[GateSpec] | None = None, places: int = 1) -> Floats:
    """Return each gate's share of the evidence, (J,): those of enforced gates sum to at most 1.

    A gate on trial (`dry_run`) has the share that it would have if it were enforced. `asked` are the gates as they were
    asked, before `of_each_slice`: a gate of each slice shares its weight between all `places`, taken or free. A free
    one is a process that stands at e = 1, and leaving it out can only lower the average. A rollout's places neither
    grow in number nor change hands (`router.core.slices`): so the weights are fixed before the first request, and the
    promise holds whichever slices turn up (statistics.md 2.7, ADR 0017).
    """
    enforced = sum(gate.weight for gate in (gates if asked is None else asked) if not gate.dry_run)
    return np.array([
        gate.weight / (enforced + (gate.weight if gate.dry_run else 0.0)) / (places if gate.slices else 1)
        for gate in gates
    ])  # fmt: skip


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
    evidence a few seconds old is as valid. None measures them now. Without `detail` there are no gates'
    lines and no thresholds to freeze, which saves two thirds of the time; all else is the same.
    """
    gates = of_each_slice(case.spec.gates, case.slices)
    reading, critical = _reading(case, evidence), _critical(case)
    fresh = measure_ratios(reading, gates, critical, detail=detail) if ratios is None else ratios
    by_name = {one.gate.name: one for one in (*measure(reading, gates, critical, detail=detail), *fresh)}
    return _judged(case, evidence, gates, [by_name[gate.name] for gate in gates], detail=detail)


def measure_of_ratios(case: Case, evidence: Evidence, *, detail: bool = True) -> list[Measure]:
    """Return what the evidence says of precision and f1, for `judge`."""
    return measure_ratios(_reading(case, evidence), case.spec.gates, _critical(case), detail=detail)


def _reading(case: Case, evidence: Evidence) -> Reading:
    return Reading(evidence, case.exposures, case.keyed)


def _critical(case: Case) -> CriticalValues:
    spec = case.spec
    return CriticalValues(critical_value(spec.alpha, case.attempt), critical_value(spec.beta, case.attempt))


@dataclass(frozen=True, slots=True)
class _Ruling:
    """What one measure comes to; `harm_at` is from where on the gate alone has failed: 1/(alpha w)."""

    one: Measure
    verdict: Verdict
    log_e: float
    harm_at: float
    critical: CriticalValues

    @classmethod
    def of(cls, one: Measure, weight: float, log_e: float, critical: CriticalValues, *, broken: bool) -> "_Ruling":
        """Return the gate's verdict; harm outweighs proof."""
        harm_at = critical.harm - math.log(weight)
        if broken:
            verdict = Verdict.ERROR
        elif log_e >= harm_at:
            verdict = Verdict.FAIL
        elif one.log_f >= critical.proof and one.unmeasured is None:
            verdict = Verdict.PASS
        else:
            verdict = Verdict.INCONCLUSIVE
        return cls(one, verdict, log_e, harm_at, critical)

    @property
    def sentence(self) -> str:
        """Return it in words."""
        return sentence_of(self.one, self.verdict, self.log_e, self.critical.proof)

    def result(self) -> GateResult:
        """Return the gate's line of the judgement."""
        one, verdict = self.one, self.verdict
        gate = one.gate
        return GateResult(
            gate=gate.name, verdict=verdict, sentence=self.sentence, rule=_RULES[verdict],
            enforced=not gate.dry_run, estimate=one.detail.estimate, low=one.detail.low, high=one.detail.high,
            margin=gate.margin if gate.minimum is None else gate.minimum,
            tolerance=gate.rollback_margin if gate.minimum is None else gate.minimum,
            log_e_harm=self.log_e, harm_at=self.harm_at, log_e_proof=0.0 if verdict is Verdict.ERROR else one.log_f,
            proof_at=self.critical.proof, counts=one.counts, more_requests=one.detail.more,
            slice=gate.slice or "", proves=not gate.slices,
        )  # fmt: skip


_RULES = {
    Verdict.ERROR: "a statistic is not a number",
    Verdict.FAIL: "log_e_harm >= harm_at",
    Verdict.PASS: "log_e_proof >= proof_at",
    Verdict.INCONCLUSIVE: "log_e_harm < harm_at and log_e_proof < proof_at",
}


def _judged(
    case: Case, evidence: Evidence, gates: Sequence[GateSpec], measures: Sequence[Measure], *, detail: bool
) -> Judgement:
    critical = _critical(case)
    validity = validity_of(evidence, case.exposures, keyed=case.keyed)
    weights = weights_of(gates, case.spec.gates, len(case.slices))
    log_e = np.array([one.log_e for one in measures]) if measures else np.zeros((0, 1, 1))
    # A statistic that is not a number is an error of measurement: it says nothing of the candidate (e = 1).
    broken = ~(np.isfinite(log_e).all(axis=(1, 2)) & np.isfinite([one.log_f for one in measures]))
    log_e[broken] = 0.0
    alone = strongest(log_e[:, None], np.ones(1), keyed=case.keyed) if gates else np.zeros(0)
    rulings = [
        _Ruling.of(one, weight, harm, critical, broken=bad)
        for one, weight, harm, bad in zip(measures, weights.tolist(), alone.tolist(), broken.tolist(), strict=True)
    ]
    enforced = [j for j, gate in enumerate(gates) if not gate.dry_run]
    total, worst = 0.0, None
    if enforced:
        total = float(strongest(log_e[enforced], weights[enforced], keyed=case.keyed))
        worst = rulings[enforced[int(np.argmax(alone[enforced] + np.log(weights[enforced])))]]
    rollback = total >= critical.harm and not validity.broken
    # A gate of each slice looks for harm only: a slice with hardly any traffic could never be proved.
    needed = [
        rulings[j]
        for j in enforced
        if not gates[j].slices and (not case.step_gates or gates[j].name in case.step_gates)
    ]
    waiting = [ruling for ruling in needed if ruling.verdict is not Verdict.PASS]
    harm = None
    if worst is not None and total >= math.log(ADVANCE_BELOW):
        harm = (
            f"evidence of harm stands at {odds(total)}; the next step asks for less than {ADVANCE_BELOW:g}, "
            f"a rollback for {odds(critical.harm)}: {worst.sentence}"
        )
    if rollback and worst is not None:
        reason = _rolled_back(worst, total)
    elif validity.reason is not None:
        reason = f"the evidence is not valid: {validity.reason}"
    else:
        reason = _standing(needed, waiting, harm_only=bool(enforced))
    return Judgement(
        rollback=rollback, promote=bool(needed) and not waiting and not rollback and validity.reason is None,
        invalid=validity.reason, harm=harm, reason=reason, log_e=total, rollback_at=critical.harm, formula=FORMULA,
        counts=counts_of(evidence, case.exposures[-1]),
        gates=tuple(ruling.result() for ruling in rulings) if detail else (),
        thresholds=freeze_thresholds(evidence, case.exposures, gates) if detail else (),
    )  # fmt: skip


def _rolled_back(worst: _Ruling, total: float) -> str:
    """Say why: one gate has failed, or several that have not failed alone speak for harm together."""
    if worst.verdict is Verdict.FAIL:
        return worst.sentence
    return (
        f"no gate has failed alone, but together they speak for harm (evidence {odds(total)}, rollback from "
        f"{odds(worst.critical.harm)}), most of it {facts_of(worst.one)}"
    )


def _standing(needed: Sequence[_Ruling], waiting: Sequence[_Ruling], *, harm_only: bool) -> str:
    """Say where the gates stand that the present step asks for."""
    if not needed and harm_only:
        return "no harm is found, and there is nothing to prove: gates of each slice look for harm only"
    if not needed:
        return "nothing is judged: no gate is enforced"
    if not waiting:
        return (
            needed[0].sentence
            if len(needed) == 1
            else f"{'both' if len(needed) == 2 else f'all {len(needed)}'} gates pass"
        )
    first = waiting[0].sentence
    return first if len(needed) == 1 else f"{len(waiting)} of {len(needed)} gates have not passed yet: {first}"
