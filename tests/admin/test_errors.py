"""Every error is a problem document that says what happened, what was expected and what to do."""

import io
import json
from typing import Any

import pytest

from router.core.config import LogConfig
from router.core.rollout import RolloutState
from router.store.redis import RedisStore
from router.telemetry import logs
from router.testing import MemoryStore
from tests.admin.desk import BLOCK, ROLLOUT, Desk, config, desk_for, memory_store, problem


async def test_an_unknown_route_is_404_with_the_known_ones(desk: Desk) -> None:
    """On every path below it."""
    for path in ("", "/rollout", "/pairs", "/decisions", "/evidence"):
        document = problem(await desk.client.get(f"/v1/routes/digit{path}"), 404)
        assert document["known"] == ["digits", "opaque"]
    problem(await desk.client.post("/v1/routes/digit/rollouts", json=BLOCK), 404)
    problem(await desk.client.patch("/v1/routes/digit/rollout", json={"weight": "1%"}), 404)


@pytest.mark.parametrize(
    "name", ["%0d%0aSet-Cookie:x=1", "%00", "<img src=x onerror=alert(1)>", "%E2%80%AE", "a" * 5_000]
)
async def test_se8_a_hostile_name_breaks_no_line(desk: Desk, name: str) -> None:
    """It comes back as ASCII within JSON, and in no header."""
    answer = await desk.client.get(f"/v1/routes/{name}")
    problem(answer, 404)
    assert answer.text.isascii()
    assert answer.text.isprintable()
    assert "set-cookie" not in answer.headers


async def test_what_is_not_there_is_404_and_what_cannot_be_done_405(desk: Desk) -> None:
    """Also the framework's own errors are problem documents; a 405 names what is allowed."""
    problem(await desk.client.get("/nowhere"), 404)
    problem(await desk.client.get("/v1/routes/"), 404)
    problem(await desk.client.get("/docs"), 404)
    answer = await desk.client.delete(ROLLOUT)
    problem(answer, 405)
    assert "GET" in answer.headers["allow"] or "PATCH" in answer.headers["allow"]


@pytest.mark.parametrize(
    ("body", "field", "expected"),
    [
        ({"weight": 10}, "weight", "10%"),
        ({"weight": "110%"}, "weight", "0% to 100%"),
        ({"weight": "ten"}, "weight", "a share like 10%"),
        ({"wieght": "10%"}, "wieght", "did you mean weight?"),
        ({"policy": "rainbow"}, "policy", "blue_green"),
        ({"policy": 7}, "policy", "text"),
        ({"steps": [{"weight": "1%"}, {"gates": ["beauty"]}]}, "steps[1].gates", "a gate of the rollout: none"),
        ({"steps": "all"}, "steps", "a list"),
        ({"steps": [{"weight": "1%", "bake": 60}]}, "steps[0].bake", "60s"),
        ({"weight": "1%", "reason": "x" * 501}, "reason", "500"),
        ({"weight": "1%", "reason": "a\nb"}, "reason", "control characters"),
        ({"weight": "1%", "reason": "a\u202eb"}, "reason", "control characters"),
        ({"weight": "1%", "reason": "a\x00b"}, "reason", "control characters"),
        ({"weight": "1%", "reason": ["because"]}, "reason", "text"),
        ({"reason": "no change"}, "body", "at least one of weight, mirror, policy, steps"),
        ({"weight": None}, "body", "at least one"),
        ({}, "body", "at least one"),
        ([], "body", "JSON object"),
        ("weight", "body", "JSON object"),
    ],
)
async def test_a_bad_change_names_field_value_and_what_was_expected(
    desk: Desk, body: object, field: str, expected: str
) -> None:
    """422, and nothing is changed."""
    await desk.start()
    document = problem(await desk.client.patch(ROLLOUT, json=body), 422)
    assert document["field"] == field
    assert expected in document["expected"]
    assert "value" in document
    assert document["errors"][0]["field"] == field
    assert (await desk.get(ROLLOUT))["revision"] == 1


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"candidate": "v9"}, "candidate", "v3"),
        ({"candidate": "v1"}, "candidate", "another variant than the stable one"),
        ({"policy": "rainbow"}, "policy", "shadow"),
        ({"alpha": 2}, "alpha", "0.5"),
        ({"steps": [{"weight": "1%"}, {"weight": "1%", "bake": 60}]}, "steps[1].bake", "60s"),
        ({"gates": [{"metric": "beauty"}]}, "gates[0].metric", "error_rate"),
        ({"candiate": "v2"}, "candiate", "candidate"),
        ({"reason": "a\rb"}, "reason", "one line"),
        ({"reason": 7}, "reason", "one line"),
    ],
)
async def test_a_bad_rollout_block_gets_the_same_errors_as_in_the_file(
    desk: Desk, changes: dict[str, Any], field: str, expected: str
) -> None:
    """422 by the settings' own checks, and nothing is started."""
    document = problem(await desk.client.post(f"{ROLLOUT}s", json={**BLOCK, **changes}), 422)
    assert document["field"] == field
    assert expected in document["expected"]
    assert await desk.store.read_states(("digits",)) == {}


