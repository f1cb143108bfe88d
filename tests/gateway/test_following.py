"""Following the store: newer states are adopted, older ones never, and without the store the last one stays."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from router.core.config import StoreConfig
from router.core.decisions import RollBack
from router.core.rollout import Phase, RolloutState, apply
from router.core.traffic import Match
from router.gateway.following import Follower, Snapshots, states_directory
from router.store.codec import encode_state
from router.testing import MemoryServer, MemoryStore
from tests.gateway.bench import Bench, Gateway, route_of, started, until
from tests.gateway.upstreams import answering, ok
from tests.stopwatch import Stopwatch


async def two(bench: Bench, **config: object) -> Gateway:
    """Return a gateway in front of two upstreams that answer with their roles."""
    route = route_of(await bench.upstream(answering(ok(b"stable"))), await bench.upstream(answering(ok(b"candidate"))))
    return await bench.gateway(route, **config)  # type: ignore[arg-type]


def at(state: RolloutState, revision: int, epoch: int = 0, weight_bp: int = 0) -> RolloutState:
    """Return `state` at another revision, epoch and weight."""
    return replace(
        state, revision=revision, epoch=epoch, exposure=replace(state.exposure, id=revision, weight_bp=weight_bp)
    )


async def served(bench: Bench, gateway: Gateway) -> str:
    """Return the role that serves a request now."""
    return (await (await bench.client(gateway)).ask("POST", "/", b"x")).body.decode()


async def test_a_change_reaches_the_worker_by_its_notice(bench: Bench) -> None:
    """Well before the poll of one second."""
    gateway = await two(bench, states=[started(0)])
    await gateway.expose(weight_bp=0)  # the line of notices stands
    watch = Stopwatch()
    await gateway.expose(weight_bp=10_000)
    assert watch.elapsed_s < 0.25
    assert await served(bench, gateway) == "candidate"


async def test_a_change_without_a_notice_is_found_by_the_poll(bench: Bench) -> None:
    """Within the second that it takes, and a little."""
    gateway = await two(bench, states=[started(0)])
    gateway.server.states["r"] = encode_state(at(started(0), 2, weight_bp=10_000))
    assert await until(lambda: gateway.revision() == 2, "the poll finds it", within_s=1.5) > 0
    assert await served(bench, gateway) == "candidate"


async def beside(bench: Bench, state: RolloutState) -> Gateway:
    """Return a gateway with route `r` in `state`, and a route `s` whose changes show that the store was read."""
    stable, candidate = (
        await bench.upstream(answering(ok(b"stable"))),
        await bench.upstream(answering(ok(b"candidate"))),
    )
    routes = [route_of(stable, candidate), route_of(stable, candidate, name="s", match=Match("/s"))]
    return await bench.gateway(routes, states=[state, started(0, route="s")])


async def reread(gateway: Gateway, state: RolloutState) -> None:
    """Put `state` into the store and return when the worker has read it."""
    gateway.server.states["r"] = encode_state(state)
    await gateway.expose(weight_bp=gateway.revision("s"), route="s")


@pytest.mark.parametrize(
    "stale",
    [at(started(0), 4, 9, 10_000), at(started(0), 5, 9, 10_000), at(started(0), 6, 2, 10_000)],
    ids=["older", "same revision", "newer of a lower epoch"],
)
async def test_a_state_that_is_not_newer_is_refused(bench: Bench, stale: RolloutState) -> None:
    """Revision 5 of epoch 3 stays: neither an older revision nor a lower epoch replaces it; a real successor does."""
    gateway = await beside(bench, at(started(0), 5, 3))
    await reread(gateway, stale)
    assert (gateway.revision() >= 5, await served(bench, gateway)) == (True, "stable")
    await reread(gateway, at(started(0), 8, 9, 10_000))
    assert (gateway.revision(), await served(bench, gateway)) == (8, "candidate")


def test_only_newer_states_are_adopted_in_whatever_order_they_come() -> None:
    """The rule alone: higher revision, and never a lower epoch."""
    adopted: list[tuple[int, int]] = []

    def adopt(state: RolloutState) -> None:
        adopted.append((state.epoch, state.revision))

    follower = Follower(MemoryStore(), ("r",), adopt, on_store=lambda **_: None, now_s=lambda: 0.0)
    for epoch, revision in [(1, 1), (1, 3), (1, 2), (2, 3), (2, 4), (1, 5), (2, 4), (3, 5)]:
        follower.take([at(started(0), revision, epoch)])
    assert adopted == [(1, 1), (1, 3), (2, 4), (3, 5)]


async def test_without_the_store_the_last_state_stays_and_later_ones_are_found(bench: Bench) -> None:
    """Nothing moves while it is away; when it is back, what happened meanwhile is read."""
    gateway = await two(bench, states=[started(10_000)])
    gateway.server.cut()
    await until(lambda: gateway.worker.snapshot()["turnout_store_up"][()] == 0.0, "the store is missed")
    assert await served(bench, gateway) == "candidate"
    gateway.server.states["r"] = encode_state(at(started(0), 2, weight_bp=0))
    gateway.server.mend()
    await until(lambda: gateway.revision() == 2, "the new state is found")
    assert await served(bench, gateway) == "stable"
    assert gateway.worker.snapshot()["turnout_store_up"][()] == 1.0


async def test_a_state_with_an_unknown_variant_is_not_applied(bench: Bench) -> None:
    """The worker goes on by the last good one, and takes the next one it understands."""
    gateway = await beside(bench, started(10_000))
    spec = started(0).spec
    assert spec is not None
    await reread(gateway, replace(at(started(0), 2), spec=replace(spec, candidate="v9")))
    assert (gateway.revision(), await served(bench, gateway)) == (1, "candidate")
    await reread(gateway, at(started(0), 3))
    assert (gateway.revision(), await served(bench, gateway)) == (3, "stable")


async def test_each_route_follows_its_own_state(bench: Bench) -> None:
    """A notice of one route does not move another."""
    upstream, other = await bench.upstream(answering(ok(b"v1"))), await bench.upstream(answering(ok(b"v2")))
    routes = [route_of(upstream, other, name=name) for name in ("a", "b")]
    routes = [replace(route, match=replace(route.match, path_prefix=f"/{route.name}")) for route in routes]
    await bench.gateway(routes, states=[started(0, route="a"), started(10_000, route="b")])
    client = await bench.client()
    assert [(await client.ask("GET", f"/{name}")).body for name in "ab"] == [b"v1", b"v2"]


# -- starting without the store ---------------------------------------------------------------------------------------


async def saved(directory: Path, state: RolloutState) -> None:
    """Wait until the worker has saved `state`."""
    await until(lambda: Snapshots(directory / "states").load("r") == state, "the state is saved")


async def test_rd4_a_start_without_the_store_goes_by_the_state_on_disk(bench: Bench) -> None:
    """The last good state is served, at 100 % on the candidate as it was."""
    directory = bench.directory / "shared"
    store = StoreConfig(directory=str(directory))
    first = await two(bench, states=[started(10_000)], store_config=store)
    await saved(directory, started(10_000))
    away = MemoryServer()
    away.cut()
    watch = Stopwatch()
    second = await bench.gateway(next(iter(first.worker.table.lives.values())).route, server=away, store_config=store)
    assert watch.elapsed_s < 0.4
    assert await served(bench, second) == "candidate"


class Silent(MemoryStore):
    """A store that never answers reads."""

    async def revisions(self, routes: Sequence[str]) -> Mapping[str, int]:
        """Hang."""
        await asyncio.Event().wait()
        return await super().revisions(routes)


async def test_rd4_a_store_that_hangs_does_not_hold_up_a_start(bench: Bench) -> None:
    """Within the start budget the worker serves stable."""
    watch = Stopwatch()
    gateway = await two(bench, store=Silent())
    assert watch.elapsed_s < 1.0
    assert await served(bench, gateway) == "stable"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\x00", b'{"v": 99}'])
async def test_an_unreadable_state_on_disk_is_as_good_as_none(bench: Bench, content: bytes) -> None:
    """Without the store stable serves, and nothing breaks."""
    directory = bench.directory / "broken"
    (directory / "states").mkdir(parents=True)
    (directory / "states" / "r.state.json").write_bytes(content)
    away = MemoryServer()
    away.cut()
    gateway = await two(bench, server=away, store_config=StoreConfig(directory=str(directory)))
    assert await served(bench, gateway) == "stable"


async def test_the_newest_of_store_and_disk_is_served(bench: Bench) -> None:
    """An old state on disk does not replace the store's."""
    directory = bench.directory / "old"
    Snapshots(directory / "states").save(at(started(0), 3, weight_bp=10_000))
    gateway = await two(bench, states=[at(started(0), 4)], store_config=StoreConfig(directory=str(directory)))
    assert (gateway.revision(), await served(bench, gateway)) == (4, "stable")


