"""JSON bodies: read as a whole, or with one text of theirs replaced."""

import re
from typing import Any

import orjson

from router.core.errors import UnreadableError

_STRUCTURE = re.compile(rb'[{}\[\]:,]|"(?:[^"\\]++|\\.)*+"', re.DOTALL)


def json_of(body: bytes, what: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value in `body`. Raises UnreadableError, which begins with `what`."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnreadableError(f"{what}: not JSON ({error.msg[:80]} at byte {error.pos})") from None


def object_of(body: bytes, what: str) -> dict[str, Any]:
    """Return the object in `body`. Raises UnreadableError, which begins with `what`."""
    value = json_of(body, what)
    if type(value) is not dict:
        raise UnreadableError(f"{what}: expected a JSON object")
    return value


def with_member(body: bytes, name: str, text: str) -> bytes:
    """Return the object in `body` with the text that it has under `name` replaced, all other bytes as they were.

    Raises UnreadableError when there is no such text, or when the name stands twice: servers disagree which one holds.
    """
    if type(object_of(body, "request").get(name)) is not str:
        raise UnreadableError(f"request: expected `{name}`, a text to replace")
    places = _values_of(body, name)
    if len(places) != 1:
        raise UnreadableError(f"request: expected `{name}` once")
    start, end = places[0]
    return body[:start] + orjson.dumps(text) + body[end:]


def _values_of(body: bytes, name: str) -> list[tuple[int, int]]:
    """Return where the texts under `name` begin and end in the object that is known to be in `body`."""
    places: list[tuple[int, int]] = []
    depth = 0
    before = b""
    key = b""
    for token in _STRUCTURE.finditer(body):
        text = token[0]
        if text in (b"{", b"["):
            depth += 1
        elif text in (b"}", b"]"):
            depth -= 1
        elif depth == 1 and text[:1] == b'"':
            if before == b":":
                if _names(key, name):
                    places.append(token.span())
            else:
                key = text
        before = text
    return places


def _names(key: bytes, name: str) -> bool:
    return bool(orjson.loads(key) == name)
