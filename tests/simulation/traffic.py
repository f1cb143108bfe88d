"""Traffic at the level of counts: what each of R rollouts sees in one second, without an object for any request.

Axes: rollouts R, kinds of users, the exposure in which a key was last counted J, start points S (one of each of these
three without keys), delays D (`Timing.delays_s`), and COLUMNS, which are what a gateway counts of both variants.
Failure rates and latencies move with the hour, and outages strike, for both variants alike; what the candidate does
beyond that is `World`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from router.analysis.eprocess import Floats
from router.core.observations import LATENCY_BUCKETS, latency_edge_ms

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Counts = NDArray[np.float32]
"""Whole numbers below 2^24: half the memory, and nothing is lost."""
Shape = Literal["constant", "diurnal", "step"]
Unit = Literal["independent", "bursts", "sticky"]
Pace = Literal["instant", "delayed", "fail-fast"]

REQUESTS_PER_S = 100.0
IDLE_REQUESTS = 6_000
"""Stable's answers from which the first thresholds are frozen: a minute of idle traffic."""

BLOCK_S = 10
"""Rates move in steps of this length, so that what follows from them is computed that seldom."""
PERIOD_S = 600
STEP_AT_S = 450
"""The jump of `step` on the clock; each rollout starts at another time of that clock (0..290 s before)."""

STABLE_EDGES, CANDIDATE_EDGES = 3, 6
STARTED, FAILED, LEVELS = 0, 1, 2
OF_STABLE = slice(0, LEVELS + STABLE_EDGES + 1)
OF_CANDIDATE = slice(OF_STABLE.stop, OF_STABLE.stop + LEVELS + CANDIDATE_EDGES + 1)
COLUMNS = OF_CANDIDATE.stop
"""Of stable, then of the candidate: requests started, failures, and ended requests by latency level."""

EDGES_MS = np.array([latency_edge_ms(bucket) for bucket in range(LATENCY_BUCKETS + 1)])


@dataclass(frozen=True, slots=True)
class World:
    """What is true in one rollout. Without the last three fields the candidate is stable's equal.

    The candidate's failure rate is `failures_added` above stable's and its latencies are `slower` times stable's plus
    `later_ms`. The first two are by step of the ramp, their last value holding for all further steps.
    """

    shape: Shape = "constant"
    unit: Unit = "independent"
    failures: float = 0.01
    failures_added: tuple[float, ...] = (0.0,)
    slower: tuple[float, ...] = (1.0,)
    later_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Timing:
    """When outcomes are known. Latency is lognormal; a share of `stragglers` of the answers takes around 20 s instead.

    `delays_s` are the seconds from a request's arrival to its outcome. Those of latencies up to `known_ms` have the
    delay at the same place; only failures that are not answers have further ones.
    """

    median_ms: float
    sigma: float
    stragglers: float
    delays_s: tuple[int, ...]
    known_ms: tuple[float, ...]
    fail_fast: bool = False

    def cdf(self, ms: Floats, drift: Floats) -> Floats:
        """Return the share of latencies up to `ms`, where the logarithm of all of them has moved by `drift`."""
        with np.errstate(divide="ignore"):
            z = np.log(np.maximum(ms, 0.0)) - drift
        main = ndtr((z - np.log(self.median_ms)) / self.sigma)
        if not self.stragglers:
            return np.asarray(main)
        return np.asarray((1 - self.stragglers) * main + self.stragglers * ndtr((z - np.log(20_000.0)) / 0.1))


TIMEOUT_S = 30
TIMINGS: dict[Pace, Timing] = {
    "instant": Timing(50.0, 0.5, 0.0, (0,), (np.inf,)),
    "delayed": Timing(2_000.0, 0.6, 0.02, (0, 1, 2, 3, 5, 20, TIMEOUT_S), (0.0, 1e3, 2e3, 3e3, 5e3, 20e3, np.inf)),
    # The candidate's failures end at once and stable's only by timeout; what fails is the same.
    "fail-fast": Timing(50.0, 0.5, 0.0, (0, TIMEOUT_S), (np.inf,), fail_fast=True),
}

OUTAGE_EVERY_S, OUTAGE_S, OUTAGE_FAILURES = 90, (3, 10), 0.3
"""Bursts: an outage of both variants about every so often, so long, in which that share fails."""

ACTIVITY = np.array([1.0, 0.1, 0.002])
"""Requests per second of one user: heavy, regular, light."""
USERS = np.array([[18, 2], [360, 40], [18_000, 2_000]])
"""Users by activity and kind: together 100 requests per second, a fifth of them from 20 users."""
KIND_FAILURES = np.array([0.5, 6.0])
KIND_SLOWER = np.array([1.0, 2.0])
"""One user of ten fails twelve times as often and waits twice as long, by whom nobody can say."""


