"""Four judges in wide use, to be asked about the same traces as ours (statistics.md section 4).

Each takes the counts of many rollouts at once and returns when it would roll back, in seconds from the start, or inf.
They see failures only, as ours does here, and nothing else of their products is modelled: what each one watches, when
it looks and when it fires. The rules are facts from their sources and documentation (section 3); no code is theirs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from router.analysis.eprocess import Floats

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Traces:
    """What many rollouts saw in each second, arrays (runs, seconds)."""

    stable_requests: Ints
    candidate_requests: Ints
    stable_failures: Ints
    candidate_failures: Ints

    def since_the_start(self, every_s: int) -> tuple[Floats, Floats, Floats, Floats]:
        """Return the four counts since the start, at every look: (runs, looks)."""
        a, b, fa, fb = (counts.cumsum(axis=1) for counts in self.by_interval(every_s))
        return a, b, fa, fb

    def by_interval(self, interval_s: int) -> tuple[Floats, Floats, Floats, Floats]:
        """Return the four counts of each interval: (runs, intervals)."""
        a, b, fa, fb = (counts.reshape(len(counts), -1, interval_s).sum(axis=2).astype(float) for counts in self._all())
        return a, b, fa, fb

    def _all(self) -> tuple[Ints, Ints, Ints, Ints]:
        return self.stable_requests, self.candidate_requests, self.stable_failures, self.candidate_failures


Judge = Callable[[Traces], Floats]


def first_look(fires: Flags, every_s: int) -> Floats:
    """Return the second of the first look (runs, looks) that fires, inf where none does."""
    return np.where(fires.any(axis=1), (fires.argmax(axis=1) + 1.0) * every_s, np.inf)


ONE_SIDED_5 = 1.6448536269514722
"""Quantile .95 of the normal distribution."""


def z_test(traces: Traces, every_s: int = 10, least_requests: int = 30) -> Floats:
    """A two-proportion z-test with pooled variance, one-sided at .05, of all counts so far; repeated at every look.

    This is what a dashboard with a p-value does. `least_requests` of the candidate are awaited, as textbooks ask for
    a normal approximation. Section 4 does not say which z-test it ran: among one- and two-sided ones with several
    minima, this is the one that gives its A/A figures (.40 and .54) and its delays within a look or two.
    """
    a, b, fa, fb = traces.since_the_start(every_s)
    pooled = (fa + fb) / (a + b)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (fb / b - fa / a) / np.sqrt(pooled * (1 - pooled) * (1 / a + 1 / b))
    return first_look((z > ONE_SIDED_5) & (b >= least_requests), every_s)


@cache
def rank_sum_quantile(each: int, chance: float) -> int:
    """Return the least u with P(U <= u) >= chance, U being Mann and Whitney's statistic of two samples of `each`."""
    # ways[k, s]: how many sets of k ranks have a sum of s.
    ways = np.zeros((each + 1, each * (3 * each + 1) // 2 + 1))
    ways[0, 0] = 1
    for rank in range(1, 2 * each + 1):
        ways[1:, rank:] += ways[:-1, : ways.shape[1] - rank].copy()
    of_sum = ways[each, each * (each + 1) // 2 :]
    return int(np.searchsorted(np.cumsum(of_sum) / of_sum.sum(), chance))


def mann_whitney(
    traces: Traces, every_s: int = 300, interval_s: int = 60, confidence: float = 0.98, tolerance: float = 0.25
) -> Floats:
    """Kayenta's judge: Mann and Whitney's test of the failure rates of the candidate's and stable's minutes.

    Fires when the lower end of the confidence interval of the shift exceeds `tolerance` times its Hodges-Lehmann
    estimate. The interval is the exact one, from ordered differences of all pairs; ties, of which minutes without any
    failure make many, are left as they are, where the original adds random noise in some cases.
    """
    a, b, fa, fb = traces.by_interval(interval_s)
    stable, candidate = fa / np.maximum(a, 1), fb / np.maximum(b, 1)
    looks = range(every_s // interval_s, stable.shape[1] + 1, every_s // interval_s)
    fires = []
    for minutes in looks:
        shifts = candidate[:, :minutes, None] - stable[:, None, :minutes]
        ordered = np.sort(shifts.reshape(len(stable), -1), axis=1)
        low = ordered[:, max(rank_sum_quantile(minutes, (1 - confidence) / 2), 1) - 1]
        fires.append(low > tolerance * np.abs(np.median(ordered, axis=1)))
    return first_look(np.stack(fires, axis=1), every_s)


def _failed_checks(traces: Traces, least_success: float, interval_s: int) -> Ints:
    """Return how many intervals so far had too low a success rate, (runs, intervals); one without requests has not."""
    _, requests, _, failures = traces.by_interval(interval_s)
    return np.asarray((failures > (1 - least_success) * requests).cumsum(axis=1))


def flagger(traces: Traces, least_success: float = 0.99, threshold: int = 5, interval_s: int = 60) -> Floats:
    """Flagger's: rolls back at the fifth check below 99 % success. Failed checks are never forgotten."""
    return first_look(_failed_checks(traces, least_success, interval_s) >= threshold, interval_s)


def argo(traces: Traces, least_success: float = 0.95, limit: int = 3, interval_s: int = 60) -> Floats:
    """Argo Rollouts' with the figures of its examples: failed once more than three measurements were below 95 %."""
    return first_look(_failed_checks(traces, least_success, interval_s) > limit, interval_s)


RIVALS: dict[str, Judge] = {
    "z-test, each 10 s": z_test,
    "Kayenta, each 5 min": mann_whitney,
    "Flagger": flagger,
    "Argo Rollouts": argo,
}
