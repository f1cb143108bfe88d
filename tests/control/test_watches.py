"""How long a step has baked: measured by clocks that never jump, over as many control processes as there are."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.control.loop import ControlLoop
from router.control.watches import Watches
from router.core.basis import Ages
from router.core.decisions import Advance, Pause
from router.core.ports import Heartbeat, Watched
from router.core.rollout import RolloutState, Spec, Step
from router.store.codec import decode_heartbeat, encode_heartbeat
from router.testing import ManualClock
from router.testing.samples import sample_heartbeat, sample_state
from tests.control.plant import Plant, order

HOUR_S = 3_600.0
BAKE_S = 60.0


def beat(watches: Watches, boot: str = "c1") -> Heartbeat:
    """Return what a control process tells."""
    return replace(sample_heartbeat(boot), kind="control", applied={}, watched=watches.told())


def at_exposure(number: int, since_s: float = 0.0) -> RolloutState:
    """Return a state with the exposure of this number."""
    state = sample_state("digits", number)
    return replace(state, exposure=replace(state.exposure, id=number, since_s=since_s), started_s=since_s)


# -- one measure, many processes ------------------------------------------------------------------------------------


def test_what_was_watched_survives_its_codec() -> None:
    """And a worker's beat, which has none, is as good as it was."""
    told = replace(sample_heartbeat("c1"), watched={"digits": Watched(3, 12.5, 1_790_000_000.125, 99.0)})
    assert told == decode_heartbeat(encode_heartbeat(told))
    assert b"watched" not in encode_heartbeat(sample_heartbeat("g1"))


@pytest.mark.parametrize("skew_s", [-HOUR_S, 0.0, HOUR_S])
def test_cl4_a_process_that_comes_later_takes_up_the_measure_of_the_one_before(skew_s: float) -> None:
    """Whatever its wall clock says: 40 s stay 40 s, and 15 s more are 55."""
    clock = ManualClock(1_000.0)
    first = Watches(clock, lambda: 0.0)
    first.look([at_exposure(3)])
    clock.advance(40.0)
    told = [beat(first)]
    later = Watches(clock, lambda: skew_s)
    later.look([at_exposure(3)], told)
    clock.advance(15.0)
    assert later.ages(at_exposure(3)) == Ages(55.0, 55.0)


@pytest.mark.parametrize("skew_s", [-HOUR_S, HOUR_S])
def test_cl4_a_step_that_nobody_has_told_of_begins_at_zero(skew_s: float) -> None:
    """The one who opened it was killed before its next beat: what it told is of the step before."""
    clock = ManualClock(1_000.0)
    first = Watches(clock, lambda: 0.0)
    first.look([at_exposure(3)])
    told = [beat(first)]
    later = Watches(clock, lambda: skew_s)
    later.look([at_exposure(4)], told)
    ages = later.ages(at_exposure(4))
    assert ages is not None
    assert ages.exposed_s == pytest.approx(0.0)


def test_a_rollout_older_than_any_heartbeat_is_taken_by_the_wall_clock() -> None:
    """There is nothing better, and a clock that is behind means no time at all."""
    for wall_s, age_s in ((100.0, 100.0), (-HOUR_S, 0.0)):
        watches = Watches(ManualClock(5.0), lambda wall_s=wall_s: wall_s)  # type: ignore[misc]
        watches.look([at_exposure(3)])
        assert watches.ages(at_exposure(3)) == Ages(age_s, age_s)


def test_a_resumed_rollout_runs_anew_and_its_step_bakes_on() -> None:
    """Two measures, each with its own beginning."""
    clock = ManualClock(1_000.0)
    watches = Watches(clock, lambda: 0.0)
    watches.look([at_exposure(3)])
    clock.advance(30.0)
    resumed = replace(at_exposure(3), started_s=77.0)
    assert watches.ages(resumed) is None, "nobody has looked since"
    watches.look([resumed])
    clock.advance(5.0)
    assert watches.ages(resumed) == Ages(35.0, 5.0)


events = st.lists(
    st.tuples(
        st.sampled_from(["look", "look", "look", "open", "die"]),
        st.integers(0, 2),
        st.sampled_from([0.0, 0.5, 1.0, 20.0]),
        st.sampled_from([0.0, -30.0, 30.0]),
    ),
    min_size=5,
    max_size=60,
)


