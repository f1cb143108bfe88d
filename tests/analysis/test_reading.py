"""From counters to events, others and unknown ends: what the ledger counts is read back as statistics.md books it."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from router.analysis.evidence import Evidence
from router.analysis.gates import Arm
from router.analysis.reading import Reading
from router.core.levels import QUANTILES, thresholds_of
from router.core.observations import (
    AGREEMENT,
    BOTH,
    CUTS,
    DISTANCE,
    LATE,
    LOST,
    OUTCOME,
    PAIR,
    STARTED,
    CounterKey,
    Outcome,
    distance_bucket,
    latency_edge_ms,
)
from router.core.rollout import Exposure, GateSpec
from router.core.traffic import Role
from tests.analysis.cases import (
    ACCURACY,
    DISAGREEMENT,
    ERRORS,
    FAR_APART,
    HALF,
    LATENCY_GATE,
    RECALL,
    Planned,
    evidence_of,
    exposure,
    histories,
)
from tests.analysis.ledger import COMPARED_FAILURES, Ledger, paired, served

LAWS = settings(deadline=None, derandomize=True, max_examples=60)
ENDS: list[str] = [*Outcome, LATE]
ON_DIGIT_8 = replace(ERRORS, name="errors of 8", slice="digit=8")
TWO = [exposure(1, 1_000), exposure(2, 5_000)]
THREE = [*TWO, exposure(3, 5_000)]


def reading(evidence: Evidence, exposures: Sequence[Exposure] = (HALF,), *, keyed: bool = False) -> Reading:
    """Return a Reading."""
    return Reading(evidence, exposures, keyed)


def numbers(arm: Arm) -> tuple[int, int, int]:
    """Return the one number in each array of an Arm of one gate, cut and exposure, taken at the oldest cut."""
    return int(arm.events[0, -1, 0]), int(arm.rest[0, -1, 0]), int(arm.unknown[0, -1, 0])


# -- How outcomes are booked -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("role", list(Role))
def test_one_end_is_one_event_one_other_or_one_unknown(end: str, role: Role) -> None:
    """Compared between the arms and against a limit; ours is never an event, cancelled is one in both arms."""
    fails = end in {"http_error", "connect_failed", "reset", "malformed", "timeout"}
    ours = end in {"shed", "queue_timeout", "oversize"}
    compared = (1, 0, 0) if fails or end in {"cancelled", "late"} else (0, 0, 1) if ours else (0, 1, 0)
    absolute = (1, 0, 0) if fails else (0, 0, 1) if ours or end == "cancelled" else (0, 1, 0)
    asked = reading(Evidence(served(HALF, role, {end: 1})))
    assert compared == numbers(asked.outcomes([ERRORS], role))
    assert absolute == numbers(asked.outcomes([ERRORS], role, absolute=True))
    assert numbers(asked.outcomes([ERRORS], role.other)) == (0, 0, 0)


def test_what_has_started_and_not_ended_is_unknown() -> None:
    """In flight, or lost with its replica: nobody knows which."""
    asked = reading(Evidence(served(HALF, Role.STABLE, {"ok": 7, "reset": 2}, open_=3)))
    assert numbers(asked.outcomes([ERRORS], Role.STABLE)) == (2, 7, 3)


def test_a_slice_is_read_by_itself() -> None:
    """A gate of a slice sees the requests of the slice, and a gate without one sees all."""
    history = [
        Planned(0, 1, Role.STABLE, slices=("digit=8",), outcome="reset"),
        Planned(0, 1, Role.STABLE, slices=("digit=8", "user=new")),
        Planned(0, 1, Role.STABLE, outcome="timeout"),
    ]
    arm = reading(evidence_of(history, [HALF])).outcomes([ERRORS, ON_DIGIT_8], Role.STABLE)
    assert np.stack([arm.events, arm.rest], axis=-1)[:, -1, 0].tolist() == [[2, 1], [1, 1]]


# -- Cuts in time ------------------------------------------------------------------------------------------------------


@given(histories(exposures=1))
@LAWS
def test_a_cut_holds_the_requests_that_had_arrived_by_then(history: Sequence[Planned]) -> None:
    """All of them; of the last second at a cut some may be left out, since arrivals are counted by whole seconds."""
    ledger = Ledger([HALF], timeout_s=6)
    for one in history:
        request = ledger.start(one.at_s, HALF, one.role)
        ledger.end(request, one.outcome)
    for now_s in (8.0, 9.0, 10.5, 20.0):
        evidence = Evidence(ledger.counters(now_s)) if now_s >= max((one.at_s for one in history), default=0) else None
        if evidence is None:
            continue
        for role in Role:
            arm = reading(evidence).outcomes([ERRORS], role)
            for cut, age_s in enumerate((-1, 1, 5, 6)):
                old = [one for one in history if one.role is role and int(one.at_s) + 1 + age_s <= now_s]
                failed = sum(one.outcome in COMPARED_FAILURES for one in old)
                assert (len(old), failed) == (arm.all[0, cut, 0], arm.events[0, cut, 0])


def test_a_request_in_flight_is_at_no_cut_older_than_itself() -> None:
    """Two seconds after its arrival it is unknown now and a second ago, and not yet there before."""
    ledger = Ledger([HALF])
    ledger.start(100.0, HALF, Role.STABLE)
    arm = reading(Evidence(ledger.counters(102.0))).outcomes([ERRORS], Role.STABLE)
    assert arm.unknown[0, :, 0].tolist() == [1, 1, 0, 0]


def test_an_end_after_the_timeout_is_still_counted_at_every_cut() -> None:
    """An answer that came in the second in which it was given up belongs to the second of its arrival."""
    ledger = Ledger([HALF])
    request = ledger.start(100.0, HALF, Role.STABLE)
    ledger.counters(140.0)
    ledger.end(request, Outcome.TIMEOUT)
    arm = reading(Evidence(ledger.counters(141.0))).outcomes([ERRORS], Role.STABLE)
    assert [1] * len(CUTS) == arm.events[0, :, 0].tolist()


# -- Keys --------------------------------------------------------------------------------------------------------------


def small_histories() -> Iterator[list[Planned]]:
    """Yield all histories of two keys in four requests over three exposures, each ok or failing on its key's side."""
    when = [(1, "a"), (1, "b"), (2, "a"), (2, "b"), (3, "a"), (3, "b")]
    for requests in itertools.combinations_with_replacement(when, 4):
        for outcomes in itertools.product(["ok", "reset"], repeat=4):
            yield [
                Planned(10 * number + i, number, Role.STABLE if key == "a" else Role.CANDIDATE, key, outcome=outcome)
                for i, ((number, key), outcome) in enumerate(zip(requests, outcomes, strict=True))
            ]


