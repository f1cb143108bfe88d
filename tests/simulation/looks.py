"""What the product's judge says of arrays of counts: of thousands of rollouts at once, through the product's functions.

Counts are (n, C, S, K, COLUMNS): rollouts, cuts in time, start points (with keys; else one, for all), exposures, and
the columns of `traffic`. `test_aa` checks that `router.analysis.judge.judge` says the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from router.analysis import gates as ask
from router.analysis.eprocess import Floats, log_mean_exp, mixed, mixed_from_each_start, start_weights
from router.analysis.gates import Arm
from router.analysis.judge import strongest, weights_of
from router.core.levels import QUANTILES, Threshold, threshold_name, thresholds_of
from router.core.observations import LATENCY_BUCKETS, latency_edge_ms
from router.core.rollout import Exposure, GateSpec
from tests.simulation.traffic import COLUMNS, FAILED, LEVELS, OF_CANDIDATE, OF_STABLE, STARTED, Counts, Ints

ERRORS = GateSpec("errors", "error_rate", max_increase=0.005)
LATENCY = GateSpec("latency", "latency", max_increase=0.1, tolerance=0.05)


@dataclass(frozen=True, slots=True)
class Gates:
    """The two gates that every simulated rollout is judged by."""

    errors: GateSpec = ERRORS
    latency: GateSpec = LATENCY

    @property
    def weights(self) -> Floats:
        """Return the gates' shares of the evidence, errors first."""
        return weights_of([self.errors, self.latency])


def outcomes(counts: Floats) -> tuple[Arm, Arm]:
    """Return stable's and the candidate's failures."""
    return _failures(counts[..., OF_STABLE]), _failures(counts[..., OF_CANDIDATE])


def _failures(counts: Floats) -> Arm:
    ended = counts[..., LEVELS:].sum(axis=-1)
    return Arm(counts[..., FAILED], ended - counts[..., FAILED], counts[..., STARTED] - ended)


def slow_answers(counts: Floats, quantile: int, *, proof: bool) -> tuple[Arm, Arm]:
    """Return stable's and the candidate's answers beyond their thresholds of one of QUANTILES, by its number."""
    stable, candidate = counts[..., OF_STABLE], counts[..., OF_CANDIDATE]
    return _slow(stable, quantile + 1), _slow(candidate, 2 * quantile + (2 if proof else 1))


def _slow(counts: Floats, first: int) -> Arm:
    fast, slow = (part.sum(axis=-1) for part in np.split(counts[..., LEVELS:], [first], axis=-1))
    return Arm(slow, fast, counts[..., STARTED] - fast - slow)


# -- Harm --------------------------------------------------------------------------------------------------------------


def _wealths(counts: Floats, share: Floats, gates: Gates) -> list[Floats]:
    """Return the wealth (..., K, G) of each process of harm: errors, then each quantile of latency."""
    stable, candidate = outcomes(counts)
    errors = (
        ask.difference_harm(stable, candidate, share, np.array(gates.errors.rollback_margin))
        if gates.errors.margin
        else ask.ratio_harm(stable, candidate, share)
    )
    slow = [
        ask.slow_harm(*slow_answers(counts, number, proof=False), share, quantile)
        for number, quantile in enumerate(QUANTILES)
    ]
    return [errors, *slow]


def harm_by_gate(counts: Floats, share: Floats, gates: Gates, *, keyed: bool) -> Floats:
    """Return log e of harm, (n, gates, C, S)."""
    wealths = _wealths(counts if keyed else counts[:, :, 0], share, gates)
    errors, *slow = ((mixed if keyed else mixed_from_each_start)(one) for one in wealths)
    return np.stack([errors, log_mean_exp(np.stack(slow, axis=-1))], axis=1)


def harm(counts: Floats, share: Floats, gates: Gates, *, keyed: bool) -> Floats:
    """Return the logarithm of what is compared with the rollback level, (n,)."""
    return strongest(harm_by_gate(counts, share, gates, keyed=keyed), gates.weights, keyed=keyed)


ROUNDING = 0.02
"""By so much, relatively, a screen may fall short of its bound: it computes with 24 bits, which costs 0.003 at most."""


