"""Latency thresholds of one exposure: frozen numbers, and the levels into which they cut a latency.

A latency gate asks whether the candidate exceeds stable's quantile more often than stable does. The quantile tau is
frozen when the exposure opens, from requests that arrived before it, so that the requests under test have no say in it
(statistics.md rule 10). All thresholds together cut the time axis into a few *levels*, of which each request is in
one: the gateway counts levels, by second of arrival, instead of a whole histogram for each second.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil, floor, log

from router.core.observations import (
    LATENCY_BUCKETS,
    LATENCY_FLOOR_MS,
    LATENCY_GROWTH,
)
from router.core.rollout import Exposure, GateSpec

QUANTILES = (0.5, 0.95, 0.99)
"""What a latency gate watches, in this order everywhere."""

_LOG_GROWTH = log(LATENCY_GROWTH)
_SNAP = 1e-9
"""Share of a bucket by which a number may miss its edge and still be that edge: rounding of 0.1 x 1.02^i."""


_NAMES = {quantile: f"latency_p{quantile * 100:g}_ms" for quantile in QUANTILES}


def threshold_name(quantile: float, slice_: str = "") -> str:
    """Return the name of stable's quantile in `Exposure.thresholds`, in milliseconds: `latency_p95_ms[@slice]`."""
    return _NAMES[quantile] + (f"@{slice_}" if slice_ else "")


@dataclass(frozen=True, slots=True)
class Threshold:
    """One quantile of one gate, as buckets whose upper edge an answer must exceed to be slow.

    `harm` is (1 + tolerance) tau + slack rounded up to an edge and `proof` (1 + margin) tau + slack rounded down, so
    that the rounding never speaks against the candidate, and never for it.
    """

    stable: int
    harm: int
    proof: int


def thresholds_of(gates: Iterable[GateSpec], exposure: Exposure) -> tuple[tuple[Threshold, ...], ...]:
    """Return each gate's thresholds for QUANTILES, or nothing for a gate whose quantiles of stable are not frozen."""
    frozen = dict(exposure.thresholds)
    return tuple(_thresholds(gate, frozen) for gate in gates)


def _thresholds(gate: GateSpec, frozen: Mapping[str, float]) -> tuple[Threshold, ...]:
    found = []
    tolerance, margin, suffix = gate.rollback_margin, gate.margin, f"@{gate.slice}" if gate.slice else ""
    for name in _NAMES.values():
        tau_ms = frozen.get(name + suffix)
        if tau_ms is None:
            return ()
        # The rounding of 0.1 x 1.02^i must not push a number that is an edge to the next one.
        stable = ceil(log(tau_ms / LATENCY_FLOOR_MS) / _LOG_GROWTH - _SNAP)
        harm = ceil(log(((1 + tolerance) * tau_ms + gate.slack_ms) / LATENCY_FLOOR_MS) / _LOG_GROWTH - _SNAP)
        proof = floor(log(((1 + margin) * tau_ms + gate.slack_ms) / LATENCY_FLOOR_MS) / _LOG_GROWTH + _SNAP)
        found.append(Threshold(_within(stable), _within(harm), _within(proof)))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Levels:
    """The edges, as buckets in rising order, that cut each variant's latencies in one exposure and slice."""

    stable: tuple[int, ...] = ()
    candidate: tuple[int, ...] = ()


def levels_of(thresholds: Iterable[Threshold]) -> Levels:
    """Return the levels that the thresholds of all latency gates of one slice need in one exposure."""
    found = tuple(thresholds)
    return Levels(
        stable=tuple(sorted({one.stable for one in found})),
        candidate=tuple(sorted({edge for one in found for edge in (one.harm, one.proof)})),
    )


def level_of(edges: tuple[int, ...], bucket: int) -> int:
    """Return how many of `edges` a latency in `bucket` exceeds: 0..len(edges)."""
    return bisect_left(edges, bucket)


def _within(bucket: int) -> int:
    return 0 if bucket < 0 else min(bucket, LATENCY_BUCKETS)
