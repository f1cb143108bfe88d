"""The breaker's rule, without a loop: what trips it, what never does, and what it says."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.decisions import Pause, Resume, RollBack, SetExposure, Start
from router.core.observations import DROPS, FAILURES, LATE, Outcome
from router.core.rollout import FULL_BP, BreakerSpec, RolloutState, Spec, Step, apply, idle_state
from router.core.traffic import NO_KEY, Role
from router.gateway.breaker import COPY, ERRORS, FEWEST, RESCUE, Breaker, Trip

LAWS = settings(max_examples=300, deadline=None, derandomize=True)
USUAL = BreakerSpec()


class Watched:
    """A breaker and what it said."""

    def __init__(self, spec: BreakerSpec = USUAL, weight_bp: int = 1_000, mirror_bp: int = 0) -> None:
        self.state = running(spec, weight_bp, mirror_bp)
        self.said: list[str] = []
        self.breaker = Breaker(self.state, lambda _, reason: self.said.append(reason))
        self.breaker.follow(self.state)

    def stable(self, good: int, bad: int = 0) -> None:
        """Stable has ended so many requests."""
        for failed in [False] * good + [True] * bad:
            self.breaker.stable_ended(failed)

    def candidate(self, good: int = 0, bad: int = 0, *, beside: int = 9, cells: Iterable[int] = ()) -> None:
        """The candidate has ended so many, each after `beside` good ones of stable; `cells` are the bad ones' keys."""
        keys = iter(cells)
        for failed in [False] * good + [True] * bad:
            self.stable(beside)
            self.breaker.candidate_ended(failed, next(keys, NO_KEY) if failed else NO_KEY)


def running(spec: BreakerSpec = USUAL, weight_bp: int = 1_000, mirror_bp: int = 0) -> RolloutState:
    """Return a rollout of v2 with this breaker."""
    steps = (Step(weight_bp=weight_bp, mirror_bp=mirror_bp),)
    start = Start(reason="s", rollout_id="a.1", spec=Spec("v2", "canary", breaker=spec), steps=steps)
    return apply(idle_state("r", "v1", 0.0), start, 0.0)


# -- failures in a row ------------------------------------------------------------------------------------------------


def test_it_trips_with_the_failure_that_makes_the_row_long_enough() -> None:
    """Four do nothing, the fifth says why; it trips once."""
    watched = Watched()
    watched.candidate(good=10, bad=4)
    assert watched.said == []
    watched.candidate(bad=1)
    assert watched.said == ["5 failures of v2 in a row, stable failed 0 of 36 others meanwhile"]
    watched.candidate(bad=10)
    assert (len(watched.said), watched.breaker.tripped) == (1, True)


def test_a_good_answer_ends_the_row() -> None:
    """Four failures, one good answer, four failures: nothing, also again and again while the share stays small."""
    watched = Watched(replace(USUAL, ratio_bp=FULL_BP))
    for _ in range(50):
        watched.candidate(bad=4)
        watched.candidate(good=1)
    assert watched.said == []


def test_witnessed_failures_need_nobody_else() -> None:
    """Stable answered the same inputs well: it does not matter how others fare, nor whether there are any."""
    watched = Watched()
    watched.stable(0, bad=50)
    for by in (RESCUE, RESCUE, COPY, RESCUE):
        watched.breaker.witnessed(False, by)  # noqa: FBT003 - the hot path's own signature
    assert watched.said == []
    watched.breaker.witnessed(False, COPY)  # noqa: FBT003
    assert watched.said == ["5 failures of v2 in a row, stable answered the same inputs (3 by rescue and 2 by copies)"]


def test_a_failure_that_stable_shares_says_nothing() -> None:
    """It neither lengthens nor ends the row, however many there are."""
    watched = Watched()
    for _ in range(4):
        watched.breaker.witnessed(False, COPY)  # noqa: FBT003
        for _ in range(100):
            watched.breaker.witnessed(True, COPY)  # noqa: FBT003
    assert watched.said == []
    watched.breaker.witnessed(False, COPY)  # noqa: FBT003
    assert len(watched.said) == 1


