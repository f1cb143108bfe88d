"""What every StateStore must do about states and decisions."""

import asyncio
from dataclasses import replace

from router.core.errors import StaleEpochError
from router.store.basis_codec import decode_basis
from router.testing.clients import MakeStore, fresh, opened
from router.testing.expect import ensure, expect
from router.testing.samples import ROLLOUT, sample_basis, sample_decision, sample_state


async def check_store_holds_nothing_of_a_route_it_has_never_seen(make_store: MakeStore) -> None:
    """Unknown Routes are absent or empty, never an error."""
    route = fresh("route")
    async with opened(make_store) as store:
        await store.ping()
        expect({}, dict(await store.read_states([route])), "an unknown Route has no state")
        expect({}, dict(await store.revisions([route])), "an unknown Route has no revision")
        expect({}, dict(await store.read_states([])), "no Routes have no states")
        expect([], await store.decisions(route, 10), "an unknown Route has no decisions")
        expect([], await store.pairs(route, 10), "an unknown Route has no pairs")
        expect({}, dict(await store.evidence(route, ROLLOUT)), "an unknown rollout has no evidence")


async def check_states_are_shared_whole(make_store: MakeStore) -> None:
    """What one client writes, another reads, field by field."""
    route, other = fresh("route {a}:b%"), fresh("route")
    state = sample_state(route, revision=7)
    async with opened(make_store) as writer, opened(make_store) as reader:
        ensure(await writer.compare_and_set(state, 0, None), "the first write of a Route expects revision 0")
        expect({route: state}, dict(await reader.read_states([other, route])), "a state survives unchanged")
        expect({route: 7}, dict(await reader.revisions([route, other])), "the revision is the state's")


async def check_of_many_writers_one_wins(make_store: MakeStore) -> None:
    """A revision is written by exactly one of many, and only the winner's record is kept."""
    route = fresh("route")
    async with opened(make_store) as one, opened(make_store) as two:
        for revision in (1, 2, 3):
            writes = [
                (one, two)[index % 2].compare_and_set(
                    replace(sample_state(route, revision), reason=f"writer {index}"),
                    revision - 1,
                    replace(sample_decision(route, revision), reason=f"writer {index}"),
                )
                for index in range(10)
            ]
            won = [index for index, written in enumerate(await asyncio.gather(*writes)) if written]
            expect(1, len(won), "one of ten writers of the same revision wins")
            state = (await two.read_states([route]))[route]
            expect((revision, f"writer {won[0]}"), (state.revision, state.reason), "the winner's state is stored")
            newest = await one.decisions(route, 1)
            expect([f"writer {won[0]}"], [record.reason for record in newest], "the winner's record is the newest")
        expect(3, len(await one.decisions(route, 100)), "losers leave no record")
        ensure(not await one.compare_and_set(sample_state(route, 9), 7, None), "a wrong revision writes nothing")


async def check_an_old_epoch_is_refused(make_store: MakeStore) -> None:
    """A writer whose epoch is behind the stored one fails loudly and changes nothing."""
    route = fresh("route")
    async with opened(make_store) as store:
        ensure(await store.compare_and_set(sample_state(route, 1, epoch=5), 0, None), "any first epoch will do")
        for expected in (1, 0, 3):
            try:
                await store.compare_and_set(sample_state(route, 2, epoch=4), expected, sample_decision(route))
            except StaleEpochError:
                continue
            raise AssertionError(f"an epoch behind the stored one is StaleEpochError (expected revision {expected})")
        expect({route: sample_state(route, 1, 5)}, dict(await store.read_states([route])), "the state is unchanged")
        expect([], await store.decisions(route, 10), "no record is kept")
        ensure(await store.compare_and_set(sample_state(route, 2, epoch=5), 1, None), "the same epoch may write")
        ensure(await store.compare_and_set(sample_state(route, 3, epoch=9), 2, None), "a later epoch may write")


async def check_decisions_come_newest_first(make_store: MakeStore) -> None:
    """The ledger is read from its end."""
    route = fresh("route")
    records = [sample_decision(route, revision) for revision in range(1, 6)]
    async with opened(make_store) as store:
        for record in records:
            await store.compare_and_set(sample_state(route, record.revision), record.revision - 1, record)
        await store.compare_and_set(sample_state(route, 6), 5, None)
        expect(records[::-1], await store.decisions(route, 100), "all records, newest first")
        expect(records[:2:-1], await store.decisions(route, 2), "no more than asked for, the newest ones")


async def check_samples_come_oldest_first_by_rollout(make_store: MakeStore) -> None:
    """What the evidence was between decisions is kept for each rollout by itself."""
    route = fresh("route")
    made = [replace(sample_basis(route), now_s=float(second), proposals=()) for second in range(1, 8)]
    async with opened(make_store) as store:
        expect([], await store.samples(route, ROLLOUT), "an unknown Route has no samples")
        for basis in made:
            await store.add_sample(basis)
        expect(made, [decode_basis(packed) for packed in await store.samples(route, ROLLOUT)], "oldest first")
        expect([], await store.samples(route, "another.1"), "another rollout has its own")


async def check_bases_are_kept_with_their_decisions(make_store: MakeStore) -> None:
    """What a decision followed from is found by its revision, and only where it was written."""
    route = fresh("route")
    basis = sample_basis(route)
    async with opened(make_store) as writer, opened(make_store) as reader:
        expect({}, dict(await reader.bases(route, 10)), "an unknown Route has no bases")
        for revision in range(1, 5):
            kept = replace(basis, now_s=basis.now_s + revision) if revision != 2 else None
            record = replace(sample_decision(route, revision), basis=kept)
            ensure(await writer.compare_and_set(sample_state(route, revision), revision - 1, record), "nobody else")
        losing = replace(sample_decision(route, 9), basis=basis)
        ensure(not await writer.compare_and_set(sample_state(route, 9), 8, losing), "a wrong revision writes nothing")
        found = {revision: decode_basis(packed) for revision, packed in (await reader.bases(route, 10)).items()}
        expect([4, 3, 1], list(found), "newest first; a decision without a basis has none")
        expect(replace(basis, now_s=basis.now_s + 3), found[3], "a basis survives unchanged")
        expect([4, 3], list(await reader.bases(route, 2)), "no more than asked for")
        expect([None] * 4, [one.basis for one in await reader.decisions(route, 10)], "records stay light")
