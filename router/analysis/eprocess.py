"""E-processes: evidence against a hypothesis that may be looked at after every request.

An e-process starts at 1 and, while its null hypothesis holds, is a non-negative supermartingale. By Ville's inequality
it ever reaches 1/alpha with a chance of at most alpha, however often one looks. All functions work on natural
logarithms.

Every process here is a mixture over a *fixed* grid of alternatives, so its logarithm is a function of counts alone: it
does not depend on the order of requests, and counts of replicas, restarts and exposures merge by addition. Bets that
adapt to the past would be slightly stronger and would lose that.

Shapes: leading axes `...` are whatever the caller evaluates at once (rollouts, slices, cuts in time). `K` is the axis
of exposures, in each of which the candidate's share is constant; `S` the axis of start points; `G` the grid.
`log_wealth_*` give what each grid point has won in each exposure, `(..., K, G)`; `mixed` and `mixed_from_each_start`
turn that into log e-values.

Symbols of statistics.md: A is stable, B is candidate, pi is `share`, r is a ratio p_B/p_A, m a margin.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Side = Literal["le", "ge"]
"""Of the null hypothesis: the mean is at most ("le") or at least ("ge") the margin."""


def _constant(values: ArrayLike) -> Floats:
    array = np.array(values, dtype=np.float64)
    array.setflags(write=False)
    return array


BETS = _constant([*np.geomspace(1e-3, 0.5, 24), 0.6, 0.7, 0.8, 0.9, 0.95])
"""Fractions of the wealth that the betting mixtures stake, as shares of what one outcome can lose at worst."""


def ratios(
    null_ratio: float = 1.0, *, worse: bool = True, points: int = 40, low: float = 1.05, high: float = 50.0
) -> Floats:
    """Return the grid of ratios p_B/p_A that a mixture tries, shape (points,).

    Log-spaced from `low` to `high` times the null ratio, or that many times below it for `worse=False`. Measured
    against the best single alternative, 40 points cost 12 to 43 % more requests (statistics.md section 1).
    """
    grid = np.geomspace(low, high, points)
    return null_ratio * grid if worse else null_ratio / grid


WORSE = _constant(ratios())
BETTER = _constant(ratios(worse=False))
MEDIAN_RATIOS = _constant(ratios(points=40, low=1.01, high=1.9))
"""For events that happen half of the time: more than twice as often is not possible."""


def log_mean_exp(log_values: Floats) -> Floats:
    """Return the log of the mean of exp over the last axis; exact for -inf, inf where any value is inf."""
    top = log_values.max(axis=-1, keepdims=True)
    if np.isfinite(top).all():  # the sum is then at least 1, so that nothing can go wrong
        return np.asarray(np.log(np.exp(log_values - top).sum(axis=-1) / log_values.shape[-1]) + top[..., 0])
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore", over="ignore"):
        return np.asarray(np.log(np.exp(log_values - top).sum(axis=-1) / log_values.shape[-1]) + top[..., 0])


def mixed(log_wealth: Floats) -> Floats:
    """Return log e over all exposures: (..., K, G) -> (...)."""
    return log_mean_exp(log_wealth.sum(axis=-2))


def mixed_from_each_start(log_wealth: Floats) -> Floats:
    """Return log e of the process that begins with each exposure: (..., K, G) -> (..., S) with S = K.

    A regression that only shows under load is buried by hours of clean evidence; a process that starts with the
    exposure in which it shows is not (statistics.md 2.7, restart mixture).
    """
    return log_mean_exp(np.flip(np.cumsum(np.flip(log_wealth, axis=-2), axis=-2), axis=-2))


def start_weights(starts: int) -> Floats:
    """Return the weights 6/(pi^2 s^2) of the start points s = 1..starts; over all s that may come they sum to 1."""
    return np.asarray(6.0 / (math.pi * np.arange(1, starts + 1)) ** 2, dtype=np.float64)


def restart_mixture(log_e_by_start: Floats) -> Floats:
    """Return log of the weighted average over start points: (..., S) -> (...); starts still to come count as e = 1."""
    weights = start_weights(log_e_by_start.shape[-1])
    return log_weighted_sum(log_e_by_start, weights, rest=1.0 - float(weights.sum()))


def log_weighted_sum(log_values: Floats, weights: Floats, rest: float = 0.0) -> Floats:
    """Return log(sum of weights * exp(log_values) + rest) over the last axis; weights are above 0.

    A weighted average of e-values is an e-value under any dependence between them (Vovk and Wang, Annals of Statistics
    2021, arXiv 1912.06116), so this needs no independence of gates or start points.
    """
    top = np.maximum(np.max(log_values, axis=-1, initial=-np.inf), 0.0 if rest > 0 else -np.inf)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        # A sum, not a product of matrices: that would round differently in another batch, and decisions are replayed.
        scaled = (np.exp(log_values - top[..., None]) * weights).sum(axis=-1) + (rest * np.exp(-top) if rest else 0.0)
        total = np.log(scaled) + top
    return np.asarray(total, dtype=np.float64)


# -- Events of a canary: which arm did this one come from? -------------------------------------------------------------


def log_wealth_arm(
    stable: ArrayLike, candidate: ArrayLike, share: ArrayLike, grid: Floats, null_ratio: float = 1.0
) -> Floats:
    """Return the wealth (..., K, G) of a bet on the arm in which an event (failure, slow answer) happened.

    Null: p_B(t) <= null_ratio * p_A(t) at all times, for a grid above null_ratio; >= for a grid below. Given that an
    event happened, it is the candidate's with odds share * ratio : 1 - share, whatever the base rate does; so ramps,
    days and outages common to both arms change nothing. Assumes independent assignment with the share that is logged.
    `stable` and `candidate` are events (..., K); both log wealths are linear in them, falling in `stable` and rising in
    `candidate` for a grid above the null, which is what in-flight bounds rest on. Exposures with share 0 or 1 add 0.

    Lindon and Malek, NeurIPS 2022 (arXiv 2011.03567), Thm 2.4 and Cor. 3.2; one-sided with margin: statistics.md 2.1a.
    """
    stable, candidate, share = (np.asarray(values, dtype=np.float64) for values in (stable, candidate, share))
    both = np.log(null_ratio * share + 1 - share)[:, None] - np.log(share[:, None] * grid + 1 - share[:, None])
    compared = ((share > 0) & (share < 1))[:, None]
    of_stable = np.where(compared, both, 0.0)
    of_candidate = np.where(compared, both + np.log(grid / null_ratio), 0.0)
    return stable[..., None] * of_stable + candidate[..., None] * of_candidate


def log_e_arm(
    stable: ArrayLike, candidate: ArrayLike, share: ArrayLike, grid: Floats, null_ratio: float = 1.0
) -> Floats:
    """Return log e over all exposures of `log_wealth_arm`."""
    return mixed(log_wealth_arm(stable, candidate, share, grid, null_ratio))


def log_wealth_2x2(  # noqa: PLR0913 - a table has four cells
    stable_yes: ArrayLike,
    stable_no: ArrayLike,
    candidate_yes: ArrayLike,
    candidate_no: ArrayLike,
    share: ArrayLike,
    *,
    base_rate: float,
    grid: Floats,
) -> Floats:
    """Return the wealth (..., K, G) of a bet on arm and outcome together, for events that are not rare.

    Null: p_B(t) <= p_A(t) at all times, for a grid above 1. `base_rate` is a guess of p_A, above 0 and below 0.999: a
    wrong one costs power, never validity. Alternatives are capped at a rate of 0.999.

    Turner, Ly and Gruenwald, JSPI 2024 (arXiv 2106.02693), blocks of size 1 with a random arm; statistics.md 2.1b.
    """
    a1, a0, b1, b0, share = (
        np.asarray(values, dtype=np.float64) for values in (stable_yes, stable_no, candidate_yes, candidate_no, share)
    )
    rate = np.minimum(base_rate * grid, 0.999)
    mean = (1 - share)[:, None] * base_rate + share[:, None] * rate
    compared = ((share > 0) & (share < 1))[:, None]
    yes, no = np.log(mean), np.log1p(-mean)
    return (
        b1[..., None] * np.where(compared, np.log(rate) - yes, 0.0)
        + a1[..., None] * np.where(compared, math.log(base_rate) - yes, 0.0)
        + b0[..., None] * np.where(compared, np.log1p(-rate) - no, 0.0)
        + a0[..., None] * np.where(compared, math.log1p(-base_rate) - no, 0.0)
    )


def log_e_2x2(  # noqa: PLR0913 - see log_wealth_2x2
    stable_yes: ArrayLike,
    stable_no: ArrayLike,
    candidate_yes: ArrayLike,
    candidate_no: ArrayLike,
    share: ArrayLike,
    *,
    base_rate: float,
    grid: Floats,
) -> Floats:
    """Return log e over all exposures of `log_wealth_2x2`."""
    wealth = log_wealth_2x2(stable_yes, stable_no, candidate_yes, candidate_no, share, base_rate=base_rate, grid=grid)
    return mixed(wealth)


# -- Differences against a margin --------------------------------------------------------------------------------------


def log_wealth_ipw(  # noqa: PLR0913 - three counts, two numbers, a side
    requests: ArrayLike,
    stable_failures: ArrayLike,
    candidate_failures: ArrayLike,
    share: ArrayLike,
    margin: ArrayLike,
    *,
    side: Side,
) -> Floats:
    """Return the wealth (..., K, G) of a bet on p_B - p_A, from requests split at random with probability `share`.

    Null: p_B - p_A <= margin ("le", rollback) or >= margin ("ge", promotion), on average given the past. Each request
    gives phi = Y (1[B]/share - 1[A]/(1 - share)), whose mean given the past is p_B - p_A; the bet is on margin - phi.
    `requests` (..., K) are all of both arms, the failures among them; `margin` (...) may differ along the leading axes.
    For "le" the wealth falls in stable failures and rises in candidate failures. Exposures with share 0 or 1 add 0.

    Betting: Waudby-Smith and Ramdas, JRSS-B 2024 (arXiv 2010.09686), Thm 3; weighting with a changing share:
    Waudby-Smith, Wu, Ramdas, Karampatziakis and Mineiro (arXiv 2210.10768); statistics.md 2.1c.
    """
    n, fa, fb, share = (
        np.asarray(values, dtype=np.float64) for values in (requests, stable_failures, candidate_failures, share)
    )
    m = np.asarray(margin, dtype=np.float64)[..., None]
    compared = (share > 0) & (share < 1)
    pi = np.where(compared, share, 0.5)
    sign = 1.0 if side == "le" else -1.0
    of_candidate, of_stable, of_none = sign * (1 / pi - m), sign * (-1 / (1 - pi) - m), -sign * m
    worst = np.maximum(np.maximum(-of_candidate, -of_stable), np.maximum(-of_none, 0.0))
    stake = np.where(compared[:, None], BETS / worst[..., None], 0.0)
    return (
        fb[..., None] * np.log1p(stake * of_candidate[..., None])
        + fa[..., None] * np.log1p(stake * of_stable[..., None])
        + (n - fa - fb)[..., None] * np.log1p(stake * of_none[..., None])
    )


def log_e_ipw(  # noqa: PLR0913 - see log_wealth_ipw
    requests: ArrayLike,
    stable_failures: ArrayLike,
    candidate_failures: ArrayLike,
    share: ArrayLike,
    margin: ArrayLike,
    *,
    side: Side,
) -> Floats:
    """Return log e over all exposures of `log_wealth_ipw`."""
    return mixed(log_wealth_ipw(requests, stable_failures, candidate_failures, share, margin, side=side))


def log_wealth_bet(values: ArrayLike, counts: ArrayLike, mean: ArrayLike, side: Side = "le") -> Floats:
    """Return the wealth (..., G) of a bet on the mean of a quantity with finitely many values.

    Null: E[X | past] <= mean ("le") or >= mean ("ge"). `values` (..., V) are those that X can take, `counts` (..., V)
    how often each was seen, `mean` (...); McNemar's test is the case {-1, 0, 1} with mean 0. Where X cannot lose (all
    values on the null's far side), the wealth is 0 while every X stood at the bound and infinite once one did not.

    Waudby-Smith and Ramdas, JRSS-B 2024 (arXiv 2010.09686), Thm 3, with a fixed mixture of bets.
    """
    counts = np.asarray(counts, dtype=np.float64)
    mean = np.asarray(mean, dtype=np.float64)[..., None]
    gain = (1.0 if side == "le" else -1.0) * (np.asarray(values, dtype=np.float64) - mean)
    worst = -gain.min(axis=-1, keepdims=True)
    safe = worst <= 0
    stake = np.where(safe, 0.0, BETS / np.where(safe, 1.0, worst))
    wealth = (np.log1p(stake[..., None] * gain[..., None, :]) * counts[..., None, :]).sum(axis=-1)
    refuted = safe & ((counts * (gain > 0)).sum(axis=-1, keepdims=True) > 0)
    return np.asarray(np.where(refuted, np.inf, wealth), dtype=np.float64)


def log_e_bet(values: ArrayLike, counts: ArrayLike, mean: ArrayLike, side: Side = "le") -> Floats:
    """Return log e of `log_wealth_bet`, shape (...)."""
    return log_mean_exp(log_wealth_bet(values, counts, mean, side))


_LOGIT_STEPS = _constant(np.geomspace(0.05, 6.0, 40))


def log_wealth_bern(events: ArrayLike, trials: ArrayLike, rate: ArrayLike, side: Side = "le") -> Floats:
    """Return the wealth (..., G) of likelihood ratios against one rate; the grid is log-spaced in the logit.

    Null: E[Y | past] <= rate ("le") or >= rate ("ge") for each of `trials`, `events` of which were 1; `rate` (...) is
    0..1. At a rate of 0 ("le") or 1 ("ge") the wealth is 0 until the first counterexample, and infinite from it on.
    """
    s, n = np.asarray(events, dtype=np.float64)[..., None], np.asarray(trials, dtype=np.float64)[..., None]
    rate = np.asarray(rate, dtype=np.float64)[..., None]
    inside = (rate > 0) & (rate < 1)
    p = np.where(inside, rate, 0.5)
    direction = 1.0 if side == "le" else -1.0
    other = 1 / (1 + np.exp(-(np.log(p / (1 - p)) + direction * _LOGIT_STEPS)))
    wealth = s * np.log(other / p) + (n - s) * (np.log1p(-other) - np.log1p(-p))
    # At the far end (rate 1 for "le") every outcome is within the null, so there is nothing to win.
    refuted = ((rate <= 0) & (s > 0)) if side == "le" else ((rate >= 1) & (s < n))
    return np.asarray(np.where(inside, wealth, np.where(refuted, np.inf, 0.0)), dtype=np.float64)


def log_e_bern(events: ArrayLike, trials: ArrayLike, rate: ArrayLike, side: Side = "le") -> Floats:
    """Return log e of `log_wealth_bern`, shape (...)."""
    return log_mean_exp(log_wealth_bern(events, trials, rate, side))


# -- Ratios of counts: precision, recall, F1 ---------------------------------------------------------------------------

CELLS = _constant([(y, a, b) for y in (0, 1) for a in (0, 1) for b in (0, 1)])
"""Joint cells of truth, stable's and candidate's prediction of one class; a cell's index is 4 y + 2 a + b."""

