"""Answers of an upstream: status lines, fields, interim answers, and answers without a body."""

from tests.http.cases import BAD_GATEWAY, CUT, POISON, AnswerCase, Cut, Failed, Relayed, head

_OK = "HTTP/1.1 200 OK"
_LENGTH = "Content-Length: 5"
_HELLO = Relayed()
_ANY_END = (BAD_GATEWAY, CUT)
_NO_END = Failed(frozenset((502, 504)))
_204, _304 = frozenset((204,)), frozenset((304,))


def _line(number: int, title: str, line: str, *allowed: Relayed | Failed | Cut, rfc: str = "9112 4") -> AnswerCase:
    return AnswerCase(f"SL{number:02}", title, rfc, (head(line, _LENGTH) + b"hello",), allowed)


def _field(number: int, title: str, rfc: str, *lines: str, allowed: tuple[Relayed | Failed | Cut, ...]) -> AnswerCase:
    return AnswerCase(f"AF{number:02}", title, rfc, (head(_OK, *lines, _LENGTH) + b"hello",), allowed)


def _first(
    number: int,
    title: str,
    rfc: str,
    wire: bytes,
    *allowed: Relayed | Failed | Cut,
    then: str = "keep",
    version: str = "1.1",
) -> AnswerCase:
    wires = (wire + head(_OK, _LENGTH) + b"hello",)
    return AnswerCase(f"IN{number:02}", title, rfc, wires, allowed, then, version=version)


def _bodiless(
    number: int, title: str, rfc: str, wire: bytes, *allowed: Relayed | Failed | Cut, method: str = "GET"
) -> AnswerCase:
    return AnswerCase(f"NB{number:02}", title, rfc, (wire,), allowed, method=method)


