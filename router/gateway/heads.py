"""Reads and writes HTTP/1.1 heads: strict in, re-serialised out, never spliced.

llhttp (strict mode) has already refused what is not a message at all: bad field names, bare CR, LF or NUL, obs-fold,
doubled or contradictory Content-Length, Content-Length beside Transfer-Encoding. Checked here is what llhttp lets
through and an intermediary must not (RFC 9110 section 7, RFC 9112 sections 3 and 6). All functions are pure.
"""

import http
import json
import re
from typing import TYPE_CHECKING

from router.gateway.trust import CLAIMS, aliases, climbs

if TYPE_CHECKING:
    from router.core.traffic import RouteTable

    Fields = list[tuple[bytes, bytes]]

CHUNKED = -1
"""Body length of a message that is framed by chunks."""
UNTIL_CLOSE = -2
"""Body length of an answer that ends when the connection does."""

HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
MAX_DIGITS = 15
"""Longest Content-Length that is read. Keeps every sum exact; 10**15 bytes is beyond any limit we have."""

# RFC 9110 section 7.6.1 and the fields that Turnout writes itself.
_HOP_BY_HOP = (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
_OWN = (
    b"host", b"content-length", b"expect", b"x-request-id",
    b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host",
    b"x-turnout-variant", b"x-turnout-mirror", b"x-turnout-rescued", b"x-turnout-origin",
)  # fmt: skip
_REQUEST_SPECIAL = frozenset((*_HOP_BY_HOP, *_OWN, *CLAIMS))
_REQUEST_SPECIAL |= aliases(_REQUEST_SPECIAL)
_ANSWER_SPECIAL = frozenset((
    *_HOP_BY_HOP, b"content-length", b"x-request-id",
    b"x-turnout-variant", b"x-turnout-mirror", b"x-turnout-rescued", b"x-turnout-origin",
))  # fmt: skip
_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"host"))
_OF_HOP = frozenset((*_HOP_BY_HOP, b"content-length"))

STATUS_LINES = {
    status: f"HTTP/1.1 {status} {phrase}\r\n".encode()
    for status, phrase in (
        (code, http.HTTPStatus(code).phrase if code in http.HTTPStatus._value2member_map_ else "")
        for code in range(100, 600)
    )
}


class RequestHead:
    """What the gateway needs to know of a request's head; built once, then only read, by all requests that have it.

    `body_length` is a number of bytes or CHUNKED. `fields` are the end-to-end fields in order as (lower-case name,
    whole line), `lines` all of them as they are sent on, and `kept_lines` those of a copy, without what was `dropped`;
    `claims` are the lines that only a trusted proxy may say. `route` is what it matched in `table` last, by name. A
    frozen dataclass costs three times as much to build, and this is built for each request.
    """

    __slots__ = (
        "body_length", "claims", "dropped", "expects_continue", "fields", "forwarded_for", "forwarded_host",
        "forwarded_proto", "host", "http10", "keep_alive", "kept_lines", "last_hop", "lines", "method", "ordinary",
        "override", "path", "request_id", "route", "table", "target", "wants_tls",
    )  # fmt: skip

    def __init__(self, method: bytes, target: bytes) -> None:
        self.method = method
        self.target = target
        self.path = b""
        self.host = b""
        self.body_length = 0
        self.http10 = False
        self.keep_alive = True
        self.wants_tls = False  # an absolute target of https
        self.last_hop = False  # to be answered here: Max-Forwards allows no other hop
        self.expects_continue = False
        self.request_id = b""
        self.override = b""
        self.forwarded_for: tuple[bytes, ...] = ()
        self.claims = b""
        self.forwarded_proto = b""
        self.forwarded_host = b""
        self.fields: Fields = []
        self.lines = b""
        self.dropped: frozenset[bytes] | None = None
        self.kept_lines = b""
        self.table: RouteTable | None = None
        self.route = ""
        self.ordinary = False  # the next request on the connection may be read as if there had not been this one


class Refusal:
    """Why a request is not forwarded: the answer's status and one sentence."""

    __slots__ = ("detail", "status")

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        self.detail = detail


