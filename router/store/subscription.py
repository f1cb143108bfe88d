"""The line on which the store tells of new revisions, and how its silence is noticed.

TCP says nothing about a peer that vanished, and a client that only sends PING without waiting for the answer never
finds out. So this one asks twice a second and counts how long an answer is owed.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from router.core.errors import StoreUnavailableError
from router.core.ports import Notice
from router.store import keys
from router.store.codec import decode_notice
from router.store.connections import Link
from router.store.skipping import Skipping

PING_S = 0.5
"""Pause between two PINGs: twice the rate at which the port promises a Notice."""

OWED_S = 1.5
"""How long an answer may be owed. The line is looked at each PING_S, so a dead one is noticed within
PING_S + OWED_S + PING_S = 2.5 s; the port promises 3 s."""

_ALIVE = Notice(route="", revision=0)


async def subscribe(link: Link, skipping: Skipping) -> AsyncIterator[Notice]:
    """Yield an empty Notice once subscribed and for each answered PING, and one for each notice of a revision.

    Raises StoreUnavailableError when the line breaks, or an answer is owed for OWED_S.
    """
    async with link.opened() as line:
        await line.send("SUBSCRIBE", keys.NOTICES, within_s=OWED_S)
        loop = asyncio.get_running_loop()
        asked_s: float | None = loop.time()
        while True:
            message = await line.receive(PING_S, within_s=PING_S + OWED_S)
            if message is not None:
                asked_s = None
                yield _notice(message, skipping)
            elif asked_s is None:
                await line.send("PING", within_s=OWED_S)
                asked_s = loop.time()
            elif loop.time() - asked_s >= OWED_S:
                # Asked and owed within one call of ours, so a consumer that stays away does not count as silence.
                raise StoreUnavailableError(
                    f"store {line.where}: the notice line is silent for {OWED_S:g} s; read all states anew"
                )


def _notice(message: list[Any], skipping: Skipping) -> Notice:
    """Return what was published; anything else, an answered PING too, only says that the line is alive."""
    if message[0] != b"message":
        return _ALIVE
    reading = skipping.reading("notices", keys.NOTICES)
    notice = reading.read(decode_notice, message[2])
    reading.done()
    return notice or _ALIVE