@given(events, st.lists(st.sampled_from([0.0, -HOUR_S, HOUR_S]), min_size=3, max_size=3))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_cl4_no_measure_is_ever_longer_than_the_truth(
    history: Sequence[tuple[str, int, float, float]], skews: list[float]
) -> None:
    """Three processes with clocks that are off and step, look, die, come back and open steps in any order."""
    clock = ManualClock(10_000.0)
    walls = [ManualClock(skew) for skew in skews]
    processes = [Watches(clock, walls[number]) for number in range(3)]
    state, opened = at_exposure(1, walls[0]()), clock()
    processes[0].look([state])
    told = {0: beat(processes[0], "0")}
    for what, number, passed_s, step_s in history:
        clock.advance(passed_s)
        for wall in walls:
            wall.now_s += passed_s
        walls[number].now_s += step_s
        mine = processes[number]
        if what == "die":
            processes[number] = Watches(clock, walls[number])
            continue
        mine.look([state], list(told.values()))
        if what == "open":
            state, opened = at_exposure(state.exposure.id + 1, walls[number]()), clock()
        else:
            told[number] = beat(mine, str(number))
        for one in processes:
            ages = one.ages(state)
            assert ages is None or ages.exposed_s <= clock() - opened + 1e-6


# -- the loop -------------------------------------------------------------------------------------------------------


def loop_with(plant: Plant, boot: str, wall: ManualClock) -> ControlLoop:
    """Return a control process with a wall clock of its own; its monotonic clock is the plant's."""
    return ControlLoop(
        config=plant.config, store=plant.new_store(), policies=plant.policies, prober=plant.prober, boot=boot,
        now_s=wall, monotonic=plant.clock, propose=lambda *_: Advance(reason="next"),
    )  # fmt: skip


async def test_cl4_a_wall_clock_that_jumps_ends_no_bake_and_begins_none(plant: Plant) -> None:
    """An hour on, an hour back: the step is left after its bake by the clock that never jumps, to the second."""
    steps = tuple(Step(weight_bp=weight, bake_s=BAKE_S) for weight in (0, 0, 0))
    wall = ManualClock(plant.clock())
    loop = loop_with(plant, "c1", wall)
    await loop.turn()
    await loop.commands.start("digits", Spec("v2", "canary", steps=steps), order())
    for jump_s in (HOUR_S, -HOUR_S):
        before = (await plant.states.read("digits")).step
        wall.now_s += jump_s
        await loop.turn()
        plant.clock.advance(BAKE_S - 1.0)
        await loop.turn()
        assert (await plant.states.read("digits")).step == before
        plant.clock.advance(1.0)
        await loop.turn()
        assert (await plant.states.read("digits")).step == before + 1


async def test_cl4_the_next_leader_bakes_on_whatever_its_clock_says(plant: Plant) -> None:
    """Killed after 40 s of 60: 20 s later the step is left, not an hour early and not 40 s late."""
    steps = (Step(bake_s=BAKE_S), Step(bake_s=BAKE_S))
    first = loop_with(plant, "c1", ManualClock(plant.clock() - HOUR_S))
    await first.turn()
    await first.commands.start("digits", Spec("v2", "canary", steps=steps), order())
    plant.clock.advance(40.0)
    await first.turn()
    await plant.store.release_lease("c1")  # as if it had run out
    second = loop_with(plant, "c2", ManualClock(plant.clock() + HOUR_S))
    for passed_s, step in ((0.0, 0), (19.0, 0), (1.0, 1)):
        plant.clock.advance(passed_s)
        await second.turn()
        assert (await plant.states.read("digits")).step == step
    record = (await plant.store.decisions("digits", 1))[0]
    assert record.judgement.exposed_s == pytest.approx(BAKE_S)


async def test_cl4_the_longest_time_is_measured_too(plant: Plant) -> None:
    """An hour's jump does not use up max_duration; its own time does."""
    spec = Spec("v2", "canary", steps=(Step(bake_s=9 * HOUR_S),), max_duration_s=2 * HOUR_S)
    wall = ManualClock(plant.clock())
    loop = ControlLoop(
        config=plant.config, store=plant.new_store(), policies=plant.policies, prober=plant.prober, boot="c1",
        now_s=wall, monotonic=plant.clock,
    )  # fmt: skip
    await loop.turn()
    started = await loop.commands.start("digits", spec, order())
    wall.now_s += 3 * HOUR_S
    await loop.turn()
    assert (await plant.states.read("digits")).revision == started.revision
    plant.clock.advance(2 * HOUR_S)
    await loop.turn()
    record = (await plant.store.decisions("digits", 1))[0]
    assert (record.kind, record.reason.startswith("inconclusive after 2h")) == (Pause.kind, True)
