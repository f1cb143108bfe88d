"""Each gate by itself, from counters to its verdict; and that open requests never speak against the candidate."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.analysis.families import RATIOS
from router.analysis.judge import judge
from router.core.decisions import GateResult, Verdict
from router.core.observations import (
    AGREEMENT,
    BOTH,
    CUTS,
    DISTANCE,
    LEVEL,
    LOST,
    OUTCOME,
    PAIR,
    STARTED,
    CounterKey,
    Outcome,
    distance_bucket,
)
from router.core.rollout import Exposure, GateSpec
from router.core.traffic import Role
from tests.analysis.cases import (
    ACCURACY,
    ACCURACY_FLOOR,
    ALL_TRAFFIC,
    DISAGREEMENT,
    ERRORS,
    F1_FLOOR,
    F1_LOSS,
    FAR_APART,
    FEW_ERRORS,
    GATES,
    HALF,
    LATENCY_GATE,
    NO_MORE_ERRORS,
    PRECISION_FLOOR,
    PRECISION_LOSS,
    RECALL,
    RECALL_FLOOR,
    SHADOW,
    Counters,
    Planned,
    agreements,
    case_of,
    copies,
    evidence_of,
    exposure,
    failures,
    histories,
    judged,
    latencies,
    of_class,
    result_of,
    right,
    spread_ms,
)
from tests.analysis.ledger import paired, served

LAWS = settings(deadline=None, derandomize=True, max_examples=40)
FAR = str(distance_bucket(0.5))


@dataclass(frozen=True, slots=True)
class Clear:
    """Evidence about which nobody would argue: of harm; and of none, in the smallest number of that proportion."""

    gate: GateSpec
    harmful: Counters
    unit: Counters

    @property
    def fine(self) -> Counters:
        """A hundred times the unit."""
        return times(self.unit, 100)


def times(counters: Counters, number: int) -> Counters:
    """Return so many times the same evidence."""
    return {key: number * n for key, n in counters.items()}


def by_distance(pairs: int, far: int) -> Counters:
    """Return complete pairs some of which are far apart."""
    return agreements(HALF, pairs, 0) | paired(HALF, DISTANCE, {"0": pairs - far, FAR: far})


def slower(requests: int, factor: float) -> Counters:
    """Return latencies of a candidate slower by a factor."""
    return latencies([LATENCY_GATE], HALF, spread_ms(requests), spread_ms(requests, factor))


CLEAR = (
    Clear(ERRORS, failures(HALF, (10_000, 20), (10_000, 300)), failures(HALF, (250, 1), (250, 1))),
    Clear(NO_MORE_ERRORS, failures(HALF, (10_000, 20), (10_000, 60)), failures(HALF, (100, 2), (100, 1))),
    Clear(FEW_ERRORS, failures(HALF, (10_000, 20), (10_000, 300)), failures(HALF, (100, 1), (100, 1))),
    Clear(LATENCY_GATE, slower(10_000, 1.3), slower(100, 1.0)),
    Clear(DISAGREEMENT, agreements(HALF, 10_000, 300), agreements(HALF, 100, 1)),
    Clear(FAR_APART, by_distance(10_000, 300), by_distance(100, 1)),
    Clear(ACCURACY, right(HALF, {"11": 9_000, "10": 300, "01": 100, "00": 600}),
          right(HALF, {"11": 190, "10": 1, "01": 1, "00": 8})),
    Clear(ACCURACY_FLOOR, right(HALF, {"11": 8_500, "00": 1_500}), right(HALF, {"11": 19, "00": 1})),
    Clear(RECALL, of_class(HALF, {"111": 900, "110": 90, "000": 9_000}),
          of_class(HALF, {"111": 98, "110": 1, "101": 1, "000": 900})),
    Clear(RECALL_FLOOR, of_class(HALF, {"111": 800, "100": 200, "000": 9_000}),
          of_class(HALF, {"111": 19, "100": 1, "000": 180})),
    Clear(PRECISION_FLOOR, of_class(HALF, {"111": 700, "001": 300, "000": 9_000}),
          of_class(HALF, {"111": 9, "001": 1, "000": 90})),
    Clear(F1_FLOOR, of_class(HALF, {"111": 700, "001": 400, "110": 100, "000": 9_000}),
          of_class(HALF, {"111": 9, "001": 1, "000": 90})),
    Clear(PRECISION_LOSS, of_class(HALF, {"111": 800, "001": 200, "000": 9_000}),
          of_class(HALF, {"111": 98, "001": 1, "010": 1, "000": 900})),
    Clear(F1_LOSS, of_class(HALF, {"111": 800, "001": 200, "110": 100, "000": 9_000}),
          of_class(HALF, {"111": 98, "001": 1, "010": 1, "000": 900})),
)  # fmt: skip
EACH = pytest.mark.parametrize("clear", CLEAR, ids=[clear.gate.name for clear in CLEAR])


def test_all_gates_are_covered() -> None:
    """Each metric with each limit that it takes."""
    assert list(GATES) == [clear.gate for clear in CLEAR]


@EACH
def test_clear_harm_fails_and_rolls_back(clear: Clear) -> None:
    """Unless the gate is on trial."""
    judgement = judged(case_of(clear.gate), clear.harmful)
    assert (Verdict.FAIL, not clear.gate.dry_run, False) == (
        judgement.gates[0].verdict,
        judgement.rollback,
        judgement.promote,
    )


@EACH
def test_clearly_fine_passes_and_is_promoted(clear: Clear) -> None:
    """Unless the gate is on trial, which never decides."""
    judgement = judged(case_of(clear.gate), clear.fine)
    assert (Verdict.PASS, not clear.gate.dry_run, False, None) == (
        judgement.gates[0].verdict,
        judgement.promote,
        judgement.rollback,
        judgement.harm,
    )


@EACH
def test_little_evidence_is_inconclusive(clear: Clear) -> None:
    """And says how much more it takes, or that the effect is at the margin."""
    judgement = judged(case_of(clear.gate), clear.unit)
    assert (
        judgement.gates[0].verdict,
        judgement.promote,
        judgement.rollback,
    ) == (Verdict.INCONCLUSIVE, False, False)
    assert "undecided" in judgement.gates[0].sentence


@EACH
@pytest.mark.parametrize("weight_bp", [0, 5_000, 10_000])
@pytest.mark.parametrize("keyed", [False, True])
def test_no_evidence_is_inconclusive_and_says_why(clear: Clear, weight_bp: int, *, keyed: bool) -> None:
    """Without data nothing is ever promoted nor rolled back."""
    judgement = judged(case_of(clear.gate, exposures=[exposure(1, weight_bp)], keyed=keyed))
    (result,) = judgement.gates
    assert (result.verdict, judgement.promote, judgement.rollback) == (Verdict.INCONCLUSIVE, False, False)
    assert "not measured here: " in result.sentence
    assert (result.log_e_harm <= 0, result.estimate, result.more_requests) == (True, None, None)


@EACH
def test_a_gate_of_a_slice_sees_its_slice_only(clear: Clear) -> None:
    """Harm elsewhere is not its matter, and harm in the slice is found there."""
    sliced = replace(clear.gate, slice="user=new")
    one = exposure(1, slices=["user=new"])
    moved = {key._replace(slice="user=new"): number for key, number in clear.harmful.items()}
    overall = result_of(sliced, clear.harmful, exposures=[one])
    inside = result_of(sliced, dict(clear.fine) | moved, exposures=[one])
    assert (overall.verdict, inside.verdict) == (Verdict.INCONCLUSIVE, Verdict.FAIL)


@EACH
def test_a_gate_says_the_same_alone_and_among_others(clear: Clear) -> None:
    """Gates are measured together, and none changes another's numbers."""
    others = [replace(gate, name=f"{gate.name} of new", slice="user=new") for gate in GATES]
    together = judged(case_of(*others, *GATES, exposures=[exposure(1, slices=["user=new"])]), clear.harmful)
    (found,) = [result for result in together.gates if result.gate == clear.gate.name]
    alone = result_of(clear.gate, clear.harmful)
    # A matrix product of another shape may round the last bit of precision and f1 differences, which never decide.
    within = 1e-12 if clear.gate.metric in RATIOS else 0.0
    assert (alone.log_e_harm, alone.log_e_proof) == pytest.approx((found.log_e_harm, found.log_e_proof), rel=within)
    assert alone.estimate == found.estimate


