"""Intervals for display: where a latency quantile lies, whenever one looks.

A confidence sequence is a series of intervals that, with a chance of at least 1 - alpha, holds the truth at *every*
look, so a page may redraw it after each request. The ones here assume requests that are independent and identically
distributed within the arm and the period that the counts cover. Live traffic is not, with its days and its ramps:
these intervals are for the eye only and decide nothing; `router.analysis.eprocess` decides.

They rest on one martingale. If events happen with chance `rate`, then after `trials` requests of which `events` are
events, ::

    M = B(n0 rate + events, n0 (1 - rate) + trials - events) / B(n0 rate, n0 (1 - rate))
        / (rate^events (1 - rate)^(trials - events))

is the likelihood of the counts averaged over Beta(n0 rate, n0 (1 - rate)) by their likelihood under `rate`. It starts
at 1 and ever reaches 1/alpha with a chance of at most alpha (Ville). That is the two-sided beta-binomial mixture of
Howard, Ramdas, McAuliffe and Sekhon, Annals of Statistics 2021 (arXiv 1810.08240), Prop. 6, with g = rate,
h = 1 - rate, v = g h trials, s = events - rate * trials and n0 = r / (g h) (check value:
`test_two_sided_beta_binomial_bound_has_its_check_value`).

log M is convex in `events`. It is at most 0 where events = rate * trials. So all that is plausible is an interval, and
Newton's method, once it has stepped outside, walks to the edge without ever stepping over it.

Shapes: leading axes `...` are whatever the caller shows at once (slices, arms, looks). `B` is the axis of buckets,
`Q` that of quantiles.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, psi

Floats = NDArray[np.float64]
Indexes = NDArray[np.intp]

ALPHA_OPT = 0.05
"""The level for which `t_opt` is tuned, whatever alpha is: confseq's default, and that of the check values."""

SETTLED = 1e-6
"""The last step relative to the bound, absolute for a logit; convergence being quadratic, the error is far smaller."""

NEWTON_STEPS = 20
"""A limit: 3 to 6 steps are usual and 15 the most seen over 1 to 1e9 trials. From 1e9 trials on, rounding of gammaln
can keep steps above SETTLED, though not the result from being right to five digits."""


class Interval(NamedTuple):
    """Both ends of intervals, each of shape (...)."""

    lower: Floats
    upper: Floats


def prior_strength(t_opt: float) -> float:
    """Return n0, how many requests the mixture's prior weighs, so that intervals are tightest at `t_opt` requests.

    r = best_rho(v_opt) - g h of Howard et al. 2021 (best_rho is Lambert's W, approximated) divided by g h, at least
    1/1000: a prior needs some weight, even for a `t_opt` that is too small for any bound.
    """
    twice_log = 2 * math.log(1 / ALPHA_OPT)
    return max(t_opt / (twice_log + math.log(1 + twice_log)) - 1, 1e-3)


def deviation_bound(trials: ArrayLike, rate: ArrayLike, alpha: float, t_opt: float) -> Floats:
    """Return how far the number of events may exceed rate * trials at any time, with a chance of 1 - alpha.

    `trials` and `rate` (0 < rate < 1) broadcast to the result's shape; 1 - rate gives how far it may fall short. Both
    sides together err with a chance of alpha. Where even `trials` events would be no surprise the bound is infinite:
    a finite one, as confseq returns, would make the sample's maximum the upper bound of p99 at 50 requests, which is
    wrong in 60 % of samples (statistics.md 2.2). Assumes independent events of constant chance.

    Howard et al. 2021, Prop. 6, as the largest s with M <= 1/alpha.
    """
    n, p = (np.asarray(values, dtype=np.float64) for values in (trials, rate))
    n, p = np.broadcast_arrays(n, p)
    q, n0 = 1 - p, prior_strength(t_opt)
    log_odds = np.log(p) - np.log(q)
    # What of log M does not depend on the events, and the threshold.
    constant = gammaln(n0) - gammaln(n0 * p) - gammaln(n0 * q) - gammaln(n0 + n) - n * np.log(q) - math.log(1 / alpha)
    bound = np.full(n.shape, np.inf)
    reachable = gammaln(n0 * p + n) + gammaln(n0 * q) - n * log_odds + constant >= 0
    n, p, q, log_odds, constant = (values[reachable] for values in (n, p, q, log_odds, constant))
    # Below, `excess` is s; a start near the root spares the halving steps from s = n q downwards.
    mean, most = n * p, n * q
    excess = np.minimum(_normal_bound(mean * q, n0 * p * q, alpha), most)
    for _ in range(NEWTON_STEPS):
        events, others = n0 * p + mean + excess, n0 * q + most - excess
        height = gammaln(events) + gammaln(others) - (mean + excess) * log_odds + constant
        step = height / (psi(events) - psi(others) - log_odds)
        # Only a step from the inside can go too far, to where there are more events than trials.
        following = np.minimum(excess - step, most)
        settled = np.abs(following - excess) <= SETTLED * (1 + excess)
        excess = following
        if settled.all():
            break
    bound[reachable] = excess
    return bound


