"""A blue/green rollout and the loop: who has to agree before all traffic moves, and before it is promoted."""

from dataclasses import replace

import pytest

from router.control.commands import RefusedError
from router.control.loop import ControlLoop
from router.core.decisions import Counts, Judgement
from router.core.rollout import GateSpec, Phase, RolloutState, Spec
from tests.control.plant import Plant, order

DAY_S = 86_400.0
SPEC = Spec(
    "v2", "blue_green", rollback_window_s=DAY_S, max_duration_s=7 * DAY_S,
    gates=(
        GateSpec("more_errors", "error_rate", max_increase=0.005),
        GateSpec("most_errors", "error_rate", maximum=0.02),
    ),
)  # fmt: skip
UNDECIDED = Judgement(reason="1 of 2 gates have not passed yet", counts=Counts(0, 9_000, 9_000))
PASSED = replace(UNDECIDED, promote=True, reason="both gates pass")


class Bench:
    """A loop on the plant, with a judge that says what the test wants and evidence that never ends."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.judgement = UNDECIDED
        self.loop: ControlLoop = plant.loop()
        self.loop.states.judgement = lambda *_args, **_more: self.judgement  # type: ignore[method-assign]

    async def pass_time(self, seconds: float, turns: int = 1) -> RolloutState:
        """Let the time pass in so many turns; return where the rollout stands then."""
        for _ in range(turns):
            self.plant.clock.advance(seconds / turns)
            self.loop._arrived.clear()  # noqa: SLF001 - as if requests had come in each turn
            await self.loop.turn()
        return await self.plant.states.read("digits")


@pytest.fixture
async def bench(plant: Plant) -> Bench:
    """A rollout that has just begun to warm up."""
    await plant.commands.start("digits", SPEC, order())
    return Bench(plant)


async def test_cl6_an_undecided_judge_moves_no_traffic_and_leaves_it_to_a_person(bench: Bench) -> None:
    """Neither the switch nor promotion, however long it takes; at its longest time it pauses."""
    state = await bench.pass_time(6 * DAY_S, turns=40)
    assert (state.step, state.phase) == (0, Phase.PROGRESSING)
    waits_for = bench.loop.outlook(state, UNDECIDED, ()).waits_for
    assert waits_for == "all traffic moves when the judge agrees: 1 of 2 gates have not passed yet"
    paused = await bench.pass_time(2 * DAY_S)
    assert (paused.step, paused.phase) == (0, Phase.PAUSED)
    await bench.plant.commands.resume("digits", order())
    assert (await bench.pass_time(DAY_S, turns=10)).step == 0
    by_hand = await bench.plant.commands.promote("digits", order(), full=False)
    assert (by_hand.step, by_hand.exposure.weight_bp) == (1, 10_000)
    assert (await bench.pass_time(3 * DAY_S, turns=10)).phase is Phase.PROGRESSING
    with pytest.raises(RefusedError, match="promotion waits for the judge"):
        await bench.plant.commands.promote("digits", order(), full=False)


async def test_it_switches_serves_the_whole_window_and_promotes(bench: Bench) -> None:
    """The old variant is there until the last second; then it can be undone for as long again."""
    bench.judgement = PASSED
    assert (await bench.pass_time(59.0)).step == 0
    state = await bench.pass_time(1.0)
    assert (state.step, state.exposure.weight_bp, state.exposure.mirror_bp) == (1, 10_000, 1_000)
    assert (await bench.pass_time(DAY_S - 1.0, turns=5)).phase is Phase.PROGRESSING
    assert (await bench.pass_time(2.0)).phase is Phase.PROMOTED
    await bench.pass_time(DAY_S - 1.0)
    undone = await bench.plant.commands.undo("digits", order())
    assert (undone.phase, undone.stable) == (Phase.ROLLED_BACK, "v1")


async def test_harm_within_the_window_takes_everything_back_in_one_turn(bench: Bench) -> None:
    """Without waiting for its end."""
    bench.judgement = PASSED
    await bench.pass_time(60.0)
    bench.judgement = replace(UNDECIDED, rollback=True, reason="it fails")
    state = await bench.pass_time(1.0)
    assert (state.phase, state.stable, state.exposure.weight_bp) == (Phase.ROLLED_BACK, "v1", 0)
