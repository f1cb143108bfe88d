"""Records: what is written can be read back, and what is read is checked."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.decisions import Judgement, RollBack
from router.core.ports import Notice
from router.core.rollout import apply, idle_state
from router.store import codec
from router.store.codec import UnreadableRecordError
from router.testing.samples import NOW_S, sample_decision, sample_heartbeat, sample_state

RECORDS = [
    pytest.param(codec.encode_state, codec.decode_state, sample_state("digits"), id="state"),
    pytest.param(codec.encode_state, codec.decode_state, idle_state("digits", "v1", NOW_S), id="idle state"),
    pytest.param(codec.encode_decision, codec.decode_decision, sample_decision("digits"), id="decision"),
    pytest.param(
        codec.encode_decision,
        codec.decode_decision,
        replace(sample_decision("digits"), judgement=Judgement(invalid="imbalance")),
        id="invalid judgement",
    ),
    pytest.param(codec.encode_heartbeat, codec.decode_heartbeat, sample_heartbeat("boot1"), id="heartbeat"),
    pytest.param(codec.encode_notice, codec.decode_notice, Notice("digits", 7), id="notice"),
]


def paths(value: object, at: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Return the place of every value inside a JSON document."""
    inner: list[tuple[object, object]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path for key, item in inner for path in [(*at, key), *paths(item, (*at, key))]]


def named_fields(document: object) -> list[tuple[object, ...]]:
    """Return the place of every field, not of what is kept by the names of Routes."""
    return [path for path in paths(document) if isinstance(path[-1], str) and path[0] not in {"applied", "popular"}]


def is_later(path: tuple[object, ...]) -> bool:
    """Whether an older version did not write the field."""
    return path[-1] in {"halted", "popular", "proves", "slices"} or (path[-1] == "slice" and "judgement" in path)


def changed(document: object, path: tuple[object, ...], change: Callable[[object, object], None]) -> bytes:
    """Return the document after `change(container, key)` at `path`."""
    copy = json.loads(json.dumps(document))
    container = copy
    for key in path[:-1]:
        container = container[key]
    change(container, path[-1])
    return json.dumps(copy).encode()


