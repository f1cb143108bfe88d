"""Operators' commands: what each does to the stored state, and how each is refused. On memory and on Valkey."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from router.control.commands import Change, RefusedError, RevisionMismatchError, UnknownRouteError
from router.core.decisions import Actor, ActorKind, DecisionRecord, Judgement, Pause, SetExposure
from router.core.errors import ConfigError, IllegalTransitionError, StaleEpochError, StoreUnavailableError
from router.core.moves import make_move
from router.core.observations import CounterKey
from router.core.ports import Store
from router.core.rollout import Phase, RolloutState, Spec, Step
from router.testing import MemoryServer, MemoryStore
from tests.control.plant import CANARY, Plant, order


async def last_decision(plant: Plant) -> DecisionRecord:
    """Return the newest line of the ledger."""
    return (await plant.store.decisions("digits", 1))[0]


async def test_start_opens_the_first_step_under_a_fresh_id(plant: Plant) -> None:
    """The candidate was looked at, and the ledger says who started what and why."""
    state = await plant.commands.start("digits", CANARY, order("new model"))
    assert plant.prober.asked == ["v2"]
    assert (
        state.phase, state.candidate, state.exposure.weight_bp, state.exposure.mirror_bp, state.revision, state.epoch,
    ) == (Phase.PROGRESSING, "v2", 0, 10_000, 1, 0)  # fmt: skip
    assert state.id.endswith(".1")
    record = await last_decision(plant)
    assert ("start", "new model", "operator:olga", state.id) == (
        record.kind, record.reason, record.actor, record.rollout,
    )  # fmt: skip
    assert state == await plant.states.read("digits")


async def test_the_whole_walk_of_an_operator(plant: Plant) -> None:
    """Promote step by step, pause, resume, approve, set shares, promote for good, undo."""
    commands = plant.commands
    await commands.start("digits", CANARY, order())
    assert (await commands.promote("digits", order(), full=False)).exposure.weight_bp == 1_000
    assert (await commands.pause("digits", order())).phase is Phase.PAUSED
    assert (await commands.resume("digits", order())).phase is Phase.PROGRESSING
    assert (await commands.approve("digits", order())).approved
    assert (await commands.change("digits", Change(weight_bp=2_000), order())).exposure.weight_bp == 2_000
    assert (await commands.promote("digits", order(), full=False)).step == 2
    promoted = await commands.promote("digits", order(), full=True)
    assert (promoted.phase, promoted.stable, promoted.exposure.weight_bp) == (Phase.PROMOTED, "v2", 0)
    undone = await commands.undo("digits", order())
    assert (undone.phase, undone.stable) == (Phase.ROLLED_BACK, "v1")
    kinds = [record.kind for record in reversed(await plant.store.decisions("digits", 20))]
    assert kinds == [
        "start", "advance", "pause", "resume", "approve", "set_exposure", "advance", "promote", "undo",
    ]  # fmt: skip


async def test_resume_after_a_halt_gives_the_candidate_the_steps_share(plant: Plant) -> None:
    """What a breaker took; the control loop leaves a halted rollout alone."""
    await plant.commands.start("digits", CANARY, order())
    running = await plant.commands.promote("digits", order(), full=False)
    breaker = Actor(ActorKind.BREAKER, "boot1")
    halt = (SetExposure(reason="broken", actor=breaker, weight_bp=0), Pause(reason="broken", actor=breaker))
    halted = make_move(running, halt, Judgement(), plant.clock())
    assert await plant.store.compare_and_set(halted.state, running.revision, halted.record)
    loop = plant.loop()
    await loop.turn()
    plant.clock.advance(3_600.0)
    await loop.turn()
    kept = await plant.states.read("digits")
    assert (kept.revision, kept.halted, kept.reason) == (halted.state.revision, True, "broken")
    resumed = await plant.commands.resume("digits", order("mended"))
    assert (resumed.phase, resumed.halted, resumed.exposure.weight_bp) == (Phase.PROGRESSING, False, 1_000)


async def test_undo_is_possible_for_the_rollback_window(plant: Plant) -> None:
    """Then the old variant comes back by a rollout of its own."""
    await plant.commands.start("digits", replace(CANARY, rollback_window_s=60.0), order())
    await plant.commands.promote("digits", order(), full=True)
    plant.clock.advance(61)
    with pytest.raises(RefusedError, match="has passed; v1 comes back by a rollout of its own"):
        await plant.commands.undo("digits", order())
    assert plant.prober.asked == ["v2"], "the old variant was asked in vain"
    back = await plant.commands.start("digits", replace(CANARY, candidate="v1"), order())
    assert (back.stable, back.candidate) == ("v2", "v1")


async def test_undo_wants_the_old_variant_to_be_there(plant: Plant) -> None:
    """In the file, and well: all traffic goes to it at once."""
    await plant.commands.start("digits", CANARY, order())
    await plant.commands.promote("digits", order(), full=True)
    plant.prober.unwell["v1"] = "127.0.0.1:9000 cannot be reached"
    with pytest.raises(RefusedError, match=r"v1 is not ready to take all traffic back: 127\.0\.0\.1:9000 cannot"):
        await plant.commands.undo("digits", order())
    plant.prober.unwell.clear()
    whole = plant.config.routes["digits"]
    left = {name: one for name, one in whole.variants.items() if name != "v1"}
    smaller = Plant(
        plant.new_store, replace(plant.config, routes={"digits": replace(whole, variants=left)}), plant.clock
    )
    with pytest.raises(RefusedError, match="v1 is not in the file any more"):
        await smaller.commands.undo("digits", order())
    assert (await plant.commands.undo("digits", order())).stable == "v1"


async def test_abort_is_final_and_retry_is_the_next_attempt(plant: Plant) -> None:
    """After an abort nothing but a new id brings traffic back."""
    first = await plant.commands.start("digits", CANARY, order())
    aborted = await plant.commands.abort("digits", order("it is slow"))
    assert (aborted.phase, aborted.exposure.weight_bp, aborted.exposure.mirror_bp) == (Phase.ROLLED_BACK, 0, 0)
    with pytest.raises(IllegalTransitionError):
        await plant.commands.change("digits", Change(weight_bp=100), order())
    again = await plant.commands.retry("digits", order())
    assert (Phase.PROGRESSING, CANARY, first.id.replace(".1", ".2")) == (again.phase, again.spec, again.id)


async def test_policy_weight_and_mirror_change_in_one_write(plant: Plant) -> None:
    """Nobody ever sees the new policy with its first step's shares."""
    started = await plant.commands.start("digits", CANARY, order())
    change = Change(policy="blue_green", weight_bp=300, mirror_bp=200)
    changed = await plant.commands.change("digits", change, order("switch"))
    assert (
        changed.policy, changed.exposure.weight_bp, changed.exposure.mirror_bp, changed.step,
    ) == ("blue_green", 300, 200, 0)  # fmt: skip
    assert started.revision + 2 == changed.revision == changed.exposure.id
    assert [record.kind for record in await plant.store.decisions("digits", 9)] == ["set_policy", "start"]


