"""Where a request wants to go: Host, the four forms of a target, methods that are not forwarded, Max-Forwards."""

from tests.http.cases import DROPPED, ERROR, HOST, Outcome, RequestCase, head, passed, refused, rejected

_GET = "GET /case HTTP/1.1"
_FORWARDED_HOST = (("host", ("a.test",)),)
_OWN_OPTIONS = Outcome((frozenset((200, 204)),))
_NOT_OFFERED = Outcome((frozenset((403, 405, 501)),))


def _host(
    number: int, title: str, rfc: str, *lines: str, allowed: tuple[Outcome, ...], start: str = _GET
) -> RequestCase:
    return RequestCase(f"HO{number:02}", title, rfc, (head(start, *lines),), allowed)


def _target(
    number: int, title: str, rfc: str, target: str, *allowed: Outcome, method: str = "GET", host: str = HOST
) -> RequestCase:
    return RequestCase(
        f"TG{number:02}", title, rfc, (head(f"{method} {target} HTTP/1.1", host),), allowed, method=method
    )


_BAD_HOSTS = {
    "two names": "a.test evil.test", "a user": "user@a.test", "a path": "a.test/x", "a query": "a.test?x",
    "a port that is no number": "a.test:8x", "two ports": "a.test:80:80", "an open bracket": "[::1",
    "a backslash": "a.test\\evil", "quotes": '"a.test"', "angle brackets": "<a.test>", "a URL": "http://a.test",
}  # fmt: skip
_BAD = (refused(closes=None),)

HOSTS = (
    _host(1, "no Host in HTTP/1.1", "9112 3.2", allowed=_BAD),
    _host(2, "two different Hosts", "9112 3.2", HOST, "Host: evil.test", allowed=_BAD),
    _host(3, "the same Host twice", "9112 3.2", HOST, HOST, allowed=_BAD),
    _host(4, "a Host and an empty one", "9112 3.2", HOST, "Host:", allowed=_BAD),
    _host(5, "an empty Host", "9110 7.2", "Host:", allowed=(passed(), *_BAD)),
    _host(6, "no Host in HTTP/1.0", "9112 3.2", start="GET /case HTTP/1.0", allowed=(passed(), *_BAD)),
    _host(7, "two Hosts in HTTP/1.0", "9112 3.2", HOST, "Host: evil.test", start="GET /case HTTP/1.0", allowed=_BAD),
    _host(8, "a Host with a port", "9110 7.2", "Host: a.test:8080", allowed=(
        passed(fields=(("host", ("a.test:8080",)),)), passed(fields=_FORWARDED_HOST))),
    _host(9, "an IPv6 address and a port", "9110 4.2.1", "Host: [::1]:8080", allowed=(passed(),)),
    _host(10, "an IPv4 address", "9110 4.2.1", "Host: 127.0.0.1", allowed=(passed(),)),
    _host(11, "a name in capitals", "9110 4.2.3", "Host: A.TEST", allowed=(passed(),)),
    _host(12, "a port without a number", "9110 4.2.1", "Host: a.test:", allowed=(passed(), *_BAD)),
    _host(13, "the Host as a connection option", "9110 7.6.1", "Connection: Host", HOST, allowed=(
        passed(fields=_FORWARDED_HOST), *_BAD)),
    _host(14, "a space between Host and colon", "9112 5.1", "Host : a.test", allowed=_BAD),
    _host(15, "a second Host on the next line", "9112 5.2", "Host: a.test\r\n evil.test", allowed=_BAD),
    *(_host(number, f"not a host: {title}", "9112 3.2", f"Host: {value}", allowed=_BAD)
      for number, (title, value) in enumerate(_BAD_HOSTS.items(), 30)),
)  # fmt: skip


def _absolute(*targets: str, fields: tuple[tuple[str, tuple[str, ...]], ...] = _FORWARDED_HOST) -> tuple[Outcome, ...]:
    return tuple(passed(target=one, fields=fields) for one in targets)


