"""A test alone on the machine."""

import asyncio
from pathlib import Path

from tests.turnstile import Turnstile


async def test_who_wants_to_be_alone_waits_for_others_and_lets_none_in_meanwhile(tmp_path: Path) -> None:
    """One is inside; then one that wants to be alone comes, then a third: they run in that order, one at a time."""
    turnstile = Turnstile(tmp_path)
    order: list[str] = []

    def go(name: str, *, alone: bool) -> None:
        with turnstile.passed(alone=alone):
            order.append(name)
            order.append(f"{name} out")

    with turnstile.passed(alone=False):
        second = asyncio.create_task(asyncio.to_thread(go, "alone", alone=True))
        while not turnstile.closed:  # noqa: ASYNC110 - locks of files have no event
            await asyncio.sleep(0)
        third = asyncio.create_task(asyncio.to_thread(go, "third", alone=False))
        assert order == []
    await asyncio.gather(second, third)
    assert order == ["alone", "alone out", "third", "third out"]
