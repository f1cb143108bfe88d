"""The families of gates: for each metric, which counts it reads, which processes it asks, and how it says so.

The gates of one family are measured together, as the first axis J of all arrays, so that ten slices cost little more
than one. Each family answers the questions of `Family`; `router.analysis.measures` asks them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from router.analysis import gates as ask
from router.analysis.eprocess import (
    CANDIDATE_COLUMN,
    STABLE_COLUMN,
    Floats,
    Ratio,
    Side,
    log_e_paired,
    log_mean_exp,
    mixed,
    mixed_from_each_start,
    z_ratio,
)
from router.analysis.gates import Arm, Paired
from router.analysis.quantiles import quantile_interval, quantile_of
from router.analysis.reading import Gates, Reading
from router.core.levels import QUANTILES, thresholds_of
from router.core.observations import LATENCY_BUCKETS, latency_edge_ms
from router.core.rollout import GateSpec
from router.core.traffic import Role

Counts = tuple[tuple[str, int], ...]
ONCE = np.ones(1)
NUISANCE_STEPS = np.linspace(0.0, 1.0, 101)
NUISANCE_STEPS.setflags(write=False)
"""Cells of 0.01 for the unknown level of precision and f1: half the time of 0.005, and as valid (statistics.md 2.4)."""

TIGHTEST_AT = 2_000
"""Requests of one variant at which intervals of latency are tightest. Chosen: some minutes into a step."""

NOW, OLDEST = 0, -1
"""Cuts: what a person sees is of now; promotion waits until all has ended that could."""

EVERYTHING = 1.0
NO_REQUEST_YET = "the candidate has served no request in this exposure"
NO_COPY_YET = "no copied request has ended in this exposure"


class Family(Protocol):
    """Gates of one metric. J gates; margins are (J, P), scales (P,) multiply the counts of the present exposure."""

    unit: str
    """What `units` counts, in the plural."""

    domain: tuple[float, float]
    """The values that the estimate can have."""

    more_is_better: bool
    """Whether the gate is a floor: harm is then an estimate that is too low."""

    def harm(self) -> Floats:
        """Return log e of harm by cut and start point, (J, C, S)."""

    def harm_now(self, margins: Floats) -> Floats | None:
        """Return log e of harm beyond other margins in the present exposure alone, (J, P); None if it has none."""

    def proof(self, margins: Floats, scales: Floats = ONCE) -> Floats:
        """Return log e of proof against other margins, or with that many times the counts, (J, P)."""

    def estimates(self) -> Floats:
        """Return the present estimate of what the gate limits, (J,); nan where there is none."""

    def units(self) -> Floats:
        """Return how many requests, pairs or labels the present exposure holds, (J,)."""

    def facts(self, j: int) -> str:
        """Return the first half of the sentence about gate j."""

    def counts(self, j: int) -> Counts:
        """Return the numbers behind gate j."""

    def unmeasured(self, j: int) -> str | None:
        """Return why nothing can be said of gate j in the present exposure, or None."""


def margins_of(gates: Gates) -> Floats:
    """Return what promotion demands of each gate, (J,): a margin, or the floor itself."""
    return np.array([gate.margin if gate.minimum is None else gate.minimum for gate in gates])


def tolerances_of(gates: Gates) -> Floats:
    """Return up to where each gate never rolls back, (J,): the rollback margin, or the floor itself."""
    return np.array([gate.rollback_margin if gate.minimum is None else gate.minimum for gate in gates])


class ErrorIncrease:
    """`error_rate` with `max_increase`: failures of the candidate's requests against those of stable's.

    Where the candidate serves nobody, copied requests say it.
    """

    domain = (-1.0, 1.0)
    more_is_better = False

    def __init__(self, reading: Reading, gates: Gates) -> None:
        self._reading, self._gates = reading, gates
        self._stable, self._candidate = (reading.outcomes(gates, role) for role in Role)
        self._copies = reading.copied_failures(gates)
        self._share = reading.share
        self._a, self._b = (_present_arm(arm, reading) for arm in (self._stable, self._candidate))
        self._seen_a, self._seen_b = (_present_arm(arm, reading, NOW) for arm in (self._stable, self._candidate))
        self._pairs = Paired(
            _present_pairs(self._copies.for_harm, reading), _present_pairs(self._copies.for_proof, reading),
            _present_pairs(self._copies.seen, reading, NOW),
        )  # fmt: skip
        self._shadow = float(self._share[-1]) == 0.0
        self.unit = "copied requests" if self._shadow else "requests"

    def harm(self) -> Floats:
        """See Family. Without any margin, by which arm failures come from: each key's first one."""
        tolerance = _along(tolerances_of(self._gates), self._stable.events[..., 0])
        by_start = _by_start(
            ask.difference_harm(self._stable, self._candidate, self._share, tolerance, self._copies), self._reading
        )
        strict = [j for j, gate in enumerate(self._gates) if not gate.margin]
        if strict:
            gates = [self._gates[j] for j in strict]
            first_a, first_b = (self._reading.first_failures(gates, role) for role in Role)
            served = _by_start(ask.ratio_harm(first_a, first_b, self._share), self._reading)
            # Two processes over different requests: given the past of both each is fair, so their product is.
            copied = _by_start(ask.copies_harm(self._copies, self._share, np.zeros((1, 1))), self._reading)
            by_start[strict] = served + copied[strict]
        return by_start

    def harm_now(self, margins: Floats) -> Floats:
        """See Family."""
        return mixed(ask.difference_harm(self._a, self._b, self._share[-1:], margins, self._pairs))

    def proof(self, margins: Floats, scales: Floats = ONCE) -> Floats:
        """See Family."""
        pairs = replace(self._pairs, for_proof=_grown(self._pairs.for_proof, scales))
        a, b = _grown_arm(self._a, scales), _grown_arm(self._b, scales)
        return ask.difference_proof(a, b, float(self._share[-1]), margins, pairs)

    def estimates(self) -> Floats:
        """See Family."""
        if self._shadow:
            pairs = self._pairs.seen[:, 0, 0]
            return _ratio(pairs[:, 2] - pairs[:, 0], pairs.sum(axis=-1))
        return _rate(self._seen_b) - _rate(self._seen_a)

    def units(self) -> Floats:
        """See Family."""
        counted = self._pairs.for_proof[:, 0].sum(axis=-1) if self._shadow else (self._a.all + self._b.all)[:, 0]
        return counted[:, 0]

    def facts(self, j: int) -> str:
        """See Family."""
        if self._shadow:
            stable, alike, candidate = self._pairs.seen[j, 0, 0]
            failed = f"the candidate alone failed {candidate:,.0f}, stable alone {stable:,.0f}"
            return f"of {stable + alike + candidate:,.0f} copied requests {failed}"
        a, b = self._seen_a, self._seen_b
        return f"candidate fails {_of(b, j)} against {_of(a, j)} (n = {_n(b, j):,} / {_n(a, j):,})"

    def counts(self, j: int) -> Counts:
        """See Family."""
        if self._shadow:
            stable, alike, candidate = self._pairs.seen[j, 0, 0]
            return (
                ("copies", int(stable + alike + candidate)), ("only_stable_failed", int(stable)),
                ("only_candidate_failed", int(candidate)),
            )  # fmt: skip
        return (*_arm_counts("stable", self._seen_a, j), *_arm_counts("candidate", self._seen_b, j))

    def unmeasured(self, j: int) -> str | None:
        """See Family."""
        if self._shadow:
            return None if self._pairs.seen[j].sum() else NO_COPY_YET
        return _both_served(self._seen_a, self._seen_b, j, float(self._share[-1]))


