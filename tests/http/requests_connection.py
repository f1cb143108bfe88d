"""What belongs to one connection: options and hop-by-hop fields, upgrades, persistence, pipelining, Expect."""

from tests.http.cases import (
    DROPPED,
    ERROR,
    HOST,
    SECOND,
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
_POST = "POST /case HTTP/1.1"
_SECOND = Request(target="/second")


def _get(
    number: int, title: str, rfc: str, *lines: str, allowed: tuple[Outcome, ...], start: str = _GET
) -> RequestCase:
    return RequestCase(f"CO{number:02}", title, rfc, (head(start, HOST, *lines),), allowed)


OPTIONS = (
    _get(1, "a nominated field ends here", "9110 7.6.1", "Connection: X-Hop", "X-Hop: 1", "X-End: 2",
         allowed=(passed(without=("x-hop",), fields=(("x-end", ("2",)),)),)),
    _get(2, "nominated in several fields, cases and spaces", "9110 7.6.1", "Connection: x-A ,\tX-B", "X-a: 1", "x-B: 2",
         "Connection: X-C", "X-C: 3", "X-D: 4",
         allowed=(passed(without=("x-a", "x-b", "x-c"), fields=(("x-d", ("4",)),)),)),
    _get(3, "nominated before and after its place", "9110 7.6.1", "X-Hop: 1", "Connection: X-Hop", "X-Hop: 2",
         allowed=(passed(without=("x-hop",)),)),
    _get(4, "Keep-Alive and Proxy-Connection nominated", "9110 7.6.1", "Connection: keep-alive, Proxy-Connection",
         "Keep-Alive: timeout=5", "Proxy-Connection: keep-alive",
         allowed=(passed(without=("keep-alive", "proxy-connection")),)),
    _get(5, "TE is for this hop", "9110 10.1.4", "TE: trailers", "Connection: TE", allowed=(passed(),)),
    _get(6, "TE that nobody nominated", "9110 10.1.4", "TE: gzip, trailers", allowed=(passed(),)),
    _get(7, "options that are no tokens", "9110 7.6.1", "Connection: ,, @, keep-alive", allowed=(passed(), rejected())),
    _get(8, "a received Via stays, the gateway's own is added", "9110 7.6.3", "Via: 1.0 fred", allowed=tuple(
        passed(fields=(("via", tuple(value.replace("+", own) for value in values)),))
        for own in ("1.1 turnout", "1.1 nginx", "1.1 haproxy") for values in (("1.0 fred", "+"), ("1.0 fred, +",)))),
    _get(9, "Upgrade to h2c", "9110 7.8", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c",
         "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", allowed=(passed(without=("upgrade", "http2-settings")),)),
    _get(10, "Upgrade to h2c that nobody nominated", "9110 7.8", "Upgrade: h2c",
         allowed=(passed(without=("upgrade",)),)),
    _get(11, "Upgrade to websocket", "9110 7.8", "Connection: Upgrade", "Upgrade: websocket",
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", allowed=(passed(), rejected())),
    _get(12, "Upgrade in HTTP/1.0", "9110 7.8", "Connection: Upgrade", "Upgrade: websocket",
         start="GET /case HTTP/1.0", allowed=(passed(without=("upgrade",)),)),
    RequestCase("CO13", "Upgrade to h2c with a body, and a second request", "9110 7.8",
                (head(_POST, HOST, "Connection: Upgrade", "Upgrade: h2c", "Content-Length: 5") + b"hello" + SECOND,),
                (passed("POST", body=b"hello", without=("upgrade",), then=(_SECOND,)),), answers=2),
    RequestCase("CO14", "Upgrade to h2c with chunks, and a second request", "9110 7.8",
                (head(_POST, HOST, "Connection: Upgrade", "Upgrade: h2c", "Transfer-Encoding: chunked")
                 + b"5\r\nhello\r\n0\r\n\r\n" + SECOND,),
                (passed("POST", body=b"hello", without=("upgrade",), then=(_SECOND,)),), answers=2),
    RequestCase("CO15", "Upgrade with two framings", "9112 6.1",
                (head(_POST, HOST, "Connection: Upgrade", "Upgrade: h2c", "Transfer-Encoding: chunked",
                      f"Content-Length: {5 + len(SMUGGLED)}") + b"0\r\n\r\n" + SMUGGLED,),
                (passed("POST", closes=True, without=("upgrade",)), refused())),
    RequestCase("CO16", "a body as a connection option, in HTTP/1.0", "9110 7.6.1",
                (head("POST /case HTTP/1.0", HOST, "Connection: keep-alive, Content-Length",
                      f"Content-Length: {len(SMUGGLED)}") + SMUGGLED,),
                (passed("POST", body=SMUGGLED), refused(closes=None))),
)  # fmt: skip

PERSISTENCE = (
    _get(20, "HTTP/1.1 stays open", "9112 9.3", allowed=(passed(closes=False),)),
    _get(21, "close", "9112 9.6", "Connection: close", allowed=(passed(closes=True),)),
    _get(22, "close among others", "9112 9.6", "Connection: x, CLOSE", allowed=(passed(closes=True),)),
    RequestCase("CO23", "nothing is served behind close", "9112 9.6",
                (head(_GET, HOST, "Connection: close") + SMUGGLED,), (passed(closes=True),)),
    _get(24, "HTTP/1.0 closes", "9112 9.3", start="GET /case HTTP/1.0", allowed=(passed(closes=True),)),
    _get(25, "HTTP/1.0 with keep-alive", "9112 9.3", "Connection: keep-alive", start="GET /case HTTP/1.0",
         allowed=(passed(),)),
    _get(26, "keep-alive and close", "9112 9.3", "Connection: keep-alive, close", allowed=(passed(closes=True),)),
    _get(27, "Proxy-Connection does not close", "9112 C.2.2", "Proxy-Connection: close", allowed=(passed(),)),
)  # fmt: skip

PIPELINE = (
    RequestCase("PI01", "three requests at once", "9112 9.3.2", (head(_GET, HOST) + SECOND * 2,),
                (passed(then=(_SECOND, _SECOND)),), answers=3),
    RequestCase("PI02", "POST, then GET", "9112 9.3.2",
                (head(_POST, HOST, "Content-Length: 5") + b"hello" + SECOND,),
                (passed("POST", body=b"hello", then=(_SECOND,)),), answers=2),
    RequestCase("PI03", "HEAD, then GET", "9112 9.3.2", (head("HEAD /case HTTP/1.1", HOST) + SECOND,),
                (passed("HEAD", then=(_SECOND,)),), answers=2, method="HEAD"),
    RequestCase("PI04", "a request, then noise, then a request", "9112 9.3.2",
                (head(_GET, HOST) + b"\x00\x01noise\r\n\r\n" + SMUGGLED,),
                (Outcome((frozenset((200,)), frozenset((400,))), (Request(),), closes=True), passed(closes=True)),
                answers=2),
    RequestCase("PI05", "a request, then one with two lengths", "9112 6.3",
                (head(_GET, HOST) + head(_POST, HOST, "Content-Length: 0", f"Content-Length: {len(SMUGGLED)}")
                 + SMUGGLED,),
                (Outcome((frozenset((200,)), frozenset((400,))), (Request(),), closes=True),), answers=2),
    RequestCase("PI06", "an empty line between two requests", "9112 2.2",
                (head(_POST, HOST, "Content-Length: 5") + b"hello\r\n" + SECOND,),
                (passed("POST", body=b"hello", then=(_SECOND,)),
                 Outcome((frozenset((200,)), frozenset((400,))), (Request("POST", body=b"hello"),), closes=True)),
                answers=2),
    RequestCase("PI07", "one byte too much behind a body", "9112 6.3",
                (head(_POST, HOST, "Content-Length: 5") + b"hello(" + SMUGGLED,),
                (Outcome((frozenset((200,)), ERROR), (Request("POST", body=b"hello"),)),
                 passed("POST", body=b"hello", closes=True)), answers=2),
)  # fmt: skip

_EXPECT = (_POST, HOST, "Expect: 100-continue")

EXPECT = (
    RequestCase("EX01", "100-continue, and the body waits", "9110 10.1.1", (head(*_EXPECT, "Content-Length: 5"),),
                (passed("POST", body=b"hello", interim=(100,)),), after_continue=b"hello"),
    RequestCase("EX02", "100-continue, and chunks wait", "9110 10.1.1",
                (head(*_EXPECT, "Transfer-Encoding: chunked"),),
                (passed("POST", body=b"hello", interim=(100,)),), after_continue=b"5\r\nhello\r\n0\r\n\r\n"),
    RequestCase("EX03", "100-continue, and the body does not wait", "9110 10.1.1",
                (head(*_EXPECT, "Content-Length: 5") + b"hello" + SECOND,),
                (passed("POST", body=b"hello", then=(_SECOND,)),), answers=2),
    RequestCase("EX04", "no 100 in HTTP/1.0", "9110 10.1.1",
                (head("POST /case HTTP/1.0", HOST, "Expect: 100-continue", "Content-Length: 5") + b"hello",),
                (passed("POST", body=b"hello"),)),
    RequestCase("EX05", "100-continue without a body", "9110 10.1.1",
                (head(_GET, HOST, "Expect: 100-continue"),), (passed(), rejected())),
    RequestCase("EX06", "another expectation", "9110 10.1.1", (head(_GET, HOST, "Expect: fancy"),),
                (refused(417, closes=None), passed())),
    RequestCase("EX07", "100-continue and no Host", "9112 3.2",
                (head("POST /case HTTP/1.1", "Expect: 100-continue", "Content-Length: 5"),),
                (refused(closes=None),), after_continue=b"hello"),
    RequestCase("EX08", "100-continue, and the client leaves", "9112 8", (head(*_EXPECT, "Content-Length: 5"),),
                (DROPPED, rejected()), hangs_up=True),
)  # fmt: skip

CASES = (*OPTIONS, *PERSISTENCE, *PIPELINE, *EXPECT)