async def test_another_policy_brings_its_own_plan_and_the_first_one_its_own_steps_back(plant: Plant) -> None:
    """Steps written for a canary are not walked by a blue/green switch."""
    await plant.commands.start("digits", CANARY, order())
    switched = await plant.commands.change("digits", Change(policy="blue_green"), order())
    assert switched.steps == plant.policies["blue_green"].plan(replace(CANARY, policy="blue_green", steps=()))
    back = await plant.commands.change("digits", Change(policy="canary"), order())
    assert CANARY.steps == back.steps
    own = await plant.commands.change("digits", Change(steps=(Step(weight_bp=7),)), order())
    assert (own.policy, own.exposure.weight_bp) == ("canary", 7)


async def test_promotion_at_the_last_step_waits_for_the_judge(plant: Plant) -> None:
    """An operator is told the way out, and nothing changes."""
    await plant.commands.start("digits", CANARY, order())
    for _ in CANARY.steps[1:]:
        await plant.commands.promote("digits", order(), full=False)
    before = await plant.states.read("digits")
    with pytest.raises(RefusedError, match="promote --full"):
        await plant.commands.promote("digits", order(), full=False)
    assert before == await plant.states.read("digits")


@pytest.mark.parametrize(
    ("route", "spec", "sentence"),
    [
        ("digits", Spec("v1", "canary"), "v1 is stable already"),
        ("opaque", Spec("v2", "canary"), "set mirror_safe: true"),
        ("opaque", Spec("v2", "shadow", steps=(Step(weight_bp=1), Step(mirror_bp=1))), "set mirror_safe: true"),
    ],
)
async def test_a_start_that_cannot_work_is_refused_before_anybody_is_asked(
    plant: Plant, route: str, spec: Spec, sentence: str
) -> None:
    """The reason says what to do, the candidate is not even looked at, and nothing is stored."""
    with pytest.raises(RefusedError, match=sentence):
        await plant.commands.start(route, spec, order())
    assert (plant.prober.asked, dict(await plant.states.stored())) == ([], {})