class Latency:
    """`latency` with `max_increase`: who exceeds stable's frozen p50, p95 and p99 more often."""

    unit = "requests"
    domain = (-1.0, math.inf)
    more_is_better = False

    def __init__(self, reading: Reading, gates: Gates) -> None:
        self._reading, self._gates = reading, gates
        self._share = reading.share
        self._limits = [thresholds_of(gates, exposure) for exposure in reading.exposures]
        slow = reading.slow(gates, self._limits)
        a, b = slow[Role.STABLE], slow[Role.CANDIDATE]
        self._harm = list(zip(a.for_harm, b.for_harm, strict=True))
        self._proof = [
            (_present_arm(one, reading), _present_arm(other, reading))
            for one, other in zip(a.for_proof, b.for_proof, strict=True)
        ]
        self._seen_a, self._seen_b = (_present_arm(slow[role].for_harm[0], reading, NOW) for role in Role)

    @cached_property
    def _histograms(self) -> Floats:
        """Return the present exposure's answers by latency bucket, (J, role, buckets)."""
        return np.stack([self._reading.histogram(self._gates, role) for role in Role], axis=1)

    @cached_property
    def _ms(self) -> Floats:
        """Return the quantiles of both variants, (J, role, Q); nan where there are none."""
        buckets = quantile_of(self._histograms, np.array(QUANTILES))
        return np.where(buckets < 0, np.nan, _EDGES_MS[np.maximum(buckets, 0)])

    @cached_property
    def _increases(self) -> Floats:
        """Return by how much the candidate's quantiles are above stable's, (J, Q)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self._ms[:, 1] / self._ms[:, 0] - 1)

    @cached_property
    def _worst(self) -> NDArray[np.intp]:
        """Return the quantile with the largest increase, (J, 1)."""
        known = np.where(np.isnan(self._increases).any(axis=-1, keepdims=True), 0.0, self._increases)
        return np.asarray(np.argmax(known, axis=-1)[:, None])

    def harm(self) -> Floats:
        """See Family. The average over the quantiles (statistics.md rule 1: never for promotion)."""
        median, *tails = self._harm
        stable, candidate = (_stacked(arms) for arms in zip(*tails, strict=True))
        of_median = _by_start(ask.slow_harm(*median, self._share, QUANTILES[0]), self._reading)
        of_tails = _by_start(ask.slow_harm(stable, candidate, self._share, QUANTILES[1]), self._reading)
        return log_mean_exp(np.stack([of_median, *of_tails], axis=-1))

    def harm_now(self, margins: Floats) -> None:  # noqa: ARG002 - thresholds are frozen with their margins
        """See Family: bounds come from `bounds`."""
        return

    def proof(self, margins: Floats, scales: Floats = ONCE) -> Floats:  # noqa: ARG002 - see harm_now
        """See Family. The minimum over the quantiles: a tail that is worse must not hide behind a good median."""
        by_quantile = [
            ask.slow_proof(_grown_arm(stable, scales), _grown_arm(candidate, scales), float(self._share[-1]), quantile)
            for quantile, (stable, candidate) in zip(QUANTILES, self._proof, strict=True)
        ]
        return np.asarray(np.min(by_quantile, axis=0))

    def bounds(self, alpha: float) -> tuple[Floats, Floats]:
        """Return between which values the increase lies, (J,) each: both variants' quantile intervals together."""
        ends = quantile_interval(self._histograms, _EDGES_MS, np.array(QUANTILES), alpha / 2, TIGHTEST_AT)
        at = self._worst[..., None]
        low, high = (np.take_along_axis(end.transpose(0, 2, 1), at, axis=1)[:, 0] for end in ends)
        with np.errstate(invalid="ignore", divide="ignore"):
            return low[:, 1] / high[:, 0] - 1, high[:, 1] / low[:, 0] - 1

    def estimates(self) -> Floats:
        """See Family: the largest increase of the three."""
        return np.take_along_axis(self._increases, self._worst, axis=-1)[:, 0]

    def units(self) -> Floats:
        """See Family."""
        a, b = self._proof[0]
        return (a.all + b.all)[:, 0, 0]

    def facts(self, j: int) -> str:
        """See Family."""
        stable, candidate = self._ms[j]
        shown = [
            f"p{100 * quantile:g} {candidate[q]:.3g} ms against {stable[q]:.3g} ms"
            for q, quantile in enumerate(QUANTILES)
        ]
        n_a, n_b = _n(self._seen_a, j), _n(self._seen_b, j)
        return f"candidate answers with {', '.join(shown)} (n = {n_b:,} / {n_a:,})"

    def counts(self, j: int) -> Counts:
        """See Family: what is slow is beyond the thresholds of promotion."""
        found: list[tuple[str, int]] = []
        for quantile, (a, b) in zip(QUANTILES, self._proof, strict=True):
            for role, arm in zip(Role, (a, b), strict=True):
                found.append((f"{role}_slower_than_p{100 * quantile:g}", int(arm.events[j, 0, 0])))
        return (("stable_requests", _n(self._seen_a, j)), ("candidate_requests", _n(self._seen_b, j)), *found)

    def unmeasured(self, j: int) -> str | None:
        """See Family."""
        share = float(self._share[-1])
        if share == 0:
            return "copies do not run under the load of live requests"
        if not self._limits[-1][j]:
            return "stable's quantiles were not known when this exposure opened"
        return _both_served(self._seen_a, self._seen_b, j, share)


