"""Keys: one slot for each Route, and no name reaches into another's key."""

from itertools import combinations

import pytest
from redis.crc import key_slot

from router.store import keys

AWKWARD = ("digits", "a:b", "a}b", "{a}", "", "a%3Ab", "über", "a b")


def keys_of(route: str) -> list[str]:
    """Return every key a Route has."""
    return [
        keys.state(route),
        keys.decisions(route),
        keys.audit(route),
        keys.pairs(route),
        keys.pairs_account(route),
        keys.boots(route, "r.1"),
        keys.evidence(route, "r.1", "boot"),
        keys.labels(route, "r.1"),
        keys.classes(route, "r.1"),
        keys.seen(route, "r.1", 3, "errors"),
    ]


@pytest.mark.parametrize("route", [route for route in AWKWARD if route])
def test_a_route_lives_in_one_cluster_slot(route: str) -> None:
    """One script may touch all keys of a Route, whatever its name."""
    assert len({key_slot(key.encode()) for key in keys_of(route)}) == 1


def test_the_replicas_keys_share_a_slot() -> None:
    """A heartbeat is one script on two keys."""
    assert key_slot(keys.REPLICAS.encode()) == key_slot(keys.REPLICAS_SEEN.encode())


def test_no_two_routes_share_a_key() -> None:
    """Separators inside names are escaped."""
    for one, other in combinations(AWKWARD, 2):
        assert not set(keys_of(one)) & set(keys_of(other))
    assert keys.evidence("r", "a:b", "c") != keys.evidence("r", "a", "b:c")


def test_every_key_has_the_prefix() -> None:
    """An operator can find, and grant, all of ours by one pattern."""
    shared = [keys.LEASE, keys.REPLICAS, keys.NOTICES]
    assert all(key.startswith("turnout:") for key in [*keys_of("digits"), *shared])
