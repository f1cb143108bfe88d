"""What is said while the demo runs."""

from __future__ import annotations

from typing import Any

import pytest

from router.demo.events import Event, clock_of, decided, level_of
from tests.demo.bodies import decision


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
        (decision("set_exposure", phase="paused", actor="breaker:f00"), "halted"),
        (decision("set_exposure", actor="operator:local"), "set exposure"),
    ],
)
def test_a_decision_is_named_by_where_it_leads(record: dict[str, Any], name: str) -> None:
    """A newcomer reads levels and ends, not kinds of commands."""
    assert decided(record, 3.0) == Event(3.0, name, "it is so")


def test_levels_are_called_as_in_the_configuration() -> None:
    """Weight 0 is the shadow."""
    assert [level_of(weight_bp) for weight_bp in (0, 1_000, 1_250)] == ["shadow", "10%", "12.5%"]
