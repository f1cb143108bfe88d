"""SE2 and SE3: who may call what. The matrix is literal: a route that is not in it fails the test."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.routing import Route

from router.admin.access import ROLE
from tests.admin.desk import BLOCK, ROLLOUT, TOKENS, Desk, config, desk_for, memory_store, problem

CALLERS = ("none", "viewer", "operator", "admin")

MATRIX: dict[tuple[str, str], tuple[bool, bool, bool, bool]] = {
    ("GET", "/healthz"): (True, True, True, True),
    ("GET", "/readyz"): (True, True, True, True),
    ("GET", "/metrics"): (False, True, True, True),
    ("GET", "/openapi.json"): (False, True, True, True),
    ("POST", "/v1/reload"): (False, False, False, True),
    ("GET", "/v1/routes"): (False, True, True, True),
    ("GET", "/v1/routes/{route}"): (False, True, True, True),
    ("GET", "/v1/routes/{route}/rollout"): (False, True, True, True),
    ("GET", "/v1/routes/{route}/explain"): (False, True, True, True),
    ("GET", "/v1/routes/{route}/pairs"): (False, True, True, True),
    ("GET", "/v1/routes/{route}/decisions"): (False, True, True, True),
    ("GET", "/v1/routes/{route}/evidence"): (False, True, True, True),
    ("GET", "/v1/routes/{route}/timeline"): (False, True, True, True),
    ("POST", "/v1/routes/{route}/rollouts"): (False, False, True, True),
    ("PATCH", "/v1/routes/{route}/rollout"): (False, False, True, True),
    ("POST", "/v1/routes/{route}/rollout/pause"): (False, False, True, True),
    ("POST", "/v1/routes/{route}/rollout/resume"): (False, False, True, True),
    ("POST", "/v1/routes/{route}/rollout/promote"): (False, False, True, True),
    ("POST", "/v1/routes/{route}/rollout/abort"): (False, False, True, True),
    ("POST", "/v1/routes/{route}/rollout/retry"): (False, False, True, True),
    ("POST", "/v1/routes/{route}/rollout/undo"): (False, False, True, True),
    ("POST", "/v1/routes/{route}/rollout/approve"): (False, False, True, True),
    ("POST", "/v1/feedback"): (False, False, True, True),
}
"""(method, path) -> whether none, viewer, operator, admin may."""

BODIES: dict[tuple[str, str], object] = {
    ("POST", "/v1/routes/{route}/rollouts"): BLOCK,
    ("PATCH", "/v1/routes/{route}/rollout"): {"weight": "1%"},
    ("POST", "/v1/feedback"): [{"request_id": "r1", "label": "7"}],
}


@pytest.fixture
async def guarded() -> AsyncIterator[Desk]:
    """The admin API with one token for each role; the client sends none by itself."""
    store = memory_store()
    async with desk_for(store, config(tokens=True)) as made:
        yield made


def bearer(role: str) -> dict[str, str]:
    """Return the header of a caller."""
    return {} if role == "none" else {"authorization": f"Bearer {TOKENS[role]}"}


def operations(desk: Desk) -> set[tuple[str, str]]:
    """Return every (method, path) that the application would serve, whatever its description says."""
    found = set()
    for route in desk.app.routes:
        assert isinstance(route, Route), f"{route!r} is no plain route: say in this test who may use it"
        found |= {(method, route.path) for method in route.methods or ()}
    return found


async def test_se2_every_operation_stands_in_the_matrix(guarded: Desk) -> None:
    """What is served and what is described are the same, and both are what the matrix says."""
    document = guarded.app.openapi()
    described = {
        (method.upper(), path): operation[ROLE]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert operations(guarded) == set(MATRIX) == set(described)
    assert {key: CALLERS[allowed.index(True)] for key, allowed in MATRIX.items()} == described


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("operation", MATRIX, ids=lambda key: f"{key[0]} {key[1]}")
async def test_se2_who_may_call_what(guarded: Desk, operation: tuple[str, str], caller: str) -> None:
    """Without a token 401, with too low a role 403; else it is carried out, or refused for a reason of its own."""
    method, path = operation
    answer = await guarded.client.request(
        method, path.format(route="digits"), headers=bearer(caller), json=BODIES.get(operation)
    )
    if MATRIX[operation][CALLERS.index(caller)]:
        assert answer.status_code in {200, 201, 409}, answer.text
    elif caller == "none":
        problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")
    else:
        document = problem(answer, 403)
        needed = CALLERS[MATRIX[operation].index(True)]
        assert (f"{caller}-token" in document["detail"], document["needed"]) == (True, needed)


async def test_se2_a_route_without_a_role_cannot_be_made(guarded: Desk) -> None:
    """It is refused when the application is built, not left open."""

    async def handler() -> None:
        """Do nothing."""

    with pytest.raises(ValueError, match="/forgotten: x-turnout-role is None"):
        guarded.app.add_api_route("/forgotten", handler)


async def test_a_refused_caller_changes_nothing_and_its_body_is_not_read(guarded: Desk) -> None:
    """Not even to say what is wrong with it."""
    for caller, status in (("none", 401), ("viewer", 403)):
        answer = await guarded.client.post(f"{ROLLOUT}s", headers=bearer(caller), content=b"[" * 100_000)
        problem(answer, status)
    assert await guarded.store.read_states(("digits",)) == {}


async def test_a_decision_names_the_token_and_never_holds_it(guarded: Desk) -> None:
    """The ledger says who; neither it nor any answer says with what."""
    answer = await guarded.client.post(f"{ROLLOUT}s", headers=bearer("operator"), json=BLOCK)
    assert answer.status_code == 201
    answer = await guarded.client.get("/v1/routes/digits/decisions", headers=bearer("viewer"))
    assert [one["actor"] for one in answer.json()] == ["operator:operator-token"]
    assert TOKENS["operator"] not in answer.text


@pytest.mark.parametrize(
    "header",
    [
        "", "Bearer", "Bearer ", "bearer", TOKENS["admin"], f"Basic {TOKENS['admin']}", f"Bearer{TOKENS['admin']}",
    ],
)  # fmt: skip
async def test_anything_but_a_bearer_token_is_no_token(guarded: Desk, header: str) -> None:
    """Also not the right token under another scheme."""
    problem(await guarded.client.get("/v1/routes", headers={"authorization": header}), 401)


async def test_a_token_in_the_url_or_twice_in_the_head_is_not_taken(guarded: Desk) -> None:
    """URLs end up in logs; two headers could mean two things."""
    token = TOKENS["admin"]
    for query in (f"?token={token}", f"?access_token={token}", f"?authorization=Bearer%20{token}"):
        problem(await guarded.client.get(f"/v1/routes{query}"), 401)
    double = httpx.Headers([("authorization", f"Bearer {token}"), ("authorization", f"Bearer {token}")])
    problem(await guarded.client.get("/v1/routes", headers=double), 401)


async def test_se3_ten_wrong_tokens_a_minute_then_429(guarded: Desk) -> None:
    """A thousand wrong ones get nowhere, the right one still works, and after a minute they may try again."""
    wrong = {"authorization": "Bearer turnout_wrong"}
    found = [(await guarded.client.get("/v1/routes", headers=wrong)).status_code for _ in range(1_000)]
    assert found == [401] * 10 + [429] * 990
    answer = await guarded.client.get("/v1/routes", headers=wrong)
    problem(answer, 429)
    assert answer.headers["retry-after"] == "60"
    assert (await guarded.client.get("/v1/routes", headers=bearer("viewer"))).status_code == 200
    guarded.clock.advance(60)
    problem(await guarded.client.get("/v1/routes", headers=wrong), 401)


async def test_with_tokens_loopback_needs_one_too() -> None:
    """Configured tokens mean that nobody is trusted by place."""
    async with desk_for(memory_store(), config(tokens=True)) as desk:
        problem(await desk.client.post(f"{ROLLOUT}/pause"), 401)


async def test_without_tokens_loopback_is_the_operator() -> None:
    """On one's own machine nothing stands in the way, and the ledger says so."""
    async with desk_for(memory_store(), config()) as desk:
        await desk.start()
        assert [one["actor"] for one in await desk.get("/v1/routes/digits/decisions")] == ["operator:local"]


def test_the_documentation_lists_every_operation_with_its_role() -> None:
    """docs/admin-api.md says the same as the matrix."""
    text = (Path(__file__).parents[2] / "docs" / "admin-api.md").read_text()
    rows = [line.split("|") for line in text.splitlines() if line.startswith(("| `GET", "| `POST", "| `PATCH"))]
    documented = {tuple(row[1].strip(" `").split(" ", 1)): row[-2].strip() for row in rows}
    assert documented == {key: CALLERS[allowed.index(True)] for key, allowed in MATRIX.items()}
