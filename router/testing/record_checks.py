"""What every RecordStore must do about pairs and evidence."""

import re
from dataclasses import replace

from router.core.observations import CounterKey, Pair
from router.core.ports import PAIR_CURSOR, RecordStore
from router.store.codec import encode_pairs
from router.store.retention import ENTRY_BYTES
from router.testing.clients import MakeStore, fresh, opened
from router.testing.expect import ensure, expect
from router.testing.samples import ROLLOUT, sample_batch, sample_pair

KEEP_ALL = 2**30


async def check_a_repeated_batch_changes_nothing(make_store: MakeStore) -> None:
    """A batch counts once, however often and however late it arrives."""
    route = fresh("route")
    first, second = sample_batch(route, 1, pairs=2, requests=10), sample_batch(route, 2, pairs=2, requests=25)
    keep_bytes = len(first.payload) + len(second.payload) + 2 * ENTRY_BYTES
    async with opened(make_store) as one, opened(make_store) as two:
        for batch in (first, first, second, second, first):
            # Readers drop doubles, so it is the room they would take that shows whether any was written.
            expect(0, (await one.append(batch, keep_bytes)).trimmed, "there is room for each batch once")
            expect(0, (await two.append(batch, keep_bytes)).trimmed, "there is room for each batch once")
        expect(["boot1-3", "boot1-2", "boot1-1", "boot1-0"], [p.pair_id for p in await one.pairs(route, 100)], "pairs")
        expect({"boot1": second.counters}, dict(await two.evidence(route, ROLLOUT)), "a counter never goes back")


async def check_a_missing_batch_is_told(make_store: MakeStore) -> None:
    """Who writes learns that the batch before is not there, so that what was lost can be written again."""
    route = fresh("route")
    async with opened(make_store) as store:
        told = [(await store.append(sample_batch(route, sequence, pairs), KEEP_ALL)).gap for sequence, pairs in
                ((1, 1), (2, 0), (2, 0), (4, 1), (5, 1), (3, 1), (7, 0))]  # fmt: skip
        expect([False, False, False, True, False, False, True], told, "the gaps before batches 4 and 7")
        fresh_boot = await store.append(sample_batch(route, 9, boot="boot2"), KEEP_ALL)
        ensure(fresh_boot.gap, "a boot whose first batches are lost is told so")


async def check_evidence_is_kept_apart_by_boot_and_rollout(make_store: MakeStore) -> None:
    """Each boot has its own counters and its own sequence, in each rollout."""
    route, odd = fresh("route"), CounterKey(3, "latency", "a|b%7C", "candidate", "12")
    batches = [
        sample_batch(route, 1, boot="boot1", requests=10),
        sample_batch(route, 1, boot="boot2", requests=7),
        replace(sample_batch(route, 1, boot="boot1", requests=3), rollout="other.1"),
        replace(sample_batch(route, 2, pairs=0, boot="boot2"), counters={odd: 2**40}, payload=b""),
    ]
    async with opened(make_store) as store:
        for batch in batches:
            await store.append(batch, KEEP_ALL)
        expected = {"boot1": batches[0].counters, "boot2": {**batches[1].counters, odd: 2**40}}
        expect(expected, dict(await store.evidence(route, ROLLOUT)), "each boot's counters, later ones added")
        expect({"boot1": batches[2].counters}, dict(await store.evidence(route, "other.1")), "each rollout apart")
        many = {CounterKey(3, "latency", "", "stable", str(cell)): cell for cell in range(3_000)}
        await store.append(replace(batches[1], boot="boot3", counters=many), KEEP_ALL)
        expect(many, (await store.evidence(route, ROLLOUT))["boot3"], "thousands of counters in one batch")


async def check_pairs_come_newest_first_and_once(make_store: MakeStore) -> None:
    """Pairs are read singly from the newest on; one that was written twice is given once."""
    route, other = fresh("route"), fresh("route")
    numbers = range(30)
    async with opened(make_store) as store:
        for sequence, start in enumerate(numbers[::3], start=1):
            batch = replace(
                sample_batch(route, sequence),
                pairs=3,
                payload=encode_pairs([sample_pair(route, start + index) for index in range(3)]),
            )
            await store.append(batch, KEEP_ALL)
        await store.append(sample_batch(other, 1), KEEP_ALL)
        doubles = encode_pairs([sample_pair(route, number) for number in (28, 29)])
        await store.append(replace(sample_batch(route, 1, pairs=2, boot="boot2"), payload=doubles), KEEP_ALL)
        expected = [sample_pair(route, number) for number in reversed(numbers)]
        expect(expected, await store.pairs(route, 1_000), "all pairs whole, newest first, the doubles once")
        for limit in (0, 1, 4, 29):
            expect(expected[:limit], await store.pairs(route, limit), f"the newest {limit}")


