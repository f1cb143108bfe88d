"""What one evaluation costs: 6 gates in 10 slices after 10 million requests in 5 exposures (issue 3).

Times are of this process's CPU, the least of several repeats, so that other processes on the machine do not count, and
are scaled by how long a fixed piece of work takes here, so that a slow machine is not a slow judge.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from router.analysis.evidence import Evidence
from router.analysis.judge import judge, measure_of_ratios
from router.core.levels import levels_of, thresholds_of
from router.core.observations import AGREEMENT, BOTH, CORRECT, LABEL, LATENCY, PAIR, PAIR_FAILURE, CounterKey
from router.core.rollout import Exposure, GateSpec
from router.core.traffic import Role
from tests.analysis.cases import (
    ACCURACY,
    DISAGREEMENT,
    ERRORS,
    F1_LOSS,
    FEW_ERRORS,
    LATENCY_GATE,
    PRECISION_LOSS,
    RECALL,
    case_of,
    exposure,
)
from tests.analysis.ledger import paired, served, settled

SLICES = [f"digit={digit}" for digit in range(10)]
METRICS = (ERRORS, LATENCY_GATE, DISAGREEMENT, ACCURACY, RECALL, FEW_ERRORS)
EXPOSURES = [exposure(n, bp, slices=SLICES) for n, bp in enumerate((0, 100, 500, 2_500, 5_000), start=1)]
REQUESTS = 10_000_000
REPEATS = 20

WORK_S = 0.00134
"""What `_fixed_work` took on the machine on which the limits were set (2026-11-25, 2 virtual cores, Python 3.11)."""


def sliced(*gates: GateSpec) -> list[GateSpec]:
    """Return each gate for each slice."""
    return [replace(gate, name=f"{gate.name} of {slice_}", slice=slice_) for gate in gates for slice_ in SLICES]


def evidence_of_a_day(gates: list[GateSpec], slices: list[str]) -> Evidence:
    """Return evidence of 10 million requests, a tenth of them in each slice."""
    counters: dict[CounterKey, int] = {}
    for at in EXPOSURES:
        for slice_ in ("", *slices):
            requests = REQUESTS // len(EXPOSURES) // (10 if slice_ else 1)
            for role, share in ((Role.CANDIDATE, at.weight_bp / 10_000), (Role.STABLE, 1 - at.weight_bp / 10_000)):
                counters |= one_variant(gates, at, role, int(requests * share), slice_)
            pairs = requests // 10
            counters |= paired(at, PAIR, {BOTH: pairs, "candidate:timeout": 9}, slice_)
            counters |= paired(at, AGREEMENT, {"same": pairs - pairs // 100, "different": pairs // 100}, slice_)
            counters |= paired(at, PAIR_FAILURE, {"fine/fine": pairs - 4, "fail/fine": 2, "fine/fail": 2}, slice_)
            labels = pairs // 10
            rights = {"11": labels - 300, "10": 100, "01": 100, "00": 100}
            counters |= paired(at, CORRECT, rights, slice_)
            joint = {"111": labels // 10, "110": 50, "101": 50, "000": labels, "010": 50, "001": 50, "011": 9, "100": 9}
            classes = {f"{class_}:{code}": n for class_ in range(10) for code, n in joint.items()}
            counters |= paired(at, LABEL, classes, slice_)
    return Evidence(counters)


def one_variant(gates: list[GateSpec], at: Exposure, role: Role, requests: int, slice_: str) -> dict[CounterKey, int]:
    """Return live requests of one variant in one slice: some fail, some are slow, all buckets are filled."""
    ends = {"ok": requests - requests // 500, "http_error": requests // 1_000, "timeout": requests // 1_000}
    limits = thresholds_of([gate for gate in gates if gate.slice == slice_ and gate.metric == "latency"], at)
    edges = getattr(levels_of(one for found in limits for one in found), role)
    levels = {str(level): requests // (level + 2) ** 2 for level in range(1, len(edges) + 1)}
    levels["0"] = requests - sum(levels.values())
    histogram = settled(at, LATENCY, role, {str(bucket): 1 + requests // 400 for bucket in range(150, 550)}, slice_)
    return {**served(at, role, ends, open_=50, levels=levels, slice_=slice_), **histogram}


def least_s(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the least CPU time of several repeats."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def _fixed_work() -> object:
    """Do something like the judge does: dictionaries, small arrays, logarithms."""
    found = {f"cell {i}": i for i in range(4_000)}
    values = np.arange(1.0, 4_001.0).reshape(40, 100)
    total = 0.0
    for _ in range(60):
        total += float(np.log(np.exp(values - values.max(axis=-1, keepdims=True)).sum(axis=-1)).sum())
    return total + sum(found.values())


def slowness() -> float:
    """Return how many times slower than the reference this machine is now."""
    return least_s(_fixed_work) / WORK_S


@pytest.fixture(scope="module")
def day() -> Evidence:
    """Return the evidence of all tests here."""
    return evidence_of_a_day(sliced(*METRICS), SLICES)


def report(what: str, seconds: float, limit_s: float, slow: float) -> None:
    """Print a figure, shown with -s, and hold it to its limit."""
    print(f"{what}: {seconds * 1e3:.2f} ms, at most {limit_s * 1e3:.0f} ms x {slow:.2f}")  # noqa: T201
    assert seconds <= limit_s * max(slow, 1.0), f"{what} takes {seconds * 1e3:.2f} ms"


def test_six_gates_in_ten_slices_take_less_than_5_ms(day: Evidence) -> None:
    """Each second, of evidence that is merged already, without bounds and words."""
    case = case_of(*sliced(*METRICS), exposures=EXPOSURES)
    judgement = judge(case, day, detail=False)
    assert len(judge(case, day).gates) == 60
    assert judgement.invalid is None
    slow = slowness()
    # 4.8 ms when nothing else runs; beside other tests the caches are theirs, so half as much again is let pass.
    report("6 gates x 10 slices", least_s(lambda: judge(case, day, [], detail=False)), 0.0075, slow)


def test_precision_and_f1_in_ten_slices_take_less_than_60_ms(day: Evidence) -> None:
    """Every ten seconds."""
    case = case_of(*sliced(PRECISION_LOSS, F1_LOSS), exposures=EXPOSURES)
    slow = slowness()
    took_s = least_s(lambda: measure_of_ratios(case, day, detail=False), repeats=5)
    report("precision and f1 x 10 slices", took_s, 0.060, slow)


def test_detail_is_for_people_and_may_take_longer(day: Evidence) -> None:
    """Bounds, words and forecasts of all 60 gates, when somebody looks."""
    case = case_of(*sliced(*METRICS), exposures=EXPOSURES)
    slow = slowness()
    report("the same with detail", least_s(lambda: judge(case, day, []), repeats=5), 0.100, slow)


def test_the_number_of_requests_costs_nothing(day: Evidence) -> None:
    """A thousandth of the requests takes as long, within what a clock can tell."""
    case = case_of(*sliced(*METRICS), exposures=EXPOSURES)
    few = Evidence({key: -(-n // 1_000) for key, n in day.counters.items()})
    many_s, few_s = (least_s(lambda one=one: judge(case, one, [], detail=False)) for one in (day, few))  # type: ignore[misc]
    assert len(day.counters) == len(few.counters)
    assert many_s <= 1.5 * few_s
