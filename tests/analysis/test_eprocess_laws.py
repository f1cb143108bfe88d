"""What makes each process an e-process, by enumeration of all ways a few requests can go, and what callers rest on.

No expectation here is sampled. `Paths` lists all outcomes of a few requests whose share, base rate or spread depends on
what happened before; a law gives each path its chance; the sum of chance times e is the expectation.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import logsumexp

from router.analysis.eprocess import (
    BETTER,
    CANDIDATE_COLUMN,
    CELLS,
    MEDIAN_RATIOS,
    STABLE_COLUMN,
    WORSE,
    Floats,
    Ratio,
    Side,
    log_e_2x2,
    log_e_arm,
    log_e_bern,
    log_e_bet,
    log_e_ipw,
    log_e_paired,
    log_mean_exp,
    log_wealth_2x2,
    log_wealth_arm,
    log_wealth_bern,
    log_wealth_bet,
    log_wealth_ipw,
    log_weighted_sum,
    mixed,
    mixed_from_each_start,
    ratios,
    restart_mixture,
    start_weights,
    z_ratio,
)

Integers = NDArray[np.int64]
Wealth = Callable[[Integers], Floats]
"""Of counts (..., K, C): the log wealth (..., K, G)."""

LAWS = settings(max_examples=25, deadline=None, derandomize=True)
ROUNDING = 1e-12
STOP_AT = (1.05, 1.2, 2.0)
"""e-values at which somebody stops to look, the first of which every process can reach."""


# -- Every way a few requests can go -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Paths:
    """All P outcomes of T requests, each of which ends in one of C cells of one of K exposures.

    The second half runs in exposure 1 or 2 by the parity of the first half; the regime (0 or 1) of a request is the
    parity of all cells before it. So shares and base rates depend on the past, in a way that is fixed before each
    request, as they do when a rollout is judged.
    """

    cells: Integers  # (P, T)
    exposures: Integers  # (P, T)
    regimes: Integers  # (P, T)
    states: Integers  # (P, T): index into `counts` after each request
    counts: Integers  # (U, K, C): each distinct state once, as a process is a function of counts

    def chance(self, law: Floats) -> Floats:
        """Return the chance (P,) of each path under a law (K, 2, C): of cells, given exposure and regime."""
        return np.asarray(law[self.exposures, self.regimes, self.cells].prod(axis=1))

    def at_end(self, log_e: Floats) -> Floats:
        """Return e (P, ...) after the last request, of log e by state (U, ...)."""
        return np.asarray(np.exp(log_e)[self.states[:, -1]])

    def at_stop(self, log_e: Floats, stop_at: float) -> tuple[Floats, NDArray[np.bool_]]:
        """Return e (P,) when it first reaches `stop_at` or else at the end, and whether it reached it."""
        reached = (np.exp(log_e) >= stop_at)[self.states]
        stopped = reached.any(axis=1)
        when = np.where(stopped, reached.argmax(axis=1), reached.shape[1] - 1)
        return np.exp(log_e)[self.states[np.arange(len(when)), when]], np.asarray(stopped)


EXPOSURES = 3


@functools.cache
def paths(cells: int, requests: int) -> Paths:
    """Return all `cells ** requests` paths."""
    cell = np.indices((cells,) * requests).reshape(requests, -1).T.astype(np.int64)
    first = requests // 2
    before = np.cumsum(cell, axis=1) - cell
    later = 1 + before[:, first] % 2
    exposure = np.where(np.arange(requests) < first, 0, later[:, None])
    base = requests + 1  # a state is one number in this base: its digits are the counts
    place = np.array([base**digit for digit in range(EXPOSURES * cells)], dtype=np.int64)
    codes, states = np.unique(np.cumsum(place[exposure * cells + cell], axis=1), return_inverse=True)
    counts = (codes[:, None] // place % base).reshape(-1, EXPOSURES, cells)
    return Paths(cell, exposure, before % 2, states.reshape(cell.shape), counts)


# -- Processes and their null hypotheses -------------------------------------------------------------------------------

STABLE_OK, STABLE_FAILED, CANDIDATE_OK, CANDIDATE_FAILED = range(4)
SHARES = np.array([0.1, 0.5, 0.8])
"""Of the candidate in the three exposures; the last two are the ways the second may go."""

Rates = tuple[tuple[float, float], tuple[float, float]]
"""Failure rates of stable and candidate in regime 0 and in regime 1."""


@dataclass(frozen=True, slots=True)
class Case:
    """A process with laws on the boundary of its null, inside it and against it."""

    paths: Paths
    wealth: Wealth
    boundary: Floats
    inside: tuple[Floats, ...]
    against: Floats


def canary_law(rates: Rates) -> Floats:
    """Return the law (K, 2, 4) of requests that are split at random by SHARES and fail at these rates."""
    law = [[[(1 - pi) * (1 - p), (1 - pi) * p, pi * (1 - q), pi * q] for p, q in rates] for pi in SHARES]
    return np.array(law)


def canary(wealth: Wealth, boundary: Rates, inside: tuple[Rates, ...], against: Rates) -> Case:
    """Return a case over eight canary requests."""
    return Case(
        paths(4, 8), wealth, canary_law(boundary), tuple(canary_law(rates) for rates in inside), canary_law(against)
    )


def arm(grid: Floats, null_ratio: float = 1.0) -> Wealth:
    """Return the process of events by arm."""
    return lambda n: log_wealth_arm(n[..., STABLE_FAILED], n[..., CANDIDATE_FAILED], SHARES, grid, null_ratio)


def two_by_two(base_rate: float) -> Wealth:
    """Return the process of arms and outcomes."""
    return lambda n: log_wealth_2x2(
        n[..., STABLE_FAILED],
        n[..., STABLE_OK],
        n[..., CANDIDATE_FAILED],
        n[..., CANDIDATE_OK],
        SHARES,
        base_rate=base_rate,
        grid=MEDIAN_RATIOS,
    )


def ipw(margin: float, side: Side) -> Wealth:
    """Return the process of weighted differences."""
    return lambda n: log_wealth_ipw(
        n.sum(axis=-1), n[..., STABLE_FAILED], n[..., CANDIDATE_FAILED], SHARES, margin, side=side
    )


def arm_law(odds: tuple[float, float]) -> Floats:
    """Return the law (K, 2, 2) of the arm of an event, when the candidate is this much likelier to have one."""
    of_candidate = [[pi * ratio / (pi * ratio + 1 - pi) for ratio in odds] for pi in SHARES]
    return np.array([[[1 - theta, theta] for theta in by_regime] for by_regime in of_candidate])


def events(grid: Floats, null_ratio: float, inside: float, against: float) -> Case:
    """Return a case over ten events, whatever number of requests lay between them."""
    return Case(
        paths(2, 10),
        lambda n: log_wealth_arm(n[..., 0], n[..., 1], SHARES, grid, null_ratio),
        arm_law((null_ratio, null_ratio)),
        (arm_law((inside, null_ratio)), arm_law((inside, inside))),
        arm_law((against, against)),
    )


EQUAL: Rates = ((0.25, 0.25), (0.6, 0.6))
LOWER: tuple[Rates, ...] = (((0.25, 0.1), (0.6, 0.5)), ((0.25, 0.05), (0.6, 0.6)), ((0.25, 0.25), (0.6, 0.0)))
"""Better all the time; better first and equal later; equal first and better later."""
HIGHER: tuple[Rates, ...] = (((0.25, 0.4), (0.6, 0.9)), ((0.25, 0.9), (0.6, 0.6)), ((0.25, 0.25), (0.6, 1.0)))

CANARY = {
    "ten events, worse": events(WORSE, 1.0, 0.7, 4.0),
    "ten events, worse than 1.5 times": events(ratios(1.5), 1.5, 1.2, 6.0),
    "ten events, better": events(BETTER, 1.0, 1.3, 0.2),
    "ten events, better than 1.5 times": events(ratios(1.5, worse=False), 1.5, 4.0, 0.3),
    "arm, worse": canary(arm(WORSE), EQUAL, LOWER, ((0.1, 0.9), (0.1, 0.9))),
    "arm, worse than 1.5 times": canary(
        arm(ratios(1.5), 1.5), ((0.2, 0.3), (0.6, 0.9)), (EQUAL, *LOWER), ((0.1, 0.9), (0.1, 0.9))
    ),
    "arm, better": canary(arm(BETTER), EQUAL, HIGHER, ((0.9, 0.1), (0.9, 0.1))),
    "arm, better than 1.5 times": canary(
        arm(ratios(1.5, worse=False), 1.5),
        ((0.2, 0.3), (0.6, 0.9)),
        (((0.2, 0.5), (0.6, 0.9)), ((0.2, 0.3), (0.6, 1.0))),
        ((0.9, 0.1), (0.9, 0.1)),
    ),
    "2x2": canary(two_by_two(0.5), EQUAL, LOWER, ((0.3, 0.95), (0.5, 0.95))),
    "2x2, base rate guessed wrong": canary(two_by_two(0.02), EQUAL, LOWER, ((0.02, 0.9), (0.02, 0.9))),
    "2x2, alternatives capped": canary(two_by_two(0.9), EQUAL, LOWER, ((0.7, 1.0), (0.7, 1.0))),
    "ipw le 0": canary(ipw(0.0, "le"), EQUAL, LOWER, ((0.1, 0.9), (0.1, 0.9))),
    "ipw le 0.1": canary(ipw(0.1, "le"), ((0.25, 0.35), (0.6, 0.7)), (EQUAL, *LOWER), ((0.1, 0.9), (0.1, 0.9))),
    "ipw ge 0.1": canary(
        ipw(0.1, "ge"),
        ((0.25, 0.35), (0.6, 0.7)),
        (((0.25, 0.5), (0.6, 0.9)), ((0.25, 0.35), (0.6, 1.0))),
        ((0.9, 0.1), (0.9, 0.1)),
    ),
    "ipw ge -0.05": canary(ipw(-0.05, "ge"), ((0.25, 0.2), (0.6, 0.55)), (EQUAL, *HIGHER), ((0.9, 0.1), (0.9, 0.1))),
}


def stream_law(quiet: list[float], loud: list[float]) -> Floats:
    """Return the law (K, 2, C) of one stream of outcomes in two regimes, the same in all exposures."""
    return np.array([[quiet, loud]] * EXPOSURES)


def differences(mean: float) -> Floats:
    """Return a law of differences in {-1, 0, 1} with this mean, 80 % and 30 % of which are not 0."""
    quiet, loud = ([(some - mean) / 2, 1 - some, (some + mean) / 2] for some in (0.8, 0.3))
    return stream_law(quiet, loud)


def bet(mean: float, side: Side) -> Case:
    """Return a case over ten paired differences."""
    away = -1 if side == "le" else 1
    return Case(
        paths(3, 10),
        lambda n: log_wealth_bet([-1, 0, 1], n, mean, side),
        differences(mean),
        (differences(mean + 0.05 * away), differences(0.29 * away)),
        differences(-0.29 * away),
    )


def bern(rate: float, side: Side) -> Case:
    """Return a case over ten pairs that agree or not."""
    inside = ([0.5 * rate, rate], [0.0, 0.9 * rate]) if side == "le" else ([rate, 1.0], [0.5 * (1 + rate), rate])
    against = min(1.0, 3 * rate) if side == "le" else rate / 3
    law = {p: [1 - p, p] for p in (rate, against, *inside[0], *inside[1])}
    return Case(
        paths(2, 10),
        lambda n: log_wealth_bern(n[..., 1], n.sum(axis=-1), rate, side),
        stream_law(law[rate], law[rate]),
        tuple(stream_law(law[one], law[two]) for one, two in inside),
        stream_law(law[against], law[against]),
    )


def predictions(true_positive: float, false_positive: float, false_negative: float) -> list[float]:
    """Return chances of the eight joint cells, by the candidate's outcome; stable predicts at random."""
    chance = {(1, 1): true_positive, (0, 1): false_positive, (1, 0): false_negative}
    chance[0, 0] = 1 - sum(chance.values())
    return [chance[int(y), int(b)] * (0.3 if a else 0.7) for y, a, b in CELLS]


