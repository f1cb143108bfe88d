"""Over all gates: when the judge rolls back, promotes, holds, and what it says of each."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.analysis import families
from router.analysis.eprocess import Floats
from router.analysis.evidence import Evidence
from router.analysis.judge import Case, critical_value, judge, measure_of_ratios, strongest, weights_of
from router.core.decisions import FORMULA, Counts, Judgement, Verdict
from router.core.observations import BOTH, PAIR, STARTED, CounterKey
from router.core.rollout import GateSpec
from router.core.traffic import Role
from tests.analysis.cases import (
    ACCURACY,
    DISAGREEMENT,
    ERRORS,
    F1_FLOOR,
    F1_LOSS,
    FEW_ERRORS,
    GATES,
    HALF,
    LATENCY_GATE,
    NO_MORE_ERRORS,
    RECALL,
    Counters,
    Planned,
    agreements,
    case_of,
    evidence_of,
    exposure,
    failures,
    histories,
    judged,
    of_class,
    right,
)
from tests.analysis.ledger import Seen, paired, served, settled

LAWS = settings(deadline=None, derandomize=True, max_examples=15)
FINE = failures(HALF, (20_000, 20), (20_000, 20)) | agreements(HALF, 10_000, 20)
TWO_GATES = (FEW_ERRORS, DISAGREEMENT)


def failing(failed: int, different: int = 0, requests: int = 1_000) -> Counters:
    """Return requests of which some fail and pairs of which some differ."""
    return failures(HALF, (requests, 0), (requests, failed)) | agreements(HALF, requests, different)


def verdicts(judgement: Judgement) -> list[Verdict]:
    """Return the gates' verdicts."""
    return [result.verdict for result in judgement.gates]


def asks(judgement: Judgement) -> tuple[bool, bool]:
    """Return whether it asks for a rollback, and for a promotion."""
    return judgement.rollback, judgement.promote


# -- The levels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("attempt", "chance", "expected"), [(1, 0.01, 200), (2, 0.01, 400), (3, 0.05, 160)])
def test_each_attempt_has_half_the_chance_of_the_one_before(attempt: int, chance: float, expected: float) -> None:
    """From the first on, so that all attempts together err with the chance that was asked for."""
    assert math.isclose(math.log(expected), critical_value(chance, attempt))


def test_a_second_attempt_asks_for_twice_the_evidence() -> None:
    """Of the same counters it says the same, and compares it with twice as much."""
    first, second = (judged(case_of(*TWO_GATES, attempt=attempt), FINE) for attempt in (1, 2))
    assert first.log_e == second.log_e
    assert math.isclose(first.rollback_at + math.log(2), second.rollback_at)
    for one, other in zip(first.gates, second.gates, strict=True):
        assert (one.log_e_harm, one.log_e_proof) == (other.log_e_harm, other.log_e_proof)
        assert math.isclose(one.harm_at + math.log(2), other.harm_at)
        assert math.isclose(one.proof_at + math.log(2), other.proof_at)


def test_a_first_attempt_may_be_sure_where_a_third_is_not_yet() -> None:
    """Of harm and of its absence."""
    harm = next(failing(n) for n in range(100) if judged(case_of(ERRORS), failing(n)).rollback)
    proof = next(failing(0, 0, n) for n in range(0, 2_000, 20) if judged(case_of(ERRORS), failing(0, 0, n)).promote)
    assert [asks(judged(case_of(ERRORS, attempt=n), harm)) for n in (1, 3)] == [(True, False), (False, False)]
    assert [asks(judged(case_of(ERRORS, attempt=n), proof)) for n in (1, 3)] == [(False, True), (False, False)]


def test_weights_of_enforced_gates_sum_to_one() -> None:
    """A gate on trial has the share that it would have, and takes none."""
    gates = [replace(ERRORS, weight=3.0), DISAGREEMENT, replace(ACCURACY, dry_run=True, weight=4.0)]
    assert weights_of(gates).tolist() == [0.75, 0.25, 0.5]


def test_a_gate_of_more_weight_fails_by_less_evidence() -> None:
    """FAIL iff its own share of the evidence reaches the level: E >= 1/(alpha w)."""
    gates = [replace(ERRORS, weight=3.0), DISAGREEMENT]
    heavy, light = judged(case_of(*gates), FINE).gates
    assert math.isclose(math.log(3), light.harm_at - heavy.harm_at)
    assert math.isclose(math.log(200 / 0.75), heavy.harm_at)