def read_request(  # noqa: C901, PLR0911, PLR0912, PLR0915 - one flat pass: a table of handlers would cost a call per field
    method: bytes, target: bytes, version: str, headers: "Fields"
) -> RequestHead | Refusal:
    """Return the head of a request, or why it is refused (RFC 9112 sections 3.2 and 6.1)."""
    head = RequestHead(method, target)
    head.http10 = version == "1.0"
    if version not in ("1.1", "1.0"):
        return Refusal(505, f"HTTP/{version} is not spoken here; use HTTP/1.1")
    hosts = 0
    upgrade = websocket = False
    nominated: list[bytes] = []
    options: tuple[bytes, ...] = ()
    codings: list[bytes] = []
    for name, value in headers:
        lower = name.lower()
        if lower not in _REQUEST_SPECIAL:
            head.fields.append((lower, b"%b: %b\r\n" % (name, value)))
        elif lower == b"host":
            hosts += 1
            head.host = value.strip(b" \t")
        elif lower == b"content-length":
            length = _decimal(value)
            if length is None:
                return Refusal(400, "Content-Length must be one decimal number of at most 15 digits")
            head.body_length = length
        elif lower == b"connection":
            nominated += _tokens(value)
        elif lower == b"proxy-connection":  # the parser takes `close` from it as well, but it nominates no field
            options += (*_tokens(value),)
        elif lower == b"transfer-encoding":
            codings.append(_coding(value))
        elif lower == b"expect":
            if value.strip().lower() != b"100-continue":
                return Refusal(417, "the only expectation known here is 100-continue")
            head.expects_continue = version == "1.1"
        elif lower == b"x-request-id":
            head.request_id = value if REQUEST_ID.fullmatch(value) else b""
        elif lower == b"x-turnout-variant":
            head.override = value
        elif lower == b"x-forwarded-for":
            head.forwarded_for += (value,)
        elif lower == b"x-forwarded-proto":
            head.forwarded_proto = value
        elif lower == b"x-forwarded-host":
            head.forwarded_host = value
        elif lower in CLAIMS:
            head.claims += b"%b: %b\r\n" % (name, value)
        elif lower == b"upgrade":
            upgrade = True
            websocket = websocket or b"websocket" in _tokens(value)
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        return Refusal(400, f"a request has exactly one Host field, this one has {hosts}")
    if hosts and head.host and not HOST.fullmatch(head.host):
        return Refusal(400, "the Host field is not a host name with an optional port")
    if codings:
        if version == "1.0" or codings[-1].rpartition(b",")[2].strip(b" \t") != b"chunked":
            return Refusal(400, "a body whose last transfer coding is not chunked, or in HTTP/1.0, has no clear end")
        if codings != [b"chunked"]:
            return Refusal(501, "the only transfer coding known here is one chunked")
        head.body_length = CHUNKED
    if nominated:
        drop = frozenset(nominated) - _FRAMING
        head.fields = [field for field in head.fields if field[0] not in drop]
        options += (*nominated,)
    if options:
        head.keep_alive = b"keep-alive" in options if version == "1.0" else b"close" not in options
    elif version == "1.0":
        head.keep_alive = False
    if websocket and not head.http10 and b"upgrade" in nominated:  # 1.0: MUST be ignored (RFC 9110 section 7.8)
        return Refusal(501, "WebSocket is not spoken here; use HTTP/1.1")
    read = _read_target(head)
    head.ordinary = not (upgrade or head.http10 or head.expects_continue or head.wants_tls or head.last_hop) and (
        head.keep_alive and head.body_length != CHUNKED
    )
    head.lines = b"".join([line for _, line in head.fields])
    return read


def _count_hop(head: RequestHead) -> None:
    """Take one from Max-Forwards, which counts for OPTIONS (RFC 9110 section 7.6.2) and for TRACE, refused anyway."""
    for at, (name, line) in enumerate(head.fields):
        if name == b"max-forwards" and (left := _decimal(line.partition(b":")[2].rstrip(b"\r\n"))) is not None:
            head.last_hop = head.last_hop or left == 0
            head.fields[at] = (name, b"max-forwards: %d\r\n" % (left - 1))


def _read_target(head: RequestHead) -> RequestHead | Refusal:  # noqa: PLR0911 - one for each fault
    """Set path, and host for absolute-form, where the target wins over Host (RFC 9112 section 3.2.2)."""
    target = head.target
    if head.method == b"OPTIONS":
        _count_hop(head)
    elif head.method in (b"CONNECT", b"TRACE"):
        return Refusal(501, f"{head.method.decode()} is not offered by this gateway")
    if not target.startswith(b"/"):
        if target == b"*" and head.method == b"OPTIONS":
            head.path = b"*"
            return head
        scheme, separator, rest = target.partition(b"://")
        if not separator or scheme.lower() not in (b"http", b"https"):
            return Refusal(400, "the request target must be a path or an http URL")
        start = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
        authority, tail = rest[:start], rest[start:]
        if not HOST.fullmatch(authority):
            return Refusal(400, "the request target's authority is not a host name with an optional port")
        head.host = authority
        head.wants_tls = len(scheme) == 5
        head.target = target = tail if tail.startswith(b"/") else b"/" + tail
    if b"#" in target:
        return Refusal(400, "the request target holds a fragment")
    head.path = target.partition(b"?")[0]
    if climbs(head.path):
        return Refusal(400, "the request target has a dot segment; resolve it before you send it")
    return head


class AnswerHead:
    """What the gateway needs to know of an answer's head. `body_length` is bytes, CHUNKED or UNTIL_CLOSE.

    Built once, then only read, by all answers that have it. `lines` are the status line and the fields as sent on.
    `bodiless` says that no body follows whatever the fields describe (answers to HEAD, 204, 304).
    """

    __slots__ = ("bodiless", "body_length", "fields", "keep_alive", "lines", "status")

    def __init__(self, status: int) -> None:
        self.status = status
        self.lines = b""
        self.bodiless = False
        self.body_length = UNTIL_CLOSE
        self.keep_alive = True
        self.fields: list[bytes] = []


