"""RedisStore beyond the contract: addresses, error replies, cancelled calls, foreign content, the limits of memory."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from router.core.errors import ConfigError, StoreUnavailableError
from router.core.observations import CounterKey
from router.core.ports import Appended, Notice
from router.store import keys, subscription
from router.store.basis_codec import encode_basis
from router.store.embedded import EmbeddedValkey
from router.store.redis import RedisStore
from router.store.retention import BASES_BYTES, DECISIONS_BYTES, EVIDENCE_KEPT_S
from router.testing.samples import (
    ROLLOUT,
    sample_basis,
    sample_batch,
    sample_decision,
    sample_heartbeat,
    sample_pair,
    sample_state,
)
from tests.patience import patient_store

KEEP_ALL = 2**30


@asynccontextmanager
async def raw_client(server: EmbeddedValkey) -> AsyncIterator[Any]:
    """Lend a plain client, as a foreign program has one."""
    client = Redis.from_url(server.url, protocol=2)
    try:
        yield client
    finally:
        await client.aclose()


class Parrot(asyncio.Protocol):
    """Gives one and the same reply to everything."""

    def __init__(self, reply: bytes, lines: set[asyncio.Transport]) -> None:
        self.reply, self.lines = reply, lines

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the line."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.lines.add(transport)

    def data_received(self, data: bytes) -> None:  # noqa: ARG002
        """Reply."""
        self.transport.write(self.reply)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        """Forget the line."""
        self.lines.discard(self.transport)


@asynccontextmanager
async def scripted(reply: bytes) -> AsyncIterator[str]:
    """Run a server that gives one and the same reply to everything, and lend its URL."""
    lines: set[asyncio.Transport] = set()
    listener = await asyncio.get_running_loop().create_server(lambda: Parrot(reply, lines), "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()
        while lines:
            next(iter(lines)).abort()
            await asyncio.sleep(0)


@pytest.fixture
async def store(valkey: EmbeddedValkey) -> AsyncIterator[RedisStore]:
    """A client of a Valkey of this test's own."""
    client = RedisStore(valkey.url)
    yield client
    await client.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://h:26379",
        "redis+sentinel://h:26379/main/nought",
        "redis+sentinel://h:26379,/main",
        "redis+sentinel://h:x/main",
        "redis+cluster://h:7000/1",
        "redis+cluster://",
        "unix+cluster:///s",
        "http://h",
        "",
        "localhost:6379",
        "redis://h?nonsense=1",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_at_once(url: str) -> None:
    """The operator learns at the start what is supported, not from a failing call."""
    with pytest.raises(ConfigError, match=r"^store\.url: got "):
        RedisStore(url)


def test_a_refused_address_does_not_show_its_password() -> None:
    """SE9: errors go to logs."""
    for url in (
        "redis+cluster://user:hunter2@h:7000/1",
        "redis+sentinel://user:hunter2@h:7000?sentinel_password=hunter2",
        "redis://user:hunter2@h:1?nonsense=1&password=hunter2",
    ):
        with pytest.raises(ConfigError) as caught:
            RedisStore(url)
        assert "hunter2" not in str(caught.value)
    for url in (
        "rediss://user:hunter2@host:6380/0?password=hunter2",
        "redis+sentinel://user:hunter2@h,i/main?sentinel_password=hunter2",
        "redis+cluster://user:hunter2@h,i:7000?password=hunter2",
    ):
        assert "hunter2" not in repr(RedisStore(url))


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (b"-OOM command not allowed when used memory > 'maxmemory'.\r\n", "raise maxmemory or lower pairs.keep"),
        (b"-READONLY You can't write against a read only replica.\r\n", "point store.url to the primary"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "it is loading its data"),
        (b"-NOAUTH Authentication required.\r\n", "user and password"),
        (b"-NOPERM this user has no permissions\r\n", "let this user run EVAL"),
        (b"-BUSY Redis is busy running a script.\r\n", "busy running a script"),
        (b"-MOVED 3999 127.0.0.1:6381\r\n", "use redis+cluster://"),
        (b"-MOVED nowhere\r\n", "cannot be read"),
        (b"-CLUSTERDOWN Hash slot not served\r\n", "look at CLUSTER INFO"),
        (b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n", "rehashing"),
        (b"-ERR\r\n", ""),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", ""),
    ],
)
async def test_rd6_every_error_reply_means_unavailable(reply: bytes, told: str) -> None:
    """RD6: whatever the server refuses with, callers see one error of ours that says what to do, and its cause."""
    async with scripted(reply) as url:
        store = RedisStore(url)
        calls: list[Callable[[], object]] = [
            store.ping,
            lambda: store.read_states(["digits"]),
            lambda: store.compare_and_set(sample_state("digits"), 0, None),
            lambda: store.append(sample_batch("digits", 1), KEEP_ALL),
            lambda: anext(store.notices()),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailableError) as caught:
                await call()  # type: ignore[misc]
            assert told in str(caught.value)
            assert caught.value.__cause__ is not None
        await store.close()


