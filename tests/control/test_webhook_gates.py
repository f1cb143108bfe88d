"""What gates remember of webhooks' answers, and whom they ask when. A receiver by hand, a clock by hand."""

import asyncio
import json
from dataclasses import dataclass, field, replace

import pytest

from router.control.webhooks.backoff import backoff_s
from router.control.webhooks.calls import Answer, Message
from router.control.webhooks.gates import Gates
from router.core.config import WebhookSpec
from router.core.decisions import CONTROL, Actor, ActorKind, Advance, Decision, Pause, Promote, Resume, Start
from router.core.moments import Moment, confirmation_of
from router.core.rollout import RolloutState, Spec, Step, apply, idle_state
from router.testing import ManualClock

OLGA = Actor(ActorKind.OPERATOR, "olga")
YES = Answer("ok", "answered 200")
NO = Answer("refused", "answered 403: not today")
STEPS = (Step(mirror_bp=10_000), Step(weight_bp=1_000, mirror_bp=1_000), Step(weight_bp=1_000), Step(weight_bp=500))
ADVANCE, PROMOTE = Advance(reason="next"), Promote(reason="good")


def start(candidate: str = "v2", actor: Actor = CONTROL) -> Start:
    """Return the start of a rollout of this candidate."""
    return Start(reason="s", rollout_id=f"{candidate}.1", spec=Spec(candidate, "canary"), steps=STEPS, actor=actor)


def running(step: int = 0) -> RolloutState:
    """Return a rollout in this step."""
    state = apply(idle_state("digits", "v1", 0.0), start(), 0.0)
    for _ in range(step):
        state = apply(state, ADVANCE, 0.0)
    return state


@dataclass
class Board:
    """Whoever is asked: each question waits until the test answers it, unless `always` does."""

    always: Answer | None = None
    asked: list[Message] = field(default_factory=list)
    waiting: list["asyncio.Future[Answer]"] = field(default_factory=list)
    cancelled: int = 0

    async def __call__(self, _hook: WebhookSpec, message: Message) -> Answer:
        """Answer as a Call."""
        self.asked.append(message)
        if self.always is not None:
            return self.always
        self.waiting.append(asyncio.get_running_loop().create_future())
        try:
            return await self.waiting[-1]
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@dataclass
class Desk:
    """Gates with one webhook of each type."""

    board: Board = field(default_factory=Board)
    clock: ManualClock = field(default_factory=lambda: ManualClock(100.0))
    woken: int = 0

    def __post_init__(self) -> None:
        hooks = [WebhookSpec(f"w{n}", moment, "https://x.example/") for n, moment in enumerate(Moment)]
        self.gates = Gates(
            hooks, self.board, interval_s=10.0, now_s=lambda: 5.0, monotonic=self.clock, random=lambda: 1.0
        )
        self.gates.on_answer = self.wake

    def wake(self) -> None:
        """Count."""
        self.woken += 1

    async def answers(self, answer: Answer) -> None:
        """Answer the newest question."""
        await settle()
        self.board.waiting.pop().set_result(answer)
        await settle()


