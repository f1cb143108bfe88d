"""Evidence is the sum over boots, whatever the order, and counts are read per exposure."""

from hypothesis import given
from hypothesis import strategies as st

from router.analysis.evidence import Evidence, count_only, counts_of
from router.core.decisions import Counts
from router.core.observations import CounterKey
from router.core.rollout import Exposure

KEYS = st.builds(
    CounterKey,
    exposure=st.integers(1, 3),
    metric=st.sampled_from(["outcome", "pair"]),
    slice=st.sampled_from(["", "digit=9"]),
    variant=st.sampled_from(["stable", "candidate", "pair"]),
    cell=st.sampled_from(["ok", "both"]),
)
COUNTERS = st.dictionaries(KEYS, st.integers(0, 1_000))
EVIDENCE = COUNTERS.map(Evidence)


def exposure(number: int) -> Exposure:
    """Return an exposure that a state of this revision opened."""
    return Exposure(id=number, weight_bp=1_000, mirror_bp=0, policy="canary", since_s=0.0)


@given(EVIDENCE, EVIDENCE, EVIDENCE)
def test_addition_is_associative_and_commutative(one: Evidence, two: Evidence, three: Evidence) -> None:
    """Replicas may be merged in any order and any grouping."""
    assert ((one + two) + three).counters == (one + (two + three)).counters
    assert (one + two).counters == (two + one).counters


@given(st.dictionaries(st.sampled_from(["boot-a", "boot-b", "boot-c"]), COUNTERS))
def test_merging_boots_is_adding_them_one_by_one(by_boot: dict[str, dict[CounterKey, int]]) -> None:
    """`of` and `+` say the same."""
    added = Evidence()
    for counters in by_boot.values():
        added = added + Evidence(counters)
    assert dict(added.counters) == dict(Evidence.of(by_boot).counters)


def test_counts_take_answers_and_complete_pairs_of_one_exposure_only() -> None:
    """Failures without an answer, missing answers, other exposures and slices do not count."""
    evidence = Evidence.of(
        {
            "a": {
                CounterKey(7, "outcome", "", "stable", "ok"): 90,
                CounterKey(7, "outcome", "", "candidate", "ok"): 5,
                CounterKey(7, "outcome", "", "candidate", "timeout"): 4,
                CounterKey(7, "outcome", "digit=9", "candidate", "ok"): 3,
                CounterKey(6, "outcome", "", "candidate", "ok"): 1_000,
                CounterKey(7, "pair", "", "pair", "both"): 11,
                CounterKey(7, "pair", "", "pair", "candidate:timeout"): 2,
            },
            "b": {
                CounterKey(7, "outcome", "", "candidate", "http_error"): 1,
                CounterKey(7, "outcome", "", "candidate", "client_error"): 2,
                CounterKey(7, "pair", "", "pair", "both"): 1,
            },
        }
    )
    assert Counts(requests_stable=90, requests_candidate=8, pairs=12) == counts_of(evidence, exposure(7))


def test_a_count_only_judgement_asks_for_nothing() -> None:
    """Without gates nothing is promoted and nothing rolled back."""
    judgement = count_only(Evidence(), exposure(1))
    assert (
        judgement.rollback,
        judgement.promote,
        judgement.invalid,
        judgement.reason,
    ) == (False, False, None, "not judged")
