"""Reading and writing heads: an independent parser reads the same from what came in, and from what goes out."""

import json
from string import ascii_letters, digits

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.gateway import heads

REPEATABLE = settings(derandomize=True, deadline=None)
"""The same examples in every run, however busy the machine is."""

TOKEN = ascii_letters + digits + "!#$%&'*+-.^_`|~"
VISIBLE = "".join(map(chr, range(0x21, 0x7F))) + "".join(map(chr, range(0x80, 0x100)))
NAMES = st.text(TOKEN, min_size=1, max_size=12).map(lambda name: f"X-{name}")
VALUES = st.text(VISIBLE + " \t", max_size=30).map(lambda value: value.strip(" \t"))
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=8)
TARGETS = st.text(ascii_letters + digits + "-._~%/?&=:@!$'()*+,;", max_size=30).map(lambda text: f"/{text}")
METHODS = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
FRAMINGS = st.one_of(
    st.just(None), st.just("chunked"), st.integers(min_value=0, max_value=10**15 - 1).map(lambda size: size)
)


class Parsed:
    """Feeds bytes to httptools as the gateway does, and reads the head."""

    def __init__(self, wire: bytes, *, answer: bool = False) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.target = b""
        self.head: heads.RequestHead | heads.Refusal | heads.AnswerHead | None = None
        self._answer = answer
        self.parser = httptools.HttpResponseParser(self) if answer else httptools.HttpRequestParser(self)
        self.parser.feed_data(wire)

    def on_url(self, url: bytes) -> None:
        """Collect the target."""
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a field."""
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Read the head."""
        version = self.parser.get_http_version()
        if isinstance(self.parser, httptools.HttpResponseParser):
            status = self.parser.get_status_code()
            self.head = heads.read_answer(status, version, self.fields, to_head=False)
        else:
            self.head = heads.read_request(self.parser.get_method(), self.target, version, self.fields)


def framing(value: str | int | None) -> list[tuple[str, str]]:
    """Return the field that frames a body so."""
    if value is None:
        return []
    return [("Transfer-Encoding", "chunked")] if value == "chunked" else [("Content-Length", str(value))]


def head_of(start: str, fields: list[tuple[str, str]]) -> bytes:
    """Return a head as it goes over the wire."""
    return "".join([start, "\r\n", *[f"{name}: {value}\r\n" for name, value in fields], "\r\n"]).encode("latin-1")


def by_h11(wire: bytes, role: type[h11.CLIENT] | type[h11.SERVER]) -> h11.Request | h11.Response:
    """Return what h11 reads from a head."""
    parser = h11.Connection(role)
    if role is h11.CLIENT:
        parser.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
        parser.send(h11.EndOfMessage())
    parser.receive_data(wire)
    event = parser.next_event()
    assert isinstance(event, (h11.Request, h11.Response))
    return event