def test_failures_with_and_without_witness_make_one_row() -> None:
    """The sentence says which is which."""
    watched = Watched()
    watched.candidate(bad=2)
    watched.breaker.witnessed(False, COPY)  # noqa: FBT003
    watched.candidate(bad=2)
    witnessed = "stable answered 1 of the same inputs (1 by copies)"
    assert watched.said == [f"5 failures of v2 in a row, {witnessed}, stable failed 0 of 28 others meanwhile"]


def test_without_a_witness_stable_must_fail_less_than_half_as_often_in_the_row() -> None:
    """In a row of failures that is half of stable's: at 3 of 6 nothing counts, at 2 of 6 everything does."""
    for bad, trips in ((3, False), (2, True)):
        watched = Watched(replace(USUAL, ratio_bp=FULL_BP))
        watched.candidate(good=10)
        watched.candidate(bad=1)
        watched.stable(6 - bad, bad)
        watched.candidate(bad=4, beside=0)
        assert bool(watched.said) is trips


def test_without_a_witness_stable_must_fail_less_than_half_as_often_in_the_window() -> None:
    """A dependency of both that fails now and then: a row of five is chance, stable's share tells."""
    for bad, trips in ((80, False), (20, True)):
        watched = Watched()
        watched.candidate(good=1)
        watched.stable(200 - bad, bad)
        for _ in range(5):
            watched.candidate(good=1, bad=1, beside=0)
        watched.stable(FEWEST)
        watched.candidate(bad=5, beside=1)
        assert bool(watched.said) is trips


def test_without_a_witness_chance_must_not_explain_the_difference() -> None:
    """At 50 %, after fifteen good answers of each: a row of seven is below three standard errors, eight are above."""
    watched = Watched(replace(USUAL, ratio_bp=FULL_BP), weight_bp=5_000)
    watched.candidate(good=15, beside=1)
    watched.candidate(bad=7, beside=1)
    assert watched.said == []
    watched.candidate(bad=1, beside=1)
    assert watched.said == ["8 failures of v2 in a row, stable failed 0 of 7 others meanwhile"]


def test_what_stable_did_before_the_window_does_not_matter() -> None:
    """Fifty failures of stable before the candidate served anything excuse nothing."""
    watched = Watched()
    watched.stable(0, bad=50)
    watched.candidate(good=1, bad=5)
    assert watched.said == ["5 failures of v2 in a row, stable failed 0 of 36 others meanwhile"]


def test_with_too_few_results_of_stable_nothing_counts_without_a_witness() -> None:
    """At high weights it waits until stable has ended three since the row began."""
    watched = Watched(weight_bp=9_000)
    watched.candidate(bad=30, beside=0)
    watched.stable(FEWEST - 1)
    watched.candidate(bad=1, beside=0)
    assert watched.said == []
    watched.stable(1)
    watched.candidate(bad=1, beside=0)
    assert watched.said == ["32 failures of v2 in a row, stable failed 0 of 3 others meanwhile"]


def test_where_stable_gets_nothing_at_all_failures_count_as_they_are() -> None:
    """At weight 100 % without copies there is nobody to compare with; with copies it waits for them."""
    alone = Watched(weight_bp=FULL_BP)
    alone.candidate(bad=5, beside=0)
    assert alone.said == ["5 failures of v2 in a row, stable got nothing to compare with"]
    copied = Watched(weight_bp=FULL_BP, mirror_bp=1_000)
    copied.candidate(bad=50, beside=0)
    assert copied.said == []


# -- share of the window ----------------------------------------------------------------------------------------------


def test_it_trips_at_the_share_of_a_full_window() -> None:
    """Ten of twenty at 50 %, never more than one in a row; nothing before the window is full."""
    watched = Watched(replace(USUAL, consecutive=50))
    for _ in range(9):
        watched.candidate(good=1, bad=1)
    watched.candidate(good=1)
    assert watched.said == []
    watched.candidate(bad=1)
    assert watched.said == ["10 failures among the last 20 answers of v2, stable failed 0 of 171 others meanwhile"]