class Limit:
    """A rate of one stream below a `max`: `error_rate` of the candidate, or `disagreement` of pairs."""

    domain = (0.0, 1.0)
    more_is_better = False

    def __init__(self, reading: Reading, gates: Gates) -> None:
        self._reading, self._gates = reading, gates
        self._errors = gates[0].metric == "error_rate"
        shadow = float(reading.share[-1]) == 0.0
        if self._errors:
            served, copied = reading.outcomes(gates, Role.CANDIDATE, absolute=True), reading.copies(gates)
            self._arm = _where(reading.share == 0, copied, served)
        else:
            self._arm = reading.disagreements(gates)
        self._now = _present_arm(self._arm, reading)
        self._seen = _present_arm(self._arm, reading, NOW)
        self.unit = "pairs" if not self._errors else "copied requests" if shadow else "requests"

    def harm(self) -> Floats:
        """See Family."""
        limits = _along(tolerances_of(self._gates), self._arm.events[..., 0])
        return _by_start(ask.rate_harm(self._arm, limits), self._reading)

    def harm_now(self, margins: Floats) -> Floats:
        """See Family."""
        return mixed(ask.rate_harm(self._now, margins))

    def proof(self, margins: Floats, scales: Floats = ONCE) -> Floats:
        """See Family."""
        return ask.rate_proof(_grown_arm(self._now, scales), margins)

    def estimates(self) -> Floats:
        """See Family."""
        return _rate(self._seen)

    def units(self) -> Floats:
        """See Family."""
        return self._now.all[:, 0, 0]

    def facts(self, j: int) -> str:
        """See Family."""
        if self._errors:
            return f"candidate fails {_of(self._seen, j)} (n = {_n(self._seen, j):,})"
        return f"{_of(self._seen, j)} of {_known(self._seen, j):,} pairs disagree"

    def counts(self, j: int) -> Counts:
        """See Family."""
        return _arm_counts("candidate" if self._errors else "pairs", self._seen, j)

    def unmeasured(self, j: int) -> str | None:
        """See Family."""
        if _known(self._seen, j):
            return None
        if not self._errors:
            return "no pair in this exposure"
        return NO_REQUEST_YET if self.unit == "requests" else NO_COPY_YET