# -- Bounds and forecasts ----------------------------------------------------------------------------------------------

BOUNDED = [clear for clear in CLEAR if clear.gate not in {LATENCY_GATE, PRECISION_LOSS, F1_LOSS}]


@pytest.mark.parametrize("clear", BOUNDED, ids=[clear.gate.name for clear in BOUNDED])
def test_bounds_exclude_the_margin_exactly_when_the_gate_passes(clear: Clear) -> None:
    """In every amount of evidence around the one from which on it passes."""
    passed = []
    for number in range(1, 101):
        result = result_of(clear.gate, times(clear.unit, number))
        assert result.low is not None
        assert result.high is not None
        excluded = result.low >= result.margin if clear.gate.minimum is not None else result.high <= result.margin
        assert excluded == (result.verdict is Verdict.PASS), (number, result.low, result.high)
        passed.append(excluded)
    assert {False, True} == set(passed)


@EACH
def test_bounds_hold_the_estimate(clear: Clear) -> None:
    """Whatever the evidence."""
    for counters in (clear.harmful, clear.fine, clear.unit):
        result = result_of(clear.gate, counters)
        if result.low is not None and result.high is not None and result.estimate is not None:
            assert result.low <= result.estimate <= result.high


@pytest.mark.parametrize("clear", BOUNDED, ids=[clear.gate.name for clear in BOUNDED])
def test_a_low_bound_beyond_the_tolerance_means_harm(clear: Clear) -> None:
    """What the rollback refutes is not among the values that a gate calls possible."""
    result = result_of(clear.gate, clear.harmful)
    assert result.low is not None
    assert result.high is not None
    if clear.gate.minimum is not None:
        assert result.high < result.tolerance
    else:
        assert result.low > result.tolerance


