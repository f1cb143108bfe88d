"""The watcher: asks what stands in Turnout while the walk goes on, for the view and for the report."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from router.demo.admin import Admin
from router.demo.pairs import IN_FLIGHT, PairCounts, PairReader, pair_counts
from router.demo.traffic import Traffic
from router.demo.turnout_process import DemoError, TurnoutProcess
from router.demo.walk import Walk

EVERY_S: Final = 1.0
"""Each round costs Turnout about 20 ms of CPU, most of it for the pairs. Chosen."""

GUARD_S: Final = 0.25

PAIRS: Final = 500
"""How many of the newest pairs are read in a round: the traffic makes 150 a second, and a round may come late."""

SETTLE_S: Final = 3.0
"""How long to wait at the end for copies and pairs that are under way. A copy takes milliseconds. Chosen."""


class Watch:
    """What is known of pairs and rollout. `run` and `guard` it beside the walk."""

    def __init__(self, admin: Admin, traffic: Traffic, walk: Walk, turnout: TurnoutProcess) -> None:
        self.pairs = PairReader()
        self.counts = PairCounts(0, 0, {})
        self._admin = admin
        self._traffic = traffic
        self._walk = walk
        self._turnout = turnout

    async def run(self) -> None:
        """Look around until cancelled."""
        while True:
            with contextlib.suppress(DemoError):  # control starts again: the next round sees it
                await self.look()
            await asyncio.sleep(EVERY_S)

    async def guard(self) -> None:
        """Raise DemoError as soon as Turnout has ended; until then, wait."""
        while self._turnout.running:  # noqa: ASYNC110 - a process has no event to wait for
            await asyncio.sleep(GUARD_S)
        raise DemoError(self._turnout.failure())

    async def look(self) -> None:
        """Ask for everything once; raises DemoError."""
        self.counts = pair_counts(await self._admin.metrics(), self._traffic.snapshot().in_flight)
        self.pairs.learn(self._traffic.take_labels(limit=10_000))
        self.pairs.read(await self._admin.pairs(PAIRS))
        self._walk.saw(await self._admin.rollout())

    async def settle(self) -> None:
        """Look until no copy is under way and all pairs were read, at most for SETTLE_S; raises DemoError."""
        give_up_s = asyncio.get_running_loop().time() + SETTLE_S
        while True:
            await self.look()
            settled = IN_FLIGHT not in self.counts.missing and self.pairs.scores().pairs >= self.counts.both
            if settled or asyncio.get_running_loop().time() > give_up_s:
                return
            await asyncio.sleep(0.1)
