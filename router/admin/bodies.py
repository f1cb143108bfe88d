"""Request bodies read strictly: bounded in bytes, time, depth and number of values, with one meaning for each."""

import asyncio
import json
import math

from starlette.requests import Request

from router.admin.problems import ProblemError, field_problem
from router.core.config import MIB

BODY_BYTES = MIB
BODY_S = 10.0
"""Time for a whole body. Chosen: 1 MiB at 100 KiB/s; a rollout block has 2 KiB."""

DEPTH = 16
"""Chosen: a rollout block is 4 deep."""

MARKS = 20_000
"""How many of `[`, `{` and `,` a document may hold, so that reading one takes below 5 ms. Chosen: 100 steps hold
800."""

BODY = "body"
"""The field named when the document as a whole is wrong."""


class StrictRequest(Request):
    """A request whose JSON body is plain data within bounds, or else a problem."""

    async def body(self) -> bytes:
        """Return the whole body; ProblemError 413 when too long, 408 when too slow, 415 when it is no JSON."""
        if not hasattr(self, "_body"):
            self._body = await self._read()
        return self._body

    async def json(self) -> object:
        """Return the document; ProblemError 422 says what is wrong with it."""
        return parse_json(await self.body())

    async def _read(self) -> bytes:
        declared = self.headers.get("content-length", "0")
        if not declared.isdigit() or len(declared) > 15 or int(declared) > BODY_BYTES:
            raise _too_large()
        raw = bytearray()
        try:
            async with asyncio.timeout(BODY_S):
                async for chunk in self.stream():
                    raw += chunk
                    if len(raw) > BODY_BYTES:
                        raise _too_large()
        except TimeoutError:
            raise ProblemError(408, "slow-body", f"the body took longer than {BODY_S:g} s") from None
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if raw and kind != "application/json":
            # Forms of a foreign page cannot be sent as JSON without the browser asking us first.
            raise ProblemError(415, "media-type", f"content-type: got {kind!r}, expected application/json")
        return bytes(raw)


def parse_json(raw: bytes) -> object:
    """Return the document in `raw`: no double keys, no NaN or infinity, at most DEPTH deep. Raises ProblemError 422."""
    if sum(raw.count(mark) for mark in (b"[", b"{", b",")) > MARKS:
        raise field_problem(BODY, f"{len(raw)} bytes", "a JSON document with fewer values")
    try:
        document = json.loads(raw, object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise field_problem(BODY, raw[:60].decode("utf-8", "replace"), f"a JSON document ({error})") from None
    _check(document)
    return document


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name[:40]!r} stands twice in one object")
        found[name] = value
    return found


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")


def _check(document: object) -> None:
    """Refuse what json.loads lets through: nesting that would trouble later readers, and 1e999 (infinity)."""
    level = [document]
    for _ in range(DEPTH + 1):
        if not level:
            return
        below: list[object] = []
        for value in level:
            if isinstance(value, dict):
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
            elif isinstance(value, float) and not math.isfinite(value):
                raise field_problem(BODY, "a number too large", "finite numbers")
        level = below
    raise _too_deep()


def _too_deep() -> ProblemError:
    return field_problem(BODY, "deeper nesting", f"JSON at most {DEPTH} deep")


def _too_large() -> ProblemError:
    return ProblemError(413, "too-large", f"the body is too large, expected at most {BODY_BYTES} bytes")
