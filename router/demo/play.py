"""The play: act after act, moved by Turnout alone, while the traffic goes on and labels come back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from router.demo.admin import Admin, Body
from router.demo.events import Event
from router.demo.plan import Act, Ending, block_for, must_crash
from router.demo.traffic import Traffic
from router.demo.turnout_process import DemoError
from router.demo.watch import EVERY_S, Watch

SLOWEST: Final = 5.0
"""How many times slower than its schedule the traffic may be before the limit counts by the clock. Chosen."""


class Play:
    """Runs acts, once. It starts a rollout, or waits for the file's block to start, and then only watches.

    `act` is the present one, `endings` grows. `kill` ends the server of a model. `limit_s` are seconds of traffic: on a
    machine that is too slow for its rate they take longer, up to SLOWEST times.
    """

    def __init__(  # noqa: PLR0913 - everything it touches is handed in
        self,
        *,
        acts: Sequence[Act],
        config: Mapping[str, Any],
        admin: Admin,
        traffic: Traffic,
        watch: Watch,
        kill: Callable[[str], None],
        tell: Callable[[Event], None],
        limit_s: float,
    ) -> None:
        self.acts = acts
        self.act = acts[0]
        self.endings: list[Ending] = []
        self.limit_s = limit_s
        self._config = config
        self._admin = admin
        self._traffic = traffic
        self._watch = watch
        self._kill = kill
        self._tell = tell
        self._started_s = time.monotonic()

    def __repr__(self) -> str:
        return f"<Play {self.act.name!r}, {len(self.endings)} of {len(self.acts)} acts ended>"

    @property
    def elapsed_s(self) -> float:
        """Seconds since this was made."""
        return time.monotonic() - self._started_s

    @property
    def over(self) -> bool:
        """Whether no act is under way any more."""
        return len(self.endings) == len(self.acts) or any(one.result != one.act.expected for one in self.endings)

    async def run(self) -> None:
        """Play all acts, or up to the first that does not end as it must.

        Raises DemoError when a rollout cannot be started. Cancelled, the rollout goes on without anybody watching.
        """
        self._started_s = time.monotonic()
        for act in self.acts:
            self.act = act
            self._traffic.mark(act.name)
            self.endings.append(await self._play(act))
            if self.over:
                return

    async def _play(self, act: Act) -> Ending:
        began_s = self.elapsed_s
        self._tell(Event(began_s, act.name, act.title))
        if not act.in_file:
            await self._admin.start(block_for(act, self._config))
        crashed = False
        while True:
            with contextlib.suppress(DemoError):  # control starts again: the next look sees it
                await self._watch.look()
            rollout = self._rollout_of(act)
            if rollout and rollout["phase"] in act.ends:
                return self._ending(act, rollout["phase"], began_s)
            if rollout and not crashed and must_crash(act, rollout):
                crashed = True
                self._kill(act.candidate)
                self._tell(Event(self.elapsed_s, "crash", f"the server of {act.candidate} is killed while it serves"))
            if self._time_is_up:
                with contextlib.suppress(DemoError):
                    await self._watch.ask_why()
                waited_for = self._watch.waits_for or "a sign of life of the control process"
                return self._ending(act, rollout["phase"] if rollout else "not started", began_s, waited_for)
            await asyncio.sleep(EVERY_S)

    @property
    def _time_is_up(self) -> bool:
        return self._traffic.offered_s >= self.limit_s or self.elapsed_s >= SLOWEST * self.limit_s

    def _rollout_of(self, act: Act) -> Body | None:
        """Return the rollout that is this act's, once it has begun."""
        rollout = self._watch.rollout
        return rollout if rollout and rollout["candidate"] == act.candidate else None

    def _ending(self, act: Act, result: str, began_s: float, waited_for: str = "") -> Ending:
        rollout = self._rollout_of(act)
        mine = [one for one in self._watch.decisions if rollout and one["rollout"] == rollout["id"]]
        return Ending(act, result, self.elapsed_s - began_s, mine, waited_for)