def floor(ratio: Ratio, at: float, side: Side) -> Case:
    """Return a case over five rows with a label, whose ratio stands at, above or below `at`."""

    def law(level: float) -> Floats:
        # TP : errors is what fixes each ratio; the two regimes have different shares of positives and of mistakes.
        odds = (1 - level) / level * (2 if ratio == "f1" else 1)
        quiet, loud = (
            predictions(tp, odds * tp if ratio == "precision" else 0.02, odds * tp if ratio == "recall" else 0.1)
            if ratio != "f1"
            else predictions(tp, of_false * odds * tp, (1 - of_false) * odds * tp)
            for tp, of_false in ((0.2, 0.25), (0.4, 0.9))
        )
        return stream_law(quiet, loud)

    low, high = (law(level) for level in (at - 0.1, min(at + 0.2, 1.0)))
    return Case(
        paths(8, 5),
        lambda n: log_wealth_bet(z_ratio(ratio, CANDIDATE_COLUMN, at), n, 0.0, side),
        law(at),
        (low,) if side == "le" else (high,),
        high if side == "le" else low,
    )


STREAMS = {
    "bet le 0": bet(0.0, "le"),
    "bet ge 0": bet(0.0, "ge"),
    "bet le -0.02": bet(-0.02, "le"),
    "bet ge 0.2": bet(0.2, "ge"),
    "bern le 0.02": bern(0.02, "le"),
    "bern le 0.3": bern(0.3, "le"),
    "bern ge 0.3": bern(0.3, "ge"),
    "bern ge 0.9": bern(0.9, "ge"),
    "f1 at most 0.8": floor("f1", 0.8, "le"),
    "f1 at least 0.8": floor("f1", 0.8, "ge"),
    "precision at most 0.8": floor("precision", 0.8, "le"),
    "recall at least 0.75": floor("recall", 0.75, "ge"),
}
CASES = CANARY | STREAMS

