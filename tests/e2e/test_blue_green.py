"""Blue/green through real processes: warmed up by copies, switched, promoted, undone, aborted; every decision told."""

from collections import Counter
from collections.abc import Callable

import pytest

from router.control.webhooks.calls import signature_of
from tests.control.receiver import receiver
from tests.e2e.harness import Admin, Turnouts, config_for
from tests.e2e.load import Load, eventually
from tests.e2e.model_server import ModelServer
from tests.e2e.wire import Answer

SECRET = b"0123456789abcdef-e2e"
ROLLOUT = {
    "candidate": "v2",
    "policy": "blue_green",
    "rollback_window": "1h",
    "gates": [
        {"metric": "error_rate", "max_increase": "30pp", "name": "more_errors"},
        {"metric": "error_rate", "max": "30%", "name": "most_errors"},
    ],
    "steps": [
        {"mirror": "100%", "bake": "100ms", "min_pairs": 100, "gates": ["more_errors"]},
        {
            "weight": "100%", "mirror": "10%", "bake": "100ms", "min_requests": 100, "gates": ["most_errors"],
            "approval": True,
        },
    ],
}  # fmt: skip
"""The approval keeps it in the window for as long as the test looks at it."""


class Shares:
    """Whose answers the clients got."""

    def __init__(self, admin: Admin, load: Load) -> None:
        self._admin, self._load = admin, load
        self._got: Counter[int] = Counter()
        self.stages: list[str] = []
        load.on_answer = self._note

    def _note(self, answer: Answer) -> None:
        self._got[answer.json()["outputs"][0]["data"][0]] += 1

    async def after(self, stage: str, reached: Callable[[dict[str, object]], bool]) -> set[int]:
        """Return which labels come once the rollout is there, all workers route so, and older requests have ended."""

        async def there() -> bool:
            return reached(await self._admin.rollout())

        await eventually(there, within_s=40.0)
        await self._admin.until_routed()
        await self._load.until_answered(2 * self._load.clients)
        self._got.clear()
        await self._load.until_answered(300)
        self.stages.append(f"{stage}: {dict(self._got)}")
        return set(self._got)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_blue_green_rollout_from_shadow_to_promotion_and_back(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """All of the traffic moves at once and comes back at once, twice; no client sees an error."""
    old, new = stable.label, candidate.label
    (turnouts.directory / "secret").write_bytes(SECRET)
    async with receiver() as chat:
        config = config_for(stable, candidate, rollout=ROLLOUT, timeouts={"connect": "1s", "total": "1s"})
        config["webhooks"] = {
            "allow": ["127.0.0.1"],
            "secret_file": "secret",
            "hooks": [{"name": "chat", "type": "event", "url": chat.url}],
        }
        serve = await turnouts.start(config)
        admin = Admin(serve.port("admin"))
        await admin.until_routed()
        async with Load(serve.port("gateway")).running() as load:
            shares = Shares(admin, load)
            assert await shares.after("switched", lambda now: now["step"] == 1) == {new}
            await admin.post("/rollout/approve", reason="seen")
            assert await shares.after("promoted", lambda now: now["phase"] == "promoted") == {new}
            await admin.post("/rollout/undo", reason="slow")
            assert await shares.after("undone", lambda now: now["stable"] == "v1") == {old}
            await admin.post("/rollout/retry", reason="again")
            assert await shares.after("switched again", lambda now: now["step"] == 1) == {new}
            await admin.post("/rollout/abort", reason="no")
            assert await shares.after("aborted", lambda now: now["phase"] == "rolled_back") == {old}
        assert load.errors == []
        told = await chat.until(8)
    decisions = [one.json["decision"] for one in told]
    assert [one["kind"] for one in decisions] == [
        "start", "advance", "approve", "promote", "undo", "start", "advance", "roll_back",
    ]  # fmt: skip
    assert [one["actor"] for one in decisions[:4]] == ["config:file", "control", "operator:local", "control"]
    for one in told:
        assert one.headers["x-turnout-signature"] == signature_of(SECRET, one.headers["x-turnout-timestamp"], one.body)
    assert SECRET.decode() not in serve.log
    copies = sum(seen.is_copy for seen in candidate.seen)
    figure(f"{'; '.join(shares.stages)}; {copies} copies warmed the new side up")