async def check_pairs_are_read_backwards_behind_a_cursor(make_store: MakeStore) -> None:
    """Every pair comes, newest first, whatever is written meanwhile, and one may go on behind any of them."""
    route = fresh("route")
    async with opened(make_store) as store:
        expect([], await _rest(store, route, ""), "no pairs of a route never seen")
        for sequence in range(1, 11):
            await store.append(sample_batch(route, sequence, pairs=3), KEEP_ALL)
        await store.append(replace(sample_batch(route, 11), payload=b"\x80\x04"), KEEP_ALL)
        first = await store.pairs_before(route, "", 3)
        expect([*range(29, 23, -1)], [_number(pair) for _, pair in first.pairs], "two batches, and one unreadable")
        ensure(first.more, "there are more")
        await store.append(sample_batch(route, 12, pairs=3), KEEP_ALL)
        expect([*range(23, -1, -1)], await _rest(store, route, first.cursor), "all older ones, and nothing newer")
        for cursor, pair in first.pairs:
            ensure(re.fullmatch(PAIR_CURSOR, cursor), "a cursor looks like one")
            expect([*range(_number(pair) - 1, -1, -1)], await _rest(store, route, cursor), "what is behind a pair")
        keep_bytes = 3 * (len(sample_batch(route, 12, pairs=3).payload) + ENTRY_BYTES)
        for sequence in range(13, 16):
            await store.append(sample_batch(route, sequence, pairs=3), keep_bytes)
        expect([], await _rest(store, route, first.cursor), "nothing of what was trimmed")


async def check_unreadable_pairs_are_skipped(make_store: MakeStore) -> None:
    """Foreign bytes among the batches hide no good pair."""
    route = fresh("route")
    poison = (b"\x80\x04", b"{}", b'{"v":2,"route":"r","rollout":"o","pairs":[]}', b"[" * 100_000, b"null")
    async with opened(make_store) as store:
        for sequence, payload in enumerate(poison, start=1):
            await store.append(replace(sample_batch(route, 2 * sequence - 1), payload=payload), KEEP_ALL)
            await store.append(sample_batch(route, 2 * sequence), KEEP_ALL)
        expect(len(poison), len(await store.pairs(route, 100)), "every readable pair is found")


async def check_the_pair_log_stays_in_its_bytes(make_store: MakeStore) -> None:
    """The oldest batches go first, as few as needed, and every pair that goes is reported."""
    route = fresh("route")
    size = len(sample_batch(route, 5, pairs=3).payload) + ENTRY_BYTES
    async with opened(make_store) as store:

        async def write(sequence: int, keep_bytes: int) -> tuple[int, list[str]]:
            trimmed = (await store.append(sample_batch(route, sequence, pairs=3), keep_bytes)).trimmed
            return trimmed, [pair.pair_id for pair in await store.pairs(route, 1_000)]

        def held(last: int, first: int) -> list[str]:
            return [f"boot1-{number}" for number in range(3 * last - 1, 3 * first - 4, -1)]

        # From sequence 5 on all numbers have two digits, so that all batches have one size.
        expect((0, held(5, 5)), await write(5, 3 * size), "the first batch fits")
        expect((0, held(6, 5)), await write(6, 3 * size), "the second fits")
        expect((0, held(7, 5)), await write(7, 3 * size), "three fit to the byte")
        expect((3, held(8, 6)), await write(8, 3 * size), "the fourth pushes out the oldest")
        expect((6, held(9, 8)), await write(9, 3 * size - 1), "one byte less holds one batch less")
        expect((0, held(10, 8)), await write(10, 9 * size), "a higher limit holds more from now on")
        expect((9 + 3, []), await write(11, size - 1), "a batch that does not fit at all goes, too")
        expect((0, held(12, 12)), await write(12, size), "and the log goes on")


async def check_a_key_is_new_once_in_an_exposure_and_remembered_over_all(make_store: MakeStore) -> None:
    """Whoever marks a cell first is told so, and in which earlier exposure the cell was seen last; nobody else is."""
    route = fresh("route")
    async with opened(make_store) as one, opened(make_store) as two:

        async def mark(store: RecordStore, exposures: list[int], *cells: int) -> list[int | None]:
            return await store.mark_seen(route, ROLLOUT, exposures, "request", cells)

        expect([0, 0], await mark(one, [3], 7, 159_999), "nobody has seen them")
        expect([None, 0], await mark(two, [3], 7, 8), "another replica has seen the first")
        expect([3, 0, None], await mark(two, [3, 5], 7, 9, 9), "seen in exposure 3, nowhere, and just now")
        expect([5, 3, 0], await mark(one, [3, 5, 6], 9, 8, 10), "the latest exposure counts")
        expect([0], await one.mark_seen(route, ROLLOUT, [3], "pair", [7]), "each metric apart")
        expect([0], await one.mark_seen(route, "other.1", [3], "request", [7]), "each rollout apart")
        expect([], await mark(one, [3]), "no cells, no answers")


async def _rest(store: RecordStore, route: str, cursor: str) -> list[int]:
    """Return the numbers of all pairs behind `cursor`."""
    found: list[int] = []
    more = True
    while more:
        page = await store.pairs_before(route, cursor, 2)
        found += [_number(pair) for _, pair in page.pairs]
        cursor, more = page.cursor, page.more
    return found


def _number(pair: Pair) -> int:
    return int(pair.pair_id.removeprefix("boot1-"))
