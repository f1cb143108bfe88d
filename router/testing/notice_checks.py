"""What every StateStore must do about notices, and every store when its storage is gone."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from router.core.errors import StoreUnavailableError
from router.core.ports import Notice, Store
from router.testing.clients import MakeStore, fresh, opened
from router.testing.expect import WITHIN_S, ensure, expect, until
from router.testing.samples import sample_batch, sample_state

LOSS_S = 3.0
"""How soon a notice line must say that it is dead."""


async def check_notices_tell_of_changes(make_store: MakeStore) -> None:
    """A subscriber hears at once that the line stands, then of every accepted write and no other, and a pulse."""
    route = fresh("route")
    async with opened(make_store) as writer, opened(make_store) as reader, aclosing(_line(reader)) as line:
        expect(Notice("", 0), await _next(line), "the first notice is empty: the line stands")
        await writer.compare_and_set(sample_state(route, 1), 0, None)
        expect(Notice(route, 1), await _next_of(line, route), "a write is told")
        await writer.compare_and_set(sample_state(route, 2), 0, None)
        await writer.compare_and_set(sample_state(route, 2), 1, None)
        await writer.compare_and_set(sample_state(route, 3), 2, None)
        expect(Notice(route, 2), await _next_of(line, route), "a refused write is not told")
        expect(Notice(route, 3), await _next_of(line, route), "notices keep their order")
        loop = asyncio.get_running_loop()
        heard_s = loop.time()
        for _ in range(2):
            await _next(line)
            pause_s, heard_s = loop.time() - heard_s, loop.time()
            ensure(pause_s < 1.0 + 0.5, f"a pulse at least once a second (half a second of grace): {pause_s:.2f} s")


async def check_loss_is_noticed(make_store: MakeStore, cut: Callable[[], None], mend: Callable[[], None]) -> None:
    """Without the storage every call fails soon, a notice line ends within 3 s; with it back all is as before.

    `cut` and `mend` take the storage away from all clients and give it back with its data.
    """
    route = fresh("route")
    loop = asyncio.get_running_loop()
    async with opened(make_store) as store, aclosing(_line(store)) as line:
        await store.compare_and_set(sample_state(route), 0, None)
        await _next(line)
        cut()
        try:
            cut_s = loop.time()
            try:
                while loop.time() - cut_s < WITHIN_S:
                    await _next(line)
                raise AssertionError("a notice line without its storage raises StoreUnavailableError")
            except StoreUnavailableError:
                silent_s = loop.time() - cut_s
            ensure(silent_s <= LOSS_S, f"the loss is noticed within {LOSS_S:g} s: {silent_s:.2f} s")
            calls: tuple[Callable[[], Awaitable[object]], ...] = (
                store.ping,
                lambda: store.revisions([route]),
                lambda: store.append(sample_batch(route, 1), 2**30),
            )
            for call in calls:
                asked_s = loop.time()
                try:
                    await call()
                    raise AssertionError("a call without the storage raises StoreUnavailableError")
                except StoreUnavailableError:
                    took_s = loop.time() - asked_s
                ensure(took_s <= 0.5, f"a call fails within half a second: {took_s:.2f} s")
        finally:
            mend()

        async def answers() -> bool:
            try:
                await store.ping()
            except StoreUnavailableError:
                return False
            return True

        await until(answers, "the same client works again when the storage is back")
        expect({route: sample_state(route)}, dict(await store.read_states([route])), "the data is still there")
        async with aclosing(_line(store)) as again:
            expect(Notice("", 0), await _next(again), "notices can be asked for again")


async def _line(store: Store) -> AsyncGenerator[Notice, None]:
    """Yield the notices; closing this closes the line at once, not when the garbage is collected."""
    notices = store.notices()
    try:
        async for notice in notices:
            yield notice
    finally:
        if isinstance(notices, AsyncGenerator):
            await notices.aclose()


async def _next(line: AsyncGenerator[Notice, None]) -> Notice:
    async with asyncio.timeout(WITHIN_S):
        return await anext(line)


async def _next_of(line: AsyncGenerator[Notice, None], route: str) -> Notice:
    """Return the next notice of `route`; pulses and other Routes' notices may come between."""
    while True:
        notice = await _next(line)
        if notice.route == route:
            return notice
