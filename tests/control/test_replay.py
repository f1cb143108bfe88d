"""The ledger replays: recorded counters through the same functions give the same decisions, digit for digit."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.control.commands import Change, RefusedError
from router.control.ramp import next_move
from router.control.replay import Outcome, Replayed, replay
from router.core.config import TurnoutConfig
from router.core.decisions import Actor, ActorKind, DecisionRecord, Outside
from router.core.errors import IllegalTransitionError, StoreUnavailableError
from router.core.observations import CounterKey
from router.testing import MemoryServer, MemoryStore
from tests.control.ledgers import GATES, POLICIES, PRECISION, SPEC, Traffic, ledger, walked
from tests.control.plant import Plant, order, route_named


async def replayed(plant: Plant) -> list[Replayed]:
    """Return every decision taken again."""
    return [replay(record, POLICIES) for record in await ledger(plant)]


@pytest.mark.parametrize(
    ("candidate_fails", "differs", "kinds"),
    [
        (0.005, 0.01, ["start", "advance", "advance", "promote"]),
        (0.3, 0.01, ["start", "advance", "roll_back"]),
        (0.005, 0.5, ["start", "roll_back"]),
    ],
    ids=["good", "fails", "differs"],
)
async def test_a_whole_rollout_replays_digit_for_digit(
    plant: Plant, candidate_fails: float, differs: float, kinds: list[str]
) -> None:
    """Promoted or rolled back, with latency and precision on trial beside the gates that decide."""
    await walked(plant, Traffic(1, candidate_fails, differs), replace(SPEC, gates=(*GATES, PRECISION)))
    found = await replayed(plant)
    assert [one.record.kind for one in found] == kinds
    assert [one.outcome for one in found] == [Outcome.SAME] * len(kinds), found
    judged = found[-1].record.judgement
    assert len(judged.gates) == 4
    assert judged.formula


def tampered(record: DecisionRecord, metric: str, more: int) -> DecisionRecord:
    """Return the record with one of its counters changed."""
    basis = record.basis
    assert basis is not None
    assert basis.counters is not None
    key = next(key for key in sorted(basis.counters) if key.metric == metric)
    return replace(record, basis=replace(basis, counters={**basis.counters, key: basis.counters[key] + more}))


async def test_one_changed_counter_is_found_and_named(plant: Plant) -> None:
    """One failure more, or one pair: the judgement's numbers are told, with what was recorded and what follows."""
    await walked(plant, Traffic(1, 0.005, 0.01))
    promoted = (await ledger(plant))[-1]
    for metric in ("outcome@total", "agreement@total"):
        found = replay(tampered(promoted, metric, 1), POLICIES)
        assert found.outcome is Outcome.DIFFERS
        assert found.why == ""
        places = {one.where.partition(".")[0].partition("[")[0] for one in found.differences}
        assert "judgement" in places
        assert any(one.recorded != one.replayed for one in found.differences)


async def test_counters_that_do_not_carry_the_decision_are_found(plant: Plant) -> None:
    """A promotion whose counters prove nothing would not have been made."""
    await walked(plant, Traffic(1, 0.005, 0.01))
    promoted = (await ledger(plant))[-1]
    assert promoted.basis is not None
    empty = replay(replace(promoted, basis=replace(promoted.basis, counters={})), POLICIES)
    assert empty.outcome is Outcome.DIFFERS
    assert empty.differences[-1].where == "kind" or len(empty.differences) == 20
    bad = replay(tampered(promoted, "outcome@total", 10**6), POLICIES)
    assert bad.outcome is Outcome.DIFFERS


@pytest.mark.parametrize(
    "changed",
    [{"reason": "another"}, {"weight_bp_after": 9_999}, {"revision": 99}, {"phase_after": "paused"}, {"at_s": 1.0}],
    ids=str,
)
async def test_a_record_that_says_something_else_is_found(plant: Plant, changed: dict[str, object]) -> None:
    """Not only the numbers of the judge are compared, but what was decided and what it changed."""
    await walked(plant, Traffic(1, 0.005, 0.01))
    advanced = (await ledger(plant))[1]
    found = replay(replace(advanced, **changed), POLICIES)  # type: ignore[arg-type]
    assert [one.where for one in found.differences] == list(changed)


async def test_what_operators_command_replays(plant: Plant) -> None:
    """Every command, on evidence or without; a start records of the rollout before it only what it needs."""
    commands = plant.commands
    state = await commands.start("digits", SPEC, order())
    await Traffic(1, 0.005, 0.01).arrive(plant, state, 600)
    await commands.pause("digits", order("lunch"))
    await commands.resume("digits", order())
    await commands.approve("digits", order())
    await commands.promote("digits", order(), full=False)
    await commands.change("digits", Change(weight_bp=2_000, mirror_bp=500), order())
    await commands.change("digits", Change(policy="shadow", weight_bp=100), order())
    await commands.promote("digits", order(), full=True)
    await commands.undo("digits", order())
    await commands.retry("digits", order())
    await commands.abort("digits", order("wrong"))
    found = await replayed(plant)
    assert [one.record.kind for one in found] == [
        "start", "pause", "resume", "approve", "advance", "set_exposure", "set_policy", "promote", "undo", "start",
        "roll_back",
    ]  # fmt: skip
    assert [one.outcome for one in found] == [Outcome.SAME] * len(found), found
    bases = [one.record.basis for one in found]
    assert all(basis is not None and basis.counters is not None for basis in bases)


