"""What every RecordStore must do about reading pairs in order, and about true labels."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from router.core.labels import LabelledPair, LabelResult
from router.core.observations import AFFINITY, CORRECT, LABEL, PAIR_VARIANT, CounterKey, Pair
from router.core.ports import RecordStore, Store
from router.core.traffic import NO_KEY
from router.store.codec import encode_pairs
from router.store.keys import LABELS_BOOT
from router.store.retention import CLASSES_KEPT, ENTRY_BYTES
from router.testing.clients import MakeStore, fresh, opened
from router.testing.expect import expect
from router.testing.samples import ROLLOUT, sample_batch, sample_pair

KEEP_ALL = 2**30
ACCEPTED, DOUBLE = LabelResult.ACCEPTED, LabelResult.DOUBLE


async def check_pairs_are_read_in_order_behind_a_cursor(make_store: MakeStore) -> None:
    """Every pair comes, oldest first, however many pages it takes; later calls give only what is new."""
    route = fresh("route")
    async with opened(make_store) as store:
        expect([], (await _rest(store, route))[0], "no pairs of a route never seen")
        for sequence in range(1, 11):
            await store.append(sample_batch(route, sequence, pairs=3), KEEP_ALL)
        found, cursor = await _rest(store, route)
        expect([sample_pair(route, number) for number in range(30)], found, "all pairs whole, oldest first")
        expect(([], cursor), await _rest(store, route, cursor), "nothing new, and the same place")
        await store.append(replace(sample_batch(route, 11), payload=b"\x80\x04"), KEEP_ALL)
        last = replace(sample_pair(route, 99), key_cell=NO_KEY)
        await store.append(replace(sample_batch(route, 12), payload=encode_pairs([last])), KEEP_ALL)
        expect([last], (await _rest(store, route, cursor))[0], "only what came since, past unreadable bytes")


async def check_a_cursor_outlives_what_it_pointed_to(make_store: MakeStore) -> None:
    """Pairs that were trimmed before they were read are missing; the rest comes once."""
    route = fresh("route")
    async with opened(make_store) as store:
        await store.append(sample_batch(route, 1), KEEP_ALL)
        _, cursor = await _rest(store, route)
        keep_bytes = 3 * (len(sample_batch(route, 5).payload) + ENTRY_BYTES)
        for sequence in range(2, 10):
            await store.append(sample_batch(route, sequence), keep_bytes)
        expect(["boot1-6", "boot1-7", "boot1-8"], [pair.pair_id for pair in (await _rest(store, route, cursor))[0]],
               "what is still there")  # fmt: skip


async def check_a_label_counts_once_whoever_sends_it(make_store: MakeStore) -> None:
    """The first label of a request is counted, and no other, in this rollout; nothing else of the evidence changes."""
    route = fresh("route")
    right, wrong = _label("one", truth="7"), _label("two", truth="7", stable="7", candidate="1")
    async with opened(make_store) as one, opened(make_store) as two:
        await one.append(sample_batch(route, 1, requests=5), KEEP_ALL)
        expect([ACCEPTED, ACCEPTED, DOUBLE], await _count(one, route, right, wrong, right), "each once")
        expect([DOUBLE, DOUBLE], await _count(two, route, replace(right, truth="1"), wrong), "another client is late")
        expected = {
            _key(CORRECT, "11"): 1, _key(CORRECT, "10"): 1,
            _key(LABEL, "7:111"): 1, _key(LABEL, "7:110"): 1, _key(LABEL, "1:001"): 1,
        }  # fmt: skip
        expect(expected, await _counted(two, route), "who was right, and of which class")
        expect(sample_batch(route, 1, requests=5).counters, (await two.evidence(route, ROLLOUT))["boot1"], "beside it")
        other = await two.count_labels(route, "other.1", [2], [right], ())
        expect((ACCEPTED,), other.results, "each rollout apart")


async def check_labels_of_odd_classes_are_counted_by_their_names(make_store: MakeStore) -> None:
    """No character of a class can reach another counter; a batch has no class; no prediction is a cell of its own."""
    route, odd = fresh("route"), "a|b%7C:1/2 \u00fc"
    async with opened(make_store) as store:
        batch = replace(_label("batch", truth="1,2", stable="1,2", candidate="1,3"), batch=True)
        silent = _label("silent", truth=odd, stable="x", candidate=None)
        await _count(store, route, _label("odd", truth=odd, stable=odd, candidate="x"), batch, silent)
        expected = {
            _key(CORRECT, "10"): 2, _key(LABEL, f"{odd}:110"): 1, _key(LABEL, "x:001"): 1,
            _key(CORRECT, "0?"): 1, _key(LABEL, f"{odd}:10?"): 1, _key(LABEL, "x:01?"): 1,
        }  # fmt: skip
        expect(expected, await _counted(store, route), "the names as they are")


async def check_a_key_counts_at_its_first_label(make_store: MakeStore) -> None:
    """Each key once in an exposure, with the exposure in which it was counted last; a late earlier one not at all."""
    route = fresh("route")
    async with opened(make_store) as store:
        labels = [
            _label("a", key_cell=7), _label("b", key_cell=7), _label("c", key_cell=8),
            _label("d", key_cell=7, exposure=5), _label("e", key_cell=9, exposure=5), _label("f", key_cell=9),
            _label("g", key_cell=NO_KEY), _label("h", key_cell=NO_KEY, exposure=5),
            _label("i", key_cell=7, exposure=6), _label("j", key_cell=9, exposure=6),
        ]  # fmt: skip
        await _count(store, route, *labels)
        found = await _counted(store, route)
        by_key = {(key.exposure, key.cell): number for key, number in found.items() if key.metric == AFFINITY + CORRECT}
        expected = {(2, "11/0"): 3, (5, "11/2"): 1, (5, "11/0"): 2, (6, "11/5"): 2}
        expect(expected, by_key, "first labels of keys, by exposure and the last one before")
        by_class = {
            (key.exposure, key.cell.removeprefix("7:1")): number
            for key, number in found.items() if key.metric == AFFINITY + LABEL
        }  # fmt: skip
        expect(expected, by_class, "the same of the class")
        each = [found[_key(CORRECT, "11")._replace(exposure=exposure)] for exposure in (2, 5, 6)]
        expect([5, 3, 2], each, "and every label by itself")


async def check_so_many_classes_are_counted(make_store: MakeStore) -> None:
    """Those that gates name always, others until there are enough; the rest counts in the whole."""
    route = fresh("route")
    names = [f"class-{number}" for number in range(CLASSES_KEPT + 2)]
    async with opened(make_store) as store:
        for number, name in enumerate(names):
            found = await store.count_labels(route, ROLLOUT, [2], [_of_class(number, name)], {"gated"})
            expect(number >= CLASSES_KEPT, bool(found.uncounted_classes), f"whether class {number} is too many")
        again = [_of_class(1_000, names[0]), _of_class(1_001, "gated"), _of_class(1_002, names[-1])]
        expect(1, (await store.count_labels(route, ROLLOUT, [2], again, {"gated"})).uncounted_classes, "the last only")
        found_counters = await _counted(store, route)
        expect(len(names) + 3, found_counters[_key(CORRECT, "11")], "every label counts in the whole")
        expect(2, found_counters[_key(LABEL, f"{names[0]}:111")], "a class that is counted stays counted")
        expect(1, found_counters[_key(LABEL, "gated:111")], "a gate's class has a place of its own")
        expect(False, _key(LABEL, f"{names[-1]}:111") in found_counters, "one too many")  # noqa: FBT003


async def check_a_label_counts_once_more_in_its_slices(make_store: MakeStore) -> None:
    """Beside the whole, by key too; of classes those that gates name."""
    route, slices = fresh("route"), ("tenant=a|b", "region=eu")
    async with opened(make_store) as store:
        label = replace(_label("one", truth="7", key_cell=7), slices=slices)
        plain = _label("two", truth="7", key_cell=8)
        found = await store.count_labels(route, ROLLOUT, [2, 5, 6], [label, plain, label], {"7"})
        expect((ACCEPTED, ACCEPTED, DOUBLE), found.results, "each once")
        counters = await _counted(store, route)
        for key in (_key(CORRECT, "11"), _key(LABEL, "7:111")):
            by_key = key._replace(metric=AFFINITY + key.metric, cell=f"{key.cell}/0")
            for one in (key, by_key):
                expect(2, counters[one], f"both labels in {one}")
                expect([1, 1], [counters[one._replace(slice=slice_)] for slice_ in slices], f"one in slices of {one}")
        expect(12, len(counters), "nothing else is counted")


LABEL_CHECKS = (
    check_a_label_counts_once_more_in_its_slices,
    check_pairs_are_read_in_order_behind_a_cursor,
    check_a_cursor_outlives_what_it_pointed_to,
    check_a_label_counts_once_whoever_sends_it,
    check_labels_of_odd_classes_are_counted_by_their_names,
    check_a_key_counts_at_its_first_label,
    check_so_many_classes_are_counted,
)


async def _rest(store: RecordStore, route: str, cursor: str = "") -> tuple[list[Pair], str]:
    found: list[Pair] = []
    while True:
        page = await store.pairs_after(route, cursor)
        found += page.pairs
        cursor = page.cursor
        if not page.more:
            return found, cursor


async def _count(store: RecordStore, route: str, *labels: LabelledPair) -> list[LabelResult]:
    return list((await store.count_labels(route, ROLLOUT, [2, 5, 6], labels, ())).results)


async def _counted(store: Store, route: str) -> Mapping[CounterKey, int]:
    return (await store.evidence(route, ROLLOUT))[LABELS_BOOT]


def _label(request_id: str, **changes: Any) -> LabelledPair:  # noqa: ANN401 - fields
    return replace(LabelledPair(request_id, exposure=2, key_cell=None, truth="7", stable="7", candidate="7"), **changes)


def _of_class(number: int, name: str) -> LabelledPair:
    return _label(f"request-{number}", truth=name, stable=name, candidate=name)


def _key(metric: str, cell: str) -> CounterKey:
    return CounterKey(2, metric, "", PAIR_VARIANT, cell)
