"""Pairs wait for others in one batch, encoded turn by turn; what is written is what was added, in its order."""

from router.core.observations import Comparison, Outcome, Payload
from router.gateway.open_batch import BATCH_PAIRS, OpenBatch
from router.store.pair_codec import Row, decode_pairs, row_of

SIDE = (Outcome.OK, 200, 1.5, 7, "d", "3", 0.7)
SAME = Comparison("label", same=True)


def row(number: int, payload: Payload | None = None, label: str = "3") -> Row:
    """Return the row of a pair with that number."""
    side = (*SIDE[:5], label, 0.7)
    return row_of(str(number), "r", 1, 0.0, "stable", SIDE, side, SAME, (), None, payload)


def test_a_batch_holds_the_pairs_of_all_its_turns_in_order() -> None:
    """Also those of a turn that has not been encoded when it is closed, and texts that UTF-8 cannot hold."""
    batch = OpenBatch()
    sizes = []
    for number in range(4):
        batch.add(row(number, label="\ud800" if number == 1 else "3"), None)
        sizes.append(batch.encode())
    batch.add(row(4), None)
    assert (batch.pairs, batch.encoded_bytes, batch.encode()) == (5, sum(sizes), sizes[0])
    pairs = decode_pairs(batch.close("digits", "a.1"))
    assert [pair.pair_id for pair in pairs] == ["0", "1", "2", "3", "4"]
    assert {(pair.route, pair.rollout) for pair in pairs} == {("digits", "a.1")}
    assert pairs[1].candidate.label == "?"


def test_a_batch_without_pairs_is_no_bytes() -> None:
    """Counters are written with no entry in the stream."""
    assert OpenBatch().close("digits", "a.1") == b""


def test_a_batch_is_full_by_pairs_and_by_bytes_encoded_or_not() -> None:
    """So no entry of the stream grows for long, and the oldest of a full queue is a small part of it."""
    many, long = OpenBatch(), OpenBatch(1_000)
    for number in range(BATCH_PAIRS):
        assert not many.full
        many.add(row(number), None)
    assert many.full
    payload = Payload("x" * 600)
    long.add(row(1, payload), payload)
    assert not long.full
    long.encode()
    assert not long.full
    long.add(row(2, payload), payload)
    assert long.full
