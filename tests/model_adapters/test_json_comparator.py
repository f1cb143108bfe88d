"""JSON by rules: ignored places, tolerances, lists without order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_adapters.comparators.json_rules import DEPTH, JsonRules
from router.core.inference import Answer
from router.core.observations import Comparison


def body(text: str | bytes, status: int = 200) -> Answer:
    """Return an answer with this body."""
    raw = text if isinstance(text, bytes) else text.encode()
    return Answer(status, len(raw), "d1", body=raw)


@pytest.mark.parametrize(
    ("options", "stable", "candidate", "same"),
    [
        ({}, '{"a":1,"b":[1,2]}', '{"b":[1,2],"a":1.0}', True),
        ({}, '{"a":1}', '{"a":true}', False),
        ({}, '{"a":null}', "{}", False),
        ({"ignore": ["$.id"]}, '{"id":"x","a":1}', '{"a":1}', True),
        ({"ignore": ["$.*.id"]}, '{"o":{"id":1,"a":1}}', '{"o":{"id":2,"a":2}}', False),
        ({"ignore": ["$..id"]}, '[{"id":1,"a":1},{"id":3,"a":{"id":4,"b":5}}]', '[{"a":1},{"a":{"b":5}}]', True),
        ({"ignore": ["$.a[*]"]}, '{"a":[1],"b":2}', '{"a":[2,3],"b":2}', True),
        ({"abs": 0.01}, '{"a":[0.5]}', '{"a":[0.509]}', True),
        ({"rel": "1%"}, '{"a":1000}', '{"a":1011}', False),
        ({}, "[1,2]", "[2,1]", False),
        ({"unordered": ["$"]}, "[1,2,2]", "[2,1,2]", True),
        ({"unordered": ["$"]}, "[1,2,2]", "[2,1,1]", False),
        ({"unordered": ["$"]}, "[1,2]", "[2,1,3]", False),
        ({"unordered": ["$"], "abs": 0.1}, "[9.99,3]", "[3,10.01]", True),
        ({"unordered": ["$.a"], "ignore": ["$.a[*].id"]}, '{"a":[{"id":1,"n":5},{"id":2,"n":4}]}',
         '{"a":[{"id":7,"n":4},{"id":9,"n":5}]}', True),
        ({"unordered": ["$..a", "$"]}, '[{"a":[1,2]},{"a":["x",null,{}]}]', '[{"a":[{},"x",null]},{"a":[2,1]}]', True),
        ({}, "{}", "{}", True),
        ({}, "[]", "{}", False),
        ({"ignore": ["$"]}, "[1]", "[2]", None),
    ],
)  # fmt: skip
def test_bodies_are_compared_by_the_rules(
    options: dict[str, object],
    stable: str,
    candidate: str,
    same: bool | None,  # noqa: FBT001 - the expected answer
) -> None:
    """Names have no order, numbers are numbers, and true is not 1."""
    found = JsonRules().configured(options).compare(body(stable), body(candidate))
    assert found.same is same


def test_the_reason_names_the_first_place_and_the_share_of_values() -> None:
    """The distance is the share of values that differ."""
    found = JsonRules().compare(body('{"o":[{"data":[1,2,3]}],"m":"x"}'), body('{"o":[{"data":[1,5,3]}],"m":"x"}'))
    assert (
        Comparison("json", same=False, distance=0.25, reason="$.o[0].data[1]: 2 != 5 (1 of 4 values differ)") == found
    )


@pytest.mark.parametrize("text", [b"", b"<html>", b"NaN", b"\xff", b'{"a":', b"[1" + b"," * 9])
def test_what_is_no_json_is_not_compared(text: bytes) -> None:
    """On either side, or both, even where the bytes are equal."""
    rules = JsonRules()
    assert rules.compare(body(text), body("1")).reason == "no JSON of stable"
    assert rules.compare(body("1"), body(text)).reason == "no JSON of candidate"
    assert rules.compare(body(text), body(text)).same is None


def test_values_too_deep_are_not_compared() -> None:
    """Neither by walking nor by sorting."""
    deep = "[" * (DEPTH + 2) + "1" + "]" * (DEPTH + 2)
    for rules in (JsonRules(), JsonRules().configured({"unordered": ["$"]})):
        assert rules.compare(body(deep), body(deep)).reason == f"values deeper than {DEPTH}"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abid"), inner, max_size=3),
    max_leaves=12,
)


@settings(deadline=None, derandomize=True)
@given(VALUES, VALUES)
def test_equal_values_are_the_same_and_nothing_raises(ours: object, theirs: object) -> None:
    """With every rule at once."""
    import orjson

    rules = JsonRules().configured({"ignore": ["$..id"], "unordered": ["$..*", "$"], "abs": 0.5})
    a, b = body(orjson.dumps(ours)), body(orjson.dumps(theirs))
    assert rules.compare(a, a).same is not False
    assert JsonRules().compare(a, a).same is True
    canonical = [orjson.dumps(one, option=orjson.OPT_SORT_KEYS) for one in (ours, theirs)]
    assert JsonRules().compare(a, b).same is (canonical[0] == canonical[1])
    assert rules.compare(a, b).same is rules.compare(b, a).same