def firsts(history: Sequence[Planned], wanted: Callable[[Planned], bool]) -> NDArray[np.float64]:
    """Return (role, S, K): how many keys have their first wanted request since each start in each exposure."""
    found = np.zeros((2, len(THREE), len(THREE)))
    for s, key in itertools.product(range(len(THREE)), "ab"):
        first = next((one for one in history if one.key == key and one.exposure > s and wanted(one)), None)
        if first is not None:
            found[list(Role).index(first.role), s, first.exposure - 1] += 1
    return found


def test_with_keys_the_first_event_since_each_start_counts() -> None:
    """By enumeration of all small histories: of requests the first one, of failures the first failure."""
    for history in small_histories():
        asked = reading(evidence_of(history, THREE, keyed=True), THREE, keyed=True)
        for number, role in enumerate(Role):
            outcomes, failing = asked.outcomes([ERRORS], role), asked.first_failures([ERRORS], role)
            assert np.array_equal(firsts(history, lambda _: True)[number], outcomes.all[0, -1])
            assert np.array_equal(firsts(history, lambda one: one.outcome == "reset")[number], failing.events[0, -1])
            began = {
                (s, one.key): one.outcome
                for s in range(len(THREE))
                for one in reversed(history)
                if one.exposure > s and one.role is role
            }
            bad = [sum(end == "reset" for (s, _), end in began.items() if s == start) for start in range(len(THREE))]
            assert bad == outcomes.events[0, -1].sum(axis=-1).tolist()


def test_a_key_that_comes_again_counts_once_in_an_exposure() -> None:
    """A thousand requests of one user are one unit."""
    history = [Planned(1 + i / 1_000, 1, Role.CANDIDATE, "heavy", outcome="reset") for i in range(1_000)]
    arm = reading(evidence_of(history, [HALF], keyed=True), keyed=True).outcomes([ERRORS], Role.CANDIDATE)
    assert (arm.events[0, -1, 0, 0], arm.unknown[0, -1, 0, 0]) == (1, 0)


