"""Pairs as bytes: compact, exact, and safe to read."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.observations import Comparison, Generation, Outcome, Pair, PairSide, Payload
from router.core.traffic import KEY_CELLS, NO_KEY
from router.store.codec import UnreadableRecordError, decode_pairs, encode_pairs, pair_to_json
from router.testing.samples import sample_pair

finite = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**53)
sides = st.builds(
    PairSide,
    st.sampled_from(Outcome),
    st.integers(0, 999),
    finite,
    counts,
    st.text(),
    st.none() | st.text(),
    st.none() | finite,
    st.none() | st.builds(Generation, st.none() | finite, st.none() | counts, st.none() | st.text()),
)
comparisons = st.builds(Comparison, st.text(), st.none() | st.booleans(), st.none() | finite, st.text())
slices = st.lists(st.tuples(st.text(), st.text()), max_size=3).map(tuple)
roles = st.sampled_from(["stable", "candidate"])
pairs = st.builds(
    Pair,
    st.text(),
    st.text(),
    st.just("digits"),
    st.just("a1.1"),
    counts,
    finite,
    roles,
    sides,
    sides,
    comparisons,
    slices,
    st.none() | st.integers(NO_KEY, KEY_CELLS - 1),
)


@given(st.lists(pairs, max_size=5))
def test_pairs_survive_their_codec(batch: list[Pair]) -> None:
    """Every field of every pair comes back to the last bit, in order."""
    assert batch == decode_pairs(encode_pairs(batch))


def test_no_pairs_are_no_bytes() -> None:
    """A batch of counters alone carries nothing."""
    assert encode_pairs([]) == b""
    assert decode_pairs(b"") == []


def test_a_batch_is_of_one_rollout() -> None:
    """The header is shared, so a stray pair would silently change its rollout."""
    stray = replace(sample_pair("digits", 2), rollout="other.1")
    with pytest.raises(ValueError, match="make one for each"):
        encode_pairs([sample_pair("digits", 1), stray])


def test_a_lone_surrogate_costs_only_itself() -> None:
    """A model can answer with text that UTF-8 cannot hold; the batch must not be lost for it."""
    pair = sample_pair("digits", 1)
    odd = replace(pair, candidate=replace(pair.candidate, label="a\ud800b"))
    found = decode_pairs(encode_pairs([odd, sample_pair("digits", 2)]))
    assert [replace(pair, candidate=replace(pair.candidate, label="a?b")), sample_pair("digits", 2)] == found


def test_a_pair_takes_few_bytes() -> None:
    """Two answers, a comparison and a slice: under 250 bytes in a batch of 50."""
    batch = encode_pairs([sample_pair("digits", number) for number in range(50)])
    assert 100 < len(batch) / 50 < 250


def test_columns_of_a_newer_version_are_ignored() -> None:
    """CF7: newer columns go behind, older replicas read what they know."""
    document = json.loads(encode_pairs([sample_pair("digits")]))
    document["pairs"][0] += [
        None,
        None,
        {"added": "later"},
    ]  # behind payload and generations, which this pair does not have
    document["added"] = "later"
    assert decode_pairs(json.dumps(document).encode()) == [sample_pair("digits")]


def test_a_row_of_an_older_version_has_no_key_cell() -> None:
    """CF7: None, which is not the same as a request without a key."""
    keyed = replace(sample_pair("digits"), key_cell=7)
    document = json.loads(encode_pairs([keyed]))
    document["pairs"][0].pop()
    assert decode_pairs(json.dumps(document).encode()) == [replace(keyed, key_cell=None)]


@pytest.mark.parametrize("wrong", [None, {"$": 1}, [[]], True, -1, "x" * 50, 1e300])
def test_no_wrong_column_gets_through_as_another_type(wrong: object) -> None:
    """SE12: a foreign value is an error that says where, or is of the right type and stays what it is."""
    document = json.loads(encode_pairs([sample_pair("digits", 1), sample_pair("digits", 2)]))
    for column in range(len(document["pairs"][1])):
        copy = json.loads(json.dumps(document))
        copy["pairs"][1][column] = wrong
        told, found = "", []
        try:
            found = decode_pairs(json.dumps(copy).encode())
        except UnreadableRecordError as error:
            told = str(error)
        assert (told.startswith("pairs[1].") and len(told) < 200) or json.loads(encode_pairs(found)) == copy


@pytest.mark.parametrize(
    "raw", [b"null", b"{}", b"\x80\x04", b'{"v":1,"route":"r","rollout":"o","pairs":[[1]]}', b"[" * 10_000]
)
def test_foreign_bytes_are_refused(raw: bytes) -> None:
    """One clear error for whatever lies in the stream."""
    with pytest.raises(UnreadableRecordError):
        decode_pairs(raw)


def test_the_public_pair_is_as_documented() -> None:
    """The object of design.md section 8, name by name."""
    assert pair_to_json(sample_pair("digits", 1)) == {
        "v": 1,
        "pair_id": "boot1-1",
        "request_id": "request-1",
        "route": "digits",
        "rollout": "a1b2c3d4e5f6.1",
        "exposure": 2,
        "assigned_at": "2026-09-21T14:13:21.125000Z",
        "served": "stable",
        "stable": {
            "outcome": "ok",
            "status": 200,
            "latency_ms": 1.25,
            "bytes": 312,
            "digest": "91b7584a2265b1f5",
            "prediction": {"label": "7", "score": 0.98},
        },
        "candidate": {
            "outcome": "ok",
            "status": 200,
            "latency_ms": 2.5,
            "bytes": 310,
            "digest": "0b1c2d3e4f506172",
            "prediction": {"label": "1", "score": 0.51},
        },
        "comparison": {"comparator": "label", "same": False, "distance": 1.0, "reason": "label 7 against 1"},
        "slices": {"country": "de"},
    }
    assert json.loads(json.dumps(pair_to_json(sample_pair("digits", 1))))["stable"]["outcome"] == "ok"


PAYLOAD = Payload('{"inputs":[{"name":"age \\"x\\""}]}', None, "[1.5]")


def test_a_payload_comes_back_as_it_was_and_costs_a_pair_without_one_nothing() -> None:
    """CF7: it is one more column behind, so that an older version reads the rest."""
    plain, rich = sample_pair("digits", 1), replace(sample_pair("digits", 2), payload=PAYLOAD)
    raw = encode_pairs([plain, rich])
    assert decode_pairs(raw) == [plain, rich]
    rows = json.loads(raw)["pairs"]
    assert len(rows[1]) == len(rows[0]) + 1


def test_pr5_the_public_pair_has_its_payload_only_when_it_is_asked_for() -> None:
    """As JSON, not as text; what the store holds in its place that is no JSON becomes null."""
    rich = replace(sample_pair("digits", 1), payload=PAYLOAD)
    assert pair_to_json(rich) == pair_to_json(sample_pair("digits", 1))
    expected = {"request": {"inputs": [{"name": 'age "x"'}]}, "stable": None, "candidate": [1.5]}
    assert pair_to_json(rich, payload=True) == {**pair_to_json(rich), "payload": expected}
    assert pair_to_json(sample_pair("digits", 1), payload=True)["payload"] is None
    foreign = replace(rich, payload=Payload("}<script>", "", None))
    assert pair_to_json(foreign, payload=True)["payload"] == dict.fromkeys(("request", "stable", "candidate"))
