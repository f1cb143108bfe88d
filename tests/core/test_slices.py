"""Slices: where their values stand, how they are written, and which of them have a place of their own."""

import random
from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.slices import (
    ENOUGH,
    NONE,
    VALUE_CHARS,
    WATCHED,
    Popular,
    PopularValues,
    SliceKind,
    SliceSource,
    give_places,
    is_free,
    may_follow,
    merge,
    places_of,
    slice_value,
)

TENANT = SliceSource(SliceKind.HEADER, "x-tenant")
FREE: tuple[str, ...] = ("tenant=other", "tenant=none", "tenant=", "tenant=")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("header:X-Tenant", "tenant"),
        ("header:region", "region"),
        ("json:$.region", "region"),
        ("json:$.a['b c']", "b c"),
    ],
)
def test_a_source_is_called_by_its_last_name(text: str, name: str) -> None:
    """Without the x- of headers."""
    assert name == SliceSource.parse(text).name


@pytest.mark.parametrize("text", ["", "tenant", "cookie:a", "header:", "json:", "json:$", "json:$.a[*]", "json:$..a",
                                  "json:$['a=b']", "json:$['\\u0007']", f"json:$.{'a' * 33}"])  # fmt: skip
def test_other_sources_are_refused(text: str) -> None:
    """With what was expected."""
    with pytest.raises(ValueError, match=r"header:NAME|path"):
        SliceSource.parse(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [("acme", "acme"), ("", NONE), (None, NONE), ([1], NONE), ({}, NONE), (7, "7"), (0.5, "0.5"), (True, "true")],
)
def test_a_value_is_a_short_text(value: object, text: str) -> None:
    """And none where there is none."""
    assert text == slice_value(value)


@pytest.mark.parametrize("value", ["x" * 10_000, "a\nb", "\x1b[31mred", "\ud800"])
def test_long_and_unprintable_values_end_in_a_digest(value: str) -> None:
    """So that they stay short, distinct and harmless in a terminal."""
    told = slice_value(value)
    assert len(told) <= VALUE_CHARS
    assert told.isprintable()
    assert "~" in told
    assert told != slice_value(value + "x")


def test_a_rollout_begins_with_all_its_places() -> None:
    """For each source other and none, then what gates name, then free ones; a named one always has its place."""
    assert places_of([TENANT], 2, ["tenant=acme", "region=eu", "tenant=acme"]) == (
        "tenant=other", "tenant=none", "tenant=acme", "tenant=",
    )  # fmt: skip
    named = [f"tenant={number}" for number in range(3)]
    assert places_of([TENANT], 2, named) == ("tenant=other", "tenant=none", *named)
    assert places_of([], 2, named) == ()


def seen(requests: int, /, **tenants: int) -> Popular:
    """Return what workers tell of so many requests."""
    return Popular("r.1", {"tenant": requests}, {f"tenant={name}": number for name, number in tenants.items()})


def test_free_places_are_given_to_the_values_with_most_traffic() -> None:
    """By the sum over all workers, whichever comes first; what is told of another rollout does not count."""
    workers = [
        seen(1_000, bolt=300, acme=400),
        seen(1_000, acme=100, zinc=350, bolt=200),
        Popular("r.0", {}, {"tenant=x": 9}),
    ]
    for order in permutations(workers):
        after, words = give_places(FREE, merge(order, "r.1"))
        assert after == ("tenant=other", "tenant=none", "tenant=acme", "tenant=bolt")
        assert words == ("tenant=acme (25% of 2,000 requests)", "tenant=bolt (25% of 2,000 requests)")


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (seen(ENOUGH - 1, acme=500), "too few requests to know"),
        (seen(10_000, acme=99), "too small a share"),
        (Popular("r.1", {"region": 10_000}, {"region=eu": 10_000}), "no place of that source"),
        (seen(10_000, other=5_000, none=5_000), "these have theirs"),
    ],
)
def test_no_place_is_given_away_too_early_or_to_anything_else(told: Popular, why: str) -> None:
    """The table stays as it is."""
    assert give_places(FREE, told) == (FREE, ()), why


@given(st.lists(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 3_000)), max_size=12))
def test_whatever_names_turn_up_a_place_is_given_once_and_for_good(looks: list[dict[str, int]]) -> None:
    """So 1/len(places) each sums to 1 over everything that is ever asked of."""
    places, ever = FREE, {place for place in FREE if not is_free(place)}
    for look in looks:
        after, words = give_places(places, seen(sum(look.values()), **look))
        assert may_follow(places, after)
        assert len(words) == sum(old != new for old, new in zip(places, after, strict=True))
        places = after
        ever |= {place for place in places if not is_free(place)}
    assert len(places) == len(FREE)
    assert len(ever) <= len(FREE)
    assert ever == {place for place in places if not is_free(place)}


@pytest.mark.parametrize(
    "after",
    [
        ("tenant=other", "tenant=none", "tenant=acme"),
        ("tenant=other", "tenant=none", "tenant=acme", "tenant=bolt", "tenant=zinc"),
        ("tenant=other", "tenant=none", "tenant=acme", "region=eu"),
        ("tenant=other", "tenant=none", "tenant=acme", "tenant=acme"),
        ("tenant=acme", "tenant=none", "tenant=", "tenant="),
        ("tenant=none", "tenant=other", "tenant=", "tenant="),
    ],
)
def test_no_other_change_of_places_is_possible(after: tuple[str, ...]) -> None:
    """A place lost, added, given to another source, given twice, or taken away."""
    assert not may_follow(FREE, after)


def test_a_value_with_much_traffic_is_found_among_names_that_come_once() -> None:
    """9 of 10 requests bring a new name: memory stays bounded, and what is counted of the others is never too much."""
    values, rng = PopularValues(), random.Random(7)
    truth = Counter[str]()
    for number in range(50_000):
        value = rng.choice(["acme", "acme", "bolt"]) if rng.random() < 0.1 else f"made up {number}"
        truth[value] += 1
        values.requests += 1
        values.count(value)
        assert len(values._counts) <= WATCHED  # noqa: SLF001 - the bound under test
    top = dict(values.top(2))
    assert set(top) == {"acme", "bolt"}
    for value, number in top.items():
        assert truth[value] - values.requests / (WATCHED + 1) <= number <= truth[value]


@given(st.lists(st.sampled_from("abcdefghij"), max_size=300), st.integers(1, 4))
def test_a_count_is_never_too_high_and_too_low_by_a_known_share_only(values: list[str], watched: int) -> None:
    """The bound of Misra and Gries, with as few counters as make it bite."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("router.core.slices.WATCHED", watched)
        counted = PopularValues()
        for value in values:
            counted.count(value)
    found, truth = dict(counted.top(watched)), Counter(values)
    for value in truth:
        assert truth[value] - len(values) / (watched + 1) <= found.get(value, 0) <= truth[value]
