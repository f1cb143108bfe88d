"""The store comes back empty or older: gateways and control give it back what they remember, all at once."""

import random
from dataclasses import replace

import pytest

from router.control.loop import ControlLoop
from router.core.config import TurnoutConfig
from router.core.errors import StoreUnavailableError, TurnoutError
from router.core.ports import Heartbeat, Store
from router.core.rollout import Phase, RolloutState
from router.gateway.following import Follower
from router.store.codec import decode_state
from router.testing import MemoryServer, MemoryStore
from tests.control.plant import CANARY, Plant, order, route_named


class Gateway:
    """A gateway as far as the store is concerned: the real Follower, and each state it has routed by."""

    def __init__(self, store: Store, saved: RolloutState | None = None) -> None:
        self.adopted: list[RolloutState] = []
        self.follower = Follower(store, ("digits",), self.adopted.append, on_store=lambda **_: None, now_s=lambda: 0.0)
        self.follower.take([saved] if saved else [])

    async def look(self) -> RolloutState:
        """Read and give back; return what is routed by then."""
        await self.follower.refresh(whole=True)
        return self.adopted[-1]


async def lose(plant: Plant, older: RolloutState | None) -> None:
    """Let the store come back with `older`, or with nothing."""
    store = plant.new_store()
    if isinstance(store, MemoryStore):
        server = store.server
        for one in (server.states, server.records, server.evidence, server.heartbeats):
            one.clear()
        server.lease = type(server.lease)()
    else:
        await store._connections.ask("FLUSHALL")  # type: ignore[attr-defined]  # noqa: SLF001 - as an operator would
    if older:
        assert await store.compare_and_set(older, 0, None)


async def turned(loop: ControlLoop) -> ControlLoop:
    """Do one turn and whatever it found to start."""
    await loop.turn()
    await loop.start_due_blocks()
    return loop


@pytest.mark.parametrize("empty", [True, False], ids=["empty", "older"])
async def test_rd5_control_gives_back_what_it_has_seen_before_it_decides(plant: Plant, empty: bool) -> None:  # noqa: FBT001
    """The next turn writes it back, with a new lease whose epoch is higher; a rolled back rollout stays so."""
    loop = await turned(plant.loop(blocks={"digits": CANARY}))
    older = await plant.states.read("digits")
    await plant.commands.abort("digits", order())
    before = (await turned(loop)).view.states["digits"]
    assert before.phase is Phase.ROLLED_BACK
    await lose(plant, None if empty else older)
    await turned(loop)
    after = (await turned(loop)).view.states["digits"]
    assert replace(after, epoch=before.epoch) == before
    assert after.epoch >= before.epoch
    assert loop.view.epoch == after.epoch


async def test_rd5_an_operators_command_is_applied_to_what_was_lost(plant: Plant) -> None:
    """Not to the older state: the abort comes after everything that this process has seen."""
    await plant.commands.start("digits", CANARY, order())
    older = await plant.states.read("digits")
    await plant.commands.promote("digits", order(), full=False)
    await lose(plant, older)
    aborted = await plant.commands.abort("digits", order("no more"))
    assert (aborted.revision, aborted.phase, len(aborted.past)) == (3, Phase.ROLLED_BACK, 2)


async def test_rd5_gateways_give_back_what_a_new_control_process_cannot_know(plant: Plant) -> None:
    """It finds an empty store and a block in its file; a gateway's sign of life keeps it from starting that anew."""
    gateway = Gateway(plant.new_store())
    await turned(plant.loop("old", blocks={"digits": CANARY}))
    await plant.commands.abort("digits", order())
    known = await gateway.look()
    assert known.phase is Phase.ROLLED_BACK
    await lose(plant, None)
    await plant.store.beat(
        Heartbeat("g1", "gateway", "h", 1, plant.clock(), plant.config.digest,
                  {"digits": (known.revision, plant.clock())})
    )  # fmt: skip
    new = await turned(plant.loop("new", blocks={"digits": CANARY}))
    assert "waits: the store has revision 0, yet replicas route g1 by 2" in new.view.blocks["digits"]
    assert await plant.store.read_states(["digits"]) == {}
    await gateway.look()
    await turned(new)
    after = (await turned(new)).view.states["digits"]
    assert replace(after, epoch=known.epoch) == known
    assert "digits" not in new.view.blocks


async def test_rd5_what_a_new_control_process_began_meanwhile_gives_way(plant: Plant) -> None:
    """Nobody told it: it starts the block again; the gateway that saw it rolled back takes the weight away for good."""
    gateway = Gateway(plant.new_store())
    await turned(plant.loop("old", blocks={"digits": CANARY}))
    for _ in range(3):
        await plant.commands.promote("digits", order(), full=False) if _ < 2 else None
    await plant.commands.abort("digits", order())
    known = await gateway.look()
    await lose(plant, None)
    new = await turned(plant.loop("new", blocks={"digits": CANARY}))
    unaware = await plant.store.read_states(["digits"])
    assert unaware["digits"].phase is Phase.PROGRESSING
    assert await gateway.look() == known
    assert (await turned(new)).view.states["digits"].phase is Phase.ROLLED_BACK


