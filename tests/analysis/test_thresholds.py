"""Stable's quantiles are frozen from the past of the rollout, of the latest exposure that knows them."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from router.analysis.evidence import Evidence
from router.analysis.thresholds import FEWEST, freeze_thresholds
from router.core.levels import threshold_name
from router.core.observations import (
    LATENCY,
    LATENCY_BUCKETS,
    CounterKey,
    latency_bucket,
    latency_edge_ms,
)
from router.core.rollout import Exposure
from router.core.traffic import Role
from tests.analysis.cases import ERRORS, LATENCY_GATE, exposure, spread_ms
from tests.analysis.ledger import settled

ONE, TWO = exposure(1, 0, frozen=False), exposure(2, 100, frozen=False)
P50, P95, P99 = (threshold_name(quantile) for quantile in (0.5, 0.95, 0.99))


def answers(
    at: Exposure, cells: Mapping[int, int], role: Role = Role.STABLE, slice_: str = ""
) -> Mapping[CounterKey, int]:
    """Return answers of one variant by bucket."""
    return settled(at, LATENCY, role, {str(bucket): n for bucket, n in cells.items()}, slice_)


def frozen(*counters: Mapping[CounterKey, int], exposures: tuple[Exposure, ...] = (ONE, TWO)) -> dict[str, float]:
    """Return the thresholds by name, for a gate on latency."""
    evidence = Evidence({key: n for one in counters for key, n in one.items()})
    return dict(freeze_thresholds(evidence, exposures, [ERRORS, LATENCY_GATE]))


def test_quantiles_are_upper_edges_of_stables_buckets() -> None:
    """At most half, a twentieth and a hundredth of its answers are slower."""
    cells = {100: 500, 120: 450, 140: 40, 160: 10}
    expected = {P50: latency_edge_ms(100), P95: latency_edge_ms(120), P99: latency_edge_ms(140)}
    assert expected == frozen(answers(TWO, cells))


def test_a_frozen_quantile_is_within_a_bucket_of_the_true_one() -> None:
    """Two percent."""
    values = spread_ms(10_000)
    cells: dict[int, int] = {}
    for ms in values:
        cells[latency_bucket(ms)] = cells.get(latency_bucket(ms), 0) + 1
    for name, rank in ((P50, 5_000), (P95, 9_500), (P99, 9_900)):
        assert 1 <= frozen(answers(TWO, cells))[name] / values[rank - 1] <= 1.02


@pytest.mark.parametrize(("name", "quantile"), [(P50, 0.5), (P95, 0.95), (P99, 0.99)])
def test_a_quantile_needs_its_number_of_answers(name: str, quantile: float) -> None:
    """One fewer, and it is left out."""
    enough = FEWEST[quantile]
    assert [name in frozen(answers(TWO, {100: n})) for n in (enough, enough - 1)] == [True, False]


def test_at_least_ten_answers_lie_beyond_a_frozen_quantile() -> None:
    """That is where the numbers come from."""
    assert all(n * (1 - quantile) >= 10 - 1e-9 for quantile, n in FEWEST.items())


def test_the_latest_exposure_that_knows_a_quantile_gives_it() -> None:
    """Each quantile by itself: a young exposure knows its median before its tail."""
    old, young = answers(ONE, {100: 1_000}), answers(TWO, {200: 150})
    assert {P50: latency_edge_ms(200), P95: latency_edge_ms(100), P99: latency_edge_ms(100)} == frozen(old, young)


def test_only_exposures_of_the_rollout_until_now_count() -> None:
    """What another exposure has counted is not asked."""
    assert frozen(answers(exposure(3), {100: 1_000})) == {}


def test_the_candidates_answers_do_not_count() -> None:
    """Otherwise a slow candidate would set its own standard."""
    assert frozen(answers(TWO, {100: 1_000}, Role.CANDIDATE)) == {}


def test_each_slice_with_a_latency_gate_has_its_own() -> None:
    """And no other slice has any."""
    gates = [replace(LATENCY_GATE, name="of new", slice="user=new"), replace(ERRORS, slice="user=old")]
    cells = {slice_: answers(TWO, {bucket: 1_000}, slice_=slice_) for bucket, slice_ in
             ((100, ""), (200, "user=new"), (300, "user=old"))}  # fmt: skip
    evidence = Evidence({key: n for one in cells.values() for key, n in one.items()})
    expected = tuple((f"{name}@user=new", latency_edge_ms(200)) for name in (P50, P95, P99))
    assert expected == freeze_thresholds(evidence, [ONE, TWO], gates)


def test_without_a_latency_gate_nothing_is_frozen() -> None:
    """Nobody asks."""
    assert freeze_thresholds(Evidence(answers(TWO, {100: 1_000})), [TWO], [ERRORS]) == ()


def test_a_stable_model_beyond_the_last_edge_has_no_latency_to_defend() -> None:
    """There is no number to freeze above 1,000 s."""
    assert {P50: latency_edge_ms(100)} == frozen(answers(TWO, {100: 900, LATENCY_BUCKETS: 100}))


def test_thresholds_are_sorted_by_name() -> None:
    """So that equal evidence gives an equal state."""
    found = freeze_thresholds(Evidence(answers(TWO, {100: 1_000})), [TWO], [LATENCY_GATE])
    assert sorted(found) == list(found)
