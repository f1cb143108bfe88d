"""Answers of an upstream: where they end, and what stands behind the end."""

from tests.http.cases import BAD_GATEWAY, CUT, POISON, AnswerCase, Cut, Failed, Relayed, head

_OK = "HTTP/1.1 200 OK"
_CHUNKED = "Transfer-Encoding: chunked"
_HELLO = Relayed()
_CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
_ANY_END = (BAD_GATEWAY, CUT)
"""502 while nothing of the answer has been passed on, else an end that shows."""
_LENIENT = (_HELLO, *_ANY_END)
"""Not in the grammar; to read exactly `hello` does no harm, and no MUST speaks against it."""


def _length(number: int, title: str, rfc: str, *lines: str, allowed: tuple[Relayed | Failed | Cut, ...]) -> AnswerCase:
    return AnswerCase(f"AL{number:02}", title, rfc, (head(_OK, *lines) + b"hello" + POISON,), allowed, "close")


def _chunks(
    number: int, title: str, body: bytes, *allowed: Relayed | Failed | Cut, then: str = "keep", rfc: str = "9112 7.1"
) -> AnswerCase:
    return AnswerCase(f"AC{number:02}", title, rfc, (head(_OK, _CHUNKED) + body,), allowed, then)


_INVALID = {
    "a sign": "+5", "a minus": "-5", "a letter behind": "5a", "a word": "five", "nothing": "", "hexadecimal": "0x5",
    "two numbers": "5 5", "two different numbers": "5, 6", "2^64 + 5": str(2**64 + 5), "a fraction": "5.0",
}  # fmt: skip

LENGTHS = (
    AnswerCase("AL01", "a length", "9112 6.3", (head(_OK, "Content-Length: 5") + b"hello",), (_HELLO,)),
    AnswerCase("AL02", "a length of nothing", "9112 6.3", (head(_OK, "Content-Length: 0"),), (Relayed(b""),)),
    AnswerCase("AL03", "a length, then the end of the connection", "9112 6.3",
               (head(_OK, "Content-Length: 5", "Connection: close") + b"hello",), (_HELLO,), "close"),
    AnswerCase("AL04", "a length in single bytes", "9112 6.3",
               tuple(bytes((one,)) for one in head(_OK, "Content-Length: 5") + b"hello"), (_HELLO,)),
    _length(5, "the same length twice", "9112 6.3", "Content-Length: 5", "Content-Length: 5",
            allowed=(_HELLO, BAD_GATEWAY)),
    _length(6, "the same length twice in one field", "9112 6.3", "Content-Length: 5, 5",
            allowed=(_HELLO, BAD_GATEWAY)),
    _length(7, "two lengths, the first is right", "9112 6.3", "Content-Length: 5", "Content-Length: 50",
            allowed=(BAD_GATEWAY,)),
    _length(8, "two lengths, the second is right", "9112 6.3", "Content-Length: 50", "Content-Length: 5",
            allowed=(BAD_GATEWAY,)),
    AnswerCase("AL09", "a length, then chunked", "9112 6.3",
               (head(_OK, "Content-Length: 3", _CHUNKED) + _CHUNKS + POISON,), (_HELLO, *_ANY_END)),
    AnswerCase("AL10", "chunked, then a length", "9112 6.3",
               (head(_OK, _CHUNKED, f"Content-Length: {len(_CHUNKS + POISON)}") + _CHUNKS + POISON,),
               (_HELLO, *_ANY_END)),
    AnswerCase("AL11", "a space between Content-Length and colon", "9112 5.1",
               (head(_OK, "Content-Length : 5") + b"hello",), (_HELLO, BAD_GATEWAY), "close"),
    AnswerCase("AL12", "a length on the next line", "9112 5.2",
               (head(_OK, "Content-Length:\r\n 5") + b"hello" + POISON,), (_HELLO, BAD_GATEWAY), "close"),
    AnswerCase("AL13", "a length as a connection option", "9110 7.6.1",
               (head(_OK, "Connection: Content-Length", "Content-Length: 5") + b"hello",), (_HELLO, BAD_GATEWAY)),
    AnswerCase("AL14", "a short body, then the end", "9112 8",
               (head(_OK, "Content-Length: 50") + b"hello",), _ANY_END, "close"),
    AnswerCase("AL15", "a short body, then a reset", "9112 8",
               (head(_OK, "Content-Length: 50") + b"hello",), _ANY_END, "reset"),
    AnswerCase("AL16", "no body, then the end", "9112 8", (head(_OK, "Content-Length: 50"),), _ANY_END, "close"),
    AnswerCase("AL17", "a poisoned connection that stays open", "9112 9.2",
               (head(_OK, "Content-Length: 5") + b"hello" + POISON,), (_HELLO, *_ANY_END)),
    AnswerCase("AL18", "noise behind the body", "9112 9.2",
               (head(_OK, "Content-Length: 5") + b"hello\x00\xffnoise",), (_HELLO, *_ANY_END)),
    AnswerCase("AL19", "half an answer behind the body", "9112 9.2",
               (head(_OK, "Content-Length: 5") + b"hello" + POISON[:20],), (_HELLO, *_ANY_END)),
    AnswerCase("AL20", "an answer on the idle connection", "9112 9.2",
               (head(_OK, "Content-Length: 5") + b"hello",), (_HELLO,), "late"),
    AnswerCase("AL21", "an empty line behind the body", "9112 2.2",
               (head(_OK, "Content-Length: 5") + b"hello\r\n",), (_HELLO, *_ANY_END)),
    AnswerCase("AL22", "an interim answer behind the body", "9110 15.2",
               (head(_OK, "Content-Length: 5") + b"hello" + head("HTTP/1.1 100 Continue"),), (_HELLO, *_ANY_END)),
    *(_length(number, f"not a length: {title}", "9112 6.3", f"Content-Length: {value}", allowed=(BAD_GATEWAY,))
      for number, (title, value) in enumerate(_INVALID.items(), 30)),
)  # fmt: skip

