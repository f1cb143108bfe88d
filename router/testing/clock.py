"""A clock that stands still until the test moves it."""

from dataclasses import dataclass


@dataclass(slots=True)
class ManualClock:
    """Call it for the time in seconds; pass it wherever a `clock: Callable[[], float]` is asked for."""

    now_s: float = 0.0

    def __call__(self) -> float:
        """Return the present second."""
        return self.now_s

    def advance(self, seconds: float) -> float:
        """Move forward by `seconds` >= 0 and return the new time."""
        if seconds < 0:
            raise ValueError(f"a clock does not go back: advance({seconds}), expected 0 or more")
        self.now_s += seconds
        return self.now_s
