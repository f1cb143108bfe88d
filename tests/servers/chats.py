"""Questions to chat servers, and what in their answers is drawn anew each time."""

import json
import re
from collections.abc import Sequence

from tests.e2e.wire import request
from tests.servers.journey import Question

CHAT = "/v1/chat/completions"
WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight")

_DRAWN = re.compile(rb'"(id|created|system_fingerprint)": ?("[^"]*"|\d+|null)')


def question(text: str, v1: str, v2: str, *, stream: bool, headers: Sequence[tuple[str, str]] = ()) -> Question:
    """Return a chat of one message."""
    body = {"model": "parrot", "messages": [{"role": "user", "content": text}], "stream": stream}
    return Question((("content-type", "application/json"), *headers), json.dumps(body).encode(), v1, v2)


def ask(number: int, asked: Question) -> bytes:
    """Return what a client sends."""
    return request("POST", CHAT, asked.body, {**dict(asked.headers), "x-user-id": f"user-{number}"})


def lasting(body: bytes) -> bytes:
    """Return an answer or a stream without ids and times: all other bytes must be as the server sends them."""
    return _DRAWN.sub(rb'"\1"', body)
