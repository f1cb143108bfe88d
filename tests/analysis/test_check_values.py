"""The e-processes give the check values of statistics.md section 7, to every digit written there."""

from typing import Literal

import numpy as np
import pytest

from router.analysis.eprocess import (
    BETS,
    BETTER,
    CANDIDATE_COLUMN,
    MEDIAN_RATIOS,
    WORSE,
    Floats,
    Ratio,
    Side,
    log_e_2x2,
    log_e_arm,
    log_e_bern,
    log_e_bet,
    log_e_ipw,
    log_e_paired,
    log_mean_exp,
    log_wealth_2x2,
    log_wealth_arm,
    log_wealth_ipw,
    mixed,
    ratios,
    z_ratio,
)

DIGITS = 10
"""Decimals of the table; a value rounded to them is within half a unit of the last."""


def to_table(log_e: Floats) -> float:
    """Return one log e-value as the table writes it."""
    return round(float(log_e), DIGITS)


@pytest.mark.parametrize(
    ("stable", "candidate", "grid", "null_ratio", "expected"),
    [
        ([40, 30], [3, 60], WORSE, 1.0, 3.0602518572),
        ([40, 60], [2, 30], ratios(1.5, worse=False), 1.5, 10.9531085265),
    ],
    ids=["worse", "better than 1.5 times"],
)
def test_the_arm_process_gives_its_check_value(
    stable: list[int], candidate: list[int], grid: Floats, null_ratio: float, expected: float
) -> None:
    """Events over shares of 5 and 50 %, against both kinds of grid."""
    assert expected == to_table(log_e_arm(stable, candidate, [0.05, 0.5], grid, null_ratio))
    assert expected == to_table(mixed(log_wealth_arm(stable, candidate, [0.05, 0.5], grid, null_ratio)))


def test_the_2x2_process_gives_its_check_value() -> None:
    """50 % of stable's and 60 % of the candidate's answers are slow, with a right guess of the base rate."""
    expected, cells = 8.1466873088, ([500], [500], [600], [400])
    assert expected == to_table(log_e_2x2(*cells, [0.5], base_rate=0.5, grid=MEDIAN_RATIOS))
    assert expected == to_table(mixed(log_wealth_2x2(*cells, [0.5], base_rate=0.5, grid=MEDIAN_RATIOS)))


@pytest.mark.parametrize(
    ("counts", "mean", "expected"), [([30, 940, 50], 0.0, 0.9798338086), ([30, 940, 30], -0.02, 1.4099996819)]
)
def test_the_bet_on_paired_differences_gives_its_check_value(counts: list[int], mean: float, expected: float) -> None:
    """McNemar's test, and the same with a margin of 2 percentage points."""
    assert expected == to_table(log_e_bet([-1, 0, 1], counts, mean))


def test_the_ipw_process_gives_its_check_value() -> None:
    """Twice 20,000 requests promote a candidate as good as stable against a margin of half a percentage point."""
    expected, counts = 29.9823074189, ([20_000, 20_000], [19, 10], [1, 10])
    assert expected == to_table(log_e_ipw(*counts, [0.05, 0.5], 0.005, side="ge"))
    assert expected == to_table(mixed(log_wealth_ipw(*counts, [0.05, 0.5], 0.005, side="ge")))


@pytest.mark.parametrize(("events", "side", "expected"), [(30, "le", 0.9683761608), (5, "ge", 6.4302724624)])
def test_the_bernoulli_process_gives_its_check_value(events: int, side: Side, expected: float) -> None:
    """Disagreements among 1,000 pairs against a tolerance of 2 %."""
    assert expected == to_table(log_e_bern(events, 1_000, 0.02, side))


@pytest.mark.parametrize(
    ("ratio", "counts", "margin", "side", "expected"),
    [
        ("f1", [900, 10, 12, 20, 8, 10, 9, 80], 0.05, "ge", 0.3301182246),
        # The table says ...4474; the reference code beside it and 40 digits of decimal arithmetic say ...44754.
        ("recall", [900, 10, 12, 20, 8, 3, 25, 80], 0.0, "le", 6.4961964475),
    ],
)
def test_the_paired_ratios_give_their_check_values(
    ratio: Ratio, counts: list[int], margin: float, side: Side, expected: float
) -> None:
    """Joint cells of truth and both predictions, for promotion with a margin and for rollback without."""
    assert expected == to_table(log_e_paired(ratio, counts, margin, side))


def test_the_floor_of_f1_gives_its_check_value() -> None:
    """The candidate's F1 against a floor of 0.7."""
    z = z_ratio("f1", CANDIDATE_COLUMN, 0.7)
    assert to_table(log_e_bet(z, [900, 10, 12, 20, 8, 10, 9, 80], 0.0)) == 1.9929393473


def test_the_joint_cells_count_truth_then_stable_then_candidate() -> None:
    """Index 4 y + 2 a + b: only cells 5 and 7 are true positives of the candidate, 1 and 3 its false ones."""
    expected = [0.0, -0.5, 0.0, -0.5, 0.0, 0.5, 0.0, 0.5]
    assert expected == z_ratio("precision", CANDIDATE_COLUMN, 0.5).tolist()


def fractional_histogram(samples: Floats, cells: int) -> tuple[Floats, Floats]:
    """Return edges over [0, 1] and the weights on them of samples split linearly between their two neighbours."""
    place = samples * cells
    left = np.minimum(place.astype(int), cells - 1)
    weights = np.bincount(left, 1 - (place - left), cells + 1) + np.bincount(left + 1, place - left, cells + 1)
    return np.linspace(0, 1, cells + 1), np.asarray(weights, dtype=np.float64)


# The table rounds the exact value, -1.22249545945, twice and says ...4595.
@pytest.mark.parametrize(("form", "expected"), [("histogram", -1.2225003643), ("exact", -1.2224954594)])
def test_the_bet_on_a_continuous_score_gives_its_check_value(
    form: Literal["histogram", "exact"], expected: float
) -> None:
    """The mean of 1,000 scores in [0, 1] against 0.3, from 128 fractional cells and from the scores themselves."""
    scores = np.random.default_rng(7).beta(2, 5, 1_000)
    # Both ends belong to what a score can be, so they set what a bet can lose, although neither was seen.
    exact = (np.array([0.0, *scores, 1.0]), np.array([0.0, *np.ones(1_000), 0.0]))
    values, counts = fractional_histogram(scores, 128) if form == "histogram" else exact
    assert expected == to_table(log_e_bet(values, counts, 0.30))


def test_the_standing_grids_are_those_of_the_reference() -> None:
    """40 ratios from 1.05 to 50 on either side of 1, 40 up to 1.9 for medians, and 29 bets up to 95 %."""
    assert np.array_equal(np.geomspace(1.05, 50, 40), WORSE)
    assert np.array_equal(1 / np.geomspace(1.05, 50, 40), BETTER)
    assert np.array_equal(np.geomspace(1.01, 1.9, 40), MEDIAN_RATIOS)
    assert np.array_equal([*np.geomspace(1e-3, 0.5, 24), 0.6, 0.7, 0.8, 0.9, 0.95], BETS)


def test_a_mixture_weighs_its_grid_points_alike() -> None:
    """The wealth of a single bet is 1/29 of what it wins where all others lose everything."""
    alone = np.full(len(BETS), -np.inf)
    alone[3] = 5.0
    assert to_table(log_mean_exp(alone)) == round(5.0 - float(np.log(29)), DIGITS)
