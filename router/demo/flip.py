"""One flip: a command sent to the admin API, and the time until every live gateway worker routed by it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from router.demo.admin import AGAIN_S, PATIENCE_S, Admin, Body, NotNowError
from router.demo.plan import Command, Leg

REACH_S: Final = 5.0
"""When to stop waiting. Chosen: by the poll alone, without notices, it is 2 s."""

ASK_S: Final = 0.01
"""How often the workers' standing is asked for; only for the moment a flip takes."""


@dataclass(frozen=True, slots=True)
class Flip:
    """What one command led to. `reached_ms` runs from sending it until the last worker; None: not within REACH_S."""

    name: str
    to: str
    weight_bp: int
    stable: str
    gateways: int
    reached_ms: float | None


async def flip(admin: Admin, leg: Leg, command: Command) -> tuple[Flip, Body]:
    """Carry out the leg's command; return the Flip and where the rollout stands afterwards.

    Raises DemoError when the command is refused or cannot be carried out for PATIENCE_S.
    """
    before: int = (await admin.rollout())["revision"]
    sent_at_s = time.time()  # the workers say by the wall clock when they applied it; it is this machine's too
    body = await _carried_out(admin, command, before)
    give_up_s = time.monotonic() + REACH_S
    revision = body["revision"]
    reached_at_s = reached_at(body["replicas"], revision)
    while reached_at_s is None and time.monotonic() < give_up_s:
        await asyncio.sleep(ASK_S)
        body = await admin.rollout()
        reached_at_s = reached_at(body["replicas"], revision)
    return Flip(
        name=leg.name,
        to=leg.to,
        weight_bp=body["exposure"]["weight_bp"],
        stable=body["stable"],
        gateways=len(body["replicas"]),
        reached_ms=None if reached_at_s is None else (reached_at_s - sent_at_s) * 1000.0,
    ), body


async def _carried_out(admin: Admin, command: Command, before: int) -> Body:
    """Send the command until it is known to have been carried out, and return where the rollout stands then.

    It names the revision it was meant for, so however often it is sent, it is carried out once at most.
    """
    give_up_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await admin.command(command, before)
        except NotNowError:
            body = await admin.rollout()
            if body["revision"] > before:
                return body
            if time.monotonic() > give_up_s:
                raise
        await asyncio.sleep(AGAIN_S)


def reached_at(replicas: Sequence[Body], revision: int) -> float | None:
    """Return the wall-clock second at which the last of the replicas applied `revision`; None while one has not.

    Nobody to apply it is not "reached".
    """
    if not replicas or any(replica["revision"] < revision for replica in replicas):
        return None
    return max(datetime.fromisoformat(replica["applied_at"]).timestamp() for replica in replicas)