def quantile_interval(counts: ArrayLike, edges: ArrayLike, quantile: ArrayLike, alpha: float, t_opt: float) -> Interval:
    """Return between which bucket edges a quantile lies: counts (..., B) and edges (B,) to ends of shape (..., Q).

    `quantile` is one number, which leaves out the axis Q, or (Q,), each between 0 and 1. Bucket i holds what is in
    (edges[i-1], edges[i]], as `latency_bucket` sorts it, so counts are exact at edges and rounding outwards to them
    keeps the promise, that each quantile by itself is covered at all looks with a chance of 1 - alpha. Where there is
    too little to bound it, an end is 0 or inf. Intervals are tightest after about `t_opt` requests. Assumes i.i.d.
    requests within the arm and the period: for display only.

    Howard and Ramdas, Bernoulli 2022 (arXiv 1906.09712), Thm 1(b): u is `deviation_bound`, lower is the last edge
    with count < t p - u and upper the first with count > t p + u
    (`test_quantile_interval_has_its_check_values`).
    """
    edges, quantile = np.asarray(edges, dtype=np.float64), np.asarray(quantile, dtype=np.float64)
    p = np.atleast_1d(quantile)
    below_edge = np.cumsum(counts, axis=-1, dtype=np.float64)[..., None, :]
    trials = below_edge[..., -1]
    bounds = deviation_bound(trials, np.concatenate([1 - p, p]), alpha, t_opt)
    shortfall, excess = np.split(bounds, 2, axis=-1)
    mean = trials * p
    before = np.count_nonzero(below_edge < (mean - shortfall)[..., None], axis=-1)
    after = np.count_nonzero(below_edge <= (mean + excess)[..., None], axis=-1)
    # Position k is edge k - 1: 0 stands before the first edge and len(edges) + 1 behind the last.
    ends = np.concatenate([[0.0], edges, [np.inf]])
    shape = (*trials.shape[:-1], *quantile.shape)
    return Interval(ends[before].reshape(shape), ends[after + 1].reshape(shape))


def quantile_of(counts: ArrayLike, quantile: ArrayLike) -> Indexes:
    """Return the bucket of the empirical quantile: counts (..., B) to (..., Q), or (...) for one number; -1 if empty.

    The bucket of the smallest observation that at least a share of `quantile` of all does not exceed.
    """
    below_edge = np.cumsum(counts, axis=-1, dtype=np.float64)
    quantile = np.asarray(quantile, dtype=np.float64)
    total = below_edge[..., -1:]
    # The tolerance undoes rounding: 0.07 * 100 is a little more than 7, yet rank 7 is meant.
    rank = np.maximum(np.ceil(total * np.atleast_1d(quantile) * (1 - 1e-12)), 1)
    bucket = np.count_nonzero(below_edge[..., None, :] < rank[..., None], axis=-1)
    return np.where(total > 0, bucket, -1).reshape((*total.shape[:-1], *quantile.shape))


def _normal_bound(variance: Floats, rho: Floats, alpha: float) -> Floats:
    """Return the two-sided normal mixture boundary (Howard et al. 2021, Prop. 4), close to the beta-binomial one."""
    return np.sqrt((variance + rho) * (np.log1p(variance / rho) + 2 * math.log(1 / alpha)))
