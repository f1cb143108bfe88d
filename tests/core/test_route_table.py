"""Which Route a request belongs to."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.rollout import idle_state
from router.core.traffic import Entry, Match, Route, RouteTable


def entry(name: str, prefix: str = "/", host: str | None = None, headers: Mapping[str, str] | None = None) -> Entry:
    """Return a Route of this name and match, with its idle state."""
    match = Match(prefix, host, tuple((headers or {}).items()))
    return Entry(Route(name, match, "opaque", {}, "v1"), idle_state(name, "v1", 0.0))


def found(table: RouteTable, path: str, host: str = "any", headers: Mapping[str, str] | None = None) -> str | None:
    """Return the name of the Route that answers, None for 404."""
    entry = table.find(path, host, headers or {})
    return entry.route.name if entry else None


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v2/models/digits/infer", "digits"),
        ("/v2/models/digits/versions/3/infer", "version 3"),
        ("/v2/models/digits/versions/3", "version 3"),
        ("/v2/models/digits/versions/30/infer", "digits"),
        ("/v2/models/digits", "digits"),
        ("/v2/models/digits/", "digits"),
        ("/v2/models/digitsx/infer", "v2"),
        ("/v2", "v2"),
        ("/v2/", "v2"),
        ("/v20", None),
        ("/", None),
        ("/other", None),
        ("*", None),
        ("", None),
    ],
)
def test_the_longest_prefix_of_whole_segments_wins(path: str, name: str | None) -> None:
    """A prefix ends at a slash: /v2 answers to /v2/models, not to /v20."""
    table = RouteTable.of(
        [entry("v2", "/v2"), entry("version 3", "/v2/models/digits/versions/3/"), entry("digits", "/v2/models/digits")]
    )
    assert found(table, path) == name


@pytest.mark.parametrize("path", ["/", "", "*", "/a", "/a/b/", "//", "/%2e%2e/x"])
def test_a_route_at_the_root_answers_to_every_path(path: str) -> None:
    """It is the catch-all."""
    assert found(RouteTable.of([entry("root", "/")]), path) == "root"


def test_without_routes_nothing_is_found() -> None:
    """An empty table is a table."""
    assert RouteTable.of([]).find("/", "any", {}) is None


@pytest.mark.parametrize(
    ("host", "headers", "name"),
    [
        ("eu.example.org", {"x-team": "a", "x-more": "1"}, "eu team a"),
        ("eu.example.org", {"x-team": "b"}, "eu"),
        ("us.example.org", {"x-team": "a"}, "team a"),
        ("us.example.org", {"x-team": "A"}, "all"),
        ("us.example.org", {}, "all"),
    ],
)
def test_under_one_prefix_the_most_conditions_win(host: str, headers: dict[str, str], name: str) -> None:
    """Whatever the order of the file, a Route with host and header comes before one with fewer conditions."""
    entries = [
        entry("all", "/v2"),
        entry("team a", "/v2", headers={"x-team": "a"}),
        entry("eu", "/v2/", "eu.example.org"),
        entry("eu team a", "/v2", "eu.example.org", {"x-team": "a"}),
    ]
    for table in (RouteTable.of(entries), RouteTable.of(reversed(entries))):
        assert found(table, "/v2/models", host, headers) == name


def test_a_condition_that_fails_lets_a_shorter_prefix_answer() -> None:
    """The longest prefix wins among the Routes whose conditions hold."""
    table = RouteTable.of([entry("root"), entry("eu", "/v2", "eu.example.org")])
    assert (found(table, "/v2/x", "eu.example.org"), found(table, "/v2/x", "us.example.org")) == ("eu", "root")


def test_the_entry_that_is_found_holds_the_state_it_was_made_of() -> None:
    """Route and state are read together, so that no request sees one without the other."""
    only = entry("root")
    assert RouteTable.of([only]).find("/x", "any", {}) is only


class CountingIndex(dict[str, tuple[Entry, ...]]):
    """An index that counts how often it is asked."""

    asked = 0

    def get(self, key: str, default: object = None) -> Any:  # noqa: ANN401 - as dict.get
        """Count, then look up."""
        self.asked += 1
        return super().get(key, default)


@pytest.mark.parametrize("path", ["/a" * 4_000, "/v2/models" + "/a" * 4_000, "/" * 8_000, "/v2//" + "/" * 4_000 + "x"])
def test_a_very_long_path_costs_no_more_than_the_longest_prefix(path: str) -> None:
    """A client cannot keep the event loop busy with thousands of segments (reliability.md SE10)."""
    prefix = "/v2/models/digits/versions/3"
    table = RouteTable.of([entry("v2", prefix)])
    index = CountingIndex(table._by_prefix)  # noqa: SLF001 - the cost is what is tested
    assert replace(table, _by_prefix=index).find(path, "any", {}) is None
    assert 1 <= index.asked <= len(prefix) + 1


segments = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=4)
prefixes = segments.map(lambda parts: "/" + "/".join(parts))


@given(st.lists(st.tuples(prefixes, st.sampled_from([None, "eu", "us"])), unique=True, max_size=8), prefixes)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_the_index_agrees_with_asking_every_route_in_turn(matches: list[tuple[str, str | None]], path: str) -> None:
    """A plain search over all Routes, by the rule as the documentation states it, gives the same answer."""
    table = RouteTable.of([entry(f"{prefix} {host}", prefix, host) for prefix, host in matches])
    fitting = [
        (len(prefix.rstrip("/")), host is not None, f"{prefix} {host}")
        for prefix, host in matches
        if host in (None, "eu") and f"{path}/".startswith(f"{prefix.rstrip('/')}/")
    ]
    assert found(table, path, "eu") == (max(fitting)[2] if fitting else None)