async def answered_right(store: RedisStore, routes: list[str], number: int) -> bool:
    """Ask one of four questions about one of the routes, and say whether the answer belongs to it."""
    route = routes[number]
    match number % 4:
        case 0:
            return await store.revisions([route, "none"]) == {route: number + 1}
        case 1:
            return (await store.read_states([route]))[route].route == route
        case 2:
            return [record.route for record in await store.decisions(route, 5)] == [route]
        case _:
            return not await store.compare_and_set(sample_state(route, 1_000), 999, None)


@pytest.mark.parametrize("cancels", [600, pytest.param(3_000, marks=pytest.mark.slow)])
async def test_rd10_a_cancelled_call_never_mixes_up_replies(valkey: EmbeddedValkey, cancels: int) -> None:
    """RD10: after thousands of cancels at random moments every answer still belongs to its question."""
    store = patient_store(valkey.url)
    chance = random.Random(20_261_122)
    routes = [f"route{number}" for number in range(1, 41)]
    for revision, route in enumerate(routes, start=1):
        await store.compare_and_set(sample_state(route, revision), 0, sample_decision(route, revision))
    ends: list[object] = []
    cancelled = 0
    while cancelled < cancels:
        numbers = [chance.randrange(len(routes)) for _ in range(16)]
        tasks = [asyncio.ensure_future(answered_right(store, routes, number)) for number in numbers]
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(0)
        for task in tasks:
            if chance.random() < 0.5:
                task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        cancelled += sum(isinstance(end, asyncio.CancelledError) for end in ended)
        ends += ended
    answers = [end for end in ends if not isinstance(end, asyncio.CancelledError)]
    assert len(answers) > 300
    assert answers == [True] * len(answers)
    assert "0 in use" in repr(store)
    await store.ping()
    await store.close()


async def test_a_cleaning_up_task_hears_of_a_dead_store(valkey: EmbeddedValkey, store: RedisStore) -> None:
    """Whoever gives its lease back while being cancelled gets the error of the store, not another cancel."""
    pid = valkey.pid
    assert pid is not None
    heard: list[str] = []

    async def holder() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            try:
                await store.release_lease("one")
            except StoreUnavailableError as error:
                heard.append(str(error))

    task = asyncio.ensure_future(holder())
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGSTOP)
    try:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    finally:
        os.kill(pid, signal.SIGCONT)
    assert len(heard) == 1
    assert "no answer within 0.25 s" in heard[0]


async def test_a_restarted_server_costs_no_call(valkey: EmbeddedValkey, store: RedisStore) -> None:
    """A connection that the server has closed meanwhile is not used for a question."""
    await store.compare_and_set(sample_state("digits"), 0, None)
    valkey.restart()
    for _ in range(5):
        await asyncio.sleep(0)  # restart() held up the loop; now it hears that the server hung up
    assert await store.revisions(["digits"]) == {"digits": 1}


