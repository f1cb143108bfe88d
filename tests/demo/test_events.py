"""What is said while the demo runs."""

from __future__ import annotations

from typing import Any

import pytest

from router.demo.events import Event, clock_of, decided, level_of, waits_for
from tests.demo.bodies import GATES, NOON_S, decision, gate, judgement, rollout


def test_events_are_told_in_one_line() -> None:
    """Time, what it is about, the sentence."""
    assert Event(75.2, "25%", "step 2 of 4 is done").told() == "1:15  25%: step 2 of 4 is done"
    assert clock_of(599.9) == "9:59"


@pytest.mark.parametrize(
    ("record", "name"),
    [
        (decision("start"), "shadow"),
        (decision("advance", weight_bp=2_500), "25%"),
        (decision("promote", phase="promoted", mirror_bp=0), "promoted"),
        (decision("roll_back", phase="rolled_back", mirror_bp=0), "rolled back"),
        (decision("pause", phase="paused", actor="breaker:f00"), "pause by the breaker"),
        (decision("set_exposure", actor="operator:local"), "set exposure"),
    ],
)
def test_a_decision_is_named_by_where_it_leads(record: dict[str, Any], name: str) -> None:
    """A newcomer reads levels and ends, not kinds of commands."""
    assert decided(record, 3.0) == Event(3.0, name, "it is so")


def test_levels_are_called_as_in_the_configuration() -> None:
    """Weight 0 is the shadow."""
    assert [level_of(weight_bp) for weight_bp in (0, 1_000, 1_250)] == ["shadow", "10%", "12.5%"]


@pytest.mark.parametrize(
    ("body", "after_s", "waits"),
    [
        (rollout("promoted"), 9.0, "nothing"),
        (rollout("paused", reason="by hand"), 9.0, "a person, or the judge's rollback: paused, by hand"),
        (rollout(judged=judgement(harm="evidence of harm stands at 1 in 50")), 9.0, "evidence of harm stands at 1 in"),
        (rollout(judged=judgement(invalid="copies are missing")), 9.0, "copies are missing"),
        (rollout(), 2.4, "time in this step: 2 of 6 s"),
        (rollout(at=1, judged=judgement(requests=70)), 6.0, "requests of the candidate: 70 of 100"),
        (rollout(at=1, judged=judgement(requests=100, pairs=999)), 6.0, "pairs: 999 of 1,000"),
        (rollout(at=1, judged=judgement(requests=100, pairs=1_000)), 6.0, "the control loop's next turn"),
        (
            rollout(at=3, judged=judgement(*map(gate, GATES[:2]), requests=100, pairs=1_000)),
            6.0,
            "proof of accuracy, recall:0",
        ),
        (
            rollout(at=3, judged=judgement(gate("latency", proof=1.0), requests=100, pairs=1_000)),
            6.0,
            "the loop's next turn",
        ),
    ],
)
def test_what_a_rollout_waits_for_is_said(body: dict[str, Any], after_s: float, waits: str) -> None:
    """In the order in which Turnout's own guard asks."""
    assert waits_for(body, NOON_S + after_s).startswith(waits)
