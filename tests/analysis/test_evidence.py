"""Evidence is the sum over boots, whatever the order, and counts are read per exposure."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.analysis.evidence import Boots, Evidence, count_only, counts_of, newest
from router.analysis.judge import judge
from router.core.decisions import Counts
from router.core.observations import CounterKey, Outcome
from router.core.rollout import Exposure
from router.core.traffic import Role
from tests.analysis.cases import GATES, Planned, case_of, exposure, histories, play
from tests.analysis.ledger import Ledger, Seen

LAWS = settings(deadline=None, derandomize=True, max_examples=50)

KEYS = st.builds(
    CounterKey,
    exposure=st.integers(1, 3),
    metric=st.sampled_from(["outcome", "outcome@1s", "key:outcome", "pair"]),
    slice=st.sampled_from(["", "digit=9"]),
    variant=st.sampled_from(["stable", "candidate", "pair"]),
    cell=st.sampled_from(["ok/0", "both/1"]),
)
COUNTERS = st.dictionaries(KEYS, st.integers(0, 1_000))
EVIDENCE = COUNTERS.map(Evidence)
BOOTS = st.dictionaries(st.sampled_from(["boot-a", "boot-b", "boot-c"]), COUNTERS)


def opened_by(revision: int) -> Exposure:
    """Return an exposure that a state of this revision opened."""
    return Exposure(id=revision, weight_bp=1_000, mirror_bp=0, policy="canary", since_s=0.0)


@given(EVIDENCE, EVIDENCE, EVIDENCE)
@LAWS
def test_addition_is_associative_and_commutative(one: Evidence, two: Evidence, three: Evidence) -> None:
    """Replicas may be merged in any order and any grouping."""
    assert ((one + two) + three) == (one + (two + three))
    assert (one + two) == (two + one)


@given(EVIDENCE)
@LAWS
def test_evidence_without_counters_adds_nothing(one: Evidence) -> None:
    """A replica that has seen nothing changes nothing."""
    assert one == one + Evidence()


@given(BOOTS)
@LAWS
def test_merging_boots_is_adding_them_one_by_one(by_boot: Boots) -> None:
    """`of` and `+` say the same."""
    added = Evidence()
    for counters in by_boot.values():
        added = added + Evidence(counters)
    assert dict(added.counters) == dict(Evidence.of(by_boot).counters)


@given(BOOTS, BOOTS, BOOTS)
@LAWS
def test_newest_is_idempotent_commutative_and_associative(one: Boots, two: Boots, three: Boots) -> None:
    """Readings of the same boots may be repeated, swapped and grouped at will."""
    assert one == newest(one, one)
    assert newest(one, two) == newest(two, one)
    assert newest(newest(one, two), three) == newest(one, newest(two, three))


@given(st.lists(st.tuples(st.sampled_from("ab"), KEYS, st.integers(1, 9)), max_size=12), st.data())
@LAWS
def test_late_and_doubled_readings_change_nothing(
    counted: list[tuple[str, CounterKey, int]], data: st.DataObject
) -> None:
    """Once the last reading of each boot has come, it does not matter which others came, how often and when."""
    readings: list[dict[str, dict[CounterKey, int]]] = [{}]
    for boot, key, more in counted:
        now = {name: dict(cells) for name, cells in readings[-1].items()}
        cells = now.setdefault(boot, {})
        cells[key] = cells.get(key, 0) + more
        readings.append(now)
    came = data.draw(st.permutations([*data.draw(st.lists(st.sampled_from(readings))), readings[-1]]))
    merged: Boots = {}
    for reading in came:
        merged = newest(merged, reading)
    assert Evidence.of(readings[-1]) == Evidence.of(merged)


@pytest.mark.parametrize("keyed", [False, True])
@given(history=histories(), attempt=st.integers(1, 2))
@settings(LAWS, max_examples=12)  # each of which is judged four times with gates on precision and F1
def test_merged_replicas_are_judged_like_one_process_that_saw_everything(
    history: Sequence[Planned], attempt: int, *, keyed: bool
) -> None:
    """To the last bit, so that any control process can replay what another one decided."""
    exposures = [exposure(1, 1_000), exposure(2, 5_000)]
    case = case_of(*GATES, exposures=exposures, keyed=keyed, attempt=attempt)
    seen = Seen()
    replicas = [Ledger(exposures, GATES, seen=seen) for _ in range(3)]
    single = Ledger(exposures, GATES)
    for ledgers in (replicas, [single]):
        play(history, exposures, ledgers, keyed=keyed)
    for now_s in (15.0, 100.0):
        by_boot = {str(boot): ledger.counters(now_s) for boot, ledger in enumerate(replicas)}
        assert judge(case, Evidence(single.counters(now_s))) == judge(case, Evidence.of(by_boot))


def test_counters_do_not_grow_with_the_number_of_requests() -> None:
    """Ten times the requests give the same number of numbers, in the ledger and in evidence."""
    one = exposure(1)

    def kept(per_second: int) -> tuple[int, int]:
        ledger = Ledger([one], GATES)
        for second in range(40):
            for i in range(per_second):
                role = Role.CANDIDATE if i % 2 else Role.STABLE
                request = ledger.start(second, one, role, slices=("digit=8",), copied=True)
                ledger.end(request, Outcome.OK, 10.0 + i % 4)
                ledger.compare(request, Outcome.OK, Outcome.OK, same=i % 4 > 1, distance=0.1)
                ledger.label(request, "8", "8", "8")
        return ledger.size(), len(Evidence(ledger.counters(40)).counters)

    assert kept(4) == kept(40)


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
    assert Counts(requests_stable=90, requests_candidate=8, pairs=12) == counts_of(evidence, opened_by(7))


def test_a_count_only_judgement_asks_for_nothing() -> None:
    """Without gates nothing is promoted and nothing rolled back."""
    judgement = count_only(Evidence(), opened_by(1))
    assert (
        judgement.rollback,
        judgement.promote,
        judgement.invalid,
        judgement.reason,
    ) == (False, False, None, "not judged")