async def test_foreign_entries_are_skipped_and_told_once(
    server: EmbeddedValkey, lines: Callable[[], list[dict[str, object]]]
) -> None:
    """CL10, SE12: what others wrote under our keys hides nothing of ours, and one line a call says so."""
    store = RedisStore(server.url)
    async with raw_client(server) as foreign:
        for _ in range(20):
            await foreign.xadd(keys.pairs("digits"), {"p": b"\x80\x04pickle"})
            await foreign.xadd(keys.pairs("digits"), {"other": "x"})
            await foreign.xadd(keys.decisions("digits"), {"r": "null"})
        await store.compare_and_set(sample_state("digits"), 0, sample_decision("digits"))
        await store.append(sample_batch("digits", 1, requests=5), KEEP_ALL)
        async with raw_client(server) as client:
            evidence = keys.evidence("digits", ROLLOUT, "boot1")
            await client.hset(evidence, mapping={"x": 1, "1|a||b|c": "much", b"\xff": 2})
            await client.hset(keys.REPLICAS, mapping={"intruder": "{}"})
        await store.beat(sample_heartbeat("boot1"))
        for number in range(20):
            await foreign.xadd(keys.pairs("digits"), {"p": b"{}", "n": "x", "b": f"{number}e400"})
    assert await store.pairs("digits", 10) == [sample_pair("digits", 0)]
    assert await store.decisions("digits", 10) == [sample_decision("digits")]
    expected = {"boot1": {CounterKey(2, "started", "", "stable", ""): 5}}
    assert await store.evidence("digits", ROLLOUT) == expected
    assert await store.heartbeats() == [sample_heartbeat("boot1")]
    assert [line["event"] for line in lines()] == 4 * ["unreadable entries skipped"]
    # Entries that tell no readable place in the log are the first to go when it has to shrink; ours stays.
    await store.append(sample_batch("digits", 2), 2_000)
    assert [pair.pair_id for pair in await store.pairs("digits", 10)] == ["boot1-1", "boot1-0"]
    await store.close()


async def test_a_damaged_state_is_neither_read_nor_overwritten(server: EmbeddedValkey) -> None:
    """Missing state is one thing, unreadable state another: nobody may take the second for the first."""
    store = RedisStore(server.url)
    await store.compare_and_set(sample_state("digits"), 0, None)
    async with raw_client(server) as foreign:
        await foreign.hset(keys.state("digits"), "body", "{}")
        with pytest.raises(StoreUnavailableError, match="state of route digits cannot be read"):
            await store.read_states(["digits"])
        await foreign.hset(keys.state("headless"), "revision", 3)
        with pytest.raises(StoreUnavailableError, match="state of route headless cannot be read"):
            await store.read_states(["headless"])
        other = keys.state("other")
        await foreign.hset(other, mapping=await foreign.hgetall(keys.state("digits")))
        await foreign.hset(keys.state("digits"), "revision", "many")
        assert await store.revisions(["digits"]) == {}
        for expected in (0, 1):
            with pytest.raises(StoreUnavailableError, match="no readable revision and epoch"):
                await store.compare_and_set(sample_state("digits", 2), expected, sample_decision("digits"))
    assert await store.decisions("digits", 10) == []
    await store.close()


async def test_a_state_under_another_routes_key_is_refused(valkey: EmbeddedValkey, store: RedisStore) -> None:
    """A copied key must not send one Route's traffic by another Route's state."""
    await store.compare_and_set(sample_state("digits"), 0, None)
    async with raw_client(valkey) as foreign:
        await foreign.copy(keys.state("digits"), keys.state("other"))
    with pytest.raises(StoreUnavailableError, match=r"route other cannot be read.*it is of route 'digits'"):
        await store.read_states(["other"])


async def test_an_unreadable_notice_does_not_end_the_line(valkey: EmbeddedValkey, store: RedisStore) -> None:
    """Somebody else's message on our channel is no reason to go blind."""
    notices = store.notices()
    assert await anext(notices) == Notice("", 0)
    async with raw_client(valkey) as foreign:
        await foreign.publish(keys.NOTICES, "hello")
        await store.compare_and_set(sample_state("digits"), 0, None)
    assert await anext(notices) == Notice("", 0)
    assert await anext(notices) == Notice("digits", 1)
    await notices.aclose()  # type: ignore[attr-defined]


