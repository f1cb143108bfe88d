"""The end of a demo: which results are good enough, and what is said about them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from router.demo.pairs import PairCounts
from router.demo.plan import ACTS, Ending
from router.demo.report import Report, failures, summary, to_json
from router.demo.tally import PhaseTally, Snapshot
from router.demo.watch import Flip
from tests.demo.bodies import NOON, decision

ONE, TWO = ACTS["digit"]
(CRASH,) = ACTS["crash"]
START = decision("start", actor="config:file")
PROMOTE = decision("promote", revision=5, phase="promoted", mirror_bp=0, reason="last step: all 12 gates pass")
BLAMED = decision("roll_back", candidate="v3", phase="rolled_back", mirror_bp=0, reason="recall:8: right in 52.00 %")
HALT = decision("set_exposure", phase="paused", actor="breaker:f00", reason="5 failures in a row")
FINAL = decision("roll_back", phase="rolled_back", mirror_bp=0, reason="error_rate: the candidate fails")


def snapshot_of(errors: Mapping[str, int] = MappingProxyType({}), *, rescued: int = 0) -> Snapshot:
    """Return what 40 s of traffic left behind."""
    failed = sum(errors.values())
    phase = PhaseTally("act one", 10_000 - failed, failed, rescued, MappingProxyType({}))
    return Snapshot(
        seconds=40.0, sent=10_000, answers=10_000 - failed, client_errors=failed, in_flight=0, skipped=0,
        errors=errors, variants={}, phases=(phase,),
    )  # fmt: skip


GOOD = Report(
    acts=(ONE, TWO),
    endings=(Ending(ONE, "promoted", 31.234, (START, PROMOTE)), Ending(TWO, "rolled_back", 6.0, (START, BLAMED))),
    snapshot=snapshot_of(),
    flips=(Flip("shadow", 0, 10_000, 1, 12.34), Flip("canary", 1_000, 10_000, 2, 30.0), Flip("promoted", 0, 0, 5, 8.0)),
    pairs=PairCounts(2_000, 1_990, {"timeout": 10}),
    labels={"accepted": 1_980, "waiting": 0, "late": 3},
)
CRASHED = replace(
    GOOD, acts=(CRASH,), endings=(Ending(CRASH, "rolled_back", 24.0, (START, HALT, FINAL)),),
    snapshot=snapshot_of(rescued=9), pairs=PairCounts(2_000, 1_900, {"candidate:connect_failed": 100}),
)  # fmt: skip


def test_a_run_that_is_as_it_must_be_has_no_failures() -> None:
    """Promoted, rolled back for the damaged digit, no client errors, 99.5 % of the copies complete."""
    assert failures(GOOD) == ()
    assert failures(CRASHED) == ()


LATE = replace(GOOD.endings[0], result="progressing", waited_for="proof of latency", decisions=(START,))
ELSEWHERE = replace(GOOD.endings[0], result="rolled_back", decisions=(START, FINAL))
OTHER_BLAME = replace(GOOD.endings[1], decisions=(START, {**BLAMED, "reason": "accuracy: right in 94.21 %"}))
BY_HAND = replace(GOOD.endings[1], decisions=(START, {**BLAMED, "actor": "operator:local"}))


@pytest.mark.parametrize(
    ("report", "sentence"),
    [
        (
            replace(GOOD, acts=(ONE,), endings=(LATE,)),
            "act one: v2 is progressing after 31 s, expected promoted; it waits for proof of latency",
        ),
        (
            replace(GOOD, acts=(ONE,), endings=(ELSEWHERE,)),
            "act one: v2 is rolled_back, expected promoted: error_rate: the candidate fails",
        ),
        (replace(GOOD, endings=GOOD.endings[:1]), "act two: was not played"),
        (
            replace(GOOD, endings=(GOOD.endings[0], OTHER_BLAME)),
            "act two: the decision does not blame recall:8: accuracy: right in 94.21 %",
        ),
        (
            replace(GOOD, endings=(GOOD.endings[0], BY_HAND)),
            "act two: the judge did not decide it, operator:local did",
        ),
        (
            replace(GOOD, snapshot=snapshot_of({"status_503": 2, "timeout": 1})),
            "client errors: 3 (status_503 2, timeout 1), expected none",
        ),
        (
            replace(GOOD, pairs=PairCounts(2_000, 1_899, {"timeout": 100, "reset": 1})),
            "pairs: 1,899 of 2,000 copies have both answers (missing: timeout 100, reset 1), expected at least 95%",
        ),
        (
            replace(GOOD, pairs=PairCounts(0, 0, {})),
            "pairs: 0 of 0 copies have both answers, expected at least 95%",
        ),
        (
            replace(GOOD, flips=(Flip("promoted", 0, 0, 5, None),)),
            "flip: the last decision had not reached all gateway workers after 5 s",
        ),
        (
            replace(CRASHED, snapshot=snapshot_of()),
            "rescue: no answer came from stable in place of the crashed candidate",
        ),
        (
            replace(CRASHED, endings=(Ending(CRASH, "rolled_back", 24.0, (START, FINAL)),)),
            "crash: no breaker took the candidate's traffic away",
        ),
    ],
)
def test_each_thing_that_is_wrong_is_said_in_words(report: Report, sentence: str) -> None:
    """Exactly one sentence names what was seen and what was expected."""
    assert failures(report) == (sentence,)


def test_limits_are_met_at_their_values() -> None:
    """95 % is just good enough; of a crashed candidate nobody expects answers."""
    assert failures(replace(GOOD, pairs=PairCounts(1_000, 950, {"candidate:reset": 50}))) == ()


def test_the_json_is_the_documented_one() -> None:
    """Every key of design.md section 8 is there, with plain JSON values."""
    told: Any = json.loads(json.dumps(to_json(GOOD), allow_nan=False))
    assert {key: told[key] for key in ("v", "ok", "seconds", "requests", "client_errors", "failures")} == {
        "v": 1, "ok": True, "seconds": 40.0, "requests": 10_000, "client_errors": 0, "failures": [],
    }  # fmt: skip
    assert told["pairs"] == {"copies": 2_000, "both": 1_990, "missing": {"timeout": 10}}
    assert told["labels"] == {"accepted": 1_980, "waiting": 0, "late": 3}
    assert told["flips"][0] == {"to": "shadow", "weight_bp": 0, "mirror_bp": 10_000, "reached_gateways_ms": 12.3}
    one, two = told["acts"]
    assert (one["candidate"], one["result"], one["seconds"]) == ("v2", "promoted", 31.234)
    assert (two["candidate"], two["result"], two["seconds"]) == ("v3", "rolled_back", 6.0)
    assert one["decisions"][0] == {
        "at": NOON, "kind": "start", "actor": "config:file", "reason": "it is so", "policy": "canary",
        "phase": "progressing", "weight_bp": 0, "mirror_bp": 10_000,
    }  # fmt: skip
    # The evidence of what ended an act: every gate's numbers.
    assert [gate["gate"] for gate in two["decisions"][-1]["judgement"]["gates"]].count("recall:8") == 1


def test_the_json_of_a_bad_run_says_so() -> None:
    """`ok` is false, the failures are there, and what was not seen is null."""
    bad = replace(GOOD, endings=(LATE,), flips=(Flip("shadow", 0, 10_000, 1, None),))
    told: Any = json.loads(json.dumps(to_json(bad), allow_nan=False))
    assert told["ok"] is False
    assert len(told["failures"]) == 3
    assert told["flips"][0]["reached_gateways_ms"] is None


def test_the_summary_says_how_each_act_ended_and_why() -> None:
    """A word, and what is to say about it; a promotion says how accurate the candidate is."""
    assert summary(GOOD) == (
        ("act one", "v2 promoted after 31 s: last step: all 12 gates pass; accuracy: what it says"),
        ("act two", "v3 rolled back after 6 s: recall:8: right in 52.00 %"),
        ("requests", "10,000 (250 a second), client errors: 0"),
        ("pairs", "1,990 of 2,000 copies have both answers (missing: timeout 10); labels: accepted 1,980, late 3"),
        ("flips", "3 of 3 seen on all gateway workers, the slowest after 30 ms"),
        ("result", "ok: v2 promoted, v3 rolled back"),
    )


def test_the_summary_of_a_crash_names_breaker_and_judge() -> None:
    """Two speeds: the breaker's halt, and what made it final."""
    assert summary(CRASHED)[:2] == (
        ("crash", "v2 rolled back after 24 s: 5 failures in a row; error_rate: the candidate fails"),
        ("requests", "10,000 (250 a second), client errors: 0, 9 rescued"),
    )


def test_the_summary_of_a_bad_run_names_each_failure() -> None:
    """The sentences stand before the verdict."""
    assert summary(replace(GOOD, acts=(ONE,), endings=(ELSEWHERE,)))[-2:] == (
        ("FAILED", "act one: v2 is rolled_back, expected promoted: error_rate: the candidate fails"),
        ("result", "not ok: v2 rolled back"),
    )
