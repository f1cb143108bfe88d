"""Slices in control: places are given by the traffic of all workers, on record, once; labels are counted by slice."""

from dataclasses import replace

import pytest

from router.control.commands import RefusedError
from router.control.replay import Outcome, replay
from router.core.config import MIB
from router.core.observations import BOTH, PAIR
from router.core.ports import Heartbeat, RecordBatch
from router.core.rollout import GateSpec, Phase, RolloutState, Spec, Step
from router.core.slices import Popular, SliceSource
from tests.analysis.ledger import paired
from tests.control.ledgers import ledger
from tests.control.plant import Plant, order
from tests.control.test_feedback import Gateway, answered, said, taken

EACH = GateSpec("tenants", "error_rate", max_increase=0.01, slices="each")
ERRORS = GateSpec("errors", "error_rate", max_increase=0.01)
SPEC = Spec("v2", "canary", steps=(Step(weight_bp=5_000, mirror_bp=1_000, bake_s=3_600.0),), gates=(ERRORS, EACH))


@pytest.fixture
def sliced(plant: Plant) -> Plant:
    """Return a plant whose Route has slices by tenant, two of them with a place."""
    route = replace(plant.config.routes["digits"], slices=(SliceSource.parse("header:x-tenant"),), max_slices=2)
    return Plant(plant.new_store, replace(plant.config, routes={**plant.config.routes, "digits": route}))


async def told(plant: Plant, boot: str, popular: Popular) -> None:
    """Beat as a gateway worker that has counted."""
    beat = Heartbeat(boot, "gateway", "h", 1, plant.clock(), "c0ffee", {}, popular={"digits": popular})
    await plant.store.beat(beat)


def seen(state: RolloutState, requests: int, /, **tenants: int) -> Popular:
    """Return what a worker has counted."""
    return Popular(state.id, {"tenant": requests}, {f"tenant={name}": number for name, number in tenants.items()})


async def test_places_are_given_by_the_traffic_of_all_workers_on_record_and_once(sliced: Plant) -> None:
    """Together they have seen enough; what comes later, or of another rollout, finds none. The decision replays."""
    state = await sliced.commands.start("digits", SPEC, order())
    assert state.slices == ("tenant=other", "tenant=none", "tenant=", "tenant=")
    loop = sliced.loop()
    await told(sliced, "g1", seen(state, 600, acme=100, bolt=150))
    await loop.turn()
    assert (await sliced.states.read("digits")).slices == state.slices
    await told(sliced, "g2", seen(state, 600, acme=200, zinc=120))
    await told(sliced, "g3", replace(seen(state, 9_000, huge=9_000), rollout="older.1"))
    await loop.turn()
    given = await sliced.states.read("digits")
    assert given.slices == ("tenant=other", "tenant=none", "tenant=acme", "tenant=bolt")
    assert (given.exposure, given.revision) == (state.exposure, state.revision + 1)
    await told(sliced, "g1", seen(state, 90_000, late=80_000))
    for again in (loop, sliced.loop("control-2")):
        await again.turn()
    assert await sliced.states.read("digits") == given
    (record, _) = await sliced.store.decisions("digits", 5)
    assert (record.kind, record.actor) == ("give_places", "control")
    assert record.reason == (
        "judged by themselves from now on: tenant=acme (25% of 1,200 requests), tenant=bolt (12% of 1,200 requests)"
    )
    assert [replay(one, sliced.policies).outcome for one in await ledger(sliced)] == [Outcome.SAME] * 2


async def test_places_are_given_while_it_is_paused_and_not_after_its_end(sliced: Plant) -> None:
    """Copies go on while it is paused, and harm is taken back then too."""
    state = await sliced.commands.start("digits", SPEC, order())
    await sliced.commands.pause("digits", order())
    loop = sliced.loop()
    await told(sliced, "g1", seen(state, 1_000, acme=100))
    await loop.turn()
    assert (await sliced.states.read("digits")).slices[2:] == ("tenant=acme", "tenant=")
    ended = await sliced.commands.abort("digits", order())
    await told(sliced, "g1", seen(state, 2_000, acme=100, bolt=900))
    await loop.turn()
    assert await sliced.states.read("digits") == ended
    again = await sliced.commands.retry("digits", order())
    assert again.slices == state.slices


async def test_the_slices_of_a_rollout_outlive_a_change_of_the_file(sliced: Plant) -> None:
    """Its table and so its weights are those of its start, whatever `slices` and `max_slices` say later."""
    state = await sliced.commands.start("digits", SPEC, order())
    route = replace(sliced.config.routes["digits"], max_slices=20)
    after = Plant(sliced.new_store, replace(sliced.config, routes={**sliced.config.routes, "digits": route}))
    loop = after.loop()
    await told(after, "g1", seen(state, 1_000, a=400, b=300, c=200))
    await loop.turn()
    assert (await after.states.read("digits")).slices == ("tenant=other", "tenant=none", "tenant=a", "tenant=b")


async def test_a_gate_of_each_slice_may_count_in_any_step_but_in_some(sliced: Plant) -> None:
    """It need not pass, so the last step may be one in which it is not measured."""
    flips = GateSpec("flips", "disagreement", maximum=0.01, slices="each")
    steps = (Step(mirror_bp=10_000), Step(weight_bp=5_000))
    with pytest.raises(RefusedError, match="gate flips is measured in no step: disagreement needs copies"):
        await sliced.commands.start("digits", Spec("v2", "canary", steps=steps[1:], gates=(ERRORS, flips)), order())
    started = await sliced.commands.start("digits", Spec("v2", "canary", steps=steps, gates=(ERRORS, flips)), order())
    assert started.active


async def test_labels_of_one_tenant_that_got_worse_roll_back_and_the_slice_is_named(sliced: Plant) -> None:
    """A tenth of all pairs is acme's and wrong: within what the gate of all requests allows."""
    gates = (
        GateSpec("accuracy", "accuracy", max_increase=0.3),
        GateSpec("acme", "accuracy", max_increase=0.3, slice="tenant=acme"),
    )
    spec = Spec("v2", "canary", steps=(Step(mirror_bp=10_000),), gates=gates)
    state = await sliced.commands.start("digits", spec, order())
    loop = sliced.loop()
    tenants = ["acme" if number % 10 == 0 else "bolt" for number in range(400)]
    pairs = [
        answered(state, number, "7", "1" if tenant == "acme" else "7", slices=(("tenant", tenant),))
        for number, tenant in enumerate(tenants)
    ]
    await Gateway(sliced.store).write(*pairs)
    arrived = paired(state.exposure, PAIR, {BOTH: len(pairs)})
    await sliced.store.append(RecordBatch("digits", state.id, "g2", 1, 0, b"", arrived), MIB)
    assert await taken(loop.feedback, [said(number) for number in range(len(pairs))]) == {"accepted": len(pairs)}
    counters = (await sliced.states.evidence(state)).counters
    counted = {(key.slice, key.cell): number for key, number in counters.items() if key.metric == "correct"}
    assert counted == {("", "11"): 360, ("", "10"): 40, ("tenant=acme", "10"): 40}
    await loop.turn()
    after = await sliced.states.read("digits")
    assert (after.phase, after.reason.partition(":")[0]) == (Phase.ROLLED_BACK, "acme")