async def test_a_consumer_that_is_slow_does_not_lose_the_line(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence is counted while we listen, not while nobody asked us to."""
    monkeypatch.setattr(subscription, "PING_S", 0.05)
    monkeypatch.setattr(subscription, "OWED_S", 0.25)
    notices = store.notices()
    loop = asyncio.get_running_loop()
    for _ in range(3):
        assert await anext(notices) == Notice("", 0)
        back_s = loop.time() + 0.4
        while loop.time() < back_s:
            await store.ping()
    assert await anext(notices) == Notice("", 0)
    await notices.aclose()  # type: ignore[attr-defined]


async def test_a_full_store_still_takes_a_rollback(server: EmbeddedValkey) -> None:
    """Pairs may fill the memory; states, lease and heartbeats must get through all the same."""
    store = RedisStore(server.url)
    async with raw_client(server) as client:
        await client.config_set("maxmemory", "1")
        with pytest.raises(StoreUnavailableError, match=r"raise maxmemory or lower pairs\.keep"):
            await store.append(sample_batch("digits", 1), KEEP_ALL)
        assert await store.compare_and_set(sample_state("digits"), 0, sample_decision("digits"))
        assert await store.acquire_lease("one", 15.0, 0) == 1
        await store.beat(sample_heartbeat("boot1"))
        await client.config_set("maxmemory", "0")
    assert await store.append(sample_batch("digits", 1), KEEP_ALL) == Appended()
    await store.close()


async def test_rd7_the_pair_log_is_bounded_in_the_servers_memory(server: EmbeddedValkey) -> None:
    """RD7: keep_bytes bounds what the stream takes, in small and large batches, and every trimmed pair is counted."""
    keep_bytes = 2**18
    for pairs in (1, 40):
        store, route = RedisStore(server.url), f"route{pairs}"
        trimmed = 0
        for sequence in range(1, 3 * keep_bytes // (len(sample_batch(route, 1, pairs).payload) + 128)):
            trimmed += (await store.append(sample_batch(route, sequence, pairs), keep_bytes)).trimmed
        async with raw_client(server) as client:
            used = await client.memory_usage(keys.pairs(route), samples=0)
            account = await client.hgetall(keys.pairs_account(route))
        assert 0.6 * keep_bytes < used < 1.35 * keep_bytes
        assert int(account[b"trimmed"]) == trimmed
        assert len(await store.pairs(route, 10**6)) == sequence * pairs - trimmed
        await store.close()


async def test_the_account_follows_entries_that_others_delete(valkey: EmbeddedValkey, store: RedisStore) -> None:
    """An operator may trim the stream, or lose the account: the limit holds at the next write."""
    size = len(sample_batch("digits", 20).payload) + 128
    for sequence in range(20, 30):
        await store.append(sample_batch("digits", sequence), 10 * size)
    async with raw_client(valkey) as client:
        await client.xtrim(keys.pairs("digits"), maxlen=4, approximate=False)
        trimmed = [(await store.append(sample_batch("digits", n), 10 * size)).trimmed for n in range(30, 37)]
        assert trimmed == [0] * 6 + [1]
        await client.delete(keys.pairs_account("digits"))
        assert await store.append(sample_batch("digits", 37), 10 * size) == Appended(10)
        assert await client.xlen(keys.pairs("digits")) == 1


async def test_evidence_expires_a_month_after_its_last_write(valkey: EmbeddedValkey, store: RedisStore) -> None:
    """Boots come and go; what they counted does not stay for ever, and no boot is left in the index alone."""
    evidence, boots = keys.evidence("digits", ROLLOUT, "boot1"), keys.boots("digits", ROLLOUT)
    async with raw_client(valkey) as client:
        for sequence in (1, 2):
            await store.append(sample_batch("digits", sequence, requests=sequence), KEEP_ALL)
            for key in (evidence, boots):
                assert EVIDENCE_KEPT_S - 60 < await client.ttl(key) <= EVIDENCE_KEPT_S
                await client.expire(key, 100)
        await client.delete(evidence)
        assert await store.evidence("digits", ROLLOUT) == {}


async def test_the_ledger_is_bounded(valkey: EmbeddedValkey, store: RedisStore) -> None:
    """Decisions beyond the newest ten thousand or so go, the newest stay, and all that is left can be read."""
    async with raw_client(valkey) as client:
        pipeline = client.pipeline(transaction=False)
        for _ in range(10_500):
            pipeline.xadd(keys.decisions("digits"), {"r": "{}"})
        await pipeline.execute()
        await store.compare_and_set(sample_state("digits"), 0, sample_decision("digits"))
        assert 10_000 <= await client.xlen(keys.decisions("digits")) < 10_200
    assert await store.decisions("digits", 20_000) == [sample_decision("digits")]


async def test_samples_expire_with_the_evidence(valkey: EmbeddedValkey, store: RedisStore) -> None:
    """A rollout of long ago leaves none behind."""
    await store.add_sample(sample_basis("digits"))
    async with raw_client(valkey) as client:
        assert EVIDENCE_KEPT_S - 60 < await client.ttl(keys.samples("digits", ROLLOUT)) <= EVIDENCE_KEPT_S


async def test_long_decisions_are_kept_in_the_same_bytes(valkey: EmbeddedValkey, store: RedisStore) -> None:
    """A hundred gates with a sentence each make a line long: fewer decisions are kept then, the newest among them."""
    long = replace(sample_decision("digits"), reason="x" * 200_000)
    async with raw_client(valkey) as client:
        for revision in range(1, 121):
            await store.compare_and_set(sample_state("digits", revision), revision - 1, long)
        assert 60 < await client.xlen(keys.decisions("digits")) <= DECISIONS_BYTES // 200_000 + 2
        assert await client.memory_usage(keys.decisions("digits"), samples=0) < 1.1 * DECISIONS_BYTES


@pytest.mark.slow
async def test_bases_are_bounded_in_the_servers_memory(valkey: EmbeddedValkey, store: RedisStore) -> None:
    """The oldest make room, the newest stay, also after somebody deleted some; one too large alone is not kept."""
    noise = random.Random(1)
    counters = {CounterKey(1, "m", "", "pair", noise.randbytes(40).hex()): n for n in range(20_000)}
    basis = replace(sample_basis("digits"), counters=counters)
    size = len(encode_basis(basis))
    writes = 2 * BASES_BYTES // size
    async with raw_client(valkey) as client:
        for revision in range(1, writes + 1):
            record = replace(sample_decision("digits", revision), basis=basis)
            assert await store.compare_and_set(sample_state("digits", revision), revision - 1, record)
            if revision == 10:
                await client.xtrim(keys.bases("digits"), maxlen=3, approximate=False)
        used = await client.memory_usage(keys.bases("digits"), samples=0)
    assert 0.6 * BASES_BYTES < used < 1.35 * BASES_BYTES
    kept = list(await store.bases("digits", 10**6))
    assert kept == list(range(writes, writes - len(kept), -1))
    assert BASES_BYTES - 2 * size < len(kept) * (size + 128) <= BASES_BYTES
    huge = replace(basis, counters={key._replace(slice=str(n)): n for key in counters for n in range(20)})
    record = replace(sample_decision("digits", writes + 1), basis=huge)
    assert await store.compare_and_set(sample_state("digits", writes + 1), writes, record)
    assert list(await store.bases("digits", 1)) == [writes]


async def test_a_lease_survives_a_server_clock_that_goes_back(store: RedisStore) -> None:
    """CL4: an expiry an hour ahead is cut to one lease, so a dead holder blocks nobody for long."""
    assert await store.acquire_lease("dead", 3_600.0, 0) == 1
    assert await store.acquire_lease("next", 0.1, 0) is None
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + 5.0
    epoch = None
    while epoch is None and loop.time() < deadline_s:
        epoch = await store.acquire_lease("next", 0.1, 0)
    assert epoch == 2


async def test_bytes_of_a_batch_reach_the_server_as_they_are(valkey: EmbeddedValkey, store: RedisStore) -> None:
    """The payload is data, whatever it holds."""
    payload = bytes(range(256)) * 4
    await store.append(replace(sample_batch("digits", 1), payload=payload), KEEP_ALL)
    async with raw_client(valkey) as client:
        (entry,) = await client.xrange(keys.pairs("digits"))
    assert entry[1][b"p"] == payload
