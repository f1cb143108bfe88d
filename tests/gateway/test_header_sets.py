"""DP12: fields pass end to end in any set: doubled, with bytes above 127, hop-by-hop, nominated; in both directions."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.traffic import Backend, Variant
from router.gateway.trust import CLAIMS
from tests.gateway.bench import route_of
from tests.gateway.messages import Tape
from tests.gateway.socketless import Stage, stage
from tests.gateway.test_fuzz import hear, tell

Fields: TypeAlias = list[tuple[bytes, bytes]]

NAMES = (b"X-A", b"x-a", b"X-B", b"Accept", b"Set-Cookie", b"Via", b"Warning", b"!#$%&'*+-.^_`|~", b"Forwarded", b"")
HOP_BY_HOP = (
    (b"Keep-Alive", b"timeout=5"), (b"Proxy-Connection", b"keep-alive"), (b"TE", b"trailers"), (b"Trailer", b"X-A"),
    (b"Upgrade", b"h2c"),
)  # fmt: skip
NOMINATED = (b"x-a", b"X-B", b"keep-alive", b"x-unknown", b"Host", b"Content-Length", b"set-cookie")
VISIBLE = bytes([*range(0x21, 0x7F), *range(0x80, 0x100)])
GONE = {name.lower() for name, _ in HOP_BY_HOP} | {b"connection", b"transfer-encoding"}
OWN_THERE = {
    b"host", b"content-length", b"x-request-id", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", *CLAIMS
}  # fmt: skip
OWN_BACK = {b"content-length", b"x-request-id"}
TAPES = st.binary(max_size=200)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Stage]:
    """A worker that adds no x-turnout-variant, for all tests here."""
    with stage(route_of(Variant("v1", (Backend("127.0.0.1", 1),))), response_headers=False) as made:
        yield made


def some_fields(dice: Tape) -> tuple[Fields, list[bytes]]:
    """Return up to nine fields in their order, and the names that a Connection field nominates."""
    fields = []
    for _ in range(dice.roll(10)):
        name = dice.pick(NAMES)
        words = (bytes(VISIBLE[dice.roll(len(VISIBLE))] for _ in range(1 + dice.roll(6))) for _ in range(dice.roll(4)))
        fields.append((name, b"\t ".join(words)) if name else dice.pick(HOP_BY_HOP))
    return fields, [dice.pick(NOMINATED) for _ in range(max(0, dice.roll(5) - 2))]


def lines(fields: Fields, nominated: list[bytes]) -> bytes:
    """Return fields as they go over the wire."""
    named = [(b"Connection", b" , ".join(nominated))] if nominated else []
    return b"".join(b"%b: %b\r\n" % field for field in [*fields, *named])


def values(fields: Iterable[tuple[bytes, bytes]]) -> dict[bytes, list[bytes]]:
    """Return the values of each name in their order."""
    found: dict[bytes, list[bytes]] = defaultdict(list)
    for name, value in fields:
        found[name.lower()].append(value)
    return found


def expected(
    fields: Fields, nominated: list[bytes], claims: frozenset[bytes] = frozenset()
) -> dict[bytes, list[bytes]]:
    """Return what must arrive on the other side; `claims` are not believed, and end with what is of the hop."""
    gone = GONE | claims | {name.lower() for name in nominated}
    kept = values((name, value) for name, value in fields if name.lower() not in gone)
    kept[b"via"] = [*kept[b"via"], b"1.1 turnout"]
    return kept


def check(gateway: Stage, tape: bytes) -> None:
    """Send one set with a request and one with an answer, and compare what arrives."""
    dice = Tape(tape)
    there, back = some_fields(dice), some_fields(dice)
    (got,) = hear(gateway, [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n%b\r\nhi" % lines(*there)]).forwarded
    assert got.body == b"hi"
    assert values(field for field in got.fields if field[0] not in OWN_THERE) == expected(*there, CLAIMS)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n%b\r\nhi" % lines(*back)
    told = tell(gateway, b"GET", b"1.1", [answer], "").by_backend
    assert told is not None
    assert told.body == b"hi"
    assert values(field for field in told.fields if field[0] not in OWN_BACK) == expected(*back)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(tape=TAPES)
def test_dp12_fields_arrive_as_they_were_sent(gateway: Stage, tape: bytes) -> None:
    """The same values of the same names in the same order; nothing of the hop, nothing nominated; Via last."""
    check(gateway, tape)


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=2_500)
@given(tape=TAPES)
def test_dp12_five_thousand_sets_of_fields(gateway: Stage, tape: bytes) -> None:
    """The same, half of them in each direction."""
    check(gateway, tape)
