"""What a worker counts for the judge: every request in one cell, by the second in which it arrived."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.levels import Levels
from router.core.observations import CUTS, DROPS, LATE, CounterKey, End, Outcome, latency_bucket
from router.core.traffic import Role
from router.gateway.firsts import FirstFailure
from router.gateway.tally import PairEnd, Tally

TOTAL_S = 30.0
EDGES = Levels(stable=(latency_bucket(10.0),), candidate=(latency_bucket(12.0), latency_bucket(20.0)))


def tally(levels: Levels | None = None) -> Tally:
    """Return an empty tally of exposure 7."""
    return Tally(7, levels or Levels(), TOTAL_S)


def numbers(of: Tally, now: float, metric: str, variant: str = "stable") -> dict[str, int]:
    """Return the cells of one metric."""
    return {key.cell: n for key, n in of.counters(now).items() if (key.metric, key.variant) == (metric, variant)}


def settled(of: Tally) -> bool:
    """Return `of.settled`, which mypy would otherwise take to be the same after a change."""
    return of.settled


def arrive(of: Tally, role: Role = Role.STABLE, ended: Outcome | None = None, latency_ms: float = 1.0) -> None:
    """Let one request arrive, and end if it does."""
    role_tally = of.live[role]
    cell = role_tally.present
    cell.started += 1
    if ended is not None:
        role_tally.end(cell, ended, latency_bucket(latency_ms))


def test_each_cut_holds_the_requests_that_arrived_that_long_ago() -> None:
    """One request a second: at second 40 the cuts differ by what arrived in between."""
    counted = tally()
    for second in range(40):
        counted.turn(float(second) + 1_000)
        arrive(counted, ended=Outcome.OK)
    counted.turn(1_040.0)
    found = [numbers(counted, 1_040.0, "started" + cut)["all"] for cut in CUTS]
    assert found == [40, 39, 35, 10]
    assert found == [numbers(counted, 1_040.0, "outcome" + cut)["ok"] for cut in CUTS]


def test_an_end_counts_in_the_second_of_its_arrival_however_late_it_comes() -> None:
    """A request that hung for 25 s is in flight at every older cut, and then ends at all of them."""
    counted = tally()
    counted.turn(1_000.0)
    role = counted.live[Role.CANDIDATE]
    cell = role.present
    cell.started += 1
    for second in range(1, 26):
        counted.turn(1_000.0 + second)
    assert numbers(counted, 1_025.0, "started@5s", "candidate") == {"all": 1}
    assert numbers(counted, 1_025.0, "outcome@5s", "candidate") == {}
    role.end(cell, Outcome.TIMEOUT, 0)
    assert [numbers(counted, 1_025.0, "outcome" + cut, "candidate") for cut in CUTS[:3]] == [{"timeout": 1}] * 3
    assert numbers(counted, 1_025.0, "outcome@total", "candidate") == {}


def test_a_request_that_never_ends_stays_open_and_keeps_only_its_own_second() -> None:
    """Memory is bounded by the seconds in which something is still in flight, not by the number of requests."""
    counted = tally()
    counted.turn(1_000.0)
    arrive(counted)
    for second in range(1, 200):
        counted.turn(1_000.0 + second)
        arrive(counted, ended=Outcome.OK)
    counted.turn(1_200.0)
    assert numbers(counted, 1_200.0, "started") == {"all": 200}
    assert numbers(counted, 1_200.0, "outcome") == {"ok": 199}
    assert numbers(counted, 1_200.0, "started@total") == {"all": 170}


def test_an_end_that_comes_after_its_time_is_still_counted() -> None:
    """A second is kept for as long as anything of it is open: an end in a folded one would be lost."""
    counted = tally()
    counted.turn(1_000.0)
    cell = counted.live[Role.STABLE].present
    cell.started += 1
    counted.turn(1_001.0)
    counted.turn(1_100.0)
    assert not settled(counted)
    counted.live[Role.STABLE].end(cell, Outcome.TIMEOUT, 0)
    counted.turn(1_101.0)
    assert settled(counted)
    assert [numbers(counted, 1_101.0, "outcome" + cut) for cut in CUTS] == [{"timeout": 1}] * 4


@pytest.mark.parametrize(("last", "expected"), [(0, {"all/0": 1}), (3, {"all/3": 1}), (None, {})])
def test_a_failure_keeps_its_second_until_the_store_says_whether_it_is_the_keys_first(
    last: int | None, expected: dict[str, int]
) -> None:
    """Whatever the store says, the second is closed then and counted once."""
    counted = tally()
    counted.turn(1_000.0)
    cell = counted.live[Role.STABLE].present
    arrive(counted, ended=Outcome.TIMEOUT)
    cell.asked += 1
    counted.turn(1_001.0)
    counted.turn(1_100.0)
    assert not settled(counted)
    FirstFailure(cell).answer(counted, last)
    counted.turn(1_101.0)
    assert settled(counted)
    assert [numbers(counted, 1_101.0, "key:failure" + cut) for cut in CUTS] == [expected] * 4


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_latency_is_cut_into_levels_unless_we_gave_the_request_up(outcome: Outcome) -> None:
    """Whatever a variant ended, also by failing, has a level; what we dropped has none and stays unknown."""
    counted = tally(EDGES)
    arrive(counted, Role.CANDIDATE, outcome, 11.9)
    arrive(counted, Role.CANDIDATE, outcome, 15.0)
    arrive(counted, Role.CANDIDATE, outcome, 25.0)
    expected = {} if outcome in DROPS else {"0": 1, "1": 1, "2": 1}
    assert expected == numbers(counted, 1.0, "level", "candidate")


def test_a_late_answer_is_an_end_with_a_latency_and_a_level() -> None:
    """It is a good answer: only its cell of outcomes says that a rescue would have cut it."""
    counted = tally(EDGES)
    role = counted.live[Role.STABLE]
    role.present.started += 1
    role.end(role.present, LATE, latency_bucket(11.0))
    assert role.present.open == 0
    assert numbers(counted, 1.0, "outcome") == {"late": 1}
    assert (numbers(counted, 1.0, "level"), sum(numbers(counted, 1.0, "latency").values())) == ({"1": 1}, 1)


def test_without_frozen_thresholds_there_are_no_levels() -> None:
    """An exposure that cannot be judged by latency costs nothing for it."""
    counted = tally()
    arrive(counted, ended=Outcome.OK, latency_ms=5.0)
    assert numbers(counted, 1.0, "level") == {}
    assert {str(latency_bucket(5.0)): 1} == numbers(counted, 1.0, "latency")


def test_pairs_are_counted_by_what_is_missing_who_failed_and_how_far_they_are_apart() -> None:
    """The four views of one pair, and the pair that got lost on its way."""
    counted = tally()
    cell = counted.pairs.present
    cell.started += 4
    cell.end(PairEnd("both", "different", f"{End.FINE}/{End.FAIL}", "12"))
    cell.end(PairEnd("candidate:timeout", "not_compared", f"{End.FINE}/{End.FAIL}", None))
    cell.lose()
    assert cell.open == 1
    assert numbers(counted, 1.0, "started", "pair") == {"all": 4}
    assert numbers(counted, 1.0, "pair", "pair") == {"both": 1, "candidate:timeout": 1, "lost": 1}
    assert numbers(counted, 1.0, "agreement", "pair") == {"different": 1, "not_compared": 1}
    assert numbers(counted, 1.0, "pair_failure", "pair") == {"fine/fail": 2}
    assert numbers(counted, 1.0, "distance", "pair") == {"12": 1}


def test_a_copy_in_flight_keeps_the_second_in_which_it_began() -> None:
    """A slow answer is not left out of the denominator at any cut that is old enough to know of it."""
    counted = tally()
    counted.turn(1_000.0)
    slow = counted.pairs.present
    slow.started += 1
    for second in range(1, 40):
        counted.turn(1_000.0 + second)
        counted.pairs.present.started += 1
        counted.pairs.present.end(PairEnd("both", "same", "fine/fine", "0"))
    counted.turn(1_040.0)
    found = [numbers(counted, 1_040.0, "started" + cut, "pair")["all"] for cut in CUTS]
    assert found == [40, 39, 35, 10]
    assert [numbers(counted, 1_040.0, "pair" + cut, "pair")["both"] for cut in CUTS] == [39, 38, 34, 9]


EVENTS = st.lists(
    st.tuples(st.sampled_from(Role), st.integers(0, 40), st.sampled_from([*Outcome, None]), st.floats(0.1, 100.0)),
    max_size=60,
)


@given(EVENTS)
def test_counters_only_grow_and_every_cut_is_within_the_one_before(
    events: list[tuple[Role, int, Outcome | None, float]],
) -> None:
    """Merging by the larger value needs the first, the in-flight bounds need the second."""
    counted = tally(EDGES)
    before: dict[CounterKey, int] = {}
    for second in range(80):
        now = 1_000.0 + second
        counted.turn(now)
        for role, at, outcome, latency_ms in events:
            if at == second:
                arrive(counted, role, outcome, latency_ms)
        after = dict(counted.counters(now))
        assert all(after.get(key, 0) >= value for key, value in before.items())
        before = after
    assert Counter(role for role, *_ in events) == Counter(
        {role: n for role in Role if (n := numbers(counted, 1_079.0, "started@total", role).get("all", 0))}
    )
    for metric in ("started", "outcome", "level"):
        for role in Role:
            cuts = [sum(numbers(counted, 1_079.0, metric + cut, role).values()) for cut in CUTS]
            assert sorted(cuts, reverse=True) == cuts


def test_a_closed_exposure_forgets_which_keys_it_saw_and_an_opened_one_remembers() -> None:
    """The few requests still in flight may ask the store once more, which knows; memory is held by one exposure."""
    counted = Tally(1, Levels(), 30.0)
    assert [counted.sees("request", 7) for _ in range(2)] == [True, False]
    counted.close()
    assert [counted.sees("request", 7) for _ in range(2)] == [True, True]
    counted.open()
    assert [counted.sees("request", 7) for _ in range(2)] == [True, False]


def test_a_folded_exposure_is_opened_again_where_it_stood() -> None:
    """Requests, pairs and first events of keys before and after are one account, as if it had never been folded."""

    def play(counted: Tally, begin_s: float) -> None:
        counted.turn(begin_s)
        arrive(counted, Role.STABLE, Outcome.OK, 20.0)
        arrive(counted, Role.CANDIDATE, Outcome.HTTP_ERROR)
        counted.pairs.present.started += 1
        counted.pairs.present.end(PairEnd("both", "same", "ok/ok", "3"))
        first = counted.keyed(2).live[Role.STABLE]
        first.present.started += 1
        first.end(first.present, Outcome.OK, latency_bucket(20.0))
        for second in range(1, 33):
            counted.turn(begin_s + second)

    whole, early = tally(EDGES), tally(EDGES)
    play(whole, 1_000.0)
    play(early, 1_000.0)
    assert settled(early)
    folded = early.fold(1_040.0)
    assert folded.counters() == whole.counters(1_040.0)
    late = Tally(7, EDGES, TOTAL_S, folded)
    assert late.counters(1_040.0) == whole.counters(1_040.0)
    play(whole, 2_000.0)
    play(late, 2_000.0)
    assert late.counters(2_040.0) == whole.counters(2_040.0)
    assert numbers(late, 2_040.0, "started")["all"] == 2
