"""The receiver in docs/webhooks.md is run as it stands there, and told apart from a forgery."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from router.control.webhooks import build, calls
from router.control.webhooks.bodies import event_message
from router.control.webhooks.calls import Answer, Caller, Message
from router.core.config import WebhooksConfig, WebhookSpec
from router.core.decisions import Actor, ActorKind, Judgement, Start
from router.core.moments import Moment
from router.core.moves import make_move
from router.core.rollout import Spec, Step, idle_state
from router.testing import ManualClock

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "webhooks.md").read_text()
SECRET = "0123456789abcdef-docs"


@pytest.fixture
def port() -> Iterator[int]:
    """Keep a port of loopback from everybody but a server that sets SO_REUSEADDR, as Python's does."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


def news(reason: str) -> Message:
    """Return the news of a start."""
    start = Start(
        reason=reason, rollout_id="abc.1", spec=Spec("v2", "canary"), steps=(Step(),),
        actor=Actor(ActorKind.OPERATOR, "olga"),
    )  # fmt: skip
    move = make_move(idle_state("digits", "v1", 0.0), (start,), Judgement(), 1.0)
    assert move.record is not None
    return event_message(move.record, move.state)


async def tried(caller: Caller, url: str, message: Message) -> Answer:
    """Call until the receiver listens, at most 30 s."""
    async with asyncio.timeout(30):
        while (answer := await caller(WebhookSpec("docs", "event", url), message)).result == "failed":  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return answer


async def test_the_receiver_of_the_docs_takes_what_is_ours_and_nothing_else(tmp_path: Path, port: int) -> None:
    """It prints what happened; another secret, or a call of yesterday, gets a 401."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    script = tmp_path / "receiver.py"
    script.write_text(code)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "WEBHOOK_SECRET": SECRET, "PORT": str(port)},
    )  # fmt: skip
    callers = [
        Caller(secret.encode(), httpx.AsyncHTTPTransport(), now_s)
        for secret, now_s in (
            (SECRET, time.time), ("another secret...", time.time), (SECRET, ManualClock(time.time() - 86_400)),
        )
    ]  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}/"
        answers = [await tried(caller, url, news(f"call {number}")) for number, caller in enumerate(callers)]
    finally:
        process.kill()
        printed, _ = await process.communicate()
        for caller in callers:
            await caller.aclose()
    assert [answer.said[:12] for answer in answers] == ["answered 204", "answered 401", "answered 401"]
    assert printed == b"call 0\n"


def test_the_payload_of_the_docs_has_the_fields_of_the_real_one() -> None:
    """Field by field."""
    event, gate = (json.loads(one) for one in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL))
    real = json.loads(news("x").body)
    assert (list(event), list(event["metadata"])) == (list(real), list(real["metadata"]))
    assert set(event["decision"]) == set(real["decision"])
    assert set(event["decision"]["judgement"]) == set(real["decision"]["judgement"])
    assert list(gate) == ["rollout"]


def test_every_type_of_webhook_and_every_header_is_described() -> None:
    """And the build of the real thing knows the example's settings."""
    for name in (*Moment, calls.ID, calls.TYPE, calls.TIMESTAMP, calls.SIGNATURE):
        assert f"| `{name}` |" in PAGE
    assert not build(WebhooksConfig(), b"", ManualClock(), ManualClock(), lambda: 0.0).tells
