"""How h11, an independent strict parser, reads bytes: the other opinion on what a connection has said."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import h11

Fields: TypeAlias = tuple[tuple[bytes, bytes], ...]
Ending: TypeAlias = Literal["", "fin", "rst"]
"""How the bytes ended: by FIN, by RST, or not yet."""

HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)  # RFC 9110 section 7.6.1
FRAMING = frozenset((b"content-length", b"transfer-encoding", b"host"))
OURS = frozenset((
    b"host", b"content-length", b"expect", b"x-request-id", b"x-forwarded-for", b"x-forwarded-proto",
    b"x-forwarded-host", b"x-turnout-variant", b"x-turnout-mirror", b"x-turnout-rescued", b"x-turnout-origin",
))  # fmt: skip
"""Fields that a gateway writes itself, beside those of the hop."""

INTERIM = re.compile(rb"\A[\r\n]*HTTP/1\.[01] 1(?!01)[0-9]{2}(?: [^\r\n]*)?\r\n(?:[^\0\r\n]+\r\n)*\r\n")
STATUS_LINE = re.compile(rb"\A(HTTP/[0-9.]+ [0-9]{3})(?: [^\r\n]*)?\r\n")
FRAMING_FIELD = re.compile(r"Content-Length|Transfer-Encoding")
SPACES = re.compile(rb"\A([^ \r\n]+) +([^ \r\n]+) +(HTTP/[0-9.]+\r\n)")


@dataclass(frozen=True, slots=True)
class Message:
    """One message: `start` is (method, target) or (status,). `whole` says whether its end was seen."""

    start: tuple[bytes, ...]
    version: bytes
    fields: Fields
    body: bytes
    whole: bool

    def all(self, name: bytes) -> list[bytes]:
        """Return the values of a field."""
        return [value for key, value in self.fields if key == name]

    @property
    def end_to_end(self) -> Fields:
        """The fields that concern more than this hop, without those that a gateway writes itself."""
        nominated = {one.strip(b" \t").lower() for value in self.all(b"connection") for one in value.split(b",")}
        gone = HOP_BY_HOP | OURS | (nominated - FRAMING)
        return tuple(field for field in self.fields if field[0] not in gone)


@dataclass(frozen=True, slots=True)
class Reading:
    """The messages in their order; only the last may be unfinished. `error`: why reading stopped, "" at the end."""

    messages: tuple[Message, ...]
    error: str

    @property
    def whole(self) -> tuple[Message, ...]:
        """The complete messages."""
        return tuple(one for one in self.messages if one.whole)


def read_requests(wire: bytes) -> Reading:
    """Read requests to the end.

    Two things that h11 refuses are taken away before, since recipients may overlook them: line ends before a request
    (RFC 9112 section 2.2), and more than one space between the words of its first line (section 3).
    """
    found: list[Message] = []
    rest = wire
    while rest := SPACES.sub(rb"\1 \2 \3", rest.lstrip(b"\r\n")):
        parser = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
        message, error, rest = _read(parser, rest, "")
        if message is not None:
            found.append(message)
        if error or message is None or not message.whole:
            return Reading(tuple(found), error)
    return Reading(tuple(found), "")


def read_answers(wire: bytes, methods: Sequence[bytes], ending: Ending) -> tuple[Reading, bytes]:
    """Read the final answers to requests of these methods; also return the bytes that nobody had asked for.

    What h11 minds and a recipient may overlook is taken away before: a reason phrase (RFC 9112 section 4), line ends
    before an answer, and the fields of interim answers, which end with their head whatever these say (section 6.3).
    """
    found: list[Message] = []
    rest = wire
    for method in methods:
        while interim := INTERIM.match(rest):
            rest = rest[interim.end() :]
        rest = STATUS_LINE.sub(rb"\1\r\n", rest.lstrip(b"\r\n"))
        parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=2**20)
        parser.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        parser.send(h11.EndOfMessage())
        message, error, rest = _read(parser, rest, ending)
        if message is not None:
            found.append(message)
        if error or message is None or not message.whole:
            return Reading(tuple(found), error), rest
    return Reading(tuple(found), ""), rest


def _read(parser: h11.Connection, wire: bytes, ending: Ending) -> tuple[Message | None, str, bytes]:
    """Return the first message, an error, and what stands behind the message."""
    head: h11.Request | h11.Response | None = None
    body: list[bytes] = []
    whole, error = False, ""
    try:
        for event in _events(parser, wire, ending):
            if isinstance(event, (h11.Request, h11.Response)):
                head = event
            elif isinstance(event, h11.Data):
                body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                whole = True
    except h11.RemoteProtocolError as failure:
        # Of a trailer if the head was good: h11 refuses such a field there, a recipient may drop it (RFC 9110 6.5.1).
        whole = head is not None and FRAMING_FIELD.search(str(failure)) is not None
        error = "" if whole else str(failure) or "refused"
    if head is None:
        return None, error, b""
    start = (head.method, head.target) if isinstance(head, h11.Request) else (b"%d" % head.status_code,)
    fields = tuple((bytes(name), bytes(value)) for name, value in head.headers)
    return Message(start, head.http_version, fields, b"".join(body), whole), error, parser.trailing_data[0]


def _events(parser: h11.Connection, wire: bytes, ending: Ending) -> Iterator[object]:
    """Yield what h11 reads of one message."""
    if wire:
        parser.receive_data(wire)
    unended = ending == "fin"
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA and unended:
            unended = False
            parser.receive_data(b"")
        elif event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
            return
        else:
            yield event
            if isinstance(event, h11.EndOfMessage):
                return