class RightAnswers:
    """`accuracy` of labelled pairs, or `recall` of one class: against stable (`max_decrease`) or a floor (`min`)."""

    unit = "labelled pairs"

    def __init__(self, reading: Reading, gates: Gates) -> None:
        self._reading, self._gates = reading, gates
        self.more_is_better = gates[0].minimum is not None
        self._labels = reading.right_answers(gates)
        self._present = _present_of(self._labels, reading)
        self._seen = self._present.seen[:, 0, 0]
        # Of (both wrong, only the candidate right, only stable right, both right): what the gate limits.
        self._values = np.array([0.0, 1.0, 0.0, 1.0] if self.more_is_better else [0.0, -1.0, 1.0, 0.0])
        self.domain = (0.0, 1.0) if self.more_is_better else (-1.0, 1.0)

    def harm(self) -> Floats:
        """See Family."""
        cells = self._labels.for_harm
        allowed = _along(self._signed(tolerances_of(self._gates)), cells[..., 0, 0])
        return _by_start(ask.mean_harm(self._signed(self._values), cells, allowed), self._reading)

    def harm_now(self, margins: Floats) -> Floats:
        """See Family."""
        return mixed(ask.mean_harm(self._signed(self._values), self._present.for_harm, self._signed(margins)))

    def proof(self, margins: Floats, scales: Floats = ONCE) -> Floats:
        """See Family."""
        now = _grown(self._present.for_proof, scales)[..., 0, :]
        return ask.mean_proof(self._signed(self._values), now, self._signed(margins))

    def _signed(self, values: Floats) -> Floats:
        """Turn losses into gains, of which `gates.mean_harm` asks for at least so much."""
        return values if self.more_is_better else -values

    def estimates(self) -> Floats:
        """See Family: the decrease, or the candidate's own score."""
        return _ratio(self._seen @ self._values, self._seen.sum(axis=-1))

    def units(self) -> Floats:
        """See Family."""
        return np.asarray(self._seen.sum(axis=-1))

    def facts(self, j: int) -> str:
        """See Family."""
        cells, n = self._seen[j], self.units()[j]
        a, b = _percent(cells[2] + cells[3], n), _percent(cells[1] + cells[3], n)
        of = f" of class {self._gates[j].label}" if self._gates[j].label else ""
        return f"candidate is right in {b} of {n:,.0f} labelled pairs{of}, stable in {a}"

    def counts(self, j: int) -> Counts:
        """See Family."""
        names = ("both_wrong", "only_candidate_right", "only_stable_right", "both_right")
        unsaid = self._present.for_harm[j].sum() - self._seen[j].sum()
        return (
            *((name, int(value)) for name, value in zip(names, self._seen[j], strict=True)),
            ("no_prediction", int(unsaid)),
        )

    def unmeasured(self, j: int) -> str | None:
        """See Family."""
        return None if self.units()[j] else "no label has come back for a pair of this exposure"