Ratio = Literal["precision", "recall", "f1"]
STABLE_COLUMN, CANDIDATE_COLUMN = 1, 2


def z_ratio(ratio: Ratio, column: int, at: ArrayLike) -> Floats:
    """Return z (..., 8) of each cell, such that the ratio of the model in `column` is <= `at` (...) iff E[z] <= 0.

    F1 <= f iff E[2 TP (1 - f) - f (FP + FN)] <= 0, and likewise for the others; z falls in `at`.
    """
    y, p = CELLS[:, 0], CELLS[:, column]
    tp, fp, fn = y * p, (1 - y) * p, y * (1 - p)
    weight, errors = {"f1": (2.0, fp + fn), "precision": (1.0, fp), "recall": (1.0, fn)}[ratio]
    level = np.asarray(at, dtype=np.float64)[..., None]
    return np.asarray(weight * tp * (1 - level) - level * errors, dtype=np.float64)


NUISANCE = _constant(np.linspace(0.0, 1.0, 201))
_PARTS = _constant([0.5, 0.25, 0.25])


def log_e_paired(ratio: Ratio, counts: ArrayLike, margin: float, side: Side = "ge", grid: Floats = NUISANCE) -> Floats:
    """Return log e (...) against a difference of two ratios, from joint cells `counts` (..., 8).

    Null: M_A - M_B is at least ("ge", promotion) or at most ("le") the margin, which is 0..1. The unknown level f of
    the ratios is removed by the minimum over cells [f_lo, f_hi]; because z falls in f, z_B at one end and z_A at the
    other make the minimum over finitely many cells a bound for every f in between. Half of the wealth bets on the pair
    and a quarter on each model alone: without those an absurd f near 0 would keep the minimum at 1. Assumes rows that
    do not drift, so a difference is advisory only (statistics.md 2.4 and rule 14).
    """
    counts = np.asarray(counts, dtype=np.float64)
    low, high = grid[:-1], grid[1:]
    possible = (low + margin <= 1) & (high + margin >= 0)
    low, high = low[possible], high[possible]
    if not len(low):
        return np.full(counts.shape[:-1], np.inf)
    promoting = side == "ge"
    at_b, at_a = (high, low) if promoting else (low, high)
    zb = z_ratio(ratio, CANDIDATE_COLUMN, at_b)
    za = z_ratio(ratio, STABLE_COLUMN, np.clip(at_a + margin, 0.0, 1.0))
    sign = 1.0 if promoting else -1.0
    gains = np.stack([sign * (zb - za), sign * zb, -sign * za], axis=1)  # (cells of f, parts, 8)
    worst = -gains.min(axis=-1, keepdims=True)
    safe = np.where(worst > 0, worst, 1.0)
    stakes = np.where(worst > 0, BETS / safe, 0.0)  # (cells of f, parts, bets)
    table = np.log1p(stakes[..., None] * gains[..., None, :])
    log_e = log_mean_exp(np.tensordot(counts, table, axes=(-1, -1)))
    refuted = (counts[..., None, None, :] * ((worst <= 0) & (gains > 0))).sum(axis=-1) > 0
    log_e = np.where(refuted, np.inf, log_e)
    return np.asarray(log_weighted_sum(log_e, _PARTS).min(axis=-1), dtype=np.float64)
