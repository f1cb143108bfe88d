"""Rollouts whose traffic is judged by slice, too: how often equal variants are rolled back, and how fast harm is found.

    python -m tests.simulation.slices [--runs N] [--seed N] [--processes N]

Everything but the traffic is the product's own: `give_places` gives places to names, `judge` judges the counters. Both
variants fail equally often, tenant by tenant, and the gates allow no increase at all, so the null hypothesis is tight;
alpha is 20 % that there is something to see.

A rule that is wrong runs beside it on the same traffic: the places belong to the tenants with most traffic since the
last look. At any one look its weights sum to 1, and yet over all that is ever asked they sum to far more.
"""

import argparse
import math
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from router.analysis.eprocess import WORSE, log_e_arm
from router.analysis.evidence import Evidence
from router.analysis.judge import Case, judge
from router.core.observations import CUTS, OUTCOME, STARTED, CounterKey
from router.core.rollout import FULL_BP, Exposure, GateSpec, Spec
from router.core.slices import Popular, SliceSource, give_places, places_of
from router.core.traffic import Role
from tests.simulation.parallel import generators, spread

Ints = NDArray[np.int64]
World = Literal["steady", "late", "churn", "chased"]
WORLDS: tuple[World, ...] = ("steady", "late", "churn", "chased")

ALPHA = 0.2
LOOKS = 300
PER_LOOK = 40
"""Requests between two looks."""

ROUNDING = 1e-9

MOST = 5
"""Places of tenants of their own, the default of `max_slices`."""

SOURCE = SliceSource.parse("header:tenant")
GATES = (GateSpec("each", "error_rate", max_increase=0.0, slices="each"),)
PLACES = places_of([SOURCE], MOST, ["tenant=0"])
HALF = Exposure(1, 5_000, 0, "canary", 0.0)

Counts = dict[str, Ints]
"""By slice: [stable, candidate] x [requests, failures]."""


@dataclass(frozen=True, slots=True)
class Alarms:
    """Of `runs` rollouts of equal variants so many were rolled back, by the product's rule and by the wrong one."""

    world: World
    runs: int
    ours: int
    wrong: int


def shares(world: World, look: int, wealth: Mapping[int, float]) -> dict[int, float]:
    """Return the share of the traffic that each tenant has at a look; `wealth` is log e of each until now.

    steady: five tenants. late: as many, of which two come later. churn: two new names with each look, so 600 in all.
    chased: somebody who sees the evidence sends most of the traffic in the name that looks worst so far, and takes
    a new name as soon as none looks bad.
    """
    match world:
        case "steady":
            return {0: 0.4, 1: 0.3, 2: 0.15, 3: 0.1, 4: 0.05}
        case "late":
            present = {0: 0.4, 1: 0.3, 2: 0.1} | ({3: 0.3} if look >= 100 else {}) | ({4: 0.5} if look >= 200 else {})
            return {tenant: share / sum(present.values()) for tenant, share in present.items()}
        case "churn":
            return {0: 0.2, 1 + 2 * look: 0.4, 2 + 2 * look: 0.4}
        case "chased":
            worst = max(wealth, key=lambda tenant: wealth[tenant], default=0)
            return {0: 0.2, 1 + look if wealth.get(worst, 0.0) <= 0 else worst: 0.8}


