"""The wheel: no deadline early, none more than two ticks late, and nothing kept alive that is over."""

import gc
import weakref

from hypothesis import given, settings
from hypothesis import strategies as st

from router.gateway.deadlines import NEVER, TICK_S, Wheel

REPEATABLE = settings(derandomize=True, deadline=None)
"""The same examples in every run, however busy the machine is."""


class Fired:
    """Something with a deadline that notes when it was called."""

    def __init__(self, wheel: Wheel) -> None:
        self.deadline = NEVER
        self.wheel_at = NEVER
        self.wheel = wheel
        self.now = 0.0
        self.at: list[float] = []
        self.then_s: float | None = None

    def on_deadline(self) -> None:
        """Note it, and set the next deadline when there is to be one."""
        self.at.append(self.now)
        if self.then_s is not None:
            then_s, self.then_s = self.then_s, None
            self.wheel.set(self, self.now + then_s)


def turn_to(wheel: Wheel, end: float, *timed: Fired, start: float = 0.0) -> None:
    """Turn tick by tick, as a worker does."""
    now = start
    while now < end:
        now = round(now + TICK_S, 6)
        for one in timed:
            one.now = now
        wheel.turn(now)


MOMENTS = st.floats(min_value=0.0, max_value=20.0, allow_nan=False)
MOVES = st.lists(st.tuples(MOMENTS, st.one_of(st.just(NEVER), st.floats(min_value=0.0, max_value=30.0))), max_size=12)


@REPEATABLE
@given(moves=MOVES)
def test_the_last_deadline_set_is_the_one_that_counts(moves: list[tuple[float, float]]) -> None:
    """Deadlines moved back and forth at random moments: each that is reached unmoved fires once, within two ticks."""
    wheel = Wheel(0.0)
    timed = Fired(wheel)
    expected, now, deadline = [], 0.0, NEVER
    for at, after in [*sorted(moves), (60.0, NEVER)]:
        moment = max(now, at)
        while now < moment:
            now = round(now + TICK_S, 6)
            timed.now = now
            before = len(timed.at)
            wheel.turn(now)
            if len(timed.at) > before:
                expected.append(deadline)
                deadline = timed.deadline = NEVER
            assert deadline > now - 2 * TICK_S - 1e-6, "overdue"
        deadline = NEVER if after == NEVER else now + after
        wheel.set(timed, deadline)
    assert len(timed.at) == len(expected)
    assert all(-1e-6 <= at - due <= 2 * TICK_S + 1e-6 for at, due in zip(timed.at, expected, strict=True))


def test_an_earlier_deadline_after_a_later_one_fires_once() -> None:
    """Idle 75 s, then a head deadline of 10 s, then gone: the place at 75 s must not stumble over it."""
    wheel = Wheel(0.0)
    timed = Fired(wheel)
    wheel.set(timed, 75.0)
    wheel.set(timed, 10.0)
    turn_to(wheel, 100.0, timed)
    assert len(timed.at) == 1
    assert 10.0 <= timed.at[0] <= 10.0 + 2 * TICK_S


def test_two_deadlines_in_one_tick_fire_once() -> None:
    """Moved within its own slot."""
    wheel = Wheel(0.0)
    timed = Fired(wheel)
    wheel.set(timed, 1.049)
    wheel.set(timed, 1.001)
    turn_to(wheel, 2.0, timed)
    assert len(timed.at) == 1


def test_a_deadline_in_the_past_fires_with_the_next_tick() -> None:
    """Set too late, also from within a deadline."""
    wheel = Wheel(5.0)
    timed = Fired(wheel)
    timed.then_s = -3.0
    wheel.set(timed, 1.0)
    turn_to(wheel, 6.0, timed, start=5.0)
    assert len(timed.at) == 2
    assert timed.at[-1] <= 5.0 + 3 * TICK_S


def test_a_late_turn_fires_everything_that_is_due() -> None:
    """A loop that was blocked for three seconds catches up in one turn, in the order of the deadlines."""
    wheel = Wheel(0.0)
    order: list[float] = []

    class Noted(Fired):
        def on_deadline(self) -> None:
            order.append(self.deadline)

    for deadline in (2.9, 0.3, 1.5, 5.0):
        wheel.set(Noted(wheel), deadline)
    wheel.turn(3.2)
    assert order == [0.3, 1.5, 2.9]


def test_a_connection_that_is_forgotten_is_let_go_at_once() -> None:
    """Short connections must not pile up until their idle time has passed."""
    wheel = Wheel(0.0)
    timed = Fired(wheel)
    wheel.set(timed, 75.0)
    wheel.set(timed, 10.0)
    gone = weakref.ref(timed)
    wheel.forget(timed)
    del timed
    gc.collect()
    assert gone() is None


def test_one_deadline_may_end_another() -> None:
    """Forgotten while the same tick is fired: it stays silent."""
    wheel = Wheel(0.0)
    second = Fired(wheel)

    class Ending(Fired):
        def on_deadline(self) -> None:
            wheel.forget(second)

    wheel.set(Ending(wheel), 1.0)
    wheel.set(second, 1.0)
    turn_to(wheel, 2.0, second)
    assert second.at == []
