"""The breaker's false trips: rare between equal variants, none by one user, none by an outage that both share."""

from math import sqrt

import pytest

from router.core.rollout import FULL_BP
from tests.simulation.breaker import EQUAL, ONE_USER, TOTAL, Case, false_trips, outage_trips, row_trips_per_request

SEED = 1
REQUESTS = 100_000


@pytest.mark.parametrize("case", [case for case in EQUAL if case.rate <= 0.01])
def test_equal_variants_that_rarely_fail_trip_nothing(case: Case) -> None:
    """At 0 % and 1 %, over 100,000 requests of the candidate, with copies and without."""
    assert false_trips(case, REQUESTS, SEED) == 0


@pytest.mark.slow
@pytest.mark.parametrize("weight", [0.1, 0.5])
def test_rows_of_witnessed_failures_are_as_frequent_as_chance_says(weight: float) -> None:
    """Equal variants that both fail in 30 %, whatever the input, every request copied: within four standard errors."""
    rate, requests = 0.3, 400_000
    # Only those count that stable answered well, and those that it shares are left out: chances among the rest.
    kept = 1 - rate * rate
    expected = requests * kept * row_trips_per_request(rate * (1 - rate) / kept, 5)
    found = false_trips(Case(weight, rate, copied=1.0, ratio_bp=FULL_BP), requests, SEED)
    assert expected - 4 * sqrt(expected) <= found <= expected + 4 * sqrt(expected)


@pytest.mark.slow
@pytest.mark.parametrize(("weight", "low", "high"), [(0.1, 0.2, 0.55), (0.5, 0.05, 0.25)])
def test_without_witnesses_equal_variants_trip_it_less_often(weight: float, low: float, high: float) -> None:
    """At 30 %: stable must be better beyond chance, so a part of the rows and windows that look bad counts."""
    alone, witnessed = (false_trips(Case(weight, 0.3, copied), 200_000, SEED) for copied in (0.0, 1.0))
    assert low * witnessed <= alone <= high * witnessed


@pytest.mark.parametrize("case", ONE_USER)
def test_one_user_who_only_sends_bad_requests_trips_nothing(case: Case) -> None:
    """Whether half of all requests are that user's or all of them, and whether others fail too."""
    assert false_trips(case, REQUESTS // 5, SEED) == 0


@pytest.mark.parametrize("case", TOTAL)
def test_an_outage_that_both_share_trips_nothing(case: Case) -> None:
    """Twenty outages of 10 s at 100 requests a second, at weights from 1 % to 90 %, with copies and without."""
    assert outage_trips(case, 20, SEED) == 0
