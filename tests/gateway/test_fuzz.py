"""SE13: whatever bytes arrive, we read of them what h11 reads, or nothing.

Messages are made by dice from the grammar, and spoilt in a few places. Refusing what h11 takes is allowed, except where
the message is a valid one; taking what h11 refuses, or reading it otherwise, is not. How the bytes are cut into reads
changes nothing. `./run soak SE13` rolls for ten minutes.
"""

import itertools
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.traffic import Backend, Variant
from tests.gateway import messages
from tests.gateway.bench import route_of
from tests.gateway.messages import Tape
from tests.gateway.readings import HOP_BY_HOP, OURS, Ending, Message, read_answers, read_requests
from tests.gateway.socketless import Client, Stage, Upstreamed, stage

TAPES = st.binary(max_size=messages.TAPE_BYTES)
VIA = (b"via", b"1.1 turnout")


@pytest.fixture(scope="module")
def gateway() -> Iterator[Stage]:
    """A worker with one variant, for all tests here."""
    with stage(route_of(Variant("v1", (Backend("127.0.0.1", 1),)))) as made:
        yield made


# -- requests ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of a client's bytes: at the backend, and back at the client."""

    forwarded: tuple[Message, ...]
    partial: tuple[Message, ...]
    received: bytes
    ended: Ending


def served(one: Upstreamed, seen: list[Message]) -> bool:
    """Answer the request that the gateway says is complete: h11 must say the same. False if there is none."""
    connection = one.connection
    if connection._call is None or not connection._request_sent:  # noqa: SLF001 - the gateway's own opinion
        return False
    wire = bytes(one.transport.written)
    one.transport.written.clear()
    reading = read_requests(wire)
    assert (len(reading.whole), len(reading.messages), reading.error) == (1, 1, ""), (wire, reading)
    seen.append(reading.messages[0])
    body = b"answer %d" % len(seen)
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
    return one.deliver(head if reading.messages[0].start[0] == b"HEAD" else head + body)


def hear(gateway: Stage, pieces: list[bytes]) -> Heard:
    """Send a client's bytes through the gateway, to a backend that answers everything; then the client leaves."""
    client = gateway.client()
    client.send(pieces)
    seen: list[Message] = []
    moving = True
    while moving:
        moving = client.deliver() | any(served(one, seen) for one in gateway.upstreamed)
        gateway.settle()
    partial: list[Message] = []
    for one in gateway.upstreamed:
        if one.transport.written:
            reading = read_requests(bytes(one.transport.written))
            assert (reading.whole, reading.error) == ((), ""), one.transport.written
            partial += reading.messages
    heard = Heard(tuple(seen), tuple(partial), client.received, client.ended)
    client.leave()
    gateway.clear()
    return heard


def origin_form(target: bytes) -> bytes:
    """Return what RFC 9112 section 3.2.1 makes of an absolute target."""
    if target.startswith(b"/") or target == b"*":
        return target
    parts = urlsplit(target)
    return (parts.path or b"/") + (b"?" + parts.query if b"?" in target else b"")


def same_request(ours: Message, theirs: Message) -> None:
    """Fail unless the backend got what h11 reads of the client's bytes."""
    assert ours.start == (theirs.start[0], origin_form(theirs.start[1])), (ours.start, theirs.start)
    assert ours.body == theirs.body, (ours.body, theirs.body)
    passed = [field for field in theirs.end_to_end if field[0].replace(b"_", b"-") not in HOP_BY_HOP | OURS]
    assert ours.end_to_end == (*passed, VIA), (ours.fields, theirs.fields)


def agreed(wire: bytes, heard: Heard) -> list[tuple[bytes, bytes]]:
    """Fail unless all that was forwarded is what h11 reads; return status and body of the client's answers."""
    theirs = read_requests(wire)
    assert len(heard.forwarded) <= len(theirs.whole), "taken although h11 refuses it"
    for ours, one in zip(heard.forwarded, theirs.whole, strict=False):
        same_request(ours, one)
    for part in heard.partial:
        one = theirs.messages[len(heard.forwarded)]
        assert part.start == (one.start[0], origin_form(one.start[1]))
        assert one.body.startswith(part.body)
    return answered(heard)