each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def readings(log_wealth: Floats) -> Floats:
    """Return log e (U, 3): of all exposures, from the second exposure on, and of the restart mixture."""
    by_start = mixed_from_each_start(log_wealth)
    return np.stack([mixed(log_wealth), by_start[..., 1], restart_mixture(by_start)], axis=-1)


def exactly_one(log_wealths: int = 3) -> object:
    """Return what equals that many expectations of 1."""
    return pytest.approx(np.ones(log_wealths), rel=0, abs=ROUNDING)


@each_case
def test_on_the_boundary_of_the_null_one_unit_is_expected_to_stay_one(case: Case) -> None:
    """Whatever shares and base rates do in response to outcomes, in every reading."""
    e = case.paths.at_end(readings(case.wealth(case.paths.counts)))
    assert exactly_one() == case.paths.chance(case.boundary) @ e


@each_case
def test_inside_the_null_no_gain_is_expected(case: Case) -> None:
    """Also where only one of the regimes is on the boundary."""
    e = case.paths.at_end(readings(case.wealth(case.paths.counts)))
    for law in case.inside:
        assert float((case.paths.chance(law) @ e).max()) <= 1 + ROUNDING


@each_case
def test_against_the_null_a_gain_is_expected(case: Case) -> None:
    """A process that stayed at 1, or bet on the wrong side, would satisfy the null for nothing."""
    e = case.paths.at_end(readings(case.wealth(case.paths.counts)))
    assert float((case.paths.chance(case.against) @ e).min()) > 1.02


