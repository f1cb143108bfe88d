"""What the demo reads out of metrics and pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from router.demo import pairs as pairs_module
from router.demo.pairs import ModelScore, PairCounts, PairReader, pair_counts
from router.demo.traffic import Label
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


def pair_of(number: int, stable: str | None, candidate: str | None, *, latency_ms: float = 1.0) -> dict[str, Any]:
    """Return a pair as the admin API gives it; None is an answer that is missing."""

    def side(label: str | None) -> dict[str, Any]:
        prediction = {"label": label, "score": 0.9}
        return {"outcome": "ok" if label else "timeout", "latency_ms": latency_ms, "prediction": prediction}

    same = None if stable is None or candidate is None else stable == candidate
    return {
        "pair_id": f"boot-{number}", "request_id": f"demo-3-{number}", "stable": side(stable),
        "candidate": side(candidate), "comparison": {"same": same},
    }  # fmt: skip


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


def test_both_models_are_scored_by_the_real_labels() -> None:
    """Agreement is between the models, right is by the label; a pair without a label still counts for agreement."""
    reader = PairReader()
    reader.learn([Label("demo-3-1", 7), Label("demo-3-2", 8), Label("demo-3-3", 3)])
    reader.read([pair_of(4, "1", "1"), pair_of(3, "3", "3"), pair_of(2, "3", "8"), pair_of(1, "7", "7")])
    scores = reader.scores()
    assert (scores.pairs, scores.agreement) == (4, 0.75)
    assert scores.models["stable"].accuracy == pytest.approx(2 / 3)
    assert scores.models["candidate"].accuracy == 1.0


def test_a_pair_that_is_seen_again_counts_once() -> None:
    """The newest pairs are read every second, so the same ones come again."""
    reader = PairReader()
    reader.read([pair_of(2, "1", "1"), pair_of(1, "1", "2")])
    reader.read([pair_of(3, "1", "1"), pair_of(2, "1", "1"), pair_of(1, "1", "2")])
    assert reader.scores().pairs == 3
    assert reader.scores().agreement == pytest.approx(2 / 3)


def test_a_pair_with_a_missing_answer_scores_nobody() -> None:
    """It is a pair, yet neither agreement nor a latency follows from it."""
    reader = PairReader()
    reader.learn([Label("demo-3-1", 7)])
    reader.read([pair_of(1, "7", None, latency_ms=30_000.0)])
    scores = reader.scores()
    assert (scores.pairs, scores.agreement) == (1, 0.0)
    assert scores.models["stable"] == ModelScore(0.0, 0.0, 0.0)


def test_latency_is_of_the_newest_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old pairs leave the window, so the view shows the present."""
    monkeypatch.setattr(pairs_module, "RECENT", 100)
    reader = PairReader()
    for number in range(200):
        reader.read([pair_of(number, "1", "1", latency_ms=1000.0 if number < 100 else number - 99.0)])
    assert reader.scores().models["stable"].p50_ms == 51.0
    assert reader.scores().models["stable"].p95_ms == 96.0


def test_only_so_many_labels_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are forgotten; their pairs then score nobody."""
    monkeypatch.setattr(pairs_module, "MAX_LABELS", 2)
    reader = PairReader()
    reader.learn([Label(f"demo-3-{number}", 5) for number in range(3)])
    reader.read([pair_of(number, "5", "5") for number in range(3)])
    assert reader.known_labels == 2
    assert reader.scores().models["stable"].accuracy == 1.0
