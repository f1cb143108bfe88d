"""The watcher: asks what stands in Turnout while the play goes on, for the view and for the report."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from router.core.rollout import Phase
from router.demo.admin import Admin, Body
from router.demo.pairs import IN_FLIGHT, PairCounts, pair_counts
from router.demo.traffic import Traffic
from router.demo.turnout_process import DemoError, TurnoutProcess

EVERY_S: Final = 0.5
"""Each look costs Turnout about 30 ms of CPU, most of it for the sentences of all gates; every WHY-th costs double.
Chosen."""

WHY: Final = 2
"""Every how many looks it is asked what the rollout waits for."""

GUARD_S: Final = 0.25

SETTLE_S: Final = 5.0
"""How long to wait at the end for copies under way and for workers to apply the last decision. Both take milliseconds.
Chosen."""


@dataclass(frozen=True, slots=True)
class Flip:
    """A decision that changed the shares, and how long after it the last gateway worker routed by it, milliseconds.

    None: not yet, or the next decision came before anybody looked. `to` is what it led to: `shadow`, the policy that
    has a weight, or the phase that it ended in.
    """

    to: str
    weight_bp: int
    mirror_bp: int
    revision: int
    reached_ms: float | None


class Watch:
    """What is known of rollout, ledger and pairs: what the admin API said last.

    `tell` gets each decision once. Either `look` in a loop of your own, or `run` it; `guard` it all the while.
    """

    def __init__(self, admin: Admin, traffic: Traffic, turnout: TurnoutProcess, tell: Callable[[Body], None]) -> None:
        self.route: Body | None = None
        self.decisions: Sequence[Body] = ()
        self.waits_for = ""
        """Why the rollout does not move just now, as `turnout explain` says it."""
        self.counts = PairCounts(0, 0, {})
        self._admin = admin
        self._traffic = traffic
        self._turnout = turnout
        self._tell = tell
        self._told = 0
        self._looks = 0
        self._reached_ms: dict[int, float] = {}

    @property
    def rollout(self) -> Body | None:
        """Where the rollout stands; None before the first look."""
        found: Body | None = self.route["rollout"] if self.route else None
        return found

    @property
    def gates(self) -> Sequence[Body]:
        """What each gate says: now, or where the rollout has ended, when that was decided."""
        if self.rollout is None:
            return ()
        ended = self.decisions and self.decisions[-1]["phase_after"] in (Phase.PROMOTED, Phase.ROLLED_BACK)
        judged = self.decisions[-1] if ended else self.rollout
        gates: Sequence[Body] = judged["judgement"]["gates"]
        return gates

    @property
    def flips(self) -> tuple[Flip, ...]:
        """All changes of the shares so far, oldest first."""
        return tuple(
            Flip(
                _where(one), one["weight_bp_after"], one["mirror_bp_after"], one["revision"],
                self._reached_ms.get(one["revision"]),
            )
            for one in self.decisions
            if (one["weight_bp_before"], one["mirror_bp_before"]) != (one["weight_bp_after"], one["mirror_bp_after"])
        )  # fmt: skip

    async def run(self) -> None:
        """Look around until cancelled."""
        while True:
            with contextlib.suppress(DemoError):  # control starts again: the next look sees it
                await self.look()
            await asyncio.sleep(EVERY_S)

    async def guard(self) -> None:
        """Raise DemoError as soon as Turnout has ended; until then, wait."""
        while self._turnout.running:  # noqa: ASYNC110 - a process has no event to wait for
            await asyncio.sleep(GUARD_S)
        raise DemoError(self._turnout.failure())

    async def look(self) -> None:
        """Ask for everything once; raises DemoError."""
        self.counts = pair_counts(await self._admin.metrics(), self._traffic.in_flight)
        route = await self._admin.route()
        rollout = route["rollout"]
        if not self.decisions or self.decisions[-1]["revision"] < rollout["revision"]:
            self.decisions = await self._admin.decisions()
            for one in self.decisions[self._told :]:
                self._tell(one)
            self._told = len(self.decisions)
        self._note_reach(rollout)
        self.route = route
        if self._looks % WHY == 0:
            await self.ask_why()
        self._looks += 1

    async def ask_why(self) -> None:
        """Ask what the rollout waits for, or the file's block that has not started; raises DemoError."""
        told = await self._admin.explain()
        pending = self.route["pending"] if self.route else None
        following = told["next"]["reason"] if told["next"] else "nothing"
        self.waits_for = pending["why"] if pending else told["waits_for"] or following

    async def settle(self) -> None:
        """Look until no copy is under way and every worker has applied the last decision, at most for SETTLE_S."""
        give_up_s = asyncio.get_running_loop().time() + SETTLE_S
        while True:
            await self.look()
            arrived = not self.flips or self.flips[-1].reached_ms is not None
            if (arrived and IN_FLIGHT not in self.counts.missing) or asyncio.get_running_loop().time() > give_up_s:
                return
            await asyncio.sleep(0.1)

    def _note_reach(self, rollout: Body) -> None:
        """Note when the present revision reached the last worker; the ledger says when it was decided."""
        revision = rollout["revision"]
        if revision in self._reached_ms or not self.decisions or self.decisions[-1]["revision"] != revision:
            return
        at_s = reached_at(rollout["replicas"], revision)
        if at_s is not None:
            self._reached_ms[revision] = (at_s - _seconds_of(self.decisions[-1]["at"])) * 1000.0


def _where(record: Body) -> str:
    if record["phase_after"] != Phase.PROGRESSING:
        return str(record["phase_after"])
    return str(record["policy"]) if record["weight_bp_after"] else "shadow"


def reached_at(replicas: Sequence[Body], revision: int) -> float | None:
    """Return the wall-clock second at which the last of the replicas applied `revision`; None while one has not.

    Nobody to apply it is not "reached".
    """
    if not replicas or any(replica["revision"] != revision for replica in replicas):
        return None
    return max(_seconds_of(replica["applied_at"]) for replica in replicas)


def _seconds_of(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
