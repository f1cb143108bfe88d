"""One call of a webhook: signed, bounded in time and size, and answered by what is to be made of it."""

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx

from router.control.webhooks.transport import ForbiddenAddressError
from router.core.config import WebhookSpec
from router.telemetry.logs import escape

SAID_BYTES = 1_024
SAID_CHARS = 200
"""How much of a refusal is read, and shown. Chosen: a sentence, not a page."""

SIGNATURE, TIMESTAMP, ID, TYPE = (
    "x-turnout-signature", "x-turnout-timestamp", "x-turnout-id", "x-turnout-type",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Message:
    """What a webhook is told. `id` is the same for every try, so that a receiver can tell a repetition."""

    id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: `result` is `ok` for 2xx, else `refused`, `timeout`, `failed` or `forbidden`.

    `said` is a sentence for people, of bounded length and printable.
    """

    result: str
    said: str

    @property
    def ok(self) -> bool:
        """Whether the receiver agreed."""
        return self.result == "ok"


Call = Callable[[WebhookSpec, Message], Awaitable[Answer]]
"""Calls once; raises nothing but for cancellation."""


def signature_of(secret: bytes, timestamp: str, body: bytes) -> str:
    """Return `v1=` and the HMAC-SHA256, in hex, of the timestamp, a dot and the body."""
    digest = hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256)
    return f"v1={digest.hexdigest()}"


class Caller:
    """Makes calls through one client. `now_s` is the wall clock. The secret is in no representation of it."""

    def __init__(self, secret: bytes, transport: httpx.AsyncBaseTransport, now_s: Callable[[], float]) -> None:
        self._secret = secret
        self._now_s = now_s
        self._client = httpx.AsyncClient(
            transport=transport,
            trust_env=False,
            follow_redirects=False,
            timeout=None,  # noqa: S113 - each call has one deadline for all of it, resolving and reading too
        )

    async def __call__(self, hook: WebhookSpec, message: Message) -> Answer:
        """Tell `hook` the message once; the whole call takes at most `hook.timeout_s`."""
        timestamp = str(int(self._now_s()))  # of this try: a receiver refuses old ones, so a repetition is signed anew
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": "turnout",
            ID: message.id,
            TYPE: hook.type,
            TIMESTAMP: timestamp,
            SIGNATURE: signature_of(self._secret, timestamp, message.body),
        }
        try:
            async with (
                asyncio.timeout(hook.timeout_s),
                self._client.stream("POST", hook.url, content=message.body, headers=headers) as response,
            ):
                if response.is_success:
                    return Answer("ok", f"answered {response.status_code}")
                return Answer("refused", await _refusal(response))
        except TimeoutError:
            return Answer("timeout", f"did not answer within {hook.timeout_s:g} s")
        except ForbiddenAddressError as error:
            return Answer("forbidden", _shown(str(error)))
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return Answer("failed", _shown(f"{type(error).__name__}: {error}".rstrip(": ")))

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()


async def _refusal(response: httpx.Response) -> str:
    read = b""
    async for part in response.aiter_raw():
        read += part
        if len(read) >= SAID_BYTES:
            break
    words = _shown(" ".join(read[:SAID_BYTES].decode(errors="replace").split()))
    return f"answered {response.status_code}" + (f": {words}" if words else "")


def _shown(text: str) -> str:
    return escape(text if len(text) <= SAID_CHARS else f"{text[:SAID_CHARS]}...")
