"""What a case of the corpus is: bytes, the section they are about, and the outcomes that the RFCs allow.

The expectations were written from the text of RFC 9110 and RFC 9112 before any server was run. Where the text leaves
a choice (MAY, SHOULD, "either ... or") each choice is an allowed outcome; what a MUST excludes is in no list. Beside
the list some things hold in every case, see `play`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

ERROR = frozenset(range(400, 600))
"""Any refusal, where the RFC fixes no status."""
CLIENT_ERROR = frozenset(range(400, 500))
HOST = "Host: a.test"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"
"""A request that must never be one: it stands where only a wrong reading of the bytes before it finds it."""
SECOND = b"GET /second HTTP/1.1\r\nHost: a.test\r\n\r\n"
"""A request that is one, behind the first on the same connection."""
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"
"""An answer that nobody asked for."""


def head(*lines: str) -> bytes:
    """Return lines as a head: CRLF after each and an empty line behind; characters are bytes (Latin-1)."""
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


@dataclass(frozen=True, slots=True)
class Request:
    """What the upstream must have received.

    `target` None: any. `fields` are (name, values in order) that must be exactly so, `without` names that must not be
    there.
    """

    method: str = "GET"
    target: str | None = "/case"
    body: bytes = b""
    fields: tuple[tuple[str, tuple[str, ...]], ...] = ()
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """One allowed end of a request case.

    `statuses` has a set for each final answer in order; none: closed without one. `upstream` are the complete requests
    that arrived there. `closes`: whether the connection must be closed afterwards, None where that is free.
    """

    statuses: tuple[frozenset[int], ...]
    upstream: tuple[Request, ...] = ()
    closes: bool | None = None
    interim: frozenset[int] = frozenset()
    """1xx answers that must have come before the last final one."""


def refused(*statuses: int, closes: bool | None = True) -> Outcome:
    """One error of the gateway's own, 400 unless said otherwise, nothing upstream."""
    return Outcome((frozenset(statuses or (400,)),), closes=closes)


def rejected(closes: bool | None = None) -> Outcome:  # noqa: FBT001 - reads well where it is used
    """Any error of the gateway's own, where the RFC fixes no status; nothing upstream."""
    return Outcome((ERROR,), closes=closes)


DROPPED = Outcome((), closes=True)
"""Closed without an answer, nothing upstream."""


def passed(
    method: str = "GET",
    target: str | None = "/case",
    body: bytes = b"",
    *,
    closes: bool | None = None,
    fields: Iterable[tuple[str, tuple[str, ...]]] = (),
    without: tuple[str, ...] = (),
    then: tuple[Request, ...] = (),
    interim: tuple[int, ...] = (),
) -> Outcome:
    """The request arrives upstream, once and so, followed by `then`; each is answered 200."""
    requests = (Request(method, target, body, tuple(fields), without), *then)
    return Outcome((frozenset((200,)),) * len(requests), requests, closes, frozenset(interim))


@dataclass(frozen=True, slots=True)
class RequestCase:
    """Bytes from a client.

    `wire` is sent piece by piece. `hangs_up`: the message is unfinished, or endless for all the client has to send, and
    the client leaves. `after_continue` is sent when a 100 has come. `answers` are awaited at most, the first one as
    that of `method`.
    """

    id: str
    title: str
    rfc: str
    wire: tuple[bytes, ...]
    allowed: tuple[Outcome, ...]
    hangs_up: bool = False
    after_continue: bytes = b""
    answers: int = 1
    method: str = "GET"

    def __str__(self) -> str:
        return self.id


@dataclass(frozen=True, slots=True)
class Relayed:
    """The client gets a complete answer: one of these statuses with exactly this body.

    `fields` and `without` as in Request.
    """

    body: bytes = b"hello"
    statuses: frozenset[int] = frozenset((200,))
    fields: tuple[tuple[str, tuple[str, ...]], ...] = ()
    without: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The client gets an error of the gateway's own."""

    statuses: frozenset[int] = frozenset((502,))


@dataclass(frozen=True, slots=True)
class Cut:
    """The client gets the beginning of the answer and sees that the rest is missing."""


BAD_GATEWAY = Failed()
CUT = Cut()


@dataclass(frozen=True, slots=True)
class AnswerCase:
    """Bytes from an upstream, in answer to `method /case HTTP/version` with `fields`.

    `wire` is sent piece by piece; `then` is what follows: keep (reads the next request), close, reset, or late: POISON
    on the idle connection.
    """

    id: str
    title: str
    rfc: str
    wire: tuple[bytes, ...]
    allowed: tuple[Relayed | Failed | Cut, ...]
    then: str = "keep"
    method: str = "GET"
    version: str = "1.1"
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.id
