"""The index of pairs: what it finds, what it lets go, and that its account is honest."""

import tracemalloc
from dataclasses import replace

from router.control.pair_index import ENTRY_BYTES, KnownPair, PairIndex
from router.core.config import MIB
from router.core.observations import Pair
from router.testing.samples import ROLLOUT, sample_pair


def known(index: PairIndex, request_id: str) -> KnownPair:
    """Return a pair that must be there."""
    found = index.get(request_id)
    assert found is not None
    return found


def pair_of(number: int, **changes: object) -> Pair:
    """Return a pair of `digits` that differs from the sample."""
    return replace(sample_pair("digits", number), **changes)  # type: ignore[arg-type]


def test_a_pair_is_found_by_its_request() -> None:
    """With its place, its cell and both predictions."""
    index = PairIndex(MIB)
    index.add(pair_of(1, key_cell=7))
    found = known(index, "request-1")
    assert (found.stratum.route, found.stratum.rollout, found.stratum.exposure) == ("digits", ROLLOUT, 2)
    assert (found.key_cell, found.stable, found.candidate, found.several) == (7, "7", "1", False)
    assert index.get("request-2") is None


def test_of_several_pairs_of_one_id_the_first_stands() -> None:
    """Also if the first had no prediction: nothing that a model says chooses which one counts."""
    index = PairIndex(MIB)
    first = pair_of(1)
    index.add(replace(first, candidate=replace(first.candidate, label=None)))
    index.add(pair_of(1, exposure=9))
    assert (known(index, "request-1").stratum.exposure, known(index, "request-1").candidate) == (2, None)
    assert len(index) == 1


def test_a_new_rollouts_pair_takes_the_place_of_an_old_ones() -> None:
    """The old one's labels would be late anyway."""
    index = PairIndex(MIB)
    index.add(pair_of(1))
    index.add(pair_of(1, rollout="other.1", exposure=9))
    assert known(index, "request-1").stratum.rollout == "other.1"


def test_an_id_that_two_routes_saw_says_so() -> None:
    """Nobody can tell which of the two answers a label is about."""
    index = PairIndex(MIB)
    index.add(pair_of(1))
    index.add(replace(sample_pair("faces", 1)))
    assert known(index, "request-1").several


def test_the_oldest_pairs_go_first_and_are_counted() -> None:
    """The account is kept in bytes, so longer ids leave room for fewer."""
    size = ENTRY_BYTES + len("request-100") + 2
    index = PairIndex(3 * size)
    for number in range(100, 105):
        index.add(pair_of(number))
    assert (len(index), index.dropped, index.held_bytes) == (3, 2, 3 * size)
    assert [index.get(f"request-{number}") is not None for number in range(100, 105)] == [
        False,
        False,
        True,
        True,
        True,
    ]
    index.add(pair_of(105, request_id="x" * 128))
    assert (len(index), index.dropped) == (2, 4)


def test_a_pair_takes_no_more_than_its_account_says() -> None:
    """Pairs with ids of the gateway's own, ten labels and as many cells as there are; dicts grow in steps."""
    index = PairIndex(64 * MIB)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(5_000):
        index.add(
            pair_of(number, request_id=f"{number:016x}-{number:010}", key_cell=number, assigned_at_s=1.0 + number)
        )
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    print(f"{taken / len(index):.0f} bytes a pair, accounted {index.held_bytes / len(index):.0f}")  # noqa: T201
    assert 0.6 * index.held_bytes <= taken <= index.held_bytes
