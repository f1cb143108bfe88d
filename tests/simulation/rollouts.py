"""Whole rollouts, thousands at once: traffic, a look of the judge each second, and the steps that follow from it.

A step is left as the product leaves it (`core.decisions.waits_for`): after its bake, with enough answers of the
candidate, and little evidence of harm. The last one ends in a promotion when every gate is proved.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from router.analysis.eprocess import Floats
from router.analysis.judge import ADVANCE_BELOW
from router.core.levels import QUANTILES
from router.core.observations import CUTS
from tests.simulation.looks import ROUNDING, Gates, Screen, edges_of, error_proof, harm, latency_proofs, log_level
from tests.simulation.traffic import (
    BLOCK_S,
    COLUMNS,
    OF_CANDIDATE,
    REQUESTS_PER_S,
    STARTED,
    TIMEOUT_S,
    TIMINGS,
    Counts,
    Flags,
    Ints,
    Pace,
    Traffic,
    World,
    rows_of,
)

CUT_S = (0, 1, 5, TIMEOUT_S)
assert len(CUT_S) == len(CUTS)


class End(IntEnum):
    """How a simulated rollout ended; HELD is: not yet."""

    HELD = 0
    PROMOTED = 1
    ROLLED_BACK = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """How rollouts are driven and judged. `promotes=False` looks on until the horizon instead of promoting."""

    weights: tuple[float, ...] = (0.01, 0.05, 0.25, 0.5)
    pace: Pace = "instant"
    keyed: bool = False
    horizon_s: int = 900
    promotes: bool = True
    harm_at: float = log_level(0.05)
    proof_at: float = log_level(0.05)
    gates: Gates = field(default_factory=Gates)
    bake_s: int = 60
    least_requests: int = 200


@dataclass(frozen=True, slots=True)
class Ends:
    """How each rollout ended (R,), and after how many seconds; the horizon where it is held."""

    end: Ints
    seconds: Ints
    step: Ints
    since_s: Ints
    """When the step began in which it ended."""

    def share(self, end: End) -> float:
        """Return the share of rollouts that ended so."""
        return float((self.end == end).mean())

    def median_s(self, end: End) -> float:
        """Return the median time of those that ended so, nan if none did."""
        found = self.seconds[self.end == end]
        return float(np.median(found)) if len(found) else float("nan")

    def __getitem__(self, rows: slice) -> "Ends":
        return Ends(self.end[rows], self.seconds[rows], self.step[rows], self.since_s[rows])

    @classmethod
    def joined(cls, parts: Iterable["Ends"]) -> "Ends":
        """Return all rollouts of several simulations."""
        found = list(parts)
        return cls(*(np.concatenate([getattr(one, name) for one in found]) for name in cls.__slots__))


def simulate(worlds: Sequence[tuple[World, int]], plan: Plan, rng: np.random.Generator) -> Ends:
    """Return how so many rollouts of each world end, one world after the other."""
    return Rollouts(worlds, plan, rng).run()


class Rollouts:
    """R rollouts under way. `counts` is (C, R, S, K, COLUMNS), of those that have not ended."""

    def __init__(self, worlds: Sequence[tuple[World, int]], plan: Plan, rng: np.random.Generator) -> None:
        assert plan.keyed == (worlds[0][0].unit == "sticky")
        self.plan, self.share = plan, np.array(plan.weights)
        timing = TIMINGS[plan.pace]
        rows = rows_of(worlds, self.share, plan.horizon_s, rng)
        self.traffic = Traffic(rows, timing, self.share, plan.horizon_s, rng)
        many, steps = len(rows.shape), len(plan.weights)
        starts = steps if plan.keyed else 1
        self.counts: Counts = np.zeros((len(CUT_S), many, starts, steps, COLUMNS), dtype=np.float32)
        self.step, self.since_s = np.zeros(many, dtype=np.int64), np.zeros(many, dtype=np.int64)
        self.stable_edges = np.zeros((steps, many, len(QUANTILES)), dtype=np.int64)
        self.candidate_edges = np.zeros((steps, many, 2 * len(QUANTILES)), dtype=np.int64)
        self._answers = np.zeros(many)
        self._delays_s = timing.delays_s
        # By second of arrival: what its requests come to, of all delays up to each.
        self._ring = np.zeros((TIMEOUT_S + 1, many, starts, len(self._delays_s), COLUMNS), dtype=np.int16)
        self._step_at = np.zeros((TIMEOUT_S + 1, many), dtype=np.int64)
        self._screen = Screen(self.share, plan.gates)
        self._rng = rng
        # Where nothing is in flight an older cut says what the newest said before.
        self._cuts = slice(0, 1) if self._delays_s == (0,) else slice(None)
        self._ids = np.arange(many)
        ends = np.zeros((4, many), dtype=np.int64)
        ends[1] = plan.horizon_s
        self._ends = Ends(*ends)
        self._freeze(np.arange(many), 0)

    def run(self) -> Ends:
        """Go on until the horizon."""
        for t_s in range(self.plan.horizon_s):
            if not len(self._ids):
                break
            self.second(t_s)
        self._ends.step[self._ids], self._ends.since_s[self._ids] = self.step, self.since_s
        return self._ends

    def second(self, t_s: int) -> None:
        """Live through one second of traffic, then look, decide and move."""
        self.count(t_s)
        self._decide(t_s + 1)

    # -- counting ----------------------------------------------------------------------------------------------------

    def count(self, t_s: int) -> None:
        """Count the requests that arrive in one second, and the outcomes that become known."""
        if t_s % BLOCK_S == 0:
            self._relevel(t_s)
        slot = t_s % len(self._ring)
        came = self.traffic.second(t_s, self.step)
        self._ring[slot][:, : came.shape[1]] = np.cumsum(came, axis=2)
        self._step_at[slot] = self.step
        for d, delay_s in enumerate(self._delays_s):
            # A cut younger than the delay has seen the arrival already, and sees the outcome now.
            younger = sum(cut_s < delay_s for cut_s in CUT_S)
            if younger and t_s >= delay_s:
                self._add(slice(0, younger), t_s - delay_s, d - 1, d)
        for c, cut_s in enumerate(CUT_S):
            known = sum(delay_s <= cut_s for delay_s in self._delays_s)
            if t_s >= cut_s:
                self._add(slice(c, c + 1), t_s - cut_s, -1, known - 1)
        self._answers += self._requests_answered(t_s)

    def _add(self, cuts: slice, arrived_s: int, after: int, until: int) -> None:
        """Count, at some cuts, what arrived in one second and ends with delays after one and until another."""
        slot = arrived_s % len(self._ring)
        step = self._step_at[slot]
        starts = slice(0, int(step.max()) + 1)
        came = self._ring[slot][:, starts, until]
        if after >= 0:
            came = came - self._ring[slot][:, starts, after]
        self.counts[cuts, np.arange(len(self._ids)), starts, step] += came[:, None]

    def _requests_answered(self, t_s: int) -> Floats:
        """Return how many requests of this second the candidate answers; with keys, most are not those counted."""
        if self.plan.keyed:
            return self._rng.poisson(REQUESTS_PER_S * self.share[self.step]).astype(np.float64)
        return np.asarray(self._ring[t_s % len(self._ring)][:, 0, -1, OF_CANDIDATE.start + STARTED], dtype=np.float64)

    # -- deciding ----------------------------------------------------------------------------------------------------

    def _decide(self, now_s: int) -> None:
        exposures = int(self.step.max()) + 1
        bound = self._screen.bound(self._seen(slice(None), self._cuts, exposures))
        level = np.exp(self.plan.harm_at) * (1 - ROUNDING)
        rows = np.flatnonzero((bound >= level).any(axis=-1))
        falls = rows[self.harm(rows, exposures) >= self.plan.harm_at]
        ended = np.zeros(len(self._ids), dtype=np.int64)
        ended[falls] = End.ROLLED_BACK
        baked = (now_s - self.since_s >= self.plan.bake_s) & (self._answers >= self.plan.least_requests)
        last = self.step == len(self.plan.weights) - 1
        ready = np.flatnonzero(baked & (ended == End.HELD) & ~last)
        if self.plan.promotes:
            proved = self._proved(np.flatnonzero(baked & (ended == End.HELD) & last))
            ended[self._unharmed(proved, exposures)] = End.PROMOTED
        self._advance(self._unharmed(ready, exposures), now_s)
        self._finish(ended, now_s)

    def _seen(self, rows: Ints | slice, cuts: slice, exposures: int) -> Counts:
        """Return counts (n, C, S, K, COLUMNS) of the exposures so far."""
        return np.moveaxis(self.counts[cuts, rows, :exposures, :exposures], 0, 1)

    def harm(self, rows: Ints, exposures: int) -> Floats:
        """Return log e of harm, at all cuts."""
        counts = self._seen(rows, slice(None), exposures).astype(np.float64)
        return harm(counts, self.share[:exposures], self.plan.gates, keyed=self.plan.keyed)

    def _unharmed(self, rows: Ints, exposures: int) -> Ints:
        return rows[self.harm(rows, exposures) < np.log(ADVANCE_BELOW)] if len(rows) else rows

    def _proved(self, rows: Ints) -> Ints:
        """Return those of some rows in the last step of which every gate is proved."""
        for proof in (self.error_proof, self.latency_proof):
            rows = rows[proof(rows) >= self.plan.proof_at] if len(rows) else rows
        return rows

    def error_proof(self, rows: Ints) -> Floats:
        """Return log e of proof of the last step."""
        return error_proof(self._present(rows), float(self.share[-1]), self.plan.gates)

    def latency_proof(self, rows: Ints) -> Floats:
        """Return log e of proof of the last step: the smallest of the quantiles."""
        return np.asarray(latency_proofs(self._present(rows), float(self.share[-1])).min(axis=-1))

    def _present(self, rows: Ints) -> Floats:
        """Return what the last exposure alone says, at the oldest cut; with keys, of each key in it."""
        return np.asarray(self.counts[-1, rows, -1, -1], dtype=np.float64)

    # -- moving ------------------------------------------------------------------------------------------------------

    def _advance(self, rows: Ints, now_s: int) -> None:
        if not len(rows):
            return
        self.step[rows] += 1
        self._freeze(rows, now_s)
        self.since_s[rows], self._answers[rows] = now_s, 0
        self._relevel(now_s)

    def _freeze(self, rows: Ints, now_s: int) -> None:
        """Freeze the thresholds of an exposure that opens, from what stable did in the one before."""
        step = self.step[rows]
        weight = self.share[np.maximum(step - 1, 0)] if now_s else np.zeros(len(rows))
        quantiles = self.traffic.stable_quantiles(rows, self.since_s[rows], now_s, weight, np.array(QUANTILES))
        edges = edges_of(self.plan.gates.latency, quantiles)
        self.stable_edges[step, rows], self.candidate_edges[step, rows] = edges

    def _relevel(self, t_s: int) -> None:
        """Compute the chances of the levels again, in the block of seconds that t_s is in."""
        rows = np.arange(len(self._ids))
        stable, candidate = self.stable_edges[self.step, rows], self.candidate_edges[self.step, rows]
        self.traffic.relevel(t_s, self.step, stable, candidate)

    def _finish(self, ended: Ints, now_s: int) -> None:
        """Write down those that ended and go on with the others."""
        if not ended.any():
            return
        over = ended != End.HELD
        ids = self._ids[over]
        self._ends.end[ids], self._ends.seconds[ids] = ended[over], now_s
        self._ends.step[ids], self._ends.since_s[ids] = self.step[over], self.since_s[over]
        self._keep(~over)

    def _keep(self, keep: Flags) -> None:
        self.traffic.keep(keep)
        self._ids, self.step, self.since_s = self._ids[keep], self.step[keep], self.since_s[keep]
        self._answers = self._answers[keep]
        self.counts, self._ring, self._step_at = self.counts[:, keep], self._ring[:, keep], self._step_at[:, keep]
        self.stable_edges, self.candidate_edges = self.stable_edges[:, keep], self.candidate_edges[:, keep]
