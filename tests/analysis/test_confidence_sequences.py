"""The displayed intervals hold at every look, and the instruments of the literature give their published values.

Check values are those of statistics.md section 7. Where they are confseq's, they stand in its unit tests and come
from an independent implementation in R.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from router.analysis.eprocess import log_e_bet
from router.analysis.quantiles import (
    Interval,
    deviation_bound,
    prior_strength,
    quantile_interval,
    quantile_of,
)
from router.core.observations import LATENCY_BUCKETS, latency_bucket, latency_edge_ms
from tests.analysis import reference
from tests.analysis.reference import rate_interval

QUANTILES = [0.5, 0.95, 0.99]
EDGES_MS = np.array([latency_edge_ms(bucket) for bucket in range(LATENCY_BUCKETS + 1)])
ALPHA = 0.05
LOOKS = np.unique(np.geomspace(30, 3_000, 25).astype(np.intp))


def latencies(*counts: int, seed: int = 1) -> NDArray[np.intp]:
    """Return one histogram (816,) per count, of log-normal latencies around 50 ms."""
    rng = np.random.default_rng(seed)
    histograms = []
    for count in counts:
        values = np.exp(rng.normal(math.log(50), 0.6, count))
        histograms.append(np.bincount(np.searchsorted(EDGES_MS, values), minlength=len(EDGES_MS)))
    return np.array(histograms)


def ends(interval: Interval) -> list[tuple[float, float]]:
    """Return (lower, upper) of each interval."""
    return list(zip(interval.lower.ravel().tolist(), interval.upper.ravel().tolist(), strict=True))


# -- Check values of what the product shows ----------------------------------------------------------------------------


def test_two_sided_beta_binomial_bound_has_its_check_value() -> None:
    """625 trials of rate 0.2, tuned for 625, are g = 0.2, h = 0.8 and v = v_opt = 100 of confseq."""
    assert deviation_bound(625, 0.2, ALPHA, 625) == pytest.approx(31.43080, abs=5e-6)
    assert reference.beta_binomial_bound(100, ALPHA, 100, 0.2, 0.8) == pytest.approx(31.43080, abs=5e-6)


def test_quantile_interval_has_its_check_values() -> None:
    """20,000 log-normal latencies in DDSketch buckets of 1 %, tuned for 2,000."""
    edges = (1.01 / 0.99) ** np.arange(-461, 347)
    values = np.exp(np.random.default_rng(42).normal(-3, 0.6, 20_000))
    counts = np.bincount(np.searchsorted(edges, values), minlength=len(edges))
    interval = quantile_interval(counts, edges, QUANTILES, ALPHA, t_opt=2_000)
    assert interval.lower == pytest.approx([0.048796, 0.13002, 0.190128], rel=1e-5)
    assert interval.upper == pytest.approx([0.050788, 0.140849, 0.21437], rel=1e-5)


@pytest.mark.parametrize(
    ("events", "trials", "t_opt", "expected"),
    [(700, 1_000, 100, (0.651629, 0.745949)), (5, 50, 50, (0.013021, 0.269264))],
)
def test_rate_interval_has_its_check_values(
    events: int, trials: int, t_opt: float, expected: tuple[float, float]
) -> None:
    """The Bernoulli confidence sequences of confseq; its digits are cut off, not rounded."""
    assert rate_interval(events, trials, ALPHA, t_opt) == pytest.approx(expected, abs=1e-6)


# -- Check values of the instruments that it does not use --------------------------------------------------------------


def test_normal_mixture_bounds_have_their_check_values() -> None:
    """Two-sided and one-sided, both tuned for the variance at which they are read (confseq)."""
    rho = reference.best_rho(100, ALPHA)
    assert rho == pytest.approx(12.60056, abs=5e-6)
    assert reference.normal_bound(100, ALPHA, rho) == pytest.approx(30.35209, abs=5e-6)
    one_sided = reference.one_sided_normal_bound(100, ALPHA, reference.best_rho(100, 2 * ALPHA))
    assert one_sided == pytest.approx(27.66071, abs=5e-6)


def test_one_sided_beta_binomial_bound_has_its_check_value() -> None:
    """A bound that looks at one side only is tighter there (confseq)."""
    bound = reference.beta_binomial_bound(100, ALPHA, 100, 0.2, 0.8, one_sided=True)
    assert bound == pytest.approx(28.41238, abs=5e-6)


@pytest.mark.parametrize(("scale", "expected"), [(3, 64.48755), (-1, 28.99389)])
def test_polynomial_stitching_has_its_check_values(scale: float, expected: float) -> None:
    """Sub-gamma sums of either sign of scale (confseq)."""
    assert reference.poly_stitching_bound(100, ALPHA, 10, scale) == pytest.approx(expected, abs=5e-6)


def test_time_uniform_dkw_band_has_its_check_values() -> None:
    """C is given to five digits, which the radius inherits (confseq)."""
    c = reference.dkw_constant(ALPHA)
    assert c == pytest.approx(8.12272, abs=5e-6)
    assert reference.dkw_radius(1_000, c, t_min=100) == pytest.approx(0.08204769, abs=2e-7)


@pytest.mark.parametrize(("quantile", "expected"), [(0.5, 68.62803), (0.9, 43.72119), (0.1, 59.96521)])
def test_double_stitching_has_its_check_values(quantile: float, expected: float) -> None:
    """A bound for all quantiles at once pays more for low ones than for high ones (confseq)."""
    assert reference.double_stitching_bound(quantile, 1_000, ALPHA, 100) == pytest.approx(expected, abs=5e-6)


def test_bounds_for_one_quantile_are_tighter_than_those_for_all() -> None:
    """Radii at 10,000 requests of statistics.md 2.2: one quantile, all of them stitched, one band for all."""
    own = deviation_bound(10_000, QUANTILES, ALPHA, t_opt=10_000) / 10_000
    stitched = [reference.double_stitching_bound(p, 10_000, ALPHA, t_opt=1_000) / 10_000 for p in QUANTILES]
    band = reference.dkw_radius(10_000, reference.dkw_constant(ALPHA), t_min=100)
    assert own == pytest.approx([0.0153, 0.0065, 0.00285], rel=0.01)
    assert stitched == pytest.approx([0.0215, 0.0105, 0.0046], rel=0.01)
    assert band == pytest.approx(0.0267, rel=0.01)


@pytest.mark.parametrize(
    ("quantile", "shift", "expected"),
    [(0.5, 70, 0.814704), (0.5, 85, 0.0838055), (0.5, 100, 0.0054947), (0.9, 55, 0.0340463)],
)
def test_two_arm_quantile_test_has_its_check_values(quantile: float, shift: int, expected: float) -> None:
    """1..1000 against the same numbers shifted (confseq)."""
    values = np.arange(1, 1_001)
    p_value = reference.quantile_ab_p_value(values, values + shift, quantile, t_opt=100)
    assert p_value == pytest.approx(expected, rel=1e-5)


def test_sample_ratio_evidence_has_its_check_value() -> None:
    """5,600 against 4,400 requests of an even split are beyond doubt."""
    log_e = reference.log_e_assignment([5_600, 4_400], [0.5, 0.5], [50, 50])
    assert log_e == pytest.approx(69.1528743669, abs=5e-9)


def test_fractional_histogram_has_its_check_values() -> None:
    """128 cells lose five millionths of a nat, and never gain."""
    values = np.random.default_rng(7).beta(2, 5, 1_000)
    points, weights = reference.fractional_histogram(values)
    # The end points tell the bet what one value could lose at worst.
    exact = log_e_bet([0, *values, 1], [0, *np.ones(1_000), 0], 0.30)
    binned = log_e_bet(points, weights, 0.30)
    assert binned == pytest.approx(-1.2225003643, abs=5e-9)
    assert exact == pytest.approx(-1.2224954595, abs=5e-9)


# -- The boundary ------------------------------------------------------------------------------------------------------


def test_bounds_solved_at_once_are_those_solved_one_by_one() -> None:
    """Newton's method on all elements finds what a bracketing solver finds on each, unreachable ones included."""
    trials = np.array([0, 1, 2, 7, 50, 999, 20_000, 1_000_000])
    chances = np.array([0.001, 0.05, 0.3, 0.5, 0.95, 0.99])
    for alpha, t_opt in [(0.5, 10), (0.05, 1), (0.05, 2_000), (1e-6, 100_000)]:
        expected = [
            [
                reference.beta_binomial_bound(p * (1 - p) * n, alpha, p * (1 - p) * t_opt, p, 1 - p) if n else math.inf
                for p in chances
            ]
            for n in trials
        ]
        actual = deviation_bound(trials[:, None], chances, alpha, t_opt)
        assert actual == pytest.approx(np.array(expected), rel=1e-7)