@cache
def rate_factors(shape: Shape, until_s: int) -> Floats:
    """Return by what the failure rate is multiplied in each second of the clock."""
    clock = np.arange(until_s) // BLOCK_S * BLOCK_S
    if shape == "diurnal":
        return np.asarray(1 + 0.8 * np.sin(2 * np.pi * clock / PERIOD_S))
    return np.where(clock >= STEP_AT_S, 5.0, 1.0) if shape == "step" else np.ones(until_s)


@cache
def drifts(shape: Shape, until_s: int) -> Floats:
    """Return by how much the logarithm of latencies has moved in each second of the clock."""
    clock = np.arange(until_s) // BLOCK_S * BLOCK_S
    if shape == "diurnal":
        return np.log(1 + 0.3 * np.sin(2 * np.pi * clock / PERIOD_S))
    return np.where(clock >= STEP_AT_S, np.log(1.3), 0.0) if shape == "step" else np.zeros(until_s)


@cache
def _seen(timing: Timing, shape: Shape, until_s: int, *, sticky: bool) -> Floats:
    """Return the sum over seconds before each second of the share of stable's latencies up to each bucket, (T, B)."""
    drift = drifts(shape, until_s)[::BLOCK_S, None]
    if sticky:
        shares = (ACTIVITY @ USERS) / (ACTIVITY @ USERS).sum()
        by_block = sum(
            share * timing.cdf(EDGES_MS / slower, drift) for share, slower in zip(shares, KIND_SLOWER, strict=True)
        )
    else:
        by_block = timing.cdf(EDGES_MS, drift)
    by_second = np.repeat(np.asarray(by_block), BLOCK_S, axis=0)[:until_s]
    return np.concatenate([np.zeros((1, len(EDGES_MS))), np.cumsum(by_second, axis=0)])


@dataclass(slots=True)
class Rows:
    """What is constant in each of R rollouts, and what outages and users do to it."""

    shape: Ints
    start_s: Ints
    failures: Floats
    failures_added: Floats
    slower: Floats
    later_ms: Floats
    outage: Flags
    users: Ints
    """Users not served yet or last counted in exposure j: (R, zones of buckets, activity, kind, 1 + exposures)."""

    def kept(self, keep: Flags) -> Self:
        """Return the rows to keep."""
        return type(self)(**{one.name: getattr(self, one.name)[keep] for one in fields(self)})


SHAPES: tuple[Shape, ...] = ("constant", "diurnal", "step")