class _Ratios:
    """What `precision` and `f1` of one class share."""

    unit = "labelled pairs"

    def __init__(self, reading: Reading, gates: Gates) -> None:
        self._reading, self._gates = reading, gates
        self._labels = reading.joint_cells(gates)
        self._present = _present_of(self._labels, reading)
        self._seen = self._present.seen[:, 0, 0]
        self._scores = np.array([[_score(gate, cells, column) for column in (STABLE_COLUMN, CANDIDATE_COLUMN)]
                                 for gate, cells in zip(gates, self._seen, strict=True)])  # fmt: skip

    def units(self) -> Floats:
        """See Family."""
        return np.asarray(self._seen.sum(axis=-1))

    def facts(self, j: int) -> str:
        """See Family."""
        stable, candidate = self._scores[j]
        gate = self._gates[j]
        return (
            f"candidate's {gate.metric} of class {gate.label} is {100 * candidate:.1f} %, stable's {100 * stable:.1f} %"
            f" (n = {self.units()[j]:,.0f} labels)"
        )

    def counts(self, j: int) -> Counts:
        """See Family."""
        return tuple((f"truth_stable_candidate_{code:03b}", int(n)) for code, n in enumerate(self._seen[j]))

    def unmeasured(self, j: int) -> str | None:
        """See Family."""
        return None if self.units()[j] else "no label has come back for a pair of this exposure"