def test_stable_must_be_well_now_and_not_only_over_the_window() -> None:
    """An outage begins, and ten failures of the candidate come before many of stable: it has not been well since."""
    watched = Watched()
    watched.candidate(good=10, beside=5)
    watched.candidate(bad=4, beside=0)
    watched.stable(0, bad=3)
    watched.candidate(bad=7, beside=0)
    assert watched.said == []


def test_only_the_last_results_count() -> None:
    """Nine failures that have left the window are forgotten."""
    watched = Watched(replace(USUAL, consecutive=50))
    for _ in range(20):
        watched.candidate(bad=9)
        watched.candidate(good=20)
    assert watched.said == []


# -- who can trip it --------------------------------------------------------------------------------------------------


def test_one_user_alone_trips_nothing() -> None:
    """Ten thousand failures of one key are one; among good answers of others as well."""
    for good in (0, 1):
        watched = Watched()
        for _ in range(10_000):
            watched.candidate(good=good, bad=1, cells=[77])
        assert watched.said == []


def test_five_users_trip_it() -> None:
    """Each with one failure, repeated or not."""
    watched = Watched()
    watched.candidate(bad=9, cells=[1, 1, 2, 2, 3, 3, 3, 4, 5])
    assert len(watched.said) == 1


def test_with_a_witness_one_user_is_enough() -> None:
    """Stable answered that user's inputs well, so it is the candidate that fails."""
    watched = Watched()
    for _ in range(5):
        watched.breaker.pair_ended(Outcome.HTTP_ERROR, Outcome.OK, 77)
    assert len(watched.said) == 1


@pytest.mark.parametrize("outcome", sorted(FAILURES))
def test_every_failure_of_the_variant_counts(outcome: Outcome) -> None:
    """Timeouts too."""
    watched = Watched()
    for _ in range(5):
        watched.stable(9)
        watched.breaker.live_ended(Role.CANDIDATE, outcome, NO_KEY, waits=False)
    assert len(watched.said) == 1


@pytest.mark.parametrize("outcome", sorted(DROPS | {Outcome.CANCELLED}))
def test_what_the_gateway_or_the_client_gave_up_counts_nothing(outcome: Outcome) -> None:
    """Neither as a failure nor as a good answer that would end the row."""
    watched = Watched()
    watched.candidate(bad=4)
    for _ in range(100):
        watched.breaker.live_ended(Role.CANDIDATE, outcome, NO_KEY, waits=False)
        watched.breaker.live_ended(Role.STABLE, outcome, NO_KEY, waits=False)
    assert watched.said == []
    watched.candidate(bad=1)
    assert len(watched.said) == 1


def test_a_clients_error_is_a_good_answer() -> None:
    """A 404 says nothing against the variant."""
    watched = Watched()
    for _ in range(100):
        watched.candidate(bad=4)
        watched.breaker.live_ended(Role.CANDIDATE, Outcome.CLIENT_ERROR, NO_KEY, waits=False)
        for _ in range(20):
            watched.breaker.live_ended(Role.CANDIDATE, Outcome.CLIENT_ERROR, NO_KEY, waits=False)
    assert watched.said == []


def test_a_failure_waits_for_its_copy() -> None:
    """Counted when the pair has ended: by what stable did, or without a witness where the copy was given up."""
    watched = Watched()
    for _ in range(50):
        watched.breaker.live_ended(Role.CANDIDATE, Outcome.RESET, NO_KEY, waits=True)
    assert watched.said == []
    for _ in range(50):
        watched.breaker.pair_ended(Outcome.RESET, Outcome.TIMEOUT, NO_KEY)
    assert watched.said == []
    watched = Watched()
    watched.candidate(good=1)
    for _ in range(5):
        watched.stable(9)
        watched.breaker.pair_ended(Outcome.RESET, Outcome.SHED, NO_KEY)
    assert len(watched.said) == 1