@each_case
def test_stopping_when_the_evidence_looks_good_gains_nothing(case: Case) -> None:
    """One unit is expected to stay one at the first look above a threshold, or at the end if there is none."""
    boundary = case.paths.chance(case.boundary)
    inside = [case.paths.chance(law) for law in case.inside]
    for log_e in readings(case.wealth(case.paths.counts)).T:
        for stop_at in STOP_AT:
            e, stopped = case.paths.at_stop(log_e, stop_at)
            assert pytest.approx(1.0, rel=0, abs=ROUNDING) == float(boundary @ e)
            assert float(boundary @ stopped) <= 1 / stop_at
            assert max(float(chance @ e) for chance in inside) <= 1 + ROUNDING
        _, stopped = case.paths.at_stop(log_e, STOP_AT[0])
        assert 0 < float(boundary @ stopped) < 1, "stopping was tested on nothing"


@each_case
def test_the_first_start_point_is_the_whole_run(case: Case) -> None:
    """And the last one is its last exposure alone."""
    wealth = case.wealth(case.paths.counts)
    by_start = mixed_from_each_start(wealth)
    assert np.allclose(mixed(wealth), by_start[..., 0], rtol=0, atol=ROUNDING)
    assert np.allclose(log_mean_exp(wealth[..., -1, :]), by_start[..., -1], rtol=0, atol=ROUNDING)


# -- Averages of dependent processes -----------------------------------------------------------------------------------

GATES = ("arm, worse", "2x2", "2x2, base rate guessed wrong", "ipw le 0")
"""Four views of the same requests, all on the boundary of their nulls where the two variants are equal."""


@pytest.mark.parametrize("weights", [[0.4, 0.3, 0.2, 0.1], [0.4, 0.1, 0.05, 0.05]], ids=["all", "some kept back"])
def test_a_weighted_average_of_dependent_processes_is_one(weights: list[float]) -> None:
    """The gates read the same requests; weight not given to any of them counts as e = 1."""
    cases = [CANARY[name] for name in GATES]
    at, chance = cases[0].paths, cases[0].paths.chance(canary_law(EQUAL))
    log_e = np.stack([restart_mixture(mixed_from_each_start(case.wealth(at.counts))) for case in cases], axis=-1)
    total = log_weighted_sum(log_e, np.array(weights), rest=1 - sum(weights))
    assert pytest.approx(1.0, rel=0, abs=ROUNDING) == float(chance @ at.at_end(total))
    for stop_at in STOP_AT[:2]:
        e, stopped = at.at_stop(total, stop_at)
        assert pytest.approx(1.0, rel=0, abs=ROUNDING) == float(chance @ e)
        assert 0 < float(chance @ stopped) <= 1 / stop_at


def test_weights_above_one_would_be_noticed() -> None:
    """The enumeration tells an average from a sum."""
    case = CANARY["ipw le 0"]
    log_e = mixed(case.wealth(case.paths.counts))
    total = log_weighted_sum(np.stack([log_e, log_e], axis=-1), np.array([0.5, 0.5]), rest=0.1)
    assert pytest.approx(1.1, rel=0, abs=ROUNDING) == float(case.paths.chance(case.boundary) @ case.paths.at_end(total))


# -- Differences of ratios ---------------------------------------------------------------------------------------------

JOINT = np.array(
    [
        [30, 5, 5, 10, 10, 5, 5, 30],
        [60, 2, 2, 2, 2, 1, 8, 23],
        [5, 1, 20, 1, 1, 1, 30, 41],
        [1, 40, 1, 1, 30, 1, 1, 25],
        [10, 0, 30, 0, 0, 0, 60, 0],
        [1, 1, 1, 1, 1, 93, 1, 1],
        [88, 1, 1, 1, 1, 1, 6, 1],
    ]
)
"""Percentages of the eight joint cells: alike, one worse, one better, hardly any positives, one never right."""
SOME_RATIOS: tuple[Ratio, ...] = ("precision", "recall", "f1")


def level(ratio: Ratio, joint: Integers, column: int) -> float:
    """Return the ratio of one model, from its definition."""
    hits = {(y, p): int(joint[(CELLS[:, 0] == y) & (CELLS[:, column] == p)].sum()) for y in (0, 1) for p in (0, 1)}
    tp, fp, fn = hits[1, 1], hits[0, 1], hits[1, 0]
    of = {"precision": (tp, tp + fp), "recall": (tp, tp + fn), "f1": (2 * tp, 2 * tp + fp + fn)}
    share, whole = of[ratio]
    return share / whole if whole else 0.0