async def test_cl10_an_unreadable_state_hides_no_other_routes_change(plant: Plant) -> None:
    """That Route stays as it is and says why; the other one goes on; what is deleted is written back."""
    gateway = Gateway(plant.new_store())
    loop = await turned(plant.loop(blocks={"digits": CANARY}))
    await gateway.look()
    if isinstance(plant.store, MemoryStore):
        plant.store.server.states["digits"] = b"{}"
    else:
        await plant.store._connections.ask("HSET", "turnout:{digits}:state", "body", "{}")  # type: ignore[attr-defined]  # noqa: SLF001
    started = await plant.commands.start("opaque", replace(CANARY, steps=(CANARY.steps[1],)), order())
    await turned(loop)
    assert loop.store_up
    assert loop.view.states == {"opaque": started}
    fenced = (await plant.store.read_states(["opaque"]))["opaque"]
    assert fenced.epoch == loop.view.epoch
    why = loop.states.unreadable["digits"]
    assert "delete the key 'turnout:{digits}:state'" in why
    with pytest.raises(StoreUnavailableError, match="within 2 s"):
        await plant.commands.abort("digits", order())
    await gateway.look()
    assert len(gateway.adopted) == 1
    if isinstance(plant.store, MemoryStore):
        del plant.store.server.states["digits"]
    else:
        await plant.store._connections.ask("DEL", "turnout:{digits}:state")  # type: ignore[attr-defined]  # noqa: SLF001
    await gateway.look()
    assert (await plant.commands.abort("digits", order())).phase is Phase.ROLLED_BACK


# -- many at once ---------------------------------------------------------------------------------------------------


class History:
    """A store that loses states at random, and all who remember: three gateways, two old control processes."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.server = MemoryServer()
        self.gateways = [Gateway(MemoryStore(self.server)) for _ in range(3)]
        config = TurnoutConfig(routes={"digits": route_named("digits")})
        self.plants = [Plant(lambda: MemoryStore(self.server), config) for _ in range(2)]
        self.kept: list[bytes] = []

    async def step(self) -> None:
        """Let one thing happen."""
        dice, server = self.dice, self.server
        if dice.random() < 0.15 and "digits" in server.states:
            self.kept.append(server.states["digits"])  # a backup is made
        if dice.random() < 0.1 and self.kept:
            server.states["digits"] = dice.choice(self.kept)
        elif dice.random() < 0.05:
            server.states.clear()
        elif dice.random() < 0.5:
            await dice.choice(self.gateways).look() if server.states else None
        else:
            await self.command()

    async def command(self) -> None:
        """Let an operator do something, by one of the old processes or by one that has just begun."""
        old = self.plants[0]
        unaware = Plant(old.new_store, old.config, policies=old.policies)
        commands = self.dice.choice([*self.plants, unaware]).commands
        given = order()
        try:
            match self.dice.randrange(5):
                case 0:
                    await commands.start("digits", CANARY, given)
                case 1:
                    await commands.promote("digits", given, full=False)
                case 2:
                    await commands.retry("digits", given)
                case 3:
                    await commands.promote("digits", given, full=True)
                case _:
                    await commands.abort("digits", given)
        except TurnoutError:
            return  # not possible just then


@pytest.mark.parametrize("seeds", [range(50), range(50, 100), range(100, 150)])
async def test_rd5_whoever_remembers_what_all_end_in_one_history(seeds: range) -> None:
    """No gateway ever resumes what it knew to be rolled back, nor goes back in epoch or revision; all agree at last."""
    losses = 0
    for seed in seeds:
        history = History(seed)
        for _ in range(60):
            await history.step()
        for _ in range(6):
            for gateway in history.gateways:
                await gateway.look() if history.server.states or gateway.adopted else None
            for plant in history.plants:
                await plant.states.read("digits")
        if not history.server.states:
            continue
        final = decode_state(history.server.states["digits"])
        assert [gateway.adopted[-1] for gateway in history.gateways] == [final] * 3, seed
        for gateway in history.gateways:
            ended: set[str] = set()
            numbers = [(state.revision, state.epoch) for state in gateway.adopted]
            assert numbers == sorted(numbers), seed
            for state in gateway.adopted:
                assert state.id not in ended or state.phase is Phase.ROLLED_BACK, (seed, state)
                if state.phase is Phase.ROLLED_BACK:
                    ended.add(state.id)
        losses += len(history.kept)
    assert losses > 100  # backups; about as many times the store came back by one of them