# -- Rollback ----------------------------------------------------------------------------------------------------------


def test_the_weighted_average_of_all_gates_rolls_back() -> None:
    """Also when no gate has failed by itself: two gates just below their own level are enough together."""
    case = case_of(*TWO_GATES)
    together = [judged(case, failing(n, n)) for n in range(60)]
    assert any(one.rollback and Verdict.FAIL not in verdicts(one) for one in together)
    for one in together:
        log_mean = float(np.logaddexp.reduce([result.log_e_harm for result in one.gates]) - math.log(2))
        assert math.isclose(log_mean, one.log_e, abs_tol=1e-9)
        assert one.rollback == (log_mean >= math.log(200))


def test_with_keys_one_gate_since_one_start_must_cross_by_its_own_weight() -> None:
    """No average is claimed where users stay on one side: rollback iff some gate has failed."""
    case = case_of(*TWO_GATES, keyed=True)
    judgements = [judged(case, {**by_key(failing(n, n)), **failing(n, n)}) for n in range(80)]
    assert [Verdict.FAIL in verdicts(one) for one in judgements] == [one.rollback for one in judgements]
    assert {False, True} == {one.rollback for one in judgements}
    average = [judged(case_of(*TWO_GATES), failing(n, n)).rollback for n in range(80)]
    assert average.index(True) < [one.rollback for one in judgements].index(True)


def by_key(counters: Counters) -> Counters:
    """Return the same counts as of keys that were never seen before."""
    return {key._replace(metric="key:" + key.metric, cell=key.cell + "/0"): n for key, n in counters.items()}


def test_with_keys_each_start_has_its_own_weight() -> None:
    """w_j w_s E, with the largest of all gates and starts."""
    log_e = np.log(np.array([[[8.0, 1.0]], [[1.0, 40.0]]]))  # (J, C, S)
    weights = np.array([0.5, 0.5])
    by_start = 6 / math.pi**2 * np.array([1.0, 0.25])
    assert math.isclose(math.log(0.5 * 40 * by_start[1]), strongest(log_e, weights, keyed=True))
    rest = 1 - by_start.sum()
    mean = 0.5 * (8 * by_start[0] + by_start[1] + rest) + 0.5 * (by_start[0] + 40 * by_start[1] + rest)
    assert math.isclose(math.log(mean), strongest(log_e, weights, keyed=False))


def test_the_strongest_cut_decides_for_all_gates_together() -> None:
    """Cuts are moments: evidence of one gate at one moment is not added to that of another at another."""
    log_e = np.log(np.array([[[9.0], [1.0]], [[1.0], [9.0]]]))
    start = 6 / math.pi**2
    assert math.isclose(math.log(start * 5 + 1 - start), strongest(log_e, np.array([0.5, 0.5]), keyed=False))


def test_a_gate_on_trial_never_decides() -> None:
    """It fails or passes, and nothing follows from it; not even weight is taken from the others."""
    trial = replace(DISAGREEMENT, dry_run=True)
    bad = failures(HALF, (10_000, 10), (10_000, 10)) | agreements(HALF, 10_000, 5_000)
    with_trial, without = judged(case_of(ERRORS, trial), bad), judged(case_of(ERRORS), bad)
    assert verdicts(with_trial) == [Verdict.PASS, Verdict.FAIL]
    assert [result.enforced for result in with_trial.gates] == [True, False]
    assert (asks(without), without.log_e, without.reason) == (asks(with_trial), with_trial.log_e, with_trial.reason)
    assert without.gates[0] == with_trial.gates[0]
    assert asks(with_trial) == (False, True)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=5))
@LAWS
def test_rollback_and_promotion_are_never_asked_for_together(counts: Sequence[int]) -> None:
    """Whatever the counters."""
    for n in counts:
        assert asks(judged(case_of(*TWO_GATES), failing(n, 40 - n, 300))) != (True, True)


# -- Promotion ---------------------------------------------------------------------------------------------------------


def test_every_enforced_gate_must_pass_for_promotion() -> None:
    """One that is undecided holds it."""
    some = failures(HALF, (20_000, 20), (20_000, 20)) | agreements(HALF, 50, 0)
    assert verdicts(judged(case_of(*TWO_GATES), some)) == [Verdict.PASS, Verdict.INCONCLUSIVE]
    assert asks(judged(case_of(*TWO_GATES), some)) == (False, False)
    assert asks(judged(case_of(*TWO_GATES), FINE)) == (False, True)