def test_a_bound_that_no_count_can_reach_is_infinite() -> None:
    """50 requests say nothing about how high p99 may be: all of them lie below it in 60 % of samples."""
    counts = latencies(50)[0]
    interval = quantile_interval(counts, EDGES_MS, 0.99, ALPHA, t_opt=50)
    assert deviation_bound(50, 0.99, ALPHA, t_opt=50) == math.inf
    assert interval.upper == math.inf
    assert 0 < interval.lower < EDGES_MS[counts.nonzero()[0][-1]]
    assert quantile_interval(counts, EDGES_MS, 0.01, ALPHA, t_opt=50).lower == 0


def test_a_bound_becomes_finite_once_all_events_would_be_a_surprise() -> None:
    """The first number of requests at which p99 has an upper end is that at which M can reach 1/alpha."""
    trials = np.arange(1, 2_000)
    finite = np.isfinite(deviation_bound(trials, 0.99, ALPHA, t_opt=500))
    first = int(trials[finite][0])
    assert first > math.log(ALPHA) / math.log(0.99) > 298
    assert finite[trials >= first].all()


# -- Quantiles ---------------------------------------------------------------------------------------------------------


def test_no_requests_bound_no_quantile() -> None:
    """An empty histogram gives 0 to infinity and no bucket."""
    empty = np.zeros(len(EDGES_MS), dtype=np.intp)
    assert ends(quantile_interval(empty, EDGES_MS, QUANTILES, ALPHA, t_opt=2_000)) == [(0.0, math.inf)] * 3
    assert quantile_of(empty, QUANTILES).tolist() == [-1, -1, -1]


