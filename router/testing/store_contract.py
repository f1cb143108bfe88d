"""What every store must do: one suite for Redis, for the MemoryStore, and for yours.

    async def test_my_store_keeps_the_contract():
        await check_store(lambda: MyStore(url))

`make_store` gives a new client of one and the same storage each time it is called, as each process has one. The suite
leaves entries of made-up Routes behind and takes the lease: give it a storage of its own.
"""

from collections.abc import Awaitable, Callable

from router.testing import fleet_checks, label_checks, notice_checks, record_checks, state_checks
from router.testing.clients import MakeStore

STORE_CHECKS: tuple[Callable[[MakeStore], Awaitable[None]], ...] = (
    state_checks.check_store_holds_nothing_of_a_route_it_has_never_seen,
    state_checks.check_states_are_shared_whole,
    state_checks.check_of_many_writers_one_wins,
    state_checks.check_an_old_epoch_is_refused,
    state_checks.check_decisions_come_newest_first,
    state_checks.check_bases_are_kept_with_their_decisions,
    state_checks.check_samples_come_oldest_first_by_rollout,
    record_checks.check_a_repeated_batch_changes_nothing,
    record_checks.check_a_missing_batch_is_told,
    record_checks.check_evidence_is_kept_apart_by_boot_and_rollout,
    record_checks.check_pairs_come_newest_first_and_once,
    record_checks.check_pairs_are_read_backwards_behind_a_cursor,
    record_checks.check_unreadable_pairs_are_skipped,
    record_checks.check_the_pair_log_stays_in_its_bytes,
    record_checks.check_a_key_is_new_once_in_an_exposure_and_remembered_over_all,
    *label_checks.LABEL_CHECKS,
    notice_checks.check_notices_tell_of_changes,
    fleet_checks.check_one_holds_the_lease,
    fleet_checks.check_heartbeats_are_listed,
    fleet_checks.check_a_closed_store_refuses,
)
"""Every check that needs nothing but clients; `check_loss_is_noticed` also needs a way to take the storage away."""


async def check_store(
    make_store: MakeStore, cut: Callable[[], None] | None = None, mend: Callable[[], None] | None = None
) -> None:
    """Run the whole suite; AssertionError says in a sentence what is broken. The loss check runs if it can."""
    for check in STORE_CHECKS:
        await check(make_store)
    if cut and mend:
        await notice_checks.check_loss_is_noticed(make_store, cut, mend)
