"""Request lines and field lines that are out of the ordinary, and the limits of a head."""

from tests.http.cases import (
    CLIENT_ERROR,
    DROPPED,
    ERROR,
    HOST,
    SMUGGLED,
    Outcome,
    Request,
    RequestCase,
    head,
    passed,
    refused,
    rejected,
)

_GET = "GET /case HTTP/1.1"
_NO_LINE = (refused(closes=None), DROPPED)
"""Not a request line: 400 is a SHOULD (9112 3), so to close without a word is allowed.

So is to read it as a valid one and to send that on, where there is one; to send on the invalid one is not (9110 2.2).
"""
_READ_AS_VALID = (passed(), *_NO_LINE, refused(505, closes=None))
_TOO_LARGE = (Outcome((CLIENT_ERROR,)),)


def _line(number: int, title: str, rfc: str, line: str, *allowed: Outcome, method: str = "GET") -> RequestCase:
    return RequestCase(f"RL{number:02}", title, rfc, (head(line, HOST),), allowed, method=method)


def _field(number: int, title: str, rfc: str, line: str, *allowed: Outcome) -> RequestCase:
    return RequestCase(f"FL{number:02}", title, rfc, (head(_GET, HOST, line),), allowed)


def _kept(name: str, *values: str) -> Outcome:
    return passed(fields=((name, values),))


