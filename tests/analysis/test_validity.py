"""What makes evidence invalid: contradictions, drops of our own on one side, copies without an answer."""

import math

import pytest

from router.analysis.evidence import Evidence
from router.analysis.validity import Validity, validity_of
from router.core.observations import AGREEMENT, BOTH, CUTS, LOST, OUTCOME, PAIR, STARTED, CounterKey, Outcome
from router.core.rollout import Exposure
from router.core.traffic import Role
from tests.analysis.cases import Counters, agreements, exposure
from tests.analysis.ledger import paired, served, settled

ONE, TWO = exposure(1, 1_000), exposure(2, 5_000)


def validity(counters: Counters, exposures: tuple[Exposure, ...] = (ONE, TWO), *, keyed: bool = False) -> Validity:
    """Return what these counters come to."""
    return validity_of(Evidence(counters), exposures, keyed=keyed)


def drops(at: Exposure, stable: int, candidate: int, outcome: str = "shed") -> Counters:
    """Return requests of both variants that the gateway itself gave up."""
    return {**served(at, Role.STABLE, {outcome: stable}), **served(at, Role.CANDIDATE, {outcome: candidate})}


def test_evidence_without_a_contradiction_is_valid() -> None:
    """None at all, and some with open requests, failures and pairs that could not be compared."""
    counters = {
        **served(ONE, Role.STABLE, {"ok": 90, "reset": 5, "late": 1}, open_=3),
        **served(TWO, Role.CANDIDATE, {"ok": 90, "shed": 1}),
        **agreements(TWO, 50, 20),
        **paired(TWO, PAIR, {BOTH: 60, "candidate:timeout": 2, "stable:timeout": 30}),
    }
    for found in (validity({}), validity(counters), validity(counters, keyed=True)):
        assert Validity() == found


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("at", [ONE, TWO])
def test_more_ends_than_starts_are_a_contradiction(at: Exposure, role: Role, cut: str) -> None:
    """In any exposure, of any variant, at any cut."""
    counters = {
        CounterKey(at.id, STARTED + cut, "", role, "all"): 9,
        CounterKey(at.id, OUTCOME + cut, "", role, "ok"): 7,
        CounterKey(at.id, OUTCOME + cut, "", role, "cancelled"): 3,
    }
    expected = f"10 requests of {role} have ended in exposure {at.id}, 9 were started"
    assert Validity(expected, broken=True) == validity(counters)


def test_more_comparisons_than_complete_pairs_are_a_contradiction() -> None:
    """Only what both have answered can be compared."""
    counters = paired(TWO, PAIR, {BOTH: 9}) | paired(TWO, AGREEMENT, {"same": 8, "different": 2, "not_compared": 5})
    assert Validity("10 pairs were compared in exposure 2, 9 have both answers", broken=True) == validity(counters)


@pytest.mark.parametrize("outcome", ["shed", "queue_timeout", "oversize"])
@pytest.mark.parametrize("keyed", [False, True])
def test_drops_of_our_own_on_one_side_are_not_valid(outcome: str, *, keyed: bool) -> None:
    """The reason names both numbers and where to look; the bookkeeping itself is sound."""
    counters = {**drops(ONE, 0, 40, outcome)}
    if keyed:
        counters |= {key._replace(metric="key:" + key.metric, cell=key.cell + "/0"): n for key, n in counters.items()}
    found = validity(counters, keyed=keyed)
    assert found.reason is not None
    assert found.reason.startswith("the gateway itself dropped 0 requests of stable and 40 of the candidate")
    assert not found.broken


def test_drops_of_stable_alone_are_not_valid_either() -> None:
    """Both ways."""
    assert validity(drops(TWO, 60, 0)).reason is not None


def test_drops_as_requests_were_split_are_valid() -> None:
    """A tenth of the drops where the candidate has a tenth of the requests."""
    assert Validity() == validity({**drops(ONE, 9_000, 1_000), **drops(TWO, 500, 500)})


@pytest.mark.parametrize("outcome", ["cancelled", "timeout", "client_error"])
def test_only_our_own_doing_counts_as_dropped(outcome: str) -> None:
    """What clients and variants do is judged elsewhere."""
    assert Validity() == validity(drops(ONE, 0, 400, outcome))


def test_an_imbalance_is_rarely_seen_by_chance() -> None:
    """By enumeration of 14 drops at one half, stopped at the first alarm: fewer than 1 in 1,000 sequences."""
    alarmed = {(n, b): validity(drops(TWO, n - b, b)).reason is not None for n in range(1, 15) for b in range(n + 1)}
    chance = {0: 1.0}
    stopped = 0.0
    for n in range(1, 15):
        after: dict[int, float] = {}
        for b, p in chance.items():
            for more in (0, 1):
                after[b + more] = after.get(b + more, 0.0) + p / 2
        stopped += sum(p for b, p in after.items() if alarmed[n, b])
        chance = {b: p for b, p in after.items() if not alarmed[n, b]}
    assert 0 < stopped <= 1 / 1_000
    assert math.isclose(1, stopped + sum(chance.values()))


@pytest.mark.parametrize("cell", [*(f"candidate:{end}" for end in Outcome if not end.is_answer), LOST])
def test_more_than_a_twentieth_of_copies_without_an_answer_are_too_many(cell: str) -> None:
    """Whatever the reason; exactly 5 % are not too many."""
    enough, missing = (validity(paired(TWO, PAIR, {BOTH: 1_000 - n, cell: n})) for n in (50, 51))
    assert Validity() == enough
    assert missing.reason is not None
    assert missing.reason.startswith("51 of 1,000 copies have no answer of the candidate (5 %, at most 5 %)")
    assert not missing.broken


def test_a_few_missing_copies_are_no_reason() -> None:
    """Nineteen are too few to tell, twenty are not."""
    assert [
        validity(paired(TWO, PAIR, {LOST: n})).reason and True for n in (19, 20)
    ] == [None, True]  # fmt: skip


def test_missing_copies_are_those_of_the_present_exposure() -> None:
    """What was repaired since does not hold the rollout for ever; without stable's answer it is no pair."""
    assert Validity() == validity(paired(ONE, PAIR, {LOST: 1_000}))
    assert Validity() == validity(paired(TWO, PAIR, {BOTH: 100, "stable:timeout": 900}))


def test_a_contradiction_is_named_before_anything_else() -> None:
    """Numbers that contradict each other say nothing about drops."""
    counters = {**drops(ONE, 0, 400), **settled(TWO, OUTCOME, Role.STABLE, {"ok": 1})}
    assert Validity("1 requests of stable have ended in exposure 2, 0 were started", broken=True) == validity(counters)
