"""A/A: how often equal variants are rolled back, by a judge that looks each second for ten minutes.

54 cells, {constant, diurnal, step} x {fixed, ramp} x {independent, bursts, sticky} x {instant, delayed, fail-fast},
with the product's gates. Their tolerances keep an equal candidate away from the edge of the null hypothesis, so eight
further cells have none: there the promise is tested where it is tight. All of alpha is spent on one attempt, and where
nothing else ends a rollout the judge goes on looking until the horizon.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

import numpy as np

from router.core.rollout import GateSpec
from tests.simulation.looks import Gates, log_level
from tests.simulation.parallel import generators, spread
from tests.simulation.rollouts import End, Ends, Plan, simulate
from tests.simulation.traffic import SHAPES, Pace, Shape, Unit, World

ALPHA = 0.05
HORIZON_S = 600
BATCH = 1_200
"""Rollouts at once: enough to hide what a call of numpy costs, few enough for the cache."""

Routing = Literal["fixed", "ramp"]
RAMP, FIXED = (0.01, 0.05, 0.25, 0.5), (0.1,)

AS_SHIPPED = Gates()
NO_TOLERANCE = Gates(
    GateSpec("errors", "error_rate", max_increase=0.005, tolerance=0.0),
    GateSpec("latency", "latency", max_increase=0.1, tolerance=0.0, slack_ms=0.0),
)
NO_MARGIN = Gates(GateSpec("errors", "error_rate", max_increase=0.0), NO_TOLERANCE.latency)
"""Errors by the arm in which they happen, instead of by a difference of rates."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What one cell simulates. `named` cells get more rollouts."""

    shape: Shape
    routing: Routing
    unit: Unit
    timing: Pace
    gates: str = "as shipped"
    named: bool = False

    @property
    def name(self) -> str:
        """Return the cell's name, unique."""
        words = f"{self.shape} {self.routing} {self.unit} {self.timing}"
        return words if self.gates == "as shipped" else f"{words}, {self.gates}"

    def plan(self) -> Plan:
        """Return how the cell's rollouts are driven."""
        ramp = self.routing == "ramp"
        return Plan(
            weights=RAMP if ramp else FIXED, pace=self.timing, keyed=self.unit == "sticky", horizon_s=HORIZON_S,
            promotes=ramp and self.gates == "as shipped", harm_at=log_level(ALPHA), gates=GATES[self.gates],
        )  # fmt: skip


GATES = {"as shipped": AS_SHIPPED, "no tolerance": NO_TOLERANCE, "no margin": NO_MARGIN}

NAMED: frozenset[tuple[Shape, Routing, Unit, Pace]] = frozenset({
    ("constant", "fixed", "independent", "instant"),
    ("diurnal", "ramp", "independent", "instant"),
    ("diurnal", "ramp", "sticky", "delayed"),
    ("step", "ramp", "bursts", "delayed"),
    ("step", "ramp", "independent", "fail-fast"),
    ("diurnal", "fixed", "bursts", "fail-fast"),
})  # fmt: skip

SETTINGS = tuple(
    Setting(*words, named=words in NAMED)
    for words in product(SHAPES, get_args(Routing), get_args(Unit), get_args(Pace))
)
AT_THE_EDGE = (
    Setting("constant", "fixed", "independent", "instant", "no margin"),
    Setting("step", "fixed", "bursts", "instant", "no margin"),
    Setting("diurnal", "ramp", "bursts", "fail-fast", "no margin"),
    Setting("step", "ramp", "independent", "fail-fast", "no margin"),
    Setting("diurnal", "ramp", "independent", "delayed", "no tolerance"),
    Setting("step", "ramp", "bursts", "delayed", "no tolerance"),
    Setting("constant", "ramp", "sticky", "instant", "no tolerance"),
    Setting("step", "ramp", "sticky", "instant", "no tolerance"),
)


