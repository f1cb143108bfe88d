"""Ratios, intervals and medians of the comparison, on cells made up for it."""

import math
from dataclasses import replace

import pytest

from loadtests.compare.figures import CANARY, DIRECT, MIRROR, PLAIN, TURNOUT, Cell, Ratio, interval95, medians, ratios


def cell(system: str, mode: str, number: int = 1, gateway: float | None = 10.0, **changes: float | None) -> Cell:
    """Return one cell of the usual workload."""
    usual = Cell(
        system=system, mode=mode, body_bytes=100, connections=64, round=number, requests_s=1_000.0,
        cpu_us={"gateway": gateway, "control": changes.pop("control", None), "store": changes.pop("store", None)},
        p50_ms=1.0, p99_ms=2.0, errors=0, pairs_missing=None, p999_ms=3.0, rate_s=500.0, peak_rss_mib=40.0,
    )  # fmt: skip
    return replace(usual, **changes)  # type: ignore[arg-type]


def found(cells: list[Cell], mode: str, peer: str) -> Ratio:
    """Return the one ratio of a comparison with a peer."""
    (one,) = [ratio for ratio in ratios(cells) if (ratio.mode, ratio.peer) == (mode, peer)]
    return one


def test_a_ratio_is_the_median_of_those_of_single_rounds() -> None:
    """A round in which everything took twice as long does not change it."""
    cells = [cell(TURNOUT, CANARY, 1, 6.0), cell("envoy", CANARY, 1, 10.0)]
    cells += [cell(TURNOUT, CANARY, 2, 14.0), cell("envoy", CANARY, 2, 20.0)]
    cells += [cell(TURNOUT, CANARY, 3, 9.0), cell("envoy", CANARY, 3, 10.0)]
    assert found(cells, CANARY, "envoy").median == pytest.approx(0.7)


@pytest.mark.parametrize(("gateway", "passed"), [(8.0, True), (8.1, False)])
def test_a_must_of_the_design_is_held_or_missed(gateway: float, passed: bool) -> None:  # noqa: FBT001 - a case
    """100 % mirror against Envoy: at most 0.8."""
    one = found([cell(TURNOUT, MIRROR, 1, gateway), cell("envoy", MIRROR)], MIRROR, "envoy")
    assert (one.must, one.passed) == (0.8, passed)


def test_what_has_no_must_is_only_shown() -> None:
    """Traefik is in no row of the budgets."""
    one = found([cell(TURNOUT, MIRROR), cell("traefik", MIRROR)], MIRROR, "traefik")
    assert (one.must, one.passed) == (None, None)


def test_control_and_store_count_where_all_is_compared() -> None:
    """8 + 1 + 3 us against Envoy's 10."""
    cells = [cell(TURNOUT, MIRROR, 1, 8.0, control=1.0, store=3.0), cell("envoy", MIRROR)]
    assert found(cells, "mirror, with control and store", "envoy").median == pytest.approx(1.2)


def test_the_latency_compared_is_the_one_added_to_a_direct_call() -> None:
    """p99 direct 1 ms, through Turnout 3 ms, through Envoy 5 ms: half."""
    cells = [cell(DIRECT, PLAIN, 1, None, p99_ms=1.0), cell(TURNOUT, PLAIN, p99_ms=3.0)]
    cells += [cell("envoy", PLAIN, p99_ms=5.0)]
    assert found(cells, "plain, p99 added to direct", "envoy").median == pytest.approx(0.5)


def test_a_round_in_which_a_direct_call_was_unlucky_changes_no_ratio_of_latencies() -> None:
    """Direct 1, 9 and 1 ms: the gateways' 3 and 5 ms still add 2 and 4."""
    cells = [cell(DIRECT, PLAIN, number, None, p99_ms=ms) for number, ms in ((1, 1.0), (2, 9.0), (3, 1.0))]
    for number in (1, 2, 3):
        cells += [cell(TURNOUT, PLAIN, number, p99_ms=3.0), cell("envoy", PLAIN, number, p99_ms=5.0)]
    one = found(cells, "plain, p99 added to direct", "envoy")
    assert (one.low95, one.median, one.high95) == pytest.approx((0.5, 0.5, 0.5))


def test_other_bodies_and_connections_enter_no_ratio() -> None:
    """A 1 MiB cell is not taken for the design's workload."""
    cells = [cell(TURNOUT, PLAIN), cell("nginx", PLAIN), cell(TURNOUT, PLAIN, gateway=999.0, body_bytes=2**20)]
    assert found(cells, PLAIN, "nginx").median == pytest.approx(1.0)


def test_the_interval_is_student_s_on_logarithms() -> None:
    """Three rounds 0.5, 1 and 2: the logarithms have mean 0 and deviation ln 2; t(0.975; 2) = 4.3027."""
    half = 4.302653 * math.log(2) / math.sqrt(3)
    assert interval95([0.5, 1.0, 2.0]) == pytest.approx((math.exp(-half), math.exp(half)), rel=1e-6)


def test_one_round_has_no_interval() -> None:
    """Nothing can be said of scatter."""
    assert interval95([1.0]) == (None, None)


def test_medians_join_the_rounds_of_one_workload() -> None:
    """Figures by their median, errors and missing pairs by their sum."""
    rounds = [cell(TURNOUT, MIRROR, n, us, errors=n, pairs_missing=1) for n, us in enumerate((5.0, 9.0, 6.0), 1)]
    (one,) = medians(rounds)
    assert (one.cpu_us["gateway"], one.errors, one.pairs_missing, one.round) == (6.0, 6, 3, 3)