async def settle() -> None:
    """Let tasks that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("state", "decision", "moment"),
    [
        (idle_state("digits", "v1", 0.0), start(), Moment.ROLLOUT),
        (idle_state("digits", "v1", 0.0), start(actor=OLGA), Moment.ROLLOUT),
        (running(0), ADVANCE, Moment.INCREASE),
        (running(1), ADVANCE, None),
        (running(2), ADVANCE, None),
        (running(3), ADVANCE, None),
        (running(3), PROMOTE, Moment.PROMOTION),
        (running(3), replace(PROMOTE, actor=OLGA), None),
        (running(0), replace(ADVANCE, actor=OLGA), None),
        (running(0), Resume(reason="r", actor=OLGA), None),
        (running(0), Pause(reason="p"), None),
    ],
    ids=["start", "an operator's start", "more", "the same", "less", "no step left", "promotion", "an operator's",
         "an operator's step", "resume", "pause"],
)  # fmt: skip
def test_the_ramp_is_asked_about_and_an_operators_word_is_not(
    state: RolloutState, decision: Decision, moment: Moment | None
) -> None:
    """But for a start, which is asked about whoever makes it."""
    assert moment == confirmation_of(state, decision)


async def test_a_move_waits_until_its_webhook_has_agreed() -> None:
    """It is asked once, however often the turn comes round; the answer wakes the loop."""
    desk = Desk()
    for _ in range(3):
        assert desk.gates.ask(running(), ADVANCE) == "webhook w1 (confirm-traffic-increase) is being asked"
        await settle()
    assert len(desk.board.asked) == 1
    await desk.answers(YES)
    assert desk.woken == 1
    assert desk.gates.ask(running(), ADVANCE) is None
    assert len(desk.board.asked) == 1


async def test_a_refusal_is_shown_and_asked_about_again_after_growing_pauses() -> None:
    """1, 2, 4, 8 and then every 10 s; the words are the receiver's. Later it may pass."""
    desk = Desk(Board(always=NO))
    said = "webhook w1 (confirm-traffic-increase) answered 403: not today; it is asked again"
    for pause_s in (0.0, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0):
        asked = len(desk.board.asked)
        if pause_s:
            desk.clock.advance(pause_s - 0.01)
            assert desk.gates.ask(running(), ADVANCE) == said
            await settle()
            assert len(desk.board.asked) == asked
            desk.clock.advance(0.01)
        desk.gates.ask(running(), ADVANCE)
        await settle()
        assert len(desk.board.asked) == asked + 1
        assert desk.gates.said(running(), ADVANCE) == said
    desk.board.always = YES
    desk.clock.advance(10)
    desk.gates.ask(running(), ADVANCE)
    await settle()
    assert desk.gates.ask(running(), ADVANCE) is None


async def test_an_agreement_is_good_for_one_move_and_for_a_while() -> None:
    """Neither for the next revision, nor for another move, nor after the interval."""
    desk = Desk(Board(always=YES))
    desk.gates.ask(running(), ADVANCE)
    await settle()
    assert desk.gates.said(running(), ADVANCE) is None
    later = replace(running(), revision=9)
    assert desk.gates.said(later, ADVANCE) == "webhook w1 (confirm-traffic-increase) is being asked"
    assert desk.gates.said(running(), PROMOTE) == "webhook w2 (confirm-promotion) is being asked"
    desk.clock.advance(10)
    assert desk.gates.said(running(), ADVANCE) == "webhook w1 (confirm-traffic-increase) is being asked again"
    assert desk.gates.ask(running(), ADVANCE) is not None
    await settle()
    assert desk.gates.ask(running(), ADVANCE) is None


async def test_who_agreed_to_one_candidate_has_not_agreed_to_another() -> None:
    """Two starts at one revision are two questions; the first is no longer waited for."""
    desk = Desk()
    idle = idle_state("digits", "v1", 0.0)
    desk.gates.ask(idle, start("v2"))
    await settle()
    desk.gates.ask(idle, start("v3"))
    await settle()
    assert (len(desk.board.asked), desk.board.cancelled) == (2, 1)
    await desk.answers(YES)
    assert desk.gates.said(idle, start("v3")) is None
    assert desk.gates.said(idle, start("v2")) is not None


async def test_an_operator_waits_for_a_fresh_answer() -> None:
    """Not for one of a moment ago: whoever types `start` again has a reason."""
    desk = Desk(Board(always=NO))
    idle, wanted = idle_state("digits", "v1", 0.0), start(actor=OLGA)
    assert "answered 403" in str(await desk.gates.confirmed(idle, wanted))
    desk.board.always = YES
    assert await desk.gates.confirmed(idle, wanted) is None
    assert len(desk.board.asked) == 2
    assert await desk.gates.confirmed(idle, start("v3", CONTROL)) is None