def answered(heard: Heard) -> list[tuple[bytes, bytes]]:
    """Fail unless each forwarded request has its own answer, and a refusal closes; return statuses and bodies."""
    methods = [one.start[0] for one in heard.forwarded]
    got = answers_in(heard, methods)
    assert [one.body for one in got[: len(methods)]] == [
        b"" if method == b"HEAD" else b"answer %d" % number for number, method in enumerate(methods, 1)
    ]
    for own in got[len(methods) :]:
        assert (own.all(b"x-turnout-origin"), heard.ended) == ([b"gateway"], "fin")
    return [(one.start[0], one.body if number < len(methods) else b"") for number, one in enumerate(got)]


def answers_in(heard: Heard, methods: list[bytes]) -> tuple[Message, ...]:
    """Return the answers to requests of these methods, and a refusal behind them: of HEAD, or of anything else."""
    for refused in ([], [b"GET"], [b"HEAD"]):
        got, rest = read_answers(heard.received, [*methods, *refused], heard.ended)
        if not rest and got.whole == got.messages and not got.error:
            return got.messages
    raise AssertionError(f"this is no row of answers: {heard.received!r}")


def compare_requests(gateway: Stage, wire: bytes, cut: list[bytes]) -> Heard:
    """Compare with h11, in one read and in many; return what was heard."""
    heard, again = hear(gateway, [wire]), hear(gateway, cut)
    results = [
        (answered_, [(one.start, one.end_to_end, one.body) for one in each.forwarded], each.ended)
        for each, answered_ in ((heard, agreed(wire, heard)), (again, agreed(wire, again)))
    ]
    assert results[0] == results[1], "the cuts between reads changed it"
    return heard


def closes(one: Message) -> bool:
    """Whether a message is the last one of its connection (RFC 9112 section 9.3)."""
    options = {option.strip(b" \t").lower() for value in one.all(b"connection") for option in value.split(b",")}
    return b"close" in options or (one.version == b"1.0" and b"keep-alive" not in options)


def up_to_close(asked: tuple[Message, ...]) -> int:
    """Return how many requests a client can ask before one of them closes the connection."""
    return next((number for number, one in enumerate(asked, 1) if closes(one)), len(asked))


@settings(derandomize=True, deadline=None, max_examples=200)
@given(tape=TAPES)
def test_se13_valid_requests_are_all_taken_and_read_as_h11_reads_them(gateway: Stage, tape: bytes) -> None:
    """Method, target, fields, body and number of requests, however the bytes are cut."""
    dice = Tape(tape)
    wire = messages.requests(dice)
    heard = compare_requests(gateway, wire, messages.pieces(dice, wire))
    assert len(heard.forwarded) == up_to_close(read_requests(wire).whole)
    assert len(heard.partial) == 0


@settings(derandomize=True, deadline=None, max_examples=200)
@given(tape=TAPES)
def test_se13_spoilt_requests_are_read_as_h11_reads_them_or_refused(gateway: Stage, tape: bytes) -> None:
    """Wrong lengths, codings, chunk sizes, line ends, bytes: nothing is taken that h11 refuses or reads otherwise."""
    spoil_requests(gateway, tape)


def spoil_requests(gateway: Stage, tape: bytes) -> int:
    """Compare how one tape's spoilt requests are read; return how many were taken."""
    dice = Tape(tape)
    wire = messages.spoilt(dice, messages.requests(dice))
    return len(compare_requests(gateway, wire, messages.pieces(dice, wire)).forwarded)


# -- answers -----------------------------------------------------------------------------------------------------------