def test_a_request_in_flight_may_yet_be_its_keys_first_failure() -> None:
    """So all that is in flight is unknown, whether or not its key has been seen."""
    history = [Planned(1, 1, Role.STABLE, "a"), Planned(2, 1, Role.STABLE, "a", ends_after_s=None)]
    arm = reading(evidence_of(history, [HALF], keyed=True), keyed=True).first_failures([ERRORS], Role.STABLE)
    assert (arm.events[0, -1, 0, 0], arm.unknown[0, -1, 0, 0]) == (0, 1)


def test_what_was_open_before_a_start_does_not_weigh_on_the_evidence_since_it() -> None:
    """A replica that died in the first exposure must not hide harm that begins in the second."""
    lost = [Planned(1, 1, Role.STABLE, "a", ends_after_s=None)] * 3
    arm = reading(evidence_of(lost, TWO, keyed=True), TWO, keyed=True).first_failures([ERRORS], Role.STABLE)
    assert arm.unknown[0, -1].tolist() == [[3, 0], [0, 0]]


def test_with_keys_pairs_and_labels_are_those_of_a_keys_first() -> None:
    """The second pair of a user says nothing new, in the same exposure and since an earlier start."""
    pair = Planned(
        1, 1, Role.STABLE, "a", other=Outcome.OK, same=False, distance=0.2, label=("8", "8", "1"), ends_after_s=0.0
    )
    history = [pair, replace(pair, at_s=2, same=True), replace(pair, at_s=11, exposure=2)]
    asked = reading(evidence_of(history, TWO, keyed=True), TWO, keyed=True)
    expected = [[1, 0], [0, 1]]
    for gate in (DISAGREEMENT, FAR_APART):
        assert expected == asked.disagreements([gate]).events[0, 0].tolist()
        assert expected == asked.disagreements([gate]).all[0, 0].tolist()
    for gate in (ACCURACY, RECALL):
        assert expected == asked.right_answers([gate]).seen[0, 0, ..., 2].tolist()


# -- Latency levels ----------------------------------------------------------------------------------------------------

LOOSE = replace(LATENCY_GATE, name="loose", max_increase=0.5)
OF_SLICE = replace(LATENCY_GATE, name="of 8", slice="digit=8")
LATENCY_GATES = [LATENCY_GATE, LOOSE, OF_SLICE]


def beyond(bucket_edge: int, history: Sequence[Planned], role: Role, slice_: str | None) -> int:
    """Return how many answers of one variant are slower than the edge of a bucket."""
    return sum(
        one.latency_ms > latency_edge_ms(bucket_edge) * (1 + 1e-12)
        for one in history
        if one.role is role and (slice_ is None or slice_ in one.slices) and one.outcome in {"ok", "client_error"}
    )


@given(histories(exposures=1))
@LAWS
def test_levels_tell_for_each_gate_who_is_beyond_its_thresholds(history: Sequence[Planned]) -> None:
    """Several gates of one slice share the levels, and each finds its own edges among them."""
    one = exposure(1, slices=["digit=8"])
    answered = [replace(planned, ends_after_s=0.0, outcome="ok") for planned in history]
    limits = [thresholds_of(LATENCY_GATES, one)]
    slow = reading(evidence_of(answered, [one], LATENCY_GATES), [one]).slow(LATENCY_GATES, limits)
    for (j, gate), q in itertools.product(enumerate(LATENCY_GATES), range(len(QUANTILES))):
        threshold = limits[0][j][q]
        for role, harm, proof in (
            (Role.STABLE, threshold.stable, threshold.stable),
            (Role.CANDIDATE, threshold.harm, threshold.proof),
        ):
            for edge, arms in ((harm, slow[role].for_harm), (proof, slow[role].for_proof)):
                assert beyond(edge, answered, role, gate.slice) == arms[q].events[j, -1, 0]
                assert arms[q].unknown[j, -1, 0] == 0


def test_without_frozen_thresholds_nothing_is_fast_and_nothing_slow() -> None:
    """An exposure that opened before stable's quantiles were known holds nothing for latency."""
    bare = exposure(2, frozen=False)
    history = [Planned(1, 1, Role.STABLE, latency_ms=15.0), Planned(11, 2, Role.STABLE, latency_ms=15.0)]
    exposures = [HALF, bare]
    limits = [thresholds_of([LATENCY_GATE], one) for one in exposures]
    slow = reading(evidence_of(history, exposures, [LATENCY_GATE]), exposures).slow([LATENCY_GATE], limits)
    arm = slow[Role.STABLE].for_harm[0]
    assert (arm.events[0, -1].tolist(), arm.all[0, -1].tolist()) == ([1, 0], [1, 0])


