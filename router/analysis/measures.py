"""What the evidence says of each gate: both e-values, the estimate with its bounds, and the facts in words."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from router.analysis.eprocess import Floats
from router.analysis.families import RATIOS, Counts, Family, Latency, family_of, margins_of
from router.analysis.reading import Gates, Reading
from router.core.observations import CUTS
from router.core.rollout import GateSpec

CERTAIN = 1e6
"""Largest logarithm of an e-value that is reported: records hold finite numbers only."""

_SCALES = (1.1, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
"""Multiples of the present evidence at which the proof is tried, to say how many more requests it needs."""

_POINTS, _ROUNDS = 9, 4
"""A bound is searched among 9 values, then among 9 around the best, and so on: to 1/4096 of its range."""


@dataclass(frozen=True, slots=True)
class CriticalValues:
    """From which log e-value on something is refuted: `harm` with the certainty of a rollback, `proof` of promotion."""

    harm: float
    proof: float


class _Detail(NamedTuple):
    """What is told on demand, as in `core.decisions.GateResult`; `more` counts `Measure.unit`."""

    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    more: int | None = None


_NO_DETAIL = _Detail()


@dataclass(frozen=True, slots=True)
class Measure:
    """One gate: `log_e` (C, S) of harm by cut and start point, and `log_f` of proof in the present exposure.

    `unmeasured` says why nothing can be said in this exposure.
    """

    gate: GateSpec
    log_e: Floats
    log_f: float
    unmeasured: str | None
    detail: "_Detail"
    _family: Family
    _number: int

    @property
    def facts(self) -> str:
        """Return the first half of the gate's sentence."""
        return self._family.facts(self._number)

    @property
    def counts(self) -> Counts:
        """Return the numbers behind it."""
        return self._family.counts(self._number)

    @property
    def unit(self) -> str:
        """Return what `more` counts, in the plural."""
        return self._family.unit


def measure(reading: Reading, gates: Gates, critical: CriticalValues, *, detail: bool) -> list[Measure]:
    """Return what the evidence says of the gates, without precision and f1; `detail` adds `low`, `high` and `more`."""
    return _measured(reading, [gate for gate in gates if gate.metric not in RATIOS], critical, detail=detail)


def measure_ratios(reading: Reading, gates: Gates, critical: CriticalValues, *, detail: bool) -> list[Measure]:
    """Return the same for precision and f1, some of which cost 2 ms each: every ten seconds is enough."""
    return _measured(reading, [gate for gate in gates if gate.metric in RATIOS], critical, detail=detail)


def _measured(reading: Reading, gates: Gates, critical: CriticalValues, *, detail: bool) -> list[Measure]:
    alike: dict[tuple[object, ...], list[GateSpec]] = {}
    for gate in gates:
        alike.setdefault((family_of(gate), gate.metric, gate.minimum is None), []).append(gate)
    found = {
        one.gate.name: one
        for (family, *_), members in alike.items()
        for one in _told(family_of(members[0])(reading, members), members, critical, detail=detail)
    }
    return [found[gate.name] for gate in gates]


def _told(family: Family, gates: Gates, critical: CriticalValues, *, detail: bool) -> list[Measure]:
    harm = np.clip(family.harm(), -CERTAIN, CERTAIN)
    log_e = np.broadcast_to(harm, (len(gates), len(CUTS), harm.shape[-1]))
    margins = margins_of(gates)[:, None]
    log_f = np.clip(family.proof(margins)[:, 0], -CERTAIN, CERTAIN)
    told = [_NO_DETAIL] * len(gates)
    if detail:
        low, high = _bounds(family, len(gates), critical)
        # They are found to 1/4096 of their range only, and must not contradict the verdict.
        passed = log_f >= critical.proof
        if family.more_is_better:
            low = np.where(passed, np.maximum(low, margins[:, 0]), low)
        else:
            high = np.where(passed, np.minimum(high, margins[:, 0]), high)
        more = _more(family, margins, log_f, critical.proof)
        numbers = zip(family.estimates(), low, high, more, strict=True)
        told = [_Detail(_finite(estimate), _finite(a), _finite(b), n) for estimate, a, b, n in numbers]
    return [
        Measure(gate, log_e[j], log_f, family.unmeasured(j), told[j], family, j)
        for j, (gate, log_f) in enumerate(zip(gates, log_f.tolist(), strict=True))
    ]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _bounds(family: Family, gates: int, critical: CriticalValues) -> tuple[Floats, Floats]:
    """Return between which values the estimate lies, (J,) each; nan where there is no such bound.

    Each end is the first value that the gate's own process refutes, at the level of the decision it would cause. So the
    bounds exclude the promotion margin exactly when the gate passes.
    """
    if isinstance(family, Latency):
        return family.bounds(float(np.exp(-critical.harm)))
    nowhere = np.full(gates, np.nan)
    if family.harm_now(np.zeros((gates, 1))) is None:
        return nowhere, nowhere

    def harm_now(margins: Floats) -> Floats:
        log_e = family.harm_now(margins)
        return np.full(margins.shape, -np.inf) if log_e is None else log_e

    rising = family.more_is_better
    by_harm = _first_refuted(harm_now, family.domain, gates, critical.harm, from_below=rising)
    by_proof = _first_refuted(family.proof, family.domain, gates, critical.proof, from_below=not rising)
    return (by_proof, by_harm) if rising else (by_harm, by_proof)


def _first_refuted(
    log_e: Callable[[Floats], Floats], domain: tuple[float, float], gates: int, level: float, *, from_below: bool
) -> Floats:
    """Return the lowest refuted value of those that are refuted above it, (J,), or the highest of those below.

    Evidence grows with the distance from the estimate, so the refuted values are one end of the domain; where none of
    it is refuted, that end itself is returned.
    """
    inner, outer = np.full(gates, domain[0]), np.full(gates, domain[1])
    if not from_below:
        inner, outer = outer, inner
    steps = np.linspace(0.0, 1.0, _POINTS)
    for _ in range(_ROUNDS):
        values = inner[:, None] + (outer - inner)[:, None] * steps
        refuted = log_e(values) >= level
        first = np.where(refuted.any(axis=-1), refuted.argmax(axis=-1), _POINTS - 1)
        rows = np.arange(gates)
        inner, outer = values[rows, np.maximum(first - 1, 0)], values[rows, first]
    return outer


def _more(family: Family, margins: Floats, log_f: Floats, level: float) -> Sequence[int | None]:
    """Return how many more units each gate needs to pass if all goes on as until now, 0 if it passes already.

    None where even the largest multiple of the present evidence would not do: the effect is at the margin or beyond.
    """
    scales = np.array(_SCALES)
    log_e = np.concatenate([log_f[:, None], family.proof(margins, scales)], axis=-1)
    scales = np.concatenate([[1.0], scales])
    found: list[int | None] = []
    for row, n in zip(log_e, family.units(), strict=True):
        at = int(np.argmax(row >= level))
        if not row[at] >= level or not n:
            found.append(None)
            continue
        rest = scales[at] - 1
        if at:  # between two multiples the logarithm grows about linearly
            rest -= (scales[at] - scales[at - 1]) * (row[at] - level) / (row[at] - row[at - 1])
        found.append(int(np.ceil(rest * n)))
    return found