def test_a_saved_state_is_only_replaced_by_a_newer_one(tmp_path: Path) -> None:
    """Whichever worker saves last; and no other file is left behind."""
    snapshots = Snapshots(tmp_path)
    for revision in (2, 5, 3):
        snapshots.save(at(started(0), revision))
    loaded = snapshots.load("r")
    assert loaded is not None
    assert loaded == at(started(0), 5)
    assert loaded.phase is Phase.PROGRESSING
    assert sorted(one.name for one in tmp_path.iterdir()) == ["lock", "r.state.json"]
    assert snapshots.load("other") is None


async def test_a_directory_that_cannot_be_written_does_not_stop_the_worker(bench: Bench) -> None:
    """Routing goes on; only the next start without the store would not know the state."""
    blocked = bench.directory / "file"
    blocked.write_text("not a directory")
    gateway = await two(bench, states=[started(10_000)], store_config=StoreConfig(directory=str(blocked)))
    assert await served(bench, gateway) == "candidate"


async def test_heartbeats_tell_what_is_routed_by_and_end_with_the_worker(bench: Bench) -> None:
    """The applied revision is told at once after a change; an orderly end removes the worker."""
    gateway = await two(bench, states=[started(0)], boot="b0")

    async def applied() -> int:
        beats = await gateway.store.heartbeats()
        assert [beat.boot for beat in beats] == ["b0"]
        return beats[0].applied["r"][0]

    await until(lambda: gateway.server.heartbeats, "the first sign of life")
    assert await applied() == 1
    state = await gateway.expose(weight_bp=100)
    async with asyncio.timeout(0.5):
        while await applied() != state.revision:  # noqa: ASYNC110 - a poll
            await asyncio.sleep(0.005)
    await gateway.worker.drain(1.0)
    bench.gateways.clear()
    assert await gateway.store.heartbeats() == []


