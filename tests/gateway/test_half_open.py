"""RD3: a line that has gone dead without a word. The loss is noticed, and what was missed is read when it is back."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from router.core.decisions import RollBack
from router.core.errors import StoreUnavailableError
from router.core.ports import Notice
from router.core.rollout import Phase, RolloutState, apply
from router.gateway.following import Follower
from router.store.redis import RedisStore
from tests.gateway.bench import started, until
from tests.store.fleets import Node, one_server
from tests.store.wires import Wire

NOTICED_S = 3.0
APPLIED_S = 2.0
GRACE_S = 1.0
"""For a busy machine, on top of both limits."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Node]:
    """A server that listens on a port."""
    with one_server(tmp_path / "server") as node:
        yield node


class Listening(RedisStore):
    """A store that notes which Routes' states were read, and how often a line of notices was asked for."""

    read: list[tuple[str, ...]]
    lines = 0

    async def read_states(self, routes: Sequence[str]) -> Mapping[str, RolloutState]:
        """Note it, and read."""
        self.read.append(tuple(routes))
        return await super().read_states(routes)

    def notices(self) -> AsyncIterator[Notice]:
        """Count it, and listen."""
        self.lines += 1
        return super().notices()


async def until_it_ends(line: AsyncIterator[Notice]) -> None:
    """Listen for as long as there is something to hear."""
    async for _ in line:
        pass


async def test_rd3_a_line_that_drops_everything_is_noticed_within_three_seconds(server: Node) -> None:
    """No reset, no end: the answer to a PING that never comes is what tells."""
    async with Wire(server.port).running() as wire:
        store = RedisStore(f"redis://127.0.0.1:{wire.port}")
        async with aclosing(store.notices()) as line:  # type: ignore[type-var]
            await anext(line)
            wire.silent = True
            began_s = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="silent"):
                await until_it_ends(line)
            assert time.monotonic() - began_s <= NOTICED_S + GRACE_S
        await store.close()


async def test_rd3_a_rollback_missed_on_a_dead_line_is_applied_when_it_is_back(server: Node) -> None:
    """Issued while nothing gets through; within 2 s of its return it is applied, and every Route is read anew."""
    direct = RedisStore(f"redis://127.0.0.1:{server.port}")
    for route in ("r", "s"):
        await direct.compare_and_set(replace(started(10_000, route=route), epoch=1), 0, None)
    adopted: list[RolloutState] = []
    heard: list[bool] = []
    async with Wire(server.port).running() as wire:
        store = Listening(f"redis://127.0.0.1:{wire.port}")
        store.read = []
        follower = Follower(store, ("r", "s"), adopted.append, on_store=lambda *, up: heard.append(up), now_s=time.time)
        following = asyncio.create_task(follower.run())
        await until(lambda: len(adopted) == 2 and ("r", "s") in store.read, "both are known, and the line stands")
        wire.silent = True
        state = (await direct.read_states(["r"]))["r"]
        assert await direct.compare_and_set(apply(state, RollBack(reason="harm"), time.time()), state.revision, None)
        heard.clear()
        await until(lambda: False in heard, "the loss is seen", within_s=NOTICED_S + GRACE_S)
        await until(lambda: store.lines > 1, "the old line is given up", within_s=NOTICED_S + GRACE_S)
        assert len(adopted) == 2
        store.read.clear()
        wire.silent = False
        took_s = await until(lambda: len(adopted) == 3, "the rollback is applied", within_s=APPLIED_S + GRACE_S)
        assert (adopted[-1].route, adopted[-1].phase) == ("r", Phase.ROLLED_BACK)
        await until(lambda: ("r", "s") in store.read, "everything is read once the line stands again")
        assert took_s <= APPLIED_S + GRACE_S
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await store.close()
    await direct.close()
