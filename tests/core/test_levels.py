"""Latency thresholds and levels: rounding never speaks against the candidate, and never for it."""

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.core.levels import (
    QUANTILES,
    Levels,
    Threshold,
    level_of,
    levels_of,
    threshold_name,
    thresholds_of,
)
from router.core.observations import LATENCY_BUCKETS, latency_bucket, latency_edge_ms
from router.core.rollout import Exposure, GateSpec

LAWS = settings(deadline=None, derandomize=True)
GATE = GateSpec("latency", "latency", max_increase=0.1, slack_ms=0.0)
TAUS_MS = st.floats(0.01, 1e6)
EDGES = st.integers(0, LATENCY_BUCKETS - 1)


def thresholds(gate: GateSpec, *taus_ms: float, slice_: str = "") -> tuple[Threshold, ...]:
    """Return a gate's thresholds where stable's quantiles are frozen at these numbers."""
    frozen = tuple((threshold_name(q, slice_), tau_ms) for q, tau_ms in zip(QUANTILES, taus_ms, strict=False))
    (found,) = thresholds_of([gate], Exposure(1, 100, 0, "canary", 0.0, frozen))
    return found


def one(gate: GateSpec, tau_ms: float) -> Threshold:
    """Return the threshold of a gate whose three quantiles are the same."""
    return thresholds(gate, tau_ms, tau_ms, tau_ms)[0]


@pytest.mark.parametrize(
    ("quantile", "slice_", "expected"),
    [(0.5, "", "latency_p50_ms"), (0.95, "", "latency_p95_ms"), (0.99, "digit=8", "latency_p99_ms@digit=8")],
)
def test_a_threshold_is_named_by_quantile_and_slice(quantile: float, slice_: str, expected: str) -> None:
    """As the State keeps it."""
    assert expected == threshold_name(quantile, slice_)


@given(TAUS_MS, st.floats(0, 2), st.floats(0, 1), st.floats(0, 50))
@LAWS
def test_harm_is_rounded_up_and_proof_down_to_an_edge(tau_ms: float, margin: float, part: float, slack: float) -> None:
    """By less than a bucket; beyond the last edge there is nothing to round to."""
    gate = replace(GATE, max_increase=margin, tolerance=part * margin, slack_ms=slack)
    found = one(gate, tau_ms)
    harm_ms, proof_ms = (1 + part * margin) * tau_ms + slack, (1 + margin) * tau_ms + slack
    last_ms = latency_edge_ms(LATENCY_BUCKETS - 1)
    near = 1 + 1e-9
    for bucket, exact_ms in ((found.stable, tau_ms), (found.harm, harm_ms)):
        assert latency_edge_ms(bucket) * near >= exact_ms
        assert bucket == 0 or latency_edge_ms(bucket - 1) < exact_ms * near
    if 0.1 <= proof_ms <= last_ms:
        assert latency_edge_ms(found.proof) <= proof_ms * near
        assert latency_edge_ms(found.proof + 1) * near > proof_ms


@given(EDGES)
@example(0)
@example(LATENCY_BUCKETS - 1)
@LAWS
def test_a_number_on_an_edge_stays_on_it(bucket: int) -> None:
    """A frozen quantile is an edge, so without margin and slack nothing is rounded."""
    found = one(replace(GATE, max_increase=0.0), latency_edge_ms(bucket))
    assert Threshold(bucket, bucket, bucket) == found


@given(TAUS_MS)
@LAWS
def test_answers_of_equal_models_are_slow_alike_without_a_margin(tau_ms: float) -> None:
    """Harm is never asked below stable's own threshold."""
    found = one(replace(GATE, max_increase=0.0), tau_ms)
    assert found.harm == found.stable >= found.proof


def test_slack_is_added_to_the_candidates_thresholds() -> None:
    """A model of 0.2 ms may take 2 ms more before anybody asks."""
    found = one(replace(GATE, slack_ms=2.0), 0.2)
    assert latency_edge_ms(found.harm - 1) < 1.05 * 0.2 + 2.0 <= latency_edge_ms(found.harm)
    assert latency_edge_ms(found.proof) <= 1.1 * 0.2 + 2.0 < latency_edge_ms(found.proof + 1)
    assert found.stable == latency_bucket(0.2)


def test_two_milliseconds_are_the_default() -> None:
    """Of slack."""
    assert GateSpec("latency", "latency", max_increase=0.1).slack_ms == 2.0


def test_the_tolerance_is_half_of_the_margin_unless_it_is_set() -> None:
    """Of harm; proof knows the margin only."""
    default, set_ = one(GATE, 100.0), one(replace(GATE, tolerance=0.1), 100.0)
    assert latency_edge_ms(default.harm - 1) < 105 <= latency_edge_ms(default.harm)
    assert latency_edge_ms(set_.harm - 1) < 110 <= latency_edge_ms(set_.harm)
    assert default.proof == set_.proof


@pytest.mark.parametrize("known", [0, 1, 2])
def test_without_all_three_quantiles_a_gate_has_no_threshold(known: int) -> None:
    """The minimum over the quantiles decides, so two of them decide nothing."""
    assert thresholds(GATE, *[10.0] * known) == ()


def test_a_gate_takes_the_quantiles_of_its_slice() -> None:
    """Those of all requests are another matter."""
    sliced = replace(GATE, slice="digit=8")
    assert len(thresholds(sliced, 1.0, 2.0, 3.0, slice_="digit=8")) == 3
    assert thresholds(sliced, 1.0, 2.0, 3.0) == ()
    assert thresholds(GATE, 1.0, 2.0, 3.0, slice_="digit=8") == ()


def test_levels_hold_the_edges_of_all_gates_once_and_in_order() -> None:
    """Two gates of one slice share stable's edges."""
    tight = thresholds(GATE, 10.0, 20.0, 40.0)
    loose = thresholds(replace(GATE, max_increase=0.5), 10.0, 20.0, 40.0)
    levels = levels_of([*loose, *tight])
    assert Levels(stable=tuple(t.stable for t in tight), candidate=levels.candidate) == levels
    assert sorted({edge for t in (*tight, *loose) for edge in (t.harm, t.proof)}) == list(levels.candidate)


def test_without_thresholds_there_are_no_levels() -> None:
    """Every latency is then in level 0."""
    assert Levels() == levels_of([])
    assert level_of((), LATENCY_BUCKETS) == 0


@given(st.lists(EDGES, unique=True).map(sorted), st.integers(0, LATENCY_BUCKETS))
@LAWS
def test_a_level_is_the_number_of_edges_that_a_latency_exceeds(edges: list[int], bucket: int) -> None:
    """A latency in the bucket that ends at an edge does not exceed it."""
    assert sum(bucket > edge for edge in edges) == level_of(tuple(edges), bucket)


@given(EDGES, st.floats(1e-6, 0.9))
@LAWS
def test_an_answer_is_slow_iff_it_is_slower_than_the_edge(edge: int, step: float) -> None:
    """Just below and just above."""
    edge_ms = latency_edge_ms(edge)
    assert level_of((edge,), latency_bucket(edge_ms * (1 - step))) == 0
    assert level_of((edge,), latency_bucket(edge_ms * (1 + step))) == 1


def test_a_threshold_beyond_the_last_edge_is_exceeded_by_nothing() -> None:
    """A stable model slower than 1,000 s."""
    found = one(GATE, 1e9)
    assert Threshold(LATENCY_BUCKETS, LATENCY_BUCKETS, LATENCY_BUCKETS) == found
    assert level_of((found.proof,), latency_bucket(1e12)) == 0