# -- a store that has lost something, or holds what this version does not know ---------------------------------------


async def stored(gateway: Gateway, route: str = "r") -> RolloutState | None:
    """Return what the store holds."""
    return (await gateway.store.read_states([route])).get(route)


async def test_rd5_an_emptied_store_gets_back_what_is_routed_by(bench: Bench) -> None:
    """The next poll finds nothing there, and writes the same revision of the same content; nothing is routed anew."""
    gateway = await two(bench, states=[started(0)])
    state = await gateway.expose(weight_bp=10_000)
    gateway.server.states.clear()
    async with asyncio.timeout(3.0):
        while await stored(gateway) is None:  # noqa: ASYNC110 - a poll
            await asyncio.sleep(0.005)
    assert (await stored(gateway), gateway.revision()) == (state, state.revision)


async def test_rd5_what_a_worker_gives_back_it_routes_by_at_once() -> None:
    """The store came back older and was rolled back there: the worker does not wait for its own notice of that."""
    store, adopted = MemoryStore(MemoryServer()), list[RolloutState]()
    rolled_back = apply(at(started(0), 3), RollBack(reason="enough"), 1.0)
    assert await store.compare_and_set(rolled_back, 0, None)
    follower = Follower(store, ["r"], adopted.append, Mock(), lambda: 2.0)
    known = at(started(0), 7, 0, 10_000)
    follower.take([known])
    await follower.refresh()
    assert [(one.revision, one.phase) for one in adopted] == [(7, Phase.PROGRESSING), (8, Phase.ROLLED_BACK)]
    assert (await store.read_states(["r"]))["r"] == adopted[-1]