UNTIL_CLOSE = (
    AnswerCase("AU01", "no framing field, then the end", "9112 6.3", (head(_OK) + b"hello",), (_HELLO,), "close"),
    AnswerCase("AU02", "no framing field, then a reset", "9112 8", (head(_OK) + b"hello",), _ANY_END, "reset"),
    AnswerCase("AU03", "what looks like an answer belongs to the body", "9112 6.3", (head(_OK) + POISON,),
               (Relayed(POISON),), "close"),
    AnswerCase("AU04", "nothing but the end", "9112 6.3", (head(_OK),), (Relayed(b""),), "close"),
    AnswerCase("AU05", "HTTP/1.0 with a length", "9112 9.3",
               (head("HTTP/1.0 200 OK", "Content-Length: 5") + b"hello" + POISON,), (_HELLO, *_ANY_END)),
    AnswerCase("AU06", "HTTP/1.0 until the end", "9112 6.3", (head("HTTP/1.0 200 OK") + b"hello",), (_HELLO,), "close"),
    AnswerCase("AU07", "HTTP/1.0 with keep-alive", "9112 C.2.2",
               (head("HTTP/1.0 200 OK", "Connection: keep-alive", "Content-Length: 5") + b"hello",), (_HELLO,)),
    AnswerCase("AU08", "until the end for a client of HTTP/1.0", "9112 6.3", (head(_OK) + b"hello",), (_HELLO,),
               "close", version="1.0"),
)  # fmt: skip