TARGETS = (
    _target(1, "absolute form", "9112 3.2.2", "http://a.test/case", *_absolute("/case", "http://a.test/case")),
    _target(2, "absolute form wins over Host", "9112 3.2.2", "http://a.test/case",
            *_absolute("/case", "http://a.test/case"), host="Host: evil.test"),
    _target(3, "absolute form without a path", "9112 3.2.1", "http://a.test",
            *_absolute("/", "http://a.test/", "http://a.test")),
    _target(4, "absolute form, a query and no path", "9112 3.2.1", "http://a.test?x=1",
            *_absolute("/?x=1", "http://a.test/?x=1", "http://a.test?x=1")),
    _target(5, "absolute form in capitals", "9110 4.2.3", "HTTP://a.test/case",
            *_absolute("/case", "http://a.test/case", "HTTP://a.test/case")),
    _target(6, "absolute form of https without TLS", "9110 7.4", "https://a.test/case",
            rejected()),
    _target(7, "absolute form without a host", "9110 4.2.1", "http:///case", rejected()),
    _target(8, "absolute form with a user", "9110 4.2.4", "http://user:pw@a.test/case",
            rejected(), *_absolute("/case", "http://a.test/case")),
    _target(9, "absolute form of another scheme", "9110 7.4", "ftp://a.test/case", rejected()),
    _target(10, "authority form", "9112 3.2.3", "a.test:80", rejected()),
    _target(11, "a relative path", "9112 3.2", "case", rejected()),
    _target(12, "asterisk with GET", "9112 3.2.4", "*", rejected()),
    _target(13, "OPTIONS *", "9110 9.3.7", "*", _OWN_OPTIONS, _NOT_OFFERED, passed("OPTIONS", "*"), method="OPTIONS"),
    _target(14, "OPTIONS with a path", "9110 9.3.7", "/case", passed("OPTIONS"), _NOT_OFFERED, method="OPTIONS"),
    RequestCase("TG15", "CONNECT", "9110 9.3.6", (head("CONNECT a.test:80 HTTP/1.1", HOST),),
                (rejected(), DROPPED, passed("CONNECT", "a.test:80"))),
    RequestCase("TG16", "CONNECT of a path", "9110 9.3.6", (head("CONNECT /case HTTP/1.1", HOST),),
                (rejected(), DROPPED)),
    _target(17, "TRACE", "9110 9.3.8", "/case", rejected(), passed("TRACE"), method="TRACE"),
    RequestCase("TG18", "TRACE with a body", "9110 9.3.8",
                (head("TRACE /case HTTP/1.1", HOST, "Content-Length: 5") + b"hello",), (rejected(),)),
    _target(19, "a fragment", "9110 4.2.5", "/case#x", rejected(), passed()),
    _target(20, "two slashes stay two", "9110 7.7", "//case//x", passed(target="//case//x")),
    _target(21, "dots stay", "9110 7.7", "/case/./../x", passed(target="/case/./../x"), rejected()),
    _target(22, "percent signs stay as they are", "9110 7.7", "/case%2f%41?x=%0d%0a", passed(
        target="/case%2f%41?x=%0d%0a")),
    _target(23, "an empty query stays", "9110 7.7", "/case?", passed(target="/case?")),
    _target(24, "a percent sign without digits", "9110 7.7", "/case%zz", passed(target="/case%zz"), rejected()),
    _target(25, "a URL as the path", "9112 3.2.1", "/http://evil.test/", passed(target="/http://evil.test/",
                                                                               fields=_FORWARDED_HOST)),
    _target(26, "an at sign for the upstream's address", "9112 3.2", "@evil.test/case", rejected()),
    _target(27, "all that a path and a query may hold", "9112 3.2.1", "/case-._~!$&'()*+,;=:@/?/?:@!$&'()*+,;=",
            passed(target="/case-._~!$&'()*+,;=:@/?/?:@!$&'()*+,;=")),
)  # fmt: skip


def _hops(number: int, title: str, method: str, value: str, *allowed: Outcome, target: str = "/case") -> RequestCase:
    lines = (f"{method} {target} HTTP/1.1", HOST, f"Max-Forwards: {value}")
    return RequestCase(f"MF{number:02}", title, "9110 7.6.2", (head(*lines),), allowed, method=method)


MAX_FORWARDS = (
    _hops(1, "no hop left for OPTIONS", "OPTIONS", "0", _OWN_OPTIONS, Outcome((ERROR,))),
    _hops(2, "one hop left for OPTIONS", "OPTIONS", "1", passed("OPTIONS", fields=(("max-forwards", ("0",)),)),
          _NOT_OFFERED),
    _hops(3, "many hops left for OPTIONS: one less, or as many as the gateway supports", "OPTIONS", "3",
          *(passed("OPTIONS", fields=(("max-forwards", (left,)),)) for left in "210"), _NOT_OFFERED),
    _hops(4, "no hop left for TRACE", "TRACE", "0", Outcome((frozenset((200,)),)), Outcome((ERROR,))),
    _hops(5, "no hop left for OPTIONS *", "OPTIONS", "0", _OWN_OPTIONS, Outcome((ERROR,)), target="*"),
    _hops(6, "GET takes no notice", "GET", "0", passed(), _OWN_OPTIONS, Outcome((ERROR,))),
    _hops(7, "not a number", "OPTIONS", "x", passed("OPTIONS"), rejected()),
    _hops(8, "more hops than an integer holds", "OPTIONS", "9" * 30, passed("OPTIONS", fields=()), rejected()),
)  # fmt: skip

CASES = (*HOSTS, *TARGETS, *MAX_FORWARDS)
