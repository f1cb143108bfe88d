"""Requests framed by Transfer-Encoding, rightly and wrongly, alone and beside Content-Length."""

from tests.http.cases import HOST, SECOND, SMUGGLED, Outcome, Request, RequestCase, head, passed, refused, rejected

_POST = "POST /case HTTP/1.1"
_CHUNKED = "Transfer-Encoding: chunked"
_BODY = b"5\r\nhello\r\n0\r\n\r\n"
_HELLO = passed("POST", body=b"hello")
_HELLO_CLOSED = passed("POST", body=b"hello", closes=True)
_NOT_UNDERSTOOD = (refused(400, 501), refused(422))
"""400 where chunked is not the last coding (9112 6.3), 501 where a coding is unknown (9112 6.1, a SHOULD)."""


def _case(
    number: int, title: str, rfc: str, *lines: str, allowed: tuple[Outcome, ...], body: bytes = b""
) -> RequestCase:
    # What follows the chunks is a second request only to whoever takes them for the body and the connection to stay.
    return RequestCase(f"TE{number:02}", title, rfc, (head(_POST, HOST, *lines) + (body or _BODY + SMUGGLED),), allowed)


_UNKNOWN = {
    "another coding": "xchunked",
    "identity": "identity",
    "gzip alone": "gzip",
    "chunked before gzip": "chunked, gzip",
    "chunked before identity": "chunked, identity",
    "chunked in quotes": '"chunked"',
    "two words": "chunked chunked",
    "chunked twice": "chunked, chunked",
    "a vertical tab before": "\x0bchunked",
    "a no-break space before": "\xa0chunked",
    "a control character behind": "chunked\x01",
    "a colon": ": chunked",
    "cow": "cow, chunked",
    "gzip before chunked": "gzip, chunked",
}

CASES = (
    RequestCase(
        "TE01", "chunked, and a second request behind it", "9112 7.1", (head(_POST, HOST, _CHUNKED) + _BODY + SECOND,),
        (passed("POST", body=b"hello", then=(Request(target="/second"),)),), answers=2,
    ),
    RequestCase(
        "TE02", "coding names have no case", "9112 7",
        (head(_POST, HOST, "TRANSFER-encoding: cHuNkEd") + _BODY,), (_HELLO,),
    ),
    RequestCase(
        "TE03", "chunked with spaces around, and a tab before", "9110 5.5",
        (head(_POST, HOST, "Transfer-Encoding:  \tchunked  ") + _BODY,), (_HELLO,),
    ),
    _case(4, "a length, then chunked", "9112 6.1", f"Content-Length: {len(_BODY + SMUGGLED)}", _CHUNKED,
          allowed=(_HELLO_CLOSED, refused())),
    _case(5, "chunked, then a length", "9112 6.1", _CHUNKED, f"Content-Length: {len(_BODY + SMUGGLED)}",
          allowed=(_HELLO_CLOSED, refused())),
    _case(6, "chunked, and a length of the first chunk line", "9112 6.1", _CHUNKED, "Content-Length: 3",
          allowed=(_HELLO_CLOSED, refused())),
    _case(7, "chunked, and a length that is none", "9112 6.3", _CHUNKED, "Content-Length: x",
          allowed=(_HELLO_CLOSED, refused())),
    _case(8, "nothing to chunk, and a length", "9112 6.1", "Content-Length: 5", _CHUNKED, body=b"0\r\n\r\n" + SMUGGLED,
          allowed=(passed("POST", closes=True), refused())),
    _case(9, "chunked in two fields", "9112 7", _CHUNKED, _CHUNKED, allowed=_NOT_UNDERSTOOD),
    _case(10, "chunked, then identity in a second field", "9112 6.3", _CHUNKED, "Transfer-Encoding: identity",
          allowed=_NOT_UNDERSTOOD),
    _case(11, "identity, then chunked in a second field", "9112 6.1", "Transfer-Encoding: identity", _CHUNKED,
          allowed=(*_NOT_UNDERSTOOD, _HELLO_CLOSED)),
    _case(12, "a space between name and colon", "9112 5.1", "Transfer-Encoding : chunked",
          allowed=(refused(closes=None),)),
    _case(13, "a space between name and colon, and a length", "9112 5.1", "Transfer-Encoding : chunked",
          f"Content-Length: {len(_BODY + SMUGGLED)}", allowed=(refused(closes=None),)),
    _case(14, "a tab between name and colon", "9112 5.1", "Transfer-Encoding\t: chunked",
          allowed=(refused(closes=None),)),
    RequestCase(
        "TE15", "the coding on the next line", "9112 5.2",
        (head(_POST, HOST, "Transfer-Encoding:\r\n chunked") + _BODY,),
        (_HELLO, refused(closes=None)),
    ),
    RequestCase(
        "TE16", "the coding on the next line, and a length", "9112 5.2",
        (head(_POST, HOST, "Transfer-Encoding:\r\n chunked", "Content-Length: 5") + _BODY + SMUGGLED,),
        (_HELLO_CLOSED, refused()),
    ),
    RequestCase(
        "TE17", "chunked in HTTP/1.0", "9112 6.1",
        (head("POST /case HTTP/1.0", HOST, "Connection: keep-alive", _CHUNKED) + _BODY + SMUGGLED,),
        (_HELLO_CLOSED, refused(), refused(411, 501)),
    ),
    RequestCase(
        "TE18", "chunked and a length in HTTP/1.0", "9112 6.1",
        (head("POST /case HTTP/1.0", HOST, "Connection: keep-alive", _CHUNKED, "Content-Length: 5")
         + _BODY + SMUGGLED,),
        (_HELLO_CLOSED, refused(), refused(411, 501)),
    ),
    RequestCase(
        "TE19", "the coding as a connection option", "9110 7.6.1",
        (head(_POST, HOST, "Connection: Transfer-Encoding", _CHUNKED) + _BODY,),
        (_HELLO, refused(closes=None)),
    ),
    _case(20, "no coding at all, and a length", "9110 5.6.1", "Transfer-Encoding:", "Content-Length: 5",
          body=b"hello", allowed=(_HELLO, *_NOT_UNDERSTOOD)),
    RequestCase(
        "TE21", "an empty element before the coding", "9110 5.6.1",
        (head(_POST, HOST, "Transfer-Encoding: , chunked") + _BODY,), (_HELLO, *_NOT_UNDERSTOOD),
    ),
    RequestCase(
        "TE22", "a parameter of chunked, which has none", "9112 7.1",
        (head(_POST, HOST, "Transfer-Encoding: chunked;a=b") + _BODY,), (_HELLO, *_NOT_UNDERSTOOD),
    ),
    RequestCase(
        "TE23", "GET with chunks", "9110 9.3.1", (head("GET /case HTTP/1.1", HOST, _CHUNKED) + _BODY,),
        (passed(body=b"hello"), refused()),
    ),
    RequestCase(
        "TE24", "an underscore is another field", "9112 6.3",
        (head(_POST, HOST, "Transfer_Encoding: chunked", "Content-Length: 15") + _BODY,),
        (passed("POST", body=_BODY), rejected()),
    ),
    RequestCase(
        "TE25", "chunked with a tab behind", "9110 5.5",
        (head(_POST, HOST, "Transfer-Encoding: chunked\t") + _BODY,), (_HELLO,),
    ),
    *(
        _case(number, f"not understood: {title}", "9112 6.3", f"Transfer-Encoding: {value}", allowed=_NOT_UNDERSTOOD)
        for number, (title, value) in enumerate(_UNKNOWN.items(), 30)
    ),
)  # fmt: skip
