"""What every FleetStore must do about the lease and heartbeats."""

from router.core.errors import StoreUnavailableError
from router.core.ports import Heartbeat, Store
from router.store.retention import HEARTBEAT_KEPT_S
from router.testing.clients import MakeStore, fresh, opened
from router.testing.expect import ensure, expect, until
from router.testing.samples import NOW_S, sample_batch, sample_heartbeat


async def check_one_holds_the_lease(make_store: MakeStore) -> None:
    """One decides at a time, and each new holder has a higher epoch than all before."""
    one, two = fresh("holder"), fresh("holder")
    async with opened(make_store) as store, opened(make_store) as other:
        first = await _acquired(store, one, 60.0, 10)
        ensure(first > 10, "the epoch is above the least one asked for")
        expect(first, await store.acquire_lease(one, 60.0, first), "renewing keeps the epoch")
        expect(None, await other.acquire_lease(two, 60.0, 0), "another has to wait")
        await other.release_lease(two)
        expect(None, await other.acquire_lease(two, 60.0, 0), "only the holder can give it back")
        await store.release_lease(one)
        second = await _acquired(other, two, 0.2, 0)
        ensure(second > first, "a new holder gets a higher epoch")
        expect(None, await store.acquire_lease(one, 60.0, 0), "the old holder has to wait now")
        third = await _acquired(store, one, 60.0, 0)
        ensure(third > second, "a lease that ran out is taken with a higher epoch")
        expect(None, await other.acquire_lease(two, 0.2, 0), "who let it run out has to wait")
        raised = await store.acquire_lease(one, 60.0, third + 100)
        expect(third + 101, raised, "a renewal is lifted above epochs that the states have seen")
        await store.release_lease(one)


async def check_heartbeats_are_listed(make_store: MakeStore) -> None:
    """The last sign of life of each process, until it leaves or is silent for a day."""
    one, two = fresh("boot-a"), fresh("boot-b")

    async with opened(make_store) as store:

        async def listed() -> list[Heartbeat]:
            return [found for found in await store.heartbeats() if found.boot in (one, two)]

        await store.beat(sample_heartbeat(two))
        await store.beat(sample_heartbeat(one))
        await store.beat(sample_heartbeat(one, NOW_S + 1.0))
        both = [sample_heartbeat(one, NOW_S + 1.0), sample_heartbeat(two)]
        expect(both, await listed(), "the last heartbeat of each, sorted by boot")
        await store.beat(sample_heartbeat(one, NOW_S + HEARTBEAT_KEPT_S))
        expect([one, two], [found.boot for found in await listed()], "a day of silence is not yet too long")
        late = sample_heartbeat(one, NOW_S + HEARTBEAT_KEPT_S + 1.0)
        await store.beat(late)
        expect([late], await listed(), "silent for more than a day is forgotten")
        await store.forget(one)
        await store.forget(one)
        expect([], await listed(), "who leaves is forgotten at once")


async def check_a_closed_store_refuses(make_store: MakeStore) -> None:
    """Nothing is silently done or not done after close()."""
    store = make_store()
    await store.ping()
    await store.close()
    await store.close()
    try:
        await store.append(sample_batch(fresh("route"), 1), 2**30)
    except StoreUnavailableError:
        return
    raise AssertionError("a call after close() is StoreUnavailableError")


async def _acquired(store: Store, holder: str, ttl_s: float, min_epoch: int) -> int:
    """Return the epoch of a lease as soon as it can be had."""
    epoch: int | None = None

    async def taken() -> bool:
        nonlocal epoch
        epoch = await store.acquire_lease(holder, ttl_s, min_epoch)
        return epoch is not None

    await until(taken, "a lease that nobody holds any more can be taken")
    return epoch or 0
