"""Webhooks and the control loop: gates hold it, nothing delays a rollback, every decision is told. Real receivers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from router.control.commands import RefusedError
from router.control.loop import ControlLoop
from router.control.webhooks import Webhooks, build
from router.core.config import WebhooksConfig, WebhookSpec
from router.core.decisions import Actor, ActorKind, Advance, Decision, Judgement, Promote, RollBack, SetExposure
from router.core.moments import Moment
from router.core.moves import make_move
from router.core.rollout import Phase, RolloutState, Spec, Step
from tests.control.plant import Plant, order
from tests.control.receiver import Receiver, receiver, silence, status

SECRET = b"canary-3f1c9a4be2d07751"
QUIET = Spec("v2", "canary", steps=(Step(bake_s=0), Step(weight_bp=100, bake_s=0)))
"""Its first step has no traffic, so it may be left without evidence."""


@asynccontextmanager
async def calling(plant: Plant, *hooks: tuple[Moment, Receiver], timeout_s: float = 10.0) -> AsyncIterator[Webhooks]:
    """Give the webhooks of one control process, which may go to loopback."""
    specs = tuple(WebhookSpec(f"w{n}", moment, to.url, timeout_s=timeout_s) for n, (moment, to) in enumerate(hooks))
    config = WebhooksConfig(hooks=specs, allow=("127.0.0.1",), secret_env="S")
    webhooks = build(config, SECRET, plant.clock, plant.clock, lambda: 1.0)
    try:
        yield webhooks
    finally:
        await webhooks.aclose()


async def counted(webhooks: Webhooks, moment: Moment, result: str, number: int = 1) -> None:
    """Wait until so many calls of a type have ended so, at most 10 s."""
    async with asyncio.timeout(10):
        while webhooks.counts[moment, result] < number:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.005)


def advances(*_: object) -> Decision:
    """Propose the next step."""
    return Advance(reason="next")


async def test_a_gate_that_refuses_holds_the_ramp_and_later_lets_it_pass(plant: Plant) -> None:
    """The turn shows what it said; nothing moves; when it agrees the next turn does."""
    async with (
        receiver(status(403, "not before Monday")) as board,
        calling(plant, (Moment.INCREASE, board)) as webhooks,
    ):
        loop = plant.loop(propose=advances, webhooks=webhooks)
        state = await loop.commands.start("digits", QUIET, order())
        await loop.turn()
        await counted(webhooks, Moment.INCREASE, "refused")
        await loop.turn()
        assert state.revision == (await plant.states.read("digits")).revision
        said = loop.outlook(state, Judgement(), ()).waits_for
        assert said == "webhook w0 (confirm-traffic-increase) answered 403: not before Monday; it is asked again"
        board.reply = status(200)
        plant.clock.advance(10)
        await loop.turn()
        await counted(webhooks, Moment.INCREASE, "ok")
        await loop.turn()
    moved = await plant.states.read("digits")
    assert (moved.step, moved.exposure.weight_bp) == (1, 100)
    assert [one.json["rollout"]["next_weight_bp"] for one in board.received] == [100, 100]


@pytest.mark.parametrize(
    ("result", "reply", "timeout_s"),
    [("timeout", silence, 0.05), ("failed", lambda _: b"", 10.0), ("refused", status(500), 10.0)],
)
async def test_a_gate_that_says_nothing_of_use_holds(
    plant: Plant, result: str, reply: Callable[[object], bytes | None], timeout_s: float
) -> None:
    """No answer, a closed connection, an error: none of them is a yes."""
    async with receiver(reply) as board, calling(plant, (Moment.PROMOTION, board), timeout_s=timeout_s) as webhooks:
        good = Judgement(promote=True, reason="good")
        loop = plant.loop(propose=lambda *_: Promote(reason="good"), webhooks=webhooks)
        loop.states.judgement = lambda *_args, **_more: good  # type: ignore[method-assign]
        state = await loop.commands.start("digits", Spec("v2", "canary", steps=(Step(bake_s=0),)), order())
        for number in (1, 2, 3):
            await loop.turn()
            await counted(webhooks, Moment.PROMOTION, result, number)
            plant.clock.advance(10)
        assert state.revision == (await plant.states.read("digits")).revision
        assert webhooks.counts == {(Moment.PROMOTION, result): 3}


async def test_a_receiver_that_hangs_delays_no_rollback(plant: Plant) -> None:
    """Every turn ends while the questions are still open, and the rollback is written in its own turn."""
    harm = False

    def propose(*_: object) -> Decision:
        return RollBack(reason="harm") if harm else Advance(reason="next")

    async with receiver(silence) as board:
        hooks = [(moment, board) for moment in (Moment.INCREASE, Moment.ROLLBACK, Moment.EVENT)]
        async with calling(plant, *hooks, timeout_s=3_600) as webhooks:
            loop = plant.loop(propose=propose, webhooks=webhooks)
            await loop.commands.start("digits", QUIET, order())
            for _ in range(3):
                await loop.turn()
            await board.until(3)
            harm = True
            await loop.turn()
            assert (await plant.states.read("digits")).phase is Phase.ROLLED_BACK
            assert (len(board.received), dict(webhooks.counts)) == (3, {}), "no question was answered meanwhile"


async def test_somebody_else_can_demand_a_rollback(plant: Plant) -> None:
    """Also of a paused rollout; the reason names the webhook, and the event goes out as a warning."""
    async with (
        receiver(status(404)) as pager,
        receiver() as chat,
        calling(plant, (Moment.ROLLBACK, pager), (Moment.EVENT, chat)) as webhooks,
    ):
        loop = plant.loop(webhooks=webhooks)
        await loop.commands.start("digits", QUIET, order())
        await loop.commands.pause("digits", order())
        await loop.turn()
        await counted(webhooks, Moment.ROLLBACK, "refused")
        await loop.turn()
        assert (await plant.states.read("digits")).phase is Phase.PAUSED
        pager.reply = status(200)
        plant.clock.advance(10)
        await loop.turn()
        await counted(webhooks, Moment.ROLLBACK, "ok")
        await loop.turn()
        state = await plant.states.read("digits")
        assert (state.phase, state.reason) == (Phase.ROLLED_BACK, "webhook w0 demands it: answered 200")
        told = [one.json for one in await chat.until(3)]
    assert [(one["decision"]["kind"], one["metadata"]["eventType"]) for one in told] == [
        ("start", "Normal"), ("pause", "Normal"), ("roll_back", "Warning"),
    ]  # fmt: skip
    assert [one["id"] for one in told] == ["digits/1", "digits/2", "digits/3"]


async def test_a_start_is_asked_about_whoever_makes_it(plant: Plant) -> None:
    """An operator is refused in the receiver's words; the file's block waits with them; both pass later."""
    async with receiver(status(423, "closed")) as board, calling(plant, (Moment.ROLLOUT, board)) as webhooks:
        loop = plant.loop(blocks={"digits": QUIET}, webhooks=webhooks)
        with pytest.raises(
            RefusedError, match=r"webhook w0 \(confirm-rollout\) answered 423: closed; it is asked again"
        ):
            await loop.commands.start("opaque", Spec("v2", "canary", steps=(Step(weight_bp=1),)), order())
        await loop.turn()
        await loop.start_due_blocks()
        await loop.turn()
        assert "answered 423: closed" in loop.view.blocks["digits"]
        assert dict(await plant.states.stored()) == {}
        board.reply = status(200)
        plant.clock.advance(10)
        await loop.start_due_blocks()
        state = await loop.commands.start("opaque", Spec("v2", "canary", steps=(Step(weight_bp=1),)), order())
    assert (await plant.states.read("digits")).phase is Phase.PROGRESSING
    assert state.phase is Phase.PROGRESSING


async def test_an_operators_promote_is_not_asked_about(plant: Plant) -> None:
    """Gates are for the ramp: a person's word is one already."""
    async with receiver(status(403)) as board:
        gates = [(Moment.INCREASE, board), (Moment.PROMOTION, board)]
        async with calling(plant, *gates) as webhooks:
            loop = plant.loop(webhooks=webhooks)
            await loop.commands.start("digits", QUIET, order())
            await loop.commands.promote("digits", order(), full=False)
            state = await loop.commands.promote("digits", order(), full=True)
    assert (state.phase, board.connections) == (Phase.PROMOTED, 0)