def test_a_rescue_is_a_witness() -> None:
    """If stable failed as well the request is left out; if nobody knows it counts without a witness."""
    watched = Watched()
    for _ in range(50):
        watched.breaker.live_ended(Role.CANDIDATE, Outcome.RESET, NO_KEY, waits=True)
        watched.breaker.rescued(Outcome.HTTP_ERROR, NO_KEY)
    for _ in range(50):
        watched.breaker.rescued(Outcome.CANCELLED, 7)
    assert watched.said == []
    for _ in range(3):
        watched.breaker.rescued(Outcome.OK, 7)
    assert watched.said == []
    watched.breaker.rescued(Outcome.CLIENT_ERROR, 7)
    witnessed = "stable answered 4 of the same inputs (4 by rescue)"
    assert watched.said == [f"5 failures of v2 in a row, {witnessed}, stable failed 0 of 4 others meanwhile"]


def test_a_slowness_that_both_share_trips_nothing() -> None:
    """A good answer that began too late for the candidate is a failure of stable too, rescuing or not."""
    watched = Watched()
    for _ in range(200):
        for _ in range(9):
            watched.breaker.live_ended(Role.STABLE, LATE, NO_KEY, waits=False)
        watched.breaker.live_ended(Role.CANDIDATE, LATE, NO_KEY, waits=False)
        watched.breaker.rescued(LATE, NO_KEY)
    assert watched.said == []


# -- outages that both share ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize("weight_bp", [100, 1_000, 5_000, 9_000])
def test_a_shared_outage_trips_nothing(weight_bp: int, copies: bool) -> None:  # noqa: FBT001 - a parameter
    """A hundred outages of 1,000 requests at every weight, with and without copies to stable; nor do their ends."""
    every = FULL_BP // weight_bp if weight_bp <= 5_000 else 10
    watched = Watched(weight_bp=weight_bp)
    for outage in range(100):
        for number in range(2_000):
            bad = Outcome.HTTP_ERROR if number < 1_000 else Outcome.OK
            turn = (number + outage) % every  # outages begin with every turn, the candidate's too
            role = Role.CANDIDATE if (turn == 0) is (weight_bp <= 5_000) else Role.STABLE
            watched.breaker.live_ended(role, bad, NO_KEY, waits=copies and role is Role.CANDIDATE)
            if copies and role is Role.CANDIDATE:
                watched.breaker.pair_ended(bad, bad, NO_KEY)
    assert watched.said == []


# -- laws -------------------------------------------------------------------------------------------------------------

ENDS = st.sampled_from(["stable good", "stable bad", "good", "bad", "same key", "witnessed", "shared"])
SPECS = st.builds(
    BreakerSpec, consecutive=st.integers(1, 6), window=st.integers(1, 12), ratio_bp=st.integers(0, FULL_BP)
)


def tell(breaker: Breaker, end: str) -> None:
    """Let one thing happen."""
    match end:
        case "stable good" | "stable bad":
            breaker.stable_ended(end == "stable bad")
        case "good" | "bad":
            breaker.candidate_ended(end == "bad")
        case "same key":
            breaker.candidate_ended(True, 7)  # noqa: FBT003 - the hot path's own signature
        case _:
            breaker.witnessed(end == "shared", COPY)


@given(SPECS, st.lists(ENDS, max_size=120))
@LAWS
def test_it_says_what_a_plain_reading_of_the_rule_says(spec: BreakerSpec, ends: list[str]) -> None:
    """A breaker of counters in a ring trips with the same event as a rule that reads the whole history each time."""
    watched = Watched(spec)
    for number, end in enumerate(ends):
        tell(watched.breaker, end)
        assert bool(watched.said) is trips_by_the_book(spec, ends[: number + 1])
        if watched.said:
            return


