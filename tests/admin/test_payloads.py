"""PR5: who may see what is kept of bodies, and that each look leaves a line."""

import io
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
import structlog

from router.core.config import LogConfig
from router.core.observations import Payload
from router.core.ports import RecordBatch
from router.store.codec import encode_pairs
from router.telemetry import logs
from router.testing.samples import sample_pair
from tests.admin.desk import TOKENS, Desk, config, desk_for, memory_store, problem

PAIRS = "/v1/routes/digits/pairs"
KEPT = replace(sample_pair("digits", 1), payload=Payload('{"name":"anna"}', None, None))


@pytest.fixture
async def guarded() -> AsyncIterator[Desk]:
    """The admin API with one token for each role, and one pair with a payload and one without."""
    async with desk_for(memory_store(), config(tokens=True)) as made:
        pairs = [KEPT, sample_pair("digits", 2)]
        await made.store.append(RecordBatch("digits", KEPT.rollout, "g1", 1, 2, encode_pairs(pairs), {}), 2**26)
        yield made


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Collects the process's log."""
    structlog.reset_defaults()
    stream = io.StringIO()
    logs.configure(LogConfig(format="json"), process="control", stream=stream)
    yield stream
    structlog.reset_defaults()


def bearer(role: str) -> dict[str, str]:
    """Return the header of a caller."""
    return {"authorization": f"Bearer {TOKENS[role]}"}


async def test_pr5_a_viewer_sees_pairs_and_no_payload(guarded: Desk) -> None:
    """Asked for, it is refused with the role it needs; not asked for, there is no trace of it."""
    answer = await guarded.client.get(PAIRS, params={"payloads": "true"}, headers=bearer("viewer"))
    assert problem(answer, 403)["needed"] == "operator"
    for role in TOKENS:
        plain = await guarded.client.get(PAIRS, headers=bearer(role))
        assert (plain.status_code, "anna" in plain.text, "payload" in plain.text) == (200, False, False)


@pytest.mark.parametrize("role", ["operator", "admin"])
async def test_pr5_an_operator_sees_payloads_and_the_look_is_logged(
    guarded: Desk, role: str, lines: io.StringIO
) -> None:
    """One line with who, which Route and how many; nothing of the payload itself."""
    answer = await guarded.client.get(PAIRS, params={"payloads": "true"}, headers=bearer(role))
    assert [one["payload"] for one in answer.json()] == [
        None,
        {"request": {"name": "anna"}, "stable": None, "candidate": None},
    ]
    (line,) = [json.loads(one) for one in lines.getvalue().splitlines() if "payloads shown" in one]
    assert (line["actor"], line["route"], line["pairs"]) == (f"operator:{role}-token", "digits", 1)
    assert "anna" not in str(line)
