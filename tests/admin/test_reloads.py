"""`POST /v1/reload`: what is wrong with a file is told to whoever asked, and nothing else happens."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest

from router.admin.reloads import Reloader, left_out
from router.core.config import TurnoutConfig
from router.core.errors import ConfigError
from tests.admin.desk import Desk, config, desk_for, memory_store, problem


@dataclass
class File:
    """What the file says now, and how often a reload was asked for."""

    config: TurnoutConfig = field(default_factory=config)
    wrong: ConfigError | None = None
    asked: int = 0

    def read(self) -> TurnoutConfig:
        """Read as a Reloader."""
        if self.wrong is not None:
            raise self.wrong
        return self.config

    def ask(self) -> None:
        """Be asked as a Reloader."""
        self.asked += 1

    def leave_out(self, *variants: str) -> None:
        """Define the route `digits` without these variants."""
        route = self.config.routes["digits"]
        kept = {name: one for name, one in route.variants.items() if name not in variants}
        self.config = replace(self.config, routes={**self.config.routes, "digits": replace(route, variants=kept)})


@pytest.fixture
def file() -> File:
    """A file that says what the process was started with."""
    return File()


@pytest.fixture
async def asked(file: File) -> AsyncIterator[Desk]:
    """An admin API that can be asked for a reload."""
    async with desk_for(memory_store(), config(), reloader=Reloader(file.read, file.ask)) as made:
        yield made


async def test_cf2_a_good_file_is_reloaded(asked: Desk, file: File) -> None:
    """202 with the digest that heartbeats will say."""
    file.config = replace(file.config, digest="c0ffee")
    answer = await asked.client.post("/v1/reload")
    assert (answer.status_code, answer.json(), file.asked) == (202, {"status": "asked", "digest": "c0ffee"}, 1)


async def test_cf1_a_bad_file_is_422_and_names_the_field(asked: Desk, file: File) -> None:
    """Nobody else is asked to read it."""
    file.wrong = ConfigError("routes.digits.stable", "v9", "the name of a variant")
    document = problem(await asked.client.post("/v1/reload"), 422)
    assert (document["field"], file.asked) == ("routes.digits.stable", 0)


async def test_cf2_a_file_without_what_is_in_use_is_409(asked: Desk, file: File) -> None:
    """While v2 has traffic; once the rollout has ended it may go."""
    await asked.start()
    file.leave_out("v2")
    document = problem(await asked.client.post("/v1/reload"), 409)
    assert (document["detail"], file.asked) == ("the file leaves out what has traffic now: v2 of route digits", 0)
    await asked.post("abort")
    assert (await asked.client.post("/v1/reload")).status_code == 202


async def test_a_process_without_a_file_says_so(desk: Desk) -> None:
    """Control alone is restarted instead."""
    assert "restart" in problem(await desk.client.post("/v1/reload"), 409)["detail"]


async def test_a_route_may_go_once_its_rollout_has_ended(asked: Desk) -> None:
    """The rule alone."""
    await asked.start()
    states = await asked.control.states.stored()
    assert "route digits, whose rollout" in str(left_out(TurnoutConfig(routes={}), states))
    await asked.post("abort")
    assert left_out(TurnoutConfig(routes={}), await asked.control.states.stored()) is None