def rate_of(tenant: int, look: int) -> float:
    """Return how often either variant fails a tenant: it differs, and it changes in time."""
    return (0.1, 0.2, 0.3, 0.4, 0.5)[tenant % 5] * (1.0 + 0.5 * (look // 60 % 2))


def look_of(counts: Mapping[str, Ints]) -> Evidence:
    """Return the counters that gateways write of requests all of which have ended."""
    found: dict[CounterKey, int] = {}
    for slice_, arms in counts.items():
        for role, (requests, failed) in zip(Role, arms.tolist(), strict=True):
            for cut in CUTS:
                if not slice_:
                    found[CounterKey(1, STARTED + cut, "", role, "all")] = requests
                found[CounterKey(1, OUTCOME + cut, slice_, role, "ok")] = requests - failed
                found[CounterKey(1, OUTCOME + cut, slice_, role, "http_error")] = failed
    return Evidence(found)


def add(counts: Counts, slice_: str, arms: Ints) -> None:
    """Count requests of a slice."""
    counts[slice_] = counts.get(slice_, np.zeros((2, 2), dtype=np.int64)) + arms


def wealth_of(counts: Mapping[str, Ints]) -> dict[str, float]:
    """Return log e of harm to each slice, as the judge will see it: all requests have ended."""
    failed = np.array([arms[:, 1] for arms in counts.values()])
    found = log_e_arm(failed[:, :1], failed[:, 1:], [HALF.weight_bp / FULL_BP], WORSE)
    return dict(zip(counts, found.tolist(), strict=True))


def falls(counts: Counts, wealth: Mapping[str, float], places: tuple[str, ...]) -> bool:
    """Whether the judge rolls back. It is not asked where no slice has 1/alpha: an average is no larger than that."""
    if max(wealth.get(place, 0.0) for place in places) < -math.log(ALPHA) - ROUNDING:
        return False
    case = Case(Spec("v2", "canary", gates=GATES, alpha=ALPHA), (HALF,), slices=places)
    return judge(case, look_of(counts), detail=False).rollback


def one_run(world: World, source: np.random.SeedSequence) -> tuple[bool, bool]:
    """Return whether one rollout of equal variants is rolled back, by our rule and by the wrong one."""
    rng = np.random.default_rng(source)
    places, requests = PLACES, 0
    ours: Counts = {}
    by_name: Counts = {}
    wealth: dict[str, float] = {}
    traffic: Counter[str] = Counter()
    fallen, wrong = False, False
    for look in range(LOOKS):
        before = Counter(traffic)
        chased = {int(name.partition("=")[2]): log_e for name, log_e in wealth.items() if name}
        for tenant, share in shares(world, look, chased).items():
            name = f"tenant={tenant}"
            arrived = int(rng.binomial(PER_LOOK, share))
            candidate = rng.binomial(arrived, 0.5)
            arms = np.array([arrived - candidate, candidate])
            arms = np.stack([arms, rng.binomial(arms, rate_of(tenant, look))], axis=-1)
            for slice_ in ("", name if name in places else "tenant=other"):
                add(ours, slice_, arms)
            for slice_ in ("", name):
                add(by_name, slice_, arms)
            requests += arrived
            traffic[name] += arrived
        wealth = wealth_of(by_name)
        now = tuple(name for name, _ in (traffic - before).most_common(len(places)))
        fallen = fallen or falls(ours, wealth_of(ours), places)
        wrong = wrong or falls(by_name, wealth, now + ("tenant=",) * (len(places) - len(now)))
        places, _ = give_places(places, Popular("", {"tenant": requests}, traffic))
    return fallen, wrong


def false_alarms(world: World, runs: int, seed: int, processes: int = 1) -> Alarms:
    """Return how many of so many rollouts are rolled back."""
    found = spread(partial(one_run, world), generators(seed, runs), processes)
    return Alarms(world, runs, sum(ours for ours, _ in found), sum(wrong for _, wrong in found))


OVERALL = GateSpec("errors", "error_rate", max_increase=0.02, tolerance=0.01)
SHARE, STABLE_RATE, CANDIDATE_RATE = 0.1, 0.01, 0.06
"""Of one tenant's traffic, and how often each variant fails it; others fail in 1 % whoever serves. Of all requests the
candidate fails 0.5 points more often, half of what the gate of all requests tolerates."""

ASKED: Mapping[str, tuple[GateSpec, ...]] = {
    "all requests only": (OVERALL,),
    "slice: tenant=1": (OVERALL, GateSpec("one", "error_rate", max_increase=0.02, tolerance=0.01, slice="tenant=1")),
    "slices: each": (OVERALL, GateSpec("each", "error_rate", max_increase=0.02, tolerance=0.01, slices="each")),
}


def found_after(gates: tuple[GateSpec, ...], places: tuple[str, ...], source: np.random.SeedSequence) -> float:
    """Return after how many requests of all the harm to tenant 1 is found; infinite if not within 40,000."""
    rng, counts, step = np.random.default_rng(source), Counts(), 400
    case = Case(Spec("v2", "canary", gates=gates), (HALF,), slices=places)
    for requests in range(step, 40_000 + step, step):
        mine = int(rng.binomial(step, SHARE))
        for slice_, number, rate in (
            ("tenant=1", mine, CANDIDATE_RATE),
            ("tenant=other", step - mine, STABLE_RATE),
        ):
            candidate = int(rng.binomial(number, 0.5))
            arms = np.array([number - candidate, candidate])
            arms = np.stack([arms, rng.binomial(arms, [STABLE_RATE, rate])], axis=-1)
            add(counts, "", arms)
            add(counts, slice_, arms)
        if judge(case, look_of(counts), detail=False).rollback:
            return requests
    return math.inf


def medians(runs: int, seed: int, processes: int = 1) -> dict[tuple[str, int], float]:
    """Return the median of `found_after`, by what is asked and the number of places."""
    found = {}
    for asked, gates in ASKED.items():
        for most, sources in ((MOST, 1), (10, 4)) if asked == "slices: each" else ((MOST, 1),):
            others = [SliceSource.parse(f"header:other-{number}") for number in range(sources - 1)]
            places = places_of([SOURCE, *others], most, ["tenant=1"])
            after = spread(partial(found_after, gates, places), generators(seed, runs), processes)
            found[asked, len(places)] = float(np.median(after))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both tables; return 1 if equal variants were rolled back too often."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.slices")
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=20_261_125)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args(arguments)
    alarms = [false_alarms(world, asked.runs, asked.seed, asked.processes) for world in WORLDS]
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"rolled back of {asked.runs} rollouts of equal variants, alpha {ALPHA:.0%}")
    for one in alarms:
        console.print(
            f"  {one.world:8} {one.ours / one.runs:6.1%}, with places by present traffic {one.wrong / one.runs:6.1%}"
        )
    console.print("requests until harm to one tenant of a tenth of the traffic is found, median")
    for (gates, places), requests in medians(max(asked.runs // 10, 20), asked.seed, asked.processes).items():
        console.print(f"  {gates:18} {places:3} places: {requests:,.0f}")
    return int(any(one.ours > bound(one.runs) for one in alarms))


def bound(runs: int) -> float:
    """Return how many of so many rollouts may be rolled back, if alpha holds: three standard errors above it."""
    return runs * ALPHA + 3 * math.sqrt(runs * ALPHA * (1 - ALPHA))


if __name__ == "__main__":
    sys.exit(main())