CHUNKS = (
    _chunks(1, "chunks", _CHUNKS, _HELLO),
    _chunks(2, "an extension", b"5;a=b\r\nhello\r\n0;c\r\n\r\n", _HELLO, rfc="9112 7.1.1"),
    _chunks(3, "a trailer is no header field", b"5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n", Relayed(without=("x-t",)),
            rfc="9110 6.5.1"),
    _chunks(4, "framing as trailers", b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: gzip\r\n\r\n",
            *_LENIENT, rfc="9110 6.5.1"),
    _chunks(5, "the end within a chunk", b"50\r\nhello", *_ANY_END, then="close", rfc="9112 8"),
    _chunks(6, "the end between chunks", b"5\r\nhello\r\n", *_ANY_END, then="close", rfc="9112 8"),
    _chunks(7, "the end within the last chunk", b"5\r\nhello\r\n0\r\n", *_ANY_END, then="close", rfc="9112 8"),
    _chunks(8, "a reset between chunks", b"5\r\nhello\r\n", *_ANY_END, then="reset", rfc="9112 8"),
    _chunks(9, "the end before the first chunk", b"", *_ANY_END, then="close", rfc="9112 8"),
    _chunks(10, "not a size", b"5\r\nhello\r\nxyz\r\nhello\r\n0\r\n\r\n" + POISON, *_ANY_END),
    _chunks(11, "a negative size", b"5\r\nhello\r\n-5\r\nhello\r\n0\r\n\r\n" + POISON, *_ANY_END),
    _chunks(12, "a size of 2^64 + 5", b"10000000000000005\r\nhello\r\n0\r\n\r\n" + POISON, *_ANY_END),
    _chunks(13, "more data than the size says", b"5\r\nhelloXX\r\n0\r\n\r\n" + POISON, *_ANY_END),
    _chunks(14, "no line end behind the data", b"5\r\nhello0\r\n\r\n" + POISON, *_ANY_END),
    _chunks(15, "a line feed alone behind the size", b"5\nhello\r\n0\r\n\r\n", *_LENIENT),
    _chunks(16, "a line feed in an extension", b"5;a\nb\r\nhello\r\n0\r\n\r\n" + POISON, *_ANY_END, rfc="9112 7.1.1"),
    _chunks(17, "an answer behind the last chunk", _CHUNKS + POISON, _HELLO, *_ANY_END, rfc="9112 9.2"),
    _chunks(18, "an answer where a trailer should be", b"5\r\nhello\r\n0\r\n" + POISON, *_LENIENT, rfc="9112 7.1.2"),
    AnswerCase("AC19", "every byte alone", "9112 7.1",
               tuple(bytes((one,)) for one in head(_OK, _CHUNKED) + b"5;a=b\r\nhello\r\n0\r\nX: 1\r\n\r\n"), (_HELLO,)),
    AnswerCase("AC20", "chunks for a client of HTTP/1.0", "9112 6.1", (head(_OK, _CHUNKED) + _CHUNKS,),
               (Relayed(without=("transfer-encoding",)),), version="1.0"),
    AnswerCase("AC21", "chunks in HTTP/1.0", "9112 6.1",
               (head("HTTP/1.0 200 OK", "Connection: keep-alive", _CHUNKED) + _CHUNKS + POISON,), (_HELLO, *_ANY_END)),
    AnswerCase("AC22", "chunked twice", "9112 7",
               (head(_OK, "Transfer-Encoding: chunked, chunked") + _CHUNKS + POISON,), _ANY_END, "close"),
    AnswerCase("AC23", "an unknown coding", "9112 6.1",
               (head(_OK, "Transfer-Encoding: xchunked") + _CHUNKS,), (Relayed(_CHUNKS), *_ANY_END), "close"),
    AnswerCase("AC24", "a space between Transfer-Encoding and colon", "9112 5.1",
               (head(_OK, "Transfer-Encoding : chunked") + _CHUNKS,), (_HELLO, *_ANY_END), "close"),
    AnswerCase("AC25", "coding names have no case", "9112 7", (head(_OK, "transfer-ENCODING: Chunked") + _CHUNKS,),
               (_HELLO,)),
)  # fmt: skip

CASES = (*LENGTHS, *UNTIL_CLOSE, *CHUNKS)
