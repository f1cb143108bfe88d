"""The store on several servers: a cluster of three, and a primary with a replica behind three sentinels."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from redis.crc import key_slot

from router.core.errors import StoreUnavailableError
from router.core.ports import Notice
from router.store import keys
from router.store.embedded import find_binary
from router.store.redis import RedisStore
from router.testing import STORE_CHECKS
from router.testing.clients import MakeStore
from router.testing.notice_checks import check_loss_is_noticed
from router.testing.samples import ROLLOUT, sample_batch, sample_decision, sample_state
from tests.store.conftest import OLDEST
from tests.store.fleets import MASTER, Fleet, Node, cluster, wait_until, watched

KEEP_ALL = 2**30
RECOVERED_S = 20.0
"""How long a failover may take before the test gives up; it is measured and printed, and takes about 2 s."""


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A cluster with what earlier tests of the module left in it; of the oldest version there is."""
    with cluster(OLDEST or find_binary(), tmp_path_factory.mktemp("cluster")) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def shared_watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A primary and its replica with what earlier tests of the module left in them; of the same version."""
    with watched(OLDEST or find_binary(), tmp_path_factory.mktemp("watched")) as fleet:
        yield fleet


@pytest.fixture
async def clustered(shared_cluster: Fleet) -> AsyncIterator[RedisStore]:
    """A client of the cluster."""
    client = RedisStore(shared_cluster.url)
    yield client
    await client.close()


@pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__)
async def test_a_cluster_keeps_the_contract(
    shared_cluster: Fleet, check: Callable[[MakeStore], Awaitable[None]]
) -> None:
    """Three primaries together are one store; each client may ask any of them first."""
    await check(lambda: RedisStore(shared_cluster.url))


@pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__)
async def test_a_watched_primary_keeps_the_contract(
    shared_watched: Fleet, check: Callable[[MakeStore], Awaitable[None]]
) -> None:
    """Found by its sentinels, it is a server like any other."""
    await check(lambda: RedisStore(shared_watched.url))


# -- a cluster ------------------------------------------------------------------------------------------------------


def owner_of(fleet: Fleet, key: str) -> Node:
    """Return the node that has a key's slot."""
    rows = fleet.nodes[0].ask("CLUSTER", "SLOTS")
    port = next(row[2][1] for row in rows if row[0] <= key_slot(key.encode()) <= row[1])
    return next(node for node in fleet.nodes if node.port == port)


async def test_routes_live_on_different_servers_and_are_read_in_one_call(
    shared_cluster: Fleet, clustered: RedisStore
) -> None:
    """Twenty Routes are spread over all nodes; states and revisions of all of them come back together."""
    routes = [f"spread{number}" for number in range(20)]
    for revision, route in enumerate(routes, start=1):
        assert await clustered.compare_and_set(sample_state(route, revision), 0, sample_decision(route, revision))
    assert len({owner_of(shared_cluster, keys.state(route)).port for route in routes}) == 3
    assert list(await clustered.read_states([*routes, "none"])) == routes
    assert await clustered.revisions(routes) == {route: number for number, route in enumerate(routes, start=1)}


async def test_a_notice_reaches_a_line_at_any_node(shared_cluster: Fleet, clustered: RedisStore) -> None:
    """Whichever node a line is on, it hears of Routes that live elsewhere."""
    for number, node in enumerate(shared_cluster.nodes):
        reader = RedisStore(f"redis+cluster://127.0.0.1:{node.port}")
        reader._connections._turn = number  # type: ignore[attr-defined]  # noqa: SLF001 - no other way to choose a node
        async with aclosing(reader.notices()) as line:  # type: ignore[type-var]
            assert await anext(line) == Notice("", 0)
            heard: set[str] = set()
            wanted = {f"notice{number}-{index}" for index in range(6)}
            for route in wanted:
                await clustered.compare_and_set(sample_state(route), 0, None)
            async with asyncio.timeout(5.0):
                while heard < wanted:
                    heard |= {(await anext(line)).route} - {""}
        await reader.close()


