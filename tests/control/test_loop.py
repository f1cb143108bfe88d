"""The control loop: what one turn does, and that nothing ends it. On memory and on Valkey."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest

from router.control.loop import ControlLoop
from router.core.basis import Facts
from router.core.decisions import Advance, Decision, DecisionRecord, Judgement, Promote, SetExposure
from router.core.observations import CounterKey
from router.core.ports import Notice, RecordBatch
from router.core.rollout import Phase, RolloutState, Spec, Step
from router.settings import block_hash
from router.store.codec import encode_pairs
from router.testing import MemoryServer, MemoryStore
from tests.control.plant import CANARY, Plant, order

OTHER = Spec("v3", "shadow", steps=(Step(mirror_bp=10_000),))


async def turned(loop: ControlLoop) -> ControlLoop:
    """Do one turn and whatever it found to start."""
    await loop.turn()
    await loop.start_due_blocks()
    return loop


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, at most 10 s."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the conditions of these tests have no event
            await asyncio.sleep(0.005)


# -- fencing --------------------------------------------------------------------------------------------------------


async def test_a_new_holder_writes_its_epoch_into_every_stored_state_and_nothing_else(plant: Plant) -> None:
    """Revision and exposure stay, so no gateway has anything to apply; the ledger stays empty of it."""
    before = {name: await plant.commands.start(name, replace(CANARY, steps=(Step(weight_bp=100),)), order())
              for name in ("digits", "opaque")}  # fmt: skip
    loop = await turned(plant.loop())
    epoch = loop.view.epoch
    assert epoch is not None
    assert {name: replace(state, epoch=epoch) for name, state in before.items()} == dict(await plant.states.stored())
    assert [record.kind for record in await plant.store.decisions("digits", 9)] == ["start"]


async def test_a_state_that_an_operator_wrote_first_is_fenced_by_the_next_turn(plant: Plant) -> None:
    """A Route that was never stored has no epoch; it gets one as soon as it is seen."""
    loop = await turned(plant.loop())
    assert (await plant.commands.start("digits", CANARY, order())).epoch == 0
    await turned(loop)
    assert (await plant.states.read("digits")).epoch == loop.view.epoch


class AsleepBeforeWriting(MemoryStore):
    """A store whose process is stopped right before its first write, while `meanwhile` happens."""

    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def compare_and_set(self, state: RolloutState, expected_revision: int, record: DecisionRecord | None) -> bool:
        """Sleep, wake, write."""
        if record is not None and self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        return await super().compare_and_set(state, expected_revision, record)


async def test_cl2_a_holder_that_was_replaced_cannot_write_and_stops(
    plant: Plant, lines: Callable[[], list[dict[str, object]]]
) -> None:
    """It decides, is stopped longer than its lease, wakes and writes: the write fails, and it says so once."""
    server = MemoryServer()
    sleepy = AsleepBeforeWriting(server)
    plant.store, plant.new_store = MemoryStore(server), lambda: sleepy
    await plant.commands_on(MemoryStore(server)).start("digits", CANARY, order())
    old = plant.loop("old", propose=lambda *_: SetExposure(reason="old", mirror_bp=1))
    plant.new_store = lambda: MemoryStore(server)
    new = plant.loop("new")

    async def take_over() -> None:
        await plant.store.release_lease("old")  # as if it had run out
        await new.turn()

    sleepy.meanwhile = take_over
    await old.turn()
    state = (await plant.store.read_states(("digits",)))["digits"]
    assert (10_000, new.view.epoch) == (state.exposure.mirror_bp, state.epoch)
    await old.turn()
    await old.turn()
    assert old.view.epoch is None
    assert [line["event"] for line in lines()] == ["another control process decides now"]


async def test_cl3_two_loops_at_once_leave_one_writer_for_each_epoch(plant: Plant) -> None:
    """Whoever holds the lease decides; the lease changes hands, and epochs in the ledger only grow."""
    await plant.commands.start("digits", CANARY, order())
    less = [plant.loop(boot, propose=lambda state, *_: lower(state)) for boot in ("a", "b")]
    for number in range(12):
        await asyncio.gather(*(loop.turn() for loop in less))
        if number % 4 == 3:
            await plant.store.release_lease("a")
            await plant.store.release_lease("b")
    ledger = [record for record in reversed(await plant.store.decisions("digits", 99)) if record.kind == "set_exposure"]
    assert len(ledger) >= 10
    assert len({record.epoch for record in ledger}) >= 3
    assert sorted(record.epoch for record in ledger) == [record.epoch for record in ledger]
    shares = [(record.mirror_bp_before, record.mirror_bp_after) for record in ledger]
    assert [(10_000 - n, 9_999 - n) for n in range(len(ledger))] == shares, "an update was lost or interleaved"


def lower(state: RolloutState) -> Decision:
    """Propose one basis point less of copies."""
    return SetExposure(reason="less", mirror_bp=state.exposure.mirror_bp - 1)


# -- the file's blocks ----------------------------------------------------------------------------------------------


async def test_a_block_the_store_has_never_seen_is_started_once(plant: Plant) -> None:
    """By the file, under the id of its hash; a restarted process does not start it again, not even after its end."""
    loop = await turned(plant.loop(blocks={"digits": CANARY}))
    state = await plant.states.read("digits")
    assert (Phase.PROGRESSING, f"{block_hash(CANARY)}.1") == (state.phase, state.id)
    record = (await plant.store.decisions("digits", 1))[0]
    assert ("start", "config:file", loop.view.epoch) == (record.kind, record.actor, record.epoch)
    ended = await plant.commands.abort("digits", order())
    await plant.store.release_lease("control-1")
    again = await turned(await turned(plant.loop("control-2", blocks={"digits": CANARY})))
    assert again.view.epoch is not None
    assert again.view.blocks == {}
    assert replace(ended, epoch=again.view.epoch) == await plant.states.read("digits")


async def test_a_changed_block_waits_for_the_running_rollout_and_then_starts(plant: Plant) -> None:
    """Until then it is shown as waiting, and the running one is not touched."""
    running = await plant.commands.start("digits", CANARY, order())
    loop = await turned(plant.loop(blocks={"digits": OTHER}))
    assert {"digits": f"waits until {running.id} has ended"} == loop.view.blocks
    assert running.id == (await plant.states.read("digits")).id
    await plant.commands.abort("digits", order())
    await turned(await turned(loop))
    state = await plant.states.read("digits")
    assert (state.candidate, loop.view.blocks) == ("v3", {})


async def test_a_block_whose_candidate_is_not_there_yet_is_tried_again(
    plant: Plant, lines: Callable[[], list[dict[str, object]]]
) -> None:
    """The reason is shown and logged once, however often it is tried; when the candidate is there it starts."""
    plant.prober.unwell["v2"] = "127.0.0.1:9001 cannot be reached"
    loop = plant.loop(blocks={"digits": CANARY})
    for _ in range(3):
        await turned(loop)
    await loop.turn()
    assert "cannot be reached" in loop.view.blocks["digits"]
    assert len(plant.prober.asked) == 3
    assert len([line for line in lines() if line["event"] == "the file's rollout block cannot start yet"]) == 1
    plant.prober.unwell.clear()
    await loop.start_due_blocks()
    assert (await plant.states.read("digits")).phase is Phase.PROGRESSING


async def test_an_operator_who_was_faster_with_the_same_block_is_not_repeated(plant: Plant) -> None:
    """Between the turn that found it due and the start somebody ran the same block and ended it."""
    loop = plant.loop(blocks={"digits": CANARY})
    await loop.turn()
    await plant.commands.start("digits", CANARY, order())
    ended = await plant.commands.abort("digits", order())
    await loop.start_due_blocks()
    assert ended == await plant.states.read("digits")


async def test_a_process_without_the_lease_starts_nothing(plant: Plant) -> None:
    """It beats and watches."""
    holder = await turned(plant.loop("holder"))
    other = await turned(plant.loop("other", blocks={"digits": CANARY}))
    assert (holder.view.epoch is not None, other.view.epoch) == (True, None)
    assert dict(await plant.states.stored()) == {}
    assert [one.boot for one in await plant.store.heartbeats()] == ["holder", "other"]


# -- deciding -------------------------------------------------------------------------------------------------------


async def test_a_proposal_goes_through_guard_apply_and_compare_and_set(plant: Plant) -> None:
    """The step is held until its counts are there; the evidence of all boots counts, and the record holds it."""
    spec = replace(CANARY, steps=(Step(mirror_bp=10_000, bake_s=60, min_pairs=3), Step(weight_bp=100)))
    state = await plant.commands.start("digits", spec, order())
    loop = plant.loop(propose=lambda *_: Advance(reason="next"))
    await loop.turn()
    plant.clock.advance(61)
    await loop.turn()
    assert (await plant.states.read("digits")).step == 0
    for boot, pairs in (("g1", 2), ("g2", 1)):
        counters = {CounterKey(state.exposure.id, "pair", "", "pair", "both"): pairs}
        await plant.store.append(RecordBatch("digits", state.id, boot, 1, 0, encode_pairs([]), counters), 2**20)
    await loop.turn()
    moved = await plant.states.read("digits")
    record = (await plant.store.decisions("digits", 1))[0]
    assert (
        moved.step, moved.exposure.weight_bp, record.kind, record.actor, record.judgement.counts.pairs,
    ) == (1, 100, "advance", "control", 3)  # fmt: skip


async def test_a_paused_rollout_is_left_alone(plant: Plant) -> None:
    """Nobody is asked for proposals while an operator has stopped it."""
    await plant.commands.start("digits", replace(CANARY, steps=(Step(weight_bp=1, bake_s=0),) * 2), order())
    paused = await plant.commands.pause("digits", order())
    await plant.loop(propose=lambda *_: Advance(reason="next")).turn()
    assert paused.revision == (await plant.states.read("digits")).revision


async def test_cl6_the_loop_cannot_promote_without_the_judge(plant: Plant) -> None:
    """Whatever is proposed, guard has the last word."""
    await plant.commands.start("digits", CANARY, order())
    await plant.loop(propose=lambda *_: Promote(reason="all good", full=True)).turn()
    assert (await plant.states.read("digits")).phase is Phase.PROGRESSING


# -- trouble --------------------------------------------------------------------------------------------------------


async def test_a_lost_store_freezes_the_loop_and_is_logged_once_for_each_change(
    plant: Plant, lines: Callable[[], list[dict[str, object]]]
) -> None:
    """Ten turns without store are one line; when it is back the loop goes on where it was."""
    server = MemoryServer()
    plant.new_store = lambda: MemoryStore(server)
    loop = await turned(plant.loop())
    up = [loop.store_up]
    server.cut()
    for _ in range(10):
        await loop.turn()
    up.append(loop.store_up)
    server.mend()
    await loop.turn()
    assert [*up, loop.store_up] == [True, False, True]
    assert [line["event"] for line in lines()] == ["the store is away; nothing is decided until it is back"]


async def test_a_route_that_breaks_does_not_stop_the_others(
    plant: Plant, lines: Callable[[], list[dict[str, object]]]
) -> None:
    """A poisoned Route is reported once; the turn ends and the other Route moves."""
    spec = Spec("v2", "canary", steps=(Step(weight_bp=2, bake_s=0), Step(weight_bp=1, bake_s=0)))
    for name in ("digits", "opaque"):
        await plant.commands.start(name, spec, order())

    def propose(state: RolloutState, _judgement: Judgement, _facts: Facts, _now_s: float) -> Decision:
        if state.route == "digits":
            raise ZeroDivisionError("poison")
        return SetExposure(reason="less", weight_bp=0)

    loop = plant.loop(propose=propose)
    for _ in range(3):
        await loop.turn()
    assert [(await plant.states.read(name)).exposure.weight_bp for name in ("digits", "opaque")] == [2, 0]
    failed = [line for line in lines() if line["event"] == "a turn has failed; it is tried again each second"]
    assert [line["what"] for line in failed] == ["policy of digits"]


async def test_drift_between_file_and_store_is_reported_once(
    plant: Plant, lines: Callable[[], list[dict[str, object]]]
) -> None:
    """After a promotion the file still names the old stable variant."""
    await plant.commands.start("digits", CANARY, order())
    await plant.commands.promote("digits", order(), full=True)
    loop = plant.loop()
    for _ in range(3):
        await loop.turn()
    assert [line["drift"] for line in lines() if line["event"] == "file and store differ"] == [
        "the file names v1 as stable, the store v2; the store decides"
    ]


# -- running --------------------------------------------------------------------------------------------------------


async def test_a_notice_wakes_the_loop_before_its_time(plant: Plant) -> None:
    """With a turn an hour, an operator's change is seen at once."""
    loop = plant.loop(interval_s=3_600)
    running = asyncio.create_task(loop.run())
    await until(lambda: loop.view.epoch is not None)
    await plant.commands.start("digits", CANARY, order())
    while "digits" not in loop.view.states:  # seen once the line of notices stands
        await plant.commands.approve("digits", order())
    for command in (plant.commands.pause, plant.commands.resume, plant.commands.pause, plant.commands.abort):
        state = await command("digits", order())
        await until(partial(lambda wanted: loop.view.states["digits"].revision == wanted, state.revision))
    await end(running)


