"""HTTP/1.1 messages made up by a tape of dice: valid ones, and ways to spoil them.

The same tape makes the same bytes. Hypothesis invents, and shortens, tapes; a soak run rolls millions of them.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

_T = TypeVar("_T")

TAPE_BYTES = 400
"""How long a tape is worth to be: the longest message uses about so much."""


class Tape:
    """Dice that fall as written on the tape; behind its end all fall 0, the plainest choice."""

    def __init__(self, tape: bytes) -> None:
        self._tape = tape
        self._at = 0

    def roll(self, sides: int) -> int:
        """Return 0 to `sides` - 1, for `sides` up to 65,536."""
        at = self._at
        self._at = at + (2 if sides > 256 else 1)
        return int.from_bytes(self._tape[at : self._at]) % sides

    def pick(self, among: Sequence[_T]) -> _T:
        """Return one of them."""
        return among[self.roll(len(among))]


METHODS = (b"POST", b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"DELETE", b"PATCH")
TARGETS = (
    b"/", b"/a?b=c", b"/%00/...//x;y?%0d%0a", b"//h.test/x", b"http://h.test/x?y", b"http://h.test:80",
    b"HTTP://h.test?q",
)  # fmt: skip
VERSIONS = (b"1.1",) * 12 + (b"1.0",)
HOSTS = (b"h.test", b"h.test:8080", b"[::1]:80", b"", b"H.TEST")
NAMES = (
    b"X-A", b"x-b", b"Accept", b"Cookie", b"X-A", b"Via", b"X-Forwarded-For", b"Date", b"Set-Cookie", b"X_A",
    b"!#$%&'*+-.^_`|~",
)  # fmt: skip
VALUES = (b"1", b"", b"a, b", b"\xc3\xa9\xff\x80", b"two  words\tand", b'"a\\"b"', b"=:;", b"z" * 300, b"chunked", b"5")
HOP_BY_HOP = (
    b"Connection: close", b"Connection: keep-alive", b"Connection: X-A, x-b", b"connection: content-length, host",
    b"TE: trailers", b"Trailer: X-A", b"Keep-Alive: timeout=5", b"Proxy-Connection: x", b"Expect: 100-continue",
    b"Upgrade: h2c", b"Connection: Upgrade", b"Connection: transfer-encoding",
)  # fmt: skip
EXTENSIONS = (b"", b"", b"", b";a", b";a=b", b';a="b;c"', b";a=b;c=d")
TRAILERS = (b"", b"", b"", b"X-T: 1\r\n", b"X-T: 1\r\nx-t:\r\n")


def fields(tape: Tape) -> list[bytes]:
    """Return some field lines without framing ones."""
    lines = [tape.pick(NAMES) + tape.pick((b": ", b":", b":  \t")) + tape.pick(VALUES) for _ in range(tape.roll(4))]
    return lines + [tape.pick(HOP_BY_HOP) for _ in range(max(0, tape.roll(4) - 1))]


def content(tape: Tape) -> bytes:
    """Return a body, sometimes one that looks like the next message, or like framing."""
    kind = tape.roll(6)
    if kind == 0:
        return b"hello"
    if kind == 1:
        return b"0\r\n\r\n"
    if kind == 2:
        return b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
    if kind == 3:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"
    return bytes(tape.roll(256) for _ in range(tape.roll(20)))


def chunks(tape: Tape, body: bytes) -> bytes:
    """Return a body in chunks, with extensions and trailers."""
    out, at = b"", 0
    while at < len(body):
        piece = body[at : at + 1 + tape.roll(30)]
        size = tape.pick((b"%x", b"%X", b"0%x", b"000%x")) % len(piece)
        out += size + tape.pick(EXTENSIONS) + b"\r\n" + piece + b"\r\n"
        at += len(piece)
    return out + tape.pick((b"0", b"0", b"000")) + tape.pick(EXTENSIONS) + b"\r\n" + tape.pick(TRAILERS) + b"\r\n"


def framed(tape: Tape, start: bytes, lines: list[bytes], *, bodiless: bool = False) -> bytes:
    """Return a message with a body framed by the dice: by length, by chunks, or not at all."""
    framing, body, line = tape.roll(3), b"", b""
    if b"HTTP/1.0" in start:
        framing %= 2  # it knows no chunks
    if framing == 1:
        body = content(tape)
        line = b"Content-Length: %d" % len(body)
    elif framing == 2:
        body = chunks(tape, content(tape))
        line = tape.pick((b"Transfer-Encoding: chunked", b"transfer-encoding:CHUNKED", b"Transfer-Encoding:\tchunked "))
    if framing:
        lines.insert(tape.roll(len(lines) + 1), line)
    return b"\r\n".join([start, *lines, b"", b""]) + (b"" if bodiless else body)


def request(tape: Tape) -> bytes:
    """Return a request as the grammar allows it."""
    target, method = tape.pick(TARGETS), tape.pick(METHODS)
    if method == b"OPTIONS" and tape.roll(2):
        target = b"*"
    start = b"%b %b HTTP/%b" % (method, target, tape.pick(VERSIONS))
    return framed(tape, start, [b"Host: " + tape.pick(HOSTS), *fields(tape)])


def requests(tape: Tape) -> bytes:
    """Return one to three requests in one line."""
    return b"".join(request(tape) for _ in range(1 + tape.roll(3)))


STATUSES = (
    b"200 OK", b"200", b"404 Not Found", b"500 Oops", b"204 No Content", b"304 Not Modified", b"299 \xff\t x",
    b"200 ",
)  # fmt: skip
INTERIM = (b"", b"", b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\nLink: <a>\r\n\r\n" * 2)


def answer(tape: Tape, *, to_head: bool) -> bytes:
    """Return an answer as the grammar allows it; unless framed, it ends with its connection."""
    interim, status = tape.pick(INTERIM), tape.pick(STATUSES)
    start = b"HTTP/%b %b" % (tape.pick(VERSIONS), status)
    return interim + framed(tape, start, fields(tape), bodiless=to_head or status[:3] in (b"204", b"304"))


# -- spoiling ----------------------------------------------------------------------------------------------------------

LINES = (
    b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: +5", b"Content-Length: 5, 5", b"Content-Length: 0x5",
    b"Content-Length: -1", b"Content-Length: 5 ", b"Content-Length : 5", b" Content-Length: 5", b"Content-Length: 5\t5",
    b"Content-Length: 05", b"Content-Length:", b"Content-Length: 99999999999999999999", b"Content-Length: 1_0",
    b"Content-Length: 5;", b'Content-Length: "5"', b"Content-Length: 18446744073709551621", b"Content-Length\0: 5",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding : chunked",
    b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked;q=1", b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: chunked,", b"Transfer-Encoding: ,chunked", b"Transfer-Encoding:",
    b"Transfer_Encoding: chunked", b"Transfer-Encoding: \x00chunked", b"Transfer-Encoding:\r\n chunked",
    b"X: y\r\n\tz", b"X: y\rTransfer-Encoding: chunked", b"X: y\nTransfer-Encoding: chunked", b"X", b": x", b"",
    b"Transfer-Encoding: chunked\t", b"Content-Length: 5\t", b"Host: other.test", b"Host: h.test other",
    b"Host: h.test/x",
    b"Connection: close, content-length", b"Connection: host", b"Expect: 200-ok", b"X-A: \x01\x7f", b"X-A: \x80\xff",
)  # fmt: skip
BYTES = tuple(bytes([one]) for one in b'\0\t \x0b\x0c\r\n\x85\xa0\x7f\xff,;:0f_+-"')
LINE_ENDS = (b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\r\n", b"", b" \r\n", b"\r\n ", b"\r\n\t", b"\0\r\n", b"\x0b\r\n")
SIZES = (
    b"+5", b"-5", b"0x5", b" 5", b"5 ", b"5\t", b"5;", b"5;a=\r", b"5;a=\n", b"g", b"", b"fffffffffffffffff",
    b"10000000000000005", b"5,5", b"5_0", b"05", b"5\x0b", b'5;a="\r\n"', b"\xef\xbc\x95",
)  # fmt: skip
WORDS = (
    b"HTTP/1.0", b"HTTP/1.2", b"HTTP/0.9", b"HTTP/2.0", b"http/1.1", b"HTTP/11", b"HTTP/1.1 ", b"HTTP/01.1",
    b"HTTP/1.1\t", b"",
)  # fmt: skip
PLACES = (
    b"*", b"/a#b", b"/\xff", b"h.test:80", b"ftp://h.test/", b"http://u@h.test/", b"http:///x", b"x", b"/a b",
    b"", b"http://h.test:8x/",
)  # fmt: skip


def _near(wire: bytes, what: bytes, at: int) -> int:
    """Return where `what` stands next behind `at`, from the beginning again if nowhere."""
    found = wire.find(what, at)
    return found if found >= 0 else wire.find(what)


def _replaced(wire: bytes, start: int, length: int, new: bytes) -> bytes:
    return wire if start < 0 else wire[:start] + new + wire[start + length :]


def _line_end(wire: bytes, at: int, tape: Tape) -> bytes:
    return _replaced(wire, _near(wire, b"\r\n", at), 2, tape.pick(LINE_ENDS))


def _one_more_line(wire: bytes, at: int, tape: Tape) -> bytes:
    return _replaced(wire, _near(wire, b"\r\n", at), 2, b"\r\n" + tape.pick(LINES) + b"\r\n")


def _line_instead(wire: bytes, at: int, tape: Tape) -> bytes:
    start = _near(wire, b"\r\n", at) + 2
    end = wire.find(b"\r\n", start)
    return wire if end < 0 else wire[:start] + tape.pick(LINES) + wire[end:]


def _byte(wire: bytes, at: int, tape: Tape) -> bytes:
    return _replaced(wire, at, tape.roll(2), tape.pick(BYTES))


def _bit(wire: bytes, at: int, tape: Tape) -> bytes:
    return _replaced(wire, at, 1, bytes([wire[at] ^ (1 << tape.roll(8))])) if wire else wire


def _size(wire: bytes, at: int, tape: Tape) -> bytes:
    start = _near(wire, b"\r\n", at) + 2
    end = wire.find(b"\r\n", start)
    return wire if end < 0 else wire[:start] + tape.pick(SIZES) + wire[end:]


def _version(wire: bytes, at: int, tape: Tape) -> bytes:
    return _replaced(wire, _near(wire, b"HTTP/1.", at), 8, tape.pick(WORDS))


def _target(wire: bytes, at: int, tape: Tape) -> bytes:
    start = _near(wire, b" ", at) + 1
    end = wire.find(b" HTTP/1.", start)
    return wire if end < 0 else wire[:start] + tape.pick(PLACES) + wire[end:]


def _digit(wire: bytes, at: int, tape: Tape) -> bytes:
    return _replaced(wire, _near(wire, b"%d" % tape.roll(10), at), 1, b"%d" % tape.roll(10))


def _cut_out(wire: bytes, at: int, tape: Tape) -> bytes:
    return _replaced(wire, at, 1 + tape.roll(20), b"")


def _doubled(wire: bytes, at: int, tape: Tape) -> bytes:
    return wire[:at] + wire[at : at + 1 + tape.roll(60)] + wire[at:]


def _ended(wire: bytes, at: int, tape: Tape) -> bytes:  # noqa: ARG001 - one signature
    return wire[:at]


SPOILS: tuple[Callable[[bytes, int, Tape], bytes], ...] = (
    _line_end, _one_more_line, _byte, _size, _line_instead, _digit, _version, _bit, _cut_out, _doubled, _ended,
    _target,
)  # fmt: skip


def spoilt(tape: Tape, wire: bytes) -> bytes:
    """Return the message spoilt in one to three places."""
    for _ in range(1 + tape.roll(3)):
        wire = tape.pick(SPOILS)(wire, tape.roll(max(1, len(wire))), tape)
    return wire


def pieces(tape: Tape, wire: bytes) -> list[bytes]:
    """Return the bytes as the reads of a socket may cut them: at up to four places, or each byte alone."""
    if tape.roll(8) == 7:
        return [wire[at : at + 1] for at in range(len(wire))]
    cuts = sorted({0, len(wire), *(tape.roll(len(wire) + 1) for _ in range(tape.roll(5)))})
    return [wire[start:end] for start, end in itertools.pairwise(cuts)]
