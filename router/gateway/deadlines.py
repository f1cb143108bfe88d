"""One coarse clock for all deadlines of a worker.

A timer per request costs more than the request's own bookkeeping, and keeps a finished request alive until it fires.
So only connections are registered, and a connection whose deadline has moved is put back when its turn comes.
"""

from typing import Protocol

TICK_S = 0.05
"""How late a deadline may be noticed. Chosen; 10 % of the shortest sensible deadline."""

NEVER = float("inf")


class Timed(Protocol):
    """Something with one current deadline on the loop's clock, NEVER when none."""

    deadline: float
    wheel_at: float
    """Where the wheel has it, NEVER when nowhere; owned by the wheel."""

    def on_deadline(self) -> None:
        """The deadline has passed."""


class Wheel:
    """Calls `on_deadline` at most two ticks after the deadline of each registered object.

    `set` costs one comparison unless the deadline comes earlier than the place the wheel has for it. An object has at
    most one place; `forget` takes it away, so that the wheel keeps nothing alive that is over.
    """

    def __init__(self, now: float) -> None:
        self._slots: dict[int, dict[Timed, None]] = {}
        self._turned_to = int(now / TICK_S)

    def __repr__(self) -> str:
        return f"<Wheel at {self._turned_to * TICK_S:.2f} s, {sum(map(len, self._slots.values()))} registered>"

    def set(self, timed: Timed, deadline: float) -> None:
        """Move the deadline of `timed`."""
        timed.deadline = deadline
        if deadline < timed.wheel_at:
            self._place(timed, deadline)

    def forget(self, timed: Timed) -> None:
        """Let go of `timed`, whose deadline will not be noticed any more."""
        timed.deadline = NEVER
        self._displace(timed)

    def turn(self, now: float) -> None:
        """Fire what is due; called every TICK_S, catches up after a late call."""
        for slot in range(self._turned_to, int(now / TICK_S)):
            self._turned_to = slot + 1  # first, so that what is set in `on_deadline` goes to a slot still to come
            for timed in self._slots.pop(slot, ()):
                timed.wheel_at = NEVER
                if timed.deadline <= now:
                    timed.on_deadline()
                elif timed.deadline != NEVER:
                    self._place(timed, timed.deadline)

    def _place(self, timed: Timed, deadline: float) -> None:
        self._displace(timed)
        slot = max(int(deadline / TICK_S), self._turned_to)
        timed.wheel_at = (slot + 0.5) * TICK_S
        self._slots.setdefault(slot, {})[timed] = None

    def _displace(self, timed: Timed) -> None:
        if timed.wheel_at != NEVER:
            self._slots.get(int(timed.wheel_at / TICK_S), {}).pop(timed, None)
            timed.wheel_at = NEVER
