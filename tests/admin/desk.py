"""The admin API on a store of its own, asked by httpx without a network."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from fastapi import FastAPI

from router.admin.app import create_app
from router.admin.reloads import Reloader
from router.admin.tokens import hash_token
from router.control.loop import ControlLoop
from router.core.config import TokenConfig, TurnoutConfig
from router.core.ports import Store
from router.core.rollout import Spec
from router.core.traffic import Backend, Match, Route, Variant
from router.plugins import load_policies
from router.testing import ManualClock, MemoryServer, MemoryStore

ROLES = ("viewer", "operator", "admin")
TOKENS = {role: f"turnout_made-up-token-of-{role}" for role in ROLES}

BLOCK: dict[str, Any] = {
    "candidate": "v2",
    "policy": "canary",
    "steps": [{"mirror": "100%"}, {"weight": "10%", "mirror": "5%"}, {"weight": "50%"}],
    "reason": "new model",
}
ROLLOUT = "/v1/routes/digits/rollout"


def route_named(name: str, *, mirror_safe: bool = True) -> Route:
    """Return a Route with the variants v1 (stable), v2 and v3."""
    variants = {
        variant: Variant(variant, (Backend("127.0.0.1", 9_000 + index),), health="/health", version=variant[1:])
        for index, variant in enumerate(("v1", "v2", "v3"))
    }
    return Route(name, Match(f"/{name}"), "open_inference", variants, "v1", mirror_safe=mirror_safe)


def config(*, tokens: bool = False, rollouts: dict[str, Spec] | None = None) -> TurnoutConfig:
    """Return two Routes; with `tokens` one for each role."""
    made = tuple(TokenConfig(f"{role}-token", role, hash_token(token, b"salt")) for role, token in TOKENS.items())
    return TurnoutConfig(
        routes={"digits": route_named("digits"), "opaque": route_named("opaque", mirror_safe=False)},
        rollouts=rollouts or {},
        tokens=made if tokens else (),
    )


@dataclass
class FakeProber:
    """Says of each variant what the test wrote down; well by default."""

    unwell: dict[str, str] = field(default_factory=dict)

    async def __call__(self, variant: Variant) -> str | None:
        """Answer as a Prober."""
        return self.unwell.get(variant.name)


@dataclass
class Desk:
    """One admin API and what is behind it."""

    app: FastAPI
    client: httpx.AsyncClient
    control: ControlLoop
    store: Store
    clock: ManualClock
    prober: FakeProber

    async def get(self, path: str, **options: Any) -> Any:  # noqa: ANN401 - any JSON
        """Return the document at `path`, which must be there."""
        answer = await self.client.get(path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, verb: str, **body: Any) -> Any:  # noqa: ANN401 - any JSON
        """Carry out an action on the rollout of `digits` that must succeed."""
        answer = await self.client.post(f"{ROLLOUT}/{verb}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def start(self, **changes: Any) -> Any:  # noqa: ANN401 - any JSON
        """Start the rollout BLOCK with `changes`, which must succeed."""
        answer = await self.client.post(f"{ROLLOUT}s", json={**BLOCK, **changes})
        assert answer.status_code == 201, answer.text
        return answer.json()


@asynccontextmanager
async def desk_for(
    store: Store, settings: TurnoutConfig, token: str | None = None, reloader: Reloader | None = None
) -> AsyncIterator[Desk]:
    """Build the admin API on `store`; `token` is what the client sends."""
    clock, prober = ManualClock(1_800_000_000.0), FakeProber()
    control = ControlLoop(
        config=settings, store=store, policies=load_policies(), prober=prober, boot="control-1",
        now_s=clock, monotonic=clock,
    )  # fmt: skip
    app = create_app(
        config=settings, store=store, control=control, now_s=clock, monotonic=clock, reloader=reloader
    )  # fmt: skip
    headers = {"authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8081", headers=headers) as client:
        yield Desk(app, client, control, store, clock, prober)


def memory_store() -> MemoryStore:
    """Return an empty store whose server a test can cut off."""
    return MemoryStore(MemoryServer())


def problem(answer: httpx.Response, status: int) -> Any:  # noqa: ANN401 - any JSON
    """Return the problem document of an answer that must be one with this status."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    document = answer.json()
    assert document["status"] == status
    assert document["type"]
    assert document["title"]
    assert document["detail"]
    return document


def fields(document: dict[str, Any], names: Sequence[str]) -> list[Any]:
    """Return some members of a document."""
    return [document[name] for name in names]
