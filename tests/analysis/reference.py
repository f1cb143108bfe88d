"""Instruments of the literature that the product does not use, to check its mathematics against published values.

Written from the papers, plainly and one number at a time, where the product is vectorised and solves for many counts
at once. Howard, Ramdas, McAuliffe and Sekhon, Annals of Statistics 2021 (arXiv 1810.08240) is "HRMS"; Howard and
Ramdas, Bernoulli 2022 (arXiv 1906.09712) is "HR". Symbols are those of the papers: s is the deviation of a sum from
its mean, v its intrinsic time (variance), g and h bound a step downwards and upwards.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.special import betainc, betaln, expit, gammaln, log_expit, log_ndtr, logit, psi, zeta

from router.analysis.quantiles import NEWTON_STEPS, SETTLED, Interval, prior_strength

Floats = NDArray[np.float64]


def crossing(log_martingale: Callable[[float], float], alpha: float, top: float) -> float:
    """Return the s in (0, top] at which a martingale reaches 1/alpha; infinite where it does not up to `top`."""
    threshold = math.log(1 / alpha)
    if log_martingale(top) < threshold:
        return math.inf
    return float(brentq(lambda s: log_martingale(s) - threshold, 0.0, top, xtol=1e-10))


# -- Normal mixtures ---------------------------------------------------------------------------------------------------


def best_rho(v: float, alpha: float) -> float:
    """Return the rho for which the two-sided normal mixture is tightest at v; for one side take 2 alpha (HRMS 3.5)."""
    twice_log = 2 * math.log(1 / alpha)
    return v / (twice_log + math.log(1 + twice_log))


def normal_bound(v: float, alpha: float, rho: float) -> float:
    """Return the two-sided normal mixture bound (HRMS Prop. 4)."""
    return math.sqrt((v + rho) * (math.log(1 + v / rho) + 2 * math.log(1 / alpha)))


def log_one_sided_normal(s: float, v: float, rho: float) -> float:
    """Return log of exp(x s - x^2 v / 2) averaged over a half-normal x of precision rho (HRMS Prop. 5)."""
    total = v + rho
    return math.log(2) + math.log(rho / total) / 2 + s * s / (2 * total) + float(log_ndtr(s / math.sqrt(total)))


def one_sided_normal_bound(v: float, alpha: float, rho: float) -> float:
    """Return the one-sided normal mixture bound; the two-sided one lies above it."""
    return crossing(lambda s: log_one_sided_normal(s, v, rho), alpha, normal_bound(v, alpha, rho))


# -- Beta-binomial mixtures --------------------------------------------------------------------------------------------


def log_beta_above(a: float, b: float, least: float) -> float:
    """Return log of the integral of x^(a-1) (1-x)^(b-1) from `least` to 1."""
    return float(betaln(a, b) + np.log(betainc(b, a, 1 - least)))


def log_beta_binomial(s: float, v: float, r: float, g: float, h: float, *, one_sided: bool = False) -> float:
    """Return the log of the beta-binomial mixture martingale (HRMS Prop. 6, one-sided Prop. 7).

    A step to +h has chance g/(g+h) under the null. v/(gh) steps of which `up` went to +h have deviation s. The
    one-sided mixture is over larger chances only.
    """
    p, n0 = g / (g + h), r / (g * h)
    up, down = (v + h * s) / (h * (g + h)), (v - g * s) / (g * (g + h))
    least = p if one_sided else 0.0
    a, b = n0 * p, n0 * (1 - p)
    likelihood = up * math.log(p) + down * math.log(1 - p)
    return log_beta_above(a + up, b + down, least) - log_beta_above(a, b, least) - likelihood


def beta_binomial_bound(
    v: float, alpha: float, v_opt: float, g: float, h: float, *, one_sided: bool = False, alpha_opt: float = 0.05
) -> float:
    """Return the beta-binomial mixture bound: infinite where even steps that all went upwards stay below it."""
    rho = best_rho(v_opt, 2 * alpha_opt if one_sided else alpha_opt)
    r = max(rho - g * h, 1e-3 * g * h)
    top = v / g * (1 - 1e-12)
    return crossing(lambda s: log_beta_binomial(s, v, r, g, h, one_sided=one_sided), alpha, top)


# -- Stitching ---------------------------------------------------------------------------------------------------------


def stitched(variance: float, scale: float, log_term: float, eta: float) -> float:
    """Return the line of a stitched bound for one epoch: a root for the variance, a linear term for the scale c."""
    k1 = (eta**0.25 + eta**-0.25) / math.sqrt(2)
    k2 = (math.sqrt(eta) + 1) / 2
    linear = k2 * scale * log_term
    return math.sqrt(k1**2 * variance * log_term + linear**2) + linear


def poly_stitching_bound(v: float, alpha: float, v_min: float, c: float, *, s: float = 1.4, eta: float = 2.0) -> float:
    """Return the polynomial stitched bound for sub-gamma sums of scale c (HRMS Thm 1 with h(k) = (k+1)^s zeta(s))."""
    v = max(v, v_min)
    epoch = math.log(eta * v / v_min) / math.log(eta)
    return stitched(v, c, s * math.log(epoch) + math.log(zeta(s) / alpha), eta)


def double_stitching_bound(
    p: float, t: float, alpha: float, t_opt: float, *, delta: float = 0.5, s: float = 1.4, eta: float = 2.0
) -> float:
    """Return u, in counts, such that all quantiles p have |count - t p| < u at all times (HR Thm 3).

    Stitched over epochs of time and over a grid of quantiles that is even in logit(p) with a mesh that shrinks like
    1/sqrt(t).
    """
    t = max(t, t_opt)
    mesh = 2 * delta * math.sqrt(eta * t_opt / t)
    nearest = p if p >= 0.5 else min(0.5, float(expit(logit(p) + mesh)))
    variance = nearest * (1 - nearest)
    epoch = math.log(eta * t / t_opt) / math.log(eta)
    cell = abs(float(logit(p))) * math.sqrt(t / t_opt) / (2 * delta) + 1
    weights = 2 * zeta(s) * (2 * zeta(s) + 1)
    log_term = s * math.log(epoch) + s * math.log(cell) + math.log(weights / alpha)
    rounding = delta * math.sqrt(eta * t * variance / t_opt)
    return rounding + stitched(variance * t, (1 - 2 * p) / 3, log_term, eta)


# -- The whole distribution at once ------------------------------------------------------------------------------------


def dkw_error(c: float, amplitude: float) -> float:
    """Return the chance that the band of `dkw_radius` with this C is ever left, at the best eta (HR Thm 2)."""

    def error(eta: float) -> float:
        gamma_squared = 2 / eta * (amplitude - math.sqrt(2 * (eta - 1) / c)) ** 2
        return 4 * math.exp(-gamma_squared * c) * (1 + 1 / ((gamma_squared - 1) * math.log(eta)))

    # gamma^2 > 1 up to this eta, where the bound on the error diverges.
    largest = brentq(lambda eta: math.sqrt(eta / 2) + math.sqrt(2 * (eta - 1) / c) - amplitude, 1.0, 2 * amplitude**2)
    inside = 1e-9 * (largest - 1)
    found = minimize_scalar(error, bounds=(1 + inside, largest - inside), method="bounded", options={"xatol": 1e-12})
    return float(found.fun)


def dkw_constant(alpha: float, amplitude: float = 0.85) -> float:
    """Return the C with which the time-uniform band has level alpha."""
    return float(brentq(lambda c: dkw_error(c, amplitude) - alpha, 4.0, 100.0, xtol=1e-10))


def dkw_radius(t: float, c: float, t_min: float, amplitude: float = 0.85) -> float:
    """Return how far the empirical distribution may be from the true one, at any t >= t_min (HR Cor. 2)."""
    return amplitude * math.sqrt((math.log(1 + math.log(t / t_min)) + c) / t)


# -- Two arms ----------------------------------------------------------------------------------------------------------


def quantile_ab_p_value(first: ArrayLike, second: ArrayLike, p: float, t_opt: float, alpha_opt: float = 0.05) -> float:
    """Return the always-valid p-value of the null that two i.i.d. samples share their quantile p (HR Thm 5).

    If x is the common quantile, each arm's martingale at x is at least its least value over the counts that x allows,
    between the number of observations below x and that of observations not above. Their product at the most
    favourable x bounds the evidence. Observations suffice for x: what lies between two allows no count that they do
    not.
    """
    samples = [np.sort(np.asarray(values, dtype=np.float64)) for values in (first, second)]
    g, h = p, 1 - p
    r = max(best_rho(g * h * t_opt, alpha_opt) - g * h, 1e-3 * g * h)
    places = np.concatenate(samples)
    log_e = np.zeros(len(places))
    for values in samples:
        n = len(values)

        def height(count: float, n: int = n) -> float:
            return log_beta_binomial(count - n * p, n * g * h, r, g, h)

        favourite = float(minimize_scalar(height, bounds=(0, n), method="bounded").x)
        allowed = np.clip(favourite, np.searchsorted(values, places, "left"), np.searchsorted(values, places, "right"))
        log_e += [height(count) for count in allowed]
    return min(1.0, math.exp(-log_e.min()))


# -- Assignments and bounded means -------------------------------------------------------------------------------------


def log_e_assignment(counts: ArrayLike, shares: ArrayLike, prior: ArrayLike) -> float:
    """Return log e against the null that arms get requests with these shares (sample-ratio mismatch).

    Dirichlet-multinomial martingale of Lindon and Malek, NeurIPS 2022 (arXiv 2011.03567), eq. (5).
    """
    n, theta, a = (np.asarray(values, dtype=np.float64) for values in (counts, shares, prior))

    def log_normaliser(x: Floats) -> float:
        return float(gammaln(x).sum() - gammaln(x.sum()))

    return log_normaliser(a + n) - log_normaliser(a) - float(n @ np.log(theta))


def fractional_histogram(values: ArrayLike, cells: int = 128) -> tuple[Floats, Floats]:
    """Return grid points in 0..1 and the weight on each, every value split linearly between its two neighbours.

    log(1 + bet * (x - m)) is concave in x, so wealth computed from the histogram never exceeds the exact wealth, for
    any bet and any m chosen afterwards (statistics.md 2.3).
    """
    position = np.clip(np.asarray(values, dtype=np.float64), 0, 1) * cells
    left = np.minimum(position.astype(np.intp), cells - 1)
    share = position - left
    weights = np.bincount(left, 1 - share, cells + 1) + np.bincount(left + 1, share, cells + 1)
    return np.linspace(0.0, 1.0, cells + 1), np.asarray(weights, dtype=np.float64)


# -- Bernoulli confidence sequence: the mixture of `router.analysis.quantiles`, over rates -----------------------------

FARTHEST_LOGIT = 200.0
"""Keeps Newton's first step finite; the lowest bound that 1e12 trials can have, at alpha 1e-12, lies inside -90."""


