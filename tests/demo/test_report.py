"""The end of a demo: which results are good enough, and what is said about them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from router.demo.flip import Flip
from router.demo.pairs import ModelScore, PairCounts, PairScores
from router.demo.plan import LEGS
from router.demo.report import Report, Share, failures, shares_of, summary, to_json
from router.demo.tally import Latency, PhaseTally, Snapshot, VariantTally

LATENCY = Latency(1.0, 2.0, 3.0, 4.0)


def snapshot_of(sent: int = 6_000, errors: Mapping[str, int] = MappingProxyType({}), *phases: PhaseTally) -> Snapshot:
    """Return what 40 s of traffic left behind."""
    failed = sum(errors.values())
    return Snapshot(
        seconds=40.0, sent=sent, answers=sent - failed, client_errors=failed, in_flight=0, skipped=0,
        errors=errors, variants={}, phases=phases,
    )  # fmt: skip


DECISION = {
    "at": "2026-01-31T12:00:00.000000Z", "route": "digits", "rollout": "dec972253c09.1", "revision": 1, "epoch": 1,
    "kind": "start", "reason": "demo: compare", "actor": "operator:local", "phase_before": "idle",
    "phase_after": "progressing", "weight_bp_before": 0, "weight_bp_after": 0, "mirror_bp_before": 0,
    "mirror_bp_after": 10_000, "policy": "shadow", "judgement": {},
}  # fmt: skip

GOOD = Report(
    snapshot=snapshot_of(),
    flips=(
        Flip("shadow", "shadow", 0, "v1", 2, 12.34),
        Flip("canary 10%", "canary", 1_000, "v1", 2, 30.0),
        Flip("promoted", "promoted", 0, "v2", 2, 8.0),
    ),
    shares=(Share("shadow", 0, 1_190, 0.0, 0.0, 0), Share("canary 10%", 1_000, 1_180, 0.11017, 0.00934, 0)),
    pairs=PairCounts(2_000, 1_990, {"timeout": 10}),
    scores=PairScores(
        1_990, 0.94623, {"stable": ModelScore(0.9441, 1.234, 2.5), "candidate": ModelScore(0.9873, 1, 3)}
    ),
    result="promoted",
    decisions=(DECISION,),
)


def test_a_run_that_is_as_it_must_be_has_no_failures() -> None:
    """150 requests/s, no client errors, 99.5 % of the copies complete, shares near, all flips reached."""
    assert failures(GOOD) == ()


@pytest.mark.parametrize(
    ("report", "sentence"),
    [
        (replace(GOOD, snapshot=snapshot_of(3_999)), "rate: 100.0 requests/s, expected at least 100"),
        (
            replace(GOOD, snapshot=snapshot_of(6_000, {"status_503": 2, "timeout": 1})),
            "client errors: 3 (status_503 2, timeout 1), expected none",
        ),
        (
            replace(GOOD, pairs=PairCounts(2_000, 1_959, {"timeout": 40, "reset": 1})),
            "pairs: 1,959 of 2,000 copies have both answers (missing: timeout 40, reset 1), expected at least 98%",
        ),
        (
            replace(GOOD, pairs=PairCounts(0, 0, {})),
            "pairs: 0 of 0 copies have both answers, expected at least 98%",
        ),
        (
            replace(GOOD, shares=(Share("canary 10%", 1_000, 592, 0.0556, 0.0127, 0),)),
            "share: canary 10% gave v2 5.56% of 592 answers, expected 10% +- 3.81% (3 standard errors)",
        ),
        (
            replace(GOOD, shares=(Share("shadow", 0, 592, 0.0017, 0.0, 0),)),
            "share: shadow gave v2 0.17% of 592 answers, expected 0% +- 0.00% (3 standard errors)",
        ),
        (
            replace(GOOD, shares=(Share("canary 25%", 2_500, 0, 0.0, math.inf, 0),)),
            "share: canary 25% gave v2 0.00% of 0 answers, expected answers (3 standard errors)",
        ),
        (
            replace(GOOD, flips=(Flip("blue/green", "blue_green", 10_000, "v1", 2, None),)),
            "flip: blue/green had not reached all 2 gateway workers after 5 s",
        ),
    ],
)
def test_each_thing_that_is_wrong_is_said_in_words(report: Report, sentence: str) -> None:
    """Exactly one sentence names what was seen and what was expected."""
    assert failures(report) == (sentence,)


def test_limits_are_met_at_their_values() -> None:
    """100 requests/s, 98 % and 3 standard errors are just good enough."""
    at_the_limits = replace(
        GOOD,
        snapshot=snapshot_of(4_000),
        pairs=PairCounts(1_000, 980, {"candidate:reset": 20}),
        shares=(Share("canary 50%", 5_000, 400, 0.575, 0.025, 0),),
    )
    assert failures(at_the_limits) == ()


def test_an_under_served_canary_of_twenty_seconds_is_noticed() -> None:
    """A split that gives 5.56 % for 10 % (weighted rendezvous hashing does) fails in the shortest documented walk."""
    leg = next(one for one in LEGS if one.name == "canary 10%")
    variants = {"candidate": VariantTally(33, 33, LATENCY), "stable": VariantTally(559, 559, LATENCY)}
    phase = PhaseTally("canary 10%", 592, 0, 0, 560.0, 0, variants)
    (share,) = shares_of(snapshot_of(6_000, {}, phase), [leg])
    assert not share.fits


def test_only_legs_with_a_share_are_measured() -> None:
    """Requests before the rollout, during a flip and after the promotion say nothing about a weight."""
    tallies = [
        PhaseTally(name, 10, 0, 0, 10.0, 0, {"stable": VariantTally(10, 10, LATENCY)})
        for name in ("start", "v1 alone", "flip to shadow", "shadow", "canary 10%", "promoted")
    ]
    assert [one.name for one in shares_of(snapshot_of(60, {}, *tallies), LEGS)] == ["shadow", "canary 10%"]


def test_the_json_is_the_documented_one() -> None:
    """Every key of design.md section 8 is there, with plain JSON values."""
    told: Any = json.loads(json.dumps(to_json(GOOD)))
    assert {key: told[key] for key in ("v", "ok", "seconds", "requests", "client_errors")} == {
        "v": 1, "ok": True, "seconds": 40.0, "requests": 6_000, "client_errors": 0,
    }  # fmt: skip
    assert told["pairs"] == {
        "copies": 2_000, "both": 1_990, "missing": {"timeout": 10}, "agreement": 0.9462,
    }  # fmt: skip
    assert told["flips"][0] == {"to": "shadow", "weight_bp": 0, "stable": "v1", "reached_gateways_ms": 12.3}
    assert told["shares"][1] == {
        "name": "canary 10%", "weight_bp": 1_000, "answers": 1_180, "share": 0.11017, "standard_error": 0.00934,
        "fits": True, "moved_users": 0,
    }  # fmt: skip
    assert told["models"]["v1"] == {"accuracy": 0.9441, "latency_p50_ms": 1.23, "latency_p95_ms": 2.5}
    assert told["acts"] == [
        {
            "candidate": "v2",
            "result": "promoted",
            "seconds": 40.0,
            "decisions": [
                {
                    "at": "2026-01-31T12:00:00.000000Z", "kind": "start", "actor": "operator:local",
                    "reason": "demo: compare", "policy": "shadow", "phase": "progressing", "weight_bp": 0,
                    "mirror_bp": 10_000,
                }
            ],
        }
    ]  # fmt: skip


def test_the_json_of_a_bad_run_says_so() -> None:
    """`ok` is false, the failures are there, and what was not measured is null."""
    bad = replace(
        GOOD,
        flips=(Flip("blue/green", "blue_green", 10_000, "v1", 2, None),),
        shares=(Share("canary 25%", 2_500, 0, 0.0, math.inf, 0),),
    )
    told: Any = json.loads(json.dumps(to_json(bad), allow_nan=False))
    assert told["ok"] is False
    assert len(told["failures"]) == 2
    assert told["flips"][0]["reached_gateways_ms"] is None
    assert told["shares"][0]["standard_error"] is None


def test_the_summary_says_each_result_in_a_line() -> None:
    """A word, and what is to say about it."""
    assert summary(GOOD) == (
        ("requests", "6,000 (150 a second), client errors: 0"),
        ("flips", "3 of 3 on all gateway workers, the slowest after 30 ms"),
        ("shares", "v2 got 11.0% at 10%"),
        ("pairs", "1,990 of 2,000 copies have both answers (missing: timeout 10); 94.6% agree"),
        ("right", "v1 94.4%, v2 98.7% of these labels"),
        ("result", "ok: rollout promoted"),
    )


def test_the_summary_of_a_bad_run_names_each_failure() -> None:
    """The sentences stand before the verdict."""
    assert summary(replace(GOOD, snapshot=snapshot_of(2_000)))[-2:] == (
        ("FAILED", "rate: 50.0 requests/s, expected at least 100"),
        ("result", "not ok: rollout promoted"),
    )
