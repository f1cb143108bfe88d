"""Copies leave together at the end of the loop's turn."""

from collections.abc import Callable
from typing import cast

from router.gateway.mirror import Copy, Departures


class Sent:
    """A copy that notes its departure."""

    def __init__(self, name: str, log: list[str]) -> None:
        self._name = name
        self._log = log

    def send(self) -> None:
        """Leave."""
        self._log.append(self._name)


def test_copies_of_one_turn_leave_in_order_by_one_call_and_not_before_it() -> None:
    """However many there are, the loop is asked once a turn; those of the next turn ask again."""
    asked: list[Callable[[], None]] = []
    log: list[str] = []
    departures = Departures(asked.append)
    for turn in ("one", "two"):
        for number in range(3):
            departures.add(cast("Copy", Sent(f"{turn}-{number}", log)))
        assert not any(name.startswith(turn) for name in log)
        assert len(asked) == 1
        asked.pop()()
        assert log[-3:] == [f"{turn}-{number}" for number in range(3)]
    assert len(log) == 6
