"""How many users there are as a run goes on: each shape gives the share (0..1) of all users at a share of the time."""

from collections.abc import Callable, Mapping
from math import cos, pi
from types import MappingProxyType

Shape = Callable[[float], float]
"""From progress, 0 at the start of the run to 1 at its end, to the share of the users that are there."""

WARM_UP = 0.02
"""The first users come within this share of the run, not all at once. Chosen."""
LEAST = 0.1
STEPS = 4
DAYS = 2


def constant(progress: float) -> float:
    """All of them, after a short rise."""
    return min(1.0, progress / WARM_UP)


def step(progress: float) -> float:
    """A quarter, a half, three quarters, all: each for a quarter of the time. Where does it begin to hurt?"""
    return min(STEPS, int(progress * STEPS) + 1) / STEPS


def ramp(progress: float) -> float:
    """From a tenth up to all within half of the time, then constant."""
    return min(1.0, LEAST + (1 - LEAST) * 2 * progress)


def spike(progress: float) -> float:
    """A fifth, but all of them at once for the middle tenth of the time."""
    return 1.0 if 0.45 <= progress < 0.55 else 0.2


def diurnal(progress: float) -> float:
    """Two days: from a tenth at night to all at noon, as a cosine."""
    return LEAST + (1 - LEAST) * (1 - cos(2 * pi * DAYS * progress)) / 2


def soak(progress: float) -> float:
    """Three quarters for all of the time: below what hurts, for hours."""
    return 0.75 * constant(progress)


SHAPES: Mapping[str, Shape] = MappingProxyType(
    {"constant": constant, "step": step, "ramp": ramp, "spike": spike, "diurnal": diurnal, "soak": soak}
)


def users_at(shape: Shape, second: float, seconds: float, users: int) -> int | None:
    """Return how many users are there in this second of a run of `seconds`, at least one; None once it is over."""
    return max(1, round(users * shape(second / seconds))) if second < seconds else None