ASKED = {
    (method, version): b"%b / HTTP/%b\r\nHost: h.test\r\n%b\r\n"
    % (method, version, b"Connection: keep-alive\r\n" * (version == b"1.0"))
    for method in (b"GET", b"HEAD")
    for version in (b"1.1", b"1.0")
}
SURPLUS = re.compile(rb"\A(?:0+(?:;[^\r\n]*)?\r\n(?:[^\r\n]+\r\n)*\r\n)?[\r\n]*\Z")
"""Behind an answer: line ends, and the end of chunks that an answer to HEAD does not have. They can be no answer."""
NEXT = b"POST /next HTTP/1.1\r\nHost: h.test\r\nContent-Length: 4\r\n\r\nnext"


@dataclass(frozen=True, slots=True)
class Told:
    """What a client was told of a backend's bytes: its answer, and that to its next request (None: none)."""

    first: Message | None
    following: Message | None
    ended: Ending
    reused: bool

    @property
    def by_backend(self) -> Message | None:
        """The first answer, if it is complete and not our own."""
        return self.first if self.first and self.first.whole and not self.first.all(b"x-turnout-origin") else None


def tell(gateway: Stage, method: bytes, version: bytes, pieces: list[bytes], ending: Ending) -> Told:
    """Let a backend answer a request with these bytes, and ask once more on the same connection of the client."""
    client = gateway.client()
    client.send([ASKED[method, version]])
    client.deliver()
    (backend,) = gateway.upstreamed
    assert read_requests(bytes(backend.transport.written)).whole[0].start[0] == method
    backend.transport.written.clear()
    for piece in pieces:
        if not backend.deliver(piece):
            break
    gateway.settle()
    if ending:
        backend.hang_up(ConnectionResetError() if ending == "rst" else None)
    asked, reused = [method], False
    if client.received and not client.ended and not client.connection.busy:
        asked.append(b"POST")
        reused = follow_up(gateway, client, backend)
    got, rest = read_answers(client.received, asked, client.ended)
    assert (got.error, rest) == ("", b""), client.received
    first, following = (*got.messages, None, None)[:2]
    assert len(asked) == 1 or following is not None, client.received
    told = Told(first, following, client.ended, reused)
    client.leave()
    gateway.clear()
    return told


def follow_up(gateway: Stage, client: Client, before: Upstreamed) -> bool:
    """Ask again, and let whoever got the request answer it; return whether it is the backend of before."""
    client.send([NEXT])
    client.deliver()
    (backend,) = [one for one in gateway.upstreamed if one.transport.written]
    (got,) = read_requests(bytes(backend.transport.written)).whole
    assert (got.start, got.body) == ((b"POST", b"/next"), b"next")
    backend.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfollowed")
    return backend is before


def seen_of(told: Told) -> tuple[object, ...]:
    """Return what must not depend on how a backend's bytes were cut."""
    one = told.by_backend
    return (told.ended, one and (one.start, one.end_to_end, one.body))


class Verdict(Enum):
    """What h11 and we think of an answer."""

    WHOLE = "whole for both"
    REFUSED = "whole for h11, refused by us"
    NOT_WHOLE = "not whole for either"


def compare_answers(gateway: Stage, dice: Tape, wire: bytes, method: bytes) -> Verdict:
    """Fail unless the client is told what h11 reads of a backend's bytes, or that something went wrong."""
    version = dice.pick((b"1.1", b"1.1", b"1.0"))
    ending: Ending = dice.pick(("fin", "rst", ""))
    reading, surplus = read_answers(wire, [method], ending)
    theirs = reading.messages[0] if reading.messages else None
    told = [tell(gateway, method, version, cut, ending) for cut in ([wire], messages.pieces(dice, wire))]
    for one in told:
        if one.following is not None:
            assert (one.following.whole, one.following.body) == (True, b"followed")
            assert not (one.reused and SURPLUS.sub(b"", surplus)), "used again with bytes that nobody asked for"
        if one.first is None or one.first.all(b"x-turnout-origin"):
            continue
        assert theirs is not None, (wire, one)
        assert one.first.start == theirs.start
        assert one.first.end_to_end == (*theirs.end_to_end, VIA), (one.first.fields, theirs.fields)
        if one.first.whole:
            assert theirs.whole, "an answer that h11 takes for unfinished was given as whole"
            assert one.first.body == theirs.body
        else:
            assert theirs.body.startswith(one.first.body)
            assert one.ended == "rst" or not ending
    if told[0].by_backend or told[1].by_backend:
        assert seen_of(told[0]) == seen_of(told[1]), "the cuts between reads changed it"
    if theirs is not None and theirs.whole:
        return Verdict.WHOLE if told[0].by_backend else Verdict.REFUSED
    return Verdict.NOT_WHOLE