async def test_a_running_loop_starts_blocks_and_leaves_nothing_behind(plant: Plant) -> None:
    """Cancelled, it gives the lease back; its heartbeat stays, for it tells the next one what was measured."""
    loop = plant.loop(blocks={"digits": CANARY}, interval_s=0.05)
    running = asyncio.create_task(loop.run())
    await until(lambda: "digits" in loop.view.states)
    await end(running)
    assert [sorted(one.watched) for one in await plant.store.heartbeats()] == [["digits", "opaque"]]
    assert await plant.store.acquire_lease("next", 5, 0) is not None


async def test_a_lost_store_does_not_end_a_running_loop(plant: Plant) -> None:
    """Cut off and mended, it turns on."""
    server = MemoryServer()
    plant.new_store = lambda: MemoryStore(server)
    loop = plant.loop(interval_s=0.01)
    running = asyncio.create_task(loop.run())
    for up in (True, False, True):
        server.mend() if up else server.cut()
        await until(partial(lambda wanted: loop.store_up is wanted, up))
    await end(running)


class BrokenLine(MemoryStore):
    """A store whose line of notices has a bug."""

    async def notices(self) -> AsyncIterator[Notice]:
        """Fail in a way that nobody expects."""
        if self.server.up:
            raise LookupError("a bug")
        yield Notice("", 0)


async def test_a_bug_in_a_background_task_ends_the_loop_aloud(
    plant: Plant, lines: Callable[[], list[dict[str, object]]]
) -> None:
    """Whoever runs it sees the exception and can end the process; the log has it too."""
    plant.new_store = BrokenLine
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(plant.loop().run(), 10)
    assert caught.group_contains(LookupError, match="a bug")
    assert [line["event"] for line in lines()] == ["the control loop has failed"]


async def end(running: "asyncio.Task[None]") -> None:
    """Cancel a loop and see that nothing else ended it."""
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_the_loop_knows_for_how_long_it_has_been_silent(plant: Plant) -> None:
    """A turn counts whether or not the store answered."""
    loop = plant.loop()
    plant.clock.advance(7)
    assert loop.silent_s == pytest.approx(7)
    await loop.turn()
    assert loop.silent_s == pytest.approx(0)