async def test_rd5_a_start_gives_an_emptied_store_what_is_on_disk(bench: Bench) -> None:
    """Everything was restarted and the store has lost all: the last good state is served and stored again."""
    config = StoreConfig(directory=str(bench.directory / "kept"))
    state = at(started(0), 7, 3, 10_000)
    Snapshots(states_directory(config)).save(state)
    gateway = await two(bench, store_config=config)
    assert (await stored(gateway), await served(bench, gateway)) == (state, "candidate")


async def test_rd5_states_of_another_store_are_not_given_to_this_one(bench: Bench) -> None:
    """A directory that was used with one store is used with the next: the new one is what counts."""
    directory = str(bench.directory / "moved")
    Snapshots(states_directory(StoreConfig(directory=directory))).save(at(started(0), 7, 3, 10_000))
    gateway = await two(bench, store_config=StoreConfig("redis://:secret@h:1/0", directory), states=[started(0)])
    assert (await stored(gateway), await served(bench, gateway)) == (started(0), "stable")


def test_the_directory_of_states_is_the_addresss(tmp_path: Path) -> None:
    """Another password, user or option is the same store; another host or number is not; no secret is in a name."""
    urls = [
        "redis://h:1/0",
        "redis://:secret@h:1/0",
        "redis://u:p@h:1/0?ssl=x",
        "redis://h:1/1",
        "rediss://h:1/0",
        None,
    ]
    found = [states_directory(StoreConfig(url, str(tmp_path))) for url in urls]
    assert len(set(found)) == 4
    assert len(set(found[:3])) == 1


async def test_cf7_a_state_with_fields_of_a_newer_version_is_routed_by(bench: Bench) -> None:
    """It routes as without them, and a rollback from either version is obeyed."""
    gateway = await beside(bench, started(0))
    newer = json.loads(encode_state(at(started(0), 2, 1, 10_000))) | {"added_later": {"x": [1]}}
    gateway.server.states["r"] = json.dumps(newer).encode()
    await until(lambda: gateway.revision() == 2, "the poll finds it")
    assert await served(bench, gateway) == "candidate"
    older = await gateway.decide(RollBack(reason="harm"))
    assert older.unknown == (("added_later", '{"x":[1]}'),)
    assert await served(bench, gateway) == "stable"
    newest = json.loads(encode_state(at(started(0, route="s"), 2, 1, 10_000))) | {"added_later": 1}
    gateway.server.states["s"] = json.dumps(newest).encode()
    await until(lambda: gateway.revision("s") == 2, "the poll finds it")
    back = json.loads(encode_state(apply(at(started(0, route="s"), 2, 1, 10_000), RollBack(reason="x"), 0.0)))
    gateway.server.states["s"] = json.dumps(back | {"added_later": 2}).encode()
    await until(lambda: gateway.revision("s") == 3, "the poll finds it")
    assert gateway.worker.table.standings["s"].candidate is None


async def test_cf7_a_state_of_a_newer_major_version_leaves_the_last_good_one_in_force(
    bench: Bench, lines: Callable[[], list[dict[str, object]]]
) -> None:
    """It is neither applied nor overwritten, other Routes go on, and one line says what to do."""
    gateway = await beside(bench, started(10_000))
    raw = encode_state(at(started(0), 9)).replace(b'"v":1', b'"v":2')
    gateway.server.states["r"] = raw
    await gateway.expose(weight_bp=100, route="s")
    await gateway.expose(weight_bp=200, route="s")
    assert (gateway.revision(), await served(bench, gateway)) == (1, "candidate")
    assert gateway.server.states["r"] == raw
    told = [line for line in lines() if line["event"] == "unreadable state"]
    assert len(told) == 1
    assert "a newer Turnout wrote this, update this one" in str(told[0]["why"])
