"""What each gate asks, as e-processes over arrays of counts.

Two questions for each gate. *Harm*: is the candidate worse than the rollback margin allows? It is asked of everything
since any start point. *Proof*: is it better than the promotion margin demands? It is asked of the present exposure.

Of some requests the end is not known: in flight, shed by us, lost with a replica. For harm they are counted in the
candidate's favour and for proof against it, so that either log e-value is a lower bound of what it will be once all
is known, and no result ever waits (statistics.md 2.7 iii and rule 3).

Everything here takes leading axes `...`: the judge puts gates, slices and cuts there, the simulation thousands of
rollouts. K is the axis of exposures; harm gives wealth (..., K, G) for `eprocess.mixed_from_each_start`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from router.analysis.eprocess import (
    BETTER,
    MEDIAN_RATIOS,
    WORSE,
    Floats,
    log_e_2x2,
    log_e_arm,
    log_e_bern,
    log_e_bet,
    log_e_ipw,
    log_wealth_2x2,
    log_wealth_arm,
    log_wealth_bern,
    log_wealth_bet,
    log_wealth_ipw,
)

CHANGES = (-1.0, 0.0, 1.0)
"""What one pair can say of a yes/no matter: candidate less, the same, candidate more. The order of pair counts."""


@dataclass(frozen=True, slots=True)
class Arm:
    """What became of one variant's requests, each array (..., K): events, others, and those whose end is not known."""

    events: Floats
    rest: Floats
    unknown: Floats

    @property
    def all(self) -> Floats:
        """Return the number of requests."""
        return self.events + self.rest + self.unknown


@dataclass(frozen=True, slots=True)
class Paired:
    """What pairs say, (..., K, V): with unknown ends in the candidate's favour, against it, and without them.

    Of a yes/no matter V is 3, in the order of CHANGES.
    """

    for_harm: Floats
    for_proof: Floats
    seen: Floats
    """Those whose ends are both known, for display."""


# -- Differences of two rates, with a margin ---------------------------------------------------------------------------


def difference_harm(
    stable: Arm, candidate: Arm, share: Floats, tolerance: Floats, copies: Paired | None = None
) -> Floats:
    """Return the wealth against "the candidate's rate is above stable's by at most `tolerance` (...)".

    `copies` speak in exposures where the candidate serves nobody, and only there: a request that is both served and
    copied must not count twice.
    """
    wealth = log_wealth_ipw(
        stable.all + candidate.all, stable.events + stable.unknown, candidate.events, share, tolerance, side="le"
    )
    return wealth if copies is None else wealth + copies_harm(copies, share, tolerance)


def copies_harm(copies: Paired, share: Floats, tolerance: Floats) -> Floats:
    """Return the part of `difference_harm` that copies say: wealth in exposures where the candidate serves nobody."""
    shadow = share == 0
    said = log_wealth_bet(CHANGES, copies.for_harm[..., shadow, :], tolerance[..., None], "le")
    wealth = np.zeros((*said.shape[:-2], len(share), said.shape[-1]))
    wealth[..., shadow, :] = said
    return wealth


def difference_proof(stable: Arm, candidate: Arm, share: float, margin: Floats, copies: Paired | None = None) -> Floats:
    """Return log e (...) against "worse by `margin` or more", for arms with one exposure (..., 1)."""
    if share == 0:
        return (
            np.zeros(np.shape(margin))
            if copies is None
            else log_e_bet(CHANGES, copies.for_proof[..., 0, :], margin, "ge")
        )
    return log_e_ipw(
        stable.all + candidate.all,
        stable.events,
        candidate.events + candidate.unknown,
        np.array([share]),
        margin,
        side="ge",
    )


def ratio_harm(stable: Arm, candidate: Arm, share: Floats) -> Floats:
    """Return the wealth against "the candidate's rate is not above stable's", where no difference at all is allowed."""
    return log_wealth_arm(stable.events + stable.unknown, candidate.events, share, WORSE)


# -- Latency: who exceeds a frozen threshold more often ----------------------------------------------------------------


def slow_harm(stable: Arm, candidate: Arm, share: Floats, quantile: float) -> Floats:
    """Return the wealth against "the candidate exceeds its threshold no more often than stable its own".

    Half of all requests exceed the median, so there the others say something too.
    """
    if quantile == 0.5:
        return log_wealth_2x2(
            stable.events + stable.unknown, stable.rest, candidate.events, candidate.rest + candidate.unknown,
            share, base_rate=0.5, grid=MEDIAN_RATIOS,
        )  # fmt: skip
    return log_wealth_arm(stable.events + stable.unknown, candidate.events, share, WORSE)


def slow_proof(stable: Arm, candidate: Arm, share: float, quantile: float) -> Floats:
    """Return log e (...) against "exceeds its threshold at least as often as stable", for arms (..., 1)."""
    shares = np.array([share])
    if quantile == 0.5:
        return log_e_2x2(  # the same process with the arms exchanged
            candidate.events + candidate.unknown, candidate.rest, stable.events, stable.rest + stable.unknown,
            1 - shares, base_rate=0.5, grid=MEDIAN_RATIOS,
        )  # fmt: skip
    return log_e_arm(stable.events, candidate.events + candidate.unknown, shares, BETTER)


# -- One stream against a limit ----------------------------------------------------------------------------------------


def rate_harm(arm: Arm, limit: Floats) -> Floats:
    """Return the wealth against "the rate of events is at most `limit` (...)"."""
    return log_wealth_bern(arm.events, arm.all, limit[..., None], "le")


def rate_proof(arm: Arm, limit: Floats) -> Floats:
    """Return log e (...) against "the rate of events is at least `limit`", for an arm (..., 1)."""
    return log_e_bern((arm.events + arm.unknown)[..., 0], arm.all[..., 0], limit, "ge")


# -- Pairs: a bounded quantity of both answers -------------------------------------------------------------------------


def mean_harm(values: Sequence[float] | Floats, counts: Floats, allowed: Floats) -> Floats:
    """Return the wealth against "the mean of `values` (..., V) is at least `allowed` (...)"; counts (..., K, V)."""
    values = np.asarray(values, dtype=np.float64)
    return log_wealth_bet(values[..., None, :], counts, allowed[..., None], "ge")


def mean_proof(values: Sequence[float] | Floats, counts: Floats, demanded: Floats) -> Floats:
    """Return log e (...) against "the mean is at most `demanded`", from counts (..., V) of one exposure."""
    return log_e_bet(values, counts, demanded, "le")