@EACH
def test_as_many_more_as_forecast_make_it_pass(clear: Clear) -> None:
    """Within 20 % if all goes on like this, and a unit of evidence."""
    needed = next(n for n in range(1, 101) if passes(clear, n))
    now = max(needed // 2, 1)
    more = result_of(clear.gate, times(clear.unit, now)).more_requests
    assert more is not None
    units = more / units_of(clear)
    assert 0.8 * (needed - 1 - now) <= units <= 1.2 * (needed - now)
    assert result_of(clear.gate, clear.fine).more_requests == 0


def passes(clear: Clear, number: int) -> bool:
    """Return whether so many units pass."""
    return result_of(clear.gate, times(clear.unit, number)).verdict is Verdict.PASS


def units_of(clear: Clear) -> int:
    """Return how many requests, pairs or labels a unit is; `more_requests` counts the same."""
    if clear.gate.metric in {"error_rate", "latency"}:
        roles = [Role.CANDIDATE] if clear.gate.maximum is not None else list(Role)
        return sum(n for key, n in clear.unit.items() if key.metric == STARTED and key.variant in roles)
    if clear.gate.metric == "recall":
        return sum(n for key, n in clear.unit.items() if key.cell.startswith("8:1"))
    return sum(n for key, n in clear.unit.items() if key.metric == PAIR)


def test_no_forecast_is_given_where_the_effect_is_at_the_margin() -> None:
    """More of the same would never do."""
    result = result_of(ERRORS, failures(HALF, (1_000, 10), (1_000, 15)))
    assert (result.verdict, result.more_requests) == (Verdict.INCONCLUSIVE, None)


# -- In which exposure a gate can say what -----------------------------------------------------------------------------


def test_where_the_candidate_serves_nobody_copies_tell_who_fails() -> None:
    """In the shadow step the error gate fails and passes by copied requests."""
    harmful = result_of(ERRORS, copies(SHADOW, {"fine/fine": 900, "fine/fail": 100}), exposures=[SHADOW])
    fine = result_of(ERRORS, copies(SHADOW, {"fine/fine": 9_990, "fail/fail": 10}), exposures=[SHADOW])
    assert (harmful.verdict, fine.verdict) == (Verdict.FAIL, Verdict.PASS)


def test_an_absolute_limit_of_errors_counts_copies_in_the_shadow_step() -> None:
    """The same with a `max`, of the candidate alone."""
    harmful = result_of(FEW_ERRORS, copies(SHADOW, {"fine/fine": 900, "fail/fail": 100}), exposures=[SHADOW])
    fine = result_of(FEW_ERRORS, copies(SHADOW, {"fine/fine": 9_990, "fine/fail": 10}), exposures=[SHADOW])
    assert (harmful.verdict, fine.verdict) == (Verdict.FAIL, Verdict.PASS)


def test_no_increase_at_all_is_judged_in_the_shadow_step_too() -> None:
    """A candidate that fails a tenth of its copies is rolled back before it serves anybody."""
    cells = {"fine/fine": 900, "fine/fail": 100}
    assert Verdict.FAIL is result_of(NO_MORE_ERRORS, copies(SHADOW, cells), exposures=[SHADOW]).verdict


def test_copies_do_not_count_where_the_candidate_serves() -> None:
    """A request that is served and copied must not count twice."""
    live = failures(HALF, (1_000, 5), (1_000, 5))
    both = live | copies(HALF, {"fine/fine": 900, "fine/fail": 100})
    assert result_of(ERRORS, live).log_e_harm == result_of(ERRORS, both).log_e_harm


def test_latency_of_copies_is_not_judged() -> None:
    """They do not run under the load of live requests."""
    result = result_of(LATENCY_GATE, copies(SHADOW, {"fine/fine": 1_000}), exposures=[SHADOW])
    assert (result.verdict, result.log_e_harm) == (Verdict.INCONCLUSIVE, 0.0)
    assert "not measured here: copies do not run under the load of live requests" in result.sentence


def test_latency_without_frozen_thresholds_is_not_judged() -> None:
    """However slow the candidate is."""
    bare = exposure(1, frozen=False)
    counters = latencies([LATENCY_GATE], bare, spread_ms(2_000), spread_ms(2_000, 5.0))
    result = result_of(LATENCY_GATE, counters, exposures=[bare])
    assert (result.verdict, result.log_e_harm, result.log_e_proof) == (Verdict.INCONCLUSIVE, 0.0, 0.0)
    assert "not measured here: stable's quantiles were not known when this exposure opened" in result.sentence


def test_harm_found_before_thresholds_were_lost_still_counts() -> None:
    """A later exposure without thresholds hides nothing of an earlier one."""
    exposures = [HALF, exposure(2, frozen=False)]
    result = result_of(LATENCY_GATE, slower(10_000, 1.3), exposures=exposures)
    assert Verdict.FAIL is result.verdict


def test_a_tail_that_is_slower_does_not_pass_behind_a_good_median() -> None:
    """The minimum over the quantiles decides on promotion, the average on rollback."""
    counters = latencies([LATENCY_GATE], HALF, spread_ms(20_000), spread_ms(20_000, 0.9, tail=3.0))
    assert Verdict.FAIL is result_of(LATENCY_GATE, counters).verdict
    counters = latencies([LATENCY_GATE], HALF, spread_ms(2_000), spread_ms(2_000, 0.8, tail=1.4))
    assert Verdict.INCONCLUSIVE is result_of(LATENCY_GATE, counters).verdict


def test_slack_lets_a_fast_model_be_a_little_slower() -> None:
    """Two milliseconds by default."""
    default = replace(LATENCY_GATE, slack_ms=2.0)
    verdicts = [
        result_of(gate, latencies([gate], HALF, spread_ms(10_000), [ms + 1.5 for ms in spread_ms(10_000)])).verdict
        for gate in (default, LATENCY_GATE)
    ]
    assert verdicts == [Verdict.PASS, Verdict.FAIL]


@EACH
def test_at_all_traffic_only_what_needs_no_stable_request_is_judged(clear: Clear) -> None:
    """Absolute limits of live requests, and pairs, which still have stable's copies."""
    comparative = clear.gate in {ERRORS, NO_MORE_ERRORS, LATENCY_GATE}
    harmful, fine = (
        result_of(clear.gate, counters, exposures=[ALL_TRAFFIC]) for counters in (clear.harmful, clear.fine)
    )
    if comparative:
        assert (harmful.verdict, fine.verdict) == (Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE)
        assert (harmful.log_e_harm, fine.log_e_proof) == (0.0, 0.0)
        assert "the candidate serves every request, so there is nothing to compare it with" in fine.sentence
    else:
        assert (harmful.verdict, fine.verdict) == (Verdict.FAIL, Verdict.PASS)


def test_harm_is_asked_of_all_exposures_and_proof_of_the_present_one() -> None:
    """What was proved at 1 % is not proved at 50 %, and what was harmful stays so."""
    small = exposure(1, 1_000)
    fine, bad = failures(small, (9_000, 9), (9_000, 9)), failures(small, (10_000, 20), (1_000, 100))
    exposures = [small, exposure(2, 5_000)]
    assert Verdict.INCONCLUSIVE is result_of(ERRORS, fine, exposures=exposures).verdict
    assert Verdict.FAIL is result_of(ERRORS, bad, exposures=exposures).verdict


def test_a_fault_under_load_is_not_buried_by_a_clean_past() -> None:
    """The process that starts with the exposure in which it shows finds it."""
    small, large = exposure(1, 1_000), exposure(2, 5_000)
    clean = failures(small, (900_000, 900), (100_000, 100))
    fault = failures(large, (2_000, 4), (2_000, 40))
    assert Verdict.FAIL is result_of(ERRORS, clean, fault, exposures=[small, large]).verdict


# -- What is not known yet never speaks against the candidate, nor for it ----------------------------------------------

IN_FLIGHT = (ERRORS, NO_MORE_ERRORS, FEW_ERRORS, LATENCY_GATE)
SOME_ENDS = (Outcome.OK, Outcome.HTTP_ERROR, Outcome.TIMEOUT, Outcome.CANCELLED, Outcome.SHED)


def numbers(
    history: Sequence[Planned], exposures: Sequence[Exposure], *, keyed: bool, now_s: float = 1_000.0
) -> Mapping[str, GateResult]:
    """Return each gate's result after a history."""
    evidence = evidence_of(history, exposures, IN_FLIGHT, keyed=keyed, now_s=now_s)
    case = case_of(*IN_FLIGHT, exposures=exposures, keyed=keyed)
    return {result.gate: result for result in judge(case, evidence).gates}


@pytest.mark.parametrize("keyed", [False, True])
@given(history=histories(most=15), which=st.lists(st.integers(0, 14), max_size=2, unique=True), data=st.data())
@settings(LAWS, max_examples=30)
def test_open_requests_bound_what_their_ends_will_say(
    history: Sequence[Planned], which: Sequence[int], data: st.DataObject, *, keyed: bool
) -> None:
    """With requests still open, neither harm nor proof is above what it will be, however they end: all combinations."""
    exposures = [exposure(1, 1_000), exposure(2, 5_000)]
    open_ = [number for number in which if number < len(history)]
    latency_ms = data.draw(st.sampled_from([1.0, 21.0, 90.0]))

    def ending(outcomes: Sequence[Outcome] | None) -> list[Planned]:
        ended = list(history)
        for number, outcome in zip(open_, outcomes or [Outcome.OK] * len(open_), strict=True):
            after_s = None if outcomes is None else 50.0
            ended[number] = replace(
                history[number], outcome=outcome, ends_after_s=after_s, latency_ms=latency_ms, other=None, label=None
            )
        return ended

    before = numbers(ending(None), exposures, keyed=keyed)
    for outcomes in itertools.product(SOME_ENDS, repeat=len(open_)):
        after = numbers(ending(outcomes), exposures, keyed=keyed)
        for gate in IN_FLIGHT:
            assert before[gate.name].log_e_harm <= after[gate.name].log_e_harm + 1e-9
            assert before[gate.name].log_e_proof <= after[gate.name].log_e_proof + 1e-9


@given(many=st.integers(1, 300), failed=st.integers(0, 300), open_=st.integers(0, 100), ends=st.integers(0, 100))
@LAWS
def test_open_requests_bound_their_ends_in_large_numbers_too(many: int, failed: int, open_: int, ends: int) -> None:
    """So that fail-fast errors of the candidate cannot outrun stable's slow ones."""
    ends = min(ends, open_)
    ok = {"ok": 300 + many}
    stable, candidate = HALF, HALF
    before = served(stable, Role.STABLE, ok, open_=open_) | served(
        candidate, Role.CANDIDATE, ok | {"reset": failed}, open_=open_
    )
    after = served(stable, Role.STABLE, ok | {"timeout": ends}, open_=open_ - ends) | served(
        candidate, Role.CANDIDATE, ok | {"reset": failed + ends}, open_=open_ - ends
    )
    for gate in (ERRORS, NO_MORE_ERRORS, FEW_ERRORS):
        one, other = result_of(gate, before), result_of(gate, after)
        assert one.log_e_harm <= other.log_e_harm + 1e-9
        assert one.log_e_proof <= other.log_e_proof + 1e-9


def test_harm_may_be_found_at_any_cut() -> None:
    """Where thousands are in flight, the second before had as many failures and fewer open requests."""
    now = failures(HALF, (3_000, 0), (3_000, 60))
    flooded = dict(now)
    for variant in ("stable", "candidate"):
        flooded[CounterKey(1, STARTED, "", variant, "all")] += 2_000
    without_cuts = {key: n for key, n in flooded.items() if "@" not in key.metric}
    assert Verdict.FAIL is result_of(ERRORS, flooded).verdict
    assert Verdict.INCONCLUSIVE is result_of(ERRORS, without_cuts).verdict


@pytest.mark.parametrize("gate", [*IN_FLIGHT], ids=[gate.name for gate in IN_FLIGHT])
def test_proof_comes_from_the_oldest_cut_only(gate: GateSpec) -> None:
    """Nothing that happened within the timeout promotes or hinders promotion."""
    (clear,) = [clear for clear in CLEAR if clear.gate is gate]
    metrics = {metric + cut for metric in (STARTED, OUTCOME, LEVEL) for cut in CUTS[:-1]}
    recent = {key: n for key, n in clear.fine.items() if key.metric in metrics}
    older = {key: n for key, n in clear.fine.items() if key.metric not in metrics}
    assert result_of(gate, clear.fine).log_e_proof == result_of(gate, older).log_e_proof
    assert result_of(gate, recent).log_e_proof == 0.0
    assert Verdict.INCONCLUSIVE is result_of(gate, recent).verdict


def test_a_copy_that_is_missing_or_cannot_be_compared_is_no_harm_and_no_proof() -> None:
    """Dropping what the candidate did not answer promoted a disagreeing one always (statistics.md rule 9)."""
    agreed = agreements(HALF, 1_000, 0)
    for cells in (
        paired(HALF, PAIR, {BOTH: 1_000, "candidate:timeout": 30}),
        paired(HALF, PAIR, {BOTH: 1_000, LOST: 30}),
        paired(HALF, PAIR, {BOTH: 1_030}) | paired(HALF, AGREEMENT, {"same": 1_000, "not_compared": 30}),
    ):
        result = result_of(DISAGREEMENT, agreed | cells)
        assert (result.verdict, result.log_e_harm <= 0) == (Verdict.INCONCLUSIVE, True)
    assert Verdict.PASS is result_of(DISAGREEMENT, agreed).verdict


def test_a_shed_request_of_the_candidate_is_no_harm_and_no_proof() -> None:
    """It fails for promotion and succeeds for rollback."""
    stable = served(HALF, Role.STABLE, {"ok": 2_000})
    shed = result_of(ERRORS, stable | served(HALF, Role.CANDIDATE, {"ok": 1_900, "shed": 100}))
    failed = result_of(ERRORS, stable | served(HALF, Role.CANDIDATE, {"ok": 1_900, "http_error": 100}))
    fine = result_of(ERRORS, stable | served(HALF, Role.CANDIDATE, {"ok": 2_000}))
    assert (fine.log_e_harm, failed.log_e_proof) == (shed.log_e_harm, shed.log_e_proof)


def test_an_impossible_outcome_is_certain_harm() -> None:
    """At a limit of 0 the first disagreement refutes, and reports hold a finite number."""
    never = replace(DISAGREEMENT, maximum=0.0)
    clean, one = result_of(never, agreements(HALF, 1_000, 0)), result_of(never, agreements(HALF, 1_000, 1))
    assert (clean.verdict, clean.log_e_harm) == (Verdict.INCONCLUSIVE, 0.0)
    assert Verdict.FAIL is one.verdict
    assert math.isfinite(one.log_e_harm)


def test_a_margin_of_zero_is_passed_by_a_better_candidate_only() -> None:
    """An equal one can never be told from one that is worse by nothing."""
    equal = result_of(NO_MORE_ERRORS, failures(HALF, (100_000, 1_000), (100_000, 1_000)))
    better = result_of(NO_MORE_ERRORS, failures(HALF, (100_000, 1_000), (100_000, 500)))
    assert (equal.verdict, better.verdict) == (Verdict.INCONCLUSIVE, Verdict.PASS)


def test_with_a_margin_of_zero_failures_of_equal_rates_are_no_harm() -> None:
    """Whatever the split of the traffic."""
    for weight_bp in (100, 1_000, 5_000, 9_000):
        one = exposure(1, weight_bp)
        stable, candidate = (10_000 - weight_bp) * 10, weight_bp * 10
        counters = failures(one, (stable, stable // 100), (candidate, candidate // 100))
        assert result_of(NO_MORE_ERRORS, counters, exposures=[one]).log_e_harm <= 0
