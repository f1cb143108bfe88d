"""Whole rollouts at 100 requests/s over 1/5/25/50 %: promoted, rolled back or held, for candidates that differ.

Base rates swing as in statistics.md 2.7, whose table is the last column of comparison. Harm exactly at a margin must
not be promoted, harm exactly at a tolerance must not be rolled back, and an equal candidate must arrive. All of alpha
and beta is spent on one attempt, but for the case that says otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from router.analysis.judge import critical_value
from tests.simulation.aa import bound_of
from tests.simulation.parallel import generators, spread
from tests.simulation.rollouts import End, Ends, Plan, simulate
from tests.simulation.traffic import World

ALPHA = BETA = 0.05
HORIZON_S = 1_800
BATCH = 500

Promise = Literal["never promoted", "never rolled back", "promoted", "rolled back"]
"""What must come true: the first two in all but a share of beta or alpha, the others in at least ARRIVE of the runs."""

ARRIVE = 0.95
SLACK_MS = 2.0
"""The default slack of a latency gate: a candidate is exactly at a limit if it is later by that much on top."""

AS_IN_THE_TABLE = Plan(horizon_s=HORIZON_S)
AS_SHIPPED = replace(AS_IN_THE_TABLE, harm_at=critical_value(0.01, 1), proof_at=critical_value(0.05, 1))


@dataclass(frozen=True, slots=True)
class Truth:
    """One candidate, and what is promised of it. `table` is what statistics.md 2.7 found: promoted, median seconds."""

    name: str
    promise: Promise
    world: World
    plan: Plan = AS_IN_THE_TABLE
    table: str = ""


def _world(**differences: tuple[float, ...] | float) -> World:
    return replace(World("diurnal"), **differences)  # type: ignore[arg-type]


TRUTHS = (
    Truth("equal", "promoted", _world(), table="promoted .987, rolled back .013, 527 s"),
    Truth("equal, constant rates", "promoted", World()),
    Truth("equal, levels as shipped", "promoted", _world(), AS_SHIPPED),
    Truth("errors +0.5 pp: at the margin", "never promoted", _world(failures_added=(0.005,)),
          table="promoted .007, rolled back .993, 545 s"),
    Truth("latency x1.10 + 2 ms: at the margin", "never promoted", _world(slower=(1.10,), later_ms=SLACK_MS),
          table="promoted 0, rolled back 1, 445 s"),
    Truth("errors +0.25 pp: at the tolerance", "never rolled back", _world(failures_added=(0.0025,))),
    Truth("latency x1.05 + 2 ms: at the tolerance", "never rolled back", _world(slower=(1.05,), later_ms=SLACK_MS)),
    Truth("errors +0.2 pp: within the tolerance", "never rolled back", _world(failures_added=(0.002,)),
          table="promoted .773, rolled back .227, 737 s"),
    Truth("errors +1 pp", "rolled back", _world(failures_added=(0.01,)), table="rolled back 1, 340 s"),
    Truth("errors x10", "rolled back", _world(failures_added=(0.09,)), table="rolled back 1, 45 s"),
    Truth("latency x1.3", "rolled back", _world(slower=(1.3,)), table="rolled back 1, 180 s"),
    Truth("errors +2 pp at the 50 % step only", "rolled back", _world(failures_added=(0.0, 0.0, 0.0, 0.02)),
          table="rolled back 1, 355 s (of the last step)"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """How rollouts of one candidate end. `median_s` is that of promotions or rollbacks, whichever are more.

    `in_step_s` counts from the beginning of the step in which they ended. `bound` is of the share that was promised.
    """

    name: str
    truth: str
    promoted: float
    rolled_back: float
    held: float
    median_s: float
    in_step_s: float
    bound: float
    passed: bool
    table: str


def run(runs: int, seed: int, processes: int) -> list[Case]:
    """Return all cases."""
    return run_truths(TRUTHS, runs, seed, processes)


def run_truths(truths: Sequence[Truth], runs: int, seed: int, processes: int) -> list[Case]:
    """Return the cases of some candidates."""
    sizes = [BATCH] * (runs // BATCH) + [runs % BATCH] * (runs % BATCH > 0)
    parts = [(truth, size) for truth in truths for size in sizes]
    jobs = [(truth, size, seed) for (truth, size), seed in zip(parts, generators(seed, len(parts)), strict=True)]
    ends = spread(_simulate, jobs, processes)
    by_truth = [ends[first : first + len(sizes)] for first in range(0, len(ends), len(sizes))]
    return [_case(truth, Ends.joined(found)) for truth, found in zip(truths, by_truth, strict=True)]


def _simulate(job: tuple[Truth, int, np.random.SeedSequence]) -> Ends:
    truth, runs, seed = job
    return simulate([(truth.world, runs)], truth.plan, np.random.default_rng(seed))


def _case(truth: Truth, ends: Ends) -> Case:
    promoted, rolled_back = ends.share(End.PROMOTED), ends.share(End.ROLLED_BACK)
    more = End.PROMOTED if promoted >= rolled_back else End.ROLLED_BACK
    ended = ends.end == more
    bound, passed = _kept(truth.promise, promoted, rolled_back, len(ends.end))
    return Case(
        name=truth.name, truth=truth.promise, promoted=promoted, rolled_back=rolled_back, held=ends.share(End.HELD),
        median_s=ends.median_s(more), bound=bound, passed=passed, table=truth.table,
        in_step_s=float(np.median((ends.seconds - ends.since_s)[ended])) if ended.any() else float("nan"),
    )  # fmt: skip


def _kept(promise: Promise, promoted: float, rolled_back: float, runs: int) -> tuple[float, bool]:
    """Return the bound of a promise and whether it was kept."""
    match promise:
        case "never promoted":
            return bound_of(BETA, runs), promoted <= bound_of(BETA, runs)
        case "never rolled back":
            return bound_of(ALPHA, runs), rolled_back <= bound_of(ALPHA, runs)
        case "promoted":
            return ARRIVE, promoted >= ARRIVE
        case _:
            return ARRIVE, rolled_back >= ARRIVE