LINES = (
    _line(1, "two spaces", "9112 3", "GET  /case HTTP/1.1", passed(), *_NO_LINE),
    _line(2, "tabs for spaces", "9112 3", "GET\t/case\tHTTP/1.1", passed(), *_NO_LINE),
    _line(3, "a space behind the version", "9112 3", f"{_GET} ", passed(), *_NO_LINE),
    _line(4, "a space before the method", "9112 3", f" {_GET}", passed(), *_NO_LINE),
    RequestCase("RL05", "an empty line before", "9112 2.2", (b"\r\n" + head(_GET, HOST),), (passed(), *_NO_LINE)),
    _line(6, "no version", "9112 3", "GET /case", *_NO_LINE, Outcome((ERROR,)),
          Outcome((), (Request(),), closes=True)),  # an answer of HTTP/0.9 has no head
    _line(7, "a version in small letters", "9112 2.3", "GET /case http/1.1", *_READ_AS_VALID),
    _line(8, "HTTP/2.0", "9110 15.6.6", "GET /case HTTP/2.0", *_READ_AS_VALID),
    _line(9, "HTTP/1.2", "9110 2.5", "GET /case HTTP/1.2", *_READ_AS_VALID),
    _line(10, "HTTP/11.1", "9112 2.3", "GET /case HTTP/11.1", *_READ_AS_VALID),
    _line(11, "HTTP/1.1 with a zero before", "9112 2.3", "GET /case HTTP/1.01", *_READ_AS_VALID),
    _line(12, "HTTP/0.9 in words", "9112 2.3", "GET /case HTTP/0.9", *_READ_AS_VALID),
    _line(13, "another protocol", "9112 2.3", "GET /case HTTX/1.1", *_READ_AS_VALID),
    _line(14, "a method in small letters is another one", "9110 9.1", "get /case HTTP/1.1",
          passed("get"), rejected(), DROPPED),
    _line(15, "an unknown method", "9110 9.1", "FROB /case HTTP/1.1", passed("FROB"), rejected(), DROPPED),
    _line(16, "a method that is no token", "9110 9.1", "GE{T /case HTTP/1.1", *_NO_LINE),
    _line(17, "a method of 9,000 letters", "9112 3", f"{'G' * 9000} /case HTTP/1.1",
          passed("G" * 9000), Outcome((ERROR,)), DROPPED),
    _line(18, "a NUL in the target", "9112 3", "GET /ca\0se HTTP/1.1", *_NO_LINE),
    _line(19, "a carriage return in the target", "9112 2.2", "GET /ca\rse HTTP/1.1", *_NO_LINE),
    _line(20, "a carriage return before the version", "9112 2.2", "GET /case\rHTTP/1.1", *_NO_LINE,
          passed()),
    _line(21, "a space in the target", "9112 3.2", "GET /ca se HTTP/1.1", *_NO_LINE),
    _line(22, "a control character in the target", "9112 3.2", "GET /ca\x01se HTTP/1.1", *_NO_LINE),
    _line(23, "bytes over 127 in the target", "9112 3.2", "GET /ca\xe9se HTTP/1.1",
          passed(target="/ca\xe9se"), passed(target="/ca%E9se"), *_NO_LINE),
    _line(24, "a delete character in the target", "9112 3.2", "GET /ca\x7fse HTTP/1.1", *_NO_LINE),
    RequestCase("RL25", "line feeds alone", "9112 2.2", (f"{_GET}\n{HOST}\n\n".encode(),), (passed(), *_NO_LINE)),
    RequestCase("RL26", "carriage returns alone", "9112 2.2", (f"{_GET}\r{HOST}\r\r".encode(),),
                (DROPPED, refused()), hangs_up=True),
    RequestCase("RL27", "a TLS handshake", "9112 3",
                (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"x" * 160 + b"\r\n\r\n",), _NO_LINE),
    RequestCase("RL28", "the beginning of HTTP/2", "9112 3", (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",),
                (*_NO_LINE, refused(405, 501, 505, closes=None)), hangs_up=True),  # who speaks HTTP/2 may go on
    RequestCase("RL29", "noise", "9112 3", (bytes(range(1, 256)) + b"\r\n\r\n",), _NO_LINE),
    RequestCase("RL30", "an answer instead of a request", "9112 3",
                (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",), _NO_LINE),
    _line(31, "a target of 7,900 bytes", "9112 3", f"GET /{'a' * 7900} HTTP/1.1", passed(target=f"/{'a' * 7900}")),
    _line(32, "a target of 70,000 bytes", "9112 3", f"GET /{'a' * 70000} HTTP/1.1", refused(414, closes=None)),
    RequestCase("RL33", "every byte alone", "9112 2.2",
                tuple(bytes((one,)) for one in head(_GET, HOST)), (passed(),)),
    RequestCase("RL34", "the head is not finished", "9112 8", (head(_GET, HOST)[:-2],), (DROPPED, rejected()),
                hangs_up=True),
)  # fmt: skip

FIELDS = (
    _field(1, "a space before the colon", "9112 5.1", "X-A : b", refused(closes=None)),
    _field(2, "no colon", "9112 5", "X-A", *_NO_LINE, passed()),
    _field(3, "no name", "9112 5", ": b", *_NO_LINE, passed()),
    _field(4, "a name that is no token", "9110 5.1", "X(A): b", *_NO_LINE, passed(without=("x(a)",))),
    _field(5, "a name with bytes over 127", "9110 5.1", "X\xe9: b", *_NO_LINE, passed(without=("x\xe9",))),
    _field(6, "a value over two lines", "9112 5.2", "X-A: b\r\n c", refused(closes=None), passed()),
    _field(7, "a value over two lines, by a tab", "9112 5.2", "X-A: b\r\n\tc", refused(closes=None), passed()),
    RequestCase("FL08", "a space before the first field", "9112 2.2",
                (head(_GET, " X-A: b", HOST),), (refused(closes=None), passed(without=("x-a",)))),
    RequestCase("FL09", "framing hidden behind a space before the first field", "9112 2.2",
                (head("POST /case HTTP/1.1", " Transfer-Encoding: chunked", HOST, "Content-Length: 5") + b"hello",),
                (refused(closes=None), passed("POST", body=b"hello"))),
    _field(10, "a NUL in a value", "9110 5.5", "X-A: b\0c", refused(closes=None), _kept("x-a", "b c")),
    _field(11, "a carriage return in a value", "9112 2.2", "X-A: b\rc", refused(closes=None), _kept("x-a", "b c")),
    _field(12, "a carriage return that hides a field", "9112 2.2", "X-A: b\rX-B: c", refused(closes=None),
           passed(without=("x-b",))),
    _field(13, "two carriage returns at the end", "9112 2.2", "X-A: b\r", refused(closes=None), passed()),
    RequestCase("FL14", "a line feed that hides framing", "9112 2.2",
                (head("POST /case HTTP/1.1", HOST, "X-A: b\nTransfer-Encoding: chunked", f"Content-Length: "
                      f"{5 + len(SMUGGLED)}") + b"0\r\n\r\n" + SMUGGLED,),
                (refused(closes=None), passed("POST", closes=True))),
    _field(15, "a control character in a value", "9110 5.5", "X-A: b\x01c", *_NO_LINE, passed()),
    _field(16, "a delete character in a value", "9110 5.5", "X-A: b\x7fc", *_NO_LINE, passed()),
    _field(17, "bytes over 127 in a value", "9110 5.5", "X-A: caf\xe9 \xff", _kept("x-a", "caf\xe9 \xff")),
    _field(18, "an empty value", "9110 5.5", "X-A:", _kept("x-a", "")),
    _field(19, "spaces and tabs around a value", "9110 5.5", "X-A: \t b  c\t ", _kept("x-a", "b  c")),
    _field(20, "no space behind the colon", "9112 5", "X-A:b", _kept("x-a", "b")),
    _field(21, "values of one name keep their order", "9110 5.3", "X-A: 1\r\nX-B: 2\r\nX-A: 3",
           _kept("x-a", "1", "3"), _kept("x-a", "1, 3")),
    _field(22, "all characters of a name", "9110 5.1", "X!#$%&'*+-.^_`|~09az: b",
           _kept("x!#$%&'*+-.^_`|~09az", "b")),
    _field(23, "a colon and a line of HTTP in a value", "9110 5.5", "X-A: GET / HTTP/1.1: b",
           _kept("x-a", "GET / HTTP/1.1: b")),
    RequestCase("FL24", "a value of 100,000 bytes", "9110 5.4", (head(_GET, HOST, f"X-A: {'b' * 100_000}"),),
                _TOO_LARGE),
    RequestCase("FL25", "fields of 700,000 bytes", "9110 5.4",
                (head(_GET, HOST, *(f"X-{number}: {'b' * 60}" for number in range(10_000))),), _TOO_LARGE),
    RequestCase("FL26", "a name of 100,000 bytes", "9110 5.4", (head(_GET, HOST, f"{'b' * 100_000}: c"),), _TOO_LARGE),
    RequestCase("FL27", "a value of 4,000 bytes", "9110 5.4", (head(_GET, HOST, f"X-A: {'b' * 4000}"),),
                (_kept("x-a", "b" * 4000),)),
)  # fmt: skip

CASES = (*LINES, *FIELDS)