async def test_a_demand_for_rollback_is_polled_and_stands() -> None:
    """Asked at each interval of one rollout; only a 2xx demands it, trouble does not."""
    desk = Desk(Board(always=NO))
    for answer in (NO, Answer("timeout", "did not answer within 10 s"), Answer("failed", "ConnectError")):
        desk.board.always = answer
        desk.gates.poll(running())
        await settle()
        assert desk.gates.demanded(running()) is None
        desk.clock.advance(9.9)
        desk.gates.poll(running())
        desk.clock.advance(0.1)
    assert len(desk.board.asked) == 3
    desk.board.always = YES
    desk.gates.poll(running())
    await settle()
    assert desk.gates.demanded(running()) == "webhook w3 demands it: answered 200"
    later = replace(running(), revision=99)
    assert desk.gates.demanded(later) == "webhook w3 demands it: answered 200"
    assert desk.gates.demanded(replace(later, id="v2.2")) is None
    await desk.gates.aclose()


async def test_webhooks_of_other_routes_are_not_asked() -> None:
    """`routes` says for which they are."""
    board = Board()
    hooks = [WebhookSpec("w", Moment.INCREASE, "https://x.example/", ("other",))]
    gates = Gates(hooks, board, interval_s=1, now_s=lambda: 0.0, monotonic=lambda: 0.0, random=lambda: 0.0)
    assert gates.ask(running(), ADVANCE) is None
    await settle()
    assert board.asked == []


async def test_of_several_webhooks_all_are_asked_at_once_and_all_must_agree() -> None:
    """The first that does not is named."""
    board = Board()
    hooks = [WebhookSpec(name, Moment.INCREASE, "https://x.example/") for name in ("a", "b")]
    gates = Gates(hooks, board, interval_s=10, now_s=lambda: 0.0, monotonic=lambda: 0.0, random=lambda: 1.0)
    gates.ask(running(), ADVANCE)
    await settle()
    first, second = board.waiting
    first.set_result(YES)
    await settle()
    assert gates.ask(running(), ADVANCE) == "webhook b (confirm-traffic-increase) is being asked"
    second.set_result(NO)
    await settle()
    assert "webhook b (confirm-traffic-increase) answered 403" in str(gates.ask(running(), ADVANCE))


async def test_what_a_gate_is_told() -> None:
    """Flagger's fields, so that its receivers understand them, and what would be done."""
    desk = Desk(Board(always=YES))
    desk.gates.ask(running(), ADVANCE)
    await settle()
    (message,) = desk.board.asked
    assert message.id == "digits/1/confirm-traffic-increase"
    assert json.loads(message.body) == {
        "id": message.id,
        "type": "confirm-traffic-increase",
        "name": "digits",
        "namespace": "turnout",
        "phase": "Progressing",
        "checksum": "v2",
        "metadata": {"eventMessage": "next", "eventType": "Normal", "timestamp": "5000"},
        "rollout": {
            "id": "v2.1", "revision": 1, "phase": "progressing", "stable": "v1", "candidate": "v2", "step": 0,
            "steps": 4, "weight_bp": 0, "mirror_bp": 10_000, "next_weight_bp": 1_000, "next_mirror_bp": 1_000,
        },
    }  # fmt: skip


def test_pauses_double_up_to_a_limit_and_half_of_them_is_drawn() -> None:
    """So that many senders do not come back at one moment."""
    assert [backoff_s(n, 60.0, lambda: 1.0) for n in (1, 2, 3, 7, 99, 10_000)] == [1.0, 2.0, 4.0, 60.0, 60.0, 60.0]
    assert (backoff_s(3, 60.0, lambda: 0.0), backoff_s(3, 60.0, lambda: 0.5)) == (2.0, 3.0)
