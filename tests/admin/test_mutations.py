"""CF1, by API: whatever a body says, it is carried out or refused by name, and nothing is broken by it."""

import json
import random

from tests.admin.desk import BLOCK, ROLLOUT, Desk, config, desk_for, memory_store, problem
from tests.settings.mutations import mutated

BODIES = 350
CHANGE = {"weight": "10%", "mirror": "5%", "policy": "canary", "steps": [{"weight": "10%"}], "reason": "more"}


async def test_cf1_spoilt_bodies_are_refused_by_name_or_carried_out() -> None:
    """422 names the field; a body that is refused changes nothing of what is stored."""
    async with desk_for(memory_store(), config()) as desk:
        assert {200, 409, 422} <= await spoilt(desk)


async def spoilt(desk: Desk) -> set[int]:
    """Send them all; return the statuses of the answers."""
    dice, statuses = random.Random(4), set[int]()
    await desk.start()
    for number in range(BODIES):
        start = number % 2 == 0
        body = json.dumps(mutated(BLOCK if start else CHANGE, dice))
        before = await desk.store.read_states(("digits",))
        answer = await desk.client.request(
            "POST" if start else "PATCH", f"{ROLLOUT}s" if start else ROLLOUT, content=body,
            headers={"content-type": "application/json"},
        )  # fmt: skip
        statuses.add(answer.status_code)
        assert answer.status_code in (200, 201, 400, 409, 422), (answer.status_code, body, answer.text)
        if answer.status_code == 422:
            assert problem(answer, 422)["field"], body
        if answer.status_code >= 400:
            assert await desk.store.read_states(("digits",)) == before
    return statuses