async def test_all_that_is_wrong_is_said_at_once(desk: Desk) -> None:
    """Not one error for each try."""
    body = {"candidate": "v9", "policy": "rainbow", "alpha": 7}
    document = problem(await desk.client.post(f"{ROLLOUT}s", json=body), 422)
    assert {one["field"] for one in document["errors"]} == {"candidate", "policy", "alpha"}


async def test_copies_on_a_route_that_must_not_be_sent_twice_are_refused_with_the_way_out(desk: Desk) -> None:
    """At the start as for the file, on a running rollout as a conflict."""
    document = problem(await desk.client.post("/v1/routes/opaque/rollouts", json=BLOCK), 422)
    assert document["field"] == "mirror_safe"
    body = {"candidate": "v2", "policy": "canary", "steps": [{"weight": "1%"}]}
    assert (await desk.client.post("/v1/routes/opaque/rollouts", json=body)).status_code == 201
    document = problem(await desk.client.patch("/v1/routes/opaque/rollout", json={"mirror": "1%"}), 409)
    assert "mirror_safe: true" in document["detail"]


async def test_se6_a_body_over_1_mib_is_413(desk: Desk) -> None:
    """By its declared length at once, and without one as soon as it is too long."""
    big = b" " * (2**20 + 1)
    headers = {"content-type": "application/json"}
    problem(await desk.client.patch(ROLLOUT, content=big, headers=headers), 413)
    sent = 0

    async def chunks() -> Any:  # noqa: ANN401 - an async generator
        nonlocal sent
        for _ in range(1_000):
            sent += 1
            yield b" " * 2**16

    problem(await desk.client.patch(ROLLOUT, content=chunks(), headers=headers), 413)
    assert sent <= 20
    for length in ("x", "-1", "9" * 30):
        problem(await desk.client.patch(ROLLOUT, content=b"{}", headers={**headers, "content-length": length}), 413)


async def test_se6_hostile_json_is_422(desk: Desk) -> None:
    """Through the whole application: what tests/admin/test_bodies.py asks of the parser alone."""
    headers = {"content-type": "application/json"}
    for content in (b"[" * 100_000, b'{"weight":' + b"1" * 1_000_000 + b"}", b'{"weight":"1%","weight":"2%"}', b"{"):
        problem(await desk.client.patch(ROLLOUT, content=content, headers=headers), 422)


async def test_a_lost_store_is_503_with_retry_after() -> None:
    """A command says that it may or may not have been carried out; traffic is not touched by it."""
    store = memory_store()
    async with desk_for(store, config()) as desk:
        await desk.start()
        store.server.cut()
        for answer in (
            await desk.client.get("/v1/routes"),
            await desk.client.get(ROLLOUT),
            await desk.client.post(f"{ROLLOUT}/abort"),
            await desk.client.get("/readyz"),
        ):
            document = problem(answer, 503)
            assert answer.headers["retry-after"] == "1"
            assert "may or may not" in document["detail"]
        assert (await desk.client.get("/healthz")).status_code == 200
        store.server.mend()
        assert (await desk.post("abort"))["phase"] == "rolled_back"


async def test_a_store_that_was_never_there_is_503_too() -> None:
    """A real client, and no server."""
    store = RedisStore("unix:///nowhere/at/all")
    async with desk_for(store, config()) as desk:
        problem(await desk.client.get("/v1/routes"), 503)
    await store.close()


async def test_cl10_an_unreadable_state_is_told_with_its_repair_and_hides_no_other_route() -> None:
    """503 for that Route alone, also for commands; the list shows it as it was last, with the reason; metrics count."""
    store = memory_store()
    async with desk_for(store, config()) as desk:
        await desk.start()
        await desk.get("/v1/routes")
        store.server.states["digits"] = b'{"v": 1, "route": "<img src=x onerror=alert(1)>"}'
        for answer in (
            await desk.client.get("/v1/routes/digits"),
            await desk.client.get(ROLLOUT),
            await desk.client.post(f"{ROLLOUT}/abort", json={}),
        ):
            document = problem(answer, 503)
            assert document["type"] == "urn:turnout:problem:state-unreadable"
            assert document["routes"] == ["digits"]
            assert "delete the key 'turnout:{digits}:state'" in document["detail"]
            assert "<img" not in answer.text
        assert (await desk.get("/v1/routes/opaque"))["rollout"]["phase"] == "idle"
        digits, opaque = await desk.get("/v1/routes")
        assert (digits["phase"], digits["revision"], opaque["drift"]) == ("progressing", 1, None)
        assert "cannot be read" in digits["drift"]


class Broken(MemoryStore):
    """A store with a bug."""

    async def read_states(self, routes: object) -> dict[str, RolloutState]:
        """Fail in a way that nobody expects."""
        raise LookupError(f"secret-internals of {routes}")


async def test_an_unexpected_error_is_500_without_internals() -> None:
    """The log has them, in one line."""
    stream = io.StringIO()
    logs.configure(LogConfig(format="json"), process="test", stream=stream)
    async with desk_for(Broken(), config()) as desk:
        answer = await desk.client.get(ROLLOUT)
    logs.configure(LogConfig(), process="test")
    problem(answer, 500)
    assert "secret-internals" not in answer.text
    assert "LookupError" not in answer.text
    (line,) = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (line["event"], line["path"]) == ("a request has failed", ROLLOUT)
    assert "secret-internals" in line["error"]
