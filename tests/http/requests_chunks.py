"""Chunked bodies: sizes, extensions, ends, trailers, and what only looks like them."""

from tests.http.cases import DROPPED, HOST, SMUGGLED, Outcome, RequestCase, head, passed, refused, rejected

_HEAD = head("POST /case HTTP/1.1", HOST, "Transfer-Encoding: chunked")
_HELLO = passed("POST", body=b"hello")
_END = b"0\r\n\r\n"
_BROKEN = (refused(), DROPPED)
"""The body is invalid: an error of the client, and no end of the request upstream."""
_LENIENT = (_HELLO, *_BROKEN)
"""Not in the grammar; who still reads exactly `hello` does no harm, and no MUST speaks against it."""


def _case(number: int, title: str, rfc: str, body: bytes, *allowed: Outcome, hangs_up: bool = False) -> RequestCase:
    return RequestCase(f"CH{number:02}", title, rfc, (_HEAD + body,), allowed, hangs_up=hangs_up)


_SIZES = {
    "0x before": b"0x5", "a minus": b"-5", "a plus": b"+5", "nothing": b"", "a letter behind": b"5g",
    "an underscore": b"0_5", "a word": b"five", "a comma": b"5,5", "a NUL": b"5\x00", "a no-break space": b"\xa05",
}  # fmt: skip

