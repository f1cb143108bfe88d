"""One call of a webhook: what the receiver gets, and what is made of its answer. A real receiver."""

import asyncio
import hashlib
import hmac
import io
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from router.control.webhooks.calls import SAID_CHARS, Answer, Caller, Message, signature_of
from router.control.webhooks.transport import CheckedTransport, resolve
from router.core.addresses import AllowList
from router.core.config import LogConfig, WebhookSpec
from router.telemetry import logs
from router.testing import ManualClock
from tests.control.receiver import Receiver, receiver, silence, status

SECRET = b"canary-3f1c9a4be2d07751"
MESSAGE = Message("digits/7/confirm-promotion", b'{"a":1}')


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    """A Caller that may go to loopback."""
    inner = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=0), trust_env=False)
    made = Caller(SECRET, CheckedTransport(AllowList(["127.0.0.1"]), resolve, inner), ManualClock(1_800_000_000.75))
    yield made
    await made.aclose()


def spec(hook: Receiver, timeout_s: float = 10.0) -> WebhookSpec:
    """Return a gate at this receiver."""
    return WebhookSpec("board", "confirm-promotion", hook.url, timeout_s=timeout_s)


async def test_a_call_is_a_signed_post(caller: Caller) -> None:
    """Whoever knows the secret can tell that it is ours, when it was made, and that nobody changed it."""
    async with receiver() as hook:
        assert await caller(spec(hook), MESSAGE) == Answer("ok", "answered 200")
    (got,) = hook.received
    assert (got.line, got.body) == ("POST /hook HTTP/1.1", MESSAGE.body)
    expected = hmac.new(SECRET, b"1800000000." + got.body, hashlib.sha256).hexdigest()
    wanted = {
        "content-type": "application/json",
        "x-turnout-id": "digits/7/confirm-promotion",
        "x-turnout-type": "confirm-promotion",
        "x-turnout-timestamp": "1800000000",
        "x-turnout-signature": f"v1={expected}",
    }
    assert wanted == {name: got.headers[name] for name in wanted}


def test_another_body_time_or_secret_is_another_signature() -> None:
    """The dot keeps digits of the time from passing for digits of the body."""
    found = {
        signature_of(SECRET, "1", b"23"),
        signature_of(SECRET, "12", b"3"),
        signature_of(SECRET, "1", b"24"),
        signature_of(b"another", "1", b"23"),
    }
    assert len(found) == 4


@pytest.mark.parametrize("code", [200, 201, 204, 299])
async def test_every_2xx_agrees(caller: Caller, code: int) -> None:
    """Whatever stands in the body."""
    async with receiver(status(code, "no!" if code != 204 else "")) as hook:
        assert (await caller(spec(hook), MESSAGE)).ok


@pytest.mark.parametrize("code", [301, 302, 307, 400, 401, 404, 409, 429, 500, 503])
async def test_everything_else_refuses_in_the_receivers_words(caller: Caller, code: int) -> None:
    """Redirects too: they are not followed."""
    where = "location: http://127.0.0.1:1/\r\n"
    async with receiver(status(code, "not before\r\nMonday\n", where)) as hook:
        assert await caller(spec(hook), MESSAGE) == Answer("refused", f"answered {code}: not before Monday")


async def test_what_a_refusal_says_is_bounded_and_cannot_forge_a_line(caller: Caller) -> None:
    """A megabyte of it is neither read nor shown; controls, colours and bytes that are no text are written out."""
    words = "\x1b[31mred\x00 \u202e" + "x" * 1_000_000
    async with receiver(status(403, words)) as hook:
        answer = await caller(spec(hook), MESSAGE)
    assert answer.said.startswith("answered 403: \\x1b[31mred\\x00 \\u202exxx")
    assert len(answer.said) < SAID_CHARS + 50
    assert answer.said.isprintable()


@pytest.mark.parametrize(
    "reply", [silence, lambda _: b"HTTP/1.1 403 X\r\ncontent-length: 9\r\n\r\nslow"], ids=["head", "body"]
)
async def test_a_receiver_that_hangs_is_given_up(caller: Caller, reply: Callable[[object], bytes | None]) -> None:
    """Before its head, or within the body of a refusal."""
    async with receiver(reply) as hook:
        hook.holds = True
        answer = await asyncio.wait_for(caller(spec(hook, timeout_s=0.05), MESSAGE), 10)
    assert answer == Answer("timeout", "did not answer within 0.05 s")


async def test_an_agreement_does_not_wait_for_its_body(caller: Caller) -> None:
    """The status line says it all."""
    async with receiver(lambda _: b"HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\n") as hook:
        assert (await caller(spec(hook), MESSAGE)).ok


@pytest.mark.parametrize(
    ("url", "result", "said"),
    [
        ("http://127.0.0.1:1/", "failed", "ConnectError"),
        ("http://hooks.example.com/", "forbidden", "hooks.example.com is not in webhooks.allow"),
        ("http://[::1]:9/", "forbidden", "::1 is not in webhooks.allow"),
    ],
)
async def test_what_cannot_or_must_not_be_reached_says_so(caller: Caller, url: str, result: str, said: str) -> None:
    """Without an exception: there is no way to forget to catch one."""
    answer = await caller(WebhookSpec("x", "event", url), MESSAGE)
    assert answer.result == result
    assert said in answer.said


@pytest.mark.parametrize(
    "reply",
    [lambda _: b"", lambda _: b"SSH-2.0-OpenSSH_9.2\r\n\r\n", lambda _: b"\x00" * 200_000],
    ids=["nothing", "ssh", "zeros"],
)
async def test_an_answer_that_is_no_http_has_failed(caller: Caller, reply: Callable[[object], bytes | None]) -> None:
    """An empty one, another protocol, bytes without end."""
    async with receiver(reply) as hook:
        answer = await caller(spec(hook), MESSAGE)
    assert answer.result == "failed"
    assert answer.said.isprintable()


async def test_a_cancelled_call_closes_its_connection(caller: Caller) -> None:
    """Nothing is left open at the receiver."""
    async with receiver(silence) as hook:
        call = asyncio.create_task(caller(spec(hook), MESSAGE))
        await hook.until(1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_se9_the_secret_is_in_no_log_line_and_no_answer(caller: Caller) -> None:
    """At level debug, with every way a call can end, and in what the objects say of themselves."""
    stream = io.StringIO()
    logs.configure(LogConfig(level="debug", format="json"), process="test", stream=stream)
    said = [repr(caller), repr(vars(caller).keys())]
    try:
        async with receiver(status(500, "oops")) as hook:
            urls = (hook.url, "http://127.0.0.1:1/", "http://elsewhere.example/")
            said += [repr(await caller(WebhookSpec("x", "event", url), MESSAGE)) for url in urls]
    finally:
        logs.configure(LogConfig(), process="test")
    for text in (*said, stream.getvalue()):
        assert SECRET.decode() not in text