class RatioFloors(_Ratios):
    """`precision` or `f1` of the candidate above a `min`."""

    domain = (0.0, 1.0)
    more_is_better = True

    def harm(self) -> Floats:
        """See Family."""
        z = self._z(margins_of(self._gates)[:, None])
        cells = self._labels.for_harm
        z = z.reshape(len(z), *([1] * (cells.ndim - 3)), z.shape[-1])
        return _by_start(ask.mean_harm(z, cells, np.zeros(cells.shape[:-2])), self._reading)

    def harm_now(self, margins: Floats) -> Floats:
        """See Family."""
        return mixed(ask.mean_harm(self._z(margins), self._present.for_harm, np.zeros(margins.shape)))

    def proof(self, margins: Floats, scales: Floats = ONCE) -> Floats:
        """See Family."""
        return ask.mean_proof(self._z(margins), _grown(self._present.for_proof, scales)[..., 0, :], np.zeros(()))

    def _z(self, at: Floats) -> Floats:
        """Return z (J, P, 8) of each gate at the values `at` (J, P)."""
        return np.stack([z_ratio(RATIOS[g.metric], CANDIDATE_COLUMN, at[j]) for j, g in enumerate(self._gates)])

    def estimates(self) -> Floats:
        """See Family."""
        return self._scores[:, 1]


class RatioDecrease(_Ratios):
    """`precision` or `f1` against stable's: advisory, since it assumes rows that do not drift."""

    domain = (-1.0, 1.0)
    more_is_better = False

    def harm(self) -> Floats:
        """See Family."""
        since = _since_each_start(self._labels.for_harm, self._reading)
        return self._of_alike(since, [gate.rollback_margin for gate in self._gates], "le")

    def harm_now(self, margins: Floats) -> None:  # noqa: ARG002 - 2 ms for each margin are too much for bounds
        """See Family."""
        return

    def proof(self, margins: Floats, scales: Floats = ONCE) -> Floats:  # noqa: ARG002 - see harm_now
        """See Family."""
        now = _grown(self._present.for_proof, scales)[..., 0, :]
        return self._of_alike(now, [gate.margin for gate in self._gates], "ge")

    def _of_alike(self, cells: Floats, margins: Sequence[float], side: Side) -> Floats:
        """Return log e of cells (J, ..., 8): one call for all gates with the same question, which shares its tables."""
        log_e = np.zeros(cells.shape[:-1])
        asked = [(gate.metric, margin) for gate, margin in zip(self._gates, margins, strict=True)]
        for metric, margin in set(asked):
            alike = [j for j, one in enumerate(asked) if one == (metric, margin)]
            log_e[alike] = log_e_paired(RATIOS[metric], cells[alike], margin, side, NUISANCE_STEPS)
        return log_e

    def estimates(self) -> Floats:
        """See Family."""
        return np.asarray(self._scores[:, 0] - self._scores[:, 1])


RATIOS: Mapping[str, Ratio] = {"precision": "precision", "f1": "f1"}

Builder = (
    type[ErrorIncrease] | type[Latency] | type[Limit] | type[RightAnswers] | type[RatioFloors] | type[RatioDecrease]
)


def family_of(gate: GateSpec) -> Builder:
    """Return which family measures a gate. Settings refuse limits that a metric does not take."""
    match gate.metric:
        case "error_rate":
            return Limit if gate.max_increase is None else ErrorIncrease
        case "latency":
            return Latency
        case "disagreement":
            return Limit
        case "precision" | "f1":
            return RatioFloors if gate.max_increase is None else RatioDecrease
        case _:
            return RightAnswers


# -- Shapes ------------------------------------------------------------------------------------------------------------


def _by_start(wealth: Floats, reading: Reading) -> Floats:
    """Return log e (J, C, S): wealth is (J, C, K, G), or (J, C, S, K, G) where the unit is the key."""
    return mixed(wealth) if reading.keyed else mixed_from_each_start(wealth)


def _since_each_start(cells: Floats, reading: Reading) -> Floats:
    """Return the sum over exposures since each start: (J, C, K, V) or (J, C, S, K, V) to (J, C, S, V)."""
    if reading.keyed:
        return np.asarray(cells.sum(axis=-2))
    return np.asarray(np.flip(np.cumsum(np.flip(cells, axis=-2), axis=-2), axis=-2))


def _present_arm(arm: Arm, reading: Reading, cut: int = OLDEST) -> Arm:
    """Return the present exposure at one cut, (J, 1, 1): axes for margins and exposures."""
    return Arm(*(_present(part, reading, cut)[:, None, None] for part in (arm.events, arm.rest, arm.unknown)))