async def test_a_slot_that_moves_under_writes_loses_and_doubles_nothing(
    shared_cluster: Fleet, clustered: RedisStore
) -> None:
    """ASK while it moves, MOVED when it has: every batch is written once, tried once, without one error."""
    route = "wanderer"
    key = keys.state(route)
    slot = key_slot(key.encode())
    await clustered.compare_and_set(sample_state(route), 0, sample_decision(route))
    source = owner_of(shared_cluster, key)
    target = next(node for node in shared_cluster.nodes if node is not source)
    ids = {node: node.ask("CLUSTER", "MYID").decode() for node in (source, target)}
    moved = asyncio.Event()
    sequence = 0

    async def write() -> None:
        nonlocal sequence
        after = None
        while after is None or sequence < after:
            sequence += 1
            await clustered.append(sample_batch(route, sequence, requests=sequence), KEEP_ALL)
            if moved.is_set() and after is None:
                after = sequence + 50

    def move() -> None:
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        # All keys at once: a script whose keys are half here and half there is told to try again (TRYAGAIN).
        found = source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100)
        source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *found)
        for node in (target, source, *shared_cluster.nodes):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[target])

    writing = asyncio.create_task(write())
    while sequence < 50:  # noqa: ASYNC110 - a poll
        await asyncio.sleep(0)
    await asyncio.to_thread(move)
    moved.set()
    async with asyncio.timeout(30.0):
        await writing
    assert target.ask("CLUSTER", "COUNTKEYSINSLOT", slot) > 3
    expected = [f"boot1-{number}" for number in reversed(range(sequence))]
    assert [pair.pair_id for pair in await clustered.pairs(route, 10**6)] == expected
    evidence = await clustered.evidence(route, ROLLOUT)
    assert list(evidence["boot1"].values()) == [sequence]


async def test_a_key_of_a_moving_slot_is_asked_for_where_it_already_is(
    shared_cluster: Fleet, clustered: RedisStore
) -> None:
    """While the slot is on the move its old owner says ASK. A script over keys here and there waits for the end."""
    route, state = "halfway", keys.state("halfway")
    slot = key_slot(state.encode())
    source = owner_of(shared_cluster, state)
    target = next(node for node in shared_cluster.nodes if node is not source)
    await clustered.compare_and_set(sample_state(route), 0, None)
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.ask("CLUSTER", "MYID").decode())
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.ask("CLUSTER", "MYID").decode())
    try:
        source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", state)
        for _ in range(3):
            assert await clustered.read_states([route, "other"]) == {route: sample_state(route)}
        with pytest.raises(StoreUnavailableError, match="a slot is on the move"):
            await clustered.compare_and_set(sample_state(route, 2), 1, sample_decision(route, 2))
    finally:
        for node in (target, source, *shared_cluster.nodes):
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", target.ask("CLUSTER", "MYID").decode())
    assert await clustered.compare_and_set(sample_state(route, 2), 1, sample_decision(route, 2))
    assert await clustered.decisions(route, 9) == [sample_decision(route, 2)]


async def test_a_cluster_without_one_of_its_servers_is_away_and_comes_back(tmp_path: Path) -> None:
    """Calls end in time while a third of the slots has no server; when it is back all goes on by itself."""
    with cluster(find_binary(), tmp_path) as fleet:
        store = RedisStore(fleet.url)
        await store.compare_and_set(sample_state("digits"), 0, None)
        victim = owner_of(fleet, keys.state("digits"))
        victim.stop()
        loop = asyncio.get_running_loop()
        for _ in range(5):
            asked_s = loop.time()
            with pytest.raises(StoreUnavailableError):
                await store.read_states(["digits"])
            assert loop.time() - asked_s < 1.0  # 0.45 s and a busy machine
        victim.start()
        wait_until(lambda: b"cluster_state:ok" in victim.ask("CLUSTER", "INFO"), "the node is back")

        async def back() -> bool:
            try:
                await store.compare_and_set(sample_state("digits", 2), 0, None)
            except StoreUnavailableError:
                return False
            return (await store.revisions(["digits"])) == {"digits": 2}

        async with asyncio.timeout(RECOVERED_S):
            while not await back():  # noqa: ASYNC110 - a poll
                await asyncio.sleep(0.01)
        await store.close()


# -- sentinels ------------------------------------------------------------------------------------------------------


