"""Freezing stable's latency quantiles when an exposure opens (statistics.md rule 10)."""

from collections.abc import Mapping, Sequence

import numpy as np

from router.analysis.evidence import Evidence
from router.analysis.quantiles import quantile_of
from router.core.levels import QUANTILES, threshold_name
from router.core.observations import LATENCY, LATENCY_BUCKETS, latency_edge_ms
from router.core.rollout import Exposure, GateSpec
from router.core.traffic import Role

FEWEST = {0.5: 100, 0.95: 200, 0.99: 1_000}
"""Stable requests before a quantile is frozen, so that at least ten lie beyond it. Validity needs none of them."""


def freeze_thresholds(
    evidence: Evidence, exposures: Sequence[Exposure], gates: Sequence[GateSpec]
) -> tuple[tuple[str, float], ...]:
    """Return stable's latency quantiles for an exposure that opens now, from the exposures of this rollout until now.

    Of the latest exposure that has enough requests; a quantile that none knows is left out, and the gate says so. Pure
    past: the requests that will be compared with these numbers have not arrived yet.
    """
    frozen: dict[str, float] = {}
    for slice_ in {gate.slice or "" for gate in gates if gate.metric == "latency"}:
        for exposure in reversed(exposures):
            for quantile, tau_ms in _stable_quantiles(evidence, exposure, slice_).items():
                frozen.setdefault(threshold_name(quantile, slice_), tau_ms)
    return tuple(sorted(frozen.items()))


def _stable_quantiles(evidence: Evidence, exposure: Exposure, slice_: str) -> Mapping[float, float]:
    counts = np.zeros(LATENCY_BUCKETS + 1)
    for bucket, n in evidence.cells(exposure.id, LATENCY, slice_, Role.STABLE).items():
        counts[int(bucket)] = n
    buckets = quantile_of(counts, np.array(QUANTILES))
    # Above the last edge there is no number to freeze: a stable model that slow has no latency to defend.
    return {
        quantile: latency_edge_ms(int(bucket))
        for quantile, bucket in zip(QUANTILES, buckets, strict=True)
        if counts.sum() >= FEWEST[quantile] and bucket < LATENCY_BUCKETS
    }
