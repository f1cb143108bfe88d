"""A strict reader of HTTP/1.1 messages, written from RFC 9110 and 9112 and for these tests alone.

It shares nothing with the gateway: it judges what a gateway sent, to its upstream or to its client. It reads as the
RFCs say a message is written, and notes every departure as a fault; what it cannot frame without guessing it refuses.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
REQUEST_LINE = re.compile(rb"(%b) ([\x21-\x7e\x80-\xff]+) HTTP/1\.([01])" % _TOKEN)
STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2}) [\t\x20-\x7e\x80-\xff]*")
# Control characters other than NUL, CR and LF may be passed on (RFC 9110 section 5.5).
FIELD_LINE = re.compile(rb"(%b):[ \t]*([^\x00\r\n]*?)[ \t]*" % _TOKEN)
DIGITS = re.compile(rb"[0-9]{1,18}")
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
NEVER_IN_TRAILERS = frozenset((b"content-length", b"transfer-encoding", b"host", b"trailer", b"connection"))

Fields = tuple[tuple[bytes, bytes], ...]


class UnreadableError(Exception):
    """The bytes cannot be framed without guessing."""


class CutError(Exception):
    """The connection ended within a message."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message: names of fields in lower case, the body without its framing.

    `complete` is False where the connection ended first. `faults` are the departures from the RFCs, in words.
    """

    start: bytes
    fields: Fields
    body: bytes = b""
    trailers: Fields = ()
    complete: bool = True
    faults: tuple[str, ...] = ()
    raw: bytes = b""

    @property
    def method(self) -> str:
        """The method of a request."""
        return self.start.partition(b" ")[0].decode("latin-1")

    @property
    def target(self) -> str:
        """The target of a request."""
        return self.start.split(b" ")[1].decode("latin-1")

    @property
    def status(self) -> int:
        """The status of an answer."""
        return int(self.start.split(b" ")[1])

    def all(self, name: str) -> list[str]:
        """Return all values of a field in order."""
        return [value.decode("latin-1") for key, value in self.fields if key == name.encode()]


class Stream:
    """Reads a connection in the pieces that a parser asks for; `taken` is what the present message has used."""

    def __init__(self, more: Callable[[], Awaitable[bytes]]) -> None:
        self._more = more
        self._rest = b""
        self.taken = b""

    def __repr__(self) -> str:
        return f"<Stream, {len(self._rest)} bytes waiting>"

    @property
    def begun(self) -> bool:
        """Whether bytes of a message that is not complete are there."""
        return bool(self.taken or self._rest)

    def cut_here(self) -> None:
        """Begin a new message."""
        self.taken = b""

    async def through(self, mark: bytes) -> bytes:
        """Return everything up to `mark` and with it. Raises CutError."""
        while (at := self._rest.find(mark)) < 0:
            await self._read()
        return self._take(at + len(mark))

    async def exactly(self, size: int) -> bytes:
        """Return so many bytes. Raises CutError."""
        while len(self._rest) < size:
            await self._read()
        return self._take(size)

    async def to_the_end(self) -> bytes:
        """Return everything until the connection is closed."""
        while data := await self._more():
            self._rest += data
        return self._take(len(self._rest))

    async def _read(self) -> None:
        data = await self._more()
        if not data:
            self._take(len(self._rest))
            raise CutError
        self._rest += data

    def _take(self, size: int) -> bytes:
        taken, self._rest = self._rest[:size], self._rest[size:]
        self.taken += taken
        return taken


async def read_request(stream: Stream, send_continue: Callable[[], Awaitable[None]]) -> Message:
    """Return the next request. Raises CutError where the connection ends first, UnreadableError.

    `send_continue` is awaited before the body of a client that asks for it (RFC 9110 section 10.1.1).
    """
    stream.cut_here()
    start, fields, faults = _head(await stream.through(b"\r\n\r\n"))
    matched = REQUEST_LINE.fullmatch(start)
    if matched is None:
        raise UnreadableError(f"no request line: {start[:60]!r}")
    if (hosts := _count(fields, b"host")) != 1 and not (hosts == 0 and matched[3] == b"0"):
        faults.append(f"{hosts} Host fields")
    codings = _codings(fields)
    if codings and matched[3] == b"0":
        faults.append("Transfer-Encoding in HTTP/1.0")
    if matched[3] == b"1" and b"100-continue" in _tokens(fields, b"expect"):
        await send_continue()
    body, trailers = await _framed(stream, fields, codings, faults, otherwise=0)
    return Message(start, fields, body, trailers, faults=tuple(faults), raw=stream.taken)


async def read_answer(stream: Stream, method: str) -> Message:
    """Return the next answer to a request with that method, `complete` or not.

    Raises CutError where the connection ends before the head, UnreadableError.
    """
    stream.cut_here()
    start, fields, faults = _head(await stream.through(b"\r\n\r\n"))
    matched = STATUS_LINE.fullmatch(start)
    if matched is None:
        raise UnreadableError(f"no status line: {start[:60]!r}")
    status = int(matched[1])
    codings = _codings(fields)
    if (status < 200 or status == 204) and (codings or _count(fields, b"content-length")):
        faults.append(f"a {status} with a framing field")
    if method == "HEAD" or status < 200 or status in (204, 304):
        _check_framing(fields, codings, faults)
        return Message(start, fields, faults=tuple(faults), raw=stream.taken)
    try:
        body, trailers = await _framed(stream, fields, codings, faults, otherwise=None)
    except CutError:
        body = stream.taken.partition(b"\r\n\r\n")[2]
        return Message(start, fields, body, complete=False, faults=tuple(faults), raw=stream.taken)
    return Message(start, fields, body, trailers, faults=tuple(faults), raw=stream.taken)


def _head(head: bytes) -> tuple[bytes, Fields, list[str]]:
    start, *lines = head[:-4].split(b"\r\n")
    fields: list[tuple[bytes, bytes]] = []
    faults: list[str] = []
    for line in lines:
        matched = FIELD_LINE.fullmatch(line)
        if matched is None:
            faults.append(f"no field line: {line[:40]!r}")
        else:
            fields.append((matched[1].lower(), matched[2]))
    nominated = _tokens(fields, b"connection")
    faults += [
        f"{name.decode()} without Connection: {name.decode()}"  # RFC 9110 sections 7.8 and 10.1.4
        for name in (b"upgrade", b"te")
        if _count(tuple(fields), name) and name not in nominated
    ]
    return start, tuple(fields), faults


def _tokens(fields: Fields | list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    values = b",".join([value for key, value in fields if key == name])
    return [token for part in values.lower().split(b",") if (token := part.strip(b" \t"))]


def _count(fields: Fields, name: bytes) -> int:
    return sum(key == name for key, _ in fields)


def _codings(fields: Fields) -> bytes:
    return b", ".join([value for key, value in fields if key == b"transfer-encoding"])


def _check_framing(fields: Fields, codings: bytes, faults: list[str]) -> bytes | None:
    """Return the Content-Length; notes more than one framing field, and one of a wrong form."""
    lengths = [value for key, value in fields if key == b"content-length"]
    if len(lengths) + bool(codings) > 1:
        faults.append("more than one framing field")
    if codings and codings.lower() != b"chunked":
        faults.append(f"Transfer-Encoding: {codings.decode('latin-1')}")
    if any(not DIGITS.fullmatch(length) for length in lengths):
        faults.append(f"Content-Length: {lengths[0].decode('latin-1')}")
    return lengths[0] if lengths else None


async def _framed(
    stream: Stream, fields: Fields, codings: bytes, faults: list[str], otherwise: int | None
) -> tuple[bytes, Fields]:
    """Return body and trailers; without a framing field `otherwise` bytes, None for all until the close."""
    length = _check_framing(fields, codings, faults)
    if codings:
        if not codings.lower().endswith(b"chunked"):
            raise UnreadableError(f"Transfer-Encoding: {codings!r}")
        return await _chunks(stream, faults)
    if length is not None:
        if not DIGITS.fullmatch(length):
            raise UnreadableError(f"Content-Length: {length!r}")
        return await stream.exactly(int(length)), ()
    return (await stream.to_the_end() if otherwise is None else await stream.exactly(otherwise)), ()


async def _chunks(stream: Stream, faults: list[str]) -> tuple[bytes, Fields]:
    body = b""
    while True:
        line = (await stream.through(b"\r\n"))[:-2]
        matched = CHUNK_LINE.fullmatch(line)
        if matched is None:
            raise UnreadableError(f"no chunk size: {line[:40]!r}")
        size = int(matched[1], 16)
        if not size:
            break
        body += await stream.exactly(size)
        if (end := await stream.exactly(2)) != b"\r\n":
            raise UnreadableError(f"a chunk ends in {end!r}")
    trailers: list[tuple[bytes, bytes]] = []
    while line := (await stream.through(b"\r\n"))[:-2]:
        matched = FIELD_LINE.fullmatch(line)
        if matched is None:
            faults.append(f"no trailer line: {line[:40]!r}")
            continue
        name = matched[1].lower()
        if name in NEVER_IN_TRAILERS:
            faults.append(f"{name.decode()} as a trailer")
        trailers.append((name, matched[2]))
    return body, tuple(trailers)
