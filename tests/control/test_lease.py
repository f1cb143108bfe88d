"""One holder at a time, each new one under a higher epoch. On memory and on Valkey."""

from router.control.lease import Lease
from router.testing import MemoryServer, MemoryStore
from tests.control.plant import Plant


async def test_only_one_process_holds_the_lease_and_keeps_its_epoch(plant: Plant) -> None:
    """Renewing changes nothing; the other waits."""
    first, second = Lease(plant.store, "a"), Lease(plant.new_store(), "b")
    epoch = await first.renew(0)
    assert epoch is not None
    assert (None, epoch) == (await second.renew(0), await first.renew(0))


async def test_a_released_lease_goes_on_under_a_higher_epoch(plant: Plant) -> None:
    """The next holder need not wait for it to run out."""
    first, second = Lease(plant.store, "a"), Lease(plant.new_store(), "b")
    before = await first.renew(0)
    await first.release()
    after = await second.renew(0)
    assert before is not None
    assert after is not None
    assert (after > before, first.epoch) == (True, None)


async def test_a_store_that_came_back_empty_does_not_bring_old_epochs_back(plant: Plant) -> None:
    """The states' epoch is the least that counts."""
    epoch = await Lease(plant.store, "a").renew(41)
    assert epoch is not None
    assert epoch > 41


async def test_the_highest_epoch_ever_seen_is_remembered_here(plant: Plant) -> None:
    """Also when neither the states nor the store know it any more."""
    lease = Lease(plant.store, "a")
    before = await lease.renew(41)
    lease._store = MemoryStore(MemoryServer())  # noqa: SLF001 - the store is replaced by an empty one
    after = await lease.renew(0)
    assert before is not None
    assert after is not None
    assert after > before


async def test_a_lease_that_ran_out_is_lost_to_the_next_who_asks() -> None:
    """A silent holder is replaced after its time, not before."""
    now = [0.0]
    server = MemoryServer(clock=lambda: now[0])
    first, second = Lease(MemoryStore(server), "a", ttl_s=5.0), Lease(MemoryStore(server), "b", ttl_s=5.0)
    await first.renew(0)
    now[0] = 4.9
    assert await second.renew(0) is None
    now[0] = 5.1
    assert await second.renew(0) is not None
    assert (await first.renew(0), first.epoch) == (None, None)
