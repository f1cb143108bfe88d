"""Freeze windows in the control plane: who waits, who is refused, and what goes on all the same."""

from dataclasses import replace

import pytest

from router.control.commands import Change, RefusedError
from router.core.decisions import Advance, Judgement, Promote
from router.core.freeze import DatedFreeze
from router.core.rollout import Phase, Spec, Step
from tests.control.plant import CANARY, Plant, order

NOTHING_YET = Spec("v2", "canary", steps=(Step(bake_s=0), Step(weight_bp=100, bake_s=0)))
"""Its first step has no traffic, so it may begin, and be left without any evidence."""

SAID = "frozen until Fri 2027-01-15 09:00 UTC: fair"


@pytest.fixture
def frozen(plant: Plant) -> Plant:
    """The same plant in a freeze window of an hour; the other Route has none."""
    now_s = plant.clock()
    config = replace(plant.config, freeze={"digits": (DatedFreeze(now_s - 60.0, now_s + 3_600.0, reason="fair"),)})
    return Plant(plant.new_store, config, plant.clock)


async def test_the_files_block_waits_for_the_end_of_the_window(frozen: Plant) -> None:
    """It says why, and asks no candidate meanwhile; other Routes start."""
    other = replace(CANARY, steps=(Step(weight_bp=100),))
    loop = frozen.loop(blocks={"digits": CANARY, "opaque": other})
    for _ in range(2):
        await loop.turn()
        await loop.start_due_blocks()
    await loop.turn()
    assert loop.view.blocks == {"digits": SAID}
    assert frozen.prober.asked == ["v2"]
    assert (await frozen.states.read("opaque")).phase is Phase.PROGRESSING
    frozen.clock.advance(3_600)
    await loop.start_due_blocks()
    assert (await frozen.states.read("digits")).phase is Phase.PROGRESSING


async def test_an_operators_start_is_refused_with_the_reason(frozen: Plant) -> None:
    """And with what is possible instead."""
    with pytest.raises(RefusedError, match=SAID) as refused:
        await frozen.commands.start("digits", CANARY, order())
    assert "until then its traffic can only be lowered, paused or aborted" in str(refused.value)
    assert dict(await frozen.states.stored()) == {}


async def test_the_ramp_waits_and_goes_on_by_itself(frozen: Plant) -> None:
    """Neither the next step nor promotion passes; a second after the window both do."""
    await frozen.commands.start("digits", NOTHING_YET, order())
    loop = frozen.loop(propose=lambda *_: Advance(reason="next"))
    await loop.turn()
    assert (await frozen.states.read("digits")).step == 0
    frozen.clock.advance(3_600)
    await loop.turn()
    assert (await frozen.states.read("digits")).step == 1


async def test_what_it_waits_for_is_shown(frozen: Plant) -> None:
    """In any control process, with the end of the window."""
    state = await frozen.commands.start("digits", NOTHING_YET, order())
    outlook = frozen.loop("another", propose=lambda *_: Advance(reason="next")).outlook(state, Judgement(), ())
    assert (outlook.waits_for, outlook.next) == (SAID, None)


async def test_operators_can_take_back_and_have_the_last_word_on_promotion(frozen: Plant) -> None:
    """Raising is refused; lowering, pausing, resuming, `promote --full` and undoing are not."""
    commands = frozen.commands
    await commands.start("digits", NOTHING_YET, order())
    for refused in (
        commands.change("digits", Change(weight_bp=1), order()),
        commands.change("digits", Change(policy="blue_green"), order()),
        commands.promote("digits", order(), full=False),
    ):
        with pytest.raises(RefusedError, match=SAID):
            await refused
    await commands.pause("digits", order())
    await commands.resume("digits", order())
    await commands.promote("digits", order(), full=True)
    assert (await commands.undo("digits", order())).stable == "v1"


async def test_a_window_does_not_stop_the_loop_from_going_back(frozen: Plant) -> None:
    """`on_inconclusive: abort` in the middle of a freeze."""
    aborts = replace(NOTHING_YET, max_duration_s=1.0, on_inconclusive="abort")
    await frozen.commands.start("digits", aborts, order())
    frozen.clock.advance(5)
    await frozen.loop().turn()
    assert (await frozen.states.read("digits")).phase is Phase.ROLLED_BACK


async def test_promotion_by_the_loop_waits(frozen: Plant) -> None:
    """Also where the policy insists."""
    await frozen.commands.start("digits", replace(NOTHING_YET, steps=(Step(bake_s=0),)), order())
    await frozen.loop(propose=lambda *_: Promote(reason="done")).turn()
    assert (await frozen.states.read("digits")).phase is Phase.PROGRESSING