class Writer:
    """Writes batches as the recorder does, each again until it is acknowledged; and listens all the while."""

    def __init__(self, store: RedisStore, route: str) -> None:
        self.store, self.route = store, route
        self.sequence = 0
        self.slowest_refusal_s = 0.0
        self.heard: list[Notice] = []

    async def write(self, batches: int) -> float:
        """Write some batches; return how long the first of them took."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        first_s = None
        for _ in range(batches):
            self.sequence += 1
            while not await self._tried():
                assert loop.time() - began_s < RECOVERED_S
                await asyncio.sleep(0.01)
            first_s = first_s or loop.time() - began_s
        return first_s or 0.0

    async def _tried(self) -> bool:
        loop = asyncio.get_running_loop()
        asked_s = loop.time()
        try:
            await self.store.append(sample_batch(self.route, self.sequence, requests=self.sequence), KEEP_ALL)
        except StoreUnavailableError:
            self.slowest_refusal_s = max(self.slowest_refusal_s, loop.time() - asked_s)
            return False
        return True

    async def listen(self) -> None:
        """Note every notice, on one line after another."""
        while True:
            with contextlib.suppress(StoreUnavailableError):
                async for notice in self.store.notices():
                    self.heard += [notice]
            await asyncio.sleep(0.01)

    async def until_heard(self, notice: Notice) -> None:
        """Return when it has come."""
        async with asyncio.timeout(RECOVERED_S):
            while notice not in self.heard:  # noqa: ASYNC110 - a poll
                await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_a_failover_under_writes_doubles_nothing_and_ends_by_itself(
    shared_watched: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL of the primary: calls fail in time until the replica is promoted, then writes and notices go on there."""
    fleet, route = shared_watched, "failover"
    fleet.until_replicated()
    store = RedisStore(fleet.url)
    await store.compare_and_set(sample_state(route), 0, sample_decision(route))
    writer = Writer(store, route)
    listening = asyncio.create_task(writer.listen())
    await writer.write(100)
    victim = fleet.primary()
    victim.stop()
    away_s = await writer.write(1)
    await writer.write(99)
    with capsys.disabled():
        print(f"\nwrites stood still for {away_s:.2f} s, slowest refusal {writer.slowest_refusal_s:.2f} s")  # noqa: T201
    assert fleet.primary() is not victim
    ids = [pair.pair_id for pair in await store.pairs(route, 10**6)]
    assert len(set(ids)) == len(ids)
    # Replication lags behind the acknowledgement: the last batches before the kill may be gone, those after it not.
    assert ids[:100] == [f"boot1-{number}" for number in range(199, 99, -1)]
    assert list((await store.evidence(route, ROLLOUT))["boot1"].values()) == [200]
    writer.heard.clear()
    await writer.until_heard(Notice("", 0))  # the line stands again, on the new primary
    revision = (await store.revisions([route])).get(route, 0)
    assert await store.compare_and_set(sample_state(route, revision + 1), revision, None)
    await writer.until_heard(Notice(route, revision + 1))
    victim.start()  # as the primary that it was, until the sentinels make it a replica: nobody follows it
    await writer.write(1)
    assert fleet.primary() is not victim
    assert fleet.primary().ask("HGET", keys.evidence(route, ROLLOUT, "boot1"), keys.SEQUENCE) == b"201"
    listening.cancel()
    await store.close()


async def test_a_name_that_no_sentinel_knows_is_told(shared_watched: Fleet) -> None:
    """The error says what was asked for, and what to check."""
    store = RedisStore(shared_watched.url.replace(MASTER, "other"))
    with pytest.raises(StoreUnavailableError, match="no sentinel knows a primary named 'other'; check the name"):
        await store.ping()
    await store.close()


# -- all of them ------------------------------------------------------------------------------------------------------
# Last, because sentinels that were frozen fail nothing over for half a minute (TILT).


async def lost_and_found(fleet: Fleet) -> None:
    """Freeze all servers of a fleet for a while, sentinels too."""

    def send(number: signal.Signals) -> None:
        for one in [*fleet.nodes, *fleet.sentinels]:
            one.send(number)

    await check_loss_is_noticed(
        lambda: RedisStore(fleet.url), lambda: send(signal.SIGSTOP), lambda: send(signal.SIGCONT)
    )


async def test_a_known_primary_is_enough_while_the_sentinels_are_away(
    shared_watched: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sentinels are asked again and again; when none answers, their last word holds."""
    monkeypatch.setattr("router.store.sentinel.ASK_AGAIN_S", 0.0)
    store = RedisStore(shared_watched.url, connect_s=1.0)
    await store.ping()
    for sentinel in shared_watched.sentinels:
        sentinel.send(signal.SIGSTOP)
    try:
        for _ in range(2):
            await store.ping()
    finally:
        for sentinel in shared_watched.sentinels:
            sentinel.send(signal.SIGCONT)
    await store.close()


async def test_the_loss_of_a_whole_cluster_is_noticed(shared_cluster: Fleet) -> None:
    """Frozen nodes are noticed in time, and forgotten when they are back."""
    await lost_and_found(shared_cluster)


async def test_the_loss_of_a_primary_with_its_sentinels_is_noticed(shared_watched: Fleet) -> None:
    """The same with the sentinels, which sort out who is primary when they are back."""
    await lost_and_found(shared_watched)


@pytest.mark.parametrize("scheme", ["redis+sentinel", "redis+cluster"])
async def test_a_fleet_of_which_nobody_answers_is_unavailable(scheme: str) -> None:
    """Nobody listens there: every call and every line says so in time."""
    store = RedisStore(f"{scheme}://127.0.0.1:1,127.0.0.1:2{'/main' if 'sentinel' in scheme else ''}")
    loop = asyncio.get_running_loop()
    asked_s = loop.time()
    for call in (store.ping, lambda: store.read_states(["digits"]), lambda: anext(store.notices())):
        with pytest.raises(StoreUnavailableError):
            await call()
    assert loop.time() - asked_s < 3.0  # 0.45 s each, and a busy machine
    await store.close()