CASES = (
    _case(1, "several chunks", "9112 7.1", b"1\r\nh\r\n4\r\nello\r\n" + _END, _HELLO),
    _case(2, "sizes in both cases of letters", "9112 7.1", b"A\r\n0123456789\r\nb\r\n0123456789a\r\n" + _END,
          passed("POST", body=b"01234567890123456789a")),
    _case(3, "a size with leading zeros", "9112 7.1", b"0005\r\nhello\r\n" + _END, _HELLO, refused()),
    _case(4, "a size with 17 leading zeros", "9112 7.1", b"0" * 17 + b"5\r\nhello\r\n" + _END, *_LENIENT),
    _case(5, "a last chunk of several zeros", "9112 7.1", b"5\r\nhello\r\n000\r\n\r\n", _HELLO, refused()),
    _case(6, "no chunk but the last", "9112 7.1", _END, passed("POST")),
    _case(7, "an extension", "9112 7.1.1", b"5;a=b\r\nhello\r\n" + _END, _HELLO),
    _case(8, "an extension without a value", "9112 7.1.1", b"5;a\r\nhello\r\n" + _END, _HELLO),
    _case(9, "an extension in quotes", "9112 7.1.1", b'5;a="b;c"\r\nhello\r\n' + _END, _HELLO),
    _case(10, "an extension of the last chunk", "9112 7.1.1", b"5\r\nhello\r\n0;a=b\r\n\r\n", _HELLO),
    _case(11, "spaces around the semicolon", "9112 7.1.1", b"5 ; a=b\r\nhello\r\n" + _END, *_LENIENT),
    _case(12, "an extension of 64 KiB", "9112 7.1.1", b"5;a=" + b"b" * 65536 + b"\r\nhello\r\n" + _END,
          _HELLO, rejected(), DROPPED),
    _case(13, "a line feed in an extension", "9112 7.1.1",
          b"5;a\nb\r\nhello\r\n" + _END + SMUGGLED, *_BROKEN),
    _case(14, "a carriage return in an extension", "9112 7.1.1",
          b"5;a\rb\r\nhello\r\n" + _END, *_BROKEN),
    _case(15, "a NUL in an extension", "9112 7.1.1", b"5;a\x00b\r\nhello\r\n" + _END, *_LENIENT),
    _case(16, "a space behind the size", "9112 7.1", b"5 \r\nhello\r\n" + _END, *_LENIENT),
    _case(17, "a space before the size", "9112 7.1", b" 5\r\nhello\r\n" + _END, *_LENIENT),
    _case(18, "a line feed alone behind the size", "9112 7.1", b"5\nhello\r\n" + _END, *_LENIENT),
    _case(19, "a carriage return alone behind the size", "9112 7.1", b"5\rhello\r\n" + _END, *_BROKEN),
    _case(20, "no line end behind the data", "9112 7.1", b"5\r\nhello0\r\n\r\n" + SMUGGLED, *_BROKEN),
    _case(21, "more data than the size says", "9112 7.1", b"5\r\nhelloXX\r\n" + _END, *_BROKEN),
    _case(22, "less data than the size says", "9112 7.1", b"7\r\nhello\r\n" + _END + SMUGGLED, *_BROKEN),
    _case(23, "a line feed alone behind the data", "9112 7.1", b"5\r\nhello\n" + _END, *_LENIENT),
    _case(24, "a size of 2^64 + 5", "9112 7.1", b"10000000000000005\r\nhello\r\n" + _END + SMUGGLED,
          *_BROKEN, refused(413), hangs_up=True),
    _case(25, "a size of 16 F", "9112 7.1", b"FFFFFFFFFFFFFFFF\r\nhello\r\n" + _END + SMUGGLED,
          *_BROKEN, refused(413), hangs_up=True),
    _case(26, "a size of 100 digits", "9112 7.1", b"1" * 100 + b"\r\nhello\r\n" + _END + SMUGGLED,
          *_BROKEN, refused(413), hangs_up=True),
    _case(27, "the last chunk is missing", "9112 8", b"5\r\nhello\r\n", *_BROKEN, hangs_up=True),
    _case(28, "the end of the last chunk is missing", "9112 8", b"5\r\nhello\r\n0\r\n", *_BROKEN, hangs_up=True),
    _case(29, "the end of a chunk is missing", "9112 8", b"50\r\nhello", *_BROKEN, hangs_up=True),
    _case(30, "the size is not finished", "9112 8", b"5\r\nhello\r\n0", *_BROKEN, hangs_up=True),
    _case(31, "100 chunks of a byte", "9112 7.1", b"1\r\nx\r\n" * 100 + _END, passed("POST", body=b"x" * 100)),
    _case(32, "a trailer is no header field", "9110 6.5.1", b"5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
          passed("POST", body=b"hello", without=("x-t",))),
    _case(33, "framing and routing as trailers", "9110 6.5.1",
          b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: gzip\r\nHost: evil.test\r\n\r\n",
          passed("POST", body=b"hello", fields=(("host", ("a.test",)),)), *_BROKEN),
    _case(34, "credentials as a trailer", "9110 6.5.1", b"5\r\nhello\r\n0\r\nAuthorization: x\r\n\r\n",
          passed("POST", body=b"hello", without=("authorization",)), *_BROKEN),
    _case(35, "a trailer without a colon", "9112 7.1.2", b"5\r\nhello\r\n0\r\nx\r\n\r\n", *_LENIENT),
    _case(36, "a trailer with a space before the colon", "9112 5.1", b"5\r\nhello\r\n0\r\nX : 1\r\n\r\n",
          *_LENIENT),
    _case(37, "a trailer over two lines", "9112 5.2", b"5\r\nhello\r\n0\r\nX: 1\r\n 2\r\n\r\n", *_LENIENT),
    _case(38, "a NUL in a trailer", "9110 5.5", b"5\r\nhello\r\n0\r\nX: \x00\r\n\r\n", *_LENIENT),
    _case(39, "10,000 trailers", "9110 5.4", b"5\r\nhello\r\n0\r\n" + b"X: 1\r\n" * 10_000 + b"\r\n",
          _HELLO, rejected(), DROPPED),
    _case(40, "a request where a trailer should be", "9112 7.1.2", b"5\r\nhello\r\n0\r\n" + SMUGGLED, *_LENIENT),
    RequestCase("CH41", "every byte alone", "9112 7.1",
                (_HEAD, *(bytes((one,)) for one in b"5;a=b\r\nhello\r\n0\r\nX: 1\r\n\r\n")), (_HELLO,)),
    *(
        _case(number, f"not a size: {title}", "9112 7.1", size + b"\r\nhello\r\n" + _END + SMUGGLED, *_BROKEN)
        for number, (title, size) in enumerate(_SIZES.items(), 50)
    ),
)  # fmt: skip