@pytest.mark.parametrize("gate", [ACCURACY, RECALL, F1_FLOOR], ids=lambda gate: gate.metric)
def test_a_candidate_that_fails_where_it_would_be_wrong_is_not_promoted_by_its_other_answers(gate: GateSpec) -> None:
    """In a third of the labelled pairs it says nothing: they are no harm, and no proof either."""
    whole = right(HALF, {"11": 9_000}) | of_class(HALF, {"111": 4_500, "000": 4_500})
    cells = right(HALF, {"11": 9_000, "1?": 5_000}) | of_class(HALF, {"111": 4_500, "000": 4_500, "11?": 5_000})
    assert asks(judged(case_of(gate), whole)) == (False, True)
    silent = judged(case_of(gate), cells)
    assert (asks(silent), silent.harm) == ((False, False), None)
    assert dict(silent.gates[0].counts).get("no_prediction", 5_000) == 5_000


def test_a_step_may_ask_for_some_gates_only() -> None:
    """Those must pass; harm of any gate still counts."""
    some = failures(HALF, (20_000, 20), (20_000, 20))
    case = case_of(*TWO_GATES, step_gates=("few errors",))
    assert asks(judged(case, some)) == (False, True)
    assert asks(judged(case, some | agreements(HALF, 10_000, 5_000))) == (True, False)
    assert asks(judged(case_of(*TWO_GATES, step_gates=("disagreement",)), some)) == (False, False)


def test_without_enforced_gates_nothing_is_promoted() -> None:
    """Nobody has said what would be good enough."""
    for case in (case_of(), case_of(replace(ERRORS, dry_run=True))):
        judgement = judged(case, FINE)
        assert (asks(judgement), judgement.log_e, judgement.harm) == ((False, False), 0.0, None)
        assert judgement.reason == "nothing is judged: no gate is enforced"


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("weight_bp", [0, 100, 10_000])
def test_without_data_nothing_is_asked_for(weight_bp: int, *, keyed: bool) -> None:
    """No data never advances."""
    judgement = judged(case_of(*GATES, exposures=[exposure(1), exposure(2, weight_bp)], keyed=keyed))
    assert ((False, False), None, Counts()) == (asks(judgement), judgement.invalid, judgement.counts)
    assert {Verdict.INCONCLUSIVE} == set(verdicts(judgement))


def test_data_of_an_earlier_exposure_does_not_promote() -> None:
    """Proof is asked of the present one, as traffic may matter."""
    assert asks(judged(case_of(*TWO_GATES, exposures=[HALF, exposure(2)]), FINE)) == (False, False)


# -- Evidence of harm that holds the next step -------------------------------------------------------------------------


def test_from_four_on_evidence_of_harm_holds_the_next_step() -> None:
    """With a sentence, long before it rolls back; below it says nothing."""
    judgements = [judged(case_of(*TWO_GATES), failing(n, n)) for n in range(60)]
    assert [math.exp(one.log_e) >= 4 for one in judgements] == [one.harm is not None for one in judgements]
    held = [one for one in judgements if one.harm is not None and not one.rollback]
    assert held
    for one in held:
        assert one.harm is not None
        assert one.harm.startswith(f"evidence of harm stands at {math.exp(one.log_e):,.3g}; ")


# -- What a judgement holds --------------------------------------------------------------------------------------------


def test_a_judgement_names_its_formula_levels_and_counts() -> None:
    """All that a replay needs beside the counters."""
    judgement = judged(case_of(*TWO_GATES), FINE)
    assert (FORMULA, Counts(20_000, 20_000, 10_000)) == (judgement.formula, judgement.counts)
    assert math.isclose(math.log(200), judgement.rollback_at)
    assert [result.gate for result in judgement.gates] == ["few errors", "disagreement"]


def test_a_result_holds_every_number_behind_it() -> None:
    """Estimate, limits, both log e-values with their levels, the rule that fired, and the counts."""
    result = judged(case_of(ERRORS), failures(HALF, (10_000, 20), (10_000, 300))).gates[0]
    assert (result.margin, result.tolerance, round(result.estimate or 0, 6)) == (0.005, 0.0025, 0.028)
    assert result.log_e_harm >= result.harm_at
    assert result.log_e_proof < result.proof_at
    assert result.rule == "log_e_harm >= harm_at"
    assert dict(result.counts) == {
        "stable_requests": 10_000, "stable_events": 20, "stable_unknown": 0,
        "candidate_requests": 10_000, "candidate_events": 300, "candidate_unknown": 0,
    }  # fmt: skip


