"""Canary through real processes: a tenth of the users, always the same ones, wherever they are asked."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from router.store.embedded import EmbeddedValkey
from tests.e2e.harness import Admin, Turnout, Turnouts, config_for
from tests.e2e.load import ask_all
from tests.e2e.model_server import BODY, INFER, ModelServer
from tests.e2e.wire import request

USERS = range(10_000)
SOME = range(1_000)
TENTH = {"candidate": "v2", "policy": "canary", "steps": [{"weight": "10%"}, {"weight": "25%"}]}

Sides = Mapping[int, int]
"""The label of the variant that answered each user."""


async def sides_of(turnout: Turnout, users: Iterable[int]) -> Sides:
    """Ask once for each user and return who answered; fails on any error."""
    asked = list(users)
    messages = (request("POST", INFER, BODY, {"x-user-id": f"user-{user}"}) for user in asked)
    answers = await ask_all(turnout.port("gateway"), messages)
    assert {answer.status for answer in answers} == {200}
    sides = {user: answer.json()["outputs"][0]["data"][0] for user, answer in zip(asked, answers, strict=True)}
    named = {"stable": 1, "candidate": 2}
    assert [named[answer.headers["x-turnout-variant"]] for answer in answers] == list(sides.values())
    return sides


def served(sides: Sides) -> set[int]:
    """Return the users that the candidate answered."""
    return {user for user, label in sides.items() if label == 2}


async def test_a_canary_at_10_percent_serves_a_tenth_of_10000_users_always_the_same(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, figure: Callable[[str], None]
) -> None:
    """Asked twice, each user gets the same side; after a restart too; and 25 % only adds users. Some of them twice."""
    config = config_for(stable, candidate, rollout=TENTH)
    serve = await turnouts.start(config)
    admin = Admin(serve.port("admin"))
    before = await admin.until_routed()
    assert before["exposure"]["weight_bp"] == 1_000
    first = await sides_of(serve, USERS)
    tenth = served(first)
    assert 910 <= len(tenth) <= 1_090
    assert await sides_of(serve, reversed(SOME)) == {user: first[user] for user in SOME}
    assert await serve.stop() == 0

    serve = await turnouts.start(config)
    admin = Admin(serve.port("admin"))
    after = await admin.until_routed()
    assert (after["id"], after["revision"], after["exposure"]) == (before["id"], before["revision"], before["exposure"])
    assert await sides_of(serve, SOME) == {user: first[user] for user in SOME}

    await admin.post("/rollout/promote", reason="the next step")
    assert (await admin.until_routed())["exposure"]["weight_bp"] == 2_500
    quarter = served(await sides_of(serve, SOME))
    assert tenth & set(SOME) < quarter
    assert 195 <= len(quarter) <= 305  # 4 standard errors
    figure(f"share {len(tenth) / 100:.2f} % at 10 %, {len(quarter) / 10:.1f} % at 25 %")


async def test_two_gateways_on_one_store_put_each_user_on_the_same_side(
    turnouts: Turnouts, stable: ModelServer, candidate: ModelServer, tmp_path: Path
) -> None:
    """`turnout control` and two `turnout gateway` with two workers each, joined by nothing but `store.url`."""
    with EmbeddedValkey(tmp_path / "store") as valkey:
        config = config_for(stable, candidate, rollout=TENTH)
        config["store"] = {"url": valkey.url}
        config["gateway"] |= {"workers": 2}
        gateways = [await turnouts.start(config, "gateway", directory=tmp_path / name) for name in ("east", "west")]
        control = await turnouts.start(config, "control")
        admin = Admin(control.port("admin"))
        await admin.until_routed(replicas=4)
        east, west = [await sides_of(gateway, SOME) for gateway in gateways]
        assert east == west
        assert 62 <= len(served(east)) <= 138  # 4 standard errors

        await admin.patch(weight="0%", reason="nobody")
        await admin.until_routed(replicas=4)
        assert [served(await sides_of(gateway, SOME)) for gateway in gateways] == [set(), set()]
        await admin.patch(weight="10%", reason="the same ones again")
        await admin.until_routed(replicas=4)
        assert [await sides_of(gateway, SOME) for gateway in gateways] == [east, east]
        admin.close()
        await turnouts.finish()  # while their store still runs
