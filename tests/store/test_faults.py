"""The server dies or freezes amid writes: calls end in time, and nothing is lost, doubled or taken back."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from router.core.errors import StoreUnavailableError
from router.core.observations import CounterKey
from router.store.embedded import EmbeddedValkey
from router.store.redis import RedisStore
from router.testing.samples import ROLLOUT, sample_batch, sample_decision, sample_state
from tests.stopwatch import Stopwatch

KEEP_ALL = 2**30
STARTED = CounterKey(2, "started", "", "stable", "")


@pytest.fixture
async def store(valkey: EmbeddedValkey) -> AsyncIterator[RedisStore]:
    """A client of a Valkey of this test's own."""
    client = RedisStore(valkey.url)
    yield client
    await client.close()


async def started(store: RedisStore) -> int:
    """Return what the only counter of the only boot says."""
    return (await store.evidence("digits", ROLLOUT)).get("boot1", {}).get(STARTED, 0)


async def test_a_killed_server_loses_nothing_that_was_acknowledged(valkey: EmbeddedValkey, store: RedisStore) -> None:
    """Three times kill -9 while batches are written: no counter goes back, no pair is lost or doubled, states stay."""
    loop = asyncio.get_running_loop()
    sequence, acknowledged, seen, slowest_s = 1, 0, 0, 0.0
    await store.compare_and_set(sample_state("digits"), 0, sample_decision("digits"))
    for _ in range(3):
        pid = valkey.pid
        assert pid is not None
        last = sequence + 30
        while True:
            if sequence == last:
                loop.call_soon(os.kill, pid, signal.SIGKILL)  # while the next write is on its way
            watch = Stopwatch()
            try:
                await store.append(sample_batch("digits", sequence, pairs=3, requests=10 * sequence), KEEP_ALL)
            except StoreUnavailableError:
                slowest_s = max(slowest_s, watch.elapsed_s)
                break
            acknowledged, sequence = sequence, sequence + 1
        deadline_s = loop.time() + 5.0
        while valkey.poll() is None:
            assert loop.time() < deadline_s
        assert valkey.poll() == -signal.SIGKILL
        with pytest.raises(StoreUnavailableError):
            await store.ping()
        address = valkey.url
        assert address == valkey.restart()
        counted = await started(store)
        assert counted in (10 * acknowledged, 10 * (acknowledged + 1))  # the last one may have arrived unanswered
        assert counted >= seen
        seen = counted
    assert acknowledged > 50
    assert slowest_s < 0.5
    # The recorder repeats the batch whose fate it does not know.
    await store.append(sample_batch("digits", sequence, pairs=3, requests=10 * sequence), KEEP_ALL)
    assert await started(store) == 10 * sequence
    expected = [f"boot1-{number}" for number in reversed(range(3 * sequence))]
    assert expected == [pair.pair_id for pair in await store.pairs("digits", 10**6)]
    assert await store.read_states(["digits"]) == {"digits": sample_state("digits")}
    assert await store.decisions("digits", 10) == [sample_decision("digits")]


async def test_rd8_a_frozen_server_counts_nothing_twice(valkey: EmbeddedValkey, store: RedisStore) -> None:
    """RD2, RD8: calls into a SIGSTOP fail within half a second; what was sent thrice counts once after SIGCONT."""
    loop = asyncio.get_running_loop()
    pid = valkey.pid
    assert pid is not None
    await store.append(sample_batch("digits", 1, pairs=2, requests=10), KEEP_ALL)
    await store.compare_and_set(sample_state("digits", 1), 0, sample_decision("digits", 1))
    writes: list[Callable[[], Awaitable[object]]] = [
        lambda: store.append(sample_batch("digits", 2, pairs=2, requests=20), KEEP_ALL),
        lambda: store.compare_and_set(sample_state("digits", 2), 1, sample_decision("digits", 2)),
    ]
    os.kill(pid, signal.SIGSTOP)
    try:
        for write in writes * 3:
            watch = Stopwatch()
            with pytest.raises(StoreUnavailableError, match="no answer within"):
                await write()
            assert watch.passed_s > 0.2
            assert watch.elapsed_s < 0.5
    finally:
        os.kill(pid, signal.SIGCONT)
    # The server now carries out what lay in its sockets; a later batch of ours may even overtake it.
    await store.append(sample_batch("digits", 3, pairs=2, requests=30), KEEP_ALL)
    for write in writes:
        await write()
    deadline_s = loop.time() + 5.0
    while (await store.revisions(["digits"]))["digits"] < 2:
        assert loop.time() < deadline_s
    assert await started(store) == 30
    found = [pair.pair_id for pair in await store.pairs("digits", 100)]
    # Batch 2 counts once or, when batch 3 overtook it, not at all; never twice, never in the wrong place.
    assert found in (
        ["boot1-5", "boot1-4", "boot1-3", "boot1-2", "boot1-1", "boot1-0"],
        ["boot1-5", "boot1-4", "boot1-1", "boot1-0"],
    )
    assert [record.revision for record in await store.decisions("digits", 100)] == [2, 1]


async def test_a_frozen_server_holds_up_nobody_who_waits_for_a_connection(
    valkey: EmbeddedValkey, store: RedisStore
) -> None:
    """More calls than connections: all of them end in time, and the client is whole afterwards."""
    pid = valkey.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        watch = Stopwatch()
        ended = await asyncio.gather(*(store.ping() for _ in range(40)), return_exceptions=True)
        assert watch.elapsed_s < 0.5
    finally:
        os.kill(pid, signal.SIGCONT)
    assert {type(end) for end in ended} == {StoreUnavailableError}
    await asyncio.gather(*(store.ping() for _ in range(40)))
    assert "0 in use" in repr(store)
