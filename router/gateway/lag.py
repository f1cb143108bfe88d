"""How late the event loop is: for the metric, and to see overload.

One late turn says nothing: a busy neighbour or one large comparison makes it. An event loop that has more to do than
it can is late every time, so what is looked at is the least lag of the last second, as CoDel does with the least
delay of a queue (RFC 8289, section 4.1; there an interval of 100 ms and 5 % of it as the target).
"""

from router.gateway.deadlines import TICK_S
from router.telemetry.metrics import Histogram

LATE_S = 0.02
"""From here on a turn counts as late: the lag that is promised at the 99th percentile (reliability.md, OV9)."""

TURNS = round(1.0 / TICK_S)


class LoopLag(Histogram):
    """The metric turnout_loop_lag_seconds, and whether the lag is there to stay."""

    def __init__(self) -> None:
        super().__init__("turnout_loop_lag_seconds")
        self.standing = False
        """Whether each of the last TURNS turns was late; one in time ends it."""
        self._late = 0

    def observe(self, value: float) -> None:
        """Count by how many seconds one turn was late."""
        super().observe(value)
        self._late = self._late + 1 if value > LATE_S else 0
        self.standing = self._late >= TURNS