STATUS_LINES = (
    _line(1, "no reason phrase", "HTTP/1.1 200 ", _HELLO),
    _line(2, "no reason phrase and no space", "HTTP/1.1 200", _HELLO, BAD_GATEWAY),
    _line(3, "a reason phrase with bytes over 127", "HTTP/1.1 200 \xc4h, gut", _HELLO),
    _line(4, "a status of two digits", "HTTP/1.1 20 OK", BAD_GATEWAY),
    _line(5, "a status of four digits", "HTTP/1.1 2000 OK", BAD_GATEWAY),
    _line(6, "a status of letters", "HTTP/1.1 abc OK", BAD_GATEWAY),
    _line(7, "a negative status", "HTTP/1.1 -20 OK", BAD_GATEWAY),
    _line(8, "status 099", "HTTP/1.1 099 Low", BAD_GATEWAY, rfc="9110 15"),
    _line(9, "status 600", "HTTP/1.1 600 High", BAD_GATEWAY, Failed(frozenset((500,))), rfc="9110 15"),
    _line(10, "an unknown status of a known class", "HTTP/1.1 299 Fine", Relayed(statuses=frozenset((299,))),
          rfc="9110 15"),
    _line(11, "HTTP/2.0", "HTTP/2.0 200 OK", BAD_GATEWAY, _HELLO, rfc="9110 2.5"),
    _line(12, "HTTP/1.2", "HTTP/1.2 200 OK", BAD_GATEWAY, _HELLO, rfc="9110 2.5"),
    _line(13, "another protocol", "ICY 200 OK", BAD_GATEWAY),
    _line(14, "a NUL in the reason phrase", "HTTP/1.1 200 O\0K", BAD_GATEWAY, _HELLO, rfc="9110 2.2"),
    _line(15, "a carriage return in the reason phrase", "HTTP/1.1 200 O\rK", BAD_GATEWAY, _HELLO, rfc="9112 2.2"),
    AnswerCase("SL16", "no status line", "9112 4", (b"hello, this is no HTTP\r\n\r\n",), (BAD_GATEWAY,), "close"),
    AnswerCase("SL17", "a greeting of SSH", "9112 4", (b"SSH-2.0-OpenSSH_9.2\r\n",), (BAD_GATEWAY,), "close"),
    AnswerCase("SL18", "a TLS alert", "9112 4", (b"\x15\x03\x01\x00\x02\x02\x46",), (BAD_GATEWAY,), "close"),
    AnswerCase("SL19", "nothing, then the end", "9112 8", (b"",), (BAD_GATEWAY,), "close"),
    AnswerCase("SL20", "nothing, then a reset", "9112 8", (b"",), (BAD_GATEWAY,), "reset"),
    AnswerCase("SL21", "half a status line, then the end", "9112 8", (b"HTTP/1.1 20",), (BAD_GATEWAY,), "close"),
    AnswerCase("SL22", "half a head, then the end", "9112 8", (head(_OK, _LENGTH)[:-2],), (BAD_GATEWAY,), "close"),
    AnswerCase("SL23", "half a head, then a reset", "9112 8", (head(_OK, _LENGTH)[:-2],), (BAD_GATEWAY,), "reset"),
    AnswerCase("SL24", "an empty line before", "9112 4", (b"\r\n" + head(_OK, _LENGTH) + b"hello",),
               (_HELLO, BAD_GATEWAY), "close"),
    AnswerCase("SL25", "line feeds alone", "9112 2.2", (b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",),
               (_HELLO, BAD_GATEWAY), "close"),
    AnswerCase("SL26", "a request instead of an answer", "9112 4",
               (head("GET /smuggled HTTP/1.1", "Host: a.test"),), (BAD_GATEWAY,), "close"),
)  # fmt: skip

FIELDS = (
    _field(1, "a nominated field ends here", "9110 7.6.1", "Connection: X-Hop", "X-Hop: 1", "X-End: 2",
           allowed=(Relayed(fields=(("x-end", ("2",)),), without=("x-hop",)),)),
    _field(2, "a space before the colon", "9112 5.1", "X-A : b", allowed=(
        Relayed(fields=(("x-a", ("b",)),)), Relayed(without=("x-a",)), BAD_GATEWAY)),
    _field(3, "a value over two lines", "9112 5.2", "X-A: b\r\n c", allowed=(
        Relayed(fields=(("x-a", ("b c",)),)), Relayed(fields=(("x-a", ("b  c",)),)),
        Relayed(fields=(("x-a", ("b   c",)),)), Relayed(fields=(("x-a", ("b    c",)),)), BAD_GATEWAY)),
    _field(4, "a NUL in a value", "9110 5.5", "X-A: b\0c", allowed=(Relayed(fields=(("x-a", ("b c",)),)), BAD_GATEWAY)),
    _field(5, "a carriage return in a value", "9112 2.2", "X-A: b\rc", allowed=(
        Relayed(fields=(("x-a", ("b c",)),)), BAD_GATEWAY)),
    _field(6, "a carriage return that hides a field", "9112 2.2", "X-A: b\rSet-Cookie: c", allowed=(
        Relayed(without=("set-cookie",)), BAD_GATEWAY)),
    _field(7, "no colon", "9112 5", "X-A", allowed=(_HELLO, BAD_GATEWAY)),
    _field(8, "no name", "9112 5", ": b", allowed=(_HELLO, BAD_GATEWAY)),
    _field(9, "a name that is no token", "9110 5.1", "X(A): b", allowed=(_HELLO, BAD_GATEWAY)),
    _field(10, "a space before the first field", "9112 2.2", " X-A: b", allowed=(
        Relayed(without=("x-a",)), BAD_GATEWAY)),
    _field(11, "bytes over 127 in a value", "9110 5.5", "X-A: caf\xe9", allowed=(
        Relayed(fields=(("x-a", ("caf\xe9",)),)),)),
    _field(12, "Set-Cookie in two fields stays so", "9110 5.3", "Set-Cookie: a=1", "Set-Cookie: b=2", allowed=(
        Relayed(fields=(("set-cookie", ("a=1", "b=2")),)),)),
    _field(13, "Upgrade that nobody nominated", "9110 7.8", "Upgrade: h2c", allowed=(Relayed(),)),
    _field(14, "Keep-Alive nominated", "9110 7.6.1", "Connection: keep-alive", "Keep-Alive: timeout=5", allowed=(
        Relayed(without=("keep-alive",)),)),
    _field(15, "the end of the upstream's connection is not the client's", "9112 9.6", "Connection: close",
           allowed=(Relayed(),)),
    _field(16, "a head of 8,000 bytes", "9110 5.4", *(f"X-{number}: {'b' * 392}" for number in range(10, 30)),
           allowed=(Relayed(), BAD_GATEWAY)),
    _field(17, "a head of 300,000 bytes", "9110 5.4", f"X-A: {'b' * 300_000}", allowed=(
        Relayed(fields=(("x-a", ("b" * 300_000,)),)), BAD_GATEWAY)),
    _field(18, "10,000 fields", "9110 5.4", *(f"X-{number}: b" for number in range(10_000)), allowed=(
        Relayed(), BAD_GATEWAY)),
    AnswerCase("AF19", "a head that never ends", "9110 5.4",
               (b"HTTP/1.1 200 OK\r\n", *(b"X-A: b\r\n" * 1000 for _ in range(100))), (_NO_END,)),
    AnswerCase("AF20", "a value that never ends", "9110 5.4",
               (b"HTTP/1.1 200 OK\r\nX-A: ", *(b"b" * 10_000 for _ in range(100))), (_NO_END,)),
    AnswerCase("AF21", "a status line that never ends", "9112 4",
               (b"HTTP/1.1 200 ", *(b"b" * 10_000 for _ in range(100))), (_NO_END,)),
)  # fmt: skip

INTERIM = (
    _first(1, "100, then the answer", "9110 15.2.1", head("HTTP/1.1 100 Continue"), _HELLO),
    _first(2, "102, then the answer", "9110 15.2", head("HTTP/1.1 102 Processing"), _HELLO),
    _first(3, "103 with fields that are not the answer's", "9110 15.2",
           head("HTTP/1.1 103 Early Hints", "Link: </a.css>"), Relayed(without=("link",))),
    _first(4, "an unknown 1xx", "9110 15.2", head("HTTP/1.1 199 Odd"), _HELLO),
    _first(5, "three of them", "9110 15.2", head("HTTP/1.1 100 Continue") * 3, _HELLO),
    _first(6, "none for a client of HTTP/1.0", "9110 15.2", head("HTTP/1.1 103 Early Hints"), _HELLO, version="1.0"),
    _first(7, "101 unasked", "9110 15.2.2", head("HTTP/1.1 101 Switching", "Connection: Upgrade", "Upgrade: x"),
           BAD_GATEWAY, then="close"),
    AnswerCase("IN08", "101 for a client that asked for h2c", "9110 15.2.2",
               (head("HTTP/1.1 101 Switching", "Connection: Upgrade", "Upgrade: h2c") + POISON,), (BAD_GATEWAY,),
               "close", fields=("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")),
    AnswerCase("IN09", "100, then the end", "9112 8", (head("HTTP/1.1 100 Continue"),), (BAD_GATEWAY,), "close"),
    _first(10, "a length in a 100 counts for nothing", "9112 6.3", head("HTTP/1.1 100 Continue", "Content-Length: 38"),
           _HELLO, BAD_GATEWAY),
    _first(11, "chunked in a 100 counts for nothing", "9112 6.3",
           head("HTTP/1.1 100 Continue", "Transfer-Encoding: chunked"), _HELLO, BAD_GATEWAY),
    AnswerCase("IN12", "interim answers without an end", "9110 15.2", (head("HTTP/1.1 100 Continue") * 20_000,),
               (BAD_GATEWAY,), "close"),
)  # fmt: skip

BODILESS = (
    _bodiless(1, "HEAD with a length", "9110 9.3.2", head(_OK, _LENGTH), Relayed(b""), method="HEAD"),
    _bodiless(2, "HEAD with chunked", "9110 9.3.2", head(_OK, "Transfer-Encoding: chunked"), Relayed(b""),
              method="HEAD"),
    _bodiless(3, "HEAD without a framing field", "9110 9.3.2", head(_OK), Relayed(b""), method="HEAD"),
    _bodiless(4, "HEAD with a body", "9110 9.3.2", head(_OK, f"Content-Length: {len(POISON)}") + POISON,
              Relayed(b""), *_ANY_END, method="HEAD"),
    _bodiless(5, "HEAD with two lengths", "9112 6.3", head(_OK, _LENGTH, "Content-Length: 6"),
              Relayed(b""), BAD_GATEWAY, method="HEAD"),
    _bodiless(6, "204", "9110 15.3.5", head("HTTP/1.1 204 No Content"), Relayed(b"", _204)),
    _bodiless(7, "204 with a length", "9110 8.6", head("HTTP/1.1 204 No Content", _LENGTH), Relayed(b"", _204),
              BAD_GATEWAY),
    _bodiless(8, "204 with a body", "9112 6.3", head("HTTP/1.1 204 No Content", f"Content-Length: {len(POISON)}")
              + POISON, Relayed(b"", _204), *_ANY_END),
    _bodiless(9, "204 with chunks", "9112 6.1", head("HTTP/1.1 204 No Content", "Transfer-Encoding: chunked")
              + b"0\r\n\r\n", Relayed(b"", _204), *_ANY_END),
    _bodiless(10, "304", "9110 15.4.5", head("HTTP/1.1 304 Not Modified", 'ETag: "a"'),
              Relayed(b"", _304, fields=(("etag", ('"a"',)),))),
    _bodiless(11, "304 with the length of what is not sent", "9110 8.6", head("HTTP/1.1 304 Not Modified", _LENGTH),
              Relayed(b"", _304)),
    _bodiless(12, "304 with a body", "9112 6.3", head("HTTP/1.1 304 Not Modified", f"Content-Length: {len(POISON)}")
              + POISON, Relayed(b"", _304), *_ANY_END),
    _bodiless(13, "304 with chunked", "9112 6.1", head("HTTP/1.1 304 Not Modified", "Transfer-Encoding: chunked"),
              Relayed(b"", _304)),
    _bodiless(14, "205 with nothing", "9110 15.3.6", head("HTTP/1.1 205 Reset Content", "Content-Length: 0"),
              Relayed(b"", frozenset((205,)))),
    _bodiless(15, "204 for HEAD", "9110 15.3.5", head("HTTP/1.1 204 No Content"), Relayed(b"", _204), method="HEAD"),
)  # fmt: skip

CASES = (*STATUS_LINES, *FIELDS, *INTERIM, *BODILESS)