def trips_by_the_book(spec: BreakerSpec, ends: Sequence[str]) -> bool:
    """Whether the last of these events trips, by docs/breaker.md and nothing else."""
    stable, results, counts = history(spec, ends)
    if not counts:
        return False

    def is_better(since: int, failed: int, of: int, errors: float = 0.0) -> bool:
        seen = stable[since:]
        if len(seen) < FEWEST or not sum(seen) / len(seen) < failed / of / 2:
            return False
        pooled = (sum(seen) + failed) / (len(seen) + of)
        variance = pooled * (1 - pooled) * (1 / len(seen) + 1 / of)
        return (failed / of - sum(seen) / len(seen)) ** 2 >= errors**2 * variance * (1 - 1e-9)

    def counted(some: Sequence[tuple[str, int]], *, alone: bool) -> int:
        return sum(kind == "witnessed" or (alone and kind in ("bad", "same key")) for kind, _ in some)

    window = results[-spec.window :]
    failures = [one for one in window if one[0] != "good"]
    better = is_better(window[0][1], len(failures), len(window), ERRORS)
    last_good = max((place for place, (kind, _) in enumerate(results) if kind == "good"), default=-1)
    row = results[last_good + 1 :]
    if counted(row, alone=better and is_better(row[0][1], 1, 1)) >= spec.consecutive:
        return True
    newest = failures[-spec.consecutive :]
    number = counted(window, alone=better and is_better(newest[0][1], 1, 1))
    return len(window) == spec.window and number > 0 and number * FULL_BP >= spec.ratio_bp * spec.window


def history(spec: BreakerSpec, ends: Sequence[str]) -> tuple[list[bool], list[tuple[str, int]], bool]:
    """Return whether each result of stable failed; each of the candidate's, and how many of stable's came before it.

    And whether the last event is a failure that counts.
    """
    stable: list[bool] = []
    results: list[tuple[str, int]] = []
    counts = False
    for end in ends:
        known = end == "same key" and any(kind == end for kind, _ in results[-spec.window :])
        counts = end in ("bad", "same key", "witnessed") and not known
        if end in ("stable good", "stable bad", "witnessed", "shared"):
            stable.append(end in ("stable bad", "shared"))
        if counts or end == "good":
            results.append((end, len(stable)))
    return stable, results, counts


@given(SPECS, st.lists(st.sampled_from(["stable good", "stable bad", "good", "same key", "shared"]), max_size=300))
@LAWS
def test_neither_good_answers_nor_shared_failures_nor_one_user_ever_trip_it(spec: BreakerSpec, ends: list[str]) -> None:
    """Whatever happens to stable, if more than one failure is asked for."""
    spec = replace(spec, consecutive=max(spec.consecutive, 2), window=max(spec.window, 3), ratio_bp=FULL_BP)
    watched = Watched(spec)
    for end in ends:
        tell(watched.breaker, end)
    assert watched.said == []


# -- how long a trip holds --------------------------------------------------------------------------------------------


def test_a_trip_holds_until_a_state_that_knows_of_it() -> None:
    """Neither the same state nor a step forward settles it; weight 0, the rollout's end and another rollout do."""
    state = running()
    trip = Trip("r", state.id, state.exposure.id, "why")
    forward = apply(state, SetExposure(reason="on", weight_bp=5_000), 1.0)
    paused = apply(state, Pause(reason="p"), 1.0)
    assert [trip.settled_by(one) for one in (state, forward, paused)] == [False, False, False]
    halted = apply(forward, SetExposure(reason="off", weight_bp=0), 2.0)
    assert trip.settled_by(halted)
    assert trip.settled_by(apply(state, RollBack(reason="bad"), 2.0))
    assert trip.settled_by(replace(state, id="a.2"))


def test_a_trip_is_settled_by_a_halt_that_was_never_seen() -> None:
    """A worker that slept through halt and resume finds the halt among the exposures of before."""
    state = running()
    trip = Trip("r", state.id, state.exposure.id, "why")
    halted = apply(apply(state, SetExposure(reason="off", weight_bp=0), 1.0), Pause(reason="off"), 1.0)
    resumed = apply(apply(halted, Resume(reason="on"), 2.0), SetExposure(reason="on", weight_bp=1_000), 2.0)
    assert (resumed.exposure.weight_bp, trip.settled_by(resumed)) == (1_000, True)
