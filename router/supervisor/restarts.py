"""How long to wait before a process that has died is started again."""

from dataclasses import dataclass

SETTLED_S = 1.0
"""A process that was ready for this long did not die of its own start. Chosen: one worker start and a bit."""

FIRST_S = 0.1
LONGEST_S = 5.0


@dataclass(slots=True)
class Restarts:
    """The delays of one slot: none after the first death, then 0.1 s, 0.2 s ... 5 s while it keeps dying young."""

    early_deaths: int = 0

    def delay_s(self, ready_for_s: float) -> float:
        """Return the seconds to wait after a death; `ready_for_s` is 0 if the process never became ready."""
        if ready_for_s >= SETTLED_S:
            self.early_deaths = 0
        self.early_deaths += 1
        if self.early_deaths == 1:
            return 0.0
        return min(LONGEST_S, FIRST_S * 2.0 ** min(self.early_deaths - 2, 16))