@pytest.mark.parametrize("ratio", SOME_RATIOS)
@pytest.mark.parametrize("side", ["le", "ge"])
@pytest.mark.parametrize("points", [2, 4, 21])
def test_at_the_margin_no_gain_is_expected_of_a_difference_of_ratios(ratio: Ratio, side: Side, points: int) -> None:
    """Every distribution is at the boundary for the margin that is its own difference, however coarse the grid."""
    at = paths(8, 4)
    for joint in JOINT:
        margin = level(ratio, joint, STABLE_COLUMN) - level(ratio, joint, CANDIDATE_COLUMN)
        chance = at.chance(stream_law(list(joint / 100), list(joint / 100)))
        log_e = log_e_paired(ratio, at.counts.sum(axis=1), margin, side, np.linspace(0, 1, points))
        possible = chance > 0  # a path that refutes the null for good has e = inf and no chance
        assert float(chance[possible] @ at.at_end(log_e)[possible]) <= 1 + ROUNDING
        assert float(chance[possible] @ at.at_stop(log_e, STOP_AT[0])[0][possible]) <= 1 + ROUNDING


@pytest.mark.parametrize("ratio", SOME_RATIOS)
def test_a_difference_of_ratios_beyond_the_margin_is_found(ratio: Ratio) -> None:
    """Of 4,000 rows, a clear loss counts against "no worse than the margin", a tie against "worse by the margin"."""
    loss = np.array([2_000, 0, 0, 400, 0, 0, 400, 1_200]) + np.array([0, 400, 0, 0, 0, 0, 0, 0])
    tie = np.array([2_000, 20, 20, 380, 160, 40, 40, 1_340])
    assert float(log_e_paired(ratio, loss, 0.01, "le")) > np.log(1_000)
    assert float(log_e_paired(ratio, loss, 0.01, "ge")) < 0
    assert float(log_e_paired(ratio, tie, 0.1, "ge")) > np.log(1_000)
    assert float(log_e_paired(ratio, tie, 0.1, "le")) < 0


@pytest.mark.parametrize("ratio", SOME_RATIOS)
@pytest.mark.parametrize("column", [STABLE_COLUMN, CANDIDATE_COLUMN])
def test_a_ratio_stands_at_the_level_where_its_z_has_mean_zero(ratio: Ratio, column: int) -> None:
    """Below its own level z has a positive mean, above it a negative one."""
    for joint in JOINT[:4]:
        own = level(ratio, joint, column)
        below, here, above = z_ratio(ratio, column, [own - 0.01, own, own + 0.01]) @ joint
        assert below > 0 > above
        assert pytest.approx(0.0, abs=1e-9) == here


# -- A function of counts ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Summary:
    """Log e as callers ask for it: of counts (..., K, C), or of their sum over exposures."""

    cells: int
    log_e: Callable[[Integers], Floats]


def log_e_of_ipw(side: Side) -> Callable[[Integers], Floats]:
    """Return log e of weighted differences against a margin of 1 %."""
    return lambda n: log_e_ipw(n.sum(axis=-1), n[..., STABLE_FAILED], n[..., CANDIDATE_FAILED], SHARES, 0.01, side=side)


SUMMARIES = {
    "arm": Summary(4, lambda n: log_e_arm(n[..., STABLE_FAILED], n[..., CANDIDATE_FAILED], SHARES, WORSE)),
    "arm, better": Summary(4, lambda n: log_e_arm(n[..., STABLE_FAILED], n[..., CANDIDATE_FAILED], SHARES, BETTER)),
    "2x2": Summary(
        4,
        lambda n: log_e_2x2(
            n[..., STABLE_FAILED],
            n[..., STABLE_OK],
            n[..., CANDIDATE_FAILED],
            n[..., CANDIDATE_OK],
            SHARES,
            base_rate=0.5,
            grid=MEDIAN_RATIOS,
        ),
    ),
    "ipw le": Summary(4, log_e_of_ipw("le")),
    "ipw ge": Summary(4, log_e_of_ipw("ge")),
    "bern": Summary(2, lambda n: log_e_bern(n.sum(axis=-2)[..., 1], n.sum(axis=(-2, -1)), 0.1)),
}
BY_MATRIX = {
    "restart": Summary(4, lambda n: restart_mixture(mixed_from_each_start(two_by_two(0.5)(n)))),
    "bet": Summary(3, lambda n: log_e_bet([-1, 0, 1], n.sum(axis=-2), 0.01)),
    "floor": Summary(8, lambda n: log_e_bet(z_ratio("f1", CANDIDATE_COLUMN, 0.8), n.sum(axis=-2), 0.0)),
    "paired": Summary(8, lambda n: log_e_paired("f1", n.sum(axis=-2), 0.05, grid=np.linspace(0, 1, 6))),
}
"""Their sums go through a matrix product, which may round differently for another number of rows."""
ALL_SUMMARIES = SUMMARIES | BY_MATRIX
each_summary = pytest.mark.parametrize("name", ALL_SUMMARIES)

numbers = st.integers(0, 5_000)


def tables(cells: int) -> st.SearchStrategy[Integers]:
    """Return counts (K, C)."""
    size = EXPOSURES * cells
    flat = st.lists(numbers, min_size=size, max_size=size)
    return flat.map(lambda counts: np.array(counts, dtype=np.int64).reshape(EXPOSURES, cells))