def test_many_histograms_at_once_give_what_each_gives_alone() -> None:
    """Leading axes are kept, quantiles come last, and one quantile leaves no axis."""
    counts = latencies(0, 40, 700, 3_000, 9_000, 20_000).reshape(3, 2, -1)
    together = quantile_interval(counts, EDGES_MS, QUANTILES, ALPHA, t_opt=2_000)
    buckets = quantile_of(counts, QUANTILES)
    assert together.lower.shape == together.upper.shape == buckets.shape == (3, 2, 3)
    for row, column in np.ndindex(3, 2):
        for place, quantile in enumerate(QUANTILES):
            alone = quantile_interval(counts[row, column], EDGES_MS, quantile, ALPHA, t_opt=2_000)
            at = (row, column, place)
            assert (together.lower[at], together.upper[at]) == (alone.lower, alone.upper)
            assert buckets[at] == quantile_of(counts[row, column], quantile)


def test_quantile_intervals_shrink_as_requests_arrive() -> None:
    """The same shape of histogram with more requests lies inside that with fewer."""
    shape = latencies(2_000)[0]
    times = np.array([1, 10, 100, 1_000])
    interval = quantile_interval(shape * times[:, None], EDGES_MS, QUANTILES, ALPHA, t_opt=20_000)
    for fewer, more in pairwise(range(len(times))):
        assert (interval.lower[more] >= interval.lower[fewer]).all()
        assert (interval.upper[more] <= interval.upper[fewer]).all()
    assert (interval.lower[-1] / interval.lower[0] > 1.05).all()


def test_the_empirical_quantile_lies_in_its_interval() -> None:
    """What is shown as the quantile is within what is shown as its range, in buckets of the gateway."""
    counts = latencies(500, 5_000, 50_000)
    interval = quantile_interval(counts, EDGES_MS, QUANTILES, ALPHA, t_opt=2_000)
    shown_ms = EDGES_MS[quantile_of(counts, QUANTILES)]
    assert ((interval.lower < shown_ms) & (shown_ms <= interval.upper)).all()


def test_a_quantile_among_the_slowest_has_no_upper_end() -> None:
    """What is slower than the last finite edge may be anything."""
    counts = np.zeros(len(EDGES_MS), dtype=np.intp)
    counts[[latency_bucket(10.0), LATENCY_BUCKETS]] = 5_000
    interval = quantile_interval(counts, EDGES_MS, [0.25, 0.75], ALPHA, t_opt=2_000)
    assert ends(interval)[0][1] < 10.2
    assert ends(interval)[1] == (EDGES_MS[LATENCY_BUCKETS - 1], math.inf)


