"""CL7: whatever happens in whatever order, a rollback is final, epochs never go back, and a file resets no weight."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from router.control.commands import Change, Commands
from router.control.loop import ControlLoop
from router.control.states import States
from router.core.config import LogConfig, TurnoutConfig
from router.core.errors import TurnoutError
from router.core.ports import RolloutPolicy
from router.core.rollout import GateSpec, Spec, Step
from router.plugins import load_policies
from router.settings import block_hash
from router.telemetry import logs
from router.testing import ManualClock
from tests.chaos.histories import faults
from tests.control.interleaving import AT_ONCE, ROUTE, LossyRedisStore, Lost, Theatre
from tests.control.plant import FakeProber, order, route_named
from tests.e2e.conftest import figure
from tests.patience import PATIENT_S

__all__ = ["figure"]

STEPS = (Step(weight_bp=1_000, bake_s=1.0, min_requests=100), Step(weight_bp=5_000, bake_s=1.0, min_requests=100))
GATES = (GateSpec("errors", "error_rate", max_increase=0.05),)
FILES = (
    Spec("v2", "canary", steps=STEPS, gates=GATES),
    Spec("v3", "canary", steps=STEPS, gates=GATES),
)
"""Rollout blocks that a file may ask for."""

OTHER = (Step(weight_bp=2_000),)

QUICK, WHOLE = 150, 5_000
LAWS = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True)
class Act:
    """Something that happens: its name for the report, and what it does."""

    name: str
    play: Callable[[Theatre], None]

    def __repr__(self) -> str:
        return self.name


def command(name: str, made: Callable[[Commands], object]) -> list[Act]:
    """Return one command by either of the two operators."""

    def play(number: int, theatre: Theatre) -> None:
        theatre.begin(made(theatre.operators[number]))  # type: ignore[arg-type]

    return [Act(f"{name} by operator {number}", partial(play, number)) for number in range(2)]


def acts() -> list[Act]:
    """Return everything that can happen; what matters most, more than once."""
    commands = [
        *command("start", lambda c: c.start(ROUTE, Spec("v2", "canary", steps=STEPS, gates=GATES), order())),
        *command("abort", lambda c: c.abort(ROUTE, order())),
        *command("pause", lambda c: c.pause(ROUTE, order())),
        *command("resume", lambda c: c.resume(ROUTE, order())),
        *command("promote", lambda c: c.promote(ROUTE, order(), full=False)),
        *command("promote --full", lambda c: c.promote(ROUTE, order(), full=True)),
        *command("retry", lambda c: c.retry(ROUTE, order())),
        *command("undo", lambda c: c.undo(ROUTE, order())) * 3,
        *command("set-weight", lambda c: c.change(ROUTE, Change(weight_bp=7_000), order())),
        *command("set-policy", lambda c: c.change(ROUTE, Change(policy="canary", steps=OTHER), order())),
    ]
    turns = [Act(f"turn of control {number}", lambda t, n=number: t.turn(n)) for number in range(2)]  # type: ignore[misc]
    reloads = [
        Act(f"control {number} reads file {index}", lambda t, n=number, f=file: t.reload(n, f))  # type: ignore[misc]
        for number in range(2)
        for index, file in enumerate((None, *FILES))
    ]
    losses = [
        Act(f"next write of {number} is lost: {lost.value}", lambda t, n=number, o=lost: t.lose(n, o))  # type: ignore[misc]
        for number in range(4)
        for lost in Lost
    ]
    others = [
        *[Act("the lease runs out", Theatre.change_leader)] * 3,
        *[Act("a good minute is judged", lambda t: t.minute(failed=0))] * 6,
        *[Act("a bad minute is judged", lambda t: t.minute(failed=300))] * 2,
        Act("the store is cut off", lambda t: t.server.cut()),
        Act("the store is back", lambda t: t.server.mend()),
        Act("the store is back", lambda t: t.server.mend()),
    ]
    return [*commands, *turns * 6, *reloads, *losses, *others]


ACTS = acts()

stories = st.lists(st.tuples(st.integers(0, len(ACTS) - 1), st.integers(0, 4**6 - 1)), min_size=4, max_size=10)
"""Each act by its number, and who goes on after it, as digits to the base of 4: the 4th is nobody. Drawing lists of
acts and lists of numbers instead takes longer than playing them."""


@pytest.fixture(scope="module")
def silence() -> Iterator[None]:
    """Log nothing: five thousand plays would fill the report."""
    logs.configure(LogConfig(level="error"), process="test")
    yield
    logs.configure(LogConfig(), process="test")


def play(policies: Mapping[str, RolloutPolicy], file: Spec | None, story: Sequence[tuple[int, int]]) -> Theatre:
    """Play a story: after each act let some of those under way go on, and at the end all of them."""
    theatre = Theatre(policies, file)
    theatre.turn(0)
    theatre.finish()
    for act, digits in story:
        ACTS[act].play(theatre)
        rest = digits
        while rest:
            rest, number = divmod(rest, 4)
            if number < AT_ONCE:
                theatre.step(number)
    theatre.finish()
    assert theatre.faults == []
    assert faults(theatre.ledger()) == []
    return theatre


def interleavings(number: int) -> Counter[str]:
    """Play so many stories; return what happened in them, so that nobody is content with stories of nothing."""
    policies = load_policies()
    happened: Counter[str] = Counter()

    @given(st.sampled_from(FILES), stories)
    @settings(LAWS, max_examples=number)
    def check(file: Spec, story: list[tuple[int, int]]) -> None:
        note([ACTS[act] for act, _ in story])
        theatre = play(policies, file, story)
        happened.update(f"{record.actor.partition(':')[0]}: {record.kind}" for record in theatre.ledger())
        happened.update(theatre.refused)
        happened["epochs"] += theatre.server.lease.epoch

    check()
    return happened


def enough(happened: Counter[str], figure: Callable[[str], None]) -> None:
    """Fail unless everything that the laws are about has happened."""
    for what in (
        "operator: roll_back", "control: roll_back", "operator: promote", "control: advance", "operator: undo",
        "config: start", "operator: set_exposure", "RefusedError", "StoreUnavailableError", "IllegalTransitionError",
    ):  # fmt: skip
        assert happened[what], (what, happened)
    figure(", ".join(f"{count} {what}" for what, count in sorted(happened.items())))


@pytest.mark.usefixtures("silence")
def test_cl7_laws_hold_in_some_interleavings(figure: Callable[[str], None]) -> None:
    """A rollback is final until a new id, epochs and revisions only grow, a file resets and repeats nothing."""
    enough(interleavings(QUICK), figure)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("silence")
def test_cl7_laws_hold_in_five_thousand_interleavings(figure: Callable[[str], None]) -> None:
    """The same, as often as issue 4 asks."""
    enough(interleavings(WHOLE), figure)


@pytest.mark.slow
@pytest.mark.usefixtures("silence")
async def test_cl7_laws_hold_on_a_real_server(valkey: str, figure: Callable[[str], None]) -> None:
    """Three at a time, as they come, on Valkey: operators, two controls, leaders that change, replies that are lost."""
    dice = random.Random(7)
    routes = {ROUTE: route_named(ROUTE)}
    stores = [LossyRedisStore(valkey, timeout_s=PATIENT_S) for _ in range(4)]
    await stores[0]._connections.ask("FLUSHALL")  # noqa: SLF001 - other tests of this package use the same server
    clock, policies = ManualClock(1_800_000_000.0), load_policies()
    loops = [
        ControlLoop(
            config=TurnoutConfig(routes=routes, rollouts={ROUTE: file}), store=stores[number], policies=policies,
            prober=FakeProber(), boot=f"control-{number}", now_s=clock, monotonic=clock,
        )
        for number, file in enumerate(FILES)
    ]  # fmt: skip
    operators = [Commands(States(one, routes, clock), routes, policies, FakeProber(), block_hash) for one in stores[2:]]

    async def turn() -> None:
        loop = dice.choice(loops)
        await loop.turn()
        await loop.start_due_blocks()

    async def command() -> None:
        asked = dice.choice(operators)
        change = Change(weight_bp=dice.randrange(10_000))
        made = [asked.abort, asked.retry, asked.pause, asked.resume, asked.approve]
        await dice.choice(
            [*(partial(one, ROUTE, order()) for one in made), partial(asked.change, ROUTE, change, order())]
        )()

    for _ in range(200):
        clock.advance(1.0)
        if dice.random() < 0.2:
            await stores[0].release_lease(f"control-{dice.randrange(2)}")
        if dice.random() < 0.3:
            dice.choice(stores).lose = dice.choice(list(Lost))
        results = await asyncio.gather(turn(), command(), command(), return_exceptions=True)
        assert [one for one in results if one is not None and not isinstance(one, TurnoutError)] == []
    ledger = (await stores[0].decisions(ROUTE, 1_000))[::-1]
    for store in stores:
        await store.close()
    assert faults(ledger) == []
    assert sorted(one.epoch for one in ledger) == [one.epoch for one in ledger]
    kinds = Counter(one.kind for one in ledger)
    assert min(kinds[kind] for kind in ("start", "roll_back", "set_exposure", "pause", "resume")) >= 3
    figure(f"{len(ledger)} decisions under {len({one.epoch for one in ledger})} epochs: {dict(kinds)}")