async def test_a_start_without_copies_is_fine_on_a_route_that_must_not_be_sent_twice(plant: Plant) -> None:
    """Only copying is refused."""
    state = await plant.commands.start("opaque", Spec("v2", "canary", steps=(Step(weight_bp=100),)), order())
    assert state.exposure.weight_bp == 100
    with pytest.raises(RefusedError, match="set mirror_safe"):
        await plant.commands.change("opaque", Change(mirror_bp=1), order())
    with pytest.raises(RefusedError, match="set mirror_safe"):
        await plant.commands.change("opaque", Change(policy="shadow"), order())


@pytest.mark.parametrize(("spec", "field"), [(Spec("v9", "canary"), "candidate"), (Spec("v2", "rainbow"), "policy")])
async def test_names_that_do_not_exist_are_named_with_those_that_do(plant: Plant, spec: Spec, field: str) -> None:
    """The error carries field, value and the choice."""
    with pytest.raises(ConfigError) as caught:
        await plant.commands.start("digits", spec, order())
    assert caught.value.field == field
    assert ("v3" if field == "candidate" else "blue_green") in caught.value.expected


async def test_a_second_start_names_the_running_rollout(plant: Plant) -> None:
    """Until it has ended nothing else starts, and a retry is none either."""
    running = await plant.commands.start("digits", CANARY, order())
    with pytest.raises(RefusedError, match=f"{running.id} is progressing"):
        await plant.commands.start("digits", Spec("v3", "shadow"), order())
    with pytest.raises(RefusedError, match="rolled back"):
        await plant.commands.retry("digits", order())
    assert running == await plant.states.read("digits")


async def test_an_unwell_candidate_is_not_started(plant: Plant) -> None:
    """The probe's sentence is the reason."""
    plant.prober.unwell["v2"] = "GET http://127.0.0.1:9001/health answered 503, expected 2xx"
    with pytest.raises(RefusedError, match=r"candidate v2 is not ready: GET .* answered 503"):
        await plant.commands.start("digits", CANARY, order())
    assert dict(await plant.states.stored()) == {}


async def test_an_unknown_route_is_named_with_the_known_ones(plant: Plant) -> None:
    """Nothing is stored for it."""
    with pytest.raises(UnknownRouteError, match="known: digits, opaque"):
        await plant.commands.pause("digit", order())


async def test_an_expected_revision_that_is_not_the_stored_one_changes_nothing(plant: Plant) -> None:
    """The error names both revisions."""
    await plant.commands.start("digits", CANARY, order())
    with pytest.raises(RevisionMismatchError) as caught:
        await plant.commands.pause("digits", order(revision=7))
    assert (caught.value.expected, caught.value.actual) == (7, 1)
    assert (await plant.commands.pause("digits", order(revision=1))).revision == 2


