"""SE8: what an operator or a client writes into a name, a reason, an id or a label breaks no line and no header."""

import io
import json
from collections.abc import Iterator

import pytest
import structlog

from router.core.config import LogConfig
from router.telemetry import logs
from tests.admin.desk import ROLLOUT, Desk, problem

HOSTILE = {
    "crlf": "good\r\nlevel=error forged", "nul": "a\x00b", "next line": "a\u0085b", "separator": "a\u2028b",
    "escape": "\x1b[2Jgone", "direction": "a\u202egnp", "lone": "a\ud800b",
}  # fmt: skip
JSON = {"content-type": "application/json"}
FEEDBACK = "/v1/feedback"
ENCODED = "%0d%0aSet-Cookie: x=1 %00 %1b[2J"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Collects the process's log, from level debug on."""
    structlog.reset_defaults()
    stream = io.StringIO()
    logs.configure(LogConfig(level="debug", format="json"), process="control", stream=stream)
    yield stream
    structlog.reset_defaults()


def checked(stream: io.StringIO) -> list[dict[str, object]]:
    """Return the events, each of which must be one line of printable characters."""
    text = stream.getvalue()
    assert all(character.isprintable() or character == "\n" for character in text)
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
async def test_se8_a_hostile_reason_name_id_or_label_is_refused(desk: Desk, lines: io.StringIO, text: str) -> None:
    """422 that names the field, on one line; nothing of it is kept or logged raw."""
    await desk.start()
    revision = (await desk.get(ROLLOUT))["revision"]
    bodies = {
        ("POST", f"{ROLLOUT}/pause"): {"reason": text},
        ("PATCH", ROLLOUT): {"policy": text},
        ("POST", FEEDBACK): [{"request_id": text, "label": "7"}],
    }
    for (method, path), body in bodies.items():
        answer = await desk.client.request(method, path, content=json.dumps(body), headers=JSON)
        assert answer.status_code in {400, 409, 422}, answer.text
        assert answer.text.isascii()
        assert answer.text.isprintable()
        assert "set-cookie" not in answer.headers
    assert (await desk.get(ROLLOUT))["revision"] == revision
    checked(lines)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
async def test_se8_a_hostile_label_forges_nothing(desk: Desk, lines: io.StringIO, text: str) -> None:
    """A label may be any text but a lone surrogate; neither the answer nor a log line holds it raw."""
    await desk.start()
    answer = await desk.client.post(FEEDBACK, content=json.dumps([{"request_id": "r1", "label": text}]), headers=JSON)
    assert answer.status_code in ({200} if "\ud800" not in text else {400, 422})
    assert answer.text.isascii()
    assert answer.text.isprintable()
    checked(lines)


async def test_se8_what_is_encoded_stays_encoded(desk: Desk, lines: io.StringIO) -> None:
    """Nobody decodes a reason: it comes back as it was written, and so it stands in the log."""
    await desk.start()
    shown = await desk.post("pause", reason=ENCODED)
    assert shown["reason"] == ENCODED
    assert any(ENCODED in str(event.values()) for event in checked(lines))
    answer = await desk.client.get(f"/v1/routes/{ENCODED}")
    problem(answer, 404)
    assert "set-cookie" not in answer.headers