@dataclass(frozen=True, slots=True)
class Cell:
    """How the rollouts of one cell ended. `median_s` is the median time to a promotion, `rollback_s` to a rollback."""

    name: str
    shape: Shape
    routing: Routing
    unit: Unit
    timing: Pace
    gates: str
    runs: int
    false_rollbacks: int
    rate: float
    bound: float
    passed: bool
    promoted: float
    median_s: float
    rollback_s: float


@dataclass(frozen=True, slots=True)
class Pooled:
    """All cells together."""

    runs: int
    false_rollbacks: int
    rate: float
    bound: float
    passed: bool


def bound_of(chance: float, runs: int) -> float:
    """Return the rate that so many runs exceed by chance in about 1 of 740 cases: three standard errors above."""
    return float(chance + 3 * np.sqrt(chance * (1 - chance) / runs))


def run(runs_named: int, runs_other: int, seed: int, processes: int) -> list[Cell]:
    """Return the 54 cells and the 8 at the edge of the null hypothesis."""
    wanted = [(one, runs_named if one.named else runs_other) for one in (*SETTINGS, *AT_THE_EDGE)]
    return run_settings(wanted, seed, processes)


def run_settings(wanted: Sequence[tuple[Setting, int]], seed: int, processes: int) -> list[Cell]:
    """Return the cells of some settings with so many rollouts each, in their order."""
    batches = [batch for plan_batches in map(_batches, _by_plan(wanted)) for batch in plan_batches]
    ends: dict[Setting, list[Ends]] = {setting: [] for setting, _ in wanted}
    jobs = list(zip(batches, generators(seed, len(batches)), strict=True))
    for batch, found in zip(batches, spread(_simulate, jobs, processes), strict=True):
        first = 0
        for setting, runs in batch:
            ends[setting].append(found[first : first + runs])
            first += runs
    return [_cell(setting, Ends.joined(parts)) for setting, parts in ends.items()]


def pooled(cells: Iterable[Cell]) -> Pooled:
    """Return all cells as one."""
    counts = [(cell.runs, cell.false_rollbacks) for cell in cells]
    runs, falls = (sum(column) for column in zip(*counts, strict=True))
    bound = bound_of(ALPHA, runs)
    return Pooled(runs, falls, falls / runs, bound, falls / runs <= bound)


Batch = Sequence[tuple[Setting, int]]


def _by_plan(wanted: Batch) -> list[Batch]:
    """Return the settings that can be simulated together, those that take longest first."""
    groups: dict[Plan, list[tuple[Setting, int]]] = {}
    for setting, runs in wanted:
        groups.setdefault(setting.plan(), []).append((setting, runs))
    plans = sorted(groups, key=lambda plan: (plan.pace == "instant", len(plan.weights) == 1, not plan.keyed))
    return [groups[plan] for plan in plans]


def _batches(group: Batch) -> list[Batch]:
    found: list[list[tuple[Setting, int]]] = [[]]
    room = BATCH
    for setting, runs in group:
        left = runs
        while left:
            now = min(left, room)
            found[-1].append((setting, now))
            left, room = left - now, room - now
            if not room:
                found.append([])
                room = BATCH
    return [batch for batch in found if batch]


def _simulate(job: tuple[Batch, np.random.SeedSequence]) -> Ends:
    batch, seed = job
    worlds = [(World(shape=setting.shape, unit=setting.unit), runs) for setting, runs in batch]
    return simulate(worlds, batch[0][0].plan(), np.random.default_rng(seed))


def _cell(setting: Setting, ends: Ends) -> Cell:
    runs = len(ends.end)
    falls = int((ends.end == End.ROLLED_BACK).sum())
    bound = bound_of(ALPHA, runs)
    return Cell(
        name=setting.name, shape=setting.shape, routing=setting.routing, unit=setting.unit, timing=setting.timing,
        gates=setting.gates, runs=runs, false_rollbacks=falls, rate=falls / runs, bound=bound,
        passed=falls / runs <= bound, promoted=ends.share(End.PROMOTED), median_s=ends.median_s(End.PROMOTED),
        rollback_s=ends.median_s(End.ROLLED_BACK),
    )  # fmt: skip