def counted(requests: list[tuple[int, int]], cells: int) -> Integers:
    """Return the counts (K, C) of requests given as exposure and cell."""
    counts = np.zeros((EXPOSURES, cells), dtype=np.int64)
    for exposure, cell in requests:
        counts[exposure, cell] += 1
    return counts


@each_summary
@LAWS
@given(st.data())
def test_replicas_in_any_order_give_what_one_process_gives_to_the_last_bit(name: str, data: st.DataObject) -> None:
    """Requests are shuffled and dealt to two replicas, whose counts are added."""
    summary = ALL_SUMMARIES[name]
    request = st.tuples(st.integers(0, EXPOSURES - 1), st.integers(0, summary.cells - 1))
    requests = data.draw(st.lists(request, max_size=40))
    shuffled, cut = data.draw(st.permutations(requests)), data.draw(st.integers(0, len(requests)))
    merged = counted(shuffled[:cut], summary.cells) + counted(shuffled[cut:], summary.cells)
    assert float(summary.log_e(counted(requests, summary.cells))) == float(summary.log_e(merged))


@each_case
def test_wealth_of_merged_counts_is_the_sum_of_the_wealths(case: Case) -> None:
    """So evidence of replicas and restarts merges by addition."""
    one, two = case.paths.counts[:50], case.paths.counts[-50:]
    expected = case.wealth(one) + case.wealth(two)
    assert np.allclose(expected, case.wealth(one + two), rtol=1e-12, atol=1e-12)


BY_SHARE: dict[str, Callable[[Integers, Floats], Floats]] = {
    "arm": lambda n, share: log_wealth_arm(n[..., STABLE_FAILED], n[..., CANDIDATE_FAILED], share, WORSE),
    "arm, better": lambda n, share: log_wealth_arm(n[..., STABLE_FAILED], n[..., CANDIDATE_FAILED], share, BETTER),
    "2x2": lambda n, share: log_wealth_2x2(
        n[..., STABLE_FAILED],
        n[..., STABLE_OK],
        n[..., CANDIDATE_FAILED],
        n[..., CANDIDATE_OK],
        share,
        base_rate=0.5,
        grid=MEDIAN_RATIOS,
    ),
    "ipw le": lambda n, share: log_wealth_ipw(
        n.sum(axis=-1), n[..., STABLE_FAILED], n[..., CANDIDATE_FAILED], share, 0.01, side="le"
    ),
    "ipw ge": lambda n, share: log_wealth_ipw(
        n.sum(axis=-1), n[..., STABLE_FAILED], n[..., CANDIDATE_FAILED], share, 0.01, side="ge"
    ),
}


@pytest.mark.parametrize("wealth", BY_SHARE.values(), ids=BY_SHARE.keys())
@LAWS
@given(counts=tables(4), order=st.permutations(range(EXPOSURES)), share=st.sampled_from([0.01, 0.25, 0.5, 0.9]))
def test_exposures_with_equal_shares_may_change_places(
    wealth: Callable[[Integers, Floats], Floats], counts: Integers, order: list[int], share: float
) -> None:
    """Only the share of an exposure matters, not when it was."""
    shares = np.full(EXPOSURES, share)
    expected = float(mixed(wealth(counts, shares)))
    assert pytest.approx(expected, rel=1e-9, abs=1e-9) == float(mixed(wealth(counts[list(order)], shares)))


@pytest.mark.parametrize("name", SUMMARIES)
@LAWS
@given(st.data())
def test_a_batch_gives_what_its_members_give_one_by_one(name: str, data: st.DataObject) -> None:
    """To the last bit, over two leading axes."""
    summary = SUMMARIES[name]
    batch = np.stack(data.draw(st.lists(tables(summary.cells), min_size=4, max_size=4)))
    expected = [float(summary.log_e(counts)) for counts in batch]
    together = summary.log_e(batch.reshape(2, 2, EXPOSURES, summary.cells))
    assert together.shape == (2, 2)
    assert expected == together.ravel().tolist()


@pytest.mark.parametrize("name", BY_MATRIX)
@LAWS
@given(st.data())
def test_a_batch_through_a_matrix_product_gives_what_its_members_give_within_rounding(
    name: str, data: st.DataObject
) -> None:
    """A matrix product may sum in another order than a vector product."""
    summary = BY_MATRIX[name]
    batch = np.stack(data.draw(st.lists(tables(summary.cells), min_size=4, max_size=4)))
    expected = [float(summary.log_e(counts)) for counts in batch]
    together = summary.log_e(batch.reshape(2, 2, EXPOSURES, summary.cells))
    assert together.shape == (2, 2)
    assert pytest.approx(expected, rel=1e-9, abs=1e-9) == together.ravel().tolist()


# -- Directions that in-flight bounds rest on --------------------------------------------------------------------------

shares_inside = st.floats(0.001, 0.999)
failures = st.tuples(numbers, numbers)
"""Of stable and candidate."""
more_failures = st.integers(1, 50)