async def test_cl11_of_two_operators_with_one_revision_exactly_one_wins(plant: Plant) -> None:
    """The other is told, and the ledger holds one decision."""
    await plant.commands.start("digits", CANARY, order())
    others = [plant.commands_on(plant.new_store()) for _ in range(2)]
    wanted = [Change(weight_bp=100), Change(weight_bp=200)]
    found = await asyncio.gather(
        *(one.change("digits", change, order(revision=1)) for one, change in zip(others, wanted, strict=True)),
        return_exceptions=True,
    )
    assert [RevisionMismatchError, RolloutState] == sorted((type(one) for one in found), key=lambda kind: kind.__name__)
    assert [record.kind for record in await plant.store.decisions("digits", 9)] == ["set_exposure", "start"]


async def test_without_an_expected_revision_a_lost_race_is_tried_again(plant: Plant) -> None:
    """Both take effect, one after the other."""
    await plant.commands.start("digits", CANARY, order())
    others = [plant.commands_on(plant.new_store()) for _ in range(2)]
    await asyncio.gather(
        others[0].change("digits", Change(weight_bp=100), order()),
        others[1].change("digits", Change(mirror_bp=200), order()),
    )
    exposure = (await plant.states.read("digits")).exposure
    assert (exposure.weight_bp, exposure.mirror_bp) == (100, 200)


async def test_a_command_keeps_the_stored_epoch_and_survives_a_fence(plant: Plant) -> None:
    """A new lease holder may write its epoch at any moment; an abort goes through all the same."""
    started = await plant.commands.start("digits", CANARY, order())
    fenced = replace(started, epoch=9)
    assert await plant.store.compare_and_set(fenced, started.revision, None)
    aborted = await plant.commands.abort("digits", order())
    assert (aborted.epoch, aborted.phase) == (9, Phase.ROLLED_BACK)


async def test_a_start_by_the_file_is_fenced(plant: Plant) -> None:
    """A control process that was replaced starts nothing any more, and who holds the lease writes its epoch."""
    started = await plant.commands.start_block("digits", CANARY, order(), epoch=9)
    assert started.epoch == 9
    ended = await plant.commands.abort("digits", order())
    with pytest.raises(StaleEpochError):
        await plant.commands.start_block("digits", replace(CANARY, alpha=0.02), order(), epoch=8)
    assert await plant.states.read("digits") == ended


class FencedInBetween(MemoryStore):
    """A store in which another process writes its epoch between this one's read and its write."""

    async def compare_and_set(self, state: RolloutState, expected_revision: int, record: DecisionRecord | None) -> bool:
        """Let the other write first, once."""
        if not state.epoch:
            stored = (await self.read_states((state.route,)))[state.route]
            await super().compare_and_set(replace(stored, epoch=5), stored.revision, None)
        return await super().compare_and_set(state, expected_revision, record)


async def test_a_command_that_meets_a_newer_epoch_reads_again(plant: Plant) -> None:
    """An operator outranks no lease and is stopped by none."""
    server = MemoryServer()
    await plant.commands_on(MemoryStore(server)).start("digits", CANARY, order())
    paused = await plant.commands_on(FencedInBetween(server)).pause("digits", order(revision=1))
    assert (paused.epoch, paused.phase, paused.revision) == (5, Phase.PAUSED, 2)


class NoEvidence(MemoryStore):
    """A store whose evidence cannot be read."""

    async def evidence(self, route: str, rollout: str) -> Mapping[str, Mapping[CounterKey, int]]:
        """Fail."""
        raise StoreUnavailableError(f"no evidence for {route} {rollout}")


async def test_an_abort_does_not_wait_for_evidence(plant: Plant) -> None:
    """Its record says that there was none to be had."""
    store: Store = NoEvidence()
    commands = plant.commands_on(store)
    await commands.start("digits", CANARY, order())
    assert (await commands.abort("digits", order())).phase is Phase.ROLLED_BACK
    judgement = (await store.decisions("digits", 1))[0].judgement
    assert judgement.invalid is not None
    assert "could not be read" in judgement.invalid
