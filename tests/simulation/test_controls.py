"""Wrong rules fail where ours holds, and ours is the product's."""

import numpy as np
import pytest

from router.analysis.evidence import Evidence
from router.analysis.judge import Case, judge, strongest
from router.core.decisions import Judgement
from router.core.observations import (
    AFFINITY,
    AGREEMENT,
    ALL,
    BOTH,
    CUTS,
    OUTCOME,
    PAIR,
    PAIR_VARIANT,
    STARTED,
    CounterKey,
)
from router.core.rollout import Exposure, GateSpec, Spec
from router.core.traffic import Role
from tests.simulation import controls
from tests.simulation.users import firsts

SEED = 20_261_125
RUNS = 200


@pytest.mark.parametrize("scenario", controls.SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_wrong_rule_errs_too_often_and_ours_does_not(scenario: controls.Scenario) -> None:
    """On the same rollouts, each wrong rule is above the bound and ours within."""
    found = controls.run_scenarios([scenario], RUNS, SEED, processes=1)
    assert found
    assert {(one.wrong_rule, one.wrong_rate > one.bound) for one in found} == {(one.wrong_rule, True) for one in found}
    assert all(one.our_rate <= one.bound for one in found)
    assert all(one.proves for one in found)


def test_the_first_event_of_a_unit_is_counted_once_in_each_exposure() -> None:
    """Where it was counted last is told, so that any start point knows whether it is new."""
    unit, exposure = np.array([7, 8, 7, 7, 7, 8]), np.array([0, 0, 0, 1, 2, 2])
    at, last = firsts(unit, exposure, 3)
    assert dict(zip(at.tolist(), last.tolist(), strict=True)) == {0: 0, 1: 0, 3: 1, 4: 2, 5: 1}


# -- Ours is the product's ---------------------------------------------------------------------------------------------


def judged(gate: GateSpec, counters: dict[CounterKey, int], shares: list[float], *, keyed: bool = False) -> Judgement:
    """Return what the product says, of exposures 1, 2, ... with these shares (0: copies only)."""
    exposures = [Exposure(k, round(share * 10_000), 1_000, "canary", 0.0) for k, share in enumerate(shares, start=1)]
    case = Case(Spec("candidate", "canary", gates=(gate,), beta=controls.BETA), exposures, attempt=0, keyed=keyed)
    return judge(case, Evidence({key: int(count) for key, count in counters.items()}), detail=False)


def test_keys_are_judged_as_by_the_product() -> None:
    """The sticky scenario and `judge.judge` on its counters give the same evidence."""
    rng = np.random.default_rng(SEED)
    counts = controls.by_unit(controls.served(rng, better_first=False), rng)["ours"]
    counters: dict[CounterKey, int] = {}
    for (k, last, v, failed), count in np.ndenumerate(counts[-1]):
        role, outcome = tuple(Role)[v], ("ok", "http_error")[failed]
        for cut in CUTS:
            counters[CounterKey(k + 1, AFFINITY + OUTCOME + cut, "", role, f"{outcome}/{last}")] = count
            started = CounterKey(k + 1, AFFINITY + STARTED + cut, "", role, f"{ALL}/{last}")
            counters[started] = counters.get(started, 0) + count
    gate = GateSpec("errors", "error_rate", max_increase=controls.MARGIN, tolerance=0.0)
    ours = strongest(controls.keyed_harm(counts[None])[0, -1:, None], np.ones(1), keyed=True)
    said = judged(gate, counters, controls.SHARES.tolist(), keyed=True)
    assert said.log_e == pytest.approx(ours[0], abs=1e-9)


def copies(different: int, same: int, missing: int) -> dict[CounterKey, int]:
    """Return the counters of one exposure of copies."""
    cells = {
        (STARTED, ALL): different + same + missing,
        (AGREEMENT, "different"): different,
        (AGREEMENT, "same"): same,
        (PAIR, BOTH): different + same,
        (PAIR, "candidate:timeout"): missing,
    }
    return {
        CounterKey(1, metric + cut, "", PAIR_VARIANT, cell): n for (metric, cell), n in cells.items() for cut in CUTS
    }


def test_the_product_does_not_promote_timeouts_where_it_would_disagree() -> None:
    """Of 3,000 copies 90 have no answer and all others agree: no proof of less than 2 %, and none without the 90."""
    gate = GateSpec("agreement", "disagreement", maximum=0.02)
    assert not judged(gate, copies(0, 2_910, 90), [0.0]).promote
    assert judged(gate, copies(0, 2_910, 0), [0.0]).promote


def test_the_product_does_not_roll_back_for_copies_without_an_answer() -> None:
    """A tenth of the copies missing is invalid, which holds the rollout; it is no evidence of harm."""
    said = judged(GateSpec("agreement", "disagreement", maximum=0.02), copies(5, 2_700, 300), [0.0])
    assert said.invalid
    assert not said.rollback
    assert not said.promote