def _present_pairs(cells: Floats, reading: Reading, cut: int = OLDEST) -> Floats:
    """Return the present exposure's (J, 1, 1, V)."""
    return _present(cells, reading, cut)[:, None, None]


def _present_of(labels: Paired, reading: Reading) -> Paired:
    """Return all three of the present exposure, (J, 1, 1, V)."""
    return Paired(*(_present_pairs(cells, reading) for cells in (labels.for_harm, labels.for_proof, labels.seen)))


def _present(table: Floats, reading: Reading, cut: int) -> Floats:
    """Return (J, ...) of (J, C, [S,] K, ...): one cut, keys since the present exposure, that exposure."""
    return np.asarray(table[:, cut, -1, -1] if reading.keyed else table[:, cut, -1])


def _grown(pairs: Floats, scales: Floats) -> Floats:
    return pairs * scales[:, None, None]


def _grown_arm(arm: Arm, scales: Floats) -> Arm:
    return Arm(arm.events * scales[:, None], arm.rest * scales[:, None], arm.unknown * scales[:, None])


def _along(values: Floats, like: Floats) -> Floats:
    """Return (J,) shaped to broadcast over (J, C) or (J, C, S)."""
    return values.reshape(-1, *([1] * (like.ndim - 1)))


def _stacked(arms: Sequence[Arm]) -> Arm:
    """Return arms of one shape along a new first axis."""
    return Arm(*(np.stack(parts) for parts in zip(*((arm.events, arm.rest, arm.unknown) for arm in arms), strict=True)))


def _where(condition: NDArray[np.bool_], one: Arm, other: Arm) -> Arm:
    return Arm(
        np.where(condition, one.events, other.events),
        np.where(condition, one.rest, other.rest),
        np.where(condition, one.unknown, other.unknown),
    )


_EDGES_MS = np.array([latency_edge_ms(bucket) for bucket in range(LATENCY_BUCKETS + 1)])
_EDGES_MS.setflags(write=False)


# -- Words -------------------------------------------------------------------------------------------------------------


def _ratio(part: Floats, whole: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(whole > 0, part / whole, np.nan))


def _rate(arm: Arm) -> Floats:
    """Return the rate of events among those requests whose end is known, (J,)."""
    return _ratio(arm.events[:, 0, 0], (arm.events + arm.rest)[:, 0, 0])


def _score(gate: GateSpec, cells: Floats, column: int) -> float:
    """Return precision or F1 of one model: `z_ratio` is 0 on average exactly there."""
    at_none = float(cells @ z_ratio(RATIOS[gate.metric], column, 0.0))  # weight x TP
    at_all = float(cells @ z_ratio(RATIOS[gate.metric], column, 1.0))  # minus the errors
    return at_none / (at_none - at_all) if at_none > at_all else math.nan


def _n(arm: Arm, j: int) -> int:
    return int(arm.all[j, 0, 0])


def _known(arm: Arm, j: int) -> int:
    return int((arm.events + arm.rest)[j, 0, 0])


def _of(arm: Arm, j: int) -> str:
    return _percent(arm.events[j, 0, 0], _known(arm, j))


def _percent(part: float, whole: float) -> str:
    return f"{part / whole:.2%}".replace("%", " %") if whole else "nothing"


def _arm_counts(name: str, arm: Arm, j: int) -> Counts:
    return (
        (f"{name}_requests" if name != "pairs" else "pairs", _n(arm, j)),
        (f"{name}_events", int(arm.events[j, 0, 0])),
        (f"{name}_unknown", int(arm.unknown[j, 0, 0])),
    )


def _both_served(stable: Arm, candidate: Arm, j: int, share: float) -> str | None:
    if share >= EVERYTHING:
        return "the candidate serves every request, so there is nothing to compare it with"
    if not _n(candidate, j):
        return NO_REQUEST_YET
    return None if _n(stable, j) else "stable has served no request in this exposure"
