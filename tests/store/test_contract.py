"""Every implementation of the store keeps one contract."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import uvloop

from router.core.ports import Store
from router.store.embedded import EmbeddedValkey
from router.store.redis import RedisStore
from router.testing import STORE_CHECKS, ManualClock, MemoryServer, MemoryStore, check_store
from router.testing.clients import MakeStore
from router.testing.notice_checks import check_loss_is_noticed
from tests.patience import patient_store


@pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__)
async def test_a_real_server_keeps_the_contract(
    shared_server: EmbeddedValkey, check: Callable[[MakeStore], Awaitable[None]]
) -> None:
    """RedisStore on the newest and the oldest server passes each check."""
    await check(lambda: patient_store(shared_server.url))


@pytest.mark.parametrize("loss", [signal.SIGSTOP, signal.SIGKILL])
async def test_the_loss_of_a_real_server_is_noticed(server: EmbeddedValkey, loss: signal.Signals) -> None:
    """A frozen server and a killed one are both noticed in time, and forgotten when it is back."""
    pid = server.pid
    assert pid is not None

    def mend() -> None:
        if loss is signal.SIGSTOP:
            os.kill(pid, signal.SIGCONT)
        else:
            server.restart()

    await check_loss_is_noticed(lambda: RedisStore(server.url), partial(os.kill, pid, loss), mend)


async def test_the_memory_store_keeps_the_contract() -> None:
    """The fake passes the whole suite that the real one passes, loss included."""
    memory = MemoryServer()
    await check_store(lambda: MemoryStore(memory), memory.cut, memory.mend)


def test_the_contract_holds_under_uvloop(valkey: EmbeddedValkey) -> None:
    """The gateway's event loop is another one than the tests'."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(check_store(lambda: patient_store(valkey.url)))


async def test_the_memory_lease_runs_out_by_its_clock() -> None:
    """With a ManualClock a lease runs out when the test says so."""
    clock = ManualClock()
    memory = MemoryServer(clock=clock)
    one, two = MemoryStore(memory), MemoryStore(memory)
    assert await one.acquire_lease("one", 15.0, 0) == 1
    clock.advance(14.9)
    assert await two.acquire_lease("two", 15.0, 0) is None
    clock.advance(0.2)
    assert await two.acquire_lease("two", 15.0, 0) == 2
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1.0)


class Forgetful(MemoryStore):
    """A store with a bug: it counts a repeated batch again."""

    async def append(self, batch, keep_bytes):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, D102
        self.server.sequences.clear()
        return await super().append(batch, keep_bytes)


class Careless(MemoryStore):
    """A store with a bug: it takes any revision."""

    async def compare_and_set(self, state, expected_revision, record):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, D102, ARG002
        stored = await self.revisions([state.route])
        return await super().compare_and_set(state, stored.get(state.route, 0), record)


class Sticky(MemoryStore):
    """A store with a bug: a released lease keeps its epoch for the next holder."""

    async def release_lease(self, holder):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, D102
        await super().release_lease(holder)
        self.server.lease.epoch -= 1


class Backwards(MemoryStore):
    """A store with a bug: the oldest pairs come first."""

    async def pairs(self, route, limit):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201, D102
        return (await super().pairs(route, 10_000))[::-1][:limit]


@pytest.mark.parametrize("broken", [Forgetful, Careless, Sticky, Backwards])
async def test_the_suite_finds_a_broken_store(broken: type[MemoryStore]) -> None:
    """A contract suite that passes everything would prove nothing."""
    memory = MemoryServer()

    def make() -> Store:
        return broken(memory)

    with pytest.raises(AssertionError, match=r"\w"):
        await check_store(make)
