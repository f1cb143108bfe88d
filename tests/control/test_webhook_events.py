"""News of decisions: in order, again and again, within bounds. A receiver and a clock by hand."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from router.control.webhooks.bodies import event_message
from router.control.webhooks.calls import Answer, Message
from router.control.webhooks.events import OVERHEAD_BYTES, Outbox
from router.core.config import WebhookSpec
from router.core.decisions import Counts, GateResult, Judgement, RollBack, Start, Verdict
from router.core.moves import make_move
from router.core.rollout import RolloutState, Spec, Step, apply, idle_state
from router.testing import ManualClock

YES, NO = Answer("ok", "answered 200"), Answer("refused", "answered 500")
HOOK = WebhookSpec("chat", "event", "https://x.example/")


@dataclass
class Post:
    """An Outbox whose clock goes on only while it waits; `down` says which messages are not taken yet."""

    queue_bytes: int = 1_000_000
    down: Callable[[str], bool] = lambda _: False
    clock: ManualClock = field(default_factory=ManualClock)
    tries: list[tuple[float, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()
        self.box = Outbox(
            HOOK, self.call, self.count, queue_bytes=self.queue_bytes, max_age_s=100.0, monotonic=self.clock,
            sleep=self.sleep, random=lambda: 1.0,
        )  # fmt: skip

    async def call(self, _hook: WebhookSpec, message: Message) -> Answer:
        """Answer as a Call."""
        self.tries.append((self.clock(), message.id))
        await self.gate.wait()
        return NO if self.down(message.id) else YES

    def count(self, _kind: str, result: str) -> None:
        """Count drops."""
        self.counts[result] += 1

    async def sleep(self, seconds: float) -> None:
        """Let the time pass at once."""
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    async def empty(self) -> None:
        """Wait until nothing is left, at most 10 s."""
        async with asyncio.timeout(10):
            while len(self.box):  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0)

    @property
    def ids(self) -> list[str]:
        """What was tried, in order."""
        return [one for _, one in self.tries]


def message(name: str, size: int = 10) -> Message:
    """Return some news."""
    return Message(name, b"x" * size)


async def test_messages_of_a_route_arrive_in_their_order_and_each_once() -> None:
    """The next one goes out when the one before was taken."""
    post = Post()
    for number in range(5):
        post.box.put("digits", message(f"digits/{number}"))
    await post.empty()
    assert post.ids == [f"digits/{number}" for number in range(5)]
    assert (post.box.bytes, post.counts) == (0, {})


async def test_a_message_that_is_not_taken_is_tried_again_and_holds_back_what_follows() -> None:
    """After 1, 2, 4 ... s, under the same id; the next one waits for it."""
    post = Post()
    post.down = lambda name: name == "digits/0" and len(post.tries) < 5
    post.box.put("digits", message("digits/0"))
    post.box.put("digits", message("digits/1"))
    await post.empty()
    assert post.tries == [(0.0, "digits/0"), (1.0, "digits/0"), (3.0, "digits/0"), (7.0, "digits/0"),
                          (15.0, "digits/0"), (15.0, "digits/1")]  # fmt: skip


async def test_one_route_does_not_hold_back_another() -> None:
    """Each has a line of its own."""
    post = Post()
    post.down = lambda name: name == "digits/0" and "other/0" not in post.ids
    post.box.put("digits", message("digits/0"))
    post.box.put("other", message("other/0"))
    await post.empty()
    assert post.ids == ["digits/0", "other/0", "digits/0"]


async def test_a_message_that_is_too_old_is_given_up_and_counted() -> None:
    """Then the next one has its turn."""
    post = Post()
    post.down = lambda name: name == "digits/0"
    post.box.put("digits", message("digits/0"))
    post.clock.advance(1)
    post.box.put("digits", message("digits/1"))
    await post.empty()
    assert post.counts == {"dropped_age": 1}
    assert post.ids[-1] == "digits/1"
    assert [at_s for at_s, _ in post.tries][-3:] == [32.0, 64.0, 100.0], "1 + 1 + 2 + 4 + 8 + 16, 32 s later, too old"


async def test_what_does_not_fit_drops_the_oldest_of_all_and_counts_it() -> None:
    """Bytes are what counts; the newest news stay, also when the oldest is just on its way."""
    each = 100 + OVERHEAD_BYTES
    post = Post(queue_bytes=3 * each)
    post.gate.clear()
    for number in range(3):
        post.box.put("digits", message(f"digits/{number}", 100))
        await asyncio.sleep(0)
    for number in range(2):
        post.box.put("other", message(f"other/{number}", 100))
    assert (len(post.box), post.box.bytes, post.counts) == (3, 3 * each, {"dropped_queue": 2})
    post.gate.set()
    await post.empty()
    assert sorted(set(post.ids)) == ["digits/0", "digits/2", "other/0", "other/1"]
    post.box.put("digits", message("too large", 10 * each))
    await post.empty()
    assert post.counts == {"dropped_queue": 3}


async def test_what_waits_at_the_end_is_counted() -> None:
    """Silence would look like delivery."""
    post = Post()
    post.gate.clear()
    for number in range(3):
        post.box.put("digits", message(f"digits/{number}"))
    await asyncio.sleep(0)
    await post.box.aclose()
    assert (post.counts, len(post.box), post.box.bytes) == ({"dropped_stopped": 3}, 0, 0)


def rolled_back() -> tuple[RolloutState, Message]:
    """Return a state that was rolled back by the judge, and the news of it."""
    begin = Start(reason="s", rollout_id="abc.1", spec=Spec("v2", "canary"), steps=(Step(weight_bp=1_000),))
    state = apply(idle_state("digits", "v1", 0.0), begin, 0.0)
    gate = GateResult("error_rate", Verdict.FAIL, "candidate fails 9 %", counts=(("n", 900),))
    judgement = Judgement(rollback=True, reason="it fails", counts=Counts(1, 2, 3), gates=(gate,))
    move = make_move(state, (RollBack(reason="x"),), judgement, 1_800_000_000.5)
    assert move.record is not None
    return move.state, event_message(move.record, move.state)


def test_what_the_news_says() -> None:
    """Flagger's fields and the record of the decision, without its counters."""
    state, news = rolled_back()
    body = json.loads(news.body)
    assert news.id == body["id"] == f"digits/{state.revision}"
    assert {name: body[name] for name in ("type", "name", "namespace", "phase", "checksum", "metadata")} == {
        "type": "event",
        "name": "digits",
        "namespace": "turnout",
        "phase": "Failed",
        "checksum": "abc",
        "metadata": {"eventMessage": "x", "eventType": "Warning", "timestamp": "1800000000500"},
    }
    decision = body["decision"]
    assert (decision["kind"], decision["actor"], decision["phase_before"], decision["phase_after"]) == (
        "roll_back", "control", "progressing", "rolled_back",
    )  # fmt: skip
    assert (decision["weight_bp_before"], decision["weight_bp_after"], decision["stable"]) == (1_000, 0, "v1")
    assert decision["judgement"]["gates"] == [
        {"gate": "error_rate", "verdict": "fail", "sentence": "candidate fails 9 %", "enforced": True}
    ]
    assert b"900" not in news.body.replace(b"18000000009", b"")