def test_a_rollback_names_the_gate_of_the_largest_term() -> None:
    """By weight and evidence."""
    assert judged(case_of(*TWO_GATES), failing(300, 100)).reason.startswith("few errors: ")
    assert judged(case_of(*TWO_GATES), failing(100, 300)).reason.startswith("disagreement: ")
    heavy = replace(DISAGREEMENT, weight=1e9)
    assert judged(case_of(FEW_ERRORS, heavy), failing(101, 100)).reason.startswith("disagreement: ")


@pytest.mark.parametrize("keyed", [False, True])
@given(history=histories())
@LAWS
def test_without_detail_verdicts_and_evidence_are_the_same(history: Sequence[Planned], *, keyed: bool) -> None:
    """To the last bit: bounds, words and forecasts are all that is left out."""
    exposures = [exposure(1, 1_000), exposure(2, 5_000)]
    gates = [gate for gate in GATES if gate is not F1_LOSS]
    evidence = evidence_of(history, exposures, gates, keyed=keyed)
    case = case_of(*gates, exposures=exposures, keyed=keyed)
    full, quick = judge(case, evidence), judge(case, evidence, detail=False)
    assert quick.gates == ()
    assert (asks(full), full.log_e, full.invalid, full.counts) == (
        asks(quick),
        quick.log_e,
        quick.invalid,
        quick.counts,
    )
    assert (full.harm is None) == (quick.harm is None)


def test_ratios_may_be_measured_earlier() -> None:
    """Precision and F1 are dear: what was measured seconds ago is taken as it was."""
    case = case_of(ERRORS, F1_FLOOR, F1_LOSS)
    old = of_class(HALF, {"111": 98, "001": 1, "010": 1, "000": 900})
    new = {key: 10 * number for key, number in old.items()}
    earlier = measure_of_ratios(case, Evidence(old))
    mixed = judge(case, Evidence(new | FINE), earlier)
    assert judge(case, Evidence(old | FINE)).gates[1:] == mixed.gates[1:]
    assert judge(case, Evidence(new | FINE)).gates[0] == mixed.gates[0]
    assert [one.gate.name for one in earlier] == ["f1 floor", "f1 loss"]


@given(history=histories(exposures=1), order=st.permutations(GATES[:-2]))
@LAWS
def test_the_order_of_gates_changes_nothing_but_the_order(
    history: Sequence[Planned], order: Sequence[GateSpec]
) -> None:
    """Each result stands where its gate stands."""
    evidence = evidence_of(history, [HALF], GATES)
    found = judge(case_of(*order), evidence)
    expected = {result.gate: result for result in judge(case_of(*GATES[:-2]), evidence).gates}
    assert [expected[gate.name] for gate in order] == list(found.gates)