@pytest.mark.parametrize(
    ("outcome", "latency_ms", "expected"),
    [
        (Outcome.CANCELLED, 1_000.0, (1, 0, 0)),
        (Outcome.CANCELLED, 1.0, (0, 1, 0)),
        (Outcome.TIMEOUT, 30_000.0, (1, 0, 0)),
        (Outcome.RESET, 1.0, (0, 1, 0)),
        (Outcome.SHED, 1_000.0, (0, 0, 1)),
        (Outcome.HTTP_ERROR, 1.0, (0, 1, 0)),
    ],
)
def test_an_end_without_an_answer_is_slow_if_it_was_waited_for_too_long(
    outcome: Outcome, latency_ms: float, expected: tuple[int, int, int]
) -> None:
    """A client that gave up after the threshold has waited too long; what we gave up ourselves is not known."""
    history = [Planned(1, 1, Role.CANDIDATE, outcome=outcome, latency_ms=latency_ms)]
    asked = reading(evidence_of(history, [HALF], [LATENCY_GATE]))
    slow = asked.slow([LATENCY_GATE], [thresholds_of([LATENCY_GATE], HALF)])
    assert expected == numbers(slow[Role.CANDIDATE].for_proof[0])


# -- Pairs -------------------------------------------------------------------------------------------------------------


def disagreements(counters: dict[CounterKey, int], gate: GateSpec = DISAGREEMENT) -> tuple[int, int, int]:
    """Return what a reading of these counters says of pairs."""
    return numbers(reading(Evidence(counters)).disagreements([gate]))


def test_compared_pairs_differ_or_agree_and_others_are_unknown() -> None:
    """Complete but not comparable pairs may be either."""
    cells = paired(HALF, AGREEMENT, {"same": 6, "different": 3, "not_compared": 2})
    assert disagreements(cells | paired(HALF, PAIR, {BOTH: 11})) == (3, 6, 2)


@pytest.mark.parametrize("cell", [*(f"candidate:{end}" for end in Outcome if not end.is_answer), LOST])
def test_a_copy_without_the_candidates_answer_is_unknown(cell: str) -> None:
    """Whatever the reason, our own doing included: once it was selected it counts."""
    assert disagreements(paired(HALF, PAIR, {cell: 1})) == (0, 0, 1)


@pytest.mark.parametrize("end", [end for end in Outcome if not end.is_answer])
def test_a_copy_without_stables_answer_is_no_pair(end: Outcome) -> None:
    """What stable answers is decided without the candidate, so leaving it out is fair."""
    counters = paired(HALF, PAIR, {f"stable:{end}": 1}) | paired(HALF, AGREEMENT, {"not_compared": 1})
    assert disagreements(counters) == (0, 0, 0)


def test_a_gate_with_its_own_distance_counts_pairs_beyond_it() -> None:
    """Beside one that lets the comparator say so; a pair without a distance is unknown to it."""
    near, far = str(distance_bucket(0.1)), str(distance_bucket(0.2))
    counters = {
        **paired(HALF, PAIR, {BOTH: 10}),
        **paired(HALF, AGREEMENT, {"same": 1, "different": 9}),
        **paired(HALF, DISTANCE, {"0": 2, near: 3, far: 4}),
    }
    asked = reading(Evidence(counters)).disagreements([FAR_APART, DISAGREEMENT, replace(FAR_APART, beyond=0.5)])
    found = np.stack([asked.events, asked.rest, asked.unknown], axis=-1)[:, 0, 0]
    assert found.tolist() == [[4, 5, 1], [9, 1, 0], [0, 9, 1]]


@given(histories(exposures=1))
@LAWS
def test_every_copy_with_stables_answer_is_read_once(history: Sequence[Planned]) -> None:
    """No copied request leaves the denominator because of what the candidate did."""
    arm = reading(evidence_of(history, [HALF])).disagreements([DISAGREEMENT])
    copied = [one for one in history if one.other is not None]
    counted = [one.ends_after_s is None or one.ends[0].is_answer for one in copied]
    assert sum(counted) == arm.all[0, 0, 0]


def test_copied_failures_are_booked_for_the_candidate_as_harm_and_against_it_as_proof() -> None:
    """Unknown ends count for the candidate when harm is asked, against it when proof is."""
    history = [
        Planned(1, 1, Role.STABLE, outcome=stable, other=candidate)
        for stable in (Outcome.OK, Outcome.RESET, Outcome.SHED)
        for candidate in (Outcome.OK, Outcome.RESET, Outcome.SHED)
    ]
    found = reading(evidence_of(history, [HALF])).copied_failures([ERRORS])
    # For harm stable fails in 6 of 9 and the candidate in 3, for proof 3 and 6.
    assert (found.for_harm[0, 0, 0].tolist(), found.for_proof[0, 0, 0].tolist()) == ([4, 4, 1], [1, 4, 4])