async def test_what_came_from_outside_is_part_of_the_record(plant: Plant) -> None:
    """A rollback that somebody demanded by webhook follows from the demand, and from nothing else."""
    await walked(plant, Traffic(1, 0.005, 0.01))
    advanced = (await ledger(plant))[1]
    assert advanced.basis is not None
    frozen = replace(advanced, basis=replace(advanced.basis, outside=Outside(frozen="frozen until Monday")))
    held = replay(frozen, POLICIES)
    assert (held.outcome, held.differences[-1].replayed) == (Outcome.DIFFERS, "nothing: frozen until Monday")
    demanded = replace(advanced.basis, outside=Outside(demanded="the pager demands it"))
    state, judgement = demanded.state, advanced.judgement
    move = next_move(state, advanced.basis.proposals[0], judgement, demanded.now_s, demanded.outside)
    assert move.record is not None
    assert move.record.kind == "roll_back"
    assert replay(replace(move.record, basis=demanded), POLICIES).outcome is Outcome.SAME


async def test_an_abort_without_evidence_replays_on_what_was_known(plant: Plant) -> None:
    """The judgement said that it could not be read; the decision follows all the same."""

    class Blind(MemoryStore):
        async def evidence(self, route: str, rollout: str) -> dict[str, dict[CounterKey, int]]:
            raise StoreUnavailableError(f"no evidence of {route} {rollout}")

    server = MemoryServer()
    plant.store = MemoryStore(server)
    await plant.commands_on(plant.store).start("digits", SPEC, order())
    await plant.commands_on(Blind(server)).abort("digits", order())
    started, aborted = await replayed(plant)
    assert (started.outcome, started.why) == (Outcome.SAME, "")
    assert (aborted.outcome, aborted.why) == (Outcome.SAME, "without its evidence")
    assert aborted.record.judgement.invalid is not None


async def test_what_has_no_basis_says_so(plant: Plant) -> None:
    """A breaker has no counters; a record of an older version, or whose basis had to make room, has none any more."""
    await plant.commands.start("digits", SPEC, order())
    (record,) = await plant.store.decisions("digits", 1)
    assert replay(record, POLICIES).why == "what it followed from is not recorded"
    tripped = replace(record, actor=str(Actor(ActorKind.BREAKER, "g1")))
    found = replay(tripped, POLICIES)
    assert (found.outcome, found.why) == (Outcome.NOT_REPLAYABLE, "by a gateway's breaker, which has no counters")


async def test_another_version_of_the_formulas_is_named(plant: Plant) -> None:
    """Numbers may differ then, and the reader has to know why."""
    await walked(plant, Traffic(1, 0.005, 0.01))
    promoted = (await ledger(plant))[-1]
    other = replace(promoted, judgement=replace(promoted.judgement, formula="turnout-judge/0"))
    found = replay(other, POLICIES)
    assert (found.outcome, [one.where for one in found.differences]) == (Outcome.DIFFERS, ["judgement.formula"])
    assert "judged by turnout-judge/0, this version has turnout-judge/" in found.why


async def test_a_policy_that_is_not_installed_cannot_be_asked(plant: Plant) -> None:
    """An operator's decisions replay without it."""
    await walked(plant, Traffic(1, 0.005, 0.01))
    started, advanced, *_ = await ledger(plant)
    assert replay(advanced, {}).why == "policy canary is not installed here"
    assert replay(started, {}).outcome is Outcome.SAME


ACTS = ("turn", "turn", "turn", "pause", "resume", "approve", "promote", "full", "weight", "abort", "retry")
"""What may happen between two turns of the random timeline; turns of control most often."""


@settings(max_examples=30, deadline=None)
@given(
    acts=st.lists(st.tuples(st.sampled_from(ACTS), st.integers(1, 90), st.integers(0, 2_000)), min_size=3, max_size=30),
    seed=st.integers(0, 1_000),
    candidate_fails=st.sampled_from([0.0, 0.005, 0.03, 0.3]),
)
def test_whatever_happens_the_ledger_replays(
    acts: Sequence[tuple[str, int, int]], seed: int, candidate_fails: float
) -> None:
    """Random counters, commands and times through loop and operators: every decision follows from its record."""
    found = asyncio.run(lived(acts, Traffic(seed, candidate_fails, 0.01)))
    assert [one.outcome for one in found] == [Outcome.SAME] * len(found), found
    assert found[0].record.kind == "start"


async def lived(acts: Sequence[tuple[str, int, int]], traffic: Traffic) -> list[Replayed]:
    """Live through `acts`: what, after how many seconds, and how many requests came meanwhile. Return the replay."""
    server = MemoryServer()
    plant = Plant(lambda: MemoryStore(server), TurnoutConfig(routes={"digits": route_named("digits")}))
    commands, loop = plant.commands, plant.loop()
    state = await commands.start("digits", SPEC, order())
    for act, after_s, requests in acts:
        plant.clock.advance(after_s)
        await traffic.arrive(plant, state, requests)
        try:
            match act:
                case "turn":
                    await loop.turn()
                case "promote" | "full":
                    await commands.promote("digits", order(), full=act == "full")
                case "weight":
                    await commands.change("digits", Change(weight_bp=after_s * 10), order())
                case _:
                    await getattr(commands, act)("digits", order())
        except (IllegalTransitionError, RefusedError):
            pass  # not possible in this phase: nothing was decided
        state = await plant.states.read("digits")
    return await replayed(plant)
