"""The answers of gate webhooks: asked in tasks of their own, kept, and read by whoever decides.

Nothing here waits for a receiver but `confirmed`, which is for operators. A turn of the control loop reads what is
known now and holds where there is no answer yet, so a receiver that hangs delays no rollback.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from router.control.webhooks.backoff import backoff_s
from router.control.webhooks.bodies import gate_message
from router.control.webhooks.calls import Answer, Call, Message
from router.core.config import WebhookSpec
from router.core.decisions import ActorKind, Decision, Start
from router.core.moments import Moment, confirmation_of
from router.core.rollout import RolloutState
from router.telemetry import logs

Key = tuple[str, ...]


@dataclass(slots=True)
class _Question:
    """What one webhook was asked about one Route last. `key` names the subject: another one makes old answers void."""

    key: Key
    answer: Answer | None = None
    answered_at_s: float = 0.0
    refusals: int = 0
    again_at_s: float = 0.0
    task: "asyncio.Task[None] | None" = None


class Gates:
    """Asks and remembers, for each gate webhook and Route, one question at a time.

    An agreement counts for `interval_s`; a refusal is asked about again after a pause that grows up to that.
    `on_answer` is called after each answer. `monotonic` never jumps; `now_s` is the wall clock.
    """

    def __init__(  # noqa: PLR0913 - everything it touches is handed in
        self,
        hooks: Sequence[WebhookSpec],
        call: Call,
        *,
        interval_s: float,
        now_s: Callable[[], float],
        monotonic: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._hooks = tuple(hooks)
        self._call = call
        self._interval_s = interval_s
        self._now_s = now_s
        self._monotonic = monotonic
        self._random = random
        self._log = logs.get("webhooks")
        self._changes = logs.Changes()
        self._questions: dict[tuple[str, str], _Question] = {}
        self.on_answer: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        asking = sum(question.task is not None for question in self._questions.values())
        return f"Gates({len(self._hooks)} webhooks, {asking} being asked)"

    def ask(self, state: RolloutState, decision: Decision) -> str | None:
        """Return why `decision` is not confirmed yet, None when it is or needs nobody; asks whom it is time to ask."""
        for hook in self._asked(state, decision):
            question = self._question(hook, state, decision)
            if self._is_due(question):
                self._start(hook, state.route, question, gate_message(hook.type, state, decision, self._now_s()))
        return self.said(state, decision)

    def said(self, state: RolloutState, decision: Decision) -> str | None:
        """Return the same without asking anybody: for those who only look."""
        for hook in self._asked(state, decision):
            known = self._questions.get((hook.name, state.route))
            waits = self._waits(hook, known if known and known.key == _subject(state, decision) else None)
            if waits is not None:
                return waits
        return None

    async def confirmed(self, state: RolloutState, decision: Decision) -> str | None:
        """Return the same once all who are asked have answered; takes as long as the slowest webhook's timeout.

        An operator who tries again is not told an old refusal: it is asked about anew.
        """
        if decision.actor.kind is ActorKind.OPERATOR:
            for hook in self._asked(state, decision):
                self._question(hook, state, decision).again_at_s = self._monotonic()
        self.ask(state, decision)
        questions = [self._question(hook, state, decision) for hook in self._asked(state, decision)]
        if tasks := [question.task for question in questions if question.task is not None]:
            await asyncio.wait(tasks)
        return self.said(state, decision)

    def poll(self, state: RolloutState) -> None:
        """Ask, when it is time to, whether the rollout under way shall be rolled back."""
        for hook in self._for(Moment.ROLLBACK, state.route):
            question = self._question(hook, state, None)
            if question.answer is None or self._since(question) >= self._interval_s:
                self._start(hook, state.route, question, gate_message(hook.type, state, None, self._now_s()))

    def demanded(self, state: RolloutState) -> str | None:
        """Return who demands the rollback of the rollout under way, None if nobody does."""
        for hook in self._for(Moment.ROLLBACK, state.route):
            known = self._questions.get((hook.name, state.route))
            if known and known.key == _subject(state, None) and known.answer and known.answer.ok:
                return f"webhook {hook.name} demands it: {known.answer.said}"
        return None

    async def aclose(self) -> None:
        """Ask no more."""
        tasks = [question.task for question in self._questions.values() if question.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _asked(self, state: RolloutState, decision: Decision) -> Iterator[WebhookSpec]:
        return self._for(confirmation_of(state, decision), state.route)

    def _for(self, moment: Moment | None, route: str) -> Iterator[WebhookSpec]:
        return (hook for hook in self._hooks if hook.type == moment and hook.is_for(route))

    def _question(self, hook: WebhookSpec, state: RolloutState, decision: Decision | None) -> _Question:
        """Return the question about this subject; one about an earlier subject is dropped, answer and all."""
        key = _subject(state, decision)
        known = self._questions.get((hook.name, state.route))
        if known is None or known.key != key:
            if known is not None and known.task is not None:
                known.task.cancel()
            known = self._questions[hook.name, state.route] = _Question(key)
        return known

    def _since(self, question: _Question) -> float:
        return self._monotonic() - question.answered_at_s

    def _is_due(self, question: _Question) -> bool:
        if question.answer is None:
            return True
        if question.answer.ok:
            return self._since(question) >= self._interval_s
        return self._monotonic() >= question.again_at_s

    def _waits(self, hook: WebhookSpec, question: _Question | None) -> str | None:
        answer = question.answer if question else None
        if question is None or answer is None:
            return f"webhook {hook.name} ({hook.type}) is being asked"
        if not answer.ok:
            return f"webhook {hook.name} ({hook.type}) {answer.said}; it is asked again"
        stale = self._since(question) >= self._interval_s
        return f"webhook {hook.name} ({hook.type}) is being asked again" if stale else None

    def _start(self, hook: WebhookSpec, route: str, question: _Question, message: Message) -> None:
        if question.task is None:
            question.task = asyncio.create_task(self._put(hook, route, question, message), name=f"webhook {hook.name}")

    async def _put(self, hook: WebhookSpec, route: str, question: _Question, message: Message) -> None:
        try:
            answer = await self._call(hook, message)
        finally:
            question.task = None
        question.answer, question.answered_at_s = answer, self._monotonic()
        question.refusals = 0 if answer.ok else question.refusals + 1
        question.again_at_s = question.answered_at_s + backoff_s(question.refusals, self._interval_s, self._random)
        silent = hook.type == Moment.ROLLBACK and answer.result in ("ok", "refused")  # both are answers there
        trouble = None if answer.ok or silent else answer.said
        if self._changes.changed(f"{hook.name} {route}", trouble) and trouble is not None:
            self._log.warning("a webhook does not agree", webhook=hook.name, type=hook.type, route=route, said=trouble)
        self.on_answer()


def _subject(state: RolloutState, decision: Decision | None) -> Key:
    """Return what an answer is about: a demand is about the rollout, an agreement about one move of it."""
    if decision is None:
        return (state.id,)
    return (decision.rollout_id if isinstance(decision, Start) else state.id, str(state.revision))
