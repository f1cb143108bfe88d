"""What the demo reads out of the gateways' metrics."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from router.demo.pairs import PairCounts, pair_counts
from router.telemetry.metrics import render


def page_of(
    pairs: Mapping[str, int], dropped: Mapping[tuple[str, ...], float] | None = None, in_flight: int = 0
) -> str:
    """Return the gateways' metrics as the ops port renders them."""
    return render(
        {
            "turnout_pairs_total": {(outcome,): count for outcome, count in pairs.items()},
            "turnout_dropped_total": {**(dropped or {})},
            "turnout_in_flight": {("digits", "v1"): in_flight},
            "turnout_requests_total": {("digits", "v1", "ok"): 1_000},
        }
    ).decode()


def test_copies_are_complete_pairs_and_all_that_is_missing() -> None:
    """Missing answers, pairs that were dropped and copies that were never sent all count as copies."""
    page = page_of(
        {"both": 950, "candidate:timeout": 20, "stable:cancelled": 5},
        {
            ("pair", "queue_full"): 10,
            ("copy", "in_flight"): 12,
            ("copy", "not_readdressable"): 4,
            ("pair", "trimmed"): 7,
        },
    )
    missing = {"candidate:timeout": 20, "dropped:queue_full": 10, "not_sent:in_flight": 12, "stable:cancelled": 5}
    assert pair_counts(page, 0) == PairCounts(997, 950, missing)


def test_a_copy_under_way_is_missing_until_it_has_its_answer() -> None:
    """A candidate that hangs does not look better for being slow; live requests are no copies."""
    counts = pair_counts(page_of({"both": 90}, in_flight=14), live_in_flight=4)
    assert counts == PairCounts(100, 90, {"in_flight": 10})
    assert counts.complete == pytest.approx(0.9)


def test_before_the_first_copy_nothing_is_complete() -> None:
    """No copies are no success."""
    assert pair_counts(page_of({}), 0) == PairCounts(0, 0, {})
    assert pair_counts(page_of({}), 0).complete == 0.0