@given(
    st.lists(st.integers(0, 19), min_size=1, max_size=60),
    st.integers(1, 99).map(lambda percent: percent / 100),
)
def test_the_empirical_quantile_is_an_order_statistic(buckets: list[int], quantile: float) -> None:
    """It is the bucket of the observation of rank ceil(quantile * n), counted in whole percent without rounding."""
    rank = -(-round(quantile * 100) * len(buckets) // 100)
    counts = np.bincount(buckets, minlength=20)
    assert quantile_of(counts, quantile) == sorted(buckets)[rank - 1]


def test_quantile_intervals_miss_at_any_of_25_looks_as_seldom_as_promised() -> None:
    """At most alpha of runs are ever wrong, and not so few that the interval is useless.

    From 1.6 to 2.2 % were (the standard error of 4,000 runs is 0.2 points), so both limits are five or more
    standard errors away. Edges that are 0.01 % of rank beside each quantile make rounding outwards nearly free, which
    is the hardest case.
    """
    runs, rng = 4_000, np.random.default_rng(20_260)
    edges = np.array([*(quantile + shift for quantile in QUANTILES for shift in (-1e-4, 0, 1e-4)), 1.0])
    arrivals = np.broadcast_to(np.diff(LOOKS, prepend=0), (runs, len(LOOKS)))
    counts = rng.multinomial(arrivals, np.diff(edges, prepend=0)).cumsum(axis=1)
    interval = quantile_interval(counts, edges, QUANTILES, ALPHA, t_opt=300)
    missed = ((interval.lower > QUANTILES) | (interval.upper < QUANTILES)).any(axis=1).mean(axis=0)
    assert ((missed > 0.005) & (missed < ALPHA)).all()


# -- Rates -------------------------------------------------------------------------------------------------------------


def test_no_trials_leave_every_rate_possible() -> None:
    """Without a request a rate is between 0 and 1, and one event does not yet bound it from below."""
    interval = rate_interval([0, 0, 1, 1, 2, 40], [0, 40, 1, 40, 40, 40], ALPHA, t_opt=100)
    assert interval.lower[:4].tolist() == [0, 0, 0, 0]
    assert interval.upper[[0, 2, 5]].tolist() == [1, 1, 1]
    assert (interval.lower[4:] > 0).all()
    assert (interval.upper[[1, 3, 4]] < 1).all()


def test_rates_end_where_the_martingale_reaches_its_threshold() -> None:
    """At each end of the interval the reference martingale is 1/alpha."""
    for events, trials, alpha, t_opt in [(5, 50, 0.05, 50), (2, 10_000, 0.01, 10_000), (70_000, 100_000, 0.2, 500)]:
        for rate in rate_interval(events, trials, alpha, t_opt):
            p, q = float(rate), 1 - float(rate)
            log_m = reference.log_beta_binomial(
                events - p * trials, p * q * trials, p * q * prior_strength(t_opt), p, q
            )
            assert log_m == pytest.approx(math.log(1 / alpha), abs=1e-5)


@given(st.lists(st.integers(0, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=1))
def test_rates_solved_at_once_are_those_solved_one_by_one(counted: list[tuple[int, int]]) -> None:
    """A batch gives what each pair gives alone; every interval holds its own rate, and mirrors that of the rest."""
    events, trials = np.array(counted).T
    together = rate_interval(events, trials, ALPHA, t_opt=1_000)
    alone = [rate_interval(yes, total, ALPHA, t_opt=1_000) for yes, total in counted]
    rest = rate_interval(trials - events, trials, ALPHA, t_opt=1_000)
    assert together.lower == pytest.approx([one.lower for one in alone], rel=1e-8)
    assert together.upper == pytest.approx([one.upper for one in alone], rel=1e-8)
    assert (together.lower * trials <= events).all()
    assert (together.upper * trials >= events).all()
    assert rest.lower == pytest.approx(1 - together.upper, rel=1e-8, abs=1e-15)


def test_rate_intervals_shrink_as_trials_arrive() -> None:
    """The same share of more trials is known better."""
    times = np.array([1, 10, 100, 1_000])
    interval = rate_interval(3 * times, 100 * times, ALPHA, t_opt=1_000)
    assert (np.diff(interval.lower) > 0).all()
    assert (np.diff(interval.upper) < 0).all()


@pytest.mark.parametrize("rate", [0.01, 0.3])
def test_rate_intervals_miss_at_any_of_25_looks_as_seldom_as_promised(rate: float) -> None:
    """At most alpha of runs are ever wrong, and not so few that the interval is useless: see the quantiles' test."""
    runs, rng = 4_000, np.random.default_rng(20_261)
    events = rng.binomial(np.diff(LOOKS, prepend=0), rate, size=(runs, len(LOOKS))).cumsum(axis=1)
    interval = rate_interval(events, LOOKS, ALPHA, t_opt=300)
    missed = ((interval.lower > rate) | (interval.upper < rate)).any(axis=1).mean()
    assert 0.005 < missed < ALPHA
