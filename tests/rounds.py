"""How latencies with and without a fault are compared on a machine that is busy otherwise."""

import statistics
from collections.abc import Sequence
from itertools import pairwise


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of `values` that at least `share` (0..1) of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * share // 1) - 1)]


def allowed(times: float, calm: Sequence[float]) -> float:
    """Return the most that the median of rounds with a fault may be, given the figures of rounds without.

    That is `times` the median of the calm rounds or, if that is more, three times the usual difference between one
    calm round and the next above it: by what two rounds without any fault differ, a fault cannot be told.
    """
    usual = statistics.median(calm)
    return max(times * usual, usual + 3 * statistics.median(abs(one - other) for one, other in pairwise(calm)))
