"""Good candidates arrive, and those at a margin do not."""

import pytest

from tests.simulation import promotion
from tests.simulation.promotion import TRUTHS, Case, Truth

SEED = 20_261_125
QUICK = [truth for truth in TRUTHS if truth.promise in ("promoted", "rolled back")]
SLOW = [truth for truth in TRUTHS if truth not in QUICK]


def case_of(truth: Truth, runs: int) -> Case:
    """Return how so many rollouts of one candidate end."""
    (case,) = promotion.run_truths([truth], runs, SEED, processes=1)
    return case


@pytest.mark.parametrize("truth", QUICK, ids=lambda truth: truth.name)
def test_a_clear_case_is_decided(truth: Truth) -> None:
    """An equal candidate is promoted and a bad one rolled back, in at least 95 % of the rollouts."""
    case = case_of(truth, 100)
    assert case.passed
    assert case.promoted + case.rolled_back + case.held == pytest.approx(1)
    # At 100 requests/s the ramp itself takes six minutes; harm must be found sooner than proof is.
    assert (380 < case.median_s < 720) if truth.promise == "promoted" else case.median_s < 480


@pytest.mark.slow
@pytest.mark.parametrize("truth", SLOW, ids=lambda truth: truth.name)
def test_harm_at_a_limit_is_not_mistaken(truth: Truth) -> None:
    """At a margin at most beta are promoted, and at a tolerance at most alpha rolled back, up to sampling error."""
    assert case_of(truth, 200).passed


def test_errors_at_the_margin_are_rarely_promoted() -> None:
    """Exactly half a percentage point more: at most beta get through."""
    (edge,) = (truth for truth in TRUTHS if truth.name == "errors +0.5 pp: at the margin")
    case = case_of(edge, 100)
    assert case.passed
    assert case.rolled_back > 0.5