class Screen:
    """A bound of `harm` from above that costs a product of matrices instead of exponentials.

    A mean of e-values is at most their largest, and the logarithms are linear in the counts. The coefficients are read
    off the product's own functions, one count at a time.
    """

    def __init__(self, share: Floats, gates: Gates) -> None:
        one_each = np.zeros((COLUMNS, len(share), COLUMNS))
        one_each[np.arange(COLUMNS), :, np.arange(COLUMNS)] = 1.0
        wealths = _wealths(one_each, share, gates)  # (COLUMNS, K, G) each
        self._ends = np.cumsum([wealth.shape[-1] for wealth in wealths])
        table = np.moveaxis(np.concatenate(wealths, axis=-1), 0, 1)  # (K, COLUMNS, all G)
        self._table = np.ascontiguousarray(table, dtype=np.float32)
        errors, latency = gates.weights
        self._weights = np.array([errors, *[latency / len(QUANTILES)] * len(QUANTILES)])

    def bound(self, counts: Counts) -> Floats:
        """Return exp(harm) or more, (n, C), but for ROUNDING."""
        starts, exposures = counts.shape[2:4]
        weights = start_weights(exposures)
        found = np.full(counts.shape[:2], 1.0 - weights.sum())
        for start in range(exposures):
            since = counts[:, :, min(start, starts - 1), start:]
            flat = since.reshape(-1, (exposures - start) * COLUMNS)
            wealth = flat @ self._table[start:exposures].reshape(flat.shape[-1], -1)
            best = np.maximum.reduceat(wealth, [0, *self._ends[:-1]], axis=-1)
            found += weights[start] * (np.exp(best.astype(np.float64)) @ self._weights).reshape(found.shape)
        return found


# -- Proof -------------------------------------------------------------------------------------------------------------


def error_proof(counts: Floats, share: float, gates: Gates) -> Floats:
    """Return log e of proof for counts (n, COLUMNS) of the present exposure at the oldest cut."""
    stable, candidate = outcomes(counts[:, None])
    return ask.difference_proof(stable, candidate, share, np.array(gates.errors.margin))


def latency_proofs(counts: Floats, share: float) -> Floats:
    """Return log e of proof of each quantile, (n, Q); the gate passes by the smallest."""
    found = [
        ask.slow_proof(*slow_answers(counts[:, None], number, proof=True), share, quantile)
        for number, quantile in enumerate(QUANTILES)
    ]
    return np.stack(found, axis=-1)


# -- Thresholds --------------------------------------------------------------------------------------------------------


@cache
def _edges(gate: GateSpec) -> tuple[Ints, Ints]:
    """Return the candidate's edges of harm and of proof for each bucket in which stable's quantile may be."""
    found = [_threshold(gate, bucket) for bucket in range(LATENCY_BUCKETS)]
    assert [one.stable for one in found] == list(range(LATENCY_BUCKETS))
    return np.array([one.harm for one in found]), np.array([one.proof for one in found])


def _threshold(gate: GateSpec, bucket: int) -> Threshold:
    frozen = tuple((threshold_name(quantile), latency_edge_ms(bucket)) for quantile in QUANTILES)
    (thresholds,) = thresholds_of([gate], Exposure(1, 0, 0, "canary", 0.0, frozen))
    return thresholds[0]


def edges_of(gate: GateSpec, quantiles: Ints) -> tuple[Ints, Ints]:
    """Return stable's edges (n, 3) and the candidate's (n, 6), both rising, from the buckets of stable's quantiles."""
    harm_edges, proof_edges = (edges[quantiles] for edges in _edges(gate))
    candidate = np.stack([harm_edges, proof_edges], axis=-1).reshape(len(quantiles), -1)
    assert (np.diff(candidate, axis=-1) >= 0).all(), "levels are cut by rising edges"
    return quantiles, candidate


def log_level(chance: float) -> float:
    """Return the log e-value that errs with this chance, as if there were one attempt only: the hardest test."""
    return -math.log(chance)


def exposures_of(weights: Sequence[float]) -> tuple[Exposure, ...]:
    """Return one exposure for each step, with ids from 1."""
    return tuple(
        Exposure(number, round(weight * 10_000), 0, "canary", 0.0) for number, weight in enumerate(weights, start=1)
    )
