"""The walk itself: leg after leg by the admin API, while the traffic goes on and somebody watches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from router.demo.admin import Admin, Body
from router.demo.flip import Flip, flip
from router.demo.plan import LEGS, Leg, leg_ends_s
from router.demo.tally import PhaseTally
from router.demo.traffic import Traffic

BETWEEN = "flip to "
"""Phase of the traffic while a flip is on its way: these requests belong to neither leg."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something worth a line: `at_s` seconds after the start, in the leg `name`; `meaning` is for newcomers."""

    at_s: float
    name: str
    text: str
    meaning: str = ""

    def told(self) -> str:
        """Return it as one line."""
        said = "; ".join(part for part in (self.meaning, self.text) if part)
        return f"{clock_of(self.at_s)}  {self.name}: {said}"


class Walk:
    """Takes a rollout along the legs, once.

    `place` indexes `legs` (len(legs) at the end), `rollout` is what the admin API said last, `flips` grows. `tell` gets
    each Event.
    """

    def __init__(
        self, admin: Admin, traffic: Traffic, seconds: float, tell: Callable[[Event], None], legs: Sequence[Leg] = LEGS
    ) -> None:
        self.legs = legs
        self.ends_s = leg_ends_s(seconds, legs)
        self.place = 0
        self.rollout: Body | None = None
        self.flips: list[Flip] = []
        self._admin = admin
        self._traffic = traffic
        self._tell = tell
        self._started_s = time.monotonic()

    def __repr__(self) -> str:
        return f"<Walk {self.place} of {len(self.legs)} legs done, {len(self.flips)} flips>"

    def saw(self, rollout: Body) -> None:
        """Take note of what the admin API said, unless something newer is known: answers can overtake each other."""
        if self.rollout is None or rollout["revision"] >= self.rollout["revision"]:
            self.rollout = rollout

    @property
    def elapsed_s(self) -> float:
        """Seconds since this was made."""
        return time.monotonic() - self._started_s

    async def run(self) -> None:
        """Walk all legs. Raises DemoError when a command is refused; cancelled, the rollout stays where it is."""
        self._started_s = time.monotonic()
        for place, (leg, end_s) in enumerate(zip(self.legs, self.ends_s, strict=True)):
            self.place = place
            if leg.command is None:
                self._say(leg, "", leg.meaning)
            else:
                self._traffic.mark(f"{BETWEEN}{leg.name}")
                done, rollout = await flip(self._admin, leg, leg.command)
                self.saw(rollout)
                self.flips.append(done)
                self._say(leg, reach_of(done), leg.meaning)
            self._traffic.mark(leg.name)
            await asyncio.sleep(max(0.0, end_s - self.elapsed_s))
            if leg.measures_share:
                self._say(leg, answers_of(self._traffic.snapshot().phases[-1]))
        self.place = len(self.legs)

    def _say(self, leg: Leg, text: str, meaning: str = "") -> None:
        self._tell(Event(self.elapsed_s, leg.name, text, meaning))


def clock_of(seconds: float) -> str:
    """Return a duration as `1:05`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def reach_of(one: Flip) -> str:
    """Say how long a flip took."""
    if one.reached_ms is None:
        return f"NOT on all of {one.gateways} gateway workers"
    return f"on all {one.gateways} gateway workers after {one.reached_ms:.0f} ms"


def answers_of(phase: PhaseTally) -> str:
    """Say what came back in one leg."""
    share = f"{phase.share('candidate'):.1%} of them by v2"
    return f"{phase.answers:,} answers, {share}, client errors: {phase.client_errors}"