@LAWS
@given(failures, more_failures, shares_inside, st.sampled_from([0.5, 1.0, 1.5]))
def test_arm_wealth_falls_in_stable_and_rises_in_candidate_for_a_worse_grid(
    failed: tuple[int, int], more: int, share: float, null_ratio: float
) -> None:
    """At every grid point, and the other way round for a grid below the null."""
    stable, candidate = failed
    for grid, sign in ((ratios(null_ratio), 1), (ratios(null_ratio, worse=False), -1)):
        before, stable_rose, candidate_rose = sign * log_wealth_arm(
            [[stable], [stable + more], [stable]],
            [[candidate], [candidate], [candidate + more]],
            [share],
            grid,
            null_ratio,
        )
        assert bool((stable_rose < before).all())
        assert bool((candidate_rose > before).all())


@LAWS
@given(failures, more_failures, shares_inside, st.floats(-0.5, 0.5))
def test_ipw_wealth_falls_in_stable_failures_and_rises_in_candidate_failures(
    failed: tuple[int, int], more: int, share: float, margin: float
) -> None:
    """For "le", of the same requests at every bet; the other way round for "ge"."""
    stable, candidate = failed
    sides: dict[Side, int] = {"le": 1, "ge": -1}
    for side, sign in sides.items():
        before, stable_rose, candidate_rose = sign * log_wealth_ipw(
            [[20_000]] * 3,
            [[stable], [stable + more], [stable]],
            [[candidate], [candidate], [candidate + more]],
            [share],
            margin,
            side=side,
        )
        assert bool((stable_rose < before).all())
        assert bool((candidate_rose > before).all())


@LAWS
@given(tables(4), st.lists(st.tuples(*[numbers] * 4), min_size=EXPOSURES, max_size=EXPOSURES))
def test_the_in_flight_bound_never_exceeds_what_the_answers_will_say(
    answered: Integers, in_flight: list[tuple[int, int, int, int]]
) -> None:
    """Rollback: open stable requests read as failures and the candidate's as successes; the mirror for promotion."""
    later = np.array(in_flight)
    pessimist, optimist = answered.copy(), answered.copy()
    stable, candidate = later[:, :2].sum(axis=1), later[:, 2:].sum(axis=1)
    pessimist[:, STABLE_FAILED] += stable
    pessimist[:, CANDIDATE_OK] += candidate
    optimist[:, STABLE_OK] += stable
    optimist[:, CANDIDATE_FAILED] += candidate
    for name, bound in (("arm", pessimist), ("ipw le", pessimist), ("arm, better", optimist), ("ipw ge", optimist)):
        log_e = SUMMARIES[name].log_e
        in_the_end = float(log_e(answered + later))
        assert float(log_e(bound)) <= in_the_end + 1e-9 * max(1.0, abs(in_the_end))


# -- Inputs at the edge ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wealth", BY_SHARE.values(), ids=BY_SHARE.keys())
@LAWS
@given(counts=tables(4), shares=st.lists(st.sampled_from([0.0, 1.0, 0.3]), min_size=EXPOSURES, max_size=EXPOSURES))
def test_exposures_without_a_split_contribute_nothing(
    wealth: Callable[[Integers, Floats], Floats], counts: Integers, shares: list[float]
) -> None:
    """With a share of 0 or 1 nothing is compared, whatever was counted."""
    share = np.array(shares)
    split = share == 0.3
    whole = wealth(counts, share)
    assert not whole[~split].any()
    assert pytest.approx(float(mixed(wealth(counts[split], share[split]))), rel=1e-12, abs=1e-12) == float(mixed(whole))


@pytest.mark.parametrize(
    ("values", "mean", "side"), [([0, 1], 0.0, "le"), ([-1, 0], 0.0, "ge"), ([0.2, 0.5], 0.2, "le"), ([1, 0], 1, "ge")]
)
def test_a_bet_that_cannot_lose_waits_at_one_for_a_counterexample(values: list[float], mean: float, side: Side) -> None:
    """Log e is 0 while every value stood at the bound, however many, and infinite from the first that did not."""
    bound = [int(value == mean) for value in values]
    counts = np.array([[0, 0], [1_000 * at for at in bound], [1_000 if at else 1 for at in bound]])
    assert [0.0, 0.0, np.inf] == log_e_bet(values, counts, mean, side).tolist()


def test_a_bet_refutes_a_bound_that_no_value_can_meet() -> None:
    """One value is enough, and none leaves e at 1."""
    assert [0.0, np.inf] == log_e_bet([1, 2], [[0, 0], [1, 0]], 0.5).tolist()


@pytest.mark.parametrize(
    ("rate", "side", "events", "expected"),
    [
        (0.0, "le", [0, 1, 1_000], [0.0, np.inf, np.inf]),
        (1.0, "ge", [1_000, 999, 0], [0.0, np.inf, np.inf]),
        (0.0, "ge", [0, 1, 1_000], [0.0, 0.0, 0.0]),
        (1.0, "le", [1_000, 999, 0], [0.0, 0.0, 0.0]),
    ],
)
def test_a_rate_of_zero_or_one_is_refuted_by_its_first_counterexample(
    rate: float, side: Side, events: list[int], expected: list[float]
) -> None:
    """And never where every outcome is within the null."""
    assert expected == log_e_bern(events, [1_000] * 3, rate, side).tolist()