def rate_interval(events: ArrayLike, trials: ArrayLike, alpha: float, t_opt: float) -> Interval:
    """Return between which rates the chance of an event lies, given `events` among `trials`, which broadcast.

    Both are whole numbers with 0 <= events <= trials; no trials give (0, 1). Intervals are tightest after about
    `t_opt` trials. Assumes independent events of constant chance: for display only.

    All rates at which M <= 1/alpha, with M of Howard et al. 2021, Prop. 6
    (`test_rate_interval_has_its_check_values`). One event alone leaves the lower end at 0: as the rate goes to 0, M
    stays below 1, and only from two events on does it grow without limit.
    """
    yes, total = np.broadcast_arrays(*(np.asarray(values, dtype=np.float64) for values in (events, trials)))
    # The upper end for events is one minus the lower end for all that were none.
    lower = _lowest_rates(np.stack([yes, total - yes]), total, alpha, prior_strength(t_opt))
    return Interval(lower[0], 1 - lower[1])


def _lowest_rates(events: Floats, trials: Floats, alpha: float, n0: float) -> Floats:
    """Return the lowest rate with M <= 1/alpha, 0 where there is none: (2, ...) and (...) to (2, ...)."""
    lowest = np.zeros(events.shape)
    bounded = events > 1
    yes, n = events[bounded], np.broadcast_to(trials, events.shape)[bounded]
    no = n - yes
    constant = gammaln(n0) - gammaln(n0 + n) - math.log(1 / alpha)
    middle, spread = (yes + 0.5) / (n + 1), (yes + 0.5) * (no + 0.5) / (n + 1)
    # By logit, because there log M becomes a straight line in the tails: no start is too far away.
    bounds = np.array([normal_bound(v, alpha, n0 * v / (k + 1)) for v, k in zip(spread, n, strict=True)])
    start = np.log(middle) - np.log1p(-middle) - bounds / spread
    logits = np.maximum(start, -FARTHEST_LOGIT)
    for _ in range(NEWTON_STEPS):
        p, q = expit(logits), expit(-logits)
        a, b = n0 * p, n0 * q
        height = gammaln(a + yes) - gammaln(a) + gammaln(b + no) - gammaln(b) + constant
        height -= yes * log_expit(logits) + no * log_expit(-logits)
        slope = a * q * (psi(a + yes) - psi(a) - psi(b + no) + psi(b)) - yes * q + no * p
        following = np.clip(logits - height / slope, -FARTHEST_LOGIT, FARTHEST_LOGIT)
        settled = np.abs(following - logits) <= SETTLED
        logits = following
        if settled.all():
            break
    lowest[bounded] = expit(logits)
    return lowest