async def test_an_answer_wakes_the_loop(plant: Plant) -> None:
    """With a turn an hour, the step is taken as soon as the receiver agrees."""
    async with receiver() as board, calling(plant, (Moment.INCREASE, board)) as webhooks:
        loop = plant.loop(propose=advances, webhooks=webhooks, interval_s=3_600)
        await loop.commands.start("digits", QUIET, order())
        running = asyncio.create_task(loop.run())
        async with asyncio.timeout(10):
            while (await plant.states.read("digits")).step == 0:  # noqa: ASYNC110 - another client of the store
                await asyncio.sleep(0.005)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_breakers_halt_is_told_by_the_process_that_decides(plant: Plant) -> None:
    """Gateways send nothing; what was decided before is not told again, and a bystander tells nothing."""
    async with (
        receiver() as chat,
        receiver() as other,
        calling(plant, (Moment.EVENT, chat)) as one,
        calling(plant, (Moment.EVENT, other)) as two,
    ):
        state = await plant.commands.start("digits", Spec("v2", "canary", steps=(Step(weight_bp=100),)), order())
        state = await halted(plant, state)
        deciding, watching = plant.loop("a", webhooks=one), plant.loop("b", webhooks=two)
        await turns(deciding, watching)
        state = await halted(plant, await plant.states.read("digits"))
        await turns(deciding, watching)
        await turns(deciding, watching)
        (told,) = await chat.until(1)
        await counted(one, Moment.EVENT, "ok")
    assert (told.json["decision"]["actor"], told.json["id"]) == ("breaker:g1", f"digits/{state.revision}")
    assert (len(chat.received), other.connections) == (1, 0)


async def turns(*loops: ControlLoop) -> None:
    """Do one turn of each."""
    for loop in loops:
        await loop.turn()


async def halted(plant: Plant, state: RolloutState) -> RolloutState:
    """Write what a breaker decides: less weight, by a gateway of the name g1."""
    actor = Actor(ActorKind.BREAKER, "g1")
    less = SetExposure(reason="it fails", actor=actor, weight_bp=state.exposure.weight_bp - 1)
    move = make_move(state, (less,), Judgement(), plant.clock())
    assert await plant.store.compare_and_set(move.state, state.revision, move.record)
    return move.state