@each_summary
def test_before_the_first_request_e_is_one(name: str) -> None:
    """Every process starts with one unit."""
    nothing = np.zeros((EXPOSURES, ALL_SUMMARIES[name].cells), dtype=np.int64)
    assert pytest.approx(0.0, abs=1e-14) == float(ALL_SUMMARIES[name].log_e(nothing))


# -- Sums in logarithms ------------------------------------------------------------------------------------------------

logs = st.one_of(st.floats(-2_000, 2_000), st.sampled_from([np.inf, -np.inf, 0.0]))
log_vectors = st.lists(logs, min_size=1, max_size=8).map(lambda values: np.array(values, dtype=np.float64))


@LAWS
@given(log_vectors)
def test_the_log_of_a_mean_agrees_with_scipy(values: Floats) -> None:
    """Also with inf and -inf among the values, and nothing but them."""
    expected = float(logsumexp(values)) - float(np.log(len(values)))
    assert pytest.approx(expected, rel=1e-12, abs=1e-12) == float(log_mean_exp(values))


@LAWS
@given(log_vectors, st.data())
def test_the_log_of_a_weighted_sum_agrees_with_scipy(values: Floats, data: st.DataObject) -> None:
    """The rest counts as one more value of 0."""
    size = len(values)
    weights = np.array(data.draw(st.lists(st.floats(0.001, 1), min_size=size, max_size=size)))
    rest = data.draw(st.sampled_from([0.0, 0.25, 1.0]))
    every, weight = (np.append(values, 0.0), np.append(weights, rest)) if rest else (values, weights)
    expected = float(logsumexp(every, b=weight))
    assert pytest.approx(expected, rel=1e-12, abs=1e-12) == float(log_weighted_sum(values, weights, rest))


def test_rows_of_a_batch_do_not_touch_each_other_at_infinity() -> None:
    """An infinite or empty row leaves its neighbours as they are."""
    rows = np.array([[np.inf, 0.0], [-np.inf, -np.inf], [1.0, 1.0], [900.0, 900.0]])
    expected = [np.inf, -np.inf, 1.0, 900.0]
    assert expected == log_mean_exp(rows).tolist()
    assert expected == log_weighted_sum(rows, np.array([0.5, 0.5])).tolist()


def test_start_weights_fall_and_never_sum_to_more_than_one() -> None:
    """However many steps are added; together they approach 1, so little is given away."""
    weights = start_weights(10_000)
    assert bool((np.diff(weights) < 0).all())
    assert 0.9999 < float(weights.sum()) < 1
    assert start_weights(3).tolist() == weights[:3].tolist()


@pytest.mark.parametrize("starts", [0, 1, 2, 7, 100])
def test_a_restart_mixture_of_nothing_won_is_one(starts: int) -> None:
    """Starts still to come count as e = 1."""
    assert pytest.approx(0.0, abs=1e-14) == float(restart_mixture(np.zeros(starts)))


def test_a_restart_mixture_finds_what_the_whole_run_buries() -> None:
    """A start point keeps its weight of the evidence that came after it."""
    weights = start_weights(2)
    expected = np.log(weights[0] * np.exp(-50) + weights[1] * np.exp(10) + 1 - weights.sum())
    assert pytest.approx(float(expected), rel=1e-12) == float(restart_mixture(np.array([-50.0, 10.0])))


def test_a_sum_of_nothing_but_very_small_values_is_their_size() -> None:
    """Long evidence for the null leaves e far below what a float can hold, which is no error."""
    values = np.array([[-1_000.0, -1_000.0], [-1e6, -1e6], [-np.inf, -1_000.0]])
    expected = [-1_000.0, -1e6, -1_000.0 + float(np.log(0.5))]
    assert pytest.approx(expected, rel=1e-12) == log_weighted_sum(values, np.array([0.5, 0.5])).tolist()


def test_margins_along_a_leading_axis_give_what_each_gives_alone() -> None:
    """Margins, means and rates may differ from row to row, at the edges of their range too."""
    margins, rates = [0.0, 0.01, 0.2], [0.0, 0.3, 1.0]
    alone = [float(log_e_ipw([500, 600], [5, 9], [7, 20], [0.1, 0.5], margin, side="le")) for margin in margins]
    together = log_e_ipw([[500, 600]] * 3, [[5, 9]] * 3, [[7, 20]] * 3, [0.1, 0.5], np.array(margins), side="le")
    assert alone == together.tolist()
    alone = [float(log_e_bern(7, 100, rate, "le")) for rate in rates]
    assert alone == log_e_bern([7] * 3, [100] * 3, np.array(rates), "le").tolist()
    alone = [float(log_e_bet([0, 1], [93, 7], rate, "le")) for rate in rates]
    assert pytest.approx(alone, rel=1e-12) == log_e_bet([0, 1], [[93, 7]] * 3, np.array(rates), "le").tolist()