# -- Labels ------------------------------------------------------------------------------------------------------------


def test_labels_say_who_was_right_overall_and_for_one_class() -> None:
    """Both wrong, only the candidate right, only stable right, both right; of a class among rows that are of it."""
    labels = [("8", "8", "8"), ("8", "8", "1"), ("8", "1", "8"), ("8", "1", "3"), ("1", "8", "1"), ("1", "1", "1")]
    history = [Planned(1, 1, Role.STABLE, other=Outcome.OK, same=a == b, label=(y, a, b)) for y, a, b in labels]
    asked = reading(evidence_of(history, [HALF])).right_answers([ACCURACY, RECALL, replace(RECALL, label="7")])
    assert asked.seen[:, 0, 0].tolist() == [[1, 2, 1, 2], [1, 1, 1, 1], [0, 0, 0, 0]]


def test_joint_cells_follow_truth_stable_and_candidate() -> None:
    """In the order of eprocess.CELLS, each class against all others."""
    labels = [("8", "8", "1"), ("1", "8", "8"), ("1", "1", "8"), ("1", "8", "3")]
    history = [Planned(1, 1, Role.STABLE, other=Outcome.OK, same=a == b, label=(y, a, b)) for y, a, b in labels]
    cells = reading(evidence_of(history, [HALF])).joint_cells([RECALL]).seen[0, 0, 0]
    assert cells.tolist() == [0, 1, 1, 1, 0, 0, 1, 0]


def test_a_candidate_without_a_prediction_is_right_for_harm_and_wrong_for_proof() -> None:
    """Overall and of a class, where the truth is that class or stable said so; what is shown leaves it out."""
    labels = [("8", "8", None), ("8", "1", None), ("1", "8", None), ("8", "8", "8")]
    history = [Planned(1, 1, Role.STABLE, other=Outcome.TIMEOUT, label=one) for one in labels]
    asked = reading(evidence_of(history, [HALF]))
    answers, joint = asked.right_answers([ACCURACY, RECALL]), asked.joint_cells([RECALL])
    assert answers.seen[:, 0, 0].tolist() == [[0, 0, 0, 1], [0, 0, 0, 1]]
    assert answers.for_harm[:, 0, 0].tolist() == [[0, 2, 0, 2], [0, 1, 0, 2]]
    assert answers.for_proof[:, 0, 0].tolist() == [[2, 0, 1, 1], [1, 0, 1, 1]]
    # truth, stable, candidate: 010 for the third, 101 and 111, or 100 and 110, for the first two
    assert joint.for_harm[0, 0, 0].tolist() == [0, 0, 1, 0, 0, 1, 0, 2]
    assert joint.for_proof[0, 0, 0].tolist() == [0, 0, 1, 0, 1, 0, 1, 1]


def test_our_own_drops_are_counted_by_exposure() -> None:
    """Shed, waited too long in our queue, too large; not what clients gave up."""
    ends = {"shed": 1, "queue_timeout": 2, "oversize": 4, "cancelled": 8, "ok": 16}
    counters = served(TWO[1], Role.STABLE, ends)
    assert reading(Evidence(counters), TWO).dropped(Role.STABLE).tolist() == [0, 7]


def test_the_histogram_is_of_the_present_exposure() -> None:
    """For display: all its answers by bucket, whatever the key."""
    history = [Planned(1, 1, Role.STABLE, latency_ms=5.0), Planned(11, 2, Role.STABLE, latency_ms=0.05)]
    for keyed in (False, True):
        asked = reading(evidence_of(history, TWO, keyed=keyed), TWO, keyed=keyed)
        histogram = asked.histogram([LATENCY_GATE], Role.STABLE)
        assert (histogram[0, 0], histogram.sum()) == (1, 1)


def test_what_was_never_counted_reads_as_zero() -> None:
    """No evidence is no error."""
    asked = reading(Evidence(), TWO)
    assert asked.outcomes([ERRORS, ON_DIGIT_8], Role.STABLE).all.sum() == 0
    assert asked.disagreements([DISAGREEMENT, FAR_APART]).all.sum() == 0
    assert (STARTED, OUTCOME) == ("started", "outcome")