def read_answer(  # noqa: C901, PLR0912 - one flat pass, as in read_request
    status: int, version: str, headers: "Fields", *, to_head: bool
) -> AnswerHead | None:
    """Return the head of a final answer, or None where status or framing are not allowed (RFC 9112 section 6.3).

    `to_head` says that the request was HEAD, so that no body follows whatever the fields say.
    """
    head = AnswerHead(status)
    if version not in ("1.1", "1.0") or not 200 <= status <= 599:
        return None
    length: int | None = None
    nominated: list[bytes] = []
    codings: list[bytes] = []
    for name, value in headers:
        lower = name.lower()
        if lower not in _ANSWER_SPECIAL:
            head.fields.append(b"%b: %b\r\n" % (name, value))
        elif lower == b"content-length":
            length = _decimal(value)
            if length is None:
                return None
        elif lower == b"connection":
            nominated += _tokens(value)
        elif lower == b"transfer-encoding":
            codings.append(value if hides_chunks([(lower, value)]) else _coding(value))  # refused: llhttp reads on
    if codings and (codings != [b"chunked"] or version == "1.0"):
        return None
    if nominated:
        drop = frozenset(nominated) - _FRAMING
        head.keep_alive = b"keep-alive" in drop if version == "1.0" else b"close" not in drop
        head.fields = [line for line in head.fields if line.partition(b":")[0].lower() not in drop]
    elif version == "1.0":
        head.keep_alive = False
    if to_head or status in (204, 304):
        # The fields describe the body that a GET would have had; they are passed on, no byte follows.
        head.bodiless = True
        head.body_length = 0
        if length is not None and status != 204:
            head.fields.append(b"content-length: %d\r\n" % length)
    elif codings:
        head.body_length = CHUNKED
    elif length is not None:
        head.body_length = length
    else:
        head.keep_alive = False
    head.lines = STATUS_LINES[status] + b"".join(head.fields)
    if head.body_length >= 0 and not head.bodiless:
        head.lines += framing_line(head.body_length)
    return head


def is_of_hop(name: bytes) -> bool:
    """Whether a field says how a message is framed or what becomes of its connection: nothing for a trailer."""
    return name.lower() in _OF_HOP


def _decimal(value: bytes) -> int | None:
    digits = value.strip(b" \t")
    return int(digits) if digits.isdigit() and len(digits) <= MAX_DIGITS else None


def _coding(value: bytes) -> bytes:
    """Return the whole value: no list, not even with empty elements."""
    return value.strip(b" \t").lower()


def hides_chunks(headers: "Fields") -> bool:
    """Whether llhttp does not see that a body is in chunks: it takes spaces behind `chunked`, and no tab.

    Both are no part of the value (RFC 9110 section 5.5).
    """
    return any(b"\t" in value.lstrip(b" \t") for name, value in headers if name.lower() == b"transfer-encoding")


def _tokens(value: bytes) -> list[bytes]:
    return [token for part in value.lower().split(b",") if (token := part.strip(b" \t"))]


def lines_without(head: RequestHead, dropped: "frozenset[bytes]") -> bytes:
    """Join the lines of the fields whose lower-case name is not in `dropped`."""
    if head.dropped is not dropped:
        head.dropped = dropped
        head.kept_lines = b"".join([line for name, line in head.fields if name not in dropped])
    return head.kept_lines


def framing_line(body_length: int) -> bytes:
    """Return the field that frames a body of `body_length` bytes or CHUNKED."""
    return b"transfer-encoding: chunked\r\n" if body_length == CHUNKED else b"content-length: %d\r\n" % body_length


def chunk(data: bytes) -> bytes:
    """Return `data` as one chunk; `data` must not be empty, an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


NO_CONTENT = b"HTTP/1.1 204 No Content\r\nx-turnout-origin: gateway\r\nx-request-id: %b\r\n%b\r\n"
"""Turnout's own answer to OPTIONS; takes the request id and a Connection line or nothing."""
LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def problem(status: int, detail: str, *, keep_alive: bool, extra: bytes = b"", to_head: bool = False) -> bytes:
    """Return a whole answer of Turnout itself, an RFC 9457 problem document; `x-turnout-origin` marks it as ours."""
    title = http.HTTPStatus(status).phrase
    body = f'{{"type":"about:blank","title":"{title}","status":{status},"detail":{json.dumps(detail)}}}\n'.encode()
    connection = b"" if keep_alive else b"connection: close\r\n"
    fields = b"content-type: application/problem+json\r\ncontent-length: %d\r\nx-turnout-origin: gateway\r\n" % len(
        body
    )
    return b"%b%b%b%b\r\n%b" % (STATUS_LINES[status], fields, connection, extra, b"" if to_head else body)