def ours(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Return name and value of whole lines, names lower-case."""
    parts = [line.rstrip(b"\r\n").partition(b": ") for line in lines]
    return [(name.lower(), value) for name, _, value in parts]


@REPEATABLE
@given(method=METHODS, target=TARGETS, fields=FIELDS, framed=FRAMINGS)
def test_a_valid_request_is_read_as_h11_reads_it_and_written_so_that_it_reads_the_same(
    method: str, target: str, fields: list[tuple[str, str]], framed: str | int | None
) -> None:
    """Method, target, end-to-end fields with their order, and framing: in and out."""
    wire = head_of(f"{method} {target} HTTP/1.1", [("Host", "a.test:80"), *fields, *framing(framed)])
    read = Parsed(wire).head
    assert isinstance(read, heads.RequestHead)
    theirs = by_h11(wire, h11.SERVER)
    assert isinstance(theirs, h11.Request)
    assert (read.method, read.target, read.host) == (theirs.method, theirs.target, b"a.test:80")
    end_to_end = [one for one in theirs.headers if one[0] not in (b"host", b"content-length", b"transfer-encoding")]
    assert ours([line for _, line in read.fields]) == end_to_end
    assert [name for name, _ in read.fields] == [name for name, _ in end_to_end]
    assert read.body_length == (heads.CHUNKED if framed == "chunked" else framed or 0)
    written = b"".join(
        [
            b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (read.method, read.target, read.host),
            *[line for _, line in read.fields],
            heads.framing_line(read.body_length),
            b"\r\n",
        ]
    )
    again = by_h11(written, h11.SERVER)
    assert isinstance(again, h11.Request)
    assert (again.method, again.target) == (theirs.method, theirs.target)
    assert [one for one in again.headers if one in end_to_end] == end_to_end


@REPEATABLE
@given(status=st.integers(min_value=200, max_value=599), fields=FIELDS, framed=FRAMINGS)
def test_a_valid_answer_is_read_as_h11_reads_it_and_written_so_that_it_reads_the_same(
    status: int, fields: list[tuple[str, str]], framed: str | int | None
) -> None:
    """Status, fields and framing; 204 and 304 have no body whatever they say."""
    wire = head_of(f"HTTP/1.1 {status} Fine", [*fields, *framing(framed)])
    read = Parsed(wire, answer=True).head
    assert isinstance(read, heads.AnswerHead)
    theirs = by_h11(wire, h11.CLIENT)
    assert isinstance(theirs, h11.Response)
    end_to_end = [one for one in theirs.headers if one[0] not in (b"content-length", b"transfer-encoding")]
    assert [one for one in ours(read.fields) if one[0] != b"content-length"] == end_to_end
    assert read.bodiless == (status in (204, 304))
    if read.bodiless:
        assert read.body_length == 0
    else:
        expected = heads.CHUNKED if framed == "chunked" else heads.UNTIL_CLOSE if framed is None else framed
        assert read.body_length == expected
        assert read.keep_alive == (framed is not None)
    written = heads.STATUS_LINES[status] + b"".join(read.fields) + b"\r\n"
    again = by_h11(written, h11.CLIENT)
    assert isinstance(again, h11.Response)
    assert again.status_code == status
    assert [one for one in again.headers if one[0] != b"content-length"] == end_to_end


@REPEATABLE
@given(wire=st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail(wire: bytes) -> None:
    """Whatever llhttp lets through is a head or a refusal, never an exception."""
    for answer, start in ((False, b"POST / HTTP/1.1\r\n"), (True, b"HTTP/1.1 200 OK\r\n")):
        try:
            parsed = Parsed(start + wire + b"\r\n\r\n", answer=answer)
        except httptools.HttpParserCallbackError:
            raise
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            continue
        kinds = (heads.RequestHead, heads.Refusal, heads.AnswerHead, type(None))
        assert isinstance(parsed.head, kinds)


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        ("1.1", None, True),
        ("1.1", "close", False),
        ("1.1", "Close, X-A", False),
        ("1.1", "keep-alive", True),
        ("1.1", "keep-alive, close", False),
        ("1.0", None, False),
        ("1.0", "keep-alive", True),
        ("1.0", "Keep-Alive", True),
        ("1.0", "close", False),
    ],
)
def test_whether_a_connection_stays(version: str, connection: str | None, *, keep_alive: bool) -> None:
    """RFC 9112 section 9.3, for requests and for answers with a length."""
    fields = [("Host", "a"), ("Content-Length", "1")] + ([("Connection", connection)] if connection else [])
    request = Parsed(head_of(f"POST / HTTP/{version}", fields)).head
    answer = Parsed(head_of(f"HTTP/{version} 200 OK", fields), answer=True).head
    assert isinstance(request, heads.RequestHead)
    assert isinstance(answer, heads.AnswerHead)
    assert (request.keep_alive, answer.keep_alive) == (keep_alive, keep_alive)


@REPEATABLE
@given(detail=st.text(max_size=60), keep_alive=st.booleans())
def test_a_problem_is_an_answer_whose_body_is_json(detail: str, *, keep_alive: bool) -> None:
    """Whatever the sentence holds, nothing of it can leave its string."""
    wire = heads.problem(502, detail, keep_alive=keep_alive, extra=b"x-request-id: a\r\n")
    head, _, body = wire.partition(b"\r\n\r\n")
    response = by_h11(wire, h11.CLIENT)
    assert isinstance(response, h11.Response)
    assert dict(response.headers)[b"content-length"] == b"%d" % len(body)
    assert json.loads(body) == {"type": "about:blank", "title": "Bad Gateway", "status": 502, "detail": detail}
    assert (b"connection: close" in head) != keep_alive


@REPEATABLE
@given(pieces=st.lists(st.binary(min_size=1, max_size=300), max_size=5))
def test_chunks_read_back_as_what_was_written(pieces: list[bytes]) -> None:
    """Sizes in hex, one chunk each, the last one empty."""
    parser = h11.Connection(h11.SERVER)
    framed = b"".join(map(heads.chunk, pieces)) + heads.LAST_CHUNK
    parser.receive_data(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n" + framed)
    got = b""
    while not isinstance(event := parser.next_event(), h11.EndOfMessage):
        got += bytes(event.data) if isinstance(event, h11.Data) else b""
    assert got == b"".join(pieces)
