"""Field paths and what they keep: nothing that no path names, nothing that a redacting path names (PR2)."""

import json
import random
from typing import Any

import pytest
from jsonpath import JSONPathEnvironment

from router.core.payloads import DEPTH, WORK, FieldPath, Selection, TooMuchWorkError

BODY = {
    "id": "42",
    "user": {"email": "anna@example.org", "first name": "Anna", "plan": {"name": "gold", "email": "billing"}},
    "inputs": [{"name": "age", "data": [41]}, {"name": "card", "data": ["4111"]}, "loose"],
}


def selection(keep: list[str], redact: list[str] | None = None) -> Selection:
    """Return the Selection of these paths."""
    return Selection(tuple(map(FieldPath.parse, keep)), tuple(map(FieldPath.parse, redact or [])))


@pytest.mark.parametrize(
    ("keep", "redact", "expected"),
    [
        ([], [], None),
        ([], ["$.id"], None),
        (["$.nothing"], [], None),
        (["$"], ["$"], None),
        (["$.id"], [], {"id": "42"}),
        (["$.id.deeper"], [], None),
        (["$.inputs[*].name"], [], {"inputs": [{"name": "age"}, {"name": "card"}]}),
        (["$.inputs.name"], [], None),
        (["$.user['first name']", '$["id"]'], [], {"id": "42", "user": {"first name": "Anna"}}),
        (["$..email"], [], {"user": {"email": "anna@example.org", "plan": {"email": "billing"}}}),
        (["$.user.*"], ["$..email"], {"user": {"first name": "Anna", "plan": {"name": "gold"}}}),
        (["$.user.plan", "$.user.plan.name"], ["$.user.plan.name"], {"user": {"plan": {"email": "billing"}}}),
        (["$.inputs"], ["$.inputs[*].data"], {"inputs": [{"name": "age"}, {"name": "card"}, "loose"]}),
        (["$.inputs"], ["$.inputs.data"], {"inputs": [{"name": "age"}, {"name": "card"}, "loose"]}),
        (["$.inputs"], ["$.inputs[*]"], {"inputs": []}),
        (["$"], ["$.user", "$..data", "$.inputs[*]['name']"], {"id": "42", "inputs": [{}, {}, "loose"]}),
    ],
    ids=str,
)
def test_pr2_kept_is_what_a_path_names_and_no_redacting_path_does(
    keep: list[str], redact: list[str], expected: object
) -> None:
    """A path that leads nowhere keeps nothing; redacting wins over keeping, and goes through lists unasked."""
    before = json.dumps(BODY)
    assert selection(keep, redact).of(BODY) == expected
    assert json.dumps(BODY) == before


@pytest.mark.parametrize("value", ["4111111111111111", 4111111111111111, 1.5, True, None, [], {}], ids=repr)
def test_pr2_what_is_neither_object_nor_list_has_no_fields_and_is_not_kept(value: object) -> None:
    """Not even by `$`: a text body that happens to be a JSON number is not kept by mistake."""
    assert not selection(["$"], ["$.x"]).of(value)


@pytest.mark.parametrize(
    "text",
    ["", "inputs", "$.", "$..", "$.inputs[0]", "$.inputs[-1]", "$[1:2]", "$.a[?@.b]", "$['a', 'b']", "$['a]", "$.a b",
     "$.['a']", "$[*", "$.a.", "$ .a", "$.a\n", "$x", "$*", "$a.b", "$['a\\'b']", "$...a", "$.1", "$." + "a" * 300],
)  # fmt: skip
def test_what_is_no_path_of_names_is_refused(text: str) -> None:
    """Also what RFC 9535 knows but depends on positions or values."""
    with pytest.raises(ValueError, match=r"a field path like \$\.inputs"):
        FieldPath.parse(text)


def some_value(rolls: random.Random, depth: int = 0) -> Any:  # noqa: ANN401 - JSON
    """Return a random value of three field names."""
    kind = rolls.random()
    if depth == 5 or kind < 0.2:
        return rolls.randrange(100)
    if kind < 0.5:
        return [some_value(rolls, depth + 1) for _ in range(rolls.randrange(4))]
    return {name: some_value(rolls, depth + 1) for name in rolls.sample("abc", rolls.randrange(4))}


def some_path(rolls: random.Random) -> str:
    """Return a random path of one to four segments."""
    steps = ["[*]", "..*", "..[*]", *(form.format(name) for name in "abc" for form in (".{}", "['{}']", "..{}"))]
    return "$" + "".join(rolls.choices(steps, k=rolls.randrange(1, 5)))


def leaves(value: Any) -> list[Any]:  # noqa: ANN401 - JSON
    """Return all numbers in it, each with a marker that makes it unique."""
    if isinstance(value, dict):
        return [leaf for one in value.values() for leaf in leaves(one)]
    return [leaf for one in value for leaf in leaves(one)] if isinstance(value, list) else [value]


def numbered(value: Any, numbers: "Any") -> Any:  # noqa: ANN401 - JSON
    """Return it with every leaf another number."""
    if isinstance(value, dict):
        return {name: numbered(one, numbers) for name, one in value.items()}
    return [numbered(one, numbers) for one in value] if isinstance(value, list) else next(numbers)


@pytest.mark.parametrize("seed", range(8))
def test_pr2_kept_is_exactly_what_a_foreign_reader_of_rfc_9535_finds(seed: int) -> None:
    """100 values, random paths: python-jsonpath finds the same leaves; a redacting path leaves none that it finds."""
    rolls = random.Random(seed)
    foreign = JSONPathEnvironment()

    def found(path: str, value: Any) -> set[int]:  # noqa: ANN401 - JSON
        return {leaf for one in foreign.findall(path, value) for leaf in leaves(one)}

    for _ in range(100):
        value = numbered(some_value(rolls), iter(range(10_000)))
        if not isinstance(value, (dict, list)):
            continue
        paths = [some_path(rolls) for _ in range(rolls.randrange(1, 4))]
        redacting = [some_path(rolls) for _ in range(rolls.randrange(3))]
        named = set().union(*(found(path, value) for path in paths))
        gone = set[int]().union(*(found(path, value) for path in redacting))
        assert set(leaves(selection(paths).of(value) or [])) == named, (value, paths)
        kept = set(leaves(selection(paths, redacting).of(value) or []))
        assert kept <= named - gone, (value, paths, redacting)
        if not any(step in path for path in redacting for step in "abc"):
            assert kept == named - gone, (value, paths, redacting)


def test_pr2_work_on_one_body_is_bounded() -> None:
    """By the number of values looked at, and by depth; doubled descents do not multiply it."""
    wide = {"a": [{"b": number} for number in range(WORK)]}
    assert selection(["$.a"]).of(wide) == wide
    with pytest.raises(TooMuchWorkError):
        selection(["$.a[*].b"]).of(wide)
    deep: dict[str, object] = {"secret": 1}
    for _ in range(DEPTH + 20):
        deep = {"a": deep}
    assert selection(["$..secret"]).of(deep) is None
    assert "secret" not in str(selection(["$"], ["$..x"]).of(deep))
    assert selection(["$" + "..a" * 20 + "..b"]).of(deep) is None
