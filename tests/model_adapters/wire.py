"""Requests, answers and variants as they stand on the wire, for the tests of all adapters."""

from typing import Any

import orjson

from router.core.inference import RawAnswer, RawRequest
from router.core.traffic import Backend, Variant

JSON = (("content-type", "application/json"),)


def post(target: str, body: object, *fields: tuple[str, str]) -> RawRequest:
    """Return a request; what is no bytes is sent as JSON."""
    return RawRequest("POST", target, (*(fields or JSON),), body if isinstance(body, bytes) else orjson.dumps(body))


def get(target: str) -> RawRequest:
    """Return a request without a body."""
    return RawRequest("GET", target, (), b"")


def said(body: object, kind: str = "application/json") -> RawAnswer:
    """Return an answer; what is no bytes is JSON."""
    return RawAnswer(200, (("content-type", kind),), body if isinstance(body, bytes) else orjson.dumps(body))


def variant(**parts: Any) -> Variant:  # noqa: ANN401 - any field of a Variant
    """Return a variant with these fields."""
    return Variant("v2", (Backend("127.0.0.1", 9001),), **parts)