def rows_of(worlds: Sequence[tuple[World, int]], weights: Floats, horizon_s: int, rng: np.random.Generator) -> Rows:
    """Return so many rollouts of each world, which serve the candidate with `weights` (K,), one after the other."""
    each = [world for world, runs in worlds for _ in range(runs)]
    many, steps = len(each), len(weights)
    sticky = each[0].unit == "sticky"
    start_s = BLOCK_S * rng.integers(0, PERIOD_S // BLOCK_S, many)
    shape = np.array([SHAPES.index(one.shape) for one in each])
    return Rows(
        shape=shape,
        start_s=np.where(shape == SHAPES.index("step"), start_s // 2, start_s),
        failures=np.array([one.failures for one in each]),
        failures_added=np.array([_by_step(one.failures_added, steps) for one in each]),
        slower=np.array([_by_step(one.slower, steps) for one in each]),
        later_ms=np.array([one.later_ms for one in each]),
        outage=_outages(np.array([one.unit == "bursts" for one in each]), horizon_s, rng),
        users=_users(many, weights, rng) if sticky else np.zeros((many, 0), dtype=np.int64),
    )


def _by_step(values: Sequence[float], steps: int) -> list[float]:
    return [values[min(k, len(values) - 1)] for k in range(steps)]


def _outages(struck: Flags, horizon_s: int, rng: np.random.Generator) -> Flags:
    size = (len(struck), horizon_s)
    begins = (rng.random(size) < 1 / OUTAGE_EVERY_S) & struck[:, None]
    ends = np.where(begins, np.arange(horizon_s) + rng.integers(*OUTAGE_S, size, endpoint=True), 0)
    return np.asarray(np.arange(horizon_s) < np.maximum.accumulate(ends, axis=1))


def _users(many: int, weights: Floats, rng: np.random.Generator) -> Ints:
    zones = np.diff([0.0, *weights, 1.0])
    placed = rng.multinomial(USERS, zones, size=(many, *USERS.shape))  # (R, activity, kind, zones)
    users = np.zeros((many, len(zones), *USERS.shape, len(weights) + 1), dtype=np.int64)
    users[..., 0] = np.moveaxis(placed, -1, 1)
    return users


class Traffic:
    """The requests of R rollouts, second by second, with the candidate's share at each step in `weights` (K,)."""

    def __init__(self, rows: Rows, timing: Timing, weights: Floats, horizon_s: int, rng: np.random.Generator) -> None:
        self.rows, self.timing, self.weights, self._rng = rows, timing, weights, rng
        self._until_s = horizon_s + PERIOD_S
        self.keyed = rows.users.ndim > 2
        self._kind_slower = KIND_SLOWER if self.keyed else np.ones(1)
        self._rate_factors, self._drifts = (
            np.stack([table(shape, self._until_s) for shape in SHAPES]) for table in (rate_factors, drifts)
        )
        self._chances: tuple[Floats, Floats] = (np.zeros(len(rows.shape)), np.zeros(len(rows.shape)))

    def keep(self, keep: Flags) -> None:
        """Go on with some of the rollouts."""
        self.rows = self.rows.kept(keep)
        self._chances = (self._chances[0][keep], self._chances[1][keep])

    # -- latency: thresholds and levels ------------------------------------------------------------------------------

    def stable_quantiles(self, rows: Ints, since_s: Ints, until_s: int, weight: Floats, quantiles: Floats) -> Ints:
        """Return the buckets (n, Q) of stable's quantiles among its answers from `since_s` (n,) until `until_s`.

        Before the rollout (`until_s` is 0) idle traffic is asked, as it was in the clock's first block.
        """
        whole = np.full(len(rows), IDLE_REQUESTS) if until_s == 0 else REQUESTS_PER_S * (until_s - since_s)
        at = self._order_statistics(self._rng.poisson(whole * (1 - weight)), quantiles)
        shape, start_s = self.rows.shape[rows], self.rows.start_s[rows]
        first, last = start_s + since_s, start_s + max(until_s, BLOCK_S)
        found = np.empty(at.shape, dtype=np.int64)
        for number in np.unique(shape):
            here = np.flatnonzero(shape == number)
            seen = _seen(self.timing, SHAPES[number], self._until_s, sticky=self.keyed)
            cdf = (seen[last[here]] - seen[first[here]]) / (last[here] - first[here])[:, None]
            found[here] = (cdf[:, None, :] < at[here][..., None]).sum(axis=-1)
        return found

    def _order_statistics(self, answers: Ints, quantiles: Floats) -> Floats:
        """Return the uniform order statistics at the ranks of the quantiles, (n, Q): each given the one before."""
        n = answers.astype(np.float64)
        at, below, found = np.zeros(len(n)), np.zeros(len(n)), []
        for quantile in quantiles:
            rank = np.maximum(np.ceil(n * quantile), below + 1)
            at = at + (1 - at) * self._rng.beta(rank - below, n + 1 - rank)
            below = rank
            found.append(at)
        return np.stack(found, axis=-1)

    def relevel(self, t_s: int, step: Ints, stable_edges: Ints, candidate_edges: Ints) -> None:
        """Compute the chances of levels and delays anew, for edges (R, 3) and (R, 6) in rising order."""
        drift = self._drifts[self.rows.shape, self.rows.start_s + t_s]
        slower, later_ms = self.rows.slower[np.arange(len(step)), step], self.rows.later_ms
        self._chances = (
            self._chances_of(EDGES_MS[stable_edges], np.ones(len(step)), np.zeros(len(step)), drift),
            self._chances_of(EDGES_MS[candidate_edges], slower, later_ms, drift),
        )

    def _chances_of(self, edges_ms: Floats, slower: Floats, later_ms: Floats, drift: Floats) -> Floats:
        """Return the chances (R, kinds, delays, levels)."""
        ends_ms = np.concatenate([edges_ms, np.full((len(edges_ms), 1), np.inf)], axis=-1)
        corners_ms = np.minimum(ends_ms[:, None, :], np.array(self.timing.known_ms)[:, None])
        as_stable_ms = (corners_ms - later_ms[:, None, None]) / slower[:, None, None]
        by_kind_ms = as_stable_ms[:, None] / self._kind_slower[:, None, None]
        below = self.timing.cdf(by_kind_ms, drift[:, None, None, None])
        return np.maximum(np.diff(np.diff(below, axis=-1, prepend=0.0), axis=-2, prepend=0.0), 0.0)

    # -- one second --------------------------------------------------------------------------------------------------

    def second(self, t_s: int, step: Ints) -> Ints:
        """Return what the requests that arrive in one second come to, (R, S, D, COLUMNS).

        With keys, a start S, of those until now, counts the keys that no exposure since has counted before.
        """
        stable, candidate = self._new_keys(step) if self.keyed else self._requests(step)
        rate, added = self._failure_rates(t_s, step)
        of_stable = self._ends(stable, self._chances[0], rate, slow_failures=True)
        of_candidate = self._ends(
            candidate, self._chances[1], np.minimum(rate + added[:, None], 1), slow_failures=False
        )
        found = np.concatenate([of_stable, of_candidate], axis=-1)
        if not self.keyed or found.shape[1] == 1:
            return found
        begun = np.arange(found.shape[1]) <= step[:, None]
        return np.asarray(np.cumsum(found, axis=1) * begun[:, :, None, None])

    def _failure_rates(self, t_s: int, step: Ints) -> tuple[Floats, Floats]:
        """Return stable's failure rate (R, kinds), and what the candidate's is above it (R,)."""
        rows = self.rows
        rate = rows.failures * self._rate_factors[rows.shape, rows.start_s + t_s]
        by_kind = rate[:, None] * (KIND_FAILURES if self.keyed else np.ones(1))
        by_kind = np.where(rows.outage[:, t_s, None], OUTAGE_FAILURES, np.minimum(by_kind, 0.9))
        return by_kind, rows.failures_added[np.arange(len(step)), step]

    def _requests(self, step: Ints) -> tuple[Floats, Floats]:
        """Return how many requests each variant can expect, (R, kinds, J)."""
        candidate = (REQUESTS_PER_S * self.weights[step])[:, None, None]
        return REQUESTS_PER_S - candidate, candidate

    def _new_keys(self, step: Ints) -> tuple[Ints, Ints]:
        """Return how many users each variant serves for the first time in this exposure, (R, kinds, J)."""
        last = np.arange(int(step.max()) + 1)
        users, earlier = self.rows.users, self.rows.users[..., : len(last)]
        waiting = last <= step[:, None]  # last counted in an earlier exposure, or never
        chance = -np.expm1(-ACTIVITY)[:, None, None] * waiting[:, None, None, None, :]
        new = self._rng.binomial(earlier, np.broadcast_to(chance, earlier.shape))
        earlier -= new
        users[np.arange(len(step)), ..., step + 1] += new.sum(axis=-1)
        by_zone = new.sum(axis=2)
        served = (np.arange(by_zone.shape[1]) <= step[:, None])[:, :, None, None]
        candidate = (by_zone * served).sum(axis=1)
        return by_zone.sum(axis=1) - candidate, candidate

    def _ends(self, arrived: Floats | Ints, chances: Floats, rate: Floats, *, slow_failures: bool) -> Ints:
        """Return one variant's (R, J, D, columns), all kinds together."""
        delays, levels = len(self.timing.delays_s), chances.shape[-1]
        found = np.zeros((len(arrived), arrived.shape[-1], delays, LEVELS + levels), dtype=np.int64)
        if self.timing.fail_fast:
            fine = chances.reshape(*chances.shape[:2], levels) * (1 - rate)[..., None]
            counts = _all_kinds(self._split(arrived, np.concatenate([fine, rate[..., None]], axis=-1)))
            found[:, :, 0, LEVELS:] = counts[..., :-1]
            at, level = (delays - 1, -1) if slow_failures else (0, LEVELS)
            found[:, :, at, level] += counts[..., -1]
            found[:, :, at, FAILED] = counts[..., -1]
            found[:, :, 0, STARTED] = counts.sum(axis=-1)
        else:
            counts = self._split(arrived, chances.reshape(*chances.shape[:2], delays * levels))
            counts = counts.reshape(*counts.shape[:-1], delays, levels)
            ended = counts.sum(axis=-1)
            found[..., LEVELS:] = _all_kinds(counts)
            found[..., FAILED] = _all_kinds(self._rng.binomial(ended, rate[..., None, None]))
            found[:, :, 0, STARTED] = _all_kinds(ended).sum(axis=-1)
        return found

    def _split(self, arrived: Floats | Ints, chances: Floats) -> Ints:
        """Return arrivals (R, kinds, J) by what becomes of them, with chances (R, kinds, cells)."""
        chances = chances / chances.sum(axis=-1, keepdims=True)
        if self.keyed:
            return self._rng.multinomial(arrived.astype(np.int64), chances[:, :, None])
        # Poisson arrivals, each kept with its chance, are independent Poisson counts.
        return self._rng.poisson(arrived[..., None] * chances[:, :, None])


def _all_kinds(counts: Ints) -> Ints:
    """Return the sum over the axis of kinds."""
    return counts[:, 0] if counts.shape[1] == 1 else np.asarray(counts.sum(axis=1))
