"""Requests framed by Content-Length, rightly and wrongly."""

from tests.http.cases import DROPPED, HOST, SECOND, SMUGGLED, Request, RequestCase, head, passed, refused, rejected

_POST = "POST /case HTTP/1.1"
_HELLO = passed("POST", body=b"hello")
_THEN_SECOND = (Request(target="/second"),)


def _length(value: str, body: bytes = b"hello") -> tuple[bytes]:
    return (head(_POST, HOST, f"Content-Length: {value}") + body,)


_INVALID = {
    "a sign": "+5",
    "a minus": "-5",
    "hexadecimal": "0x5",
    "two numbers": "5 5",
    "nothing": "",
    "a letter behind": "5a",
    "a letter before": "a5",
    "a fraction": "5.0",
    "an exponent": "5e0",
    "a parameter": "5;a=b",
    "quotes": '"5"',
    "an underscore": "5_0",
    "a vertical tab": "\x0b5",
    "a no-break space": "\xa05",
    "arabic digits": "\xd9\xa5",
    "two different numbers": "5, 6",
    "a number and nothing": "5, x",
}

CASES = (
    RequestCase(
        "CL01", "a length, and a second request behind it", "9112 6.3",
        (head(_POST, HOST, "Content-Length: 5") + b"hello" + SECOND,),
        (passed("POST", body=b"hello", then=_THEN_SECOND),), answers=2,
    ),
    RequestCase("CL02", "a length in spaces and tabs", "9110 5.5", _length(" \t5 \t"), (_HELLO,)),
    RequestCase("CL03", "leading zeros", "9110 8.6", _length("005"), (_HELLO, refused())),
    RequestCase("CL04", "a length of nothing", "9110 8.6", _length("0", b""), (passed("POST"),)),
    RequestCase("CL05", "a name in capitals", "9110 5.1",
                (head(_POST, HOST, "CONTENT-LENGTH: 5") + b"hello",), (_HELLO,)),
    RequestCase(
        "CL06", "POST without a framing field has no body", "9112 6.3",
        (head(_POST, HOST) + SECOND,), (passed("POST", then=_THEN_SECOND), refused(411, closes=None)), answers=2,
    ),
    RequestCase(
        "CL07", "GET with a body", "9110 9.3.1",
        (head("GET /case HTTP/1.1", HOST, "Content-Length: 5") + b"hello",),
        (passed(body=b"hello"), refused()),
    ),
    RequestCase(
        "CL08", "GET with a body that looks like a request", "9112 6.3",
        (head("GET /case HTTP/1.1", HOST, f"Content-Length: {len(SMUGGLED)}") + SMUGGLED,),
        (passed(body=SMUGGLED), refused()),
    ),
    RequestCase(
        "CL09", "HEAD with a body", "9110 9.3.2",
        (head("HEAD /case HTTP/1.1", HOST, f"Content-Length: {len(SMUGGLED)}") + SMUGGLED,),
        (passed("HEAD", body=SMUGGLED), refused()), method="HEAD",
    ),
    RequestCase(
        "CL10", "DELETE with a body", "9110 9.3.5",
        (head("DELETE /case HTTP/1.1", HOST, f"Content-Length: {len(SMUGGLED)}") + SMUGGLED,),
        (passed("DELETE", body=SMUGGLED), refused()),
    ),
    RequestCase(
        "CL11", "the same length twice", "9110 8.6",
        (head(_POST, HOST, "Content-Length: 5", "Content-Length: 5") + b"hello",), (_HELLO, refused()),
    ),
    RequestCase("CL12", "the same length twice in one field", "9110 8.6", _length("5, 5"), (_HELLO, refused())),
    RequestCase(
        "CL13", "two lengths, the first is short", "9112 6.3",
        (head(_POST, HOST, "Content-Length: 0", f"Content-Length: {len(SMUGGLED)}") + SMUGGLED,), (refused(),),
    ),
    RequestCase(
        "CL14", "two lengths, the second is short", "9112 6.3",
        (head(_POST, HOST, f"Content-Length: {len(SMUGGLED)}", "Content-Length: 0") + SMUGGLED,), (refused(),),
    ),
    RequestCase(
        "CL15", "a length and a wrong one", "9112 6.3",
        (head(_POST, HOST, "Content-Length: 0", "Content-Length: x") + SMUGGLED,), (refused(),),
    ),
    RequestCase(
        "CL16", "a length of 2^64 + 5", "9110 8.6",
        (head(_POST, HOST, f"Content-Length: {2**64 + 5}") + b"hello" + SMUGGLED,),
        (refused(), refused(413), DROPPED), hangs_up=True,
    ),
    RequestCase(
        "CL17", "a length of 200 digits", "9110 8.6",
        (head(_POST, HOST, f"Content-Length: {'9' * 200}") + b"hello" + SMUGGLED,),
        (refused(), refused(413), DROPPED), hangs_up=True,
    ),
    RequestCase(
        "CL18", "a space between name and colon", "9112 5.1",
        (head(_POST, HOST, "Content-Length : 5") + b"hello",), (refused(closes=None),),
    ),
    RequestCase(
        "CL19", "a length on the next line", "9112 5.2",
        (head(_POST, HOST, "Content-Length:\r\n 5") + b"hello",), (_HELLO, refused(closes=None)),
    ),
    RequestCase(
        "CL20", "a length as a connection option", "9110 7.6.1",
        (head(_POST, HOST, "Connection: Content-Length", f"Content-Length: {len(SMUGGLED)}") + SMUGGLED,),
        (passed("POST", body=SMUGGLED), refused(closes=None)),
    ),
    RequestCase(
        "CL21", "a body that is never finished", "9112 8",
        _length("50"), (DROPPED, rejected()), hangs_up=True,
    ),
    RequestCase(
        "CL22", "a body that never begins", "9112 8",
        _length("50", b""), (DROPPED, rejected()), hangs_up=True,
    ),
    RequestCase(
        "CL23", "a body in single bytes", "9112 6.3",
        (head(_POST, HOST, "Content-Length: 5"), b"h", b"e", b"l", b"l", b"o"), (_HELLO,),
    ),
    *(
        RequestCase(
            f"CL{number}", f"not a length: {title}", "9112 6.3", _length(value, SMUGGLED), (refused(),)
        )
        for number, (title, value) in enumerate(_INVALID.items(), 30)
    ),
)  # fmt: skip