# -- What cannot be measured -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", ["harm", "proof"])
def test_a_statistic_that_is_not_a_number_is_an_error(question: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither FAIL nor PASS: the gate says nothing, promotes nothing, and rolls nothing back."""

    def broken(self: families.Limit, *_: object) -> Floats:
        shape = (len(self._gates), 1, 1) if question == "harm" else (len(self._gates), 1)
        return np.full(shape, np.nan)

    monkeypatch.setattr(families.Limit, question, broken)
    for counters in (FINE, FINE | agreements(HALF, 10_000, 5_000)):
        judgement = judged(case_of(ERRORS, DISAGREEMENT), counters)
        assert verdicts(judgement) == [Verdict.PASS, Verdict.ERROR]
        assert asks(judgement) == (False, False)
        assert (judgement.gates[1].log_e_harm, judgement.gates[1].log_e_proof) == (0.0, 0.0)
        assert judgement.gates[1].rule == "a statistic is not a number"
        assert math.isfinite(judgement.log_e)


def test_an_error_of_one_gate_does_not_hide_the_harm_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts as e = 1."""
    monkeypatch.setattr(families.Limit, "harm", lambda self: np.full((len(self._gates), 1, 1), np.nan))
    judgement = judged(case_of(ERRORS, DISAGREEMENT), failing(300))
    assert (verdicts(judgement), judgement.rollback) == ([Verdict.FAIL, Verdict.ERROR], True)


@given(history=histories(), keyed=st.booleans())
@LAWS
def test_no_history_gives_an_error(history: Sequence[Planned], *, keyed: bool) -> None:
    """Every number of every gate is finite, whatever happened."""
    exposures = [exposure(1, 0), exposure(2, 10_000)]
    gates = GATES[:-2]
    evidence = evidence_of(history, exposures, gates, keyed=keyed)
    judgement = judge(case_of(*gates, exposures=exposures, keyed=keyed), evidence)
    assert Verdict.ERROR not in verdicts(judgement)
    for result in judgement.gates:
        shown = [result.log_e_harm, result.log_e_proof, result.estimate or 0, result.low or 0, result.high or 0]
        assert all(map(math.isfinite, shown))


# -- Evidence that is not valid ----------------------------------------------------------------------------------------


def test_broken_bookkeeping_takes_rollback_and_promotion_away() -> None:
    """Where more has ended than was started, numbers mean nothing."""
    for counters in (FINE, failing(300)):
        wrong = {**counters, CounterKey(1, STARTED, "", "candidate", "all"): 0}
        judgement = judged(case_of(ERRORS), wrong)
        assert asks(judgement) == (False, False)
        assert judgement.invalid is not None
        assert judgement.reason == f"the evidence is not valid: {judgement.invalid}"


def test_lopsided_drops_hold_promotion_and_leave_a_rollback() -> None:
    """Whatever we dropped counts in the candidate's favour already."""
    dropped = served(HALF, Role.STABLE, {"ok": 20_000}) | served(HALF, Role.CANDIDATE, {"ok": 20_000, "shed": 40})
    harmful = served(HALF, Role.STABLE, {"ok": 20_000}) | served(
        HALF, Role.CANDIDATE, {"ok": 10_000, "shed": 40, "reset": 10_000}
    )
    for counters, rollback in ((dropped, False), (harmful, True)):
        judgement = judged(case_of(ERRORS), counters)
        assert (rollback, False) == asks(judgement)
        assert judgement.invalid is not None


def test_too_many_missing_copies_hold_promotion_and_leave_a_rollback() -> None:
    """More than 5 % of copies without the candidate's answer."""
    missing = paired(HALF, PAIR, {BOTH: 1_000, "candidate:timeout": 60})
    for counters, rollback in ((FINE, False), (failing(300), True)):
        judgement = judged(case_of(ERRORS), {**counters, **missing})
        assert (rollback, False) == asks(judgement)
        assert judgement.invalid is not None


# -- Keys --------------------------------------------------------------------------------------------------------------


def test_a_heavy_user_counts_once() -> None:
    """A thousand failures of one user are one, where users stay on one side."""
    history = [
        *(Planned(1 + i / 1_000, 1, Role.CANDIDATE, "heavy", outcome="reset") for i in range(1_000)),
        *(Planned(2 + i / 1_000, 1, Role.STABLE, f"user {i}") for i in range(1_000)),
    ]
    by_request, by_user = (
        judge(case_of(ERRORS, keyed=keyed), evidence_of(history, [HALF], keyed=keyed)) for keyed in (False, True)
    )
    assert (
        [by_request.rollback, by_user.rollback],
        dict(by_user.gates[0].counts)["candidate_events"],
    ) == ([True, False], 1)


def test_keys_are_counted_over_all_replicas() -> None:
    """They share what they have seen, so a user whom another replica has served is not new."""
    seen = Seen()
    firsts = [seen.first("started", "user", number) for number in (1, 1, 3, 2, 3, 4)]
    assert firsts == [0, None, 1, 1, None, 3]


@pytest.mark.parametrize("gate", [ERRORS, NO_MORE_ERRORS, FEW_ERRORS, LATENCY_GATE], ids=lambda gate: gate.name)
def test_with_keys_clear_harm_and_its_absence_are_found_too(gate: GateSpec) -> None:
    """The same numbers of users as of requests say about the same."""
    many, few = 500, 10
    for stable, candidate, expected in ((few, many, Verdict.FAIL), (many, few, Verdict.PASS)):
        counters = failures(HALF, (5_000, stable), (5_000, candidate))
        firsts: dict[CounterKey, int] = {}
        for role, events in ((Role.STABLE, stable), (Role.CANDIDATE, candidate)):
            counters |= settled(HALF, "level", role, {"0": 5_000 - events, "6": events})
            firsts |= settled(HALF, "key:failure", role, {"all/0": events})
        judgement = judged(case_of(gate, keyed=True), {**counters, **by_key(counters), **firsts})
        assert expected is judgement.gates[0].verdict


def test_a_case_is_judged_alike_each_time() -> None:
    """Nothing is remembered between two questions."""
    case: Case = case_of(*GATES)
    evidence = Evidence(FINE)
    assert judge(case, evidence) == judge(case, evidence)
