"""CL10, SE12: what others wrote under our keys costs little, hides nothing of ours, is counted and told of once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from router.core.errors import UnreadableStateError
from router.core.observations import CounterKey
from router.store import keys
from router.store.embedded import EmbeddedValkey
from router.store.redis import RedisStore
from router.testing.samples import ROLLOUT, sample_batch, sample_decision, sample_heartbeat, sample_pair, sample_state
from tests.patience import patient_store
from tests.store.test_redis_store import KEEP_ALL, raw_client

MIB = 2**20
LARGE = {
    "bytes": b"\xff" * MIB,
    "a deep list": b"[" * MIB,
    "a long number": b"9" * MIB,
    "another version": b'{"v":99,"x":"' + b"y" * (MIB - 20) + b'"}',
}


@pytest.fixture
async def store(server: EmbeddedValkey) -> AsyncIterator[RedisStore]:
    """A client with time enough for a machine on which a MiB takes a while."""
    client = patient_store(server.url)
    yield client
    await client.close()


@asynccontextmanager
async def lag() -> AsyncIterator[list[float]]:
    """Give how late the event loop was each time, in seconds."""
    late: list[float] = []
    loop = asyncio.get_running_loop()

    async def tick() -> None:
        while True:
            due_s = loop.time() + 0.005
            await asyncio.sleep(0.005)
            late.append(loop.time() - due_s)

    ticking = asyncio.create_task(tick())
    try:
        yield late
    finally:
        ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ticking


async def poison(client: Any, large: bytes) -> None:  # noqa: ANN401 - a foreign client
    """Write `large` wherever something of ours is read."""
    for _ in range(8):
        await client.xadd(keys.pairs("digits"), {"p": large})
        await client.xadd(keys.decisions("digits"), {"r": large})
    await client.hset(keys.REPLICAS, "intruder", large)
    await client.hset(keys.evidence("digits", ROLLOUT, "boot1"), mapping={large: 1, "1|started||stable|": large})
    await client.sadd(keys.boots("digits", ROLLOUT), large[: MIB // 64])
    await client.hset(keys.state("opaque"), mapping={"revision": 1, "epoch": 1, "body": large})
    await client.hset(keys.state("other"), mapping={"revision": large, "epoch": large, "body": large})
    await client.hset(keys.LEASE, mapping={"holder": large, "epoch": "many", "expires": "soon"})


@pytest.mark.parametrize("large", LARGE.values(), ids=LARGE)
async def test_cl10_fields_of_a_mebibyte_hide_nothing_and_do_not_stop_the_loop(
    server: EmbeddedValkey, store: RedisStore, large: bytes
) -> None:
    """Everything of ours is found, the loop is never more than a second late, and the lease can still be had."""
    await store.compare_and_set(sample_state("digits"), 0, sample_decision("digits"))
    await store.append(sample_batch("digits", 1, requests=5), KEEP_ALL)
    await store.beat(sample_heartbeat("boot1"))
    async with raw_client(server) as foreign:
        await poison(foreign, large)
        async with lag() as late:
            for _ in range(2):
                assert await store.pairs("digits", 10) == [sample_pair("digits", 0)]
                assert await store.decisions("digits", 10) == [sample_decision("digits")]
                assert await store.heartbeats() == [sample_heartbeat("boot1")]
                counters = {"boot1": {CounterKey(2, "started", "", "stable", ""): 5}}
                assert await store.evidence("digits", ROLLOUT) == counters
                with pytest.raises(UnreadableStateError) as caught:
                    await store.read_states(["digits", "opaque", "other", "none"])
                assert set(caught.value.why) == {"opaque", "other"}
                assert caught.value.states == {"digits": sample_state("digits")}
                assert await store.revisions(["digits", "opaque", "other"]) == {"digits": 1, "opaque": 1}
                await foreign.publish(keys.NOTICES, large)
            assert await store.acquire_lease("one", 15.0, 7) == 8
    assert max(late) <= 1.0
    assert store.unreadable == {"pairs": 16, "decisions": 16, "heartbeats": 2, "evidence": 4, "states": 4}


async def test_cl10_what_is_met_again_and_again_is_told_of_once(
    lines: Callable[[], list[dict[str, object]]], server: EmbeddedValkey, store: RedisStore
) -> None:
    """One line while the first unreadable entry is the same, another when it is another; each time is counted."""
    async with raw_client(server) as foreign:
        await foreign.hset(keys.REPLICAS, "intruder", "{}")
        for _ in range(50):
            assert await store.heartbeats() == []
        await foreign.hset(keys.REPLICAS, "intruder", "[]")
        for _ in range(50):
            assert await store.heartbeats() == []
    assert [line["first"] for line in lines()] == [
        "heartbeat: field 'v' is missing", "heartbeat: got [], expected an object",
    ]  # fmt: skip
    assert store.unreadable == {"heartbeats": 100}


@pytest.mark.parametrize("account", ["much", "-5", "9" * 30, "1e300"])
async def test_cl10_an_account_that_is_no_number_does_not_stop_the_pair_log(
    server: EmbeddedValkey, store: RedisStore, account: str
) -> None:
    """It begins anew, and the pairs go on."""
    await store.append(sample_batch("digits", 1), KEEP_ALL)
    async with raw_client(server) as foreign:
        await foreign.hset(keys.pairs_account("digits"), "bytes", account)
    await store.append(sample_batch("digits", 2), KEEP_ALL)
    await store.append(sample_batch("digits", 3), KEEP_ALL)
    assert [pair.pair_id for pair in await store.pairs("digits", 10)][:2] == ["boot1-2", "boot1-1"]