@pytest.mark.parametrize(("encode", "decode", "record"), RECORDS)
def test_a_record_survives_its_codec(encode, decode, record) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Every field comes back as it went."""
    assert record == decode(encode(record))


@pytest.mark.parametrize(("encode", "decode", "record"), RECORDS)
def test_fields_of_a_newer_version_are_ignored(encode, decode, record) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """CF7: an older replica reads what a newer one wrote, at any depth where fields have names."""
    document = json.loads(encode(record))
    for path in named_fields(document):
        raw = changed(document, path, lambda container, _: container.update(added_later={"x": [1]}))  # type: ignore[attr-defined]
        assert record == decode(raw)


def test_cf7_a_field_of_a_newer_version_outlives_the_writes_of_an_older_one() -> None:
    """Read, moved and written by a process that does not know it, it is still there, as it was; ours are ours."""
    later = {"added_later": {"x": [1, None, "ü"]}, "halted_by": "b", "unknown": [["stable", '"v9"']], "Zebra": 1e-9}
    document = json.loads(codec.encode_state(sample_state("digits"))) | later
    state = codec.decode_state(json.dumps(document).encode())
    assert state == sample_state("digits")
    moved = apply(state, RollBack(reason="harm"), NOW_S)
    written = json.loads(codec.encode_state(moved))
    del later["unknown"]  # a name of this version, which is never written
    assert {name: written[name] for name in later} == later
    assert written["phase"] == "rolled_back"
    assert codec.decode_state(codec.encode_state(moved)).unknown == moved.unknown


@pytest.mark.parametrize(("encode", "decode", "record"), RECORDS)
def test_every_missing_field_is_an_error_that_names_it(encode, decode, record) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """Nothing is filled in silently, but for fields that older versions did not write."""
    document = json.loads(encode(record))
    named = [path for path in named_fields(document) if not is_later(path)]
    assert named
    for path in named:
        raw = changed(document, path, lambda container, key: container.pop(key))  # type: ignore[attr-defined]
        with pytest.raises(UnreadableRecordError, match=f"field '{path[-1]}' is missing"):
            decode(raw)


@pytest.mark.parametrize(("encode", "decode", "record"), RECORDS)
def test_records_of_older_versions_are_read(encode, decode, record) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """CF7: of before there was a breaker, and of before there were slices, which then are none."""
    document = json.loads(encode(record))
    for path in reversed([path for path in paths(document) if is_later(path)]):
        document = json.loads(changed(document, path, lambda container, key: container.pop(key)))  # type: ignore[attr-defined]
    none: dict[str, object] = {"slices": (), "popular": {}}
    changes = {name: empty for name, empty in none.items() if hasattr(record, name)}
    assert decode(json.dumps(document).encode()) == replace(record, **changes)


@pytest.mark.parametrize(("encode", "decode", "record"), RECORDS)
@pytest.mark.parametrize("wrong", [{"$": 1}, [[]], True, -1, 1e300, "x" * 50, "\ud800"])
def test_no_wrong_value_gets_through_as_another_type(encode, decode, record, wrong) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """SE12: a foreign value is an error of ours, or is of the right type and stays what it is."""
    document = json.loads(encode(record))
    for path in paths(document):
        raw = changed(document, path, lambda container, key: container.__setitem__(key, wrong))  # type: ignore[index]
        told, found = "", record
        try:
            found = decode(raw)
        except UnreadableRecordError as error:
            told = str(error)
        assert (0 < len(told) < 200) or json.loads(raw) == json.loads(encode(found))


@pytest.mark.parametrize(
    "decode", [codec.decode_state, codec.decode_decision, codec.decode_heartbeat, codec.decode_notice]
)
@pytest.mark.parametrize(
    "raw", [b"", b"null", b"[]", b"{}", b"\x80\x04\x95", b"{" * 10_000, b'{"v":"1"}', b'{"v":0}', b" " * (2**20 + 1)]
)
def test_foreign_bytes_are_refused(decode: Callable[[bytes], object], raw: bytes) -> None:
    """Whatever lies under our key is read as data, never run, and never crashes us."""
    with pytest.raises(UnreadableRecordError):
        decode(raw)


@pytest.mark.parametrize(
    "decode", [codec.decode_state, codec.decode_decision, codec.decode_heartbeat, codec.decode_notice]
)
@given(raw=st.binary(max_size=64) | st.text(max_size=64).map(str.encode))
def test_random_bytes_are_refused(decode: Callable[[bytes], object], raw: bytes) -> None:
    """The same for bytes nobody thought of."""
    with pytest.raises(UnreadableRecordError):
        decode(raw)


@pytest.mark.parametrize(("encode", "decode", "record"), RECORDS)
def test_a_newer_major_version_is_refused(encode, decode, record) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    """A changed meaning must not be guessed at."""
    raw = encode(record).replace(b'{"v":1,', b'{"v":2,', 1)
    with pytest.raises(UnreadableRecordError, match="a newer Turnout wrote this"):
        decode(raw)


@pytest.mark.parametrize("field", ["revision", "epoch", "step", "started_s"])
def test_true_is_no_number(field: str) -> None:
    """Python counts with booleans; a store that holds one where a number belongs is damaged."""
    document = json.loads(codec.encode_state(sample_state("digits")))
    document[field] = True
    with pytest.raises(UnreadableRecordError, match=f"state.{field}: got True, expected a"):
        codec.decode_state(json.dumps(document))


@pytest.mark.parametrize("weight_bp", [-1, 10_001])
def test_a_weight_outside_its_range_is_refused(weight_bp: int) -> None:
    """10001 basis points would send everybody to the candidate."""
    raw = codec.encode_state(sample_state("digits")).replace(b'"weight_bp":100,', f'"weight_bp":{weight_bp},'.encode())
    with pytest.raises(UnreadableRecordError, match=r"weight_bp: got -?\d+, expected a whole number 0..10000"):
        codec.decode_state(raw)


@pytest.mark.parametrize(
    "broken", [{"started_s": float("nan")}, {"started_s": float("inf")}, {"step": 2}, {"revision": -1}]
)
def test_a_state_that_cannot_be_read_back_is_never_written(broken: dict[str, float]) -> None:
    """JSON has no NaN: it would come back as null, and the Route would be stuck."""
    with pytest.raises(ValueError, match="read back"):
        codec.encode_state(replace(sample_state("digits"), **broken))  # type: ignore[arg-type]


def test_the_codec_loads_no_client_and_no_pydantic() -> None:
    """Gateway workers import it; they stay light."""
    code = "import sys, router.store.codec; print([m for m in ('redis', 'pydantic', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
