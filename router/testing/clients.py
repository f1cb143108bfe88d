"""Clients of one storage, and names that it does not know yet."""

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from router.core.ports import Store

MakeStore = Callable[[], Store]
"""Gives a new client of one and the same storage each time it is called, as each process has one."""


@asynccontextmanager
async def opened(make_store: MakeStore) -> AsyncIterator[Store]:
    """Lend a client, and close it."""
    store = make_store()
    try:
        yield store
    finally:
        await store.close()


def fresh(kind: str) -> str:
    """Return a name that nothing in the storage has yet."""
    return f"{kind}-{uuid.uuid4().hex[:12]}"
