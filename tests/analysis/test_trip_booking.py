"""What a trip does to the evidence: left out of both arms it is fair; counted on, it flatters the candidate."""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import pytest

from router.analysis.eprocess import BETTER, WORSE, Floats, log_e_arm

REQUESTS, SHARE, FAILS, ROW = 80, 0.5, 0.3, 3
"""Equal variants that fail in 30 %; three failures of the candidate in a row trip."""

State = tuple[int, int, int]
"""Failures of stable and of the candidate that are counted, and of the candidate in a row; ROW is tripped."""


def failures(*, counts_on: bool) -> Mapping[State, float]:
    """Return the exact chances of all that can be counted after REQUESTS; a tripped worker sends all to stable."""
    chances: Mapping[State, float] = {(0, 0, 0): 1.0}
    for _ in range(REQUESTS):
        after: defaultdict[State, float] = defaultdict(float)
        for (stable, candidate, row), chance in chances.items():
            if row == ROW:
                after[stable + counts_on, candidate, row] += chance * FAILS
                after[stable, candidate, row] += chance * (1 - FAILS)
                continue
            after[stable + 1, candidate, row] += chance * (1 - SHARE) * FAILS
            after[stable, candidate, row] += chance * (1 - SHARE) * (1 - FAILS)
            after[stable, candidate + 1, row + 1] += chance * SHARE * FAILS
            after[stable, candidate, 0] += chance * SHARE * (1 - FAILS)
        chances = after
    return chances


def expected_e(grid: Floats, *, counts_on: bool) -> float:
    """Return the exact expectation of the e-value that compares the arms of failures."""
    chances = failures(counts_on=counts_on)
    stable, candidate, _ = np.array(list(chances), dtype=float).T
    log_e = log_e_arm(stable[:, None], candidate[:, None], np.array([SHARE]), grid)
    return float(np.exp(log_e) @ np.array(list(chances.values())))


@pytest.mark.parametrize("grid", [WORSE, BETTER], ids=["harm", "proof"])
def test_leaving_live_requests_out_after_a_trip_keeps_the_e_value_fair(grid: Floats) -> None:
    """Whether a request is counted was decided by the past alone: its expectation stays 1, exactly."""
    assert expected_e(grid, counts_on=False) == pytest.approx(1.0, abs=1e-9)


def test_counting_on_after_a_trip_would_prove_an_equal_candidate_better() -> None:
    """Stable then gets all requests and all failures, at a share that is no longer true."""
    assert expected_e(BETTER, counts_on=True) > 100