@settings(derandomize=True, deadline=None, max_examples=200)
@given(tape=TAPES)
def test_se13_valid_answers_are_all_passed_on_as_h11_reads_them(gateway: Stage, tape: bytes) -> None:
    """Status, fields and body, to clients of HTTP/1.1 and 1.0; the next request has its own answer."""
    dice = Tape(tape)
    method = dice.pick((b"GET", b"HEAD"))
    wire = messages.answer(dice, to_head=method == b"HEAD")
    assert compare_answers(gateway, dice, wire, method) is not Verdict.REFUSED


@settings(derandomize=True, deadline=None, max_examples=200)
@given(tape=TAPES)
def test_se13_spoilt_answers_are_read_as_h11_reads_them_or_are_502(gateway: Stage, tape: bytes) -> None:
    """A client is never given another answer than h11 reads, none that is not whole as whole, and none of another's."""
    spoil_answers(gateway, tape)


def spoil_answers(gateway: Stage, tape: bytes) -> int:
    """Compare how one tape's spoilt answer is read; return 1 if it was passed on whole."""
    dice = Tape(tape)
    method = dice.pick((b"GET", b"GET", b"HEAD"))
    wire = messages.spoilt(dice, messages.answer(dice, to_head=method == b"HEAD" and bool(dice.roll(4))))
    return compare_answers(gateway, dice, wire, method) is Verdict.WHOLE


# -- many --------------------------------------------------------------------------------------------------------------

DIRECTIONS = pytest.mark.parametrize("spoil", [spoil_requests, spoil_answers], ids=["requests", "answers"])
SOAK_S = 300
"""For each of the two directions."""


def rolled(gateway: Stage, spoil: Callable[[Stage, bytes], int], seed: int, numbers: Iterable[int]) -> str:
    """Compare tape after tape; return how many they were, and how many messages were taken."""
    tapes = taken = 0
    for number in numbers:
        try:
            taken += spoil(gateway, random.Random(f"{seed}/{number}").randbytes(messages.TAPE_BYTES))
        except Exception as error:
            error.add_note(f"tape {number} of seed {seed}")
            raise
        tapes += 1
    return (
        f"{spoil.__name__}, seed {seed}: {tapes:,} tapes, each cut in two ways, {taken:,} messages taken, 0 differences"
    )


@pytest.mark.slow
@DIRECTIONS
def test_se13_thousands_of_spoilt_messages(
    gateway: Stage, spoil: Callable[[Stage, bytes], int], figure: Callable[[str], None]
) -> None:
    """The same ones every time."""
    figure(rolled(gateway, spoil, 13, range(6_000)))


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(SOAK_S + 60)
@DIRECTIONS
def test_se13_spoilt_messages_for_minutes(
    gateway: Stage, spoil: Callable[[Stage, bytes], int], figure: Callable[[str], None]
) -> None:
    """Other ones every time; a failure names its tape."""
    until_s = time.monotonic() + SOAK_S
    figure(
        rolled(
            gateway, spoil, time.time_ns(), itertools.takewhile(lambda _: time.monotonic() < until_s, itertools.count())
        )
    )
